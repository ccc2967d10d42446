"""Annual NO2 at the facades of a city against the passive samplers of CurieuzeNeuzen Vlaanderen (2018).

``python -m benchmarks.curieuzeneuzen FILE [--city ghent] [--report FILE.json]``

FILE is the open data set of the project, which is not part of this repository: CSV with columns code,
campaign, no2 [ug/m3], lat and lon (WGS84). Its header tells neither period nor height; the samplers hung for
four weeks of May 2018 at windows of the first floor (the project on eu-citizen.science). Its coordinates lie
on the axes of streets (half of Ghent's within 0.3 m), not at facades: a point within 3.5 m of an axis is
calculated at both facades, half the street's width from the axis, and the mean of the two is compared.

Points farther than 30 m from every street of the network are where its roads end: they are counted, and have
a line of their own.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import shapely
from numpy.typing import NDArray
from pyproj import Transformer
from scipy.stats import rankdata

from cities.dispersion import Dispersion, Model, Why, dispersion_of
from cities.emission_factors import load_factors
from cities.pack import City, CityError, find_city, load_city
from cities.wind_rose import AnnualWind, annual_wind
from kernels import srm1
from kernels.prior import Prior
from kernels.srm2 import SigmaZRule
from kernels.srm2_annual import uniform_rose
from studies.annual_air import PointFlag, annual_air, mean_flows, prior_emission
from studies.prior import prepare_prior

COLUMNS = ("code", "campaign", "no2", "lat", "lon")
ON_NETWORK_M = 30.0  # a point farther from every street has none of its own in the network
WITHIN = 0.25
BUSY_PER_DAY = 5_000.0
BUSY_WITHIN_M = srm1.DISTANCE_MAX_M
OPEN_ROAD_M = 300.0  # of an open road, a point is near it
CAMPAIGN_YEAR = 2018
NOTES = (
    "It can show whether level and pattern of NO2 are plausible, and what traffic adds to the background.",
    "It cannot validate the dispersion alone: traffic is a prior that no sensor has corrected, widths are",
    "mostly those of the class of road, and the background is one value for the whole city, from which only",
    "[background.double_count] has been taken off. Fits are to the same points that they are judged by.",
    "The samplers hung for four weeks of May 2018 on the first floor; the model is an annual mean at 1.5 m.",
)  # fmt: skip


class PointsError(ValueError):
    """A file of measurements that cannot be read; the message names line and column."""


@dataclass(frozen=True, slots=True)
class Points:
    """Measurements within the extent of a network.

    Attributes
    ----------
    no2 : (n,) float64 [ug/m3]
    xy : (n, 2) float64
        As the file has them, in the CRS of the city [m].
    segment : (n,) int64
        Nearest street.
    distance_m : (n,) float64
        From its axis.
    n_outside : int
        Rows beyond the extent of the network.
    """

    no2: NDArray[np.float64]
    xy: NDArray[np.float64]
    segment: NDArray[np.int64]
    distance_m: NDArray[np.float64]
    n_outside: int

    @property
    def is_on_network(self) -> NDArray[np.bool_]:
        return self.distance_m <= ON_NETWORK_M


@dataclass(frozen=True, slots=True)
class Scores:
    """How well modelled values [ug/m3] agree with measured ones; NaN where there is no such figure."""

    n: int
    measured: float
    modelled: float
    bias: float
    rmse: float
    pearson: float
    spearman: float
    within: float

    @classmethod
    def of(cls, measured: NDArray[np.float64], modelled: NDArray[np.float64]) -> Scores:
        """Scores of (n,) pairs; correlations are NaN where one side has no spread."""
        if not measured.size:
            return cls(0, *[math.nan] * 7)
        error = modelled - measured
        return cls(
            n=int(measured.size),
            measured=float(measured.mean()),
            modelled=float(modelled.mean()),
            bias=float(error.mean()),
            rmse=float(np.sqrt((error**2).mean())),
            pearson=_correlation(measured, modelled),
            spearman=_correlation(rankdata(measured), rankdata(modelled)),
            within=float((np.abs(error) <= WITHIN * measured).mean()),
        )


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to calculate: what differs from the city's files."""

    city: City
    emission: NDArray[np.float64]
    dispersion: Dispersion
    wind: AnnualWind


def run(file: Path, city_name: str = "ghent") -> dict[str, Any]:
    """All figures: counts, a row of :class:`Scores` by name for each table, and the fits.

    Raises
    ------
    PointsError, CityError
        For a file or a city that cannot be read.
    """
    city = load_city(find_city(city_name))
    points = read_points(file, city)
    prior = prepare_prior(city, lambda *_: None)
    base = Variant(city, prior_emission(city, prior), dispersion_of(city), annual_wind(city))
    sites = facades(city, points)
    air = annual_air(city, sites, base.emission, dispersion=base.dispersion, wind=base.wind)
    model, background = _mean_of_sides(air.no2), np.full(points.no2.size, air.background.no2)
    on = points.is_on_network
    measured, traffic = points.no2[on], (model - background)[on]
    offset = float((measured - model[on]).mean())
    scale, level = _line(traffic, measured)
    per_day = mean_flows(city, prior).sum(axis=(0, 1)) * 24.0
    is_road = base.dispersion.model == Model.SRM2

    def only(which: NDArray[np.bool_]) -> NDArray[np.float64]:
        part = annual_air(
            city, sites, base.emission * which[:, None], dispersion=base.dispersion, wind=base.wind
        )
        return _mean_of_sides(part.no2)[on]

    tables = {
        "what the model adds": {
            "background alone": background[on],
            "background + streets (SRM1)": only(~is_road),
            "background + open roads (SRM2)": only(is_road),
            "model": model[on],
            "model + fitted offset": model[on] + offset,
            "fitted level + scale x traffic": level + scale * traffic,
        },
        "sensitivity": {
            name: _mean_of_sides(_no2(sites, variant))[on] for name, variant in _variants(base, prior)
        },
    }
    on_axis = annual_air(city, points.xy, base.emission, dispersion=base.dispersion, wind=base.wind)
    tables["sensitivity"]["at the coordinates of the file, on the axis"] = on_axis.no2[on]
    in_road = np.logical_or(*_sides(air.flags & PointFlag.IN_ROAD > 0))
    is_street = (base.dispersion.model != Model.NONE) & ~is_road
    is_type_assumed = base.dispersion.why[is_street] & Why.TYPE_ASSUMED > 0
    return {
        "city": city.name,
        "file": file.name,
        "points": {
            "in the extent of the network": int(on.size),
            "on a street of it": int(on.sum()),
            "beyond its streets": int((~on).sum()),
            "beyond its extent": points.n_outside,
            "median distance from an axis [m]": float(np.median(points.distance_m[on])),
            "a facade lies in another road": int(in_road[on].sum()),
            "outside the window of receptors": int((on_axis.flags & PointFlag.OUTSIDE_WINDOW > 0)[on].sum()),
        },
        "background_ug_m3": asdict(air.background),
        "double_count_ug_m3": asdict(base.dispersion.double_count),
        "emission": {"table": city.emission.table, "year": city.emission.year},
        "streets_of_assumed_type_share": float(is_type_assumed.mean()) if is_street.any() else None,
        "wind": {"mean_m_s": base.wind.mean_m_s, "rose": base.wind.source},
        "nox_t_per_year": float(base.emission[:, 0] @ city.network.length_m * 8760.0 * 3600.0 * 1e-12),
        "fits": {
            "offset_ug_m3": offset,
            "level_ug_m3": level,
            "scale_of_traffic": scale,
            "spearman_of_flow_alone": _correlation(
                rankdata(measured), rankdata(per_day[points.segment[on]])
            ),
        },
        "tables": {
            **{
                title: {name: Scores.of(measured, values) for name, values in rows.items()}
                for title, rows in tables.items()
            },
            "by place": {
                f"{name}, {what}": Scores.of(points.no2[mask], values[mask])
                for name, mask in _places(city, points, base.dispersion, per_day)
                for what, values in (("model", model), ("background", background))
            },
        },
    }  # fmt: skip


def read_points(file: Path, city: City) -> Points:
    """Measurements of a file within the extent of the city's network.

    Raises
    ------
    PointsError
        For a column that is missing, a cell that is no number, or no point on a street of the network.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PointsError(f"{file}: cannot be read: {error}") from error
    reader = csv.DictReader(text.splitlines())
    for column in COLUMNS:
        if column not in (reader.fieldnames or ()):
            raise PointsError(f"{file}: line 1: column {column}: is missing, expected {', '.join(COLUMNS)}")
    rows = [
        [_number(file, reader.line_num, row, c) for c in ("lon", "lat", "no2")]
        for row in reader
    ]  # fmt: skip
    values = np.array(rows, dtype=np.float64).reshape(-1, 3)
    to_metric = Transformer.from_crs("EPSG:4326", city.crs, always_xy=True)
    xy = np.stack(to_metric.transform(values[:, 0], values[:, 1]), axis=1)
    vertices = city.network.vertex_xy
    inside = ((xy >= vertices.min(axis=0)) & (xy <= vertices.max(axis=0))).all(axis=1)
    if not inside.any():
        raise PointsError(f"{file}: none of {inside.size} points lies within the network of {city.name}")
    lines = [shapely.LineString(city.network.polyline(s)) for s in range(city.network.n_segments)]
    (_, segment), distance = shapely.STRtree(lines).query_nearest(
        shapely.points(xy[inside]), return_distance=True, all_matches=False
    )
    if not (distance <= ON_NETWORK_M).any():
        raise PointsError(
            f"{file}: none of {inside.sum()} points within the extent of {city.name} lies within "
            f"{ON_NETWORK_M:g} m of a street"
        )
    return Points(values[inside, 2], xy[inside], segment, distance, int((~inside).sum()))


def facades(city: City, points: Points) -> NDArray[np.float64]:
    """Where each point is calculated, (2 n, 2) [m]: all left sides, then all right sides.

    A point within 3.5 m of an axis goes to both facades of its street; any other stays on both sides.
    """
    sides = np.stack([points.xy, points.xy])
    for i in np.flatnonzero(points.distance_m < srm1.DISTANCE_MIN_M):
        line = shapely.LineString(city.network.polyline(int(points.segment[i])))
        at = line.project(shapely.Point(points.xy[i]))
        before, after = line.interpolate(max(at - 0.5, 0.0)), line.interpolate(min(at + 0.5, line.length))
        along = np.array([after.x - before.x, after.y - before.y])
        along /= np.hypot(*along)
        foot = line.interpolate(at)
        across = np.array([-along[1], along[0]]) * city.width_m[points.segment[i]] / 2.0
        axis = np.array([foot.x, foot.y])
        sides[0, i], sides[1, i] = axis + across, axis - across
    return sides.reshape(-1, 2)


def _variants(base: Variant, prior: Prior) -> Iterator[tuple[str, Variant]]:
    city, dispersion = base.city, base.dispersion
    is_street = (dispersion.model != Model.NONE) & (dispersion.model != Model.SRM2)
    for model, name in ((Model.SRM1_NARROW_CANYON, "narrow"), (Model.SRM1_BROAD_CANYON, "broad")):
        models = np.where(is_street, np.int8(model), dispersion.model)
        yield (
            f"all streets of type {int(model)} ({name} canyon)",
            replace(base, dispersion=replace(dispersion, model=models)),
        )
    for rule in (SigmaZRule.VIRTUAL, SigmaZRule.QUADRATURE):
        yield f"sigma_z by {rule.name.lower()}", replace(base, dispersion=replace(base.dispersion, rule=rule))
    alike = uniform_rose(base.wind.mean_m_s)
    yield "all wind directions alike", replace(base, wind=replace(base.wind, rose=alike))
    for table, year in (("netherlands", city.emission.year), (city.emission.table, CAMPAIGN_YEAR)):
        other = replace(city, emission=load_factors(table, year))
        yield f"emission factors: {table} {year}", replace(base, emission=prior_emission(other, prior))


def _places(
    city: City, points: Points, dispersion: Dispersion, per_day: NDArray[np.float64]
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Groups of points by where they lie."""
    on = points.is_on_network
    is_road = dispersion.model == Model.SRM2
    is_busy = (per_day >= BUSY_PER_DAY) & ~is_road
    near_busy = _is_within(city, points.xy, is_busy, BUSY_WITHIN_M)
    near_road = _is_within(city, points.xy, is_road, OPEN_ROAD_M)
    model = dispersion.model[points.segment]
    yield f"within {BUSY_WITHIN_M:.0f} m of a street of {BUSY_PER_DAY:,.0f} vehicles a day", on & near_busy
    yield f"no such street within {BUSY_WITHIN_M:.0f} m", on & ~near_busy
    yield f"within {OPEN_ROAD_M:.0f} m of an open road", on & near_road
    yield "farther from every open road", on & ~near_road
    yield "on an SRM1 street", on & (model != Model.SRM2) & (model != Model.NONE)
    yield "on an SRM2 road", on & (model == Model.SRM2)
    yield "on a way without motor traffic", on & (model == Model.NONE)
    yield "beyond the streets of the network", ~on


def _is_within(
    city: City, xy: NDArray[np.float64], which: NDArray[np.bool_], distance_m: float
) -> NDArray[np.bool_]:
    near = np.zeros(xy.shape[0], dtype=np.bool_)
    lines = [shapely.LineString(city.network.polyline(int(s))) for s in np.flatnonzero(which)]
    near[shapely.STRtree(lines).query(shapely.points(xy), "dwithin", distance_m)[0]] = True
    return near


def _no2(xy: NDArray[np.float64], variant: Variant) -> NDArray[np.float64]:
    air = annual_air(
        variant.city, xy, variant.emission,
        dispersion=variant.dispersion, wind=variant.wind,
    )  # fmt: skip
    return air.no2


def _sides(values: NDArray[Any]) -> NDArray[Any]:
    return values.reshape(2, -1)


def _mean_of_sides(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(_sides(values).mean(axis=0))


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and intercept by least squares; slope 0 where x has no spread."""
    spread = float(((x - x.mean()) ** 2).sum())
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread if spread > 0.0 else 0.0
    return slope, float(y.mean()) - slope * float(x.mean())


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if a.size < 2 or np.ptp(a) == 0.0 or np.ptp(b) == 0.0:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


def _number(file: Path, line: int, row: dict[str, Any], column: str) -> float:
    try:
        value = float(row[column])
    except (TypeError, ValueError):
        value = math.nan
    limit = {"lat": 90.0, "lon": 180.0}.get(column, math.inf)
    if not math.isfinite(value) or abs(value) > limit or (column == "no2" and value < 0.0):
        expected = "ug/m3 of at least 0" if column == "no2" else "degrees"
        raise PointsError(f"{file}: line {line}: column {column}: got {row[column]!r}, expected {expected}")
    return value


def table_text(figures: dict[str, Any]) -> str:
    """The figures as a table."""
    lines = [f"Annual NO2 of {figures['city']} against {figures['file']} [ug/m3]", ""]
    lines += [
        f"  {name:<38} {f'{value:.2f}' if isinstance(value, float) else value}"
        for name, value in figures["points"].items()
    ]
    fits, wind, emission = figures["fits"], figures["wind"], figures["emission"]
    assumed, no2 = figures["streets_of_assumed_type_share"], figures["background_ug_m3"]["no2"]
    facts = {
        "background NO2 [ug/m3]": f"{no2:.1f} ({figures['double_count_ug_m3']['no2']:.1f} taken off)",
        "emission factors": f"{emission['table']} {emission['year']}",
        "NOx of traffic [t/year]": f"{figures['nox_t_per_year']:,.0f}",
        "SRM1 streets whose type is assumed": "none" if assumed is None else f"{assumed:.0%}",
        "wind": f"{wind['mean_m_s']:g} m/s; rose {wind['rose']}",
        "fitted offset [ug/m3]": f"{fits['offset_ug_m3']:+.2f}",
        "fitted level, scale of traffic": f"{fits['level_ug_m3']:.2f}, {fits['scale_of_traffic']:.2f}",
        "rank correlation of the street's flow": f"{fits['spearman_of_flow_alone']:.2f}",
    }
    lines += [f"  {name:<38} {value}" for name, value in facts.items()]
    for title, rows in figures["tables"].items():
        width = max(len(name) for name in rows)
        lines += [
            "",
            f"{title:<{width}}     n  measured  modelled   bias  RMSE  Pearson  rank  within {WITHIN:.0%}",
        ]
        lines += [
            f"{name:<{width}} {s.n:5d}  {_cell(s.measured, 8)}  {_cell(s.modelled, 8)}"
            f" {_cell(s.bias, 6, sign='+')} {_cell(s.rmse, 5)}  {_cell(s.pearson, 7, 2)}"
            f" {_cell(s.spearman, 5, 2)}  {_cell(s.within, 10, 2)}"
            for name, s in rows.items()
        ]
    return "\n".join([*lines, "", *NOTES])


def _cell(value: float, width: int, digits: int = 1, sign: str = "-") -> str:
    return f"{'-':>{width}}" if math.isnan(value) else f"{value:{sign}{width}.{digits}f}"


def main(arguments: list[str] | None = None) -> int:
    """Compare annual NO2 with the samplers of CurieuzeNeuzen Vlaanderen."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.curieuzeneuzen",
        description=main.__doc__,
        epilog="example: python -m benchmarks.curieuzeneuzen CN_Flanders_open_dataset.csv",
    )
    parser.add_argument("file", type=Path, help="the project's open data set (CSV)")
    parser.add_argument("--city", default="ghent", help="name or folder of a city pack")
    parser.add_argument("--report", type=Path, help="write the figures as JSON")
    options = parser.parse_args(arguments)
    try:
        figures = run(options.file, options.city)
    except (PointsError, CityError) as error:
        print(error, file=sys.stderr)
        return 2
    print(table_text(figures))
    if options.report is not None:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2) + b"\n")
        print(f"\nwritten to {options.report}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
