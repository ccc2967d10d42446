from __future__ import annotations

import numpy as np
import pytest

from kernels.receptors import BLOCK, ReceptorGrid, grid_blocks, point_blocks


def test_every_receptor_of_a_grid_has_a_place_of_its_own_at_its_coordinates():
    grid = ReceptorGrid(x_min=1000.0, y_min=2000.0, step_m=3.0, n_columns=37, n_rows=11)
    blocks = grid_blocks(grid)
    assert np.unique(blocks.place).size == grid.n_receptors
    assert blocks.n_blocks == 3 * 11  # 37 columns in strips of 16
    x, y = np.meshgrid(grid.x(), grid.y())
    np.testing.assert_allclose(blocks.origin[0] + blocks.x.ravel()[blocks.place], x.ravel(), atol=1e-4)
    np.testing.assert_allclose(blocks.origin[1] + blocks.y.ravel()[blocks.place], y.ravel(), atol=1e-4)


def test_scattered_receptors_keep_their_coordinates_in_strips_from_south_to_north():
    xy = np.random.default_rng(2).uniform(0, 900, (100, 2)) + np.array([5e5, 1e5])
    blocks = point_blocks(xy)
    assert np.unique(blocks.place).size == 100
    got = np.stack([blocks.x.ravel(), blocks.y.ravel()], axis=1)[blocks.place] + blocks.origin
    np.testing.assert_allclose(got, xy, atol=1e-3)
    for first, last in zip(blocks.strip_start[:-1], blocks.strip_start[1:], strict=True):
        assert (np.diff(blocks.y[first:last].ravel()) >= 0).all()
        assert np.ptp(blocks.x[first:last]) <= 100.0
    assert blocks.n_places == blocks.n_blocks * BLOCK


def test_empty_strips_between_scattered_receptors_hold_nothing():
    blocks = point_blocks(np.array([[0.0, 0.0], [750.0, 10.0]]))
    assert np.diff(blocks.strip_start).tolist() == [1, 0, 0, 0, 0, 0, 0, 1]


def test_no_receptor_or_an_unknown_place_is_refused_by_number():
    with pytest.raises(ValueError, match="receptors: got none"):
        point_blocks(np.empty((0, 2)))
    with pytest.raises(ValueError, match=r"receptor 1: got \[nan, 2.0\]"):
        point_blocks(np.array([[0.0, 0.0], [np.nan, 2.0]]))
