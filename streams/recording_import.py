"""Make a recording of JSON Lines in the interchange format: checked, in order, with a clock."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from cities.pack import City
from streams.deadletter import DeadLetter, dead_letter
from streams.observation import Observation, RejectedError, Source, time_ms, time_text
from streams.recording import FORMAT, VERSION, RecordingError, parse_line, read_recording

CLOCK_MS = 30_000
TAIL_MS = 120_000  # of the clock after the last reading: it closes the last steps
GAP_MS = 86_400_000  # a wrong clock lies years away; a recording pauses for less than a day
EXAMPLES = 3  # of each reason on the terminal


@dataclass(frozen=True, slots=True)
class _Reading:
    item: Observation
    raw: bytes
    line: int


@dataclass(slots=True)
class ImportReport:
    """What became of the lines.

    Attributes
    ----------
    rows : int
        Readings taken over.
    span_ms : (int, int)
        From the first start to the last end.
    simulated : int
        Of the rows, those that no sensor measured.
    sensors : int
        Different ones that spoke.
    rejected : list of DeadLetter
        In order of line.
    notes : list of str
    """

    path: Path
    rows: int = 0
    span_ms: tuple[int, int] = (0, 0)
    simulated: int = 0
    sensors: int = 0
    rejected: list[DeadLetter] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """What the terminal shows."""
        first, last = (time_text(t) for t in self.span_ms)
        told = [
            f"{self.path}: {self.rows} readings of {self.sensors} sensors, {first} to {last}, "
            f"{self.simulated} of them simulated",
            *self.notes,
        ]
        if self.rejected:
            told.append(f"{len(self.rejected)} lines rejected:")
        by_field = Counter(_kind(letter) for letter in self.rejected)
        for kind, count in sorted(by_field.items()):
            told.append(f"  {kind}: {count}")
            shown = [letter for letter in self.rejected if _kind(letter) == kind][:EXAMPLES]
            told += [f"    line {x.line}: {x.reason}" for x in shown]
        return told


def _kind(letter: DeadLetter) -> str:
    return f"{letter.source or 'any source'}, {letter.field or 'not a reading'}"


def import_recording(path: Path, city: City, out: Path) -> ImportReport:
    """Write the readings of a file, in the order in which they were received, with clock rows between them.

    The bytes of a reading stay as they are, unknown keys and repetitions too. Those of sensors that the city
    has not, and those that :func:`streams.observation.parse_observation` refuses, are told and left out.

    Parameters
    ----------
    path : Path
        JSON Lines, gzip too; a first line may be a header.
    city : City
    out : Path
        Is replaced; the same readings make the same bytes.

    Raises
    ------
    RecordingError
        When the file cannot be read or holds no reading that can be taken over.
    """
    if out.suffix != ".gz":
        raise RecordingError(f"{out}: --out: expected a name that ends with .gz, as recording.jsonl.gz")
    given = read_recording(path)
    report = ImportReport(out)
    if given.damage is not None:
        report.notes.append(f"{path}: {given.damage.reason}")
    sources = {sensor.id: sensor.source for sensor in city.sensors}
    readings = []
    for line, raw in enumerate(given.lines, start=given.first_line):
        item = parse_line(raw, line) if raw.strip() else None
        if isinstance(item, Observation):
            refusal = _refusal(item, sources)
            if refusal is None:
                readings.append(_Reading(item, raw.strip(), line))
            else:
                item = dead_letter(raw, refusal, line)
        if isinstance(item, DeadLetter):
            report.rejected.append(item)
    readings = _of_one_time(readings, report)
    if not readings:
        raise RecordingError(f"{path}: holds no reading that can be taken over; {_told(report.rejected)}")
    readings.sort(key=lambda r: (r.item.received_ms, *r.item.order))
    _summarise(report, [r.item for r in readings], given.header)
    header = _header(given.header, city, report)
    content = b"\n".join([orjson.dumps(header), *_with_clock(readings, report.span_ms)]) + b"\n"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(gzip.compress(content, mtime=0))
    return report


def _told(rejected: Sequence[DeadLetter]) -> str:
    if not rejected:
        return "it has no reading at all"
    return f"line {rejected[0].line}: {rejected[0].reason}"


def _refusal(item: Observation, sources: Mapping[str, str]) -> RejectedError | None:
    """Why a reading does not belong to the city's sensors."""
    for name, sensor in (("sensor", item.sensor), ("to_sensor", item.to_sensor)):
        if not sensor:
            continue
        source = sources.get(sensor)
        if source is None:
            return RejectedError(name, f"got {sensor!r}, expected a sensor of the city", item.source.value)
        if source != item.source.value:
            reason = f"got {item.source.value}, but sensor {sensor!r} is of source {source}"
            return RejectedError("source", reason, item.source.value)
    return None


def _of_one_time(readings: list[_Reading], report: ImportReport) -> list[_Reading]:
    """The longest run of readings without a gap of a day; others have a wrong clock, and are rejected."""
    if not readings:
        return []
    received = np.array([r.item.received_ms for r in readings])
    order = np.argsort(received, kind="stable")
    run = np.zeros(len(readings), dtype=np.int64)
    run[order] = np.concatenate([[0], np.cumsum(np.diff(received[order]) > GAP_MS)])
    longest = int(np.bincount(run).argmax())
    of_run = received[run == longest]
    first, last = time_text(int(of_run.min())), time_text(int(of_run.max()))
    for r, belongs in zip(readings, run == longest, strict=True):
        if not belongs:
            got = time_text(r.item.received_ms)
            reason = f"got {got}, a day or more away from the other readings ({first} to {last})"
            refusal = RejectedError("received", reason, r.item.source.value)
            report.rejected.append(dead_letter(r.raw, refusal, r.line))
    report.rejected.sort(key=lambda letter: letter.line)
    return [r for r, belongs in zip(readings, run == longest, strict=True) if belongs]


def _summarise(report: ImportReport, items: list[Observation], header: Mapping[str, Any]) -> None:
    """Counts, and the span: what a replay plays, from the first interval that was counted to the last end."""
    report.rows = len(items)
    report.simulated = sum(i.simulated for i in items)
    report.sensors = len({i.sensor for i in items})
    counted = [i for i in items if i.source is not Source.WEATHER] or items  # weather may be known before
    first, last = min(i.start_ms for i in counted), max(i.end_ms for i in items)
    try:
        first, end = (time_ms(t) for t in header["span"])
        last = max(last, end)
    except (KeyError, TypeError, ValueError):
        if "span" in header:
            report.notes.append(
                f"header: span: got {header['span']!r}, expected two times; taken from the readings"
            )
    first = min(first, items[0].received_ms)  # a replay skips what was received before
    report.span_ms = first // CLOCK_MS * CLOCK_MS, last


def _header(given: Mapping[str, Any], city: City, report: ImportReport) -> dict[str, Any]:
    """The given header, made to name this city and its network."""
    named = given.get("network_hash")
    if named is not None and named != city.network_hash:
        report.notes.append(f"header: network_hash: was {named}, is now the city's {city.network_hash}")
    own = {
        "format": FORMAT,
        "version": VERSION,
        "city": city.name,
        "network_hash": city.network_hash,
        "span": [time_text(t) for t in report.span_ms],
    }
    return {**own, **{key: value for key, value in given.items() if key not in own}}


def _with_clock(readings: list[_Reading], span_ms: tuple[int, int]) -> Iterator[bytes]:
    """Lines, with a clock row for each half minute that has passed before the next one was received."""
    clock = span_ms[0]
    for reading in readings:
        while clock + CLOCK_MS <= reading.item.received_ms:
            clock += CLOCK_MS
            yield _clock_row(clock)
        yield reading.raw
    end = max(clock, span_ms[1]) + TAIL_MS
    while clock < end:
        clock += CLOCK_MS
        yield _clock_row(clock)


def _clock_row(clock_ms: int) -> bytes:
    return orjson.dumps({"source": "clock", "time": time_text(clock_ms)})
