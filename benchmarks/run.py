"""Run benchmarks by name, print their figures, write them as JSON."""

from __future__ import annotations

import importlib
from pathlib import Path

import orjson

NAMES = ("air", "cluster", "fusion", "noise", "page", "room")


def run_benchmarks(name: str, report: Path | None, city: Path | None = None) -> None:
    """Run one benchmark, or ``all``; each prints the figure, the machine's limit and their ratio.

    ``city`` is a pack with buildings for that of noise.
    """
    figures = {}
    for benchmark in NAMES if name == "all" else (name,):
        run = importlib.import_module(f"benchmarks.{benchmark}").run
        figures[benchmark] = run(city=city) if benchmark == "noise" else run()
        print(f"\n{benchmark}")
        width = max(len(key) for key in figures[benchmark])
        for key, value in figures[benchmark].items():
            shown = f"{value:.4g}" if isinstance(value, float) else str(value)
            print(f"  {key:<{width}}  {shown}")
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2) + b"\n")
        print(f"\nwritten to {report}")
