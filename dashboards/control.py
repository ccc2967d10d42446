"""What the page needs of a running room: the clock, the operator's actions, and what fusion goes by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from agents.air import AirExplanation
from agents.fusion_answers import Evidence, Explanation, Gain, SensorFault
from kernels.network import Direction, Mode


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


class Transport(Protocol):
    """Controls of a replay."""

    def play(self) -> None:
        """Let the clock run."""

    def pause(self) -> None:
        """Stop the clock of everything."""

    def set_speed(self, speed: float) -> None:
        """Event seconds in a wall second; infinity is as fast as it goes."""


class Control(Protocol):
    """Actions of the operator, callable from any thread; all but the last four return at once.

    Attributes
    ----------
    transport : Transport or None
        None where the clock is that of the world: the page then shows no controls of a replay.
    """

    @property
    def transport(self) -> Transport | None: ...

    def acknowledge(self, alarm_key: str, who: str, note: str) -> None:
        """Record that someone has taken notice of an alarm."""

    def status(self) -> PlayerStatus:
        """Where the player is."""

    def notices(self) -> Sequence[str]:
        """What stands between the operator and what the page shows: who does not answer, and since when."""

    def refused(self) -> Mapping[str, str]:
        """Why an alarm's acknowledgement was not taken, by its key."""

    def health(self) -> Mapping[str, object]:
        """What ``/health`` says beside steps and clock."""

    def faults(self) -> Sequence[SensorFault]:
        """Counters in doubt."""

    def evidence(self, segment: int) -> Sequence[Evidence]:
        """What the counters on a segment say. May wait for them: not for the page's loop."""

    def gains(self) -> Sequence[Gain]:
        """Gains of the counters that nobody calibrated. Takes up to 100 ms: not for the page's loop."""

    def explain_air(self, cell: int, quantity: str, averaging: str) -> AirExplanation | None:
        """Where a concentration at a receptor comes from. Takes milliseconds: not for the page's loop."""

    def explain(self, segment: int, direction: Direction, mode: Mode) -> Explanation | None:
        """Why a street has its flow. Takes up to 100 ms: not for the page's loop."""
