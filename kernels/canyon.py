"""What stands along a street: how far its facades are, how high, and how continuous, for SRM1's road types.

References
----------
.. [1] Regeling beoordeling luchtkwaliteit 2007, annex 1, paragraph 2: buildings that are more or less
   continuous, at most 60 m from the axis, against 1.5 and 3 times their height.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.obstacles import Obstacles, ground_height
from kernels.srm1 import RoadType

FACADE_MAX_M = 60.0  # [1]_
NARROW_BELOW_HEIGHTS, BROAD_BELOW_HEIGHTS = 1.5, 3.0  # [1]_
SAMPLE_M = 10.0  # along the street
CONTINUOUS_FROM = 0.5  # of the samples of a side that see a facade; "more or less continuous", assumed
MARGIN_M = 1.0  # a wall nearer to the axis than this stands in the street: a bridge, a gate


@dataclass(frozen=True, slots=True)
class StreetSides:
    """Facades along each segment; column 0 is its left side, 1 its right.

    Attributes
    ----------
    share : (n_segments, 2) float64
        Of the samples that see a facade within 60 m.
    distance_m, height_m : (n_segments, 2) float64
        Means over those samples, from the axis to the facade and above the street; NaN without any.
    """

    share: NDArray[np.float64]
    distance_m: NDArray[np.float64]
    height_m: NDArray[np.float64]


def street_sides(
    obstacles: Obstacles, vertex_xy: NDArray[np.float64], vertex_start: NDArray[np.int64]
) -> StreetSides:
    """Look from the axis to both sides, every 10 m.

    Parameters
    ----------
    obstacles : Obstacles
        Only its buildings count.
    vertex_xy : (n_vertices, 2) float64
        Vertices of all segments [m], those of segment s from ``vertex_start[s]``.
    vertex_start : (n_segments + 1,) int64
    """
    out = np.full((3, vertex_start.size - 1, 2), np.nan)
    _look(obstacles, vertex_xy - obstacles.origin, vertex_start, out[0], out[1], out[2])
    return StreetSides(share=out[0], distance_m=out[1], height_m=out[2])


def road_types(sides: StreetSides) -> NDArray[np.int8]:
    """:class:`kernels.srm1.RoadType` of each segment, (n_segments,).

    Facades on both sides are a canyon by the means of their distance and height: narrow below 1.5 heights,
    broad below 3. One side nearer than 3 heights is one-sided; all else is general.
    """
    stands = (sides.share >= CONTINUOUS_FROM) & (sides.distance_m < BROAD_BELOW_HEIGHTS * sides.height_m)
    both = stands.all(axis=1)
    with np.errstate(invalid="ignore"):
        ratio = sides.distance_m.mean(axis=1) / sides.height_m.mean(axis=1)
    out = np.full(both.size, RoadType.GENERAL, dtype=np.int8)
    out[stands.any(axis=1)] = RoadType.ONE_SIDED
    out[both] = RoadType.BROAD_CANYON
    out[both & (ratio < NARROW_BELOW_HEIGHTS)] = RoadType.NARROW_CANYON
    return out


@njit(cache=True, error_model="numpy")
def _look(
    obstacles: Obstacles,
    xy: NDArray[np.float64],
    start: NDArray[np.int64],
    share: NDArray[np.float64],
    distance: NDArray[np.float64],
    height: NDArray[np.float64],
) -> None:
    for s in range(start.size - 1):
        length = 0.0
        for v in range(start[s], start[s + 1] - 1):
            length += np.hypot(xy[v + 1, 0] - xy[v, 0], xy[v + 1, 1] - xy[v, 1])
        n = max(1, int(np.ceil(length / SAMPLE_M)))
        step = length / n
        seen, far, high = np.zeros(2), np.zeros(2), np.zeros(2)
        v, before = start[s], 0.0
        for k in range(n):
            at = (k + 0.5) * step
            dx, dy = xy[v + 1, 0] - xy[v, 0], xy[v + 1, 1] - xy[v, 1]
            piece = np.hypot(dx, dy)
            while at > before + piece and v + 2 < start[s + 1]:
                before += piece
                v += 1
                dx, dy = xy[v + 1, 0] - xy[v, 0], xy[v + 1, 1] - xy[v, 1]
                piece = np.hypot(dx, dy)
            if piece == 0.0:
                continue
            along = min((at - before) / piece, 1.0)
            x, y = xy[v, 0] + along * dx, xy[v, 1] + along * dy
            for side in range(2):
                turn = 1.0 if side == 0 else -1.0
                r, owner = _first_wall(obstacles, x, y, -turn * dy / piece, turn * dx / piece)
                if owner >= 0:
                    seen[side] += 1.0
                    far[side] += r
                    high[side] += max(obstacles.top[owner] - ground_height(obstacles, x, y), 0.0)
        for side in range(2):
            share[s, side] = seen[side] / n
            if seen[side] > 0.0:
                distance[s, side] = far[side] / seen[side]
                height[s, side] = high[side] / seen[side]


@njit(cache=True, error_model="numpy")
def _first_wall(obstacles: Obstacles, x: float, y: float, ux: float, uy: float) -> tuple[float, int]:
    """Distance to the first building along a direction within 60 m, and which; -1 if there is none."""
    nearest, found = FACADE_MAX_M, -1
    cell_m = obstacles.cell_m
    steps = int(np.ceil(FACADE_MAX_M / (0.5 * cell_m))) + 1
    last = -1
    for k in range(steps + 1):
        # half a cell at a time misses only corners that the neighbours of the cell hold too
        px, py = x + min(k * 0.5 * cell_m, FACADE_MAX_M) * ux, y + min(k * 0.5 * cell_m, FACADE_MAX_M) * uy
        column, row = int(px / cell_m), int(py / cell_m)
        if px < 0.0 or py < 0.0 or column >= obstacles.n_columns or row >= obstacles.n_rows:
            break
        cell = row * obstacles.n_columns + column
        if cell == last:
            continue
        last = cell
        for r in range(max(row - 1, 0), min(row + 2, obstacles.n_rows)):
            for c in range(max(column - 1, 0), min(column + 2, obstacles.n_columns)):
                near = r * obstacles.n_columns + c
                for e in range(obstacles.start[near], obstacles.start[near + 1]):
                    if obstacles.owner[e] >= obstacles.n_buildings:
                        continue
                    ax, ay = obstacles.edge[e, 0] - x, obstacles.edge[e, 1] - y
                    ex, ey = obstacles.edge[e, 2] - x - ax, obstacles.edge[e, 3] - y - ay
                    across = ux * ey - uy * ex
                    if across == 0.0:
                        continue
                    distance = (ax * ey - ay * ex) / across
                    t = (ax * uy - ay * ux) / across
                    if MARGIN_M < distance < nearest and 0.0 <= t <= 1.0:
                        nearest, found = distance, obstacles.owner[e]
        if found >= 0 and nearest < (k - 1) * 0.5 * cell_m:
            break
    return nearest, found
