"""Questions over a real Redis: asked in a thread, answered by whoever has the agent, forgotten when stale."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import orjson
import pytest
from redis.asyncio import Redis

from cluster.child import free_ports
from cluster.redis_server import RedisServer
from streams.cluster import Cluster, KafkaSettings, RedisSettings
from streams.questions import ANSWER_KEPT_S, Asker, NoAnswerError, Question, Questions, RefusedError
from streams.snapshots import redis_of


@pytest.fixture
def cluster(redis_server: RedisServer, prefix: str) -> Cluster:
    name = prefix.rstrip("-")
    return Cluster(
        name, ("north", "south"), ("n", "s"), KafkaSettings(("-",)), RedisSettings(redis_server.url)
    )


@asynccontextmanager
async def answering(
    cluster: Cluster, region: str, names: set[str], heard: list[Question], from_id: str | None = None
) -> AsyncIterator[Redis]:
    """A worker that answers with what it was asked, and refuses what is called "bad"."""
    redis = redis_of(cluster.redis)
    questions = Questions(cluster, redis)

    async def work() -> None:
        async for question in questions.asked(region, names.__contains__, from_id):
            heard.append(question)
            if question.name == "bad":
                await questions.refuse(question, "segment: got -1")
            else:
                await questions.answer(question, {"name": question.name, **question.arguments})

    task = asyncio.create_task(work())
    try:
        yield redis
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await redis.aclose()


async def asked(cluster: Cluster, call: Callable[[Asker], object], timeout_s: float = 10.0) -> object:
    asker = Asker(cluster, "north", timeout_s=timeout_s)
    try:
        return await asyncio.to_thread(call, asker)
    finally:
        asker.close()


async def test_only_who_has_the_agent_answers_and_answers_go_by_themselves(cluster: Cluster) -> None:
    fusion: list[Question] = []
    air: list[Question] = []
    south: list[Question] = []
    async with (
        answering(cluster, "north", {"explain", "bad"}, fusion) as redis,
        answering(cluster, "north", {"explain_air"}, air),
        answering(cluster, "south", {"explain"}, south),
    ):
        assert await asked(cluster, lambda a: a.ask("explain", segment=3)) == {
            "name": "explain",
            "segment": 3,
        }
        assert await asked(cluster, lambda a: a.ask("explain_air", cell=1)) == {
            "name": "explain_air",
            "cell": 1,
        }
        with pytest.raises(RefusedError, match="segment: got -1"):
            await asked(cluster, lambda a: a.ask("bad"))
        await Questions(cluster, redis).answer(Question("late", "explain", {}), 1)
        key = cluster.key("answers", "late")
        assert 0 < await redis.ttl(key) <= ANSWER_KEPT_S
    assert ([q.name for q in fusion], [q.name for q in air], south) == (
        ["explain", "bad"],
        ["explain_air"],
        [],
    )


async def test_a_stale_question_is_skipped_and_one_that_cannot_be_read_stops_nobody(cluster: Cluster) -> None:
    redis = redis_of(cluster.redis)
    key = cluster.key("questions", "north")
    seconds, _ = await redis.time()
    old = orjson.dumps({"id": "old", "name": "explain", "arguments": {}})
    await redis.xadd(key, {"question": old}, id=f"{seconds - 11}000-0")
    for raw in (
        b"{",
        b"[1]",
        b'{"id": 1, "name": "explain"}',
        b'{"id": "x", "name": "explain", "arguments": 5}',
    ):
        await redis.xadd(key, {"question": raw})
    await redis.xadd(key, {"other": "field"})
    await redis.aclose()
    heard: list[Question] = []
    async with answering(cluster, "north", {"explain"}, heard, from_id="0-0"):
        await asked(cluster, lambda a: a.ask("explain"))
    assert len(heard) == 1
    assert heard[0].id != "old"


async def test_a_question_that_nobody_answers_ends_with_the_reason(cluster: Cluster) -> None:
    with pytest.raises(NoAnswerError, match="gains: no worker of region north answered in 0"):
        await asked(cluster, lambda a: a.ask("gains"), timeout_s=0.05)
    away = Cluster(
        "c", ("north",), ("n",), cluster.kafka, RedisSettings(f"redis://127.0.0.1:{free_ports(1)[0]}/0")
    )
    with pytest.raises(NoAnswerError, match="gains: Redis does not answer"):
        await asked(away, lambda a: a.ask("gains"))
