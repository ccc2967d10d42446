"""Annual means at points are the regulation's formulas, each applied once, and whatever is odd is flagged."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cities.dispersion import Model, dispersion_of
from cities.pack import City, CityError, load_city
from cities.wind_rose import annual_wind
from kernels import srm1, srm2, srm2_annual
from kernels.emission import Pollutant, Regime
from kernels.network import Mode
from kernels.prior import ModePrior, Prior
from kernels.srm1 import RoadType
from kernels.srm2 import SigmaZRule
from studies.annual_air import AnnualAirError, PointFlag, annual_air, mean_flows, prior_emission
from tests.toy import BLOCK_M, X0, Y0

EMISSION = np.array([120.0, 30.0, 8.0, 5.0])  # NOx, NO2, PM10, PM2.5 [ug/m/s]


@pytest.fixture
def city(toy_folder: Path) -> City:
    return load_city(toy_folder)


def emission_of(city: City, *streets: str) -> NDArray[np.float64]:
    out = np.zeros((city.network.n_segments, 4))
    for street in streets:
        out[city.segment_ids.index(street)] = EMISSION
    return out


def beside(row: int, distance_m: float, column: float = 1.5) -> NDArray[np.float64]:
    """A point north of a horizontal street."""
    return np.array([[X0 + column * BLOCK_M, Y0 + row * BLOCK_M + distance_m]])


def flat_prior(city: City, per_h: float) -> Prior:
    """The same flow on every edge, of it 5 % trucks."""

    def of(flow: float) -> ModePrior:
        n = city.car_edges.n_edges
        none = np.zeros((n, 0), dtype=np.float32)
        empty = np.zeros(0, dtype=np.float32)
        return ModePrior(np.full(n, flow, dtype=np.float32), empty, none, np.zeros(n, dtype=np.float32), none)

    return Prior(city.network_hash, {Mode.CAR: of(0.95 * per_h), Mode.TRUCK: of(0.05 * per_h)})


def test_without_traffic_there_is_the_background(city: City) -> None:
    got = annual_air(city, beside(1, 8.0), np.zeros((city.network.n_segments, 4)))
    assert got.no2 == 15.0
    assert got.pm10 == 18.0
    assert got.pm25 == 10.0
    assert not got.flags.any()


def test_beside_a_street_it_is_srm1_and_the_no2_formula(city: City) -> None:
    got = annual_air(city, beside(1, 8.0), emission_of(city, "h11"))
    theta = 3.10e-4 * 8.0**2 - 1.82e-2 * 8.0 + 0.33  # type 4, assumed of every street without one
    nox, direct, pm10, pm25 = 0.62 * theta * 5.0 / 3.0 * EMISSION
    # the toy's coordinates went through WGS84: a millimetre
    assert got.street[0] == pytest.approx([nox, direct, pm10, pm25], rel=1e-5)
    assert not got.road.any()
    no = nox - direct
    assert got.no2[0] == pytest.approx(15.0 + direct + 0.6 * 45.0 * no / (no + 100.0), rel=1e-5)
    assert got.pm10[0] == pytest.approx(18.0 + pm10, rel=1e-5)
    assert got.pm25[0] == pytest.approx(10.0 + pm25, rel=1e-5)


@pytest.mark.parametrize("road_type", list(RoadType))
def test_road_type_and_trees_of_each_segment_count(city: City, road_type: RoadType) -> None:
    dispersion = dispersion_of(city)
    at = city.segment_ids.index("h11")
    model, trees = dispersion.model.copy(), dispersion.tree_factor.copy()
    model[at], trees[at] = int(road_type), 1.25
    changed = replace(dispersion, model=model, tree_factor=trees)
    got = annual_air(city, beside(1, 12.0), emission_of(city, "h11"), dispersion=changed)
    want = srm1.annual_contribution(EMISSION[0], 12.0, road_type, 3.0, 1.25)
    assert got.street[0, Pollutant.NOX] == pytest.approx(want, rel=1e-5)


def test_srm1_ends_at_its_reach(city: City) -> None:
    xy = np.concatenate([beside(1, 59.0), beside(1, 61.0)])
    got = annual_air(city, xy, emission_of(city, "h11"))
    assert got.street[0, Pollutant.NOX] > 0.0
    assert got.street[1, Pollutant.NOX] == 0.0
    assert got.no2[1] == 15.0


def test_a_road_is_srm2_by_wind_sector_added_up_from_short_sources(city: City) -> None:
    shares = np.arange(1.0, 13.0)
    wind = replace(
        annual_wind(city),
        rose=srm2_annual.WindRose(shares / shares.sum(), np.linspace(2.0, 5.0, 12)),
    )
    xy = beside(3, 60.0)
    got = annual_air(city, xy, emission_of(city, "h31"), wind=wind)
    # the regulation's own sum, of sources of a quarter metre
    x = X0 + BLOCK_M + (np.arange(1600) + 0.5) * 0.25
    east, north = x - xy[0, 0], np.full(x.size, -60.0)
    bearing = np.degrees(np.arctan2(east, north))
    sector = np.floor((bearing + 15.0) / 30.0).astype(int) % 12
    roughness, start = srm2.roughness_class(1.0), dispersion_of(city).sigma_z0_m[0]
    weight = np.zeros(12)
    for i, d in zip(sector, np.hypot(east, north), strict=True):
        wind_m_s = float(wind.rose.wind_m_s[i])
        weight[i] += 0.25 * srm2.annual_point_contribution(float(d), wind_m_s, roughness, float(start))
    f = wind.rose.frequency
    assert got.road[0] == pytest.approx(float(f @ weight) * EMISSION, rel=2e-3)
    nox, direct = weight * EMISSION[0], weight * EMISSION[1]
    no2 = float(f @ (direct + 45.0 * (nox - direct) / (nox - direct + 100.0)))
    assert got.road_no2[0] == pytest.approx(no2, rel=2e-3)
    assert got.no2[0] == pytest.approx(15.0 + no2, rel=2e-3)
    assert not got.street.any()


def test_streets_and_roads_are_cumulated_not_added(city: City) -> None:
    xy = np.array([[X0 + 8.0, Y0 + 3 * BLOCK_M - 40.0]])  # beside the end of v20, below the road h30
    street, road = emission_of(city, "v20"), emission_of(city, "h30")
    one, other, both = (annual_air(city, xy, e) for e in (street, road, street + road))
    assert both.street == pytest.approx(one.street)
    assert both.road == pytest.approx(other.road)
    assert both.pm10[0] - 18.0 == pytest.approx(one.pm10[0] + other.pm10[0] - 36.0)
    no_1 = float(one.street[0, 0] - one.street[0, 1])
    no_2 = float(other.road[0, 0] - other.road[0, 1])
    eps = no_2 / (no_2 + 100.0) / 0.6
    no = no_1 + 100.0 * eps / (1.0 - eps)
    want = one.street[0, 1] + other.road[0, 1] + 0.6 * 45.0 * no / (no + 100.0)
    assert both.no2[0] - 15.0 == pytest.approx(float(want))
    assert max(one.no2[0], other.no2[0]) < both.no2[0] < one.no2[0] + other.no2[0] - 15.0


def test_contributions_are_linear_in_emission_and_independent_of_other_points(city: City) -> None:
    rng = np.random.default_rng(3)
    emission = rng.uniform(0.0, 100.0, (city.network.n_segments, 4))
    xy = np.array([X0, Y0]) + rng.uniform(0.0, 1200.0, (40, 2))
    one, twice = annual_air(city, xy, emission), annual_air(city, xy[::-1], 2.0 * emission)
    assert twice.street[::-1] == pytest.approx(2.0 * one.street)
    assert twice.road[::-1] == pytest.approx(2.0 * one.road)


def test_the_double_count_is_taken_off_the_background(city: City) -> None:
    counted = {"no2": 4.0, "o3": -5.0, "pm10": 1.0, "pm25": 0.5}
    settings = {**city.settings, "background": {**city.settings["background"], "double_count": counted}}
    got = annual_air(
        replace(city, settings=settings), beside(1, 300.0), np.zeros((city.network.n_segments, 4))
    )
    assert (got.no2[0], got.pm10[0], got.pm25[0]) == (11.0, 17.0, 9.5)
    assert got.background.o3 == 50.0


def test_another_sigma_z_rule_changes_only_roads(city: City) -> None:
    emission = emission_of(city, "v20", "h30")
    xy = np.array([[X0 + 8.0, Y0 + 3 * BLOCK_M - 40.0]])
    add, virtual = (
        annual_air(city, xy, emission, dispersion=replace(dispersion_of(city), rule=rule))
        for rule in (SigmaZRule.ADD, SigmaZRule.VIRTUAL)
    )
    assert virtual.road[0, 0] > 1.02 * add.road[0, 0]
    assert virtual.street == pytest.approx(add.street)


def test_points_in_a_road_near_it_and_beyond_are_calculated_and_flagged(city: City) -> None:
    xy = np.concatenate(
        [beside(1, 0.5), beside(1, 4.0), beside(1, 12.0), beside(3, -1.0), beside(1, 8.0, -0.3), beside(1, 8.0, -1.0)]
    )  # fmt: skip
    got = annual_air(city, xy, emission_of(city, *city.segment_ids))
    assert np.isfinite(got.no2).all()
    assert [PointFlag(int(f)) for f in got.flags] == [
        PointFlag.IN_ROAD | PointFlag.NEARER_THAN_FIT,
        PointFlag.NEARER_THAN_FIT,
        PointFlag(0),
        PointFlag.IN_ROAD,
        PointFlag.OUTSIDE_NETWORK,
        PointFlag.OUTSIDE_NETWORK | PointFlag.OUTSIDE_WINDOW,
    ]
    limit = annual_air(city, beside(1, 3.5), emission_of(city, *city.segment_ids))
    assert got.no2[0] == pytest.approx(limit.no2[0], rel=1e-3)


@pytest.mark.parametrize(
    ("xy", "told"),
    [
        (np.zeros((2, 3)), r"xy: got shape \(2, 3\), expected \(points, 2\)"),
        (np.array([[0.0, 0.0], [math.nan, 1.0]]), r"xy\[1\]: got \[nan, 1.0\], expected finite coordinates"),
    ],
)
def test_points_that_are_none_are_refused(city: City, xy: NDArray[np.float64], told: str) -> None:
    with pytest.raises(AnnualAirError, match=told):
        annual_air(city, xy, emission_of(city, "h11"))


def test_emissions_that_do_not_fit_are_refused_by_segment(city: City) -> None:
    with pytest.raises(AnnualAirError, match=r"emission_ug_per_m_s: got shape \(3, 4\)"):
        annual_air(city, beside(1, 8.0), np.zeros((3, 4)))
    for bad in (-1.0, math.nan, math.inf):
        emission = emission_of(city, "h11")
        emission[city.segment_ids.index("v20"), 2] = bad
        with pytest.raises(AnnualAirError, match="emission_ug_per_m_s of segment v20"):
            annual_air(city, beside(1, 8.0), emission)


def test_prior_emission_is_flow_times_factor_over_the_week(city: City) -> None:
    got = prior_emission(city, flat_prior(city, 20.0))
    factors = city.emission.g_per_km[:, Regime.NORMAL]
    # a week has five weekdays; on the others cars drive 0.85 and 0.7, trucks 0.35 and 0.15 of them
    car = 2 * 19.0 * (5.0 + 0.85 + 0.7) / 7.0
    truck = 2 * 1.0 * (5.0 + 0.35 + 0.15) / 7.0
    want = (car * factors[0] + truck * (0.8 * factors[1] + 0.2 * factors[2])) / 3.6
    # hours are taken at their middle
    assert got[city.segment_ids.index("h11")] == pytest.approx(want, rel=1e-6)


def test_prior_emission_of_a_street_that_is_always_full_is_that_of_stagnating_traffic(city: City) -> None:
    prior = flat_prior(city, 1e5)  # even at night more than any street carries
    at = city.segment_ids.index("h11")
    got = prior_emission(city, prior)[at] / prior_emission(city, flat_prior(city, 20.0))[at] / (1e5 / 20.0)
    week = np.array([0.95 * 6.55, 0.05 * 5.5 * 0.8, 0.05 * 5.5 * 0.2])  # light, medium, heavy over a week
    stagnating, flowing = (
        week @ city.emission.g_per_km[:3, regime] for regime in (Regime.STAGNATING, Regime.NORMAL)
    )
    assert got == pytest.approx(stagnating / flowing, rel=1e-6)
    assert (got > 1.0).all()


def test_a_prior_of_another_network_is_refused(city: City) -> None:
    other = replace(flat_prior(city, 20.0), network_hash="elsewhere")
    with pytest.raises(CityError, match="prior: made for network elsewhere"):
        prior_emission(city, other)


def test_mean_flows_lie_on_the_direction_of_their_edge(city: City) -> None:
    flows = mean_flows(city, flat_prior(city, 20.0))
    assert flows.shape == (3, 2, city.network.n_segments)
    assert flows[0] == pytest.approx(19.0)
    assert flows[1] == pytest.approx(1.0)
    assert not flows[2].any()
    assert (dispersion_of(city).model != Model.NONE).all()
