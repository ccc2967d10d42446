"""Day, evening and night: which hours they are, and exact means of the sound power of the last 24 hours."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

HOURS = 24
MINUTES = 60 * HOURS
HOUR_MS = 3_600_000
EVENING_PENALTY_DB = 5.0  # Directive 2002/49/EC, annex I
NIGHT_PENALTY_DB = 10.0


class Period(IntEnum):
    """Part of the day of Directive 2002/49/EC."""

    DAY = 0
    EVENING = 1
    NIGHT = 2


@dataclass(frozen=True, slots=True)
class Periods:
    """Hours of local time at which the periods begin; the default of Directive 2002/49/EC, annex I.

    Raises
    ------
    ValueError
        Unless 0 <= day < evening < night <= 23.
    """

    day_from_h: int = 7
    evening_from_h: int = 19
    night_from_h: int = 23

    def __post_init__(self) -> None:
        if not 0 <= self.day_from_h < self.evening_from_h < self.night_from_h < HOURS:
            raise ValueError(
                f"periods: got day_from_h {self.day_from_h}, evening_from_h {self.evening_from_h}, "
                f"night_from_h {self.night_from_h}, expected 0 <= day < evening < night <= 23"
            )

    @property
    def hours(self) -> tuple[int, int, int]:
        """Length of day, evening and night [h]."""
        day, evening = self.evening_from_h - self.day_from_h, self.night_from_h - self.evening_from_h
        return day, evening, HOURS - day - evening

    def at(self, hour: int) -> Period:
        """Period of an hour of local time, 0 to 23."""
        if self.day_from_h <= hour < self.evening_from_h:
            return Period.DAY
        return Period.EVENING if self.evening_from_h <= hour < self.night_from_h else Period.NIGHT

    def lden_weights(self) -> NDArray[np.float64]:
        """What the energies of day, evening and night count in Lden, (3,): share of 24 h and penalty."""
        penalty = np.array([0.0, EVENING_PENALTY_DB, NIGHT_PENALTY_DB])
        return np.array(self.hours) / HOURS * 10.0 ** (penalty / 10.0)


def lden_db(
    lday: NDArray[np.float64],
    levening: NDArray[np.float64],
    lnight: NDArray[np.float64],
    periods: Periods | None = None,
) -> NDArray[np.float64]:
    """Day-evening-night level of Directive 2002/49/EC, annex I [dB].

    ``10 lg((12 10^(Lday/10) + 4 10^((Levening + 5)/10) + 8 10^((Lnight + 10)/10)) / 24)``, with the length of
    the periods that hold. A period of -inf adds nothing.
    """
    weights = (periods or Periods()).lden_weights()
    levels = (np.asarray(level, dtype=np.float64) for level in (lday, levening, lnight))
    energy = sum(w * 10.0 ** (level / 10.0) for w, level in zip(weights, levels, strict=True))
    with np.errstate(divide="ignore"):
        return np.asarray(10.0 * np.log10(energy))


class DayRing:
    """Integer sums of the minutes of each of the last 24 hours, and the period that each belongs to.

    The means are read where an hour ends, so the sums of whole hours give exactly what 1,440 single minutes
    would, with a sixtieth of the state. An hour is named by a number that rises by one from hour to hour.
    """

    def __init__(self, n: int, groups: int) -> None:
        # 60 minutes of powers below 2^20 stay below 2^26
        self.sums = np.zeros((HOURS, n, groups), dtype=np.int32)
        self.is_simulated = np.zeros((HOURS, n), dtype=np.bool_)
        self.minutes = np.zeros(HOURS, dtype=np.int64)
        self.hour = np.full(HOURS, -1, dtype=np.int64)
        self.period = np.zeros(HOURS, dtype=np.int8)

    def add(
        self, hour: int, period: Period, power: NDArray[np.int64], is_simulated: NDArray[np.bool_]
    ) -> None:
        """Add a minute of an hour.

        Parameters
        ----------
        hour : int
            Number of the hour.
        period : Period
            Of the whole hour.
        power : (n, groups) int64
            Below 2^20.
        is_simulated : (n,) bool
        """
        slot = hour % HOURS
        if self.hour[slot] != hour:
            self.sums[slot] = 0
            self.is_simulated[slot] = False
            self.minutes[slot] = 0
            self.hour[slot] = hour
            self.period[slot] = period
        self.sums[slot] += power.astype(np.int32)
        self.is_simulated[slot] |= is_simulated
        self.minutes[slot] += 1

    def minutes_seen(self, hour: int) -> NDArray[np.int64]:
        """Minutes of day, evening and night seen in the 24 hours of which ``hour`` is the last, (3,)."""
        valid = self._valid(hour)
        return np.bincount(self.period[valid], weights=self.minutes[valid], minlength=3).astype(np.int64)

    def means(self, hour: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Mean power in day, evening and night over 24 hours of which ``hour`` is the last.

        Returns
        -------
        power : (3, n, groups) int64
            Of the minutes seen, rounded half up; 0 for a period without any.
        is_simulated : (n,) bool
            Whether any of these minutes was.
        """
        valid, minutes = self._valid(hour), self.minutes_seen(hour)
        power = np.zeros((3, *self.sums.shape[1:]), dtype=np.int64)
        for period in Period:
            if minutes[period] > 0:
                total = self.sums[valid & (self.period == period)].sum(axis=0, dtype=np.int64)
                power[period] = (2 * total + minutes[period]) // (2 * minutes[period])
        return power, np.asarray(self.is_simulated[valid].any(axis=0))

    def _valid(self, hour: int) -> NDArray[np.bool_]:
        return np.asarray((self.hour > hour - HOURS) & (self.hour <= hour) & (self.hour >= 0))

    def snapshot(self) -> dict[str, Any]:
        """The hours that were seen."""
        seen = self.hour >= 0
        return {
            name: getattr(self, name)[seen] for name in ("sums", "is_simulated", "minutes", "hour", "period")
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.hour[:] = -1
        slot = np.asarray(state["hour"], dtype=np.int64) % HOURS
        for name in ("sums", "is_simulated", "minutes", "hour", "period"):
            getattr(self, name)[slot] = state[name]
