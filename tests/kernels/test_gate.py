from __future__ import annotations

import numpy as np

from kernels.gate import air_bound, air_releases, gate_bound, noise_exceeds


def _bound():
    cell = np.array([0, 0, 0, 1, 1], dtype=np.int32)
    segment = np.array([0, 1, 2, 2, 3], dtype=np.int32)
    return gate_bound(cell, segment, np.array([0.1, 0.1, 0.05, 0.2, 0.3]), 3, 5)


def test_nothing_is_released_while_the_bound_holds():
    withheld = np.array([0.3, 0.3, 0.1, 0.1, 50.0])  # segment 4 reaches no receptor
    assert not air_releases(_bound(), withheld).any()


def test_the_largest_contributor_of_a_violating_cell_is_released_first():
    released = air_releases(_bound(), np.array([0.9, 0.5, 0.1, 0.0, 0.0]))
    assert released.tolist() == [True, False, False, False, False]


def test_wind_dilutes_what_is_withheld():
    withheld = np.array([0.9, 0.5, 0.1, 0.0, 0.0])  # 0.145 at calm
    assert air_releases(_bound(), withheld, 0.7).any()
    assert not air_releases(_bound(), withheld, 1.5).any()


def test_of_equal_contributors_the_first_goes():
    released = air_releases(_bound(), np.array([0.6, 0.6, 0.0, 0.0, 0.0]))
    assert released.tolist() == [True, False, False, False, False]


def test_after_release_the_bound_holds_in_every_cell():
    rng = np.random.default_rng(5)
    bound = gate_bound(
        rng.integers(0, 40, 900).astype(np.int32),
        rng.integers(0, 120, 900).astype(np.int32),
        rng.uniform(0, 0.3, 900),
        40,
        120,
    )
    withheld = rng.exponential(0.2, 120)
    released = air_releases(bound, withheld)
    assert 0 < released.sum() < 120
    assert air_bound(bound, np.where(released, 0.0, withheld)).max() <= 0.1


def test_bound_is_the_matrix_product():
    rng = np.random.default_rng(6)
    cell = np.repeat(np.arange(7), 9).astype(np.int32)
    segment = np.tile(np.arange(9), 7).astype(np.int32)
    dense = rng.uniform(0, 1, (7, 9))
    withheld = rng.uniform(0, 1, 9)
    bound = gate_bound(cell, segment, dense.ravel(), 7, 9)
    np.testing.assert_allclose(air_bound(bound, withheld), dense @ withheld, rtol=1e-14)


def test_noise_leaves_the_tolerance_at_a_tenth_of_a_decibel_up_or_down():
    published = np.full((4, 4), 1_000_000)
    wanted = published.copy()
    wanted[0, 2] = round(1e6 * 10**0.0099)
    wanted[1, 2] = round(1e6 * 10**0.0101)
    wanted[2, 0] = round(1e6 * 10**-0.0099)
    wanted[3, 3] = round(1e6 * 10**-0.0101)
    assert noise_exceeds(published, wanted, 0.1).tolist() == [False, True, False, True]


def test_noise_from_or_to_silence_exceeds():
    zero, some = np.zeros((1, 4), dtype=np.int64), np.ones((1, 4), dtype=np.int64)
    assert noise_exceeds(zero, some, 0.1).all()
    assert noise_exceeds(some, zero, 0.1).all()
    assert not noise_exceeds(zero, zero, 0.1).any()
