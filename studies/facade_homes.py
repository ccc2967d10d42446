"""Receptors in front of the facades of a city's homes, from the outlines of its buildings."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from cities.importers.osm_tags import RESIDENTIAL, UNKNOWN_HEIGHT_M
from cities.noise_geometry import BUILDINGS
from cities.pack import City, CityError, read_features
from kernels.facades import FacadeReceptors, facade_points
from kernels.receptors import TILE, ReceptorGrid

STOREY_M = 3.0  # people are spread by floor area, for which only its proportions matter
_STRIP_M = 150.0  # homes come strip by strip, each from south to north: a segment then has few, long runs
_SMALLEST_M2 = 1e-4  # as in cities.noise_geometry, which leaves smaller buildings out


def facade_receptors(city: City) -> FacadeReceptors:
    """Receptors of the homes within the grid of a city.

    A building is a home if its ``use`` is "residential", or not told. Receptors in front of one building that
    lie in another, as at a wall between two houses, are left out.

    Raises
    ------
    CityError
        Naming the building whose ``use`` is not a text.
    """
    features = read_features((city.folder / BUILDINGS).read_bytes(), BUILDINGS)
    to_metric = Transformer.from_crs("EPSG:4326", city.crs, always_xy=True)
    shapes = shapely.from_geojson([_text(feature["geometry"]) for feature in features])
    shapes = shapely.transform(
        shapes, lambda xy: np.stack(to_metric.transform(xy[:, 0], xy[:, 1]), axis=1).round(3)
    )
    valid = shapely.is_valid(shapes)
    shapes[~valid] = shapely.make_valid(shapes[~valid])
    area = shapely.area(shapes)
    is_home = (area >= _SMALLEST_M2) & np.array([_is_home(f["properties"]) for f in features], dtype=np.bool_)

    part, owner = shapely.get_parts(shapes, return_index=True)
    has_area = shapely.area(part) >= _SMALLEST_M2  # not the lines and points that a repair may leave
    ring, of_part = shapely.get_rings(part[has_area], return_index=True)
    owner = owner[has_area][of_part]
    is_ring = shapely.area(shapely.polygons(ring)) >= _SMALLEST_M2
    outlines = [shapely.get_coordinates(r) for r in ring[is_ring]]
    points = facade_points(outlines, owner[is_ring].astype(np.int32))

    n_outside = np.bincount(points.building[~_within(points.xy, city.grid)], minlength=len(features))
    n_points = np.bincount(points.building, minlength=len(features))
    has_receptors = is_home & (n_points > 0) & (n_outside == 0)
    home = np.flatnonzero(is_home)
    middle = shapely.get_coordinates(shapely.centroid(shapes[home]))
    tile, strip = _places(middle, city.grid)
    order = np.lexsort((middle[:, 1], strip, tile, ~has_receptors[home]))
    home, middle, tile = home[order], middle[order], tile[order]

    number = np.full(len(features), -1, dtype=np.int64)
    number[home] = np.arange(home.size)
    kept = np.flatnonzero(has_receptors[points.building])
    kept = kept[np.argsort(number[points.building[kept]], kind="stable")]
    of = number[points.building[kept]]
    height = np.array([_height_m(features[k]["properties"]) for k in home])
    return FacadeReceptors(
        xy=points.xy[kept],
        home=of.astype(np.int32),
        tile_start=np.searchsorted(tile[of], np.arange(len(city.grid.tiles()) + 1)).astype(np.int64),
        building=home.astype(np.int32),
        home_xy=middle,
        floor_area_m2=area[home] * height / STOREY_M,
    )


def _text(geometry: Any) -> str:
    import orjson

    return orjson.dumps(geometry).decode()


def _is_home(properties: Any) -> bool:
    use = properties.get("use")
    if use is not None and not isinstance(use, str):
        name = properties.get("id")
        raise CityError(f"{BUILDINGS}: building {name}: use: got {use!r}, expected a text")
    return use in (None, RESIDENTIAL)


def _height_m(properties: Any) -> float:
    """Height, which has been checked where obstacles are read."""
    value = properties.get("height_m")
    return UNKNOWN_HEIGHT_M if value is None else float(value)


def _within(xy: NDArray[np.float64], grid: ReceptorGrid) -> NDArray[np.bool_]:
    return np.asarray(grid.cell_of(xy) >= 0)


def _places(xy: NDArray[np.float64], grid: ReceptorGrid) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tile of each place, those outside going to the nearest, and its strip from west to east."""
    limit = np.array([grid.n_columns - 1, grid.n_rows - 1])
    origin = np.array([grid.x_min, grid.y_min])
    column, row = np.clip(((xy - origin) // grid.step_m).astype(np.int64), 0, limit).T // TILE
    per_row = -(-grid.n_columns // TILE)
    return row * per_row + column, ((xy[:, 0] - grid.x_min) // _STRIP_M).astype(np.int64)
