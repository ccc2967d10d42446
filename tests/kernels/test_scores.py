"""Intervals, accuracy score and speeds against scipy and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from kernels.prior import (
    ModePrior,
    log_anomalies,
    log_deviations,
    log_responses,
    pack,
    unpack,
    with_share,
)
from kernels.profile import DEFAULT_HOURLY, day_profile
from kernels.scores import (
    T6_75,
    T6_95,
    UNIT_VARIANCE,
    accuracy,
    calibration_error,
    crps_flow,
    crps_log,
    geh,
    interval,
    log_density,
    pit_histogram,
    reliability,
    t6_distribution,
    wape,
    within_band,
)
from kernels.speed import speed_correction, volume_delay_speed


def test_closed_form_of_students_t_equals_scipy() -> None:
    t = np.linspace(-9, 9, 101)
    np.testing.assert_allclose(t6_distribution(t), stats.t(6).cdf(t), atol=1e-12)
    assert stats.t(6).ppf([0.75, 0.95]) == pytest.approx([T6_75, T6_95])
    assert UNIT_VARIANCE**2 * stats.t(6).var() == pytest.approx(1.0)


def test_accuracy_and_intervals_equal_a_simulation_of_the_predictive_distribution() -> None:
    rng = np.random.default_rng(11)
    for mean, sd in ((6.0, 0.3), (4.0, 0.5), (2.0, 0.4), (7.5, 0.1)):
        flow = np.array([np.exp(mean) - 5])
        x = mean + sd * UNIT_VARIANCE * rng.standard_t(6, 200_000)
        true = np.maximum(np.exp(x) - 5, 0)
        within = (geh(flow, true) <= 5) | (np.abs(true - flow) <= 0.15 * flow)
        assert accuracy(flow, np.array([mean]), np.array([sd]))[0] == pytest.approx(within.mean(), abs=0.005)
        low, high = interval(np.array([mean]), np.array([sd]), T6_95)
        assert ((true >= low) & (true <= high)).mean() == pytest.approx(
            0.9, abs=0.06 if low[0] == 0 else 0.005
        )


def test_geh_of_a_textbook_pair_and_wape() -> None:
    assert geh(np.array([120.0]), np.array([100.0]))[0] == pytest.approx(np.sqrt(2 * 400 / 220))
    assert wape(np.array([90.0, 220.0]), np.array([100.0, 200.0])) == pytest.approx(0.1)


def test_crps_equals_its_integral_in_log_and_the_quantile_score_in_flow() -> None:
    x = np.linspace(-15, 25, 400_001)
    for mean, sd, truth in ((5.0, 0.4, 200.0), (5.0, 0.4, 30.0), (3.0, 1.0, 0.0), (7.0, 0.1, 1_000.0)):
        distribution = t6_distribution((x - mean) / (sd * UNIT_VARIANCE))
        integral = np.trapezoid((distribution - (x >= np.log(truth + 5))) ** 2, x)
        arguments = np.array([mean]), np.array([sd]), np.array([truth])
        assert crps_log(*arguments)[0] == pytest.approx(integral, abs=2e-4)
        levels = (np.arange(2_000) + 0.5) / 2_000
        levels = levels[(levels > 0.01) & (levels < 0.99)]
        flow = np.maximum(np.exp(mean + sd * UNIT_VARIANCE * stats.t(6).ppf(levels)) - 5, 0)
        loss = 2 * ((levels - (truth < flow)) * (truth - flow)).mean()
        assert crps_flow(*arguments)[0] == pytest.approx(loss, rel=0.03)


def test_log_density_equals_scipy() -> None:
    z = np.linspace(-4, 4, 9)
    expected = stats.t(6, 0, UNIT_VARIANCE * 0.3).logpdf(z * 0.3)
    np.testing.assert_allclose(log_density(z, np.full(9, 0.3)), expected, atol=1e-12)


def test_pit_is_flat_for_what_was_drawn_from_the_prediction_zeros_included_and_steep_for_a_bias() -> None:
    rng = np.random.default_rng(12)
    mean, sd = rng.normal(3, 1.5, 100_000), rng.uniform(0.2, 1.0, 100_000)
    truth = np.maximum(np.exp(mean + sd * UNIT_VARIANCE * rng.standard_t(6, mean.size)) - 5, 0)
    shares = pit_histogram(mean, sd, truth, 20)
    assert shares.sum() == pytest.approx(1.0)
    assert np.abs(shares - 0.05).max() < 0.005
    biased = pit_histogram(mean - 0.5, sd, truth, 20)
    assert biased[-1] > 2 * biased[0]


def test_reliability_of_a_score_that_means_what_it_says_and_of_one_that_boasts() -> None:
    rng = np.random.default_rng(13)
    score = rng.uniform(0, 1, 50_000)
    hit = rng.uniform(0, 1, score.size) < score
    number, mean, share = reliability(score, hit, 10)
    assert number.sum() == score.size
    np.testing.assert_allclose(mean, np.arange(10) / 10 + 0.05, atol=0.005)
    np.testing.assert_allclose(share, mean, atol=0.03)
    assert calibration_error(score, hit) < 0.01
    assert calibration_error(np.minimum(score + 0.2, 1.0), hit) == pytest.approx(0.18, abs=0.01)
    assert np.isnan(reliability(np.array([0.95]), np.array([True]), 10)[2][0])


def test_the_band_is_geh_5_or_15_percent_whichever_is_wider() -> None:
    truth = np.linspace(0, 6_000, 60_001)
    for flow in (0.0, 30.0, 1_500.0, 4_000.0):
        expected = (geh(np.array([flow]), truth) <= 5) | (np.abs(truth - flow) <= 0.15 * flow + 1e-9)
        assert (within_band(np.array([flow]), truth) == expected).mean() > 0.9999


def test_profile_averages_to_one_and_is_continuous_over_midnight() -> None:
    profile = day_profile(DEFAULT_HOURLY)
    assert profile.per_minute.mean() == pytest.approx(1.0, abs=1e-3)
    assert profile.scale(8 * 60 + 30) == pytest.approx(7.8 * 24 / sum(DEFAULT_HOURLY))
    assert np.abs(np.diff(np.append(profile.per_minute, profile.per_minute[0]))).max() < 0.05
    with pytest.raises(ValueError, match="24 shares"):
        day_profile([1.0] * 23)


def test_volume_delay_halves_no_speed_below_capacity() -> None:
    speed = volume_delay_speed(np.full(3, 50.0), np.array([0.0, 1000.0, 2000.0]), np.full(3, 1000.0))
    assert speed == pytest.approx([50.0, 50 / 1.15, 50 / (1 + 0.15 * 16)])


def test_measured_speed_holds_on_its_edge_and_fades_with_distance_and_class() -> None:
    xy = np.array([[0.0, 0], [100, 0], [500, 0], [5_000, 0], [100, 50]])
    correction = speed_correction(xy, np.array([1, 1, 1, 1, 2]), np.array([0]))
    factor = correction.factor(np.array([np.log(0.5)]), np.array([1.0]))
    assert factor[0] == pytest.approx(0.5)
    assert factor[0] < factor[1] < factor[2] < factor[3] < 1.0
    assert factor[4] == 1.0
    assert (correction.factor(np.array([np.log(0.5)]), np.array([0.0])) == 1.0).all()


def test_prior_survives_packing_within_its_quanta() -> None:
    rng = np.random.default_rng(5)
    members = np.exp(rng.normal(4, 1, (8, 50)))
    deviations = log_deviations(members)
    anomalies, lost = log_anomalies(deviations, 5)
    responses = log_responses(deviations, rng.normal(size=(8, 2)))
    prior = ModePrior(
        members.mean(0).astype(np.float32), rng.uniform(0, 900, 70).astype(np.float32), anomalies, lost,
        responses,
    )  # fmt: skip
    back = unpack(pack(prior))
    np.testing.assert_allclose(back.flow_per_h, prior.flow_per_h, rtol=3e-4)
    np.testing.assert_allclose(back.turn_flow_per_h, prior.turn_flow_per_h, rtol=0.03, atol=0.03)
    np.testing.assert_allclose(back.anomalies, prior.anomalies, atol=np.abs(anomalies).max() / 200)
    np.testing.assert_allclose(back.responses, prior.responses, atol=np.abs(responses).max() / 200)


def test_anomalies_of_full_rank_hold_the_whole_covariance_of_the_ensemble() -> None:
    members = np.exp(np.random.default_rng(6).normal(4, 1, (6, 30)))
    x = np.log(members * 1.5 + 5)
    deviations = log_deviations(members)
    anomalies, lost = log_anomalies(deviations, 6)
    np.testing.assert_allclose(anomalies @ anomalies.T, np.cov(x.T), atol=1e-5)
    assert lost.max() < 1e-5
    short, missing = log_anomalies(deviations, 2)
    np.testing.assert_allclose((short**2).sum(1) + missing, np.diag(np.cov(x.T)), rtol=1e-4)


def test_responses_are_the_slopes_of_log_flow_on_the_guesses_of_the_members() -> None:
    rng = np.random.default_rng(8)
    guesses = rng.normal(size=(400, 3))
    guesses[:, 2] = 1.0  # a guess that no member varied tells nothing
    slopes = np.array([[0.3, -0.1], [0.0, 0.5], [-0.2, 0.0]])
    x = 6.0 + guesses[:, :2] @ slopes.T + 0.02 * rng.normal(size=(400, 3))
    found = log_responses(log_deviations((np.exp(x) - 5.0) / 1.5), guesses)
    np.testing.assert_allclose(found, slopes * guesses[:, :2].std(axis=0), atol=0.02)


def test_a_part_of_a_mode_keeps_its_share_and_shrinks_where_it_is_small() -> None:
    prior = ModePrior(
        np.array([1000.0, 10.0], np.float32),
        np.ones(1, np.float32),
        np.ones((2, 1), np.float32),
        np.zeros(2, np.float32),
        np.ones((2, 1), np.float32),
    )
    part = with_share(prior, np.array([0.1, 0.1]))
    assert part.flow_per_h == pytest.approx([100.0, 1.0])
    assert part.anomalies[1, 0] < part.anomalies[0, 0] < 1.0
