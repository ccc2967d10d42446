"""The embedded engine: one process, an in-process bus, SQLite for what must last."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agents.agent import Agent, WarmsUp
from cities.pack import City
from streams.bus import Bus
from streams.clock import STEP_MS, last_closed
from streams.deadletter import DeadLetter, dead_letter_batches
from streams.digest import Entry, batch_entry
from streams.observation import Observation, Source, time_text
from streams.readings import SOURCE_CODE, ReadingTable
from streams.steps import StepBuffer
from streams.store import Snapshot, Store
from streams.topics import Batch, Topic

SNAPSHOT_S = 5.0  # a kill costs at most this much of the replay
MAX_CLOCK_JUMP_MS = 86_400_000  # a clock row of next year would close half a million empty steps
AUDITED = (Topic.ALARMS, Topic.OPERATOR_ACTIONS, Topic.DEADLETTERS)


@dataclass(slots=True)
class AgentFigures:
    """What one agent did."""

    steps: int = 0
    rows_in: int = 0
    rows_out: int = 0
    wall_s: float = 0.0


@dataclass(slots=True)
class Figures:
    """What a run did, counted the same at any speed."""

    steps: int = 0
    rows: dict[str, int] = field(default_factory=lambda: {topic.value: 0 for topic in Topic})
    agents: dict[str, AgentFigures] = field(default_factory=dict)


class EmbeddedEngine:
    """Runs the agents over the steps of a source.

    Consumes rows and clock of a source (:class:`streams.player.Sink`).
    Produces every topic on :attr:`bus`.
    Keeps the rows of open steps; snapshots go to the store.
    Guarantees that the outputs depend on the rows alone, not on batches, speed or kills.

    Parameters
    ----------
    city : City
    agents : sequence of Agent
        Upstream before downstream.
    store : Store or None
        Where snapshots go; None keeps nothing.
    publish_from_ms : int
        Steps that end earlier only warm up the agents that want it (:class:`agents.agent.WarmsUp`).
    keep_digest : bool
        Remember an entry of each batch for :func:`streams.digest.run_digest`.
    """

    def __init__(
        self,
        city: City,
        agents: Sequence[Agent],
        *,
        store: Store | None = None,
        publish_from_ms: int = 0,
        keep_digest: bool = False,
    ) -> None:
        self.city, self.agents, self.bus = city, tuple(agents), Bus()
        self.figures = Figures(agents={agent.name: AgentFigures() for agent in agents})
        self.on_step: list[Callable[[int, float], None]] = []
        self._store = store
        self._publish_from_ms, self._keep_digest = publish_from_ms, keep_digest
        known = {sensor.id: sensor.source for sensor in city.sensors}
        self._buffer = StepBuffer(known)
        self._letters: list[DeadLetter] = []
        self._clock_ms = self._step_ms = 0
        self._entries: list[Entry] = []
        self._audit: list[Batch] = []
        self._saved_wall = time.monotonic()
        self._lock = threading.RLock()
        for agent in agents:
            self.bus.subscribe(agent.consumes, self._counted(agent))
        for topic in Topic:
            self.bus.subscribe((topic,), self._account)

    @property
    def intake(self) -> dict[str, int]:
        """Rows accepted, duplicates, revisions and late rows so far."""
        intake = self._buffer.intake
        return {name: getattr(intake, name) for name in ("accepted", "duplicates", "revisions", "late")}

    @property
    def now_ms(self) -> int:
        """End of the last step that closed."""
        return self._step_ms

    def entries(self) -> list[Entry]:
        """Entries of everything that was published, those of earlier runs on the same store included."""
        earlier = self._store.entries() if self._store else []
        return list({entry[:4]: entry for entry in (*earlier, *self._entries)}.values())

    def audit(self) -> list[Batch]:
        """Alarms, actions and dead letters of earlier runs on the same store."""
        return self._store.audit() if self._store else []

    def resume(self) -> int:
        """Take up the store's snapshot; returns the line to go on from, 0 for a new run."""
        snapshot = self._store.load() if self._store else None
        if snapshot is None:
            return 0
        state = snapshot.state
        self._buffer.restore(state["buffer"])
        self._clock_ms, self._step_ms = state["clock_ms"], state["step_ms"]
        self._letters = [DeadLetter(*letter) for letter in state["letters"]]
        self.figures = Figures(
            steps=state["steps"],
            rows=state["rows"],
            agents={name: AgentFigures(*values) for name, values in state["agents_done"].items()},
        )
        for agent in self.agents:
            agent.restore(state["agents"][agent.name])
        return snapshot.offset

    def receive(self, rows: Sequence[Observation | DeadLetter]) -> None:
        """Take rows of the source; what the city does not know becomes a dead letter."""
        self._letters += [row for row in rows if isinstance(row, DeadLetter)]
        table = ReadingTable.of([row for row in rows if isinstance(row, Observation)])
        self._buffer.add(table, self._clock_ms or None)

    def advance(self, clock_ms: int, offset: int) -> None:
        """Close the steps that the source's clock allows."""
        if clock_ms <= self._clock_ms:
            return
        first = self._clock_ms == 0
        if not first and clock_ms - self._clock_ms > MAX_CLOCK_JUMP_MS:
            reason = f"got {time_text(clock_ms)}, more than a day after {time_text(self._clock_ms)}"
            self._letters.append(DeadLetter(time_text(clock_ms), reason, "time", "clock"))
            return
        self._clock_ms = clock_ms
        last = last_closed(clock_ms)
        with self._lock:
            if first:
                self._step_ms = last - STEP_MS
            while self._step_ms < last:
                self._close_step(self._step_ms + STEP_MS)
            if self._store and time.monotonic() - self._saved_wall > SNAPSHOT_S:
                self.save(offset)

    def act(self, action: Batch) -> None:
        """Take an operator's action at once, between two steps."""
        with self._lock:
            self.bus.publish(action)
            for agent in self.agents:
                if Topic.OPERATOR_ACTIONS in agent.consumes:
                    self._publish(agent, self._step_ms)
            for notify in self.on_step:
                notify(self._step_ms, 0.0)

    def save(self, offset: int) -> None:
        """Write a snapshot that a later run goes on from."""
        if self._store is None:
            return
        self._letters += self._buffer.take_letters()
        state: dict[str, Any] = {
            "buffer": self._buffer.snapshot(),
            "clock_ms": self._clock_ms,
            "step_ms": self._step_ms,
            "letters": [(x.raw, x.reason, x.field, x.source, x.line) for x in self._letters],
            "steps": self.figures.steps,
            "rows": self.figures.rows,
            "agents_done": {
                name: (f.steps, f.rows_in, f.rows_out, f.wall_s) for name, f in self.figures.agents.items()
            },
            "agents": {agent.name: agent.snapshot() for agent in self.agents},
        }
        self._store.save(Snapshot(offset, state), self._entries, self._audit)
        self._entries, self._audit = [], []
        self._saved_wall = time.monotonic()

    def _close_step(self, end_ms: int) -> None:
        started = time.perf_counter()
        self._step_ms = end_ms
        batch = self._buffer.close(end_ms)
        self._letters += self._buffer.take_letters()
        if end_ms < self._publish_from_ms:
            self._warm_up(batch, end_ms)
            return
        self.figures.steps += 1
        if batch.n_rows:
            self.bus.publish(batch)
        for letters in dead_letter_batches(self._letters, end_ms):
            self.bus.publish(letters)
        self._letters = []
        for agent in self.agents:
            self._publish(agent, end_ms)
        wall_s = time.perf_counter() - started
        for notify in self.on_step:
            notify(end_ms, wall_s)

    def _warm_up(self, batch: Batch, end_ms: int) -> None:
        weather = batch.columns["source"] == SOURCE_CODE[Source.WEATHER]
        for agent in self.agents:
            if isinstance(agent, WarmsUp):
                agent.receive(batch)
                agent.warm_up(end_ms)
            elif weather.any() and Topic.OBSERVATIONS in agent.consumes:
                columns = {name: column[weather] for name, column in batch.columns.items()}
                agent.receive(replace(batch, columns=columns))

    def _publish(self, agent: Agent, now_ms: int) -> None:
        figures = self.figures.agents[agent.name]
        started = time.perf_counter()
        batches = agent.close(now_ms)
        figures.wall_s += time.perf_counter() - started
        figures.steps += 1
        for batch in batches:
            figures.rows_out += batch.n_rows
            self.bus.publish(batch)

    def _counted(self, agent: Agent) -> Callable[[Batch], None]:
        def receive(batch: Batch) -> None:
            figures = self.figures.agents[agent.name]
            figures.rows_in += batch.n_rows
            started = time.perf_counter()
            agent.receive(batch)
            figures.wall_s += time.perf_counter() - started

        return receive

    def _account(self, batch: Batch) -> None:
        self.figures.rows[batch.topic.value] += batch.n_rows
        if batch.topic in AUDITED and self._store:
            self._audit.append(batch)
        if (self._keep_digest or self._store) and batch.topic is not Topic.OBSERVATIONS:
            self._entries.append(batch_entry(batch))
