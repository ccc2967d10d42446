"""Readings as columns are let in and refused as single readings are."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.network import Mode
from streams.clock import STEP_MS
from streams.observation import Observation, RejectedError, Source, observation_from, parse_observation
from streams.readings import (
    NO_TIME,
    NUMBERS,
    ReadingTable,
    Rhythm,
    SensorPlaces,
    readings_batch,
    weather_rows,
)
from streams.steps import StepBuffer
from streams.texts import Coded, TextIndex, Texts
from streams.wire import ARROW, COLUMNS, decode_readings, encode_readings
from tests.streams.plain_steps import PlainBuffer

T0 = 1_700_000_400_000
LONG = "L" * 201
KNOWN = {"L1": "loops", "L2": "loops", "R1": "radar", "B1": "bikeshare", "M1": "weather", LONG: "loops"}
OFTEN = 5  # good values for each bad one


def some(good: list[Any], bad: list[Any]) -> st.SearchStrategy[Any]:
    return st.sampled_from([*good * (OFTEN * len(bad) // len(good) + 1), *bad])


MOMENTS = some([0], [-T0, -T0 - 5, NO_TIME, 2**62, 3_000, 400_000, 90_000, -7_300_000, 1])
NUMBER = {
    "count": some([math.nan, 0.0, 3.0, 12.5], [-1.0, -0.5, 1e9, math.inf, -math.inf, 700.0]),
    "speed_kmh": some([math.nan, 42.1], [251.0, -1e-9]),
    "uptime": some([math.nan, 1.0, 0.8], [1.01]),
    "vehicles": some([math.nan, 4.0], [1e6 + 1]),
    "travel_time_s": some([math.nan, 120.0], [86_401.0]),
    "wind_from_deg": some([math.nan, 360.0], [361.0]),
    "temperature_c": some([math.nan, -7.5], [-61.0, 99.0]),
}


@st.composite
def tables(draw: st.DrawFn) -> ReadingTable:
    """A table of which some rows are wrong in one way or another."""
    n = draw(st.integers(1, 12))

    def column(values: st.SearchStrategy[Any]) -> list[Any]:
        return [draw(values) for _ in range(n)]

    end = np.array([T0 + draw(st.sampled_from([0, -60_000, 15_000])) for _ in range(n)], dtype=np.int64)
    shift = {name: np.array(column(MOMENTS), dtype=np.int64) for name in ("start", "end", "received")}
    length = np.array(column(some([60_000, 0], [1_000, -1_000])), dtype=np.int64)
    times = {"start": end - length, "end": end, "received": end + 2_000}
    for name, by in shift.items():
        times[name] = np.where(np.abs(by) > 1e15, by, times[name] + by)
    said = draw(st.sets(st.sampled_from(sorted(NUMBER))))
    return ReadingTable(
        source=Coded.of(column(some(["loops"], ["radar", "sonar", "", None, "Loops"]))),
        sensor=Coded.of(column(some(["L1", "L2"], ["R1", "L9", "", None, LONG]))),
        to_sensor=Coded.of(column(some([None], ["L2", "L9", "R1", ""]))),
        direction=Coded.of(column(some([None, "forward"], ["", "sideways"]))),
        mode=Coded.of(column(some(["car", None], ["CAR", "hovercraft", "", "bu\u017f", "truck"]))),
        start_ms=times["start"],
        end_ms=times["end"],
        received_ms=times["received"],
        numbers={name: np.array(column(NUMBER[name])) for name in said},
        simulated=np.array(column(st.booleans())),
        event_id=Texts.of(column(st.sampled_from(["", "a", "b", "ü", *(f"id{k}" for k in range(40))]))),
        extra={0: {"lane": "left"}} if draw(st.booleans()) else {},
    )


def one_by_one(
    table: ReadingTable, clock_ms: int | None
) -> tuple[list[Observation], list[tuple[str, str, str]]]:
    """What enters and what is refused when each row comes as a single event."""
    plain, letters = PlainBuffer(KNOWN), []
    for k in range(table.n_rows):
        try:
            reading = observation_from(table.event(k))
            plain.add(reading, clock_ms or reading.received_ms)
        except RejectedError as error:
            letters.append((error.field, error.reason, error.source))
    return plain.close(T0 + 2 * STEP_MS), letters


@settings(max_examples=120, deadline=None, derandomize=True)
@given(tables(), st.sampled_from([None, T0]), st.sampled_from([None, ARROW, COLUMNS]))
def test_a_table_lets_in_and_refuses_what_single_events_do(
    table: ReadingTable, clock_ms: int | None, content_type: str | None
) -> None:
    rows, letters = one_by_one(table, clock_ms)
    buffer = StepBuffer(KNOWN)
    if content_type is None or any(np.isinf(column).any() for column in table.numbers.values()):
        buffer.add(table, clock_ms)
    else:
        if content_type == ARROW:
            pytest.importorskip("pyarrow")
        buffer.add_message(encode_readings(table, content_type), content_type, clock_ms)
    assert [(x.field, x.reason, x.source) for x in buffer.take_letters()] == letters
    batch = buffer.close(T0 + 2 * STEP_MS)
    again = readings_batch(rows, batch.time_ms)
    assert batch.n_rows == len(rows)
    for name in batch.columns.keys() - {"sensor", "to_sensor"}:
        np.testing.assert_array_equal(batch.columns[name], again.columns[name], err_msg=name)
    assert batch.attributes["directions"] == again.attributes["directions"]
    names = (*batch.attributes["sensors"], "")
    assert [names[code] for code in batch.columns["sensor"]] == [row.sensor for row in rows]
    assert [names[code] for code in batch.columns["to_sensor"]] == [row.to_sensor for row in rows]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(tables(), st.sampled_from([ARROW, COLUMNS]))
def test_a_table_survives_the_wire(table: ReadingTable, content_type: str) -> None:
    if content_type == ARROW:
        pytest.importorskip("pyarrow")
    elif any(np.isinf(column).any() for column in table.numbers.values()):
        return  # JSON has no infinity
    back = decode_readings(encode_readings(table, content_type), content_type)
    assert [back.event(k) for k in range(back.n_rows)] == [table.event(k) for k in range(table.n_rows)]


def event(**changes: Any) -> Observation:
    given_ = {
        "source": "loops", "sensor": "L1", "start": "2022-11-23T05:00:00Z", "end": "2022-11-23T05:05:00Z",
        "received": "2022-11-23T05:05:03.250Z", "mode": "car", "count": 17, "simulated": True, **changes,
    }  # fmt: skip
    return parse_observation(json.dumps(given_).encode())


def test_single_readings_survive_a_table() -> None:
    rows = [
        event(lane="left", uptime=0.5), event(mode=None, direction="forward", to_sensor="L2"),
        event(source="weather", sensor="M1", count=None, wind_speed_m_s=3.5, simulated=False),
    ]  # fmt: skip
    assert repr(ReadingTable.of(rows).observations()) == repr(rows)  # NaN is not NaN
    table = ReadingTable.of(rows)
    assert repr(table.take(np.array([2, 0])).observations()) == repr([rows[2], rows[0]])


def test_an_event_of_a_row_says_what_the_row_says() -> None:
    row = event()
    told = ReadingTable.of([row]).event(0)
    assert told["received"] == "2022-11-23T05:05:03.250+00:00"
    assert (told["count"], told["id"]) == (17, row.event_id)
    assert repr(observation_from(told)) == repr(row)


def test_a_row_without_an_id_gets_that_of_its_event_and_comes_once() -> None:
    table = ReadingTable.of([event(), event()])
    bare = ReadingTable(
        **{
            name: getattr(table, name)
            for name in ReadingTable.__slots__
            if name not in ("event_id", "is_checked")
        },
        event_id=Texts.of(["", ""]),
    )
    buffer = StepBuffer(KNOWN)
    buffer.add(bare)
    assert (buffer.intake.accepted, buffer.intake.duplicates) == (1, 1)
    batch = buffer.close(int(table.end_ms[0]))
    assert batch.columns["event_id"][0].decode() == observation_from(bare.event(0)).event_id


def test_a_batch_names_its_sensors_and_directions() -> None:
    batch = readings_batch([event(direction="forward"), event(sensor="L0"), event(to_sensor="L5")], 60_000)
    assert batch.attributes == {"sensors": ("L0", "L1", "L5"), "directions": ("forward",)}
    assert batch.columns["sensor"].tolist() == [1, 0, 1]
    assert batch.columns["to_sensor"].tolist() == [-1, -1, 2]
    assert batch.columns["direction"].tolist() == [0, -1, -1]
    assert batch.columns["mode"].tolist() == [Mode.CAR] * 3
    assert set(NUMBERS) < set(batch.columns)
    assert {len(column) for column in batch.columns.values()} == {3}


def test_places_are_found_for_each_batch_anew() -> None:
    places = SensorPlaces(["L1", "L7"])
    for sensors, found in ((["L7", "L9", "L1"], [1, -1, 0]), (["L1"], [0])):
        batch = readings_batch([event(sensor=name) for name in sensors], 60_000)
        assert places.of(batch, "sensor").tolist() == found
        assert places.of(batch, "to_sensor").tolist() == [-1] * len(found)


def test_weather_is_ordered_by_event_time_then_receipt() -> None:
    rows = [event(source="weather", sensor="M1", count=None, temperature_c=t) for t in (3.0, 4.0)]
    found = weather_rows(readings_batch([event(), *rows], 60_000))
    assert [row.temperature_c for row in found] == [3.0, 4.0]
    assert all(math.isnan(row.wind_speed_m_s) for row in found)
    assert found[0].order == (rows[0].end_ms, "M1", rows[0].received_ms, rows[0].event_id)


def test_the_rhythm_of_a_feed_is_the_same_row_by_row_and_at_once() -> None:
    start, end = np.array([[0, 60, 0, 120, 115], [60, 120, 120, 180, 195]], dtype=np.int64)
    at_once = Rhythm().after(start, end, 3600)
    row_by_row = Rhythm()
    for k in range(end.size):
        row_by_row = row_by_row.after(start[k : k + 1], end[k : k + 1], 3600)
    assert at_once == row_by_row == Rhythm(last_ms=195, length_ms=120, gap_ms=15)
    assert Rhythm().after(start[:1], end[:1], 3600).gap_ms == 0


TEXTS = st.lists(st.text(st.characters(codec="utf-8"), max_size=20), max_size=30)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(TEXTS, TEXTS)
def test_columns_of_text_hold_and_find_what_lists_do(names: list[str], texts: list[str]) -> None:
    names = sorted(set(names))
    wanted = [*texts, *names[::2]]
    column = Texts.of(wanted)
    assert column.texts() == wanted
    assert [names[k] if k >= 0 else None for k in TextIndex(names).find(column)] == [
        text if text in names else None for text in wanted
    ]
    assert Texts.concatenated([column, Texts.of(names), column]).texts() == [*wanted, *names, *wanted]
    rows = np.arange(len(wanted))[::-2]
    assert column.take(rows).texts() == wanted[::-2]
    coded = Coded.of([*wanted, None])
    assert Coded.concatenated([coded, Coded.same(None, 2), coded]).texts() == [
        *wanted, None, None, None, *wanted, None
    ]  # fmt: skip


def test_codes_of_sources_are_in_the_order_of_their_names() -> None:
    rows = [event(source=source.value, count=None) for source in Source]
    codes = readings_batch(rows, 60_000).columns["source"].tolist()
    assert [s.value for _, s in sorted(zip(codes, Source, strict=True))] == sorted(s.value for s in Source)
