"""What a city pack says of the way of sound: buildings, screens, ground and terrain, as arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from cities.importers.osm_tags import UNKNOWN_HEIGHT_M
from cities.pack import City, CityError, degrees_fault, read_features
from kernels.obstacles import CELL_M, Obstacles, index_obstacles

BUILDINGS, BARRIERS, LAND_COVER, TERRAIN = (
    "buildings.geojson", "barriers.geojson", "landcover.tif", "terrain.tif",
)  # fmt: skip
MARGIN_M = 100.0  # around receptors and roads: what stands beyond is on no path
_TOLD = 5  # objects that are named in a finding
_SMALLEST_M2 = 1e-4

# Ground factor of Corine classes (the first digits that match count): 0 hard, 1 porous. Assumed, after the
# classes of ground of the method: paved areas and water 0, suburbs with gardens 0.5, vegetation 1.
GROUND_FACTORS = {
    "111": 0.0, "112": 0.5, "121": 0.0, "122": 0.0, "123": 0.0, "124": 0.3, "13": 0.5, "14": 0.7, "2": 1.0,
    "31": 1.0, "32": 1.0, "331": 1.0, "332": 0.3, "333": 0.7, "334": 0.7, "335": 1.0, "41": 0.7, "42": 0.7,
    "5": 0.0,
}  # fmt: skip
_LEVEL_3 = (
    111, 112, 121, 122, 123, 124, 131, 132, 133, 141, 142, 211, 212, 213, 221, 222, 223, 231, 241, 242, 243,
    244, 311, 312, 313, 321, 322, 323, 324, 331, 332, 333, 334, 335, 411, 412, 421, 422, 423, 511, 512, 521,
    522, 523,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class NoiseGeometry:
    """Obstacles of a city, and what had to be done to have them.

    Attributes
    ----------
    obstacles : Obstacles
    box : (n_objects, 4) float64
        West, south, east, north of each building and screen [m].
    digest : (n_objects, 2) uint64
        Of the outline and height of each.
    base_key : str
        Of everything that is not a building or screen: ground factors, terrain, the grid of cells.
    n_buildings, n_barriers, n_derived, n_repaired : int
        How many stand here, buildings with a height that was not measured, outlines that were repaired.
    findings : tuple of str
        What was assumed, repaired or left out, with identifiers.
    """

    obstacles: Obstacles
    box: NDArray[np.float64]
    digest: NDArray[np.uint64]
    base_key: str
    n_buildings: int
    n_barriers: int
    n_derived: int
    n_repaired: int
    findings: tuple[str, ...]


def has_obstacles(folder: Path) -> bool:
    """Whether a pack has anything that stands in the way of sound."""
    return any((folder / name).is_file() for name in (BUILDINGS, BARRIERS, TERRAIN))


def read_noise_geometry(city: City, ground_factor: float) -> NoiseGeometry:
    """Obstacles of a city.

    Footprints that cross themselves are repaired; a building without a height is taken as 9 m high. Both are
    counted, and so are buildings whose pack says that their height was derived.

    Parameters
    ----------
    city : City
    ground_factor : float
        Where the pack has no land cover.

    Raises
    ------
    CityError
        Naming the object or file that cannot be used.
    """
    origin, shape = cell_grid(city)
    findings: list[str] = []
    footprints, heights, n_derived, n_repaired = _buildings(city, findings)
    lines, line_heights = _barriers(city)
    ground = ground_heights_m(city, origin, shape)
    g = _ground_factors(city, origin, shape, ground_factor)

    digest = [_digest(shapely.to_wkb(f), h) for f, h in zip(footprints, heights, strict=True)]
    digest += [_digest(shapely.to_wkb(f), h) for f, h in zip(lines, line_heights, strict=True)]
    objects = np.array([*footprints, *lines], dtype=object)
    box = shapely.bounds(objects).reshape(-1, 4)

    edge, owner, top, n_tops = _edges(footprints, heights, lines, line_heights, origin, ground)
    obstacles = index_obstacles(origin, shape, edge, owner, top, n_tops, g, ground)
    base = hashlib.sha256(repr((origin, shape, CELL_M)).encode())
    base.update(obstacles.g.tobytes() + obstacles.ground.tobytes())
    return NoiseGeometry(
        obstacles, box, np.array(digest, dtype=np.uint64).reshape(-1, 2), base.hexdigest(), len(footprints),
        len(lines), n_derived, n_repaired, tuple(findings),
    )  # fmt: skip


def cell_grid(city: City) -> tuple[tuple[float, float], tuple[int, int]]:
    """Origin (x, y) [m] and shape (rows, columns) of the cells that cover receptors and roads.

    They are of ``CELL_M``, and do not depend on what stands there.
    """
    grid, xy = city.grid, city.network.vertex_xy
    low = np.minimum([grid.x_min, grid.y_min], xy.min(axis=0)) - MARGIN_M
    high = np.maximum(
        [grid.x_min + grid.n_columns * grid.step_m, grid.y_min + grid.n_rows * grid.step_m], xy.max(axis=0)
    )
    origin = np.floor(low / CELL_M) * CELL_M
    columns, rows = np.ceil((high + MARGIN_M - origin) / CELL_M).astype(int)
    return (float(origin[0]), float(origin[1])), (int(rows), int(columns))


def _digest(shape: bytes, height_m: float) -> tuple[int, int]:
    digest = hashlib.sha256(shape + repr(height_m).encode()).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")


def _buildings(city: City, findings: list[str]) -> tuple[list[Any], list[float], int, int]:
    path = city.folder / BUILDINGS
    if not path.is_file():
        return [], [], 0, 0
    to_metric = Transformer.from_crs("EPSG:4326", city.crs, always_xy=True)
    names, heights, derived, unknown = [], [], 0, []
    polygons = []
    for number, feature in enumerate(read_features(path.read_bytes(), path.name), start=1):
        name = str(feature["properties"].get("id") or f"number {number}")
        height, is_derived, is_given = _height_m(feature["properties"], name)
        polygons.append(_polygon(feature["geometry"], name))
        names.append(name)
        heights.append(height)
        derived += is_derived
        if not is_given:
            unknown.append(name)
    shapes = np.array(polygons, dtype=object)
    shapes = shapely.transform(
        shapes, lambda xy: np.stack(to_metric.transform(xy[:, 0], xy[:, 1]), axis=1).round(3)
    )
    for name, shape in zip(names, shapes, strict=True):
        if not np.isfinite(shapely.bounds(shape)).all():
            raise CityError(f"{BUILDINGS}: building {name}: coordinates: lie outside the city's CRS")
    valid = shapely.is_valid(shapes)
    repaired = [names[k] for k in np.flatnonzero(~valid)]
    shapes[~valid] = shapely.make_valid(shapes[~valid])
    area = shapely.area(shapes)
    empty = [names[k] for k in np.flatnonzero(area < _SMALLEST_M2)]
    _tell(findings, unknown, f"buildings without a height, taken as {UNKNOWN_HEIGHT_M:g} m high")
    if derived:
        findings.append(f"{derived} of {len(names)} buildings have a derived height")
    _tell(findings, repaired, "buildings whose outline crosses itself, repaired")
    _tell(findings, empty, "buildings without an area, left out")
    keep = np.flatnonzero(area >= _SMALLEST_M2)
    return list(shapes[keep]), [heights[k] for k in keep], derived, len(repaired)


def _tell(findings: list[str], names: list[str], what: str) -> None:
    if names:
        more = f" and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
        findings.append(f"{len(names)} {what}: {', '.join(names[:_TOLD])}{more}")


def _height_m(properties: Mapping[str, Any], name: str) -> tuple[float, bool, bool]:
    """Height [m], whether it was derived, and whether there was one."""
    value = properties.get("height_m")
    if value is None:
        return UNKNOWN_HEIGHT_M, True, False
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < 1000.0:
        raise CityError(f"{BUILDINGS}: building {name}: height_m: got {value!r}, expected 0 to 1000 m")
    return float(value), "height_m" in (properties.get("derived") or ()), True


def _polygon(geometry: Mapping[str, Any], name: str) -> Any:
    kind = geometry.get("type")
    if kind not in ("Polygon", "MultiPolygon"):
        raise CityError(f"{BUILDINGS}: building {name}: geometry.type: got {kind!r}, expected Polygon")
    parts = [geometry["coordinates"]] if kind == "Polygon" else geometry["coordinates"]
    try:
        rings = [[np.asarray(ring, dtype=np.float64)[:, :2] for ring in part] for part in parts]
        polygons = [shapely.Polygon(part[0], part[1:]) for part in rings]
    except (TypeError, ValueError, IndexError, shapely.GEOSException) as error:
        raise CityError(
            f"{BUILDINGS}: building {name}: coordinates: expected rings of four or more positions ({error})"
        ) from error
    if fault := next((told for part in rings for ring in part if (told := degrees_fault(ring))), ""):
        raise CityError(f"{BUILDINGS}: building {name}: coordinates: {fault}")
    return polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)


def _barriers(city: City) -> tuple[list[Any], list[float]]:
    path = city.folder / BARRIERS
    if not path.is_file():
        return [], []
    to_metric = Transformer.from_crs("EPSG:4326", city.crs, always_xy=True)
    lines, heights = [], []
    for number, feature in enumerate(read_features(path.read_bytes(), path.name), start=1):
        name = str(feature["properties"].get("id") or f"number {number}")
        height = feature["properties"].get("height_m")
        if isinstance(height, bool) or not isinstance(height, int | float) or not 0.0 < height < 1000.0:
            raise CityError(f"{BARRIERS}: barrier {name}: height_m: got {height!r}, expected 0 to 1000 m")
        try:
            lonlat = np.asarray(feature["geometry"].get("coordinates"), dtype=np.float64)[:, :2]
            line = shapely.LineString(np.stack(to_metric.transform(*lonlat.T), axis=1).round(3))
        except (TypeError, ValueError, IndexError, shapely.GEOSException) as error:
            raise CityError(f"{BARRIERS}: barrier {name}: coordinates: expected a line ({error})") from error
        lines.append(line)
        heights.append(float(height))
    return lines, heights


def _edges(
    footprints: list[Any],
    heights: list[float],
    lines: list[Any],
    line_heights: list[float],
    origin: tuple[float, float],
    ground: NDArray[np.float32] | None,
) -> tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.float64], int]:
    """Edges (n, 4), their owners, the tops of the owners, and how many of these are buildings.

    Buildings with tops of one height that touch or overlap become one: no edges between them.
    """
    tops = np.array([h + _base_m(f, origin, ground) for f, h in zip(footprints, heights, strict=True)])
    owners: list[Any] = []
    owner_tops: list[float] = []
    for level in np.unique(tops):
        together = shapely.union_all(np.array(footprints, dtype=object)[tops == level])
        parts = [p for p in shapely.get_parts(together, return_index=False) if p.geom_type == "Polygon"]
        owners += parts
        owner_tops += [float(level)] * len(parts)
    n_buildings = len(owners)
    edges: list[NDArray[np.float64]] = []
    owner: list[NDArray[np.int32]] = []
    for k, polygon in enumerate(owners):
        # exteriors counter-clockwise and holes clockwise: the building is on the left
        polygon = shapely.geometry.polygon.orient(polygon)
        for ring in (polygon.exterior, *polygon.interiors):
            xy = shapely.get_coordinates(ring)
            edges.append(np.concatenate([xy[:-1], xy[1:]], axis=1))
            owner.append(np.full(len(xy) - 1, k, dtype=np.int32))
    for line, height in zip(lines, line_heights, strict=True):
        xy = shapely.get_coordinates(line)
        for a, b in pairwise(xy):
            edges.append(np.concatenate([a, b])[None])
            owner.append(np.array([len(owner_tops)], dtype=np.int32))
            owner_tops.append(height + _base_m(shapely.LineString([a, b]), origin, ground))
    if not edges:
        return np.empty((0, 4)), np.empty(0, dtype=np.int32), np.empty(0), 0
    return np.concatenate(edges), np.concatenate(owner), np.array(owner_tops), n_buildings


def _base_m(shape: Any, origin: tuple[float, float], ground: NDArray[np.float32] | None) -> float:
    """Mean height of the terrain at the corners of a shape [m]."""
    if ground is None:
        return 0.0
    corners = np.unique(shapely.get_coordinates(shape), axis=0)  # a ring ends where it begins
    xy = (corners - np.array(origin)) / CELL_M
    column = np.clip(xy[:, 0].round().astype(int), 0, ground.shape[1] - 1)
    row = np.clip(xy[:, 1].round().astype(int), 0, ground.shape[0] - 1)
    return float(ground[row, column].mean())


def _sampled(
    city: City, path: Path, x: NDArray[Any], y: NDArray[Any], *, is_smooth: bool
) -> NDArray[np.float64]:
    """Raster at the crossings of columns x and rows y, NaN where it has none, (n_y, n_x)."""
    import rasterio
    from rasterio.warp import Resampling, reproject

    try:
        with rasterio.open(path) as raster:
            if raster.crs is None:
                raise CityError(f"{path}: crs: got none, expected a georeferenced raster")
            step = float(x[1] - x[0])
            out = np.full((y.size, x.size), np.nan)
            reproject(
                rasterio.band(raster, 1), out, src_nodata=raster.nodata, dst_nodata=np.nan,
                dst_crs=city.crs,
                dst_transform=rasterio.transform.from_origin(
                    x[0] - step / 2.0, y[-1] + step / 2.0, step, step
                ),
                resampling=Resampling.bilinear if is_smooth else Resampling.nearest,
            )  # fmt: skip
    except rasterio.errors.RasterioIOError as error:
        raise CityError(f"{path}: cannot be read as a raster: {error}") from error
    return out[::-1]


def ground_heights_m(
    city: City, origin: tuple[float, float], shape: tuple[int, int]
) -> NDArray[np.float32] | None:
    """Heights of the terrain at the corners of cells, (rows + 1, columns + 1) [m]; None without terrain.tif.

    Parameters
    ----------
    city : City
    origin, shape
        Of :func:`cell_grid`.

    Raises
    ------
    CityError
        When the file cannot be read, or has a gap between the receptors.
    """
    path = city.folder / TERRAIN
    if not path.is_file():
        return None
    x = origin[0] + np.arange(shape[1] + 1) * CELL_M
    y = origin[1] + np.arange(shape[0] + 1) * CELL_M
    z = _sampled(city, path, x, y, is_smooth=True)
    grid = city.grid
    inside = np.ix_(
        (y >= grid.y_min) & (y <= grid.y_min + grid.n_rows * grid.step_m),
        (x >= grid.x_min) & (x <= grid.x_min + grid.n_columns * grid.step_m),
    )
    missing = ~np.isfinite(z[inside])
    if missing.any():
        raise CityError(
            f"{path}: heights: got none at {missing.mean():.0%} of the places between the receptors, "
            "expected heights everywhere"
        )
    if not np.isfinite(z).all():  # the rim, where roads may lie and no receptor does
        from scipy.ndimage import distance_transform_edt

        nearest = distance_transform_edt(~np.isfinite(z), return_distances=False, return_indices=True)
        z = z[tuple(nearest)]
    return z.astype(np.float32)


def _ground_factors(
    city: City, origin: tuple[float, float], shape: tuple[int, int], ground_factor: float
) -> NDArray[np.float32] | float:
    path = city.folder / LAND_COVER
    if not path.is_file():
        return ground_factor
    x = origin[0] + (np.arange(shape[1]) + 0.5) * CELL_M
    y = origin[1] + (np.arange(shape[0]) + 0.5) * CELL_M
    code = np.nan_to_num(_sampled(city, path, x, y, is_smooth=False), nan=0.0).astype(np.int64)
    values = np.unique(code)
    factor = np.array([_factor(int(v), ground_factor, path) for v in values], dtype=np.float32)
    return factor[np.searchsorted(values, code)]


def _factor(code: int, unknown: float, path: Path) -> float:
    if 1 <= code <= len(_LEVEL_3):
        code = _LEVEL_3[code - 1]
    for digits in range(3, 0, -1):
        factor = GROUND_FACTORS.get(str(code)[:digits])
        if factor is not None and code in _LEVEL_3:
            return factor
    if code in (0, 48, 128, 255, -32768, 990, 995, 999):  # no data, of the usual editions
        return unknown
    raise CityError(f"{path}: got the value {code}, expected Corine classes (1 to 44, or 111 to 523)")
