"""A cluster of toy towns for tests and for `make chaos`: its broker, its Redis, its workers."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition

from agents.engines.embedded import EmbeddedEngine
from agents.room import make_agents
from cities.pack import load_city
from cluster.child import Child
from streams.cluster import Cluster, read_cluster
from streams.digest import run_digest
from streams.kafka import new_producer
from streams.kafka_digest import Published, published_of
from streams.kafka_feed import paced, records_of
from streams.messages import Output, Record, read_message
from streams.player import Player
from streams.recording import read_recording
from streams.snapshots import Snapshots
from streams.topics import Batch, Topic
from studies.prepare import prepare_city
from tests.toy import write_toy_city

BATCH_ROWS = 9  # of a message: seventeen rows a minute make two messages and a tick


def write_towns(folder: Path, names: Sequence[str], *, minutes: int) -> None:
    """City packs with recordings, each with other flows."""
    for number, name in enumerate(names):
        write_toy_city(folder / name, minutes=minutes, scale=1.0 + 0.1 * number)


def write_settings(folder: Path, name: str, regions: Sequence[str], kafka: str, redis: str) -> Path:
    """cluster.toml in a folder with the towns."""
    path = folder / f"{name}.toml"
    packs = ", ".join(f'"./{region}"' for region in regions)
    path.write_text(
        f'[cluster]\nname = "{name}"\nregions = [{packs}]\n[kafka]\nbootstrap = ["{kafka}"]\n'
        f'session_s = 6.0\n[redis]\nurl = "{redis}"\n'
    )
    return path


def embedded_digest(folder: Path) -> str:
    """Digest of a town's recording in one process."""
    city = load_city(folder)
    prepared = prepare_city(city, lambda _what, _fraction: None)
    engine = EmbeddedEngine(
        city, make_agents(city, prepared.prior, prepared.air, prepared.noise), keep_digest=True
    )
    Player(read_recording(folder), engine).run()
    return run_digest(engine.entries())


class WorkerProcess:
    """`twinroom worker` as a site runs it: a supervisor and its child."""

    def __init__(
        self,
        settings: Path,
        name: str,
        port: int,
        *,
        agents: str = "all",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.log = settings.parent / f"{settings.stem}-{name}.log"
        words = [f"{key}={value}" for key, value in (environment or {}).items()]
        command = [
            *("env", *words, sys.executable, "-m", "controlroom", "worker", "--cluster", str(settings)),
            *("--name", name, "--port", str(port), "--agents", agents),
        ]
        self._process = Child(f"worker {name}", command, self.log)

    def start(self) -> None:
        self._process.start()

    @property
    def child(self) -> psutil.Process | None:
        """The process that does the work."""
        if not self._process.is_running:
            return None
        try:
            found = psutil.Process(self._process.pid).children()
        except psutil.NoSuchProcess:
            return None
        return found[0] if found else None

    def kill(self) -> None:
        """Kill -9 the child; its supervisor starts another."""
        child = self.child
        if child is not None:
            child.kill()

    def kill_all(self) -> None:
        """Kill -9 both."""
        if self._process.is_running:
            self._process.kill()

    def suspend(self) -> int | None:
        """SIGSTOP the child; its number."""
        child = self.child
        if child is None:
            return None
        child.suspend()
        return child.pid

    def stop(self) -> int:
        """SIGTERM; the exit status, -9 where that had to be helped on."""
        return self._process.stop(30.0)

    def wait(self, within_s: float) -> int:
        """The exit status of a worker that ends by itself."""
        return self._process.wait(within_s)

    def text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""


@contextmanager
def workers(
    settings: Path,
    names: Sequence[str],
    ports: Sequence[int],
    *,
    agents: Sequence[str] = (),
    environments: Sequence[Mapping[str, str]] = (),
) -> Iterator[list[WorkerProcess]]:
    """Started workers, killed at the end if they are still there."""
    groups = list(agents) or ["all"] * len(names)
    own = list(environments) or [{}] * len(names)
    made = [
        WorkerProcess(settings, name, port, agents=group, environment=environment)
        for name, port, group, environment in zip(names, ports, groups, own, strict=True)
    ]
    try:
        for worker in made:
            worker.start()
        yield made
    finally:
        for worker in made:
            worker.kill_all()


def disturbed(
    records: Sequence[tuple[int, Record]], share: float, chance: random.Random
) -> list[tuple[int, Record]]:
    """Records as a bad line delivers them: repeated, and out of order between two ticks."""
    found: list[tuple[int, Record]] = []
    between: list[tuple[int, Record]] = []
    sent: list[Record] = []
    for time_ms, record in records:
        if record.key != b"clock":
            between.append((time_ms, record))
            sent.append(record)
            continue
        if len(between) > 1 and chance.random() < 2 * share:
            chance.shuffle(between)
        for item in between:
            found.append(item)
            if chance.random() < share:
                found.append((item[0], chance.choice(sent[-20:])))
        between = []
        found.append((time_ms, record))
        if chance.random() < share:
            found.append((time_ms, record))
    return found + between


async def feed(
    cluster: Cluster,
    folder: Path,
    *,
    speed: float,
    share: float = 0.0,
    seed: int = 1,
    batch_rows: int = BATCH_ROWS,
) -> None:
    """Send the recordings of all regions at once."""
    producer = new_producer(cluster, linger_ms=5)
    await producer.start()

    async def one(partition: int, region: str) -> None:
        records = records_of(read_recording(folder / region), region, batch_rows)
        if share:
            records = disturbed(records, share, random.Random(f"{seed} {region}"))
        async for record in paced(records, speed):
            await _send(producer, cluster, partition, record)

    try:
        await asyncio.gather(*(one(p, region) for p, region in enumerate(cluster.regions)))
        await producer.flush()
    finally:
        await producer.stop()


async def _send(producer: object, cluster: Cluster, partition: int, record: Record) -> None:
    from aiokafka.errors import KafkaError

    while True:
        try:
            sent = await producer.send(  # type: ignore[attr-defined]
                cluster.topic(record.topic),
                value=record.value,
                key=record.key,
                partition=partition,
                headers=list(record.headers),
            )
            await sent
            return
        except KafkaError:  # the broker is being restarted; a repeat does no harm
            await asyncio.sleep(0.5)


class Gauge:
    """Offsets in snapshots against the ends of the log."""

    def __init__(self, cluster: Cluster, group: str = "all") -> None:
        self._cluster, self._group = cluster, group
        self._consumer: AIOKafkaConsumer | None = None
        self._snapshots = Snapshots(cluster, group)
        topic = cluster.topic(Topic.OBSERVATIONS)
        self._partitions = [TopicPartition(topic, p) for p in range(len(cluster.regions))]

    async def __aenter__(self) -> Gauge:
        self._consumer = AIOKafkaConsumer(**self._cluster.kafka.client_options())
        await self._consumer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._consumer is not None
        await self._consumer.stop()
        await self._snapshots.close()

    async def ends(self) -> list[int]:
        assert self._consumer is not None
        found = await self._consumer.end_offsets(self._partitions)
        return [found[tp] for tp in self._partitions]

    async def durable(self) -> list[int]:
        """Offset up to which each region's observations are in a snapshot."""
        offsets = []
        for region in self._cluster.regions:
            key = self._cluster.key("snap", self._group, region)
            offsets.append(int(await self._snapshots.redis.hget(key, "offset:observations") or 0))
        return offsets

    async def closed(self, step_ms: int, within_s: float) -> None:
        """Wait until each region has closed a step and its outputs are in the log."""
        async with asyncio.timeout(within_s):
            for region in self._cluster.regions:
                while int((await self._snapshots.about(region))[0].get("step_ms", 0)) < step_ms:
                    await asyncio.sleep(0.1)

    async def caught_up(self, within_s: float, *, lag_s: float = 0.0, of_new: bool = False) -> float:
        """Seconds until the snapshots hold all that was in the log ``lag_s`` ago.

        With ``of_new`` they must also hold something that has been sent since, in each region: a worker that
        is dead is not caught up because nothing has come yet.

        Raises
        ------
        TimeoutError
            When that takes longer than ``within_s``.
        """
        started = time.monotonic()
        seen = [(started, await self.ends())]
        while True:
            now = time.monotonic()
            durable = await self.durable()
            wanted = next((ends for t, ends in reversed(seen) if t <= now - lag_s), None)
            least = [end + 1 for end in seen[0][1]] if of_new else seen[0][1]
            if wanted is not None and all(
                d >= e and d >= f for d, e, f in zip(durable, wanted, least, strict=True)
            ):
                return now - started
            if now - started > within_s:
                raise TimeoutError(f"snapshots at {durable}, the log at {seen[-1][1]}, after {within_s} s")
            await asyncio.sleep(0.05)
            seen.append((time.monotonic(), await self.ends()))


async def results(cluster: Cluster) -> list[Published]:
    """What each region has published."""
    return [await published_of(cluster, region) for region in cluster.regions]


def settings_of(path: Path, environment: Mapping[str, str] | None = None) -> Cluster:
    return read_cluster(path, environment or {})


async def batches_of(cluster: Cluster, topic: Topic, partition: int = 0) -> list[Batch]:
    """All batches of a topic's partition."""
    tp = TopicPartition(cluster.topic(topic), partition)
    consumer = AIOKafkaConsumer(**cluster.kafka.client_options(), enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([tp])
        await consumer.seek_to_beginning(tp)
        last = (await consumer.end_offsets([tp]))[tp]
        found: list[Batch] = []
        while await consumer.position(tp) < last:
            for record in (await consumer.getmany(tp, timeout_ms=200)).get(tp, ()):
                message = read_message(record.value, record.headers)
                if isinstance(message, Output):
                    found.append(message.batch)
        return found
    finally:
        await consumer.stop()
