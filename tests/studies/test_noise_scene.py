"""Scenes, their cuts and their reflections."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kernels.cnossos_path import path_energies
from kernels.propagation import Atmosphere, air_absorption_db_per_km
from studies.noise_scene import SceneError, paths_between, profiles_of, read_scene

SOURCE, RECEIVER = np.array([0.0, 0.0, 1.0]), np.array([100.0, 0.0, 4.0])
HOUSE = {
    "footprint": [[40.0, -5.0], [50.0, -5.0], [50.0, 5.0], [40.0, 5.0]],
    "height_or_top_z": 9.0,
    "alpha": None,
}
FACADE = {
    "footprint": [[20.0, 10.0], [80.0, 10.0], [80.0, 20.0], [20.0, 20.0]],
    "height_or_top_z": 12.0,
    "alpha": 0.2,
}


def levels(scene: dict[str, Any], source: np.ndarray = SOURCE, receiver: np.ndarray = RECEIVER) -> np.ndarray:
    """Energy of all paths in both states, (2, 8) [dB]."""
    paths = paths_between(read_scene(scene), source, receiver, 1)
    both = path_energies(profiles_of(paths), air_absorption_db_per_km(Atmosphere()))
    return 10.0 * np.log10([energy.sum(axis=0) for energy in both])


def test_profile_goes_over_a_house_and_a_wall_and_knows_the_ground() -> None:
    scene = {
        "default_ground_G": 0.2,
        "ground_areas": [{"polygon": [[60.0, -9.0], [90.0, -9.0], [90.0, 9.0], [60.0, 9.0]], "G": 0.8}],
        "buildings": [HOUSE],
        "walls": [{"line": [[70.0, -1.0, 4.0], [70.0, 3.0, 8.0]], "alpha": None}],
    }
    (path,) = paths_between(read_scene(scene), SOURCE, RECEIVER, 0)
    np.testing.assert_allclose(path.x, [0, 40, 40, 50, 50, 60, 70, 70, 70, 90, 100], atol=1e-9)
    np.testing.assert_allclose(path.z, [0, 0, 9, 9, 0, 0, 0, 5, 0, 0, 0], atol=1e-9)
    assert [path.g[k] for k in (0, 2, 4, 5, 8, 9)] == [0.2, 0.0, 0.2, 0.8, 0.8, 0.2]
    assert path.source_height_m == 1.0
    assert path.source_g == 0.2


def test_the_smallest_of_overlapping_areas_counts() -> None:
    wide = {"polygon": [[-200.0, -200.0], [200.0, -200.0], [200.0, 200.0], [-200.0, 200.0]], "G": 0.1}
    small = {"polygon": [[40.0, -9.0], [60.0, -9.0], [60.0, 9.0], [40.0, 9.0]], "G": 0.9}
    for areas in ([wide, small], [small, wide]):
        (path,) = paths_between(read_scene({"ground_areas": areas}), SOURCE, RECEIVER, 0)
        np.testing.assert_array_equal(path.g[:3], [0.1, 0.9, 0.1])


def test_a_house_on_a_slope_has_one_roof_and_two_feet() -> None:
    slope = [
        [0.0, -50.0, 0.0],
        [100.0, -50.0, 10.0],
        [100.0, 50.0, 10.0],
        [0.0, 50.0, 0.0],
        [0.0, -50.0, 0.0],
    ]
    scene = {"buildings": [HOUSE], "topography_lines": [{"line": slope}]}
    (path,) = paths_between(read_scene(scene), SOURCE, np.array([90.0, 0.0, 12.0]), 0)
    at = np.flatnonzero(np.isclose(path.x, 40.0) | np.isclose(path.x, 50.0))
    np.testing.assert_allclose(path.z[at], [4, 9, 9, 5], atol=1e-9)
    assert path.receiver_height_m == pytest.approx(3.0)


def test_a_facade_mirrors_on_its_outside_only_and_a_wall_on_both_sides() -> None:
    found = paths_between(read_scene({"buildings": [FACADE]}), SOURCE, RECEIVER, 1)
    assert [path.is_reflected for path in found] == [False, True]
    assert found[1].distance_m == pytest.approx(np.sqrt(100.0**2 + 20.0**2 + 3.0**2))
    assert found[1].reflector_x == pytest.approx(np.hypot(50.0, 10.0))
    np.testing.assert_allclose(found[1].reflected, 0.8)
    inside = np.array([30.0, 15.0, 1.0]), np.array([60.0, 15.0, 1.0])
    assert len(paths_between(read_scene({"buildings": [FACADE]}), *inside, 1)) == 1
    for y in (10.0, -10.0):
        wall = {"walls": [{"line": [[20.0, y, 6.0], [80.0, y, 6.0]], "alpha": None}]}
        assert len(paths_between(read_scene(wall), SOURCE, RECEIVER, 1)) == 2


def test_what_passes_beside_or_over_a_face_is_not_reflected() -> None:
    beside = {"walls": [{"line": [[60.0, 10.0, 6.0], [80.0, 10.0, 6.0]], "alpha": None}]}
    below = {"walls": [{"line": [[20.0, 10.0, 2.0], [80.0, 10.0, 2.0]], "alpha": None}]}
    short = {"walls": [{"line": [[49.8, 10.0, 6.0], [50.2, 10.0, 6.0]], "alpha": None}]}
    for scene in (beside, below, short):
        assert len(paths_between(read_scene(scene), SOURCE, RECEIVER, 1)) == 1


def test_a_mirrored_scene_sounds_the_same() -> None:
    def mirrored(scene: dict[str, Any]) -> dict[str, Any]:
        return {
            "buildings": [
                b | {"footprint": [[x, -y] for x, y in b["footprint"]]} for b in scene["buildings"]
            ],
            "walls": [w | {"line": [[x, -y, z] for x, y, z in w["line"]]} for w in scene["walls"]],
        }

    scene = {
        "buildings": [HOUSE, FACADE],
        "walls": [{"line": [[70.0, -9.0, 4.0], [75.0, 8.0, 5.0]], "alpha": 0.3}],
    }
    np.testing.assert_allclose(levels(mirrored(scene)), levels(scene), atol=1e-9)
    assert (levels(scene) > levels({"buildings": [HOUSE], "walls": scene["walls"]})).all()


def test_houses_that_touch_are_one_roof_line() -> None:
    left = HOUSE | {"footprint": [[40.0, -5.0], [45.0, -5.0], [45.0, 5.0], [40.0, 5.0]]}
    right = HOUSE | {"footprint": [[45.0, -5.0], [50.0, -5.0], [50.0, 5.0], [45.0, 5.0]]}
    np.testing.assert_allclose(
        levels({"buildings": [left, right]}), levels({"buildings": [HOUSE]}), atol=1e-9
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"default_ground_G": "soft"}, "default_ground_G: got 'soft', expected a number"),
        ({"ground_areas": [{"polygon": [[0, 0], [1, 0], [1, 1]]}]}, r"ground_areas\[0\].G: got None"),
        ({"ground_areas": "grass"}, "ground_areas: got 'grass', expected a list"),
        (
            {"buildings": [{"footprint": [[0, 0], [1, 1], [1, 0], [0, 1]], "height_or_top_z": 3}]},
            "enclose one area",
        ),
        (
            {"buildings": [HOUSE | {"alpha": [0.1, 0.2]}]},
            r"buildings\[0\].alpha: got \[0.1, 0.2\], expected null",
        ),
        (
            {"walls": [{"line": [[0, 0], [1, 1]]}]},
            r"walls\[0\].line: got .* expected two or more points of 3",
        ),
        (
            {"topography_lines": [{"line": [[0, 0, 1], [5, 5, 1]]}]},
            "topography_lines: terrain: 2 points span no",
        ),
    ],
)
def test_what_cannot_be_read_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SceneError, match=message):
        read_scene(fields)
