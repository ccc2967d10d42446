"""Gains of counters that nobody calibrated: what a reference on the same street taught about them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.fusion_counters import CounterRows

# Readings of an exponential window of 15 min are independent after two of them.
INDEPENDENT_MS = 30 * 60_000
LEAST_PER_H = 20.0  # beneath it the logarithm of a ratio is chance, and skewed
FORGET_PER_DAY = 0.9  # a camera is moved or cleaned now and then


class Gains:
    """Log gain of each site of one mode, learnt where a counter of known gain sees the same edges.

    A ratio of both rates is one observation of the gain; its information is added with the share of an
    independent window that has passed since the last one. Without a reference nothing is learnt here: the
    network's own opinion of a gain is that of one moment, and its errors last.
    """

    def __init__(self, counters: CounterRows) -> None:
        n_sites = int(counters.site.max(initial=-1)) + 1
        self._site = counters.site
        self._prior = np.full(n_sites, np.inf)
        uncertain = counters.gain_sd > 0
        self._prior[counters.site[uncertain]] = counters.gain_sd[uncertain] ** -2.0
        self._row, self._reference = _pairs(counters)
        self.information = np.zeros(n_sites)
        self.weighted = np.zeros(n_sites)
        self.learnt_ms = -1

    @property
    def mean(self) -> NDArray[np.float64]:
        """Posterior mean of the log gain of each row, (n_rows,)."""
        return np.asarray((self.weighted / (self._prior + self.information))[self._site])

    @property
    def variance(self) -> NDArray[np.float64]:
        """Posterior variance of the log gain of each row, 0 where the gain is known, (n_rows,)."""
        return np.asarray((1.0 / (self._prior + self.information))[self._site])

    @property
    def is_learnt(self) -> NDArray[np.bool_]:
        """Rows that a reference has taught something, (n_rows,)."""
        return np.asarray((self.information > 0.0)[self._site])

    def learn(
        self,
        now_ms: int,
        rate_per_h: NDArray[np.float64],
        count: NDArray[np.float64],
        chance: NDArray[np.float64],
        relative_sd: NDArray[np.float64],
        fresh: NDArray[np.bool_],
    ) -> None:
        """Take in the ratios of this moment; all (n_rows,), rates by the known part of the gain.

        Parameters
        ----------
        now_ms : int
        rate_per_h : windowed rate [1/h]
        count : vehicles in the window
        chance : part of Poisson's variance that is left in the count
        relative_sd : error of a reading beyond chance
        fresh : rows with a reading of now
        """
        passed_ms = INDEPENDENT_MS if self.learnt_ms < 0 else max(now_ms - self.learnt_ms, 0)
        since, kept = min(passed_ms, INDEPENDENT_MS), FORGET_PER_DAY ** (passed_ms / 86_400_000)
        self.information *= kept
        self.weighted *= kept
        self.learnt_ms = now_ms
        row, reference = self._row, self._reference
        usable = fresh[row] & fresh[reference]
        usable &= (rate_per_h[row] >= LEAST_PER_H) & (rate_per_h[reference] >= LEAST_PER_H)
        row, reference = row[usable], reference[usable]
        ratio = np.log(rate_per_h[row] / rate_per_h[reference])
        variance = relative_sd[row] ** 2 + relative_sd[reference] ** 2
        variance += chance[row] / np.maximum(count[row], 1.0)
        variance += chance[reference] / np.maximum(count[reference], 1.0)
        information = since / INDEPENDENT_MS / variance
        np.add.at(self.information, self._site[row], information)
        np.add.at(self.weighted, self._site[row], information * ratio)

    def snapshot(self) -> dict[str, Any]:
        return {
            "information": self.information.copy(), "weighted": self.weighted.copy(),
            "learnt_ms": self.learnt_ms,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        self.information = np.array(state["information"])
        self.weighted = np.array(state["weighted"])
        self.learnt_ms = int(state["learnt_ms"])


def _pairs(counters: CounterRows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of unknown gain and rows of known gain that see the same edges."""
    seen: dict[bytes, list[int]] = {}
    sees = counters.sees
    for row in range(counters.n_rows):
        edges = np.sort(sees.indices[sees.indptr[row] : sees.indptr[row + 1]]).tobytes()
        seen.setdefault(edges, []).append(row)
    pairs = [
        (row, reference)
        for rows in seen.values()
        for row in rows
        for reference in rows
        if counters.gain_sd[row] > 0.0 and counters.gain_sd[reference] == 0.0
    ]
    table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]
