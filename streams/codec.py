"""Batches as JSON, and agents' states as bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np
import orjson
from numpy.typing import NDArray

from streams.topics import VERSION, Batch, Topic


class CodecError(ValueError):
    """A message that cannot be read; the message names the field."""


def encode_batch(batch: Batch) -> bytes:
    """Columnar JSON; NaN becomes null. Observations travel as recordings do, not as this."""
    message = {
        "version": VERSION,
        "topic": batch.topic.value,
        "key": batch.key,
        "time_ms": batch.time_ms,
        "revision": batch.revision,
        "attributes": dict(batch.attributes),
        "columns": {
            name: {"dtype": column.dtype.str, "values": _values(column)}
            for name, column in batch.columns.items()
        },
    }
    return orjson.dumps(message, option=orjson.OPT_SERIALIZE_NUMPY)


def decode_batch(raw: bytes) -> Batch:
    """Batch from columnar JSON.

    Raises
    ------
    CodecError
        For malformed JSON, an unknown version or topic, or columns of unequal length.
    """
    try:
        message = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise CodecError(f"message: not valid JSON: {error}") from error
    if not isinstance(message, dict):
        raise CodecError(f"message: expected an object, got {type(message).__name__}")
    if message.get("version") != VERSION:
        raise CodecError(f"version: got {message.get('version')!r}, expected {VERSION}")
    try:
        topic = Topic(str(message.get("topic")))
    except ValueError:
        known = ", ".join(t.value for t in Topic)
        raise CodecError(f"topic: got {message.get('topic')!r}, expected one of {known}") from None
    try:
        columns = {name: _column(name, c) for name, c in message["columns"].items()}
        batch = Batch(
            topic=topic,
            key=str(message["key"]),
            time_ms=int(message["time_ms"]),
            columns=columns,
            revision=int(message["revision"]),
            attributes=message["attributes"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise CodecError(f"message: {error!r} is missing or of the wrong type") from error
    if len({len(column) for column in columns.values()}) > 1:
        raise CodecError(f"columns: expected equal lengths, got { {k: len(v) for k, v in columns.items()} }")
    return batch


def _values(column: NDArray[Any]) -> Any:
    return column.tolist() if column.dtype == object else np.ascontiguousarray(column)


def _column(name: str, column: Mapping[str, Any]) -> NDArray[Any]:
    dtype = np.dtype(column["dtype"])
    try:
        if dtype.kind == "f":
            return np.array([np.nan if v is None else v for v in column["values"]], dtype=dtype)
        return np.array(column["values"], dtype=dtype)
    except (ValueError, OverflowError) as error:
        raise CodecError(f"columns.{name}: {error}") from error


_ARRAY, _TUPLE = 1, 2


def pack_state(state: Mapping[str, Any]) -> bytes:
    """State of an agent to bytes: plain values, tuples, numpy arrays."""
    packed = msgpack.packb(state, default=_pack_special, strict_types=True)
    assert isinstance(packed, bytes)
    return packed


def unpack_state(raw: bytes) -> dict[str, Any]:
    """State that :func:`pack_state` packed."""
    state: dict[str, Any] = msgpack.unpackb(raw, ext_hook=_unpack_special, strict_map_key=False)
    return state


def _pack_special(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        head = (value.dtype.str, list(value.shape))
        return msgpack.ExtType(_ARRAY, msgpack.packb((*head, np.ascontiguousarray(value).tobytes())))
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple):
        return msgpack.ExtType(_TUPLE, msgpack.packb(list(value), default=_pack_special, strict_types=True))
    if isinstance(value, str):  # of an enum
        return str(value.encode(), "utf-8")
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"state: cannot pack a value of type {type(value).__name__}")


def _unpack_special(code: int, raw: bytes) -> Any:
    values = msgpack.unpackb(raw, ext_hook=_unpack_special, strict_map_key=False)
    if code == _ARRAY:
        return np.frombuffer(values[2], dtype=np.dtype(values[0])).reshape(values[1]).copy()
    if code == _TUPLE:
        return tuple(values)
    raise CodecError(f"state: unknown extension {code}")
