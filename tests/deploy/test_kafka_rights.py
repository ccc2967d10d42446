"""deploy/kafka and deploy/rights: a real broker starts from the site's files, and each user may do his own work alone.

Kafka's shell scripts, which its image has and Maven's jars have not, are stood in for by one line of Java each.
"""

from __future__ import annotations

import asyncio
import os
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)  # fmt: skip
from aiokafka.structs import TopicPartition

from agents.chain import ALL, CHAIN, group_of, topics_of
from cluster import broker
from cluster.acls import Operation, Resource
from cluster.child import Child, accepts, free_ports
from cluster.rights import main, read_rights, rules_of
from streams.cluster import Cluster, ClusterError, read_cluster
from streams.topics import Topic
from tests.deploy.conftest import HOME

RIGHTS = HOME / "deploy/rights.toml"
JAVA = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xms128m", "-Xmx384m")
TOOLS = {"kafka-storage.sh": "kafka.tools.StorageTool", "kafka-server-start.sh": "kafka.Kafka"}


def rules() -> set[tuple[str, Operation, Resource, str]]:
    made = rules_of(cluster_at("localhost:9092", HOME), read_rights(RIGHTS))
    return {(rule.user, rule.operation, rule.resource, rule.name) for rule in made}


def cluster_at(address: str, secrets: Path, user: str = "admin") -> Cluster:
    text = (HOME / "deploy/cluster.toml").read_text(encoding="utf-8")
    file = secrets.parent / "cluster.toml" if secrets != HOME else HOME / "deploy/cluster.toml"
    if secrets != HOME:
        text = text.replace("kafka:9092", address).replace("/run/secrets", str(secrets))
        file.write_text(text, encoding="utf-8")
    return read_cluster(
        file, {"TWINROOM_KAFKA_USER": user, "TWINROOM_KAFKA_PASSWORD_FILE": str(secrets / user)}
    )


def test_agents_may_read_what_they_consume_and_write_what_they_produce() -> None:
    rights = read_rights(RIGHTS)
    for kind in CHAIN:
        assert set(rights[kind.name]["read"]) == {topic.value for topic in topics_of([kind.name])}
        assert set(rights[kind.name]["write"]) == {*(topic.value for topic in kind.produces), "deadletters"}
    whole = [kind.produces for kind in CHAIN]
    assert set(rights["worker"]["write"]) == {topic.value for p in whole for topic in p} | {"deadletters"}
    assert {topic.value for topic in topics_of(group_of(ALL))} <= set(rights["worker"]["read"])


def test_only_the_feed_speaks_for_sensors_and_only_the_dashboard_for_operators() -> None:
    writers = {
        topic: {user for user, operation, resource, name in rules()
                if operation is Operation.WRITE and resource is Resource.TOPIC and name == f"flanders.{topic}"}
        for topic in Topic
    }  # fmt: skip
    assert writers[Topic.OBSERVATIONS] == {"feed"}
    assert writers[Topic.OPERATOR_ACTIONS] == {"dashboard"}
    assert writers[Topic.ALARMS] == {"worker", "alarms"}
    assert not any(user == "monitor" and operation is Operation.WRITE for user, operation, _, _ in rules())


@pytest.mark.parametrize(
    ("text", "message"),
    [('[fusion]\nread = ["densites"]', r"\[fusion\] read: got \['densites'\]"),
     ('[fusion]\nreads = []', r"\[fusion\]: got \['reads'\]"),
     ('fusion = 1', r"\[fusion\]: got 1"),
     ('[fusion]\ngroups = "all"', r"\[fusion\] groups: got 'all'"),
     ('[fusion', "is not TOML")],
)  # fmt: skip
def test_a_wrong_right_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "rights.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ClusterError, match=message):
        read_rights(tmp_path / "rights.toml")


@pytest.fixture(scope="module")
def address(secrets: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a broker that deploy/kafka/start.sh started, with the topics and the rules of the site."""
    if (absent := broker.missing()) is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(absent)
        pytest.skip(absent)
    folder = tmp_path_factory.mktemp("kafka")
    (folder / "bin").mkdir()
    for script, main_class in TOOLS.items():
        tool = folder / "bin" / script
        tool.write_text(
            f'#!/bin/sh\nexec java $KAFKA_LOG4J_OPTS {" ".join(JAVA)} -cp "{broker.libs_folder()}/*" {main_class} "$@"\n'
        )
        tool.chmod(0o755)
    port, controller = free_ports(2)
    text = (HOME / "deploy/kafka/server.properties").read_text(encoding="utf-8")
    text = text.replace("/run/secrets", str(secrets)).replace("/var/lib/kafka/data", str(folder))
    text = text.replace("0.0.0.0:9092", f"127.0.0.1:{port}").replace(":9093", f":{controller}")
    small = "offsets.topic.num.partitions=1\ntransaction.state.log.num.partitions=1\nlog.cleaner.dedupe.buffer.size=16777216\n"
    (folder / "given.properties").write_text(text + small, encoding="utf-8")
    environment = {
        "TWINROOM_SECRETS": secrets, "KAFKA_HOME": folder, "TWINROOM_PROPERTIES": folder / "given.properties",
        "TWINROOM_SCRATCH": folder, "KAFKA_ADVERTISED": f"localhost:{port}",
        "KAFKA_LOG4J_OPTS": f"-Dlog4j.configuration=file:{HOME}/deploy/kafka/log4j.properties",
    }  # fmt: skip
    command = [
        "env",
        *(f"{k}={v}" for k, v in environment.items()),
        "bash",
        str(HOME / "deploy/kafka/start.sh"),
    ]
    child = Child("Kafka", command, folder / "kafka.log")
    child.start()
    try:
        child.wait_until(lambda: accepts(port), 90.0)
        yield f"localhost:{port}"
    finally:
        child.stop()
    assert not list(folder.glob("users")), "passwords were left behind"
    assert (folder / "server.properties").stat().st_mode & 0o077 == 0


async def _make_topics(cluster: Cluster) -> None:
    admin = AIOKafkaAdminClient(**cluster.kafka.client_options())
    try:
        await admin.start()
        await admin.create_topics([NewTopic(cluster.topic(topic), 1, 1) for topic in Topic])
    finally:
        await admin.close()


async def _write(cluster: Cluster, topic: Topic, transactional_id: str | None = None) -> None:
    options: dict[str, Any] = cluster.kafka.client_options() | {"request_timeout_ms": 10_000}
    producer = AIOKafkaProducer(**options, transactional_id=transactional_id, enable_idempotence=True)
    try:
        await producer.start()
        if transactional_id is None:
            await producer.send_and_wait(cluster.topic(topic), b"a batch", partition=0)
        else:
            async with producer.transaction():
                await producer.send_and_wait(cluster.topic(topic), b"a batch", partition=0)
    finally:
        await producer.stop()


async def _commit(cluster: Cluster, topic: Topic, group: str) -> None:
    """Read as a worker does: its partition, in its group."""
    consumer = AIOKafkaConsumer(**cluster.kafka.client_options(), group_id=group, enable_auto_commit=False)
    partition = TopicPartition(cluster.topic(topic), 0)
    try:
        await consumer.start()
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        await consumer.commit({partition: 0})
    finally:
        await consumer.stop()


async def _described(cluster: Cluster, topic: Topic) -> int:
    """Kafka's code for a look at a topic: 0, or 29 for one that this user has no right on at all."""
    admin = AIOKafkaAdminClient(**cluster.kafka.client_options())
    try:
        await admin.start()
        ((found,)) = await admin.describe_topics([cluster.topic(topic)])
        return int(found["error_code"])
    finally:
        await admin.close()


async def _refused(error: type[Exception], attempt: Any) -> None:
    with pytest.raises(error):
        await attempt


def test_a_user_does_what_his_rights_say_and_nothing_else(
    address: str, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def user(name: str) -> Cluster:
        return cluster_at(address, secrets, name)

    async def tries() -> None:
        await _write(user("feed"), Topic.OBSERVATIONS)
        await _write(user("fusion"), Topic.DENSITIES, "flanders-fusion-ghent")
        await _write(user("worker"), Topic.ALARMS, "flanders-all-ghent")
        await _write(user("dashboard"), Topic.OPERATOR_ACTIONS)
        await _commit(user("fusion"), Topic.OBSERVATIONS, "flanders-fusion")
        await _commit(user("worker"), Topic.OBSERVATIONS, "flanders-all")
        assert await _described(user("monitor"), Topic.ALARMS) == 0

        topic, group = TopicAuthorizationFailedError, GroupAuthorizationFailedError
        await _refused(topic, _write(user("fusion"), Topic.ALARMS))
        await _refused(topic, _write(user("feed"), Topic.DENSITIES))
        await _refused(topic, _write(user("dashboard"), Topic.OBSERVATIONS))
        await _refused(
            ClusterAuthorizationFailedError, _write(user("monitor"), Topic.ALARMS)
        )  # not even a name
        assert await _described(user("dashboard"), Topic.ALARMS) == 29
        assert await _described(user("fusion"), Topic.ALARMS) == 29
        await _refused(group, _commit(user("fusion"), Topic.OBSERVATIONS, "flanders-air"))
        await _refused(
            TransactionalIdAuthorizationFailed, _write(user("fusion"), Topic.DENSITIES, "flanders-air-ghent")
        )
        await _refused(KafkaConnectionError, _write(wrong_password(user("fusion")), Topic.DENSITIES))

    def wrong_password(cluster: Cluster) -> Cluster:
        return replace(cluster, kafka=replace(cluster.kafka, password_file=secrets / "air"))

    asyncio.run(_make_topics(user("admin")))
    monkeypatch.setenv("TWINROOM_KAFKA_USER", "admin")
    monkeypatch.setenv("TWINROOM_KAFKA_PASSWORD_FILE", str(secrets / "admin"))
    arguments = ["--cluster", str(secrets.parent / "cluster.toml"), "--rights", str(RIGHTS)]
    assert main(arguments) == 0
    assert main(arguments) == 0, "a rule that is there already stays"
    asyncio.run(tries())


def test_rights_name_users_that_the_secrets_script_makes(secrets: Path) -> None:
    lines = (secrets / "kafka_users").read_text(encoding="utf-8").splitlines()
    made = {line.split("=")[0] for line in lines}
    assert tomllib.loads(RIGHTS.read_text(encoding="utf-8")).keys() == made - {"admin", "controller"}
