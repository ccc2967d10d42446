"""What a cluster has published, as one number that can be compared with that of a replay."""

from __future__ import annotations

from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.cluster import Cluster
from streams.digest import Entry, batch_entry, run_digest
from streams.kafka import ends_of
from streams.messages import Message, Output, read_message
from streams.topics import Topic

PUBLISHED = tuple(topic for topic in Topic if topic is not Topic.OBSERVATIONS)


@dataclass(frozen=True, slots=True)
class Published:
    """What lies in the log of a region.

    Attributes
    ----------
    digest : str
        As in the report of a replay (:func:`streams.digest.run_digest`).
    n_batches, n_repeats : int
        Different batches, and those that were sent again with the same content.
    contradictions : tuple of str
        Batches that were published twice with different content; there must be none.
    backwards : tuple of str
        Entities whose (time, revision) fell from one record to the next, other than by a late reading or in
        a repeat of what was sent before; there must be none.
    """

    digest: str
    n_batches: int
    n_repeats: int
    contradictions: tuple[str, ...]
    backwards: tuple[str, ...]


async def published_of(cluster: Cluster, region: str) -> Published:
    """Read all output topics of a region from the beginning."""
    partition = cluster.partition_of(region)
    ends = await ends_of(cluster, PUBLISHED)
    left = {
        TopicPartition(cluster.topic(topic), partition): ends[topic, partition][1]
        for topic in PUBLISHED
        if ends[topic, partition][0] < ends[topic, partition][1]
    }
    found = _Found()
    if left:
        consumer = AIOKafkaConsumer(
            **cluster.kafka.client_options(), enable_auto_commit=False, isolation_level="read_committed"
        )
        await consumer.start()
        try:
            consumer.assign(list(left))
            await consumer.seek_to_beginning(*left)
            while left:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    for record in records:
                        found.add(read_message(record.value, record.headers))
                for tp in [tp for tp, last in left.items() if await consumer.position(tp) >= last]:
                    del left[tp]
        finally:
            await consumer.stop()
    return Published(
        run_digest(found.entries.values()),
        len(found.entries),
        found.n_repeats,
        tuple(found.contradictions),
        tuple(found.backwards),
    )


class _Found:
    """Entries of the batches read so far, in the order of their partitions."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str, int, int], Entry] = {}
        self.n_repeats = 0
        self.contradictions: list[str] = []
        self.backwards: list[str] = []
        self._newest: dict[tuple[str, str], tuple[int, int]] = {}

    def add(self, message: Message) -> None:
        if not isinstance(message, Output):
            return
        entry = batch_entry(message.batch)
        shown = f"{entry[0]} {entry[1]} at {entry[2]}, revision {entry[3]}"
        known = self.entries.get(entry[:4])
        if known is not None:
            self.n_repeats += 1
            self.contradictions += [] if known == entry else [shown]
            return
        self.entries[entry[:4]] = entry
        order, before = (entry[2], entry[3]), self._newest.get(entry[:2], (0, 0))
        if order < before and entry[3] == 0:
            self.backwards.append(shown)
        self._newest[entry[:2]] = max(order, before)
