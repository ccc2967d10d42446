"""Noise of the last 24 hours: what its indicators are called, how much was seen, and whom it reaches.

Lden and Lnight of Directive 2002/49/EC are annual means, and limits are set for these. Those of a rolling day
are neither, so wherever the page shows one it says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NAMES = {"lden": "Lden", "lnight": "Lnight"}
MEANING = (
    "Indicator of the last 24 h, brought up to date every hour. It is not the annual mean of 2002/49/EC "
    "and is never compared with a limit."
)
SHORT_MEANING = "indicator of the last 24 h, not the annual mean of 2002/49/EC"


@dataclass(frozen=True, slots=True)
class DayHours:
    """Hours seen of those that the indicators of a day need; NaN where nobody has said so yet."""

    seen: float = math.nan
    needed: float = math.nan


@dataclass(frozen=True, slots=True)
class NoiseDay:
    """People by level of the last 24 hours, and how many of them are harmed.

    ``lden_from_db`` says where each band of ``people_by_lden`` begins; the last one is open. ``reason`` says
    why nothing of this is known, and is empty where it is.
    """

    hours: DayHours
    reason: str = ""
    people: float = math.nan
    lden_from_db: tuple[float, ...] = ()
    people_by_lden: tuple[float, ...] = ()
    highly_annoyed: float = math.nan
    highly_sleep_disturbed: float = math.nan
    accuracy_lden: float = math.nan


def noise_day_of(told: Mapping[str, Any]) -> NoiseDay:
    """Read the attribute ``noise_24h`` of exposure (docs/topics.md)."""
    hours = DayHours(float(told["hours_seen"]), float(told["hours_needed"]))
    if "reason" in told:
        return NoiseDay(hours, str(told["reason"]))
    accuracy = told["accuracy_lden"]
    return NoiseDay(
        hours=hours,
        people=float(told["people_lden"]),
        lden_from_db=tuple(float(level) for level in told["lden_from_db"]),
        people_by_lden=tuple(float(people) for people in told["people_by_lden"]),
        highly_annoyed=float(told["highly_annoyed"]),
        highly_sleep_disturbed=float(told["highly_sleep_disturbed"]),
        accuracy_lden=math.nan if accuracy is None else float(accuracy),
    )
