"""Receptors in front of facades: where they stand, the most exposed one, and dwellings along them."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from kernels.facades import INTERVAL_M, OFFSET_M, dwellings_at_points, facade_points, most_exposed


def rectangle(x: float, y: float, width: float, height: float) -> np.ndarray:
    return np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)])


def around(*rings: np.ndarray, building: list[int] | None = None):
    numbers = list(range(len(rings))) if building is None else building
    return facade_points(rings, np.array(numbers, dtype=np.int32))


def test_long_facades_are_cut_into_equal_parts_of_at_most_5_m_and_short_ones_have_one():
    """12 x 4 m: three parts of 4 m on the long sides, one on the others."""
    points = around(rectangle(0.0, 0.0, 12.0, 4.0))
    expected = {(2, -0.1), (6, -0.1), (10, -0.1), (12.1, 2), (10, 4.1), (6, 4.1), (2, 4.1), (-0.1, 2)}
    assert {(round(x, 6), round(y, 6)) for x, y in points.xy} == expected
    assert points.facade_m.tolist() == [4.0] * 8
    assert points.building.tolist() == [0] * 8
    assert points.n_hidden == 0


def test_a_facade_of_5_m_has_one_receptor_and_one_of_a_little_more_has_two():
    assert around(rectangle(0, 0, 5.0, 5.0)).facade_m.tolist() == [5.0] * 4
    assert sorted(around(rectangle(0, 0, 5.1, 5.0)).facade_m.tolist()) == [2.55] * 4 + [5.0] * 2


def test_short_facades_beside_each_other_are_taken_together():
    """A tower of 48 sides: a circumference of 31.39 m is cut into 7 parts of 4.48 m."""
    turn = 2.0 * np.pi * np.arange(48) / 48
    tower = 5.0 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    points = around(tower)
    perimeter = shapely.Polygon(tower).length
    np.testing.assert_allclose(points.facade_m, perimeter / 7, rtol=1e-12)
    assert (np.hypot(*points.xy.T) > 5.0 * np.cos(np.pi / 48)).all()


def test_a_row_of_short_facades_may_pass_the_first_corner():
    """A bay of sides of 2 to 2.4 m, of which the ring begins in the middle."""
    house = np.array(
        [(3.9, -2.0), (3.9, 0.0), (10, 0.0), (10, 8.0), (0.0, 8.0), (0.0, 0.0), (1.5, 0.0), (1.5, -2.0)]
    )
    points = around(np.roll(house, -1, axis=0))
    again = around(house)
    assert sorted(map(tuple, points.xy.round(6))) == sorted(map(tuple, again.xy.round(6)))
    bay = points.xy[points.xy[:, 1] < -0.05]
    assert (bay[:, 0] > 2.0).any()
    assert points.facade_m.sum() == pytest.approx(shapely.Polygon(house).length)


def test_a_shed_with_only_short_facades_has_one_receptor():
    points = around(rectangle(0.0, 0.0, 1.2, 1.0))
    assert points.xy.tolist() == [[0.6, pytest.approx(-0.1)]]
    assert points.facade_m.tolist() == [1.2]


@pytest.mark.parametrize("is_reversed", [False, True])
def test_receptors_of_a_courtyard_stand_in_it(is_reversed):
    outline, court = rectangle(0, 0, 30, 30), rectangle(10, 10, 10, 10)
    rings = [ring[::-1] if is_reversed else ring for ring in (court, np.vstack([outline, outline[:1]]))]
    points = around(*rings, building=[0, 0])
    block = shapely.Polygon(outline, [court])
    where = shapely.points(points.xy)
    assert not shapely.contains(block, where).any()
    np.testing.assert_allclose(shapely.distance(block, where), OFFSET_M, atol=1e-9)
    assert (shapely.distance(shapely.Polygon(court), where) == 0.0).sum() == 8
    assert points.xy.shape[0] == 4 * 6 + 8


def test_every_place_of_random_buildings_is_near_a_receptor_in_front_of_it():
    rng = np.random.default_rng(1)
    for _ in range(20):
        n = rng.integers(3, 12)
        turn = np.sort(rng.uniform(0.0, 2.0 * np.pi, n))
        if np.diff(turn, append=turn[0] + 2 * np.pi).max() > 3.0 or np.diff(turn).min() < 0.05:
            continue
        ring = rng.uniform(8.0, 25.0, (n, 1)) * np.stack([np.cos(turn), np.sin(turn)], axis=1)
        points, house = around(ring), shapely.Polygon(ring)
        where = shapely.points(points.xy)
        assert not shapely.contains(house, where).any()
        assert (shapely.distance(house, where) <= OFFSET_M + 1e-9).all()
        assert (points.facade_m <= INTERVAL_M + 1e-9).all()
        along = shapely.line_interpolate_point(house.exterior, np.arange(0.0, house.length, 0.5))
        gap = shapely.distance(along[:, None], where[None, :]).min(axis=1)
        assert gap.max() < 2 * INTERVAL_M


def test_walls_between_two_houses_have_no_receptor():
    points = around(rectangle(0, 0, 6, 10), rectangle(6, 0, 6, 10), rectangle(200, 0, 6, 10))
    assert points.n_hidden == 4  # two on each side of the wall
    assert points.building.tolist() == [0] * 6 + [1] * 6 + [2] * 8
    assert not (np.abs(points.xy[:, 0] - 6.0) < 0.2).any()


def test_the_most_exposed_facade_is_the_loudest_receptor_of_each_building():
    building = np.array([0, 0, 0, 2, 2, 3], dtype=np.int32)
    level = np.array([51.0, 58.0, 58.0, np.nan, 40.0, np.nan])
    highest, point = most_exposed(level, building, 4)
    np.testing.assert_array_equal(highest, [58.0, np.nan, 40.0, np.nan])
    assert point.tolist() == [1, -1, 4, -1]


def test_dwellings_are_at_the_upper_half_of_the_receptors():
    """Even: 4 of 4 levels, the upper two. Odd: the quietest of 5 is left out, the upper two of the others."""
    building = np.array([0] * 4 + [1] * 5 + [2], dtype=np.int32)
    level = np.array([50.0, 62.0, 48.0, 61.0, 40.0, 55.0, 45.0, 60.0, 50.0, 30.0])
    got = dwellings_at_points(level, building, np.array([10.0, 8.0, 3.0]))
    assert got.tolist() == [0, 5, 0, 5, 0, 4, 0, 4, 0, 3]


def test_receptors_as_loud_as_the_median_share_and_silent_ones_are_the_quietest():
    building = np.zeros(4, dtype=np.int32)
    share = dwellings_at_points(np.full(4, 55.0), building, np.array([8.0]))
    assert share.tolist() == [2.0] * 4
    share = dwellings_at_points(np.array([np.nan, 55.0, np.nan, 50.0]), building, np.array([8.0]))
    assert share.tolist() == [0.0, 4.0, 0.0, 4.0]
    share = dwellings_at_points(np.full(3, np.nan), building[:3], np.array([8.0]))
    assert share.sum() == 8.0


def test_no_dwelling_is_lost_or_made_and_none_is_below_the_median():
    rng = np.random.default_rng(2)
    building = np.sort(rng.integers(0, 30, 200)).astype(np.int32)
    level, dwellings = rng.uniform(40.0, 70.0, 200), rng.uniform(0.0, 50.0, 30)
    shuffle = rng.permutation(200)
    got = dwellings_at_points(level[shuffle], building[shuffle], dwellings)
    has = np.unique(building)
    np.testing.assert_allclose(np.bincount(building[shuffle], weights=got, minlength=30)[has], dwellings[has])
    for b in has:
        median = np.median(level[building == b])
        assert (level[shuffle][(building[shuffle] == b) & (got > 0.0)] >= median).all()


@pytest.mark.parametrize(
    "ring",
    [
        [(0, 0), (1, 1)],
        [(0, 0), (1, 1), (2, 2)],
        [(0, 0), (1, np.nan), (2, 2)],
        [(0, 0), (0, 0), (5, 5), (0, 0)],
    ],
)
def test_an_outline_without_an_area_is_refused_with_its_building(ring):
    with pytest.raises(ValueError, match=r"building 7: outline: "):
        around(rectangle(0, 0, 5, 5), np.array(ring, dtype=float), building=[3, 7])


def test_without_buildings_there_are_no_receptors():
    points = facade_points([], np.empty(0, dtype=np.int32))
    assert points.xy.shape == (0, 2)
    assert points.building.size == points.n_hidden == 0
