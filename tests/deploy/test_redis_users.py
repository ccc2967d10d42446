"""deploy/redis: a real server takes the files, and each user may do his own work and no other's."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis
import yaml

from cluster.child import Child, accepts, free_ports
from streams.cluster import Cluster, read_cluster
from streams.snapshots import Frame, Snapshots
from tests.deploy.conftest import HOME

AGENTS = ("fusion", "emission", "air", "noise", "exposure", "alarms")


@pytest.fixture(scope="module")
def port(secrets: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Port of a server with the site's own redis.conf, in which only places differ."""
    if shutil.which("redis-server") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("redis-server is not installed")
        pytest.skip("redis-server is not installed")
    folder = tmp_path_factory.mktemp("redis")
    (port,) = free_ports(1)
    text = (HOME / "deploy/redis/redis.conf").read_text(encoding="utf-8")
    text = text.replace("/run/secrets", str(secrets)).replace("dir /data", f'dir "{folder}"')
    text = text.replace("bind * -::*", "bind 127.0.0.1").replace("tls-port 6379", f"tls-port {port}")
    (folder / "redis.conf").write_text(text, encoding="utf-8")
    child = Child("Redis", ["redis-server", str(folder / "redis.conf")], folder / "redis.log")
    child.start()
    try:
        child.wait_until(lambda: accepts(port), 30.0)
        yield port
    finally:
        child.stop()


@pytest.fixture
def cluster(secrets: Path, port: int) -> Cluster:
    """deploy/cluster.toml, at the place of this server."""
    read = read_cluster(
        HOME / "deploy/cluster.toml", {"TWINROOM_KAFKA_USER": "x", "TWINROOM_KAFKA_PASSWORD_FILE": "x"}
    )
    place = replace(read.redis, url=f"rediss://127.0.0.1:{port}/0", ca_file=secrets / "ca.pem")
    return replace(read, redis=place)


def seen_by(cluster: Cluster, secrets: Path, user: str) -> Cluster:
    return replace(cluster, redis=replace(cluster.redis, user=user, password_file=secrets / user))


def client(cluster: Cluster, secrets: Path, user: str) -> redis.Redis:
    settings = seen_by(cluster, secrets, user).redis
    return redis.Redis.from_url(settings.url, **settings.client_options())


async def claim_and_write(cluster: Cluster, group: str) -> bool:
    snapshots = Snapshots(cluster, group)
    try:
        claim = await snapshots.claim("ghent", 1, "a worker")
        frame = Frame(latest={"densities|t0": b"a batch"}, step=b"a step")
        return await snapshots.write(
            "ghent", claim.epoch, {"observations": 7}, {"state": b"s"}, frame, 60_000
        )
    finally:
        await snapshots.close()


@pytest.mark.parametrize("agent", AGENTS)
def test_an_agent_claims_and_writes_its_own_snapshot_and_no_others(
    cluster: Cluster, secrets: Path, agent: str
) -> None:
    mine = seen_by(cluster, secrets, agent)
    assert asyncio.run(claim_and_write(mine, agent))
    other = AGENTS[AGENTS.index(agent) - 1]
    with pytest.raises(redis.exceptions.NoPermissionError):
        asyncio.run(claim_and_write(mine, other))


def test_a_worker_with_all_agents_writes_its_snapshot(cluster: Cluster, secrets: Path) -> None:
    assert asyncio.run(claim_and_write(seen_by(cluster, secrets, "worker"), "all"))


def test_a_dashboard_reads_frames_and_asks_but_writes_no_state(cluster: Cluster, secrets: Path) -> None:
    assert asyncio.run(claim_and_write(seen_by(cluster, secrets, "worker"), "all"))
    with client(cluster, secrets, "dashboard") as dashboard:
        assert dashboard.hgetall("flanders:latest:ghent") == {b"densities|t0": b"a batch"}
        assert dashboard.xread({"flanders:frames:ghent": "0"})
        dashboard.xadd("flanders:questions:ghent", {"question": "why"})
        for refused in (
            lambda: dashboard.hset("flanders:latest:ghent", "densities|t0", "forged"),
            lambda: dashboard.xadd("flanders:frames:ghent", {"frame": "forged"}),
            lambda: dashboard.hgetall("flanders:snap:all:ghent"),
            lambda: dashboard.eval("return 1", 0),
            lambda: dashboard.hset("other:questions:ghent", "a", "b"),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                refused()


def test_the_monitor_reads_who_owns_what_and_writes_nothing(cluster: Cluster, secrets: Path) -> None:
    assert asyncio.run(claim_and_write(seen_by(cluster, secrets, "worker"), "all"))
    with pytest.raises(redis.exceptions.NoPermissionError):
        asyncio.run(claim_and_write(seen_by(cluster, secrets, "monitor"), "all"))
    with client(cluster, secrets, "monitor") as monitor:
        assert monitor.hgetall("flanders:snap:all:ghent")[b"owner"] == b"a worker"
        assert b"offset:observations" in monitor.hkeys("flanders:snap:all:ghent")
        assert monitor.info("memory")["used_memory"] > 0
        with pytest.raises(redis.exceptions.NoPermissionError):
            monitor.hset("flanders:snap:all:ghent", "epoch", 99)


@pytest.mark.parametrize("user", ["worker", *AGENTS, "dashboard", "monitor"])
def test_nobody_but_the_admin_empties_or_reconfigures_the_server(
    cluster: Cluster, secrets: Path, user: str
) -> None:
    with client(cluster, secrets, user) as connection:
        assert connection.ping()
        for command in (
            "FLUSHALL",
            "KEYS *",
            "CONFIG GET dir",
            "SHUTDOWN",
            "ACL LIST",
            "CLIENT KILL TYPE normal",
            "SCRIPT FLUSH",
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                connection.execute_command(*command.split())


def test_the_health_check_of_compose_sees_a_live_server_and_no_other(secrets: Path, port: int) -> None:
    compose = yaml.safe_load((HOME / "compose.yaml").read_text(encoding="utf-8"))
    kind, command = compose["services"]["redis"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    command = command.replace("/run/secrets", str(secrets))
    for at, code in ((port, 0), (free_ports(1)[0], 1)):
        asked = command.replace("-h localhost", f"-h 127.0.0.1 -p {at}")
        assert subprocess.run(["sh", "-c", asked], capture_output=True, check=False).returncode == code


def test_the_log_is_kept_and_nothing_is_thrown_out_for_room(cluster: Cluster, secrets: Path) -> None:
    with client(cluster, secrets, "admin") as admin:
        for name, value in (
            ("appendonly", "yes"),
            ("appendfsync", "everysec"),
            ("maxmemory-policy", "noeviction"),
        ):
            assert admin.config_get(name) == {name: value}


def test_no_placeholder_is_left_and_no_password_stands_in_the_file(secrets: Path) -> None:
    text = (secrets / "redis_users.acl").read_text(encoding="utf-8")
    assert "@cluster@" not in text
    assert not re.search(r"#@|[>]", text)
    assert len(re.findall(r" #[0-9a-f]{64} ", text)) == len(AGENTS) + 4
