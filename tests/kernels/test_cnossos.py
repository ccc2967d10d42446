"""The source model against published cases, and its properties."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernels import cnossos, cnossos_tables
from kernels.cnossos_coefficients import EU_2015, EU_2021, NL_NATIONAL, CoefficientSet, coefficient_set

CASES = json.loads(
    (Path(__file__).parents[2] / "benchmarks" / "data" / "cnossos_reference_cases.json").read_text(
        encoding="utf-8"
    )
)["emission"]
SETS = {"coefficients_2021": EU_2021, "coefficients_2015": EU_2015}
JUNCTIONS = (None, "crossing", "roundabout")


def line_of(case: dict[str, Any], coefficients: CoefficientSet) -> np.ndarray:
    """Bands of all categories of a case, added as energy, (8,) [dB]."""
    energy = np.zeros(8)
    for traffic in case["traffic"]:
        distance = case["junction_distance_m"]
        bands = cnossos.sound_power(
            traffic["flow_veh_h"],
            traffic["speed_kmh"],
            str(traffic["category"]),
            "DEF" if case["surface"] == "reference" else case["surface"],
            case["temperature_C"],
            coefficients=coefficients,
            gradient_percent=case["slope_pct"],
            junction=JUNCTIONS[case["junction_type"]],
            junction_distance_m=np.inf if distance is None else distance,
            studded_share=cnossos.studded_share(case["studded_fraction_cat1"], case["studded_months"]),
        )
        energy += 10.0 ** (bands[0] / 10.0)
    return 10.0 * np.log10(energy)


@pytest.mark.parametrize("coefficients", list(SETS))
@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_sound_power_is_that_of_the_commissions_own_program(case: dict[str, Any], coefficients: str) -> None:
    bands = line_of(case, SETS[coefficients])
    expected = case["expected_LW_line_dB_per_m"][coefficients]
    np.testing.assert_allclose(bands, expected["bands"], atol=case["tolerance_dB"])
    assert cnossos.a_weighted_db(bands) == pytest.approx(expected["LWA"], abs=case["tolerance_dB"])


# Level of one vehicle on the reference surface [dB(A)], as computed by another program from the same tables.
@pytest.mark.parametrize(
    ("coefficients", "category", "speed_kmh", "level_dba"),
    [
        (EU_2015, "1", 30, 90.4), (EU_2021, "1", 30, 92.5), (NL_NATIONAL, "1", 30, 95.5),
        (EU_2015, "1", 120, 108.2), (EU_2021, "1", 120, 110.9), (NL_NATIONAL, "1", 120, 108.6),
        (EU_2015, "2", 50, 101.5), (EU_2021, "2", 50, 104.5), (NL_NATIONAL, "2", 50, 104.8),
        (EU_2015, "3", 90, 109.3), (EU_2021, "3", 90, 112.8), (NL_NATIONAL, "3", 90, 113.4),
    ],
)  # fmt: skip
def test_one_vehicle_is_as_loud_as_its_set_of_coefficients_says(
    coefficients: CoefficientSet, category: str, speed_kmh: float, level_dba: float
) -> None:
    bands = cnossos.sound_power(1000.0 * speed_kmh, speed_kmh, category, coefficients=coefficients)
    assert cnossos.a_weighted_db(bands)[0] == pytest.approx(level_dba, abs=0.06)


def test_two_way_gradient_is_the_energy_of_half_up_and_half_down() -> None:
    def power(gradient: float, flow: float, is_two_way: bool = False) -> np.ndarray:
        return cnossos.sound_power(flow, 60.0, "3", gradient_percent=gradient, is_two_way=is_two_way)[0]

    both = np.logaddexp(power(8.0, 50.0) / 10 * np.log(10), power(-8.0, 50.0) / 10 * np.log(10)) * 10
    np.testing.assert_allclose(power(8.0, 100.0, True), both / np.log(10), atol=1e-9)
    np.testing.assert_allclose(power(8.0, 100.0, True), power(-8.0, 100.0, True), atol=1e-9)


def test_surface_is_flagged_outside_the_speeds_it_was_printed_for() -> None:
    rows = EU_2021.surface_indices(["NL07", "NL07", "NL07", "NL07"])
    np.testing.assert_array_equal(
        EU_2021.is_outside_range(rows, [69.0, 70.0, 80.0, 81.0]), [True, False, False, True]
    )
    assert np.isfinite(cnossos.sound_power(100.0, 30.0, "1", "NL07")).all()


def test_a_set_refuses_what_it_does_not_have() -> None:
    with pytest.raises(
        ValueError, match=r"coefficients: got '2019', expected one of 2021/1226, 2015/996, NL"
    ):
        coefficient_set("2019")
    with pytest.raises(
        ValueError, match=r"surface: got 'FR1D', expected one of DEF, .* \(coefficients 2021/1226\)"
    ):
        cnossos.sound_power(100.0, 50.0, "1", "FR1D")
    with pytest.raises(ValueError, match="studded_share: the coefficients NL national have none"):
        cnossos.sound_power(100.0, 50.0, "1", coefficients=NL_NATIONAL, studded_share=0.1)
    assert np.isfinite(cnossos.sound_power(100.0, 50.0, "1", "FR1D", coefficients=EU_2015)).all()


def test_dutch_numbers_of_surfaces_are_others_than_those_of_the_directive() -> None:
    """What is NL03 in the Netherlands is NL02 in table F-4 (two-layer porous asphalt)."""
    dutch, eu = NL_NATIONAL.surface_indices(["NL03"])[0], EU_2021.surface_indices(["NL02"])[0]
    np.testing.assert_array_equal(NL_NATIONAL.surface_alpha_db[dutch], EU_2021.surface_alpha_db[eu])


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


@pytest.mark.parametrize("coefficients", [EU_2021, EU_2015, NL_NATIONAL], ids=lambda each: each.name)
def test_band_group_power_is_the_sum_of_the_bands_of_its_groups(coefficients: CoefficientSet) -> None:
    traffic = random_traffic(500)
    bands = np.zeros((500, 8))
    for category, flow, speed in (
        ("1", "light_per_h", "speed_light_kmh"),
        ("2", "medium_per_h", "speed_heavy_kmh"),
        ("3", "heavy_per_h", "speed_heavy_kmh"),
    ):
        level = cnossos.sound_power(
            traffic[flow],
            traffic[speed],
            category,
            traffic["surface_index"],
            traffic["temperature_c"],
            coefficients=coefficients,
        )
        bands += 10.0 ** ((level + cnossos_tables.A_WEIGHTING_DB) / 10.0)
    groups = np.stack([bands[:, :3].sum(axis=1), bands[:, 3], bands[:, 4], bands[:, 5:].sum(axis=1)], axis=1)
    np.testing.assert_allclose(
        cnossos.band_group_power(**traffic, coefficients=coefficients), groups, rtol=1e-10
    )


@pytest.mark.parametrize("junction", ["crossing", "roundabout"])
def test_corrections_of_the_road_are_those_of_the_whole_formula(junction: str) -> None:
    rng = np.random.default_rng(6)
    n = 500
    traffic = random_traffic(n)
    gradient, distance = rng.uniform(-15.0, 15.0, n), rng.uniform(-150.0, 150.0, n)
    bands = np.zeros((n, 8))
    for category, flow, speed in (
        ("1", "light_per_h", "speed_light_kmh"),
        ("2", "medium_per_h", "speed_heavy_kmh"),
        ("3", "heavy_per_h", "speed_heavy_kmh"),
    ):
        level = cnossos.sound_power(
            traffic[flow], traffic[speed], category, traffic["surface_index"], traffic["temperature_c"],
            gradient_percent=gradient, junction=junction, junction_distance_m=distance, studded_share=0.2,
        )  # fmt: skip
        bands += 10.0 ** ((level + cnossos_tables.A_WEIGHTING_DB) / 10.0)
    groups = np.stack([bands[:, :3].sum(axis=1), bands[:, 3], bands[:, 4], bands[:, 5:].sum(axis=1)], axis=1)
    near = {f"near_{junction}": np.maximum(1.0 - np.abs(distance) / 100.0, 0.0)}
    corrections = cnossos.road_corrections(gradient, **near, studded_share=0.2)
    np.testing.assert_allclose(
        cnossos.band_group_power(**traffic, corrections=corrections), groups, rtol=1e-10
    )


def test_a_level_segment_away_from_junctions_is_bit_for_bit_as_loud_as_without_corrections() -> None:
    traffic = random_traffic(200)
    assert cnossos.road_corrections(np.zeros(200), np.zeros(200), np.zeros(200)) is None
    gradient = np.where(np.arange(200) % 2 == 0, 0.0, 6.0)
    plain = cnossos.band_group_power(**traffic)
    corrected = cnossos.band_group_power(**traffic, corrections=cnossos.road_corrections(gradient))
    np.testing.assert_array_equal(corrected[::2], plain[::2])
    assert (corrected[1::2] > plain[1::2]).all()


def test_studded_tyres_are_refused_with_the_dutch_set_in_one_pass_too() -> None:
    corrections = cnossos.road_corrections(np.zeros(5), studded_share=0.1)
    with pytest.raises(ValueError, match="studded_share: the coefficients NL national have none"):
        cnossos.band_group_power(**random_traffic(5), coefficients=NL_NATIONAL, corrections=corrections)


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
    legal = cnossos.sound_power([100.0] * 2, [20.0, 5.0], "1", v_density_min_kmh=20.0)
    np.testing.assert_allclose(legal[1], legal[0], atol=1e-12)


def test_the_2021_tables_are_the_louder_ones() -> None:
    """A light vehicle at 50 km/h: 98.4 dB(A) with the tables of 2021, 96.0 with those of 2015."""
    level = cnossos.a_weighted_db(cnossos.sound_power(50_000.0, 50.0, "1"))
    assert level[0] == pytest.approx(98.4, abs=0.05)
