"""Rows reach a step in one order, once, whatever way they came."""

from __future__ import annotations

import json
import random
from datetime import timedelta

import pytest

from streams.clock import LATE_WINDOW_MS
from streams.codec import pack_state, unpack_state
from streams.observation import Observation, RejectedError, parse_observation
from streams.steps import StepBuffer
from tests.toy import START, reading

T0 = int(START.timestamp() * 1000)
KNOWN = {"L1": "loops", "L2": "loops"}


def row(sensor: str, minute: int, count: int = 5, delay_s: int = 3) -> Observation:
    start = START + timedelta(minutes=minute)
    event = reading("loops", sensor, start, start + timedelta(minutes=1), delay_s, mode="car", count=count)
    return parse_observation(json.dumps(event).encode())


def closed(rows: list[Observation]) -> list[Observation]:
    buffer = StepBuffer(KNOWN)
    for item in rows:
        buffer.add(item, T0)
    return buffer.close(T0 + 120_000)


def test_order_of_arrival_changes_nothing() -> None:
    rows = [row(s, m) for s in KNOWN for m in (0, 1)]
    shuffled = random.Random(1).sample(rows, len(rows))
    assert closed(shuffled) == closed(rows)


def test_a_duplicate_is_dropped_and_counted() -> None:
    buffer = StepBuffer(KNOWN)
    buffer.add(row("L1", 0), T0)
    buffer.add(row("L1", 0), T0)
    assert len(buffer.close(T0 + 60_000)) == 1
    buffer.add(row("L1", 0), T0)  # resent after its step has closed
    assert buffer.close(T0 + 120_000) == []
    assert buffer.intake.duplicates == 2


@pytest.mark.parametrize("first_is_newer", [True, False])
def test_of_two_readings_of_an_interval_the_one_received_last_counts(first_is_newer: bool) -> None:
    rows = [row("L1", 0, count=5, delay_s=3), row("L1", 0, count=9, delay_s=8)]
    assert [r.count for r in closed(rows[::-1] if first_is_newer else rows)] == [9.0]


def test_a_late_row_comes_at_the_head_of_the_next_step_and_is_counted() -> None:
    buffer = StepBuffer(KNOWN)
    buffer.close(T0 + 60_000)
    buffer.add(row("L1", 1), T0 + 100_000)
    buffer.add(row("L2", 0), T0 + 100_000)
    assert buffer.intake.late == 1
    assert [r.sensor for r in buffer.close(T0 + 120_000)] == ["L2", "L1"]


def test_a_newer_reading_of_a_used_interval_is_handed_on_and_an_older_one_is_not() -> None:
    buffer = StepBuffer(KNOWN)
    buffer.add(row("L1", 0, count=5, delay_s=8), T0)
    assert [r.count for r in buffer.close(T0 + 60_000)] == [5.0]
    buffer.add(row("L1", 0, count=4, delay_s=3), T0 + 100_000)
    assert buffer.close(T0 + 120_000) == []
    buffer.add(row("L1", 0, count=7, delay_s=9), T0 + 150_000)
    buffer.add(row("L1", 0, count=9, delay_s=20), T0 + 150_000)
    assert [r.count for r in buffer.close(T0 + 180_000)] == [9.0]
    assert (buffer.intake.accepted, buffer.intake.revisions, buffer.intake.late) == (1, 3, 0)


def test_a_row_of_more_than_two_hours_ago_is_rejected() -> None:
    with pytest.raises(RejectedError, match="more than two hours before"):
        StepBuffer(KNOWN).add(row("L1", 0), T0 + 60_001 + LATE_WINDOW_MS)
    StepBuffer(KNOWN).add(row("L1", 0), T0 + 60_000 + LATE_WINDOW_MS)


def test_a_row_waits_for_its_own_step() -> None:
    buffer = StepBuffer(KNOWN)
    buffer.add(row("L1", 1), T0)
    assert buffer.close(T0 + 60_000) == []
    assert len(buffer.close(T0 + 120_000)) == 1


def test_a_time_in_the_future_is_rejected_and_changes_nothing() -> None:
    buffer = StepBuffer(KNOWN)
    with pytest.raises(RejectedError, match="future"):
        buffer.add(row("L1", 30), T0)
    assert buffer.close(T0 + 3_600_000) == []


def test_an_unknown_sensor_is_rejected_with_a_suggestion() -> None:
    with pytest.raises(RejectedError, match="did you mean L1"):
        StepBuffer(KNOWN).add(row("L11", 0), T0)


def test_a_sensor_of_another_source_is_rejected() -> None:
    with pytest.raises(RejectedError, match="is of source radar"):
        StepBuffer({"L1": "radar"}).add(row("L1", 0), T0)


def test_a_buffer_goes_on_from_its_snapshot_as_if_never_stopped() -> None:
    first = StepBuffer(KNOWN)
    first.add(row("L1", 0), T0)
    first.close(T0 + 60_000)
    first.add(row("L2", 1), T0)
    second = StepBuffer(KNOWN)
    second.restore(unpack_state(pack_state(first.snapshot())))
    for buffer in (first, second):
        buffer.add(row("L1", 0), T0)
        buffer.add(row("L1", 0, count=4, delay_s=1), T0)  # older than the one that was used
    left, right = (repr(buffer.close(T0 + 120_000)) for buffer in (first, second))  # NaN is not NaN
    assert left == right
    assert "L2" in left
    assert first.intake == second.intake
