"""Read a recording: JSON Lines (gzip too), one reading or clock row a line.

The first line may be a header. What cannot be read becomes a dead letter; a file that breaks off plays up
to where it is whole.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from streams.deadletter import DeadLetter, dead_letter
from streams.observation import Observation, RejectedError, parse_observation, time_ms

FORMAT = "twinroom-recording"
VERSION = 1
_CLOCK = b'"clock"'


class RecordingError(ValueError):
    """A recording that cannot be played at all."""


@dataclass(frozen=True, slots=True)
class ClockRow:
    """The source's clock: all it received before ``time_ms`` has been delivered."""

    time_ms: int


Item = Observation | ClockRow | DeadLetter


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording in memory.

    Attributes
    ----------
    path : Path
    header : mapping
        The header line, empty if there is none.
    lines : tuple of bytes
        The lines after the header, in order.
    first_line : int
        Number of the first of them in the file, from 1.
    has_clock : bool
        It carries clock rows; if not, they follow from the times of receipt.
    damage : DeadLetter or None
        Where the file breaks off.
    content_hash : str
    """

    path: Path
    header: dict[str, Any]
    lines: tuple[bytes, ...]
    first_line: int
    has_clock: bool
    damage: DeadLetter | None
    content_hash: str

    def items(self, start: int = 0) -> Iterator[tuple[int, Item]]:
        """Offset of the next line, and what this one holds, from the line at ``start`` on.

        Without clock rows of its own the recording is given one each time the time of receipt passes ten
        seconds; its rows are then expected in order of receipt.
        """
        derived_clock = clock = 0
        for offset in range(start, len(self.lines)):
            raw = self.lines[offset]
            if not raw.strip():
                continue
            item = parse_line(raw, self.first_line + offset)
            if not self.has_clock and isinstance(item, Observation):
                tick = item.received_ms // 10_000 * 10_000
                if tick > derived_clock and (derived_clock == 0 or tick - derived_clock < 86_400_000):
                    derived_clock = tick
                    yield offset, ClockRow(tick)
            if isinstance(item, ClockRow):
                clock = item.time_ms
            yield offset + 1, item
        if self.damage is not None:
            yield len(self.lines), self.damage
        if not self.has_clock and derived_clock:
            yield len(self.lines), ClockRow(derived_clock + 120_000)
        elif self.damage is not None and clock:  # closes the step that the damage is told in
            yield len(self.lines), ClockRow(clock + 60_000)

    def span_ms(self) -> tuple[int, int]:
        """First and last event time: from the header, else from the first and last readable rows."""
        span = self.header.get("span")
        if isinstance(span, list) and len(span) == 2:
            return time_ms(span[0]), time_ms(span[1])
        first = self._first_time(self.lines)
        last = self._first_time(tuple(reversed(self.lines)))
        if first is None or last is None:
            raise RecordingError(f"{self.path}: holds no readable row")
        return first, last

    def _first_time(self, lines: tuple[bytes, ...]) -> int | None:
        for raw in lines:
            item = parse_line(raw, -1)
            if isinstance(item, ClockRow):
                return item.time_ms
            if isinstance(item, Observation):
                return item.received_ms
        return None


def parse_line(raw: bytes, line: int) -> Item:
    """What a line holds."""
    if _CLOCK in raw:
        try:
            event = orjson.loads(raw)
            if event.get("source") == "clock":
                return ClockRow(time_ms(event["time"]))
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
            return dead_letter(raw, RejectedError("time", f"unreadable clock row: {error}", "clock"), line)
    try:
        return parse_observation(raw)
    except RejectedError as error:
        return dead_letter(raw, error, line)


def read_recording(path: Path) -> Recording:
    """Read a recording, or the valid beginning of a damaged one.

    Parameters
    ----------
    path : Path
        A file, or the folder of a city pack (its recording.jsonl.gz).

    Raises
    ------
    RecordingError
        When there is no file, or nothing in it can be read.
    """
    if path.is_dir():
        path = path / "recording.jsonl.gz"
    try:
        packed = path.read_bytes()
    except FileNotFoundError as error:
        raise RecordingError(f"{path}: there is no such recording") from error
    content, damage = _unpack(packed)
    lines = content.split(b"\n")
    if lines and not lines[-1].strip():
        lines.pop()
    elif damage:
        lines.pop()  # the line at which the file breaks off is not whole
    if not lines:
        raise RecordingError(f"{path}: holds no line that can be read{'; ' + damage if damage else ''}")
    header = _header(lines[0], path)
    body = lines[1:] if header else lines
    letter = None
    if damage:
        letter = DeadLetter(raw="", reason=damage, field="", source="recording", line=len(lines) + 1)
    return Recording(
        path=path,
        header=header,
        lines=tuple(body),
        first_line=2 if header else 1,
        has_clock=any(_CLOCK in line for line in body),
        damage=letter,
        content_hash=hashlib.sha256(packed).hexdigest()[:20],
    )


def _unpack(packed: bytes) -> tuple[bytes, str]:
    """Content, and what is wrong with the file ("" when it is whole)."""
    if packed[:2] != b"\x1f\x8b":
        return packed, ""
    unpacker = zlib.decompressobj(wbits=31)
    content = io.BytesIO()
    step = 256  # what the chunk at the damage held is lost
    for position in range(0, len(packed), step):
        try:
            content.write(unpacker.decompress(packed[position : position + step]))
        except zlib.error as error:
            return content.getvalue(), (
                f"recording is corrupt between bytes {position} and {position + step} ({error}); "
                "what lies before was played"
            )
    if not unpacker.eof:
        return content.getvalue(), (
            f"recording breaks off at byte {len(packed)}; what lies before was played"
        )
    return content.getvalue(), ""


def _header(line: bytes, path: Path) -> dict[str, Any]:
    try:
        first = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    if not isinstance(first, dict) or "format" not in first:
        return {}
    if first["format"] != FORMAT or first.get("version") != VERSION:
        raise RecordingError(
            f"{path}: format: got {first['format']!r} version {first.get('version')!r}, "
            f"expected {FORMAT!r} version {VERSION}"
        )
    return first
