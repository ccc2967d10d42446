"""What a perfect counter would count: against sums over 20,000 nodes, a simulation, and scipy in the limits."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special, stats

from kernels.predictive import count_distribution, predict_counts
from kernels.scores import UNIT_VARIANCE, accuracy, geh

RATES = special.stdtrit(6, (np.arange(20_000) + 0.5) / 20_000)


def means(flow: float, sd: float, window_h: float) -> NDArray[np.float64]:
    """Mean counts at 20,000 equally likely rates."""
    x = np.log(flow + 5.0) + sd * UNIT_VARIANCE * RATES
    return np.asarray(np.maximum(np.exp(x) - 5.0, 0.0) * window_h)


def column(*values: float) -> NDArray[np.float64]:
    return np.array(values, dtype=np.float64)


@pytest.mark.parametrize("sd", [1e-6, 0.05, 0.15, 0.3, 0.6, 1.0, 1.5])
def test_distribution_of_counts_equals_a_fine_sum_for_few_and_many_well_and_badly_known(sd: float) -> None:
    for window_h in (1 / 12, 0.25, 1.0):
        for flow in (0.0, 3.0, 20.0, 110.0, 450.0, 1_500.0, 4_000.0):
            mean = means(flow, sd, window_h)
            counts = np.unique(np.quantile(mean, [0.02, 0.2, 0.5, 0.8, 0.97]).astype(np.int64))
            exact = [special.pdtr(k, mean).mean() for k in counts]
            log_mean, log_sd = np.full(counts.size, np.log(flow + 5)), np.full(counts.size, sd)
            got = count_distribution(counts, log_mean, log_sd, window_h)
            np.testing.assert_allclose(got, exact, atol=0.003)


def test_interval_is_the_first_that_holds_nine_tenths_with_a_twentieth_below_at_most() -> None:
    rng = np.random.default_rng(3)
    for _ in range(150):
        window_h, flow = float(rng.choice([1 / 12, 0.25, 1.0])), float(np.exp(rng.uniform(0, 8)))
        sd = float(np.exp(rng.uniform(-4, 0.5)))
        found = predict_counts(column(flow), column(np.log(flow + 5)), column(sd), window_h)
        low = round(found.lo90_per_h[0] * window_h + 0.49) if found.lo90_per_h[0] > 0 else 0
        high = round(found.hi90_per_h[0] * window_h - 0.5)
        mean = means(flow, sd, window_h)
        below = special.pdtr(low - 1, mean).mean() if low else 0.0
        held = special.pdtr(high, mean).mean() - below
        assert below <= 0.052
        assert held >= 0.898
        if high > low:
            assert special.pdtr(high - 1, mean).mean() - below <= 0.902


def test_a_known_rate_is_counted_as_poisson() -> None:
    flow = column(2.0, 40.0, 400.0, 2_000.0)
    counts = np.array([0, 11, 95, 520])
    got = count_distribution(counts, np.log(flow + 5), np.zeros(4), 0.25)
    np.testing.assert_allclose(got, stats.poisson(flow / 4).cdf(counts), atol=2e-4)


def test_many_counts_tell_the_rate_and_no_more() -> None:
    flow, sd = column(3_000.0), column(0.4)
    found = predict_counts(flow, np.log(flow + 5), sd, 24.0)
    half = stats.t(6).ppf(0.95) * UNIT_VARIANCE * 0.4
    assert found.lo90_per_h[0] == pytest.approx(3005 * np.exp(-half) - 5, rel=0.002)
    assert found.hi90_per_h[0] == pytest.approx(3005 * np.exp(half) - 5, rel=0.002)
    assert found.accuracy[0] == pytest.approx(accuracy(flow, np.log(flow + 5), sd)[0], abs=0.003)


def test_accuracy_and_interval_equal_a_simulation_of_counts() -> None:
    rng = np.random.default_rng(8)
    for flow, sd in ((0.5, 0.5), (15.0, 0.5), (80.0, 0.8), (300.0, 0.2), (1_200.0, 0.3)):
        rate = np.maximum(np.exp(np.log(flow + 5) + sd * UNIT_VARIANCE * rng.standard_t(6, 200_000)) - 5, 0)
        counted = rng.poisson(rate / 4) * 4.0
        found = predict_counts(column(flow), column(np.log(flow + 5)), column(sd), 0.25)
        within = (geh(column(flow), counted) <= 5) | (np.abs(counted - flow) <= 0.15 * flow)
        assert found.accuracy[0] == pytest.approx(within.mean(), abs=0.005)
        held = (counted >= found.lo90_per_h[0]) & (counted <= found.hi90_per_h[0])
        assert held.mean() > 0.895


def test_an_empty_street_has_the_interval_of_no_count() -> None:
    found = predict_counts(column(0.1), column(np.log(5.1)), column(0.05), 0.25)
    assert (found.lo90_per_h[0], found.hi90_per_h[0]) == (0.0, 2.0)
    assert found.accuracy[0] > 0.99


def test_rows_do_not_depend_on_their_neighbours() -> None:
    rng = np.random.default_rng(4)
    flow, sd = np.exp(rng.normal(4, 1.5, 200)), rng.uniform(0.1, 1.2, 200)
    whole = predict_counts(flow, np.log(flow + 5), sd, 0.25)
    part = predict_counts(flow[::-7], np.log(flow[::-7] + 5), sd[::-7], 0.25)
    np.testing.assert_array_equal(whole.hi90_per_h[::-7], part.hi90_per_h)
    np.testing.assert_array_equal(whole.accuracy[::-7], part.accuracy)
