"""From emissions to air quality at the receptors, exactly and incrementally."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import ndtr

from agents.emission import NO_WEATHER, WeatherOrder
from cities.cache import zeros
from cities.dispersion import double_count_of
from cities.pack import City, CityError
from kernels.air_columns import AirColumns, RoadColumns, road_columns
from kernels.air_explanation import Contributor, contributions_at, strongest
from kernels.air_fields import STORED, STORED_SCALE_UG_PER_M3, AirAccumulators, AirReader
from kernels.chemistry import Background, no2_contribution, without_double_count
from kernels.emission import N_POLLUTANTS, Pollutant
from kernels.receptors import BLOCK, TILE, ReceptorGrid
from kernels.srm2 import hourly_winds
from streams.readings import weather_rows
from streams.topics import Batch, Topic

NAMES = ("nox", "no2", "pm10", "pm25")
AVERAGINGS = ("now", "1h")
MODEL_LOG_SD = 0.30  # of the dispersion itself; to start with, until it is measured
STRONGEST = 5  # segments that an explanation names
WITHIN = 0.20  # a value counts as right within 20 %
DEFAULT_WIND_FROM_DEG = 225.0  # south-west, until weather is seen


@dataclass(frozen=True, slots=True)
class AirExplanation:
    """Where the concentration at a receptor comes from.

    Attributes
    ----------
    background, traffic : float
        Their sum is the concentration [ug/m3].
    contributors : tuple of Contributor
        Segments that give most, the strongest first; of NO2 by their NOx.
    others : float
        Share of all other segments; all shares add up to one, if there is any traffic.
    """

    background: float
    traffic: float
    contributors: tuple[Contributor, ...]
    others: float


class AirAgent:
    """NO2, PM10 and PM2.5 at every receptor.

    Consumes
        emissions (absolute per segment; only differences are added) and observations (wind of weather rows;
        until one is seen the annual mean speed and an assumed direction, flagged).
    Produces
        fields: the tiles in which a published value changed. "now" if the present emission lasted, "1h" of
        the mean emission of the last hour, both for the present wind.
    Keeps
        the emission of each segment and the wind. Fields are computed again from them on restore.
    Guarantees
        the accumulators equal a full recompute from the emissions bit for bit.
    """

    name = "air"
    consumes: tuple[Topic, ...] = (Topic.EMISSIONS, Topic.OBSERVATIONS)
    produces: tuple[Topic, ...] = (Topic.FIELDS,)

    def __init__(self, city: City, columns: AirColumns) -> None:
        n = city.network.n_segments
        if columns.n_segments != n:
            raise CityError(f"air columns: made for {columns.n_segments} segments, the city has {n}")
        self._city = city
        self._columns = columns
        self._background = background_of(city)
        self._reader = AirReader(columns, self._background)
        self._tile_segments = _segments_of_tiles(columns, city.grid)
        self._emission = np.zeros((n, 2, N_POLLUTANTS), dtype=np.int64)
        self._applied = np.zeros_like(self._emission)
        self._log_sd = np.full(n, np.nan, dtype=np.float32)
        self._simulated = np.zeros(n, dtype=np.bool_)
        self._hours_seen = 0.0
        self._wind = (columns.mean_wind_m_s, _default_direction(city))
        self._applied_wind = self._wind
        self._weather_order: WeatherOrder = NO_WEATHER
        self._is_seen = False
        self._is_started = False
        self._roads: RoadColumns | None = None
        self._accumulators = [AirAccumulators(columns, zeros) for _ in AVERAGINGS]
        self._published: list[NDArray[np.uint16]] = []
        self._spare = np.empty((len(STORED), *city.grid.shape), dtype=np.uint16)
        self._closed: tuple[NDArray[np.int64], tuple[float, float]] | None = None
        self.cells_updated = 0  # of all steps so far, `now` and 1 h added up

    def receive(self, batch: Batch) -> None:
        if batch.topic == Topic.EMISSIONS:
            segment = batch.columns["segment"]
            for p, name in enumerate(NAMES):
                self._emission[segment, 0, p] = self._limited(batch.columns[name])
                self._emission[segment, 1, p] = self._limited(batch.columns[f"{name}_1h"])
            self._log_sd[segment] = batch.columns["log_sd"]
            self._simulated[segment] = batch.columns["simulated"]
            self._hours_seen = float(batch.attributes.get("hours_seen", math.nan))
            self._is_seen = True
        elif batch.topic == Topic.OBSERVATIONS:
            self._receive_weather(batch)

    def close(self, now_ms: int) -> Sequence[Batch]:
        if not self._is_seen:
            return ()
        turned = self._turn_wind()
        out: list[Batch] = []
        touched = 0
        is_first = not self._is_started
        for a, averaging in enumerate(AVERAGINGS):
            changed, cells = self._apply(a)
            touched += cells
            if not (changed or turned or is_first):
                continue
            if is_first:
                self._published.append(self._read(a))
                out.extend(self._batches(averaging, now_ms, self._published[a], None))
            else:
                stored, before = self._read(a, self._spare), self._published[a]
                out.extend(self._batches(averaging, now_ms, stored, before))
                self._published[a], self._spare = stored, before
        self._is_started = True
        self._closed = (self._applied.copy(), self._applied_wind)
        self.cells_updated += touched
        return _counted(out, touched)

    def explain(self, cell: int, quantity: str, averaging: str = "now") -> AirExplanation | None:
        """Where a concentration at a receptor of the last closed step comes from; None before there is one.

        May be called from any thread; takes some milliseconds.

        Parameters
        ----------
        cell : int
            Flat index of the receptor in the grid.
        quantity, averaging : str
            Of :data:`kernels.air_fields.STORED` and of :data:`AVERAGINGS`.
        """
        if self._closed is None:
            return None
        applied, wind = self._closed
        place = int(self._columns.blocks.place[cell])
        emission = np.ascontiguousarray(applied[:, AVERAGINGS.index(averaging)])
        parts = contributions_at(self._columns, place, emission, hourly_winds(*wind), wind[0])
        total, b = parts.sum(axis=0), self._background
        species, background, traffic = {
            "no2": (Pollutant.NOX, b.no2, no2_contribution(total[0], total[1], b.o3)),
            "pm10": (Pollutant.PM10, b.pm10, float(total[Pollutant.PM10])),
            "pm25": (Pollutant.PM25, b.pm25, float(total[Pollutant.PM25])),
        }[quantity]
        contributors, others = strongest(parts, species, traffic, STRONGEST)
        return AirExplanation(background, traffic, contributors, others)

    def snapshot(self) -> dict[str, Any]:
        return {
            "emission": self._emission.copy(),
            "applied": self._applied.copy(),
            "log_sd": self._log_sd.copy(),
            "simulated": self._simulated.copy(),
            "hours_seen": self._hours_seen,
            "wind": list(self._wind),
            "applied_wind": list(self._applied_wind),
            "weather_order": list(self._weather_order),
            "is_seen": self._is_seen,
            "is_started": self._is_started,
            "cells_updated": self.cells_updated,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self._emission = np.array(state["emission"])
        self._applied = np.array(state["applied"])
        self._log_sd = np.array(state["log_sd"])
        self._simulated = np.array(state["simulated"])
        self._hours_seen = float(state["hours_seen"])
        self._wind = (float(state["wind"][0]), float(state["wind"][1]))
        self._applied_wind = (float(state["applied_wind"][0]), float(state["applied_wind"][1]))
        end_ms, sensor, received_ms, event = state["weather_order"]
        self._weather_order = (int(end_ms), str(sensor), int(received_ms), str(event))
        self._is_seen, self._is_started = bool(state["is_seen"]), bool(state["is_started"])
        self.cells_updated = int(state["cells_updated"])
        self._roads = None
        self._accumulators = [AirAccumulators(self._columns, zeros) for _ in AVERAGINGS]
        self._published = []
        if not self._is_started:
            return
        self._roads = road_columns(self._columns, hourly_winds(*self._applied_wind), zeros)
        for a, accumulators in enumerate(self._accumulators):
            emitting = np.flatnonzero(self._applied[:, a].any(axis=1))
            accumulators.add(self._roads, emitting, self._applied[emitting, a])
            self._published.append(self._read(a))
        self._closed = (self._applied.copy(), self._applied_wind)

    def _read(self, a: int, out: NDArray[np.uint16] | None = None) -> NDArray[np.uint16]:
        assert self._roads is not None
        return self._reader.stored(
            self._accumulators[a], self._roads, self._applied_wind[0], self._city.grid, out
        )

    def _limited(self, emission: NDArray[np.int64]) -> NDArray[np.int64]:
        """Emission below what could overflow an accumulator."""
        return np.minimum(emission, self._columns.emission_limit)

    def _receive_weather(self, batch: Batch) -> None:
        for row in weather_rows(batch):
            # the latest in event time, in whatever order they came, and the last version of it
            if np.isfinite(row.wind_speed_m_s) and row.order > self._weather_order:
                self._weather_order = row.order
                direction = row.wind_from_deg if np.isfinite(row.wind_from_deg) else self._wind[1]
                self._wind = (row.wind_speed_m_s, direction)

    def _turn_wind(self) -> bool:
        """Take up a new wind: SRM2 columns are made for it and their sums made again."""
        if self._roads is not None and self._wind == self._applied_wind:
            return False
        self._roads = road_columns(self._columns, hourly_winds(*self._wind), zeros)
        self._applied_wind = self._wind
        for a, accumulators in enumerate(self._accumulators):
            accumulators.turn(self._roads, self._applied[:, a])
        return True

    def _apply(self, a: int) -> tuple[bool, int]:
        """Add the differences of one averaging; whether any, and the cells touched."""
        assert self._roads is not None
        change = self._emission[:, a] - self._applied[:, a]
        changed = np.flatnonzero(change.any(axis=1))
        cells = self._accumulators[a].add(self._roads, changed, change[changed])
        self._applied[changed, a] = self._emission[changed, a]
        return bool(changed.size), cells

    def _batches(
        self, averaging: str, now_ms: int, stored: NDArray[np.uint16], before: NDArray[np.uint16] | None
    ) -> list[Batch]:
        """Tiles that changed, and the first of NO2 in any case: it carries the count of cells."""
        out = []
        accuracy, simulated = self._tile_quality()
        for q, quantity in enumerate(STORED):
            for t, (row, column) in enumerate(self._city.grid.tiles()):
                rows, columns = self._city.grid.tile_slices(row, column)
                values = stored[q, rows, columns]
                is_counter = averaging == "now" and q == 0 and t == 0
                if before is not None and not is_counter and np.array_equal(values, before[q, rows, columns]):
                    continue
                attributes = {
                    "scale": STORED_SCALE_UG_PER_M3,
                    "offset": 0.0,
                    "unit": "ug/m3",
                    "rows": values.shape[0],
                    "columns": values.shape[1],
                    "accuracy": round(float(accuracy[t]), 3),
                    "simulated": bool(simulated[t]),
                    "hours_seen": self._hours_seen,
                    "weather": "assumed" if self._weather_order[0] < 0 else "observed",
                    "network_hash": self._city.network_hash,
                }
                key = f"{quantity}/{averaging}/{row}/{column}"
                out.append(
                    Batch(Topic.FIELDS, key, now_ms, {"values": values.flatten()}, attributes=attributes)
                )
        return out

    def _tile_quality(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Accuracy and whether an input was simulated, each (n_tiles,).

        The segments with a receptor in the tile count by their NOx, so that a quiet lane does not spoil it.
        """
        nox = self._applied[:, 0, 0].astype(np.float64)
        weight = np.where(np.isfinite(self._log_sd), nox, 0.0)
        spread = weight * np.nan_to_num(self._log_sd)
        count, total = self._tile_segments @ weight, self._tile_segments @ spread
        overall = float(spread.sum() / weight.sum()) if weight.any() else 0.0
        mean = np.divide(total, count, out=np.full(count.size, overall), where=count > 0)
        far = bool(self._simulated[self._columns.road_segment].any())
        simulated = (self._tile_segments @ self._simulated.astype(np.float64) > 0) | far
        return probability_within(mean), np.asarray(simulated)


def background_of(city: City) -> Background:
    """Background of a city pack, without what it already holds of the roads that are calculated.

    Raises
    ------
    CityError
        Naming the concentration that is missing.
    """
    table = city.settings.get("background", {})
    values = {}
    for name in ("no2", "o3", "pm10", "pm25"):
        value = table.get(name)
        if not isinstance(value, int | float) or not value >= 0:
            raise CityError(f"city.toml: [background] {name}: got {value!r}, expected ug/m3 of at least 0")
        values[name] = float(value)
    return without_double_count(Background(**values), double_count_of(city))


def probability_within(log_sd: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability that the true value lies within 20 %, (n,).

    Lognormal, with the sd of the inputs and the model's 30 % in quadrature.
    """
    sd = np.hypot(log_sd, MODEL_LOG_SD)
    return np.asarray(ndtr(math.log(1 + WITHIN) / sd) - ndtr(math.log(1 - WITHIN) / sd))


def _default_direction(city: City) -> float:
    return float(city.settings.get("air", {}).get("wind_from_deg", DEFAULT_WIND_FROM_DEG))


def _counted(batches: list[Batch], touched: int) -> tuple[Batch, ...]:
    """The same batches, the tile at row 0, column 0 of NO2 now with the count of cells."""
    out = []
    for batch in batches:
        if batch.key == f"{STORED[0]}/{AVERAGINGS[0]}/0/0":
            attributes = {**batch.attributes, "cells_updated": touched}
            batch = Batch(batch.topic, batch.key, batch.time_ms, batch.columns, attributes=attributes)
        out.append(batch)
    return tuple(out)


def _segments_of_tiles(columns: AirColumns, grid: ReceptorGrid) -> sparse.csr_array:
    """Which segments have a receptor nearby in a tile, (n_tiles, n_segments) of 0 and 1."""
    across = -(-grid.n_columns // TILE)
    pairs = []
    for runs, number in (
        (columns.streets, np.arange(columns.n_segments)),
        (columns.roads, columns.road_segment.astype(np.int64)),
    ):
        n_blocks = np.diff(runs.offset) // BLOCK
        some = n_blocks > 0
        segment = np.repeat(number, np.diff(runs.start))[some]
        strip, row = np.divmod(runs.block[some].astype(np.int64), grid.n_rows)
        tile = strip * BLOCK // TILE + row // TILE * across
        for below in range(int(n_blocks.max(initial=1)) // TILE + 2):
            is_in = row // TILE + below <= (row + n_blocks[some] - 1) // TILE
            pairs.append((tile + below * across)[is_in] * columns.n_segments + segment[is_in])
    tile, segment = np.divmod(np.unique(np.concatenate(pairs)), columns.n_segments)
    return sparse.csr_array(
        (np.ones(tile.size), (tile, segment)), shape=(len(grid.tiles()), columns.n_segments)
    )
