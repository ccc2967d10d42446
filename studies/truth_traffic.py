"""The traffic of a clock time: trips, an equilibrium, and every node's own way through the city."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from studies.truth_demand import (
    ANCHORS_MIN,
    PURPOSE_CLOCK,
    TRUCK_UNITS,
    Zones,
    bicycle_matrix,
    make_zones,
    purpose_matrices,
)
from studies.truth_loading import equilibrium_time_s, load_trips
from studies.truth_morning import Morning
from studies.truth_network import DIRECTIONS, Edges, Streets, bicycle_edges, car_edges

Report = Callable[[str], None]
Trips = NDArray[np.float64]

DELIVERY_SHARE = 0.015  # of cars on every street that are light trucks on a round: parcels, bins, builders
TRUCK_DETOUR = np.array([1.0, 1.0, 1.05, 1.15, 1.35, 1.6, 2.0, 2.4, 2.0, 2.0, 3.0])  # felt time by class


@dataclass(frozen=True, slots=True)
class MotorTraffic:
    """Supply and demand of motor traffic.

    Attributes
    ----------
    edges : Edges
    zones : Zones
    purposes : dict
        Trips at the peak of each purpose, each (n_zones, n_zones) [1/h].
    seed : int
        Of tastes.
    """

    edges: Edges
    zones: Zones
    purposes: dict[str, Trips]
    seed: int

    def trips_at(self, clock_min: float) -> tuple[Trips, Trips]:
        """Trips of cars and of trucks on the usual day, (n_zones, n_zones) each [1/h]."""
        cars, trucks = np.zeros((2, len(self.zones.xy), len(self.zones.xy)))
        for purpose, trips in self.purposes.items():
            part = trips * np.interp(clock_min, ANCHORS_MIN, PURPOSE_CLOCK[purpose])
            if purpose.startswith("goods"):
                trucks += part
            else:
                cars += part
        return cars, trucks

    def equilibrium_time_s(
        self, clock_min: int, report: Report, edges: Edges | None = None
    ) -> NDArray[np.float64]:
        """Travel times of the usual day, (n_edges,) [s]; ``edges`` are those of a network with closures."""
        cars, trucks = self.trips_at(clock_min)
        time_s, gap = equilibrium_time_s(edges or self.edges, self.zones.access, cars + TRUCK_UNITS * trucks)
        state = "open" if edges is None else "closed"
        report(f"{state} {clock_min // 60:02d}:{clock_min % 60:02d}: {cars.sum():.0f} cars/h, gap {gap:.4f}")
        return time_s

    def load(self, time_s: NDArray[np.float64], cars: Trips, trucks: Trips) -> NDArray[np.float64]:
        """Cars and trucks, (2, n_edges) [1/h]."""
        car = self._loaded(time_s, cars, self.seed)
        truck = self._loaded(time_s * TRUCK_DETOUR[self.edges.road_class], trucks, self.seed + 1)
        return np.stack([(1.0 - DELIVERY_SHARE) * car, truck + DELIVERY_SHARE * car])

    def load_cars(self, time_s: NDArray[np.float64], cars: Trips) -> NDArray[np.float64]:
        """Cars alone, (n_edges,) [1/h]."""
        return (1.0 - DELIVERY_SHARE) * self._loaded(time_s, cars, self.seed)

    def _loaded(self, felt_s: NDArray[np.float64], trips: Trips, seed: int) -> NDArray[np.float64]:
        z = self.zones
        flows: NDArray[np.float64] = load_trips(
            self.edges, felt_s, z.node, z.zone, z.share, z.destinations, trips, seed=seed
        )[0]
        return flows


def motor_traffic(morning: Morning, streets: Streets) -> MotorTraffic:
    """Motor traffic of a city's usual day."""
    edges = car_edges(streets, morning.seed, morning.stress.speed)
    zones = make_zones(streets, edges, morning.seed, morning.n_zones, morning.stress.land_use_log_sd)
    street_km = float(streets.length_m[streets.road_class <= 8].sum()) / 1000.0
    purposes = purpose_matrices(zones, street_km, morning.seed, morning.stress.trip_length)
    return MotorTraffic(edges, zones, purposes, morning.seed)


def bicycle_traffic(
    morning: Morning,
    streets: Streets,
    clock_min: NDArray[np.float64],
    report: Report,
    day_factor: Callable[[Zones], Trips] | None = None,
) -> tuple[Edges, NDArray[np.float32]]:
    """Bicycles at clock times; trips past the reference counter are scaled to what it counted.

    Parameters
    ----------
    morning : Morning
    streets : Streets
    clock_min : (n_times,) float64
        Local minutes of the day.
    report : callable
        Told what passes the counter.
    day_factor : callable, optional
        Factor on the trips between zones of one day, (n_zones, n_zones).

    Returns
    -------
    edges : Edges
    bicycle : (n_edges, n_times) float32
        [1/h]
    """
    stress = morning.stress
    edges = bicycle_edges(streets, morning.seed, morning.settings.get("cycle_streets"), stress.bicycle_felt)
    zones = make_zones(streets, edges, morning.seed + 1, morning.n_zones, stress.land_use_log_sd)
    street_km = float(streets.length_m[(streets.road_class > 1) & (streets.road_class <= 8)].sum()) / 1000.0
    trips = bicycle_matrix(zones, street_km, morning.seed, stress.trip_length.get("bicycle", 1.0))
    if day_factor is not None:
        trips = trips * day_factor(zones)
    counter = morning.counter
    watched = np.zeros(0, dtype=np.int64)
    if counter is not None:
        segment = streets.ids.index(counter.segment)
        watched = np.flatnonzero(edges.segment == segment)  # forward, then backward
    flows = load_trips(
        edges, edges.free_time_s, zones.node, zones.zone, zones.share, zones.destinations, trips,
        seed=morning.seed + 2, watched=watched,
    )  # fmt: skip
    clock = bicycle_clock(morning, clock_min)
    bicycle = (flows[0] - flows[1:].sum(axis=0)).clip(min=0.0)[:, None] * clock
    if counter is not None:
        wanted = counter.rate_per_h(clock_min)
        for k, edge in enumerate(watched):
            natural = flows[1 + k, edge]
            counted = wanted[:, k].max()
            report(f"bicycles past the counter, {DIRECTIONS[k]}: {natural:.0f}/h, counted {counted:.0f}/h")
            bicycle += (flows[1 + k] / max(natural, 1.0))[:, None] * wanted[:, k]
    return edges, bicycle.astype(np.float32)


def bicycle_clock(morning: Morning, clock_min: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the morning's peak, (n_times,): that of the reference counter where there is one."""
    minutes = np.concatenate([morning.middles_min, clock_min])
    if morning.counter is None:
        clock = np.exp(-0.5 * ((minutes - 492.0) / 38.0) ** 2) + 0.12
    else:
        clock = morning.counter.rate_per_h(minutes).sum(axis=1)
    share: NDArray[np.float64] = clock[morning.n_minutes :] / clock[: morning.n_minutes].max()
    return share
