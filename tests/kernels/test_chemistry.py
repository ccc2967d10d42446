from __future__ import annotations

import numpy as np
import pytest

from kernels.chemistry import no2_contribution, no2_field


def test_formula_of_the_regulation():
    # f C + B O3 C (1 - f) / (C (1 - f) + K), C = 80, f = 0.25, O3 = 40
    assert no2_contribution(80.0, 20.0, 40.0) == pytest.approx(20.0 + 0.6 * 40.0 * 60.0 / 160.0)


def test_roads_are_cumulated_before_the_formula():
    together = no2_contribution(50.0 + 30.0, 5.0 + 9.0, 40.0)
    apart = no2_contribution(50.0, 5.0, 40.0) + no2_contribution(30.0, 9.0, 40.0)
    f = (50.0 * 0.1 + 30.0 * 0.3) / 80.0  # NOx weighted
    assert together == pytest.approx(f * 80 + 0.6 * 40 * 80 * (1 - f) / (80 * (1 - f) + 100))
    assert together < apart


def test_without_traffic_exactly_the_background():
    assert no2_field(np.zeros(3), np.zeros(3), 42.3, 21.7).tolist() == [21.7] * 3


def test_ozone_limits_the_conversion():
    assert no2_contribution(1e6, 0.0, 40.0) == pytest.approx(0.6 * 40.0, rel=1e-3)
    assert no2_contribution(100.0, 10.0, 0.0) == 10.0


def test_more_direct_no2_than_nox_by_rounding_is_no_negative_conversion():
    assert no2_contribution(1.0, 1.0 + 1e-9, 40.0) == 1.0 + 1e-9
