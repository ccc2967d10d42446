"""One Kafka and one Redis, open and secured, for all tests of this folder: each takes seconds to start."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from cluster import broker as broker_module
from cluster import redis_server as redis_module
from cluster.acls import Acl, Operation, Resource
from cluster.broker import Broker, BrokerSecurity, BrokerSettings
from cluster.certificates import Certificates, make_certificates
from cluster.child import missing
from cluster.redis_server import RedisSecurity, RedisServer, RedisSettings, RedisUser

# The first compiler alone takes 3.3 s of processor for a start where both take 5.5 s.
JVM_OPTIONS = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
AFTER_KILL_MS = 2_000


def _need(missing: str | None) -> None:
    """Skip without the program, except where it must be there."""
    if missing is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)


def broker_settings(folder: Path, security: BrokerSecurity | None = None) -> BrokerSettings:
    """A broker that starts, and comes back after a kill, as fast as it can."""
    return BrokerSettings(
        folder, jvm_options=JVM_OPTIONS, session_timeout_ms=AFTER_KILL_MS, heap_mb=384, security=security
    )


@pytest.fixture(scope="session")
def kafka() -> None:
    """What a broker needs is on this machine."""
    _need(broker_module.missing())


@pytest.fixture(scope="session")
def redis_program() -> None:
    """What a Redis needs is on this machine."""
    _need(redis_module.missing())


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Of a throw-away authority."""
    _need(missing("openssl"))
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """An open Kafka, in a folder whose name Java must be told with care.

    A test that kills it starts it again before it ends.
    """
    _need(broker_module.missing())
    with Broker(broker_settings(tmp_path_factory.mktemp("broker of Köln"))) as started:
        yield started


@pytest.fixture(scope="session")
def secure_broker(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Broker]:
    """Kafka with TLS, passwords and rules.

    "writer" may write topics that start with "open-"; "reader" may read those, in groups that start so too.
    """
    _need(broker_module.missing())
    acls = (
        Acl("writer", Operation.WRITE, Resource.TOPIC, "open-", is_prefix=True),
        Acl("reader", Operation.READ, Resource.TOPIC, "open-", is_prefix=True),
        Acl("reader", Operation.READ, Resource.GROUP, "open-", is_prefix=True),
    )
    security = BrokerSecurity(
        request.getfixturevalue("certificates"),
        admin_password="of-the-admin",
        controller_password="of-the-controller",
        users={"writer": "of-the-writer", "reader": "of-the-reader"},
        acls=acls,
    )
    with Broker(broker_settings(tmp_path_factory.mktemp("secure_broker"), security)) as started:
        yield started


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """An open Redis. A test that kills it starts it again before it ends."""
    _need(redis_module.missing())
    with RedisServer(RedisSettings(tmp_path_factory.mktemp("redis"))) as started:
        yield started


@pytest.fixture(scope="session")
def secure_redis(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[RedisServer]:
    """Redis with TLS and passwords; "worker" may do everything with keys and channels that start with "open-"."""
    _need(redis_module.missing())
    worker = RedisUser("worker", "of-the-worker", keys=("open-*",), channels=("open-*",))
    security = RedisSecurity(request.getfixturevalue("certificates"), "of-the-admin", (worker,))
    with RedisServer(RedisSettings(tmp_path_factory.mktemp("secure_redis"), security=security)) as started:
        yield started


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """Begins this test's topics, groups and keys: tests share the servers, never a name."""
    return f"open-{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:10]}-"


@pytest.fixture
def ends() -> Callable[[psutil.Process], bool]:
    """Whether a process ends within 20 s; where nobody buries orphans, a dead one stays as a zombie."""

    def wait(process: psutil.Process) -> bool:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                if process.status() == psutil.STATUS_ZOMBIE:
                    return True
            except psutil.NoSuchProcess:
                return True
            time.sleep(0.02)
        return False

    return wait
