"""Numbers of [noise]: one range for the control room, for studies and for the doctor."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cities.noise_settings import NUMBERS, favourable_shares, noise_number
from cities.pack import CityError, load_city
from studies.doctor import examine
from studies.noise_transfers import transfer_table
from studies.screened_noise import read_setting
from studies.study_settings import StudyOptions, study_settings


@pytest.mark.parametrize("key", NUMBERS)
def test_the_ends_of_a_range_belong_to_it_and_what_is_beyond_does_not(key: str) -> None:
    number = NUMBERS[key]
    for end in (number.least, number.most):
        assert noise_number({key: end}, key) == end
    beyond: list[object] = [number.least - 0.1, number.most + 0.1, float("nan"), True, "far", [0.5]]
    for value in beyond:
        with pytest.raises(CityError, match=rf"\[noise\] {key}: got {re.escape(repr(value))}, expected "):
            noise_number({key: value}, key)


def test_what_is_missing_has_its_default() -> None:
    assert noise_number({}, "max_distance_m") == 800.0
    assert favourable_shares({}, 3) == (0.5, 0.5, 0.5)
    assert favourable_shares({"p_favourable": [0.0, 1.0, 0.3]}, 3) == (0.0, 1.0, 0.3)


def test_the_message_says_what_would_fit() -> None:
    with pytest.raises(CityError, match=r"reflections: got 0.5, expected 0 or 1"):
        noise_number({"reflections": 0.5}, "reflections")
    with pytest.raises(CityError, match=r"p_favourable: got 2.0, expected 0 to 1"):
        favourable_shares({"p_favourable": [0.5, 2.0]}, 2)
    with pytest.raises(CityError, match=r"p_favourable: got 1 values, expected one or 2"):
        favourable_shares({"p_favourable": [0.5]}, 2)


@pytest.mark.parametrize("value", [50.0, 2000.0])
def test_a_distance_is_the_same_live_and_in_a_study(toy_folder: Path, value: float) -> None:
    city = load_city(_with(toy_folder, f"max_distance_m = {value}"))
    assert read_setting(city).max_distance_m == study_settings(city, StudyOptions()).distance_m == value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("max_distance_m = 30.0", "max_distance_m: got 30.0, expected 50 to 2000"),
        ("max_distance_m = 2500.0", "max_distance_m: got 2500.0, expected 50 to 2000"),
        ("humidity_percent = 0.0", "humidity_percent: got 0.0, expected 1 to 100"),
    ],
)
def test_a_city_of_open_ground_refuses_them_too(toy_folder: Path, text: str, told: str) -> None:
    city = load_city(_with(toy_folder, text))
    for read in (transfer_table, lambda city: study_settings(city, StudyOptions())):
        with pytest.raises(CityError, match=told):
            read(city)
    found = next(f for f in examine(str(toy_folder), 0) if f.subject == "noise")
    assert not found.is_well
    assert told in found.text


def test_a_height_out_of_range_names_its_own_table(toy_folder: Path) -> None:
    file = toy_folder / "city.toml"
    file.write_text(file.read_text().replace("[receptors]", "[receptors]\nheight_noise_m = 0.1"))
    with pytest.raises(CityError, match=r"\[receptors\] height_noise_m: got 0.1, expected 0.5 to 200"):
        read_setting(load_city(toy_folder))


def _with(folder: Path, text: str) -> Path:
    file = folder / "city.toml"
    file.write_text(file.read_text().replace("[noise]", f"[noise]\n{text}"))
    return folder
