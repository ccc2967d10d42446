"""Streets of a GeoJSON file in the interchange format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from cities.importers.findings import Findings
from cities.importers.streets import Street, direction_fault
from cities.pack import CityError, line_positions, read_features

FAR_DEGREES = 3.0  # from the middle of the network: no region is as large
SWAPPED = "looks like latitude and longitude swapped"


def read_streets(content: bytes, name: str, findings: Findings) -> list[Street]:
    """Streets of a file; a feature that cannot be one is left out by name.

    A MultiLineString whose parts join becomes one street, another is split (``id.1``, ``id.2`` ...). A second
    street with the same id becomes ``id.2``, unless it is the same line.

    Parameters
    ----------
    content : bytes
        Of the file.
    name : str
        Of the file, for messages.
    findings : Findings

    Raises
    ------
    CityError
        When the file cannot be read or no street is left.
    """
    streets: list[Street] = []
    for number, feature in enumerate(read_features(content, name), start=1):
        properties = {k: v for k, v in feature["properties"].items() if v == v}  # a gap may be NaN
        identifier = feature.get("id") if properties.get("id") is None else properties["id"]
        if identifier is None or identifier == "":
            findings.leave_out("segment", f"(feature {number})", "id: is missing")
            continue
        fault = direction_fault(properties)
        lines, line_fault = street_lines(feature["geometry"])
        if fault or line_fault:
            findings.leave_out("segment", str(identifier), fault or line_fault)
            continue
        properties["road_class"] = _class_value(properties.get("road_class"))
        streets += [
            Street(
                _part_id(str(identifier), part, len(lines)),
                line,
                _of_part(properties, part, len(lines)),
                str(identifier),
            )
            for part, line in enumerate(lines, start=1)
        ]
    streets = _without_far_ones(_with_own_ids(streets, findings), findings)
    if not streets:
        told = "; ".join(sorted({f.reason for f in findings.rows if f.kind == "segment"}))
        raise CityError(f"{name}: none of its features can be a street: {told[:500]}")
    for street in streets:
        if not shapely.LineString(street.lonlat).is_simple:
            findings.note("segment", street.id, "coordinates: the line crosses itself; kept, as ramps do so")
    return streets


def street_lines(geometry: Mapping[str, Any]) -> tuple[list[NDArray[np.float64]], str]:
    """Lines of a geometry [deg], and what is wrong with it ("" when nothing is)."""
    kind = geometry.get("type")
    if kind not in ("LineString", "MultiLineString"):
        return [], f"geometry.type: got {kind!r}, expected LineString or MultiLineString"
    parts = geometry.get("coordinates")
    if kind == "LineString":
        parts = [parts]
    lines = []
    for part in parts or []:
        lonlat, fault = line_positions(part)
        if fault:
            return [], f"coordinates: {fault}"
        moves = np.abs(np.diff(lonlat, axis=0)).max(axis=1) > 1e-9
        lonlat = lonlat[np.concatenate([[True], moves])]
        if len(lonlat) < 2:
            return [], "coordinates: its length is zero"
        lines.append(lonlat)
    if len(lines) > 1:
        merged = shapely.line_merge(
            shapely.multilinestrings([shapely.linestrings(x) for x in lines]), directed=True
        )
        if merged.geom_type == "LineString":
            lines = [shapely.get_coordinates(merged)]
    return lines, "" if lines else "coordinates: are empty"


def _class_value(value: Any) -> Any:
    """Whole numbers that were written as 6.0, as tables with gaps do, are whole numbers again."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _of_part(properties: Mapping[str, Any], part: int, parts: int) -> dict[str, Any]:
    """Properties of a part; what is at an end of the whole is at that of the first or last part alone."""
    elsewhere = {"junction_start": part > 1, "junction_end": part < parts}
    return {k: v for k, v in properties.items() if not elsewhere.get(k, False)}


def _part_id(identifier: str, part: int, parts: int) -> str:
    return identifier if parts == 1 else f"{identifier}.{part}"


def _with_own_ids(streets: list[Street], findings: Findings) -> list[Street]:
    taken: dict[str, Street] = {}
    reserved = {s.id for s in streets}
    for street in streets:
        first = taken.get(street.id)
        if first is None:
            taken[street.id] = street
            continue
        if np.array_equal(first.lonlat, street.lonlat):
            findings.leave_out("segment", street.id, "id: occurs twice, with the same line")
            continue
        old, number = street.id, 2
        while f"{old}.{number}" in reserved:
            number += 1
        street.id = f"{old}.{number}"
        reserved.add(street.id)
        taken[street.id] = street
        findings.note("segment", old, f"id: occurs twice; the later street is imported as {street.id}")
    return list(taken.values())


def _without_far_ones(streets: list[Street], findings: Findings) -> list[Street]:
    """Streets near the middle of all; one far from the rest would stretch the city over half the world."""
    if not streets:
        return []
    middles = np.array([s.lonlat.mean(axis=0) for s in streets])
    centre = np.median(middles, axis=0)
    near = np.abs(middles - centre).max(axis=1) <= FAR_DEGREES
    for street, middle, is_near in zip(streets, middles, near, strict=True):
        if not is_near:
            findings.leave_out("segment", street.id, far_reason(middle, centre))
    return [s for s, is_near in zip(streets, near, strict=True) if is_near]


def far_reason(lonlat: NDArray[np.float64], centre: NDArray[np.float64]) -> str:
    """Why a place is not of this city."""
    here, there = np.round(lonlat, 5).tolist(), np.round(centre, 3).tolist()
    at = f"coordinates: {here} lies far from the network's middle {there}"
    is_swapped = np.abs(lonlat[::-1] - centre).max() <= FAR_DEGREES
    return f"{at}; {SWAPPED}" if is_swapped else at


def check_area(streets: list[Street], bounds: tuple[float, float, float, float], crs: str) -> None:
    """Refuse a network outside the area that a city's CRS is made for.

    Parameters
    ----------
    bounds : west, south, east, north [deg]

    Raises
    ------
    CityError
        When the middle of the streets lies outside.
    """
    centre = np.median([s.lonlat.mean(axis=0) for s in streets], axis=0)

    def inside(lon: float, lat: float) -> bool:
        west, south, east, north = bounds
        return (
            west - FAR_DEGREES <= lon <= east + FAR_DEGREES
            and south - FAR_DEGREES <= lat <= north + FAR_DEGREES
        )

    if not inside(*centre):
        why = f"; {SWAPPED}" if inside(*centre[::-1]) else ""
        raise CityError(
            f"network: coordinates: their middle {np.round(centre, 3).tolist()} lies outside the area of "
            f"{crs} (city.toml [city] crs){why}"
        )
