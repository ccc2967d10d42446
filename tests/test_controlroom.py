"""What the command line itself does, whatever the command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import controlroom

CASES = Path(__file__).parent.parent / "benchmarks" / "data" / "cnossos_reference_cases.json"


def test_a_reader_that_has_gone_ends_a_command_without_a_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "controlroom", "validate", "noise", "--cases", str(CASES)],
            stdout=writing, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    finally:
        os.close(writing)
    assert (ended.returncode, ended.stderr) == (controlroom.CLOSED_PIPE, "")


class Terminal:
    """Standard error that may be a terminal and notes what is written."""

    def __init__(self, is_terminal: bool) -> None:
        self.is_terminal, self.text = is_terminal, ""

    def isatty(self) -> bool:
        return self.is_terminal

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


def test_a_long_message_does_not_stay_behind_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = Terminal(True)
    monkeypatch.setattr(sys, "stderr", stderr)
    progress = controlroom._Progress()
    long = "noise transfers: 3 outlines gone or new, 2% of the transfers are made again"
    progress("noise transfers", 0.5)
    progress(long, 0.0)
    progress("noise transfers", 1.0)
    first, second, last = stderr.text.split("\r\x1b[K")[1:]
    assert first.endswith(" 50%")
    assert second == f"{long}\n"
    assert last.endswith("] 100%\n")
    assert len(last) <= 81


def test_where_there_is_no_terminal_long_work_is_told_twice_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stderr, now_s = Terminal(False), [100.0]
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(controlroom.time, "monotonic", lambda: now_s[0])
    progress = controlroom._Progress()
    for now_s[0], fraction in ((110.0, 0.1), (131.0, 0.3), (140.0, 0.4), (162.0, 0.6), (163.0, 1.0)):
        progress("noise transfers", fraction)
    assert stderr.text.splitlines() == [
        "noise transfers: 30%",
        "noise transfers: 60%",
        "noise transfers: done",
    ]


def test_a_command_of_the_cluster_names_the_extra_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert controlroom.main(["worker", "--cluster", str(tmp_path / "cluster.toml")]) == 2
    assert "uvloop is not installed: pip install -e '.[distributed]'" in capsys.readouterr().err
