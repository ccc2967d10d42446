"""Real workers on a real Kafka and a real Redis publish what one process does, whatever dies."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.broker import Broker
from cluster.child import free_ports
from cluster.redis_server import RedisServer
from streams.cluster import Cluster
from streams.kafka import make_topics
from tests.cluster.cast import (
    Gauge,
    WorkerProcess,
    embedded_digest,
    feed,
    results,
    settings_of,
    workers,
    write_settings,
    write_towns,
)  # fmt: skip

TOWNS = ("north", "east", "south", "west")
MINUTES = 40
WITHIN_S = 90.0


@pytest.fixture(scope="module")
def towns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Four towns, and their prepared data in a cache that the workers share."""
    folder = tmp_path_factory.mktemp("towns")
    before = os.environ.get("TWINROOM_CACHE")
    os.environ["TWINROOM_CACHE"] = str(folder / "cache")
    write_towns(folder, TOWNS, minutes=MINUTES)
    yield folder
    if before is None:
        del os.environ["TWINROOM_CACHE"]
    else:
        os.environ["TWINROOM_CACHE"] = before


@pytest.fixture(scope="module")
def digests(towns: Path) -> list[str]:
    return [embedded_digest(towns / town) for town in TOWNS]


@pytest.fixture(autouse=True)
def _cache(towns: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINROOM_CACHE", str(towns / "cache"))


@pytest.fixture
def settings(towns: Path, broker: Broker, redis_server: RedisServer, prefix: str) -> Path:
    """A cluster of this test alone, its topics made."""
    path = write_settings(towns, prefix.rstrip("-"), TOWNS, broker.address, redis_server.url)
    asyncio.run(make_topics(settings_of(path)))
    return path


async def check(cluster: Cluster, digests: list[str]) -> int:
    """Compare with the embedded engine; how many batches were sent more than once."""
    found = await results(cluster)
    assert [f.contradictions for f in found] == [()] * len(found)
    assert [f.backwards for f in found] == [()] * len(found)
    assert [f.digest for f in found] == digests
    return sum(f.n_repeats for f in found)


async def stop(started: list[WorkerProcess]) -> None:
    """Stop in order: what a snapshot holds for the log is in the log then."""
    assert await asyncio.gather(*(asyncio.to_thread(worker.stop) for worker in started)) == [0] * len(started)


async def test_several_workers_publish_what_one_process_does(
    towns: Path, settings: Path, digests: list[str]
) -> None:
    cluster = settings_of(settings)
    names = ["w0", "w1", "w2"]
    with workers(settings, names, free_ports(len(names))) as started:
        async with Gauge(cluster) as gauge:
            await feed(cluster, towns, speed=1e9)
            await gauge.caught_up(WITHIN_S)
        await stop(started)
    await check(cluster, digests)


async def test_kills_restarts_repeats_and_disorder_lose_and_double_nothing(
    towns: Path, settings: Path, digests: list[str], redis_server: RedisServer
) -> None:
    cluster = settings_of(settings)
    with workers(settings, ["a", "b"], free_ports(2)) as (first, second):
        async with Gauge(cluster) as gauge:
            feeding = asyncio.create_task(feed(cluster, towns, speed=120, share=0.05))
            await asyncio.sleep(4)
            first.kill()
            await asyncio.sleep(3)
            second.kill_all()
            await asyncio.to_thread(redis_server.kill)
            await asyncio.to_thread(redis_server.start)
            first.kill()
            second.start()
            await feeding
            await gauge.caught_up(WITHIN_S)
        await stop([first, second])
    await check(cluster, digests)
