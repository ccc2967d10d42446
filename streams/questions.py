"""Questions of dashboards to whoever runs a region's agents, over Redis: JSON both ways.

A question is an entry of the region's stream, its answer a list of its own that is gone after half a minute.
Nobody owns a question: whichever worker has the agent it is about answers, and one that nobody can answer in
time is dropped by all.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import orjson
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import RedisError

from streams.cluster import Cluster, RedisSettings

QUESTIONS_KEPT = 1000
STALE_MS = 10_000  # by Redis' clock: whoever asked has given up by then
ANSWER_KEPT_S = 30
BLOCK_MS = 1_000
RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)

log = logging.getLogger("twinroom.questions")


class QuestionError(RuntimeError):
    """A question that got no answer.

    NoAnswerError (nobody in time), RefusedError (somebody, who says why not).
    """


class NoAnswerError(QuestionError):
    """Nobody answered in time, or Redis is away."""


class RefusedError(QuestionError):
    """The answer is that there is none, and why."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the agents of a region."""

    id: str
    name: str
    arguments: Mapping[str, Any]


class Questions:
    """The answering side, in a worker.

    Parameters
    ----------
    cluster : Cluster
    redis : redis.asyncio.Redis
        As of :func:`streams.snapshots.redis_of`.
    """

    def __init__(self, cluster: Cluster, redis: AsyncRedis) -> None:
        self._cluster, self._redis = cluster, redis

    async def asked(
        self, region: str, is_mine: Callable[[str], bool], from_id: str | None = None
    ) -> AsyncIterator[Question]:
        """Questions of a region, without end; Redis may go away and come back meanwhile.

        Parameters
        ----------
        is_mine : callable
            Whether questions of this name are answered here (:func:`agents.engines.answers.is_mine`).
        from_id : str, optional
            Entry after which to begin; without it what was asked in the last ten seconds is heard too.
        """
        key, last, tried = self._cluster.key("questions", region), from_id, 0
        while True:
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # a cancellation that met an answer of Redis is lost
                raise asyncio.CancelledError
            try:
                if last is None:
                    last = f"{max(0, await self._now_ms() - STALE_MS)}-0"
                found: Any = await self._redis.xread({key: last}, count=64, block=BLOCK_MS)
                now_ms = await self._now_ms() if found else 0
            except (RedisError, OSError) as error:
                if tried == 0:
                    log.warning("region %s: no questions while Redis is away: %r", region, error)
                await asyncio.sleep(RETRY_S[min(tried, len(RETRY_S) - 1)])
                tried += 1
                continue
            tried = 0
            for _, entries in found:
                for identifier, fields in entries:
                    last = identifier.decode()
                    is_stale = now_ms - int(last.partition("-")[0]) > STALE_MS
                    question = None if is_stale else _read(fields)
                    if question is not None and is_mine(question.name):
                        yield question

    async def answer(self, question: Question, value: Any) -> None:
        """Answer a question; ``value`` is plain or made of dataclasses. Raises RedisError."""
        await self._push(question, {"value": value})

    async def refuse(self, question: Question, reason: str) -> None:
        """Answer why a question has no answer. Raises RedisError."""
        await self._push(question, {"error": reason})

    async def _push(self, question: Question, told: Mapping[str, Any]) -> None:
        key = self._cluster.key("answers", question.id)
        async with self._redis.pipeline(transaction=False) as both:
            both.rpush(key, orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS))
            both.expire(key, ANSWER_KEPT_S)
            await both.execute()

    async def _now_ms(self) -> int:
        seconds, micros = await self._redis.time()
        return int(seconds) * 1000 + int(micros) // 1000


class Asker:
    """The asking side, for threads: one question at a time on each connection.

    Parameters
    ----------
    timeout_s : float
        Longest wait for an answer.
    """

    def __init__(self, cluster: Cluster, region: str, *, timeout_s: float = 5.0) -> None:
        self._cluster, self._region, self._timeout_s = cluster, region, timeout_s
        self._redis = blocking_redis_of(cluster.redis)

    def ask(self, name: str, **arguments: Any) -> Any:
        """Answer to a question, as JSON has it.

        Raises
        ------
        NoAnswerError
            When none came in time, or Redis is away.
        RefusedError
            When the worker cannot answer, with its reason.
        """
        question = orjson.dumps({"id": (identifier := uuid4().hex), "name": name, "arguments": arguments})
        started = time.monotonic()
        try:
            self._redis.xadd(
                self._cluster.key("questions", self._region),
                {"question": question},
                maxlen=QUESTIONS_KEPT,
                approximate=True,
            )
            found = self._redis.blpop([self._cluster.key("answers", identifier)], timeout=self._timeout_s)
        except (RedisError, OSError) as error:
            raise NoAnswerError(f"{name}: Redis does not answer: {error}") from error
        if found is None:
            waited_s = time.monotonic() - started
            raise NoAnswerError(f"{name}: no worker of region {self._region} answered in {waited_s:.1f} s")
        told = orjson.loads(found[1])
        if "error" in told:
            raise RefusedError(str(told["error"]))
        return told["value"]

    def close(self) -> None:
        self._redis.close()


def blocking_redis_of(settings: RedisSettings) -> Redis:
    """Client of the cluster's Redis for threads; one that is silent for ten seconds is taken for away."""
    client: Redis = Redis.from_url(
        settings.url,
        socket_timeout=10.0,
        socket_connect_timeout=5.0,
        health_check_interval=15,
        **settings.client_options(),
    )
    return client


def _read(fields: Mapping[bytes, bytes]) -> Question | None:
    """Question of an entry; None, and a line in the log, for one that nobody could be answered."""
    raw = fields.get(b"question", b"")
    try:
        told = orjson.loads(raw)
        identifier, name, arguments = told["id"], told["name"], told.get("arguments", {})
    except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError) as error:
        log.warning("a question cannot be read: %r: %s", raw[:200], error)
        return None
    if not isinstance(identifier, str) or not isinstance(name, str) or not isinstance(arguments, dict):
        log.warning("a question cannot be read: %r: id and name are texts, arguments an object", raw[:200])
        return None
    return Question(identifier, name, arguments)
