from __future__ import annotations

import math
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from agents.fusion_answers import Contribution, Explanation
from cities.pack import City
from dashboards.board import ModeFlow
from dashboards.explanations import Answer, Explanations, Question
from dashboards.view import Clock, State, StreetView
from dashboards.why import (
    WhyView,
    chosen_flow,
    distance_text,
    gain_text,
    is_of,
    parts_state,
    score_state,
    signed,
)
from kernels.network import Direction, Mode
from tests.dashboards.town import (
    CAMERA,
    COUNTERS,
    EVIDENCE,
    FAULT,
    GAIN,
    NotingControl,
    explanation,
    make_town,
)

FLOW = ModeFlow(Mode.CAR, 0, 400.0, 320.0, 500.0, 0.58, 40.0, 40.0, True)


@pytest.fixture
def view(tmp_path: Path) -> WhyView:
    city: City = make_town(tmp_path / "town")
    return WhyView(city, Clock(city.timezone), StreetView(city).heading)


def number_of(line: State) -> float:
    return float(line["value"].replace("\u202f", "").replace("\u2212", "-").replace("\u00b1", ""))


@pytest.mark.parametrize("flow_per_h", [400.0, 200.4, 57.6, 1234.5, 8.26])
def test_the_written_parts_add_up_to_the_written_flow(flow_per_h: float) -> None:
    lines = parts_state(explanation(flow_per_h), replace(FLOW, flow_per_h=flow_per_h))
    *parts, now = [number_of(line) for line in lines]
    assert sum(parts) == pytest.approx(now, abs=1e-9)
    assert now == pytest.approx(flow_per_h, abs=0.5)


def test_the_five_strongest_are_named_with_their_distance_and_the_rest_is_counted() -> None:
    lines = parts_state(explanation(400.0), FLOW)
    assert [line["label"] for line in lines] == [
        "before any sensor", "loops L7", "loops L1", "loops L2", "loops L3", "loops L4",
        "2 other counters", "junction balance", "= now",
    ]  # fmt: skip
    assert [line["distance"] for line in lines[1:4]] == ["here", "420 m", "1.2 km"]
    assert (lines[1]["value"], lines[2]["value"]) == ("+70", "\u221230")
    assert lines[-1]["interval"] == "320 to 500"


def test_a_part_begins_where_the_one_before_ends() -> None:
    lines = parts_state(explanation(400.0), FLOW)
    end = lines[0]["high"]
    for line in lines[1:-1]:
        low, high = line["low"], line["high"]
        begin, end_here = (low, high) if line["kind"] == "more" else (high, low)
        assert begin == pytest.approx(end)
        end = end_here
    assert end == pytest.approx(lines[-1]["high"])


def test_a_counter_that_moves_less_than_is_written_counts_among_the_others() -> None:
    weak = Explanation(399.9, 400.0, 0.0, (Contribution("L1", "loops", 0.1, 50.0),))
    labels = [line["label"] for line in parts_state(weak, FLOW)]
    assert labels == ["before any sensor", "1 other counter", "junction balance", "= now"]


def test_without_counters_the_balance_takes_the_rounding() -> None:
    lines = parts_state(Explanation(390.4, 400.0, 9.6, ()), FLOW)
    assert [line["value"] for line in lines] == ["390", "+10", "400"]


def test_a_part_below_zero_stays_on_the_axis() -> None:
    low = Explanation(10.0, 400.0, 0.0, (replace(COUNTERS[0], moved_per_h=-60.0), COUNTERS[1]))
    for line in parts_state(low, replace(FLOW, hi90=math.nan)):
        assert 0.0 <= line["low"] <= line["high"] <= 1.0


def test_the_score_says_what_it_is_the_probability_of() -> None:
    score = score_state(FLOW)
    assert score["value"] == "0.58"
    # GEH 5 of 400: 406.25 -+ sqrt(39.0625 + 25 * 400)
    assert score["text"].endswith("within 15\u00a0% or GEH\u00a05 of this: 306 to 506/h")
    assert score_state(replace(FLOW, accuracy=0.4))["doubtful"]


def test_the_mode_is_kept_where_the_street_has_it_else_the_busiest_flow_is_explained() -> None:
    back, bicycle = replace(FLOW, direction=1, flow_per_h=450.0), replace(FLOW, mode=Mode.BICYCLE)
    assert chosen_flow([FLOW, back, bicycle], Mode.CAR, None) is back
    assert chosen_flow([FLOW, back, bicycle], Mode.CAR, 0) is FLOW
    assert chosen_flow([FLOW, back, bicycle], Mode.TRUCK, None) is back
    assert chosen_flow([], Mode.CAR, None) is None


def test_an_explanation_of_another_step_is_told_from_that_of_the_flow_shown() -> None:
    assert is_of(explanation(400.04), FLOW)
    assert not is_of(explanation(401.0), FLOW)


def test_evidence_of_the_explained_flow_comes_first_and_a_fault_with_its_time(view: WhyView) -> None:
    bicycles = replace(EVIDENCE, mode=Mode.BICYCLE, weight=0.99)
    answer = Answer(None, (bicycles, CAMERA, EVIDENCE), (FAULT,), (GAIN,))
    loop, camera, other = view.evidence(0, FLOW, answer)
    assert (other["mode"], other["is_explained"]) == ("bicycle", False)
    assert (loop["sensor"], loop["heading"], loop["weight"]) == ("loops L7", "E", "0.80")
    assert (loop["fault"], loop["detail"], loop["gain"], loop["is_low"]) == ("", "", "", False)
    assert (camera["weight"], camera["is_low"], camera["fault"]) == ("0.02", True, "stuck")
    assert camera["detail"] == "since 09:50"
    assert camera["gain"].startswith("reads \u00d7 1.18 (1.05\u20131.33)")


def test_a_counter_in_doubt_whose_readings_are_too_old_is_still_named(view: WhyView) -> None:
    silent = replace(FAULT, sensor="L9", source="loops", fault="silent")
    (line,) = view.evidence(0, FLOW, Answer(None, (), (silent,), ()))
    assert (line["sensor"], line["reading"], line["fault"]) == ("loops L9", "\u2013", "silent")


def test_counters_in_doubt_are_listed_latest_first_once_for_all_their_modes(view: WhyView) -> None:
    early = replace(FAULT, sensor="L1", source="loops", segment=1, since_ms=FAULT.since_ms - 1)
    lines = view.faults([early, replace(FAULT, mode=Mode.TRUCK), FAULT])
    assert [line["sensor"] for line in lines] == ["telraam T2", "loops L1"]
    assert lines[0]["modes"] == "car, truck"
    assert (lines[1]["street"], lines[1]["segment"], lines[1]["since"]) == ("Long Lane", "sn", "09:49")


def test_a_gain_says_who_taught_it() -> None:
    assert gain_text(GAIN).endswith("by a reference here")
    assert gain_text(replace(GAIN, has_reference=False)).endswith("by the other counters")


@pytest.mark.parametrize(("value", "text"), [(12.0, "+12"), (-3.0, "\u22123"), (0.0, "\u00b10")])
def test_a_change_has_its_sign(value: float, text: str) -> None:
    assert signed(value) == text


@pytest.mark.parametrize(
    ("distance_m", "text"), [(math.nan, ""), (0.0, "here"), (994.0, "994 m"), (996.0, "1.0 km")]
)
def test_a_distance_is_written_in_the_unit_that_fits(distance_m: float, text: str) -> None:
    assert distance_text(distance_m) == text


def test_a_question_is_answered_once_and_beside_the_loop() -> None:
    threads = []

    class Watched(NotingControl):
        def explain(self, segment: int, direction: Direction, mode: Mode) -> Explanation | None:
            threads.append(threading.current_thread())
            return super().explain(segment, direction, mode)

    explanations = Explanations(Watched())
    try:
        question = Question(1, 0, 0, Mode.CAR)
        first, second = explanations.ask(question), explanations.ask(question)
        answer = first.result(timeout=30)
        assert second is first
        assert answer.explanation == explanation(400.0)
        assert answer.gains == (GAIN,)
    finally:
        explanations.close()
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()
