"""Play a recording: a clock that can be paused and sped up, and rows that follow it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from streams.deadletter import DeadLetter
from streams.observation import Observation, time_text
from streams.recording import ClockRow, Recording


@dataclass(frozen=True, slots=True)
class PlayerStatus:
    """Where the replay stands. Times are event time, ms since the epoch."""

    now_ms: int
    start_ms: int
    end_ms: int
    playing: bool
    speed: float
    finished: bool
    step_wall_s: float = 0.0
    mode: str = "REPLAY"


class Sink(Protocol):
    """Who takes the rows: the embedded engine."""

    def receive(self, rows: Sequence[Observation | DeadLetter]) -> None:
        """Rows, in the order of the recording."""

    def advance(self, clock_ms: int, offset: int) -> None:
        """The source's clock reached ``clock_ms``; the next line is ``offset``."""


class Player:
    """Feeds a recording to a sink at a multiple of real time.

    Rows are handed over in batches and their number changes nothing; the pace is kept at the clock rows,
    because only they close steps.

    Parameters
    ----------
    recording : Recording
    sink : Sink
    speed : float
        Event seconds for each second; ``math.inf`` plays as fast as possible.
    from_ms, to_ms : int or None
        Play rows received at or after, and before.
    warm_up_ms : int
        Rows received this long before ``from_ms`` are handed over too, without keeping the pace.
    batch_rows : int
        Rows handed over at once.
    offset : int
        Line to start from, when a run goes on.
    """

    def __init__(
        self,
        recording: Recording,
        sink: Sink,
        *,
        speed: float = math.inf,
        from_ms: int | None = None,
        to_ms: int | None = None,
        warm_up_ms: int = 0,
        batch_rows: int = 500,
        offset: int = 0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if not speed > 0:
            raise ValueError(f"speed: got {speed}, expected a number above 0, or max")
        if batch_rows < 1:
            raise ValueError(f"batch: got {batch_rows}, expected at least 1")
        first, last = recording.span_ms()
        self._recording, self._sink, self._offset = recording, sink, offset
        self._batch_rows, self._monotonic = batch_rows, monotonic
        self._start_ms = first if from_ms is None else max(first, from_ms)
        self._end_ms = last if to_ms is None else min(last, to_ms)
        self._to_ms = to_ms
        self._skip_before_ms = self._start_ms - warm_up_ms
        if self._start_ms >= self._end_ms:
            raise ValueError(
                f"from: nothing of {recording.path.name} lies between --from and --to; it holds "
                f"{time_text(first)} to {time_text(last)}"
            )
        self._changed = threading.Condition()
        self._speed, self._playing = speed, True
        self._stopped = self._finished = False
        self._anchor_event_ms, self._anchor_wall = float(self._start_ms), monotonic()
        self._now_ms = self._start_ms

    def status(self) -> PlayerStatus:
        return PlayerStatus(
            now_ms=self._now_ms,
            start_ms=self._start_ms,
            end_ms=self._end_ms,
            playing=self._playing and not self._finished,
            speed=self._speed,
            finished=self._finished,
        )

    @property
    def offset(self) -> int:
        """Line to go on from after the last clock row that was handed over."""
        return self._offset

    def play(self) -> None:
        with self._changed:
            self._anchor(self._playing)
            self._playing = True
            self._changed.notify_all()

    def pause(self) -> None:
        """Stop all clocks of the replay; the step under way still closes."""
        with self._changed:
            self._anchor(self._playing)
            self._playing = False
            self._changed.notify_all()

    def set_speed(self, speed: float) -> None:
        if not speed > 0:
            raise ValueError(f"speed: got {speed}, expected a number above 0, or max")
        with self._changed:
            self._anchor(self._playing)
            self._speed = speed
            self._changed.notify_all()

    def stop(self) -> None:
        """Make :meth:`run` return after the step under way."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def run(self) -> None:
        """Play to the end; returns early after :meth:`stop`."""
        pending: list[Observation | DeadLetter] = []
        with self._changed:
            self._anchor_wall = self._monotonic()
        for offset, item in self._recording.items(self._offset):
            if isinstance(item, ClockRow):
                if item.time_ms < self._skip_before_ms:
                    continue
            elif isinstance(item, Observation) and item.received_ms < self._skip_before_ms:
                continue
            if not isinstance(item, ClockRow):
                pending.append(item)
                if len(pending) >= self._batch_rows:
                    self._sink.receive(pending)
                    pending = []
                continue
            if pending:
                self._sink.receive(pending)
                pending = []
            if self._to_ms is not None and item.time_ms > self._to_ms:
                break
            if not self._wait_until(item.time_ms):
                return
            self._sink.advance(item.time_ms, offset)
            self._offset = offset
            self._now_ms = max(self._now_ms, item.time_ms)
        self._finished = True

    def _anchor(self, was_playing: bool) -> None:
        wall = self._monotonic()
        if was_playing and math.isfinite(self._speed):
            # never ahead of the next row's own time, or a long step would be made up for at once
            moved = self._anchor_event_ms + (wall - self._anchor_wall) * 1000 * self._speed
            self._anchor_event_ms = min(moved, self._now_ms + 60_000.0)
        else:
            self._anchor_event_ms = float(self._now_ms)
        self._anchor_wall = wall

    def _wait_until(self, event_ms: int) -> bool:
        """Wait for the replay's clock; False when stopped."""
        with self._changed:
            while not self._stopped:
                if self._playing:
                    if math.isinf(self._speed) or event_ms <= self._start_ms:
                        return True
                    due = self._anchor_wall + (event_ms - self._anchor_event_ms) / 1000 / self._speed
                    left = due - self._monotonic()
                    if left <= 0:
                        return True
                    self._changed.wait(left)
                else:
                    self._changed.wait()
            return False
