from __future__ import annotations

from pathlib import Path

import pytest

from agents.noise import INDICATORS
from benchmarks import noise


def test_a_small_town_reports_conformity_times_and_the_ratio_to_the_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TWINROOM_CACHE", str(tmp_path))
    figures = noise.run(n_receptors=40_000, n_segments=120, radius_m=300.0)
    assert figures["receptors"] == 40_000
    assert figures["incremental_equals_full"] == "bit-identical"
    assert figures["emission_cases_worst_db"] <= 0.01
    assert figures["direct_paths_worst_db"] <= 0.05
    assert figures["totals_worst_db"] <= 0.1
    assert figures["checks_not_met"] == 0.0
    assert figures["values_checked"] > 500
    assert figures["change_100_tiles"] == 4
    assert figures["first_indicators_tiles"] == 4 * len(INDICATORS)
    assert figures["hour_of_indicators_tiles"] == 4 * 2  # lnight and lden
    assert figures["copy_bytes_per_s"] > 1e8
    for name, value in figures.items():
        assert name in ("incremental_equals_full", "checks_not_met") or value > 0.0
    assert list(tmp_path.iterdir()) == []  # the transfers are gone
