"""One region's agents as a function of ordered messages: what a worker runs, without its I/O.

The agents may be all of a room or some of them; what the others publish then comes in as messages, and the
marks with which they end a step say when this group may close it. Either way an agent sees the same batches
in the same order as in one process (:class:`agents.engines.embedded.EmbeddedEngine`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agents.agent import Agent
from agents.chain import CHAIN, inputs_of
from agents.engines.embedded import MAX_CLOCK_JUMP_MS
from cities.pack import City
from streams.arrow_batches import decode_arrow, encode_arrow
from streams.bus import Bus
from streams.clock import STEP_MS, last_closed
from streams.deadletter import DeadLetter, dead_letter_batches
from streams.messages import Mark, Message, Output, Rows, Tick
from streams.observation import time_text
from streams.steps import StepBuffer
from streams.topics import Batch, Topic

INTAKE = "fusion"  # whose group tells of the rows that were refused; every other refuses them in silence


class HoleError(RuntimeError):
    """A step of an upstream agent is missing; the snapshot has to be taken up again."""


@dataclass(slots=True)
class _Upstream:
    """What an agent of another group published in one topic."""

    pending: dict[tuple[str, int, int], Batch] = field(default_factory=dict)
    steps: dict[int, list[Batch]] = field(default_factory=dict)
    marked_ms: int = 0


class RegionEngine:
    """Agents of one region over the messages of its partitions.

    Consumes
        observations (rows and the source's clock), operator actions, and what agents outside publish that
        these consume.
    Produces
        batches of these agents, dead letters, and the marks of closed steps.
    Keeps
        rows and batches of open steps, and the agents.
    Guarantees
        outputs depend on the messages alone: repeats of a row, a batch or a whole step change nothing.

    Parameters
    ----------
    city : City
    agents : sequence of Agent
        Upstream before downstream.
    """

    def __init__(self, city: City, agents: Sequence[Agent]) -> None:
        self.city, self.agents = city, tuple(agents)
        self._mine = {agent.name: agent for agent in agents}
        self._buffer = StepBuffer({sensor.id: sensor.source for sensor in city.sensors})
        self._has_clock = any(Topic.OBSERVATIONS in agent.consumes for agent in agents)
        self._upstream = {source: _Upstream() for source in inputs_of([agent.name for agent in agents])}
        self._letters: list[DeadLetter] = []
        self._clock_ms = self.step_ms = 0
        self.steps = self.dead_letters = 0
        self.readings: list[Batch] = []  # of the steps that closed while the last message was taken in
        self.changes = 0  # rises when an agent's state may have changed
        self._bus = Bus()
        self._outputs: list[Output | Mark] = []
        for agent in agents:
            self._bus.subscribe(agent.consumes, agent.receive)

    def receive(self, message: Message) -> list[Output | Mark]:
        """Take in a message; what it led to, in the order in which it is to be published.

        Raises
        ------
        HoleError
            When a step of an upstream agent is missing.
        """
        self._outputs, self.readings = [], []
        if isinstance(message, Rows):
            self._receive_rows(message)
        elif isinstance(message, Tick):
            self._receive_tick(message.time_ms)
        elif isinstance(message, Mark):
            self._receive_mark(message)
        elif message.batch.topic is Topic.OPERATOR_ACTIONS:
            self._act(message.batch)
        else:
            self._receive_batch(message)
        return self._outputs

    @property
    def rows(self) -> int:
        """Readings looked at so far."""
        return self._buffer.n_rows

    @property
    def tells_readings(self) -> bool:
        """Whether dashboards hear from this group what the feeds said."""
        return INTAKE in self._mine

    def refuse(self, raw: bytes, field: str, reason: str, source: str) -> None:
        """Make a dead letter of a message that cannot be used; it is published with the next step."""
        self._letters.append(DeadLetter(raw[:500].decode("utf-8", "replace"), reason, field, source))
        self.dead_letters += 1

    def _receive_rows(self, message: Rows) -> None:
        """Readings wait in the buffer as they came, and are looked at many together."""
        self._buffer.add_message(message.raw, message.content_type, self._clock_ms or None)

    def _receive_tick(self, clock_ms: int) -> None:
        if clock_ms <= self._clock_ms:
            return
        if self._clock_ms == 0:
            self.step_ms = last_closed(clock_ms) - STEP_MS
        elif clock_ms - self._clock_ms > MAX_CLOCK_JUMP_MS:
            reason = f"got {time_text(clock_ms)}, more than a day after {time_text(self._clock_ms)}"
            self._letters.append(DeadLetter(time_text(clock_ms), reason, "time", "clock"))
            return
        self._clock_ms = clock_ms
        self._close_steps()

    def _receive_batch(self, output: Output) -> None:
        upstream = self._upstream.get((output.batch.topic, output.agent))
        if upstream is not None:
            batch = output.batch
            upstream.pending.setdefault((batch.key, batch.time_ms, batch.revision), batch)

    def _receive_mark(self, mark: Mark) -> None:
        upstream = self._upstream.get((mark.topic, mark.agent))
        if upstream is None:
            return
        batches, upstream.pending = list(upstream.pending.values()), {}
        if mark.time_ms <= upstream.marked_ms:  # a step that was sent again
            return
        if upstream.marked_ms and mark.time_ms > upstream.marked_ms + STEP_MS:
            raise HoleError(
                f"{mark.topic}: agent {mark.agent} closed {time_text(mark.time_ms)} after "
                f"{time_text(upstream.marked_ms)}, the steps between are missing"
            )
        upstream.steps[mark.time_ms], upstream.marked_ms = batches, mark.time_ms
        if not self._has_clock and self.step_ms == 0:
            self.step_ms = mark.time_ms - STEP_MS
        self._close_steps()

    def _close_steps(self) -> None:
        while self.step_ms and self.step_ms < self._may_close():
            self._close_step(self.step_ms + STEP_MS)

    def _may_close(self) -> int:
        """End of the last step that all inputs have ended."""
        ends = [upstream.marked_ms for upstream in self._upstream.values()]
        if self._has_clock:
            ends.append(last_closed(self._clock_ms) if self._clock_ms else 0)
        return min(ends)

    def _close_step(self, end_ms: int) -> None:
        self.step_ms = end_ms
        self.steps += 1
        self.changes += 1
        batch = self._buffer.close(end_ms)
        refused = self._buffer.take_letters()
        self.dead_letters += len(refused)
        self._letters += refused
        if batch.n_rows:
            self._bus.publish(batch)
            self.readings.append(batch)
        if INTAKE in self._mine:
            for letters in dead_letter_batches(self._letters, end_ms):
                self._outputs.append(Output(INTAKE, letters))
        self._letters = []
        for kind in CHAIN:
            agent = self._mine.get(kind.name)
            if agent is not None:
                self._publish(agent, end_ms)
                self._outputs += [Mark(topic, agent.name, end_ms) for topic in agent.produces]
                continue
            for topic in kind.produces:
                upstream = self._upstream.get((topic, kind.name))
                for batch in upstream.steps.pop(end_ms, ()) if upstream else ():
                    self._bus.publish(batch)

    def _act(self, action: Batch) -> None:
        """Take an operator's action at once, between two steps."""
        self.changes += 1
        for agent in self.agents:
            if Topic.OPERATOR_ACTIONS in agent.consumes:
                agent.receive(action)
                self._publish(agent, self.step_ms)

    def _publish(self, agent: Agent, now_ms: int) -> None:
        for batch in agent.close(now_ms):
            self._outputs.append(Output(agent.name, batch))
            self._bus.publish(batch)

    def snapshot(self, names: Collection[str] | None = None) -> dict[str, dict[str, Any]]:
        """State in parts, all or those named: ``intake``, which each message changes, and each agent."""
        made: dict[str, Callable[[], dict[str, Any]]] = {
            "intake": self._snapshot_intake,
            **{f"agent {agent.name}": agent.snapshot for agent in self.agents},
        }
        return {name: make() for name, make in made.items() if names is None or name in names}

    def _snapshot_intake(self) -> dict[str, Any]:
        return {
            "buffer": self._buffer.snapshot(),
            "letters": [(x.raw, x.reason, x.field, x.source, x.line) for x in self._letters],
            "clock_ms": self._clock_ms,
            "step_ms": self.step_ms,
            "counts": (self.steps, self.dead_letters),
            "upstream": [
                [topic.value, agent, up.marked_ms, _packed(up.pending.values()),
                 [[end_ms, _packed(batches)] for end_ms, batches in up.steps.items()]]
                for (topic, agent), up in self._upstream.items()
            ],
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a state that :meth:`snapshot` made of the same agents."""
        intake = state["intake"]
        self._buffer.restore(intake["buffer"])
        self._letters = [DeadLetter(*letter) for letter in intake["letters"]]
        self._clock_ms, self.step_ms = intake["clock_ms"], intake["step_ms"]
        self.steps, self.dead_letters = intake["counts"]
        for topic, agent_name, marked_ms, pending, steps in intake["upstream"]:
            upstream = self._upstream[Topic(topic), agent_name]
            upstream.marked_ms = marked_ms
            upstream.pending = {(b.key, b.time_ms, b.revision): b for b in _unpacked(pending)}
            upstream.steps = {end_ms: _unpacked(batches) for end_ms, batches in steps}
        for agent in self.agents:
            agent.restore(state[f"agent {agent.name}"])


def _packed(batches: Iterable[Batch]) -> list[bytes]:
    return [encode_arrow(batch) for batch in batches]


def _unpacked(packed: Iterable[bytes]) -> list[Batch]:
    return [decode_arrow(raw) for raw in packed]
