"""The variance scale recovers what made the residuals, and stays at one where nothing is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.calibration import MAX_LOG_FACTOR, VarianceScale, fit_scale, unit_scale, unpacked

N = 6_000


def residuals(true: VarianceScale, seed: int) -> tuple[NDArray[np.float64], ...]:
    """Student-t residuals of counters whose variance follows a scale."""
    rng = np.random.default_rng(seed)
    variance, noise = rng.uniform(0.03, 0.4, N), rng.uniform(0.005, 0.05, N)
    log_mean, group = rng.uniform(2.0, 7.5, N), rng.integers(0, 3, N)
    total = variance * true.factor(log_mean, variance, group) + noise
    residual = rng.standard_t(6, N) * np.sqrt(total * 4.0 / 6.0)
    return residual, variance, noise, log_mean, group


@pytest.mark.parametrize(
    "true",
    [
        unit_scale(3),
        VarianceScale(0.7, 0.0, 0.0, 0.0, np.zeros(3)),
        VarianceScale(-0.3, 0.2, -0.1, 0.3, np.array([0.4, 0.0, -0.4])),
    ],
)
def test_the_scale_that_made_residuals_is_found(true: VarianceScale) -> None:
    residual, variance, noise, log_mean, group = residuals(true, 1)
    found = fit_scale(residual, variance, noise, log_mean, group, 3)
    ratio = found.factor(log_mean, variance, group) / true.factor(log_mean, variance, group)
    assert np.quantile(np.abs(np.log(ratio)), 0.95) < 0.2


def test_without_counters_the_scale_is_one_everywhere() -> None:
    none = np.zeros(0)
    found = fit_scale(none, none, none, none, np.zeros(0, np.int64), 4)
    assert (found.factor(np.array([1.0, 8.0]), np.array([0.1, 1.0]), np.array([0, 3])) == 1.0).all()


def test_a_handful_of_counters_moves_the_scale_only_a_little() -> None:
    five = [values[:5] for values in residuals(VarianceScale(2.0, 0, 0, 0, np.zeros(3)), 2)]
    found = fit_scale(*five[:5], 3)  # type: ignore[arg-type]
    assert 1.0 < found.factor(np.array([5.0]), np.array([0.1]), np.array([1]))[0] < np.exp(1.5)


def test_one_wild_counter_among_many_changes_the_scale_by_less_than_a_third() -> None:
    residual, variance, noise, log_mean, group = residuals(unit_scale(3), 3)
    few = slice(0, 400)
    clean = fit_scale(residual[few], variance[few], noise[few], log_mean[few], group[few], 3)
    wild = residual[few].copy()
    wild[7] = 40.0
    spoilt = fit_scale(wild, variance[few], noise[few], log_mean[few], group[few], 3)
    at = (log_mean[few], variance[few], group[few])
    np.testing.assert_allclose(np.log(spoilt.factor(*at) / clean.factor(*at)), 0.0, atol=0.3)


def test_the_order_of_the_counters_does_not_matter() -> None:
    values = residuals(VarianceScale(0.3, 0.1, 0, 0, np.zeros(3)), 4)
    backwards = [v[::-1] for v in values]
    one = fit_scale(*values, 3)  # type: ignore[arg-type]
    other = fit_scale(*backwards, 3)  # type: ignore[arg-type]
    np.testing.assert_allclose(one.packed(), other.packed(), atol=2e-3)


def test_a_factor_never_leaves_its_bounds_and_survives_packing() -> None:
    scale = VarianceScale(9.0, 0.0, 0.0, 0.0, np.array([0.0, -20.0]))
    factor = scale.factor(np.array([5.0, 5.0]), np.array([0.1, 0.1]), np.array([0, 1]))
    np.testing.assert_allclose(factor, np.exp([MAX_LOG_FACTOR, -MAX_LOG_FACTOR]))
    assert np.array_equal(unpacked(scale.packed()).packed(), scale.packed())
