"""Air against known results: streets of SRM1 as CSV, cases of SRM2 as JSON.

**CSV.** One street a line, the columns of benchmarks/data/srm1_reference_streets.csv; lines with # are
comments. Emissions [ug/m/s] are taken as they are, uncongested and congested (``_cong``) apart; what is
calculated and compared are theta, the contributions of NOx, direct NO2, NO2, PM10 and PM2.5 [ug/m3], and
F_regio where a column ``wind_m_s`` gives the wind it comes from (without it F_regio is taken as it is).
``road_type`` has CAR's numbers: 3a, 3b, 4 (one side), 2 (other).

**JSON.** An object with ``format`` "twinroom-srm2-cases", ``version`` 1, ``note`` (what the numbers are and
whether they are independent) and ``cases``. A case has ``id``, ``kind``, the fields of its kind, ``expected``
and optionally ``tolerance`` (relative, 1e-9 where it is missing: as many figures as the expected value has)
and ``source``. tests/data/srm2_unit_cases.json has one of each kind:

============ ============================================================================ ====================
kind         fields                                                                       expected
============ ============================================================================ ====================
point        sigma_z_rule, roughness_m, sigma_z0_m, distance_m, wind_m_s, emission_ug_s   contribution_ug_m3
wind_factor  roughness_m, sigma_z_m                                                       c_wind
spread       sigma_z_rule, roughness_m, sigma_z0_m, distance_m                            sigma_z_m
start_value  is_motorway, elevation_m, side_angle_deg, is_viaduct, barriers (up to two    sigma_z0_m
             of kind "screen" or "wall" and height_m); all but the first optional
road         sigma_z_rule, roughness_m, sigma_z0_m, line and receptor [m], nox_ug_m_s,    nox_ug_m3, no2_ug_m3
             no2_ug_m_s, o3_ug_m3, wind_rose (12 frequency, 12 wind_m_s, start_deg)
============ ============================================================================ ====================
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kernels import srm1, srm2, srm2_annual
from kernels.chemistry import no2_contribution
from kernels.sigma_z0 import Barrier, BarrierKind, start_value
from kernels.srm1 import RoadType
from kernels.srm2 import SigmaZRule, Srm2Error
from studies.validate import CasesError, Check, Conformity, relative_check

TOLERANCE = 1e-9
FORMAT, VERSION = "twinroom-srm2-cases", 1
TYPE_OF_CAR: Mapping[str, RoadType] = {
    "2": RoadType.GENERAL,
    "3a": RoadType.BROAD_CANYON,
    "3b": RoadType.NARROW_CANYON,
    "4": RoadType.ONE_SIDED,
}
SUBSTANCES = ("NOx", "NO2", "PM10", "PM25")
COLUMNS = (
    "place", "street", "road_type", "tree", "dist_m", "bg_O3", "theta", "F_regio",
    *(f"E_{s}{part}" for s in SUBSTANCES for part in ("", "_cong")),
    "C_NOx", "C_NO2_direct", "C_NO2", "C_PM10", "C_PM25",
)  # fmt: skip


def validate_air(cases: Path) -> Conformity:
    """Calculate every case of a file and compare.

    Raises
    ------
    CasesError
        For a file that cannot be read, naming line and column, or case and field.
    """
    try:
        text = cases.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise CasesError(f"{cases}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        column = error.start - error.object.rfind(b"\n", 0, error.start)
        raise CasesError(f"{cases}: line {line}, column {column}: is not UTF-8") from error
    kind = cases.suffix.lower()
    if kind == ".csv":
        return _streets(cases, text)
    if kind == ".json":
        return _unit_cases(cases, text)
    raise CasesError(f"{cases}: got a name that ends in {kind!r}, expected .csv (SRM1) or .json (SRM2)")


@dataclass(frozen=True, slots=True)
class _Row:
    """One street and where it stands in its file."""

    file: Path
    line: int
    cells: Mapping[str, str]

    def number(self, column: str, *, above: float = -math.inf, least: float = -math.inf) -> float:
        try:
            value = float(self.cells[column])
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value <= above or value < least:
            limits = f" above {above:g}" if above > -math.inf else f" of at least {least:g}"
            raise self.error(column, f"a number{limits if max(above, least) > -math.inf else ''}")
        return value

    def error(self, column: str, expected: str) -> CasesError:
        return CasesError(
            f"{self.file}: line {self.line}, column {column}: got {self.cells[column]!r}, expected {expected}"
        )


def _streets(file: Path, text: str) -> Conformity:
    checks: list[Check] = []
    columns: list[str] = []
    for row in _rows(file, text):
        columns = list(row.cells)
        checks += _street_checks(row)
    if not checks:
        raise CasesError(f"{file}: line {text.count(chr(10)) + 1}: has no streets, expected one a line")
    notes = ["SRM1 by the streets of a file; emissions are taken as they are."]
    if "wind_m_s" not in columns:
        notes.append("F_regio is taken as it is: no column wind_m_s tells the wind it comes from.")
    known = {*COLUMNS, "wind_m_s"}
    if left := [c for c in columns if c.startswith("C_") and c not in known]:
        notes.append(f"Not compared, for there is no emission of it: {', '.join(left)}.")
    return Conformity("air", file, tuple(checks), tuple(notes))


def _rows(file: Path, text: str) -> Iterator[_Row]:
    header: list[str] | None = None
    for number, line in enumerate(text.split("\n"), start=1):
        if line.startswith("#") or not line.strip():
            continue
        try:
            cells = [cell.strip() for cell in next(csv.reader([line.rstrip("\r")]))]
        except csv.Error as error:
            raise CasesError(f"{file}: line {number}, column 1: {error}") from error
        if header is None:
            header = cells
            _check_header(file, number, header)
            continue
        if len(cells) != len(header):
            at = header[len(cells)] if len(cells) < len(header) else f"number {len(header) + 1}"
            raise CasesError(
                f"{file}: line {number}, column {at}: got {len(cells)} cells, expected {len(header)}"
            )
        yield _Row(file, number, dict(zip(header, cells, strict=True)))


def _check_header(file: Path, number: int, header: list[str]) -> None:
    for column in COLUMNS:
        if column not in header:
            hint = "; the columns must be separated by commas" if len(header) == 1 else ""
            raise CasesError(f"{file}: line {number}, column {column}: is missing{hint}")
    for column in header:
        if header.count(column) > 1:
            raise CasesError(f"{file}: line {number}, column {column}: occurs twice")


def _street_checks(row: _Row) -> list[Check]:
    case = f"line {row.line}, {row.cells['place']} {row.cells['street']}"
    road_type = TYPE_OF_CAR.get(row.cells["road_type"])
    if road_type is None:
        raise row.error("road_type", f"one of {', '.join(TYPE_OF_CAR)}")
    tree = row.number("tree")
    if tree not in srm1.TREE_FACTORS:
        raise row.error("tree", "one of 1, 1.25, 1.5")
    distance, o3 = row.number("dist_m", above=0.0), row.number("bg_O3", least=0.0)
    factor = row.number("F_regio", above=0.0)
    wind = srm1.REFERENCE_WIND_M_S / factor
    dispersion = [("theta", row.number("theta"), srm1.dilution(distance, road_type))]
    if "wind_m_s" in row.cells:
        wind = row.number("wind_m_s", above=0.0)
        dispersion.append(("F_regio", factor, srm1.regional_factor(wind)))

    def contribution(substance: str) -> float:
        emission = sum(row.number(f"E_{substance}{part}", least=0.0) for part in ("", "_cong"))
        return srm1.annual_contribution(emission, distance, road_type, wind, tree)

    nox, direct, pm10, pm25 = (contribution(substance) for substance in SUBSTANCES)
    no2 = no2_contribution(nox, direct, o3)
    groups = {
        "dispersion": dispersion,
        "NOx": [("C_NOx", row.number("C_NOx"), nox)],
        "NO2": [
            ("C_NO2_direct", row.number("C_NO2_direct"), direct),
            ("C_NO2", row.number("C_NO2"), no2),
        ],
        "PM": [("C_PM10", row.number("C_PM10"), pm10), ("C_PM25", row.number("C_PM25"), pm25)],
    }
    validity = srm1.validity(distance, road_type, tree)
    note = "" if validity.is_inside else f"outside SRM1: {_words(validity)}"
    return [relative_check(case, name, values, TOLERANCE, note) for name, values in groups.items()]


def _words(validity: srm1.Validity) -> str:
    return ", ".join(str(flag.name).lower().replace("_", " ") for flag in validity)


class _Case:
    """Fields of one JSON object; what is asked for is checked, what is left over is refused."""

    def __init__(self, where: str, fields: Any) -> None:
        if not isinstance(fields, dict):
            raise CasesError(f"{where}: got {fields!r}, expected an object")
        self.where = where
        self._fields = dict(fields)

    def holds(self, field: str) -> bool:
        return field in self._fields

    def take(self, field: str, *default: Any) -> Any:
        if field not in self._fields:
            if default:
                return default[0]
            raise CasesError(f"{self.where}: {field}: is missing")
        return self._fields.pop(field)

    def number(self, field: str, *default: float) -> float:
        value = self.take(field, *default)
        number = math.nan
        if isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool)):
            number = float(value) if abs(value) < 1e300 else math.inf
        if not math.isfinite(number):
            raise self.error(field, value, "a number")
        return number

    def flag(self, field: str, *default: bool) -> bool:
        value = self.take(field, *default)
        if not isinstance(value, bool):
            raise self.error(field, value, "true or false")
        return value

    def choice(self, field: str, allowed: tuple[str, ...]) -> str:
        value = self.take(field)
        if value not in allowed:
            raise self.error(field, value, f"one of {', '.join(allowed)}")
        return str(value)

    def numbers(self, field: str, shape: tuple[int | None, ...]) -> np.ndarray[Any, np.dtype[np.float64]]:
        value = self.take(field)
        try:
            array = np.array(value)
        except ValueError:  # rows of unequal length
            array = np.array(None)
        fits = (
            array.dtype.kind in "iuf"
            and array.ndim == len(shape)
            and all(n is None or n == m for n, m in zip(shape, array.shape, strict=True))
        )
        if not fits or not np.isfinite(array).all():
            sizes = " x ".join("n" if n is None else str(n) for n in shape)
            raise self.error(field, value, f"{sizes} numbers")
        return array.astype(np.float64)

    def part(self, field: str) -> _Case:
        return _Case(f"{self.where}: {field}", self.take(field))

    def finish(self) -> None:
        if self._fields:
            raise CasesError(f"{self.where}: {min(self._fields)}: is not known")

    def error(self, field: str, value: Any, expected: str) -> CasesError:
        return CasesError(f"{self.where}: {field}: got {value!r}, expected {expected}")


def _unit_cases(file: Path, text: str) -> Conformity:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise CasesError(f"{file}: line {error.lineno}, column {error.colno}: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
        raise CasesError(f"{file}: is not JSON that can be read: {error}") from error
    whole = _Case(str(file), content)
    whole.choice("format", (FORMAT,))
    if (version := whole.take("version")) != VERSION:
        raise whole.error("version", version, str(VERSION))
    note, cases = str(whole.take("note", "")), whole.take("cases")
    whole.finish()
    if not isinstance(cases, list) or not cases:
        raise CasesError(f"{file}: cases: expected one or more")
    checks = []
    for number, fields in enumerate(cases, start=1):
        name = fields.get("id") if isinstance(fields, dict) else None
        place = re.search(rf'"id"\s*:\s*{re.escape(json.dumps(name, ensure_ascii=False))}', text)
        line = f"line {text[: place.start()].count(chr(10)) + 1}, " if place else ""
        where = f"{file}: {line}case {f'number {number}' if name is None else name}"
        try:
            checks.append(_check_of(_Case(where, fields)))
        except Srm2Error as error:
            raise CasesError(f"{where}: {error}") from error
    names = [check.case for check in checks]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise CasesError(f"{file}: case {twice}: id: occurs twice")
    notes = ["SRM2 by the cases of a file; each names its rule of the vertical spread."]
    if note:
        notes.append(note)
    return Conformity("air", file, tuple(checks), tuple(notes))


def _check_of(case: _Case) -> Check:
    name = str(case.take("id"))
    kind = case.choice("kind", tuple(_CALCULATIONS))
    tolerance = case.number("tolerance", TOLERANCE)
    if not tolerance >= 0.0:
        raise case.error("tolerance", tolerance, "at least 0")
    case.take("source", "")
    expected = case.part("expected")
    calculated, note = _CALCULATIONS[kind](case)
    case.finish()
    values = [
        (quantity, expected.number(quantity), got)
        for quantity, got in calculated.items()
        if expected.holds(quantity)
    ]
    expected.finish()
    if not values:
        raise CasesError(f"{case.where}: expected: is empty, expected one of {', '.join(calculated)}")
    return relative_check(name, ", ".join(quantity for quantity, _, _ in values), values, tolerance, note)


def _rule(case: _Case) -> SigmaZRule:
    return SigmaZRule[case.choice("sigma_z_rule", tuple(rule.name.lower() for rule in SigmaZRule)).upper()]


def _named(rule: SigmaZRule) -> str:
    return f"sigma_z {rule.name.lower()}"


def _positive(case: _Case, field: str) -> float:
    value = case.number(field)
    if not value > 0.0:
        raise case.error(field, value, "a number above 0")
    return value


def _least(case: _Case, field: str, *default: float) -> float:
    value = case.number(field, *default)
    if not value >= 0.0:
        raise case.error(field, value, "a number of at least 0")
    return value


def _point(case: _Case) -> tuple[dict[str, float], str]:
    rule, roughness = _rule(case), srm2.roughness_class(case.number("roughness_m"))
    value = srm2.annual_point_contribution(
        case.number("distance_m"), case.number("wind_m_s"), roughness, _positive(case, "sigma_z0_m"), rule
    )
    return {"contribution_ug_m3": value * _least(case, "emission_ug_s")}, _named(rule)


def _wind_factor(case: _Case) -> tuple[dict[str, float], str]:
    roughness = srm2.roughness_class(case.number("roughness_m"))
    return {"c_wind": srm2.wind_factor(_positive(case, "sigma_z_m"), roughness)}, ""


def _spread(case: _Case) -> tuple[dict[str, float], str]:
    rule, roughness = _rule(case), srm2.roughness_class(case.number("roughness_m"))
    value = srm2.sigma_z(_positive(case, "distance_m"), roughness, _positive(case, "sigma_z0_m"), rule)
    return {"sigma_z_m": value}, _named(rule)


def _start_value(case: _Case) -> tuple[dict[str, float], str]:
    barriers = case.take("barriers", [])
    if not isinstance(barriers, list) or len(barriers) > 2:
        raise case.error("barriers", barriers, "at most two")
    sides: list[Barrier | None] = [None, None]
    for number, fields in enumerate(barriers):
        barrier = _Case(f"{case.where}: barriers[{number}]", fields)
        kind = BarrierKind[barrier.choice("kind", ("screen", "wall")).upper()]
        sides[number] = Barrier(kind, barrier.number("height_m"))
        barrier.finish()
    value = start_value(
        is_motorway=case.flag("is_motorway"),
        elevation_m=case.number("elevation_m", 0.0),
        side_angle_deg=case.number("side_angle_deg", 0.0),
        is_viaduct=case.flag("is_viaduct", False),
        left=sides[0],
        right=sides[1],
    )
    return {"sigma_z0_m": value}, ""


def _road(case: _Case) -> tuple[dict[str, float], str]:
    rule, roughness = _rule(case), srm2.roughness_class(case.number("roughness_m"))
    roads = srm2_annual.roads_of([case.numbers("line", (None, 2))], np.array([case.number("sigma_z0_m")]))
    x, y = case.numbers("receptor", (2,))
    emission = np.array([[_least(case, "nox_ug_m_s"), _least(case, "no2_ug_m_s", 0.0)]])
    o3 = _least(case, "o3_ug_m3", 0.0)
    wind = case.part("wind_rose")
    rose = srm2_annual.WindRose(
        wind.numbers("frequency", (None,)), wind.numbers("wind_m_s", (None,)), wind.number("start_deg", -15.0)
    )
    wind.finish()
    sectors = srm2_annual.sector_contributions(
        np.array([x]), np.array([y]), roads, emission, rose, roughness, rule
    )
    nox = float(srm2_annual.annual_mean(sectors, rose)[0, 0])
    no2 = float(srm2_annual.annual_no2(sectors[:, :, 0], sectors[:, :, 1], o3, rose)[0])
    return {"nox_ug_m3": nox, "no2_ug_m3": no2}, _named(rule)


_CALCULATIONS = {
    "point": _point,
    "wind_factor": _wind_factor,
    "spread": _spread,
    "start_value": _start_value,
    "road": _road,
}
