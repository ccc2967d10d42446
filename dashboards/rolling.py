"""Writes what the page says of the noise of the last 24 hours, and what is missing to know it."""

from __future__ import annotations

import math
from collections.abc import Collection
from itertools import pairwise

from dashboards.noise_day import MEANING, NAMES, SHORT_MEANING, DayHours, NoiseDay
from dashboards.view import State, number

NOISE = "noise"
BASIC = ("now", "1h")


def averaging_of(quantity: str, wanted: str) -> str:
    """What a layer of a quantity shows when an averaging is wanted: only noise has indicators of a day."""
    return wanted if wanted in BASIC or quantity == NOISE else "now"


def next_averaging(quantity: str, wanted: str, known: Collection[str]) -> str:
    """The averaging after this one: now, 1 h, and of noise those indicators that are known."""
    order = [*BASIC, *(a for a in NAMES if quantity == NOISE and a in known)]
    shown = averaging_of(quantity, wanted)
    return order[(order.index(shown) + 1) % len(order)] if shown in order else order[0]


def needs_text(hours: DayHours) -> str:
    """What is still missing, cut to a tenth of an hour: 23.98 h are not 24.0."""
    if not math.isfinite(hours.seen):
        return "needs 24 h of noise"
    return f"needs {hours.needed:g} h, has {math.floor(10.0 * hours.seen) / 10.0:.1f} h"


def switch_state(known: Collection[str], hours: DayHours) -> State:
    """The buttons of the indicators: which can be chosen, and why one cannot."""
    missing = needs_text(hours)
    return {
        "note": "rolling 24 h" if all(a in known for a in NAMES) else missing,
        "title": MEANING,
        "buttons": [
            {"averaging": a, "is_known": a in known, "title": MEANING if a in known else f"{text}: {missing}"}
            for a, text in NAMES.items()
        ],
    }


def legend_note(averaging: str, propagation: str) -> str:
    """What stands under the legend of noise: that an indicator is no legal value, and how sound is spread."""
    return " \u00b7 ".join(
        text for text in (SHORT_MEANING if averaging in NAMES else "", propagation) if text
    )


def people_state(day: NoiseDay | None, hours: DayHours) -> State | None:
    """People by band of Lden and those harmed, or why that is unknown; None before noise is known at all."""
    if day is None:
        return None
    state: State = {
        "heading": "People by Lden",
        "when": "rolling 24 h, not annual",
        "title": MEANING,
    }
    if day.reason:
        # the hours of the field run on, exposure is told again only when its numbers change
        still_missing = day.hours.seen < day.hours.needed and math.isfinite(hours.seen)
        return state | {"reason": needs_text(hours) if still_missing else day.reason, "bands": [], "harm": []}
    ends = [f"{low:g}\u2013{high:g}" for low, high in pairwise(day.lden_from_db)]
    labels = [*ends, f"\u2265\u00a0{day.lden_from_db[-1]:g}\u00a0dB"]
    of = f"of {number(day.people)} residents with a known level (spread over streets: derived)"
    harmed = (
        ("highly annoyed", day.highly_annoyed), ("highly sleep-disturbed", day.highly_sleep_disturbed)
    )  # fmt: skip
    harm_title = f"By the relations of (EU) 2020/367, {of}. {MEANING}"
    return state | {
        "reason": "",
        "bands": [
            {"label": label, "value": number(people)}
            for label, people in zip(labels, day.people_by_lden, strict=True)
        ],
        "bands_title": f"People by band of Lden, rolling 24 h, {of}, "
        f"accuracy {number(day.accuracy_lden, 2)}; "
        f"{', '.join(f'{label} {number(people)}' for label, people in harmed)}. {MEANING}",
        "harm": [{"label": label, "value": number(people), "title": harm_title} for label, people in harmed],
    }
