"""The whole room: start, replay, memory, and how soon a change is on the page.

The machine's own limit for a replay is reading, decoding and checking the recording's rows and nothing else;
the ratio says how much of the replay is spent there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import orjson
import psutil

from cities.pack import find_city
from streams.recording import read_recording

CITY = "ghent"
PORT = 5397
START_LIMIT_S = 300.0


def run() -> dict[str, Any]:
    """Figures of the bundled city on this machine; takes a few minutes."""
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        cold_s, cold_mib = _start(cache)
        warm_s, _ = _start(cache)
        replay = _replay(cache, Path(folder) / "report.json")
    decode_s = _decode()
    return {
        "first_start_to_second_step_s": cold_s,
        "first_start_peak_resident_mib": cold_mib,
        "later_start_to_second_step_s": warm_s,
        "replay_event_s": replay["event_s"],
        "replay_wall_s": replay["wall_s"],
        "replay_times_real_time": replay["times_real_time"],
        "replay_peak_resident_mib": replay["peak_memory_mib"],
        "limit_decode_only_wall_s": decode_s,
        "replay_of_limit_ratio": decode_s / replay["wall_s"],
        "digest": replay["digest"][:16],
    }


def _start(cache: Path) -> tuple[float, float]:
    """Seconds from the command to the second step on the page, and the peak of all its processes [MiB]."""
    room = ["run", "--city", CITY, "--port", str(PORT), "--speed", "60"]
    command = [sys.executable, "-m", "controlroom", *room]
    started = time.monotonic()
    process = subprocess.Popen(
        command, env={**os.environ, "TWINROOM_CACHE": str(cache)}, stdout=subprocess.DEVNULL
    )
    peak = 0.0
    try:
        watched = psutil.Process(process.pid)
        while time.monotonic() - started < START_LIMIT_S:
            if process.poll() is not None:
                raise RuntimeError(f"twinroom run ended with status {process.returncode}")
            processes = [watched, *watched.children(recursive=True)]
            peak = max(peak, sum(p.memory_info().rss for p in processes) / 2**20)
            if _steps_on_page() >= 2:
                return time.monotonic() - started, peak
            time.sleep(0.1)
        raise RuntimeError(f"no second step after {START_LIMIT_S:g} s")
    finally:
        process.terminate()
        process.wait(timeout=30)


def _steps_on_page() -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=2) as answer:
            return int(orjson.loads(answer.read())["steps"])
    except OSError:
        return 0


def _replay(cache: Path, report: Path) -> dict[str, Any]:
    command = [
        sys.executable, "-m", "controlroom", "replay", str(find_city(CITY)), "--speed", "max",
        "--report", str(report),
    ]  # fmt: skip
    subprocess.run(command, check=True, env={**os.environ, "TWINROOM_CACHE": str(cache)})
    figures: dict[str, Any] = orjson.loads(report.read_bytes())
    return figures


def _decode() -> float:
    started = time.monotonic()
    for _ in read_recording(find_city(CITY)).items():
        pass
    return time.monotonic() - started
