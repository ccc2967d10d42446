from __future__ import annotations

import numpy as np
import pytest

from kernels import near_field, srm2
from kernels.air_columns import near_columns
from kernels.srm2 import ROUGHNESS, SigmaZRule, Srm2Error
from tests.kernels.open_roads import ROAD, cells, columns_of, direct, off_the_road


def test_elements_of_a_road_are_a_tree_that_shares_its_length():
    line = np.array([[0.0, 0.0], [30.0, 0.0], [30.0, 34.0]])
    tree = near_field.elements([line, line + 100.0])
    assert np.diff(tree.start).tolist() == [63, 63]  # 64 m halved five times, to 2 m
    for level in range(6):
        n = 2**level
        some = slice(n - 1, 2 * n - 1)
        np.testing.assert_allclose(tree.length_m[some], 64.0 / n)
    np.testing.assert_allclose(tree.middle[0], [30.0, 2.0], atol=1e-5)
    np.testing.assert_allclose(tree.middle[63], [130.0, 102.0], atol=1e-5)


def test_points_on_a_line_integrate_a_polynomial_of_seventh_degree_exactly():
    points, share = near_field.points_on(np.array([[0.0, 0.0], [3.0, 0.0]]), 2)
    assert points.shape == (2, near_field.N_GAUSS, 2)
    got = (points[..., 0] ** 7 * share).sum() * 1.5
    assert got == pytest.approx(3.0**8 / 8, rel=1e-12)


@pytest.mark.parametrize("rule", list(SigmaZRule))
@pytest.mark.parametrize("roughness", ROUGHNESS, ids=lambda r: str(r.z0_m))
def test_the_fitted_plume_is_within_a_thousandth(roughness, rule):
    for sigma_z0 in (2.5, 3.0, 9.0):
        fit = near_field.plume_fit(300.0, roughness, sigma_z0, rule).astype(np.float64)
        r = np.geomspace(3.5, 300.0, 200)
        exact = [srm2.distance_times_plume(x, roughness, sigma_z0, rule) for x in r]
        got = np.polynomial.polynomial.polyval(r / (r + 20.0), fit)
        np.testing.assert_allclose(got, exact, rtol=1e-3)


def test_without_a_blend_the_near_field_is_the_whole_field():
    columns = columns_of(streets=())
    winds = srm2.hourly_winds(5.0, 160.0)
    near = near_columns(columns, winds, (np.inf, np.inf)) / 2**30
    places = np.concatenate(
        [
            np.arange(b * 16, b * 16 + n)
            for b, n in zip(columns.roads.block, np.diff(columns.roads.offset), strict=True)
        ]
    )
    receptor = np.full(columns.blocks.n_places, -1)
    receptor[columns.blocks.place] = np.arange(columns.blocks.place.size)
    some = receptor[places]
    is_real = (some >= 0) & (np.arange(some.size) % 9 == 0)
    xy = cells()[some[is_real]]
    away = off_the_road([ROAD], xy)
    exact = direct(xy, ROAD, 5.0, 160.0, step_m=0.5)[away]
    got = near[is_real][away]
    assert np.abs(got - exact).max() < 1e-3 * exact.max()
    big = exact > 1e-2 * exact.max()
    assert np.abs(got / exact - 1)[big].max() < 4e-3


def test_bounding_coefficients_exceed_those_of_any_wind():
    columns = columns_of()
    bound = near_columns(columns, srm2.bounding_winds(), columns.blend_m)
    for direction in range(0, 360, 20):
        assert (
            near_columns(columns, srm2.hourly_winds(1.0, float(direction)), columns.blend_m) <= bound
        ).all()


def test_a_coefficient_beyond_its_integer_is_refused():
    columns = columns_of(roads=(np.concatenate([ROAD, ROAD[::-1]] * 20),), streets=())
    with pytest.raises(Srm2Error, match="coefficient of an SRM2 road: got"):
        near_columns(columns, srm2.bounding_winds(), columns.blend_m)


def test_an_unknown_wind_is_refused():
    with pytest.raises(Srm2Error, match="wind_from_deg: got nan"):
        srm2.hourly_winds(3.0, float("nan"))
