"""Noise of the last 24 hours as the page words it: what is missing, whom it reaches, and that it is no annual mean."""

from __future__ import annotations

import math

import pytest

from dashboards.noise_day import NAMES, DayHours, NoiseDay, noise_day_of
from dashboards.rolling import (
    averaging_of,
    legend_note,
    needs_text,
    next_averaging,
    people_state,
    switch_state,
)
from tests.dashboards.town import NO_PEOPLE_OF_DAY, PEOPLE_OF_DAY

OPEN_GROUND = "open ground: no buildings in this pack"


@pytest.mark.parametrize(
    ("hours", "text"),
    [
        (DayHours(3.24, 24.0), "needs 24 h, has 3.2 h"),
        (DayHours(23.98, 24.0), "needs 24 h, has 23.9 h"),
        (DayHours(0.0, 24.0), "needs 24 h, has 0.0 h"),
        (DayHours(), "needs 24 h of noise"),
    ],
)
def test_what_is_missing_is_never_rounded_away(hours: DayHours, text: str) -> None:
    assert needs_text(hours) == text


@pytest.mark.parametrize("averaging", ["now", "1h", "lden", "lnight"])
def test_only_noise_has_indicators_of_a_day(averaging: str) -> None:
    assert averaging_of("noise", averaging) == averaging
    assert averaging_of("no2", averaging) == ("now" if averaging in NAMES else averaging)


def test_one_key_leads_through_all_that_is_known_and_back() -> None:
    def walked(quantity: str, known: list[str], n: int) -> list[str]:
        shown = ["now"]
        for _ in range(n):
            shown.append(next_averaging(quantity, shown[-1], known))
        return shown

    assert walked("noise", ["lden", "lnight"], 4) == ["now", "1h", "lden", "lnight", "now"]
    assert walked("noise", [], 2) == ["now", "1h", "now"]
    assert walked("no2", ["lden", "lnight"], 2) == ["now", "1h", "now"]
    assert next_averaging("no2", "lden", ["lden"]) == "1h"  # NO2 shows "now" then
    assert next_averaging("noise", "lden", []) == "now"  # it has become unknown while it was shown


def test_an_indicator_that_is_not_known_cannot_be_chosen_and_says_why() -> None:
    state = switch_state([], DayHours(3.24, 24.0))
    assert state["note"] == "needs 24 h, has 3.2 h"
    assert [(b["averaging"], b["is_known"]) for b in state["buttons"]] == [("lden", False), ("lnight", False)]
    assert state["buttons"][1]["title"] == "Lnight: needs 24 h, has 3.2 h"
    state = switch_state(["lden", "lnight"], DayHours(23.1, 24.0))
    assert state["note"] == "rolling 24 h"
    assert all(b["is_known"] and "not the annual mean" in b["title"] for b in state["buttons"])


def test_the_legend_keeps_indicator_and_legal_value_apart_and_says_how_sound_is_spread() -> None:
    assert legend_note("now", OPEN_GROUND) == OPEN_GROUND
    note = legend_note("lden", "screened by 9,812 buildings")
    assert note.startswith("indicator of the last 24 h, not the annual mean of 2002/49/EC")
    assert note.endswith("screened by 9,812 buildings")
    assert legend_note("1h", "") == ""


def test_people_are_shown_by_band_with_those_harmed() -> None:
    state = people_state(noise_day_of(PEOPLE_OF_DAY), DayHours(23.0, 24.0))
    assert state is not None
    assert [(b["label"], b["value"]) for b in state["bands"]] == [
        ("55\u201360", "6\u202f030"),
        ("60\u201365", "5\u202f210"),
        ("65\u201370", "3\u202f450"),
        ("70\u201375", "1\u202f204"),
        ("\u2265\u00a075\u00a0dB", "43"),
    ]
    assert [(h["label"], h["value"]) for h in state["harm"]] == [
        ("highly annoyed", "2\u202f567"),
        ("highly sleep-disturbed", "987"),
    ]
    texts = [state["title"], state["bands_title"], *(h["title"] for h in state["harm"])]
    assert all("not the annual mean of 2002/49/EC" in text and "never compared" in text for text in texts)
    assert "accuracy 0.61" in state["bands_title"]
    assert "not annual" in state["when"]


def test_without_people_there_is_a_reason_as_fresh_as_the_field() -> None:
    told = noise_day_of(NO_PEOPLE_OF_DAY)
    assert people_state(told, DayHours())["reason"] == "needs 24 h, has 3.2 h"  # type: ignore[index]
    state = people_state(told, DayHours(5.67, 24.0))
    assert state is not None
    assert (state["reason"], state["bands"], state["harm"]) == ("needs 24 h, has 5.6 h", [], [])
    nobody = NoiseDay(DayHours(24.0, 24.0), "no road is heard where people live")
    assert people_state(nobody, DayHours(23.1, 24.0))["reason"] == nobody.reason  # type: ignore[index]
    assert people_state(None, DayHours()) is None


def test_an_accuracy_that_is_unknown_is_a_dash() -> None:
    day = noise_day_of(PEOPLE_OF_DAY | {"accuracy_lden": None})
    assert math.isnan(day.accuracy_lden)
    assert "accuracy \u2013" in people_state(day, DayHours())["bands_title"]  # type: ignore[index]
