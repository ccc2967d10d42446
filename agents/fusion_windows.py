"""What counters said lately: exponentially weighted counts and exposures on event time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

WINDOW_MS = 15 * 60_000  # 5, 15 and 60 min differ by a few percent of the error; longer hides an incident
CARRY_PER_H = 0.8  # autocorrelation of the deviation from the profile over an hour
FORGOTTEN_MS = 24 * 3_600_000  # by then 0.5 % is left of a deviation
FRESH_MS = 30 * 60_000  # a sensor counts as a source of now for this long, or two of its own intervals
FAST_MS = 4 * 60_000  # a closure is seen in about this time
SURPRISE = 4.0  # standard deviations between fast and slow window at which the slow one is of other traffic
SURPRISED_SHARE = 0.1  # of the fast window that outlives a surprise: half of it is older than the change
CHANCE_SD = 0.1  # change of a flow within a window beyond Poisson's


class Windows:
    """Counts of the counter rows of one mode.

    Count and exposure of a row are weighted by exp(-age / 15 min), with the age of each reading against the
    row's newest; exposure is time x uptime x the day profile, so that count / exposure is a rate of the
    average hour and a rush hour is no surprise. ``squared`` sums exposure x the square of the weight: of
    Poisson's variance, squared / exposure is left in the count. A window of 4 min beside it takes over when
    the two contradict each other. A silent row keeps its windows, and loses its say by :meth:`carry`.
    """

    def __init__(self, n_rows: int) -> None:
        self.count = np.zeros(n_rows)
        self.exposure = np.zeros(n_rows)
        self.squared = np.zeros(n_rows)
        self.fast_count = np.zeros(n_rows)
        self.fast_exposure = np.zeros(n_rows)
        self.newest_ms = np.full(n_rows, -1, dtype=np.int64)
        self.interval_ms = np.zeros(n_rows, dtype=np.int64)
        self.simulated = np.zeros(n_rows, dtype=np.bool_)
        self.speed = np.zeros(n_rows)
        self.speed_weight = np.zeros(n_rows)
        self.speed_ms = np.full(n_rows, -1, dtype=np.int64)

    def add(
        self,
        row: NDArray[np.int64],
        count: NDArray[np.float64],
        exposure: NDArray[np.float64],
        end_ms: NDArray[np.int64],
        interval_ms: NDArray[np.int64],
        simulated: NDArray[np.bool_],
        speed_kmh: NDArray[np.float64],
    ) -> None:
        """Take in readings, each (n,), in order; ``exposure`` in average hours."""
        for at in turns(row):
            self._add_counts(row[at], count[at], exposure[at], end_ms[at])
            later = end_ms[at] >= self.newest_ms[row[at]]
            r = row[at][later]
            self.newest_ms[r] = end_ms[at][later]
            self.interval_ms[r] = interval_ms[at][later]
            self.simulated[r] = simulated[at][later]
            known = np.isfinite(speed_kmh[at]) & (count[at] > 0)
            at = at[known]
            self._add_speeds(row[at], count[at], speed_kmh[at], end_ms[at])

    def _add_counts(
        self, row: NDArray[np.int64], count: NDArray[np.float64], exposure: NDArray[np.float64],
        end_ms: NDArray[np.int64],
    ) -> None:  # fmt: skip
        for total, time, window_ms in (
            (self.count, self.exposure, WINDOW_MS),
            (self.fast_count, self.fast_exposure, FAST_MS),
        ):
            old, new = _weights(end_ms, self.newest_ms[row], window_ms)
            total[row] = total[row] * old + count * new
            time[row] = time[row] * old + exposure * new
            if window_ms == WINDOW_MS:
                self.squared[row] = self.squared[row] * old**2 + exposure * new**2
        expected = self.count[row] / self.exposure[row] * self.fast_exposure[row]
        spread = np.sqrt(expected + (CHANCE_SD * expected) ** 2 + 1.0)
        r = row[np.abs(self.fast_count[row] - expected) > SURPRISE * spread]
        self.fast_count[r] *= SURPRISED_SHARE
        self.fast_exposure[r] *= SURPRISED_SHARE
        self.count[r], self.exposure[r] = self.fast_count[r], self.fast_exposure[r]
        self.squared[r] = self.fast_exposure[r]

    def _add_speeds(
        self, row: NDArray[np.int64], count: NDArray[np.float64], speed_kmh: NDArray[np.float64],
        end_ms: NDArray[np.int64],
    ) -> None:  # fmt: skip
        newest = self.speed_ms[row]
        old, new = _weights(end_ms, newest, WINDOW_MS)
        self.speed[row] = self.speed[row] * old + speed_kmh * count * new
        self.speed_weight[row] = self.speed_weight[row] * old + count * new
        self.speed_ms[row] = np.maximum(newest, end_ms)

    def active(self, now_ms: int) -> NDArray[np.int64]:
        """Rows that still say something."""
        heard = (self.newest_ms >= 0) & (now_ms - self.newest_ms < FORGOTTEN_MS) & (self.exposure > 0)
        return np.flatnonzero(heard)

    def age_ms(self, now_ms: int) -> NDArray[np.int64]:
        """Time since the end of the newest reading, (n_rows,); meaningless for rows never heard."""
        return np.maximum(now_ms - self.newest_ms, 0)

    def fresh(self, now_ms: int) -> NDArray[np.bool_]:
        """Rows with a reading of now."""
        return (self.newest_ms >= 0) & (self.age_ms(now_ms) <= np.maximum(FRESH_MS, 2 * self.interval_ms))

    def carry(self, now_ms: int) -> NDArray[np.float64]:
        """Autocorrelation of the deviation since each row's newest reading, (n_rows,)."""
        return np.asarray(CARRY_PER_H ** (self.age_ms(now_ms) / 3_600_000.0))

    def snapshot(self) -> dict[str, Any]:
        return {name: value.copy() for name, value in vars(self).items()}

    def restore(self, state: dict[str, Any]) -> None:
        for name in vars(self):
            setattr(self, name, np.array(state[name]))


def turns(row: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Positions of the first reading of each row, then of the second, and so on."""
    order = np.argsort(row, kind="stable")
    first = np.flatnonzero(np.diff(row[order], prepend=-1))
    turn = np.empty(row.size, dtype=np.int64)
    turn[order] = np.arange(row.size) - np.repeat(first, np.diff(np.append(first, row.size)))
    for k in range(int(turn.max(initial=-1)) + 1):
        yield np.flatnonzero(turn == k)


def _weights(
    end_ms: NDArray[np.int64], newest_ms: NDArray[np.int64], window_ms: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Factors on what a window holds and on a reading, which may be older than the newest: each (n,)."""
    old = np.exp(-np.maximum(end_ms - newest_ms, 0) / window_ms)
    new = np.exp(-np.maximum(newest_ms - end_ms, 0) / window_ms)
    return np.where(newest_ms < 0, 0.0, old), np.where(newest_ms < 0, 1.0, new)
