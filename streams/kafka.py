"""The topics of a cluster in Kafka: made, checked, and waited for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from streams.cluster import Cluster, ClusterError
from streams.topics import Topic

COMPACTED = frozenset((Topic.EMISSIONS, Topic.FIELDS))
MAX_MESSAGE_BYTES = 4_000_000  # a tile of 128 x 128 receptors is 33 kB, a batch of readings 100 kB
_EXISTS = 36
_SEEN_WITHIN_S = (0.1, 0.2, 0.5, 1.0, 2.0)
_RETRY_S = (0.5, 1.0, 2.0, 5.0)

log = logging.getLogger("twinroom.kafka")


class _Cause(logging.Handler):
    """Remembers what aiokafka logs and does not raise: why a connection was refused."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()


def topic_settings(cluster: Cluster, topic: Topic) -> dict[str, str]:
    """Settings of a topic in Kafka.

    What is compacted keeps the latest of each entity for good; all else, and the inputs above all, is kept
    for ``retention_hours``, which must cover the oldest snapshot in use.
    """
    hours_ms = str(round(cluster.kafka.retention_hours * 3_600_000))
    settings = {"max.message.bytes": str(MAX_MESSAGE_BYTES)}
    if topic in COMPACTED:
        return settings | {"cleanup.policy": "compact", "min.compaction.lag.ms": hours_ms}
    return settings | {"cleanup.policy": "delete", "retention.ms": hours_ms}


@asynccontextmanager
async def admin_of(cluster: Cluster) -> AsyncIterator[AIOKafkaAdminClient]:
    """Client for topics.

    Raises
    ------
    ClusterError
        When Kafka does not answer or refuses, with the cause.
    """
    admin = AIOKafkaAdminClient(**cluster.kafka.client_options(), request_timeout_ms=10_000)
    cause = _Cause()
    logger = logging.getLogger("aiokafka")
    logger.addHandler(cause)
    try:
        await admin.start()
    except (KafkaError, OSError) as error:
        await admin.close()
        told = f"{error}; {cause.text}" if cause.text else str(error)
        raise ClusterError(f"Kafka at {', '.join(cluster.kafka.bootstrap)}: {told}") from error
    finally:
        logger.removeHandler(cause)
    try:
        yield admin
    finally:
        await admin.close()


async def make_topics(cluster: Cluster) -> list[str]:
    """Make the topics that are missing; names of those made.

    Raises
    ------
    ClusterError
        When Kafka refuses, or a topic has another number of partitions than there are regions.
    """
    async with admin_of(cluster) as admin:
        made = []
        for topic in Topic:
            name = cluster.topic(topic)
            wanted = NewTopic(
                name,
                len(cluster.regions),
                cluster.kafka.replication,
                topic_configs=topic_settings(cluster, topic),
            )
            answer = await admin.create_topics([wanted])
            _, code, *message = answer.topic_errors[0]
            if code not in (0, _EXISTS):
                raise ClusterError(f"topic {name}: Kafka refused it with code {code}: {message[:1]}")
            made += [name] if code == 0 else []
        for wait_s in (*_SEEN_WITHIN_S, None):  # the metadata of a new topic takes a moment to get round
            try:
                await _check(cluster, admin, tuple(Topic))
                break
            except ClusterError:
                if wait_s is None or not made:
                    raise
                await asyncio.sleep(wait_s)
        return made


async def check_topics(cluster: Cluster, topics: tuple[Topic, ...]) -> None:
    """Raise :class:`ClusterError` where a topic is missing or has another number of partitions."""
    async with admin_of(cluster) as admin:
        await _check(cluster, admin, topics)


async def _check(cluster: Cluster, admin: AIOKafkaAdminClient, topics: tuple[Topic, ...]) -> None:
    names = [cluster.topic(topic) for topic in topics]
    n_regions = len(cluster.regions)
    for told in await admin.describe_topics(names):
        name, n_partitions = told["topic"], len(told["partitions"])
        if told["error_code"] != 0 or n_partitions == 0:
            raise ClusterError(
                f"topic {name}: is not there or may not be read (code {told['error_code']}); "
                "make the topics with `twinroom cluster topics`"
            )
        if n_partitions != n_regions:
            raise ClusterError(
                f"topic {name}: has {n_partitions} partitions, {cluster.source} lists {n_regions} regions; "
                "a region is a partition: append regions and make the topics anew, or mend the list"
            )


async def when_ready(check: Callable[[], Any], what: str) -> None:
    """Repeat a check until it passes; its reason is told each time that it changes."""
    told, tried = "", 0
    while True:
        try:
            await check()
        except ClusterError as error:
            if str(error) != told:
                told = str(error)
                log.warning("%s; trying again", told)
            await asyncio.sleep(_RETRY_S[min(tried, len(_RETRY_S) - 1)])
            tried += 1
            continue
        if told:
            log.info("%s is ready", what)
        return


def new_producer(cluster: Cluster, **options: Any) -> AIOKafkaProducer:
    """Producer that loses nothing: all replicas confirm, repeats are dropped by the broker."""
    return AIOKafkaProducer(
        **cluster.kafka.client_options(),
        acks="all",
        enable_idempotence=True,
        max_request_size=MAX_MESSAGE_BYTES,
        request_timeout_ms=10_000,
        **options,
    )


async def ends_of(cluster: Cluster, topics: tuple[Topic, ...]) -> Mapping[tuple[Topic, int], tuple[int, int]]:
    """First and next offset of each partition."""
    consumer = AIOKafkaConsumer(**cluster.kafka.client_options(), request_timeout_ms=10_000)
    await consumer.start()
    try:
        partitions = {
            TopicPartition(cluster.topic(topic), p): (topic, p)
            for topic in topics
            for p in range(len(cluster.regions))
        }
        first = await consumer.beginning_offsets(list(partitions))
        last = await consumer.end_offsets(list(partitions))
        return {place: (first[tp], last[tp]) for tp, place in partitions.items()}
    finally:
        await consumer.stop()
