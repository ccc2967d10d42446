"""Sensors of a GeoJSON file in the interchange format; points without a street are map-matched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from cities.importers.findings import Findings
from cities.importers.geojson_streets import SWAPPED
from cities.map_matching import StreetIndex
from cities.pack import City, degrees_fault, read_features
from kernels.network import Mode

COUNTING = ("loops", "radar", "anpr", "telraam", "counter")
"""Sources that stand on a street."""
SOURCES = (*COUNTING, "wifi", "telecom", "bikeshare", "weather", "air", "noise")
MOTOR = ("loops", "radar", "anpr")  # without modes of their own these count motor vehicles
MODES = tuple(mode.name.lower() for mode in Mode)
DIRECTIONS = ("forward", "backward", "both")
MATCH_M = 30.0
FAR_FROM_SEGMENT_M = 200.0  # a named street is believed, but this is told
MARGIN_M = 20_000.0  # around the network; weather stations stand outside


class _LeftOutError(ValueError):
    """Why a sensor cannot be taken over."""


@dataclass(slots=True)
class SensorImport:
    """Features of the pack's sensors.geojson, and how points were matched."""

    features: list[dict[str, Any]] = field(default_factory=list)
    matches: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Ground:
    """The city that sensors are placed in; ``parts`` are the segments of a street that was split."""

    city: City
    index: StreetIndex
    segment: Mapping[str, int]
    parts: Mapping[str, Sequence[int]]
    to_metric: Transformer
    bounds: tuple[float, float, float, float]


def read_sensors(
    content: bytes, name: str, city: City, parts: Mapping[str, Sequence[int]], findings: Findings
) -> SensorImport:
    """Sensors that stand in the city; each other one is left out by name.

    Parameters
    ----------
    content : bytes
        Of the file.
    name : str
        Of the file, for messages.
    city : City
        With its network, without sensors.
    parts : mapping
        Segments of each street of the source, by the source's identifier.
    findings : Findings

    Raises
    ------
    CityError
        When the file cannot be read.
    """
    xy = city.network.vertex_xy
    low, high = xy.min(axis=0) - MARGIN_M, xy.max(axis=0) + MARGIN_M
    ground = _Ground(
        city=city,
        index=StreetIndex(city),
        segment={identifier: s for s, identifier in enumerate(city.segment_ids)},
        parts=parts,
        to_metric=Transformer.from_crs("EPSG:4326", city.crs, always_xy=True),
        bounds=(low[0], low[1], high[0], high[1]),
    )
    made = SensorImport()
    seen: set[str] = set()
    for number, feature in enumerate(read_features(content, name), start=1):
        p = {k: v for k, v in feature["properties"].items() if v == v}  # a gap may be NaN
        raw = feature.get("id") if p.get("id") is None else p["id"]
        identifier = "" if raw is None else str(raw)
        try:
            if not identifier:
                raise _LeftOutError("id: is missing")
            if identifier in seen:
                raise _LeftOutError("id: occurs twice; the first is kept")
            p["id"] = identifier
            geometry = feature["geometry"]
            match = _place(p, geometry, ground, findings)
        except _LeftOutError as error:
            findings.leave_out("sensor", identifier or f"(feature {number})", str(error))
            continue
        seen.add(identifier)
        made.features.append({"type": "Feature", "properties": p, "geometry": geometry})
        if match is not None:
            made.matches.append({"id": identifier, **match})
    return made


def _place(
    p: dict[str, Any], geometry: Mapping[str, Any], ground: _Ground, findings: Findings
) -> dict[str, Any] | None:
    """Check a sensor and give it its street; the match when it had to be sought."""
    _check_words(p)
    xy = _position(geometry, ground)
    if p["source"] not in COUNTING or geometry["type"] == "Polygon":
        if p.get("segment_id") is not None and str(p["segment_id"]) not in ground.segment:
            findings.note(
                "sensor", p["id"], f"segment_id: {p['segment_id']!r} is not of the network; not needed"
            )
            p["segment_id"] = None
        return None
    if p.get("segment_id") is None:
        return _match(p, xy, ground)
    named = str(p["segment_id"])
    if named in ground.segment:
        segment = ground.segment[named]
    elif named in ground.parts:
        segment = min(ground.parts[named], key=lambda s: ground.index.distance_m(xy, s))
    else:
        raise _LeftOutError(f"segment_id: got {p['segment_id']!r}, expected an id of the network")
    distance = ground.index.distance_m(xy, segment)
    p["segment_id"] = ground.city.segment_ids[segment]
    if distance > FAR_FROM_SEGMENT_M:
        findings.note("sensor", p["id"], f"stands {distance:.0f} m from its segment {named}")
    return None


def _check_words(p: dict[str, Any]) -> None:
    if p.get("source") not in SOURCES:
        raise _LeftOutError(f"source: got {p.get('source')!r}, expected one of {', '.join(SOURCES)}")
    modes = p.get("modes")
    if modes is None:
        modes = []
    if not isinstance(modes, list):
        raise _LeftOutError(f"modes: got {modes!r}, expected a list")
    for mode in modes:
        if mode not in MODES:
            raise _LeftOutError(f"modes: got {mode!r}, expected of {', '.join(MODES)}")
    if "modes" in p:
        p["modes"] = modes
    if not isinstance(p.get("derived", []), list):
        del p["derived"]
    if p.get("direction") is None and p["source"] in COUNTING:
        p["direction"] = "both"
        p["derived"] = sorted({*p.get("derived", ()), "direction"})
    if p.get("direction", "both") not in DIRECTIONS:
        raise _LeftOutError(f"direction: got {p['direction']!r}, expected one of {', '.join(DIRECTIONS)}")


def _position(geometry: Mapping[str, Any], ground: _Ground) -> tuple[float, float]:
    """Metric place of a point or of the middle of an area, which must lie near the network."""
    kind, coordinates = geometry.get("type"), geometry.get("coordinates")
    if kind not in ("Point", "Polygon"):
        raise _LeftOutError(f"geometry.type: got {kind!r}, expected Point or Polygon")
    try:
        ring = np.asarray([coordinates] if kind == "Point" else coordinates[0], dtype=float)[:, :2]  # type: ignore[index]
    except (TypeError, ValueError, IndexError, KeyError):
        ring = np.empty((0, 2))
    if len(ring) < (1 if kind == "Point" else 4) or ring.shape[1] < 2 or not np.isfinite(ring).all():
        raise _LeftOutError("coordinates: expected finite positions of longitude and latitude")
    if fault := degrees_fault(ring):
        raise _LeftOutError(f"coordinates: {fault}")
    if kind == "Polygon" and not (shape := shapely.Polygon(ring)).is_valid:
        raise _LeftOutError(f"coordinates: not a plain area ({shapely.is_valid_reason(shape)})")
    centre = ring[:1] if kind == "Point" else ring[:-1].mean(axis=0)[None]
    if not _is_inside(centre, ground):
        why = f"; {SWAPPED}" if _is_inside(centre[:, ::-1], ground) else ""
        raise _LeftOutError(f"coordinates: {centre[0].round(6).tolist()} lies outside the network{why}")
    x, y = ground.to_metric.transform(*centre[0])
    return float(x), float(y)


def _is_inside(lonlat: NDArray[np.float64], ground: _Ground) -> bool:
    x, y = ground.to_metric.transform(*lonlat[0])
    west, south, east, north = ground.bounds
    return bool(west <= x <= east and south <= y <= north)


def _match(p: dict[str, Any], xy: tuple[float, float], ground: _Ground) -> dict[str, Any]:
    """Put a sensor on the nearest street that all of its modes may use, else any of them."""
    modes = [Mode[m.upper()] for m in p.get("modes", ())]
    if not modes and p["source"] in MOTOR:
        modes = [Mode.CAR]
    segment, distance = ground.index.nearest(xy, modes)
    if distance > MATCH_M and len(modes) > 1:
        segment, distance = min((ground.index.nearest(xy, [m]) for m in modes), key=lambda found: found[1])
    if distance > MATCH_M:
        nearest = (
            f"the nearest is {ground.city.segment_ids[segment]} at {distance:.0f} m"
            if segment >= 0
            else "there is none"
        )
        raise _LeftOutError(
            f"is not on the network: no street for {', '.join(m.name.lower() for m in modes) or 'it'} "
            f"within {MATCH_M:g} m ({nearest})"
        )
    p["segment_id"] = ground.city.segment_ids[segment]
    p["derived"] = sorted({*p.get("derived", ()), "segment_id"})
    return {
        "segment_id": p["segment_id"],
        "street": ground.city.segment_names[segment],
        "direction": p["direction"],
        "distance_m": round(distance, 1),
    }
