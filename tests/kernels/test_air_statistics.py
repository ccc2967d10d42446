from __future__ import annotations

import itertools
import math

import pytest

from kernels import air_statistics as statistics
from kernels.air_statistics import StatisticsError


@pytest.mark.parametrize(
    ("annual", "days"),
    # 4.6128 C - 108.92 above 31.2, 0.13401 (C - 31.2)^2 + 3.9427 (C - 31.2) + 35 from 16, 6 below
    [
        (40.0, 75.592),
        (31.3, 35.46064),
        (31.2, 35.0),
        (25.0, 15.7066044),
        (16.0, 6.0326304),
        (15.9, 6.0),
        (0.0, 6.0),
    ],
)
def test_days_of_pm10_follow_the_three_branches(annual, days):
    assert statistics.pm10_days_above_limit(annual) == pytest.approx(days, rel=1e-6)


def test_the_branches_of_pm10_meet_within_a_tenth_of_a_day():
    values = [statistics.pm10_days_above_limit(c / 100) for c in range(6000)]
    # the parabola of the regulation has its lowest point at 16.5, not at its end at 16
    assert all(-0.002 < b - a < 0.1 for a, b in itertools.pairwise(values))
    assert all(b >= a for a, b in itertools.pairwise(values[1650:]))


def test_the_limit_of_35_days_is_the_annual_mean_of_31_2():
    assert statistics.pm10_days_above_limit(31.2) <= 35.0 < statistics.pm10_days_above_limit(31.25)


def test_traffic_adds_days_in_proportion():
    assert statistics.pm10_days_of_traffic(2.0) == pytest.approx(9.2256)
    assert statistics.pm10_days_of_traffic(0.0) == 0.0


def test_highest_hours_of_no2():
    assert statistics.no2_highest_hour(40.0, 1) == pytest.approx(45.1 + 2.88 * 40)
    assert statistics.no2_highest_hour(40.0, 19) == pytest.approx(37.3 + 1.98 * 40)
    hours = [statistics.no2_highest_hour(40.0, rank) for rank in range(1, 20)]
    assert hours == sorted(hours, reverse=True)


def test_the_19th_hour_is_above_200_beyond_an_annual_mean_of_82_2():
    assert statistics.no2_hours_above_limit(82.1) == 18
    assert statistics.no2_hours_above_limit(82.2) == 19
    assert statistics.no2_hours_above_limit(50.0) == 0
    counts = [statistics.no2_hours_above_limit(float(c)) for c in range(40, 100)]
    assert counts == sorted(counts)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: statistics.pm10_days_above_limit(-1.0), "annual_pm10"),
        (lambda: statistics.pm10_days_above_limit(math.nan), "annual_pm10"),
        (lambda: statistics.pm10_days_of_traffic(-0.1), "pm10_contribution"),
        (lambda: statistics.no2_highest_hour(math.inf, 1), "annual_no2"),
        (lambda: statistics.no2_highest_hour(40.0, 0), "rank"),
        (lambda: statistics.no2_highest_hour(40.0, 20), "rank"),
        (lambda: statistics.no2_hours_above_limit(-1.0), "annual_no2"),
    ],
)
def test_an_input_outside_the_range_is_refused_by_name(call, field):
    with pytest.raises(StatisticsError, match=f"^{field}: got .*, expected"):
        call()
