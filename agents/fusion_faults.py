"""Which counters are at fault, told from their own past and from what the others say.

An event has witnesses, a fault has none: a sudden change of one counter is believed when another counter
nearby, or on the same stream, changes within a quarter of an hour too. A street so quiet that its count says
nothing accuses nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.fusion_windows import turns


class Fault(IntEnum):
    """What is wrong with a counter; the higher one is shown where two apply."""

    NONE = 0
    CONTRADICTING = 1
    DRIFTING = 2
    SPIKING = 3
    ZERO = 4
    STUCK = 5
    SILENT = 6


USUAL_MS = 20 * 60_000  # window of a counter's own past
CHANGE_SD = 3.5  # of one reading: worth a second look
EVIDENCE, ZERO_EVIDENCE = (
    50.0,
    28.0,
)  # squared sd of all readings since; twice the expected count of a zero run
ZERO_EXPECTED = 3.0  # a zero where this many were expected is worth a second look too
WITNESS_SD = 4.0
RETURNED_SD = 3.0
CHANCE_SD = 0.15  # change of a flow between readings beyond Poisson's: bicycles come in swarms
WITNESS_MS = 15 * 60_000
SETTLED_MS = 5 * 60_000  # a change is judged by the second reading of a five-minute loop
MIN_READINGS = 3  # before a past is one
SPIKE_SD, SMALL_SPIKE_SD = 8.0, 5.0  # one of the first is enough, of the others the second within the hour
SPIKE_MS = 3_600_000
STUCK_LOG_P = float(np.log(3e-6))  # 288 readings of 100 sensors a day: one false accusation a day at most
SILENT_INTERVALS, SILENT_SLACK_MS = 3, 120_000
FEED_SHARE, FEED_LEAST = 0.03, 2  # more of a source silent: it is the feed, or dusk for cameras
CONTRADICTS_SD, OPPOSES_SD, AGREES_SD = 6.0, 2.5, 1.5
LEARNT_MS = 30 * 60_000  # by then the residual is of the new level
LASTING_MS = 24 * 3_600_000
DRIFT_LOG = 1.0  # from the long-run ratio to what the others say; 0.75 is reached by 3 of 1,000 sound ones
DRIFT_PER_H = 80.0  # below it ratios move by more
CALM_MS = 3_600_000
BASELINE_MS = 6 * 3_600_000
LATEST_MS = 20 * 60_000
BASELINE_JUDGEMENTS = 12  # an hour
FAULT_VARIANCE = 100.0  # of the logarithm: no weight
N_NEAR, NEAR_M = 10, 1_500.0
N_ALIKE, ALIKE = 6, 0.5  # correlation of the prior

_STATE = (
    "usual_count", "usual_exposure", "new_count", "new_exposure", "n_readings", "newest_ms", "interval_ms",
    "last_count", "run_log_p", "changed_ms", "pending_ms", "first_sd", "evidence", "deviating", "is_zero",
    "has_returned", "is_accused", "is_believed", "is_opposed", "spike_ms", "is_spiking", "baseline", "latest",
    "n_judged", "judged_ms", "contradicts", "is_drifting", "fault", "since_ms",
)  # fmt: skip


def witnesses(
    covariance: NDArray[np.float64], xy: NDArray[np.float64], site: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Rows that would notice an event at each row: the nearest, and those on its streams.

    Parameters
    ----------
    covariance : (n_rows, n_rows) float64
        Prior covariance of the rows.
    xy : (n_rows, 2) float64 [m]
    site : (n_rows,) int64
        Rows of one device are no witnesses of each other: it may be broken.

    Returns
    -------
    (n_rows, 16) int64
        The row itself where there are fewer.
    """
    n = site.size
    own = np.arange(n)[:, None]
    other = site[:, None] != site[None]
    sd = np.sqrt(np.maximum(np.diag(covariance), 1e-12))
    alike = np.where(other, covariance / np.outer(sd, sd), -np.inf)
    distance = np.where(other, np.hypot(*(xy[:, None] - xy[None]).transpose(2, 0, 1)), np.inf)
    parts = []
    for score, least, k in ((-distance, -NEAR_M, N_NEAR), (alike, ALIKE, N_ALIKE)):
        best = np.argsort(-score, axis=1, kind="stable")[:, :k]
        parts.append(np.where(np.take_along_axis(score, best, axis=1) >= least, best, own))
    return np.concatenate(parts, axis=1)


class FaultWatch:
    """Judges the counter rows of one mode.

    Parameters
    ----------
    near : (n_rows, n_witnesses) int64
        Of :func:`witnesses`.
    relative_sd : (n_rows,) float64
        Error of one reading beyond chance.
    sources : sequence of str
        Source of each row.
    """

    def __init__(
        self, near: NDArray[np.int64], relative_sd: NDArray[np.float64], sources: Sequence[str]
    ) -> None:
        n = len(sources)
        self._near, self._relative_sd = near, relative_sd
        self._source = np.unique(np.array(sources, dtype=np.str_), return_inverse=True)[1].astype(np.int64)
        self._now_ms = 0
        self.usual_count, self.usual_exposure = _zeros(n), _zeros(n)
        self.new_count, self.new_exposure = _zeros(n), _zeros(n)  # since a change that is not settled
        self.n_readings, self.interval_ms = np.zeros(n, dtype=np.int32), np.zeros(n, dtype=np.int32)
        self.newest_ms, self.changed_ms, self.pending_ms = _never(n), _never(n), _never(n)
        self.last_count, self.run_log_p = np.full(n, -1.0), _zeros(n)
        self.first_sd, self.evidence = _zeros(n), _zeros(n)
        self.deviating = np.zeros(n, dtype=np.int32)
        self.is_zero, self.has_returned = np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.bool_)
        self.is_accused, self.is_believed = np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.bool_)
        self.is_opposed = np.zeros(n, dtype=np.bool_)  # by all others, at the last judgement
        self.spike_ms, self.is_spiking = _never(n), np.zeros(n, dtype=np.bool_)
        self.baseline, self.latest = _zeros(n), _zeros(n)
        self.n_judged, self.judged_ms = np.zeros(n, dtype=np.int32), _never(n)
        self.contradicts, self.is_drifting = np.zeros(n, dtype=np.int32), np.zeros(n, dtype=np.bool_)
        self.fault, self.since_ms = np.zeros(n, dtype=np.int8), _never(n)

    @property
    def variance(self) -> NDArray[np.float64]:
        """What a fault adds to the variance of the row's log rate, (n_rows,); a silent row fades anyway."""
        return np.where((self.fault != Fault.NONE) & (self.fault != Fault.SILENT), FAULT_VARIANCE, 0.0)

    def add(
        self, row: NDArray[np.int64], count: NDArray[np.float64], exposure: NDArray[np.float64],
        end_ms: NDArray[np.int64], interval_ms: NDArray[np.int64],
    ) -> None:  # fmt: skip
        """Take in readings, each (n,), in order; ``exposure`` in average hours."""
        for at in turns(row):
            later = end_ms[at] > self.newest_ms[row[at]]
            at = at[later]
            self._add(row[at], count[at], exposure[at], end_ms[at])
            self.newest_ms[row[at]], self.interval_ms[row[at]] = end_ms[at], interval_ms[at]

    def _add(
        self, r: NDArray[np.int64], count: NDArray[np.float64], exposure: NDArray[np.float64],
        end_ms: NDArray[np.int64],
    ) -> None:  # fmt: skip
        same = (count == self.last_count[r]) & (count > 0)
        chance = np.minimum(-0.5 * np.log(2 * np.pi * np.maximum(count, 0.5)), 0.0)  # of Poisson's mode
        self.run_log_p[r] = np.where(same, self.run_log_p[r] + chance, 0.0)
        self.last_count[r] = count
        expected, off = self._off(r, count, exposure)
        self.changed_ms[r[np.abs(off) > WITNESS_SD]] = end_ms[np.abs(off) > WITNESS_SD]
        waits = self.pending_ms[r] >= 0
        is_gone = (count == 0) & (expected >= ZERO_EXPECTED)
        starts = ~waits & ((np.abs(off) > CHANGE_SD) | is_gone)
        s = r[starts]
        self.pending_ms[s], self.first_sd[s] = end_ms[starts], np.abs(off)[starts]
        self.deviating[s], self.is_zero[s], self.evidence[s] = 0, True, 0.0
        self.new_count[s] = self.new_exposure[s] = 0.0
        returns = waits & (np.abs(off) < RETURNED_SD) & ~is_gone
        self.has_returned[r[returns]] = True
        goes_on = (starts | waits) & ~returns
        g = r[goes_on]
        self.deviating[g] += 1
        self.evidence[g] += off[goes_on] ** 2
        self.is_zero[g] &= count[goes_on] == 0
        fading = np.exp(-np.maximum(end_ms - self.newest_ms[r], 0) / USUAL_MS)
        for total, value, is_part in (
            (self.new_count, count, goes_on), (self.new_exposure, exposure, goes_on),
            (self.usual_count, count, ~goes_on), (self.usual_exposure, exposure, ~goes_on),
        ):  # fmt: skip
            p = r[is_part]
            total[p] = total[p] * fading[is_part] + value[is_part]
        self.n_readings[r] += 1

    def _off(
        self, r: NDArray[np.int64], count: NDArray[np.float64], exposure: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What the own past expects of readings, and their signed deviance from it; both 0 without a past.

        The root of the deviance of a Poisson count is nearly normal for small counts too. It is divided by
        the dispersion that comes with the error of the past and of the counter.
        """
        past = np.maximum(self.usual_exposure[r], 1e-9)
        expected = np.where(self.n_readings[r] >= MIN_READINGS, self.usual_count[r] / past * exposure, 0.0)
        mean = np.maximum(expected, 0.5)
        log_ratio = np.log(np.maximum(count, 1e-9) / mean)
        deviance = 2.0 * np.maximum(np.where(count > 0, count * log_ratio, 0.0) - (count - mean), 0.0)
        relative = CHANCE_SD**2 + 4.0 * self._relative_sd[r] ** 2
        dispersion = 1.0 + exposure / past + relative * np.sqrt(mean * np.maximum(mean, count))
        off = np.sign(count - mean) * np.sqrt(deviance / dispersion)
        return expected, np.where(self.n_readings[r] >= MIN_READINGS, off, 0.0)

    def step(self, now_ms: int) -> None:
        """Settle the changes of the last minutes at the end of a step."""
        self._now_ms = now_ms
        waits = self.pending_ms >= 0
        others = self._changes_of_others()
        heard = (others >= 0) & (np.abs(others - self.pending_ms[:, None]) <= WITNESS_MS)
        witnessed = waits & heard.any(axis=1)
        spiked = waits & ~witnessed & self.has_returned & ~self.is_accused & (self.first_sd > SMALL_SPIKE_SD)
        again = (self.spike_ms >= 0) & (now_ms - self.spike_ms < SPIKE_MS)
        self.is_spiking |= spiked & ((self.first_sd > SPIKE_SD) | again)
        self.spike_ms[spiked] = now_ms
        self.is_spiking &= now_ms - self.spike_ms < SPIKE_MS
        self.is_believed |= witnessed
        self._settle(witnessed & ~self.has_returned)
        over = self.has_returned | witnessed
        self.pending_ms[over] = -1
        self.is_accused[over] = False
        self.has_returned[:] = False
        enough = self.evidence >= np.where(self.is_zero, ZERO_EVIDENCE, EVIDENCE)
        is_second = (self.deviating >= 2) & (now_ms - self.pending_ms >= SETTLED_MS)
        settled = (self.pending_ms >= 0) & enough & is_second
        self.is_accused |= settled
        self.is_believed &= ~settled
        self._name(now_ms)

    def _changes_of_others(self) -> NDArray[np.int64]:
        """When the witnesses of each row last changed, (n_rows, n_witnesses); -1 for never."""
        is_self = self._near == np.arange(self._near.shape[0])[:, None]
        return np.where(is_self, -1, self.changed_ms[self._near])

    def _settle(self, which: NDArray[np.bool_]) -> None:
        """Take what was counted since a change for the row's own past."""
        self.usual_count[which], self.usual_exposure[which] = self.new_count[which], self.new_exposure[which]
        self.n_judged[which] = 0

    def judge(
        self, row: NDArray[np.int64], residual: NDArray[np.float64], sd: NDArray[np.float64],
        expected_per_h: NDArray[np.float64],
    ) -> None:  # fmt: skip
        """Compare rows with what all others say of them at the end of the step, each (n,).

        Parameters
        ----------
        residual, sd : log rate less what the other sites expect, and its standard deviation
        expected_per_h : rate that the other sites expect
        """
        now_ms = self._now_ms
        self.is_opposed[row] = np.abs(residual) > OPPOSES_SD * sd
        far = np.abs(residual) > CONTRADICTS_SD * sd
        self.contradicts[row] = np.where(far & ~self.is_believed[row], self.contradicts[row] + 1, 0)
        plausible = np.zeros(self.fault.size, dtype=np.bool_)
        change = np.log((_rate(self.new_count, self.new_exposure)[row] + 5.0)
                        / (_rate(self.usual_count, self.usual_exposure)[row] + 5.0))  # fmt: skip
        since_ms = now_ms - self.pending_ms[row]
        sided = np.abs(residual - change) > OPPOSES_SD * sd  # the others reject the level of before
        is_right = np.where(
            self.is_zero[row],
            (np.abs(residual) < AGREES_SD * sd) & (sided | (since_ms > LASTING_MS)),
            ~self.is_opposed[row],
        )
        plausible[row] = self.is_accused[row] & is_right & (since_ms > LEARNT_MS)
        self._settle(plausible)
        self.pending_ms[plausible], self.is_accused[plausible] = -1, False
        newest = self._changes_of_others().max(axis=1, initial=-1)[row]
        # Round an event what the others expect is off, so that nobody is measured by it.
        calm = (newest < 0) | (now_ms - newest > CALM_MS) | self.is_drifting[row]
        busy = (expected_per_h >= DRIFT_PER_H) & calm & (self.pending_ms[row] < 0)
        row, residual = row[busy], residual[busy]
        age_ms = np.where(self.n_judged[row] == 0, 0, now_ms - self.judged_ms[row])
        slow, fast = (-np.expm1(-age_ms / window_ms) for window_ms in (BASELINE_MS, LATEST_MS))
        start = 1.0 / (1.0 + self.n_judged[row])
        free = ~self.is_drifting[row]
        self.baseline[row] += np.where(free, np.maximum(slow, start), 0.0) * (residual - self.baseline[row])
        self.latest[row] += np.maximum(fast, start) * (residual - self.latest[row])
        self.n_judged[row] += 1
        self.judged_ms[row] = now_ms
        moved = np.abs(self.latest[row] - self.baseline[row])
        known = self.n_judged[row] > BASELINE_JUDGEMENTS
        self.is_drifting[row] = known & (moved > np.where(free, DRIFT_LOG, DRIFT_LOG / 2.0))
        self._name(now_ms)

    def _name(self, now_ms: int) -> None:
        is_silent = (self.newest_ms >= 0) & (
            now_ms - self.newest_ms > SILENT_INTERVALS * self.interval_ms + SILENT_SLACK_MS
        )
        n_sources = int(self._source.max(initial=-1)) + 1
        heard = np.bincount(self._source[self.newest_ms >= 0], minlength=n_sources)
        silent = np.bincount(self._source[is_silent], minlength=n_sources)
        is_feed = silent > np.maximum(FEED_SHARE * heard, FEED_LEAST)
        found = np.zeros(self.fault.size, dtype=np.int8)
        for fault, holds in (
            (
                Fault.CONTRADICTING,
                (self.contradicts >= 2) | (self.is_accused & ~self.is_zero & self.is_opposed),
            ),
            (Fault.DRIFTING, self.is_drifting),
            (Fault.SPIKING, self.is_spiking),
            (Fault.ZERO, self.is_accused & self.is_zero),
            (Fault.STUCK, self.run_log_p < STUCK_LOG_P),
            (Fault.SILENT, is_silent & ~is_feed[self._source]),
        ):
            found[holds] = fault
        self.since_ms[found != self.fault] = now_ms
        self.fault = found

    def snapshot(self) -> dict[str, Any]:
        return {"now_ms": self._now_ms, **{name: getattr(self, name).copy() for name in _STATE}}

    def restore(self, state: dict[str, Any]) -> None:
        self._now_ms = int(state["now_ms"])
        for name in _STATE:
            setattr(self, name, np.array(state[name]))


def _rate(count: NDArray[np.float32], exposure: NDArray[np.float32]) -> NDArray[np.float32]:
    return (count / np.maximum(exposure, 1e-6)).astype(np.float32)


def _zeros(n: int) -> NDArray[np.float32]:
    return np.zeros(n, dtype=np.float32)


def _never(n: int) -> NDArray[np.int64]:
    return np.full(n, -1, dtype=np.int64)
