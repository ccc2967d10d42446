"""Fusion of counts into flows of all streets and modes, each with intervals and an accuracy score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.fusion_answers import Contribution, Evidence, Explanation, Gain, LeftOut, SensorFault
from agents.fusion_areas import AreaEvidence, Areas
from agents.fusion_counters import counter_rows
from agents.fusion_covariance import edges_of, prepare_kriging
from agents.fusion_faults import Fault
from agents.fusion_log import AREA, PAIR, READING, WARM_UP, Readings, StepLog
from agents.fusion_mode import Estimate, ModeFusion
from agents.fusion_places import NOT_OF_KIND, CounterPlaces, variants
from agents.fusion_speeds import MOTOR, Speeds
from agents.fusion_tiles import Tiles
from agents.fusion_travel_times import TravelTimes
from cities.pack import City
from cities.traffic_week import TrafficWeek
from kernels.conservation import junctions
from kernels.network import Direction, Mode
from kernels.prior import OFFSET_PER_H, Prior
from kernels.scores import T6_75, T6_95, accuracy, interval
from streams.topics import Batch, Topic

CAPACITY_PER_H = {Mode.BICYCLE: 3_000.0, Mode.PEDESTRIAN: 8_000.0}  # of a track or pavement, of any class
METHOD = "universal kriging on turning shares, prior of crude assignments"


@dataclass(frozen=True, slots=True)
class _Closed:
    """Arrays of the last closed step, for readers on other threads."""

    now_ms: int
    estimates: Mapping[Mode, Estimate]
    weights: Mapping[Mode, NDArray[np.float64]]
    newest_ms: Mapping[Mode, NDArray[np.int64]]
    simulated: Mapping[Mode, NDArray[np.bool_]]
    faults: Sequence[SensorFault]
    areas: Sequence[AreaEvidence]


class FusionAgent:
    """Flows of every mode that the prior knows on every directed edge.

    Consumes
        observations: counts of loops, radar, counters, Telraam and ANPR passages, with their speeds, and
        travel times between cameras. Devices in areas (Wi-Fi, telecom) teach their penetrations and move no
        flow; bike share is accepted and not used. A counter of both directions is read as their sum; a
        reading of another direction than its counter's is not used, nor is a travel time from or to an
        unknown camera.
    Produces
        densities: every step, all directed edges, in tiles of 1,000 segments. A late or revised reading
        has the steps since its own published again, with a higher revision: at once when it is up to three
        minutes late, else at the next five-minute mark.
    Keeps
        per counter: windowed count, exposure, speed, credit and doubt; per edge: the posterior variance; per
        pair of cameras: windowed travel time; per area: penetration;
        readings and states of the last two hours (:class:`agents.fusion_log.StepLog`).
    Guarantees
        Without readings the flows are the prior's at that time of the day. A silent counter fades within
        hours. Batches and the wall clock change nothing, and once late readings are taken up, neither does
        the order in which readings came.
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
        self._method = f"{METHOD}, revision {prior.revision}" if prior.revision else METHOD
        self._week = TrafficWeek(city)
        middles = self._middles = city.network.midpoints()
        counters = {m: counter_rows(city, m, edges_of(city, m), prior.modes[m], middles) for m in prior.modes}
        krigings = prepare_kriging(city, prior, counters, middles)
        capacity = city.class_values("capacity_veh_per_h").astype(np.float64) * city.lanes
        self._modes: dict[Mode, ModeFusion] = {}
        for mode in sorted(prior.modes):
            segment = edges_of(city, mode).segment
            limit = (
                np.full(segment.size, CAPACITY_PER_H[mode]) if mode in CAPACITY_PER_H else capacity[segment]
            )
            self._modes[mode] = ModeFusion(
                prior.modes[mode],
                counters[mode],
                krigings[mode],
                city.road_class[segment],
                limit,
                # Conservation is worth its time where flows are large: it gained nothing for other modes.
                junctions(edges_of(city, mode), city.network.n_nodes) if mode is Mode.CAR else None,
            )
        self._places = CounterPlaces({mode: f.counters.sensors for mode, f in self._modes.items()})
        self._travel_times = TravelTimes(city)
        self._speeds = Speeds(city, self._modes[Mode.CAR].counters, self._travel_times, capacity, middles)
        self._areas = Areas(city, list(self._modes), middles)
        self._tiles = Tiles(city, list(self._modes))
        self._log = StepLog()
        self._closed: _Closed | None = None

    def receive(self, batch: Batch) -> None:
        """Note the readings of a batch."""
        self._log.arrived.append(self._read(batch))

    def close(self, now_ms: int) -> Sequence[Batch]:
        """Publish the flows of all edges at the end of the step, after those that late readings changed."""
        revised = self._begin(now_ms, 0)
        estimates, speeds = self._advance(now_ms)
        self._closed = _Closed(
            now_ms,
            estimates,
            {m: f.weight(estimates[m].readings) for m, f in self._modes.items()},
            {m: f.windows.newest_ms.copy() for m, f in self._modes.items()},
            {m: f.windows.simulated.copy() for m, f in self._modes.items()},
            self._found_faults(),
            self._areas.evidence(now_ms),
        )
        return [*revised, *self._publish(now_ms, estimates, speeds)]

    def warm_up(self, now_ms: int) -> None:
        """End a step that nobody reads: counters are judged, nothing is published."""
        self._begin(now_ms, WARM_UP)
        self._advance_unread(now_ms)

    def _begin(self, now_ms: int, revision: int) -> list[Batch]:
        """Take in the readings of a step; the batches of closed steps that late readings changed."""
        self._log.begin(now_ms, revision, self._states())
        first_ms, again = self._log.again(now_ms)
        if again:
            self._restore_states(self._log.state_before(again[0]))
        revised: list[Batch] = []
        for step_ms in again:
            self._take_in(self._log.rows(step_ms), step_ms)
            if not self._log.is_published(step_ms):
                self._advance_unread(step_ms)
            else:
                estimates, speeds = self._advance(step_ms)
                if step_ms >= first_ms:
                    number = self._log.raised_revision(step_ms)
                    batches = self._publish(step_ms, estimates, speeds)
                    revised += [replace(batch, revision=number) for batch in batches]
            self._log.redo(step_ms, self._states())
        self._take_in(self._log.rows(now_ms), now_ms)
        return revised

    def _advance(self, now_ms: int) -> tuple[dict[Mode, Estimate], dict[Mode, NDArray[np.float64]]]:
        """Flows and speeds at the end of a step."""
        scales = [self._week.scale(mode, now_ms) for mode in self._modes]
        # Modes share nothing and each is one thread of linear algebra, so together they use all cores and
        # give the same bits as one after the other.
        with ThreadPoolExecutor(len(self._modes)) as pool:
            found = pool.map(lambda f, scale: f.estimate(now_ms, scale), self._modes.values(), scales)
            estimates = dict(zip(self._modes, found, strict=True))
        speeds = self._speeds.of(now_ms, estimates, self._modes[Mode.CAR])
        rows = self._log.rows(now_ms)
        self._areas.learn(rows[rows["mode"] == AREA], estimates, speeds)
        return estimates, speeds

    def _advance_unread(self, now_ms: int) -> None:
        for mode, fusion in self._modes.items():
            fusion.warm_up(now_ms, self._week.scale(mode, now_ms))

    def evidence(self, segment: int) -> list[Evidence]:
        """What counters on a segment said at the last closed step; may be called from any thread."""
        return self.evidence_by_segment(segment).get(segment, [])

    def evidence_by_segment(self, only: int | None = None) -> dict[int, list[Evidence]]:
        """What the counters on each segment, or on one, said at the last closed step; from any thread."""
        closed = self._closed
        found: dict[int, list[Evidence]] = {}
        if closed is None:
            return found
        faults = {(f.sensor, f.mode): f.fault for f in closed.faults}
        for mode, fusion in self._modes.items():
            readings = closed.estimates[mode].readings
            expected = fusion.counters.sees @ closed.estimates[mode].flow_per_h
            for place, row in enumerate(readings.active):
                sensor = fusion.counters.sensors[row]
                if only is None or sensor.segment == only:
                    found.setdefault(sensor.segment, []).append(
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
                            fault=faults.get((sensor.id, mode), ""),
                        )
                    )
        return found

    def left_out(self) -> list[LeftOut]:
        """Every counter of the last closed step against what all others say of it."""
        closed = self._closed
        found: list[LeftOut] = []
        if closed is None:
            return found
        for mode, fusion in self._modes.items():
            readings = closed.estimates[mode].readings
            left = fusion.left_out(closed.estimates[mode])
            for place, row in enumerate(readings.active):
                sensor = fusion.counters.sensors[row]
                found.append(
                    LeftOut(
                        sensor=sensor.id,
                        source=sensor.source,
                        mode=mode,
                        segment=sensor.segment,
                        direction=sensor.direction,
                        reading_per_h=float(readings.rate_per_h[place]),
                        expected_per_h=float(left.expected_per_h[place]),
                        log_residual=float(left.residual[place]),
                        log_sd=float(np.sqrt(left.latent[place] + left.noise[place])),
                    )
                )
        return found

    def gains(self) -> list[Gain]:
        """What is known at the last closed step of the gain of every counter that was not calibrated."""
        closed = self._closed
        found: list[Gain] = []
        if closed is None:
            return found
        for mode, fusion in self._modes.items():
            readings = closed.estimates[mode].readings
            mean, sd = fusion.gain(closed.estimates[mode])
            for place, row in enumerate(readings.active):
                if fusion.counters.gain_sd[row] > 0.0:
                    sensor, learnt = fusion.counters.sensors[row], bool(fusion.gains.is_learnt[row])
                    found.append(
                        Gain(sensor.id, mode, sensor.segment, float(mean[place]), float(sd[place]), learnt)
                    )
        return found

    def modes(self) -> list[ModeFusion]:
        """The modes, in order of their numbers."""
        return list(self._modes.values())

    def explain(self, segment: int, direction: Direction, mode: Mode) -> Explanation | None:
        """Why a street has its flow; None where it has none. May be called from any thread."""
        closed = self._closed
        if closed is None or mode not in self._modes:
            return None
        edge = int(edges_of(self._city, mode).index_of(self._city.network.n_segments)[segment, direction])
        if edge < 0:
            return None
        fusion, estimate = self._modes[mode], closed.estimates[mode]
        scale = self._week.scale(mode, closed.now_ms)
        by_row, rest = fusion.explained(estimate, edge, scale)
        counters = fusion.counters
        from_xy = self._middles[segment]
        found = [
            Contribution(
                counters.sensors[row].id,
                counters.sensors[row].source,
                float(by_row[place]),
                float(np.hypot(*(counters.xy[row] - from_xy))),
            )
            for place, row in enumerate(estimate.readings.active)
        ]
        found.sort(key=lambda c: (-abs(c.moved_per_h), c.sensor))
        prior = float(np.exp(fusion.prior.log_mean(scale)[edge]) - OFFSET_PER_H)
        return Explanation(prior, float(estimate.flow_per_h[edge]), rest, tuple(found))

    def faults(self) -> list[SensorFault]:
        """Counters that were at fault at the last closed step; may be called from any thread."""
        closed = self._closed
        return [] if closed is None else list(closed.faults)

    def areas(self) -> list[AreaEvidence]:
        """What telecom cells and Wi-Fi zones said up to the last closed step; from any thread."""
        closed = self._closed
        return [] if closed is None else list(closed.areas)

    def _found_faults(self) -> list[SensorFault]:
        found = []
        for mode, fusion in self._modes.items():
            for row in np.flatnonzero(fusion.faults.fault):
                sensor, watch = fusion.counters.sensors[row], fusion.faults
                name, since_ms = Fault(int(watch.fault[row])).name.lower(), int(watch.since_ms[row])
                found.append(SensorFault(sensor.id, sensor.source, mode, sensor.segment, name, since_ms))
        return found

    def snapshot(self) -> dict[str, Any]:
        """State of each mode, and the log of the last two hours."""
        return {**self._states(), "log": self._log.snapshot()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state that :meth:`snapshot` made for the same city and counters."""
        self._restore_states(state)
        self._log.restore(state["log"])

    def _states(self) -> dict[str, Any]:
        modes = {mode.name.lower(): fusion.snapshot() for mode, fusion in self._modes.items()}
        return {**modes, "travel_times": self._travel_times.snapshot(), "areas": self._areas.snapshot()}

    def _restore_states(self, state: Mapping[str, Any]) -> None:
        for mode, fusion in self._modes.items():
            fusion.restore(state[mode.name.lower()])
        self._travel_times.restore(state["travel_times"])
        self._areas.restore(state["areas"])

    def _read(self, batch: Batch) -> Readings:
        """Counts of known counters; one that is of no use is kept, for it may replace one that was."""
        c = batch.columns
        kind, row = self._places.of(batch)
        value = c["count"].copy()
        for of_kind, of_row, name in (
            (PAIR, self._travel_times.numbers_of(batch), "vehicles"),
            (AREA, self._areas.numbers_of(batch), "devices"),
        ):
            mine = of_row != NOT_OF_KIND
            kind[mine], row[mine], value[mine] = of_kind, of_row[mine], c[name][mine]
        known = np.flatnonzero(row >= 0)
        found = np.empty(known.size, dtype=READING)
        found["mode"], found["row"], found["count"] = kind[known], row[known], value[known]
        found["variant"] = variants(batch)[known]
        for name in ("end_ms", "start_ms", "uptime", "speed_kmh", "simulated", "travel_time_s"):
            found[name] = c[name][known]
        return found

    def _take_in(self, readings: Readings, now_ms: int) -> None:
        """Add the readings of a step to the windows of their modes, and look for faults in them."""
        usable = readings[(readings["count"] >= 0.0) & (readings["uptime"] > 0.0)]
        for mode, fusion in self._modes.items():
            of_mode = usable[usable["mode"] == mode]
            start_ms, end_ms = of_mode["start_ms"], of_mode["end_ms"]
            middle, place = np.unique((start_ms + end_ms) // 2, return_inverse=True)
            scale = np.array([self._week.scale(mode, int(ms)) for ms in middle], dtype=np.float64)[place]
            row, count = of_mode["row"].astype(np.int64), of_mode["count"]
            exposure = (end_ms - start_ms) / 3_600_000 * of_mode["uptime"] * scale
            fusion.windows.add(
                row, count, exposure, end_ms, end_ms - start_ms, of_mode["simulated"], of_mode["speed_kmh"]
            )
            fusion.faults.add(row, count, exposure, end_ms, end_ms - start_ms)
            fusion.faults.step(now_ms)
        of_pair = usable[usable["mode"] == PAIR]
        self._travel_times.add(
            of_pair["row"].astype(np.int64), of_pair["count"], of_pair["travel_time_s"], of_pair["end_ms"],
            of_pair["simulated"],
        )  # fmt: skip

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
            if mode in MOTOR:
                is_simulated |= self._travel_times.is_simulated(now_ms)
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
        attributes = {"minutes": 1, "method": self._method, "network_hash": self._city.network_hash}
        return self._tiles.batches(
            now_ms, columns, np.concatenate(simulated), attributes, self._found_faults()
        )


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
