from __future__ import annotations

import numpy as np
import pytest

from kernels.exposure import UNKNOWN, beside_points, exposure_of, people_in_stored_bands


def test_points_stand_ten_metres_to_either_side_every_twenty():
    points = beside_points(np.array([[0.0, 0.0], [30.0, 0.0], [60.0, 0.0]]))
    expected = [(10, 10), (30, 10), (50, 10), (10, -10), (30, -10), (50, -10)]
    np.testing.assert_allclose(points, expected, atol=1e-12)


def test_points_follow_a_bend():
    points = beside_points(np.array([[0.0, 0.0], [20.0, 0.0], [20.0, 20.0]]))
    np.testing.assert_allclose(points, [(10, 10), (10, 10), (10, -10), (30, 10)], atol=1e-12)


def test_a_short_street_has_one_pair():
    assert beside_points(np.array([[0.0, 0.0], [0.0, 3.0]])).shape == (2, 2)


def test_statistics_equal_those_of_a_list_of_people():
    rng = np.random.default_rng(7)
    stored = rng.integers(1000, 6000, 400).astype(np.uint16)
    people = rng.integers(1, 9, 400)
    each = np.repeat(-20.0 + 0.01 * stored, people)
    got = exposure_of(stored, people.astype(float), np.array([10.0, 25.0]), 0.01, -20.0)
    assert got.people == people.sum()
    assert got.people_above == ((each > 10.0 + 1e-9).sum(), (each > 25.0 + 1e-9).sum())
    assert got.mean == pytest.approx(each.mean())
    assert got.p95 == pytest.approx(np.sort(each)[int(np.ceil(0.95 * each.size)) - 1])


def test_a_value_at_the_threshold_is_not_above_it():
    stored = np.array([3999, 4000, 4001], dtype=np.uint16)
    got = exposure_of(stored, np.array([1.0, 10.0, 100.0]), np.array([40.0]), 0.01, 0.0)
    assert got.people_above == (100.0,)


def test_people_with_an_unknown_value_do_not_count():
    stored = np.array([100, UNKNOWN], dtype=np.uint16)
    got = exposure_of(stored, np.array([3.0, 5.0]), np.array([0.5]), 0.01, 0.0)
    assert (got.people, got.people_above) == (3.0, (3.0,))
    nobody = exposure_of(stored[1:], np.array([5.0]), np.array([0.5]), 0.01, 0.0)
    assert nobody.people == 0.0
    assert np.isnan(nobody.mean)
    assert np.isnan(nobody.p95)


def test_people_of_a_stored_band_are_those_of_its_levels():
    rng = np.random.default_rng(8)
    stored = rng.integers(6000, 10500, 500).astype(np.uint16)
    stored[:3] = UNKNOWN, 7500, 7499  # 55.00 and 54.99 dB
    people = rng.integers(1, 9, 500).astype(float)
    known, in_band = people_in_stored_bands(stored, people, (55.0, 60.0, 65.0, 70.0, 75.0), 0.01, -20.0)
    assert known == people[1:].sum()
    for begin, got in zip((7500, 8000, 8500, 9000), in_band[:-1], strict=True):
        assert got == people[(stored >= begin) & (stored < begin + 500)].sum()
    assert in_band[-1] == people[1:][stored[1:] >= 9500].sum()
