"""Where people live and work, from what a city pack happens to hold beside its streets.

``landcover.tif`` (Corine classes, codes 111 to 523 or values 1 to 44), ``buildings.geojson`` (floor space)
and ``population.csv`` (lon, lat, people) are each optional. A network alone says only where streets are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyproj import Transformer
from scipy.spatial import cKDTree

from cities.pack import City, CityError, read_features

STOREY_M = 3.0
REACH_M = 400.0  # who lives farther from a street than this walks to another one
# Residents and jobs beside a street of each Corine class against those of discontinuous urban fabric;
# assumed, in the order of published densities: dense centres, estates of work, parks, open land, water.
CORINE_DENSITY = {
    111: (2.0, 3.0), 112: (1.0, 1.0), 121: (0.1, 3.0), 122: (0.1, 0.6), 123: (0.05, 1.2), 124: (0.02, 2.0),
    131: (0.02, 0.2), 132: (0.02, 0.2), 133: (0.2, 0.5), 141: (0.2, 0.3), 142: (0.1, 0.5),
}  # fmt: skip
OPEN_LAND = (0.12, 0.06)
WATER = (0.05, 0.05)


@dataclass(frozen=True, slots=True)
class LandUse:
    """Density of homes and jobs at each node against an ordinary residential street, (n_nodes,) each."""

    homes: NDArray[np.float64]
    jobs: NDArray[np.float64]


def read_land_use(city: City) -> LandUse | None:
    """Land use at the nodes of a city, None when the pack says nothing of it.

    Raises
    ------
    CityError
        When a file is there and cannot be used.
    """
    homes, jobs = np.ones(city.network.n_nodes), np.ones(city.network.n_nodes)
    known = False
    if (city.folder / "landcover.tif").is_file():
        homes, jobs = _from_land_cover(city)
        known = True
    if (city.folder / "buildings.geojson").is_file():
        floor = _from_buildings(city)
        homes, jobs, known = homes * floor, jobs * floor, True
    if (city.folder / "population.csv").is_file():
        homes, known = _from_population(city), True
    return LandUse(homes, jobs) if known else None


def _from_land_cover(city: City) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    import rasterio

    path = city.folder / "landcover.tif"
    with rasterio.open(path) as raster:
        if raster.crs is None:
            raise CityError(f"{path}: crs: got none, expected a georeferenced raster")
        to_raster = Transformer.from_crs(city.crs, raster.crs, always_xy=True)
        x, y = to_raster.transform(*city.network.node_xy.T)
        code = np.array([v[0] for v in raster.sample(np.stack([x, y], axis=1))], dtype=np.int64)
    code = np.where(code < 100, _CORINE_CODES[np.clip(code, 0, _CORINE_CODES.size - 1)], code)
    density = np.array([_density(int(c)) for c in code])
    return density[:, 0], density[:, 1]


# Values 1 to 44 of the raster are the codes in order; 0 and what lies beyond are unknown.
_CORINE_CODES = np.array([
    0, 111, 112, 121, 122, 123, 124, 131, 132, 133, 141, 142, 211, 212, 213, 221, 222, 223, 231, 241, 242,
    243, 244, 311, 312, 313, 321, 322, 323, 324, 331, 332, 333, 334, 335, 411, 412, 421, 422, 423, 511, 512,
    521, 522, 523, 0,
])  # fmt: skip


def _density(code: int) -> tuple[float, float]:
    if code in CORINE_DENSITY:
        return CORINE_DENSITY[code]
    if 200 <= code < 400:
        return OPEN_LAND
    return WATER if code >= 400 else (0.5, 0.5)


def _from_buildings(city: City) -> NDArray[np.float64]:
    """Floor space near each node against the median of nodes that have some."""
    path = city.folder / "buildings.geojson"
    features = read_features(path.read_bytes(), path.name)
    to_metric = Transformer.from_crs("EPSG:4326", city.crs, always_xy=True)
    rings = [np.asarray(f["geometry"]["coordinates"][0], dtype=np.float64)[:, :2] for f in features]
    x, y = to_metric.transform(*np.concatenate(rings).T)
    starts = np.concatenate([[0], np.cumsum([len(r) for r in rings])])
    floor, centre = np.zeros(len(rings)), np.zeros((len(rings), 2))
    for k, feature in enumerate(features):
        px, py = x[starts[k] : starts[k + 1]], y[starts[k] : starts[k + 1]]
        centre[k] = px.mean(), py.mean()
        px, py = px - px[0], py - py[0]
        area = abs(float(px[:-1] @ py[1:] - px[1:] @ py[:-1])) / 2.0
        storeys = max(1.0, float(feature["properties"].get("height_m") or 9.0) / STOREY_M)
        floor[k] = area * storeys
    return _at_nodes(city, centre, floor)


def _from_population(city: City) -> NDArray[np.float64]:
    """People near each node against the median of nodes that have some."""
    path = city.folder / "population.csv"
    table = pd.read_csv(path)
    missing = {"lon", "lat", "people"} - set(table.columns)
    if missing:
        raise CityError(f"{path}: {', '.join(sorted(missing))}: got no such column, expected lon,lat,people")
    bad = table[~(table.people >= 0)]
    if len(bad):
        raise CityError(
            f"{path}: people: got {bad.people.iloc[0]} in line {bad.index[0] + 2}, expected at least 0"
        )
    to_metric = Transformer.from_crs("EPSG:4326", city.crs, always_xy=True)
    xy = np.stack(to_metric.transform(table.lon.to_numpy(), table.lat.to_numpy()), axis=1)
    return _at_nodes(city, xy, table.people.to_numpy(dtype=np.float64))


def _at_nodes(city: City, xy: NDArray[np.float64], amount: NDArray[np.float64]) -> NDArray[np.float64]:
    """Amounts given to the nearest node, per length of street there, median 1 where there is any."""
    distance, node = cKDTree(city.network.node_xy).query(xy, distance_upper_bound=REACH_M)
    near = np.isfinite(distance)
    n_nodes = city.network.n_nodes
    total = np.bincount(node[near], amount[near], n_nodes)
    ends = np.concatenate([city.network.from_node, city.network.to_node])
    street_m = np.bincount(ends, np.tile(city.network.length_m / 2.0, 2), n_nodes)
    density = total / np.maximum(street_m, 20.0)
    some = density > 0
    return np.asarray(density / np.median(density[some])) if some.any() else np.ones(n_nodes)
