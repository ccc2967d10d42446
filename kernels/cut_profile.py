"""The profile between two points of a city: buildings, screens, terrain and ground under a straight line.

The line walks through the cells of :class:`kernels.obstacles.Obstacles`; what it meets is written as the
points of a path of :mod:`kernels.cnossos_path`.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.obstacles import Obstacles, ground_height

MAX_POINTS = 1024
MAX_OVERLAP = 32  # buildings that overlap in one place
TERRAIN_WITHIN_M = 0.1  # straight pieces of terrain lie within this of its samples
_TOGETHER_M = 0.01  # faces nearer than this stand at one place
_MAX_EVENTS = 256  # of one cell

# Functions that are called for each path allocate nothing, so they count no references either (_nrt=False):
# an array that is handed over costs two locked instructions otherwise, together a fifth of the time.

# Layout of the integers: how many buildings the line is in or has met, then their numbers, then how often it
# is in each: below 0 for a building that it began in, which it leaves without having entered.
_N, _WHO, _HOW_OFTEN = 0, 1, 1 + MAX_OVERLAP
CUT_INTEGERS = 1 + 2 * MAX_OVERLAP


def cut_workspace() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Arrays for one thread."""
    return np.empty(2 * _MAX_EVENTS), np.zeros(CUT_INTEGERS, dtype=np.int64)


@njit(cache=True, error_model="numpy", nogil=True, _nrt=False)
def cut_profile(
    obstacles: Obstacles,
    from_x: float,
    from_y: float,
    to_x: float,
    to_y: float,
    x: NDArray[np.float64],
    z: NDArray[np.float64],
    g: NDArray[np.float64],
    begin: int,
    events: NDArray[np.float64],
    within: NDArray[np.int64],
) -> int:
    """Write the points of the profile from one point to another, at least two.

    A building around the first point is passed over: sound that leaves a passage is not held back by what is
    above it.

    Parameters
    ----------
    obstacles : Obstacles
    from_x, from_y, to_x, to_y : float
        Within the grid, relative to its origin [m].
    x, z, g : (MAX_POINTS,) float64
        Results.
    begin : int
        0, or the last point of a first leg (of a reflected path), from which the profile goes on.
    events, within
        From :func:`cut_workspace`; ``within`` keeps its content from the leg before if ``begin`` is above 0.

    Returns
    -------
    int
        End of the points; -1 where there are more than fit.
    """
    cell_m, n_columns, n_buildings = obstacles.cell_m, obstacles.n_columns, obstacles.n_buildings
    start, edge, owner_of, top = obstacles.start, obstacles.edge, obstacles.owner, obstacles.top
    factors = obstacles.g
    has_factors = factors.size > 1
    dx, dy = to_x - from_x, to_y - from_y
    length = np.sqrt(dx * dx + dy * dy)
    column, row = int(from_x / cell_m), int(from_y / cell_m)
    last_column, last_row = int(to_x / cell_m), int(to_y / cell_m)
    n_cells = abs(last_column - column) + abs(last_row - row)
    right, up = (1 if dx > 0.0 else -1), (n_columns if dy > 0.0 else -n_columns)
    next_x = ((column + (dx > 0.0)) * cell_m - from_x) / dx if dx != 0.0 else np.inf
    next_y = ((row + (dy > 0.0)) * cell_m - from_y) / dy if dy != 0.0 else np.inf
    over_x = cell_m / abs(dx) if dx != 0.0 else np.inf
    over_y = cell_m / abs(dy) if dy != 0.0 else np.inf
    has_terrain = obstacles.ground.shape[0] > 1

    x0 = 0.0
    roof = -np.inf
    if begin == 0:
        within[_N] = 0
    else:
        x0 = x[begin]
        roof = _roof(top, within)
    z_here = ground_height(obstacles, from_x, from_y) if has_terrain else 0.0
    factor = float(factors[row * n_columns + column if has_factors else 0])
    n = begin
    x[n], z[n] = x0, max(z_here, roof)
    g[n] = 0.0 if roof > z_here else factor
    n += 1
    base, wall = -1, -np.inf  # first point of the faces that stand together, and the highest screen there
    # of the terrain since the last point: the slopes that pass all samples, and the last sample
    low, high, x_last, z_last = -np.inf, np.inf, x0, z_here

    t_in = 0.0
    cell = row * n_columns + column
    for step in range(n_cells + 1):
        t_out = min(next_x, next_y) if step < n_cells else np.inf
        n_events = 0
        for k in range(start[cell], start[cell + 1]):
            ax, ay = float(edge[k, 0]) - from_x, float(edge[k, 1]) - from_y
            bx, by = float(edge[k, 2]) - from_x, float(edge[k, 3]) - from_y
            side_a, side_b = dx * ay - dy * ax, dx * by - dy * bx
            if (side_a < 0.0) == (side_b < 0.0):
                continue
            t = (ax * (by - ay) - ay * (bx - ax)) / (side_b - side_a)
            if t < t_in or t >= t_out or t > 1.0:
                continue
            if n_events == _MAX_EVENTS:
                return -1
            i = n_events
            while i > 0 and events[2 * i - 2] > t:
                events[2 * i], events[2 * i + 1] = events[2 * i - 2], events[2 * i - 1]
                i -= 1
            # the building lies to the left of its edge: who crosses from the left of it leaves
            who = float(owner_of[k] + 1)
            events[2 * i], events[2 * i + 1] = t, -who if side_a < 0.0 else who
            n_events += 1
        for i in range(n_events):
            at = x0 + events[2 * i] * length
            owner = int(abs(events[2 * i + 1])) - 1
            is_screen = owner >= n_buildings
            if n + 4 > MAX_POINTS:
                return -1
            z_here = (
                ground_height(obstacles, from_x + events[2 * i] * dx, from_y + events[2 * i] * dy)
                if has_terrain
                else 0.0
            )
            if base < 0 or at - x[base] > _TOGETHER_M:
                if has_terrain and roof <= z_here:
                    slope = (z_here - z[n - 1]) / max(at - x[n - 1], 1e-9)
                    if (slope < low or slope > high) and x_last > x[n - 1]:
                        x[n], z[n], g[n] = x_last, z_last, factor
                        n += 1
                base, wall = n, -np.inf
                x[n], z[n] = at, max(roof, z_here)
            n = base + 1
            if is_screen:
                wall = max(wall, top[owner])
            else:
                is_entered = events[2 * i + 1] > 0.0
                if is_entered and within[_N] == 0:
                    within[_N], within[_WHO], within[_HOW_OFTEN] = 1, owner, 1
                    roof = top[owner]
                elif not is_entered and within[_N] == 1 and within[_WHO] == owner and within[_HOW_OFTEN] == 1:
                    within[_N] = 0
                    roof = -np.inf
                else:
                    if not _count(within, owner, 1 if is_entered else -1):
                        return -1
                    roof = _roof(top, within)
            after = max(roof, z_here)
            g[base] = 0.0 if roof > z_here else factor
            if wall > max(z[base], after):
                x[n], z[n], g[n] = x[base], wall, g[base]
                n += 1
            if n > base + 1 or after != z[base]:
                x[n], z[n], g[n] = x[base], after, g[base]
                n += 1
            low, high, x_last, z_last = -np.inf, np.inf, x[base], z_here
        if step == n_cells:
            break
        go_x = next_x < next_y
        cell += right if go_x else up
        next_x += over_x if go_x else 0.0
        next_y += 0.0 if go_x else over_y
        t_in = t_out
        new_factor = float(factors[cell]) if has_factors else factor
        if has_terrain or new_factor != factor:
            at = x0 + t_in * length
            z_here = ground_height(obstacles, from_x + t_in * dx, from_y + t_in * dy) if has_terrain else 0.0
            if roof > z_here or at - x[n - 1] < _TOGETHER_M:
                factor = new_factor
                if roof <= z_here:
                    g[n - 1] = factor
                continue
            if n + 4 > MAX_POINTS:
                return -1
            slope = (z_here - z[n - 1]) / (at - x[n - 1])
            if slope < low or slope > high:
                x[n], z[n], g[n] = x_last, z_last, factor
                n += 1
                low, high = -np.inf, np.inf
            if new_factor != factor:
                x[n], z[n], g[n] = at, z_here, new_factor
                n += 1
                low, high = -np.inf, np.inf
            else:
                span = max(at - x[n - 1], _TOGETHER_M)
                low = max(low, (z_here - TERRAIN_WITHIN_M - z[n - 1]) / span)
                high = min(high, (z_here + TERRAIN_WITHIN_M - z[n - 1]) / span)
            factor = new_factor
            x_last, z_last = at, z_here

    z_here = ground_height(obstacles, to_x, to_y) if has_terrain else 0.0
    if has_terrain and roof <= z_here and x_last > x[n - 1]:
        slope = (z_here - z[n - 1]) / max(x0 + length - x[n - 1], _TOGETHER_M)
        if slope < low or slope > high:
            x[n], z[n], g[n] = x_last, z_last, factor
            n += 1
    x[n], z[n], g[n] = x0 + length, max(roof, z_here), factor
    return n + 1


@njit(cache=True, error_model="numpy", nogil=True, _nrt=False)
def _count(within: NDArray[np.int64], owner: int, change: int) -> bool:
    """Enter or leave a building; False when too many overlap."""
    n = within[_N]
    for k in range(n):
        if within[_WHO + k] == owner:
            within[_HOW_OFTEN + k] += change
            if within[_HOW_OFTEN + k] == 0:  # the last one takes its place
                within[_WHO + k], within[_HOW_OFTEN + k] = within[_WHO + n - 1], within[_HOW_OFTEN + n - 1]
                within[_N] = n - 1
            return True
    if n == MAX_OVERLAP:
        return False
    within[_WHO + n], within[_HOW_OFTEN + n] = owner, change
    within[_N] = n + 1
    return True


@njit(cache=True, error_model="numpy", nogil=True, _nrt=False)
def _roof(top: NDArray[np.float64], within: NDArray[np.int64]) -> float:
    """Highest top of the buildings that a line is in, -inf in the open."""
    roof = -np.inf
    for k in range(within[_N]):
        if within[_HOW_OFTEN + k] > 0:
            roof = max(roof, top[within[_WHO + k]])
    return roof
