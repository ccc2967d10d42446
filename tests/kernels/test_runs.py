from __future__ import annotations

import numpy as np
import pytest
import shapely
from scipy import sparse

from kernels.receptors import BLOCK, ReceptorGrid, grid_blocks, point_blocks
from kernels.runs import add_columns, coefficients_at, runs_within

GRID = ReceptorGrid(x_min=0.0, y_min=0.0, step_m=5.0, n_columns=100, n_rows=80)
LINES = [
    np.array([[40.0, 50.0], [180.0, 90.0], [200.0, 260.0]]),
    np.array([[-30.0, 200.0], [-10.0, 210.0]]),
    np.array([[4000.0, 0.0], [4100.0, 0.0]]),
    np.array([[300.0, 300.0], [300.0, 300.0]]),
]
REACH = np.array([60.0, 80.0, 60.0, 33.0])


def _blocks(kind):
    if kind == "grid":
        return grid_blocks(GRID)
    return point_blocks(np.random.default_rng(4).uniform(0, 500, (700, 2)))


def _dense(runs, coefficient, n_places):
    """The matrix of the columns, (n_places, n_columns)."""
    out = np.zeros((n_places, runs.n_columns), dtype=np.int64)
    for c in range(runs.n_columns):
        for run in range(runs.start[c], runs.start[c + 1]):
            values = coefficient[runs.offset[run] : runs.offset[run + 1]]
            first = runs.block[run] * BLOCK
            out[first : first + values.size, c] += values
    return out


@pytest.mark.parametrize("kind", ["grid", "points"])
def test_runs_hold_every_receptor_within_reach_and_few_others(kind):
    blocks = _blocks(kind)
    runs = runs_within(LINES, REACH, blocks)
    held = _dense(runs, np.ones(runs.n_coefficients, dtype=np.int32), blocks.n_places)
    assert held.max() == 1
    points = shapely.points(blocks.x.ravel() + blocks.origin[0], blocks.y.ravel() + blocks.origin[1])
    for c, line in enumerate(LINES):
        near = shapely.distance(points, shapely.LineString(line)) <= REACH[c]
        assert (held[near, c] == 1).all()
        if kind == "grid":  # blocks are 80 m wide here
            assert held[:, c].sum() <= 4 * near.sum() + 500
    assert held[:, 2].sum() == 0


def test_a_reach_of_zero_and_no_line_at_all_have_no_receptor():
    runs = runs_within(LINES, np.zeros(4), _blocks("grid"))
    assert runs.n_coefficients == 0
    empty = runs_within([], np.empty(0), _blocks("grid"))
    assert empty.n_columns == empty.n_coefficients == 0
    assert coefficients_at(empty, np.empty(0, dtype=np.int32), 0, _blocks("grid")).size == 0


@pytest.mark.parametrize("kind", ["grid", "points"])
def test_adding_equals_the_product_with_a_sparse_matrix(kind):
    blocks = _blocks(kind)
    runs = runs_within(LINES, REACH, blocks)
    rng = np.random.default_rng(0)
    coefficient = rng.integers(0, 1 << 30, runs.n_coefficients).astype(np.int32)
    matrix = sparse.csc_array(_dense(runs, coefficient, blocks.n_places))
    sums = np.zeros((blocks.n_places, 4), dtype=np.int64)
    change = rng.integers(-(1 << 31), 1 << 31, (3, 4))
    touched = add_columns(sums, runs, coefficient, np.array([3, 0, 1]), change, blocks)
    np.testing.assert_array_equal(sums, matrix[:, [3, 0, 1]] @ change)
    assert touched == runs.size(np.array([0, 1, 3])).sum()


@pytest.mark.parametrize("kind", ["grid", "points"])
def test_coefficients_of_one_receptor_are_a_row_of_the_matrix(kind):
    blocks = _blocks(kind)
    runs = runs_within(LINES, REACH, blocks)
    coefficient = np.arange(1, runs.n_coefficients + 1, dtype=np.int32)
    dense = _dense(runs, coefficient, blocks.n_places)
    for place in np.random.default_rng(1).choice(blocks.n_places, 200, replace=False):
        np.testing.assert_array_equal(
            coefficients_at(runs, coefficient, int(place), blocks), dense[int(place)]
        )
