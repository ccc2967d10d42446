"""Numbers of [noise] in city.toml: what holds where one is missing, and what it may be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cities.pack import CityError
from kernels.propagation import MAX_DISTANCE_M


@dataclass(frozen=True, slots=True)
class NoiseNumber:
    """A setting: its value where nothing is said, least and most."""

    default: float
    least: float
    most: float

    def allows(self, value: float) -> bool:
        """Whether it is within the range; NaN is not."""
        return self.least <= value <= self.most

    def __str__(self) -> str:
        return f"{self.least:g} to {self.most:g}"


NUMBERS: Mapping[str, NoiseNumber] = {
    "annual_temperature_c": NoiseNumber(10.0, -40.0, 50.0),
    "humidity_percent": NoiseNumber(70.0, 1.0, 100.0),
    "p_favourable": NoiseNumber(0.5, 0.0, 1.0),
    "ground_factor": NoiseNumber(0.5, 0.0, 1.0),
    "wall_absorption": NoiseNumber(math.nan, 0.0, 1.0),  # a hard face, by octave band, where nothing is said
    "max_distance_m": NoiseNumber(MAX_DISTANCE_M, 50.0, 2000.0),
    "reflections": NoiseNumber(1.0, 0.0, 1.0),
}


def noise_number(noise: Mapping[str, Any], key: str) -> float:
    """Number of [noise], or its default.

    Parameters
    ----------
    noise : mapping
        The table [noise] of city.toml.
    key : str
        One of :data:`NUMBERS`.

    Raises
    ------
    CityError
        Naming the field, what it is and what it may be.
    """
    number = NUMBERS[key]
    if key not in noise:
        return number.default
    return _within(key, noise[key])


def favourable_shares(noise: Mapping[str, Any], n_sectors: int) -> tuple[float, ...]:
    """``p_favourable`` by the direction in which sound travels: one for all, or one each, (n_sectors,).

    Raises
    ------
    CityError
        For a share that is not 0 to 1, or another number of shares.
    """
    given = noise.get("p_favourable")
    if not isinstance(given, list):
        return (noise_number(noise, "p_favourable"),) * n_sectors
    if len(given) != n_sectors:
        raise CityError(
            f"city.toml [noise] p_favourable: got {len(given)} values, expected one or {n_sectors}"
        )
    return tuple(_within("p_favourable", share) for share in given)


def _within(key: str, value: object) -> float:
    number = NUMBERS[key]
    expected = "0 or 1" if key == "reflections" else str(number)
    if isinstance(value, bool) or not isinstance(value, int | float) or not number.allows(value):
        raise CityError(f"city.toml [noise] {key}: got {value!r}, expected {expected}")
    if key == "reflections" and value not in (0, 1):
        raise CityError(f"city.toml [noise] {key}: got {value!r}, expected {expected}")
    return float(value)
