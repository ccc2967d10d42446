"""Boards fed over a real Redis show what a board on the bus of one process shows, whatever is away meanwhile."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pytest

from agents.chain import CHAIN, group_of
from agents.engines.answers import answer, is_mine
from agents.engines.embedded import EmbeddedEngine
from agents.fusion import FusionAgent
from agents.room import make_agents
from cities.pack import City, load_city
from cluster.broker import Broker
from cluster.child import free_ports
from cluster.redis_server import RedisServer
from dashboards.board import Board
from dashboards.feed_frames import FrameFeed
from dashboards.layers import LAYERS
from dashboards.remote import RemoteControl
from kernels.network import Direction, Mode
from streams.cluster import Cluster, KafkaSettings, RedisSettings
from streams.frames import frame_of
from streams.kafka import make_topics
from streams.messages import Mark, Output, mark_record, output_record
from streams.player import Player
from streams.questions import Questions
from streams.recording import read_recording
from streams.snapshots import FRAMES_KEPT, Frame, Snapshots
from streams.topics import Batch, Topic
from studies.prepare import prepare_city
from tests.cluster.cast import batches_of
from tests.toy import write_toy_city

MINUTES, REGION = 35, "toyville"
GROUPS = {"all": "all", "fusion": "fusion", "rest": "emission,air,noise,exposure,alarms"}


@dataclass(frozen=True)
class Town:
    """A town after its recording: what was shown of it, and the frames that workers would have written."""

    city: City
    board: Board
    agents: tuple[Any, ...]
    published: list[list[Output | Mark]]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Town:
    folder = tmp_path_factory.mktemp("town") / REGION
    write_toy_city(folder, minutes=MINUTES, bump=3.0)
    city = load_city(folder)
    prepared = prepare_city(city, lambda _what, _fraction: None)
    agents = make_agents(city, prepared.prior, prepared.air, prepared.noise)
    engine, board = EmbeddedEngine(city, agents), Board(city)
    engine.bus.subscribe(Topic, board.apply)
    engine.on_step.append(lambda now_ms, _wall_s: board.close(now_ms))
    published: list[list[Output | Mark]] = [[]]

    def end_step(now_ms: int, _wall_s: float) -> None:
        published[-1].extend(Mark(topic, kind.name, now_ms) for kind in CHAIN for topic in kind.produces)
        published.append([])

    made_by_agents = [topic for topic in Topic if topic not in (Topic.OBSERVATIONS, Topic.OPERATOR_ACTIONS)]
    engine.bus.subscribe(made_by_agents, lambda batch: published[-1].append(Output(agent_of(batch), batch)))
    engine.on_step.append(end_step)
    Player(read_recording(folder), engine).run()
    assert published.pop() == []
    return Town(city, board, agents, published)


def agent_of(batch: Batch) -> str:
    """Which agent made a batch."""
    if batch.topic is Topic.FIELDS:
        return "noise" if batch.key.startswith("noise/") else "air"
    return (
        "fusion"
        if batch.topic is Topic.DEADLETTERS
        else next(k.name for k in CHAIN if batch.topic in k.produces)
    )


@pytest.fixture
def cluster(redis_server: RedisServer, prefix: str) -> Cluster:
    kafka = KafkaSettings((f"127.0.0.1:{free_ports(1)[0]}",))
    return Cluster(prefix.rstrip("-"), (REGION,), (REGION,), kafka, RedisSettings(redis_server.url))


class Writer:
    """Writes steps with a snapshot, as a worker of a group does."""

    def __init__(self, cluster: Cluster, agents: str = "all") -> None:
        self._names = group_of(agents)
        self._cluster, self._group = cluster, agents
        self._epoch = 0

    async def write(self, published: list[list[Output | Mark]]) -> None:
        snapshots = Snapshots(self._cluster, self._group)
        try:
            if not self._epoch:
                self._epoch = (await snapshots.claim(REGION, 1, "w")).epoch
            for outputs in published:
                mine = [o for o in outputs if o.agent in self._names]
                pairs = [
                    (o, mark_record(o, REGION) if isinstance(o, Mark) else output_record(o, REGION))
                    for o in mine
                ]
                end_ms = max(o.time_ms for o in outputs if isinstance(o, Mark))
                frame = frame_of(self._group, end_ms, pairs)
                assert await snapshots.write(REGION, self._epoch, {}, {}, frame, end_ms)
        finally:
            await snapshots.close()

    def __call__(self, published: list[list[Output | Mark]]) -> None:
        asyncio.run(self.write(published))


@contextmanager
def fed(cluster: Cluster, city: City) -> Iterator[tuple[Board, FrameFeed]]:
    board = Board(city)
    feed = FrameFeed(cluster, REGION, board)
    feed.start()
    try:
        assert reaches(lambda: feed.is_following)
        yield board, feed
    finally:
        feed.close()


def reaches(condition: Callable[[], bool], within_s: float = 20.0) -> bool:
    pause, end_s = threading.Event(), time.monotonic() + within_s
    while time.monotonic() < end_s:
        if condition():
            return True
        pause.wait(0.01)
    return False


def shows(board: Board, other: Board, *, with_trends: bool = False) -> bool:
    """Whether two boards show the same: every scene, street, alarm and figure that does not count steps."""
    for layer in LAYERS.values():
        for averaging in ("now", "1h") if layer.quantity else ("now",):
            ours, theirs = asdict(board.scene(layer, averaging)), asdict(other.scene(layer, averaging))
            for name in ours:
                np.testing.assert_array_equal(
                    ours[name], theirs[name], err_msg=f"{layer.name} {averaging} {name}"
                )
    assert board.alarms() == other.alarms()
    figures = [
        replace(b.key_figures(), n_readings=0, n_changed_segments=0, n_cells_updated=0)
        for b in (board, other)
    ]
    assert figures[0] == figures[1]
    assert [str(board.street(s)) for s in range(20)] == [str(other.street(s)) for s in range(20)]
    if with_trends:
        np.testing.assert_array_equal(board.trend(0)[0], other.trend(0)[0])
        for name, values in board.trend(0)[1].items():
            np.testing.assert_array_equal(values, other.trend(0)[1][name], err_msg=name)
    return board.now_ms == other.now_ms


def test_two_dashboards_show_what_the_bus_shows_with_all_its_trends(town: Town, cluster: Cluster) -> None:
    with fed(cluster, town.city) as (first, _), fed(cluster, town.city) as (second, _):
        write = Writer(cluster)
        for at in range(0, MINUTES, 10):  # never more than Redis keeps
            part = town.published[at : at + 10]
            write(part)
            end_ms = part[-1][-1].time_ms  # type: ignore[union-attr]
            assert reaches(lambda end_ms=end_ms: first.now_ms == second.now_ms == end_ms)  # type: ignore[misc]
        for board in (first, second):
            assert shows(board, town.board, with_trends=True)
        assert first.key_figures().n_changed_segments == town.board.key_figures().n_changed_segments


def test_groups_of_agents_that_write_apart_make_the_same(town: Town, cluster: Cluster) -> None:
    with fed(cluster, town.city) as (board, _):
        fusion, rest = Writer(cluster, GROUPS["fusion"]), Writer(cluster, GROUPS["rest"])
        for at in range(0, MINUTES, 5):
            part = town.published[at : at + 5]
            fusion(part[:3])
            rest(part[:2])
            fusion(part[3:])  # three steps ahead: as far as it is waited for
            rest(part[2:])
            end_ms = part[-1][-1].time_ms  # type: ignore[union-attr]
            assert reaches(lambda end_ms=end_ms: board.now_ms == end_ms)  # type: ignore[misc]
        assert shows(board, town.board, with_trends=True)


def test_a_dashboard_that_starts_late_or_falls_behind_takes_the_latest(town: Town, cluster: Cluster) -> None:
    write = Writer(cluster)
    write(town.published[:5])
    with fed(cluster, town.city) as (board, feed):
        assert reaches(lambda: board.version == 1)
        read, may_go_on = feed._redis.xread, threading.Event()
        feed._redis.xread = lambda *a, **k: (may_go_on.wait(30), read(*a, **k))[1]  # type: ignore[method-assign]
        assert len(town.published) - 5 > FRAMES_KEPT
        write(town.published[5:])
        may_go_on.set()
        assert reaches(lambda: board.now_ms == town.board.now_ms)
        assert shows(board, town.board)
        assert board.version < 10


def test_redis_may_go_and_come_back(town: Town, cluster: Cluster, redis_server: RedisServer) -> None:
    write = Writer(cluster)
    write(town.published[:10])
    with fed(cluster, town.city) as (board, feed):
        control = RemoteControl(cluster, REGION, town.city, board, feed, timeout_s=0.2)
        assert reaches(lambda: board.version == 1)
        before = board.now_ms
        redis_server.stop()
        try:
            assert reaches(lambda: feed.state.away_since_s > 0)
            (told,) = (n for n in control.notices() if "Redis" in n)
            assert told.startswith("no connection to Redis since ")
            assert (board.now_ms, control.status().mode) == (before, "LIVE")
            assert control.health()["has_redis"] is False
        finally:
            redis_server.start()
        write(town.published[10:20])
        write(town.published[20:])
        assert reaches(lambda: board.now_ms == town.board.now_ms and not feed.state.away_since_s)
        assert shows(board, town.board)
        assert not [n for n in control.notices() if "Redis" in n]
        control.close()


def test_a_frame_that_cannot_be_read_is_counted_and_what_it_held_is_shown(
    town: Town, cluster: Cluster
) -> None:
    with fed(cluster, town.city) as (board, feed):
        Writer(cluster)(town.published[:10])

        async def write_bad() -> None:
            snapshots = Snapshots(cluster, "other")
            epoch = (await snapshots.claim(REGION, 1, "w")).epoch
            await snapshots.write(REGION, epoch, {}, {}, Frame({}, b"\xc1 of another make"), 0)
            await snapshots.close()

        asyncio.run(write_bad())
        assert reaches(lambda: feed.state.n_undecodable == 1)
        Writer(cluster, "all")(town.published[10:])
        assert reaches(lambda: board.now_ms == town.board.now_ms)
        assert shows(board, town.board)
        control = RemoteControl(cluster, REGION, town.city, board, feed)
        assert "1 frames could not be read" in control.notices()
        control.close()


def test_questions_reach_the_agents_and_an_acknowledgement_that_kafka_does_not_take_is_told(
    town: Town, cluster: Cluster
) -> None:
    fusion = next(a for a in town.agents if isinstance(a, FusionAgent))
    with fed(cluster, town.city) as (board, feed), answering(cluster, town):
        control = RemoteControl(cluster, REGION, town.city, board, feed)
        Writer(cluster)(town.published[-1:])
        segment = town.city.segment_ids.index("h00")
        assert reaches(lambda: bool(control.evidence(segment)))
        assert list(control.evidence(segment)) == fusion.evidence(segment)
        assert list(control.faults()) == fusion.faults()
        assert list(control.gains()) == fusion.gains()
        assert control.explain(0, Direction.FORWARD, Mode.CAR) == fusion.explain(
            0, Direction.FORWARD, Mode.CAR
        )
        assert control.explain_air(10**9, "no2", "now") is None
        assert "the workers do not answer questions" in control.notices()
        origin = control.explain_air(1200, "no2", "now")
        assert origin is not None
        assert control.notices() == []
        assert control.transport is None
        control.acknowledge("no2/we", "local", "")
        assert reaches(lambda: "no2/we" in control.refused())
        assert "Kafka does not answer" in control.refused()["no2/we"]
        control.close()


@contextmanager
def answering(cluster: Cluster, town: Town) -> Iterator[None]:
    """A worker that answers with the town's agents."""
    loop = asyncio.new_event_loop()
    snapshots = Snapshots(cluster, "all")

    async def work() -> None:
        questions = Questions(cluster, snapshots.redis)
        async for question in questions.asked(REGION, lambda name: is_mine(town.agents, name)):
            try:
                await questions.answer(question, answer(town.agents, question.name, question.arguments))
            except ValueError as error:
                await questions.refuse(question, str(error))

    async def run(ended: asyncio.Event) -> None:
        task = asyncio.create_task(work())
        await ended.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await snapshots.close()

    ended = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(run(ended)))
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(20)
        loop.close()


def test_an_acknowledgement_stands_in_the_log_with_an_id_of_its_own(
    town: Town, cluster: Cluster, broker: Broker
) -> None:
    cluster = replace(cluster, kafka=KafkaSettings((broker.address,)))
    asyncio.run(make_topics(cluster))
    with fed(cluster, town.city) as (board, feed):
        control = RemoteControl(cluster, REGION, town.city, board, feed)
        control.acknowledge("no2/we", "local", "seen")
        control.acknowledge("no2/we", "local", "seen")
        control.close()
    assert control.refused() == {}
    actions = asyncio.run(batches_of(cluster, Topic.OPERATOR_ACTIONS))
    assert [(batch.key, str(batch.columns["who"][0])) for batch in actions] == [("no2/we", "local")] * 2
    assert len({batch.attributes["action_id"] for batch in actions}) == 2
