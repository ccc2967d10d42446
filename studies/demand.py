"""Crude demand of a city pack: zones, fringe nodes and gravity.

It knows no counts: people live along the streets, more where land use says so, and traffic enters where roads
end. Every guess is drawn anew for each member of an ensemble, so that its spread says how little is known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from cities.pack import City
from kernels.network import DirectedEdges, Mode
from studies.land_use import LandUse

PEOPLE_PER_KM = 200.0  # of residential street, assumed where a city gives no population
# Inside the city: 0.5, 0.25 and 0.7 a day; crow-fly lengths; shares of an ending road's capacity used in the
# average hour. All assumed.
TRIPS_PER_PERSON_H = {Mode.CAR: 0.021, Mode.BICYCLE: 0.0105, Mode.PEDESTRIAN: 0.03}
DETERRENCE_M = {Mode.CAR: 3_500.0, Mode.BICYCLE: 1_800.0, Mode.PEDESTRIAN: 600.0}
FRINGE_SHARE = {Mode.CAR: 0.15, Mode.BICYCLE: 0.04, Mode.PEDESTRIAN: 0.002}
MIN_FRINGE_CAPACITY_PER_H = 700.0  # of a way into the city; what ends with less is a cul-de-sac
ZONE_LENGTH_M = 4_000.0  # of street; 300-400 zones for a city of 1,300 km
MAX_ZONES = 360
MIN_PART = 0.05  # of all nodes: smaller parts without a way back are gaps of the register
ZONE_SD, DISTRICT_SD, PAIR_SD, DETERRENCE_SD, TOTAL_SD = 0.55, 0.35, 0.5, 0.3, 0.25
LAND_USE_RANGE = 1.732  # a uniform guess of sd 1: from streets alone to land use alone


@dataclass(frozen=True, slots=True)
class Zones:
    """Where trips of a mode start and end: internal zones first, then fringe nodes.

    Attributes
    ----------
    nodes, weights : tuple of arrays
        Access nodes of each internal zone and their weight.
    xy : (n_internal + n_fringe, 2) float64
        Centre [m].
    people : float
        Residents of the city.
    homes, jobs : (2, n_internal) float64
        Shares of residents and of attraction by streets alone and by land use, rows of sum 1.
    fringe_node : (n_fringe,) int32
    enters_per_h, leaves_per_h : (n_fringe,) float64
        Traffic of the average hour [1/h]; zero where the road has not that direction.
    through_share : (n_fringe,) float64
        Part of it that neither starts nor ends in the city.
    district : (n_internal + n_fringe,) int
    """

    nodes: tuple[NDArray[np.int32], ...]
    weights: tuple[NDArray[np.float64], ...]
    xy: NDArray[np.float64]
    people: float
    homes: NDArray[np.float64]
    jobs: NDArray[np.float64]
    fringe_node: NDArray[np.int32]
    enters_per_h: NDArray[np.float64]
    leaves_per_h: NDArray[np.float64]
    through_share: NDArray[np.float64]
    district: NDArray[np.int64]

    @property
    def n_internal(self) -> int:
        return len(self.nodes)

    def access(self, rng: np.random.Generator) -> NDArray[np.int32]:
        """One random access node of each zone, (n_zones,)."""
        drawn = [n[np.searchsorted(np.cumsum(w), rng.random() * w.sum())]
                 for n, w in zip(self.nodes, self.weights, strict=True)]  # fmt: skip
        return np.concatenate([np.asarray(drawn, dtype=np.int32), self.fringe_node])


def build_zones(city: City, mode: Mode, land_use: LandUse | None) -> Zones:
    """Zones of equal street length by repeated halving, and the ends of larger roads."""
    edges = city.car_edges if mode is Mode.CAR else city.bicycle_edges
    weight = _node_weight(city, edges)
    xy = city.network.node_xy
    inside = np.flatnonzero(weight > 0)
    n_zones = int(np.clip(weight.sum() / ZONE_LENGTH_M, min(6, max(1, inside.size)), MAX_ZONES))
    groups = _halve(inside, xy, weight, n_zones)
    people_total = city.settings.get("population", {}).get("total")
    centre = np.array([np.average(xy[g], axis=0, weights=weight[g]) for g in groups]).reshape(-1, 2)
    streets = _shares(weight, groups)
    crowd = np.ones(len(groups))
    if inside.size:
        near = cKDTree(xy[inside]).query_ball_point(centre, 700.0, return_length=True)
        crowd = np.sqrt(np.maximum(np.asarray(near, dtype=np.float64), 1.0))
    attraction = streets * crowd / max(float((streets * crowd).sum()), 1e-9)
    homes, jobs, at_node = streets, attraction, weight
    if land_use is not None:
        homes, jobs = _shares(weight * land_use.homes, groups), _shares(weight * land_use.jobs, groups)
        at_node = weight * np.sqrt(np.maximum((land_use.homes + land_use.jobs) / 2.0, 1e-3))
    fringe, enters, leaves, through = _fringe(city, mode, edges)
    centres = np.concatenate([centre, xy[fringe]])
    return Zones(
        nodes=tuple(g.astype(np.int32) for g in groups),
        weights=tuple(at_node[g] for g in groups),
        xy=centres,
        people=float(people_total or weight.sum() / 1e3 * PEOPLE_PER_KM),
        homes=np.stack([streets, homes]),
        jobs=np.stack([attraction, jobs]),
        fringe_node=fringe,
        enters_per_h=enters,
        leaves_per_h=leaves,
        through_share=through,
        district=_districts(centres),
    )


def _shares(weight: NDArray[np.float64], groups: list[NDArray[np.int64]]) -> NDArray[np.float64]:
    """Share of each zone in a weight of the nodes, never quite nothing: (n_zones,)."""
    total = np.array([weight[g].sum() for g in groups])
    total = np.maximum(total, 0.02 * total.mean())
    return np.asarray(total / max(float(total.sum()), 1e-9))


def draw_demand(
    zones: Zones, mode: Mode, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Trips of the average hour, with every guess drawn anew.

    Returns
    -------
    trips : (n_zones, n_zones) float64
        From origin (row) to destination (column) [1/h].
    guesses : (6,) float64
        What holds for the whole city, in standard deviations: length of trips, say of land use in homes and
        in jobs, trips inside, traffic entering, traffic leaving.
    """
    n, total = zones.n_internal, zones.xy.shape[0]
    guesses = rng.standard_normal(6)
    guesses[1:3] = rng.uniform(-LAND_USE_RANGE, LAND_USE_RANGE, 2)

    def around(sd: float, *shape: int) -> NDArray[np.float64]:
        return np.exp(sd * rng.standard_normal(shape) - sd**2 / 2)

    reach, inside, entering, leaving = np.exp(
        np.array([DETERRENCE_SD, TOTAL_SD, TOTAL_SD, TOTAL_SD]) * guesses[[0, 3, 4, 5]]
    ) * np.array([DETERRENCE_M[mode], 1.0, 1.0, 1.0])
    distance = np.hypot(*np.moveaxis(zones.xy[:, None] - zones.xy[None], -1, 0)) + 300.0
    homes, jobs = (
        np.exp(np.log(shares).T @ (1.0 - part, part))
        for shares, part in zip(
            (zones.homes, zones.jobs), 0.5 + guesses[1:3] / (2 * LAND_USE_RANGE), strict=True
        )
    )
    produced = homes / homes.sum() * around(ZONE_SD, n)
    attracted = jobs / jobs.sum() * around(ZONE_SD, n)
    trips = np.zeros((total, total))
    inner = produced[:, None] * attracted[None] * np.exp(-distance[:n, :n] / reach)
    np.fill_diagonal(inner, 0.0)
    inner = (inner + inner.T) / 2
    trips[:n, :n] = _to_total(inner, zones.people * TRIPS_PER_PERSON_H[mode] * float(inside))
    if total > n:
        enters = zones.enters_per_h * around(ZONE_SD / 2, total - n) * float(entering)
        leaves = zones.leaves_per_h * around(ZONE_SD / 2, total - n) * float(leaving)
        ends = (produced / max(produced.sum(), 1e-9) + attracted / max(attracted.sum(), 1e-9)) / 2
        pull = ends[None] * np.exp(-distance[n:, :n] / (2.5 * reach))
        pull /= np.maximum(pull.sum(axis=1, keepdims=True), 1e-12)
        trips[n:, :n] = (enters * (1 - zones.through_share))[:, None] * pull
        trips[:n, n:] = ((leaves * (1 - zones.through_share))[:, None] * pull).T
        passing = np.sqrt(np.outer(enters * zones.through_share, leaves * zones.through_share))
        passing *= np.outer(enters * zones.through_share, leaves * zones.through_share)
        apart = distance[n:, n:] > 0.3 * distance[n:, n:].max()  # who leaves next door never came through
        trips[n:, n:] = _to_total(passing * apart, float((enters * zones.through_share).sum()))
    blocks = around(DISTRICT_SD, int(zones.district.max()) + 1, int(zones.district.max()) + 1)
    return trips * blocks[np.ix_(zones.district, zones.district)] * around(PAIR_SD, total, total), guesses


def _to_total(trips: NDArray[np.float64], total: float) -> NDArray[np.float64]:
    return trips * (total / trips.sum()) if trips.sum() > 0 else trips


def _node_weight(city: City, edges: DirectedEdges) -> NDArray[np.float64]:
    """Street length along which people live, at the nodes of large strongly connected parts [m]."""
    n_nodes = city.network.n_nodes
    links = coo_array((np.ones(edges.n_edges), (edges.from_node, edges.to_node)), shape=(n_nodes, n_nodes))
    _, part = connected_components(links, connection="strong")
    usable = np.bincount(part)[part] >= MIN_PART * n_nodes
    homes = city.class_values("residential").astype(float) + 0.2 * city.class_values("bicycle").astype(float)
    segments = np.unique(edges.segment)
    half = (homes * city.network.length_m)[segments] / 2
    ends = np.concatenate([city.network.from_node[segments], city.network.to_node[segments]])
    weight = np.bincount(ends, np.tile(half, 2), n_nodes).astype(np.float64)
    # A city of motorways has zones too.
    weight = weight + 1e-3 * (np.bincount(edges.from_node, minlength=n_nodes) > 0)
    return np.where(usable, weight, 0.0)


def _halve(
    nodes: NDArray[np.int64], xy: NDArray[np.float64], weight: NDArray[np.float64], parts: int
) -> list[NDArray[np.int64]]:
    """Nodes in ``parts`` groups of like weight, cut across the longer side again and again."""
    if parts <= 1 or nodes.size <= 1:
        return [nodes]
    axis = int(np.ptp(xy[nodes, 1]) > np.ptp(xy[nodes, 0]))
    order = nodes[np.argsort(xy[nodes, axis], kind="stable")]
    cumulated = np.cumsum(weight[order])
    first = parts // 2
    cut = int(np.clip(np.searchsorted(cumulated, cumulated[-1] * first / parts), 1, order.size - 1))
    return _halve(order[:cut], xy, weight, first) + _halve(order[cut:], xy, weight, parts - first)


def _districts(xy: NDArray[np.float64]) -> NDArray[np.int64]:
    """About a dozen groups of neighbouring zones, (n_zones,)."""
    label = np.zeros(xy.shape[0], dtype=np.int64)
    for number, group in enumerate(_halve(np.arange(xy.shape[0]), xy, np.ones(xy.shape[0]), 12)):
        label[group] = number
    return label


def _fringe(
    city: City, mode: Mode, edges: DirectedEdges
) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Ends of larger roads: node, traffic that enters and leaves [1/h], share that passes through."""
    n_nodes = city.network.n_nodes
    capacity = city.class_values("capacity_veh_per_h").astype(float) * city.lanes
    segments = np.unique(edges.segment)
    degree = np.bincount(city.network.from_node[segments], minlength=n_nodes)
    degree += np.bincount(city.network.to_node[segments], minlength=n_nodes)
    large = capacity[edges.segment] >= MIN_FRINGE_CAPACITY_PER_H
    usable = capacity[edges.segment] * FRINGE_SHARE[mode] * large
    # Minor roads that end carry less of their capacity than motorways do.
    usable *= np.minimum(1.0, capacity[edges.segment] / 4_000.0) ** 0.7
    if mode is not Mode.CAR:
        usable = np.minimum(usable, 40.0)
    enters = np.bincount(edges.from_node, usable, n_nodes).astype(np.float64)
    leaves = np.bincount(edges.to_node, usable, n_nodes).astype(np.float64)
    # A street ends there; or the carriageway of one direction does, as motorways do at an edge of the map.
    arrives = np.bincount(edges.to_node, minlength=n_nodes) > 0
    departs = np.bincount(edges.from_node, minlength=n_nodes) > 0
    node = np.flatnonzero(((degree == 1) | (arrives != departs)) & (enters + leaves > 0)).astype(np.int32)
    fast = np.zeros(n_nodes)
    np.maximum.at(fast, edges.from_node, city.speed_kmh[edges.segment])
    np.maximum.at(fast, edges.to_node, city.speed_kmh[edges.segment])
    through = np.clip((fast[node] - 40.0) / 100.0, 0.05, 0.65)
    return node, enters[node], leaves[node], through
