"""Counters placed at random in a city, and what they read of a known truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from agents.fusion_covariance import edges_of
from cities.pack import City, Sensor
from cities.traffic_week import TrafficWeek
from kernels.network import Direction, Mode
from kernels.prior import Prior
from streams.observation import Observation, Source
from streams.readings import readings_batch
from streams.topics import Batch

LOOP_SHARE = 0.56  # of the counted edges; the others are citizens' cameras, both directions of a street
BUSY_SHARE = 0.3  # of the edges with most traffic in the prior: where authorities put loops
# Observation models: share detected, error of a reading beyond chance, spread of a site's gain (log).
LOOP, CITIZEN = (0.98, 0.05, 0.0), (0.90, 0.15, 0.4)
LOOP_MIN, CITIZEN_MIN = 5, 15
MOTOR = ("car", "truck")

Flows = Mapping[Mode, NDArray[np.float64]]
"""Flow of each directed edge of each mode [1/h]."""


def with_counters(city: City, prior: Prior, share: float, rng: np.random.Generator) -> City:
    """The city with other sensors: on a share of the directed edges of cars, and of those of bicycles."""
    sensors: list[Sensor] = []
    for mode, modes in ((Mode.CAR, MOTOR), (Mode.BICYCLE, ("bicycle",))):
        edges = edges_of(city, mode)
        n = round(share * edges.n_edges)
        flow = prior.modes[mode].flow_per_h
        busy = np.flatnonzero(flow >= np.quantile(flow, 1.0 - BUSY_SHARE))
        loops = rng.choice(busy, min(round(LOOP_SHARE * n), busy.size), replace=False)
        sensors += [_sensor(city, mode, int(e), Source.LOOPS, modes) for e in loops]
        streets = np.setdiff1d(edges.segment[edges.opposite >= 0], edges.segment[loops])
        class_ = city.road_class[streets]
        homes = np.array([city.classes[int(c)].residential for c in class_])
        streets = streets[homes & (flow[edges.index_of(city.network.n_segments)[streets]].sum(axis=1) > 5.0)]
        chosen = rng.choice(streets, min((n - loops.size) // 2, streets.size), replace=False)
        index = edges.index_of(city.network.n_segments)
        for segment in chosen:
            sensors += [_sensor(city, mode, int(e), Source.TELRAAM, modes) for e in index[segment]]
    return replace(city, sensors=tuple(sensors))


def with_references(city: City, n_sites: int, rng: np.random.Generator) -> City:
    """The city with loops for cars beside some of its citizens' cameras."""
    sites = sorted({s.segment for s in city.sensors if s.source == Source.TELRAAM and "car" in s.modes})
    chosen = set(rng.choice(sites, min(n_sites, len(sites)), replace=False).tolist())
    loops = tuple(
        replace(s, id=f"R{s.id}", source=Source.LOOPS.value)
        for s in city.sensors
        if s.source == Source.TELRAAM and s.segment in chosen and "car" in s.modes
    )
    return replace(city, sensors=city.sensors + loops)


def _sensor(city: City, mode: Mode, edge: int, source: Source, modes: tuple[str, ...]) -> Sensor:
    edges = edges_of(city, mode)
    segment, direction = int(edges.segment[edge]), Direction(int(edges.direction[edge])).name.lower()
    name = f"{source.value}-{mode.name.lower()}-{segment}-{direction}"
    return Sensor(name, source.value, segment, direction, modes, (0.0, 0.0), None, True)


class Readings:
    """What the sensors of a city read while flows follow its profile through a truth.

    Parameters
    ----------
    city : City
        With the sensors of the scenario.
    truth : mapping of Mode to (n_edges,) float64
        Flow of each directed edge at ``truth_ms`` [1/h].
    truth_ms : int
    seed : int
    """

    def __init__(self, city: City, truth: Flows, truth_ms: int, seed: int) -> None:
        self._city, self._truth, self._truth_ms = city, truth, truth_ms
        self._rng = np.random.default_rng([seed, 7])
        self._week = TrafficWeek(city)
        self._index = {m: edges_of(city, m).index_of(city.network.n_segments) for m in truth}
        sites = sorted({s.segment for s in city.sensors if s.source == Source.TELRAAM})
        draws = CITIZEN[2] * self._rng.standard_normal(len(sites))
        self.log_gain = dict(zip(sites, draws.tolist(), strict=True))

    def batch(self, end_ms: int, *, since_ms: int | None = None) -> Batch:
        """Readings whose interval ends in the step that ends at ``end_ms``, or since another moment."""
        rows = []
        for minute_ms in range((since_ms or end_ms - 60_000) + 60_000, end_ms + 1, 60_000):
            rows += list(self._rows(minute_ms))
        return readings_batch(sorted(rows, key=lambda row: row.order), end_ms)

    def of_hour(self, mode: Mode) -> float:
        """Flow at the truth's moment against the average hour."""
        return self._week.scale(mode, self._truth_ms)

    def _rows(self, end_ms: int) -> Iterator[Observation]:
        for number, sensor in enumerate(self._city.sensors):
            is_loop = sensor.source == Source.LOOPS
            minutes = LOOP_MIN if is_loop else CITIZEN_MIN
            if end_ms // 60_000 % minutes:
                continue
            detected, row_sd, _ = LOOP if is_loop else CITIZEN
            gain = 0.0 if is_loop else self.log_gain[sensor.segment]
            for name in sensor.modes:
                mode = Mode[name.upper()]
                edge = self._index[mode][sensor.segment, Direction[sensor.direction.upper()]]
                scale = self._week.scale(mode, end_ms - minutes * 30_000) / self.of_hour(mode)
                mean = self._truth[mode][edge] * scale * minutes / 60
                passed = self._rng.binomial(self._rng.poisson(mean), detected)
                count = passed * np.exp(gain + row_sd * self._rng.standard_normal())
                yield Observation(
                    Source(sensor.source), sensor.id, end_ms - minutes * 60_000, end_ms, end_ms, mode,
                    float(round(count) if is_loop else round(count, 1)), simulated=True,
                    event_id=f"{number}-{name}-{end_ms}",
                )  # fmt: skip
