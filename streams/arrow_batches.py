"""Batches as Arrow IPC streams: one record batch, what holds for all rows in the schema's metadata."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from streams.codec import CodecError
from streams.topics import VERSION, Batch, Topic

_BATCH = b"twinroom"


def encode_arrow(batch: Batch) -> bytes:
    """A batch as one Arrow IPC stream; columns of objects must hold texts."""
    about = {
        "version": VERSION,
        "topic": batch.topic.value,
        "key": batch.key,
        "time_ms": batch.time_ms,
        "revision": batch.revision,
        "attributes": dict(batch.attributes),
        "dtypes": {name: column.dtype.str for name, column in batch.columns.items()},
    }
    arrays = {
        name: pa.array(column, pa.string()) if column.dtype.kind in "OU" else pa.array(column)
        for name, column in batch.columns.items()
    }
    schema = pa.schema(
        [(name, array.type) for name, array in arrays.items()],
        metadata={_BATCH: orjson.dumps(about, option=orjson.OPT_SERIALIZE_NUMPY)},
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.record_batch(list(arrays.values()), schema=schema))
    return bytes(sink.getvalue())


def decode_arrow(raw: bytes) -> Batch:
    """Batch from an Arrow IPC stream.

    Raises
    ------
    CodecError
        When it is none, or was made by another version; names the field.
    """
    try:
        with pa.ipc.open_stream(raw) as reader:
            table = reader.read_all()
        about: dict[str, Any] = orjson.loads((table.schema.metadata or {})[_BATCH])
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise CodecError(f"message: not an Arrow stream of a batch: {error}") from error
    if about.get("version") != VERSION:
        raise CodecError(f"version: got {about.get('version')!r}, expected {VERSION}")
    try:
        topic = Topic(str(about["topic"]))
        columns = {}
        for name, dtype in about["dtypes"].items():
            values = table.column(name).to_numpy(zero_copy_only=False)
            columns[name] = np.ascontiguousarray(values, dtype=np.dtype(dtype))
        return Batch(
            topic=topic,
            key=str(about["key"]),
            time_ms=int(about["time_ms"]),
            columns=columns,
            revision=int(about["revision"]),
            attributes=about["attributes"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CodecError(f"message: {error!r} is missing or of the wrong type") from error
