from __future__ import annotations

import math

import pytest

from kernels.sigma_z0 import Barrier, BarrierKind, start_value
from kernels.srm2 import Srm2Error

SCREEN, WALL = BarrierKind.SCREEN, BarrierKind.WALL


@pytest.mark.parametrize(
    ("situation", "expected"),
    # the list of the regulation, annex 2 par. 4
    [
        ({"is_motorway": False}, 2.5),
        ({"is_motorway": True}, 3.0),
        ({"is_motorway": True, "elevation_m": 4.0}, 3.0),
        ({"is_motorway": True, "elevation_m": 4.0, "side_angle_deg": 19.9}, 3.0),
        ({"is_motorway": True, "elevation_m": 4.0, "side_angle_deg": 20.0}, 4.0),
        ({"is_motorway": True, "elevation_m": 4.0, "side_angle_deg": 44.9}, 4.0),
        ({"is_motorway": True, "elevation_m": 4.0, "side_angle_deg": 45.0}, 5.0),
        ({"is_motorway": False, "elevation_m": 6.0, "is_viaduct": True}, 8.5),
        ({"is_motorway": False, "elevation_m": -5.0}, 5.0),
        ({"is_motorway": True, "left": Barrier(SCREEN, 4.0)}, 5.0),
        ({"is_motorway": True, "right": Barrier(SCREEN, 4.0)}, 5.0),
        ({"is_motorway": True, "left": Barrier(SCREEN, 2.0), "right": Barrier(SCREEN, 5.0)}, 6.5),
        ({"is_motorway": True, "right": Barrier(WALL, 4.0)}, 4.0),
        ({"is_motorway": True, "left": Barrier(WALL, 2.0), "right": Barrier(WALL, 6.0)}, 5.0),
        ({"is_motorway": True, "left": Barrier(WALL, 4.0), "right": Barrier(SCREEN, 3.0)}, 5.5),
        ({"is_motorway": False, "elevation_m": -4.0, "left": Barrier(SCREEN, 3.0)}, 6.0),
    ],
)
def test_start_value_of_each_situation_of_the_regulation(situation, expected):
    assert start_value(**situation) == pytest.approx(expected, rel=1e-12)


def test_a_barrier_counts_from_one_metre_and_up_to_six():
    def added(height_m):
        return start_value(is_motorway=True, left=Barrier(SCREEN, height_m)) - 3.0

    assert (added(0.0), added(0.99), added(1.0)) == (0.0, 0.0, 0.5)
    assert added(6.0) == added(6.1) == added(30.0) == 3.0


@pytest.mark.parametrize(
    ("situation", "field"),
    [
        ({"elevation_m": math.nan}, "elevation_m"),
        ({"elevation_m": math.inf}, "elevation_m"),
        ({"side_angle_deg": -1.0}, "side_angle_deg"),
        ({"side_angle_deg": 91.0}, "side_angle_deg"),
        ({"side_angle_deg": math.nan}, "side_angle_deg"),
        ({"elevation_m": -1.0, "is_viaduct": True}, "elevation_m"),
        ({"left": Barrier(SCREEN, -1.0)}, "height_m"),
        ({"right": Barrier(WALL, math.nan)}, "height_m"),
        ({"right": Barrier(WALL, math.inf)}, "height_m"),
    ],
)
def test_a_situation_that_cannot_be_is_refused_by_name(situation, field):
    with pytest.raises(Srm2Error, match=f"^{field}: got .*, expected"):
        start_value(is_motorway=False, **situation)
