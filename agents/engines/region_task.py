"""A region in a worker: messages in, a snapshot now and then, and what became durable out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgpack
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerFenced
from redis.exceptions import RedisError

from agents.engines.answers import AnswerError, answer, is_mine
from agents.engines.metrics import Metrics
from agents.engines.region import INTAKE, HoleError, RegionEngine
from streams.codec import CodecError, pack_state, unpack_state
from streams.frames import frame_of
from streams.messages import Mark, Output, Record, mark_record, output_record, read_message
from streams.questions import Questions
from streams.snapshots import Claim, Snapshots
from streams.topics import Topic

SNAPSHOT_S = 0.25  # at least this long between two snapshots
SNAPSHOT_SHARE = 0.15  # of a worker's time, at most, is spent on them while messages wait
CHUNK = 64  # messages handed to the thread at once
TURN_S = 0.1  # then another region's turn comes, and that of a snapshot
# Messages of a region that may wait; then the stream of all regions of the worker waits. Faust cannot pause
# one partition: it drops the records of a paused one that it had fetched already.
QUEUE = 1024
TRIES = 3  # of a message that an agent cannot take, before it becomes a dead letter
RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)
# Their offsets have no gaps: neither compacted nor written in transactions, as what agents publish is.
GAPLESS = frozenset((Topic.OBSERVATIONS, Topic.OPERATOR_ACTIONS))

log = logging.getLogger("twinroom.worker")
T = TypeVar("T")


class LostError(RuntimeError):
    """Another has claimed the region, or a message is missing: its snapshot has to be taken up again."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A record of one of the region's partitions."""

    topic: Topic
    offset: int
    value: bytes | None
    headers: Any


class Pace:
    """Snapshots of a worker's regions one after the other, and not too many while there is other work."""

    def __init__(self) -> None:
        self.next_s = 0.0
        self._turn = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for the others' snapshots; what this one takes decides when the next may follow."""
        async with self._turn:
            started = time.monotonic()
            yield
            ended = time.monotonic()
            self.next_s = ended + (ended - started) * (1.0 / SNAPSHOT_SHARE - 1.0)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all regions of a worker share."""

    region: str
    group: str
    snapshots: Snapshots
    executor: Executor
    metrics: Metrics
    load: Callable[[], RegionEngine]
    topic_name: Callable[[Topic], str]
    new_producer: Callable[[], AIOKafkaProducer]
    lost: Callable[[], None]
    pace: Pace
    partition: int = 0
    tries: dict[tuple[Topic, int], int] = field(default_factory=dict)
    questions: Questions | None = None


class RegionTask:
    """Runs the agents of one region from a claim on.

    Keeps
        the engine, the next offset of each topic, and what was published but is not yet in the log.
    Guarantees
        that nothing is published before the state behind it is in a snapshot, and nothing after another has
        claimed the region: the snapshot is fenced by the epoch, the log by the transactional id.
    """

    def __init__(self, around: Surroundings, claim: Claim) -> None:
        self._around = around
        self.epoch = claim.epoch
        self.next = {Topic(name): offset for name, offset in claim.offsets.items()}
        self.durable = dict(self.next)
        self.queued = dict(self.next)  # the next offsets to be queued
        self.engine: RegionEngine | None = None
        self.progress_s = time.monotonic()
        self.snapshot_s = 0.0  # when the last one was written
        self._claim: Claim | None = claim
        self._queue: deque[Incoming] = deque()
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._held = False
        self._holds = 0
        self._room = asyncio.Event()
        self._published: list[tuple[Output | Mark, Record]] = []
        self._readings: list[tuple[Output | Mark, Record]] = []  # for dashboards alone
        self._outbox: list[Record] = []
        self._packed_changes = -1
        self._packed_outbox = 0
        self._waiting = 0  # messages taken in since the last snapshot
        self._producer: AIOKafkaProducer | None = None
        self._answering: asyncio.Task[None] | None = None
        self._task = asyncio.create_task(self._run(), name=f"region {around.region}")

    # ---- called by the worker ----

    async def put(self, incoming: Incoming) -> None:
        """Queue a record, once there is room; one that is queued already is left out."""
        holds = self._holds
        while len(self._queue) >= QUEUE and self.is_running:
            self._room.clear()
            await self._room.wait()
        if self._held or holds != self._holds or incoming.offset < self.queued.get(incoming.topic, 0):
            return
        self.queued[incoming.topic] = incoming.offset + 1
        self._queue.append(incoming)
        self._arrived.set()

    @property
    def n_queued(self) -> int:
        return len(self._queue)

    @property
    def n_unsent(self) -> int:
        """Outputs that are not yet in the log."""
        return len(self._published) + len(self._outbox)

    @property
    def is_running(self) -> bool:
        return not self._task.done()

    async def hold(self) -> None:
        """Forget what is queued and wait until nothing is under way; go on with :meth:`go_on`."""
        self._held = True
        self._holds += 1
        self._queue.clear()
        self._arrived.set()
        self._room.set()
        if self.is_running:
            waiting = asyncio.create_task(self._idle.wait())
            await asyncio.wait({waiting, self._task}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
        self._queue.clear()

    def go_on(self, epoch: int) -> None:
        """Take up work again under a new epoch."""
        self.epoch = epoch
        self.queued = dict(self.next)
        self._held = False
        self._arrived.set()

    async def stop(self, *, save: bool) -> None:
        """End the task; with ``save`` a last snapshot is written and sent first."""
        if self.is_running:
            await self.hold()
            if save and self.is_running and self.engine is not None:
                with contextlib.suppress(LostError):
                    await self._snapshot()
                    if self._packed_outbox:  # it has been sent by now: whoever is next need not do it again
                        await self._snapshot()
        self._task.cancel()
        self._room.set()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._stop_producer()

    # ---- the task ----

    async def _run(self) -> None:
        try:
            await self._begin()
            if self._around.questions is not None:
                self._answering = asyncio.create_task(self._answer(self._around.questions))
            while True:
                await self._wait()
                if self._held:
                    self._idle.set()
                    self._arrived.clear()
                    await self._arrived.wait()
                    self._idle.clear()
                    continue
                await self._work()
        except LostError as error:
            log.warning("region %s: %s; taking its snapshot up again", self._around.region, error)
            self._around.lost()
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("region %s: cannot go on; taking its snapshot up again", self._around.region)
            self._around.lost()
        finally:
            if self._answering is not None:
                self._answering.cancel()

    async def _answer(self, questions: Questions) -> None:
        """Answer what dashboards ask of these agents, beside the messages."""
        engine = self.engine
        assert engine is not None
        async for question in questions.asked(self._around.region, lambda name: is_mine(engine.agents, name)):
            try:
                found = await self._in_thread(answer, engine.agents, question.name, question.arguments)
                await questions.answer(question, found)
            except (AnswerError, RedisError) as error:
                with contextlib.suppress(RedisError):
                    await questions.refuse(question, str(error))
            except Exception as error:
                log.exception("region %s: question %s", self._around.region, question.name)
                with contextlib.suppress(RedisError):
                    await questions.refuse(question, f"failed: {error!r}")

    async def _begin(self) -> None:
        """Load the city, restore the claimed state, and send again what may not have been sent."""
        claim, self._claim = self._claim, None
        assert claim is not None
        self.engine = await self._in_thread(self._around.load)
        if claim.parts:
            await self._in_thread(self._restore, claim.parts)
        self._packed_changes = self.engine.changes if claim.parts else -1
        if self._outbox:
            await self._send()
        self.snapshot_s = time.monotonic()

    def _restore(self, parts: Mapping[str, bytes]) -> None:
        assert self.engine is not None
        state = {name: unpack_state(raw) for name, raw in parts.items() if name != "outbox"}
        self.engine.restore(state)
        for topic, key, value, headers in msgpack.unpackb(parts.get("outbox", b"\x90")):
            self._outbox.append(Record(Topic(topic), key, value, tuple((n, v) for n, v in headers)))
        self._packed_outbox = len(self._outbox)

    async def _wait(self) -> None:
        """Until there is something to do: messages, or the time of a snapshot."""
        if self._queue or self._held:
            return
        self._arrived.clear()
        left = None if not self._waiting else max(0.0, self._due_s() - time.monotonic())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._arrived.wait(), left)

    def _due_s(self) -> float:
        soonest = self.snapshot_s + SNAPSHOT_S
        return max(soonest, self._around.pace.next_s) if self._queue else soonest

    async def _work(self) -> None:
        chunk = [self._queue.popleft() for _ in range(min(CHUNK, len(self._queue)))]
        self._room.set()
        if chunk:
            done = await self._in_thread(self._process, chunk)
            if not self._held:
                self._queue.extendleft(reversed(chunk[done:]))
            self._waiting += done
            self.progress_s = time.monotonic()
        if self._waiting and time.monotonic() >= self._due_s():
            await self._snapshot()

    def _process(self, chunk: list[Incoming]) -> int:
        """Take in messages until the turn is over; how many."""
        engine, metrics, region = self.engine, self._around.metrics, self._around.region
        assert engine is not None
        rows, letters = engine.rows, engine.dead_letters
        done = self._process_until(chunk, time.monotonic() + TURN_S)
        metrics.rows.labels(region).inc(engine.rows - rows)
        metrics.dead_letters.labels(region).inc(engine.dead_letters - letters)
        return done

    def _process_until(self, chunk: list[Incoming], until: float) -> int:
        for done, incoming in enumerate(chunk):
            if time.monotonic() > until:
                return done
            expected = self.next.get(incoming.topic)
            if expected is not None and incoming.offset < expected:
                continue
            if expected is not None and incoming.offset > expected and incoming.topic in GAPLESS:
                raise LostError(f"{incoming.topic}: got offset {incoming.offset}, expected {expected}")
            self._take(incoming)
            self.next[incoming.topic] = incoming.offset + 1
        return len(chunk)

    def _take(self, incoming: Incoming) -> None:
        engine, around = self.engine, self._around
        assert engine is not None
        place = incoming.topic, incoming.offset
        steps = engine.steps
        started = time.perf_counter()
        try:
            message = read_message(incoming.value, incoming.headers)
            if around.tries.get(place, 0) >= TRIES:
                raise CodecError(f"message: agents failed {TRIES} times on it")
            outputs = engine.receive(message)
        except CodecError as error:
            field_name, _, reason = str(error).partition(": ")
            engine.refuse(incoming.value or b"", field_name, reason, f"{incoming.topic} {incoming.offset}")
            outputs = []
        except HoleError as error:
            raise LostError(str(error)) from error
        except Exception as error:
            around.tries[place] = around.tries.get(place, 0) + 1
            raise LostError(
                f"{incoming.topic} {incoming.offset}: agents failed on it, "
                f"{around.tries[place]} of {TRIES} times: {error!r}"
            ) from error
        for output in outputs:
            if isinstance(output, Mark):
                self._published.append((output, mark_record(output, around.region)))
            else:
                self._published.append((output, output_record(output, around.region)))
        if engine.tells_readings:
            told = [Output(INTAKE, batch) for batch in engine.readings]
            self._readings += [(output, output_record(output, around.region)) for output in told]
        metrics = around.metrics
        metrics.messages.labels(around.region, incoming.topic.value).inc()
        if engine.steps > steps:
            each_s = (time.perf_counter() - started) / (engine.steps - steps)
            metrics.step_s.labels(around.group).observe(each_s)
            metrics.step_time.labels(around.region, around.group).set(engine.step_ms / 1000)

    # ---- snapshots ----

    async def _snapshot(self) -> None:
        """Write the state with its outputs, then let the outputs go."""
        async with self._around.pace.turn():
            await self._write()
        if self._outbox:
            await self._send()
        self.snapshot_s = time.monotonic()
        labels = self._around.region, self._around.group
        self._around.metrics.snapshot_time.labels(*labels).set_to_current_time()

    async def _write(self) -> None:
        started = time.monotonic()
        around, engine = self._around, self.engine
        assert engine is not None
        self._outbox += [record for _, record in self._published]
        parts = await self._in_thread(self._pack)
        offsets = {topic.value: offset for topic, offset in self.next.items()}
        frame = frame_of(around.group, engine.step_ms, [*self._readings, *self._published])
        is_ours = await self._until_done(
            "Redis",
            lambda: around.snapshots.write(around.region, self.epoch, offsets, parts, frame, engine.step_ms),
        )
        if not is_ours:
            around.metrics.refused.labels(around.region, around.group).inc()
            raise LostError("another worker has claimed it")
        self.durable = dict(self.next)
        self._published, self._readings = [], []
        self._waiting = 0
        self._packed_changes, self._packed_outbox = engine.changes, len(self._outbox)
        around.metrics.snapshot_s.observe(time.monotonic() - started)

    def _pack(self) -> dict[str, bytes]:
        """The parts that may have changed since the last snapshot."""
        engine = self.engine
        assert engine is not None
        names = None if engine.changes != self._packed_changes else {"intake"}
        parts = {name: pack_state(part) for name, part in engine.snapshot(names).items()}
        if self._outbox or self._packed_outbox:
            parts["outbox"] = msgpack.packb(
                [(r.topic.value, r.key, r.value, r.headers) for r in self._outbox]
            )
        for name, part in parts.items():
            self._around.metrics.snapshot_bytes.labels(self._around.region, name).set(len(part))
        return parts

    async def _send(self) -> None:
        """Put all that waits into the log, in one transaction; a predecessor's is cut off by ours."""
        self._around.metrics.outbox.labels(self._around.region, self._around.group).set(len(self._outbox))
        await self._until_done("Kafka", self._send_once)
        self._outbox = []
        self._around.metrics.outbox.labels(self._around.region, self._around.group).set(0)

    async def _send_once(self) -> None:
        if self._producer is None:
            producer = self._around.new_producer()
            try:
                await producer.start()
            except BaseException:
                await producer.stop()
                raise
            self._producer = producer
        producer = self._producer
        try:
            async with producer.transaction():
                sent = [
                    await producer.send(
                        self._around.topic_name(record.topic),
                        value=record.value,
                        key=record.key,
                        partition=self._around.partition,
                        headers=list(record.headers),
                    )
                    for record in self._outbox
                ]
                await asyncio.gather(*sent)
        except ProducerFenced as error:
            self._around.metrics.refused.labels(self._around.region, self._around.group).inc()
            raise LostError(f"Kafka has fenced this worker: {error}") from error
        except KafkaError:
            await self._stop_producer()  # a failed transaction is begun anew, with a producer of its own
            raise

    async def _stop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(KafkaError, TimeoutError):
                await asyncio.wait_for(producer.stop(), 5.0)

    # ---- waiting ----

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._around.executor, function, *arguments)

    async def _until_done(self, what: str, attempt: Callable[[], Awaitable[T]]) -> T:
        return await until_done(f"region {self._around.region}: {what}", attempt)


async def until_done(what: str, attempt: Callable[[], Awaitable[T]]) -> T:
    """Try until it succeeds, with growing waits; a server that is away is told once a while, not hidden."""
    tried = 0
    while True:
        try:
            done = await attempt()
        except (RedisError, KafkaError, OSError, TimeoutError) as error:
            wait_s = RETRY_S[min(tried, len(RETRY_S) - 1)]
            tried += 1
            if tried in (1, 5) or tried % 12 == 0:
                log.warning("%s does not answer (%r), try %d", what, error, tried)
            await asyncio.sleep(wait_s)
            continue
        if tried:
            log.info("%s answers again", what)
        return done
