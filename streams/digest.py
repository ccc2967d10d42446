"""One number that says whether two runs published the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import orjson

from streams.topics import Batch

Entry = tuple[str, str, int, int, str]
"""Topic, key, event time, revision, SHA-256 of the rows."""


def batch_entry(batch: Batch) -> Entry:
    """Entry of a batch; its values are rounded to the published decimals already."""
    digest = hashlib.sha256(orjson.dumps(dict(batch.attributes), option=_OPTIONS))
    for name in sorted(batch.columns):
        column = np.asarray(batch.columns[name])
        digest.update(name.encode())
        digest.update(_canonical(column))
    return batch.topic.value, batch.key, batch.time_ms, batch.revision, digest.hexdigest()


def run_digest(entries: Iterable[Entry]) -> str:
    """SHA-256 over the entries, sorted by topic, key, event time and revision."""
    digest = hashlib.sha256()
    for entry in sorted(entries):
        digest.update(orjson.dumps(entry))
    return digest.hexdigest()


_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY


def _canonical(column: np.ndarray[Any, Any]) -> bytes:
    if column.dtype == object or column.dtype.kind == "U":
        return orjson.dumps([str(value) for value in column])
    if column.dtype.kind == "f":
        column = np.where(np.isnan(column), np.nan, column + 0.0)  # one NaN, no negative zero
    return np.ascontiguousarray(column).tobytes()
