"""A study: noise and air at given points for given traffic, by the kernels of the control room."""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import shapely
from numpy.typing import NDArray

from cities.cache import Progress
from cities.noise_geometry import has_obstacles, read_noise_geometry
from cities.pack import City
from kernels import srm1
from kernels.cnossos import a_weighted_db
from kernels.network import Mode
from kernels.obstacles import Obstacles, index_obstacles
from kernels.periods import Period, lden_db
from kernels.point_levels import (
    OWN_FACADE_M,
    PointEnergies,
    no_faces,
    point_energies,
    point_roads,
    reflecting_faces,
)
from kernels.propagation import MAX_DISTANCE_M, OCTAVE_BANDS_HZ, air_absorption_db_per_km
from studies.annual_air import PointFlag, annual_air
from studies.study_receptors import StudyReceptors, read_receptors
from studies.study_settings import StudyOptions, StudySettings, study_settings
from studies.study_tables import StudyError
from studies.study_traffic import (
    N_PERIODS,
    StudyTraffic,
    read_traffic,
    traffic_emission,
    traffic_power,
)

LOWEST_M = 2.0  # receptors below it are out of the range of the method for noise
AIR_HEIGHT_M = 1.5
FLAGS = {
    "indoors": "inside a building, below its top: no level there",
    "in_road": f"nearer than {srm1.DISTANCE_MIN_M:g} m to the axis of a road with traffic",
    "nearer_than_fit": f"nearer than {srm1.POLYNOMIAL_FROM_M:g} m to a street: before its fit of air begins",
    "outside_window": "beyond the receptors of the city: roads there may be missing from the network",
    "outside_network": "beyond the extent of the network",
    "outside_geometry": "beyond the ground and buildings of the pack, 100 m around its roads: no level",
    "no_road_within_distance": "no road with traffic within the distance: no level there",
    "own_facade": f"within {OWN_FACADE_M:g} m of a facade, whose reflection is left out",
    "below_2_m": "lower than the method for noise is valid for",
}
LEVELS = ("lday", "levening", "lnight")
AIR = ("no2_ug_m3", "pm10_ug_m3", "pm25_ug_m3")
COLUMNS = (
    "id",
    *(f"{name}_dba" for name in (*LEVELS, "lden")),
    *(f"{name}_{band:.0f}_db" for name in LEVELS for band in OCTAVE_BANDS_HZ),
    *AIR,
    "flags",
)
_TOLD = 5  # names in a finding


@dataclass(frozen=True, slots=True)
class Study:
    """What a study has found.

    Attributes
    ----------
    receptors : StudyReceptors
    octave_db : (n, 3, 8) float64
        Level of each octave band in day, evening and night, not weighted [dB]; NaN where unknown.
    level_dba : (n, 3) float64
        A-weighted.
    lden_dba : (n,) float64
    air_ug_m3 : (n, 3) float64
        Annual mean NO2, PM10 and PM2.5; NaN where unknown.
    flags : list of list of str
        Of each receptor, keys of :data:`FLAGS`.
    settings : StudySettings
    counts, seconds : dict
        For the report.
    findings : list of str
    """

    receptors: StudyReceptors
    octave_db: NDArray[np.float64]
    level_dba: NDArray[np.float64]
    lden_dba: NDArray[np.float64]
    air_ug_m3: NDArray[np.float64]
    flags: list[list[str]]
    settings: StudySettings
    counts: dict[str, int]
    findings: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def study(
    city: City, traffic_file: Path, receptors_file: Path, options: StudyOptions, progress: Progress
) -> Study:
    """Noise and air at the points of a file for the traffic of a file.

    Parameters
    ----------
    city : City
    traffic_file, receptors_file : Path
        See docs/study.md.
    options : StudyOptions
    progress : callable

    Raises
    ------
    StudyError
        For a table or option with which nothing can be calculated.
    CityError
        For a pack that does not fit.
    """
    settings = study_settings(city, options)
    traffic = read_traffic(traffic_file, city)
    receptors = read_receptors(receptors_file, city, settings.height_m)
    findings = [*_traffic_findings(city, traffic, settings), *_setting_findings(settings, options)]
    started = time.monotonic()
    progress("study: buildings and ground", 0.0)
    obstacles = _obstacles(city, settings, findings)
    progress("study: buildings and ground", 1.0)
    at_noise = time.monotonic()
    inside = _within(obstacles, receptors.xy)
    heard, octave_db = _noise(city, traffic, receptors, settings, obstacles, inside, progress)
    at_air = time.monotonic()
    air, is_before_fit = _air(city, traffic, receptors, settings, findings, progress)
    ended = time.monotonic()

    level = a_weighted_db(np.where(np.isnan(octave_db), -np.inf, octave_db))
    level[np.isneginf(level)] = np.nan
    flags = _flags(city, traffic, receptors, heard, inside, is_before_fit)
    findings += _receptor_findings(receptors, flags)
    if heard.n_lost:
        findings.append(f"{heard.n_lost} paths cross too many walls and were left out")
    counts = {
        "receptors": len(receptors.ids),
        "receptors_with_level": int(np.isfinite(level).any(axis=1).sum()),
        "traffic_rows": traffic.n_rows,
        "traffic_rows_without_speed": traffic.n_without_speed,
        "traffic_rows_ignored": sum(traffic.ignored.values()),
        "segments_with_traffic": int(np.unique(traffic.segment[traffic.flow_per_h > 0.0]).size),
        "segments": city.network.n_segments,
        "paths": heard.n_paths,
        "reflected_paths": heard.n_reflected,
        "lost_paths": heard.n_lost,
    }
    seconds = {
        "buildings_and_ground": at_noise - started, "noise": at_air - at_noise, "air": ended - at_air,
    }  # fmt: skip
    return Study(
        receptors, octave_db, level, _lden(level, traffic, settings), air, flags, settings, counts, findings,
        {name: round(value, 2) for name, value in seconds.items()},
    )  # fmt: skip


def _obstacles(city: City, settings: StudySettings, findings: list[str]) -> Obstacles:
    """What stands in the city; without buildings, screens and terrain open ground, as in the live room."""
    if not has_obstacles(city.folder):
        findings.append("noise: the pack has no buildings, screens or terrain: over open level ground")
        xy, margin = city.network.vertex_xy, settings.distance_m + 1000.0
        low, high = xy.min(axis=0) - margin, xy.max(axis=0) + margin
        columns, rows = (int(n) for n in np.ceil((high - low) / 1000.0))
        none = np.empty(0)
        return index_obstacles(
            (float(low[0]), float(low[1])), (rows, columns), np.empty((0, 4)), none.astype(np.int32), none, 0,
            settings.ground_factor, cell_m=1000.0,
        )  # fmt: skip
    geometry = read_noise_geometry(city, settings.ground_factor)
    findings += [f"noise: {told}" for told in geometry.findings]
    if settings.is_one_ground:
        return geometry.obstacles._replace(g=np.array([settings.ground_factor], dtype=np.float32))
    return geometry.obstacles


def _within(obstacles: Obstacles, xy: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Points on the grid of the obstacles."""
    cell = (xy - obstacles.origin) / obstacles.cell_m
    return np.asarray(((cell >= 0.0) & (cell < [obstacles.n_columns, obstacles.n_rows])).all(axis=1))


def _noise(
    city: City,
    traffic: StudyTraffic,
    receptors: StudyReceptors,
    settings: StudySettings,
    obstacles: Obstacles,
    inside: NDArray[np.bool_],
    progress: Progress,
) -> tuple[PointEnergies, NDArray[np.float64]]:
    """Energies of the receptors on the grid, and octave levels of all of them (n, 3, 8)."""
    power = traffic_power(
        city, traffic, settings.surface, settings.atmosphere.temperature_c, settings.coefficients
    )
    segments = np.flatnonzero(power.any(axis=(1, 2)))
    heard = point_energies(
        receptors.xy[inside],
        receptors.height_m[inside],
        obstacles,
        reflecting_faces(obstacles, settings.wall_absorption) if settings.reflections else no_faces(),
        point_roads(city.network, segments, power[segments], obstacles.origin),
        air_absorption_db_per_km(settings.atmosphere),
        settings.p_favourable,
        settings.distance_m,
        lambda done: progress("study: noise at points", done),
    )
    octave_db = np.full((len(receptors.ids), N_PERIODS, 8), np.nan)
    with np.errstate(divide="ignore"):
        octave_db[inside] = 10.0 * np.log10(heard.energy)
    octave_db[np.isneginf(octave_db)] = np.nan
    return heard, octave_db


def _lden(level: NDArray[np.float64], traffic: StudyTraffic, settings: StudySettings) -> NDArray[np.float64]:
    """Lden (n,); unknown where the traffic of a whole period is."""
    if not traffic.has_period.all():
        return np.full(level.shape[0], np.nan)
    day, evening, night = np.where(np.isnan(level), -np.inf, level).T
    lden = lden_db(day, evening, night, settings.periods)
    return np.where(np.isneginf(lden), np.nan, lden)


def _air(
    city: City,
    traffic: StudyTraffic,
    receptors: StudyReceptors,
    settings: StudySettings,
    findings: list[str],
    progress: Progress,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Annual means (n, 3) for the mean traffic of the day, and points before the fit of SRM1."""
    n = len(receptors.ids)
    unknown = np.full((n, len(AIR)), np.nan), np.zeros(n, dtype=np.bool_)
    if "background" not in city.settings:
        findings.append("air: city.toml has no [background]: concentrations are unknown")
        return unknown
    if not traffic.has_period.all():
        findings.append("air: the traffic of a whole period is unknown, so the mean is: no concentrations")
        return unknown
    progress("study: air at points", 0.0)
    emission = mean_emission(traffic_emission(city, traffic), settings)
    found = annual_air(city, receptors.xy, emission)
    progress("study: air at points", 1.0)
    values = np.stack([found.no2, found.pm10, found.pm25], axis=1)
    return values, (found.flags & PointFlag.NEARER_THAN_FIT) != 0


def mean_emission(emission: NDArray[np.float64], settings: StudySettings) -> NDArray[np.float64]:
    """Mean over the day of emissions in day, evening and night; (n_segments, 3, 4) to (n_segments, 4)."""
    hours = np.array(settings.periods.hours, dtype=np.float64)
    return np.asarray(np.einsum("spk,p->sk", emission, hours / hours.sum()))


def _flags(
    city: City,
    traffic: StudyTraffic,
    receptors: StudyReceptors,
    heard: PointEnergies,
    inside: NDArray[np.bool_],
    is_before_fit: NDArray[np.bool_],
) -> list[list[str]]:
    xy = receptors.xy
    low, high = city.network.vertex_xy.min(axis=0), city.network.vertex_xy.max(axis=0)
    busy = np.unique(traffic.segment[traffic.flow_per_h > 0.0])
    lines = shapely.STRtree([shapely.LineString(city.network.polyline(int(s))) for s in busy])
    in_road = np.zeros(xy.shape[0], dtype=np.bool_)
    in_road[lines.query(shapely.points(xy), predicate="dwithin", distance=srm1.DISTANCE_MIN_M)[0]] = True

    def on_grid(values: NDArray[np.bool_], elsewhere: bool) -> NDArray[np.bool_]:
        out = np.full(xy.shape[0], elsewhere)
        out[inside] = values
        return out

    is_indoors = on_grid(heard.is_indoors, False)
    has = {
        "indoors": is_indoors,
        "in_road": in_road,
        "nearer_than_fit": is_before_fit,
        "outside_window": city.grid.cell_of(xy) < 0,
        "outside_network": ((xy < low) | (xy > high)).any(axis=1),
        "outside_geometry": ~inside,
        "no_road_within_distance": ~on_grid(heard.is_reached | heard.is_indoors, True),
        "own_facade": on_grid(heard.is_at_facade, False),
        "below_2_m": receptors.height_m < LOWEST_M,
    }
    return [[name for name in FLAGS if has[name][k]] for k in range(xy.shape[0])]


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
    return f"{', '.join(names[:_TOLD])}{more}"


def _receptor_findings(receptors: StudyReceptors, flags: list[list[str]]) -> list[str]:
    found = []
    for flag, meaning in FLAGS.items():
        names = [name for name, of in zip(receptors.ids, flags, strict=True) if flag in of]
        if names:
            found.append(f"receptors: {len(names)} {flag} ({meaning}): {_names(names)}")
    return found


def _traffic_findings(city: City, traffic: StudyTraffic, settings: StudySettings) -> list[str]:
    found = []
    for mode, count in traffic.ignored.items():
        found.append(f"traffic: {count} rows of {mode} left out: they have no emission")
    if traffic.has_direction:
        found.append("traffic: flows of both directions of a segment were added, each at its own speed")
    absent = [p.name.lower() for p in Period if not traffic.has_period[p]]
    if absent:
        found.append(f"traffic: no row of {' and '.join(absent)}: that level and Lden are unknown")
    count = int(((traffic.mode == Mode.MOTORCYCLE) & (traffic.flow_per_h > 0.0)).sum())
    if count:
        found.append(
            f"traffic: {count} rows of motorcycle count for noise alone: they have no emission factors"
        )
    present = np.zeros((city.network.n_segments, N_PERIODS), dtype=np.bool_)
    present[traffic.segment, traffic.period] = True
    partly = np.flatnonzero(present.any(axis=1) & ~present[:, traffic.has_period].all(axis=1))
    if partly.size:
        ids = [city.segment_ids[s] for s in partly[:_TOLD]]
        found.append(
            f"traffic: {partly.size} segments have rows of some periods alone, in the others no traffic: "
            f"{', '.join(ids)}{' ...' if partly.size > _TOLD else ''}"
        )
    motor = np.unique(city.car_edges.segment)
    astray = np.setdiff1d(traffic.segment[traffic.flow_per_h > 0.0], motor)
    if astray.size:
        found.append(
            f"traffic: {astray.size} segments have motor traffic where the network allows none; it counts "
            f"for noise, for air where they have a method: {_names([city.segment_ids[s] for s in astray])}"
        )
    silent = motor.size - int(present[motor].any(axis=1).sum())
    if silent:
        found.append(f"traffic: {silent} of {motor.size} segments for motor traffic have no row: no traffic")
    return [*found, *_range_findings(traffic, settings)]


def _range_findings(traffic: StudyTraffic, settings: StudySettings) -> list[str]:
    """Rows at speeds that their surface was not printed for; a correction of motorcycles there is none."""
    rows = settings.surface[traffic.segment]
    counted = (traffic.flow_per_h > 0.0) & (traffic.mode != Mode.MOTORCYCLE)
    outside = counted & settings.coefficients.is_outside_range(rows, traffic.speed_kmh)
    found = []
    for row in np.unique(rows[outside]):
        name = settings.coefficients.surface_names[row]
        _, least, most = settings.coefficients.surfaces[name]
        found.append(
            f"traffic: {int((outside & (rows == row)).sum())} rows at speeds beyond those surface {name} was "
            f"made for ({least:g} to {most:g} km/h), calculated at their speed"
        )
    return found


def _setting_findings(settings: StudySettings, options: StudyOptions) -> list[str]:
    found = []
    if settings.distance_m > MAX_DISTANCE_M:
        found.append(f"noise: {settings.distance_m:g} m is beyond the {MAX_DISTANCE_M:g} m of the method")
    if options.wall_absorption is not None and not settings.reflections:
        found.append("noise: --wall-absorption changes nothing without --reflections 1")
    return found


def write_study(found: Study, path: Path) -> None:
    """Write one row for each receptor; what is unknown is empty.

    Raises
    ------
    StudyError
        When the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for k, name in enumerate(found.receptors.ids):
                values = [
                    *found.level_dba[k], found.lden_dba[k], *found.octave_db[k].ravel(), *found.air_ug_m3[k],
                ]  # fmt: skip
                texts = ["" if np.isnan(v) else f"{v:z.2f}" for v in values]
                writer.writerow([name, *texts, ";".join(found.flags[k])])
    except OSError as error:
        raise StudyError(f"{path}: cannot be written: {error}") from error


def study_report(found: Study, city: City, traffic: Path, receptors: Path) -> dict[str, Any]:
    """Of plain values, for JSON."""

    def span(values: NDArray[np.float64]) -> list[float] | None:
        known = values[np.isfinite(values)]
        return [round(float(known.min()), 2), round(float(known.max()), 2)] if known.size else None

    return {
        "city": city.name,
        "network_hash": city.network_hash,
        "traffic": traffic.name,
        "receptors": receptors.name,
        "air_height_m": AIR_HEIGHT_M,
        "settings": found.settings.report(),
        "counts": found.counts,
        "lowest_and_highest": {
            "lden_dba": span(found.lden_dba),
            **{name: span(found.air_ug_m3[:, k]) for k, name in enumerate(AIR)},
        },
        "flags": {name: sum(name in of for of in found.flags) for name in FLAGS},
        "findings": found.findings,
        "seconds": found.seconds,
    }


def write_report(report: dict[str, Any], path: Path) -> None:
    """Write the report as JSON."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2) + b"\n")
    except OSError as error:
        raise StudyError(f"{path}: cannot be written: {error}") from error
