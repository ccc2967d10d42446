from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from agents.emission import EmissionAgent
from cities.pack import CityError, load_city
from cities.road_noise import coefficients_of
from kernels.cnossos_coefficients import EU_2015, EU_2021, NL_NATIONAL
from kernels.gate import GateBound
from studies.noise_transfers import capacity_power_db


def _with(city, **noise):
    return dataclasses.replace(city, settings={**city.settings, "noise": {**city.settings["noise"], **noise}})


def test_the_directive_in_force_is_the_default_and_others_can_be_chosen(toy_folder):
    city = load_city(toy_folder)
    assert coefficients_of(city) is EU_2021
    assert coefficients_of(_with(city, coefficients="2015")) is EU_2015
    assert coefficients_of(_with(city, coefficients="nl")) is NL_NATIONAL


def test_the_coefficients_of_2015_are_two_to_four_decibels_quieter(toy_folder):
    city = load_city(toy_folder)
    power = [capacity_power_db(c) for c in (city, _with(city, coefficients="2015"))]
    some = np.isfinite(power[0])
    assert some.any()
    assert ((power[0] - power[1])[some] > 2.0).all()
    assert ((power[0] - power[1])[some] < 4.0).all()


def test_the_live_agent_goes_by_the_city(toy_folder):
    city = load_city(toy_folder)
    bound = GateBound.empty(city.network.n_segments)
    assert EmissionAgent(_with(city, coefficients="nl"), bound)._coefficients is NL_NATIONAL


def test_an_unknown_set_is_named(toy_folder):
    with pytest.raises(
        CityError, match=r"\[noise\] coefficients: got '1999', expected one of 2021, 2015, nl"
    ):
        coefficients_of(_with(load_city(toy_folder), coefficients="1999"))


def test_a_surface_that_the_set_does_not_have_is_named(toy_folder):
    city = load_city(toy_folder)
    strange = dataclasses.replace(city, surface=("MUD", *city.surface[1:]))
    with pytest.raises(CityError, match="surface: got 'MUD', expected one of"):
        coefficients_of(strange)
