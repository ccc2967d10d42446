from __future__ import annotations

import numpy as np
import pytest
import shapely

from kernels import air_columns, srm1
from kernels.air_bound import air_gate_bound, largest_sum
from kernels.air_fields import AirAccumulators, AirReader, Background, cubic_weights, stored_fields
from kernels.emission import EMISSION_MAX_QUANTA
from kernels.gate import air_bound, gate_bound
from kernels.receptors import ReceptorGrid
from kernels.srm2 import SIGMA_Z0_MOTORWAY_M, hourly_factor, plume_table, roughness_class

GRID = ReceptorGrid(x_min=0.0, y_min=0.0, step_m=10.0, n_columns=120, n_rows=90)
ROAD = np.array([[-400.0, 300.0], [500.0, 420.0], [1900.0, 430.0]])
TABLE = plume_table(5000.0, roughness_class(1.0), SIGMA_Z0_MOTORWAY_M)
STREET = np.array([[200.0, 105.0], [700.0, 105.0]])


def _columns(roads=(ROAD,), streets=(STREET,)):
    """Columns of streets (first segments) and roads (last segments)."""
    parts = [air_columns.street_column(GRID, line) for line in streets]
    near = [air_columns.near_cells(GRID, line) for line in roads]
    sizes = np.array([c.size for c, _ in parts] + [0] * len(roads))
    n_nodes = air_columns.far_grid(GRID).n_nodes
    far = np.array([air_columns.far_distances(GRID, line) for line in roads]).reshape(len(roads), n_nodes)
    far = far.astype(np.float32)
    n = len(streets) + len(roads)
    none = np.empty(0, dtype=np.int32)
    return air_columns.AirColumns(
        n_segments=n,
        grid=GRID,
        mean_wind_m_s=3.0,
        roughness_m=1.0,
        street_start=np.concatenate([[0], np.cumsum(sizes)]),
        street_cell=np.concatenate([none, *(c for c, _ in parts)]),
        street_coefficient=np.concatenate([none, *(v for _, v in parts)]),
        road_segment=np.arange(len(streets), n, dtype=np.int32),
        road_table=np.zeros(len(roads), dtype=np.int8),
        near_start=np.concatenate([[0], np.cumsum([c.size for c, _ in near])]).astype(np.int64),
        near_cell=np.concatenate([none, *(c for c, _ in near)]),
        near_distance_m=np.concatenate([np.empty(0, dtype=np.float32), *(d for _, d in near)]),
        far_distance_m=far,
        subsources=air_columns.subsources(list(roads)),
        plume_tables=TABLE[None],
        bound=gate_bound(none, none, np.empty(0), 1, n),
        emission_limit=EMISSION_MAX_QUANTA,
    )


def _contributions(columns, segment, wind=4.0, direction=200.0):
    """Field [ug/m3] of 1000 ug/m/s on one segment, all species alike."""
    accumulators = AirAccumulators(columns)
    change = np.full((1, 4), 1000 << 20)
    accumulators.add(air_columns.road_columns(columns, wind, direction), np.array([segment]), change)
    return AirReader(columns, Background(0.0, 0.0, 0.0, 0.0)).contributions(accumulators, wind)[..., 0]


def test_a_street_column_holds_theta_beside_the_street_and_nothing_beyond_sixty_metres():
    cell, coefficient = air_columns.street_column(GRID, STREET)
    row, column = np.divmod(cell, GRID.n_columns)
    middle = column == 45  # x = 455
    assert np.abs(GRID.y()[row] - 105.0).max() < 60.0
    for r, value in zip(row[middle], coefficient[middle], strict=True):
        theta = srm1.dilution(abs(float(GRID.y()[r]) - 105.0), srm1.RoadType.GENERAL)
        assert value / 2**30 == pytest.approx(theta, abs=1e-9)
    assert (np.diff(cell) > 0).all()


def test_a_street_outside_the_receptors_has_no_column():
    cell, coefficient = air_columns.street_column(GRID, STREET + 5000.0)
    assert cell.size == coefficient.size == 0
    assert air_columns.near_cells(GRID, ROAD + 9000.0)[0].size == 0


def test_distances_to_a_line_agree_with_shapely():
    rng = np.random.default_rng(3)
    x, y = rng.uniform(-500, 2000, (2, 300))
    expected = shapely.distance(shapely.points(x, y), shapely.LineString(ROAD))
    np.testing.assert_allclose(air_columns.distances_to_line(x, y, ROAD), expected, atol=1e-9)


def test_subsources_share_the_length_at_every_step():
    points = air_columns.subsources([ROAD])
    count = np.diff(points.start[0])
    length = points.length_m[0]
    np.testing.assert_array_equal(count, np.ceil(length / air_columns.SUBSOURCE_STEPS_M))
    assert air_columns.distances_to_line(*points.xy.T, ROAD).max() < 1e-6


def test_cutting_a_road_changes_the_field_by_less_than_half_a_percent_of_its_largest():
    whole = _columns(streets=())
    cut = _columns(roads=(ROAD[:2], ROAD[1:]), streets=())
    one = _contributions(whole, 0)
    two = _contributions(cut, 0) + _contributions(cut, 1)
    beside = np.ones(GRID.shape, dtype=np.bool_)
    beside.ravel()[whole.near_cell[whole.near_distance_m < 3.5]] = (
        False  # on the road 5 %: a metre apart is coarse
    )
    assert np.abs(one - two)[beside].max() < 5e-3 * one.max()


@pytest.mark.parametrize("direction", [10.0, 82.0, 172.0])
def test_blend_of_near_and_far_equals_one_field(direction, monkeypatch):
    """All receptors near (no far field) against the blend: what the coarse nodes and the cubic cost."""
    blended = _contributions(_columns(streets=()), 0, direction=direction)
    monkeypatch.setattr(air_columns, "NEAR_OUTER_M", 3000.0)
    every = _columns(streets=())
    assert every.near_cell.size == GRID.n_receptors
    roads = air_columns.RoadColumns(
        near=_unblended(every, direction), far=np.zeros(every.far_distance_m.shape, dtype=np.int32)
    )
    accumulators = AirAccumulators(every)
    accumulators.add(roads, np.array([0]), np.full((1, 4), 1000 << 20))
    reader = AirReader(every, Background(0.0, 0.0, 0.0, 0.0))
    exact = reader.contributions(accumulators, 4.0)[..., 0]
    error = np.abs(blended - exact)
    assert error.max() < 0.003 * exact.max()
    assert np.sqrt((error**2).mean() / (exact**2).mean()) < 0.003
    some = exact > 0.01 * exact.max()
    assert (error[some] / exact[some]).max() < 0.025


def _unblended(columns, direction):
    points, grid = columns.subsources, columns.grid
    out = np.empty(columns.near_cell.size, dtype=np.int32)
    toward = air_columns.srm2.transport_vector(direction)
    # distances set near, so that the blend is 0 and finer sub-sources are used
    close = np.minimum(0.4 * columns.near_distance_m, np.float32(90.0))
    air_columns._fill_near(
        out, 0, 1, columns.near_start, columns.near_cell, close, grid.x(), grid.y(), points.xy, points.start,
        points.length_m, columns.plume_tables, columns.road_table, *toward, air_columns.srm2.meander_share(4.0),
    )  # fmt: skip
    return out


def test_a_crosswind_road_shows_no_ripples_along_it():
    straight = np.array([[-3000.0, 455.0], [4200.0, 455.0]])
    field = _contributions(_columns(roads=(straight,), streets=()), 0, direction=180.0)
    for row in (47, 50, 60, 70, 89):  # 20 to 440 m downwind
        along = field[row, 10:-10]
        assert along.max() / along.min() - 1.0 < 3e-3


def test_adding_and_taking_away_leaves_exactly_zero():
    columns = _columns()
    roads = air_columns.road_columns(columns, 2.0, 123.0)
    accumulators = AirAccumulators(columns)
    change = np.random.default_rng(1).integers(-(1 << 30), 1 << 30, (2, 4))
    touched = accumulators.add(roads, np.array([0, 1]), change)
    assert touched == columns.street_cell.size + columns.near_cell.size + columns.far.n_nodes
    assert accumulators.street.any()
    assert accumulators.near.any()
    assert accumulators.far.any()
    accumulators.add(roads, np.array([1, 0]), -change[::-1])
    for name in ("street", "near", "far"):
        assert not getattr(accumulators, name).any()


def test_changes_add_up_in_any_order():
    columns = _columns()
    roads = air_columns.road_columns(columns, 2.0, 123.0)
    rng = np.random.default_rng(5)
    changes = [(rng.permutation(2), rng.integers(0, 1 << 32, (2, 4))) for _ in range(8)]
    one, other = AirAccumulators(columns), AirAccumulators(columns)
    for segment, change in changes:
        one.add(roads, segment, change)
    for segment, change in reversed(changes):
        other.add(roads, segment, change)
    for name in ("street", "near", "far"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_no_accumulator_overflows_at_the_limit_of_emission():
    columns = _columns(roads=(ROAD,) * 6, streets=(STREET,) * 12)
    bounding = air_columns.bounding_columns(columns)
    limit = air_columns.emission_limit(largest_sum(columns, bounding))
    assert 0 < limit < EMISSION_MAX_QUANTA  # twelve streets on one axis would overflow without it
    accumulators = AirAccumulators(columns)
    everywhere = np.arange(columns.n_segments)
    accumulators.add(bounding, everywhere, np.full((columns.n_segments, 4), limit))
    largest = 0
    for name in ("street", "near", "far"):
        assert getattr(accumulators, name).min() >= 0  # a sum that wrapped is negative
        largest = max(largest, int(getattr(accumulators, name).max()))
    assert largest > 0.99 * 2**63


def test_bounding_columns_exceed_those_of_any_wind():
    columns = _columns()
    bounding = air_columns.bounding_columns(columns)
    for direction in range(0, 360, 20):
        roads = air_columns.road_columns(columns, 1.0, float(direction))
        assert (roads.near <= bounding.near).all()
        assert (roads.far <= bounding.far).all()


def test_cubic_weights_sum_to_one_and_reproduce_a_parabola():
    node, weight = cubic_weights(100, 10.0, -50.0)
    np.testing.assert_allclose(weight.sum(axis=1), 1.0, rtol=1e-14)
    place = -50.0 + 50.0 * (node[:, None] + np.arange(4))
    at = (np.arange(100) + 0.5) * 10.0
    assert node.min() >= 0
    np.testing.assert_allclose((weight * place**2).sum(axis=1), at**2, rtol=1e-9, atol=1e-6)


def test_stored_values_are_rounded_to_a_hundredth_and_end_below_unknown():
    contributions = np.zeros((1, 2, 4))
    contributions[0, 1] = (1e4, 1e4, 3.456, 1e6)
    got = stored_fields(contributions, 20.0, 40.0, 18.004, 10.0)
    assert got[:, 0, 0].tolist() == [2000, 1800, 1000]
    assert got[:, 0, 1].tolist() == [65534, 2146, 65534]


def test_a_dip_of_the_cubic_is_no_negative_concentration():
    for direction in (0.0, 90.0, 250.0):
        assert _contributions(_columns(streets=()), 0, direction=direction).min() >= 0.0


def test_hourly_factors_scale_the_fields():
    columns = _columns()
    one, two = (_contributions(columns, 0, wind=w) for w in (2.0, 4.0))
    np.testing.assert_allclose(one, 2.0 * two, rtol=1e-12)
    assert hourly_factor(2.0) == 2 * hourly_factor(4.0)


def test_an_unknown_wind_is_refused():
    with pytest.raises(ValueError, match="wind_from_deg: got nan"):
        air_columns.road_columns(_columns(), 3.0, float("nan"))


def test_the_bound_of_a_city_without_roads_counts_its_streets():
    columns = _columns(roads=(), streets=(STREET,))
    bound = air_gate_bound(columns, air_columns.bounding_columns(columns))
    worst = srm1.hourly_factor(0.0, 3.0) * srm1.dilution(0.0, srm1.RoadType.GENERAL)
    assert air_bound(bound, np.array([2.0])).max() == pytest.approx(2 * worst, rel=1e-6)
