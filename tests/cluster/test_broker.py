"""A real Kafka: ready when it says so, the same after a kill, closed to whoever may not enter."""

import asyncio
import logging
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.errors import GroupAuthorizationFailedError, KafkaConnectionError, TopicAuthorizationFailedError

from cluster.acls import Acl, Operation, Resource
from cluster.broker import Broker, BrokerSettings, properties_text, started
from cluster.child import ClusterError

HOME = Path(__file__).resolve().parent.parent.parent
VALUES = [b"%d" % i for i in range(20)]
PARENT = """
import sys
from pathlib import Path
from cluster.broker import Broker, BrokerSettings
Broker(BrokerSettings(Path(sys.argv[1]), jvm_options=("-XX:TieredStopAtLevel=1",))).start()
"""


async def _write(
    client: dict[str, Any], topic: str, values: list[bytes], *, is_idempotent: bool = True
) -> None:
    producer = AIOKafkaProducer(
        **client, acks="all", enable_idempotence=is_idempotent, compression_type="lz4"
    )
    async with started(producer):
        for value in values:
            await producer.send_and_wait(topic, value)


async def _read(client: dict[str, Any], topic: str, n: int, group: str | None = None) -> list[bytes]:
    settings = {"group_id": group, "auto_offset_reset": "earliest", "enable_auto_commit": False}
    async with started(AIOKafkaConsumer(topic, **client, **settings)) as consumer:
        values = [(await asyncio.wait_for(consumer.getone(), 20)).value for _ in range(n)]
        if group is not None:
            await consumer.commit()
        return values


async def test_a_ready_broker_takes_a_record_at_once_and_gives_it_back(broker: Broker, prefix: str) -> None:
    topic = prefix + "one"
    await asyncio.to_thread(broker.create_topics, [NewTopic(topic, 1, 1)])
    await _write(broker.client(), topic, VALUES)
    assert await _read(broker.client(), topic, len(VALUES)) == VALUES


async def test_records_topics_and_committed_offsets_outlive_a_kill(broker: Broker, prefix: str) -> None:
    topic, group = prefix + "lasting", prefix + "group"
    await asyncio.to_thread(broker.create_topics, [NewTopic(topic, 1, 1)])
    await _write(broker.client(), topic, VALUES)
    assert await _read(broker.client(), topic, 5, group) == VALUES[:5]
    before = (broker.address, psutil.Process(broker.child.pid))
    broker.kill()
    assert not before[1].is_running()
    await asyncio.to_thread(broker.start)
    assert broker.address == before[0]
    assert await _read(broker.client(), topic, 15, group) == VALUES[5:]


async def test_a_topic_that_is_there_stays_as_it_is(broker: Broker, prefix: str) -> None:
    topic = prefix + "twice"
    for n_partitions in (2, 3):
        await asyncio.to_thread(broker.create_topics, [NewTopic(topic, n_partitions, 1)])
    async with started(AIOKafkaConsumer(**broker.client())) as consumer:
        await consumer._client._wait_on_metadata(topic)
        assert consumer.partitions_for_topic(topic) == {0, 1}


def test_a_topic_that_cannot_be_made_is_told(broker: Broker) -> None:
    with pytest.raises(ClusterError, match="refused topic no/slash: error 17"):
        broker.create_topics([NewTopic("no/slash", 1, 1)])


async def test_who_may_write_writes_and_who_may_read_reads(secure_broker: Broker, prefix: str) -> None:
    topic = prefix + "one"
    await asyncio.to_thread(secure_broker.create_topics, [NewTopic(topic, 1, 1)])
    await _write(secure_broker.client("writer"), topic, VALUES)
    assert await _read(secure_broker.client("reader"), topic, len(VALUES), prefix + "group") == VALUES


async def test_a_topic_elsewhere_is_closed_until_a_rule_opens_it(secure_broker: Broker) -> None:
    await asyncio.to_thread(secure_broker.create_topics, [NewTopic("closed", 1, 1)])
    with pytest.raises(TopicAuthorizationFailedError):
        await _write(secure_broker.client("writer"), "closed", VALUES)
    rule = Acl("writer", Operation.WRITE, Resource.TOPIC, "closed")
    await asyncio.to_thread(secure_broker.grant, [rule])
    await _write(secure_broker.client("writer"), "closed", VALUES)
    admin = secure_broker.client()
    async with started(AIOKafkaConsumer(**admin)) as consumer:
        partition = TopicPartition("closed", 0)
        assert await consumer.end_offsets([partition]) == {partition: len(VALUES)}


async def test_the_reader_may_not_write(secure_broker: Broker, prefix: str) -> None:
    await asyncio.to_thread(secure_broker.create_topics, [NewTopic(prefix + "one", 1, 1)])
    with pytest.raises(TopicAuthorizationFailedError):
        await _write(secure_broker.client("reader"), prefix + "one", VALUES, is_idempotent=False)


async def test_another_group_is_refused(secure_broker: Broker, prefix: str) -> None:
    topic = prefix + "one"
    await asyncio.to_thread(secure_broker.create_topics, [NewTopic(topic, 1, 1)])
    with pytest.raises(GroupAuthorizationFailedError):
        await _read(secure_broker.client("reader"), topic, 1, "closed")


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"sasl_plain_password": "of-nobody"}, "SaslAuthenticationFailed"),
        ({"sasl_plain_username": "nobody"}, "SaslAuthenticationFailed"),
        ({"ssl_context": ssl.create_default_context()}, "CERTIFICATE_VERIFY_FAILED"),
        ({"security_protocol": "SASL_PLAINTEXT", "ssl_context": None}, ""),
    ],
    ids=["password", "user", "authority", "no TLS"],
)
async def test_who_is_not_known_is_refused(
    secure_broker: Broker, caplog: pytest.LogCaptureFixture, change: dict[str, Any], cause: str
) -> None:
    client = secure_broker.client("writer") | change
    with caplog.at_level(logging.WARNING, "aiokafka"), pytest.raises(KafkaConnectionError):
        await _write(client, "open-anything", VALUES)
    assert cause in caplog.text
    assert caplog.text


def test_secrets_are_for_the_owner_alone_and_in_no_process_list(secure_broker: Broker) -> None:
    folder = secure_broker.settings.folder
    shown = " ".join(psutil.Process(secure_broker.child.pid).cmdline()) + repr(secure_broker.settings)
    for path in (p for p in folder.iterdir() if p.is_file()):
        if "of-the-" in path.read_text(errors="replace"):
            assert path.stat().st_mode & 0o777 == 0o600, path
    assert "of-the-" not in shown
    assert "of-the-" in (folder / "server.properties").read_text()


def test_a_user_without_a_password_here_is_named(secure_broker: Broker) -> None:
    with pytest.raises(ClusterError, match="got 'stranger', expected one of admin, writer, reader"):
        secure_broker.client("stranger")


def test_a_taken_port_is_refused_before_anything_starts(broker: Broker, tmp_path: Path) -> None:
    second = Broker(BrokerSettings(tmp_path, port=broker.port))
    with pytest.raises(ClusterError, match=f"port of the Kafka broker: got {broker.port}"):
        second.start()
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("kafka")
def test_a_broker_that_cannot_start_says_why(tmp_path: Path) -> None:
    broker = Broker(BrokerSettings(tmp_path, jvm_options=("-XX:NoSuchThing",)))
    with pytest.raises(ClusterError, match=r"ended with code 1; (?s:.*)Unrecognized VM option 'NoSuchThing'"):
        broker.start()
    wrong = Broker(BrokerSettings(tmp_path / "wrong", properties={"num.io.threads": "many"}))
    with pytest.raises(ClusterError, match=r"num\.io\.threads"):
        wrong.start()


@pytest.mark.usefixtures("kafka")
def test_no_broker_outlives_its_parent(tmp_path: Path, ends: Callable[[psutil.Process], bool]) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], cwd=HOME) as parent:
        own = psutil.Process(parent.pid)
        brokers: list[psutil.Process] = []
        while not brokers:
            assert parent.poll() is None
            brokers = [child for child in own.children() if "kafka.Kafka" in _command(child)]
        parent.kill()
        parent.wait(20)
    assert len(brokers) == 1
    assert ends(brokers[0])


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:  # it ended, or is between fork and exec
        return []


def test_properties_are_ascii_and_escaped_as_java_reads_them() -> None:
    text = properties_text({"log.dirs": "/données\\\U0001d538 b", "n": "1"})
    assert text == "log.dirs=/donn\\u00e9es\\u005c\\ud835\\udd38 b\nn=1\n"
