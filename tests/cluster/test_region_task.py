"""A region's task: three tries for a message, and nothing written by one who has lost the region."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from agents.chain import group_of
from agents.engines.metrics import Metrics
from agents.engines.region import RegionEngine
from agents.engines.region_task import TRIES, Incoming, Pace, RegionTask, Surroundings
from agents.room import make_agents
from cities.pack import load_city
from cluster.broker import Broker
from cluster.redis_server import RedisServer
from streams.cluster import Cluster
from streams.kafka import make_topics, new_producer
from streams.kafka_feed import records_of
from streams.messages import Mark, Message, Output, Tick
from streams.recording import read_recording
from streams.snapshots import Snapshots
from streams.topics import Topic
from studies.prepare import prepare_city
from tests.cluster.cast import batches_of, settings_of, write_settings, write_towns

TOWN = "croft"


class Faulty(RegionEngine):
    """An engine with an error in it: one tick is more than its agents can take."""

    def receive(self, message: Message) -> list[Output | Mark]:
        if isinstance(message, Tick) and message.time_ms == self.fatal_ms:
            raise ZeroDivisionError("an agent's own mistake")
        return super().receive(message)

    fatal_ms = 0


class Stage:
    """A region, its log in memory, and whoever works on it."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.city = load_city(folder / TOWN)
        self.prepared = prepare_city(self.city, lambda _what, _fraction: None)
        self.snapshots = Snapshots(cluster, "all")
        self.metrics, self.pace = Metrics(), Pace()
        self.executor = ThreadPoolExecutor(1)
        self.tries: dict[tuple[Topic, int], int] = {}
        self.lost = asyncio.Event()
        self.records = [record for _, record in records_of(read_recording(folder / TOWN), TOWN, 20)]

    def engine(self) -> RegionEngine:
        prepared = self.prepared
        made = make_agents(self.city, prepared.prior, prepared.air, prepared.noise)
        return Faulty(self.city, [agent for agent in made if agent.name in group_of("all")])

    async def take_up(self, generation: int, owner: str) -> RegionTask:
        self.lost.clear()

        def producer() -> AIOKafkaProducer:
            return new_producer(self.cluster, transactional_id=f"{self.cluster.name}-all-{TOWN}")

        around = Surroundings(
            region=TOWN, group="all", snapshots=self.snapshots, executor=self.executor,
            metrics=self.metrics, load=self.engine, topic_name=self.cluster.topic, new_producer=producer,
            lost=self.lost.set, pace=self.pace, tries=self.tries,
        )  # fmt: skip
        return RegionTask(around, await self.snapshots.claim(TOWN, generation, owner))

    async def feed(self, task: RegionTask, until: int) -> None:
        first = task.next.get(Topic.OBSERVATIONS, 0)
        for offset, record in enumerate(self.records[:until]):
            if offset >= first:
                await task.put(Incoming(Topic.OBSERVATIONS, offset, record.value, record.headers))

    def refused(self) -> float:
        value: float = self.metrics.refused.labels(TOWN, "all")._value.get()
        return value


@pytest.fixture
async def stage(tmp_path: Path, broker: Broker, redis_server: RedisServer, prefix: str) -> Stage:
    write_towns(tmp_path, [TOWN], minutes=12)
    path = write_settings(tmp_path, prefix.rstrip("-"), [TOWN], broker.address, redis_server.url)
    cluster = settings_of(path)
    await make_topics(cluster)
    return Stage(cluster, tmp_path)


async def until(check: Callable[[], Awaitable[bool] | bool]) -> None:
    async with asyncio.timeout(60):
        while True:
            found = check()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.02)


async def test_what_agents_fail_on_three_times_becomes_a_dead_letter(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = [k for k, record in enumerate(stage.records) if record.key == b"clock"]
    fatal = ticks[4]
    monkeypatch.setattr(Faulty, "fatal_ms", read_time(stage, fatal))
    attempts = 0
    while True:
        task = await stage.take_up(attempts, "worker")
        await stage.feed(task, len(stage.records))
        attempts += 1
        await until(
            lambda task=task: (
                stage.lost.is_set() or task.durable.get(Topic.OBSERVATIONS) == len(stage.records)
            )
        )  # type: ignore[misc]
        if not stage.lost.is_set():
            break
        await task.stop(save=False)
    await task.stop(save=True)
    assert attempts == TRIES + 1
    (letters,) = await batches_of(stage.cluster, Topic.DEADLETTERS)
    assert letters.columns["reason"].tolist() == [f"agents failed {TRIES} times on it"]
    steps = {batch.time_ms for batch in await batches_of(stage.cluster, Topic.DENSITIES)}
    assert len(steps) == 12  # the next tick closed the step that the poisoned one was to close
    await stage.snapshots.close()


async def test_who_has_lost_the_region_writes_nothing_more(stage: Stage) -> None:
    old = await stage.take_up(0, "stopped")
    await stage.feed(old, 12)
    await until(lambda: old.durable.get(Topic.OBSERVATIONS) == 12 and not old.n_unsent)
    new = await stage.take_up(1, "successor")
    await stage.feed(new, 20)
    await until(lambda: new.durable.get(Topic.OBSERVATIONS) == 20 and not new.n_unsent)
    before = {topic: len(await batches_of(stage.cluster, topic)) for topic in (Topic.DENSITIES, Topic.FIELDS)}
    await stage.feed(old, len(stage.records))  # it wakes up and goes on as if nothing had been
    await until(lambda: stage.lost.is_set())
    assert stage.refused() == 1
    after = {topic: len(await batches_of(stage.cluster, topic)) for topic in before}
    assert after == before
    about, offsets = await stage.snapshots.about(TOWN)
    assert (about["owner"], offsets["observations"]) == ("successor", 20)
    await old.stop(save=False)
    await new.stop(save=False)
    await stage.snapshots.close()


def read_time(stage: Stage, offset: int) -> int:
    from streams.messages import read_message

    record = stage.records[offset]
    message = read_message(record.value, record.headers)
    assert isinstance(message, Tick)
    return message.time_ms
