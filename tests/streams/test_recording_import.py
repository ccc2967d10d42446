"""JSON Lines become a recording: in order, with a clock, and with what does not fit told by line."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from pathlib import Path

import pytest

from cities.pack import City, load_city
from streams.observation import Observation, time_text
from streams.recording import ClockRow, RecordingError, read_recording
from streams.recording_import import import_recording
from tests.foreign import BAD_LINES, write_foreign_city

ROW = '{"source":"loops","sensor":"D1","start":"2025-03-04T10:0%d:00Z","end":"2025-03-04T10:0%d:00Z","received":"2025-03-04T10:%02d:03Z","mode":"car","count":%d}'


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> City:
    folder = tmp_path_factory.mktemp("valdoro")
    write_foreign_city(folder)
    return load_city(folder)


def write(path: Path, *lines: str | bytes) -> Path:
    path.write_bytes(b"\n".join(x.encode() if isinstance(x, str) else x for x in lines) + b"\n")
    return path


def row(minute: int, count: int = 1, received: int = 0) -> str:
    return ROW % (minute, minute + 1, received or minute + 1, count)


def test_a_recording_can_be_read_and_nothing_good_is_lost(foreign: City, tmp_path: Path) -> None:
    source = foreign.folder / "recording.jsonl"
    report = import_recording(source, foreign, tmp_path / "out.jsonl.gz")
    made = read_recording(tmp_path / "out.jsonl.gz")
    assert made.header == {
        "format": "twinroom-recording", "version": 1, "city": "valdoro", "network_hash": foreign.network_hash,
        "span": ["2025-03-04T10:00:00Z", "2025-03-04T12:00:00Z"], "generator": "tests.foreign", "seed": 20250304,
    }  # fmt: skip
    assert made.has_clock
    items = [item for _, item in made.items()]
    assert Counter(type(i).__name__ for i in items).keys() == {"Observation", "ClockRow"}
    readings = [i for i in items if isinstance(i, Observation)]
    lines = source.read_bytes().splitlines()
    assert len(readings) == report.rows == len(lines) - 1 - len(BAD_LINES)
    assert set(made.lines) >= set(lines[1:]) - set(BAD_LINES)  # byte for byte


def test_what_does_not_fit_is_told_with_its_line(foreign: City, tmp_path: Path) -> None:
    report = import_recording(foreign.folder / "recording.jsonl", foreign, tmp_path / "out.jsonl.gz")
    assert [(x.line, x.field) for x in report.rejected] == [
        (41, "sensor"), (42, "count"), (43, "end"), (44, "mode"), (45, "end"), (46, ""),
    ]  # fmt: skip
    told = "\n".join(report.lines())
    assert "6 lines rejected:" in told
    assert "loops, end: 2" in told
    assert "line 41: got 'X99', expected a sensor of the city" in told


def test_readings_follow_each_other_as_they_were_received_and_the_clock_runs_between(
    foreign: City, tmp_path: Path
) -> None:
    import_recording(
        write(tmp_path / "a.jsonl", row(5), row(0, received=4), row(1)), foreign, tmp_path / "a.gz"
    )
    told: list[tuple[int, object]] = []
    for _, item in read_recording(tmp_path / "a.gz").items():
        if isinstance(item, ClockRow):
            told.append((item.time_ms, time_text(item.time_ms)[11:19]))
        elif isinstance(item, Observation):
            told.append((item.received_ms, item.start_ms // 60_000 % 10))
    assert [moment for moment, _ in told] == sorted(moment for moment, _ in told)
    shown = [what for _, what in told]
    assert shown[:5] == ["10:00:30", "10:01:00", "10:01:30", "10:02:00", 1]
    assert shown[-1] == "10:08:00"  # two minutes after the last


def test_the_order_of_the_lines_changes_nothing(foreign: City, tmp_path: Path) -> None:
    lines = (foreign.folder / "recording.jsonl").read_bytes().splitlines()
    header, body = lines[0], [x for x in lines[1:] if x not in BAD_LINES]
    import_recording(write(tmp_path / "a.jsonl", header, *body), foreign, tmp_path / "a.gz")
    random.Random(1).shuffle(body)
    (tmp_path / "b.jsonl").write_bytes(gzip.compress(b"\n".join([header, *body])))
    import_recording(tmp_path / "b.jsonl", foreign, tmp_path / "b.gz")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_unknown_keys_and_repeated_lines_are_kept(foreign: City, tmp_path: Path) -> None:
    marked = row(1)[:-1] + ',"weather":"fog","lane":2}'
    report = import_recording(write(tmp_path / "a.jsonl", row(0), row(0), marked), foreign, tmp_path / "a.gz")
    assert report.rows == 3
    (last,) = [
        i for _, i in read_recording(tmp_path / "a.gz").items() if isinstance(i, Observation) and i.extra
    ]
    assert last.extra == {"weather": "fog", "lane": 2}


def test_without_a_header_the_span_is_that_of_the_counts(foreign: City, tmp_path: Path) -> None:
    weather = '{"source":"weather","sensor":"M1","start":"2025-03-04T09:00:00Z","end":"2025-03-04T10:00:00Z","received":"2025-03-04T10:00:05Z","temperature_c":9}'
    import_recording(write(tmp_path / "a.jsonl", weather, row(0), row(7)), foreign, tmp_path / "a.gz")
    assert read_recording(tmp_path / "a.gz").header["span"] == [
        "2025-03-04T10:00:00Z",
        "2025-03-04T10:08:00Z",
    ]


def test_a_header_of_another_network_is_told(foreign: City, tmp_path: Path) -> None:
    header = {"format": "twinroom-recording", "version": 1, "network_hash": "00ff", "span": "all day"}
    path = write(tmp_path / "a.jsonl", json.dumps(header), row(0))
    told = import_recording(path, foreign, tmp_path / "a.gz").lines()
    assert f"header: network_hash: was 00ff, is now the city's {foreign.network_hash}" in told
    assert any("header: span: got 'all day'" in text for text in told)


def test_a_reading_of_another_source_than_its_sensor_is_told(foreign: City, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", row(0), row(1).replace('"loops"', '"radar"'))
    (letter,) = import_recording(path, foreign, tmp_path / "a.gz").rejected
    assert letter.reason == "got radar, but sensor 'D1' is of source loops"


def test_a_sensor_whose_clock_is_a_year_ahead_is_told_and_stretches_nothing(
    foreign: City, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.jsonl", row(0), row(1), row(2).replace("2025", "2026"))
    report = import_recording(path, foreign, tmp_path / "a.gz")
    assert report.rows == 2
    assert "a day or more away from the other readings" in report.rejected[0].reason
    assert len(read_recording(tmp_path / "a.gz").lines) < 20


def test_a_file_that_breaks_off_is_imported_as_far_as_it_is_whole(foreign: City, tmp_path: Path) -> None:
    lines = [row(k % 8, count=k) for k in range(400)]
    packed = gzip.compress("\n".join(lines).encode(), mtime=0)
    (tmp_path / "a.gz").write_bytes(packed[: len(packed) * 3 // 4])
    report = import_recording(tmp_path / "a.gz", foreign, tmp_path / "b.gz")
    assert 0 < report.rows < 400
    assert any("breaks off" in note for note in report.notes)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([row(0).replace("D1", "NOBODY")], "holds no reading that can be taken over; line 1: got 'NOBODY'"),
        (["nonsense"], "line 1: not valid JSON"),
        (['{"format":"twinroom-recording","version":1}'], "it has no reading at all"),
        (['{"format":"other"}', row(0)], "format: got 'other'"),
    ],
)
def test_a_file_of_which_nothing_is_left_is_refused_and_nothing_is_written(
    foreign: City, tmp_path: Path, lines: list[str], message: str
) -> None:
    with pytest.raises(RecordingError, match=message):
        import_recording(write(tmp_path / "a.jsonl", *lines), foreign, tmp_path / "b.gz")
    assert not (tmp_path / "b.gz").exists()


def test_a_recording_has_a_name_that_says_it_is_gzipped(foreign: City, tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"expected a name that ends with \.gz"):
        import_recording(write(tmp_path / "a.jsonl", row(0)), foreign, tmp_path / "b.jsonl")
