from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agents.noise import INDICATORS
from benchmarks import noise, screened_noise
from benchmarks.blocks import BLOCK_M, X0, Y0, write_blocks
from cities.noise_geometry import read_noise_geometry
from cities.pack import CityError, load_city
from kernels.obstacles import indoors


def test_a_small_town_reports_conformity_times_and_the_ratio_to_the_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TWINROOM_CACHE", str(tmp_path / "cache"))
    write_blocks(tmp_path / "blocks", (2, 2), receptors_m=60.0)
    figures = noise.run(40_000, 120, 300.0, city=tmp_path / "blocks", tiles=1)
    assert (figures["buildings"], figures["screened_tiles"]) == (40.0, 1.0)
    assert 0.0 < figures["screened_receptors"] < 6 * 6  # the rest are inside houses
    assert figures["one_reflection_paths_per_receptor"] > figures["no_reflection_paths_per_receptor"]
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
    assert list((tmp_path / "cache").iterdir()) == []  # the transfers are gone


def test_the_town_of_blocks_is_as_dense_as_said_and_its_courtyards_are_open(tmp_path: Path) -> None:
    write_blocks(tmp_path, (5, 6))
    geometry = read_noise_geometry(load_city(tmp_path), 0.5)
    km2 = 5 * 6 * BLOCK_M[0] * BLOCK_M[1] / 1e6
    assert geometry.n_buildings / km2 == pytest.approx(794, abs=1)
    x, y = (0.5 * side for side in BLOCK_M)
    inside = indoors(geometry.obstacles, X0 + np.array([x, 10.0]), Y0 + np.array([y]))
    np.testing.assert_array_equal(inside, [[False, True]])  # the courtyard; a house


def test_a_pack_without_buildings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CityError, match="nothing stands in the way"):
        screened_noise.timed_city(tmp_path, tmp_path)
