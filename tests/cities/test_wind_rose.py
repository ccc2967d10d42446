"""The wind of an average year: read, filled in, refused by field."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cities.pack import BUNDLED, City, CityError, load_city
from cities.wind_rose import annual_wind

SHARES = [0.05, 0.06, 0.08, 0.06, 0.05, 0.06, 0.10, 0.15, 0.16, 0.11, 0.07, 0.05]
WINDS = [2.0, 2.1, 2.2, 2.3, 2.4, 2.5, 3.5, 4.0, 4.1, 3.6, 3.0, 2.5]


@pytest.fixture
def city(toy_folder: Path) -> City:
    return load_city(toy_folder)


def with_rose(city: City, rose: Any) -> City:
    return replace(city, settings={**city.settings, "air": {"wind_rose": rose}})


def test_without_a_rose_all_directions_are_alike_and_it_says_so(city: City) -> None:
    wind = annual_wind(city)
    assert wind.mean_m_s == 3.0
    assert wind.source.startswith("assumed")
    assert np.allclose(wind.rose.frequency, 1 / 12)
    assert np.allclose(wind.rose.wind_m_s, 3.0)


def test_a_rose_is_taken_with_its_source_and_start(city: City) -> None:
    given = {"frequency": SHARES, "wind_m_s": WINDS, "start_deg": 0, "source": "measured"}
    wind = annual_wind(with_rose(city, given))
    assert wind.source == "measured"
    assert wind.rose.start_deg == 0.0
    assert np.allclose(wind.rose.frequency, SHARES)
    assert np.allclose(wind.rose.wind_m_s, WINDS)


def test_a_rose_without_a_source_counts_as_assumed(city: City) -> None:
    wind = annual_wind(with_rose(city, {"frequency": SHARES, "wind_m_s": WINDS}))
    assert wind.source.startswith("assumed")
    assert wind.rose.start_deg == -15.0


def test_rounded_shares_are_evened_out(city: City) -> None:
    wind = annual_wind(with_rose(city, {"frequency": [0.083] * 12, "wind_m_s": WINDS}))
    assert wind.rose.frequency.sum() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"frequency": SHARES[:11]}, "frequency: got .*expected 12 numbers"),
        ({"frequency": None}, "frequency: got None, expected 12 numbers"),
        ({"frequency": [*SHARES[:11], "calm"]}, "frequency: got .*expected 12 numbers"),
        ({"frequency": [0.1] * 12}, r"frequency: got a sum of 1\.2, expected 1"),
        ({"frequency": [-0.05, 0.16, *SHARES[2:]]}, r"frequency: got -0\.05, expected shares of at least 0"),
        ({"wind_m_s": [*WINDS[:11], 0.0]}, r"wind_m_s\[11\]: got 0\.0, expected a wind above 0"),
        ({"wind_m_s": [*WINDS[:11], float("nan")]}, "wind_m_s: got .*expected 12 numbers"),
        ({"start_deg": 10}, r"start_deg: got 10\.0, expected one of"),
        ({"start_deg": "north"}, "start_deg: got north, expected one of"),
        ({"source": 3}, "source: got 3, expected a text"),
        ({"speed": WINDS}, "speed: is not known, expected one of"),
    ],
)
def test_what_does_not_fit_is_refused_by_field(city: City, change: dict[str, Any], told: str) -> None:
    rose = {"frequency": SHARES, "wind_m_s": WINDS} | change
    with pytest.raises(CityError, match=rf"city\.toml: \[air\.wind_rose\] {told}"):
        annual_wind(with_rose(city, rose))


def test_a_rose_that_is_no_table_and_a_missing_mean_wind_are_refused(city: City) -> None:
    with pytest.raises(CityError, match=r"\[air\.wind_rose\]: got 3, expected a table"):
        annual_wind(with_rose(city, 3))
    with pytest.raises(CityError, match=r"\[background\] mean_wind_m_s: got None"):
        annual_wind(replace(city, settings={}))


def test_ghents_rose_is_marked_assumed_and_agrees_with_its_annual_mean() -> None:
    wind = annual_wind(load_city(BUNDLED / "ghent"))
    assert wind.source.startswith("assumed")
    assert wind.rose.frequency @ wind.rose.wind_m_s == pytest.approx(wind.mean_m_s, abs=0.01)
