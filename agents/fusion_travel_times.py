"""Travel times between cameras: what they say of the speeds of the streets on the way."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from agents.fusion_places import NOT_OF_KIND
from agents.fusion_windows import WINDOW_MS, turns
from cities.pack import City, Sensor
from kernels.assignment import edge_graph
from kernels.network import DirectedEdges, Direction, Mode
from kernels.speed import measured_weight
from streams.observation import Source
from streams.readings import NO_MODE, NO_TEXT, SOURCE_CODE, SensorPlaces
from streams.topics import Batch

# Who takes four times as long has stopped on the way. One in a median of a few matters, so such a reading is
# left out; many together are in a jam, which is believed as far as this bound.
STOPPED_FACTOR, FEW_VEHICLES = 4.0, 5.0
FAST_FACTOR = 1.4  # beyond, another way was taken than the one assumed here
# Vehicles whose median weighs as much as the model: one may have gone another way.
MODEL_VEHICLES = 1.0


class TravelTimes:
    """Speeds of cars from the travel times of plates that two cameras read.

    The way of a pair is the fastest one at free flow, without U-turns, from the middle of the first camera's
    street to the middle of the second's. A pair's time is the mean over 15 min weighted by vehicles; modelled
    over measured time of the way corrects every street on it that has no measurement of its own, and none
    beside it. Streets on several ways take the weighted mean of the logarithms.

    Keeps
    -----
    pair : (n_heard,) int64
        Numbers of the pairs that were ever heard, rising: camera * n_cameras + next camera.
    time_s, vehicles : (n_heard,) float64
        Windowed sums of travel time x vehicles [s] and of vehicles.
    newest_ms, simulated : (n_heard,)
    """

    def __init__(self, city: City) -> None:
        self._edges = city.car_edges
        self._km = city.network.length_m[self._edges.segment] / 1000.0
        self._hours = self._km / city.speed_kmh[self._edges.segment]
        index = self._edges.index_of(city.network.n_segments)
        cameras = [(s.id, _edges_at(s, index)) for s in sorted(city.sensors, key=lambda s: s.id)
                   if s.source == Source.ANPR and s.segment >= 0]  # fmt: skip
        self._cameras = SensorPlaces(name for name, _ in cameras)
        self._at = [edges for _, edges in cameras]
        self._graph = _turns(self._edges, city.network.n_nodes, self._hours)
        self._way_of: dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}
        self._tree_of, self._tree = -1, self._grow([])
        self._matrix = csr_array((0, self._edges.n_edges))
        self._matrix_pair = np.empty(0, dtype=np.int64)
        self.pair = np.empty(0, dtype=np.int64)
        self.time_s, self.vehicles = np.zeros(0), np.zeros(0)
        self.newest_ms = np.empty(0, dtype=np.int64)
        self.simulated = np.empty(0, dtype=np.bool_)

    def numbers_of(self, batch: Batch) -> NDArray[np.int64]:
        """Number of the pair that each reading is of, (n,): -2 for another kind of reading, -1 for an
        unknown camera or another mode."""
        c = batch.columns
        first, second = (self._cameras.of(batch, name) for name in ("sensor", "to_sensor"))
        is_known = (first >= 0) & (second >= 0) & (first != second)
        is_known &= (c["mode"] == NO_MODE) | (c["mode"] == Mode.CAR)
        number = np.where(is_known, first * len(self._at) + second, -1)
        is_pair = (c["source"] == SOURCE_CODE[Source.ANPR]) & (c["to_sensor"] != NO_TEXT)
        return np.where(is_pair, number, NOT_OF_KIND)

    def add(
        self,
        pair: NDArray[np.int64],
        vehicles: NDArray[np.float64],
        time_s: NDArray[np.float64],
        end_ms: NDArray[np.int64],
        simulated: NDArray[np.bool_],
    ) -> None:
        """Take in readings, each (n,), in order; those without vehicles, time or way are left out."""
        usable = np.isfinite(vehicles) & np.isfinite(time_s) & (vehicles > 0) & (time_s > 0)
        for n in np.flatnonzero(usable):
            edges, km = self._way(int(pair[n]))
            free_s = 3600.0 * float((km / self._km[edges]) @ self._hours[edges])
            stopped = time_s[n] > STOPPED_FACTOR * free_s and vehicles[n] < FEW_VEHICLES
            usable[n] = edges.size > 0 and not stopped
        pair, vehicles, time_s = pair[usable], vehicles[usable], time_s[usable]
        end_ms, simulated = end_ms[usable], simulated[usable]
        self._make_room(np.setdiff1d(pair, self.pair))
        row = np.searchsorted(self.pair, pair)
        for at in turns(row):
            r, newest = row[at], self.newest_ms[row[at]]
            old = np.exp(-np.maximum(end_ms[at] - newest, 0) / WINDOW_MS)
            new = np.exp(-np.maximum(newest - end_ms[at], 0) / WINDOW_MS)
            self.time_s[r] = self.time_s[r] * old + time_s[at] * vehicles[at] * new
            self.vehicles[r] = self.vehicles[r] * old + vehicles[at] * new
            self.newest_ms[r] = np.maximum(newest, end_ms[at])
            self.simulated[r] = simulated[at]

    def factor(
        self, now_ms: int, speed_kmh: NDArray[np.float64], own_share: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Factor on the modelled speed of every edge, (n_edges,).

        ``own_share`` is the say of an edge's own measurement, 0 to 1.
        """
        ways = self._ways()
        weight = self._weight(now_ms)
        modelled_s = 3600.0 * (ways @ (1.0 / speed_kmh))
        measured_s = self.time_s / np.where(self.vehicles > 0, self.vehicles, 1.0)
        ratio = np.log(np.where(weight > 0, modelled_s / np.where(weight > 0, measured_s, 1.0), 1.0))
        ratio = np.clip(ratio, -np.log(STOPPED_FACTOR), np.log(FAST_FACTOR))
        on_way = csr_array((np.ones(ways.nnz), ways.indices, ways.indptr), shape=ways.shape).T
        total = on_way @ weight
        mean = (on_way @ (weight * ratio)) / np.maximum(total, 1.0)
        return np.asarray(np.exp((1.0 - own_share) * mean))

    def is_simulated(self, now_ms: int) -> bool:
        """Whether a pair that has a say was simulated."""
        return bool(self.simulated[self._weight(now_ms) > 0].any())

    def snapshot(self) -> dict[str, Any]:
        return {name: getattr(self, name).copy() for name in _STATE}

    def restore(self, state: dict[str, Any]) -> None:
        for name in _STATE:
            setattr(self, name, np.array(state[name]))

    def _weight(self, now_ms: int) -> NDArray[np.float64]:
        counted = self.vehicles / (self.vehicles + MODEL_VEHICLES)
        return counted * measured_weight(now_ms - self.newest_ms)

    def _make_room(self, new: NDArray[np.int64]) -> None:
        """Rows of zeros for pairs that were not heard before."""
        at = np.searchsorted(self.pair, new)
        self.pair = np.insert(self.pair, at, new)
        for name, value in (("time_s", 0.0), ("vehicles", 0.0), ("newest_ms", 0), ("simulated", False)):
            setattr(self, name, np.insert(getattr(self, name), at, value))

    def _ways(self) -> csr_array:
        """Kilometres of each edge on the way of each pair heard, (n_heard, n_edges)."""
        if not np.array_equal(self._matrix_pair, self.pair):
            ways = [self._way(int(pair)) for pair in self.pair]
            indptr = np.cumsum([0, *(edges.size for edges, _ in ways)])
            edges, km = (np.concatenate([np.empty(0), *(way[k] for way in ways)]) for k in (0, 1))
            shape = (self.pair.size, self._edges.n_edges)
            self._matrix = csr_array((km, edges.astype(np.int64), indptr), shape=shape)
            self._matrix_pair = self.pair.copy()
        return self._matrix

    def _way(self, pair: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Edges of a pair's way and how much of each lies on it [km]; none where no way leads there."""
        if pair not in self._way_of:
            self._way_of[pair] = self._fastest_way(*divmod(pair, len(self._at)))
        return self._way_of[pair]

    def _fastest_way(self, first: int, second: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        starts, ends = self._at[first], self._at[second]
        if self._tree_of != first:  # readings come by camera, so one tree is enough to keep
            self._tree_of, self._tree = first, self._grow(starts)
        hours, before = self._tree
        choices = [(hours[s, end], s, end) for s in range(len(starts)) for end in ends]
        best, s, end = min(choices, default=(np.inf, 0, -1))
        if not np.isfinite(best) or end in starts:
            return np.empty(0, dtype=np.int64), np.zeros(0)
        way = [end]
        while way[-1] != starts[s]:
            way.append(int(before[s, way[-1]]))
        edges = np.array(way[::-1], dtype=np.int64)
        km = self._km[edges]
        km[[0, -1]] /= 2.0
        return edges, km

    def _grow(self, starts: list[int]) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """Hours to every edge from those a camera sees, and the edge before it: (n_starts, n_edges) each."""
        if not starts:
            return np.zeros((0, self._edges.n_edges)), np.zeros((0, self._edges.n_edges), dtype=np.int32)
        hours, before = dijkstra(self._graph, indices=starts, return_predecessors=True)
        return hours, before


_STATE = ("pair", "time_s", "vehicles", "newest_ms", "simulated")


def _edges_at(sensor: Sensor, index: NDArray[np.int32]) -> list[int]:
    """Car edges that a camera sees."""
    wanted = {"forward": [Direction.FORWARD], "backward": [Direction.BACKWARD]}
    return [int(e) for e in index[sensor.segment, wanted.get(sensor.direction, list(Direction))] if e >= 0]


def _turns(edges: DirectedEdges, n_nodes: int, hours: NDArray[np.float64]) -> csr_array:
    """Time from the middle of each edge to the middle of each next one [h], no U-turns."""
    graph = edge_graph(edges, n_nodes)
    straight = edges.opposite[graph.turn_from] != graph.turn_to
    a, b = graph.turn_from[straight], graph.turn_to[straight]
    return csr_array(((hours[a] + hours[b]) / 2.0, (a, b)), shape=(edges.n_edges, edges.n_edges))
