"""What dashboards see of a region: the latest batch of each entity, and the steps as they close.

Both lie in Redis and are written with the snapshot (:mod:`streams.snapshots`). A dashboard takes the latest
of each entity when it starts or has fallen behind, and the steps from then on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgpack

from streams.messages import Mark, Message, Output, Record, read_message
from streams.snapshots import Frame


@dataclass(frozen=True, slots=True)
class Step:
    """What a group of agents published since the one before; ``time_ms`` is the end of its last step."""

    group: str
    time_ms: int
    messages: tuple[Message, ...]


def frame_of(group: str, time_ms: int, published: Sequence[tuple[Output | Mark, Record]]) -> Frame:
    """Frame of what a group published, with the newest batch of each entity as its latest."""
    newest: dict[str, tuple[int, int]] = {}
    latest: dict[str, bytes] = {}
    for output, record in published:
        if isinstance(output, Mark):
            continue
        entity = f"{output.batch.topic}|{output.batch.key}"
        order = (output.batch.time_ms, output.batch.revision)
        if order >= newest.get(entity, (0, 0)):
            newest[entity] = order
            latest[entity] = _packed(record)
    records = [_packed(record) for _, record in published]
    return Frame(latest, msgpack.packb([group, time_ms, records]) if records else b"")


def read_step(raw: bytes) -> Step:
    """Step that :func:`frame_of` packed.

    Raises
    ------
    streams.codec.CodecError
        When it holds a message that cannot be read here.
    """
    group, time_ms, records = msgpack.unpackb(raw)
    return Step(group, time_ms, tuple(read_entity(record) for record in records))


def read_entity(raw: bytes) -> Message:
    """Latest batch of an entity that :func:`frame_of` packed."""
    value, headers = msgpack.unpackb(raw)
    return read_message(value, headers)


def _packed(record: Record) -> bytes:
    packed: bytes = msgpack.packb([record.value, record.headers])
    return packed
