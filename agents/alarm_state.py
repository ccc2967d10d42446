"""The life of one alarm: a pure state machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from cities.rules import Rule


class State(StrEnum):
    NORMAL = "normal"
    ACTIVE = "active unacknowledged"
    ACTIVE_ACKNOWLEDGED = "active acknowledged"
    CLEARED = "cleared unacknowledged"


@dataclass(frozen=True, slots=True)
class Alarm:
    """State of an alarm and since when its condition has held, or not held [ms]."""

    state: State = State.NORMAL
    since_ms: int = 0
    pending_ms: int = -1

    @property
    def is_active(self) -> bool:
        return self.state in (State.ACTIVE, State.ACTIVE_ACKNOWLEDGED)


def evaluate(alarm: Alarm, rule: Rule, value: float, now_ms: int) -> Alarm:
    """Alarm after a step.

    It is raised when the value has been at or above the threshold for the on-delay, and clears when it has
    been below threshold minus deadband for the off-delay. An unknown value changes nothing.
    """
    if value != value:  # NaN
        return alarm
    if alarm.is_active:
        changes, delay_s = value < rule.threshold - rule.deadband, rule.off_delay_s
    else:
        changes, delay_s = value >= rule.threshold, rule.on_delay_s
    if not changes:
        return alarm if alarm.pending_ms < 0 else replace(alarm, pending_ms=-1)
    pending_ms = now_ms if alarm.pending_ms < 0 else alarm.pending_ms
    if now_ms - pending_ms < delay_s * 1000:
        return replace(alarm, pending_ms=pending_ms)
    if not alarm.is_active:
        return Alarm(State.ACTIVE, now_ms)
    cleared = State.CLEARED if alarm.state is State.ACTIVE else State.NORMAL
    return Alarm(cleared, now_ms)


def acknowledge(alarm: Alarm, now_ms: int) -> Alarm:
    """Alarm after an operator has acknowledged it; twice is the same as once."""
    if alarm.state is State.ACTIVE:
        return replace(alarm, state=State.ACTIVE_ACKNOWLEDGED)
    if alarm.state is State.CLEARED:
        return Alarm(State.NORMAL, now_ms)
    return alarm
