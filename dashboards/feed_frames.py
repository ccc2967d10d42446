"""Keeps a board up to date from Redis: the latest of each entity at first, then the steps as they close.

A thread reads; what it makes of the steps is a state machine of its own (:class:`StepKeeper`). Redis may be
away, be set back or drop frames that were not read in time: the board then shows the last there was.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from agents.chain import CHAIN
from dashboards.board import Board
from streams.clock import STEP_MS
from streams.cluster import Cluster
from streams.frames import Step, read_entity, read_step
from streams.messages import Mark, Message, Output
from streams.questions import blocking_redis_of
from streams.topics import Batch, Topic

AWAITED_STEPS = 3  # an agent that is further behind the others is no longer waited for
COUNTED = frozenset((Topic.OBSERVATIONS, Topic.DEADLETTERS))  # each batch adds to a sum: none is shown twice
BLOCK_MS = 1_000
SCANNED = 64  # entities of a reply: a tile is 33 kB, and Redis serves nobody else meanwhile
RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)
BEGINNING = "0-0"

log = logging.getLogger("twinroom.dashboard")


@dataclass(frozen=True, slots=True)
class FeedState:
    """How the reading goes; wall times in s since the epoch, 0 for never.

    Attributes
    ----------
    away_since_s : float
        When Redis was last heard, while it is away; 0 while it answers.
    frame_s : float
        When the last frame came.
    n_undecodable : int
        Frames and entities that could not be read here.
    behind : mapping of str to int
        Agents that are no longer waited for, and the end of their last step [ms].
    """

    away_since_s: float = 0.0
    frame_s: float = 0.0
    n_undecodable: int = 0
    behind: Mapping[str, int] = field(default_factory=dict)


class StepKeeper:
    """Closes a board's steps as the agents end them.

    Consumes
        the latest batch of each entity, and steps of groups of agents.
    Keeps
        the batches of open steps, the last end of each agent, and the newest batch seen of each entity.
    Guarantees
        a step closes once all agents that are known to write have ended it, but no agent keeps the others
        for more than three steps: what it says later is shown when it comes.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self._newest: dict[tuple[Topic, str], tuple[int, int]] = {}
        self._heard: dict[str, int] = {}  # last end that an agent told
        self._marks: dict[str, int] = {}  # the same, or what is taken for it of an agent that is awaited
        self._behind: set[str] = set()
        self._open: dict[str, list[Batch]] = {}
        self._ended: dict[int, list[Batch]] = {}
        self._closed_ms = 0

    @property
    def behind(self) -> dict[str, int]:
        """Agents that are no longer waited for, and the end of their last step [ms]."""
        return {agent: self._marks[agent] for agent in sorted(self._behind)}

    def take_latest(self, messages: Iterable[Message]) -> None:
        """Show the latest of each entity, of whatever step it is."""
        outputs = [message for message in messages if isinstance(message, Output)]
        counted = {entity: order for entity, order in self._newest.items() if entity[0] in COUNTED}
        self._forget()
        if not outputs:
            return
        now_ms = max(output.batch.time_ms for output in outputs)
        if now_ms >= self._board.now_ms:
            self._newest.update(counted)
        self._go_back(now_ms)
        for output in outputs:
            self._show(output.batch)
        self._board.close(now_ms)
        self._closed_ms = now_ms
        known = {kind.name for kind in CHAIN}
        self._marks = {output.agent: now_ms for output in outputs if output.agent in known}

    def take_step(self, step: Step) -> bool:
        """Take in what a group published; whether a step of the board closed."""
        marks = [message for message in step.messages if isinstance(message, Mark)]
        if any(mark.time_ms < self._heard.get(mark.agent, 0) for mark in marks):  # the cluster was set back
            self._forget()
        if marks and not self._marks:  # nobody knows yet who writes: all are given their time
            first_ms = min(mark.time_ms for mark in marks)
            self._go_back(first_ms)
            self._marks = {kind.name: first_ms - STEP_MS for kind in CHAIN}
        version = self._board.version
        for message in step.messages:
            if isinstance(message, Output):
                self._take_batch(message)
            elif isinstance(message, Mark):
                self._end(message)
        self._close_whole()
        return self._board.version != version

    def _take_batch(self, output: Output) -> None:
        batch = output.batch
        if batch.topic is Topic.ALARMS:  # an operator's action comes between two steps
            self._show(batch)
        elif batch.topic is Topic.OBSERVATIONS:
            self._ended.setdefault(batch.time_ms, []).append(batch)
        else:
            self._open.setdefault(output.agent, []).append(batch)

    def _end(self, mark: Mark) -> None:
        self._ended.setdefault(mark.time_ms, []).extend(self._open.pop(mark.agent, ()))
        self._heard[mark.agent] = mark.time_ms
        self._marks[mark.agent] = max(mark.time_ms, self._marks.get(mark.agent, 0))
        if mark.time_ms >= self._closed_ms:
            self._behind.discard(mark.agent)

    def _close_whole(self) -> None:
        """Close the steps that all awaited agents have ended, and show what came late."""
        while self._ended:
            end_ms = min(self._ended)
            if end_ms > self._closed_ms and not self._is_whole(end_ms):
                return
            for batch in self._ended.pop(end_ms):
                self._show(batch)
            self._closed_ms = max(end_ms, self._closed_ms)
            self._board.close(self._closed_ms)

    def _is_whole(self, end_ms: int) -> bool:
        newest_ms = max(self._marks.values(), default=0)
        for agent, marked_ms in self._marks.items():
            if newest_ms - marked_ms > AWAITED_STEPS * STEP_MS:
                self._behind.add(agent)
        awaited = [ms for agent, ms in self._marks.items() if agent not in self._behind]
        return bool(awaited) and min(awaited) >= end_ms

    def _show(self, batch: Batch) -> None:
        """Hand a batch to the board, unless it has the same or a newer one of this entity."""
        entity, order = (batch.topic, batch.key), (batch.time_ms, batch.revision)
        if order > self._newest.get(entity, (-1, -1)):
            self._newest[entity] = order
            self._board.apply(batch)

    def _go_back(self, now_ms: int) -> None:
        if now_ms < self._board.now_ms:
            self._board.forget_alarms_after(now_ms)

    def _forget(self) -> None:
        self._newest.clear()
        self._heard.clear()
        self._marks.clear()
        self._closed_ms = 0
        self._behind.clear()
        self._open.clear()
        self._ended.clear()


class FrameFeed:
    """Reads the frames of a region in a thread.

    Attributes
    ----------
    on_step : list of callable
        Called in the thread after each step that closed.
    state : FeedState
    """

    def __init__(self, cluster: Cluster, region: str, board: Board) -> None:
        self.on_step: list[Callable[[], None]] = []
        self.state = FeedState()
        self._latest = cluster.key("latest", region)
        self._frames = cluster.key("frames", region)
        self._region = region
        self._redis: Redis = blocking_redis_of(cluster.redis)
        self._keeper = StepKeeper(board)
        self._seen: str | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"frames of {region}", daemon=True)

    @property
    def is_following(self) -> bool:
        """Whether the latest has been taken, and steps are read from there on."""
        return self._seen is not None

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """End the thread; it may wait a second for Redis."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        self._redis.close()

    def _run(self) -> None:
        tried, heard_s = 0, time.time()
        while not self._stopped.is_set():
            try:
                self._read()
            except (RedisError, OSError) as error:
                if tried == 0:
                    log.warning("region %s: Redis does not answer: %s; trying again", self._region, error)
                self.state = replace(self.state, away_since_s=heard_s)
                self._stopped.wait(RETRY_S[min(tried, len(RETRY_S) - 1)])
                tried += 1
                continue
            except Exception as error:  # a batch of another make: the page goes on with what it has
                log.exception("region %s: a frame cannot be shown", self._region)
                self._cannot_read("frame", error)
                self._seen = None
                self._stopped.wait(RETRY_S[-1])
                continue
            if tried:
                log.info("region %s: Redis answers again", self._region)
                self.state = replace(self.state, away_since_s=0.0)
            tried, heard_s = 0, time.time()

    def _read(self) -> None:
        """Take the latest where it is needed, then the frames of the next second."""
        if self._seen is None:
            self._take_latest()
        seen = self._seen or BEGINNING
        found: Any = self._redis.xread({self._frames: seen}, block=BLOCK_MS)
        if not found or self._stopped.is_set():
            if self.state.away_since_s and not self._is_kept(seen):
                self._seen = None
            return
        if not self._is_kept(seen):
            log.info("region %s: fell behind the frames that are kept; taking the latest", self._region)
            self._seen = None
            return
        for identifier, fields in found[0][1]:
            self._seen = identifier.decode()
            if not self._take_frame(fields.get(b"frame", b"")):
                self._seen = None  # what was in it stands in the latest
                return

    def _is_kept(self, seen: str) -> bool:
        """Whether nothing after an entry that was read has been dropped."""
        if seen == BEGINNING:
            about: Any = self._redis.xinfo_stream(self._frames) if self._redis.xlen(self._frames) else {}
            return int(about.get("entries-added", 0)) <= int(about.get("length", 0))
        return bool(self._redis.xrange(self._frames, seen, seen))

    def _take_latest(self) -> None:
        newest: Any = self._redis.xrevrange(self._frames, count=1)
        last = newest[0][0].decode() if newest else BEGINNING
        messages: list[Message] = []
        cursor = -1
        while cursor:
            reply: Any = self._redis.hscan(self._latest, max(cursor, 0), count=SCANNED)
            cursor, entities = reply
            for name, raw in entities.items():
                try:
                    messages.append(read_entity(raw))
                except (ValueError, TypeError) as error:
                    self._cannot_read(f"latest {name.decode(errors='replace')}", error)
        self._keeper.take_latest(messages)
        self._seen = last
        if messages:
            self._told(self._frame_s(newest))

    def _take_frame(self, raw: bytes) -> bool:
        try:
            step = read_step(raw)
        except (ValueError, TypeError) as error:
            self._cannot_read("frame", error)
            return False
        has_closed = self._keeper.take_step(step)
        self.state = replace(self.state, frame_s=time.time(), behind=self._keeper.behind)
        if has_closed:
            self._told(time.time())
        return True

    @staticmethod
    def _frame_s(newest: Sequence[Any]) -> float:
        """When the newest frame was written, by Redis' clock."""
        return int(newest[0][0].partition(b"-")[0]) / 1000 if newest else 0.0

    def _told(self, frame_s: float) -> None:
        self.state = replace(self.state, frame_s=frame_s, behind=self._keeper.behind)
        for notify in self.on_step:
            notify()

    def _cannot_read(self, what: str, error: Exception) -> None:
        log.warning("region %s: %s cannot be read: %s", self._region, what, error)
        self.state = replace(self.state, n_undecodable=self.state.n_undecodable + 1)
