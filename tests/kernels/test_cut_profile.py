"""Profiles cut from the cells of a city against those of the three-dimensional scene, cut by shapely."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from kernels.cnossos_path import Profiles, path_energies
from kernels.cut_profile import MAX_POINTS, cut_profile, cut_workspace
from kernels.obstacles import Obstacles, index_obstacles, indoors, is_indoors
from kernels.propagation import Atmosphere, air_absorption_db_per_km
from studies.noise_scene import Face, Scene, paths_between, profiles_of
from studies.noise_terrain import Terrain

AIR = air_absorption_db_per_km(Atmosphere())
SIZE_M = 300.0
SHAPE = (32, 32)
ORIGIN = (-10.0, -10.0)
Building = tuple[Any, float]


def obstacles_of(
    buildings: Sequence[Building],
    screens: Sequence[tuple[NDArray[np.float64], float]] = (),
    g: NDArray[np.float32] | float = 0.5,
    ground: NDArray[np.float32] | None = None,
) -> Obstacles:
    edge, owner, top = [], [], []
    for k, (polygon, height) in enumerate(buildings):
        xy = np.array(shapely.geometry.polygon.orient(polygon).exterior.coords)
        edge.append(np.concatenate([xy[:-1], xy[1:]], axis=1))
        owner += [k] * (len(xy) - 1)
        top.append(height)
    for line, height in screens:
        edge.append(line.reshape(1, 4))
        owner.append(len(top))
        top.append(height)
    edges = np.concatenate(edge) if edge else np.empty((0, 4))
    return index_obstacles(
        ORIGIN, SHAPE, edges, np.array(owner, dtype=np.int32), np.array(top), len(buildings), g, ground
    )


def cut(
    obstacles: Obstacles, source: NDArray[np.float64], receiver: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Points of a profile, (3, n): distance, height, ground factor."""
    profile = np.empty((3, MAX_POINTS))
    a, b = source - obstacles.origin, receiver - obstacles.origin
    n = cut_profile(obstacles, *a, *b, *profile, 0, *cut_workspace())
    assert n >= 2
    return profile[:, :n]


def energies(profile: NDArray[np.float64], height_m: float = 4.0) -> NDArray[np.float64]:
    """Both states of one profile, (2, 8)."""
    x, z, g = profile
    one = np.ones(1)
    distance = np.hypot(x[-1], z[-1] + height_m - z[0] - 0.05)
    made = Profiles(
        x, z, g, np.array([0, x.size]), 0.05 * one, height_m * one, 0.0 * one, distance * one, np.nan * one,
        np.nan * one, np.ones((1, 8)),
    )  # fmt: skip
    return np.concatenate(path_energies(made, AIR))


def rectangles(rng: np.random.Generator, n: int) -> list[Building]:
    made = []
    for _ in range(n):
        box = shapely.box(0.0, 0.0, rng.uniform(4.0, 40.0), rng.uniform(4.0, 25.0))
        box = shapely.affinity.rotate(box, rng.uniform(0.0, 180.0))
        box = shapely.affinity.translate(box, *rng.uniform(30.0, SIZE_M - 60.0, 2))
        made.append((box, float(rng.uniform(3.0, 25.0))))
    return made


def outdoors(rng: np.random.Generator, buildings: Sequence[Building]) -> NDArray[np.float64]:
    while True:
        at = rng.uniform(5.0, SIZE_M - 15.0, 2)
        if not any(b.buffer(0.1).contains(shapely.Point(at)) for b, _ in buildings):
            return at


@pytest.mark.parametrize("seed", range(6))
def test_random_towns_give_the_paths_of_the_scene(seed: int) -> None:
    rng = np.random.default_rng(seed)
    buildings = rectangles(rng, 12)  # some overlap
    ends = rng.uniform(20.0, SIZE_M - 30.0, (3, 4))
    screens = [(line, float(rng.uniform(2.0, 5.0))) for line in ends]
    none = np.zeros(8)
    faces = [Face(line[:2], line[2:], (top, top), none, True) for line, top in screens]
    scene = Scene(None, 0.5, [], buildings, faces)
    obstacles = obstacles_of(buildings, screens)
    for _ in range(25):
        source, receiver = outdoors(rng, buildings), outdoors(rng, buildings)
        (path,) = paths_between(scene, np.append(source, 0.05), np.append(receiver, 4.0), 0)
        path = path.__class__(**{k: getattr(path, k) for k in path.__slots__} | {"source_g": 0.0})
        expected = np.concatenate(path_energies(profiles_of([path]), AIR))
        got = energies(cut(obstacles, source, receiver))
        np.testing.assert_allclose(10.0 * np.log10(got / expected), 0.0, atol=0.02)


def test_ground_factor_changes_at_the_border_of_a_cell() -> None:
    g = np.zeros(SHAPE, dtype=np.float32)
    g[:, 12:] = 1.0  # from x = 110
    x, z, factor = cut(obstacles_of([], g=g), np.array([15.0, 42.0]), np.array([215.0, 88.0]))
    length = np.hypot(200.0, 46.0)
    np.testing.assert_allclose(x, [0.0, length * 95.0 / 200.0, length])
    np.testing.assert_allclose(z, 0.0)
    np.testing.assert_allclose(factor[:2], [0.0, 1.0])


def test_a_roof_is_hard_and_the_ground_goes_on_behind_it() -> None:
    house = (shapely.box(100.0, 20.0, 120.0, 60.0), 9.0)
    x, z, g = cut(obstacles_of([house], g=0.7), np.array([50.0, 40.0]), np.array([200.0, 40.0]))
    np.testing.assert_allclose(x, [0, 50, 50, 70, 70, 150])
    np.testing.assert_allclose(z, [0, 0, 9, 9, 0, 0])
    np.testing.assert_allclose(g[[0, 2, 4]], [0.7, 0.0, 0.7])


def test_terraces_share_a_wall_and_a_courtyard_is_open() -> None:
    low = (shapely.box(100.0, 20.0, 110.0, 60.0), 6.0)
    high = (shapely.box(110.0, 20.0, 120.0, 60.0), 12.0)
    _, z, _ = cut(obstacles_of([low, high]), np.array([50.0, 40.0]), np.array([200.0, 40.0]))
    np.testing.assert_allclose(z, [0, 0, 6, 6, 12, 12, 0, 0])


def test_a_passage_under_a_building_is_open_to_its_own_sound() -> None:
    house = (shapely.box(100.0, 20.0, 120.0, 60.0), 9.0)
    obstacles = obstacles_of([house])
    _, z, _ = cut(obstacles, np.array([110.0, 40.0]), np.array([200.0, 40.0]))
    np.testing.assert_allclose(z, 0.0)
    again = (shapely.box(140.0, 20.0, 150.0, 60.0), 5.0)
    x, z, _ = cut(obstacles_of([house, again]), np.array([110.0, 40.0]), np.array([200.0, 40.0]))
    np.testing.assert_allclose(x[z > 0.0], [30.0, 40.0])
    assert z.max() == 5.0


def test_lines_through_corners_and_along_walls_leave_no_building_open() -> None:
    house = (shapely.box(100.0, 40.0, 120.0, 60.0), 9.0)
    obstacles = obstacles_of([house, (shapely.box(120.0, 40.0, 140.0, 60.0), 9.0)])
    for a, b in (
        ((80.0, 20.0), (160.0, 100.0)),  # through a corner of the first and of the second
        ((100.0, 10.0), (100.0, 90.0)),  # along a wall
        ((60.0, 60.0), (200.0, 60.0)),
        ((60.0, 40.0), (200.0, 40.0)),
        ((120.0, 5.0), (120.0, 95.0)),  # along the wall that they share
    ):
        _, z, _ = cut(obstacles, np.array(a), np.array(b))
        assert z[-1] == 0.0
        assert z[0] == 0.0


def test_slope_of_terrain_is_one_straight_piece_and_a_ridge_is_two() -> None:
    column = np.arange(SHAPE[1] + 1, dtype=np.float32)
    slope = np.broadcast_to(0.5 * column, (SHAPE[0] + 1, SHAPE[1] + 1)).astype(np.float32)
    x, z, _ = cut(obstacles_of([], ground=slope), np.array([12.0, 55.0]), np.array([250.0, 130.0]))
    assert x.size == 2
    np.testing.assert_allclose(z, [1.1, 13.0], rtol=1e-5)
    ridge = np.minimum(slope, slope[:, ::-1])
    x, z, _ = cut(obstacles_of([], ground=ridge), np.array([12.0, 55.0]), np.array([270.0, 55.0]))
    assert x.size <= 4
    assert z.max() == pytest.approx(8.0, abs=0.11)


def test_terrain_gives_the_paths_of_the_scene() -> None:
    rng = np.random.default_rng(5)
    folds = np.interp(np.arange(33), [0, 6, 11, 20, 27, 32], [0.0, 4.0, 1.0, 12.0, 3.0, 7.0])
    heights = np.broadcast_to(folds, (33, 33)).astype(np.float32)  # along y the same: cells are planes
    buildings = rectangles(rng, 5)
    node = np.stack(np.meshgrid(np.arange(33), np.arange(33)), axis=-1).reshape(-1, 2)
    corner = node[(node < 32).all(axis=1)]
    first = corner[:, 1] * 33 + corner[:, 0]
    halves = [[first, first + 1, first + 34], [first, first + 34, first + 33]]
    triangles = np.concatenate([np.stack(half, axis=1) for half in halves])
    xyz = np.column_stack([node * 10.0 + ORIGIN, heights.ravel()])
    directed = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    edges, count = np.unique(np.sort(directed, axis=1), axis=0, return_counts=True)
    terrain = Terrain(xyz, triangles, edges, edges[count == 1])
    scene = Scene(terrain, 0.5, [], [(b, h + 15.0) for b, h in buildings], [])
    obstacles = obstacles_of([(b, h + 15.0) for b, h in buildings], ground=heights)
    errors = []
    for _ in range(25):
        source, receiver = outdoors(rng, buildings), outdoors(rng, buildings)
        s = np.append(source, scene.ground(*source) + 0.05)
        r = np.append(receiver, scene.ground(*receiver) + 4.0)
        (path,) = paths_between(scene, s, r, 0)
        path = path.__class__(**{k: getattr(path, k) for k in path.__slots__} | {"source_g": 0.0})
        expected = np.concatenate(path_energies(profiles_of([path]), AIR))
        errors.append(10.0 * np.log10(energies(cut(obstacles, source, receiver)) / expected))
    assert np.median(np.abs(errors)) < 0.02
    assert np.sqrt(np.mean(np.square(errors))) < 0.5  # straight pieces within 0.1 m, at grazing incidence


def test_indoors_is_what_lies_within_a_footprint() -> None:
    rng = np.random.default_rng(8)
    buildings = rectangles(rng, 15)
    obstacles = obstacles_of(buildings, [(np.array([10.0, 10.0, 250.0, 200.0]), 3.0)])
    x, y = rng.uniform(0.0, SIZE_M - 10.0, (2, 40))
    got = indoors(obstacles, x, y)
    everything = shapely.union_all([b for b, _ in buildings])
    expected = shapely.contains_xy(everything, *np.meshgrid(x, y))
    np.testing.assert_array_equal(got, expected)
    assert 0.02 < got.mean() < 0.9
    assert is_indoors(obstacles, x[0] + 10.0, y[0] + 10.0) == expected[0, 0]


def test_a_courtyard_with_a_hole_in_the_footprint_is_outdoors() -> None:
    outer = np.array([[100.0, 100.0], [140.0, 100.0], [140.0, 140.0], [100.0, 140.0], [100.0, 100.0]])
    inner = np.array([[110.0, 110.0], [110.0, 130.0], [130.0, 130.0], [130.0, 110.0], [110.0, 110.0]])
    edge = np.concatenate([np.concatenate([r[:-1], r[1:]], axis=1) for r in (outer, inner)])
    obstacles = index_obstacles(ORIGIN, SHAPE, edge, np.zeros(8, dtype=np.int32), np.array([8.0]), 1, 0.5)
    found = indoors(obstacles, np.array([105.0, 120.0]), np.array([120.0]))
    np.testing.assert_array_equal(found, [[True, False]])
    _, z, _ = cut(obstacles, np.array([80.0, 120.0]), np.array([120.0, 120.0]))
    np.testing.assert_allclose(z, [0, 0, 8, 8, 0, 0])
