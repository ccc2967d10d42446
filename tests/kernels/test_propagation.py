"""Propagation over flat ground against ISO/TR 17534-4, ISO 9613-1, and its limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernels.propagation import (
    Atmosphere,
    Ground,
    air_absorption_db_per_km,
    attenuation_db,
    divergence_db,
    ground_db,
)

CASES = json.loads(
    (Path(__file__).parent.parent / "data" / "cnossos_propagation_cases.json").read_text(encoding="utf-8")
)["cases"]
A_WEIGHTING_DB = np.array((-26.2, -16.1, -8.6, -3.2, 0.0, 1.2, 1.0, -1.1))
TOLERANCE_DB = 0.05  # recommended for direct paths


def of_case(case: dict[str, Any], p_favourable: float) -> np.ndarray:
    air = Atmosphere(case["temperature_c"], case["humidity_percent"], p_favourable=p_favourable)
    ground = Ground(case["ground_path"], case["ground_source"])
    heights = case["source_height_m"], case["receiver_height_m"]
    return case["power_db"] - attenuation_db(case["distance_m"], *heights, ground, air)[0]


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_levels_are_those_of_iso_tr_17534_4(case: dict[str, Any]) -> None:
    np.testing.assert_allclose(of_case(case, 0.0), case["level_h_db"], atol=TOLERANCE_DB)
    np.testing.assert_allclose(of_case(case, 1.0), case["level_f_db"], atol=TOLERANCE_DB)
    level = of_case(case, case["p_favourable"])
    np.testing.assert_allclose(level, case["level_db"], atol=TOLERANCE_DB)
    np.testing.assert_allclose(level + A_WEIGHTING_DB, case["level_dba"], atol=TOLERANCE_DB)


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
@pytest.mark.parametrize("state", ["h", "f"])
def test_ground_attenuation_is_that_of_iso_tr_17534_4(case: dict[str, Any], state: str) -> None:
    loss = ground_db(
        np.array([case["distance_m"]]),
        case["source_height_m"],
        case["receiver_height_m"],
        Ground(case["ground_path"], case["ground_source"]),
        is_favourable=state == "f",
    )
    np.testing.assert_allclose(loss[0], case[f"ground_{state}_db"], atol=TOLERANCE_DB)


@pytest.mark.parametrize(
    ("temperature_c", "humidity_percent", "expected"),
    [
        (10.0, 70.0, (0.122, 0.411, 1.043, 1.928, 3.658, 9.664, 32.77, 116.88)),
        (15.0, 70.0, (0.105, 0.381, 1.131, 2.363, 4.079, 8.748, 26.39, 93.71)),
        (20.0, 70.0, (0.090, 0.339, 1.132, 2.798, 4.978, 9.016, 22.91, 76.62)),
        (5.0, 80.0, (0.124, 0.393, 0.898, 1.631, 3.504, 10.48, 37.02, 128.0)),
    ],
)
def test_air_absorption_is_that_of_iso_9613_1(
    temperature_c: float, humidity_percent: float, expected: tuple[float, ...]
) -> None:
    alpha = air_absorption_db_per_km(Atmosphere(temperature_c, humidity_percent))
    np.testing.assert_allclose(alpha, expected, rtol=5e-3)


def test_spreading_is_6_db_a_doubling() -> None:
    loss = divergence_db([10.0, 20.0, 194.1649])
    assert loss[1] - loss[0] == pytest.approx(6.02, abs=0.01)
    assert loss[2] == pytest.approx(56.76, abs=0.01)


def test_hard_ground_adds_3_db_close_by_and_more_when_sound_is_bent_down() -> None:
    distance = np.array([10.0, 100.0, 120.0, 700.0])
    still = ground_db(distance, 0.05, 4.0, Ground(0.0), is_favourable=False)
    bent = ground_db(distance, 0.05, 4.0, Ground(0.0), is_favourable=True)
    np.testing.assert_array_equal(still, -3.0)
    np.testing.assert_array_equal(bent[:3], -3.0)
    assert (bent[3] < -3.0).all()
    assert (bent[3] >= -9.0).all()


def test_porous_ground_never_amplifies_and_attenuates_with_distance() -> None:
    distance = np.array([200.0, 400.0, 800.0])
    loss = ground_db(distance, 0.05, 4.0, Ground(1.0), is_favourable=False)
    assert (loss >= 0.0).all()
    assert loss[2, 3] > loss[1, 3] > loss[0, 3] > 1.0


def test_source_and_receptor_may_change_places() -> None:
    ground, air = Ground(0.4, 0.4), Atmosphere()
    there = attenuation_db([150.0, 600.0], 0.5, 4.0, ground, air)
    np.testing.assert_allclose(there, attenuation_db([150.0, 600.0], 4.0, 0.5, ground, air), atol=1e-9)
