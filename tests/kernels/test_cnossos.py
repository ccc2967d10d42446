"""The source model against published cases, and its properties."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernels import cnossos, cnossos_tables

CASES = json.loads(
    (Path(__file__).parent.parent / "data" / "cnossos_emission_cases.json").read_text(encoding="utf-8")
)["cases"]


def line_of(case: dict[str, Any]) -> np.ndarray:
    """Bands of all categories of a case, added as energy, (8,) [dB]."""
    energy = np.zeros(8)
    for traffic in case["traffic"]:
        distance = case["junction_distance_m"]
        bands = cnossos.sound_power(
            traffic["flow_veh_h"],
            traffic["speed_kmh"],
            traffic["category"],
            case["surface"],
            case["temperature_c"],
            gradient_percent=case["gradient_percent"],
            junction=case["junction"],
            junction_distance_m=np.inf if distance is None else distance,
            studded_share=case["studded_share"],
        )
        energy += 10.0 ** (bands[0] / 10.0)
    return 10.0 * np.log10(energy)


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_sound_power_is_that_of_the_commissions_own_program(case: dict[str, Any]) -> None:
    bands = line_of(case)
    np.testing.assert_allclose(bands, case["bands_db"], atol=case["tolerance_db"])
    assert cnossos.a_weighted_db(bands) == pytest.approx(case["level_dba"], abs=case["tolerance_db"])


def test_all_surfaces_of_table_f4_are_there() -> None:
    assert set(cnossos_tables.SURFACE_NAMES) == {"DEF", *(f"NL{k:02d}" for k in range(1, 15))}


def test_unknown_surface_is_named() -> None:
    with pytest.raises(ValueError, match=r"surface: got 'NL99', expected one of DEF, NL01"):
        cnossos.surface_indices(["DEF", "NL99"])


def test_unknown_category_and_junction_are_named() -> None:
    with pytest.raises(ValueError, match="category: got '5'"):
        cnossos.sound_power(100.0, 50.0, "5")
    with pytest.raises(ValueError, match="junction: got 'bridge'"):
        cnossos.sound_power(100.0, 50.0, "1", junction="bridge")


def random_traffic(n: int) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    return {
        "light_per_h": rng.uniform(0, 3000, n),
        "medium_per_h": rng.uniform(0, 200, n),
        "heavy_per_h": rng.uniform(0, 200, n),
        "speed_light_kmh": rng.uniform(2, 130, n),
        "speed_heavy_kmh": rng.uniform(2, 90, n),
        "surface_index": rng.integers(0, len(cnossos_tables.SURFACE_NAMES), n).astype(np.int8),
        "temperature_c": rng.uniform(-10, 30, n),
    }


def test_band_group_power_is_the_sum_of_the_bands_of_its_groups() -> None:
    traffic = random_traffic(500)
    bands = np.zeros((500, 8))
    for category, flow, speed in (
        ("1", "light_per_h", "speed_light_kmh"),
        ("2", "medium_per_h", "speed_heavy_kmh"),
        ("3", "heavy_per_h", "speed_heavy_kmh"),
    ):
        level = cnossos.sound_power(
            traffic[flow], traffic[speed], category, traffic["surface_index"], traffic["temperature_c"]
        )
        bands += 10.0 ** ((level + cnossos_tables.A_WEIGHTING_DB) / 10.0)
    groups = np.stack([bands[:, :3].sum(axis=1), bands[:, 3], bands[:, 4], bands[:, 5:].sum(axis=1)], axis=1)
    np.testing.assert_allclose(cnossos.band_group_power(**traffic), groups, rtol=1e-10)


def test_power_is_linear_in_the_flow_at_fixed_speed() -> None:
    traffic = random_traffic(200)
    once = cnossos.band_group_power(**traffic)
    for column in ("light_per_h", "medium_per_h", "heavy_per_h"):
        traffic[column] = 2.0 * traffic[column]
    np.testing.assert_allclose(cnossos.band_group_power(**traffic), 2.0 * once, rtol=1e-13)


def test_no_traffic_is_silent_and_unknown_traffic_is_unknown() -> None:
    def power(light: float, speed: float) -> np.ndarray:
        return cnossos.band_group_power([light], [0.0], [0.0], [speed], [np.nan], np.zeros(1, np.int8), 20.0)

    assert (power(0.0, np.nan) == 0.0).all()
    assert np.isnan(power(np.nan, 50.0)).all()
    assert np.isnan(power(10.0, np.nan)).all()
    assert cnossos.sound_power(0.0, 50.0, "1")[0, 0] == -np.inf


def test_power_of_a_vehicle_is_frozen_below_20_kmh_and_density_below_5() -> None:
    level = cnossos.sound_power([100.0] * 4, [20.0, 10.0, 5.0, 1.0], "1")
    np.testing.assert_allclose(level[1] - level[0], 10 * np.log10(20 / 10), atol=1e-12)
    np.testing.assert_allclose(level[2] - level[0], 10 * np.log10(20 / 5), atol=1e-12)
    np.testing.assert_allclose(level[3], level[2], atol=1e-12)


def test_the_2021_tables_are_the_louder_ones() -> None:
    """A light vehicle at 50 km/h: 98.4 dB(A) with the tables of 2021, 96.0 with those of 2015."""
    level = cnossos.a_weighted_db(cnossos.sound_power(50_000.0, 50.0, "1"))
    assert level[0] == pytest.approx(98.4, abs=0.05)
