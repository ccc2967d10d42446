"""Screened transfers against a direct sum over the paths of the three-dimensional scene, and their properties."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from kernels import transfer
from kernels.cnossos import BAND_GROUPS
from kernels.cnossos_path import path_energies
from kernels.facade_reflection import index_faces
from kernels.network import Network, build_network
from kernels.obstacles import indoors
from kernels.propagation import Atmosphere, Ground, air_absorption_db_per_km
from kernels.receptors import ReceptorGrid
from kernels.road_clusters import RoadClusters, cluster_roads
from kernels.screened_transfer import Air, air_over, screened_tile, tiles
from studies.noise_scene import HARD_FACE, Face, Scene, paths_between, profiles_of
from tests.kernels.test_cut_profile import Building, obstacles_of, rectangles

GRID = ReceptorGrid(x_min=10.0, y_min=10.0, step_m=20.0, n_columns=12, n_rows=12)
AIR = Atmosphere()
ROADS = [
    np.array([[20.0, 128.0], [60.0, 131.0]]),
    np.array([[60.0, 131.0], [66.0, 150.0]]),
    np.array([[190.0, 40.0], [202.0, 44.0]]),
]
REACH_M = 250.0


def codes_of(
    roads: Sequence[NDArray[np.float64]],
    buildings: Sequence[Building],
    *,
    opening: float = 0.0,
    reflections: int = 0,
    prune: float = 0.0,
    reach_m: float = REACH_M,
    grid: ReceptorGrid = GRID,
    air: Air | None = None,
    screens: Sequence[tuple[NDArray[np.float64], float]] = (),
) -> NDArray[np.uint8]:
    """Codes on the whole grid, (n_segments, 4, n_rows, n_columns); ``opening`` above 0 for all clusters."""
    how_fine = {"coarsest": opening, "finest": opening} if opening else {}
    network = build_network(list(roads))
    reach, power = np.full(len(roads), reach_m), np.ones(len(roads))
    obstacles = obstacles_of(buildings, screens)
    clusters = cluster_roads(network, reach, power)
    segment, slot, box, start = transfer.patch_layout(network, reach, grid)
    none = np.zeros(segment.size, dtype=np.int64)
    layout = transfer.Patches(segment, slot, box, start, none, np.empty(0, dtype=np.uint8), grid.shape)
    codes = np.full(start[-1], 255, dtype=np.uint8)
    faces = index_faces(obstacles, clusters, 1.0 - np.array(HARD_FACE)) if reflections else None
    for tile in tiles(grid.shape):
        counts = screened_tile(
            tile, (grid.x_min, grid.y_min), grid.step_m, obstacles, clusters, reach,
            air or air_over(900.0, AIR, 4.0), indoors(obstacles, grid.x(), grid.y()), layout, codes,
            np.ones(len(roads), dtype=bool), faces, power, prune=prune, **how_fine,
        )  # fmt: skip
        assert counts[2] == 0
    full = np.full((len(roads), 4, *grid.shape), 255, dtype=np.uint8)
    for p, s in enumerate(segment):
        r0, r1, c0, c1 = box[p]
        full[s, :, r0:r1, c0:c1] = codes[start[p] : start[p + 1]].reshape(4, r1 - r0, c1 - c0)
    return full


def scene_db(
    road: NDArray[np.float64], buildings: Sequence[Building], x: float, y: float, reflections: int
) -> NDArray[np.float64]:
    """-10 lg of the transfer over the paths of the scene, points 1 m apart, (4,)."""
    absorption = np.array(HARD_FACE)
    faces = []
    for polygon, top in buildings:
        ring = np.array(shapely.geometry.polygon.orient(polygon).exterior.coords)
        faces += [Face(a, b, (top, top), absorption, False) for a, b in pairwise(ring)]
    scene = Scene(None, 0.5, [], list(buildings), faces)
    length = float(np.hypot(*(road[1] - road[0])))
    n = int(np.ceil(length))
    paths = []
    for k in range(n):
        at = road[0] + (road[1] - road[0]) * (k + 0.5) / n
        found = paths_between(scene, np.append(at, 0.05), np.array([x, y, 4.0]), reflections)
        paths += [p.__class__(**{f: getattr(p, f) for f in p.__slots__} | {"source_g": 0.0}) for p in found]
    states = path_energies(profiles_of(paths), air_absorption_db_per_km(AIR))
    energy = 0.5 * (states[0] + states[1]).sum(axis=0) * transfer.reference_spectrum() * length / n
    return np.array([-10.0 * np.log10(energy[list(bands)].sum()) for bands in BAND_GROUPS])


@pytest.mark.parametrize("reflections", [0, 1])
def test_transfers_are_the_sum_over_the_paths_of_the_scene(reflections: int) -> None:
    rng = np.random.default_rng(11)
    buildings = [(b, h) for b, h in rectangles(rng, 9) if not any(
        b.buffer(1.0).intersects(shapely.LineString(road)) for road in ROADS
    )]  # fmt: skip
    assert len(buildings) >= 5
    # every face within 50 m of the road or the receptor: the two roads and receptors near them
    codes = codes_of(ROADS, buildings, opening=100.0, reflections=reflections)
    outdoors = np.argwhere(codes[0, 0] != 255)
    errors = []
    for row, column in rng.permutation(outdoors)[: 5 if reflections == 0 else 12]:
        x, y = GRID.x()[column], GRID.y()[row]
        for s in (1, 2):
            near = [b for b in buildings if reflections == 0 or _is_near(b[0], ROADS[s], x, y)]
            if len(near) < len(buildings):
                continue
            errors.append(codes[s, :, row, column] * 0.5 - scene_db(ROADS[s], buildings, x, y, reflections))
    assert len(errors) >= 5
    assert np.abs(errors).max() <= 0.25 + 0.25  # half a step, and points at other places along the road
    assert abs(np.mean(errors)) < 0.1


def _is_near(building: object, road: NDArray[np.float64], x: float, y: float) -> bool:
    """Whether a building reflects within the range where reflections are looked for, or not at all."""
    return bool(
        shapely.distance(building, shapely.Point(x, y)) < 10.0
        or shapely.distance(building, shapely.LineString(road)) < 10.0
        or not _mirrors(building, road, x, y)
    )


def _mirrors(building: object, road: NDArray[np.float64], x: float, y: float) -> bool:
    scene_faces = []
    ring = np.array(shapely.geometry.polygon.orient(building).exterior.coords)
    for a, b in pairwise(ring):
        scene_faces.append(Face(a, b, (50.0, 50.0), np.zeros(8), False))
    scene = Scene(None, 0.5, [], [], scene_faces)
    return any(
        len(
            paths_between(scene, np.append(road[0] + (road[1] - road[0]) * t, 0.05), np.array([x, y, 4.0]), 1)
        )
        > 1
        for t in np.linspace(0.0, 1.0, 30)
    )


def test_clusters_are_as_close_as_they_are_small() -> None:
    """What one road of 60 m leaves at receptors behind 14 buildings: screens fall between its few points."""
    buildings = rectangles(np.random.default_rng(4), 14)

    def levels(opening: float) -> NDArray[np.float64]:
        codes = codes_of(ROADS[:2], buildings, opening=opening)
        return 10.0 * np.log10(np.where(codes == 255, 1e-15, 10.0 ** (-0.05 * codes)).sum(axis=(0, 1)))

    fine = levels(60.0)
    heard = fine > -100.0
    errors = {opening: (levels(opening) - fine)[heard] for opening in (0.0, 4.0, 6.0, 12.0)}
    spread = {opening: float(np.sqrt(np.mean(e**2))) for opening, e in errors.items()}
    assert spread[4.0] > spread[6.0] > spread[12.0]
    assert spread[12.0] < 0.4
    assert spread[0.0] < 0.5  # as a city is computed: the only road is an important one
    assert all(abs(np.median(e)) < 0.05 for e in errors.values())


def test_without_anything_in_the_way_it_is_the_open_ground() -> None:
    network = build_network(ROADS)
    table = transfer.radial_table(600.0, Ground(0.5), AIR)
    made = transfer.build_patches(network, np.full(3, 10_000.0), GRID, table)
    codes = codes_of(ROADS, [], opening=8.0, reach_m=400.0)
    for p, s in enumerate(made.segment):
        open_codes = made.codes[made.start[p] : made.start[p + 1]].reshape(4, *GRID.shape)
        heard = codes[s] != 255
        assert heard.mean() > 0.9
        assert np.abs(codes[s].astype(int) - open_codes)[heard].max() <= 1


def test_a_building_makes_it_quieter_behind_and_nothing_else_changes() -> None:
    house = (shapely.box(100.0, 90.0, 112.0, 170.0), 12.0)
    before, after = codes_of(ROADS[:1], []), codes_of(ROADS[:1], [house])
    behind = GRID.x() > 115.0
    rows = (GRID.y() > 110.0) & (GRID.y() < 150.0)
    shadow = np.ix_([0], range(4), rows, behind)
    assert (after[shadow].astype(int) - before[shadow]).min() >= 10  # 5 dB and more
    np.testing.assert_array_equal(after[0][:, :, GRID.x() < 100.0], before[0][:, :, GRID.x() < 100.0])


def test_a_building_with_reflections_makes_it_louder_in_front() -> None:
    house = (shapely.box(100.0, 60.0, 112.0, 220.0), 20.0)
    direct, both = codes_of(ROADS[:1], [house]), codes_of(ROADS[:1], [house], reflections=1)
    heard = direct != 255
    assert (both <= direct)[heard].all()
    front = (GRID.x() > 60.0) & (GRID.x() < 100.0)
    assert (both < direct)[:, :, :, front][:, :, 4:9].mean() > 0.8


def test_receptors_inside_a_building_hear_nothing() -> None:
    house = (shapely.box(75.0, 75.0, 155.0, 115.0), 9.0)
    codes = codes_of(ROADS, [house])
    x, y = np.meshgrid(GRID.x(), GRID.y())
    inside = (x > 75.0) & (x < 155.0) & (y > 75.0) & (y < 115.0)
    assert inside.sum() == 8
    assert (codes[:, :, inside] == 255).all()
    assert (codes[:, 0][:, ~inside] != 255).mean() > 0.9


def test_a_symmetric_town_has_symmetric_levels_and_reversal_changes_little() -> None:
    centre = 130.0
    left = [(shapely.box(60.0, 60.0, 85.0, 120.0), 8.0), (shapely.box(90.0, 150.0, 110.0, 190.0), 14.0)]
    right = [(shapely.transform(b, lambda xy: xy * [-1, 1] + [2 * centre, 0]), h) for b, h in left]
    road = [np.array([[centre - 30.0, 20.0], [centre + 30.0, 20.0]])]
    codes = codes_of(road, left + right, opening=12.0, reflections=1)[0].astype(int)
    mirrored = codes[:, :, ::-1]
    heard = (codes != 255) & (mirrored != 255)
    assert np.abs(codes - mirrored)[heard].max() <= 1
    back = codes_of([road[0][::-1].copy()], left + right, opening=12.0, reflections=1)[0].astype(int)
    assert np.abs(codes - back)[heard].max() <= 1


def test_a_screen_shields_low_receptors() -> None:
    screen = [(np.array([70.0, 60.0, 70.0, 220.0]), 5.0)]
    before, after = codes_of(ROADS[:1], []), codes_of(ROADS[:1], [], screens=screen)
    beyond = (GRID.x() > 80.0) & (GRID.x() < 140.0)
    loss = (after[0, 2].astype(int) - before[0, 2])[5:8][:, beyond]
    assert loss.min() >= 6


def test_favourable_directions_carry_farther() -> None:
    """Sound that travels east is favoured: east of the road it is louder than with none favoured."""
    share = np.zeros(16)
    share[[2, 3, 4, 5, 6]] = 1.0
    house = [(shapely.box(125.0, 20.0, 135.0, 240.0), 6.0)]
    road = [np.array([[120.0, 100.0], [120.0, 160.0]])]
    none = codes_of(road, house, air=air_over(900.0, AIR, 4.0, np.zeros(16)))[0, 0].astype(int)
    east = codes_of(road, house, air=air_over(900.0, AIR, 4.0, share))[0, 0].astype(int)
    far_east, west = GRID.x() > 180.0, GRID.x() < 60.0
    assert (east <= none)[5:7][:, far_east].all()
    assert (east < none)[5:7][:, far_east].any()
    np.testing.assert_array_equal(east[5:7][:, west], none[5:7][:, west])


def network_of(n: int) -> Network:
    rng = np.random.default_rng(2)
    lines = [
        np.cumsum(rng.uniform(-30.0, 40.0, (5, 2)), axis=0) + rng.uniform(0.0, 900.0, 2) for _ in range(n)
    ]
    return build_network(lines)


def test_clusters_hold_every_piece_once_and_stay_within_their_extent() -> None:
    network = network_of(60)
    clusters: RoadClusters = cluster_roads(network, np.full(60, 500.0), np.ones(60))
    total = np.bincount(clusters.segment, clusters.length_m, minlength=60)
    np.testing.assert_allclose(total, network.length_m)
    n = clusters.segment.size
    for node in range(n, clusters.representative.size):
        begin, end = clusters.begin[node], clusters.end[node]
        children = range(clusters.child_begin[node], clusters.child_end[node])
        assert clusters.begin[children[0]] == begin
        assert clusters.end[children[-1]] == end
        assert begin <= clusters.representative[node] < end
        middle = clusters.points[begin:end, 2:4]
        assert np.hypot(*np.ptp(middle, axis=0)) <= 160.0 + 1e-9
    held = np.concatenate([np.arange(clusters.begin[t], clusters.end[t]) for t in clusters.tops])
    np.testing.assert_array_equal(held, np.arange(n))


def test_streets_that_do_not_touch_are_not_heard_as_one() -> None:
    lines = [np.array([[0.0, 0.0], [100.0, 0.0]]), np.array([[0.0, 25.0], [100.0, 25.0]])]
    clusters = cluster_roads(build_network(lines), np.full(2, 500.0), np.ones(2))
    for top in clusters.tops:
        assert np.unique(clusters.segment[clusters.begin[top] : clusters.end[top]]).size == 1
