from __future__ import annotations

import numpy as np
import pytest

from kernels.emission import (
    EMISSION_MAX_QUANTA,
    EmissionError,
    Pollutant,
    Regime,
    VehicleClass,
    add_emission,
    bounded_quanta,
    daily_emission,
    factor_table,
    regime_codes,
    stagnating_share,
)

FACTORS = factor_table(2020)


def _emission(flow, speed, free=50.0, regime=Regime.NORMAL, vehicle=VehicleClass.LIGHT):
    out = np.zeros((1, 4))
    add_emission(
        out,
        np.array([flow]),
        np.array([speed]),
        np.array([free]),
        np.array([regime], dtype=np.int8),
        FACTORS[vehicle],
    )
    return out[0]


def test_factors_are_the_published_ones():
    # CAR-Vlaanderen 3.0, NOx, NO2, PM10, PM2.5
    np.testing.assert_allclose(
        FACTORS[VehicleClass.LIGHT, Regime.NORMAL], [0.676, 0.233, 0.0497, 0.0380], rtol=2e-3
    )
    np.testing.assert_allclose(
        factor_table(2025)[VehicleClass.HEAVY, Regime.STAGNATING], [1.930, 0.200, 0.149, 0.077], rtol=6e-3
    )


def test_emission_of_a_thousand_cars_an_hour():
    # 1000 / 3600 1/s x 0.676415 g/km x 1e6 ug/g / 1e3 m/km
    assert _emission(1000.0, 50.0)[Pollutant.NOX] == pytest.approx(187.893, rel=1e-5)


def test_direct_no2_and_particles_never_exceed_nox():
    for year in (2020, 2025):
        assert (factor_table(year)[:, :, 1:] < factor_table(year)[:, :, :1]).all()


def test_emission_is_linear_in_the_flow():
    np.testing.assert_allclose(_emission(200.0, 12.0) * 2, _emission(400.0, 12.0), rtol=1e-14)


def test_speed_blends_to_stagnation_without_a_jump():
    shares = [stagnating_share(v, 50.0) for v in (0.0, 20.0, 22.5, 25.0, 30.0, 50.0)]
    np.testing.assert_allclose(shares, [1, 1, 0.75, 0.5, 0, 0], atol=1e-12)
    np.testing.assert_allclose(
        _emission(3.6, 5.0), FACTORS[VehicleClass.LIGHT, Regime.STAGNATING], rtol=1e-12
    )


def test_unknown_speed_is_free_flow_and_unknown_flow_adds_nothing():
    np.testing.assert_array_equal(_emission(100.0, np.nan), _emission(100.0, 50.0))
    np.testing.assert_array_equal(_emission(np.nan, 50.0), np.zeros(4))


def test_daily_emission_without_congestion_equals_its_hourly_flow():
    shares = np.array([1.0, 0.0, 0.0, 0.0])
    daily = daily_emission(2400.0, shares, FACTORS, Regime.NORMAL, 0.0)
    np.testing.assert_allclose(daily, _emission(100.0, 50.0), rtol=1e-12)


def test_daily_emission_of_the_motorway_reference_case():
    # Regeling beoordeling luchtkwaliteit 2007, annex 4: 120,000 vehicles, 4 % medium, 6 % heavy
    factors = np.zeros((4, 4, 4))
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


def test_an_unknown_regime_or_year_is_refused_by_name():
    with pytest.raises(EmissionError, match=r"regime: got 'slow', expected one of rural, normal"):
        regime_codes(["normal", "slow"])
    with pytest.raises(EmissionError, match=r"emission.year: got 1999, expected one of \[2020, 2025\]"):
        factor_table(1999)


def test_emission_ends_where_the_accumulators_could_overflow():
    assert bounded_quanta(np.array([1e9, 1.0])).tolist() == [EMISSION_MAX_QUANTA, 1 << 20]
