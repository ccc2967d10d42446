"""Readings are checked at the edge; what is wrong is named."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.network import Mode
from streams.observation import RejectedError, Source, parse_observation

GOOD: dict[str, Any] = {
    "source": "loops", "sensor": "L12", "start": "2022-11-23T05:00:00Z", "end": "2022-11-23T05:05:00Z",
    "received": "2022-11-23T05:05:03Z", "mode": "car", "count": 17, "speed_kmh": 42.1, "simulated": True,
}  # fmt: skip


def parsed(**changes: Any) -> Any:
    event = {key: value for key, value in {**GOOD, **changes}.items() if value is not ...}
    return parse_observation(json.dumps(event).encode())


def test_a_good_reading_is_taken_as_it_is() -> None:
    row = parsed(lane="left")
    assert (row.source, row.sensor, row.mode, row.count, row.speed_kmh) == (
        Source.LOOPS, "L12", Mode.CAR, 17.0, 42.1,
    )  # fmt: skip
    assert row.end_ms - row.start_ms == 300_000
    assert row.simulated
    assert row.extra == {"lane": "left"}


def test_a_missing_number_is_unknown_not_zero() -> None:
    assert math.isnan(parsed(speed_kmh=...).speed_kmh)
    assert math.isnan(parsed(speed_kmh=None).speed_kmh)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"source": "sonar"}, "source"),
        ({"source": 3}, "source"),
        ({"sensor": ""}, "sensor"),
        ({"sensor": 12}, "sensor"),
        ({"start": "yesterday"}, "start"),
        ({"start": "2022-11-23T05:00:00"}, "start"),
        ({"end": "2022-11-23T04:00:00Z"}, "end"),
        ({"end": ...}, "end"),
        ({"end": "2022-11-23T05:00:00Z"}, "end"),
        ({"end": "2022-11-23T06:00:00Z"}, "end"),
        ({"start": "1970-01-01T00:00:00Z", "count": ...}, "start"),
        ({"mode": "hovercraft"}, "mode"),
        ({"mode": "CAR"}, "mode"),
        ({"mode": 4}, "mode"),
        ({"count": -1}, "count"),
        ({"count": "17"}, "count"),
        ({"count": True}, "count"),
        ({"count": 1e9}, "count"),
        ({"speed_kmh": 400}, "speed_kmh"),
        ({"uptime": 1.5}, "uptime"),
        ({"simulated": "yes"}, "simulated"),
        ({"to_sensor": 3}, "to_sensor"),
    ],
)
def test_a_bad_field_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(RejectedError) as refused:
        parsed(**changes)
    assert refused.value.field == field
    assert (
        "expected" in refused.value.reason
        or "received" in refused.value.reason
        or "interval" in str(refused.value)
    )


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"null", b'{"source":"loops","count":NaN}', b"\xff\xfe", b'"' + b"x" * 70_000 + b'"',
     b'{"a":' * 40 + b"1" + b"}" * 40],
)  # fmt: skip
def test_what_is_no_event_is_rejected(raw: bytes) -> None:
    with pytest.raises(RejectedError):
        parse_observation(raw)


@given(st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(list(GOOD)), inner, max_size=6),
    max_leaves=12,
))  # fmt: skip
def test_anything_else_is_rejected_or_taken_but_never_breaks(value: object) -> None:
    try:
        parse_observation(json.dumps(value).encode())
    except RejectedError as refused:
        assert refused.reason


def test_the_same_event_has_the_same_identity_and_another_has_another() -> None:
    assert parsed().event_id == parsed().event_id
    assert parsed().event_id != parsed(count=18).event_id
    assert parsed(id="given").event_id == "given"
