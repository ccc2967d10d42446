"""What stands and lies between roads and receptors, in the cells of a uniform grid.

Walls of buildings and screens are straight edges, upright, with a level top. Each cell lists the edges that
reach into it, and has a ground factor; terrain is given at the corners of the cells.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

CELL_M = 10.0
_SLACK_M = 0.01  # an edge is listed in the cells that it reaches within this, against rounding


class Obstacles(NamedTuple):
    """Obstacles of a city. Coordinates are relative to ``origin``.

    Attributes
    ----------
    origin : (2,) float64
        South-west corner of the grid [m].
    cell_m : float
        Side of a cell [m].
    n_columns, n_rows : int
    start : (n_cells + 1,) int32
        Cell (row, column) lists the entries from ``start[row * n_columns + column]``.
    edge : (n_entries, 4) float32
        Both ends of an edge, x and y; a building lies to the left of it [m].
    owner : (n_entries,) int32
        Of which building or screen; those from ``n_buildings`` on are screens.
    top : (n_owners,) float64
        Height of the upper edge above the datum [m].
    n_buildings : int
    g : (n_cells,) float32
        Ground factor where no building stands; (1,) if it is the same everywhere.
    ground : (n_rows + 1, n_columns + 1) float32
        Height of the terrain at the corners of the cells above the datum [m]; level if (1, 1).
    """

    origin: NDArray[np.float64]
    cell_m: float
    n_columns: int
    n_rows: int
    start: NDArray[np.int32]
    edge: NDArray[np.float32]
    owner: NDArray[np.int32]
    top: NDArray[np.float64]
    n_buildings: int
    g: NDArray[np.float32]
    ground: NDArray[np.float32]


def index_obstacles(
    origin: tuple[float, float],
    shape: tuple[int, int],
    edge: NDArray[np.float64],
    owner: NDArray[np.int32],
    top: NDArray[np.float64],
    n_buildings: int,
    g: NDArray[np.float32] | float,
    ground: NDArray[np.float32] | None = None,
    *,
    cell_m: float = CELL_M,
) -> Obstacles:
    """Obstacles in cells.

    Parameters
    ----------
    origin : (float, float)
        South-west corner [m].
    shape : (int, int)
        Rows and columns of cells.
    edge : (n_edges, 4) float64
        Ends of the edges [m], not relative; closed rings around each building, the building on the left.
        A building that reaches beyond the grid is left out.
    owner : (n_edges,) int32
    top : (n_owners,) float64
    n_buildings : int
        The owners before it are buildings, the others screens.
    g : (n_rows, n_columns) float32, or float
        Ground factor.
    ground : (n_rows + 1, n_columns + 1) float32, optional
        None for level ground at 0.
    cell_m : float
    """
    n_rows, n_columns = shape
    local = (edge - np.array([*origin, *origin])).reshape(-1, 4).astype(np.float32)
    limit = np.array([n_columns, n_rows, n_columns, n_rows]) * cell_m - 1.0
    fits = np.ones(top.size, dtype=bool)
    fits[owner[((local < 1.0) | (local > limit)).any(axis=1)]] = False
    local, owner = local[fits[owner]], owner[fits[owner]].astype(np.int32)
    count = np.zeros(n_rows * n_columns + 1, dtype=np.int32)
    _list_edges(local, n_columns, cell_m, count, np.empty(0, dtype=np.int32))
    start = np.concatenate([[0], np.cumsum(count[:-1])]).astype(np.int32)
    entry = np.empty(int(start[-1]), dtype=np.int32)
    _list_edges(local, n_columns, cell_m, start[:-1].copy(), entry)
    return Obstacles(
        np.array(origin, dtype=np.float64), float(cell_m), n_columns, n_rows, start,
        np.ascontiguousarray(local[entry]), owner[entry], np.ascontiguousarray(top, dtype=np.float64),
        int(n_buildings), np.asarray(g, dtype=np.float32).reshape(-1),
        np.zeros((1, 1), dtype=np.float32) if ground is None else np.ascontiguousarray(ground, np.float32),
    )  # fmt: skip


@njit(cache=True, error_model="numpy", nogil=True)
def _list_edges(
    edge: NDArray[np.float32],
    n_columns: int,
    cell_m: float,
    at: NDArray[np.int32],
    entry: NDArray[np.int32],
) -> None:
    """Count the edges of each cell in ``at``, or write them to ``entry`` from there."""
    slack = _SLACK_M / cell_m
    for e in range(edge.shape[0]):
        ax, ay = float(edge[e, 0]) / cell_m, float(edge[e, 1]) / cell_m
        bx, by = float(edge[e, 2]) / cell_m, float(edge[e, 3]) / cell_m
        first_row, last_row = int(min(ay, by) - slack), int(max(ay, by) + slack)
        for row in range(first_row, last_row + 1):
            # the part of the edge within the row, and the columns that it spans
            t0, t1 = 0.0, 1.0
            if ay != by:
                u, v = (row - slack - ay) / (by - ay), (row + 1 + slack - ay) / (by - ay)
                t0, t1 = max(min(u, v), 0.0), min(max(u, v), 1.0)
            x0, x1 = ax + t0 * (bx - ax), ax + t1 * (bx - ax)
            for column in range(int(min(x0, x1) - slack), int(max(x0, x1) + slack) + 1):
                cell = row * n_columns + column
                if entry.size:
                    entry[at[cell]] = e
                at[cell] += 1


@njit(cache=True, error_model="numpy", nogil=True, _nrt=False)
def ground_height(obstacles: Obstacles, x: float, y: float) -> float:
    """Height of the terrain above the datum, bilinear within a cell; x and y relative to the origin [m]."""
    ground = obstacles.ground
    if ground.shape[0] == 1:
        return 0.0
    u, v = x / obstacles.cell_m, y / obstacles.cell_m
    column = min(max(int(u), 0), obstacles.n_columns - 1)
    row = min(max(int(v), 0), obstacles.n_rows - 1)
    u, v = u - column, v - row
    south = ground[row, column] * (1.0 - u) + ground[row, column + 1] * u
    north = ground[row + 1, column] * (1.0 - u) + ground[row + 1, column + 1] * u
    return south * (1.0 - v) + north * v


@njit(cache=True, error_model="numpy", nogil=True, _nrt=False)
def is_indoors(obstacles: Obstacles, x: float, y: float) -> bool:
    """Whether a point lies within a building; x and y relative to the origin [m]."""
    row = int(y / obstacles.cell_m)
    winding = 0
    for column in range(int(x / obstacles.cell_m), obstacles.n_columns):
        left, right = max(column * obstacles.cell_m, x), (column + 1) * obstacles.cell_m
        cell = row * obstacles.n_columns + column
        for k in range(obstacles.start[cell], obstacles.start[cell + 1]):
            if obstacles.owner[k] >= obstacles.n_buildings:
                continue
            ax, ay = float(obstacles.edge[k, 0]), float(obstacles.edge[k, 1])
            bx, by = float(obstacles.edge[k, 2]), float(obstacles.edge[k, 3])
            if (ay <= y) == (by <= y):
                continue
            at = ax + (y - ay) / (by - ay) * (bx - ax)
            if left <= at < right:
                winding += 1 if by > ay else -1
    return winding > 0


@njit(cache=True, error_model="numpy", nogil=True)
def indoors(obstacles: Obstacles, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which crossings of columns x and rows y lie within a building, (n_y, n_x); not relative [m]."""
    found = np.zeros((y.size, x.size), dtype=np.bool_)
    for row in range(y.size):
        for column in range(x.size):
            found[row, column] = is_indoors(
                obstacles, x[column] - obstacles.origin[0], y[row] - obstacles.origin[1]
            )
    return found
