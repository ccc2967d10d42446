"""A recording of what the sensors of a city would have reported of a true morning.

    python -m studies.observe cities/ghent --fine fine.npz --out cities/ghent
    python -m studies.observe cities/ghent --fine open.npz --out variant \\
        --changes-against cities/ghent/recording.jsonl.gz --changes tests/data/no_closure.jsonl.gz

Writes ``sensors.geojson`` and ``recording.jsonl.gz`` (see the interchange formats). Simulated rows say so;
the rows of the reference counter are real. With ``--changes-against`` it also writes only the rows in which
two recordings differ.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from studies.observe_rows import all_rows, stamp
from studies.observe_sensors import Placed, place_sensors, sensors_geojson
from studies.truth import read_fine
from studies.truth_morning import Morning, read_morning
from studies.truth_network import bicycle_edges, car_edges, read_streets

CLOCK_EVERY_S = 60
CLOCK_OFFSET_S = 30
CLOCK_TAIL_S = 120
VERSION = 1


def make_recording(folder: Path, fine: Path) -> tuple[Morning, list[Placed], list[str]]:
    """Sensors and the lines of a recording, header first, in order of arrival."""
    morning = read_morning(folder)
    streets = read_streets(folder / "network.geojson", morning.crs)
    cars, bicycles = car_edges(streets, morning.seed), bicycle_edges(streets, morning.seed)
    sensors = place_sensors(morning, streets, cars, bicycles)
    truth = read_fine(fine, cars, bicycles)
    rows = [*all_rows(morning, streets, sensors, truth), *clock_rows(morning.start, morning.end)]
    header = {
        "format": "twinroom-recording",
        "version": VERSION,
        "city": morning.city,
        "network_hash": hashlib.sha256((folder / "network.geojson").read_bytes()).hexdigest()[:16],
        "span": [stamp(morning.start), stamp(morning.end)],
        "generator": "studies.observe",
        "seed": morning.seed,
    }
    return morning, sensors, [_line(row) for row in (header, *sorted(rows, key=arrival))]


def clock_rows(start: datetime, end: datetime) -> Iterator[dict[str, Any]]:
    """Clock rows: at time C, everything received before C has been delivered."""
    moment = start + timedelta(seconds=CLOCK_OFFSET_S)
    while moment <= end + timedelta(seconds=CLOCK_TAIL_S):
        yield {"source": "clock", "time": stamp(moment)}
        moment += timedelta(seconds=CLOCK_EVERY_S)


def arrival(row: dict[str, Any]) -> tuple[Any, ...]:
    """Order of a row: time of arrival, a clock row before what arrives with it, then the identity."""
    if row["source"] == "clock":
        return (row["time"], 0)
    return (row["received"], 1, *identity(row))


def identity(row: dict[str, Any]) -> tuple[str, ...]:
    """What tells one reading from another, whatever it says; of a clock row, its time."""
    return tuple(
        str(row.get(key, "")) for key in ("source", "sensor", "to_sensor", "mode", "start", "end", "time")
    )


def changes(recording: Iterable[str], other: Iterable[str]) -> Iterator[str]:
    """Lines that make ``other`` from ``recording``: its header, changed and new rows, and rows to drop."""
    before, after = iter(recording), iter(other)
    next(before)
    yield _line(
        {"format": "twinroom-recording-changes", "version": VERSION, "header": json.loads(next(after))}
    )
    old, new = _by_identity(before), _by_identity(after)
    yield from (line for _, line in sorted(entry for key, entry in new.items() if old.get(key) != entry))
    for key, (_, line) in old.items():
        if key not in new:
            row = json.loads(line)
            named = {k: row[k] for k in ("source", "sensor", "to_sensor", "mode", "start", "end") if k in row}
            yield _line({"drop": True, **named})


def apply_changes(recording_lines: Iterable[str], changes_lines: Iterable[str]) -> Iterator[str]:
    """Lines of the other recording that :func:`changes` was made of.

    Parameters
    ----------
    recording_lines, changes_lines : iterable of str
        With or without line ends.

    Raises
    ------
    ValueError
        If the second does not begin as a file of changes.
    """
    recording = (line.rstrip("\n") for line in recording_lines)
    changed = (line.rstrip("\n") for line in changes_lines)
    next(recording)
    head = json.loads(next(changed))
    if head.get("format") != "twinroom-recording-changes":
        raise ValueError(
            f"changes: format: got {head.get('format')!r}, expected 'twinroom-recording-changes'"
        )
    yield _line(head["header"])
    rows = _by_identity(recording)
    for line in changed:
        row = json.loads(line)
        if row.get("drop"):
            del rows[identity(row)]
        else:
            rows[identity(row)] = (arrival(row), line)
    yield from (line for _, line in sorted(rows.values()))


def _by_identity(lines: Iterable[str]) -> dict[tuple[str, ...], tuple[tuple[Any, ...], str]]:
    """Place in the order of arrival, and line, of every row."""
    found = {}
    for line in lines:
        row = json.loads(line)
        found[identity(row)] = (arrival(row), line)
    return found


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, separators=(",", ":"))


def write_lines(lines: Iterable[str], path: Path) -> None:
    """Gzipped lines; the same lines make the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        path.open("wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0, compresslevel=9) as out,
    ):
        out.write(("\n".join(lines) + "\n").encode())


def read_lines(path: Path) -> list[str]:
    """Lines of a gzipped file, without line ends."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [line.rstrip("\n") for line in lines]


def main(arguments: list[str] | None = None) -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(
        prog="python -m studies.observe",
        description="Record what the sensors of a city would have reported of a true morning.",
        epilog="example: python -m studies.observe cities/ghent --fine fine.npz --out cities/ghent",
    )
    parser.add_argument("city", type=Path, help="city folder with network.geojson, city.toml, study.toml")
    parser.add_argument("--fine", type=Path, required=True, help="flow of every minute, from studies.truth")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for sensors.geojson and recording.jsonl.gz"
    )
    parser.add_argument("--changes-against", type=Path, help="a recording to compare with")
    parser.add_argument("--changes", type=Path, help="file for the rows that differ from it")
    options = parser.parse_args(arguments)
    if (options.changes is None) != (options.changes_against is None):
        parser.error("--changes-against and --changes go together")
    morning, sensors, lines = make_recording(options.city, options.fine)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "sensors.geojson").write_text("".join(sensors_geojson(sensors, morning.crs)))
    write_lines(lines, options.out / "recording.jsonl.gz")
    print(f"{options.out}: {len(sensors)} sensors, {len(lines)} lines, "
          f"{(options.out / 'recording.jsonl.gz').stat().st_size / 1e6:.2f} MB")  # fmt: skip
    if options.changes is not None:
        changed = list(changes(read_lines(options.changes_against), lines))
        write_lines(changed, options.changes)
        print(f"{options.changes}: {len(changed)} lines, {options.changes.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
