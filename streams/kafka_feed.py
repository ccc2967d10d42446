"""A recording played into the log of a region, as a gateway of real feeds would write it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator

from streams.cluster import Cluster
from streams.kafka import new_producer
from streams.messages import Record, rows_record, tick_record
from streams.observation import Observation
from streams.readings import ReadingTable
from streams.recording import ClockRow, Recording
from streams.topics import Topic
from streams.wire import ARROW, EVENT, encode_readings


async def play_into(
    cluster: Cluster, region: str, recording: Recording, *, speed: float = math.inf, batch_rows: int = 500
) -> int:
    """Send a recording; returns the number of messages.

    It may be sent again after an interruption: rows and ticks that came before change nothing.

    Parameters
    ----------
    speed : float
        Event seconds for each second; infinity is as fast as it goes.
    batch_rows : int
        Readings of a message, at most.

    Raises
    ------
    streams.cluster.ClusterError
        For a region that the cluster does not have.
    aiokafka.errors.KafkaError
        When Kafka refuses.
    """
    topic, partition = cluster.topic(Topic.OBSERVATIONS), cluster.partition_of(region)
    producer = new_producer(cluster, linger_ms=20)
    await producer.start()
    try:
        sent = 0
        waiting: list[asyncio.Future[object]] = []
        async for record in paced(records_of(recording, region, batch_rows), speed):
            waiting.append(
                await producer.send(
                    topic,
                    value=record.value,
                    key=record.key,
                    partition=partition,
                    headers=list(record.headers),
                )
            )
            sent += 1
            if len(waiting) >= 1000:
                await asyncio.gather(*waiting)
                waiting = []
        await asyncio.gather(*waiting)
        return sent
    finally:
        await producer.stop()


def records_of(recording: Recording, region: str, batch_rows: int) -> list[tuple[int, Record]]:
    """Records of a recording, each with the time of its own or the last tick [ms]; 0 before the first."""
    found: list[tuple[int, Record]] = []
    rows: list[Observation] = []
    clock_ms = number = 0

    def send(raw: bytes, content_type: str) -> None:
        nonlocal number
        found.append((clock_ms, rows_record(raw, content_type, region, number, recording.content_hash)))
        number += 1

    def flush() -> None:
        nonlocal rows
        if rows:
            send(encode_readings(ReadingTable.of(rows), ARROW), ARROW)
            rows = []

    for offset, item in recording.items():
        if isinstance(item, ClockRow):
            flush()
            clock_ms = item.time_ms
            found.append((clock_ms, tick_record(clock_ms, region, recording.content_hash)))
        elif isinstance(item, Observation):
            rows.append(item)
            if len(rows) >= batch_rows:
                flush()
        elif offset <= len(recording.lines):  # a line that cannot be read: the workers tell why
            flush()
            send(recording.lines[offset - 1], EVENT)
    flush()
    return found


async def paced(records: list[tuple[int, Record]], speed: float) -> AsyncIterator[Record]:
    """Records at a multiple of real time, kept at the ticks."""
    loop = asyncio.get_running_loop()
    started, first_ms = loop.time(), 0
    for time_ms, record in records:
        first_ms = first_ms or time_ms
        if math.isfinite(speed):
            due = started + (time_ms - first_ms) / 1000 / speed
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
        yield record
