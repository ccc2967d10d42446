"""Agents apart, each with rights of its own, on Kafka and Redis with TLS and passwords."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from aiokafka.errors import KafkaError

from cluster.acls import create_acls
from cluster.broker import Broker, BrokerSecurity
from cluster.certificates import Certificates
from cluster.child import free_ports
from cluster.redis_server import RedisSecurity, RedisServer, RedisSettings, RedisUser
from cluster.rights import read_rights, rules_of
from streams.cluster import Cluster, ClusterError
from streams.kafka import admin_of, check_topics, ends_of, make_topics, new_producer
from streams.topics import Topic
from tests.cluster.cast import (
    Gauge,
    WorkerProcess,
    embedded_digest,
    feed,
    results,
    settings_of,
    workers,
    write_towns,
)
from tests.cluster.conftest import broker_settings
from tests.toy import START

HOME = Path(__file__).resolve().parents[2]
TOWNS = ("hill", "dale")
MINUTES = 20
END_MS = round((START + timedelta(minutes=MINUTES)).timestamp() * 1000)
GROUPS = {"fusion": "fusion", "worker": "emission,air,noise,exposure", "alarms": "alarms"}
USERS = ("admin", *GROUPS, "feed", "monitor")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Site]:
    """Servers with the users of deploy/rights.toml."""
    folder = tmp_path_factory.mktemp("site")
    passwords = {user: f"of-{user}" for user in USERS}
    security = BrokerSecurity(
        certificates,
        admin_password=passwords["admin"],
        controller_password="of-the-controller",
        users={user: passwords[user] for user in USERS[1:]},
    )
    redis_users = RedisSecurity(
        certificates,
        passwords["admin"],
        tuple(RedisUser(user, passwords[user], keys=("secured:*",)) for user in (*GROUPS, "monitor")),
    )
    for user, password in passwords.items():
        (folder / user).write_text(password)
    write_towns(folder, TOWNS, minutes=MINUTES)
    with (
        Broker(broker_settings(folder / "broker", security)) as broker,
        RedisServer(RedisSettings(folder / "redis", security=redis_users)) as redis,
    ):
        path = folder / "secured.toml"
        packs = ", ".join(f'"./{town}"' for town in TOWNS)
        path.write_text(
            f'[cluster]\nname = "secured"\nregions = [{packs}]\n'
            f'[kafka]\nbootstrap = ["{broker.address}"]\nsecurity = "sasl_ssl"\nuser = "admin"\n'
            f'password_file = "admin"\nca_file = "{certificates.authority}"\n'
            f'[redis]\nurl = "{redis.url}"\nuser = "admin"\npassword_file = "admin"\n'
            f'ca_file = "{certificates.authority}"\n'
        )
        yield Site(path)


class Site:
    """cluster.toml of the secured servers, and what its users enter with."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def environment(self, user: str) -> dict[str, str]:
        file = str(self.path.parent / user)
        return {
            "TWINROOM_KAFKA_USER": user, "TWINROOM_KAFKA_PASSWORD_FILE": file,
            "TWINROOM_REDIS_USER": user, "TWINROOM_REDIS_PASSWORD_FILE": file,
        }  # fmt: skip

    def cluster(self, user: str) -> Cluster:
        return settings_of(self.path, self.environment(user))


async def test_agents_with_their_own_rights_publish_what_one_process_does(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINROOM_CACHE", str(site.path.parent / "cache"))
    admin = site.cluster("admin")
    await make_topics(admin)
    async with admin_of(admin) as client:
        await create_acls(client, rules_of(admin, read_rights(HOME / "deploy" / "rights.toml")))
    digests = [await asyncio.to_thread(embedded_digest, site.path.parent / town) for town in TOWNS]
    environments = [site.environment(user) for user in GROUPS]
    with workers(
        site.path,
        list(GROUPS),
        free_ports(len(GROUPS)),
        agents=list(GROUPS.values()),
        environments=environments,
    ) as started:
        await feed(site.cluster("feed"), site.path.parent, speed=1e9)
        async with Gauge(admin, "alarms") as gauge:
            await gauge.closed(END_MS, 90.0)
        await asyncio.gather(*(asyncio.to_thread(worker.stop) for worker in started))
    found = await results(site.cluster("monitor"))
    assert [f.digest for f in found] == digests
    assert [f.contradictions for f in found] == [()] * len(TOWNS)
    monitor = site.cluster("monitor")
    before = await ends_of(monitor, (Topic.ALARMS,))
    with pytest.raises(KafkaError):  # of what kind depends on whether the topic's place is known yet
        await write_as(site.cluster("fusion"), Topic.ALARMS)
    assert await ends_of(monitor, (Topic.ALARMS,)) == before
    await write_as(site.cluster("alarms"), Topic.ALARMS)
    assert await ends_of(monitor, (Topic.ALARMS,)) != before


async def write_as(cluster: Cluster, topic: Topic) -> None:
    producer = new_producer(cluster)
    await producer.start()
    try:
        await producer.send_and_wait(cluster.topic(topic), b"an alarm that nobody raised", partition=0)
    finally:
        await producer.stop()


async def test_a_wrong_password_is_told_as_such(site: Site) -> None:
    (site.path.parent / "wrong").write_text("guessed")
    environment = site.environment("fusion") | {
        "TWINROOM_KAFKA_PASSWORD_FILE": str(site.path.parent / "wrong")
    }
    with pytest.raises(ClusterError, match=r"Kafka at 127\.0\.0\.1:\d+: .*SaslAuthenticationFailed"):
        await check_topics(settings_of(site.path, environment), (Topic.OBSERVATIONS,))


def test_a_worker_whose_password_cannot_be_read_ends_and_says_so(site: Site) -> None:
    worker = WorkerProcess(site.path, "nobody", free_ports(1)[0], environment=site.environment("nobody"))
    worker.start()
    assert worker.wait(60) == 2
    assert "nobody: No such file or directory" in worker.text()
