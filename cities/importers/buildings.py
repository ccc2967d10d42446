"""Buildings with heights: from GeoJSON, to the buildings.geojson of a pack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely

from cities.importers.findings import Findings
from cities.importers.osm_tags import building_height_m, building_use
from cities.importers.streets import positive_number
from cities.pack import degrees_fault, read_features

DECIMALS = 7  # of a degree: 1 cm


@dataclass(frozen=True, slots=True)
class Building:
    """One outline [deg] with holes, a height [m] that was given or derived, and its use if it is known."""

    id: str
    rings: tuple[tuple[tuple[float, float], ...], ...]
    height_m: float
    is_derived: bool
    use: str | None = None

    def feature(self) -> dict[str, Any]:
        """Feature of buildings.geojson."""
        use = {} if self.use is None else {"use": self.use}
        derived = {"derived": ["height_m"]} if self.is_derived else {}
        return {
            "type": "Feature",
            "properties": {"id": self.id, "height_m": round(self.height_m, 2), **use, **derived},
            "geometry": {"type": "Polygon", "coordinates": self.rings},
        }


def read_buildings(content: bytes, name: str, findings: Findings) -> list[Building]:
    """Buildings of a file: ``height_m``, else ``height``, else levels of 3 m, else 9 m.

    The ``use`` is kept as it is, or follows from OpenStreetMap's ``building``; one that is no text is noted.

    Raises
    ------
    CityError
        When the file cannot be read.
    """
    made = []
    for number, feature in enumerate(read_features(content, name), start=1):
        p = feature["properties"]
        identifier = str(p.get("id") or feature.get("id") or f"b{number}")
        polygons, fault = _polygons(feature["geometry"])
        if fault:
            findings.leave_out("building", identifier, fault)
            continue
        height, is_derived = _height_m(p)
        use = p.get("use")
        if use is not None and not isinstance(use, str):
            findings.note("building", identifier, f"use: got {use!r}, expected a text; taken as not told")
            use = None
        elif use is None:
            use = building_use({"building": str(p.get("building"))})
        for part, rings in enumerate(polygons, start=1):
            own = identifier if len(polygons) == 1 else f"{identifier}.{part}"
            made.append(Building(own, rings, height, is_derived, use))
    return made


def _height_m(p: Mapping[str, Any]) -> tuple[float, bool]:
    given = positive_number(p.get("height_m"))
    if given is not None:
        return given, bool(p.get("derived"))
    tags = {key: str(value) for key, value in p.items() if value is not None}
    if "levels" in tags:
        tags.setdefault("building:levels", tags["levels"])
    return building_height_m(tags)


def _polygons(geometry: Mapping[str, Any]) -> tuple[list[tuple[tuple[tuple[float, float], ...], ...]], str]:
    kind = geometry.get("type")
    if kind not in ("Polygon", "MultiPolygon"):
        return [], f"geometry.type: got {kind!r}, expected Polygon or MultiPolygon"
    parts = [geometry.get("coordinates")] if kind == "Polygon" else geometry.get("coordinates")
    made = []
    for part in parts or []:
        try:
            rings = [np.asarray(ring, dtype=float)[:, :2] for ring in part or ()]
            shape = shapely.Polygon(rings[0], rings[1:])
        except (TypeError, ValueError, IndexError, KeyError, shapely.GEOSException):
            return [], "coordinates: expected rings of four or more positions"
        if fault := degrees_fault(rings[0]):
            return [], f"coordinates: {fault}"
        if not shape.is_valid or shape.area == 0:
            return [], f"coordinates: not a plain outline ({shapely.is_valid_reason(shape)})"
        made.append(tuple(tuple((float(x), float(y)) for x, y in ring.round(DECIMALS)) for ring in rings))
    return made, "" if made else "coordinates: are empty"
