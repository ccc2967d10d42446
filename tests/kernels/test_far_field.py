from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.interpolate import BSpline

from kernels import far_field
from kernels.air_columns import _far_classes
from tests.kernels.open_roads import GRID, ROAD, cells, columns_of, direct, field_of

CORNERS = (np.array([5.0, 5.0]), np.array([1195.0, 895.0]))


def test_levels_are_four_times_coarser_until_one_spans_all():
    levels = far_field.far_levels(CORNERS, (np.array([-6000.0, 0.0]), np.array([9000.0, 900.0])), 25.0)
    assert [level.step_m for level in levels] == [25.0, 100.0, 400.0]
    for finer, coarser in pairwise(levels):
        assert finer.outer_m == coarser.inner_m  # nothing counted twice, nothing left out
    assert levels[-1].outer_m == (np.inf, np.inf)
    for level in levels:
        row, n_rows, column, n_columns = level.window
        low = level.origin + level.step_m * np.array([column, row])
        high = low + level.step_m * (np.array([n_columns, n_rows]) - 1)
        assert (low <= CORNERS[0] - level.step_m).all()
        assert (high >= CORNERS[1] + level.step_m).all()


def test_spline_weights_are_those_of_the_cubic_b_spline():
    t = np.linspace(0, 1, 11)
    basis = BSpline.basis_element(np.arange(5.0))
    for k, weight in enumerate(far_field.spline_weights(t).T):
        np.testing.assert_allclose(weight, basis(np.clip(3 - k + t, 1e-12, 4 - 1e-12)), atol=1e-9)


def test_refining_leaves_the_same_spline():
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(12, 12, 1)).astype(np.float32)
    fine = np.zeros((40, 40, 1), dtype=np.float32)
    far_field._add_levels(fine, np.zeros((1, 0, 0), np.float32), coarse, 0, 0, far_field._REFINING, 0, 40)

    def value(coefficients, at):
        k, t = np.floor(at).astype(int), at - np.floor(at)
        part = coefficients[k[0] - 1 : k[0] + 3, k[1] - 1 : k[1] + 3, 0]
        return far_field.spline_weights(t[0]) @ part @ far_field.spline_weights(t[1])

    for at in rng.uniform(2.0, 9.0, (50, 2)):
        assert value(fine, 4 * at) == pytest.approx(value(coarse, at), rel=1e-4, abs=1e-5)


def test_a_road_spreads_its_whole_length_on_every_level_that_holds_it():
    columns = columns_of(streets=())
    length = np.hypot(*np.diff(ROAD, axis=0).T).sum()
    total = [spread.weight.sum() / 2**far_field.WEIGHT_BITS for spread in columns.spreads]
    assert total[-1] == pytest.approx(length, rel=1e-5)
    assert total[0] <= length * (1 + 1e-5)  # what no receptor feels on the finest is left out


def test_few_values_of_sigma_z0_are_exact_and_many_are_between_four():
    values, share = _far_classes(np.array([3.0, 2.5, 3.0]))
    np.testing.assert_array_equal(values, [2.5, 3.0])
    np.testing.assert_array_equal(share, [[0, 1], [1, 0], [0, 1]])
    many = np.array([2.5, 3.0, 3.4, 5.0, 8.9])
    values, share = _far_classes(many)
    assert values.size == far_field.RATIO
    np.testing.assert_allclose(share @ values, many)
    np.testing.assert_allclose(share.sum(axis=1), 1.0)
    assert share.min() >= 0


def test_a_road_between_two_classes_is_within_two_thousandths():
    sigma = np.array([2.5, 3.0, 3.6, 5.0, 9.0])
    lines = [ROAD[:2] + np.array([0.0, 40.0 * k]) for k in range(5)]
    got = field_of(columns_of(roads=lines, streets=(), sigma_z0=sigma), [0, 0, 100.0, 0, 0], 4.0, 200.0)
    exact = 100.0 * direct(cells(), lines[2], 4.0, 200.0, sigma_z0=3.6)
    beyond = np.abs(cells()[:, 1] - (GRID.y_min + 400.0)) > 300.0
    beyond &= exact > 0.05 * exact.max()
    assert beyond.sum() > 100
    assert np.abs(got / exact - 1)[beyond].max() < 4e-3
