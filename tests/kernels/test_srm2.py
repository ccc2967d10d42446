from __future__ import annotations

import math

import numpy as np
import pytest

from kernels import srm2
from kernels.srm2 import ROUGHNESS, SigmaZRule, Srm2Error

ROUGH_03 = ROUGHNESS[2]


@pytest.mark.parametrize(
    ("rule", "expected"),
    # E dw = 1, sector full, u = 5, z0 = 0.3, sigma_z0 = 3, z = 1.5, h = 0; regression, not independent
    [
        (SigmaZRule.ADD, (1.13963e-2, 1.11643e-3, 3.65333e-4, 2.22222e-5)),
        (SigmaZRule.VIRTUAL, (1.50978e-2, 1.49614e-3, 4.67725e-4, 2.52005e-5)),
        (SigmaZRule.QUADRATURE, (1.71718e-2, 1.71878e-3, 5.17233e-4, 2.59903e-5)),
    ],
)
def test_point_contribution_of_each_rule(rule, expected):
    got = [srm2.annual_point_contribution(r, 5.0, ROUGH_03, 3.0, rule) for r in (10.0, 50.0, 100.0, 500.0)]
    np.testing.assert_allclose(got, expected, rtol=5e-6)


def test_wind_factor_at_the_height_of_the_plume():
    got = [srm2.wind_factor(s, ROUGH_03) for s in (3.0, 5.0, 10.0, 20.0, 50.0)]
    np.testing.assert_allclose(got, [0.5306, 0.6775, 0.8975, 1.1617, 1.6505], atol=5e-5)


def test_wind_factor_is_one_where_the_plume_is_at_ten_metres():
    for roughness in ROUGHNESS:
        assert srm2.wind_factor(10.0 / 0.75, roughness) == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize(
    ("distance", "expected"),
    [(5, 0.07055), (10, 0.05355), (20, 0.03854), (50, 0.02264), (100, 0.01391), (200, 0.00784)],
)
def test_infinite_road_under_a_uniform_rose(distance, expected):
    """2 km of road, 1 ug/m/s, z0 0.1, 5 m/s; regression of the reconstruction."""
    along = np.arange(-999.5, 1000.0)
    frequency = 1 / 12
    total = sum(
        srm2.annual_point_contribution(math.hypot(t, distance), 5.0, ROUGHNESS[1], 3.0) * frequency
        for t in along
    )
    assert total == pytest.approx(expected, rel=2e-3)


def test_infinite_road_agrees_with_the_open_road_curve_of_car():
    """An independent method: theta = 0.725 S^(-0.77 (S + 2.7) / S) (1.2 - 0.0011 S), within 12 %."""
    for s in (10, 20, 50, 100, 200):
        theta = 0.725 * s ** (-0.77 * (s + 2.7) / s) * (1.2 - 0.0011 * s)
        total = sum(
            srm2.annual_point_contribution(math.hypot(t, s), 5.0, ROUGHNESS[1], 3.0) / 12
            for t in np.arange(-999.5, 1000.0)
        )
        assert total == pytest.approx(0.62 * theta, rel=0.12)


@pytest.mark.parametrize(
    ("roughness_m", "z0"), [(0.01, 0.03), (0.0549, 0.03), (0.055, 0.1), (0.17, 0.3), (0.55, 1.0), (3.0, 1.0)]
)
def test_roughness_classes_have_the_bounds_of_the_regulation(roughness_m, z0):
    assert srm2.roughness_class(roughness_m).z0_m == z0


TABLE = srm2.plume_table(400.0, ROUGH_03, 3.0)


def _coefficient(dx, dy, winds, table=TABLE):
    return srm2.point_coefficient(dx, dy, table, winds.toward, winds.uniform, winds.mean_density)


def test_hours_of_all_directions_average_to_the_annual_form():
    """A uniform rose: what one hour spreads over directions, all directions together give evenly."""
    hours = [_coefficient(30.0, 40.0, srm2.hourly_winds(8.0, float(d))) for d in range(360)]
    annual = srm2.annual_point_contribution(50.0, 5.0, ROUGH_03, 3.0) / 12 * srm2.C_DIURNAL
    assert np.mean(hours) == pytest.approx(annual, rel=1e-4)


@pytest.mark.parametrize("wind_m_s", [0.0, 1.5, 9.0])
def test_the_density_of_an_hour_integrates_to_one_and_spreads_a_quarter_radian(wind_m_s):
    winds = srm2.hourly_winds(wind_m_s, 30.0)
    angles = np.linspace(-np.pi, np.pi, 7201)[:-1]
    toward = np.arctan2(*winds.toward[0, 1::-1])
    density = np.array(
        [srm2.density(math.cos(a), math.sin(a), winds.toward, winds.uniform) for a in toward + angles]
    )
    step = angles[1] - angles[0]
    assert density.sum() * step == pytest.approx(1.0, rel=1e-9)
    assert winds.mean_density == pytest.approx(density.mean(), rel=1e-9)
    if wind_m_s == 9.0:
        gaussian = np.exp(-0.5 * (angles / 0.25) ** 2) / (math.sqrt(2 * math.pi) * 0.25)
        meander = srm2.meander_share(wind_m_s)
        expected = (1 - meander) * gaussian + meander / (2 * math.pi)
        assert np.abs(density - expected).max() < 0.004 * expected.max()


def test_the_plume_goes_where_the_wind_blows():
    west_wind = srm2.hourly_winds(20.0, 270.0)
    np.testing.assert_allclose(west_wind.toward[0, :2], (1.0, 0.0), atol=1e-12)
    np.testing.assert_allclose(srm2.transport_vector(0.0), (0.0, -1.0), atol=1e-12)
    downwind, upwind, beside = (_coefficient(dx, dy, west_wind) for dx, dy in ((100, 0), (-100, 0), (0, 100)))
    assert downwind > 1e-4
    assert upwind < 1e-3 * downwind  # only what meanders
    assert beside == pytest.approx(upwind, rel=1e-3)


def test_a_calm_hour_spreads_evenly():
    assert srm2.meander_share(0.0) == 1.0
    assert srm2.meander_share(5.0) < 0.03
    calm = srm2.hourly_winds(0.0, 55.0)
    around = [_coefficient(80 * math.cos(a), 80 * math.sin(a), calm) for a in np.linspace(0, 6, 9)]
    np.testing.assert_allclose(around, around[0], rtol=1e-9)


def test_on_the_source_itself_the_coefficient_is_finite_and_without_direction():
    at = [_coefficient(0.0, 0.0, srm2.hourly_winds(4.0, d)) for d in (0.0, 77.0)]
    assert at[0] == pytest.approx(at[1], rel=1e-12)
    assert 0.0 < at[0] < 1.0
    winds = srm2.hourly_winds(4.0, 270.0)
    assert _coefficient(3.499, 0.0, winds) == pytest.approx(_coefficient(3.501, 0.0, winds), rel=6e-3)


@pytest.mark.parametrize("roughness", ROUGHNESS, ids=lambda r: str(r.z0_m))
def test_interpolating_the_plume_costs_less_than_two_thousandths(roughness):
    table = srm2.plume_table(1000.0, roughness, 2.5)
    for r, tolerance in ((3.7, 2e-3), (5.3, 2e-3), (17.2, 1e-4), (111.1, 1e-5), (734.3, 1e-6)):
        annual = srm2.annual_point_contribution(r, 5.0, roughness, 2.5)
        exact = annual / 12 * srm2.C_DIURNAL * 2 * math.pi
        got = _coefficient(r, 0.0, srm2.bounding_winds(), table) / srm2.DENSITY_PEAK
        assert got == pytest.approx(exact, rel=tolerance)


def test_the_bound_exceeds_every_direction():
    for dx, dy in ((1.0, 0.5), (5.0, 3.0), (200.0, -90.0)):
        bound = _coefficient(dx, dy, srm2.bounding_winds())
        for direction in range(0, 360, 5):
            for wind_m_s in (0.0, 1.0, 30.0):
                assert _coefficient(dx, dy, srm2.hourly_winds(wind_m_s, float(direction))) <= bound


def test_blend_is_smooth_from_nothing_to_all():
    values = [srm2.blend(d, 100.0, 300.0) for d in (0.0, 100.0, 200.0, 300.0, 900.0)]
    assert values == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert srm2.blend(101.0, 100.0, 300.0) < 2e-6


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: srm2.roughness_class(0.0), "roughness_m"),
        (lambda: srm2.annual_point_contribution(0.0, 5.0, ROUGH_03, 3.0), "distance_m"),
        (lambda: srm2.annual_point_contribution(5.0, 0.0, ROUGH_03, 3.0), "wind_m_s"),
        (lambda: srm2.hourly_factor(math.nan), "wind_m_s"),
        (lambda: srm2.meander_share(-1.0), "wind_m_s"),
        (lambda: srm2.transport_vector(math.nan), "wind_from_deg"),
    ],
)
def test_an_input_outside_the_method_is_refused_by_name(call, field):
    with pytest.raises(Srm2Error, match=f"^{field}: got"):
        call()


def test_wind_below_one_metre_a_second_counts_as_that():
    assert srm2.hourly_factor(0.0) == srm2.hourly_factor(1.0) == 5.0
    assert srm2.hourly_factor(10.0) == 0.5


def test_spread_rules_agree_without_a_start_value():
    for rule in SigmaZRule:
        tiny = 1e-9
        assert srm2.sigma_z(50.0, ROUGH_03, tiny, rule) == pytest.approx(0.3613 * 50**0.668, rel=1e-6)
    assert srm2.stability_correction(0.0) == 0.0
