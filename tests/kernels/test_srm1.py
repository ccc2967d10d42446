from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from kernels import srm1
from kernels.chemistry import no2_contribution
from kernels.srm1 import RoadType, Srm1Error, Validity

STREETS = Path(__file__).parents[2] / "benchmarks" / "data" / "srm1_reference_streets.csv"
TYPE_OF_CAR = {"3a": RoadType.BROAD_CANYON, "3b": RoadType.NARROW_CANYON, "4": RoadType.ONE_SIDED}


def _streets():
    with STREETS.open() as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


@pytest.mark.parametrize("row", _streets(), ids=lambda row: row["street"])
def test_published_streets_are_reproduced(row):
    wind = srm1.REFERENCE_WIND_M_S / float(row["F_regio"])
    road_type = TYPE_OF_CAR[row["road_type"]]

    def contribution(species):
        emission = float(row[f"E_{species}"]) + float(row[f"E_{species}_cong"])
        return srm1.annual_contribution(emission, float(row["dist_m"]), road_type, wind, float(row["tree"]))

    for species, name in (("NOx", "NOx"), ("NO2", "NO2_direct"), ("PM10", "PM10"), ("PM25", "PM25")):
        assert contribution(species) == pytest.approx(float(row[f"C_{name}"]), rel=1e-9)
    no2 = no2_contribution(contribution("NOx"), contribution("NO2"), float(row["bg_O3"]))
    assert no2 == pytest.approx(float(row["C_NO2"]), rel=1e-9)


def test_there_are_published_streets():
    assert len(_streets()) == 5


@pytest.mark.parametrize(
    ("road_type", "at_5", "at_30"),
    # a S^2 + b S + c of the regulation's table
    [
        (RoadType.BROAD_CANYON, 0.295625, 0.0675),
        (RoadType.NARROW_CANYON, 0.4482, 0.1052),
        (RoadType.ONE_SIDED, 0.4245, 0.072),
        (RoadType.GENERAL, 0.24675, 0.063),
    ],
)
def test_dilution_of_the_four_types(road_type, at_5, at_30):
    assert srm1.dilution(5.0, road_type) == pytest.approx(at_5, rel=1e-12)
    assert srm1.dilution(30.0, road_type) == pytest.approx(at_30, rel=1e-12)


def test_dilution_beyond_thirty_metres_is_a_power_for_types_1_and_4_and_zero_for_2_and_3():
    assert srm1.dilution(45.0, RoadType.BROAD_CANYON) == pytest.approx(0.856 * 45**-0.747)
    assert srm1.dilution(60.0, RoadType.GENERAL) == pytest.approx(0.799 * 60**-0.747)
    assert srm1.dilution(60.1, RoadType.GENERAL) == 0.0
    assert srm1.dilution(30.1, RoadType.NARROW_CANYON) == 0.0
    assert srm1.dilution(30.1, RoadType.ONE_SIDED) == 0.0


def test_nearer_than_three_and_a_half_metres_counts_as_that():
    assert srm1.dilution(0.0, RoadType.GENERAL) == srm1.dilution(3.5, RoadType.GENERAL)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: srm1.dilution(-1.0, RoadType.GENERAL), "distance_m"),
        (lambda: srm1.dilution(math.nan, RoadType.GENERAL), "distance_m"),
        (lambda: srm1.regional_factor(0.0), "mean_wind_m_s"),
        (lambda: srm1.regional_factor(math.nan), "mean_wind_m_s"),
        (lambda: srm1.hourly_factor(math.nan, 3.0), "wind_m_s"),
        (lambda: srm1.hourly_factor(-1.0, 3.0), "wind_m_s"),
        (lambda: srm1.annual_contribution(1.0, 5.0, RoadType.GENERAL, 3.0, 1.1), "tree_factor"),
    ],
)
def test_an_input_outside_the_method_is_refused_by_name(call, field):
    with pytest.raises(Srm1Error, match=f"^{field}: got"):
        call()


@pytest.mark.parametrize("mean", [1.5, 2.93, 5.0])
def test_hours_of_a_rayleigh_year_average_to_the_annual_factor(mean):
    u = (np.arange(400_000) + 0.5) * 1e-4 * mean
    density = math.pi * u / (2 * mean**2) * np.exp(-math.pi * u**2 / (4 * mean**2))
    weights = density / density.sum()
    inverse = float(weights @ (1 / np.maximum(u, 1.0)))
    assert srm1.mean_inverse_wind(mean) == pytest.approx(inverse, rel=1e-5)
    hours = sum(w * srm1.hourly_factor(v, mean) for v, w in zip(u[::400], weights[::400], strict=True))
    assert hours / weights[::400].sum() == pytest.approx(srm1.F_K * 5.0 / mean, rel=1e-3)


def _coefficients(x, y, line):
    parameters = srm1.PARAMETERS[RoadType.GENERAL - 1]
    return srm1.line_coefficients(
        np.asarray(x, float), np.asarray(y, float), np.asarray(line, float), parameters
    )


def test_a_long_street_gives_exactly_theta_beside_it():
    distance = np.array([0.0, 2.0, 3.5, 10.0, 29.0, 31.0, 59.0])
    got = _coefficients(np.zeros(7), distance, [(-500, 0), (500, 0)])
    np.testing.assert_allclose(got, [srm1.dilution(s, RoadType.GENERAL) for s in distance], rtol=1e-12)
    assert _coefficients([0.0], [60.0], [(-500, 0), (500, 0)])[0] == 0.0


def test_cutting_a_straight_street_changes_nothing_anywhere():
    rng = np.random.default_rng(1)
    x = np.concatenate(
        [rng.uniform(-200, 200, 3000), np.full(200, 30.0), [30.0]]
    )  # also beside and on the cut
    y = np.concatenate([rng.uniform(-70, 70, 3000), rng.uniform(-70, 70, 200), [0.0]])
    whole = _coefficients(x, y, [(-100, 0), (120, 0)])
    parts = _coefficients(x, y, [(-100, 0), (30, 0)]) + _coefficients(x, y, [(30, 0), (120, 0)])
    vertex = _coefficients(x, y, [(-100, 0), (30, 0), (120, 0)])
    assert whole.max() > 0.2
    np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-12)
    np.testing.assert_allclose(vertex, whole, rtol=0, atol=1e-12)


def test_beside_the_end_of_a_street_half_counts_and_sixty_metres_on_nothing():
    line = [(0, 0), (300, 0)]
    assert _coefficients([0.0], [10.0], line)[0] == pytest.approx(0.5 * srm1.dilution(10.0, RoadType.GENERAL))
    assert _coefficients([-60.0], [0.0], line)[0] == 0.0


def test_coefficients_do_not_depend_on_the_direction_of_the_line():
    rng = np.random.default_rng(2)
    x, y = rng.uniform(-80, 180, (2, 500))
    line = [(0, 0), (60, 20), (110, 90)]
    np.testing.assert_allclose(_coefficients(x, y, line), _coefficients(x, y, line[::-1]), atol=1e-14)


def test_a_piece_without_length_adds_nothing():
    assert _coefficients([1.0], [1.0], [(0, 0), (0, 0)])[0] == 0.0


@pytest.mark.parametrize(
    ("distance", "road_type", "expected"),
    [
        (0.0, RoadType.GENERAL, Validity.TOO_NEAR | Validity.NEARER_THAN_FIT),
        (3.4, RoadType.NARROW_CANYON, Validity.TOO_NEAR | Validity.NEARER_THAN_FIT),
        (3.5, RoadType.NARROW_CANYON, Validity.NEARER_THAN_FIT),
        (5.0, RoadType.NARROW_CANYON, Validity(0)),
        (30.0, RoadType.NARROW_CANYON, Validity(0)),
        (30.1, RoadType.NARROW_CANYON, Validity.BEYOND_REACH),
        (30.1, RoadType.ONE_SIDED, Validity.BEYOND_REACH),
        (30.0, RoadType.BROAD_CANYON, Validity(0)),
        (30.1, RoadType.BROAD_CANYON, Validity.BEYOND_POLYNOMIAL),
        (60.0, RoadType.GENERAL, Validity.BEYOND_POLYNOMIAL),
        (60.1, RoadType.GENERAL, Validity.BEYOND_REACH),
    ],
)
def test_distances_outside_the_fit_are_flagged(distance, road_type, expected):
    assert srm1.validity(distance, road_type) == expected


def test_what_is_flagged_is_what_dilution_changes():
    distances = np.linspace(0.0, 80.0, 1601)
    for road_type in RoadType:
        flags = srm1.distance_validity(distances, road_type)
        values = np.array([srm1.dilution(s, road_type) for s in distances])
        np.testing.assert_array_equal(flags & Validity.BEYOND_REACH != 0, values == 0.0)
        too_near = flags & Validity.TOO_NEAR != 0
        assert (values[too_near] == srm1.dilution(3.5, road_type)).all()
        assert too_near.sum() == 70
        assert srm1.reach_m(road_type) == distances[values > 0].max()


def test_only_the_power_law_is_flagged_and_still_inside():
    assert srm1.validity(45.0, RoadType.GENERAL).is_inside
    assert srm1.validity(10.0, RoadType.GENERAL, 1.25).is_inside
    assert not srm1.validity(4.0, RoadType.GENERAL).is_inside
    assert not srm1.validity(61.0, RoadType.GENERAL).is_inside


def test_a_street_that_is_no_street_of_srm1_is_flagged():
    assert srm1.validity(10.0, RoadType.GENERAL, 1.1) == Validity.TREE_FACTOR
    assert srm1.validity(10.0, RoadType.GENERAL, is_level=False) == Validity.UNEVEN
    assert srm1.validity(10.0, RoadType.GENERAL, has_barrier=True) == Validity.BARRIER


@pytest.mark.parametrize("distance", [-1.0, math.nan])
def test_a_distance_that_cannot_be_has_no_validity(distance):
    with pytest.raises(Srm1Error, match=r"^distance_m: got"):
        srm1.validity(distance, RoadType.GENERAL)
