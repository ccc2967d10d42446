"""Triangles between lines of known height."""

from __future__ import annotations

import numpy as np
import pytest

from studies.noise_terrain import TerrainError, terrain_of_lines

SQUARE = np.array([[0, 0, 0], [100, 0, 0], [100, 100, 0], [0, 100, 0], [0, 0, 0]], dtype=float)
RIDGE = np.array([[10, 35, 5], [90, 65, 5]], dtype=float)  # no edge of the Delaunay triangles of its points


def test_every_line_is_an_edge_and_the_triangles_cover_the_square_once() -> None:
    rng = np.random.default_rng(2)
    long_and_thin = [np.column_stack([[5.0, 95.0], [y, y + 1.0], [1.0, 2.0]]) for y in (20.0, 21.5, 23.0)]
    cloud = [
        np.array([(x, y, z), (x + 0.1, y, z)]) for x, y, z in rng.uniform([5, 30, 0], [95, 95, 3], (40, 3))
    ]
    terrain = terrain_of_lines([SQUARE, *long_and_thin, *cloud])
    corner = terrain.xyz[terrain.triangles][:, :, :2]
    ab, ac = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    areas = 0.5 * (ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0])
    assert (areas > 0.0).all()
    assert areas.sum() == pytest.approx(10_000.0)
    edges = {(tuple(terrain.xyz[p, :2]), tuple(terrain.xyz[q, :2])) for p, q in terrain.edges}
    for line in [*long_and_thin, *cloud]:
        a, b = tuple(line[0, :2]), tuple(line[1, :2])
        assert (a, b) in edges or (b, a) in edges


def test_height_follows_a_line_that_delaunay_would_cross() -> None:
    posts = [np.array([[49.0, 48.0 + s, 0.0], [51.0, 49.0 + s, 0.0]]) for s in (-3.0, 4.5)]
    terrain = terrain_of_lines([SQUARE, RIDGE, *posts])
    for t in (0.1, 0.5, 0.77):
        x, y, z = RIDGE[0] + t * (RIDGE[1] - RIDGE[0])
        assert terrain.height(x, y) == pytest.approx(z)


def test_lines_that_cross_share_a_point_at_the_mean_of_their_heights() -> None:
    terrain = terrain_of_lines([SQUARE, np.array([[0.0, 50.0, 2.0], [100.0, 50.0, 2.0]]),
                                np.array([[50.0, 10.0, 4.0], [50.0, 90.0, 4.0]])])  # fmt: skip
    assert terrain.height(50.0, 50.0) == pytest.approx(3.0)
    assert terrain.height(25.0, 50.0) == pytest.approx(2.5)


def test_outside_the_lines_the_ground_goes_on_level() -> None:
    terrain = terrain_of_lines([np.array([[0.0, 0.0, 1.0], [100.0, 0.0, 3.0], [50.0, 80.0, 2.0]])])
    assert terrain.height(50.0, -30.0) == pytest.approx(2.0)
    assert terrain.height(-20.0, -20.0) == pytest.approx(1.0)


def test_crossings_lie_on_edges_in_order() -> None:
    terrain = terrain_of_lines([SQUARE, np.array([[30.0, 0.0, 0.0], [30.0, 100.0, 0.0]])])
    found = terrain.crossings(np.array([10.0, 40.0]), np.array([60.0, 42.0]))
    assert (np.diff(found) >= 0.0).all()
    assert found == pytest.approx(np.unique(found))
    assert any(abs(t - 0.4) < 1e-9 for t in found)


def test_points_on_one_line_span_no_surface() -> None:
    with pytest.raises(TerrainError, match="4 points span no surface"):
        terrain_of_lines([np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [2.0, 2.0, 1.0], [5.0, 5.0, 2.0]])])
