from __future__ import annotations

import numpy as np
import pytest
import shapely

from kernels.canyon import StreetSides, road_types, street_sides
from kernels.obstacles import index_obstacles
from kernels.srm1 import RoadType

ORIGIN, SHAPE = (1000.0, 2000.0), (40, 60)  # 600 m by 400 m


def _obstacles(polygons, heights, ground=None):
    edges, owner = [], []
    for k, polygon in enumerate(polygons):
        ring = np.array(shapely.geometry.polygon.orient(polygon).exterior.coords)
        edges.append(np.hstack([ring[:-1], ring[1:]]))
        owner += [k] * (len(ring) - 1)
    edge = np.concatenate(edges) if edges else np.empty((0, 4))
    return index_obstacles(
        ORIGIN, SHAPE, edge, np.array(owner, dtype=np.int32), np.array(heights, dtype=float), len(polygons), 0.0,
        ground,
    )  # fmt: skip


def _row(y0, depth, *, from_x=1050.0, to_x=1450.0):
    return shapely.box(from_x, min(y0, y0 + depth), to_x, max(y0, y0 + depth))


STREET = np.array([[1100.0, 2200.0], [1250.0, 2200.0], [1400.0, 2200.0]])


def _sides(polygons, heights, line=STREET, ground=None):
    return street_sides(_obstacles(polygons, heights, ground), line, np.array([0, len(line)]))


def test_facades_are_found_on_the_side_where_they_stand():
    sides = _sides([_row(2212.0, 10.0), _row(2170.0, -10.0)], [9.0, 21.0])
    np.testing.assert_allclose(sides.share, [[1.0, 1.0]])
    np.testing.assert_allclose(sides.distance_m, [[12.0, 30.0]], atol=1e-3)  # going east, north is left
    np.testing.assert_allclose(sides.height_m, [[9.0, 21.0]])
    back = _sides([_row(2212.0, 10.0), _row(2170.0, -10.0)], [9.0, 21.0], STREET[::-1])
    np.testing.assert_allclose(back.distance_m, sides.distance_m[:, ::-1], atol=1e-3)


@pytest.mark.parametrize(
    ("left_m", "right_m", "height_m", "expected"),
    [
        (10.0, 10.0, 8.0, RoadType.NARROW_CANYON),  # 10 / 8 < 1.5
        (15.0, 15.0, 8.0, RoadType.BROAD_CANYON),  # 15 / 8 < 3
        (26.0, 26.0, 8.0, RoadType.GENERAL),  # 26 / 8 > 3
        (10.0, 40.0, 8.0, RoadType.ONE_SIDED),
        (10.0, None, 8.0, RoadType.ONE_SIDED),
        (None, 70.0, 30.0, RoadType.GENERAL),  # beyond 60 m
        (None, None, 8.0, RoadType.GENERAL),
    ],
)
def test_road_types_follow_the_regulation(left_m, right_m, height_m, expected):
    rows = [_row(2200.0 + left_m, 10.0)] if left_m else []
    rows += [_row(2200.0 - right_m, -10.0)] if right_m else []
    assert road_types(_sides(rows, [height_m] * len(rows))).tolist() == [expected]


def test_a_few_houses_are_no_continuous_front():
    some = [_row(2210.0, 10.0, from_x=x, to_x=x + 10.0) for x in (1110.0, 1190.0, 1290.0)]
    sides = _sides(some, [12.0] * 3)
    assert 0.0 < sides.share[0, 0] < 0.5
    assert road_types(sides).tolist() == [RoadType.GENERAL]


def test_heights_count_from_the_street():
    ground = np.full((SHAPE[0] + 1, SHAPE[1] + 1), 50.0, dtype=np.float32)
    sides = _sides([_row(2212.0, 10.0)], [62.0], ground=ground)
    assert sides.height_m[0, 0] == pytest.approx(12.0)


def test_distances_agree_with_shapely_for_houses_anywhere():
    rng = np.random.default_rng(5)
    houses = []
    for x, y, w, h, a in zip(
        rng.uniform(1050, 1550, 40), rng.uniform(2050, 2350, 40), rng.uniform(5, 40, 40), rng.uniform(5, 40, 40),
        rng.uniform(0, 90, 40), strict=True,
    ):  # fmt: skip
        houses.append(shapely.affinity.rotate(shapely.box(x - w / 2, y - h / 2, x + w / 2, y + h / 2), a))
    walls = shapely.unary_union([h.boundary for h in houses])
    lines = rng.uniform([1100, 2100], [1500, 2300], (30, 2))
    for start in lines:
        angle = rng.uniform(0, 2 * np.pi)
        way = 8.0 * np.array([np.cos(angle), np.sin(angle)])  # one sample: a look from its middle
        line = np.array([start, start + way])
        middle = line.mean(axis=0)
        sides = street_sides(_obstacles(houses, [10.0] * 40), line, np.array([0, 2]))
        for side, turn in ((0, 1.0), (1, -1.0)):
            out = middle + turn * 60.0 * np.array([-way[1], way[0]]) / 8.0
            inner = middle + turn * 1.0 * np.array([-way[1], way[0]]) / 8.0
            hits = shapely.intersection(shapely.LineString([inner, out]), walls)
            expected = np.nan if hits.is_empty else shapely.distance(shapely.Point(middle), hits)
            np.testing.assert_allclose(sides.distance_m[0, side], expected, atol=2e-3)


def test_a_segment_without_length_sees_nothing():
    sides = street_sides(
        _obstacles([_row(2212.0, 10.0)], [9.0]), np.array([[1200.0, 2200.0]] * 2), np.array([0, 2])
    )
    assert isinstance(sides, StreetSides)
    assert sides.share.tolist() == [[0.0, 0.0]]
    assert road_types(sides).tolist() == [RoadType.GENERAL]
