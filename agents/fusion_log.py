"""Readings and states of the last two hours: what late readings need to re-open their steps."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.clock import LATE_WINDOW_MS, STEP_MS, step_end

READING = np.dtype(
    [
        ("mode", np.int8), ("row", np.int32), ("end_ms", np.int64), ("start_ms", np.int64),
        ("variant", np.uint32),  # tells readings of one row and interval apart
        ("count", np.float64), ("uptime", np.float64), ("speed_kmh", np.float64), ("simulated", np.bool_),
        ("travel_time_s", np.float64),
    ]
)  # fmt: skip
# In the place of a mode: rows of these are not of a counter but of a pair of cameras, with vehicles as the
# count, or of an area, with devices.
PAIR, AREA = 100, 101
IDENTITY = ("mode", "row", "end_ms", "start_ms", "variant")
AT_ONCE_MS = 3 * STEP_MS  # cameras and Telraam often miss the grace by seconds: this is taken up at once
TAKEN_UP_MS = 5 * STEP_MS  # what is later waits for such a mark, so that a scattered feed costs one replay
CHECKPOINT_MS = 15 * STEP_MS  # between kept states; half a megabyte each in a city of 60,000 edges
KEPT_MS = LATE_WINDOW_MS + TAKEN_UP_MS + STEP_MS
WARM_UP = -1  # revision of a step that was not published

Readings = NDArray[np.void]


def no_readings() -> Readings:
    return np.empty(0, dtype=READING)


class StepLog:
    """Readings by the step they belong to, and the states from which steps can be done again.

    A step that got a late reading, or one that replaces another of the same identity, is open again until
    :meth:`again` has it done once more.
    """

    def __init__(self) -> None:
        self.arrived: list[Readings] = []
        self._steps: list[int] = []
        self._revision: dict[int, int] = {}
        self._rows: dict[int, Readings] = {}
        self._states: dict[int, Mapping[str, Any]] = {}
        self._open: set[int] = set()

    def begin(self, now_ms: int, revision: int, state: Mapping[str, Any]) -> None:
        """Sort what arrived into the step that ends at ``now_ms`` and into closed ones.

        ``state`` is that before the step. What is older than the first step belongs to the first.
        """
        self._states[self._steps[-1] if self._steps else 0] = state
        self._steps.append(now_ms)
        self._revision[now_ms] = revision
        self._rows[now_ms] = no_readings()
        arrived = np.concatenate([no_readings(), *self.arrived])
        self.arrived = []
        steps = np.array(self._steps, dtype=np.int64)
        place = np.searchsorted(steps, step_end(arrived["end_ms"]))
        ends = steps[np.minimum(place, steps.size - 1)]
        for end in np.unique(ends):
            self._rows[int(end)] = _merged(self._rows[int(end)], arrived[ends == end])
            if end != now_ms:
                self._open.add(int(end))
        self._forget(now_ms)

    def again(self, now_ms: int) -> tuple[int, list[int]]:
        """First step to publish again now, and the steps to do again for it; none most of the time."""
        recent = {step for step in self._open if now_ms - step <= AT_ONCE_MS}
        due = self._open if now_ms % TAKEN_UP_MS == 0 else recent
        if not due:
            return now_ms, []
        before = max(ms for ms in self._states if ms < min(due))
        done = {step for step in self._open if step > before}
        self._open -= done
        return min(done), [step for step in self._steps if before < step < now_ms]

    def state_before(self, step_ms: int) -> Mapping[str, Any]:
        """State that was kept before a step."""
        return self._states[max(ms for ms in self._states if ms < step_ms)]

    def redo(self, step_ms: int, state: Mapping[str, Any]) -> None:
        """Put the state after a step in the place of the one that was kept."""
        if step_ms in self._states:
            self._states[step_ms] = state

    def raised_revision(self, step_ms: int) -> int:
        """Revision of a step that is published once more."""
        self._revision[step_ms] += 1
        return self._revision[step_ms]

    def is_published(self, step_ms: int) -> bool:
        return self._revision[step_ms] != WARM_UP

    def rows(self, step_ms: int) -> Readings:
        """Readings of a step, sorted by their identity."""
        return self._rows[step_ms]

    def _is_kept(self, step_ms: int, now_ms: int) -> bool:
        return step_ms % CHECKPOINT_MS == 0 or now_ms - step_ms <= AT_ONCE_MS + STEP_MS

    def _forget(self, now_ms: int) -> None:
        oldest = max((ms for ms in self._states if ms < now_ms - KEPT_MS), default=0)
        self._states = {
            ms: state
            for ms, state in self._states.items()
            if ms == oldest or (ms > oldest and self._is_kept(ms, now_ms))
        }
        for step in [step for step in self._steps if step <= oldest]:
            del self._rows[step], self._revision[step]
            self._open.discard(step)
        self._steps = self._steps[bisect_left(self._steps, oldest + 1) :]

    def snapshot(self) -> dict[str, Any]:
        """All of it as few arrays; the states are shared, nobody changes them."""
        rows = [self._rows[step] for step in self._steps]
        kept = np.concatenate([no_readings(), *rows, *self.arrived])
        return {
            "steps": np.array(self._steps, dtype=np.int64),
            "revisions": np.array([self._revision[step] for step in self._steps], dtype=np.int64),
            "sizes": np.array([r.size for r in rows], dtype=np.int64),
            "rows": {name: np.ascontiguousarray(kept[name]) for name in READING.names or ()},
            "states": [[ms, dict(state)] for ms, state in sorted(self._states.items())],
            "open": sorted(self._open),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a state that :meth:`snapshot` made."""
        columns = state["rows"]
        kept = np.empty(len(columns["row"]), dtype=READING)
        for name in READING.names or ():
            kept[name] = columns[name]
        *rows, arrived = np.split(kept, np.cumsum(state["sizes"]))
        self._steps = [int(ms) for ms in state["steps"]]
        self._rows = dict(zip(self._steps, rows, strict=True))
        self._revision = {ms: int(r) for ms, r in zip(self._steps, state["revisions"], strict=True)}
        self._states = {int(ms): kept for ms, kept in state["states"]}
        self._open = {int(ms) for ms in state["open"]}
        self.arrived = [arrived]


def _merged(held: Readings, new: Readings) -> Readings:
    """Readings sorted by identity; of two with the same one the newer takes the place."""
    both = np.concatenate([held, new])
    both = both[np.lexsort([both[name] for name in reversed(IDENTITY)])]
    last = np.ones(both.size, dtype=np.bool_)
    last[:-1] = np.any([both[name][1:] != both[name][:-1] for name in IDENTITY], axis=0)
    return both[last]
