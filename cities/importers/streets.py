"""Streets on their way into a pack: each gets a class and what its source did not say."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from cities.importers.findings import Findings
from cities.importers.osm_tags import HIGHWAYS, SURFACES
from cities.pack import ALLOWED_DIRECTIONS, CityError, RoadClass
from kernels.cnossos_tables import SURFACE_NAMES

NUMBERS = ("speed_kmh", "lanes", "width_m")
FILLED = ("road_class", "direction", "surface", *NUMBERS)


@dataclass(slots=True)
class Street:
    """One segment as its source gives it.

    Attributes
    ----------
    id : str
    lonlat : (n, 2) float64
        Vertices [deg].
    properties : dict
        Of the interchange format; may lack all but the id. ``derived`` names the fields that were filled in.
    source_id : str
        The source's identifier, which several segments share when a street of several lines was split.
    """

    id: str
    lonlat: NDArray[np.float64]
    properties: dict[str, Any]
    source_id: str


def complete_streets(
    streets: Sequence[Street],
    classes: Mapping[int, RoadClass],
    *,
    knows_highways: bool,
    findings: Findings,
) -> None:
    """Give each street its class's code, and fill in and mark what it lacks.

    Parameters
    ----------
    streets : sequence of Street
        Changed in place.
    classes : mapping
        Rows of city.toml by code.
    knows_highways : bool
        A class may also be a value of OpenStreetMap's ``highway``.
    findings : Findings

    Raises
    ------
    CityError
        Naming all classes that have no row.
    """
    codes = {str(code): code for code in classes} | {row.name: code for code, row in classes.items()}
    if knows_highways:
        codes = {h: row["road_class"] for h, row in HIGHWAYS.items() if row["road_class"] in classes} | codes
    _refuse_unknown_classes(streets, codes)
    open_classes = [row for row in classes.values() if row.motor] or list(classes.values())
    least = min(open_classes, key=lambda row: row.capacity_veh_per_h)
    for street in streets:
        p = street.properties
        given = p.get("road_class")
        is_derived = set(_marks(p))
        if given is None:
            is_derived.add("road_class")
            p["road_class"] = least.code
        else:
            p["road_class"] = codes[str(given)]
            if knows_highways and str(given) in HIGHWAYS:
                _highway_defaults(p, HIGHWAYS[str(given)], is_derived)
        _fill(street, classes[p["road_class"]], is_derived, findings)
        p["derived"] = sorted(is_derived)
        if not is_derived:
            del p["derived"]


def _refuse_unknown_classes(streets: Sequence[Street], codes: Mapping[str, int]) -> None:
    unknown: dict[str, list[str]] = {}
    for street in streets:
        value = street.properties.get("road_class")
        if value is not None and str(value) not in codes:
            unknown.setdefault(str(value), []).append(street.id)
    if unknown:
        told = "; ".join(f"{c!r} of {len(ids)} segments, as {ids[0]}" for c, ids in sorted(unknown.items()))
        raise CityError(
            f"network: road_class: {told}: expected one of {', '.join(codes)}; "
            "give the city a [[road_class]] row for each in a city.toml (--settings)"
        )


def _marks(properties: Mapping[str, Any]) -> Sequence[str]:
    """Fields that the source itself marks; a plain true marks all that it could have filled in."""
    marked = properties.get("derived")
    if isinstance(marked, list):
        return [str(field) for field in marked]
    return [field for field in FILLED if field in properties] if marked else []


def _highway_defaults(properties: dict[str, Any], row: Mapping[str, Any], is_derived: set[str]) -> None:
    for field in NUMBERS:
        if field in row and properties.get(field) is None:
            properties[field] = row[field]
            is_derived.add(field)
    if not row.get("motor", True):
        properties["direction"] = "none"


def _fill(street: Street, row: RoadClass, is_derived: set[str], findings: Findings) -> None:
    p = street.properties
    if p.get("direction") is None:
        is_derived.add("direction")
        p["direction"] = "both" if row.motor else "none"
    for field in NUMBERS:
        value = positive_number(p.get(field))
        if value is None:
            if p.get(field) is not None:
                findings.note("segment", street.id, f"{field}: got {p[field]!r}, expected a number > 0; "
                              "taken from the class")  # fmt: skip
            is_derived.add(field)
            value = getattr(row, field)
        p[field] = value
    given = p.get("surface")
    if given is not None and given not in SURFACE_NAMES:
        p["surface"] = SURFACES.get(str(given))
        if p["surface"] is None:
            findings.note("segment", street.id, f"surface: got {given!r}, taken from the class")
    if p.get("surface") is None:
        is_derived.add("surface")
        p["surface"] = row.surface


def direction_fault(properties: Mapping[str, Any]) -> str:
    """What is wrong with a direction, "" when it is missing or known."""
    value = properties.get("direction")
    if value is None or value in ALLOWED_DIRECTIONS:
        return ""
    return f"direction: got {value!r}, expected one of {', '.join(ALLOWED_DIRECTIONS)}"


def positive_number(value: object) -> float | None:
    """A number above zero, also as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if 0 < number < np.inf else None


def derived_shares(streets: Sequence[Street]) -> dict[str, float]:
    """Share of the streets open to motor traffic in which each field was filled in."""
    of_motors = [s for s in streets if s.properties["direction"] != "none"]
    counts = Counter(field for s in of_motors for field in s.properties.get("derived", ()))
    return {field: round(counts[field] / max(len(of_motors), 1), 4) for field in sorted({*FILLED, *counts})}


def feature_lines(features: Sequence[Mapping[str, Any]]) -> bytes:
    """A FeatureCollection with a feature on each line."""
    rows = [_json(feature) for feature in features]
    return b'{"type":"FeatureCollection","features":[\n' + b",\n".join(rows) + b"\n]}\n"


def _json(feature: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(feature)
    except TypeError:  # a whole number beyond 64 bits
        return json.dumps(feature).encode()


def street_features(streets: Sequence[Street]) -> list[dict[str, Any]]:
    """Features of network.geojson."""
    return [
        {
            "type": "Feature",
            "properties": {"id": s.id, **{k: v for k, v in s.properties.items() if k != "id"}},
            "geometry": {"type": "LineString", "coordinates": s.lonlat.tolist()},
        }
        for s in streets
    ]
