"""Rings of the last steps for every segment, for the trends of whichever street is opened."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STEPS = 240  # four hours of minutes: a whole recording of a morning


class History:
    """A ring of named values per segment.

    Kept as float16 (0.05 % at the most), since a trend is drawn, not computed with: 240 steps of 11 values
    for 14,000 segments are 75 MB instead of 150.
    """

    def __init__(self, names: tuple[str, ...], n_segments: int, n_steps: int = STEPS) -> None:
        self._rings = {n: np.full((n_steps, n_segments), np.nan, np.float16) for n in names}
        self._time_ms = np.zeros(n_steps, dtype=np.int64)
        self._n_steps = n_steps
        self._next = 0

    def append(self, now_ms: int, values: dict[str, NDArray[np.float32]]) -> None:
        """Add a step, or replace the last if it is of the same time; a name not given is unknown in it."""
        if self._next and self._time_ms[(self._next - 1) % self._n_steps] == now_ms:
            self._next -= 1
        at = self._next % self._n_steps
        self._time_ms[at] = now_ms
        for name, ring in self._rings.items():
            value = values.get(name)
            ring[at] = np.nan if value is None else np.minimum(value, 65_000.0)
        self._next += 1

    def clear(self) -> None:
        """Forget all, after a jump in time."""
        self._next = 0

    def of(self, segment: int) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float32]]]:
        """Times [ms] and values of one segment, oldest first."""
        n = min(self._next, self._n_steps)
        order = np.arange(self._next - n, self._next) % self._n_steps
        return self._time_ms[order], {
            name: ring[order, segment].astype(np.float32) for name, ring in self._rings.items()
        }
