from __future__ import annotations

import numpy as np
import pytest

from kernels.emission import (
    EMISSION_MAX_QUANTA,
    STAGNATING_OF,
    EmissionError,
    Pollutant,
    Regime,
    VehicleClass,
    add_emission,
    bounded_quanta,
    daily_emission,
    regime_codes,
    stagnating_share,
    wear,
)

# CAR-Vlaanderen 3.0, light, 2020, and the official Dutch motorway of 100 km/h and its jam: NOx, NO2, PM10, PM2.5
LIGHT = np.array(
    [
        [0.400725, 0.138324, 0.0286235, 0.0169592],
        [0.676415, 0.232621, 0.0496682, 0.0380448],
        [0.748348, 0.259367, 0.0540470, 0.0424236],
        [0.614763, 0.209253, 0.0459359, 0.0343125],
        [0.256, 0.088, 0.020, 0.008],
        [0.403, 0.137, 0.032, 0.010],
    ]
)
FACTORS = LIGHT * np.array([1.0, 4.0, 5.0, 6.0])[:, None, None]


def _emission(flow, speed, free=50.0, regime=Regime.NORMAL, vehicle=VehicleClass.LIGHT):
    out = np.zeros((1, 4))
    add_emission(
        out,
        np.array([flow]),
        np.array([speed]),
        np.array([free]),
        np.array([regime], dtype=np.int32),
        np.array([STAGNATING_OF[regime]], dtype=np.int32),
        FACTORS[vehicle],
    )
    return out[0]


def test_emission_of_a_thousand_cars_an_hour():
    # 1000 / 3600 1/s x 0.676415 g/km x 1e6 ug/g / 1e3 m/km
    assert _emission(1000.0, 50.0)[Pollutant.NOX] == pytest.approx(187.893, rel=1e-5)


def test_emission_is_linear_in_the_flow():
    np.testing.assert_allclose(_emission(200.0, 12.0) * 2, _emission(400.0, 12.0), rtol=1e-14)


def test_speed_blends_to_stagnation_without_a_jump():
    shares = [stagnating_share(v, 50.0) for v in (0.0, 20.0, 22.5, 25.0, 30.0, 50.0)]
    np.testing.assert_allclose(shares, [1, 1, 0.75, 0.5, 0, 0], atol=1e-12)
    np.testing.assert_allclose(
        _emission(3.6, 5.0), FACTORS[VehicleClass.LIGHT, Regime.STAGNATING], rtol=1e-12
    )


def test_a_jam_on_a_motorway_is_not_a_jam_in_a_street():
    # per 3.6 vehicles an hour the emission is the factor
    np.testing.assert_allclose(_emission(3.6, 110.0, 110.0, Regime.MOTORWAY), LIGHT[4], rtol=1e-12)
    np.testing.assert_allclose(_emission(3.6, 20.0, 110.0, Regime.MOTORWAY), LIGHT[5], rtol=1e-12)
    np.testing.assert_allclose(
        _emission(3.6, 55.0, 110.0, Regime.MOTORWAY), (LIGHT[4] + LIGHT[5]) / 2, rtol=1e-12
    )
    np.testing.assert_allclose(_emission(3.6, 5.0, 50.0, Regime.RURAL), LIGHT[2], rtol=1e-12)


def test_the_stagnation_of_a_regime_stagnates_no_further():
    assert [STAGNATING_OF[r] for r in STAGNATING_OF] == list(STAGNATING_OF)
    assert len(STAGNATING_OF) == len(Regime)


def test_unknown_speed_is_free_flow_and_unknown_flow_adds_nothing():
    np.testing.assert_array_equal(_emission(100.0, np.nan), _emission(100.0, 50.0))
    np.testing.assert_array_equal(_emission(np.nan, 50.0), np.zeros(4))


def test_daily_emission_without_congestion_equals_its_hourly_flow():
    shares = np.array([1.0, 0.0, 0.0, 0.0])
    daily = daily_emission(2400.0, shares, FACTORS, Regime.NORMAL, 0.0)
    np.testing.assert_allclose(daily, _emission(100.0, 50.0), rtol=1e-12)


def test_daily_emission_of_the_motorway_reference_case():
    # Regeling beoordeling luchtkwaliteit 2007, annex 4: 120,000 vehicles, 4 % medium, 6 % heavy
    factors = np.zeros((4, len(Regime), 4))
    factors[:3, :, Pollutant.NOX] = np.array([0.76, 7.01, 9.64])[:, None]
    factors[:3, :, Pollutant.PM10] = np.array([0.055, 0.195, 0.266])[:, None]
    emission = daily_emission(120_000.0, np.array([0.90, 0.04, 0.06, 0.0]), factors, Regime.FREE, 0.0)
    assert emission[Pollutant.NOX] == pytest.approx(2142.78, abs=0.01)
    assert emission[Pollutant.PM10] == pytest.approx(101.75, abs=0.01)


def test_congested_share_mixes_the_stagnating_factor():
    shares = np.array([0.9, 0.05, 0.04, 0.01])
    free, stagnating, mixed = (
        daily_emission(5000.0, shares, FACTORS, Regime.NORMAL, fs) for fs in (0.0, 1.0, 0.2)
    )
    np.testing.assert_allclose(mixed, 0.8 * free + 0.2 * stagnating, rtol=1e-12)
    assert (stagnating > free).all()


def test_congested_share_of_a_motorway_is_its_own_jam():
    shares = np.array([1.0, 0.0, 0.0, 0.0])
    jam = daily_emission(86.4, shares, FACTORS, Regime.MOTORWAY, 1.0)
    np.testing.assert_allclose(jam, LIGHT[5], rtol=1e-12)


def test_an_unknown_regime_is_refused_by_name():
    with pytest.raises(EmissionError, match=r"regime: got 'slow', expected one of rural, normal"):
        regime_codes(["normal", "slow"])


def test_codes_of_regimes_stay_what_snapshots_and_packs_hold():
    names = ["rural", "normal", "stagnating", "free", "motorway", "motorway_stagnating"]
    assert regime_codes(names).tolist() == [0, 1, 2, 3, 4, 5]


def test_wear_of_a_car_in_a_street():
    # EMEP/EEA 2019: tyre .0107 x 1.39, brake .0075 x 1.67, road .0150 g/km, by their parts of PM10 and PM2.5
    expected = [
        0.60 * 0.014873 + 0.98 * 0.012525 + 0.50 * 0.0150,
        0.42 * 0.014873 + 0.39 * 0.012525 + 0.27 * 0.0150,
    ]
    np.testing.assert_allclose(wear(np.array([0.0107, 0.0075, 0.0150]), 19.0), expected, rtol=1e-12)


@pytest.mark.parametrize("limit", [40.0, 90.0, 95.0])
def test_wear_goes_on_at_the_ends_of_its_lines(limit):
    # the published coefficients meet within 2 g per 1000 g
    car = np.array([0.0107, 0.0075, 0.0150])
    np.testing.assert_allclose(wear(car, limit - 1e-9), wear(car, limit + 1e-9), rtol=2e-3)


def test_wear_falls_with_speed_and_leaves_the_road_alone():
    car = np.array([0.0107, 0.0075, 0.0150])
    fractions = np.array([wear(car, v) for v in (30.0, 50.0, 70.0, 90.0, 130.0)])
    assert (np.diff(fractions, axis=0) < 0.0).all()
    road = np.array([0.0, 0.0, 0.0150])
    np.testing.assert_array_equal(wear(road, 30.0), wear(road, 130.0))


def test_emission_ends_where_the_accumulators_could_overflow():
    assert bounded_quanta(np.array([1e9, 1.0])).tolist() == [EMISSION_MAX_QUANTA, 1 << 20]
