"""From densities to emissions per segment, with the change gate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cities.pack import City
from cities.road_noise import road_noise_of
from kernels import cnossos
from kernels.emission import (
    N_POLLUTANTS,
    EmissionError,
    Pollutant,
    VehicleClass,
    add_emission,
    bounded_quanta,
    regime_codes,
)
from kernels.fixedpoint import emission_of, quantise_power
from kernels.gate import GateBound, air_releases, noise_exceeds
from kernels.hour_ring import BLOCK_MS, HourRing
from kernels.network import Direction, Mode
from streams.readings import weather_rows
from streams.topics import Batch, Topic

TILE_SEGMENTS = 250
MODES = (Mode.CAR, Mode.TRUCK, Mode.BUS)
N_QUANTITIES = N_POLLUTANTS + 4
POLLUTANTS = slice(0, N_POLLUTANTS)
POWERS = slice(N_POLLUTANTS, N_QUANTITIES)
QUANTITY_NAMES = ("nox", "no2", "pm10", "pm25", "power0", "power1", "power2", "power3")
LOG_SD_MAX = 3.0  # a factor of 20: beyond it nothing is known
WeatherOrder = tuple[int, str, int, str]
"""End of a weather row [ms], its sensor, when it was received [ms], its event id."""
NO_WEATHER: WeatherOrder = (-1, "", -1, "")


class EmissionAgent:
    """Emission of pollutants and sound of each segment.

    Consumes
        densities (cars, trucks and buses, both directions; a mode that is absent is unknown and not added;
        bicycles emit nothing) and observations (temperature and wind of weather rows).
    Produces
        emissions: whole tiles of 250 segments that hold a released segment, with what was published before
        for the segments that the gate withholds. Every five minutes of event time also the mean of the last
        hour. The attribute ``n_outside_surface_speeds`` counts the segments of the tile where traffic drives
        at a speed that their surface was not printed for; they are calculated all the same.
    Keeps
        the latest flows, what was published, and sums of the last hour. Flows of an earlier step than the
        latest change nothing: the sums hold each minute as it was known when it closed.
    Guarantees
        what readers hold differs from the ungated truth by less than the gate's tolerances
        (:mod:`kernels.gate`).
    """

    name = "emission"
    consumes: tuple[Topic, ...] = (Topic.DENSITIES, Topic.OBSERVATIONS)
    produces: tuple[Topic, ...] = (Topic.EMISSIONS,)

    def __init__(self, city: City, bound: GateBound) -> None:
        n = city.network.n_segments
        if bound.n_segments != n:
            raise EmissionError(f"gate bound: made for {bound.n_segments} segments, the city has {n}")
        self._city = city
        self._bound = bound
        self._n = n
        regime = regime_codes([str(r) for r in city.class_values("regime")])
        self._factors = city.emission.of_segments(regime, city.speed_kmh)
        self._medium_share = city.class_values("truck_medium_share").astype(np.float64)
        self._road = road_noise_of(city)
        self._corrections = [self._road.corrections(direction) for direction in Direction]
        self._is_outside = np.zeros(n, dtype=np.bool_)
        self._temperature_c = float(city.settings.get("noise", {}).get("annual_temperature_c", 10.0))
        self._temperature_order: WeatherOrder = NO_WEATHER
        # until weather is seen, what the air agent assumes
        self._wind_m_s = float(city.settings.get("background", {}).get("mean_wind_m_s", 0.0))
        self._wind_order: WeatherOrder = NO_WEATHER
        shape = (len(MODES), 2, n)
        self._flow = np.full(shape, np.nan)
        self._speed = np.full(shape, np.nan)
        self._log_sd = np.full(shape, np.nan)
        self._simulated = np.zeros(shape, dtype=np.bool_)
        self._latest: dict[str, tuple[int, int]] = {}
        self._is_fresh = False
        self._wanted = np.zeros((n, N_QUANTITIES), dtype=np.int64)
        self._wanted_log_sd = np.full(n, np.nan, dtype=np.float32)
        self._wanted_simulated = np.zeros(n, dtype=np.bool_)
        self._is_started = False
        self._published = np.zeros((n, N_QUANTITIES), dtype=np.int64)
        self._published_log_sd = np.full(n, np.nan, dtype=np.float32)
        self._published_simulated = np.zeros(n, dtype=np.bool_)
        self._published_1h = np.zeros((n, N_QUANTITIES), dtype=np.int64)
        self._minutes_1h = 0
        self._ring = HourRing((n, N_QUANTITIES))
        self.changed_segments = 0  # released by the gate in all steps so far

    def receive(self, batch: Batch) -> None:
        if batch.topic == Topic.DENSITIES:
            self._receive_densities(batch)
        elif batch.topic == Topic.OBSERVATIONS:
            self._receive_weather(batch)

    def close(self, now_ms: int) -> Sequence[Batch]:
        if not self._latest:
            return ()
        if self._is_fresh:
            self._compute()
            self._is_fresh = False
        self._ring.add(now_ms, self._wanted)
        air, noise = self._released()
        released = air | noise
        changed_1h = self._update_hour(now_ms)
        self._published[air, POLLUTANTS] = self._wanted[air, POLLUTANTS]
        self._published[noise, POWERS] = self._wanted[noise, POWERS]
        self._published_log_sd[released] = self._wanted_log_sd[released]
        self._published_simulated[released] = self._wanted_simulated[released]
        self._is_started = True
        self.changed_segments += int(np.count_nonzero(released))
        tiles = np.unique(np.flatnonzero(released | changed_1h) // TILE_SEGMENTS)
        return tuple(self._tile(int(tile), now_ms, released) for tile in tiles)

    def snapshot(self) -> dict[str, Any]:
        return {
            "temperature_c": self._temperature_c,
            "temperature_order": list(self._temperature_order),
            "wind_m_s": self._wind_m_s,
            "wind_order": list(self._wind_order),
            "flow": self._flow.copy(),
            "speed": self._speed.copy(),
            "flow_log_sd": self._log_sd.copy(),
            "flow_simulated": self._simulated.copy(),
            "latest": {key: list(value) for key, value in sorted(self._latest.items())},
            "is_started": self._is_started,
            "published": self._published.copy(),
            "published_log_sd": self._published_log_sd.copy(),
            "published_simulated": self._published_simulated.copy(),
            "published_1h": self._published_1h.copy(),
            "minutes_1h": self._minutes_1h,
            "ring": self._ring.snapshot(),
            "changed_segments": self.changed_segments,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self._temperature_c = float(state["temperature_c"])
        end_ms, sensor, received_ms, event = state["temperature_order"]
        self._temperature_order = (int(end_ms), str(sensor), int(received_ms), str(event))
        self._wind_m_s = float(state["wind_m_s"])
        end_ms, sensor, received_ms, event = state["wind_order"]
        self._wind_order = (int(end_ms), str(sensor), int(received_ms), str(event))
        self._flow = np.array(state["flow"])
        self._speed = np.array(state["speed"])
        self._log_sd = np.array(state["flow_log_sd"])
        self._simulated = np.array(state["flow_simulated"])
        self._latest = {key: (int(v[0]), int(v[1])) for key, v in state["latest"].items()}
        self._is_fresh = bool(self._latest)
        self._is_started = bool(state["is_started"])
        self._published = np.array(state["published"])
        self._published_log_sd = np.array(state["published_log_sd"])
        self._published_simulated = np.array(state["published_simulated"])
        self._published_1h = np.array(state["published_1h"])
        self._minutes_1h = int(state["minutes_1h"])
        self._ring.restore(state["ring"])
        self.changed_segments = int(state["changed_segments"])

    def _receive_densities(self, batch: Batch) -> None:
        order = (batch.time_ms, batch.revision)
        if order < self._latest.get(batch.key, (-1, -1)):
            return
        self._latest[batch.key] = order
        column = batch.columns
        mode = column["mode"]
        for m, code in enumerate(MODES):
            of_mode = mode == code
            at = (m, column["direction"][of_mode], column["segment"][of_mode])
            self._flow[at] = column["flow_per_h"][of_mode]
            self._speed[at] = column["speed_kmh"][of_mode]
            self._log_sd[at] = column["log_sd"][of_mode]
            self._simulated[at] = column["simulated"][of_mode]
        self._is_fresh = True

    def _receive_weather(self, batch: Batch) -> None:
        for row in weather_rows(batch):
            # the latest in event time, in whatever order they came, and the last version of it
            if np.isfinite(row.wind_speed_m_s) and row.order > self._wind_order:
                self._wind_order = row.order
                self._wind_m_s = row.wind_speed_m_s
            if np.isfinite(row.temperature_c) and row.order > self._temperature_order:
                self._temperature_order = row.order
                self._temperature_c = row.temperature_c
                self._is_fresh = True

    def _compute(self) -> None:
        """Emission and power of every segment from the latest flows, both directions added."""
        air = np.zeros((self._n, N_POLLUTANTS))
        power = np.zeros((self._n, 4))
        spread = np.zeros(self._n)
        free, factors = self._city.speed_kmh, self._factors
        flow = np.nan_to_num(self._flow, nan=0.0)  # unknown is not added; its column stays out of the sum
        is_outside = np.zeros(self._n, dtype=np.bool_)
        for direction in Direction:
            car, truck, bus = flow[:, direction]
            medium, heavy = truck * self._medium_share, truck * (1.0 - self._medium_share)
            parts = (
                (VehicleClass.LIGHT, car, 0),
                (VehicleClass.MEDIUM, medium, 1),
                (VehicleClass.HEAVY, heavy, 1),
                (VehicleClass.BUS, bus, 2),
            )
            for vehicle, q, m in parts:
                before = air[:, Pollutant.NOX].copy()
                add_emission(
                    air, q, self._speed[m, direction], free,
                    factors.flowing_row, factors.stagnating_row, factors.g_per_km[vehicle],
                )  # fmt: skip
                spread += (air[:, Pollutant.NOX] - before) * self._relative_sd(m, direction)
            speed = np.where(np.isnan(self._speed[:, direction]), free, self._speed[:, direction])
            # Buses are of category 2, and in a street as fast as trucks.
            power += cnossos.band_group_power(
                car, medium + bus, heavy, speed[0], speed[1], self._road.surface, self._temperature_c,
                self._road.coefficients, self._corrections[direction],
            )  # fmt: skip
            drives = np.stack([car, truck + bus]) > 0.0
            is_outside |= (self._road.is_outside_range(speed[:2]) & drives).any(axis=0)
        self._is_outside = is_outside
        self._wanted[:, POLLUTANTS] = bounded_quanta(air)
        self._wanted[:, POWERS] = quantise_power(power)
        nox = air[:, Pollutant.NOX]
        relative = np.divide(spread, nox, out=np.full(self._n, np.nan), where=nox > 0.0)
        self._wanted_log_sd = np.round(np.minimum(relative, LOG_SD_MAX), 3).astype(np.float32)
        self._wanted_simulated = (self._simulated & np.isfinite(self._flow)).any(axis=(0, 1))

    def _relative_sd(self, m: int, direction: int) -> NDArray[np.float64]:
        """Relative uncertainty of a flow, (n,): sd of log(flow + 5) carried to the flow; unknown counts most.

        The parts of one segment are added as if fully correlated, since one count feeds them all.
        """
        flow, log_sd = self._flow[m, direction], self._log_sd[m, direction]
        sd = np.divide(log_sd * (flow + 5.0), flow, out=np.full(self._n, LOG_SD_MAX), where=flow > 0.0)
        return np.asarray(np.nan_to_num(sd, nan=LOG_SD_MAX))

    def _released(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Segments whose pollutants, and whose sound power, are released; each has a gate of its own.

        A receptor's air follows from few near segments and asks for small changes of busy roads, its noise
        from many; what one of them needs would make the other recompute for nothing.
        """
        if not self._is_started:
            return np.ones(self._n, dtype=np.bool_), np.ones(self._n, dtype=np.bool_)
        noise = noise_exceeds(
            self._published[:, POWERS], self._wanted[:, POWERS], self._bound.noise_tolerance_db
        )
        change = np.abs(self._wanted[:, POLLUTANTS] - self._published[:, POLLUTANTS]).max(axis=1)
        return air_releases(self._bound, emission_of(change), self._wind_m_s), noise

    def _update_hour(self, now_ms: int) -> NDArray[np.bool_]:
        """Mean of the last hour where five minutes end; the segments whose mean changed."""
        if self._is_started and now_ms % BLOCK_MS != 0:
            return np.zeros(self._n, dtype=np.bool_)
        mean, self._minutes_1h = self._ring.mean(now_ms)
        changed = (mean != self._published_1h).any(axis=1)
        self._published_1h = mean
        return np.asarray(changed)

    def _tile(self, tile: int, now_ms: int, released: NDArray[np.bool_]) -> Batch:
        rows = slice(tile * TILE_SEGMENTS, min((tile + 1) * TILE_SEGMENTS, self._n))
        columns: dict[str, NDArray[Any]] = {"segment": np.arange(rows.start, rows.stop, dtype=np.int32)}
        for q, name in enumerate(QUANTITY_NAMES):
            columns[name] = self._published[rows, q].copy()
        for q, name in enumerate(QUANTITY_NAMES):
            columns[f"{name}_1h"] = self._published_1h[rows, q].copy()
        columns["log_sd"] = self._published_log_sd[rows].copy()
        columns["simulated"] = self._published_simulated[rows].copy()
        return Batch(
            topic=Topic.EMISSIONS,
            key=f"t{tile}",
            time_ms=now_ms,
            columns=columns,
            attributes={
                "hours_seen": self._minutes_1h / 60.0,
                "network_hash": self._city.network_hash,
                "released": int(np.count_nonzero(released[rows])),
                "n_outside_surface_speeds": int(np.count_nonzero(self._is_outside[rows])),
            },
        )
