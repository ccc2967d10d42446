"""The stressed truth: off by what it says, on the same streets."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from studies.truth import make_truth
from studies.truth_demand import LAND_USE_LOG_SD, PURPOSE_TRIPS, Zones, make_zones, purpose_matrices
from studies.truth_morning import Morning, read_morning
from studies.truth_network import Streets, bicycle_edges, car_edges, read_streets
from studies.truth_stress import STRESSED_LAND_USE_LOG_SD, draw_stress
from tests.studies.truth_toy import write_town


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> tuple[Morning, Streets]:
    folder = write_town(tmp_path_factory.mktemp("town"))
    morning = read_morning(folder)
    return morning, read_streets(folder / "network.geojson", morning.crs)


def test_every_class_is_a_quarter_faster_or_slower(town: tuple[Morning, Streets]) -> None:
    morning, streets = town
    stress = draw_stress(morning.seed)
    for factor in (stress.speed, stress.bicycle_felt):
        np.testing.assert_allclose(np.abs(np.log(factor)), np.log(1.25))
        assert 4 <= (factor > 1).sum() <= 7
    plain, off = car_edges(streets, morning.seed), car_edges(streets, morning.seed, stress.speed)
    ratio = (plain.free_time_s - plain.wait_s) / (off.free_time_s - off.wait_s)
    np.testing.assert_allclose(ratio, stress.speed[plain.road_class])
    np.testing.assert_array_equal(plain.wait_s, off.wait_s)
    cycled, off = bicycle_edges(streets, 1), bicycle_edges(streets, 1, None, stress.bicycle_felt)
    np.testing.assert_allclose(off.free_time_s / cycled.free_time_s, stress.bicycle_felt[cycled.road_class])


def test_trips_have_other_lengths_by_purpose() -> None:
    stress = draw_stress(3)
    assert set(stress.trip_length) == {p for p in PURPOSE_TRIPS if "through" not in p} | {"bicycle"}
    lengths = sorted(stress.trip_length.values())
    assert lengths[0] == pytest.approx(0.6)
    assert lengths[-1] == pytest.approx(1.6)
    assert len(set(lengths)) == len(lengths)


def mean_length_m(zones: Zones, trips: NDArray[np.float64]) -> float:
    distance = np.hypot(*(zones.xy[:, None] - zones.xy[None]).T).T
    return float((trips * distance).sum() / trips.sum())


def test_longer_trips_are_fewer(town: tuple[Morning, Streets]) -> None:
    morning, streets = town
    zones = make_zones(streets, car_edges(streets, morning.seed), morning.seed, morning.n_zones)
    usual = purpose_matrices(zones, 10.0, morning.seed)
    other = purpose_matrices(zones, 10.0, morning.seed, {"work": 1.6, "school": 0.6})
    assert mean_length_m(zones, other["work"]) > mean_length_m(zones, usual["work"])
    assert mean_length_m(zones, other["school"]) < mean_length_m(zones, usual["school"])
    assert other["work"].sum() == pytest.approx(usual["work"].sum() / 1.6)
    np.testing.assert_array_equal(other["in"], usual["in"])


def test_land_use_varies_more(town: tuple[Morning, Streets]) -> None:
    morning, streets = town
    edges = car_edges(streets, morning.seed)
    usual = make_zones(streets, edges, morning.seed, morning.n_zones)
    other = make_zones(streets, edges, morning.seed, morning.n_zones, STRESSED_LAND_USE_LOG_SD)
    inner = usual.homes > 0
    for name, k in (("homes", 0), ("jobs", 1)):
        even = make_zones(streets, edges, morning.seed, morning.n_zones, (0.0, 0.0))
        luck = [np.log(getattr(z, name)[inner] / getattr(even, name)[inner]) for z in (usual, other)]
        np.testing.assert_allclose(luck[1], luck[0] * STRESSED_LAND_USE_LOG_SD[k] / LAND_USE_LOG_SD[k])
    assert STRESSED_LAND_USE_LOG_SD[0] == 0.8


def test_a_stressed_morning_is_another_one_on_the_same_streets(town: tuple[Morning, Streets]) -> None:
    morning, streets = town
    usual = make_truth(morning.with_closure(None), streets, report=lambda _: None)
    stressed = make_truth(morning.with_closure(None).stressed(), streets, report=lambda _: None)
    np.testing.assert_array_equal(usual.car_edges.segment, stressed.car_edges.segment)
    for mode in ("car", "truck", "bicycle"):
        assert not np.allclose(usual.flow[mode], stressed.flow[mode], rtol=0.05)
    again = make_truth(morning.with_closure(None).stressed(), streets, report=lambda _: None)
    np.testing.assert_array_equal(again.car, stressed.car)
    np.testing.assert_array_equal(again.bicycle, stressed.bicycle)
