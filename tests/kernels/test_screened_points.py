"""Transfers to facades against the study's levels at points, which hears each stretch of road by itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from kernels import point_levels
from kernels.cnossos import BAND_GROUPS
from kernels.facade_reflection import index_faces
from kernels.facades import HEIGHT_M, OWN_FACADE_M, facade_points
from kernels.network import build_network
from kernels.propagation import Atmosphere, air_absorption_db_per_km
from kernels.road_clusters import cluster_roads
from kernels.screened_transfer import air_over, screened_points
from kernels.transfer import NONE, reference_spectrum
from studies.noise_scene import HARD_FACE
from tests.kernels.test_cut_profile import Building, obstacles_of

AIR = Atmosphere()
ROADS = [np.array([[20.0, 100.0], [110.0, 100.0]]), np.array([[110.0, 100.0], [200.0, 104.0]])]
REACH_M = 250.0
# Two rows of houses along the street.
SOUTH = [(shapely.box(40.0 + 40.0 * k, 70.0, 66.0 + 40.0 * k, 86.0), 12.0) for k in range(3)]
NORTH = [(shapely.box(30.0 + 50.0 * k, 114.0, 70.0 + 50.0 * k, 128.0), 15.0) for k in range(3)]


def transfers(
    xy: NDArray[np.float64], buildings: Sequence[Building], *, own_facade_m: float, reflections: bool = True
) -> NDArray[np.float64]:
    """-10 lg of the transfer of each segment, finely heard, (n_segments, 4, n) [dB]."""
    network = build_network(ROADS)
    reach, power = np.full(len(ROADS), REACH_M), np.ones(len(ROADS))
    obstacles, clusters = obstacles_of(buildings), cluster_roads(network, reach, power)
    faces = index_faces(obstacles, clusters, 1.0 - np.array(HARD_FACE)) if reflections else None
    segment, codes, counts = screened_points(
        xy, obstacles, clusters, reach, air_over(900.0, AIR, HEIGHT_M), faces, power,
        own_facade_m=own_facade_m, coarsest=50.0, finest=50.0, prune=0.0,
    )  # fmt: skip
    assert counts[2] == 0
    assert segment.tolist() == [0, 1]
    assert (codes != NONE).all()
    return 0.5 * codes


def at_facades(buildings: Sequence[Building]) -> NDArray[np.float64]:
    rings = [shapely.get_coordinates(polygon.exterior) for polygon, _ in buildings]
    return facade_points(rings, np.arange(len(rings), dtype=np.int32)).xy


def test_a_facade_hears_what_the_study_calculates_there() -> None:
    """Thirteen receptors around two houses; the study knows neither groups nor codes nor clusters."""
    buildings = [*SOUTH, *NORTH]
    xy = np.concatenate([at_facades([SOUTH[1]])[::3], at_facades([NORTH[0]])[::4]])
    network, obstacles = build_network(ROADS), obstacles_of(buildings)
    found = point_levels.point_energies(
        xy, np.full(len(xy), HEIGHT_M), obstacles, point_levels.reflecting_faces(obstacles, HARD_FACE),
        point_levels.point_roads(
            network, np.arange(2), np.tile(reference_spectrum(), (2, 1, 1)), obstacles.origin
        ),
        air_absorption_db_per_km(AIR), np.full(16, 0.5), REACH_M + 100.0,
    )  # fmt: skip
    assert found.is_at_facade.all()
    assert found.n_lost == 0
    groups = np.stack([found.energy[:, 0, list(bands)].sum(axis=1) for bands in BAND_GROUPS])
    energy = (10.0 ** (-0.1 * transfers(xy, buildings, own_facade_m=OWN_FACADE_M))).sum(axis=0)
    difference = 10.0 * np.log10(energy / groups)
    assert np.abs(difference).max() < 1.0  # the one beside a house, which sees the last metres of a road
    assert np.quantile(np.abs(difference), 0.9) < 0.3  # two roads in steps of 0.5 dB
    assert abs(difference.mean()) < 0.15


def test_the_own_facade_adds_up_to_3_db_in_front_of_it_and_nothing_elsewhere() -> None:
    front = np.array([[92.0, 86.1]])  # before a house, towards the street
    open_place = np.array([[92.0, 60.0], [150.0, 140.0]])
    buildings = [SOUTH[1]]
    added = [
        transfers(xy, buildings, own_facade_m=OWN_FACADE_M) - transfers(xy, buildings, own_facade_m=0.0)
        for xy in (front, open_place)
    ]
    assert 2.0 <= added[0].mean() <= 3.0
    assert added[0].max() <= 3.5  # half a step more on either side
    assert added[0].min() >= 0.0
    np.testing.assert_array_equal(added[1], 0.0)


def test_without_other_houses_a_facade_without_its_own_hears_the_direct_sound_alone() -> None:
    xy = at_facades([SOUTH[1]])
    alone = transfers(xy, [SOUTH[1]], own_facade_m=OWN_FACADE_M)
    np.testing.assert_array_equal(alone, transfers(xy, [SOUTH[1]], own_facade_m=0.0, reflections=False))
    both_sides = transfers(xy, [SOUTH[1], *NORTH], own_facade_m=OWN_FACADE_M)
    gain = 10.0 * np.log10((10.0 ** (-0.1 * both_sides)).sum(axis=0) / (10.0 ** (-0.1 * alone)).sum(axis=0))
    is_front = xy[:, 1] > 86.0
    assert gain[:, is_front].mean() > 0.5  # the other side of the street still reflects


@pytest.mark.parametrize("own_facade_m", [0.0, OWN_FACADE_M])
def test_receptors_together_hear_what_they_hear_alone(own_facade_m: float) -> None:
    xy, buildings = at_facades([SOUTH[1]])[:6], [*SOUTH, *NORTH]
    together = transfers(xy, buildings, own_facade_m=own_facade_m)
    for k in range(len(xy)):
        np.testing.assert_array_equal(
            together[:, :, k : k + 1], transfers(xy[k : k + 1], buildings, own_facade_m=own_facade_m)
        )
