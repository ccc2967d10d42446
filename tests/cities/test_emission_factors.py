"""Tables of emission factors: published rows, years and limits between rows, what is missing."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from cities.emission_factors import TABLES, city_factors, load_factors
from cities.factor_rows import FACTORS
from cities.fleet import base_fleet, mix_ratio, with_shares
from cities.pack import CityError, load_city
from kernels.emission import (
    EmissionError,
    Pollutant,
    Regime,
    VehicleClass,
    daily_emission,
    regime_codes,
)

STREETS = Path(__file__).parents[2] / "benchmarks" / "data" / "srm1_reference_streets.csv"
LIGHT, MEDIUM, HEAVY, BUS = VehicleClass
LETTER = {"b": Regime.RURAL, "c": Regime.NORMAL, "e": Regime.FREE}


def _streets():
    with STREETS.open() as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


@pytest.mark.parametrize(
    ("year", "vehicle", "regime", "published"),
    # CAR-Vlaanderen 3.0 as printed: NOx, NO2, PM10, PM2.5
    [
        (2015, BUS, Regime.RURAL, [4.425831, 0.522076, 0.162982, 0.107382]),
        (2020, LIGHT, Regime.RURAL, [0.401, 0.138, 0.0286, 0.0170]),
        (2020, LIGHT, Regime.NORMAL, [0.676, 0.233, 0.0497, 0.0380]),
        (2020, MEDIUM, Regime.STAGNATING, [3.969, 0.448, 0.184, 0.113]),
        (2020, HEAVY, Regime.FREE, [2.239, 0.244, 0.154, 0.083]),
        (2025, LIGHT, Regime.STAGNATING, [0.661, 0.207, 0.0494, 0.0377]),
        (2025, HEAVY, Regime.STAGNATING, [1.930, 0.200, 0.149, 0.077]),
        (2025, BUS, Regime.NORMAL, [1.498, 0.157, 0.123, 0.067]),
    ],
)
def test_flemish_factors_are_the_published_ones(year, vehicle, regime, published):
    factors = load_factors("flanders", year)
    np.testing.assert_allclose(factors.g_per_km[vehicle, regime], published, rtol=8e-3)


@pytest.mark.parametrize(
    ("vehicle", "regime", "published"),
    # official Dutch factors for 2020 as printed: NOx, NO2, PM10, PM2.5
    [
        (LIGHT, Regime.STAGNATING, [0.368, 0.090, 0.034, 0.013]),
        (LIGHT, Regime.NORMAL, [0.231, 0.055, 0.033, 0.011]),
        (LIGHT, Regime.FREE, [0.237, 0.053, 0.033, 0.012]),
        (LIGHT, Regime.RURAL, [0.172, 0.044, 0.017, 0.006]),
        (MEDIUM, Regime.NORMAL, [3.479, 0.268, 0.154, 0.052]),
        (HEAVY, Regime.RURAL, [1.899, 0.247, 0.084, 0.033]),
        (BUS, Regime.STAGNATING, [4.960, 0.653, 0.239, 0.161]),
        (LIGHT, Regime.MOTORWAY_STAGNATING, [0.403, 0.137, 0.032, 0.010]),
        (MEDIUM, Regime.MOTORWAY_STAGNATING, [2.977, 0.265, 0.151, 0.057]),
        (HEAVY, Regime.MOTORWAY, [1.156, 0.205, 0.082, 0.026]),
    ],
)
def test_dutch_factors_are_the_published_ones(vehicle, regime, published):
    factors = load_factors("netherlands", 2020)
    np.testing.assert_allclose(factors.g_per_km[vehicle, regime], published, atol=5.1e-4)


@pytest.mark.parametrize(
    ("limit", "enforced", "published"),
    [
        (80.0, False, [0.213, 0.061, 0.020, 0.008]),
        (100.0, False, [0.256, 0.088, 0.020, 0.008]),
        (120.0, False, [0.312, 0.107, 0.020, 0.008]),
        (130.0, False, [0.344, 0.118, 0.021, 0.009]),
        (100.0, True, [0.231, 0.079, 0.020, 0.008]),
        (130.0, True, [0.344, 0.118, 0.021, 0.009]),  # has no row of its own
    ],
)
def test_a_dutch_motorway_follows_its_limit(limit, enforced, published):
    factors = load_factors("netherlands", 2020, motorway_enforced=enforced)
    np.testing.assert_allclose(factors.motorway(limit)[LIGHT], published, rtol=1e-12)


def test_between_two_limits_a_motorway_is_linear_and_beyond_them_it_is_the_nearest():
    factors = load_factors("netherlands", 2030)
    np.testing.assert_allclose(
        factors.motorway(90.0), (factors.motorway(80.0) + factors.motorway(100.0)) / 2, rtol=1e-12
    )
    np.testing.assert_array_equal(factors.motorway(60.0), factors.motorway(80.0))
    np.testing.assert_array_equal(factors.motorway(160.0), factors.motorway(130.0))


def test_years_between_two_of_the_table_are_linear():
    before, after = (load_factors("flanders", year).g_per_km for year in (2020, 2025))
    np.testing.assert_allclose(
        load_factors("flanders", 2022).g_per_km, 0.6 * before + 0.4 * after, rtol=1e-12
    )


def test_dutch_years_between_are_those_that_were_published_as_well():
    # the source prints 2017: light on a motorway of 100 km/h, heavy in its jam
    factors = load_factors("netherlands", 2017)
    assert factors.motorway(100.0)[LIGHT, Pollutant.NOX] == pytest.approx(0.3022, rel=1e-12)
    assert factors.g_per_km[HEAVY, Regime.MOTORWAY_STAGNATING, Pollutant.NOX] == pytest.approx(5.8492)


@pytest.mark.parametrize("row", _streets(), ids=lambda row: row["street"])
def test_emissions_of_the_published_streets_are_reproduced(row):
    medium, heavy, bus = (float(row[f"f_{name}"]) for name in ("medium", "heavy", "bus"))
    shares = np.array([1.0 - medium - heavy - bus, medium, heavy, bus])
    factors = load_factors("flanders", 2015).g_per_km
    emission = daily_emission(
        float(row["N_per_day"]), shares, factors, LETTER[row["speed"]], float(row["f_congestion"])
    )
    for pollutant, name in zip(Pollutant, ("NOx", "NO2", "PM10", "PM25"), strict=True):
        published = float(row[f"E_{name}"]) + float(row[f"E_{name}_cong"])
        assert emission[pollutant] == pytest.approx(published, rel=1e-9)


@pytest.mark.parametrize("table", TABLES)
def test_factors_of_all_years_are_physical(table):
    for year in range(2015, 2031, 3):
        factors = load_factors(table, year)
        for e in (factors.g_per_km, factors.motorway_g_per_km):
            assert (e > 0.0).all()
            assert (e[..., Pollutant.NO2] < e[..., Pollutant.NOX]).all()
            assert (e[..., Pollutant.PM25] < e[..., Pollutant.PM10]).all()


def test_flanders_has_no_motorways_and_says_what_stands_for_them():
    factors = load_factors("flanders", 2020)
    e = factors.g_per_km
    np.testing.assert_array_equal(e[:, Regime.MOTORWAY], e[:, Regime.RURAL])
    np.testing.assert_array_equal(e[:, Regime.MOTORWAY_STAGNATING], e[:, Regime.STAGNATING])
    np.testing.assert_array_equal(factors.motorway(120.0), e[:, Regime.RURAL])
    assert factors.substitutions == ("motorway: the rural row", "motorway_stagnating: the stagnating row")


def test_dutch_buses_on_motorways_take_the_row_of_medium_trucks_and_it_is_said():
    factors = load_factors("netherlands", 2020)
    np.testing.assert_array_equal(factors.motorway(100.0)[BUS], factors.motorway(100.0)[MEDIUM])
    assert factors.substitutions == ("bus on motorways: the row of medium trucks",)


def test_each_table_names_its_source():
    assert "CAR-Vlaanderen 3.0" in load_factors("flanders", 2020).source
    assert "edition 2016" in load_factors("netherlands", 2020).source


def test_segments_get_the_row_of_their_regime_and_motorways_that_of_their_limit():
    factors = load_factors("netherlands", 2020)
    regime = regime_codes(["normal", "motorway", "motorway", "rural", "motorway"])
    speed = np.array([50.0, 120.0, 100.0, 70.0, 120.0])
    of = factors.of_segments(regime, speed)
    for s, (r, v) in enumerate(zip(regime, speed, strict=True)):
        on_motorway = r == Regime.MOTORWAY
        flowing = factors.motorway(v) if on_motorway else factors.g_per_km[:, r]
        jam = Regime.MOTORWAY_STAGNATING if on_motorway else Regime.STAGNATING
        np.testing.assert_array_equal(of.g_per_km[:, of.flowing_row[s]], flowing)
        np.testing.assert_array_equal(of.g_per_km[:, of.stagnating_row[s]], factors.g_per_km[:, jam])


@pytest.mark.parametrize("table", TABLES)
def test_the_fleet_of_the_table_changes_nothing(table):
    factors, base = load_factors(table, 2020), base_fleet()
    same = factors.of_fleet(base, base)
    np.testing.assert_array_equal(same.g_per_km, factors.g_per_km)
    np.testing.assert_array_equal(same.motorway_g_per_km, factors.motorway_g_per_km)


@pytest.mark.parametrize("table", TABLES)
def test_another_fleet_changes_each_regime_by_the_ratio_at_its_speed(table):
    base = base_fleet()
    changed = with_shares(base, {"bus": {"bus_electric": 1.0}})
    factors = load_factors(table, 2020)
    ratio = factors.of_fleet(base, changed).g_per_km / factors.g_per_km
    np.testing.assert_allclose(ratio[:, Regime.NORMAL], mix_ratio(base, changed, 19.0), rtol=1e-12)
    np.testing.assert_allclose(ratio[:, Regime.FREE], mix_ratio(base, changed, 26.0), rtol=1e-12)
    assert (ratio[BUS, :, Pollutant.NOX] == 0.0).all()
    assert (ratio[BUS, :, Pollutant.PM10] > 0.4).all()  # wear stays
    np.testing.assert_array_equal(ratio[LIGHT], 1.0)


def test_a_motorway_of_another_fleet_is_still_linear_in_its_limit():
    base = base_fleet()
    changed = with_shares(base, {"light": {"car_petrol_euro6": 0.5, "car_electric": 0.5}})
    factors = load_factors("netherlands", 2020).of_fleet(base, changed)
    np.testing.assert_array_equal(factors.motorway(100.0), factors.g_per_km[:, Regime.MOTORWAY])
    np.testing.assert_allclose(
        factors.motorway(125.0), (factors.motorway(120.0) + factors.motorway(130.0)) / 2, rtol=1e-12
    )


@pytest.mark.parametrize(
    ("table", "year", "message"),
    [
        ("wallonia", 2020, "emission.table: got 'wallonia', expected one of flanders, netherlands"),
        (
            "flanders",
            2014,
            r"emission.year: got 2014, expected a whole number of 2015 to 2030 \(table flanders",
        ),
        ("flanders", 2031, "emission.year: got 2031"),
        ("netherlands", 2014, "emission.year: got 2014"),
        ("flanders", 2020.5, "emission.year: got 2020.5, expected a whole number"),
        ("flanders", True, "emission.year: got True"),
    ],
)
def test_an_unknown_table_or_year_is_refused_with_what_is_allowed(table, year, message):
    with pytest.raises(EmissionError, match=message):
        load_factors(table, year)


@pytest.mark.parametrize(
    ("table", "old", "new", "message"),
    [
        ("flanders", "heavy,free,2020,", "heavy,fast,2020,", "flanders.csv: class heavy, regime free, year 2020: the row is missing"),
        ("flanders", "bus,rural,2020,", "tram,rural,2020,", "class bus, regime rural, year 2020: the row is missing"),
        ("flanders", "pm10,pm25", "pm10,ec", "flanders.csv: column pm25: is missing"),
        ("flanders", "bus,normal,2020,3.92675", "bus,normal,2020,,3.92675", "nox: got '', expected a number"),
        ("flanders", "bus,normal,2020,", "bus,normal,2020,-", "class bus, regime normal, year 2020: nox: got '-3.9"),
        ("flanders", "bus,normal,2020,", "bus,rural,2020,", "class bus, regime rural, year 2020: the row occurs twice"),
        ("flanders", "bus,normal,2020,", "bus,normal,later,", "year: got 'later'"),
        ("netherlands", "medium,motorway_120,2020", "medium,slow,2020", "class medium, regime motorway_120, year 2020: the row"),
        ("netherlands", "heavy,motorway_stagnating,2020", "heavy,slow,2020", "class heavy, regime motorway_stagnating, year 2020"),
    ],
)  # fmt: skip
def test_what_a_table_lacks_is_named(tmp_path, table, old, new, message):
    text = (FACTORS / f"{table}.csv").read_text()
    assert text.count(old) == 1
    (tmp_path / f"{table}.csv").write_text(text.replace(old, new))
    with pytest.raises(EmissionError, match=message):
        load_factors(table, 2020, folder=tmp_path)


def test_a_table_with_a_jam_but_without_limits_is_refused(tmp_path):
    lines = (FACTORS / "netherlands.csv").read_text().splitlines()
    kept = [line for line in lines if ",motorway_1" not in line and ",motorway_8" not in line]
    (tmp_path / "netherlands.csv").write_text("\n".join(kept))
    with pytest.raises(EmissionError, match=r"motorways by limit .*: the rows are missing"):
        load_factors("netherlands", 2020, folder=tmp_path)
    with pytest.raises(EmissionError, match=r"flanders\.csv: file is missing"):
        load_factors("flanders", 2020, folder=tmp_path)


def test_a_pack_without_emission_settings_has_the_flemish_factors_of_2020():
    for settings in ({}, {"emission": {"source": "assumed"}}):
        factors = city_factors(settings)
        assert (factors.table, factors.year) == ("flanders", 2020)


def _pack(folder: Path, toy: Path, emission: str) -> Path:
    shutil.copytree(toy, folder)
    text = (folder / "city.toml").read_text()
    old = '[emission]\nyear = 2020\nsource = "made up"\n'
    assert text.count(old) == 1
    (folder / "city.toml").write_text(text.replace(old, emission))
    return folder


def test_a_pack_chooses_its_table_year_and_fleet(tmp_path, toy_folder):
    folder = _pack(
        tmp_path / "pack",
        toy_folder,
        '[emission]\ntable = "netherlands"\nyear = 2019\nmotorway_enforced = true\n'
        "[emission.fleet.bus]\nbus_diesel_euro6 = 0.25\nbus_electric = 0.75\n",
    )
    factors = load_city(folder).emission
    table = load_factors("netherlands", 2019, motorway_enforced=True)
    np.testing.assert_array_equal(factors.g_per_km[:BUS], table.g_per_km[:BUS])
    base = base_fleet()
    changed = with_shares(base, {"bus": {"bus_diesel_euro6": 0.25, "bus_electric": 0.75}})
    np.testing.assert_allclose(
        factors.g_per_km[BUS, Regime.NORMAL],
        table.g_per_km[BUS, Regime.NORMAL] * mix_ratio(base, changed)[BUS],
        rtol=1e-12,
    )


@pytest.mark.parametrize(
    ("emission", "message"),
    [
        ('[emission]\ntable = "france"\n', "city.toml: emission.table: got 'france'"),
        ("[emission]\nyear = 1999\n", "city.toml: emission.year: got 1999"),
        ('[emission]\nyear = "2020"\n', "city.toml: emission.year: got '2020'"),
        ("[emission]\nyaer = 2020\n", "city.toml: emission.yaer: is not known, expected one of table, year"),
        ("[emission]\nmotorway_enforced = 1\n", "emission.motorway_enforced: got 1, expected true or false"),
        ("[emission]\nfleet = 3\n", r"emission.fleet: got 3, expected a table \[emission.fleet\]"),
        ("[emission.fleet.tram]\nx = 1.0\n", "emission.fleet: class of vehicle: got 'tram', expected one of light"),
        ("[emission.fleet.bus]\neuro9 = 1.0\n", "emission.fleet.bus: Euro class: got 'euro9', expected one of bus_diesel_pre"),
        ("[emission.fleet.bus]\nbus_electric = 0.5\n", "emission.fleet.bus: the shares sum to 0.5, expected 1"),
    ],
)  # fmt: skip
def test_emission_settings_that_do_not_fit_are_refused_by_field(tmp_path, toy_folder, emission, message):
    with pytest.raises(CityError, match=message):
        load_city(_pack(tmp_path / "pack", toy_folder, emission))


def test_a_road_class_of_an_unknown_regime_is_refused_when_the_pack_is_read(tmp_path, toy_folder):
    folder = _pack(tmp_path / "pack", toy_folder, "")
    text = (folder / "city.toml").read_text()
    (folder / "city.toml").write_text(text.replace('regime = "normal"', 'regime = "slow"'))
    with pytest.raises(CityError, match=r"\[\[road_class\]\] 12: regime: got 'slow', expected one of rural"):
        load_city(folder)
