from __future__ import annotations

import math
import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.air import AirExplanation
from cities.dispersion import Model, Why, dispersion_of
from cities.pack import City
from dashboards.board import Board, Highest
from dashboards.explanations import AirQuestion, Explanations
from dashboards.origin import OriginView, apportioned, is_of, quantity_of
from dashboards.view import Clock, State
from kernels.air_explanation import Contributor
from tests.dashboards.town import (
    NO2_ORIGIN,
    PM25_ORIGIN,
    SCRIPT_NAME,
    START_MS,
    NotingControl,
    full_board,
    make_town,
)


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> City:
    return make_town(tmp_path_factory.mktemp("towns") / "town")


@pytest.fixture
def view(city: City) -> OriginView:
    return OriginView(city, dispersion_of(city), Clock(city.timezone))


def in_hundredths(text: str) -> int:
    return round(100 * float(text.removesuffix("\u00a0%")))


def at(ug_per_m3: float) -> Highest:
    """A value at a receptor 5 m beside the first street, near its eastern end."""
    return Highest(74 * 150 + 124, ug_per_m3)


def assert_adds_up(state: State) -> None:
    """The written numbers, without any rounding of the reader."""
    background, traffic, total = (in_hundredths(state[part]) for part in ("background", "traffic", "total"))
    assert background + traffic == total
    if state["lines"]:
        assert sum(in_hundredths(line["value"]) for line in state["lines"]) == traffic
        assert sum(in_hundredths(line["percent"]) for line in state["lines"]) == 100 * 100


def test_background_and_traffic_add_up_to_the_published_value(view: OriginView) -> None:
    state = view.state(0, "no2", at(45.1), NO2_ORIGIN, START_MS)
    assert (state["background"], state["traffic"], state["total"]) == ("20.0", "25.1", "45.1")
    assert (state["quantity"], state["unit"], state["at"]) == ("NO₂", "µg/m³", "10:00:00")
    assert "NOx" in state["title"]
    assert_adds_up(state)


def test_the_own_street_is_marked_and_the_rest_is_one_line(view: OriginView) -> None:
    lines = view.state(0, "no2", at(45.1), NO2_ORIGIN, START_MS)["lines"]
    assert [(line["label"], line["is_own"], line["id"]) for line in lines] == [
        ("this street", True, "we"), ("Long Lane", False, "sn"), ("all others", False, ""),
    ]  # fmt: skip
    assert [line["percent"] for line in lines] == ["61\u00a0%", "23\u00a0%", "16\u00a0%"]
    assert [line["value"] for line in lines] == ["15.4", "5.7", "4.0"]
    assert lines[0]["title"] == f"{SCRIPT_NAME}, segment we"
    assert [line["distance"] for line in lines] == ["5 m", "497 m", ""]  # hypot(1245 - 750, 745 - 700)
    assert view.state(1, "no2", at(45.1), NO2_ORIGIN, START_MS)["lines"][0]["label"] == SCRIPT_NAME


def test_a_street_without_a_name_goes_by_its_class(city: City) -> None:
    nameless = replace(city, segment_names=("", *city.segment_names[1:]))
    view = OriginView(nameless, dispersion_of(city), Clock(city.timezone))
    assert view.state(1, "no2", at(45.1), NO2_ORIGIN, START_MS)["lines"][0]["label"] == "street"


@given(
    weights=st.lists(st.floats(1e-6, 1.0), min_size=2, max_size=6),
    background=st.floats(0.0, 60.0),
    traffic=st.floats(0.02, 300.0),
)
def test_whatever_the_shares_the_written_numbers_add_up(
    city: City, weights: list[float], background: float, traffic: float
) -> None:
    view = OriginView(city, dispersion_of(city), Clock(city.timezone))
    *shares, others = (w / sum(weights) for w in sorted(weights, reverse=True))
    some = tuple(Contributor(k % 3, share, share * traffic) for k, share in enumerate(shares))
    published = round(background + traffic, 2)
    state = view.state(2, "no2", at(published), AirExplanation(background, traffic, some, others), START_MS)
    assert_adds_up(state)
    for line, share in zip(state["lines"], shares, strict=False):
        if line["id"]:
            assert abs(in_hundredths(line["percent"]) / 100 - 100 * share) < 1.0
    ends = [(line["low"], line["high"]) for line in state["lines"]]
    assert all(a[1] == b[0] for a, b in pairwise(ends))
    assert not ends or (ends[0][0], ends[-1][1]) == (0.0, pytest.approx(1.0, abs=0.01))


def test_a_street_that_would_be_written_as_nothing_counts_among_the_others(view: OriginView) -> None:
    weak = replace(
        NO2_ORIGIN, contributors=(*NO2_ORIGIN.contributors, Contributor(2, 0.004, 0.1)), others=0.155
    )
    assert [line["id"] for line in view.state(0, "no2", at(45.1), weak, START_MS)["lines"]] == [
        "we",
        "sn",
        "",
    ]


def test_without_traffic_all_is_background(view: OriginView) -> None:
    state = view.state(0, "no2", at(19.95), AirExplanation(19.951, 0.0, (), 0.0), START_MS)
    assert (state["background"], state["traffic"], state["lines"]) == ("19.95", "0.00", [])
    assert_adds_up(state)


def test_a_layer_of_particles_is_explained_as_such_to_a_hundredth(view: OriginView) -> None:
    assert [quantity_of(q) for q in ("pm25", "pm10", "no2", "noise", "")] == [
        "pm25",
        "pm10",
        "no2",
        "no2",
        "no2",
    ]
    state = view.state(0, "pm25", at(13.52), PM25_ORIGIN, START_MS)
    assert (state["quantity"], state["background"], state["traffic"], state["total"]) == (
        "PM₂.₅", "12.50", "1.02", "13.52",
    )  # fmt: skip
    assert [line["label"] for line in state["lines"]] == ["Long Lane"]  # and no others
    assert "NOx" not in state["title"]
    assert_adds_up(state)


def test_without_a_receptor_that_is_said_and_before_a_first_value_nothing(view: OriginView) -> None:
    assert view.without(0, "no2", None)["missing"] == "No receptor here."
    assert view.without(0, "no2", Highest(7, math.nan))["missing"] == ""


def test_the_method_of_the_street_and_what_speaks_against_it_are_said(city: City) -> None:
    d = dispersion_of(city)
    outside = Why.SEGMENT | Why.FACADE_TOO_FAR | Why.PROPERTY_UNUSED
    some = replace(
        d,
        model=np.array([Model.SRM1_NARROW_CANYON, Model.SRM2, Model.NONE], dtype=np.int8),
        why=np.array([outside, Why.CLASS | Why.BARRIER_TOO_LOW, Why.NO_MOTOR], dtype=np.int16),
    )
    view = OriginView(city, some, Clock(city.timezone))
    assert [view.method(s)["method"] for s in range(3)] == [
        "SRM1, narrow street canyon", "SRM2, open road", "not calculated: no motor traffic",
    ]  # fmt: skip
    assert view.method(0)["outside"] == "outside SRM1: facades beyond the reach of the road type"
    assert view.method(1)["outside"] == view.method(2)["outside"] == ""
    assert "a barrier below" in view.method(1)["reason"]
    usual = OriginView(city, d, Clock(city.timezone)).method(0)
    assert usual["method"] == "SRM1, general urban street: road type assumed"


def test_an_explanation_of_another_step_is_told_from_that_of_the_value_shown() -> None:
    assert is_of(NO2_ORIGIN, 45.3)
    assert not is_of(NO2_ORIGIN, 46.0)


def test_parts_are_whole_and_the_largest_remainders_are_rounded_up() -> None:
    assert apportioned([0.225, 0.225, 0.225, 0.225, 0.1], 100) == [23, 23, 22, 22, 10]
    assert apportioned([0.6, 0.4], 0) == [0, 0]
    assert apportioned([1.0, 0.0], 7) == [7, 0]


def test_the_board_knows_where_a_street_has_its_highest_value(city: City) -> None:
    board = full_board(city)
    highest = board.highest("no2", "now", 0)
    assert highest is not None
    row, column = divmod(highest.cell, city.grid.n_columns)
    assert (city.grid.x()[column] - city.grid.x_min, abs(city.grid.y()[row] - city.grid.y_min - 750)) == (
        1255,
        5,
    )
    assert highest.value == pytest.approx(45.1) == board.street(0).no2_now_ug_m3
    assert math.isnan(Board(city).highest("no2", "now", 0).value)  # type: ignore[union-attr]


def test_a_street_outside_the_receptors_has_no_highest_value(tmp_path: Path) -> None:
    town = make_town(tmp_path / "town")
    away = replace(town, grid=replace(town.grid, x_min=town.grid.x_min + 50_000))
    assert Board(away).highest("no2", "now", 0) is None


def test_a_question_about_air_is_answered_once_and_beside_the_loop() -> None:
    threads = []

    class Watched(NotingControl):
        def explain_air(self, cell: int, quantity: str, averaging: str) -> AirExplanation | None:
            threads.append(threading.current_thread())
            return super().explain_air(cell, quantity, averaging)

    control = Watched()
    explanations = Explanations(control)
    try:
        first, second = (explanations.ask_air(AirQuestion(1, 42, "no2")) for _ in range(2))
        assert second is first
        assert first.result(timeout=30) is NO2_ORIGIN
        explanations.ask_air(AirQuestion(2, 42, "no2")).result(timeout=30)
    finally:
        explanations.close()
    assert control.air_explained == [(42, "no2", "now")] * 2
    assert threading.main_thread() not in threads
