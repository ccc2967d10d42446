"""Levels at points: open ground is the formula, buildings are the paths of the three-dimensional scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from kernels.cnossos import BAND_GROUPS
from kernels.cnossos_path import path_energies
from kernels.network import build_network
from kernels.obstacles import Obstacles, index_obstacles
from kernels.point_levels import (
    OWN_FACADE_M,
    PointEnergies,
    no_faces,
    point_energies,
    point_roads,
    reflecting_faces,
)
from kernels.propagation import Atmosphere, Ground, air_absorption_db_per_km, attenuation_db
from kernels.transfer import TABLE_STEP_M, radial_table, reference_spectrum
from studies.noise_scene import Face, Scene, paths_between, profiles_of

AIR = air_absorption_db_per_km(Atmosphere())
ABSORPTION = 0.2
HALF = np.full(16, 0.5)
Building = tuple[Any, float]


def obstacles_of(
    buildings: Sequence[Building] = (),
    screens: Sequence[tuple[NDArray[np.float64], float]] = (),
    g: float = 0.5,
    ground_m: float | None = None,
) -> Obstacles:
    edge, owner, top = [np.empty((0, 4))], [], []
    for k, (polygon, height) in enumerate(buildings):
        xy = np.array(shapely.geometry.polygon.orient(polygon).exterior.coords)
        edge.append(np.concatenate([xy[:-1], xy[1:]], axis=1))
        owner += [k] * (len(xy) - 1)
        top.append(height)
    for line, height in screens:
        edge.append(line.reshape(1, 4))
        owner.append(len(top))
        top.append(height)
    return index_obstacles(
        (-600.0, -600.0), (120, 160), np.concatenate(edge), np.array(owner, dtype=np.int32),
        np.array(top, dtype=np.float64), len(buildings), g,
        None if ground_m is None else np.full((121, 161), ground_m, dtype=np.float32),
    )  # fmt: skip


def heard(
    road: Sequence[tuple[float, float]],
    xy: Any,
    obstacles: Obstacles,
    *,
    reflections: bool = False,
    height_m: float = 4.0,
    p: NDArray[np.float64] = HALF,
    power: float = 1.0,
    distance_m: float = 800.0,
    threads: int = 0,
) -> PointEnergies:
    network = build_network([np.array(road, dtype=np.float64)])
    points = np.array(xy, dtype=np.float64).reshape(-1, 2)
    return point_energies(
        points, np.full(len(points), height_m), obstacles,
        reflecting_faces(obstacles, ABSORPTION) if reflections else no_faces(),
        point_roads(network, np.array([0]), np.full((1, 1, 8), power), obstacles.origin), AIR, p, distance_m,
        threads=threads,
    )  # fmt: skip


def short_road(x: float, y: float) -> list[tuple[float, float]]:
    """A road that is heard as one source in its middle."""
    return [(x - 0.45, y), (x + 0.45, y)]


def scene_energy(
    buildings: Sequence[Building],
    source: tuple[float, float],
    receptor: tuple[float, float],
    reflections: int,
    walls: Sequence[Face] = (),
) -> NDArray[np.float64]:
    """Energy of a road of 0.9 m by the scene of the validation, both states by halves, (8,)."""
    scene = Scene(default_g=0.5, buildings=list(buildings), faces=list(walls))
    for polygon, top in buildings:
        ring = np.array(shapely.geometry.polygon.orient(polygon).exterior.coords)
        for a, b in pairwise(ring):
            scene.faces.append(Face(a, b, (top, top), np.full(8, ABSORPTION), False))
    paths = paths_between(scene, np.array([*source, 0.05]), np.array([*receptor, 4.0]), reflections)
    homogeneous, favourable = path_energies(profiles_of([replace(path, source_g=0.0) for path in paths]), AIR)
    return 0.9 * 0.5 * (homogeneous + favourable).sum(axis=0)


def db(energy: NDArray[np.float64]) -> NDArray[np.float64]:
    return 10.0 * np.log10(energy)


def test_open_ground_is_the_formula_added_up_along_the_road() -> None:
    at = np.array([(100.0, d) for d in (6.0, 25.0, 90.0, 300.0)])
    got = heard([(0.0, 0.0), (150.0, 0.0), (400.0, 0.0)], at, obstacles_of())
    x = (np.arange(1600) + 0.5) * 0.25
    for k, (east, north) in enumerate(at):
        loss = attenuation_db(np.hypot(x - east, north), 0.05, 4.0, Ground(0.5), Atmosphere())
        want = db((0.25 * 10.0 ** (-loss / 10.0)).sum(axis=0))
        assert db(got.energy[k, 0]) == pytest.approx(want, abs=0.05)


def test_open_ground_agrees_with_the_transfers_of_the_live_room() -> None:
    at = np.array([(100.0, d) for d in (10.0, 50.0, 200.0, 500.0)])
    got = heard([(0.0, 0.0), (400.0, 0.0)], at, obstacles_of()).energy[:, 0]
    table = radial_table(900.0, Ground(0.5), Atmosphere())
    spectrum = reference_spectrum()
    x = (np.arange(4000) + 0.5) * 0.1
    for k, (east, north) in enumerate(at):
        row = np.rint(np.hypot(x - east, north) / TABLE_STEP_M).astype(int)
        want = 0.1 * table[row].astype(np.float64).sum(axis=0)
        groups = [(spectrum * got[k])[list(bands)].sum() for bands in BAND_GROUPS]
        assert db(np.array(groups)) == pytest.approx(db(want), abs=0.05)


def test_over_hard_ground_a_short_road_is_divergence_air_and_three_decibels() -> None:
    got = heard(short_road(0.0, 0.0), [(190.0, 40.0)], obstacles_of(g=0.0), p=np.zeros(16), power=1e9)
    slant = np.sqrt(190.0**2 + 40.0**2 + 3.95**2)
    want = 90.0 + 10.0 * np.log10(0.9) - 20.0 * np.log10(slant) - 11.0 - AIR * slant / 1000.0 + 3.0
    assert db(got.energy[0, 0]) == pytest.approx(want, abs=0.01)


BLOCK = (shapely.box(60.0, -10.0, 80.0, 30.0), 9.0)
OTHER_SIDE = (shapely.box(0.0, 60.0, 120.0, 75.0), 14.0)
TURNED = (shapely.affinity.rotate(shapely.box(20.0, 30.0, 50.0, 45.0), 27.0), 11.0)


@pytest.mark.parametrize(
    ("buildings", "receptor"),
    [
        ([BLOCK], (110.0, 12.0)),  # behind it
        ([BLOCK], (40.0, 25.0)),  # beside the face that reflects
        ([BLOCK], (300.0, 5.0)),
        ([OTHER_SIDE], (100.0, 20.0)),
        ([BLOCK, OTHER_SIDE], (45.0, 20.0)),  # two faces reflect
        ([TURNED], (60.0, -20.0)),
        ([TURNED], (5.0, 80.0)),
    ],
)
@pytest.mark.parametrize("reflections", [0, 1])
def test_with_buildings_it_is_the_paths_of_the_scene(
    buildings: list[Building], receptor: tuple[float, float], reflections: int
) -> None:
    got = heard(short_road(10.0, 0.0), [receptor], obstacles_of(buildings), reflections=bool(reflections))
    want = scene_energy(buildings, (10.0, 0.0), receptor, reflections)
    assert db(got.energy[0, 0]) == pytest.approx(db(want), abs=0.02)
    assert got.n_lost == 0


def test_reflections_are_there_and_add_to_the_level() -> None:
    for buildings, receptor, n in (([OTHER_SIDE], (100.0, 20.0), 1), ([BLOCK, OTHER_SIDE], (45.0, 20.0), 2)):
        without, with_ = (
            heard(short_road(10.0, 0.0), [receptor], obstacles_of(buildings), reflections=r)
            for r in (False, True)
        )
        assert (without.n_reflected, with_.n_reflected) == (0, n)
        assert (with_.energy > without.energy).all()


@pytest.mark.parametrize("receptor", [(70.0, 12.0), (70.0, 48.0)])
def test_a_screen_reflects_on_both_sides(receptor: tuple[float, float]) -> None:
    line = np.array([0.0, 30.0, 90.0, 30.0])
    wall = Face(line[:2], line[2:], (6.0, 6.0), np.full(8, ABSORPTION), True)
    source = (10.0, receptor[1] + 5.0)
    got = heard(short_road(*source), [receptor], obstacles_of(screens=[(line, 6.0)]), reflections=True)
    assert got.n_reflected == 1
    assert db(got.energy[0, 0]) == pytest.approx(db(scene_energy([], source, receptor, 1, [wall])), abs=0.02)


def test_a_face_that_neither_end_sees_reflects_nothing() -> None:
    hidden = (shapely.box(-20.0, 45.0, 140.0, 50.0), 8.0)  # stands before the other side of the street
    got = heard(short_road(10.0, 0.0), [(100.0, 20.0)], obstacles_of([OTHER_SIDE, hidden]), reflections=True)
    assert got.n_reflected == 1


def test_the_own_facade_does_not_reflect_and_is_told() -> None:
    facade = (shapely.box(0.0, 60.0, 120.0, 75.0), 14.0)
    near, far = (60.0, 60.0 - OWN_FACADE_M + 0.2), (60.0, 60.0 - OWN_FACADE_M - 0.2)
    got = heard(short_road(60.0, 0.0), [near, far], obstacles_of([facade]), reflections=True)
    alone = heard(short_road(60.0, 0.0), [near, far], obstacles_of([facade]))
    assert got.is_at_facade.tolist() == [True, False]
    assert got.energy[0] == pytest.approx(alone.energy[0], rel=1e-12)
    gain = db(got.energy[1, 0]) - db(alone.energy[1, 0])
    mirrored = (1.0 - ABSORPTION) * (far[1] / (120.0 - far[1])) ** 2
    assert gain == pytest.approx(10.0 * np.log10(1.0 + mirrored), abs=0.4)


def test_the_level_does_not_waver_along_a_road() -> None:
    for away in (1.0, 6.0, 20.0, 80.0):
        at = [(x, away) for x in np.arange(-60.0, 60.0, 3.3)]
        got = heard([(-500.0, 0.0), (900.0, 0.0)], at, obstacles_of(), distance_m=400.0)
        level = db(got.energy[:, 0].sum(axis=1))
        assert level.max() - level.min() < 0.1, away


def test_doubled_power_is_three_decibels_and_no_building_raises_a_level_behind_it() -> None:
    road = [(0.0, -100.0), (0.0, 100.0)]
    one, two = (heard(road, [(120.0, 5.0)], obstacles_of([BLOCK]), power=w) for w in (1.0, 2.0))
    assert db(two.energy) - db(one.energy) == pytest.approx(3.0103, abs=1e-4)
    assert (one.energy < heard(road, [(120.0, 5.0)], obstacles_of()).energy).all()


def test_the_share_of_favourable_states_follows_the_direction_from_the_road() -> None:
    east = np.zeros(16)
    east[3:6] = 1.0  # sound that travels to the east and its neighbours
    road, at = short_road(0.0, 0.0), [(400.0, 0.0), (-400.0, 0.0)]
    got = heard(road, at, obstacles_of(), p=east).energy
    assert got[0] == pytest.approx(heard(road, at, obstacles_of(), p=np.ones(16)).energy[0])
    assert got[1] == pytest.approx(heard(road, at, obstacles_of(), p=np.zeros(16)).energy[1])


def test_within_a_building_there_is_no_level_but_above_its_roof() -> None:
    got = heard([(0.0, 0.0), (40.0, 0.0)], [(70.0, 5.0), (90.0, 5.0)], obstacles_of([BLOCK]))
    assert got.is_indoors.tolist() == [True, False]
    assert np.isnan(got.energy[0]).all()
    assert np.isfinite(got.energy[1]).all()
    above = heard([(0.0, 0.0), (40.0, 0.0)], [(70.0, 5.0)], obstacles_of([BLOCK]), height_m=12.0)
    assert not above.is_indoors[0]
    assert (above.energy > 0.0).all()


def test_on_high_level_ground_nothing_changes() -> None:
    (block, height), (other, higher) = BLOCK, OTHER_SIDE
    at = [(45.0, 20.0), (110.0, 12.0), (70.0, 5.0)]
    flat = heard(short_road(10.0, 0.0), at, obstacles_of([BLOCK, OTHER_SIDE]), reflections=True)
    raised = obstacles_of([(block, height + 400.0), (other, higher + 400.0)], ground_m=400.0)
    got = heard(short_road(10.0, 0.0), at, raised, reflections=True)
    assert got.energy == pytest.approx(flat.energy, rel=1e-6, nan_ok=True)
    assert got.n_reflected == flat.n_reflected > 0


def test_on_the_axis_of_a_road_the_level_is_finite() -> None:
    got = heard([(0.0, 0.0), (40.0, 0.0)], [(20.0, 0.0), (0.0, 0.0)], obstacles_of(), height_m=0.5)
    assert np.isfinite(db(got.energy)).all()


def test_beyond_the_distance_no_road_is_heard() -> None:
    got = heard([(0.0, 0.0), (400.0, 0.0)], [(100.0, 99.0), (100.0, 101.0)], obstacles_of(), distance_m=100.0)
    assert got.is_reached.tolist() == [True, False]
    assert not got.energy[1].any()


def test_threads_change_nothing() -> None:
    at = [(x, 20.0) for x in range(0, 120, 13)]
    one, many = (
        heard([(0.0, 0.0), (150.0, 0.0)], at, obstacles_of([OTHER_SIDE]), reflections=True, threads=n)
        for n in (1, 3)
    )
    assert np.array_equal(one.energy, many.energy)
    assert (one.n_paths, one.n_reflected) == (many.n_paths, many.n_reflected)
