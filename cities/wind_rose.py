"""The wind of an average year in a city, for annual means: ``[air.wind_rose]`` of city.toml.

``frequency`` is the share of the year that the wind blows from each of twelve sectors of 30 degrees,
clockwise; ``wind_m_s`` the wind at 10 m in each, the one whose inverse is the mean inverse of the sector;
``start_deg`` where the first begins: -15 (centred on north, where it is missing) or 0. Without a rose all
directions are alike and have the annual mean wind, which is assumed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from cities.pack import City, CityError
from kernels.srm2 import SECTORS, Srm2Error
from kernels.srm2_annual import WindRose, uniform_rose

FIELDS = ("frequency", "wind_m_s", "start_deg", "source")
ROUNDING = 0.01  # twelve shares of two or three digits add up to 1 within it; the rest is shared out


@dataclass(frozen=True, slots=True)
class AnnualWind:
    """Wind of an average year.

    Attributes
    ----------
    mean_m_s : float
        Annual mean at 10 m, for F_regio of SRM1.
    rose : WindRose
        For SRM2.
    source : str
        Where the rose comes from; begins with "assumed" where nobody measured it.
    """

    mean_m_s: float
    rose: WindRose
    source: str


def annual_wind(city: City) -> AnnualWind:
    """Annual mean wind and wind rose of a city.

    Raises
    ------
    CityError
        For a background without the annual mean wind, or a rose that does not fit, naming the field.
    """
    mean = _table(city.settings, "background", "[background]").get("mean_wind_m_s")
    if not _is_number(mean) or not mean > 0.0:
        raise CityError(
            f"city.toml: [background] mean_wind_m_s: got {mean!r}, expected the annual mean wind above 0 m/s"
        )
    air = _table(city.settings, "air", "[air]")
    if "wind_rose" not in air:
        return AnnualWind(
            float(mean), uniform_rose(mean), "assumed: all directions alike, with the annual mean wind"
        )
    table = _table(air, "wind_rose", "[air.wind_rose]")
    for field in table:
        if field not in FIELDS:
            raise _error(f"{field}: is not known, expected one of {', '.join(FIELDS)}")
    source = table.get("source", "assumed: [air.wind_rose] without a source")
    if not isinstance(source, str):
        raise _error(f"source: got {source!r}, expected a text")
    frequency, wind = _numbers(table, "frequency"), _numbers(table, "wind_m_s")
    if (frequency < 0.0).any():
        raise _error(f"frequency: got {float(frequency.min())}, expected shares of at least 0")
    total = float(frequency.sum())
    if abs(total - 1.0) > ROUNDING:
        raise _error(f"frequency: got a sum of {total:g}, expected 1 (within {ROUNDING:g})")
    try:
        start = table.get("start_deg", -15.0)
        rose = WindRose(frequency / total, wind, float(start) if _is_number(start) else start)
    except Srm2Error as error:
        raise _error(str(error)) from error
    return AnnualWind(float(mean), rose, source)


def _numbers(table: Mapping[str, Any], field: str) -> NDArray[np.float64]:
    values = table.get(field)
    if not isinstance(values, list) or len(values) != SECTORS or not all(_is_number(v) for v in values):
        raise _error(f"{field}: got {values!r}, expected {SECTORS} numbers")
    return np.array(values, dtype=np.float64)


def _table(parent: Mapping[str, Any], key: str, name: str) -> Mapping[str, Any]:
    value = parent.get(key, {})
    if not isinstance(value, Mapping):
        raise CityError(f"city.toml: {name}: got {value!r}, expected a table")
    return value


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _error(message: str) -> CityError:
    return CityError(f"city.toml: [air.wind_rose] {message}")
