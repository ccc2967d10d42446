"""Fleets of Euro classes: shares, what goes and who takes its place, and the ratio of two fleets."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cities.factor_rows import FACTORS
from cities.fleet import CLASS_NAMES, base_fleet, mix_ratio, with_shares, without
from kernels.emission import EmissionError, Pollutant, VehicleClass

LIGHT, MEDIUM, HEAVY, BUS = VehicleClass
BASE = base_fleet()
DIESEL_BEFORE_5 = [
    f"{v}_diesel_{e}" for v in ("car", "van") for e in ("pre_euro", "euro1", "euro2", "euro3", "euro4")
]


@pytest.mark.parametrize("vehicle_class", CLASS_NAMES)
def test_base_shares_of_a_class_sum_to_one(vehicle_class):
    assert math.fsum(BASE.shares(vehicle_class).values()) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize(
    ("vehicle_class", "name", "nox", "no2_fraction", "pm25"),
    # EMEP/EEA 2019
    [
        (LIGHT, "car_diesel_euro4", 0.580, 0.46, 0.0314),
        (LIGHT, "car_diesel_euro6d_temp", 0.35, 0.30, 0.0015),
        (LIGHT, "car_petrol_euro3", 0.097, 0.035, 0.0011),
        (LIGHT, "van_diesel_euro5", 1.15, 0.33, 0.001),
        (HEAVY, "truck_diesel_euro6", 0.42, 0.09, 0.0013),
        (BUS, "bus_diesel_euro5", 8.67, 0.11, 0.065),
        (LIGHT, "car_electric", 0.0, 0.0, 0.0),
    ],
)
def test_values_of_euro_classes(vehicle_class, name, nox, no2_fraction, pm25):
    (euro,) = (e for e in BASE.euro_classes if e.vehicle_class == vehicle_class and e.name == name)
    assert (euro.nox_g_per_km, euro.no2_fraction, euro.exhaust_pm25_g_per_km) == (nox, no2_fraction, pm25)


def test_what_is_from_memory_says_so():
    rows = [r for r in (FACTORS / "euro_classes.csv").read_text().splitlines() if r[0].islower()][1:]
    for row in rows:
        assert "electric" in row or "to be checked against the guidebook" in row
    assert sum("+-15 %" in row for row in rows) == 38


def test_the_base_fleet_emits_about_what_the_flemish_table_says():
    # a fleet assumed and a table published: rural, 2020, NOx .401, 1.60, 1.35 g/km; buses at 19 km/h 3.93
    nox = np.zeros(4)
    for euro, share in zip(BASE.euro_classes, BASE.share, strict=True):
        nox[euro.vehicle_class] += share * euro.nox_g_per_km
    np.testing.assert_allclose(nox, [0.401, 1.602, 1.351, 3.927], rtol=0.3)


def test_a_fleet_compared_with_itself_is_one():
    np.testing.assert_array_equal(mix_ratio(BASE, BASE), np.ones((4, 4)))


def test_removing_nothing_changes_nothing():
    for nothing in ({}, {"light": []}, {"heavy": (), "bus": set()}):
        assert without(BASE, nothing) == BASE


def test_removing_the_dirtiest_lowers_every_pollutant_of_its_class_alone():
    ratio = mix_ratio(BASE, without(BASE, {"light": DIESEL_BEFORE_5}))
    assert (ratio[LIGHT] < 1.0).all()
    np.testing.assert_array_equal(ratio[MEDIUM:], 1.0)


@pytest.mark.parametrize("vehicle_class", ["medium", "heavy", "bus"])
def test_removing_the_dirtiest_one_after_another_never_raises_nox(vehicle_class):
    code = VehicleClass(CLASS_NAMES.index(vehicle_class))
    order = sorted((e for e in BASE.euro_classes if e.vehicle_class == code), key=lambda e: -e.nox_g_per_km)
    last = 1.0
    for gone in range(1, 7):
        fleet = without(BASE, {vehicle_class: [e.name for e in order[:gone]]})
        ratio = mix_ratio(BASE, fleet)[code, Pollutant.NOX]
        assert ratio < last
        last = ratio


@given(gone=st.sets(st.sampled_from(sorted(BASE.shares("light"))), max_size=10))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_what_is_left_keeps_the_sum_the_split_of_cars_and_vans_and_its_proportions(gone):
    gone -= {"car_petrol_euro6", "van_diesel_euro6"}
    before, after = BASE.shares("light"), without(BASE, {"light": gone}).shares("light")
    assert math.fsum(after.values()) == pytest.approx(1.0, abs=1e-12)
    for vehicle in ("car", "van"):
        names = [n for n in before if n.startswith(vehicle)]
        total = math.fsum(before[n] for n in names)
        assert math.fsum(after[n] for n in names) == pytest.approx(total, abs=1e-12)
        kept = [n for n in names if n not in gone and before[n] > 0.0]
        assert all(after[n] == 0.0 for n in names if n in gone)
        np.testing.assert_allclose([after[n] / before[n] for n in kept], after[kept[0]] / before[kept[0]])


def test_removal_in_two_steps_is_removal_at_once():
    first, second = DIESEL_BEFORE_5[:4], DIESEL_BEFORE_5[4:]
    twice = without(without(BASE, {"light": first}), {"light": second})
    np.testing.assert_allclose(twice.share, without(BASE, {"light": DIESEL_BEFORE_5}).share, atol=1e-15)


def test_direct_no2_changes_by_its_own_ratio():
    # Euro 4 diesel has the largest NO2 fraction; Euro 6 alone has f = .30 of .45 g/km
    fleet = with_shares(BASE, {"light": {"car_diesel_euro6": 1.0}})
    ratio = mix_ratio(fleet, with_shares(BASE, {"light": {"car_diesel_euro4": 1.0}}))
    assert ratio[LIGHT, Pollutant.NOX] == pytest.approx(0.580 / 0.45)
    assert ratio[LIGHT, Pollutant.NO2] == pytest.approx(0.580 * 0.46 / (0.45 * 0.30))


def test_particles_change_by_exhaust_alone_and_wear_stays():
    # wear of a car at 19 km/h [g/km]: tyre .0107 x 1.39, brake .0075 x 1.67, road .0150
    pm10 = 0.60 * 0.0107 * 1.39 + 0.98 * 0.0075 * 1.67 + 0.50 * 0.0150
    pm25 = 0.42 * 0.0107 * 1.39 + 0.39 * 0.0075 * 1.67 + 0.27 * 0.0150
    old, new = ({"light": {name: 1.0}} for name in ("car_diesel_euro3", "car_diesel_euro6"))
    ratio = mix_ratio(with_shares(BASE, old), with_shares(BASE, new))
    assert ratio[LIGHT, Pollutant.PM10] == pytest.approx((pm10 + 0.0015) / (pm10 + 0.0391))
    assert ratio[LIGHT, Pollutant.PM25] == pytest.approx((pm25 + 0.0015) / (pm25 + 0.0391))


def test_wear_of_the_base_fleet_stays_when_vans_take_the_place_of_cars():
    cars = with_shares(BASE, {"light": {"car_electric": 1.0}})
    vans = with_shares(BASE, {"light": {"van_electric": 1.0}})
    with pytest.raises(EmissionError, match=r"emission\.fleet\.light: the base fleet emits no NOX"):
        mix_ratio(cars, vans)
    ratio = mix_ratio(BASE, vans)
    assert ratio[LIGHT, Pollutant.NOX] == 0.0
    np.testing.assert_array_equal(ratio[LIGHT], mix_ratio(BASE, cars)[LIGHT])


def test_at_speed_less_is_worn_so_exhaust_counts_more():
    fleet = without(BASE, {"light": DIESEL_BEFORE_5})
    slow, fast = (mix_ratio(BASE, fleet, v)[LIGHT] for v in (20.0, 100.0))
    assert (fast[Pollutant.PM10 :] < slow[Pollutant.PM10 :]).all()
    np.testing.assert_array_equal(fast[: Pollutant.PM10], slow[: Pollutant.PM10])


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        ({"tram": []}, "class of vehicle: got 'tram', expected one of light, medium, heavy, bus"),
        ({"bus": ["bus_diesel_euro9"]}, "fleet.bus: Euro class: got 'bus_diesel_euro9', expected one of bus_diesel_pre_euro"),
        ({"heavy": ["car_diesel_euro4"]}, "fleet.heavy: Euro class: got 'car_diesel_euro4'"),
        ({"bus": "bus_electric"}, "fleet.bus: got the text 'bus_electric', expected a list of names"),
        ({"bus": list(BASE.shares("bus"))}, "fleet.bus: no bus is left to take the share"),
        ({"light": [n for n in BASE.shares("light") if n.startswith("van_diesel")]}, "fleet.light: no van is left"),
    ],
)  # fmt: skip
def test_what_cannot_be_removed_is_refused_by_name(removed, message):
    with pytest.raises(EmissionError, match=message):
        without(BASE, removed)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"bus": {"bus_electric": 1.5}}, "fleet.bus.bus_electric: got 1.5, expected a share of 0 to 1"),
        ({"bus": {"bus_electric": True}}, "fleet.bus.bus_electric: got True"),
        ({"bus": {"bus_electric": math.nan}}, "fleet.bus.bus_electric: got nan"),
        ({"bus": {"bus_electric": 0.9}}, "fleet.bus: the shares sum to 0.9, expected 1"),
        ({"bus": {}}, "fleet.bus: the shares sum to 0, expected 1"),
        ({"bus": 3}, "fleet.bus: got 3, expected a table"),
    ],
)
def test_shares_that_do_not_fit_are_refused(shares, message):
    with pytest.raises(EmissionError, match=message):
        with_shares(BASE, shares)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("euro_classes.csv", "bus,bus,electric,,0.02,", "bus,bus,electric,,0.03,", "euro_classes.csv: bus: the shares sum to 1.01"),
        ("euro_classes.csv", "bus,bus,electric,,0.02,", "tram,bus,electric,,0.02,", "tram bus_electric: wear.csv has no row tram,bus"),
        ("euro_classes.csv", "bus,bus,electric,,0.02,", "bus,bus,electric,,,", "bus bus_electric: share: got '', expected a number"),
        ("wear.csv", "light,van,0.0169", "light,lorry,0.0169", "wear.csv has no row light,van"),
        ("wear.csv", "tyre,brake,road", "tyre,brake,rail", "wear.csv: column road: is missing"),
    ],
)  # fmt: skip
def test_files_of_the_fleet_that_do_not_fit_are_refused(tmp_path, file, old, new, message):
    folder = shutil.copytree(FACTORS, tmp_path / "factors")
    text = (folder / file).read_text()
    assert text.count(old) == 1
    (folder / file).write_text(text.replace(old, new))
    with pytest.raises(EmissionError, match=message):
        base_fleet(folder)


def test_fleets_of_other_euro_classes_are_not_compared(tmp_path):
    folder = shutil.copytree(FACTORS, tmp_path / "factors")
    path = folder / "euro_classes.csv"
    path.write_text(path.read_text().replace("0.552,0.09,0.0066", "0.5,0.09,0.0066"))
    with pytest.raises(EmissionError, match="not made of the same Euro classes"):
        mix_ratio(BASE, base_fleet(folder))
