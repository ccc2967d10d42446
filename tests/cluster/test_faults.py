"""Bad input and servers that are away: a clear message, a dead letter, and the rest keeps flowing."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from cluster.broker import Broker, started
from cluster.child import free_ports
from cluster.redis_server import RedisServer
from streams.cluster import Cluster, ClusterError, read_cluster
from streams.kafka import make_topics, new_producer
from streams.messages import JSON, Record, rows_record, tick_record
from streams.topics import Topic
from tests.cluster.cast import (
    Gauge,
    WorkerProcess,
    batches_of,
    feed,
    settings_of,
    workers,
    write_settings,
    write_towns,
)
from tests.toy import START

TOWN = ("hamlet",)
MINUTES = 10
END_MS = round((START + timedelta(minutes=MINUTES)).timestamp() * 1000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("faults")
    write_towns(made, TOWN, minutes=MINUTES)
    return made


@pytest.fixture(autouse=True)
def _cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINROOM_CACHE", str(folder / "cache"))


@pytest.fixture
def settings(folder: Path, broker: Broker, redis_server: RedisServer, prefix: str) -> Path:
    return write_settings(folder, prefix.rstrip("-"), TOWN, broker.address, redis_server.url)


async def send(cluster: Cluster, *records: Record) -> None:
    producer = new_producer(cluster)
    await producer.start()
    try:
        for record in records:
            await producer.send_and_wait(
                cluster.topic(record.topic), value=record.value, key=record.key, partition=0,
                headers=list(record.headers),
            )  # fmt: skip
    finally:
        await producer.stop()


async def test_poison_becomes_dead_letters_and_the_rest_keeps_flowing(folder: Path, settings: Path) -> None:
    cluster = settings_of(settings)
    await make_topics(cluster)
    rows = rows_record(b"{}", JSON, "hamlet", 0, "test")
    kind = dict(rows.headers)
    poison = [
        Record(Topic.OBSERVATIONS, b"x", b"\x00\xff not JSON", rows.headers),
        Record(Topic.OBSERVATIONS, b"x", b"[]", tuple({**kind, "content-type": b"text/html"}.items())),
        Record(Topic.OBSERVATIONS, b"x", b"[]", tuple({**kind, "ce_type": b"org.twinroom.rows.v9"}.items())),
        Record(Topic.OBSERVATIONS, b"x", b"no headers at all", ()),
        Record(
            Topic.OBSERVATIONS, b"clock", b'{"version": 1, "time_ms": "noon"}',
            tick_record(0, "hamlet", "test").headers,
        ),
    ]  # fmt: skip
    await send(cluster, *poison)
    with workers(settings, ["w"], free_ports(1)) as (worker,):
        await feed(cluster, folder, speed=1e9)
        async with Gauge(cluster) as gauge:
            await gauge.closed(END_MS, 90.0)
        await asyncio.to_thread(worker.stop)
    letters = await batches_of(cluster, Topic.DEADLETTERS)
    reasons = " ".join(str(reason) for batch in letters for reason in batch.columns["reason"])
    for told in (
        "not valid JSON", "got 'text/html'", "got 'org.twinroom.rows.v9'", "got 'noon', expected whole",
    ):  # fmt: skip
        assert told in reasons, reasons
    assert sum(batch.n_rows for batch in letters) == len(poison)
    assert max(batch.time_ms for batch in await batches_of(cluster, Topic.DENSITIES)) == END_MS


async def test_a_wrong_number_of_partitions_is_told_and_waited_for(settings: Path, broker: Broker) -> None:
    cluster = settings_of(settings)
    topic = NewTopic(cluster.topic(Topic.OBSERVATIONS), 3, 1)
    async with started(AIOKafkaAdminClient(**broker.client())) as admin:
        await admin.create_topics([topic])
    with pytest.raises(ClusterError, match=r"observations: has 3 partitions, .* lists 1 regions"):
        await make_topics(cluster)
    with workers(settings, ["w"], free_ports(1)) as (worker,):
        await told(worker, "has 3 partitions")
        assert worker.child is not None


async def test_a_broker_that_is_down_at_the_start_is_waited_for(
    folder: Path, prefix: str, redis_server: RedisServer
) -> None:
    name = prefix.rstrip("-")
    path = write_settings(folder, name, TOWN, "127.0.0.1:1", redis_server.url)
    with workers(path, ["w"], free_ports(1)) as (worker,):
        await told(worker, "Kafka at 127.0.0.1:1: ")
        assert worker.child is not None
    assert worker.text().count("trying again") == 1  # said once, not each time


async def told(worker: WorkerProcess, text: str) -> None:
    """Wait until a worker's log says something."""
    until = time.monotonic() + 60.0
    while text not in worker.text():
        assert time.monotonic() < until, worker.text()
        await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", r"\[cluster\] name: got None"),
        ('[cluster]\nname = "Köln"\nregions = ["a"]', "small letters, digits and hyphens"),
        ('[cluster]\nname = "a"\nregions = []', "regions: got \\[\\], expected a list"),
        ('[cluster]\nname = "a"\nregions = ["x/b", "y/b"]', "'b' stands there twice"),
        (
            '[cluster]\nname = "a"\nregions = ["b"]\n[redis]\nurl = "redis://me:word@host/0"',
            "holds a password",
        ),
        ('[cluster]\nname = "a"\nregions = ["b"]\nzone = 1', "zone: unknown, expected one of name, regions"),
        (
            '[kafka]\nsecurity = "ssl"\n[cluster]\nname = "a"\nregions = ["b"]',
            "expected one of plaintext, sasl_ssl",
        ),
        ("[cluster", "is not TOML"),
    ],
)
def test_what_is_wrong_in_cluster_toml_is_named(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(text)
    with pytest.raises(ClusterError, match=reason):
        read_cluster(path, {})


def test_users_of_the_environment_go_before_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(
        '[cluster]\nname = "a"\nregions = ["b"]\n[kafka]\nbootstrap = ["h:1"]\nsecurity = "sasl_ssl"\n'
        'user = "file"\npassword_file = "p"\n[redis]\nurl = "redis://h/0"\n'
    )
    assert read_cluster(path, {}).kafka.user == "file"
    assert read_cluster(path, {}).kafka.password_file == tmp_path / "p"
    found = read_cluster(path, {"TWINROOM_KAFKA_USER": "me", "TWINROOM_KAFKA_PASSWORD_FILE": "/q"})
    assert (found.kafka.user, found.kafka.password_file) == ("me", Path("/q"))
