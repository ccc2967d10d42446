from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cities.pack import City, CityError, load_city
from kernels.air_columns import road_columns
from kernels.air_fields import AirAccumulators
from kernels.srm2 import SigmaZRule, bounding_winds
from studies.air_columns import prepare_air


@pytest.fixture
def city(toy_folder) -> City:
    return load_city(toy_folder)


def _with(city, **tables):
    return dataclasses.replace(city, settings={**city.settings, **tables})


def _arrays(value):
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        if dataclasses.is_dataclass(inner):
            yield from _arrays(inner)
        elif isinstance(inner, tuple) and inner and dataclasses.is_dataclass(inner[0]):
            for part in inner:
                yield from _arrays(part)
        else:
            yield field.name, inner


def test_a_second_call_gives_the_same_columns_from_the_cache(city):
    steps = []
    first = prepare_air(city, lambda what, share: steps.append((what, share)))
    shares = [share for _, share in steps]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    steps.clear()
    second = prepare_air(city, lambda what, share: steps.append((what, share)))
    assert steps == [("air columns", 1.0)]
    for (name, one), (_, two) in zip(_arrays(first), _arrays(second), strict=True):
        np.testing.assert_array_equal(one, two, err_msg=name)


def test_streets_and_roads_part_by_the_class_of_the_pack(city):
    columns = prepare_air(city, lambda *_: None)
    is_motor = np.zeros(city.network.n_segments, dtype=np.bool_)
    is_motor[city.car_edges.segment] = True
    is_road = is_motor & (city.class_values("srm") == "srm2")
    np.testing.assert_array_equal(columns.road_segment, np.flatnonzero(is_road))
    has_street = columns.streets.size(np.arange(columns.n_segments)) > 0
    assert not (has_street & ~is_motor).any()
    assert not (has_street & is_road).any()
    assert has_street.any()


def test_another_mean_wind_or_roughness_gives_other_columns(city):
    first = prepare_air(city, lambda *_: None)
    windier = prepare_air(
        _with(city, background={**city.settings["background"], "mean_wind_m_s": 9.0}), lambda *_: None
    )
    rural = prepare_air(_with(city, air={"roughness_m": 0.1}), lambda *_: None)
    assert windier.mean_wind_m_s == 9.0
    assert (first.roughness, rural.roughness) == (3, 1)
    assert not np.array_equal(first.fit, rural.fit)


def test_the_rule_of_sigma_z_is_a_switch_of_the_pack(city):
    first = prepare_air(city, lambda *_: None)
    other = prepare_air(_with(city, air={"sigma_z_rule": "quadrature"}), lambda *_: None)
    assert (first.rule, other.rule) == (SigmaZRule.ADD, SigmaZRule.QUADRATURE)
    assert not np.array_equal(first.fit, other.fit)
    with pytest.raises(CityError, match=r"\[air\] sigma_z_rule: got 'sum', expected one of add, virtual"):
        prepare_air(_with(city, air={"sigma_z_rule": "sum"}), lambda *_: None)


def test_nothing_overflows_at_the_limit(city):
    columns = prepare_air(city, lambda *_: None)
    accumulators = AirAccumulators(columns)
    n = columns.n_segments
    roads = road_columns(columns, bounding_winds())
    accumulators.add(roads, np.arange(n), np.full((n, 4), columns.emission_limit))
    for part in (accumulators.street, accumulators.near, *accumulators.far):
        assert part.min() >= 0


@pytest.mark.parametrize("value", [None, 0.0, -2.0, "calm"])
def test_a_missing_or_impossible_mean_wind_is_named(city, value):
    background = {**city.settings["background"], "mean_wind_m_s": value}
    with pytest.raises(CityError, match=r"\[background\] mean_wind_m_s: got"):
        prepare_air(_with(city, background=background), lambda *_: None)
