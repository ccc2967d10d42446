"""Largest coefficient of each segment in coarse cells, for the change gate, whatever the weather."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels import srm1, srm2
from kernels.air_columns import AirColumns, near_columns
from kernels.emission import EMISSION_MAX_QUANTA
from kernels.gate import GateBound, gate_bound
from kernels.receptors import BLOCK, ReceptorGrid
from kernels.runs import Runs, add_columns

CELL_M = 250.0
MARGIN = 1.01  # near and far field together against a direct sum: at most 0.3 % more (tested)
_QUANTUM = 2.0**-30


def with_bound(columns: AirColumns, grid: ReceptorGrid) -> AirColumns:
    """Columns of a grid with the bound of the change gate and the limit of emission.

    For each segment and coarse cell of 250 m the largest coefficient at its receptors, times the largest
    factor of the hour (calm). SRM2 roads count as if every direction had the peak density; beyond the near
    field by their distance to the cell, in which the plume only falls.
    """
    bounding = srm2.bounding_winds()
    near = near_columns(columns, bounding, (np.inf, np.inf))
    return dataclasses.replace(
        columns, bound=_bound(columns, grid, near), emission_limit=emission_limit(columns, near)
    )


def emission_limit(columns: AirColumns, near: NDArray[np.int32]) -> int:
    """Emission [2^-20 ug/m/s] up to which no sum of products leaves an int64.

    ``near`` are coefficients that no wind exceeds, without blend.
    """
    blocks = columns.blocks
    largest = 1
    for runs, coefficient in ((columns.streets, columns.street_coefficient), (columns.roads, near)):
        sums = np.zeros((blocks.n_places, 4), dtype=np.int64)
        ones = np.ones((runs.n_columns, 4), dtype=np.int64)
        add_columns(sums, runs, coefficient, np.arange(runs.n_columns), ones, blocks)
        largest = max(largest, int(sums.max(initial=0)))
    for spread in columns.spreads:
        if spread.node.size:
            largest = max(largest, int(np.bincount(spread.node, spread.weight).max()))
    return min(EMISSION_MAX_QUANTA, (2**63 - 1) // largest)


def _bound(columns: AirColumns, grid: ReceptorGrid, near: NDArray[np.int32]) -> GateBound:
    blocks = columns.blocks
    across, down = (max(1, math.ceil(n * grid.step_m / CELL_M)) for n in (grid.n_columns, grid.n_rows))
    east = np.minimum((blocks.x.ravel() // CELL_M).astype(np.int64), across - 1)
    north = np.minimum((blocks.y.ravel() // CELL_M).astype(np.int64), down - 1)
    coarse, n_coarse = north * across + east, across * down
    cell, segment, street = _largest(columns.streets, columns.street_coefficient, coarse, n_coarse)
    street *= srm1.hourly_factor(0.0, columns.mean_wind_m_s) * _QUANTUM
    road_cell, road_number, of_receptors = _largest(columns.roads, near, coarse, n_coarse)
    road = np.zeros((columns.n_roads, n_coarse))
    road[road_number, road_cell] = of_receptors * _QUANTUM
    if columns.n_roads:
        reach = float(np.hypot(grid.n_columns, grid.n_rows) * grid.step_m)
        tables = {
            float(s): srm2.plume_table(
                reach + _farthest_m(columns), srm2.ROUGHNESS[columns.roughness], float(s),
                srm2.SigmaZRule(columns.rule),
            )
            for s in np.unique(columns.sigma_z0_m)
        }  # fmt: skip
        width = np.array([across, down])
        for r in range(columns.n_roads):
            some = slice(columns.elements.start[r], columns.elements.start[r + 1])
            _far_bound(
                road[r], columns.elements.middle[some], columns.elements.length_m[some],
                tables[float(columns.sigma_z0_m[r])], columns.blend_m[1], width,
            )  # fmt: skip
    road *= MARGIN * srm2.hourly_factor(0.0)
    number, at = np.nonzero(road)
    return gate_bound(
        cell=np.concatenate([cell, at.astype(np.int32)]),
        segment=np.concatenate([segment, columns.road_segment[number]]),
        coefficient=np.concatenate([street, road[number, at]]),
        n_cells=n_coarse,
        n_segments=columns.n_segments,
    )


def _farthest_m(columns: AirColumns) -> float:
    """Largest coordinate of a road [m]."""
    return float(np.hypot(*np.abs(columns.elements.middle).max(axis=0))) + 1000.0


@njit(cache=True, error_model="numpy")
def _far_bound(
    out: NDArray[np.float64],
    middle: NDArray[np.float32],
    length: NDArray[np.float32],
    table: NDArray[np.float64],
    beyond: float,
    width: NDArray[np.int64],
) -> None:
    """Raise the bound of one road to what its elements of at most 125 m may give beyond the near field."""
    n = 1
    while 2 * n - 1 < length.size and length[n - 1] > 0.5 * CELL_M:
        n *= 2
    for j in range(width[1]):
        for i in range(width[0]):
            total = 0.0
            for k in range(n - 1, 2 * n - 1):
                half = 0.5 * length[k]
                dx = max(abs(middle[k, 0] - (i + 0.5) * CELL_M) - 0.5 * CELL_M, 0.0)
                dy = max(abs(middle[k, 1] - (j + 0.5) * CELL_M) - 0.5 * CELL_M, 0.0)
                distance = max(np.sqrt(dx * dx + dy * dy) - half, beyond)
                at = int(distance / srm2.TABLE_STEP_M)
                total += length[k] * table[min(at, table.size - 1)] / distance
            cell = j * width[0] + i
            out[cell] = max(out[cell], total * srm2.DENSITY_PEAK)


def _largest(
    runs: Runs, coefficient: NDArray[np.int32], coarse: NDArray[np.int64], n_coarse: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    """Coarse cell, column and largest coefficient of each pair that touches."""
    n = _largest_into(
        runs.start, runs.block, runs.offset, coefficient, coarse, n_coarse, np.empty(0, np.int32),
        np.empty(0, np.int32), np.empty(0),
    )  # fmt: skip
    cell, column, value = np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n)
    _largest_into(runs.start, runs.block, runs.offset, coefficient, coarse, n_coarse, cell, column, value)
    return cell, column, value


@njit(cache=True, error_model="numpy")
def _largest_into(
    start: NDArray[np.int64],
    block: NDArray[np.int32],
    offset: NDArray[np.int64],
    coefficient: NDArray[np.int32],
    coarse: NDArray[np.int64],
    n_coarse: int,
    cells: NDArray[np.int32],
    columns: NDArray[np.int32],
    values: NDArray[np.float64],
) -> int:
    """Fill the pairs, if there is room for any; returns how many there are."""
    largest = np.zeros(n_coarse)
    touched = np.empty(n_coarse, dtype=np.int32)
    n = 0
    for c in range(start.size - 1):
        n_touched = 0
        for run in range(start[c], start[c + 1]):
            shift = np.int64(block[run]) * BLOCK - offset[run]
            for k in range(offset[run], offset[run + 1]):
                if coefficient[k] == 0:
                    continue
                at = coarse[k + shift]
                if largest[at] == 0.0:
                    touched[n_touched] = at
                    n_touched += 1
                largest[at] = max(largest[at], np.float64(coefficient[k]))
        for i in range(n_touched):
            if cells.size:
                cells[n], columns[n], values[n] = touched[i], c, largest[touched[i]]
            largest[touched[i]] = 0.0
            n += 1
    return n
