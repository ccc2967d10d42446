"""By which coefficients the noise of a city's roads is calculated."""

from __future__ import annotations

from collections.abc import Mapping

from cities.pack import City, CityError
from kernels.cnossos_coefficients import EU_2015, EU_2021, NL_NATIONAL, CoefficientSet

COEFFICIENTS: Mapping[str, CoefficientSet] = {"2021": EU_2021, "2015": EU_2015, "nl": NL_NATIONAL}


def coefficients_of(city: City) -> CoefficientSet:
    """Set of [noise] coefficients: 2021 (Directive 2021/1226, the default), 2015 (2015/996) or nl.

    Raises
    ------
    CityError
        For a set that there is not, or a surface of the city that the set does not have.
    """
    name = str(city.settings.get("noise", {}).get("coefficients", "2021"))
    if name not in COEFFICIENTS:
        raise CityError(
            f"city.toml: [noise] coefficients: got {name!r}, expected one of {', '.join(COEFFICIENTS)}"
        )
    try:
        COEFFICIENTS[name].surface_indices(city.surface)
    except ValueError as error:
        raise CityError(f"network.geojson or city.toml: {error}") from error
    return COEFFICIENTS[name]
