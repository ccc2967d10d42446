from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from kernels import srm2
from kernels import srm2_annual as annual
from kernels.srm2 import ROUGHNESS, SigmaZRule, Srm2Error
from kernels.srm2_annual import WindRose

ROUGH_03 = ROUGHNESS[2]
NORTH_SOUTH = np.array([[0.0, -1000.0], [0.0, 1000.0]])
RNG = np.random.default_rng(11)
SHARES = RNG.uniform(0.5, 1.5, 12)
ROSE = WindRose(SHARES / SHARES.sum(), RNG.uniform(2.0, 6.0, 12))


def sectors(points, lines, rose=ROSE, roughness=ROUGH_03, sigma_z0=2.5, **options):
    """(n, 12) of roads of 1 ug/m/s."""
    roads = annual.roads_of([np.asarray(line, float) for line in lines], np.full(len(lines), sigma_z0))
    x, y = np.asarray(points, float).reshape(-1, 2).T
    one = np.ones((len(lines), 1))
    return annual.sector_contributions(x, y, roads, one, rose, roughness, **options)[:, :, 0]


@pytest.mark.parametrize("rule", list(SigmaZRule))
@pytest.mark.parametrize("roughness", ROUGHNESS)
def test_a_speck_of_road_is_the_point_source_of_the_regulation(roughness, rule):
    for distance in (5.0, 40.0, 900.0):
        line = [(distance - 0.005, 0.0), (distance + 0.005, 0.0)]
        got = sectors([(0, 0)], [line], annual.uniform_rose(4.0), roughness, 3.0, rule=rule)[0]
        point = srm2.annual_point_contribution(distance, 4.0, roughness, 3.0, rule)
        assert got.sum() == pytest.approx(0.01 * point, rel=1e-5)


@pytest.mark.parametrize(
    ("distance", "expected"),
    [(5, 0.07055), (10, 0.05355), (20, 0.03854), (50, 0.02264), (100, 0.01391), (200, 0.00784)],
)
def test_two_kilometres_of_road_under_a_uniform_rose(distance, expected):
    rose = annual.uniform_rose(5.0)
    got = annual.annual_mean(sectors([(distance, 0)], [NORTH_SOUTH], rose, ROUGHNESS[1], 3.0), rose)
    assert got[0] == pytest.approx(expected, rel=6e-4)  # as many figures as there are


def test_each_sector_agrees_with_a_sum_of_very_short_sources():
    line = np.array([[-180.0, 40.0], [20.0, 12.0], [60.0, -90.0], [300.0, 10.0]])
    point = np.array([15.0, 4.0])
    distances = np.geomspace(3.5, 500.0, 1000)
    points = [srm2.annual_point_contribution(r, 1.0, ROUGH_03, 2.5) for r in distances]
    expected = np.zeros(12)
    for a, b in itertools.pairwise(line):
        step_m = 0.005
        n = int(np.hypot(*(b - a)) / step_m)
        east, north = (a + (b - a) * ((np.arange(n) + 0.5) / n)[:, None] - point).T
        value = np.exp(np.interp(np.log(np.hypot(east, north)), np.log(distances), np.log(points)))
        sector = ((np.degrees(np.arctan2(east, north)) + 15) // 30 % 12).astype(int)
        expected += np.bincount(sector, value * np.hypot(*(b - a)) / n, minlength=12) / ROSE.wind_m_s
    got = sectors([point], [line])[0]
    assert (expected > 0.0).sum() == 9
    np.testing.assert_allclose(got, expected, rtol=2e-3)
    assert got.sum() == pytest.approx(expected.sum(), rel=3e-4)


def test_the_wind_blows_from_the_source_to_the_receptor():
    for sector, (x, y) in enumerate([(0, 100), (50, 87), (87, 50), (100, 0)]):
        got = sectors([(0, 0)], [[(x, y), (x * 1.01, y * 1.01)]])[0]
        assert np.flatnonzero(got).tolist() == [sector]
    from_zero = annual.uniform_rose(5.0, 0.0)
    assert np.flatnonzero(sectors([(0, 0)], [[(5, 100), (5, 101)]], from_zero)[0]).tolist() == [0]
    assert np.flatnonzero(sectors([(0, 0)], [[(-5, 100), (-5, 101)]], from_zero)[0]).tolist() == [11]


def test_turning_the_world_by_a_sector_turns_the_sectors():
    points, line = RNG.uniform(-300, 300, (40, 2)), RNG.uniform(-200, 200, (5, 2))
    turn = math.radians(30)
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    rose = annual.uniform_rose(3.0)
    before, after = sectors(points, [line], rose), sectors(points @ rotation, [line @ rotation], rose)
    np.testing.assert_allclose(after, np.roll(before, 1, axis=1), rtol=1e-9, atol=1e-15)


def test_neither_the_direction_nor_the_pieces_of_a_road_matter():
    points = np.vstack([RNG.uniform(-150, 150, (200, 2)), [(0, 0), (20, 10), (100, 50)]])  # also on the road
    whole = sectors(points, [[(-100, -50), (100, 50)]])
    back = sectors(points, [[(100, 50), (-100, -50)]])
    parts = sectors(points, [[(-100, -50), (20, 10)], [(20, 10), (20, 10), (100, 50)]])
    assert np.isfinite(whole).all()
    np.testing.assert_allclose(back.sum(axis=1), whole.sum(axis=1), rtol=1e-3)
    np.testing.assert_allclose(back[:-3], whole[:-3], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(parts[:-3], whole[:-3], rtol=2e-3, atol=1e-5)


def test_a_receptor_on_the_road_gets_both_its_sides():
    got = sectors([(0, 0)], [NORTH_SOUTH], annual.uniform_rose(5.0))[0]
    assert np.flatnonzero(got).tolist() == [0, 6]
    assert got[0] == pytest.approx(got[6], rel=1e-9)
    beside = sectors([(0.001, 0)], [NORTH_SOUTH], annual.uniform_rose(5.0))[0]
    assert beside.sum() == pytest.approx(got.sum(), rel=1e-3)


def test_a_receptor_on_the_line_of_two_sectors_counts_once():
    edge = math.radians(15)
    line = [(r * math.sin(edge), r * math.cos(edge)) for r in (-80.0, 50.0)]
    got = sectors([(0, 0)], [line], annual.uniform_rose(5.0))[0]
    near = sectors([(0.01, 0)], [line], annual.uniform_rose(5.0))[0]
    assert got.sum() == pytest.approx(near.sum(), rel=1e-3)


def test_emissions_add_up_for_each_substance():
    lines = [RNG.uniform(-300, 300, (3, 2)) for _ in range(6)]
    roads = annual.roads_of(lines, RNG.uniform(2.5, 6.0, 6))
    x, y = RNG.uniform(-300, 300, (2, 30))
    emission = RNG.uniform(0.0, 50.0, (6, 3))
    emission[2] = 0.0
    together = annual.sector_contributions(x, y, roads, emission, ROSE, ROUGH_03)
    apart = np.zeros_like(together)
    for r in range(6):
        own = np.zeros_like(emission)
        own[r] = emission[r]
        apart += annual.sector_contributions(x, y, roads, own, ROSE, ROUGH_03)
    np.testing.assert_allclose(together, apart, rtol=1e-12)


def test_a_wider_start_a_higher_receptor_and_more_wind_dilute():
    at = [(10.0, 0.0)]
    base = sectors(at, [NORTH_SOUTH]).sum()
    assert sectors(at, [NORTH_SOUTH], sigma_z0=5.0).sum() < base
    assert sectors(at, [NORTH_SOUTH], height_m=8.0).sum() < base
    twice = WindRose(ROSE.frequency, 2 * ROSE.wind_m_s)
    assert sectors(at, [NORTH_SOUTH], twice).sum() == pytest.approx(base / 2, rel=1e-12)


def test_roads_beyond_the_reach_add_nothing():
    line = [(0.0, 0.0), (100.0, 0.0)]
    points = [(1099.0, 0.0), (1101.0, 0.0), (50.0, 999.0), (50.0, 1001.0)]
    got = sectors(points, [line], reach_m=1000.0).sum(axis=1)
    assert (got > 0.0).tolist() == [True, False, True, False]
    assert (sectors(points, [line], reach_m=math.inf).sum(axis=1) > 0.0).all()


def test_a_sector_without_wind_needs_no_speed():
    frequency, wind = np.zeros(12), np.full(12, np.nan)
    frequency[3], wind[3] = 1.0, 4.0
    rose = WindRose(frequency, wind)
    got = sectors([(-100, 0)], [NORTH_SOUTH], rose)
    assert np.flatnonzero(got[0]).tolist() == [3]
    assert annual.annual_mean(got, rose)[0] == got[0, 3]


def test_no2_of_each_sector_is_weighted_by_its_wind():
    nox, direct = np.zeros((1, 12)), np.zeros((1, 12))
    nox[0, :2], direct[0, :2] = (80.0, 20.0), (20.0, 2.0)
    frequency = np.zeros(12)
    frequency[:2] = (0.25, 0.75)
    rose = WindRose(frequency, np.full(12, 4.0))
    expected = 0.25 * (20 + 40 * 60 / 160) + 0.75 * (2 + 40 * 18 / 118)
    assert annual.annual_no2(nox, direct, 40.0, rose)[0] == pytest.approx(expected, rel=1e-12)
    ozone = np.full(12, 40.0)
    ozone[1] = 0.0
    expected = 0.25 * (20 + 40 * 60 / 160) + 0.75 * 2
    assert annual.annual_no2(nox, direct, ozone, rose)[0] == pytest.approx(expected, rel=1e-12)


def test_no2_lies_between_what_is_emitted_and_all_nox():
    nox = RNG.uniform(0.0, 300.0, (50, 12))
    no2 = annual.annual_no2(nox, 0.2 * nox, 40.0, ROSE)
    total = annual.annual_mean(nox, ROSE)
    assert (no2 > 0.2 * total).all()
    assert (no2 < np.minimum(total, 0.2 * total + 40.0)).all()


def test_rose_of_classes_is_the_harmonic_mean_corrected_for_the_night():
    hours = np.zeros((12, 3))
    hours[0], hours[6] = (100.0, 200.0, 100.0), (0.0, 400.0, 0.0)
    rose = annual.rose_of_classes(hours, np.array([2.0, 4.0, 8.0]))
    assert rose.frequency.tolist() == [0.5, 0, 0, 0, 0, 0, 0.5, 0, 0, 0, 0, 0]
    assert rose.wind_m_s[0] == pytest.approx(400 / (100 / 1.6 + 200 / 4.0 + 100 / 8.8))
    assert rose.wind_m_s[6] == pytest.approx(4.0)
    calm = annual.rose_of_classes(hours, np.array([0.1, 4.0, 8.0]))
    assert calm.wind_m_s[0] == pytest.approx(400 / (100 / 1.0 + 200 / 4.0 + 100 / 8.8))


def test_rose_of_hours_counts_directions_and_means_the_inverse():
    rose = annual.rose_of_hours(
        np.array([0.0, 350.0, 360.0, 14.9, 90.0]), np.array([2.0, 4.0, 0.2, 1.0, 5.0])
    )
    assert rose.frequency[[0, 3]].tolist() == [0.8, 0.2]
    assert rose.wind_m_s[0] == pytest.approx(4 / (0.5 + 0.25 + 1 + 1))
    assert rose.wind_m_s[3] == pytest.approx(5.0)
    from_zero = annual.rose_of_hours(np.array([0.0, 359.0, 30.0]), np.full(3, 2.0), 0.0)
    assert np.flatnonzero(from_zero.frequency).tolist() == [0, 1, 11]


def test_the_year_by_sectors_has_the_mean_of_its_hours():
    """A source in the open: the mean over hours of plume / u equals frequency times that of the mean 1/u."""
    hours_from, hours_wind = RNG.uniform(0, 360, 2000), RNG.uniform(1.0, 9.0, 2000)
    rose = annual.rose_of_hours(hours_from, hours_wind)
    line = [(0.0, 100.0), (0.0, 100.1)]
    got = annual.annual_mean(sectors([(0, 0)], [line], rose), rose)[0]
    blows = (hours_from >= 345) | (hours_from < 15)
    point = srm2.annual_point_contribution(100.05, 1.0, ROUGH_03, 2.5)
    assert got == pytest.approx(0.1 * point * (blows / hours_wind).mean(), rel=1e-4)


GOOD, WINDS = np.full(12, 1 / 12), np.full(12, 4.0)


def _changed(values, at, value):
    changed = values.copy()
    changed[at] = value
    return changed


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: WindRose(np.ones(8) / 8, np.ones(8)), r"frequency: got shape \(8,\)"),
        (lambda: WindRose(GOOD, np.ones(11)), r"wind_m_s: got shape \(11,\)"),
        (lambda: WindRose(_changed(GOOD, 2, -0.1), WINDS), r"frequency\[2\]: got -0.1"),
        (lambda: WindRose(_changed(GOOD, 2, math.nan), WINDS), r"frequency\[2\]: got nan"),
        (lambda: WindRose(0.9 * GOOD, WINDS), r"frequency: got a sum of 0.9, expected 1"),
        (lambda: WindRose(GOOD, _changed(WINDS, 5, 0.0)), r"wind_m_s\[5\]: got 0.0, expected a wind above 0"),
        (lambda: WindRose(GOOD, _changed(WINDS, 5, math.nan)), r"wind_m_s\[5\]: got nan"),
        (lambda: WindRose(GOOD, WINDS, 10.0), "start_deg: got 10.0"),
        (lambda: annual.uniform_rose(0.0), r"wind_m_s\[0\]: got 0.0"),
        (lambda: annual.rose_of_classes(np.ones((12, 2)), np.ones(3)), r"frequency: got shape \(12, 2\)"),
        (lambda: annual.rose_of_classes(np.zeros((12, 3)), np.ones(3)), "frequency: got values"),
        (lambda: annual.rose_of_classes(-np.ones((12, 3)), np.ones(3)), "frequency: got values"),
        (lambda: annual.rose_of_classes(np.ones((12, 3)), np.array([0.0, 1, 1])), "wind_m_s: got a wind"),
        (lambda: annual.rose_of_classes(np.ones((12, 3)), np.ones(2)), r"wind_m_s: got shape \(2,\)"),
        (lambda: annual.rose_of_hours(np.array([]), np.array([])), "wind_m_s: got"),
        (lambda: annual.rose_of_hours(np.array([1.0, 2]), np.array([1.0])), "wind_m_s: got"),
        (lambda: annual.rose_of_hours(np.array([1.0, 361]), np.ones(2)), r"wind_from_deg\[1\]: got 361.0"),
        (lambda: annual.rose_of_hours(np.array([1.0, 2]), np.array([1, math.nan])), r"wind_m_s\[1\]: got nan"),
        (lambda: sectors([(0, 0)], [NORTH_SOUTH], sigma_z0=-1.0), "sigma_z0_m: got -1.0"),
        (lambda: sectors([(0, 0)], [NORTH_SOUTH], sigma_z0=0.3), "sigma_z0_m: got 0.3, expected above 0.4 m"),
        (lambda: sectors([(0, 0)], [NORTH_SOUTH], reach_m=0.0), "reach_m: got 0.0"),
        (lambda: sectors([(0, 0)], [NORTH_SOUTH], height_m=-1.0), "height_m: got -1.0"),
        (lambda: sectors([(0, 0)], [[(0, 0)]]), r"lines\[0\]: got shape \(1, 2\)"),
        (lambda: sectors([(math.nan, 0)], [NORTH_SOUTH]), "x, y: got"),
        (lambda: annual.annual_no2(np.ones((1, 12)), np.ones((1, 12)), -1.0, ROSE), "o3: got -1.0"),
        (lambda: annual.annual_no2(np.ones((1, 12)), np.ones((1, 12)), np.ones(3), ROSE), r"o3: got shape \(3,\)"),
    ],
)  # fmt: skip
def test_an_input_outside_the_method_is_refused_by_name(call, message):
    with pytest.raises(Srm2Error, match=f"^{message}"):
        call()


@pytest.mark.parametrize(
    "emission", [np.array([[-1.0]]), np.array([[math.nan]]), np.ones((2, 1)), np.ones(1)]
)
def test_an_emission_that_cannot_be_is_refused(emission):
    roads = annual.roads_of([NORTH_SOUTH], np.array([3.0]))
    with pytest.raises(Srm2Error, match=r"^emission_ug_per_m_s: got"):
        annual.sector_contributions(np.zeros(1), np.ones(1), roads, emission, ROSE, ROUGH_03)
