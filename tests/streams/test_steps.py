"""Rows reach a step in one order, once, whatever way they came."""

from __future__ import annotations

import json
import random
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.network import Mode
from streams.clock import LATE_WINDOW_MS
from streams.codec import pack_state, unpack_state
from streams.observation import Observation, RejectedError, Source, parse_observation
from streams.readings import ReadingTable
from streams.recall import Recall
from streams.steps import StepBuffer
from streams.texts import Texts
from streams.topics import Batch
from tests.streams.plain_steps import PlainBuffer
from tests.toy import START, reading

T0 = int(START.timestamp() * 1000)
KNOWN = {"L1": "loops", "L2": "loops"}


def row(sensor: str, minute: int, count: int = 5, delay_s: int = 3) -> Observation:
    start = START + timedelta(minutes=minute)
    event = reading("loops", sensor, start, start + timedelta(minutes=1), delay_s, mode="car", count=count)
    return parse_observation(json.dumps(event).encode())


def add(buffer: StepBuffer, rows: list[Observation], clock_ms: int | None = T0) -> StepBuffer:
    buffer.add(ReadingTable.of(rows), clock_ms)
    return buffer


def closed(rows: list[Observation]) -> Batch:
    return add(StepBuffer(KNOWN), rows).close(T0 + 120_000)


def counts(batch: Batch) -> list[float]:
    return [float(count) for count in batch.columns["count"]]


def sensors(batch: Batch) -> list[str]:
    return [batch.attributes["sensors"][code] for code in batch.columns["sensor"]]


def same(a: Batch, b: Batch) -> bool:
    return a.attributes == b.attributes and all(
        a.columns[name].tobytes() == b.columns[name].tobytes() for name in a.columns
    )


def refusal(buffer: StepBuffer) -> str:
    (letter,) = buffer.take_letters()
    return letter.reason


def test_order_of_arrival_changes_nothing() -> None:
    rows = [row(s, m) for s in KNOWN for m in (0, 1)]
    shuffled = random.Random(1).sample(rows, len(rows))
    assert same(closed(shuffled), closed(rows))
    assert sensors(closed(rows)) == ["L1", "L2", "L1", "L2"]


def test_a_duplicate_is_dropped_and_counted() -> None:
    buffer = add(add(StepBuffer(KNOWN), [row("L1", 0)]), [row("L1", 0)])
    assert buffer.close(T0 + 60_000).n_rows == 1
    add(buffer, [row("L1", 0)])  # resent after its step has closed
    assert buffer.close(T0 + 120_000).n_rows == 0
    assert buffer.intake.duplicates == 2


@pytest.mark.parametrize("first_is_newer", [True, False])
def test_of_two_readings_of_an_interval_the_one_received_last_counts(first_is_newer: bool) -> None:
    rows = [row("L1", 0, count=5, delay_s=3), row("L1", 0, count=9, delay_s=8)]
    assert counts(closed(rows[::-1] if first_is_newer else rows)) == [9.0]


def test_a_late_row_comes_at_the_head_of_the_next_step_and_is_counted() -> None:
    buffer = StepBuffer(KNOWN)
    buffer.close(T0 + 60_000)
    add(buffer, [row("L1", 1), row("L2", 0)], T0 + 100_000)
    assert buffer.intake.late == 1
    assert sensors(buffer.close(T0 + 120_000)) == ["L2", "L1"]


def test_a_newer_reading_of_a_used_interval_is_handed_on_and_an_older_one_is_not() -> None:
    buffer = add(StepBuffer(KNOWN), [row("L1", 0, count=5, delay_s=8)])
    assert counts(buffer.close(T0 + 60_000)) == [5.0]
    add(buffer, [row("L1", 0, count=4, delay_s=3)], T0 + 100_000)
    assert buffer.close(T0 + 120_000).n_rows == 0
    add(buffer, [row("L1", 0, count=7, delay_s=9), row("L1", 0, count=9, delay_s=20)], T0 + 150_000)
    assert counts(buffer.close(T0 + 180_000)) == [9.0]
    assert (buffer.intake.accepted, buffer.intake.revisions, buffer.intake.late) == (1, 3, 0)


def test_a_row_of_more_than_two_hours_ago_is_refused() -> None:
    buffer = add(StepBuffer(KNOWN), [row("L1", 0)], T0 + 60_001 + LATE_WINDOW_MS)
    assert "more than two hours before" in refusal(buffer)
    buffer = add(StepBuffer(KNOWN), [row("L1", 0)], T0 + 60_000 + LATE_WINDOW_MS)
    assert buffer.intake.accepted == 1


def test_a_row_waits_for_its_own_step() -> None:
    buffer = add(StepBuffer(KNOWN), [row("L1", 1)])
    assert buffer.close(T0 + 60_000).n_rows == 0
    assert buffer.close(T0 + 120_000).n_rows == 1


def test_a_time_in_the_future_is_refused_and_changes_nothing() -> None:
    buffer = add(StepBuffer(KNOWN), [row("L1", 30)])
    assert "future" in refusal(buffer)
    assert buffer.close(T0 + 3_600_000).n_rows == 0


def test_before_the_first_clock_the_time_of_receipt_is_the_clock() -> None:
    assert add(StepBuffer(KNOWN), [row("L1", 0), row("L1", 600)], None).intake.accepted == 2


def test_an_unknown_sensor_is_refused_with_a_suggestion() -> None:
    assert "did you mean L1" in refusal(add(StepBuffer(KNOWN), [row("L11", 0)]))


def test_a_sensor_of_another_source_is_refused() -> None:
    assert "is of source radar" in refusal(add(StepBuffer({"L1": "radar"}), [row("L1", 0)]))


def test_a_buffer_goes_on_from_its_snapshot_as_if_never_stopped() -> None:
    first = add(StepBuffer(KNOWN), [row("L1", 0)])
    first.close(T0 + 60_000)
    add(first, [row("L2", 1), row("L9", 1)])
    second = StepBuffer(KNOWN)
    second.restore(unpack_state(pack_state(first.snapshot())))
    for buffer in (first, second):
        add(buffer, [row("L1", 0), row("L1", 0, count=4, delay_s=1)])  # older than the one that was used
    left, right = first.close(T0 + 120_000), second.close(T0 + 120_000)
    assert same(left, right)
    assert sensors(left) == ["L2"]
    letters = first.take_letters()
    assert (len(letters), second.take_letters()) == (1, letters)
    assert first.intake == second.intake


def test_a_snapshot_of_other_sensors_is_refused_by_name() -> None:
    state = StepBuffer(KNOWN).snapshot()
    with pytest.raises(ValueError, match="sensors: differ from the city's in L2, L3"):
        StepBuffer({"L1": "loops", "L3": "loops"}).restore(state)


def test_many_readings_of_one_sensor_and_end_are_in_the_order_of_their_ids() -> None:
    rows = [
        Observation(
            Source.LOOPS,
            "L1",
            T0 - k,
            T0 + 60_000,
            T0 + 61_000,
            event_id=f"{'x' * (k % 30)}{k * 7919 % 1000}",
        )
        for k in range(200)
    ]
    ids = [event.decode() for event in closed(rows).columns["event_id"]]
    assert ids == sorted(r.event_id for r in rows)


def test_an_id_of_any_length_is_told_from_its_like() -> None:
    rows = [
        Observation(Source.LOOPS, "L1", T0, T0 + 60_000, T0, Mode(k % 2), event_id="y" * (900 + k % 3))
        for k in range(4)
    ]  # the fourth is the first again
    batch = closed(rows)
    assert len(set(batch.columns["event_id"])) == 2  # the third has the interval of the first
    assert {len(event) for event in batch.columns["event_id"]} == {64}


def test_what_is_forgotten_makes_room_and_what_is_open_stays() -> None:
    recall, n, total = Recall(), 3_000, np.zeros(5, dtype=np.int64)
    for k in range(20):  # of each second one row stays open for ever
        recall.horizon_ms = (k - 2) * 1_000
        ids = Texts.of([f"{k}-{j}" for j in range(n)])
        words = np.array([[0, k * 1_000, j << 32, 0] for j in range(n)], dtype=np.int64)
        for _ in range(2):
            recall.take_in(np.arange(n), words, np.ones(n, dtype=np.int64), ids, 0, total)
        recall.close(np.arange(k + 1, k + n), np.arange(k + 1))
    assert total[:2].tolist() == [20 * n, 20 * n]
    assert recall.n_ids < 10 * n
    data, first, length = recall.ids_of(np.arange(20))
    kept = [data[a : a + m].tobytes().decode() for a, m in zip(first, length, strict=True)]
    assert kept == [f"{k}-0" for k in range(20)]


ENDS_MS = (60_000, 60_000, 15_000, 0, -60_000, -3_600_000, -7_080_000, -7_300_000, 200_000)
IDS = st.builds(
    lambda text, number: f"{text}{number}",
    st.sampled_from(["", "a", "ab", "a\0", "é", "€uro", "long" * 20]),
    st.integers(0, 40),
)


@st.composite
def arrivals(draw: st.DrawFn, step: int) -> list[Observation]:
    """Readings around a step, some late, in the future, of unknown sensors, resent or revised."""
    rows = []
    for _ in range(draw(st.integers(0, 8))):
        end = T0 + step * 60_000 + draw(st.sampled_from(ENDS_MS))
        rows.append(
            Observation(
                draw(st.sampled_from([Source.LOOPS] * 9 + [Source.RADAR])),
                draw(st.sampled_from(["L1", "L2", "L3", "L4", "X"])),
                end - draw(st.sampled_from([60_000, 1_000])),
                end,
                end + draw(st.sampled_from([1_000, 2_000])),
                draw(st.sampled_from([None, Mode.CAR, Mode.TRUCK])),
                count=float(draw(st.integers(0, 5))),
                direction=draw(st.sampled_from(["", "", "forward", "up"])),
                to_sensor=draw(st.sampled_from(["", "", "", "L1", "Y"])),
                event_id=draw(IDS),
            )
        )
    again = draw(st.lists(st.sampled_from(rows), max_size=3)) if rows else []
    return [*rows, *again]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.data())
def test_columns_do_what_dictionaries_of_objects_do(data: st.DataObject) -> None:
    known = {f"L{k}": "loops" for k in range(1, 5)}
    plain, buffer, clock_ms = PlainBuffer(known), StepBuffer(known), T0
    # ten minutes at a time now and then, so that ids and intervals are forgotten
    step = 0
    for _ in range(data.draw(st.integers(1, 10))):
        step += data.draw(st.sampled_from([1, 1, 1, 10, 60]))
        rows = data.draw(arrivals(step - 1))
        letters = []
        for item in rows:
            try:
                plain.add(item, clock_ms)
            except RejectedError as error:
                letters.append((error.field, error.reason, error.source))
        cut = data.draw(st.integers(0, len(rows)))
        add(buffer, rows[:cut], clock_ms)
        if data.draw(st.booleans()):  # looked at in two parts, or together
            assert buffer.intake.accepted <= plain.intake.accepted
        add(buffer, rows[cut:], clock_ms)
        assert [(x.field, x.reason, x.source) for x in buffer.take_letters()] == letters
        if data.draw(st.booleans()):
            state, buffer = buffer.snapshot(), StepBuffer(known)
            buffer.restore(unpack_state(pack_state(state)))
        end_ms = T0 + step * 60_000
        clock_ms = end_ms + 30_000
        if data.draw(st.sampled_from([True, True, True, False])):
            assert told(buffer.close(end_ms)) == [plainly(reading) for reading in plain.close(end_ms)]
        assert buffer.intake == plain.intake


def plainly(o: Observation) -> tuple[Any, ...]:
    mode = -1 if o.mode is None else int(o.mode)
    event = o.event_id.rstrip("\0")
    return (
        o.source.value, o.sensor, o.to_sensor, o.direction, mode, o.start_ms, o.end_ms, o.received_ms, o.count,
        event if len(event.encode()) <= 64 else "long",
    )  # fmt: skip


def told(batch: Batch) -> list[tuple[Any, ...]]:
    c, names = batch.columns, (*batch.attributes["sensors"], "")
    directions = (*batch.attributes["directions"], "")
    sources = sorted(Source)
    return [
        (
            sources[c["source"][k]].value, names[c["sensor"][k]], names[c["to_sensor"][k]],
            directions[c["direction"][k]], int(c["mode"][k]), int(c["start_ms"][k]), int(c["end_ms"][k]),
            int(c["received_ms"][k]), float(c["count"][k]),
            c["event_id"][k].decode() if len(c["event_id"][k]) < 64 else "long",
        )
        for k in range(batch.n_rows)
    ]  # fmt: skip
