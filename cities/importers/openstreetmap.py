"""Streets and buildings of an OpenStreetMap file (.osm.pbf, .osm)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cities.importers.buildings import DECIMALS, Building
from cities.importers.findings import Findings
from cities.importers.osm_tags import building_height_m, building_use, is_roundabout, street_properties
from cities.importers.streets import Street
from cities.pack import CityError

SUFFIXES = (".pbf", ".osm", ".osm.gz", ".osm.bz2")
STOP_LINE_M = 30.0  # traffic lights this near to where ways meet are those of the crossing (assumed)
M_PER_DEGREE = 111_195.0
NO_BUILDING = ("no", "entrance", "proposed", "demolished", "razed", "ruins")

Position = tuple[int, float, float]
"""Node, longitude and latitude."""


@dataclass(frozen=True, slots=True)
class _Way:
    """A way, as runs of nodes whose place is known."""

    id: int
    runs: list[list[Position]]
    properties: dict[str, Any]
    is_roundabout: bool


def is_openstreetmap(path: Path) -> bool:
    """By the file's name."""
    return path.name.endswith(SUFFIXES)


def read_osm_streets(path: Path, findings: Findings) -> list[Street]:
    """Ways on which somebody travels, split where they share a node; junctions are marked at their ends.

    Raises
    ------
    CityError
        When the file cannot be read or holds no street.
    """
    ways, junctions = list(_ways(path, findings)), _junctions(path)
    uses = Counter(node for way in ways for run in way.runs for node, _, _ in _once(run))
    streets: list[Street] = []
    for way in ways:
        split = [(part, _positions(part)) for run in way.runs for part in _split(run, uses)]
        parts = [(part, lonlat) for part, lonlat in split if len(lonlat) >= 2]
        for number, (part, lonlat) in enumerate(parts, start=1):
            identifier = f"w{way.id}" if len(parts) == 1 else f"w{way.id}.{number}"
            ends = _ends(part, junctions, is_roundabout=way.is_roundabout)
            streets.append(Street(identifier, lonlat, way.properties | ends, f"w{way.id}"))
    if not streets:
        raise CityError(f"{path}: holds no way with a highway tag that can be a street")
    return streets


def _once(nodes: list[Position]) -> list[Position]:
    """Nodes of a way; of a closed one, its first node is not counted again."""
    return nodes[:-1] if nodes[0][0] == nodes[-1][0] else nodes


def _ways(path: Path, findings: Findings) -> Iterator[_Way]:
    osmium = _osmium()
    try:
        processor = osmium.FileProcessor(str(path), osmium.osm.NODE | osmium.osm.WAY)
        processor = processor.with_locations().with_filter(osmium.filter.EntityFilter(osmium.osm.WAY))
        for way in processor.with_filter(osmium.filter.KeyFilter("highway")):
            tags = {tag.k: tag.v for tag in way.tags}
            properties = street_properties(tags)
            if properties is None:
                continue
            runs = _located([(n.ref, n.location) for n in way.nodes])
            if sum(len(run) for run in runs) < len(way.nodes):
                findings.note("segment", f"w{way.id}", "some of its nodes are not in the file; cut there")
            yield _Way(way.id, runs, properties, is_roundabout(tags))
    except (RuntimeError, OSError) as error:
        raise CityError(f"{path}: cannot be read as OpenStreetMap data: {error}") from error


def _junctions(path: Path) -> dict[int, str]:
    """Nodes with traffic lights, and mini-roundabouts, as junctions of the interchange format."""
    osmium = _osmium()
    kinds = {"traffic_signals": "crossing", "mini_roundabout": "roundabout"}
    try:
        nodes = osmium.FileProcessor(str(path), osmium.osm.NODE).with_filter(
            osmium.filter.KeyFilter("highway")
        )
        return {node.id: kinds[node.tags["highway"]] for node in nodes if node.tags["highway"] in kinds}
    except (RuntimeError, OSError) as error:
        raise CityError(f"{path}: cannot be read as OpenStreetMap data: {error}") from error


def _ends(nodes: list[Position], junctions: dict[int, str], *, is_roundabout: bool) -> dict[str, str]:
    """Junctions at the ends of a part; lights stand at stop lines too, before the node where ways meet."""
    if is_roundabout:
        return {"junction_start": "roundabout", "junction_end": "roundabout"}
    lonlat = np.array([position[1:] for position in nodes])
    scale = M_PER_DEGREE * np.array([np.cos(np.radians(lonlat[0, 1])), 1.0])
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*(np.diff(lonlat, axis=0) * scale).T))])
    ends = {}
    for field, from_end_m in (("junction_start", along), ("junction_end", along[-1] - along)):
        near = [
            (from_m, junctions[node])
            for (node, _, _), from_m in zip(nodes, from_end_m, strict=True)
            if node in junctions and from_m <= min(STOP_LINE_M, along[-1] - from_m)
        ]
        if near:
            ends[field] = min(near)[1]
    return ends


def _located(nodes: list[tuple[int, Any]]) -> list[list[Position]]:
    """Runs of nodes whose place is known; an extract may lack those outside."""
    runs: list[list[Position]] = [[]]
    for node, location in nodes:
        if location.valid():
            runs[-1].append((node, round(location.lon, DECIMALS), round(location.lat, DECIMALS)))
        else:
            runs.append([])
    return [run for run in runs if len(run) >= 2]


def _split(nodes: list[Position], uses: Counter[int]) -> Iterator[list[Position]]:
    """Parts between junctions; a closed way starts at one, so that no part ends where nothing meets."""
    if nodes[0][0] == nodes[-1][0]:
        first = next((k for k, n in enumerate(nodes) if uses[n[0]] > 1), 0)
        nodes = nodes[first:-1] + nodes[: first + 1]
    start = 0
    for k in range(1, len(nodes)):
        if uses[nodes[k][0]] > 1 or k == len(nodes) - 1:
            yield nodes[start : k + 1]
            start = k


def _positions(part: list[Position]) -> NDArray[np.float64]:
    """Positions without repeated ones, (n, 2) [deg]; fewer than two when the part has no length."""
    lonlat = np.array([(lon, lat) for _, lon, lat in part])
    keep = np.concatenate([[True], np.abs(np.diff(lonlat, axis=0)).max(axis=1) > 1e-9])
    return np.asarray(lonlat[keep])


def read_osm_buildings(path: Path, findings: Findings) -> list[Building]:
    """Buildings drawn as ways or multipolygons; one of several outlines becomes several.

    Raises
    ------
    CityError
        When the file cannot be read.
    """
    osmium = _osmium()
    made, drawn, seen = [], set(), set()
    try:
        processor = osmium.FileProcessor(str(path)).with_areas(osmium.filter.KeyFilter("building"))
        for thing in processor.with_filter(osmium.filter.KeyFilter("building")):
            tags = {tag.k: tag.v for tag in thing.tags}
            if thing.is_node() or tags["building"] in NO_BUILDING or tags.get("location") == "underground":
                continue
            if not thing.is_area():
                drawn.add(f"{'w' if thing.is_way() else 'r'}{thing.id}")
                continue
            identifier = f"{'w' if thing.from_way() else 'r'}{thing.orig_id()}"
            seen.add(identifier)
            made += _outlines(thing, identifier, *building_height_m(tags), building_use(tags))
    except (RuntimeError, OSError) as error:
        raise CityError(f"{path}: cannot be read as OpenStreetMap data: {error}") from error
    for identifier in sorted(drawn - seen):
        findings.leave_out(
            "building", identifier, "its outline does not close, or is partly outside the file"
        )
    return made


def _outlines(
    area: Any, identifier: str, height_m: float, is_derived: bool, use: str | None
) -> list[Building]:
    outers = list(area.outer_rings())
    made = []
    for number, outer in enumerate(outers, start=1):
        own = identifier if len(outers) == 1 else f"{identifier}.{number}"
        rings = tuple(
            tuple((round(n.lon, DECIMALS), round(n.lat, DECIMALS)) for n in ring)
            for ring in (outer, *area.inner_rings(outer))
        )
        made.append(Building(own, rings, height_m, is_derived, use))
    return made


def _osmium() -> Any:
    try:
        import osmium
    except ImportError as error:
        raise CityError(
            "OpenStreetMap data needs the package osmium: pip install -c constraints.txt -e '.[import]'"
        ) from error
    return osmium
