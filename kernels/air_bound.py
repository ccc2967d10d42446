"""Largest coefficient of each segment in coarse cells, for the change gate, whatever the weather."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels import srm1, srm2
from kernels.air_columns import FAR_STEP_M, AirColumns, RoadColumns
from kernels.gate import GateBound, gate_bound

CELL_M = 250.0
CUBIC_OVERSHOOT = 1.25**2  # largest sum of the absolute cubic weights in two dimensions
_QUANTUM = 2.0**-30


def air_gate_bound(columns: AirColumns, roads: RoadColumns) -> GateBound:
    """Bound for the change gate.

    For each segment and coarse cell of 250 m the largest coefficient at its receptors, times the largest
    factor of the hour (calm). SRM2 roads count with the bound over wind directions, their far field with the
    largest node within reach of the interpolation.

    Parameters
    ----------
    columns : AirColumns
    roads : RoadColumns
        See :func:`kernels.air_columns.bounding_columns`.
    """
    grid = columns.grid
    width = grid.n_columns * grid.step_m
    across = int(np.ceil(width / CELL_M))
    down = int(np.ceil(grid.n_rows * grid.step_m / CELL_M))
    column = ((np.arange(grid.n_columns) + 0.5) * grid.step_m // CELL_M).astype(np.int64)
    row = ((np.arange(grid.n_rows) + 0.5) * grid.step_m // CELL_M).astype(np.int64)
    coarse = (row[:, None] * across + column[None, :]).ravel()
    street_factor = srm1.hourly_factor(0.0, columns.mean_wind_m_s) * _QUANTUM
    road_factor = srm2.hourly_factor(0.0) * _QUANTUM

    n_coarse = across * down
    street = _largest(columns.street_start, columns.street_cell, columns.street_coefficient, coarse, n_coarse)
    near = _largest_dense(columns.near_start, columns.near_cell, roads.near, coarse, n_coarse)
    far = _largest_far(columns, roads.far, across, down)
    road = (near + CUBIC_OVERSHOOT * far) * road_factor
    road_number, road_cell = np.nonzero(road)
    return gate_bound(
        cell=np.concatenate([street[0], road_cell.astype(np.int32)]),
        segment=np.concatenate([street[1], columns.road_segment[road_number]]),
        coefficient=np.concatenate([street[2] * street_factor, road[road_number, road_cell]]),
        n_cells=n_coarse,
        n_segments=columns.n_segments,
    )


def largest_sum(columns: AirColumns, roads: RoadColumns) -> int:
    """Largest sum over segments of the coefficients at a place [2^-30], of streets and of roads."""
    n = columns.grid.n_receptors
    street = np.bincount(columns.street_cell, columns.street_coefficient.astype(np.float64), n)
    near = np.bincount(columns.near_cell, roads.near.astype(np.float64), n)
    far = roads.far.sum(axis=0, dtype=np.int64)
    return int(max(street.max(initial=0.0), near.max(initial=0.0), far.max(initial=0)))


def _largest_far(columns: AirColumns, far: NDArray[np.int32], across: int, down: int) -> NDArray[np.float64]:
    """Largest node that the interpolation in each coarse cell may use, (n_roads, n_cells)."""
    grid, nodes = columns.grid, columns.far
    values = far.reshape(-1, nodes.n_rows, nodes.n_columns)
    out = np.zeros((values.shape[0], down, across))
    x0, y0 = nodes.x_min - grid.x_min, nodes.y_min - grid.y_min
    for i in range(down):
        rows = _reach(i, y0, nodes.n_rows)
        band = values[:, rows].max(axis=1, initial=0)
        for j in range(across):
            out[:, i, j] = band[:, _reach(j, x0, nodes.n_columns)].max(axis=1, initial=0)
    return out.reshape(values.shape[0], down * across)


def _reach(cell: int, first_m: float, n: int) -> slice:
    """Nodes from two before the cell to two after it."""
    low = int(np.floor((cell * CELL_M - first_m) / FAR_STEP_M)) - 1
    high = int(np.ceil(((cell + 1) * CELL_M - first_m) / FAR_STEP_M)) + 2
    return slice(max(0, low), min(n, high))


@njit(cache=True, error_model="numpy")
def _largest_dense(
    start: NDArray[np.int64],
    cell: NDArray[np.int32],
    coefficient: NDArray[np.int32],
    coarse: NDArray[np.int64],
    n_coarse: int,
) -> NDArray[np.float64]:
    out = np.zeros((start.size - 1, n_coarse))
    for r in range(start.size - 1):
        for k in range(start[r], start[r + 1]):
            at = coarse[cell[k]]
            out[r, at] = max(out[r, at], np.float64(coefficient[k]))
    return out


@njit(cache=True, error_model="numpy")
def _largest(
    start: NDArray[np.int64],
    cell: NDArray[np.int32],
    coefficient: NDArray[np.int32],
    coarse: NDArray[np.int64],
    n_coarse: int,
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    """Coarse cell, segment and largest coefficient of each pair that touches."""
    largest = np.zeros(n_coarse)
    cells = np.empty(cell.size, dtype=np.int32)
    segments = np.empty(cell.size, dtype=np.int32)
    values = np.empty(cell.size)
    n = 0
    for s in range(start.size - 1):
        first = n
        for k in range(start[s], start[s + 1]):
            at = coarse[cell[k]]
            if largest[at] == 0.0:
                cells[n], segments[n] = at, s
                n += 1
            largest[at] = max(largest[at], np.float64(coefficient[k]))
        for i in range(first, n):
            values[i] = largest[cells[i]]
            largest[cells[i]] = 0.0
    return cells[:n], segments[:n], values[:n]
