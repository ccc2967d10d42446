"""Profile of a day: how many times the average hour's flow a local hour has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DEFAULT_HOURLY = (
    0.6, 0.4, 0.3, 0.3, 0.5, 1.6, 4.2, 7.4, 7.8, 5.6, 4.8, 4.8,
    5.2, 5.2, 5.4, 6.3, 7.8, 8.0, 6.4, 4.9, 3.7, 3.0, 2.2, 1.6,
)  # fmt: skip
"""Assumed weekday where a city gives none."""


@dataclass(frozen=True, slots=True)
class DayProfile:
    """Multiple of the average hour for each minute of the local day, (1440,) float64."""

    per_minute: NDArray[np.float64]

    def scale(self, minute_of_day: float) -> float:
        """Multiple of the average hour at a local minute, straight between whole minutes."""
        low = int(minute_of_day) % 1440
        part = minute_of_day - int(minute_of_day)
        return float(self.per_minute[low] * (1.0 - part) + self.per_minute[(low + 1) % 1440] * part)


def day_profile(hourly: Sequence[float], mean: float | None = None) -> DayProfile:
    """Profile from 24 hourly shares, straight between the centres of hours.

    ``mean`` is the share of the average hour, by default that of these 24: the unit of the shares is free.

    Raises
    ------
    ValueError
        When there are not 24 shares above zero.
    """
    shares = np.asarray(hourly, dtype=np.float64)
    if shares.shape != (24,) or not (shares > 0).all():
        raise ValueError(f"profile: got {list(hourly)}, expected 24 shares above zero")
    centres = np.arange(-30, 1440 + 60, 60, dtype=np.float64)
    around = np.concatenate([shares[-1:], shares, shares[:1]])
    return DayProfile(np.interp(np.arange(1440), centres, around) / (mean or shares.mean()))
