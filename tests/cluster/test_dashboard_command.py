"""`twinroom dashboard` as a site starts it, without Redis at first."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from cluster.child import free_ports
from controlroom import main
from tests.cluster.cast import write_settings
from tests.toy import write_toy_city


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """A cluster whose servers are all away."""
    write_toy_city(tmp_path / "toyville", minutes=5)
    redis, kafka = free_ports(2)
    return write_settings(tmp_path, "c", ["toyville"], f"127.0.0.1:{kafka}", f"redis://127.0.0.1:{redis}/0")


def health(port: int, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """What /health says, as soon as it says something."""
    for _ in range(600):
        assert process.poll() is None
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                return dict(json.load(answer))
        except OSError:
            time.sleep(0.05)
    raise AssertionError("no answer within half a minute")


def test_the_page_is_served_while_redis_is_away_says_so_and_ends_when_told(settings: Path) -> None:
    (port,) = free_ports(1)
    command = [
        sys.executable, "-m", "controlroom", "dashboard", "--cluster", str(settings), "--region", "toyville",
        "--port", str(port), "--origin", "room.example",
    ]  # fmt: skip
    process = subprocess.Popen(command, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        told = health(port, process)
        assert (told["steps"], told["frame_age_s"]) == (0, None)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ops", timeout=20) as answer:
            assert b"Toyville" in answer.read()
        assert health(port, process)["has_redis"] is False
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0
    assert f"The dashboard of Toyville is at http://127.0.0.1:{port}" in output.decode()


def test_a_region_that_the_cluster_does_not_have_is_named(
    settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dashboard", "--cluster", str(settings), "--region", "atlantis"]) == 2
    assert "regions: got 'atlantis', expected one of toyville" in capsys.readouterr().err
