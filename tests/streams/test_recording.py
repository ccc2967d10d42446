"""Recordings: whole, damaged, without a clock."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from streams.deadletter import DeadLetter
from streams.observation import Observation
from streams.recording import ClockRow, RecordingError, read_recording
from tests.toy import toy_rows, write_lines


def test_a_recording_plays_all_its_rows(tmp_path: Path) -> None:
    rows = toy_rows(minutes=10)
    write_lines(tmp_path / "r.jsonl.gz", rows)
    recording = read_recording(tmp_path / "r.jsonl.gz")
    items = [item for _, item in recording.items()]
    assert len(items) == len(rows) - 1
    assert not [item for item in items if isinstance(item, DeadLetter)]
    assert recording.header["city"] == "toyville"


def test_plain_and_packed_files_hold_the_same(tmp_path: Path) -> None:
    write_lines(tmp_path / "r.jsonl.gz", toy_rows(minutes=3))
    (tmp_path / "r.jsonl").write_bytes(gzip.decompress((tmp_path / "r.jsonl.gz").read_bytes()))
    packed, plain = (read_recording(tmp_path / n) for n in ("r.jsonl.gz", "r.jsonl"))
    assert packed.lines == plain.lines


def test_a_truncated_recording_plays_its_valid_beginning_and_says_where_it_breaks(tmp_path: Path) -> None:
    write_lines(tmp_path / "r.jsonl.gz", toy_rows(minutes=60))
    whole = (tmp_path / "r.jsonl.gz").read_bytes()
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    recording = read_recording(tmp_path / "cut.jsonl.gz")
    items = [item for _, item in recording.items()]
    assert sum(isinstance(item, Observation) for item in items) > 100
    letters = [item for item in items if isinstance(item, DeadLetter)]
    assert len(letters) == 1
    assert isinstance(items[-1], ClockRow)  # a step closes after it, so that it is told
    assert f"byte {len(whole) // 2}" in letters[0].reason


def test_a_corrupt_recording_plays_up_to_the_damage(tmp_path: Path) -> None:
    write_lines(tmp_path / "r.jsonl.gz", toy_rows(minutes=90))
    broken = bytearray((tmp_path / "r.jsonl.gz").read_bytes())
    at = len(broken) * 3 // 4
    broken[at : at + 40] = bytes(40)
    (tmp_path / "r.jsonl.gz").write_bytes(broken)
    recording = read_recording(tmp_path / "r.jsonl.gz")
    assert recording.damage is not None
    assert "corrupt" in recording.damage.reason or "breaks off" in recording.damage.reason


def test_a_malformed_line_is_a_dead_letter_with_its_line_and_the_rest_goes_on(tmp_path: Path) -> None:
    lines = [json.dumps(row) for row in toy_rows(minutes=2)]
    lines.insert(3, '{"source":"loops","sensor":"L1","count":')
    (tmp_path / "r.jsonl").write_text("\n".join(lines) + "\n")
    items = [item for _, item in read_recording(tmp_path / "r.jsonl").items()]
    letters = [item for item in items if isinstance(item, DeadLetter)]
    assert [letter.line for letter in letters] == [4]
    assert len(items) == len(lines) - 1


def test_without_clock_rows_the_clock_follows_the_times_of_receipt(tmp_path: Path) -> None:
    rows = [row for row in toy_rows(minutes=5) if row.get("source") != "clock"]
    write_lines(tmp_path / "r.jsonl.gz", rows)
    recording = read_recording(tmp_path / "r.jsonl.gz")
    clocks = [item.time_ms for _, item in recording.items() if isinstance(item, ClockRow)]
    assert clocks == sorted(clocks)
    assert clocks[-1] - clocks[0] > 240_000


def test_playing_goes_on_from_an_offset(tmp_path: Path) -> None:
    write_lines(tmp_path / "r.jsonl.gz", toy_rows(minutes=5))
    recording = read_recording(tmp_path / "r.jsonl.gz")
    items = list(recording.items())
    offset = items[20][0]
    assert list(recording.items(offset)) == items[21:]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "no line"), (b'{"format":"something","version":1}\n', "format"),
     (b'{"format":"twinroom-recording","version":99}\n', "version 99")],
)  # fmt: skip
def test_what_is_no_recording_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "r.jsonl").write_bytes(content)
    with pytest.raises(RecordingError, match=message):
        read_recording(tmp_path / "r.jsonl")


def test_a_missing_recording_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"nowhere\.jsonl"):
        read_recording(tmp_path / "nowhere.jsonl")
