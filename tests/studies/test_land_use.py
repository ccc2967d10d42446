"""Land use of a toy city: denser where buildings, people or land cover say so; refused by file and field."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from pyproj import Transformer
from rasterio.transform import from_origin

from cities.pack import City, CityError, load_city
from kernels.network import Mode
from studies.demand import build_zones, draw_demand
from studies.land_use import CORINE_DENSITY, OPEN_LAND, read_land_use


@pytest.fixture
def city(toy_folder: Path) -> City:
    return load_city(toy_folder)


def corner(city: City) -> int:
    """Node at the south-west."""
    return int(np.argmin(city.network.node_xy.sum(axis=1)))


def lonlat(city: City, x: float, y: float) -> tuple[float, float]:
    lon, lat = Transformer.from_crs(city.crs, "EPSG:4326", always_xy=True).transform(x, y)
    return float(lon), float(lat)


def test_a_network_alone_says_nothing_of_land_use(city: City) -> None:
    assert read_land_use(city) is None


def test_floor_space_counts_by_area_and_storeys(city: City) -> None:
    features = []
    for node, (x, y) in enumerate(city.network.node_xy):
        side, height = (20.0, 30.0) if node == corner(city) else (10.0, 6.0)
        square = [(0, 0), (side, 0), (side, side), (0, side), (0, 0)]
        ring = [lonlat(city, x + a - side / 2, y + b - side / 2) for a, b in square]
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "properties": {"height_m": height}, "geometry": geometry})
    collection = {"type": "FeatureCollection", "features": features}
    (city.folder / "buildings.geojson").write_text(json.dumps(collection))
    found = read_land_use(city)
    assert found is not None
    assert np.median(found.homes) == pytest.approx(1.0)
    ends = np.bincount(np.concatenate([city.network.from_node, city.network.to_node]))
    floor = found.homes * ends  # every street of the toy is as long as the others
    # four times the ground and five times the storeys
    others = np.delete(floor, corner(city))
    np.testing.assert_allclose(floor[corner(city)] / others, 4 * 5, rtol=0.02)


def test_people_live_where_the_table_says(city: City) -> None:
    x, y = city.network.node_xy[corner(city)]
    lon, lat = lonlat(city, x, y)
    (city.folder / "population.csv").write_text(f"lon,lat,people\n{lon},{lat},500\n")
    found = read_land_use(city)
    assert found is not None
    assert np.flatnonzero(found.homes > 0).tolist() == [corner(city)]


def test_land_cover_gives_each_node_the_density_of_its_class(city: City) -> None:
    xy = city.network.node_xy
    west, north = xy[:, 0].min() - 200, xy[:, 1].max() + 200
    codes = np.full((20, 20), 112, dtype=np.uint8)
    codes[:, 10:] = 211
    profile = {"driver": "GTiff", "height": 20, "width": 20, "count": 1, "dtype": "uint8", "crs": city.crs}
    with rasterio.open(
        city.folder / "landcover.tif", "w", transform=from_origin(west, north, 80, 80), **profile
    ) as raster:
        raster.write(codes, 1)
    found = read_land_use(city)
    assert found is not None
    east = xy[:, 0] > west + 800
    assert found.homes[~east] == pytest.approx(CORINE_DENSITY[112][0])
    assert found.jobs[east] == pytest.approx(OPEN_LAND[1])


def test_demand_begins_more_often_where_people_live(city: City) -> None:
    x, y = city.network.node_xy[corner(city)]
    lon, lat = lonlat(city, x, y)
    (city.folder / "population.csv").write_text(f"lon,lat,people\n{lon},{lat},500\n")
    plain = build_zones(city, Mode.CAR, None)
    dense = build_zones(city, Mode.CAR, read_land_use(city))
    zone = next(z for z, nodes in enumerate(plain.nodes) if corner(city) in nodes)

    def share(zones: object) -> float:
        drawn = [draw_demand(zones, Mode.CAR, np.random.default_rng(s))[0] for s in range(30)]  # type: ignore[arg-type]
        return float(np.mean([d[zone].sum() / d.sum() for d in drawn]))

    assert share(dense) > 1.2 * share(plain)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lon,lat\n1,2\n", "population.csv: people: got no such column"),
        ("lon,lat,people\n1,2,-3\n", "people: got -3 in line 2"),
    ],
)
def test_a_wrong_table_is_refused_by_field(city: City, text: str, message: str) -> None:
    (city.folder / "population.csv").write_text(text)
    with pytest.raises(CityError, match=message):
        read_land_use(city)
