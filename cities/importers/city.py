"""Bring any city in: from a network with sensors and buildings to a pack that can be loaded."""

from __future__ import annotations

import gzip
import hashlib
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from cities.importers.buildings import Building, read_buildings
from cities.importers.findings import Findings
from cities.importers.geojson_streets import check_area, read_streets
from cities.importers.openstreetmap import is_openstreetmap, read_osm_buildings, read_osm_streets
from cities.importers.osm_tags import RESIDENTIAL
from cities.importers.sensors import SensorImport, read_sensors
from cities.importers.settings import (
    Named,
    Settings,
    complete_classes,
    complete_settings,
    metric_crs,
    part_of,
    read_settings,
)
from cities.importers.streets import (
    Street,
    complete_streets,
    derived_shares,
    feature_lines,
    street_features,
)
from cities.pack import City, CityError, RoadClass, load_city

REPORT = "import_report.json"
MADE = ("city.toml", "network.geojson", "sensors.geojson", "buildings.geojson", REPORT)
OSM_ATTRIBUTION = "© OpenStreetMap contributors (ODbL 1.0)"


@dataclass(frozen=True, slots=True)
class Source:
    """Files of a city. ``settings`` is a city.toml, else that beside the network, else all is assumed."""

    network: Path
    sensors: Path | None = None
    buildings: Path | None = None
    settings: Path | None = None
    name: str | None = None
    timezone: str | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of it: the city, the report that is kept in the pack, and lines for the terminal."""

    city: City
    report: Mapping[str, Any]
    lines: tuple[str, ...]


def import_city(source: Source, out: Path) -> Imported:
    """Make a city pack.

    Each street, sensor or building that cannot be taken over is left out and named in ``import_report.json``;
    the rest is imported. The pack is written when it can be loaded.

    Raises
    ------
    CityError
        When a file cannot be read, a road class has no row, or no street is left.
    """
    _check_target(source, out)
    findings = Findings()
    is_osm = is_openstreetmap(source.network)
    hashes = [
        {"file": path.name, "sha256": hashlib.sha256(_content(path)).hexdigest()}
        for path in (source.network, source.sensors, source.buildings, source.settings)
        if path is not None
    ]
    if is_osm:
        streets = read_osm_streets(source.network, findings)
    else:
        streets = read_streets(_unpacked(source.network), source.network.name, findings)
    settings, settings_from = _settings(source, streets)
    knows_highways = is_osm or settings.given is None
    classes = {row["code"]: RoadClass(**row) for row in settings.table["road_class"]}
    complete_streets(streets, classes, knows_highways=knows_highways, findings=findings)
    lonlat = np.concatenate([s.lonlat for s in streets])
    named = Named(source.name, source.timezone, OSM_ATTRIBUTION if is_osm else "")
    complete_settings(settings, named, _fallback_name(source.network), lonlat)
    buildings = _buildings(source, is_osm, findings)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".import-") as part:
        folder = Path(part)
        (folder / "city.toml").write_bytes(settings.content())
        (folder / "network.geojson").write_bytes(feature_lines(street_features(streets)))
        if buildings:
            (folder / "buildings.geojson").write_bytes(feature_lines([b.feature() for b in buildings]))
        city = load_city(folder)
        placed = _place_sensors(source, city, streets, findings)
        if placed.features:
            (folder / "sensors.geojson").write_bytes(feature_lines(placed.features))
            city = load_city(folder)
        report = {
            "files": hashes,
            "settings": {"from": settings_from, "assumed": settings.assumed},
            **_report(streets, city, buildings, placed, findings),
        }
        (folder / REPORT).write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
        _move(folder, out)
    return Imported(replace(city, folder=out), report, tuple(_lines(report, findings)))


def _check_target(source: Source, out: Path) -> None:
    is_pack = (out / "city.toml").exists() or (out / "network.geojson").exists()
    if out.resolve() == source.network.parent.resolve():
        raise CityError(
            f"{out}: --out is the folder of the network itself; choose another, nothing was written"
        )
    if is_pack and not (out / REPORT).exists():
        raise CityError(
            f"{out}: holds a city that was not imported; choose another folder, nothing was written"
        )


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CityError(f"{path}: cannot be read: {error.strerror}") from error


def _unpacked(path: Path) -> bytes:
    """Content of a file that may be gzipped."""
    content = _content(path)
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise CityError(f"{path}: cannot be unpacked: {error}") from error


def _settings(source: Source, streets: list[Street]) -> tuple[Settings, str]:
    """Settings with road classes, and where they come from."""
    beside = source.network.parent / "city.toml"
    path = source.settings or (beside if beside.is_file() else None)
    settings = read_settings(path) if path else Settings({})
    complete_classes(settings)
    crs_name = part_of(settings.table, "city").get("crs")
    if crs_name is not None:
        area = metric_crs(str(crs_name)).area_of_use
        if area is not None:
            check_area(streets, area.bounds, str(crs_name))
    return settings, str(path) if path else "defaults"


def _fallback_name(network: Path) -> str:
    stem = network.name.split(".")[0]
    return network.resolve().parent.name if stem == "network" else stem


def _buildings(source: Source, is_osm: bool, findings: Findings) -> list[Building]:
    if source.buildings is None:
        return read_osm_buildings(source.network, findings) if is_osm else []
    if is_openstreetmap(source.buildings):
        return read_osm_buildings(source.buildings, findings)
    return read_buildings(_unpacked(source.buildings), source.buildings.name, findings)


def _place_sensors(source: Source, city: City, streets: list[Street], findings: Findings) -> SensorImport:
    if source.sensors is None:
        return SensorImport()
    parts: dict[str, list[int]] = {}
    for segment, street in enumerate(streets):
        parts.setdefault(street.source_id, []).append(segment)
    return read_sensors(_unpacked(source.sensors), source.sensors.name, city, parts, findings)


def _move(folder: Path, out: Path) -> None:
    """Put the new files in place; those of an earlier import that were not made again go."""
    out.mkdir(exist_ok=True)
    for name in MADE:
        if (folder / name).exists():
            (folder / name).replace(out / name)
        else:
            (out / name).unlink(missing_ok=True)


def _report(
    streets: list[Street], city: City, buildings: list[Building], placed: SensorImport, findings: Findings
) -> dict[str, Any]:
    def found(kind: str) -> dict[str, Any]:
        return {
            "left_out": findings.of(kind, is_left_out=True),
            "notes": findings.of(kind, is_left_out=False),
        }

    derived_heights = sum(b.is_derived for b in buildings)
    return {
        "city": city.name,
        "crs": city.crs,
        "timezone": city.timezone,
        "network_hash": city.network_hash,
        "network": {
            "streets": len({s.source_id for s in streets}),
            "segments": len(streets),
            "nodes": city.network.n_nodes,
            "length_km": round(float(city.network.length_m.sum()) / 1000.0, 1),
            "car_edges": city.car_edges.n_edges,
            "bicycle_edges": city.bicycle_edges.n_edges,
            "receptors": city.grid.n_receptors,
            "derived_share_of_motor_streets": derived_shares(streets),
            **found("segment"),
        },
        "sensors": {"imported": len(placed.features), "matched": placed.matches, **found("sensor")},
        "buildings": {
            "imported": len(buildings),
            "derived_height_share": round(derived_heights / len(buildings), 4) if buildings else None,
            "residential": sum(b.use == RESIDENTIAL for b in buildings),
            "use_unknown": sum(b.use is None for b in buildings),
            **found("building"),
        },
    }


def _lines(report: Mapping[str, Any], findings: Findings) -> list[str]:
    """What is told on the terminal."""
    network, sensors, settings = report["network"], report["sensors"], report["settings"]
    derived = network["derived_share_of_motor_streets"].items()
    shares = ", ".join(f"{field} {share:.0%}" for field, share in derived if share)
    lines = [
        f"settings: from {settings['from']}"
        if settings["from"] != "defaults"
        else "settings: none given, all assumed",
        *(f"  assumed: {text}" for text in settings["assumed"]),
        f"network: {network['streets']} streets, {network['segments']} segments, {network['nodes']} nodes, "
        f"{network['length_km']} km; {network['car_edges']} directed edges for motor traffic, "
        f"{network['bicycle_edges']} for bicycles",
        f"  derived, of the streets for motor traffic: {shares or 'nothing'}",
        f"receptors: {network['receptors']}; CRS {report['crs']}; time zone {report['timezone']}",
    ]
    buildings = report["buildings"]
    if buildings["imported"]:
        lines.append(
            f"buildings: {buildings['imported']}, "
            f"{buildings['derived_height_share']:.0%} with a derived height; "
            f"{buildings['residential']} residential, {buildings['use_unknown']} of unknown use"
        )
    lines.append(f"sensors: {sensors['imported']} imported, {len(sensors['matched'])} of them map-matched")
    lines += [
        f"  matched: {m['id']} to {m['segment_id']} ({m['street'] or 'no name'}, {m['direction']}), "
        f"{m['distance_m']} m away"
        for m in sensors["matched"]
    ]
    return [*lines, *findings.lines()]
