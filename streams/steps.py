"""Readings on their way into a step: checked against the city, deduplicated, sorted."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from kernels.texts import sort_runs
from streams.clock import LATE_WINDOW_MS, STEP_MS, step_end
from streams.deadletter import DeadLetter, dead_letter
from streams.observation import FUTURE_MS, Observation, RejectedError, time_text
from streams.readings import (
    NO_MODE,
    NO_TEXT,
    NUMBERS,
    UNKNOWN,
    CityCodes,
    CityIndex,
    ReadingTable,
    shown_ids,
    step_batch,
    suspects,
)
from streams.recall import Recall
from streams.texts import Texts
from streams.topics import Batch
from streams.wire import decode_together

FORGET_MS = 600_000
# Rows that are looked at together. A row of Arrow messages of 500 takes 0.67 us to decode, check and keep;
# 1.65 us one message at a time, 1.08 us at 65,536 rows, which leave the cache.
TOGETHER = 8_192
BYTES_TOGETHER = 800_000  # of messages, which hold about as many rows
NO_CLOCK = -1
_LONGEST_RUN = 64  # sorted by insertion; longer ones as Python sorts


@dataclass(slots=True)
class Intake:
    """What came in so far."""

    accepted: int = 0
    duplicates: int = 0
    revisions: int = 0
    late: int = 0


class StepBuffer:
    """Holds readings until their step closes, whatever the order and the messages they come in.

    Readings with a known event id are dropped; of two readings of the same interval the one received last
    counts, also when the other has been used already. A reading whose step has closed comes with the next
    one, at the head of its rows: who keeps a history corrects it. What may not enter becomes a dead letter.

    Messages are looked at together, once there are enough rows or somebody asks; that changes no result.

    Parameters
    ----------
    sensors : mapping of str to str
        Source of each known sensor.
    """

    def __init__(self, sensors: Mapping[str, str]) -> None:
        self._sensors = sensors
        self._index = CityIndex(sensors)
        self._recall = Recall()
        self._waiting: list[tuple[ReadingTable, NDArray[np.int64]]] = []
        self._messages: list[tuple[bytes, str, int | None]] = []
        self._n_waiting = self._n_bytes = 0
        self._open: list[CityCodes] = []
        self._letters: list[DeadLetter] = []
        self._closed_ms = 0
        self._counts = np.zeros(5, dtype=np.int64)

    @property
    def intake(self) -> Intake:
        """Counts of what came in so far."""
        self._settle()
        return Intake(*self._counts[:4].tolist())

    @property
    def n_rows(self) -> int:
        """Readings accepted, repeated or revised so far, of those that have been looked at."""
        return int(self._counts[:3].sum())

    def add(self, table: ReadingTable, clock_ms: int | None = None) -> None:
        """Take in readings while the source's clock stands at ``clock_ms``.

        Before the source has told its time (None), each row's own time of receipt is the clock. The clock is
        never behind the last step that was closed.
        """
        if table.n_rows == 0:
            return
        self._decode()
        self._wait(table, np.full(table.n_rows, NO_CLOCK if clock_ms is None else clock_ms))
        if self._n_waiting >= TOGETHER:
            self._settle()

    def add_message(self, raw: bytes, content_type: str, clock_ms: int | None = None) -> None:
        """Take in a message as :func:`streams.wire.decode_readings` reads it; see :meth:`add`.

        One that cannot be read becomes a dead letter.
        """
        self._messages.append((raw, content_type, clock_ms))
        self._n_bytes += len(raw)
        if self._n_bytes >= BYTES_TOGETHER:
            self._settle()

    def take_letters(self) -> list[DeadLetter]:
        """Readings that were refused since this was last asked, in order."""
        self._settle()
        letters, self._letters = self._letters, []
        return letters

    def close(self, end_ms: int) -> Batch:
        """Batch of the readings of all steps up to ``end_ms``, in the order in which they are to be used."""
        self._settle()
        held = _joined(self._open)
        is_open = self._recall.is_open()
        is_due = step_end(held.columns["end_ms"]) <= end_ms
        due, rest = np.flatnonzero(is_open & is_due), np.flatnonzero(is_open & ~is_due)
        data, first, length = self._recall.ids_of(due)
        order = _order({name: held.columns[name][due] for name in _ORDERED}, data, first, length)
        rows = CityCodes({name: column[due[order]] for name, column in held.columns.items()})
        ids = shown_ids(data, first[order], length[order])
        self._recall.close(due, rest)
        self._open = [CityCodes({name: column[rest] for name, column in held.columns.items()})]
        self._closed_ms = end_ms
        if end_ms % FORGET_MS == 0:
            self._recall.horizon_ms = end_ms - LATE_WINDOW_MS
        return step_batch(rows, self._index, ids, end_ms)

    def snapshot(self) -> dict[str, Any]:
        """The readings still open, what is remembered of others, counts and letters, as arrays."""
        self._settle()
        return {
            "sensors": list(self._index.sensors),
            "directions": list(self._index.directions),
            "open": dict(_joined(self._open).columns),
            "recall": self._recall.snapshot(),
            "closed_ms": self._closed_ms,
            "letters": [list(astuple(letter)) for letter in self._letters],
            "counts": self._counts.copy(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state that :meth:`snapshot` made.

        Raises
        ------
        ValueError
            When the state is of other sensors.
        """
        if tuple(state["sensors"]) != self._index.sensors:
            other = sorted(set(state["sensors"]) ^ set(self._index.sensors))
            raise ValueError(f"state: sensors: differ from the city's in {', '.join(other[:5])}; start anew")
        self._index.directions = state["directions"]
        self._open = [CityCodes({name: np.array(column) for name, column in state["open"].items()})]
        self._recall.restore(state["recall"])
        self._closed_ms = int(state["closed_ms"])
        self._counts = np.array(state["counts"], dtype=np.int64)
        self._letters = [DeadLetter(*letter) for letter in state["letters"]]
        self._waiting, self._messages = [], []
        self._n_waiting = self._n_bytes = 0

    def _wait(self, table: ReadingTable, clock_ms: NDArray[np.int64]) -> None:
        self._waiting.append((table, clock_ms))
        self._n_waiting += table.n_rows

    def _decode(self) -> None:
        """Make tables of the messages that wait."""
        if not self._messages:
            return
        messages, self._messages, self._n_bytes = self._messages, [], 0
        decoded = decode_together([(raw, content_type) for raw, content_type, _ in messages])
        for k, error in decoded.refused.items():
            refusal = error if isinstance(error, RejectedError) else RejectedError("", str(error))
            self._letters.append(dead_letter(messages[k][0], refusal))
        clocks = [NO_CLOCK if clock is None else clock for _, _, clock in messages]
        clock_ms = np.repeat(np.array(clocks, dtype=np.int64), decoded.n_rows)
        first = 0
        for table in decoded.tables:
            self._wait(table, clock_ms[first : first + table.n_rows])
            first += table.n_rows

    def _settle(self) -> None:
        """Check what is waiting, and keep what is new of it."""
        self._decode()
        if not self._waiting:
            return
        waiting, self._waiting, self._n_waiting = self._waiting, [], 0
        tables = [table for table, _ in waiting]
        codes = self._index.coded(tables)
        event_id = Texts.concatenated([table.event_id for table in tables])
        is_unchecked = np.repeat([not table.is_checked for table in tables], [t.n_rows for t in tables])
        clock_ms = np.concatenate([clock for _, clock in waiting])
        clock_ms = np.where(clock_ms == NO_CLOCK, codes.columns["received_ms"], clock_ms)
        bad = self._may_not_enter(codes.columns, clock_ms)
        bad |= is_unchecked & (suspects(codes, self._index) | (event_id.lengths == 0))
        if bad.any():
            event_id = self._judge(bad, tables, codes, event_id, clock_ms)
        rows = np.flatnonzero(~bad)
        words = _words(codes.columns)
        received_ms = np.ascontiguousarray(codes.columns["received_ms"])
        kept = self._recall.take_in(rows, words, received_ms, event_id, self._closed_ms, self._counts)
        if kept.size < codes.n_rows:
            codes = CityCodes({name: column[kept] for name, column in codes.columns.items()})
        self._open.append(codes)

    def _may_not_enter(self, c: Mapping[str, NDArray[Any]], clock_ms: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Rows that :meth:`_check` refuses, (n,)."""
        end, source, source_of = c["end_ms"], c["source"], self._index.source_of
        bad = (end > clock_ms + (STEP_MS + FUTURE_MS)) | (end < clock_ms - LATE_WINDOW_MS)
        for name in ("sensor", "to_sensor"):
            bad |= (c[name] != NO_TEXT) & (source_of[c[name]] != source)
        return bad

    def _judge(
        self,
        bad: NDArray[np.bool_],
        tables: list[ReadingTable],
        codes: CityCodes,
        event_id: Texts,
        clock_ms: NDArray[np.int64],
    ) -> Texts:
        """Look at suspect rows one by one: those that may enter after all are put right, in place."""
        first_of = np.cumsum([0, *(table.n_rows for table in tables)])
        new_ids: dict[int, str] = {}
        for k in np.flatnonzero(bad):
            t = int(np.searchsorted(first_of, k, side="right")) - 1
            table, row = tables[t], int(k - first_of[t])
            try:
                reading = table.observation(row)
            except RejectedError as error:
                raw = orjson.dumps(table.event(row), option=orjson.OPT_NON_STR_KEYS)
                self._letters.append(dead_letter(raw, error))
                continue
            try:
                self._check(reading, int(clock_ms[k]))
            except RejectedError as error:
                shown = f"{reading.source.value} {reading.sensor} {time_text(reading.end_ms)}"
                self._letters.append(DeadLetter(shown, error.reason, error.field, error.source))
                continue
            bad[k] = False
            codes.columns["mode"][k] = NO_MODE if reading.mode is None else int(reading.mode)
            if event_id.start[k + 1] == event_id.start[k]:
                new_ids[int(k)] = reading.event_id
        if not new_ids:
            return event_id
        return Texts.of([new_ids.get(k, text) for k, text in enumerate(event_id.texts())])

    def _check(self, row: Observation, clock_ms: int) -> None:
        if row.end_ms > clock_ms + STEP_MS + FUTURE_MS:
            raise RejectedError(
                "end",
                f"got {time_text(row.end_ms)}, which lies in the future of {time_text(clock_ms)}",
                row.source.value,
            )
        if row.end_ms < clock_ms - LATE_WINDOW_MS:
            raise RejectedError(
                "end",
                f"got {time_text(row.end_ms)}, more than two hours before {time_text(clock_ms)}",
                row.source.value,
            )
        for name in (row.sensor, row.to_sensor):
            if not name:
                continue
            known = self._sensors.get(name)
            if known is None:
                close = difflib.get_close_matches(name, self._sensors, 1)
                hint = f"; did you mean {close[0]}?" if close else "; is it in sensors.geojson?"
                raise RejectedError("sensor", f"unknown sensor '{name[:80]}'{hint}", row.source.value)
            if known != row.source.value:
                raise RejectedError(
                    "source",
                    f"got {row.source.value}, but sensor '{name[:80]}' is of source {known}",
                    row.source.value,
                )


def _joined(parts: list[CityCodes]) -> CityCodes:
    """Rows of several parts; what a part has no column for is unknown there."""
    names = {name for part in parts for name in part.columns}
    columns = {name: _EMPTY[name] for name in _EMPTY if name not in NUMBERS}
    for name in sorted(names):
        absent = 1.0 if name == "uptime" else np.nan
        columns[name] = np.concatenate([
            part.columns.get(name, np.full(part.n_rows, absent)) for part in parts
        ])  # fmt: skip
    return CityCodes(columns)


_EMPTY: dict[str, NDArray[Any]] = CityIndex({}).coded([ReadingTable.of([])]).columns


def _words(c: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    """What tells intervals apart, as the first four words of a key: (n, 4)."""
    words = np.empty((c["end_ms"].size, 4), dtype=np.int64)
    words[:, 0], words[:, 1] = c["start_ms"], c["end_ms"]
    words[:, 2] = (c["sensor"].astype(np.int64) << 32) | (c["to_sensor"].astype(np.int64) & 0xFFFFFFFF)
    words[:, 3] = ((c["direction"].astype(np.int64) + 1) << 12) | ((c["mode"].astype(np.int64) + 1) << 4)
    words[:, 3] |= c["source"]
    return words


_ORDERED = ("end_ms", "source", "sensor")


def _order(
    c: Mapping[str, NDArray[Any]],
    data: NDArray[np.uint8],
    first: NDArray[np.int64],
    length: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Rows sorted by end, source, sensor and the text of their id, (n,)."""
    end_ms = c["end_ms"]
    if end_ms.size == 0:
        return np.empty(0, dtype=np.int64)
    since = end_ms - end_ms.min()
    if since.max() >= 1 << 27:  # a day and a half: ranks do as well, and always fit
        since = np.unique(end_ms, return_inverse=True)[1]
    key = since.astype(np.int64) << 36 | c["source"].astype(np.int64) << 32
    key |= c["sensor"].astype(np.int64) - UNKNOWN
    order = np.argsort(key).astype(np.int64)
    if sort_runs(data, first, length, key, order, _LONGEST_RUN):
        _sort_long_runs(key, order, data, first, length)
    return order


def _sort_long_runs(
    key: NDArray[np.int64],
    order: NDArray[np.int64],
    data: NDArray[np.uint8],
    first: NDArray[np.int64],
    length: NDArray[np.int64],
) -> None:
    starts = np.flatnonzero(np.append(True, np.diff(key[order]) != 0))
    ends = np.append(starts[1:], order.size)
    for a, b in zip(starts.tolist(), ends.tolist(), strict=True):
        if b - a > _LONGEST_RUN:
            run = sorted(order[a:b].tolist(), key=lambda k: data[first[k] : first[k] + length[k]].tobytes())
            order[a:b] = run
