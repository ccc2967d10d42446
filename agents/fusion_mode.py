"""Fusion of the counters of one mode with its prior: the numbers behind the fusion agent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular

from agents.fusion_counters import CounterRows
from agents.fusion_faults import FaultWatch, witnesses
from agents.fusion_gains import Gains
from agents.fusion_windows import Windows
from kernels.calibration import VarianceScale, fit_scale, unit_scale, unpacked
from kernels.conservation import Junctions, conserve
from kernels.kriging import (
    Kriging,
    Solution,
    leave_site_out,
    posterior_shift,
    posterior_variance,
    solve,
)
from kernels.prior import OFFSET_PER_H, ModePrior

PARTS = 5  # of the edges, one a minute: no step carries all variances
MIN_NOISE = 1e-6  # keeps the factorisation of two counters on one edge regular
MIN_LATENT = 2e-3  # variance of x beside a perfect counter
HELD_SD = 5.0  # residuals beyond say that a counter is wrong, not how wrong the model is
TOLERATED_SD = 3.0  # a counter this far from what all others say is in doubt
CREDIT_GAIN, CREDIT_LOSS = 0.22, 0.04  # per 5 min: 20 min to earn trust, 2 h to lose it
FULL_CAPACITY = 1.5  # no street carries more than this multiple of its assumed capacity


@dataclass(frozen=True, slots=True)
class Readings:
    """What the counters say now, for the rows that say something.

    Attributes
    ----------
    active : (n_active,) int64
    rate_per_h : (n_active,) float64
        Windowed rate, carried to the present hour by the profile [1/h].
    deviation : (n_active,) float64
        log(rate + 5) less the prior's.
    noise : (n_active, n_active) float64
    carry : (n_active,) float64
        Autocorrelation since each row's newest reading.
    """

    active: NDArray[np.int64]
    rate_per_h: NDArray[np.float64]
    deviation: NDArray[np.float64]
    noise: NDArray[np.float64]
    carry: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """Posterior of one mode, all (n_edges,): flow [1/h], mean and sd of x = log(flow + 5).

    ``solution`` holds the weights of the readings for whoever asks why; None when no counter speaks.
    """

    flow_per_h: NDArray[np.float64]
    log_mean: NDArray[np.float64]
    log_sd: NDArray[np.float64]
    readings: Readings
    solution: Solution | None


@dataclass(frozen=True, slots=True)
class Predicted:
    """Each active row as all other sites predict it, (n_active,) each.

    Attributes
    ----------
    expected_per_h : prediction [1/h]
    residual : log(reading + 5) less its prediction
    latent, noise : calibrated variance of the prediction, variance of the reading
    """

    expected_per_h: NDArray[np.float64]
    residual: NDArray[np.float64]
    latent: NDArray[np.float64]
    noise: NDArray[np.float64]


class ModeFusion:
    """One mode: its prior, covariances and counters, and the state that fusion keeps of them.

    Keeps
    -----
    windows, faults : counts and exposures of each row, and what is wrong with it
    credit, doubt : (n_rows,) trust that a row has earned; variance added to one that contradicts all others
    variance, scale : posterior variance of each edge, calibration of the variances
    """

    def __init__(
        self,
        prior: ModePrior,
        counters: CounterRows,
        kriging: Kriging,
        road_class: NDArray[np.int16],
        capacity_per_h: NDArray[np.float64],
        nodes: Junctions | None,
    ) -> None:
        self.prior, self.counters, self.kriging = prior, counters, kriging
        self._nodes = nodes
        self._is_uninformed = True  # the variances know of no counter yet
        self._flow = prior.flow_per_h.astype(np.float64)
        self._ceiling = np.log(FULL_CAPACITY * capacity_per_h + OFFSET_PER_H)
        codes, group = np.unique(road_class, return_inverse=True)
        self._n_classes, self._class = codes.size, group.astype(np.int64)
        self._edge = counters.sees.indices[counters.sees.indptr[:-1]].astype(np.int64)
        self._single = np.diff(counters.sees.indptr) == 1
        self._row_class = self._class[self._edge]
        self._judging_minute = int(counters.mode) % PARTS  # another one for each mode
        self.gains = Gains(counters)
        self.windows = Windows(counters.n_rows)
        near = witnesses(kriging.k_ss, counters.xy, counters.site)
        self.faults = FaultWatch(near, counters.relative_sd, [s.source for s in counters.sensors])
        self.credit, self.doubt = np.zeros(counters.n_rows), np.zeros(counters.n_rows)
        self.scale: VarianceScale = unit_scale(self._n_classes)
        self.variance = kriging.variance.astype(np.float32)

    def readings(self, now_ms: int, scale: float) -> Readings:
        """Deviations and their noise at a time when flows are ``scale`` times the average hour."""
        a = self.windows.active(now_ms)
        per_count = scale / (self.windows.exposure[a] * self.counters.detection[a])
        count = self.windows.count[a]
        rate = count * per_count * np.exp(-self.gains.mean[a])
        chance = self.windows.squared[a] / self.windows.exposure[a] * per_count**2
        seen = self.counters.sees @ self._flow
        # What a quiet street may have counted: a zero says more where next to nothing was expected.
        usual = seen[a] * self.windows.exposure[a] * self.counters.detection[a]
        likely = np.maximum(count, (count + 1.0) * usual / (usual + 1.0))
        own = (rate * self.counters.relative_sd[a]) ** 2 + likely * chance
        weight = rate / (rate + OFFSET_PER_H)
        gain_sd = np.sqrt(self.gains.variance[a]) * weight
        site = self.counters.site[a]
        noise = (site[:, None] == site[None]) * np.outer(gain_sd, gain_sd)
        noise[np.diag_indices(a.size)] += own / (rate + OFFSET_PER_H) ** 2 + self.doubt[a] + MIN_NOISE
        noise[np.diag_indices(a.size)] += self.faults.variance[a]
        expected = np.log(seen[a] * scale + OFFSET_PER_H)
        carry = self.windows.carry(now_ms)[a]
        return Readings(a, rate, np.log(rate + OFFSET_PER_H) - expected, noise, carry)

    def estimate(self, now_ms: int, scale: float) -> Estimate:
        """Posterior at the end of a step; each minute of five renews a fifth of the variances."""
        readings = self.readings(now_ms, scale)
        if readings.active.size == 0:
            self.variance = self.kriging.variance.astype(np.float32)
            self._is_uninformed = True
            return Estimate(
                self._flow * scale, self.prior.log_mean(scale), np.sqrt(self.variance), readings, None
            )
        solution = self._solved(readings)
        minute = now_ms // 60_000 % PARTS
        if minute == self._judging_minute:
            self._learn_gains(now_ms, scale)
            self._judge(readings, solution)
        mean = self.prior.log_mean(scale) + posterior_shift(self.kriging, solution)
        for part in range(PARTS) if self._is_uninformed else (minute,):
            self._renew(solution, mean, part)
        self._is_uninformed = False
        mean = np.minimum(self._within_reach(mean, readings, now_ms), self._ceiling)
        if self._nodes is not None:
            mean = self._conserved(mean, self._nodes)
        flow = np.maximum(np.exp(mean) - OFFSET_PER_H, 0.0)
        return Estimate(flow, mean, np.sqrt(self.variance.astype(np.float64)), readings, solution)

    def warm_up(self, now_ms: int, scale: float) -> None:
        """Judge the counters at the end of a step that is not published."""
        if now_ms // 60_000 % PARTS == self._judging_minute:
            readings = self.readings(now_ms, scale)
            if readings.active.size:
                self._learn_gains(now_ms, scale)
                self._judge(readings, self._solved(readings))

    def _solved(self, readings: Readings) -> Solution:
        return solve(self.kriging, readings.active, readings.deviation, readings.noise, readings.carry)

    def _within_reach(
        self, mean: NDArray[np.float64], readings: Readings, now_ms: int
    ) -> NDArray[np.float64]:
        """Mean moved to within 3 sd of what a trusted counter on the edge itself reads.

        A closure is far outside any Gaussian of a stream that flows past it, so kriging would keep half of
        the traffic in a closed street; its own counter knows better.
        """
        a = readings.active
        own = self._single[a] & (self.credit[a] > 0.0) & self.windows.fresh(now_ms)[a]
        edge = self._edge[a[own]]
        read = np.log(readings.rate_per_h[own] + OFFSET_PER_H)
        reach = TOLERATED_SD * np.sqrt(np.diag(readings.noise)[own])
        moved = mean.copy()
        # Where two counters see one edge, the one that comes last by its id decides.
        moved[edge] = np.clip(mean[edge], read - reach, read + reach)
        return moved

    def _conserved(self, mean: NDArray[np.float64], nodes: Junctions) -> NDArray[np.float64]:
        """Flows that also obey conservation; what starts and ends at a node grows with all traffic."""
        ceiling = np.maximum(mean, np.log(OFFSET_PER_H))
        growth = (np.exp(ceiling) - OFFSET_PER_H).sum() / max(self._flow.sum(), 1e-9)
        source = nodes.net_inflow(self._flow) * growth
        variance = self.variance.astype(np.float64)
        return np.minimum(conserve(mean, variance, nodes, source), self._ceiling)

    def _renew(self, solution: Solution, mean: NDArray[np.float64], part: int) -> None:
        """Posterior variance of one part of the edges."""
        n_edges = self.variance.size
        at = slice(n_edges * part // PARTS, n_edges * (part + 1) // PARTS)
        latent = posterior_variance(self.kriging, solution, at)
        self.variance[at] = latent * self.scale.factor(mean[at], latent, self._class[at])

    def gain(self, estimate: Estimate) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Log gain of each active row by its reference and all other sites, and its sd: (n_active,) each."""
        readings, solution = estimate.readings, estimate.solution
        a = readings.active
        mean, variance = self.gains.mean[a], self.gains.variance[a]
        if solution is None:
            return mean, np.sqrt(variance)
        slope = readings.rate_per_h / (readings.rate_per_h + OFFSET_PER_H) * variance
        site = self.counters.site[a]
        shared = (site[:, None] == site[None]) * slope[None]  # covariance of a gain with every reading
        reduced = solve_triangular(solution.lower, shared.T, lower=True, check_finite=False)
        left = np.maximum(variance - np.square(reduced).sum(axis=0), 0.0)
        return mean + shared @ solution.alpha, np.sqrt(left)

    def _learn_gains(self, now_ms: int, scale: float) -> None:
        """Compare uncertain counters with references on their own edges."""
        windows = self.windows
        exposure = np.where(windows.exposure > 0, windows.exposure, np.inf) * self.counters.detection
        self.gains.learn(
            now_ms, windows.count / exposure * scale, windows.count, windows.squared / exposure,
            self.counters.relative_sd, windows.fresh(now_ms),
        )  # fmt: skip

    def _judge(self, readings: Readings, solution: Solution) -> None:
        """Scale of the variances by class, and the doubt about rows that contradict all others."""
        a = readings.active
        residual, variance = leave_site_out(solution, self.counters.site[a])
        nominal = np.maximum(variance - self.doubt[a] - self.faults.variance[a], MIN_NOISE)
        squared = residual**2 / nominal
        noise = np.diag(readings.noise)
        latent = np.maximum(variance - noise, MIN_LATENT)
        # A broken counter must not widen the whole city.
        held = np.clip(residual, -HELD_SD * np.sqrt(variance), HELD_SD * np.sqrt(variance))
        log_expected = self._log_expected(readings, residual)
        self.scale = fit_scale(
            held, latent, noise, log_expected, self._row_class[a], self._n_classes, self.scale
        )
        agrees = squared <= TOLERATED_SD**2
        # A counter that agreed until now and jumps has seen an event; one that never agreed is wrong.
        step = np.where(agrees, CREDIT_GAIN * (1.0 - self.credit[a]), -CREDIT_LOSS * self.credit[a])
        self.credit[a] += step
        excess = np.maximum(residual**2 / TOLERATED_SD**2 - nominal, 0.0)
        self.doubt[a] = (1.0 - self.credit[a]) ** 2 * excess
        self.faults.judge(a, residual, np.sqrt(nominal), np.exp(log_expected) - OFFSET_PER_H)

    def left_out(self, estimate: Estimate) -> Predicted:
        """What all other sites say of each active row."""
        readings, solution = estimate.readings, estimate.solution
        a = readings.active
        if solution is None:
            return Predicted(*(np.zeros(0) for _ in range(4)))
        residual, variance = leave_site_out(solution, self.counters.site[a])
        noise = np.diag(readings.noise)
        latent = np.maximum(variance - noise, MIN_LATENT)
        expected = self._log_expected(readings, residual)
        latent = latent * self.scale.factor(expected, latent, self._row_class[a])
        return Predicted(np.maximum(np.exp(expected) - OFFSET_PER_H, 0.0), residual, latent, noise)

    def explained(self, estimate: Estimate, edge: int, scale: float) -> tuple[NDArray[np.float64], float]:
        """What moved the flow of an edge from its prior.

        The shift of x is a sum over the rows; the logarithmic mean of both flows turns it into vehicles, so
        that all parts and the rest add up to the flow less the prior's.

        Returns
        -------
        by_row : (n_active,) float64
            Part of each active row [1/h].
        rest : float
            Part of conservation, of limits and of a counter on the edge itself beyond kriging [1/h].
        """
        readings, solution = estimate.readings, estimate.solution
        before = float(self.prior.log_mean(scale)[edge])
        after = max(float(estimate.log_mean[edge]), np.log(OFFSET_PER_H))
        change = np.exp(after) - np.exp(before)
        mean = change / (after - before) if abs(after - before) > 1e-9 else np.exp(before)
        if solution is None:
            return np.zeros(0), float(change)
        row = np.asarray(self.kriging.k_es[edge], dtype=np.float64)[readings.active]
        # Weight of a reading times its deviation; covariance times alpha adds up too, but its parts cancel.
        weight = cho_solve((solution.lower, True), row * solution.carry, check_finite=False)
        by_row = mean * weight * readings.deviation
        return by_row, float(change - by_row.sum())

    def _log_expected(self, readings: Readings, residual: NDArray[np.float64]) -> NDArray[np.float64]:
        """Prediction of x of each active row, its residual taken from its reading."""
        return np.log(readings.rate_per_h + OFFSET_PER_H) - residual

    def weight(self, readings: Readings) -> NDArray[np.float64]:
        """Say of each active row on its own street against the prior, 0 to 1: (n_active,)."""
        latent = np.diag(self.kriging.k_ss)[readings.active]
        return np.asarray(readings.carry**2 * latent / (latent + np.diag(readings.noise)))

    def snapshot(self) -> dict[str, Any]:
        kept = {name: getattr(self, name).copy() for name in ("credit", "doubt", "variance")}
        return {
            "windows": self.windows.snapshot(), "faults": self.faults.snapshot(),
            "gains": self.gains.snapshot(), "is_uninformed": self._is_uninformed,
            "scale": self.scale.packed(), **kept,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        self.windows.restore(state["windows"])
        self.faults.restore(state["faults"])
        self.gains.restore(state["gains"])
        self._is_uninformed = bool(state["is_uninformed"])
        self.scale = unpacked(np.array(state["scale"]))
        for name in ("credit", "doubt", "variance"):
            setattr(self, name, np.array(state[name]))
