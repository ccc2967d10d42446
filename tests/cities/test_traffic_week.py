"""The week of a city: its own profiles, and what is assumed where it gives none."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from cities.pack import City, CityError, load_city
from cities.traffic_week import WEEKEND_SHARE, TrafficWeek
from kernels.network import Mode


@pytest.fixture
def city(toy_folder: Path) -> City:
    return load_city(toy_folder)


def moment(city: City, day: int, hour: int, minute: int = 0) -> int:
    """1 March 2024 was a Friday."""
    return int(datetime(2024, 3, day, hour, minute, tzinfo=ZoneInfo(city.timezone)).timestamp() * 1000)


def with_profile(city: City, profile: object) -> City:
    return dataclasses.replace(city, settings={**city.settings, "traffic": {"profile": profile}})


def mean_of_day(city: City, mode: Mode, day: int) -> float:
    week = TrafficWeek(city)
    return sum(week.scale(mode, moment(city, day, h, m)) for h in range(24) for m in range(0, 60, 5)) / 288


def test_a_weekday_averages_to_one_and_a_weekend_to_its_share(city: City) -> None:
    assert mean_of_day(city, Mode.TRUCK, 1) == pytest.approx(1.0, abs=0.01)
    assert mean_of_day(city, Mode.TRUCK, 2) == pytest.approx(WEEKEND_SHARE[Mode.TRUCK][0], abs=0.01)
    assert mean_of_day(city, Mode.TRUCK, 3) == pytest.approx(WEEKEND_SHARE[Mode.TRUCK][1], abs=0.01)


def test_a_citys_own_saturday_is_in_the_unit_of_its_weekday(city: City) -> None:
    own = with_profile(city, {"car": [2.0] * 24, "saturday": {"car": [1.0] * 24}})
    week = TrafficWeek(own)
    assert week.scale(Mode.CAR, moment(city, 1, 8)) == pytest.approx(1.0)
    assert week.scale(Mode.CAR, moment(city, 2, 8)) == pytest.approx(0.5)
    assert week.scale(Mode.CAR, moment(city, 4, 8)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ({"car": [1.0] * 23}, "weekday: car: .*24 shares"),
        ({"sunday": {"bicycle": [0.0] * 24}}, "sunday: bicycle: .*above zero"),
        ({"car": "flat"}, "weekday: car: got 'flat'"),
    ],
)
def test_a_wrong_profile_is_refused_by_day_and_mode(city: City, profile: object, message: str) -> None:
    with pytest.raises(CityError, match=message):
        TrafficWeek(with_profile(city, profile))
