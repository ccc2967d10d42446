"""The player keeps the pace of its clock, and nothing else depends on it."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from streams.deadletter import DeadLetter
from streams.observation import Observation
from streams.player import Player
from streams.recording import Recording, read_recording
from tests.toy import toy_rows, write_lines


class Tape:
    """Remembers what it is handed."""

    def __init__(self) -> None:
        self.rows: list[Observation | DeadLetter] = []
        self.clocks: list[int] = []
        self.reached = threading.Event()

    def receive(self, rows: Sequence[Observation | DeadLetter]) -> None:
        self.rows.extend(rows)

    def advance(self, clock_ms: int, offset: int) -> None:
        assert offset > 0
        self.clocks.append(clock_ms)
        self.reached.set()


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    write_lines(tmp_path / "r.jsonl.gz", toy_rows(minutes=10))
    return read_recording(tmp_path / "r.jsonl.gz")


@pytest.mark.parametrize("batch_rows", [1, 7, 10_000])
def test_the_size_of_batches_changes_nothing(recording: Recording, batch_rows: int) -> None:
    tape, one = Tape(), Tape()
    Player(recording, tape, batch_rows=batch_rows).run()
    Player(recording, one, batch_rows=500).run()
    assert repr(tape.rows) == repr(one.rows)
    assert tape.clocks == one.clocks


def test_a_paused_player_stands_still_and_goes_on(recording: Recording) -> None:
    tape = Tape()
    player = Player(recording, tape, speed=math.inf)
    player.pause()
    thread = threading.Thread(target=player.run)
    thread.start()
    assert not tape.reached.wait(0.2)
    assert not player.status().playing
    player.play()
    thread.join(timeout=10)
    assert player.status().finished
    assert len(tape.clocks) == 10


def test_the_pace_follows_the_clock_given(recording: Recording) -> None:
    wall = iter(range(10**6))
    player = Player(recording, Tape(), speed=60.0, monotonic=lambda: float(next(wall)))
    player.run()
    assert player.status().finished


def test_a_stopped_player_returns(recording: Recording) -> None:
    player = Player(recording, Tape(), speed=0.001)
    thread = threading.Thread(target=player.run)
    thread.start()
    player.stop()
    thread.join(timeout=10)
    assert not thread.is_alive()


def test_playing_from_a_time_hands_over_the_warm_up_before_it(recording: Recording) -> None:
    start_ms = recording.span_ms()[0]
    tape = Tape()
    Player(recording, tape, from_ms=start_ms + 300_000, warm_up_ms=120_000).run()
    received = [row.received_ms for row in tape.rows if isinstance(row, Observation)]
    assert min(received) >= start_ms + 180_000


@pytest.mark.parametrize("speed", [0.0, -1.0, math.nan])
def test_a_speed_that_is_none_is_refused(recording: Recording, speed: float) -> None:
    with pytest.raises(ValueError, match="speed"):
        Player(recording, Tape(), speed=speed)


def test_a_span_outside_the_recording_is_refused(recording: Recording) -> None:
    with pytest.raises(ValueError, match="from"):
        Player(recording, Tape(), from_ms=recording.span_ms()[1] + 1)
