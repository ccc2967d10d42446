"""What a pack says of the way of sound: terrain, land cover and outlines, or why they cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from cities.noise_geometry import has_obstacles, read_noise_geometry
from cities.pack import City, CityError, load_city
from kernels.obstacles import CELL_M, ground_height
from tests.studies.test_noise_transfers import write_city
from tests.studies.test_screened_noise import HOUSES, box, write

NO_DATA = -9999.0


@pytest.fixture
def city(tmp_path: Path) -> City:
    write_city(tmp_path / "toy")
    return write(tmp_path / "toy", HOUSES)


def put(city: City, name: str, values: NDArray[np.float64], nodata: float | None = None) -> None:
    """A raster of 25 m over the receptors of the toy and 300 m around them; row 0 is the northernmost."""
    transform = rasterio.transform.from_origin(499_700.0, 5_400_800.0, 25.0, 25.0)
    with rasterio.open(
        city.folder / name, "w", driver="GTiff", width=values.shape[1], height=values.shape[0], count=1,
        dtype="float32", crs=city.crs, transform=transform, nodata=nodata,
    ) as raster:  # fmt: skip
        raster.write(values.astype(np.float32), 1)


SHAPE = (45, 49)


def test_terrain_is_read_at_the_corners_of_cells_and_carries_the_buildings(city: City) -> None:
    east = 499_700.0 + (np.arange(SHAPE[1]) + 0.5) * 25.0
    put(city, "terrain.tif", np.broadcast_to(0.1 * (east - 500_000.0), SHAPE))
    geometry = read_noise_geometry(city, 0.5)
    x0, y0 = geometry.obstacles.origin
    for x, y in ((500_100.0, 5_400_100.0), (500_333.0, 5_400_412.0)):
        assert ground_height(geometry.obstacles, x - x0, y - y0) == pytest.approx(
            0.1 * (x - 500_000.0), abs=0.02
        )
    expected = 12.0 + 0.1 * np.array([70.0, 200.0, 540.0])  # middles of the houses
    np.testing.assert_allclose(np.sort(geometry.obstacles.top), expected, atol=0.6)


def test_terrain_with_a_gap_between_the_receptors_is_refused(city: City) -> None:
    heights = np.full(SHAPE, 4.0)
    heights[20:24, 20:24] = NO_DATA
    put(city, "terrain.tif", heights, NO_DATA)
    with pytest.raises(CityError, match=r"terrain\.tif: heights: got none at \d+% of the places"):
        read_noise_geometry(city, 0.5)


def test_a_gap_beyond_the_receptors_is_filled_from_its_border(city: City) -> None:
    heights = np.full(SHAPE, 4.0)
    heights[:4] = NO_DATA
    put(city, "terrain.tif", heights, NO_DATA)
    assert (read_noise_geometry(city, 0.5).obstacles.ground == 4.0).all()


def test_land_cover_gives_ground_factors_and_unknown_classes_are_refused(city: City) -> None:
    codes = np.full(SHAPE, 112.0)
    codes[:, 20:] = 511.0  # water, from x = 500 200
    codes[:, 30:] = 0.0  # unknown, from x = 500 450
    put(city, "landcover.tif", codes)
    obstacles = read_noise_geometry(city, 0.8).obstacles
    g = obstacles.g.reshape(obstacles.n_rows, obstacles.n_columns)
    middle = obstacles.origin[0] + (np.arange(obstacles.n_columns) + 0.5) * CELL_M
    row = g[obstacles.n_rows // 2]
    assert (row[(middle > 500_000.0) & (middle < 500_180.0)] == 0.5).all()
    assert (row[(middle > 500_220.0) & (middle < 500_430.0)] == 0.0).all()
    np.testing.assert_allclose(row[(middle > 500_470.0) & (middle < 500_600.0)], 0.8)
    put(city, "landcover.tif", np.full(SHAPE, 77.0))
    with pytest.raises(CityError, match="got the value 77, expected Corine classes"):
        read_noise_geometry(city, 0.8)


def test_land_cover_alone_does_not_screen(tmp_path: Path) -> None:
    city = write_city(tmp_path / "bare")
    put(city, "landcover.tif", np.full(SHAPE, 112.0))
    assert not has_obstacles(city.folder)
    put(city, "terrain.tif", np.zeros(SHAPE))
    assert has_obstacles(city.folder)


def test_a_raster_that_is_none_is_refused(city: City) -> None:
    (city.folder / "terrain.tif").write_bytes(b"not a raster")
    with pytest.raises(CityError, match="cannot be read as a raster"):
        read_noise_geometry(city, 0.5)


def test_houses_of_one_height_that_share_a_wall_become_one(tmp_path: Path) -> None:
    write_city(tmp_path / "toy")
    row = [box("a", 300, 300, 20, 10), box("b", 320, 300, 20, 10), box("c", 340, 300, 20, 10, 15.0)]
    geometry = read_noise_geometry(write(tmp_path / "toy", row), 0.5)
    assert geometry.n_buildings == 3
    assert sorted(geometry.obstacles.top) == [12.0, 15.0]
    assert len(geometry.box) == 3


def test_positions_that_are_no_degrees_are_named(tmp_path: Path) -> None:
    write_city(tmp_path / "toy")
    swapped = box("swapped", 300, 300, 20, 10)
    ring = [[y, x + 100.0] for x, y in swapped["geometry"]["coordinates"][0]]
    swapped["geometry"]["coordinates"] = [ring]
    with pytest.raises(CityError, match=r"building swapped: coordinates: .* swapped"):
        read_noise_geometry(write(tmp_path / "toy", [swapped]), 0.5)


def test_reading_the_city_again_gives_the_same_digests(city: City) -> None:
    one, two = (read_noise_geometry(load_city(city.folder), 0.5) for _ in range(2))
    np.testing.assert_array_equal(one.digest, two.digest)
    assert one.base_key == two.base_key
