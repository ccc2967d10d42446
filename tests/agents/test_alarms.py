"""Alarms: delays, deadband, acknowledgement, the accuracy gate, silent feeds."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.alarm_state import Alarm, State, acknowledge, evaluate
from agents.alarms import AlarmsAgent
from cities.pack import City, load_city
from cities.rules import Rule, Rules, load_rules
from streams.codec import pack_state, unpack_state
from streams.observation import parse_observation
from streams.readings import readings_batch
from streams.topics import Batch, Topic
from tests.toy import START, reading

RULE = Rule(
    name="loud", title="Loud", quantity="noise", threshold=65.0, deadband=2.0, scope="street",
    road_classes=(11,), on_delay_s=120, off_delay_s=60, action="go and see", consequence="noise",
    minimum_accuracy=0.5,
)  # fmt: skip
T0 = int(START.timestamp() * 1000)


def timeline(levels: list[float], rule: Rule = RULE) -> list[State]:
    alarm, states = Alarm(), []
    for minute, level in enumerate(levels):
        alarm = evaluate(alarm, rule, level, minute * 60_000)
        states.append(alarm.state)
    return states


def test_an_alarm_waits_for_its_on_delay() -> None:
    assert timeline([66, 66, 66]) == [State.NORMAL, State.NORMAL, State.ACTIVE]


def test_a_dip_within_the_on_delay_starts_it_again() -> None:
    assert timeline([66, 66, 64, 66, 66, 66])[-2:] == [State.NORMAL, State.ACTIVE]


def test_within_the_deadband_an_alarm_stays() -> None:
    assert timeline([66, 66, 66, 64, 64, 64, 64])[-1] is State.ACTIVE


def test_an_alarm_clears_below_the_deadband_after_its_off_delay() -> None:
    states = timeline([66, 66, 66, 62, 62])
    assert states[-2:] == [State.ACTIVE, State.CLEARED]


def test_an_unknown_value_changes_nothing() -> None:
    nan = float("nan")
    assert timeline([66, 66, 66, nan, nan, nan])[-1] is State.ACTIVE
    assert timeline([nan] * 5)[-1] is State.NORMAL


def test_acknowledging_twice_is_the_same_as_once() -> None:
    active = Alarm(State.ACTIVE, 5)
    once = acknowledge(active, 10)
    assert once.state is State.ACTIVE_ACKNOWLEDGED
    assert acknowledge(once, 20) == once
    assert acknowledge(Alarm(State.CLEARED, 5), 10).state is State.NORMAL
    assert acknowledge(Alarm(), 10) == Alarm()


def test_an_acknowledged_alarm_goes_straight_to_normal() -> None:
    alarm = Alarm(State.ACTIVE_ACKNOWLEDGED, 0)
    for minute in (1, 2):
        alarm = evaluate(alarm, RULE, 50.0, minute * 60_000)
    assert alarm.state is State.NORMAL


@pytest.fixture
def city(toy_folder: Path) -> City:
    return load_city(toy_folder)


def field(city: City, level_db: float, accuracy: float, *, averaging: str = "now") -> Batch:
    rows, columns = city.grid.shape
    values = np.full(rows * columns, round((level_db + 20) * 100), dtype=np.uint16)
    attributes = {
        "scale": 0.01, "offset": -20.0, "rows": rows, "columns": columns, "accuracy": accuracy,
        "hours_seen": 1.0,
    }  # fmt: skip
    return Batch(Topic.FIELDS, f"noise/{averaging}/0/0", 0, {"values": values}, attributes=attributes)


def play(
    agent: AlarmsAgent, city: City, levels: list[tuple[float, float]], first: int = 0
) -> list[dict[str, Any]]:
    transitions = []
    for minute, (level, accuracy) in enumerate(levels, start=first):
        agent.receive(field(city, level, accuracy))
        for batch in agent.close(T0 + minute * 60_000):
            transitions.append({k: v[0] for k, v in batch.columns.items()} | {"key": batch.key})
    return transitions


def test_a_loud_street_raises_one_alarm_that_names_value_threshold_and_place(city: City) -> None:
    agent = AlarmsAgent(city, Rules((RULE,)))
    raised = play(agent, city, [(66.0, 0.8)] * 4)
    assert {t["key"] for t in raised} == {"loud/Row 0", "loud/Row 3"}
    first = raised[0]
    assert first["state"] == "active unacknowledged"
    assert (first["value"], first["threshold"], first["kind"]) == (66.0, 65.0, "threshold")
    assert np.isfinite(first["x"])


def test_below_the_accuracy_gate_a_data_quality_alarm_stands_in(city: City) -> None:
    agent = AlarmsAgent(city, Rules((RULE,)))
    raised = play(agent, city, [(66.0, 0.2)] * 4)
    assert {t["kind"] for t in raised} == {"data quality"}
    later = play(agent, city, [(66.0, 0.9)] * 4, first=4)
    assert {(t["kind"], t["state"]) for t in later} == {
        ("data quality", "cleared unacknowledged"), ("threshold", "active unacknowledged"),
    }  # fmt: skip


def test_a_rise_is_told_from_the_hours_mean_and_from_the_whole_city(city: City) -> None:
    rule = replace(
        RULE, compare="rise", threshold=3.0, deadband=1.0, minimum_accuracy=0.0, road_classes=(11, 12)
    )
    agent = AlarmsAgent(city, Rules((rule,)))
    agent.receive(field(city, 60.0, 0.8, averaging="1h"))
    assert (
        play(agent, city, [(66.0, 0.8)] * 4) == []
    )  # the whole city is louder: the morning, not an incident
    north = field(city, 66.0, 0.8)
    north.columns["values"].reshape(city.grid.shape)[69:71] += 350  # the northern street, 3.5 dB more
    raised = []
    for minute in range(4, 8):
        agent.receive(north)
        raised += agent.close(T0 + minute * 60_000)
    assert [(batch.key, batch.columns["value"][0]) for batch in raised] == [("loud/Row 3", 3.5)]


def test_a_street_that_recovers_from_a_closure_has_not_risen(city: City) -> None:
    rule = replace(
        RULE, compare="rise", threshold=3.0, deadband=1.0, minimum_accuracy=0.0, road_classes=(11, 12)
    )
    agent = AlarmsAgent(city, Rules((rule,)))
    open_, closed = field(city, 60.0, 0.8, averaging="1h"), field(city, 60.0, 0.8, averaging="1h")
    closed.columns["values"].reshape(city.grid.shape)[69:71] -= 600
    raised = []
    for minute, hourly in enumerate([open_] * 6 + [closed] * 12):
        agent.receive(hourly)
        agent.receive(field(city, 60.0, 0.8))
        raised += agent.close(T0 + minute * 60_000)
    assert raised == []


def test_a_rise_of_sound_power_is_told_without_receptors(city: City) -> None:
    rule = replace(
        RULE, quantity="sound_power", compare="rise", threshold=3.0, deadband=1.0, road_classes=(11, 12)
    )
    agent = AlarmsAgent(city, Rules((rule,)))
    raised = []
    for minute in range(4):
        power = np.full(20, 100, dtype=np.int64)
        columns = {f"power{g}{suffix}": power.copy() for g in range(4) for suffix in ("", "_1h")}
        columns["power0"][city.segment_ids.index("v23")] = 800
        columns |= {"segment": np.arange(20, dtype=np.int32), "log_sd": np.full(20, 0.1, dtype=np.float32)}
        agent.receive(Batch(Topic.EMISSIONS, "t0", 0, columns, attributes={"hours_seen": 1.0}))
        raised += agent.close(T0 + minute * 60_000)
    (batch,) = raised
    assert batch.key == "loud/Column 3"
    assert batch.columns["value"][0] == pytest.approx(10 * np.log10(1100 / 400), abs=0.005)
    assert batch.columns["unit"][0] == "dB"


def test_an_operator_acknowledges_between_two_steps(city: City) -> None:
    agent = AlarmsAgent(city, Rules((RULE,)))
    play(agent, city, [(66.0, 0.8)] * 4)
    columns = {
        "action": np.array(["acknowledge"], dtype=object),
        "who": np.array(["Ann"], dtype=object),
        "note": np.array(["seen"], dtype=object),
    }
    agent.receive(Batch(Topic.OPERATOR_ACTIONS, "loud/Row 0", T0, columns))
    (batch,) = agent.close(T0 + 3 * 60_000)
    assert batch.columns["state"][0] == "active acknowledged"
    assert (batch.columns["who"][0], batch.columns["note"][0]) == ("Ann", "seen")


def test_a_silent_feed_raises_a_data_quality_alarm_and_clears_when_it_speaks(city: City) -> None:
    agent = AlarmsAgent(city, Rules(()))

    def speak(minute: int) -> None:
        start = START + timedelta(minutes=minute - 1)
        event = reading("loops", "L1", start, start + timedelta(minutes=1), 2, mode="car", count=1)
        agent.receive(readings_batch([parse_observation(json.dumps(event).encode())], 0))

    speak(-1)
    speak(0)
    states = {}
    for minute in range(8):
        if minute == 6:
            speak(6)
        for batch in agent.close(T0 + minute * 60_000):
            states[minute] = str(batch.columns["state"][0])
            assert batch.columns["scope"][0] == "loops"
    assert states == {3: "active unacknowledged", 6: "cleared unacknowledged"}


def test_alarms_go_on_from_a_snapshot_as_if_never_stopped(city: City) -> None:
    rules = load_rules(city.folder)
    first, second = (
        AlarmsAgent(city, Rules((RULE, *rules.rules))),
        AlarmsAgent(city, Rules((RULE, *rules.rules))),
    )
    play(first, city, [(66.0, 0.8)] * 2)
    second.restore(unpack_state(pack_state(first.snapshot())))
    levels = [(66.0, 0.8)] * 2 + [(60.0, 0.8)] * 3
    assert repr(play(first, city, levels, first=2)) == repr(play(second, city, levels, first=2))
