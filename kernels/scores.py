"""Scores of a flow: intervals and the accuracy score of an estimate, and measures against a truth.

The predictive distribution is Student's t with 6 degrees of freedom in x = log(flow + 5); nu = 6 was measured
against 4 and 6 on simulated cities. Its distribution function has a closed form [1]_.

References
----------
.. [1] M. Abramowitz, I. Stegun, "Handbook of Mathematical Functions", 26.7.4 (even degrees of freedom).
.. [2] UK Department for Transport, TAG unit M3.1, GEH statistic: sqrt(2 (m - c)^2 / (m + c)).
.. [3] A. Jordan, F. Kruger, S. Lerch, "Evaluating probabilistic forecasts with scoringRules", J. Stat.
   Software 90 (2019), appendix A: CRPS of Student's t.
.. [4] C. Czado, T. Gneiting, L. Held, "Predictive model assessment for count data", Biometrics 65 (2009).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import beta, stdtrit

from kernels.prior import OFFSET_PER_H

DEGREES_OF_FREEDOM = 6
UNIT_VARIANCE = float(np.sqrt(2.0 / 3.0))  # scale of t(6) whose variance is 1
T6_75, T6_95 = 0.7175581934, 1.9431802805  # quantiles of t(6), scipy.stats.t.ppf
T6_PEAK = 0.3827327723098716  # density of t(6) at 0
RELATIVE_BAND, GEH_BAND = 0.15, 5.0
LEAST_PER_H = 0.5


def t6_distribution(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """P(T <= t) of Student's t with 6 degrees of freedom [1]_."""
    c2 = 6.0 / (6.0 + t * t)
    return 0.5 + 0.5 * t / np.sqrt(6.0 + t * t) * (1.0 + 0.5 * c2 + 0.375 * c2 * c2)


def interval(
    log_mean: NDArray[np.float64], log_sd: NDArray[np.float64], quantile: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Central interval of the flow, from -``quantile`` to +``quantile`` of t(6) in x, cut at 0 [1/h].

    A lower bound of less than one vehicle in two hours is 0: no counter could tell it from none.
    """
    half = quantile * UNIT_VARIANCE * log_sd
    low, high = np.exp(log_mean - half) - OFFSET_PER_H, np.exp(log_mean + half) - OFFSET_PER_H
    return np.where(low < LEAST_PER_H, 0.0, low), np.maximum(high, 0.0)


def accuracy_band(flow_per_h: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest rate within max(15 %, GEH 5) of a published flow, each (n,) [1/h].

    A true rate c has GEH 5 to m where (m - c)^2 = 12.5 (m + c): c = m + 6.25 -+ sqrt(39.0625 + 25 m) [2]_.
    """
    reach = np.sqrt(GEH_BAND**4 / 16.0 + GEH_BAND**2 * flow_per_h)
    centre = flow_per_h + GEH_BAND**2 / 4.0
    low = np.maximum(np.minimum(centre - reach, (1.0 - RELATIVE_BAND) * flow_per_h), 0.0)
    return low, np.maximum(centre + reach, (1.0 + RELATIVE_BAND) * flow_per_h)


def accuracy(
    flow_per_h: NDArray[np.float64], log_mean: NDArray[np.float64], log_sd: NDArray[np.float64]
) -> NDArray[np.float64]:
    """P(true rate within max(15 %, GEH 5) of the published flow), (n,)."""
    low, high = accuracy_band(flow_per_h)
    scale = np.maximum(log_sd, 1e-6) * UNIT_VARIANCE
    above = t6_distribution((np.log(high + OFFSET_PER_H) - log_mean) / scale)
    # Where the band begins at 0, no rate lies below it: the part of x below log 5 counts as 0.
    below = np.where(low > 0.0, t6_distribution((np.log(low + OFFSET_PER_H) - log_mean) / scale), 0.0)
    return above - below


def within_band(flow_per_h: NDArray[np.float64], truth_per_h: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Truth within max(15 %, GEH 5) of the published flow: what :func:`accuracy` is the probability of."""
    low, high = accuracy_band(flow_per_h)
    return (truth_per_h >= low) & (truth_per_h <= high)


def geh(modelled_per_h: NDArray[np.float64], counted_per_h: NDArray[np.float64]) -> NDArray[np.float64]:
    """GEH statistic of hourly flows [2]_, (n,)."""
    total = np.maximum(modelled_per_h + counted_per_h, 1e-9)
    return np.sqrt(2.0 * (modelled_per_h - counted_per_h) ** 2 / total)


def wape(estimate: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """Weighted absolute percentage error: sum |e - t| / sum t."""
    return float(np.abs(estimate - truth).sum() / truth.sum())


def log_density(z: NDArray[np.float64], log_sd: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of the density of x at ``z`` standard deviations from its centre, (n,)."""
    t = z / UNIT_VARIANCE
    return np.log(T6_PEAK) - 3.5 * np.log1p(t * t / 6.0) - np.log(UNIT_VARIANCE * log_sd)


def crps_log(
    log_mean: NDArray[np.float64], log_sd: NDArray[np.float64], truth_per_h: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Continuous ranked probability score of x = log(flow + 5), closed form [3]_, (n,)."""
    nu, scale = DEGREES_OF_FREEDOM, UNIT_VARIANCE * np.maximum(log_sd, 1e-6)
    t = (np.log(truth_per_h + OFFSET_PER_H) - log_mean) / scale
    density = T6_PEAK * (1.0 + t * t / nu) ** -3.5
    spread = 2.0 * np.sqrt(nu) / (nu - 1) * beta(0.5, nu - 0.5) / beta(0.5, nu / 2.0) ** 2
    score = t * (2.0 * t6_distribution(t) - 1.0) + 2.0 * density * (nu + t * t) / (nu - 1) - spread
    return np.asarray(scale * score)


def crps_flow(
    log_mean: NDArray[np.float64], log_sd: NDArray[np.float64], truth_per_h: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Ranked probability score of the flow [1/h], from 49 quantiles between 1 % and 99 %, (n,).

    Twice the mean quantile score. The whole integral is infinite: the exponential of a t has no mean.
    """
    total = np.zeros(truth_per_h.shape)
    levels = (np.arange(49) + 0.5) / 49.0
    for level, t in zip(levels, stdtrit(DEGREES_OF_FREEDOM, levels), strict=True):
        flow = np.maximum(np.exp(log_mean + t * UNIT_VARIANCE * log_sd) - OFFSET_PER_H, 0.0)
        total += (level - (truth_per_h < flow)) * (truth_per_h - flow)
    return np.asarray(2.0 * total / levels.size)


def pit_histogram(
    log_mean: NDArray[np.float64], log_sd: NDArray[np.float64], truth_per_h: NDArray[np.float64], n_bins: int
) -> NDArray[np.float64]:
    """Share of the truths by their probability integral transform, (n_bins,); flat when calibrated.

    Flow is never below 0, so that a truth of 0 may be anywhere below P(x < log 5): its share is spread
    evenly there [4]_.
    """
    scale = UNIT_VARIANCE * np.maximum(log_sd, 1e-6)
    below = t6_distribution((np.log(truth_per_h + OFFSET_PER_H) - log_mean) / scale)
    is_zero = truth_per_h <= 0.0
    edges = np.linspace(0.0, 1.0, n_bins + 1)
    cumulated = np.array([(below[~is_zero] <= edge).sum() for edge in edges], dtype=np.float64)
    at_zero = np.maximum(below[is_zero], 1e-12)
    cumulated += [np.minimum(edge / at_zero, 1.0).sum() for edge in edges]
    cumulated[0] = 0.0
    return np.asarray(np.diff(cumulated) / max(truth_per_h.size, 1))


def reliability(
    score: NDArray[np.float64], hit: NDArray[np.bool_], n_bins: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Number, mean score and share of hits in bins of equal width of the score, each (n_bins,).

    Empty bins are NaN.
    """
    place = np.clip((score * n_bins).astype(np.int64), 0, n_bins - 1)
    number = np.bincount(place, minlength=n_bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(place, score, n_bins) / number
        share = np.bincount(place, hit.astype(np.float64), n_bins) / number
    return number, mean, share


def calibration_error(score: NDArray[np.float64], hit: NDArray[np.bool_], n_bins: int = 10) -> float:
    """Expected calibration error: mean over all of |share of hits - mean score| of their bin."""
    number, mean, share = reliability(score, hit, n_bins)
    return float(np.nansum(number * np.abs(share - mean)) / max(score.size, 1))
