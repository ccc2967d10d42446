"""What the page needs from the player: the clock, the operator's actions, and evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kernels.network import Mode


class PlayerStatus(Protocol):
    """Where a replay is. Times in ms since the epoch, UTC; the wall time of the last step in s."""

    @property
    def now_ms(self) -> int: ...
    @property
    def start_ms(self) -> int: ...
    @property
    def end_ms(self) -> int: ...
    @property
    def playing(self) -> bool: ...
    @property
    def speed(self) -> float: ...
    @property
    def finished(self) -> bool: ...
    @property
    def step_wall_s(self) -> float: ...
    @property
    def mode(self) -> str: ...


class Evidence(Protocol):
    """What one sensor says of a street, what was expected of it, and how much it weighs there."""

    @property
    def sensor(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def mode(self) -> Mode: ...
    @property
    def direction(self) -> str: ...
    @property
    def reading_per_h(self) -> float: ...
    @property
    def expected_per_h(self) -> float: ...
    @property
    def weight(self) -> float: ...
    @property
    def age_s(self) -> float: ...
    @property
    def simulated(self) -> bool: ...


class Control(Protocol):
    """Actions of the operator. Each may be called from the page's thread and returns at once."""

    def play(self) -> None:
        """Let the clock run."""

    def pause(self) -> None:
        """Stop the clock of everything."""

    def set_speed(self, speed: float) -> None:
        """Event seconds in a wall second; infinity is as fast as it goes."""

    def acknowledge(self, alarm_key: str, who: str, note: str) -> None:
        """Record that someone has taken notice of an alarm."""

    def status(self) -> PlayerStatus:
        """Where the player is."""

    def evidence(self, segment: int) -> Sequence[Evidence]:
        """What the sensors say of a segment, the weightiest first."""
