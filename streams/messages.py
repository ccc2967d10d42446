"""Messages of the log: what a Kafka record holds, told by CloudEvents headers in binary mode.

A record is a batch of rows, the tick of a source's clock, or the mark with which an agent ends a step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from streams.arrow_batches import decode_arrow, encode_arrow
from streams.codec import CodecError, decode_batch, encode_batch
from streams.topics import VERSION, Batch, Topic
from streams.wire import ARROW, COLUMNS, EVENT

JSON = EVENT
# As Arrow; the rest is small and goes as JSON, open to all.
BULK = frozenset((Topic.OBSERVATIONS, Topic.DENSITIES, Topic.EMISSIONS, Topic.FIELDS))


@dataclass(frozen=True, slots=True)
class Tick:
    """The source's clock: all that it received before ``time_ms`` stands before this in the partition."""

    time_ms: int


@dataclass(frozen=True, slots=True)
class Mark:
    """An agent has published all of the step that ends at ``time_ms`` in this topic."""

    topic: Topic
    agent: str
    time_ms: int


@dataclass(frozen=True, slots=True)
class Output:
    """A batch, and which agent made it."""

    agent: str
    batch: Batch


@dataclass(frozen=True, slots=True)
class Rows:
    """Readings as they came, not yet looked at: an event as JSON, or columns (:mod:`streams.wire`)."""

    content_type: str
    raw: bytes


Message = Tick | Mark | Output | Rows


@dataclass(frozen=True, slots=True)
class Record:
    """What is sent: key, value and headers of a Kafka record."""

    topic: Topic
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


def rows_record(raw: bytes, content_type: str, region: str, number: int, source: str) -> Record:
    """Readings; ``number`` counts the messages of a source and makes their identifier."""
    headers = _headers("rows", f"{source}/{number}", f"/{region}/{source}", content_type)
    return Record(Topic.OBSERVATIONS, source.encode(), raw, headers)


def tick_record(time_ms: int, region: str, source: str) -> Record:
    """Tick of a source's clock."""
    value = orjson.dumps({"version": VERSION, "time_ms": time_ms})
    headers = _headers("clock", f"{source}/{time_ms}", f"/{region}/{source}", JSON)
    return Record(Topic.OBSERVATIONS, b"clock", value, headers)


def output_record(output: Output, region: str) -> Record:
    """A batch of an agent; its key is the entity alone, so that compaction keeps the latest of each."""
    batch = output.batch
    identifier = f"{batch.topic}/{batch.key}/{batch.time_ms}/{batch.revision}"
    is_bulk = batch.topic in BULK
    headers = _headers("batch", identifier, f"/{region}/{output.agent}", ARROW if is_bulk else JSON)
    value = encode_arrow(batch) if is_bulk else encode_batch(batch)
    return Record(batch.topic, batch.key.encode(), value, headers)


def mark_record(mark: Mark, region: str) -> Record:
    """End of a step of an agent in one topic."""
    told = {"version": VERSION, "topic": mark.topic, "agent": mark.agent, "time_ms": mark.time_ms}
    headers = _headers("step", f"{mark.topic}/{mark.agent}/{mark.time_ms}", f"/{region}/{mark.agent}", JSON)
    return Record(mark.topic, f"step/{mark.agent}".encode(), orjson.dumps(told), headers)


def read_message(value: bytes | None, headers: Iterable[tuple[str, bytes]] | None) -> Message:
    """What a record holds.

    Raises
    ------
    CodecError
        For a type or version that is not known here, or content that cannot be read; names the field.
    """
    told = dict(headers or ())
    kind = told.get("ce_type", b"").decode("utf-8", "replace")
    content_type = told.get("content-type", b"").decode("utf-8", "replace")
    if value is None:
        raise CodecError("value: is empty")
    if kind == _kind("rows"):
        if content_type not in (EVENT, COLUMNS, ARROW):
            raise CodecError(
                f"content-type: got {content_type!r}, expected one of {EVENT}, {COLUMNS}, {ARROW}"
            )
        return Rows(content_type, value)
    if kind == _kind("clock"):
        return Tick(_whole(_object(value), "time_ms"))
    if kind == _kind("step"):
        step = _object(value)
        return Mark(_topic(step), str(step.get("agent")), _whole(step, "time_ms"))
    if kind == _kind("batch"):
        agent = told.get("ce_source", b"").decode("utf-8", "replace").rpartition("/")[2]
        return Output(agent, decode_arrow(value) if content_type == ARROW else decode_batch(value))
    known = ", ".join(_kind(k) for k in ("rows", "clock", "batch", "step"))
    raise CodecError(f"ce_type: got {kind!r}, expected one of {known}")


def _kind(name: str) -> str:
    return f"org.twinroom.{name}.v{VERSION}"


def _headers(kind: str, identifier: str, source: str, content_type: str) -> tuple[tuple[str, bytes], ...]:
    return (
        ("ce_specversion", b"1.0"),
        ("ce_type", _kind(kind).encode()),
        ("ce_id", identifier.encode()),
        ("ce_source", source.encode()),
        ("content-type", content_type.encode()),
    )


def _object(value: bytes) -> Mapping[str, Any]:
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise CodecError(f"value: not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise CodecError(f"value: expected an object, got {type(found).__name__}")
    if found.get("version") != VERSION:
        raise CodecError(f"version: got {found.get('version')!r}, expected {VERSION}")
    return found


def _topic(found: Mapping[str, Any]) -> Topic:
    try:
        return Topic(str(found.get("topic")))
    except ValueError:
        known = ", ".join(t.value for t in Topic)
        raise CodecError(f"topic: got {found.get('topic')!r}, expected one of {known}") from None


def _whole(found: Mapping[str, Any], name: str) -> int:
    number = found.get(name)
    if isinstance(number, bool) or not isinstance(number, int):
        raise CodecError(f"{name}: got {number!r}, expected whole milliseconds since the epoch")
    return number
