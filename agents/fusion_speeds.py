"""Speeds of all modes, from flows and from what measures speed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from agents.fusion_counters import CounterRows
from agents.fusion_mode import Estimate, ModeFusion
from agents.fusion_travel_times import TravelTimes
from cities.pack import City
from kernels.network import Mode
from kernels.speed import JAM_PER_KM, FundamentalDiagram, SpeedCorrection, measured_weight, speed_correction

FASTEST = 1.4  # times the free speed of a street
CYCLING_KMH = 15.0
WALKING_KMH = 4.7
TRUCK_KMH, BUS_KMH = 90.0, 60.0
MOTOR = (Mode.CAR, Mode.TRUCK, Mode.BUS)


class Speeds:
    """Speeds of all modes from flows of motor traffic, speeds at counters, times between cameras."""

    def __init__(
        self,
        city: City,
        counters: CounterRows,
        travel_times: TravelTimes,
        capacity_per_h: NDArray[np.float64],
        middles: NDArray[np.float64],
    ) -> None:
        segment = city.car_edges.segment
        jam = JAM_PER_KM * city.lanes[segment]
        self._diagram = FundamentalDiagram(city.speed_kmh[segment], capacity_per_h[segment], jam)
        self._travel_times = travel_times
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
        motor = sum((estimates[m].flow_per_h for m in MOTOR if m in estimates), np.zeros(1))
        speed = self._diagram.free_speed(motor)
        windows = car.windows
        known = windows.speed_weight[self._row] > 0
        measured = windows.speed[self._row] / np.where(known, windows.speed_weight[self._row], 1.0)
        weight = np.where(known, measured_weight(now_ms - windows.speed_ms[self._row]), 0.0)
        at = speed[self._correction.edge]
        ratio = np.log(np.where(known, np.maximum(measured, 1.0), at) / at)
        free = self._diagram.free_kmh
        corrected = np.clip(speed * self._correction.factor(ratio, weight), 2.0, FASTEST * free)
        on_way = self._travel_times.factor(now_ms, corrected, self._correction.own_share(weight))
        corrected = np.clip(corrected * on_way, 2.0, FASTEST * free)
        corrected = self._diagram.possible_speed(motor, corrected)
        return {
            Mode.CAR: corrected,
            Mode.TRUCK: np.minimum(corrected, TRUCK_KMH),
            Mode.BUS: np.minimum(corrected, BUS_KMH),
            Mode.BICYCLE: np.full(self._n_bicycle, CYCLING_KMH),
            Mode.PEDESTRIAN: np.full(self._n_bicycle, WALKING_KMH),
        }
