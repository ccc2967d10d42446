"""A step buffer of dictionaries and one object a row: what the buffer of columns must do."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from streams.clock import LATE_WINDOW_MS, STEP_MS, step_end
from streams.observation import FUTURE_MS, Observation, RejectedError, Source, time_text
from streams.steps import Intake

FORGET_MS = 600_000
Identity = tuple[Source, str, str, int, int, int, str]


class PlainBuffer:
    """Holds rows until their step closes, whatever the order and the batches they come in.

    Rows with a known event id are dropped; of two readings of the same interval the one received last
    counts, also when the other has been used already. A row whose step has closed comes with the next one,
    at the head of its rows: who keeps a history corrects it.

    Parameters
    ----------
    sensors : mapping of str to str
        Source of each known sensor.
    """

    def __init__(self, sensors: Mapping[str, str]) -> None:
        self._sensors = sensors
        self._open: dict[Identity, Observation] = {}
        self._seen: dict[str, int] = {}
        self._used: dict[Identity, tuple[int, str]] = {}  # when and as what it was received
        self._closed_ms = 0
        self.intake = Intake()

    def add(self, row: Observation, clock_ms: int) -> None:
        """Take in a row while the source's clock stands at ``clock_ms``.

        Raises
        ------
        RejectedError
            For an unknown sensor, or a time too far ahead or too long ago.
        """
        self._check(row, clock_ms)
        key = f"{row.source.value}/{row.event_id}"
        if key in self._seen:
            self.intake.duplicates += 1
            return
        self._seen[key] = row.end_ms
        mode = -1 if row.mode is None else int(row.mode)
        identity = (
            row.source, row.sensor, row.to_sensor, row.start_ms, row.end_ms, mode, row.direction,
        )  # fmt: skip
        held = self._open.get(identity)
        received = self._used.get(identity) if held is None else (held.received_ms, held.event_id)
        if received is not None:
            self.intake.revisions += 1
            if (row.received_ms, row.event_id) < received:
                return
        else:
            self.intake.accepted += 1
            self.intake.late += row.end_ms <= self._closed_ms
        self._open[identity] = row

    def close(self, end_ms: int) -> list[Observation]:
        """Rows of all steps up to ``end_ms``, in the order in which they are to be used."""
        due = [k for k, row in self._open.items() if step_end(row.end_ms) <= end_ms]
        rows = [self._open.pop(k) for k in due]
        self._used.update((k, (row.received_ms, row.event_id)) for k, row in zip(due, rows, strict=True))
        self._closed_ms = end_ms
        if end_ms % FORGET_MS == 0:  # every step would cost more than all the rest here
            horizon = end_ms - LATE_WINDOW_MS
            self._seen = {k: t for k, t in self._seen.items() if t >= horizon}
            self._used = {k: received for k, received in self._used.items() if k[4] >= horizon}
        rows.sort(key=lambda row: row.order)
        return rows

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
