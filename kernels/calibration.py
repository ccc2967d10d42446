"""Calibration of the predictive variance from what counters say of each other.

Each counter is predicted from all others (:func:`kernels.kriging.leave_site_out`). Its residual r has the
latent variance v of kriging and the noise R of its reading, and is Student t with 6 degrees of freedom and

    variance = v exp(b0 + b_class + b1 l + b2 l^2 + b3 log(v / v0)) + R,    l = (x - 5) / 1.5,

where x is the prediction. The b are found by penalised likelihood; the same factor then holds for v on every
street. What counters do not show stays at its prior, a factor of one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

DEGREES_OF_FREEDOM = 6.0
PENALTY = 3.0  # b^2, each but the intercept: a class with a handful of counters stays near the others
INTERCEPT_PENALTY = 1.0
MAX_LOG_FACTOR = 2.0  # a factor of 7 on a variance; beyond that the counters are at odds, not the model
REFERENCE_VARIANCE = 0.1  # v0: about the variance beside a counter
SEEN = (0.02, 0.98)  # quantiles of level and variance between which counters speak
LEVEL_CENTRE, LEVEL_SCALE = 5.0, 1.5


@dataclass(frozen=True, slots=True)
class VarianceScale:
    """Factor on the latent variance by class, level and the variance itself.

    Attributes
    ----------
    intercept, level, level_squared, variance : float
        b0, b1, b2, b3.
    by_class : (n_classes,) float64
        b_class.
    level_range, log_variance_range : pair of float
        What counters showed of l and of log(v / v0); beyond, the nearest end holds. A parabola through busy
        streets says nothing of quiet ones.
    """

    intercept: float
    level: float
    level_squared: float
    variance: float
    by_class: NDArray[np.float64]
    level_range: tuple[float, float] = (-np.inf, np.inf)
    log_variance_range: tuple[float, float] = (-np.inf, np.inf)

    def factor(
        self, log_mean: NDArray[np.float64], variance: NDArray[np.float64], group: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Factor on each variance, (n,); ``group`` numbers the classes from 0."""
        coefficients = np.array([self.intercept, self.level, self.level_squared, self.variance])
        level, log_variance = _level(log_mean), _log_variance(variance)
        design = _design(np.clip(level, *self.level_range), np.clip(log_variance, *self.log_variance_range))
        exponent = design @ coefficients + self.by_class[group]
        factor = np.exp(np.clip(exponent, -MAX_LOG_FACTOR, MAX_LOG_FACTOR))
        # Agreement among busy streets narrows no quieter one than was counted.
        return np.where(level < self.level_range[0], np.maximum(factor, 1.0), factor)

    def packed(self) -> NDArray[np.float64]:
        """All of it in one array, (8 + n_classes,)."""
        b = self.intercept, self.level, self.level_squared, self.variance
        return np.array([*self.level_range, *self.log_variance_range, *b, *self.by_class])


def unit_scale(n_classes: int) -> VarianceScale:
    """A factor of one everywhere."""
    return VarianceScale(0.0, 0.0, 0.0, 0.0, np.zeros(n_classes))


def unpacked(packed: NDArray[np.float64]) -> VarianceScale:
    """Scale from the array of :meth:`VarianceScale.packed`."""
    low, high, least, most, b0, b1, b2, b3 = (float(number) for number in packed[:8])
    return VarianceScale(b0, b1, b2, b3, np.array(packed[8:]), (low, high), (least, most))


def fit_scale(
    residual: NDArray[np.float64],
    variance: NDArray[np.float64],
    noise: NDArray[np.float64],
    log_mean: NDArray[np.float64],
    group: NDArray[np.int64],
    n_classes: int,
    start: VarianceScale | None = None,
) -> VarianceScale:
    """Scale of greatest penalised likelihood.

    Parameters
    ----------
    residual : (n,) float64
        Leave-site-out residual of each counter.
    variance, noise : (n,) float64
        Latent variance v and noise variance R, v above 0.
    log_mean : (n,) float64
        Leave-site-out prediction of x.
    group : (n,) int64
        Class of each counter, from 0.
    n_classes : int
    start : VarianceScale, optional
        Where the search begins, such as the last fit.
    """
    if residual.size == 0:
        return unit_scale(n_classes)
    level, log_variance = _level(log_mean), _log_variance(variance)
    design = np.concatenate([_design(level, log_variance), np.eye(n_classes)[group]], axis=1)
    penalty = np.full(design.shape[1], PENALTY)
    penalty[0] = INTERCEPT_PENALTY
    nu = DEGREES_OF_FREEDOM

    def loss(b: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        exponent = design @ b
        inside = np.abs(exponent) < MAX_LOG_FACTOR
        latent = variance * np.exp(np.clip(exponent, -MAX_LOG_FACTOR, MAX_LOG_FACTOR))
        total = latent + noise
        squared = residual**2 / ((nu - 2.0) * total)
        value = (0.5 * np.log(total) + 0.5 * (nu + 1.0) * np.log1p(squared)).sum()
        slope = (0.5 - 0.5 * (nu + 1.0) * squared / (1.0 + squared)) / total * latent * inside
        return float(value + penalty @ b**2), design.T @ slope + 2.0 * penalty * b

    begin = (start or unit_scale(n_classes)).packed()[4:]
    b = minimize(loss, begin, jac=True, method="L-BFGS-B").x
    seen = (*np.quantile(level, SEEN), *np.quantile(log_variance, SEEN))
    return unpacked(np.concatenate([seen, b]))


def _level(log_mean: NDArray[np.float64]) -> NDArray[np.float64]:
    return (log_mean - LEVEL_CENTRE) / LEVEL_SCALE


def _log_variance(variance: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log(np.maximum(variance, 1e-4) / REFERENCE_VARIANCE)


def _design(level: NDArray[np.float64], log_variance: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([np.ones(level.size), level, level**2, log_variance], axis=1)
