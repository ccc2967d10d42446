"""Emission factors of a country and year [g/km], as data in cities/factors.

A table has a row for each class of vehicle, regime and year. Between its years factors are linear. A table
without motorways (Flanders) takes the rural row for them, and the stagnating one for their jams; one that has
them (the Netherlands) tells them by speed limit, and between two limits they are linear.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cities.factor_rows import FACTORS, Row, number, read_rows
from cities.fleet import FleetMix, base_fleet, mix_ratio, with_shares
from kernels.emission import STAGNATING_OF, EmissionError, Pollutant, Regime, VehicleClass

TABLES = ("flanders", "netherlands")
DEFAULT_TABLE = "flanders"
DEFAULT_YEAR = 2020
SETTINGS = ("table", "year", "motorway_enforced", "fleet", "source")

# The limit of the row that stands for motorways where no speed is known: in the middle of a table's limits.
REFERENCE_LIMIT_KMH = 100.0
# Mean speeds of the regimes of SRM1 (CAR-Vlaanderen 3.0); on motorways the limit, in their jams assumed.
REGIME_SPEED_KMH = {
    Regime.RURAL: 44.0,
    Regime.NORMAL: 19.0,
    Regime.STAGNATING: 13.0,
    Regime.FREE: 26.0,
    Regime.MOTORWAY: REFERENCE_LIMIT_KMH,
    Regime.MOTORWAY_STAGNATING: 30.0,
}
_MOTORWAY = re.compile(r"motorway_(\d+)(_enforced)?")
_JAM = "motorway_stagnating"
_STREETS = (Regime.RURAL, Regime.NORMAL, Regime.STAGNATING, Regime.FREE)
_COLUMNS = ("class", "regime", "year", *(p.name.lower() for p in Pollutant))
# Of a table that has motorways, but no buses there: trucks of two axles are nearest (assumed).
_BUS_ON_MOTORWAY = VehicleClass.MEDIUM


@dataclass(frozen=True, slots=True)
class SegmentFactors:
    """Factors of the segments of a network, as :func:`kernels.emission.add_emission` takes them.

    Attributes
    ----------
    g_per_km : (class, n_rows, pollutant) float64
    flowing_row, stagnating_row : (n_segments,) int32
        Row of each segment at free flow and in stagnation.
    """

    g_per_km: NDArray[np.float64]
    flowing_row: NDArray[np.int32]
    stagnating_row: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class EmissionFactors:
    """Emission factors of one table and year.

    Attributes
    ----------
    table, source : str
    year : int
    g_per_km : (class, regime, pollutant) float64
        In the orders of VehicleClass, Regime and Pollutant; the motorway is that of 100 km/h.
    limits_kmh : (n_limits,) float64
        Speed limits of motorways, increasing; none where the table has no motorways.
    motorway_g_per_km : (class, n_limits, pollutant) float64
    substitutions : tuple of str
        What the table does not have, and which row stands for it.
    """

    table: str
    year: int
    source: str
    g_per_km: NDArray[np.float64]
    limits_kmh: NDArray[np.float64]
    motorway_g_per_km: NDArray[np.float64]
    substitutions: tuple[str, ...]

    def motorway(self, limit_kmh: float) -> NDArray[np.float64]:
        """Factors of a motorway by its limit [g/km], (class, pollutant).

        Linear between the limits of the table, its nearest row beyond them; without motorways in the table
        the rural row.
        """
        if not self.limits_kmh.size:
            return self.g_per_km[:, Regime.RURAL]
        return _at_limit(self.limits_kmh, self.motorway_g_per_km, limit_kmh)

    def of_segments(self, regime: NDArray[np.int8], speed_kmh: NDArray[np.float64]) -> SegmentFactors:
        """Factors of each segment; motorways by their free speed, which stands for the limit.

        Parameters
        ----------
        regime : (n_segments,) int8
        speed_kmh : (n_segments,) float64
            Free speed.
        """
        rows = [self.g_per_km]
        flowing = regime.astype(np.int32)
        stagnating = np.array(STAGNATING_OF, dtype=np.int32)[regime]
        on_motorway = regime == Regime.MOTORWAY
        limits, row_of = np.unique(speed_kmh[on_motorway], return_inverse=True)
        rows += [self.motorway(float(limit))[:, None] for limit in limits]
        flowing[on_motorway] = len(Regime) + row_of
        return SegmentFactors(np.ascontiguousarray(np.concatenate(rows, axis=1)), flowing, stagnating)

    def of_fleet(self, base: FleetMix, changed: FleetMix) -> EmissionFactors:
        """The factors where another fleet drives than the one the table is taken to hold for.

        Each regime is multiplied by :func:`cities.fleet.mix_ratio` at its own mean speed.
        """
        factors = self.g_per_km.copy()
        for regime in Regime:
            stands_in = regime if self.limits_kmh.size else _street_of(regime)
            factors[:, regime] *= mix_ratio(base, changed, REGIME_SPEED_KMH[stands_in])
        motorway = self.motorway_g_per_km.copy()
        for k, limit in enumerate(self.limits_kmh):
            motorway[:, k] *= mix_ratio(base, changed, float(limit))
        if self.limits_kmh.size:
            factors[:, Regime.MOTORWAY] = _at_limit(self.limits_kmh, motorway, REFERENCE_LIMIT_KMH)
        return replace(self, g_per_km=factors, motorway_g_per_km=motorway)


def load_factors(
    table: str, year: int, *, motorway_enforced: bool = False, folder: Path = FACTORS
) -> EmissionFactors:
    """Emission factors of a table and year.

    Parameters
    ----------
    table : {"flanders", "netherlands"}
    year : int
        Between two years of the table factors are linear.
    motorway_enforced : bool
        Motorways where the limit is strictly enforced, for the limits that have such a row.
    folder : Path
        Where the tables are.

    Raises
    ------
    EmissionError
        For an unknown table, a year outside the table, and a row or number that is missing, by name.
    """
    if table not in TABLES:
        raise EmissionError(f"emission.table: got {table!r}, expected one of {', '.join(TABLES)}")
    name = f"{table}.csv"
    rows, source = read_rows(folder / name, _COLUMNS)
    years = sorted({_year_of(row, name) for row in rows})
    if isinstance(year, bool) or not isinstance(year, int) or not years[0] <= year <= years[-1]:
        raise EmissionError(
            f"emission.year: got {year!r}, expected a whole number of {years[0]} to {years[-1]} "
            f"(table {table})"
        )
    before, after = max(y for y in years if y <= year), min(y for y in years if y >= year)
    weight = 0.0 if after == before else (year - before) / (after - before)
    cells = _cells([row for row in rows if int(row["year"]) in (before, after)], name)

    def of(vehicle_class: VehicleClass, regime: str) -> NDArray[np.float64]:
        first, last = (_factors(cells, name, vehicle_class, regime, y) for y in (before, after))
        return first if weight == 0.0 else (1.0 - weight) * first + weight * last

    g_per_km = np.zeros((len(VehicleClass), len(Regime), len(Pollutant)))
    for vehicle_class in VehicleClass:
        for regime in _STREETS:
            g_per_km[vehicle_class, regime] = of(vehicle_class, regime.name.lower())
    if not any(regime.startswith("motorway") for _, regime, _ in cells):
        for regime in (Regime.MOTORWAY, Regime.MOTORWAY_STAGNATING):
            g_per_km[:, regime] = g_per_km[:, _street_of(regime)]
        none = np.zeros((len(VehicleClass), 0, len(Pollutant)))
        taken = ("motorway: the rural row", "motorway_stagnating: the stagnating row")
        return EmissionFactors(table, year, source, g_per_km, np.zeros(0), none, taken)

    stands_in: dict[VehicleClass, VehicleClass] = {c: c for c in VehicleClass}
    substitutions: tuple[str, ...] = ()
    if not any(c == "bus" and regime.startswith("motorway") for c, regime, _ in cells):
        stands_in[VehicleClass.BUS] = _BUS_ON_MOTORWAY
        substitutions = (f"bus on motorways: the row of {_BUS_ON_MOTORWAY.name.lower()} trucks",)
    regimes = _motorway_regimes(cells, motorway_enforced, name)
    limits = np.array(sorted(regimes), dtype=np.float64)
    motorway = np.array([[of(stands_in[c], regimes[int(k)]) for k in limits] for c in VehicleClass])
    g_per_km[:, Regime.MOTORWAY] = _at_limit(limits, motorway, REFERENCE_LIMIT_KMH)
    g_per_km[:, Regime.MOTORWAY_STAGNATING] = [of(stands_in[c], _JAM) for c in VehicleClass]
    return EmissionFactors(table, year, source, g_per_km, limits, motorway, substitutions)


def city_factors(settings: Mapping[str, Any]) -> EmissionFactors:
    """Emission factors that a city.toml asks for.

    Parameters
    ----------
    settings : mapping
        city.toml as read; [emission] names ``table``, ``year``, ``motorway_enforced`` and, in
        [emission.fleet], shares of Euro classes that differ from the table's fleet.

    Raises
    ------
    EmissionError
        Naming the field of [emission] at fault.
    """
    emission = settings.get("emission", {})
    if not isinstance(emission, Mapping):
        raise EmissionError(f"emission: got {emission!r}, expected a table [emission]")
    for key in emission:
        if key not in SETTINGS:
            raise EmissionError(f"emission.{key}: is not known, expected one of {', '.join(SETTINGS)}")
    is_enforced = emission.get("motorway_enforced", False)
    if not isinstance(is_enforced, bool):
        raise EmissionError(f"emission.motorway_enforced: got {is_enforced!r}, expected true or false")
    factors = load_factors(
        emission.get("table", DEFAULT_TABLE),
        emission.get("year", DEFAULT_YEAR),
        motorway_enforced=is_enforced,
    )
    shares = emission.get("fleet", {})
    if not isinstance(shares, Mapping):
        raise EmissionError(f"emission.fleet: got {shares!r}, expected a table [emission.fleet]")
    if not shares:
        return factors
    base = base_fleet()
    return factors.of_fleet(base, with_shares(base, shares))


def _at_limit(
    limits_kmh: NDArray[np.float64], motorway_g_per_km: NDArray[np.float64], limit_kmh: float
) -> NDArray[np.float64]:
    """Linear in the limit, (class, pollutant); the nearest row beyond the limits of the table."""
    at = float(np.clip(limit_kmh, limits_kmh[0], limits_kmh[-1]))
    above = int(np.searchsorted(limits_kmh, at))
    if limits_kmh[above] == at:
        return np.asarray(motorway_g_per_km[:, above])
    low, high = limits_kmh[above - 1], limits_kmh[above]
    weight = (at - low) / (high - low)
    return np.asarray((1.0 - weight) * motorway_g_per_km[:, above - 1] + weight * motorway_g_per_km[:, above])


def _street_of(regime: Regime) -> Regime:
    """The regime that stands for a motorway's in a table without motorways."""
    stands_for = {Regime.MOTORWAY: Regime.RURAL, Regime.MOTORWAY_STAGNATING: Regime.STAGNATING}
    return stands_for.get(regime, regime)


def _motorway_regimes(
    cells: Mapping[tuple[str, str, int], Row], is_enforced: bool, name: str
) -> dict[int, str]:
    """Name of the regime of each speed limit [km/h]."""
    regimes = {regime for _, regime, _ in cells}
    found: dict[int, str] = {}
    for regime in sorted(regimes):  # "motorway_80" comes before "motorway_80_enforced"
        match = _MOTORWAY.fullmatch(regime)
        if match and (is_enforced or not match[2]):
            found[int(match[1])] = regime
    if not found:
        raise EmissionError(f"{name}: motorways by limit (as regime motorway_100): the rows are missing")
    return found


def _factors(
    cells: Mapping[tuple[str, str, int], Row], name: str, vehicle_class: VehicleClass, regime: str, year: int
) -> NDArray[np.float64]:
    """One row [g/km], (pollutant,)."""
    key = (vehicle_class.name.lower(), regime, year)
    where = f"{name}: class {key[0]}, regime {regime}, year {year}"
    if key not in cells:
        raise EmissionError(f"{where}: the row is missing")
    return np.array([number(cells[key], p.name.lower(), where) for p in Pollutant])


def _cells(rows: Sequence[Row], name: str) -> dict[tuple[str, str, int], Row]:
    """Rows by class, regime and year."""
    cells: dict[tuple[str, str, int], Row] = {}
    for row in rows:
        key = (row["class"], row["regime"], int(row["year"]))
        if key in cells:
            raise EmissionError(
                f"{name}: class {key[0]}, regime {key[1]}, year {key[2]}: the row occurs twice"
            )
        cells[key] = row
    return cells


def _year_of(row: Row, name: str) -> int:
    if not (row["year"] or "").isdecimal():
        raise EmissionError(f"{name}: year: got {row['year']!r}, expected a year")
    return int(row["year"])
