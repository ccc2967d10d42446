"""What an agent is: a deterministic function of ordered batches that keeps a state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from streams.topics import Batch, Topic


class Agent(Protocol):
    """One agent. It reads no wall clock, no network and no unseeded random generator.

    The engine calls :meth:`receive` for each batch of a consumed topic, in order, and :meth:`close` when an
    event-time step ends. All output of a step comes from :meth:`close`.
    """

    @property
    def name(self) -> str: ...

    @property
    def consumes(self) -> tuple[Topic, ...]: ...

    @property
    def produces(self) -> tuple[Topic, ...]: ...

    def receive(self, batch: Batch) -> None:
        """Take in a batch. Changes only what :meth:`close` will read."""

    def close(self, now_ms: int) -> Sequence[Batch]:
        """End the step at ``now_ms`` and publish what it changed."""

    def snapshot(self) -> dict[str, Any]:
        """State as plain values and numpy arrays, enough to go on as if never stopped."""

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state that :meth:`snapshot` made."""


@runtime_checkable
class WarmsUp(Protocol):
    """An agent that wants the readings from before a run begins."""

    def warm_up(self, now_ms: int) -> None:
        """End a step without publishing anything."""
