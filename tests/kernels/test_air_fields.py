from __future__ import annotations

import numpy as np
import pytest

from kernels import srm1, srm2
from kernels.air_bound import emission_limit, with_bound
from kernels.air_columns import near_columns, road_columns
from kernels.air_fields import AirAccumulators, AirReader
from kernels.chemistry import Background, no2_contribution
from kernels.emission import EMISSION_MAX_QUANTA
from kernels.gate import air_bound
from kernels.receptors import ReceptorGrid, grid_blocks, point_blocks
from tests.kernels.open_roads import GRID, ROAD, STREET, cells, columns_of, direct, field_of, off_the_road

CLEAN = Background(0.0, 0.0, 0.0, 0.0)


def _random_roads(n, seed, length_m=50.0):
    """Straight roads in and around the grid, lognormal emissions."""
    rng = np.random.default_rng(seed)
    low = np.array([GRID.x_min, GRID.y_min]) - 400.0
    size = np.array([GRID.n_columns, GRID.n_rows]) * GRID.step_m + 800.0
    start, angle = low + rng.uniform(size=(n, 2)) * size, rng.uniform(0, 2 * np.pi, n)
    way = length_m * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return [np.array([a, a + w]) for a, w in zip(start, way, strict=True)], rng.lognormal(3.0, 1.0, n)


@pytest.mark.parametrize(("wind", "direction"), [(3.0, 225.0), (6.0, 82.0), (0.0, 10.0)])
def test_near_and_far_field_together_equal_a_direct_sum(wind, direction):
    roads, emission = _random_roads(60, seed=4)
    columns = columns_of(roads=roads, streets=())
    got = field_of(columns, emission, wind, direction)
    some = np.random.default_rng(1).choice(GRID.n_receptors, 1500, replace=False)
    some = some[off_the_road(roads, cells()[some])]
    xy = cells()[some]
    exact = sum(e * direct(xy, r, wind, direction, step_m=0.5) for e, r in zip(emission, roads, strict=True))
    error = got[some] - exact
    assert np.sqrt((error**2).mean() / (exact**2).mean()) < 3e-4
    assert np.abs(error / exact).max() < 3e-3


def test_a_long_bent_road_equals_a_direct_sum_also_beside_and_on_it():
    columns = columns_of(streets=())
    some = np.arange(0, GRID.n_receptors, 7)
    xy = cells()[some]
    got = field_of(columns, 100.0, 4.0, 200.0)[some]
    exact = 100.0 * direct(xy, ROAD, 4.0, 200.0, step_m=0.5)
    away = off_the_road([ROAD], xy)
    assert np.abs(got - exact)[away].max() < 1e-3 * exact.max()
    big = away & (exact > 2e-3 * exact.max())  # far upwind the nodes ripple by 3e-5 of the largest
    assert np.abs(got / exact - 1.0)[big].max() < 0.01
    assert np.abs(got / exact - 1.0)[~away].max() < 0.08


def test_scattered_receptors_have_the_values_of_a_grid():
    roads, emission = _random_roads(20, seed=2)
    grid = field_of(columns_of(roads=roads), np.concatenate([[50.0], emission]))
    some = np.random.default_rng(3).choice(GRID.n_receptors, 333, replace=False)
    columns = columns_of(roads=roads, blocks=point_blocks(cells()[some]))
    got = field_of(columns, np.concatenate([[50.0], emission]))
    away = off_the_road(roads, cells()[some])
    np.testing.assert_allclose(got[away], grid[some][away], rtol=1e-3, atol=1e-4 * grid.max())


def test_cutting_a_road_changes_nothing():
    whole = field_of(columns_of(streets=()), 100.0)
    cut = field_of(columns_of(roads=(ROAD[:2], ROAD[1:]), streets=()), 100.0)
    away = off_the_road([ROAD], cells())
    assert np.abs(whole - cut)[away].max() < 1e-3 * whole[away].max()


def test_a_crosswind_road_shows_no_ripples_along_it():
    straight = np.array([[-2000.0, -45.0], [5200.0, -45.0]])
    field = field_of(columns_of(roads=(straight,), streets=()), 100.0, direction=180.0).reshape(GRID.shape)
    for row in (47, 50, 60, 70, 89):  # 20 to 440 m downwind
        along = field[row, 10:-10]
        assert along.max() / along.min() - 1.0 < 2e-3


def test_an_infinite_crosswind_line_has_the_concentration_of_its_closed_form():
    # C = 2 E exp(-z^2 / 2 sigma^2) / (sqrt(2 pi) sigma C_wind C_ijking u): the spread in direction drops out
    # where the plume changes slowly along the arc; within 3 % at a spread of a quarter radian
    straight = np.array([[-8000.0, -45.0], [11_000.0, -45.0]])
    field = field_of(columns_of(roads=(straight,), streets=()), 10.0, 20.0, 180.0).reshape(GRID.shape)
    rough = srm2.roughness_class(1.0)
    for row in (60, 80):
        distance = float(GRID.y()[row] + 45.0)
        sigma = srm2.sigma_z(distance, rough, 3.0, srm2.SigmaZRule.ADD)
        c = srm2.wind_factor(sigma, rough) * rough.calibration
        closed = 2 * 10.0 * np.exp(-(1.5**2) / (2 * sigma**2)) / (np.sqrt(2 * np.pi) * sigma * c * 20.0)
        assert field[row, 60] == pytest.approx(closed, rel=0.03)


def test_fields_are_linear_and_never_negative():
    columns = columns_of()
    one, other = np.array([30.0, 0.0]), np.array([0.0, 70.0])
    parts = field_of(columns, one) + field_of(columns, other)
    both = field_of(columns, one + other)
    np.testing.assert_allclose(both, parts, rtol=1e-5, atol=1e-6)
    assert both.min() >= 0.0
    more = field_of(columns, one + 2 * other)
    assert (more >= both - 1e-6).all()


def test_streets_of_each_type_have_the_regulation_s_dilution_and_reach():
    for road_type in srm1.RoadType:
        field = field_of(columns_of(roads=(), types=int(road_type), trees=1.25), 1.0, wind=3.0)
        beside = field.reshape(GRID.shape)[:, 45]  # in the middle of the street
        for row, y in enumerate(GRID.y()):
            theta = srm1.dilution(abs(float(y) + 394.0), road_type)
            expected = 1.25 * theta * srm1.hourly_factor(3.0, 3.0)
            assert beside[row] == pytest.approx(expected, rel=1e-6, abs=1e-8)


def test_adding_and_taking_away_leaves_exactly_zero():
    columns = columns_of()
    roads = road_columns(columns, srm2.hourly_winds(2.0, 123.0))
    sums = AirAccumulators(columns)
    change = np.random.default_rng(1).integers(-(1 << 30), 1 << 30, (2, 4))
    touched = sums.add(roads, np.array([0, 1]), change)
    assert touched == columns.streets.n_coefficients + columns.roads.n_coefficients
    assert sums.street.any()
    assert sums.near.any()
    assert all(level.any() for level in sums.far)
    sums.add(roads, np.array([1, 0]), -change[::-1])
    assert not sums.street.any()
    assert not sums.near.any()
    assert not any(level.any() for level in sums.far)
    assert not AirReader(columns, CLEAN).contributions(sums, roads, 2.0).any()


def test_changes_in_any_order_and_another_wind_between_equal_a_full_recompute():
    roads_of, _ = _random_roads(12, seed=9)
    columns = columns_of(roads=roads_of)
    winds = [road_columns(columns, srm2.hourly_winds(2.0, d)) for d in (10.0, 300.0)]
    rng = np.random.default_rng(5)
    state = np.zeros((13, 4), dtype=np.int64)
    one = AirAccumulators(columns)
    for step in range(10):
        if step == 5:
            one.turn(winds[1], state)
        segment = rng.permutation(13)[:4]
        change = rng.integers(0, 1 << 31, (4, 4)) - state[segment]
        one.add(winds[step // 5], segment, change)
        state[segment] += change
    full = AirAccumulators(columns)
    full.add(winds[1], np.arange(13), state)
    for mine, theirs in zip(
        (one.street, one.near, *one.far), (full.street, full.near, *full.far), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)
    reader = AirReader(columns, CLEAN)
    np.testing.assert_array_equal(
        reader.stored(one, winds[1], 2.0, GRID), reader.stored(full, winds[1], 2.0, GRID)
    )


def test_stored_values_are_the_contributions_with_chemistry_and_background():
    roads_of, emission = _random_roads(30, seed=8)
    columns = columns_of(roads=roads_of)
    roads = road_columns(columns, srm2.hourly_winds(2.0, 250.0))
    sums = AirAccumulators(columns)
    rates = np.concatenate([[200.0], emission])[:, None] * np.array([3.0, 1.0, 0.3, 0.2])
    sums.add(roads, np.arange(31), np.rint(rates * 2**20).astype(np.int64))
    reader = AirReader(columns, Background(20.0, 41.0, 18.0, 11.0))
    c = reader.contributions(sums, roads, 2.0)
    no2 = [no2_contribution(nox, direct_no2, 41.0) for nox, direct_no2 in c[:, :2]]
    stored = reader.stored(sums, roads, 2.0, GRID).reshape(3, -1) * 0.01
    assert c[:, 0].max() > 50.0
    np.testing.assert_allclose(stored[0], 20.0 + np.array(no2), atol=0.0051)
    np.testing.assert_allclose(stored[1], 18.0 + c[:, 2], atol=0.0051)
    np.testing.assert_allclose(stored[2], 11.0 + c[:, 3], atol=0.0051)
    out = np.zeros((3, *GRID.shape), dtype=np.uint16)
    assert reader.stored(sums, roads, 2.0, GRID, out) is out
    np.testing.assert_array_equal(out.reshape(3, -1) * 0.01, stored)


def test_without_emission_there_is_exactly_the_background():
    columns = columns_of()
    roads = road_columns(columns, srm2.hourly_winds(2.0, 250.0))
    stored = AirReader(columns, Background(20.25, 41.0, 18.0, 11.0)).stored(
        AirAccumulators(columns), roads, 2.0, GRID
    )
    assert [np.unique(s).tolist() for s in stored] == [[2025], [1800], [1100]]


def test_stored_values_end_below_unknown():
    columns = columns_of(roads=())
    roads = road_columns(columns, srm2.hourly_winds(2.0, 250.0))
    sums = AirAccumulators(columns)
    sums.add(roads, np.array([0]), np.full((1, 4), EMISSION_MAX_QUANTA))
    assert AirReader(columns, CLEAN).stored(sums, roads, 0.0, GRID).max() == 65534


def test_no_sum_overflows_at_the_limit_of_emission():
    columns = with_bound(columns_of(roads=(ROAD,) * 6, streets=(STREET,) * 12), GRID)
    limit = columns.emission_limit
    assert 0 < limit < EMISSION_MAX_QUANTA  # twelve streets on one axis would overflow without it
    bounding = near_columns(columns, srm2.bounding_winds(), (np.inf, np.inf))
    assert limit == emission_limit(columns, bounding)
    for wind in (srm2.bounding_winds(), srm2.hourly_winds(0.0, 0.0), srm2.hourly_winds(9.0, 77.0)):
        sums = AirAccumulators(columns)
        everywhere = np.arange(columns.n_segments)
        sums.add(road_columns(columns, wind), everywhere, np.full((columns.n_segments, 4), limit))
        for part in (sums.street, sums.near, *sums.far):
            assert part.min() >= 0  # a sum that wrapped is negative
    sums = AirAccumulators(columns)
    bounded = road_columns(columns, srm2.bounding_winds())
    sums.add(bounded, np.arange(columns.n_segments), np.full((columns.n_segments, 4), limit))
    assert max(part.max() for part in (sums.street, sums.near, *sums.far)) > 0.85 * 2**63


def test_the_gate_s_bound_holds_for_any_wind():
    roads_of, withheld = _random_roads(25, seed=6, length_m=180.0)
    columns = with_bound(columns_of(roads=(*roads_of, ROAD)), GRID)
    withheld = np.concatenate([[20.0], withheld, [30.0]])
    bound = air_bound(columns.bound, withheld)
    row, column = np.divmod(np.arange(GRID.n_receptors), GRID.n_columns)
    coarse = row // 25 * 5 + column // 25
    for speed, direction in ((0.0, 0.0), (1.0, 257.0), (1.0, 77.0), (1.0, 167.0), (6.0, 300.0)):
        error = field_of(columns, withheld, speed, direction)
        assert (error <= bound[coarse] / max(speed, 1.0)).all()
    nearest = np.array([field_of(columns, withheld, 1.0, d).max() for d in range(0, 360, 30)]).max()
    assert bound.max() < 30 * nearest  # no wind blows from everywhere, but it is no idle number


def test_the_bound_of_a_city_without_roads_counts_its_streets():
    columns = with_bound(columns_of(roads=()), GRID)
    worst = srm1.hourly_factor(0.0, 3.0) * srm1.dilution(0.0, srm1.RoadType.GENERAL)
    assert air_bound(columns.bound, np.array([2.0])).max() == pytest.approx(2 * worst, rel=1e-6)


def test_a_grid_of_a_fine_step_and_an_odd_width_is_read_right():
    grid = ReceptorGrid(x_min=1190.0, y_min=-420.0, step_m=3.16, n_columns=61, n_rows=47)
    road = np.array([[1000.0, -380.0], [1900.0, -300.0]])
    columns = columns_of(roads=(road,), streets=(), grid=grid)
    assert columns.levels[0].step_m == pytest.approx(4 * 3.16)
    roads = road_columns(columns, srm2.hourly_winds(3.0, 200.0))
    sums = AirAccumulators(columns)
    sums.add(roads, np.array([0]), np.full((1, 4), 500 << 20))
    stored = AirReader(columns, CLEAN).stored(sums, roads, 3.0, grid)[1] * 0.01
    exact = 500.0 * direct(cells(grid), road, 3.0, 200.0, step_m=0.25).reshape(grid.shape)
    away = off_the_road([road], cells(grid)).reshape(grid.shape)
    assert np.abs(stored - exact)[away].max() < 0.006 + 1e-3 * exact.max()
    assert grid_blocks(grid).n_places == 64 * 47
