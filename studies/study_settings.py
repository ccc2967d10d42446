"""Settings of a study: options of the command, else what the city says, else stated defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.noise import periods_of
from cities.noise_settings import NUMBERS, favourable_shares, noise_number
from cities.pack import City, CityError
from cities.road_noise import COEFFICIENTS
from kernels.cnossos_coefficients import CoefficientSet
from kernels.cnossos_path import N_BANDS
from kernels.periods import Periods
from kernels.point_levels import N_SECTORS
from kernels.propagation import Atmosphere
from kernels.transfer import RECEPTOR_HEIGHT_M
from studies.noise_scene import HARD_FACE
from studies.study_tables import StudyError

# Key of [noise] in city.toml of each option that is a number.
KEYS: Mapping[str, str] = {
    "wall_absorption": "wall_absorption",
    "ground_factor": "ground_factor",
    "temperature_c": "annual_temperature_c",
    "humidity_percent": "humidity_percent",
    "p_favourable": "p_favourable",
    "distance_m": "max_distance_m",
    "reflections": "reflections",
}


@dataclass(frozen=True, slots=True)
class StudyOptions:
    """What the command asks for; None where the city decides."""

    surface: str | None = None
    wall_absorption: float | None = None
    ground_factor: float | None = None
    temperature_c: float | None = None
    humidity_percent: float | None = None
    p_favourable: float | None = None
    distance_m: float | None = None
    reflections: int | None = None
    coefficients: str | None = None


@dataclass(frozen=True, slots=True)
class StudySettings:
    """What a study is calculated with.

    Attributes
    ----------
    coefficients : CoefficientSet
    surface : (n_segments,) int8
        Rows of the set of coefficients.
    surface_name : str
        Of all segments, "" where each has its own.
    wall_absorption : (8,) float64
        By octave band: of a hard face where neither option nor city says one.
    ground_factor, distance_m : float
    is_one_ground : bool
        The ground factor was asked for: it holds everywhere, whatever the land cover.
    p_favourable : (16,) float64
        By the direction from source to receptor.
    reflections : int
        0 or 1.
    atmosphere : Atmosphere
    periods : Periods
    height_m : float
        Of receptors that have no height of their own.
    origins : dict
        Where each setting comes from: option, city or default.
    """

    coefficients: CoefficientSet
    surface: NDArray[np.int8]
    surface_name: str
    wall_absorption: NDArray[np.float64]
    ground_factor: float
    distance_m: float
    is_one_ground: bool
    p_favourable: NDArray[np.float64]
    reflections: int
    atmosphere: Atmosphere
    periods: Periods
    height_m: float
    origins: Mapping[str, str]

    def report(self) -> dict[str, Any]:
        """Of plain values, for JSON."""

        def one_or_all(values: NDArray[np.float64]) -> float | list[float]:
            return float(values[0]) if (values == values[0]).all() else values.tolist()

        day, evening, night = self.periods.hours
        return {
            "coefficients": self.coefficients.name,
            "surface": self.surface_name or "of each segment",
            "wall_absorption": one_or_all(self.wall_absorption),
            "ground_factor": self.ground_factor,
            "is_one_ground": self.is_one_ground,
            "temperature_c": self.atmosphere.temperature_c,
            "humidity_percent": self.atmosphere.humidity_percent,
            "p_favourable": one_or_all(self.p_favourable),
            "distance_m": self.distance_m,
            "reflections": self.reflections,
            "height_m": self.height_m,
            "day_h": day,
            "evening_h": evening,
            "night_h": night,
            "from": dict(self.origins),
        }


def study_settings(city: City, options: StudyOptions) -> StudySettings:
    """Settings of a study.

    Raises
    ------
    StudyError
        For an option that is out of its range, or a surface that the coefficients do not have.
    CityError
        For a value of city.toml that is out of its range.
    """
    table = city.settings.get("noise", {})
    origins: dict[str, str] = {}
    values = {name: _number(name, options, table, origins) for name in KEYS if name != "p_favourable"}
    height = city.settings.get("receptors", {}).get("height_noise_m", RECEPTOR_HEIGHT_M)
    if not _is_number(height) or not 0.0 < height <= 500.0:
        raise CityError(f"city.toml [receptors] height_noise_m: got {height!r}, expected a height above 0 m")
    name = options.coefficients or str(table.get("coefficients", "2021"))
    origins["coefficients"] = (
        "option" if options.coefficients else "city" if "coefficients" in table else "default"
    )
    origins["surface"] = "option" if options.surface else "city"
    if name not in COEFFICIENTS:
        raise StudyError(f"--coefficients: got {name!r}, expected one of {', '.join(COEFFICIENTS)}")
    try:
        names = city.surface if options.surface is None else [options.surface] * city.network.n_segments
        surface = COEFFICIENTS[name].surface_indices(names)
    except ValueError as error:
        which = "network.geojson: " if options.surface is None else "--"
        raise StudyError(f"{which}{error}") from error
    return StudySettings(
        coefficients=COEFFICIENTS[name],
        surface=surface,
        surface_name=options.surface or "",
        wall_absorption=(
            np.array(HARD_FACE)
            if np.isnan(values["wall_absorption"])
            else np.full(N_BANDS, values["wall_absorption"])
        ),
        ground_factor=values["ground_factor"],
        distance_m=values["distance_m"],
        is_one_ground=options.ground_factor is not None,
        p_favourable=_shares(options, table, origins),
        reflections=int(values["reflections"]),
        atmosphere=Atmosphere(
            temperature_c=values["temperature_c"], humidity_percent=values["humidity_percent"]
        ),
        periods=periods_of(city),
        height_m=float(height),
        origins=origins,
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(name: str, options: StudyOptions, table: Mapping[str, Any], origins: dict[str, str]) -> float:
    key, value = KEYS[name], getattr(options, name)
    origins[name] = "option" if value is not None else "city" if key in table else "default"
    if value is None:
        return noise_number(table, key)
    if not NUMBERS[key].allows(value):
        option = name.removesuffix("_c").removesuffix("_percent").removesuffix("_m").replace("_", "-")
        raise StudyError(f"--{option}: got {value:g}, expected {NUMBERS[key]}")
    return float(value)


def _shares(options: StudyOptions, table: Mapping[str, Any], origins: dict[str, str]) -> NDArray[np.float64]:
    """p_favourable by direction: one for all, or the 16 that city.toml may have."""
    if options.p_favourable is not None or not isinstance(table.get("p_favourable"), list):
        return np.full(N_SECTORS, _number("p_favourable", options, table, origins))
    origins["p_favourable"] = "city"
    return np.array(favourable_shares(table, N_SECTORS))
