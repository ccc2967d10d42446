"""Start value of SRM2's vertical spread: kind of road, height, screens and walls.

Height and barriers act through this start value alone [1]_: a barrier is felt alike on both sides of the road
and there is no sheltered zone behind it.

References
----------
.. [1] Regeling beoordeling luchtkwaliteit 2007, annex 2 par. 4, vertical spread.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

from kernels.srm2 import SIGMA_Z0_M, SIGMA_Z0_MOTORWAY_M, Srm2Error

FLAT_BELOW_DEG = 20.0  # a dike with sides flatter than this adds nothing [1]_
STEEP_FROM_DEG = 45.0
BARRIER_MIN_M = 1.0  # lower is no barrier [1]_
BARRIER_MAX_M = 6.0  # higher counts as this [1]_


class BarrierKind(IntEnum):
    """What stands beside a road."""

    SCREEN = 0
    WALL = 1


SHARE_OF_HEIGHT = {BarrierKind.SCREEN: 0.5, BarrierKind.WALL: 0.25}  # of each side [1]_


@dataclass(frozen=True, slots=True)
class Barrier:
    """A screen or wall along one side, nearer than 50 m to the edge of the road [1]_; height in m."""

    kind: BarrierKind
    height_m: float


def motorway_start(*, is_motorway: bool) -> float:
    """Start value [m] of a road at the level of its surroundings, without barriers [1]_."""
    return SIGMA_Z0_MOTORWAY_M if is_motorway else SIGMA_Z0_M


def elevation_part(elevation_m: float, side_angle_deg: float = 0.0, *, is_viaduct: bool = False) -> float:
    """What the height of a road adds [m] [1]_.

    Above its surroundings a dike adds nothing (sides flatter than 20 degrees), h/4 (to 45) or h/2, a viaduct
    h; below them, in a trough of depth d, it is d/2.

    Parameters
    ----------
    elevation_m : float
        Height of the road above its surroundings [m], below 0 in a trough.
    side_angle_deg : float
        Of a dike's sides with the horizontal [degrees], 0 to 90.
    is_viaduct : bool
        Open below.

    Raises
    ------
    Srm2Error
        For a height that is not finite, an angle outside 0 to 90, or a viaduct below its surroundings.
    """
    if not math.isfinite(elevation_m):
        raise Srm2Error(f"elevation_m: got {elevation_m}, expected a height in m, below 0 in a trough")
    if not 0.0 <= side_angle_deg <= 90.0:
        raise Srm2Error(f"side_angle_deg: got {side_angle_deg}, expected 0 to 90 degrees")
    if is_viaduct and elevation_m < 0.0:
        raise Srm2Error(f"elevation_m: got {elevation_m}, expected at least 0 m on a viaduct")
    if elevation_m < 0.0:
        return -elevation_m / 2.0
    if is_viaduct:
        return elevation_m
    if side_angle_deg < FLAT_BELOW_DEG:
        return 0.0
    return elevation_m / (4.0 if side_angle_deg < STEEP_FROM_DEG else 2.0)


def barrier_part(barrier: Barrier | None) -> float:
    """What the barrier of one side adds [m]: half the height of a screen, a quarter of that of a wall [1]_.

    Below 1 m there is no barrier, above 6 m the height counts as 6 m.

    Raises
    ------
    Srm2Error
        For a height that is negative or not finite.
    """
    if barrier is None:
        return 0.0
    if not 0.0 <= barrier.height_m < math.inf:
        raise Srm2Error(f"height_m: got {barrier.height_m}, expected a barrier of at least 0 m")
    if barrier.height_m < BARRIER_MIN_M:
        return 0.0
    return SHARE_OF_HEIGHT[barrier.kind] * min(barrier.height_m, BARRIER_MAX_M)


def start_value(
    *,
    is_motorway: bool,
    elevation_m: float = 0.0,
    side_angle_deg: float = 0.0,
    is_viaduct: bool = False,
    left: Barrier | None = None,
    right: Barrier | None = None,
) -> float:
    """sigma_z0 [m] of a road outside a built-up area [1]_.

    2.5 m, on a motorway 3 m, plus the parts of height and of the barriers of both sides; see
    :func:`elevation_part` and :func:`barrier_part` for parameters and errors.
    """
    return (
        motorway_start(is_motorway=is_motorway)
        + elevation_part(elevation_m, side_angle_deg, is_viaduct=is_viaduct)
        + barrier_part(left)
        + barrier_part(right)
    )
