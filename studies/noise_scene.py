"""A scene in three dimensions, and the sound paths through it from a source to a receiver.

Terrain, areas of ground, buildings and walls are cut along the straight way from source to receiver, and
along the way by each vertical face that mirrors it (first order); what comes out are the profiles of
:mod:`kernels.cnossos_path`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import LineString, Polygon

from kernels.cnossos_path import N_BANDS, Profiles
from studies.noise_terrain import Terrain, TerrainError, terrain_of_lines

_EPS_M = 1e-6
MIN_FACE_M = 0.5  # shorter faces reflect nothing

# Absorption of a hard face whose own is not given: the one of the published cases.
HARD_FACE = (0.00492, 0.00809, 0.01327, 0.02168, 0.03526, 0.05688, 0.09078, 0.14259)


class SceneError(ValueError):
    """A scene that cannot be read: which field, what it has, what was expected."""


@dataclass(frozen=True, slots=True)
class Face:
    """A vertical face, upright over the line from a to b.

    ``top`` are the heights of its upper edge at both ends [m], ``absorption`` is (8,). A face of a building
    reflects on its right side only, walking from a to b; a wall on both.
    """

    a: NDArray[np.float64]
    b: NDArray[np.float64]
    top: tuple[float, float]
    absorption: NDArray[np.float64]
    is_wall: bool


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that stands between sources and receivers.

    Attributes
    ----------
    terrain : Terrain or None
        None for level ground at height 0.
    default_g : float
        Ground factor outside all areas.
    areas : list of (polygon, float)
        Ground factors; where areas overlap the smallest one counts.
    buildings : list of (polygon, float)
        Footprints and the heights of their tops above the datum [m].
    faces : list of Face
        Of buildings and walls.
    """

    terrain: Terrain | None = None
    default_g: float = 0.0
    areas: list[tuple[Any, float]] = field(default_factory=list)
    buildings: list[tuple[Any, float]] = field(default_factory=list)
    faces: list[Face] = field(default_factory=list)

    def ground(self, x: float, y: float) -> float:
        return 0.0 if self.terrain is None else self.terrain.height(x, y)

    def g(self, x: float, y: float) -> float:
        point = shapely.Point(x, y)
        here = [(area.area, g) for area, g in self.areas if area.intersects(point)]
        return min(here)[1] if here else self.default_g


@dataclass(frozen=True, slots=True)
class Path:
    """One way of the sound: directly, or by one face.

    Attributes
    ----------
    x, z, g : (n,) float64
        As in :class:`kernels.cnossos_path.Profiles`.
    source_height_m, receiver_height_m, source_g, distance_m : float
    reflector_x, reflector_top : float
        NaN without reflection.
    reflected : (8,) float64
    """

    x: NDArray[np.float64]
    z: NDArray[np.float64]
    g: NDArray[np.float64]
    source_height_m: float
    receiver_height_m: float
    source_g: float
    distance_m: float
    reflector_x: float
    reflector_top: float
    reflected: NDArray[np.float64]

    @property
    def is_reflected(self) -> bool:
        return bool(np.isfinite(self.reflector_x))


def profiles_of(paths: Sequence[Path]) -> Profiles:
    """Paths one after the other."""

    def each(name: str) -> NDArray[np.float64]:
        return np.array([getattr(path, name) for path in paths], dtype=np.float64)

    def joined(name: str) -> NDArray[np.float64]:
        return np.concatenate([getattr(path, name) for path in paths])

    start = np.concatenate([[0], np.cumsum([path.x.size for path in paths])]).astype(np.int64)
    return Profiles(
        joined("x"), joined("z"), joined("g"), start, each("source_height_m"), each("receiver_height_m"),
        each("source_g"), each("distance_m"), each("reflector_x"), each("reflector_top"), each("reflected"),
    )  # fmt: skip


def paths_between(
    scene: Scene, source: NDArray[np.float64], receiver: NDArray[np.float64], reflections: int
) -> list[Path]:
    """The direct path, then those by one face each.

    Parameters
    ----------
    scene : Scene
    source, receiver : (3,) float64
        Position, height above the datum [m].
    reflections : int
        0 for none, 1 for those of first order.
    """
    found = [_path(scene, source, receiver, None)]
    if reflections:
        for face in scene.faces:
            by = _mirrored(scene, face, source, receiver)
            if by is not None:
                found.append(by)
    return found


def _mirrored(
    scene: Scene, face: Face, source: NDArray[np.float64], receiver: NDArray[np.float64]
) -> Path | None:
    along = face.b - face.a
    length = float(np.hypot(*along))
    if length < MIN_FACE_M:
        return None
    right = np.array([along[1], -along[0]]) / length
    to_source, to_receiver = float((source[:2] - face.a) @ right), float((receiver[:2] - face.a) @ right)
    if to_source * to_receiver <= 0.0 or (to_source < 0.0 and not face.is_wall):
        return None
    if min(abs(to_source), abs(to_receiver)) < _EPS_M:
        return None
    image = source[:2] - 2.0 * to_source * right
    share = to_source / (to_source + to_receiver)
    place = image + share * (receiver[:2] - image)
    at = float((place - face.a) @ along) / length**2
    if not 0.0 <= at <= 1.0:
        return None
    top = face.top[0] + at * (face.top[1] - face.top[0])
    ray = float(source[2] + share * (receiver[2] - source[2]))
    if top <= max(ray, scene.ground(*place)):
        return None
    return _path(scene, source, receiver, (place, top, face.absorption))


def _path(
    scene: Scene,
    source: NDArray[np.float64],
    receiver: NDArray[np.float64],
    mirror: tuple[NDArray[np.float64], float, NDArray[np.float64]] | None,
) -> Path:
    if mirror is None:
        x, z, g = _cut(scene, source[:2], receiver[:2])
        reflector_x = top = np.nan
        reflected = np.ones(N_BANDS)
    else:
        place, top, absorption = mirror
        x, z, g = _cut(scene, source[:2], place)
        reflector_x = x[-1]
        x2, z2, g2 = _cut(scene, place, receiver[:2])
        x = np.concatenate([x[:-1], x[-1] + x2])
        z, g = np.concatenate([z[:-1], z2]), np.concatenate([g[:-1], g2])
        reflected = 1.0 - absorption
    return Path(
        x=x,
        z=z,
        g=g,
        source_height_m=float(source[2] - z[0]),
        receiver_height_m=float(receiver[2] - z[-1]),
        source_g=scene.g(*source[:2]),
        distance_m=float(np.hypot(x[-1], receiver[2] - source[2])),
        reflector_x=float(reflector_x),
        reflector_top=float(top),
        reflected=reflected,
    )


def _cut(
    scene: Scene, start: NDArray[np.float64], end: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Profile along a straight way: distance and height of ground and obstacles, ground factor after each."""
    length = float(np.hypot(*(end - start)))
    way = LineString([start, end])
    roofs = [(*span, top) for footprint, top in scene.buildings for span in _spans(way, footprint)]
    walls = dict(_walls(scene, start, end, length))
    places = {0.0, length, *walls, *(at for begin, until, _ in roofs for at in (begin, until))}
    if scene.terrain is not None:
        places.update(float(t) * length for t in scene.terrain.crossings(start, end))
    for area, _ in scene.areas:
        places.update(at for span in _spans(way, area) for at in span)

    breaks = _apart(sorted(places), length)
    x, z, g = [0.0], [scene.ground(*start)], [scene.default_g]
    for left, right in pairwise(breaks):
        middle = start + (end - start) * (0.5 * (left + right) / length)
        roof = max((top for begin, until, top in roofs if begin < 0.5 * (left + right) < until), default=None)
        z_left, z_right = (scene.ground(*(start + (end - start) * (at / length))) for at in (left, right))
        factor = scene.g(*middle)
        if roof is not None and roof > min(z_left, z_right):
            z_left = z_right = roof
            factor = 0.0
        if z[-1] != z_left and left > 0.0:
            x.append(left)
            z.append(z_left)
            g.append(factor)
        g[-1] = factor
        x.append(right)
        z.append(z_right)
        g.append(factor)
        top = max((t for at, t in walls.items() if abs(at - right) < _EPS_M), default=-np.inf)
        if top > z_right:
            x += [right, right]
            z += [top, z_right]
            g += [factor, factor]
    return np.array(x), np.array(z), np.array(g)


def _apart(places: list[float], length: float) -> list[float]:
    """Ascending places of which none are one; both ends stay."""
    kept = [0.0]
    for at in places:
        if kept[-1] + _EPS_M < at < length - _EPS_M:
            kept.append(at)
    return [*kept, length]


def _spans(way: Any, polygon: Any) -> Iterator[tuple[float, float]]:
    """Stretches of a way inside a polygon; not those along its edge."""
    inside = way.intersection(polygon)
    for part in getattr(inside, "geoms", [inside]):
        if part.geom_type != "LineString" or part.length <= _EPS_M:
            continue
        ends = sorted(way.project(shapely.Point(p)) for p in (part.coords[0], part.coords[-1]))
        if polygon.contains(part.interpolate(0.5, normalized=True)):
            yield ends[0], ends[1]


def _walls(
    scene: Scene, start: NDArray[np.float64], end: NDArray[np.float64], length: float
) -> Iterator[tuple[float, float]]:
    """Where walls stand across the way, and how high."""
    way = (end - start) / length
    for face in scene.faces:
        if not face.is_wall:
            continue
        along, off = face.b - face.a, face.a - start
        cross = float(way[0] * along[1] - way[1] * along[0])
        if abs(cross) < _EPS_M:
            continue
        at = float(off[0] * along[1] - off[1] * along[0]) / cross
        share = float(off[0] * way[1] - off[1] * way[0]) / cross
        if _EPS_M < at < length - _EPS_M and 0.0 <= share <= 1.0:
            yield at, face.top[0] + share * (face.top[1] - face.top[0])


def read_scene(fields: Mapping[str, Any]) -> Scene:
    """Scene of the fields of a case.

    Parameters
    ----------
    fields : mapping
        ``default_ground_G``; ``ground_areas`` of ``polygon`` and ``G``; ``buildings`` of ``footprint``,
        ``height_or_top_z`` (height of the top above the datum) and ``alpha`` (absorption: a number, one for
        each band, or null for a hard face); ``walls`` of ``line`` (points with the heights of the top) and
        ``alpha``; ``topography_lines`` of ``line`` (points with heights).

    Raises
    ------
    SceneError
        Naming the field.
    """
    scene = Scene(default_g=_number(fields.get("default_ground_G", 0.0), "default_ground_G"))
    for i, area in enumerate(_list(fields, "ground_areas")):
        name = f"ground_areas[{i}]"
        scene.areas.append((_polygon(area, "polygon", name), _number(area.get("G"), f"{name}.G")))
    for i, building in enumerate(_list(fields, "buildings")):
        name = f"buildings[{i}]"
        footprint = shapely.orient_polygons(_polygon(building, "footprint", name))
        top = _number(building.get("height_or_top_z"), f"{name}.height_or_top_z")
        scene.buildings.append((footprint, top))
        ring = np.array(footprint.exterior.coords)
        absorption = _absorption(building.get("alpha"), f"{name}.alpha")
        scene.faces.extend(Face(a, b, (top, top), absorption, False) for a, b in pairwise(ring))
    for i, wall in enumerate(_list(fields, "walls")):
        name = f"walls[{i}]"
        line = _points(wall.get("line"), 3, f"{name}.line")
        absorption = _absorption(wall.get("alpha"), f"{name}.alpha")
        scene.faces.extend(
            Face(a[:2], b[:2], (float(a[2]), float(b[2])), absorption, True) for a, b in pairwise(line)
        )
    lines = [
        _points(each.get("line"), 3, f"topography_lines[{i}].line")
        for i, each in enumerate(_list(fields, "topography_lines"))
    ]
    if not lines:
        return scene
    try:
        terrain = terrain_of_lines(lines)
    except TerrainError as error:
        raise SceneError(f"topography_lines: {error}") from error
    return Scene(terrain, scene.default_g, scene.areas, scene.buildings, scene.faces)


def _list(fields: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    value = fields.get(name) or []
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise SceneError(f"{name}: got {str(value)[:60]!r}, expected a list of objects")
    return value


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise SceneError(f"{name}: got {value!r}, expected a number")
    return float(value)


def _points(value: Any, n: int, name: str) -> NDArray[np.float64]:
    try:
        points = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        points = np.empty(0)
    if points.ndim != 2 or points.shape[0] < 2 or points.shape[1] != n or not np.isfinite(points).all():
        raise SceneError(f"{name}: got {str(value)[:60]}, expected two or more points of {n} numbers")
    return points


def _polygon(fields: Mapping[str, Any], field_name: str, name: str) -> Any:
    name = f"{name}.{field_name}"
    polygon = Polygon(_points(fields.get(field_name), 2, name)) if fields.get(field_name) else None
    if polygon is None or not polygon.is_valid or polygon.is_empty:
        raise SceneError(f"{name}: expected three or more points of two numbers that enclose one area")
    return polygon


def _absorption(value: Any, name: str) -> NDArray[np.float64]:
    try:
        alpha = np.array(HARD_FACE if value is None else value, dtype=np.float64)
    except (TypeError, ValueError):
        alpha = np.empty(0)
    if alpha.shape not in ((), (N_BANDS,)) or not ((alpha >= 0.0) & (alpha <= 1.0)).all():
        raise SceneError(f"{name}: got {value!r}, expected null, a number or {N_BANDS} numbers of 0 to 1")
    return np.broadcast_to(alpha, N_BANDS)
