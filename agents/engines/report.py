"""The report of a run: counts that are the same at any speed, times that are not, and the digest."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import orjson

from agents.engines.embedded import EmbeddedEngine
from streams.digest import run_digest
from streams.observation import time_text
from streams.player import PlayerStatus

COUNTERS = ("changed_segments", "cells_updated")


def run_report(
    engine: EmbeddedEngine, status: PlayerStatus, *, recording: str, first_ms: int, wall_s: float
) -> dict[str, Any]:
    """Report of a run.

    Parameters
    ----------
    engine : EmbeddedEngine
        Built with ``keep_digest``.
    status : PlayerStatus
        Where the replay ended.
    recording : str
        Name of the file.
    first_ms : int
        Beginning of the first step [ms since the epoch].
    wall_s : float
        Time it took [s].
    """
    event_s = max(0, engine.now_ms - first_ms) / 1000
    agents = {}
    for agent in engine.agents:
        figures = engine.figures.agents[agent.name]
        agents[agent.name] = {
            "steps": figures.steps,
            "rows_in": figures.rows_in,
            "rows_out": figures.rows_out,
            "wall_s": round(figures.wall_s, 3),
            **{name: getattr(agent, name) for name in COUNTERS if hasattr(agent, name)},
        }
    return {
        "city": engine.city.name,
        "network_hash": engine.city.network_hash,
        "recording": recording,
        "steps": engine.figures.steps,
        "changed_segments": agents.get("emission", {}).get("changed_segments", 0),
        "cells_updated": sum(a.get("cells_updated", 0) for a in agents.values()),
        "agents": agents,
        "topics": engine.figures.rows,
        "intake": engine.intake,
        "first_event_time": time_text(first_ms),
        "last_event_time": time_text(engine.now_ms),
        "finished": status.finished,
        "event_s": event_s,
        "wall_s": round(wall_s, 3),
        "times_real_time": round(event_s / wall_s, 1) if wall_s > 0 else None,
        "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "digest": run_digest(engine.entries()),
    }


def write_report(report: dict[str, Any], path: Path) -> None:
    """Write a report as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2) + b"\n")
