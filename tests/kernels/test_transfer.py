"""Transfers against line-source formulas and a direct sum over many points."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from shapely.geometry import LineString

from kernels import transfer
from kernels.cnossos import BAND_GROUPS, SOURCE_HEIGHT_M
from kernels.network import Network, build_network
from kernels.propagation import Atmosphere, Ground, attenuation_db
from kernels.receptors import ReceptorGrid

GRID = ReceptorGrid(x_min=0.0, y_min=0.0, step_m=10.0, n_columns=60, n_rows=50)
GROUND, AIR = Ground(0.5), Atmosphere()
RADIUS_M = 250.0


@pytest.fixture(scope="module")
def table() -> NDArray[np.float32]:
    return transfer.radial_table(RADIUS_M + 220.0, GROUND, AIR)


@pytest.fixture(scope="module")
def network() -> Network:
    lines = [
        np.array([[103.0, 98.0], [307.0, 98.0]]),
        np.array([[307.0, 98.0], [330.0, 140.0], [333.0, 260.0]]),
        np.array([[200.0, 300.0], [212.0, 309.0]]),
        np.array([[-90.0, 200.0], [-60.0, 280.0]]),  # outside the grid
        np.array([[-900.0, 200.0], [-900.0, 280.0]]),  # too far to be heard
    ]
    return build_network(lines)


@pytest.fixture(scope="module")
def patches(network: Network, table: NDArray[np.float32]) -> transfer.Patches:
    return transfer.build_patches(network, np.full(5, RADIUS_M), GRID, table)


def codes_of(patches: transfer.Patches, segment: int) -> NDArray[np.uint8]:
    """Codes of a segment over the whole grid, (4, rows, columns)."""
    p = patches.slot[segment]
    r0, r1, c0, c1 = patches.box[p]
    full = np.full((4, *patches.shape), transfer.NONE, dtype=np.uint8)
    block = patches.codes[patches.start[p] : patches.start[p + 1]]
    full[:, r0:r1, c0:c1] = block.reshape(4, r1 - r0, c1 - c0)
    return full


def direct_sum_db(line: NDArray[np.float64], x: float, y: float) -> NDArray[np.float64]:
    """-10 lg of the transfer by the propagation formulas at points 0.5 m apart, (4,)."""
    energy = np.zeros(8)
    for a, b in pairwise(line):
        length = float(np.hypot(*(b - a)))
        n = int(np.ceil(length / 0.5))
        points = a + (b - a) * ((np.arange(n) + 0.5) / n)[:, None]
        distance = np.maximum(np.hypot(points[:, 0] - x, points[:, 1] - y), 0.05)
        loss = attenuation_db(distance, SOURCE_HEIGHT_M, transfer.RECEPTOR_HEIGHT_M, GROUND, AIR)
        energy += (10.0 ** (-loss / 10.0)).sum(axis=0) * length / n
    weighted = energy * transfer.reference_spectrum()
    return np.array([-10.0 * np.log10(weighted[list(bands)].sum()) for bands in BAND_GROUPS])


def test_transfer_is_the_integral_along_the_segment(patches: transfer.Patches, network: Network) -> None:
    rng = np.random.default_rng(3)
    errors = []
    for segment in range(4):
        codes = codes_of(patches, segment)
        rows, columns = np.nonzero(codes[0] != transfer.NONE)
        for k in rng.choice(rows.size, 60, replace=False):
            x, y = GRID.x()[columns[k]], GRID.y()[rows[k]]
            exact = direct_sum_db(network.polyline(segment), x, y)
            errors.append(codes[:, rows[k], columns[k]] * transfer.STEP_DB - exact)
    assert np.abs(errors).max() <= 0.25 + 0.13  # half a step, and the midpoint rule
    assert np.sqrt(np.mean(np.square(errors))) < 0.16  # of a uniform rounding: 0.144
    assert abs(np.mean(errors)) < 0.02


def test_receptors_beside_a_road_are_as_exact(patches: transfer.Patches, network: Network) -> None:
    codes = codes_of(patches, 0)
    for row in (8, 9, 10):  # 13, 3 and 7 m from the line
        for column in range(8, 34):
            exact = direct_sum_db(network.polyline(0), GRID.x()[column], GRID.y()[row])
            assert np.abs(codes[:, row, column] * transfer.STEP_DB - exact).max() <= 0.25 + 0.08


def test_long_straight_road_loses_3_db_a_doubling_of_distance() -> None:
    """Line source over hard ground: L = L'W + 10 lg pi - 10 lg D - 11 + 3, less air (under 0.2 dB to 100 m)."""
    hard = transfer.radial_table(3200.0, Ground(0.0), Atmosphere(p_favourable=0.0))
    road = build_network([np.array([[-3000.0, 0.0], [3000.0, 0.0]])])
    grid = ReceptorGrid(x_min=-10.0, y_min=0.0, step_m=20.0, n_columns=1, n_rows=5)
    made = transfer.build_patches(road, np.array([800.0]), grid, hard)
    level = -transfer.STEP_DB * codes_of(made, 0)[0, :, 0].astype(float)
    slant = np.hypot(grid.y(), transfer.RECEPTOR_HEIGHT_M - SOURCE_HEIGHT_M)
    expected = 10.0 * np.log10(np.pi / slant) - 11.0 + 3.0
    np.testing.assert_allclose(level, expected, atol=0.25 + 0.2)


def test_radius_limits_what_a_segment_reaches(patches: transfer.Patches, network: Network) -> None:
    x, y = np.meshgrid(GRID.x(), GRID.y())
    (x0, y0), (x1, _) = network.polyline(0)
    distance = np.hypot(np.maximum(np.maximum(x0 - x, x - x1), 0.0), y - y0)
    reached = codes_of(patches, 0)[1] != transfer.NONE
    assert reached[distance < RADIUS_M - 20.0].all()  # points stand up to 20 m from the end of the line
    assert not reached[distance > RADIUS_M].any()
    assert patches.n_cells[patches.slot[0]] == reached.sum()


def test_segments_outside_the_grid_count_while_they_are_heard(patches: transfer.Patches) -> None:
    assert patches.slot[3] >= 0
    assert patches.slot[4] == -1
    assert (codes_of(patches, 3)[0] != transfer.NONE).any()


def test_a_segment_with_radius_0_has_no_patch(network: Network, table: NDArray[np.float32]) -> None:
    made = transfer.build_patches(network, np.array([RADIUS_M, 0.0, 0.0, 0.0, 0.0]), GRID, table)
    np.testing.assert_array_equal(made.segment, [0])
    np.testing.assert_array_equal(made.slot, [0, -1, -1, -1, -1])


def test_reversing_a_line_changes_no_code_by_more_than_rounding(
    network: Network, table: NDArray[np.float32], patches: transfer.Patches
) -> None:
    reverse = build_network([network.polyline(s)[::-1].copy() for s in range(5)])
    made = transfer.build_patches(reverse, np.full(5, RADIUS_M), GRID, table)
    for segment in range(4):
        there, back = codes_of(patches, segment).astype(int), codes_of(made, segment).astype(int)
        both = (there != transfer.NONE) & (back != transfer.NONE)
        assert np.abs(there - back)[both].max() <= 1
        assert (there != back).mean() < 0.01


def test_threads_change_nothing(network: Network, table: NDArray[np.float32]) -> None:
    lines = [network.polyline(k % 5) + np.array([0.0, k]) for k in range(250)]
    many = build_network(lines)
    radius = np.full(250, 100.0)
    fractions: list[float] = []
    one = transfer.build_patches(many, radius, GRID, table, fractions.append, threads=1)
    two = transfer.build_patches(many, radius, GRID, table, threads=2)
    np.testing.assert_array_equal(one.codes, two.codes)
    np.testing.assert_array_equal(one.n_cells, two.n_cells)
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_points_stand_in_the_middle_of_equal_pieces(network: Network) -> None:
    points, start = transfer._points(network)
    steps = transfer._STEPS_M
    for segment in range(network.n_segments):
        line = LineString(network.polyline(segment))
        for k, step in enumerate(steps):
            got = points[start[len(steps) * segment + k] : start[len(steps) * segment + k + 1]]
            assert len(got) == math.ceil(line.length / step)
            middles = [line.interpolate((i + 0.5) / len(got), normalized=True) for i in range(len(got))]
            expected = np.array([(p.x, p.y) for p in middles]) - network.polyline(segment)[0]
            np.testing.assert_allclose(got, expected, atol=1e-4)


def test_spectrum_adds_up_to_one_in_each_group() -> None:
    spectrum = transfer.reference_spectrum()
    for bands in BAND_GROUPS:
        assert spectrum[list(bands)].sum() == pytest.approx(1.0)
