from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from kernels.chemistry import (
    Background,
    ChemistryError,
    cumulated_no2,
    cumulated_no2_field,
    no2_contribution,
    no2_field,
    nox_of_no2,
    without_double_count,
)


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


def test_streets_and_open_roads_are_cumulated_by_the_no_that_srm1_would_convert():
    # NO_1 = 30, NO_2 = 60: eps = 60 / 160 / 0.6 = 0.625, NO_2,eq = 166.67, conversion 0.6 O3 196.67 / 296.67
    got = cumulated_no2(40.0, 10.0, 80.0, 20.0, 99.0, 40.0)
    assert got == pytest.approx(30.0 + 0.6 * 40.0 * (590 / 3) / (890 / 3), rel=1e-12)


def test_without_open_roads_the_cumulation_is_the_formula_of_srm1():
    for nox in (0.0, 0.03, 0.05, 5.0, 90.0):
        got = cumulated_no2(nox, 0.2 * nox, 0.0, 0.0, 0.0, 45.0)
        assert got == pytest.approx(no2_contribution(nox, 0.2 * nox, 45.0), rel=1e-12)


def test_without_streets_the_open_roads_keep_their_own_no2():
    assert cumulated_no2(0.0, 0.0, 80.0, 20.0, 33.3, 40.0) == 33.3
    below = cumulated_no2(0.049, 0.01, 80.0, 20.0, 33.3, 40.0)
    assert below == pytest.approx(33.3 + no2_contribution(0.049, 0.01, 40.0), rel=1e-12)


def test_just_above_the_threshold_open_roads_convert_with_all_ozone():
    # the equivalent NO gives back O3 NO_2 / (NO_2 + K) when hardly any street is added
    got = cumulated_no2(0.0491, 0.0, 80.0, 20.0, 0.0, 40.0)
    assert got == pytest.approx(20.0 + 40.0 * 60.0 / 160.0, abs=0.01)


def test_cumulation_never_falls_and_stays_at_b_o3_where_its_formula_ends():
    values = [cumulated_no2(10.0, 0.0, nox, 0.0, 0.0, 40.0) for nox in np.linspace(0.0, 400.0, 801)]
    assert all(b >= a - 1e-12 for a, b in itertools.pairwise(values))
    for nox in (150.0, 151.0, 1e4, 1e9):
        assert cumulated_no2(10.0, 0.0, nox, 0.0, 0.0, 40.0) == pytest.approx(0.6 * 40.0, rel=1e-6)


def test_the_field_of_the_cumulation_is_that_of_each_receptor():
    rng = np.random.default_rng(5)
    nox_1, nox_2 = rng.uniform(0, 1, 50) * 0.2, rng.uniform(0, 200, 50)
    got = cumulated_no2_field(nox_1, 0.2 * nox_1, nox_2, 0.1 * nox_2, 0.3 * nox_2, 41.0)
    each = [cumulated_no2(a, 0.2 * a, b, 0.1 * b, 0.3 * b, 41.0) for a, b in zip(nox_1, nox_2, strict=True)]
    np.testing.assert_array_equal(got, each)


@pytest.mark.parametrize("share", [0.0, 1e-9, 0.05, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("nox", [0.0, 1e-3, 1.0, 50.0, 400.0])
def test_nox_of_an_no2_gives_it_back(share, nox):
    no2 = no2_contribution(nox, share * nox, 38.0)
    assert nox_of_no2(no2, share, 38.0) == pytest.approx(nox, rel=1e-9)


def test_more_no2_than_ozone_can_make_needs_direct_no2():
    with pytest.raises(ChemistryError, match=r"^no2: got 24.0, expected less than B O3, 24,"):
        nox_of_no2(24.0, 0.0, 40.0)
    nox = nox_of_no2(60.0, 0.2, 40.0)
    assert no2_contribution(nox, 0.2 * nox, 40.0) == pytest.approx(60.0)


def test_the_background_loses_what_it_holds_of_the_roads_and_gains_ozone():
    got = without_double_count(Background(20.0, 40.0, 18.0, 11.0), Background(3.0, -2.5, 0.5, 0.25))
    assert got == Background(no2=17.0, o3=42.5, pm10=17.5, pm25=10.75)


def test_no_background_goes_below_zero():
    got = without_double_count(Background(2.0, 40.0, 0.1, 0.0), Background(3.0, 0.0, 0.5, 0.25))
    assert got == Background(no2=0.0, o3=40.0, pm10=0.0, pm25=0.0)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: nox_of_no2(-1.0, 0.1, 40.0), "no2"),
        (lambda: nox_of_no2(math.nan, 0.1, 40.0), "no2"),
        (lambda: nox_of_no2(1.0, 1.1, 40.0), "direct_share"),
        (lambda: nox_of_no2(1.0, 0.1, -1.0), "o3"),
        (lambda: without_double_count(Background(-1, 40, 18, 11), Background(0, 0, 0, 0)), "no2 of the background"),
        (lambda: without_double_count(Background(20, 40, 18, 11), Background(-1, 0, 0, 0)), "no2 of the double count"),
        (lambda: without_double_count(Background(20, 40, 18, 11), Background(0, 1, 0, 0)), "o3 of the double count"),
        (lambda: without_double_count(Background(20, 40, 18, 11), Background(0, 0, 0, math.nan)), "pm25 of the double count"),
    ],
)  # fmt: skip
def test_a_concentration_outside_its_range_is_refused_by_name(call, field):
    with pytest.raises(ChemistryError, match=f"^{field}: got .*, expected"):
        call()
