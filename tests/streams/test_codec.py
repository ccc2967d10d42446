"""Batches and states survive their wire forms."""

from __future__ import annotations

import numpy as np
import orjson
import pytest

from streams.codec import CodecError, decode_batch, encode_batch, pack_state, unpack_state
from streams.digest import batch_entry, run_digest
from streams.topics import Batch, Topic


def batch(value: float = 1.5) -> Batch:
    columns = {
        "segment": np.arange(3, dtype=np.int32),
        "flow_per_h": np.array([value, np.nan, -0.0], dtype=np.float32),
        "name": np.array(["a", "<script>", "ü"], dtype=object),
    }
    return Batch(Topic.DENSITIES, "t0", 60_000, columns, revision=2, attributes={"minutes": 1})


def test_a_batch_survives_json() -> None:
    back = decode_batch(encode_batch(batch()))
    assert (back.topic, back.key, back.time_ms, back.revision) == (Topic.DENSITIES, "t0", 60_000, 2)
    for name, column in batch().columns.items():
        np.testing.assert_array_equal(back.columns[name], column)
        assert back.columns[name].dtype == column.dtype
    assert batch_entry(back) == batch_entry(batch())


@pytest.mark.parametrize(
    ("change", "named"),
    [({"version": 9}, "version"), ({"topic": "rumours"}, "topic"), ({"key": ...}, "key"),
     ({"columns": {"a": {"dtype": "<i4", "values": ["x"]}}}, "columns.a"),
     ({"columns": {"a": {"dtype": "<i4", "values": [1]}, "b": {"dtype": "<i4", "values": []}}}, "equal lengths")],
)  # fmt: skip
def test_a_message_that_does_not_fit_is_refused_by_name(change: dict[str, object], named: str) -> None:
    message = {**orjson.loads(encode_batch(batch())), **change}
    message = {key: value for key, value in message.items() if value is not ...}
    with pytest.raises(CodecError, match=named):
        decode_batch(orjson.dumps(message))


def test_the_digest_knows_one_changed_value_and_no_order() -> None:
    entries = [batch_entry(batch(v)) for v in (1.5, 2.5)]
    assert run_digest(entries) == run_digest(entries[::-1])
    assert batch_entry(batch(1.5)) != batch_entry(batch(1.6))


def test_a_state_survives_packing() -> None:
    state = {"flows": np.arange(6.0).reshape(2, 3), "key": (1, "a"), 3: {"nested": [True, None, 2**62]}}
    back = unpack_state(pack_state(state))
    np.testing.assert_array_equal(back.pop("flows"), state.pop("flows"))  # type: ignore[arg-type]
    assert back == state


def test_what_cannot_be_packed_is_refused() -> None:
    with pytest.raises(TypeError, match="object"):
        pack_state({"x": object()})
