from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from cities.pack import City
from dashboards.layers import LAYERS
from dashboards.noise_day import MEANING
from dashboards.view import (
    Clock,
    StreetView,
    alarm_state,
    averaging_text,
    bounding_view,
    duration,
    feeds_state,
    figures_state,
    legend_state,
    number,
)
from tests.dashboards.town import (
    SCRIPT_NAME,
    START_MS,
    X0,
    Y0,
    Status,
    alarm,
    full_board,
    make_town,
    noise_of_day,
)


@pytest.fixture
def city(tmp_path: Path) -> City:
    return make_town(tmp_path / "town")


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (math.nan, 0, "\u2013"),
        (0.0, 0, "0"),
        (18400.4, 0, "18\u202f400"),
        (77.291, 2, "77.29"),
        (math.inf, 1, "\u2013"),
    ],
)
def test_a_number_is_written_and_unknown_is_a_dash(value: float, decimals: int, text: str) -> None:
    assert number(value, decimals) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(40, "40 s"), (600, "10 min"), (9000, "2.5 h"), (math.nan, "\u2013")]
)
def test_an_age_is_written_in_the_largest_unit_that_fits(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_an_hourly_mean_says_what_it_still_lacks() -> None:
    assert averaging_text("1h", 0.3) == "1 h mean (needs 1 h, has 0.3 h)"
    assert averaging_text("1h", 1.0) == "1 h mean"
    assert averaging_text("now", 0.3) == "now"


def test_the_clock_shows_local_time_and_utc_across_the_change_of_the_clocks() -> None:
    clock = Clock("Europe/Helsinki")
    before = 1_711_846_800_000  # 2024-03-31 01:00 UTC: 03:00 became 04:00 in Helsinki
    state = clock.state(replace(Status(), now_ms=before - 1000))
    assert (state["local"], state["utc"]) == ("02:59:59", "00:59:59")
    assert clock.state(replace(Status(), now_ms=before))["local"] == "04:00:00"
    assert clock.offset_ms(before) - clock.offset_ms(before - 1000) == 3_600_000


def test_the_clock_says_mode_speed_and_how_far_it_is() -> None:
    state = Clock("UTC").state(replace(Status(), speed=math.inf, playing=False))
    assert state["mode"] == "REPLAY"
    assert state["speed"] == "max"
    assert state["fraction"] == pytest.approx(0.25)
    assert state["date"] == "Sun 31 Mar 2024"


@pytest.mark.parametrize("name", LAYERS)
def test_the_ticks_of_a_legend_lie_on_its_bar_in_order(name: str) -> None:
    places = [tick["at"] for tick in legend_state(LAYERS[name], "now", math.nan)["ticks"]]
    assert places == sorted(places)
    assert (places[0], places[-1]) == (pytest.approx(0.0), pytest.approx(1.0))
    assert min(b - a for a, b in pairwise(places)) > 0.15  # their texts do not meet


def test_an_alarm_has_shape_letter_value_and_who(city: City) -> None:
    board = full_board(city)
    board.apply(alarm())
    clock = Clock(city.timezone)
    (seen,) = board.alarms()
    line = alarm_state(seen, clock)
    assert (line["shape"], line["letter"]) == ("▲", "1")
    assert line["detail"] == "64.2 ug/m3 > 55.0, now · accuracy 0.82 · 20 s old"
    assert line["can_acknowledge"]
    board.apply(alarm(revision=1, state="active acknowledged", who="An"))
    line = alarm_state(board.alarms()[0], clock)
    assert line["who"] == "acknowledged by An"
    assert not line["can_acknowledge"]
    board.apply(alarm("feed/loops", kind="data quality", priority=3, x=math.nan, y=math.nan))
    quality = next(a for a in board.alarms() if a.kind == "data quality")
    assert (alarm_state(quality, clock)["letter"], alarm_state(quality, clock)["has_place"]) == ("Q", False)


def test_a_street_shows_flows_with_heading_and_levels(city: City) -> None:
    board = full_board(city)
    state = StreetView(city).state(board.street(0), 0.3)
    assert state["name"] == SCRIPT_NAME
    car = state["flows"][0]
    assert (car["mode"], car["heading"], car["flow"]) == ("Car", "E", "400")
    assert car["interval"] == "320 to 500"
    assert state["flows"][1]["heading"] == "W"
    levels = {level["label"]: level["value"] for level in state["levels"]}
    assert levels["Sound power"] == "76.02"  # 10 lg(4000 x 1e4)
    assert levels["NO₂ now"] == "45.1"
    assert "Lden" not in levels


def test_a_street_shows_lden_beside_the_hour_once_it_is_known_and_says_that_it_is_no_annual_mean(
    city: City,
) -> None:
    board = full_board(city)
    for batch in noise_of_day(city, np.full(city.grid.shape, 61.4)):
        board.apply(batch)
    board.close(START_MS + 60_000)
    levels = StreetView(city).state(board.street(0), 1.0)["levels"]
    labels = [level.get("label") for level in levels]
    assert labels.index("Lden") == labels.index("LAeq 1 h") + 1
    lden = levels[labels.index("Lden")]
    assert (lden["value"], lden["unit"]) == ("61.4", "dB(A)")
    assert "Lday\u00a055.0, Levening\u00a055.0, Lnight\u00a055.0 dB(A)" in lden["title"]
    assert lden["title"].endswith(MEANING)
    assert levels[-1]["words"] == "Lden, Lnight: rolling 24 h, not annual"


def test_the_legend_of_an_indicator_says_over_what_it_is_taken() -> None:
    state = legend_state(LAYERS["noise"], "lden", math.nan, "open ground", MEANING)
    assert state["averaging"] == "Lden, rolling 24 h"
    assert state["note"] == "CNOSSOS-EU, 4 m \u00b7 open ground"
    assert "not the annual mean of 2002/49/EC" in state["meaning"]
    assert legend_state(LAYERS["noise"], "now", math.nan)["meaning"] == ""


@pytest.mark.parametrize(("segment", "heading"), [(0, "E"), (1, "N"), (2, "NE")])
def test_a_direction_is_named_by_where_it_leads(city: City, segment: int, heading: str) -> None:
    assert StreetView(city).heading(segment, 0) == heading


def test_figures_and_feeds_of_a_new_board_are_unknown_not_zero(city: City) -> None:
    board = full_board(city)
    assert figures_state(board)[-1]["value"] == "0.80"
    assert feeds_state(board.feeds(), START_MS) == []


def test_the_first_view_lies_within_the_receptors(city: City) -> None:
    x, y, height = bounding_view(city)
    assert (x, y) == (pytest.approx(X0 + 750, abs=1), pytest.approx(Y0 + 725, abs=1))
    assert 0 < height <= 1500
