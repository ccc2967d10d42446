"""A worker of the distributed engine: a Faust app that runs the agents of the regions assigned to it.

Kafka carries the messages and says which worker has which region; Redis holds the snapshots
(:mod:`streams.snapshots`) and decides where a region goes on. The agents are those of the embedded engine.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import faust
from aiokafka import AIOKafkaProducer
from faust.types import TP
from threadpoolctl import threadpool_limits

from agents.chain import group_name, topics_of
from agents.engines.metrics import Metrics
from agents.engines.region import RegionEngine
from agents.engines.region_task import Incoming, Pace, RegionTask, Surroundings, until_done
from agents.engines.snapshot_consumer import SnapshotApp
from streams.cluster import Cluster
from streams.kafka import check_topics, new_producer, when_ready
from streams.questions import Questions
from streams.snapshots import Claim, ClaimRefusedError, Snapshots
from streams.topics import Topic

CLAIM_AGAIN_S = 5.0
START_S = 60.0  # to join the group; a supervisor starts a worker anew that has not by then
END_S = 15.0  # for the last snapshots; what they lack is read again from the log
STUCK_S = 60.0  # with messages to take in and none taken in
CRASHED = 72  # exit status that asks a supervisor for a restart

log = logging.getLogger("twinroom.worker")
Load = Callable[[str, Sequence[str]], RegionEngine]


class Worker:
    """Regions of one process, as they are assigned.

    Parameters
    ----------
    cluster : Cluster
    names : sequence of str
        Agents, upstream before downstream (:func:`agents.chain.group_of`).
    load : callable
        Engine of a region with these agents; called in a thread.
    name : str
        Tells this worker from others; a worker that comes back under its name within the session goes on
        with its regions without a rebalance.
    """

    def __init__(self, cluster: Cluster, names: Sequence[str], load: Load, name: str) -> None:
        self.cluster, self.name, self.group = cluster, name, group_name(names)
        self.metrics = Metrics()
        self.tasks: dict[int, RegionTask] = {}
        self.started_s = time.monotonic()
        self.is_joined = False
        self._names, self._load = tuple(names), load
        self._topics = {cluster.topic(topic): topic for topic in topics_of(names)}
        self._snapshots = Snapshots(cluster, self.group)
        self._executor = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="region")
        self._tries: dict[int, dict[tuple[Topic, int], int]] = {}
        self._preloaded: dict[str, Future[RegionEngine]] = {}
        self._reloads: set[asyncio.Task[None]] = set()
        self._stopped = asyncio.Event()
        self._taking_up = asyncio.Lock()  # Faust seeks from the fetcher and after a rebalance, also at once
        self._generation = -1
        self._pace = Pace()
        self.app = self._new_app()

    def _new_app(self) -> SnapshotApp:
        kafka = self.cluster.kafka
        credentials: dict[str, Any] = {}
        if kafka.security == "sasl_ssl":
            credentials["broker_credentials"] = faust.SASLCredentials(
                username=kafka.user, password=kafka.password(), ssl_context=kafka.tls(),
                mechanism="SCRAM-SHA-512",
            )  # fmt: skip
        app = SnapshotApp(
            f"{self.cluster.name}-{self.group}",
            recovery=self,
            broker=[f"kafka://{address}" for address in kafka.bootstrap],
            consumer_group_instance_id=self.name,
            web_enabled=False,  # Faust's own listens on all interfaces, without a login
            topic_disable_leader=True,
            topic_allow_declare=False,
            autodiscover=False,
            value_serializer="raw",
            key_serializer="raw",
            worker_redirect_stdouts=False,
            stream_wait_empty=False,
            stream_buffer_maxsize=64,
            broker_max_poll_records=200,
            broker_commit_interval=1.0,
            broker_session_timeout=kafka.session_s,
            broker_heartbeat_interval=kafka.session_s / 6,
            broker_request_timeout=max(10.0, kafka.session_s),
            broker_rebalance_timeout=max(10.0, kafka.session_s),
            consumer_metadata_max_age_ms=10_000,
            consumer_auto_offset_reset="earliest",
            consumer_max_fetch_size=4 << 20,
            **credentials,
        )
        channel = app.topic(*self._topics, key_type=bytes, value_type=bytes)

        async def take_in(stream: Any) -> None:
            async for event in stream.events():
                message = event.message
                task = self.tasks.get(message.partition)
                if task is not None:
                    topic = self._topics[message.topic]
                    await task.put(Incoming(topic, message.offset, message.value, message.headers))

        app.agent(channel, name="take_in")(take_in)
        return app

    # ---- called by the consumer ----

    async def take_up(self, assigned: set[TP], generation: int) -> Mapping[TP, int]:
        """Claim the regions of the assigned partitions, drop all others; where to read on."""
        async with self._taking_up:
            return await self._take_up(assigned, generation)

    async def _take_up(self, assigned: set[TP], generation: int) -> dict[TP, int]:
        self.is_joined = True
        mine = {tp.partition for tp in assigned if tp.topic in self._topics}
        for partition in self.tasks.keys() - mine:
            await self._drop(partition)
        is_new = generation != self._generation
        found = await asyncio.gather(*(self._take_up_one(p, generation, is_new) for p in sorted(mine)))
        self._generation = generation
        offsets: dict[TP, int] = {}
        for partition, following in zip(sorted(mine), found, strict=True):
            for tp in assigned:
                if tp.partition == partition and tp.topic in self._topics and following is not None:
                    offsets[tp] = following.get(self._topics[tp.topic], 0)
        return offsets

    async def _take_up_one(self, partition: int, generation: int, is_new: bool) -> Mapping[Topic, int] | None:
        region = self.cluster.regions[partition]
        held = self.tasks.get(partition)
        if held is not None:
            if held.is_running and not is_new:
                return held.queued
            await held.hold()
        try:
            claim = await until_done(
                f"region {region}: Redis", lambda: self._snapshots.claim(region, generation, self.name)
            )
        except ClaimRefusedError as error:
            log.warning("%s; asking again in %g s", error, CLAIM_AGAIN_S)
            self.metrics.claims.labels(region, self.group, "refused").inc()
            await self._drop(partition)
            self._reload_later(CLAIM_AGAIN_S)
            return None
        self.metrics.claims.labels(region, self.group, "granted").inc()
        if held is not None and held.is_running and claim.epoch == held.epoch + 1:
            held.go_on(claim.epoch)  # nobody else had it meanwhile
            return held.next
        await self._drop(partition)
        task = self.tasks[partition] = RegionTask(self._surroundings(partition), claim)
        log.info("region %s: epoch %d, %s", region, claim.epoch, _where(claim))
        return task.next

    def durable(self, tp: TP) -> int | None:
        task = self.tasks.get(tp.partition)
        return None if task is None else task.durable.get(self._topics[tp.topic])

    # ---- regions ----

    def _surroundings(self, partition: int) -> Surroundings:
        region = self.cluster.regions[partition]

        def producer() -> AIOKafkaProducer:
            return new_producer(
                self.cluster, transactional_id=f"{self.cluster.name}-{self.group}-{region}", linger_ms=5
            )

        return Surroundings(
            region=region,
            group=self.group,
            snapshots=self._snapshots,
            executor=self._executor,
            metrics=self.metrics,
            load=lambda: self._engine(region),
            topic_name=self.cluster.topic,
            new_producer=producer,
            lost=lambda: self._reload_later(0.0),
            pace=self._pace,
            partition=partition,
            tries=self._tries.setdefault(partition, {}),
            questions=Questions(self.cluster, self._snapshots.redis),
        )

    def _engine(self, region: str) -> RegionEngine:
        """Engine of a region, from the start of this process or made now; called in a thread."""
        ready = self._preloaded.pop(region, None)
        return self._load(region, self._names) if ready is None else ready.result()

    async def _preload(self) -> None:
        """Begin to load what a worker of this name had, while the group is still being joined."""
        for region in self.cluster.regions:
            about, _ = await self._snapshots.about(region)
            if about.get("owner") == self.name:
                self._preloaded[region] = self._executor.submit(self._load, region, self._names)

    async def _drop(self, partition: int, *, save: bool = False) -> None:
        task = self.tasks.pop(partition, None)
        if task is not None:
            await task.stop(save=save)

    def _reload_later(self, wait_s: float) -> None:
        if any(not task.done() for task in self._reloads):
            wait_s = max(wait_s, 0.2)
        task = asyncio.create_task(self._reload(wait_s))
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _reload(self, wait_s: float) -> None:
        """Take up snapshots again between two rebalances, with the flow stopped as in one."""
        await asyncio.sleep(wait_s)
        if self._stopped.is_set():
            return
        consumer, flow = self.app.consumer, self.app.flow_control
        consumer.stop_flow()
        flow.suspend()
        flow.clear()
        await consumer.wait_for_stopped_flow()
        await consumer.perform_seek()
        consumer.resume_flow()
        flow.resume()

    # ---- life ----

    async def run(self) -> None:
        """Run until a signal; ends the process where only a restart helps."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stopped.set)
        topics = tuple(self._topics.values())
        await when_ready(lambda: check_topics(self.cluster, topics), "Kafka")
        await until_done("Redis", self._preload)
        log.info("worker %s: joining group %s-%s", self.name, self.cluster.name, self.group)
        with threadpool_limits(limits=1, user_api="blas"):
            try:
                await asyncio.wait_for(self.app.start(), START_S)
            except TimeoutError:
                log.error("worker %s: could not join its group in %g s; ending", self.name, START_S)
                os._exit(CRASHED)
            try:
                await self._watch()
                await self._end()
            except Exception:
                log.exception("worker %s: ending", self.name)
                os._exit(CRASHED)

    async def _watch(self) -> None:
        """Until told to stop: keep the figures up to date, and end when Faust has crashed."""
        while not self._stopped.is_set():
            if self.app.crashed or self.app.should_stop or self.app.consumer.crashed:
                log.error("worker %s: %r; ending", self.name, self.app.crash_reason)
                os._exit(CRASHED)
            self._measure()
            try:
                await asyncio.wait_for(self._stopped.wait(), 1.0)
            except TimeoutError:
                continue

    def _measure(self) -> None:
        now = time.monotonic()
        for partition, task in self.tasks.items():
            labels = self.cluster.regions[partition], self.group
            self.metrics.lag.labels(*labels).set(self.lag(partition))
            self.metrics.progress_age.labels(*labels).set(now - task.progress_s)
            self.metrics.snapshot_age.labels(*labels).set(now - task.snapshot_s if task.snapshot_s else 0.0)

    def lag(self, partition: int) -> int:
        """Messages in the log behind the snapshot of a region."""
        task = self.tasks[partition]
        total = 0
        for name, topic in self._topics.items():
            total += max(0, self._end_of(TP(name, partition)) - task.durable.get(topic, 0))
        return total

    def _end_of(self, tp: TP) -> int:
        """Next offset of a partition as last heard from Kafka, 0 where it is not ours."""
        try:
            return self.app.consumer.highwater(tp) or 0
        except AssertionError:  # aiokafka's way to say that it has been revoked
            return 0

    def stuck(self) -> list[str]:
        """Regions that have messages to take in and have taken in none for a minute.

        One whose city is being prepared, which may take minutes the first time, is not.
        """
        now = time.monotonic()
        return [
            self.cluster.regions[partition]
            for partition, task in self.tasks.items()
            if not task.is_running
            or (task.engine is not None and task.n_queued and now - task.progress_s > STUCK_S)
        ]

    async def _end(self) -> None:
        """Write last snapshots and leave."""
        self.app.consumer.stop_flow()
        drops = [self._drop(partition, save=True) for partition in list(self.tasks)]
        try:
            await asyncio.wait_for(asyncio.gather(*drops), END_S)
            log.info("worker %s: snapshots written, leaving", self.name)
        except TimeoutError:
            log.warning("worker %s: last snapshots not written in %g s, leaving without", self.name, END_S)
        await self._snapshots.close()
        self._executor.shutdown(wait=False, cancel_futures=True)
        try:
            await asyncio.wait_for(self.app.stop(), 5.0)
        except TimeoutError:
            log.warning("worker %s: Faust did not stop in 5 s", self.name)


def _where(claim: Claim) -> str:
    if not claim.offsets:
        return "new, from the beginning of the log"
    return "from " + ", ".join(f"{topic} {offset}" for topic, offset in sorted(claim.offsets.items()))
