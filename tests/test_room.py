"""A toy city runs end to end: nothing knows the bundled one, and nothing but the rows changes a result."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from controlroom import main
from streams.store import Store
from streams.topics import Topic
from tests.toy import SENSORS, START, iso, reading, toy_rows, write_lines, write_toy_city

OUTPUTS = ("densities", "emissions", "fields", "exposure")
Rows = list[dict[str, Any]]


def replay(folder: Path, *options: str) -> dict[str, Any]:
    report = folder / "report.json"
    assert main(["replay", str(folder), "--report", str(report), *options]) == 0
    figures: dict[str, Any] = orjson.loads(report.read_bytes())
    return figures


def changed(folder: Path, change: Callable[[Rows], object], **options: Any) -> Path:
    rows = toy_rows(**options)
    change(rows)
    write_lines(folder / "recording.jsonl.gz", rows)
    return folder


def test_a_toy_city_runs_end_to_end(toy_folder: Path) -> None:
    report = replay(toy_folder)
    assert report["steps"] == 90
    assert report["finished"]
    for topic in OUTPUTS:
        assert report["topics"][topic] > 0, topic
    assert report["topics"]["deadletters"] == 0
    assert report["changed_segments"] > 0
    assert report["cells_updated"] > 0
    assert report["first_event_time"] == iso(START)


@pytest.mark.parametrize("options", [("--batch", "1"), ("--batch", "1000"), ("--speed", "3000")])
def test_batches_and_speed_change_no_result(toy_folder: Path, options: tuple[str, ...]) -> None:
    plain, other = replay(toy_folder, "--to", "07:40"), replay(toy_folder, "--to", "07:40", *options)
    for figure in ("digest", "steps", "changed_segments", "cells_updated", "topics", "intake"):
        assert plain[figure] == other[figure], figure


def test_one_count_more_changes_the_digest(toy_folder: Path) -> None:
    before = replay(toy_folder)["digest"]

    def one_more(rows: Rows) -> None:
        next(row for row in rows if row.get("count", 0) > 3)["count"] += 1

    assert replay(changed(toy_folder, one_more))["digest"] != before


def test_order_of_arrival_within_the_grace_and_duplicates_change_no_density(toy_folder: Path) -> None:
    before = replay(toy_folder)

    def shuffle(rows: Rows) -> None:
        ticks = [k for k, row in enumerate(rows) if row.get("source") == "clock"]
        for start, end in itertools.pairwise(ticks):
            rows[start + 1 : end] = rows[start + 1 : end][::-1]
        rows[4:4] = rows[2:4]  # sent twice

    after = replay(changed(toy_folder, shuffle))
    assert after["digest"] == before["digest"]
    assert after["intake"]["duplicates"] == 2


def late(rows: Rows) -> None:
    """Move some lines behind clock rows that close their steps: by a minute and by a quarter of an hour."""
    ticks = [k for k, row in enumerate(rows) if row.get("source") == "clock"]
    for sensor, minute, minutes in (("L2", 40, 15), ("L7", 33, 1), ("L4", 60, 14), ("L4", 61, 13)):
        end = iso(START + timedelta(minutes=minute + 1))
        mine = [row for row in rows if row.get("sensor") == sensor and row["end"] == end]
        assert len(mine) == 2
        after = rows[ticks[minute + minutes]]
        for row in mine:
            rows.remove(row)
        place = rows.index(after) + 1
        rows[place:place] = mine


def test_late_lines_of_a_recording_end_in_the_same_densities(toy_folder: Path) -> None:
    in_order = densities_of(toy_folder, "first")
    behind = densities_of(changed(toy_folder, late), "second")
    assert behind.keys() == in_order.keys()
    assert behind == in_order


def densities_of(folder: Path, name: str) -> dict[tuple[str, int], str]:
    """Digest of the highest revision of each tile and step."""
    state = folder / f"{name}.sqlite"
    report = replay(folder, "--state", str(state))
    assert report["intake"]["late"] == (8 if name == "second" else 0)
    assert report["intake"]["revisions"] == 0
    with sqlite3.connect(state) as connection:
        rows = connection.execute(
            "SELECT key, time_ms, digest FROM published WHERE topic = 'densities' ORDER BY revision"
        ).fetchall()
    return {(key, time_ms): digest for key, time_ms, digest in rows}


@pytest.mark.parametrize("some_are_late", [False, True])
def test_a_replay_killed_and_taken_up_again_gives_the_same_digest(
    toy_folder: Path, some_are_late: bool
) -> None:
    if some_are_late:
        changed(toy_folder, late)
    before = replay(toy_folder)
    state = toy_folder / "state.sqlite"
    command = [
        sys.executable, "-m", "controlroom", "replay", str(toy_folder), "--speed", "400",
        "--state", str(state), "--report", str(toy_folder / "never.json"),
    ]  # fmt: skip
    process = subprocess.Popen(command, env=os.environ)
    try:
        _wait_for(lambda: _has_snapshot(state), process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (toy_folder / "never.json").exists()
    after = replay(toy_folder, "--state", str(state))
    for figure in ("digest", "steps", "topics", "changed_segments"):
        assert after[figure] == before[figure], figure


def _has_snapshot(path: Path) -> bool:
    if not path.exists():
        return False
    with sqlite3.connect(path, timeout=1) as connection:
        try:
            return connection.execute("SELECT count(*) FROM snapshot").fetchone()[0] == 1
        except sqlite3.OperationalError:  # being made right now
            return False
        finally:
            connection.interrupt()


def _wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert process.poll() is None, "the replay ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_bad_rows_become_dead_letters_with_field_and_reason_and_nothing_else_is_lost(
    toy_folder: Path,
) -> None:
    before = replay(toy_folder)
    bad = [
        reading("loops", "L1", START, START, 1, mode="car", count=-3),
        reading("loops", "L1", START, START, 1, mode="zeppelin", count=3),
        reading("loops", "L99", START, START, 1, mode="car", speed_kmh=30.0),
        reading("radar", "L1", START, START, 1, mode="car", speed_kmh=30.0),
        reading("loops", "L1", START, START, 1, mode="car", speed_kmh=400.0),
        {"source": "loops"},
        {"source": "sonar", "sensor": "S"},
    ]
    after = replay(changed(toy_folder, lambda rows: rows.__setitem__(slice(5, 5), bad)))
    assert after["topics"]["deadletters"] == len(bad)
    for topic in OUTPUTS:
        assert after["topics"][topic] == before["topics"][topic]
    assert after["intake"] == before["intake"]


def test_dead_letters_are_kept_with_reason_and_field(toy_folder: Path) -> None:
    changed(toy_folder, lambda rows: rows.insert(5, {**rows[4], "count": -3}), minutes=70)
    state = toy_folder / "state.sqlite"
    replay(toy_folder, "--state", str(state))
    letters = [batch for batch in audit_of(state) if batch.topic is Topic.DEADLETTERS]
    assert [(str(b.columns["field"][0]), "-3" in str(b.columns["reason"][0])) for b in letters] == [
        ("count", True)
    ]


def audit_of(state: Path) -> Any:
    with sqlite3.connect(state) as connection:
        run = connection.execute("SELECT run FROM snapshot").fetchone()[0]
    with Store(state, run) as store:
        return store.audit()


def alarms_of(folder: Path) -> list[tuple[str, str, int]]:
    state = folder / "state.sqlite"
    replay(folder, "--state", str(state))
    return [
        (batch.key, str(batch.columns["state"][0]), (batch.time_ms - int(START.timestamp() * 1000)) // 60_000)
        for batch in audit_of(state)
        if batch.topic is Topic.ALARMS and not batch.key.startswith("feed")
    ]


def test_a_detour_raises_an_alarm_on_its_street_and_it_clears_afterwards(tmp_path: Path) -> None:
    write_toy_city(tmp_path / "bumped", bump=3.0, minutes=120)
    alarms = [alarm for alarm in alarms_of(tmp_path / "bumped") if "quality" not in alarm[0]]
    raised = [(key, minute) for key, state, minute in alarms if state == "active unacknowledged"]
    cleared = [(key, minute) for key, state, minute in alarms if state == "cleared unacknowledged"]
    assert "rise/Row 3" in {key for key, _ in raised}
    assert all(50 < minute <= 66 for _, minute in raised)
    assert {key for key, _ in cleared} == {key for key, _ in raised}


def test_without_the_detour_no_such_alarm_is_raised(tmp_path: Path) -> None:
    write_toy_city(tmp_path / "calm", bump=1.0, minutes=120)
    assert not [alarm for alarm in alarms_of(tmp_path / "calm") if alarm[0] == "rise/Row 3"]


def test_a_run_without_a_page_ends_by_itself_and_reports(toy_folder: Path) -> None:
    report = toy_folder / "r.json"
    arguments = [
        "run", "--city", str(toy_folder), "--for", "4s", "--speed", "60", "--from", "07:20",
        "--no-dashboard", "--report", str(report),
    ]  # fmt: skip
    assert main(arguments) == 0
    topics = orjson.loads(report.read_bytes())["topics"]
    assert topics["observations"] > 0
    assert topics["densities"] > 0


def test_a_busy_port_is_refused_with_a_way_out(toy_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["run", "--city", str(toy_folder), "--port", str(port)]) == 2
    message = capsys.readouterr().err
    assert str(port) in message
    assert "--port" in message


def test_a_missing_file_of_the_city_is_named(toy_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (toy_folder / "network.geojson").unlink()
    assert main(["run", "--city", str(toy_folder), "--no-dashboard"]) == 2
    assert "network.geojson" in capsys.readouterr().err


def test_a_truncated_recording_plays_and_says_where_it_breaks_off(
    toy_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = toy_folder / "recording.jsonl.gz"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    report = replay(toy_folder)
    assert 10 < report["steps"] < 90
    assert report["topics"]["deadletters"] == 1
    assert "breaks off at byte" in capsys.readouterr().err


def test_a_recording_of_another_network_is_refused(
    toy_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(toy_folder, lambda rows: rows[0].update(network_hash="0000000000000000"))
    assert main(["replay", str(toy_folder)]) == 2
    assert "network_hash" in capsys.readouterr().err


def test_a_city_is_prepared_once(toy_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert main(["city", "prepare", "--city", str(toy_folder)]) == 0
    assert "Toyville: prepared" in capsys.readouterr().out


def test_the_doctor_finds_a_city_without_a_recording(
    toy_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(SENSORS) == 8
    (toy_folder / "recording.jsonl.gz").unlink()
    assert main(["doctor", "--city", str(toy_folder), "--port", "0"]) == 1
    report = capsys.readouterr().out
    assert "ok   city pack: Toyville" in report
    assert "FAIL recording" in report
