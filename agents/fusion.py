"""Fusion of counts into flows of all streets and modes, each with intervals and an accuracy score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from agents.fusion_counters import INSTRUMENTS, CounterRows, counter_rows
from agents.fusion_covariance import edges_of, prepare_kriging
from agents.fusion_mode import Estimate, ModeFusion
from cities.pack import City
from kernels.conservation import junctions
from kernels.network import Mode
from kernels.prior import Prior
from kernels.profile import DEFAULT_HOURLY, day_profile
from kernels.scores import T6_75, T6_95, accuracy, interval
from kernels.speed import SpeedCorrection, speed_correction, volume_delay_speed
from streams.observation import Observation
from streams.topics import Batch, Topic

TILE_SEGMENTS = 1_000
CYCLING_KMH = 15.0
TRUCK_KMH = 90.0
SPEED_HALF_LIFE_MS = 3_600_000
METHOD = "universal kriging on turning shares, prior of crude assignments"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one counter says of a street: its reading against the published flow, and its say in it."""

    sensor: str
    source: str
    mode: Mode
    direction: str
    reading_per_h: float
    expected_per_h: float
    weight: float
    age_s: float
    simulated: bool


@dataclass(frozen=True, slots=True)
class _Closed:
    """Arrays of the last closed step, for readers on other threads."""

    now_ms: int
    estimates: Mapping[Mode, Estimate]
    weights: Mapping[Mode, NDArray[np.float64]]
    newest_ms: Mapping[Mode, NDArray[np.int64]]
    simulated: Mapping[Mode, NDArray[np.bool_]]


class FusionAgent:
    """Flows of cars, trucks and bicycles on every directed edge.

    Consumes
        observations: counts of loops, radar, counters, Telraam and ANPR passages, with their speeds. Travel
        times and area readings (Wi-Fi, telecom, bike share) are accepted and not yet used. A counter of both
        directions is read as their sum; a reading of another direction than its counter's is not used.
    Produces
        densities: every step, all directed edges, in tiles of 1,000 segments.
    Keeps
        per counter: windowed count, exposure, speed, credit and doubt; per edge: the posterior variance.
    Guarantees
        Without readings the flows are the prior's at that time of the day. A silent counter fades within
        hours. Batches and the wall clock change nothing.
    """

    name = "fusion"
    consumes = (Topic.OBSERVATIONS,)
    produces = (Topic.DENSITIES,)

    def __init__(self, city: City, prior: Prior) -> None:
        if prior.network_hash != city.network_hash:
            raise ValueError(
                f"prior: network_hash is {prior.network_hash}, the city's is {city.network_hash}; "
                "prepare the city again"
            )
        self._city = city
        self._zone = ZoneInfo(city.timezone)
        profile = city.settings.get("traffic", {}).get("profile", {})
        self._profiles = {m: day_profile(profile.get(m.name.lower(), DEFAULT_HOURLY)) for m in prior.modes}
        middles = city.network.midpoints()
        counters = {m: counter_rows(city, m, edges_of(city, m), prior.modes[m], middles) for m in prior.modes}
        krigings = prepare_kriging(city, prior, counters, middles)
        capacity = city.class_values("capacity_veh_per_h").astype(np.float64) * city.lanes
        self._modes: dict[Mode, ModeFusion] = {}
        for mode in sorted(prior.modes):
            segment = edges_of(city, mode).segment
            # Cycle tracks have no capacity of their own; 3,000 bicycles an hour fill one.
            limit = np.full(segment.size, 3_000.0) if mode is Mode.BICYCLE else capacity[segment]
            self._modes[mode] = ModeFusion(
                prior.modes[mode],
                counters[mode],
                krigings[mode],
                city.road_class[segment],
                limit,
                # Conservation is worth its time where flows are large: it gained nothing for other modes.
                junctions(edges_of(city, mode), city.network.n_nodes) if mode is Mode.CAR else None,
            )
        self._row_of = {
            (sensor.id, mode): row
            for mode, fusion in self._modes.items()
            for row, sensor in enumerate(fusion.counters.sensors)
        }
        self._speeds = _Speeds(city, self._modes[Mode.CAR].counters, capacity, middles)
        self._tiles = _Tiles(city, list(self._modes))
        self._closed: _Closed | None = None
        self._scales: dict[tuple[Mode, int], float] = {}

    def receive(self, batch: Batch) -> None:
        """Take the readings of a batch into the windows."""
        self._take_in([row for row in batch.columns["row"] if row.source in INSTRUMENTS])

    def close(self, now_ms: int) -> Sequence[Batch]:
        """Publish the flows of all edges at the end of the step."""
        scales = [self._scale(mode, now_ms) for mode in self._modes]
        # Modes share nothing and each is one thread of linear algebra, so together they use all cores and
        # give the same bits as one after the other.
        with ThreadPoolExecutor(len(self._modes)) as pool:
            found = pool.map(lambda f, scale: f.estimate(now_ms, scale), self._modes.values(), scales)
            estimates = dict(zip(self._modes, found, strict=True))
        speeds = self._speeds.of(now_ms, estimates, self._modes[Mode.CAR])
        self._closed = _Closed(
            now_ms,
            estimates,
            {m: f.weight(estimates[m].readings) for m, f in self._modes.items()},
            {m: f.windows.newest_ms.copy() for m, f in self._modes.items()},
            {m: f.windows.simulated.copy() for m, f in self._modes.items()},
        )
        return self._publish(now_ms, estimates, speeds)

    def warm_up(self, now_ms: int) -> None:
        """End a step that nobody reads: counters are judged, nothing is published."""
        for mode, fusion in self._modes.items():
            fusion.warm_up(now_ms, self._scale(mode, now_ms))

    def evidence(self, segment: int) -> list[Evidence]:
        """What counters on a segment said at the last closed step; may be called from any thread."""
        closed = self._closed
        found: list[Evidence] = []
        if closed is None:
            return found
        for mode, fusion in self._modes.items():
            readings = closed.estimates[mode].readings
            expected = fusion.counters.sees @ closed.estimates[mode].flow_per_h
            for place, row in enumerate(readings.active):
                sensor = fusion.counters.sensors[row]
                if sensor.segment == segment:
                    found.append(
                        Evidence(
                            sensor=sensor.id,
                            source=sensor.source,
                            mode=mode,
                            direction=sensor.direction,
                            reading_per_h=float(readings.rate_per_h[place]),
                            expected_per_h=float(expected[row]),
                            weight=float(closed.weights[mode][place]),
                            age_s=max(0.0, (closed.now_ms - int(closed.newest_ms[mode][row])) / 1000),
                            simulated=bool(closed.simulated[mode][row]),
                        )
                    )
        return found

    def snapshot(self) -> dict[str, Any]:
        """Windows, credit, doubt and variances of each mode."""
        return {mode.name.lower(): fusion.snapshot() for mode, fusion in self._modes.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state that :meth:`snapshot` made for the same city and counters."""
        for mode, fusion in self._modes.items():
            fusion.restore(state[mode.name.lower()])

    def _take_in(self, observations: Sequence[Observation]) -> None:
        """Sort readings by mode and add them to the windows."""
        taken: dict[Mode, list[tuple[int, Observation, float]]] = {mode: [] for mode in self._modes}
        for reading in observations:
            mode = reading.mode
            row = -1 if mode is None else self._row_of.get((reading.sensor, mode), -1)
            if mode is None or row < 0 or not reading.count >= 0.0 or not reading.uptime > 0.0:
                continue
            sensor = self._modes[mode].counters.sensors[row]
            if reading.source != sensor.source or reading.direction not in ("", sensor.direction):
                continue
            hours = (reading.end_ms - reading.start_ms) / 3_600_000 * reading.uptime
            scale = self._scale(mode, (reading.start_ms + reading.end_ms) // 2)
            taken[mode].append((row, reading, hours * scale))
        for mode, rows in taken.items():
            self._modes[mode].windows.add(
                np.array([row for row, _, _ in rows], dtype=np.int64),
                np.array([o.count for _, o, _ in rows], dtype=np.float64),
                np.array([exposure for _, _, exposure in rows], dtype=np.float64),
                np.array([o.end_ms for _, o, _ in rows], dtype=np.int64),
                np.array([o.end_ms - o.start_ms for _, o, _ in rows], dtype=np.int64),
                np.array([o.simulated for _, o, _ in rows], dtype=np.bool_),
                np.array([o.speed_kmh for _, o, _ in rows], dtype=np.float64),
            )

    def _scale(self, mode: Mode, moment_ms: int) -> float:
        """Multiple of the average hour at a moment, by local time."""
        known = self._scales.get((mode, moment_ms))
        if known is None:
            if len(self._scales) > 10_000:
                self._scales.clear()
            local = datetime.fromtimestamp(moment_ms / 1000, self._zone)
            minute = local.hour * 60 + local.minute + moment_ms % 60_000 / 60_000
            known = self._scales[mode, moment_ms] = self._profiles[mode].scale(minute)
        return known

    def _publish(
        self, now_ms: int, estimates: Mapping[Mode, Estimate], speeds: Mapping[Mode, NDArray[np.float64]]
    ) -> list[Batch]:
        columns: dict[str, list[NDArray[Any]]] = {name: [] for name in self._tiles.decimals}
        simulated = []
        for mode, fusion in self._modes.items():
            estimate = estimates[mode]
            lo50, hi50 = interval(estimate.log_mean, estimate.log_sd, T6_75)
            lo90, hi90 = interval(estimate.log_mean, estimate.log_sd, T6_95)
            age_s, sources, is_simulated = _freshness(fusion, now_ms)
            values = {
                "flow_per_h": estimate.flow_per_h,
                "speed_kmh": speeds[mode],
                "density_per_km": estimate.flow_per_h / speeds[mode],
                "lo50": lo50,
                "hi50": hi50,
                "lo90": lo90,
                "hi90": hi90,
                "log_sd": estimate.log_sd,
                "accuracy": accuracy(estimate.flow_per_h, estimate.log_mean, estimate.log_sd),
                "age_s": age_s,
                "sources": sources,
            }
            for name, value in values.items():
                columns[name].append(value)
            simulated.append(np.full(age_s.size, is_simulated))
        attributes = {"minutes": 1, "method": METHOD, "network_hash": self._city.network_hash}
        return self._tiles.batches(now_ms, columns, np.concatenate(simulated), attributes)


def _freshness(fusion: ModeFusion, now_ms: int) -> tuple[NDArray[np.float64], NDArray[np.float64], bool]:
    """Age of the newest reading of each edge [s], fresh counters, whether an input was simulated."""
    sees, windows = fusion.counters.sees, fusion.windows
    row = np.repeat(np.arange(sees.shape[0]), np.diff(sees.indptr))
    heard = windows.newest_ms[row] >= 0
    age = np.full(sees.shape[1], np.inf)
    np.minimum.at(age, sees.indices[heard], windows.age_ms(now_ms)[row[heard]] / 1000.0)
    fresh = windows.fresh(now_ms)
    sources = np.bincount(sees.indices[fresh[row]], minlength=sees.shape[1]).astype(np.float64)
    used = windows.active(now_ms)
    return np.where(np.isinf(age), np.nan, age), sources, bool(windows.simulated[used].any())


class _Speeds:
    """Speeds of all modes from the flows of motor traffic and the speeds that counters measure."""

    def __init__(
        self,
        city: City,
        counters: CounterRows,
        capacity_per_h: NDArray[np.float64],
        middles: NDArray[np.float64],
    ) -> None:
        segment = city.car_edges.segment
        self._free = city.speed_kmh[segment]
        self._capacity = capacity_per_h[segment]
        self._n_bicycle = city.bicycle_edges.n_edges
        single = np.diff(counters.sees.indptr) == 1
        self._row = np.flatnonzero(single)
        edge = counters.sees.indices[counters.sees.indptr[:-1][single]].astype(np.int64)
        self._correction: SpeedCorrection = speed_correction(
            middles[segment], city.road_class[segment].astype(np.int64), edge
        )

    def of(
        self, now_ms: int, estimates: Mapping[Mode, Estimate], car: ModeFusion
    ) -> dict[Mode, NDArray[np.float64]]:
        """Speed of each edge of each mode [km/h]; a measured speed halves its weight in an hour."""
        motor = estimates[Mode.CAR].flow_per_h + estimates[Mode.TRUCK].flow_per_h
        speed = volume_delay_speed(self._free, motor, self._capacity)
        windows = car.windows
        known = windows.speed_weight[self._row] > 0
        measured = windows.speed[self._row] / np.where(known, windows.speed_weight[self._row], 1.0)
        age = np.maximum(now_ms - windows.speed_ms[self._row], 0)
        weight = np.where(known, 0.5 ** (age / SPEED_HALF_LIFE_MS), 0.0)
        weight[weight < 0.05] = 0.0
        at = speed[self._correction.edge]
        ratio = np.log(np.where(known, np.maximum(measured, 1.0), at) / at)
        corrected = np.clip(speed * self._correction.factor(ratio, weight), 2.0, 1.4 * self._free)
        return {
            Mode.CAR: corrected,
            Mode.TRUCK: np.minimum(corrected, TRUCK_KMH),
            Mode.BICYCLE: np.full(self._n_bicycle, CYCLING_KMH),
        }


class _Tiles:
    """Order of all rows of all modes by tile, and the batches of one step."""

    decimals: Mapping[str, int] = {
        "flow_per_h": 1, "speed_kmh": 1, "density_per_km": 2, "lo50": 1, "hi50": 1, "lo90": 1, "hi90": 1,
        "log_sd": 3, "accuracy": 3, "age_s": 0, "sources": 0,
    }  # fmt: skip

    def __init__(self, city: City, modes: Sequence[Mode]) -> None:
        edges = [edges_of(city, mode) for mode in modes]
        segment = np.concatenate([e.segment for e in edges])
        self._order = np.argsort(segment // TILE_SEGMENTS, kind="stable")
        self._segment = segment[self._order]
        self._direction = np.concatenate([e.direction for e in edges])[self._order]
        self._mode = np.repeat(np.array(modes, dtype=np.int8), [e.n_edges for e in edges])[self._order]
        tile = self._segment // TILE_SEGMENTS
        first = np.flatnonzero(np.diff(tile, prepend=-1))
        self._tiles = [
            (int(tile[a]), slice(int(a), int(b)))
            for a, b in zip(first, np.append(first[1:], tile.size), strict=True)
        ]

    def batches(
        self,
        now_ms: int,
        columns: Mapping[str, Sequence[NDArray[Any]]],
        simulated: NDArray[np.bool_],
        attributes: Mapping[str, Any],
    ) -> list[Batch]:
        """Round to the published decimals and cut into tiles."""
        table: dict[str, NDArray[Any]] = {
            "segment": self._segment, "direction": self._direction, "mode": self._mode,
        }  # fmt: skip
        for name, parts in columns.items():
            values = np.round(np.concatenate(parts), self.decimals[name])[self._order]
            table[name] = values.astype(np.int16 if name == "sources" else np.float32)
        table["simulated"] = simulated[self._order]
        return [
            Batch(
                topic=Topic.DENSITIES,
                key=f"t{tile}",
                time_ms=now_ms,
                columns={name: values[at] for name, values in table.items()},
                attributes=attributes,
            )
            for tile, at in self._tiles
        ]
