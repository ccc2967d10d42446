"""Messages of readings that fit are read, the others refused by the name of what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest

from streams.codec import CodecError
from streams.observation import RejectedError
from streams.readings import ReadingTable
from streams.steps import StepBuffer
from streams.texts import Coded, Texts
from streams.wire import ARROW, COLUMNS, EVENT, decode_readings, decode_together, encode_readings

T0 = 1_700_000_400_000
MESSAGE: dict[str, Any] = {
    "version": 1,
    "topic": "observations",
    "rows": 2,
    "columns": {
        "source": "loops", "sensor": ["L1", "L2"], "id": ["a", "b"], "mode": {"names": ["car"], "at": [0, None]},
        "start_ms": [T0 - 60_000] * 2, "end_ms": T0, "received_ms": [T0 + 900, T0 + 1], "count": [1, None],
        "speed_kmh": 30.5, "simulated": [True, False], "extra": {"1": {"lane": 2}},
    },
}  # fmt: skip


def message(**columns: Any) -> bytes:
    changed = {name: value for name, value in {**MESSAGE["columns"], **columns}.items() if value is not ...}
    return orjson.dumps({**MESSAGE, "columns": changed})


def table(n: int = 3, first: int = 0) -> ReadingTable:
    end = np.full(n, T0, dtype=np.int64)
    return ReadingTable(
        source=Coded.same("loops", n),
        sensor=Coded.of([f"L{k % 2 + 1}" for k in range(n)]),
        to_sensor=Coded.same(None, n),
        direction=Coded.same(None, n),
        mode=Coded.of([None, *["car"] * (n - 1)]),
        start_ms=end - 60_000 - np.arange(n),
        end_ms=end,
        received_ms=end + 900,
        numbers={"count": np.arange(float(n))},
        simulated=np.ones(n, dtype=np.bool_),
        event_id=Texts.of([f"e{first + k}" for k in range(n)]),
    )


def events(read: ReadingTable) -> list[dict[str, Any]]:
    return [read.event(k) for k in range(read.n_rows)]


def test_columnar_json_says_what_two_events_say() -> None:
    both = {
        "source": "loops", "start": "2023-11-14T22:19:00Z", "end": "2023-11-14T22:20:00Z", "speed_kmh": 30.5,
    }  # fmt: skip
    assert events(decode_readings(message(), f"{COLUMNS}; charset=utf-8")) == [
        {**both, "sensor": "L1", "id": "a", "mode": "car", "count": 1, "simulated": True,
         "received": "2023-11-14T22:20:00.900+00:00"},
        {**both, "sensor": "L2", "id": "b", "received": "2023-11-14T22:20:00.001+00:00", "lane": 2},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"sensor": ...}, "columns.sensor: is missing"),
        ({"end_ms": ...}, "columns.end_ms: is missing"),
        ({"flow": [1, 2]}, "columns.flow: is unknown"),
        ({"count": [1]}, "columns.count: got 1 values, expected 2"),
        ({"count": [1, "2"]}, r"columns.count\[1\]: got '2', expected numbers or null"),
        ({"count": [True, 2]}, r"columns.count\[0\]: got True"),
        ({"count": "many"}, r"columns.count\[0\]: got 'many'"),
        ({"end_ms": [T0, T0 + 0.5]}, r"columns.end_ms\[1\]: got 1700000400000.5, expected ms"),
        ({"end_ms": [False, T0]}, r"columns.end_ms\[0\]: got False"),
        ({"end_ms": ["2023-11-14T22:20:00Z"] * 2}, r"columns.end_ms\[0\]: got '2023"),
        ({"end_ms": [2**63, 1]}, "columns.end_ms: got a number out of range"),
        ({"id": [1, 2]}, r"columns.id\[0\]: got 1, expected text"),
        ({"sensor": ["L1", 2]}, r"columns.sensor\[1\]: got 2, expected text"),
        ({"sensor": 7}, r"columns.sensor\[0\]: got 7"),
        ({"mode": {"names": ["car"], "at": [0, 1]}}, "columns.mode.at: got a place out of range"),
        ({"mode": {"names": ["car"], "at": [-1, 0]}}, "columns.mode.at: got a place out of range"),
        ({"mode": {"names": ["car"], "at": [None, -1]}}, "columns.mode.at: got a place out of range"),
        ({"mode": {"names": ["car"], "at": ["0", 0]}}, r"columns.mode.at\[0\]: got '0'"),
        ({"mode": {"names": [None], "at": [0, 0]}}, r"columns.mode.names\[0\]: got None"),
        ({"simulated": [1, 0]}, r"columns.simulated\[0\]: got 1, expected true or false"),
        ({"simulated": "yes"}, r"columns.simulated\[0\]: got 'yes'"),
        ({"extra": {"2": {}}}, "columns.extra: got row '2', expected a number below 2"),
        ({"extra": {"0": {"count": 3}}}, "columns.extra.0: got the key 'count'"),
        ({"extra": {"0": 3}}, "columns.extra.0"),
    ],
)  # fmt: skip
def test_a_column_that_does_not_fit_is_named(columns: dict[str, Any], told: str) -> None:
    with pytest.raises(CodecError, match=told):
        decode_readings(message(**columns))


@pytest.mark.parametrize(
    ("change", "told"),
    [({"version": 2}, "version: got 2, expected 1"), ({"topic": "fields"}, "topic: got 'fields'"),
     ({"rows": -1}, "rows: got -1"), ({"rows": 10**9}, "rows"), ({"rows": True}, "rows"), ({"columns": []}, "columns")],
)  # fmt: skip
def test_a_message_that_does_not_fit_is_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(CodecError, match=told):
        decode_readings(orjson.dumps({**MESSAGE, **change}))


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff"])
def test_what_is_no_message_is_refused(raw: bytes) -> None:
    with pytest.raises(CodecError, match="message"):
        decode_readings(raw)


def test_a_missing_time_is_the_rows_fault_not_the_messages() -> None:
    buffer = StepBuffer({"L1": "loops", "L2": "loops"})
    buffer.add_message(message(end_ms=[None, T0]), COLUMNS, T0)
    (letter,) = buffer.take_letters()
    assert (letter.field, letter.source) == ("end", "loops")
    assert letter.reason == "got None, expected an ISO 8601 time with an offset"
    assert orjson.loads(letter.raw)["id"] == "a"
    assert buffer.intake.accepted == 1


def test_a_single_event_is_a_table_of_one_row() -> None:
    event = events(table())[1]
    assert events(decode_readings(orjson.dumps(event), EVENT)) == [event]
    with pytest.raises(RejectedError, match="sensor"):
        decode_readings(orjson.dumps({**event, "sensor": 3}), EVENT)


def test_an_unknown_content_type_is_refused_with_the_known_ones() -> None:
    for use in (lambda: decode_readings(b"", "text/csv"), lambda: encode_readings(table(), "text/csv")):
        with pytest.raises(CodecError, match="got 'text/csv', expected"):
            use()


def test_messages_read_together_say_what_they_say_one_by_one() -> None:
    pytest.importorskip("pyarrow")
    given = [
        (encode_readings(table(3, 0), ARROW), ARROW),
        (encode_readings(table(8, 10), ARROW), ARROW),  # L1 and L2 of 8 are a dictionary, of 3 they are not
        (b"{", COLUMNS),
        (message(), COLUMNS),
        (encode_readings(table(4, 20), ARROW)[:-200], ARROW),
        (encode_readings(table(8, 30), ARROW), ARROW),
        (encode_readings(table(9, 40), ARROW), ARROW),
        (orjson.dumps(events(table())[0]), EVENT),
    ]
    together = decode_together(given)
    assert together.n_rows.tolist() == [3, 8, 0, 2, 0, 8, 9, 1]
    assert sorted(together.refused) == [2, 4]
    assert len(together.tables) == 5
    one_by_one = [events(decode_readings(*given[k])) for k in (0, 1, 3, 5, 6, 7)]
    assert [e for t in together.tables for e in events(t)] == [e for read in one_by_one for e in read]


def test_a_message_that_cannot_be_read_becomes_a_dead_letter_and_the_others_are_taken() -> None:
    buffer = StepBuffer({"L1": "loops", "L2": "loops"})
    buffer.add_message(encode_readings(table()), COLUMNS, T0)
    buffer.add_message(message(count=["x", 1]), COLUMNS, T0)
    buffer.add_message(message(id=["y", "z"]), COLUMNS, T0 + 10_000_000)  # more than two hours old by then
    letters = buffer.take_letters()
    assert buffer.intake.accepted == 3
    assert [letter.reason[:24] for letter in letters] == [
        "columns.count[0]: got 'x",
        *["got 2023-11-14T22:20:00Z"] * 2,
    ]
    assert letters[0].raw.startswith('{"version":1')


def arrow(change: Callable[[Any, dict[str, Any]], None], metadata: dict[str, str] | None = None) -> bytes:
    """Message of two rows whose columns were changed."""
    pa = pytest.importorskip("pyarrow")
    columns = {
        "source": pa.array(["loops", "loops"]), "sensor": pa.array(["L1", "L2"]).dictionary_encode(),
        "id": pa.array(["a", "b"]), "start_ms": pa.array([T0 - 60_000] * 2), "end_ms": pa.array([T0, T0]),
        "received_ms": pa.array([T0, T0]), "count": pa.array([1.0, None]),
    }  # fmt: skip
    change(pa, columns)
    batch = pa.record_batch(columns).replace_schema_metadata(metadata or {"twinroom.version": "1"})
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(out.getvalue().to_pybytes())


def no_change(_pa: Any, _columns: dict[str, Any]) -> None:
    """Columns as they are."""


def test_arrow_of_others_is_read() -> None:
    def with_nulls(pa: Any, c: dict[str, Any]) -> None:
        c["mode"] = pa.array([None, "car"]).dictionary_encode()
        c["direction"] = pa.array([None, "forward"])
        c["end_ms"] = pa.array([None, T0])
        c["simulated"] = pa.array([None, True])
        c["extra"] = pa.array([None, '{"lane":1}'])

    first, second = events(decode_readings(arrow(with_nulls), ARROW))
    assert first.keys() == {"source", "sensor", "id", "start", "received", "count"}
    assert second.keys() == {*first.keys(), "mode", "direction", "end", "simulated", "lane"} - {"count"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda _, c: c.pop("sensor"), "columns.sensor: is missing"),
        (lambda pa, c: c.update(flow=pa.array([1, 2])), "columns.flow: is unknown"),
        (lambda pa, c: c.update(count=pa.array([1, 2])), "columns.count: got int64, expected double"),
        (lambda pa, c: c.update(end_ms=pa.array([1.0, 2])), "columns.end_ms: got double, expected int64"),
        (lambda pa, c: c.update(id=pa.array([1, 2])), "columns.id: got int64, expected string"),
        (
            lambda pa, c: c.update(source=pa.array([1, 2])),
            "columns.source: got int64, expected string or dict",
        ),
        (lambda pa, c: c.update(extra=pa.array(["{", None])), "columns.extra.0: not valid JSON"),
    ],
)
def test_an_arrow_column_that_does_not_fit_is_named(change: Callable[[Any, Any], None], told: str) -> None:
    with pytest.raises(CodecError, match=told):
        decode_readings(arrow(change), ARROW)


def test_an_arrow_message_of_another_version_or_broken_off_is_refused() -> None:
    with pytest.raises(CodecError, match=r"version: got b'2' in twinroom.version, expected 1"):
        decode_readings(arrow(no_change, {"twinroom.version": "2"}), ARROW)
    whole = arrow(no_change)
    assert decode_readings(whole, ARROW).n_rows == 2
    for raw in (b"", b"x" * 100, whole[:300], whole[:-150]):
        with pytest.raises(CodecError, match=r"message|version"):
            decode_readings(raw, ARROW)


def test_arrow_offsets_and_places_beyond_the_data_are_refused() -> None:
    pa = pytest.importorskip("pyarrow")
    offsets = np.array([[0, 5, 10], [0, 5, 10_000_000], [0, -5, 10]], dtype="<i4")  # of loops, loops
    whole = arrow(no_change)
    assert whole.count(offsets[0].tobytes()) == 1
    places = pa.DictionaryArray.from_arrays(pa.array([0, 99], pa.int32()), pa.array(["L1"]), safe=False)
    for raw in (
        *(whole.replace(offsets[0].tobytes(), wrong.tobytes()) for wrong in offsets[1:]),
        arrow(lambda _, c: c.update(sensor=places)),
    ):
        with pytest.raises(CodecError, match="not a valid Arrow stream"):
            decode_readings(raw, ARROW)
