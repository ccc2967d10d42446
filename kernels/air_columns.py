"""Integer coefficient columns: what one ug/m/s on a segment adds at each receptor.

* SRM1 streets: one static column a segment (receptors within 60 m), to be scaled by the hour's factor when
read.
* SRM2 roads: the receptors within 300 m ("near") and a grid of 50 m nodes over all receptors without a
cut-off ("far").
  Their coefficients depend on the wind and are computed again when it changes; what does not is kept here.
  Between 100 and 300 m a quintic blend hands over from near to far, so nothing is counted twice and no edge
  shows.

Against a sum without blend and nodes the fields of roads err by 0.25 % rms (of the field's rms), and by at
most 2 % of the local value, between 100 and 900 m (tested).

Coefficients are at a reference wind of 5 m/s. Quanta: :mod:`kernels.fixedpoint`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels import srm1, srm2
from kernels.emission import EMISSION_MAX_QUANTA
from kernels.fixedpoint import AIR_COEFFICIENT_BITS, quantise_coefficient
from kernels.gate import GateBound
from kernels.receptors import ReceptorGrid
from kernels.transfer import n_threads

NEAR_INNER_M = 100.0
NEAR_OUTER_M = 300.0
FAR_STEP_M = 50.0
# A plume is a quarter as wide as it is long (srm2.SIGMA_THETA_RAD). Points farther apart than one and a half
# of its standard deviations show as ripples: 3e-4 of the value at 1.5, 1.4 % at 2, 58 % at 4.
SUBSOURCE_STEPS_M = 1.0 * 2.0 ** np.arange(11)  # 1 to 1024 m
STEP_PER_DISTANCE = 0.375
UNIFORM_BOUND = -1.0
ROAD_PARTS = 24  # shares of the roads that threads take in turn
QUANTA = 2.0**AIR_COEFFICIENT_BITS
COEFFICIENT_LIMIT = 2.0 - 2.0**-29  # of an int32; only a bounding coefficient may reach it


class AirColumnsError(ValueError):
    """Columns that cannot be built; the message names what is at fault."""


@dataclass(frozen=True, slots=True)
class FarGrid:
    """Nodes of the far field, every 50 m, from the south-west corner of the receptors to beyond the
    north-east."""

    x_min: float
    y_min: float
    n_columns: int
    n_rows: int

    @property
    def n_nodes(self) -> int:
        return self.n_rows * self.n_columns


def far_grid(grid: ReceptorGrid) -> FarGrid:
    """Nodes that surround every receptor, with one more on each side for cubic interpolation."""
    return FarGrid(
        x_min=grid.x_min - FAR_STEP_M,
        y_min=grid.y_min - FAR_STEP_M,
        n_columns=int(np.ceil(grid.n_columns * grid.step_m / FAR_STEP_M)) + 3,
        n_rows=int(np.ceil(grid.n_rows * grid.step_m / FAR_STEP_M)) + 3,
    )


@dataclass(frozen=True, slots=True)
class Subsources:
    """Points along SRM2 roads, for each road at every step of :data:`SUBSOURCE_STEPS_M`.

    Attributes
    ----------
    xy : (n_points, 2) float64
        Coordinates [m].
    start : (n_roads, n_levels + 1) int64
        Points of road r at level k are ``start[r, k]:start[r, k + 1]``.
    length_m : (n_roads,) float64
        Length of the road, shared equally by the points of a level [m].
    """

    xy: NDArray[np.float64]
    start: NDArray[np.int64]
    length_m: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class AirColumns:
    """What is known of the dispersion before the wind.

    Attributes
    ----------
    n_segments : int
    grid : ReceptorGrid
    mean_wind_m_s, roughness_m : float
    street_start : (n_segments + 1,) int64, street_cell : int32, street_coefficient : int32
        SRM1 columns; empty for SRM2 roads and for segments without motor traffic [2^-30 (ug/m3)/(ug/m/s)].
    road_segment : (n_roads,) int32
        Segments that are SRM2.
    road_table : (n_roads,) int8
        Row of ``plume_tables`` of each road.
    near_start : (n_roads + 1,) int64, near_cell : int32, near_distance_m : float32
        Receptors within 300 m of each road and their distance.
    far_distance_m : (n_roads, n_nodes) float32
        Distance of each node to each road.
    subsources : Subsources
    plume_tables : (n_tables, n) float64
        See :func:`kernels.srm2.plume_table`.
    bound : GateBound
        Largest coefficients, for the change gate.
    emission_limit : int
        Emission [2^-20 ug/m/s] up to which no accumulator can overflow, whatever the wind.
    """

    n_segments: int
    grid: ReceptorGrid
    mean_wind_m_s: float
    roughness_m: float
    street_start: NDArray[np.int64]
    street_cell: NDArray[np.int32]
    street_coefficient: NDArray[np.int32]
    road_segment: NDArray[np.int32]
    road_table: NDArray[np.int8]
    near_start: NDArray[np.int64]
    near_cell: NDArray[np.int32]
    near_distance_m: NDArray[np.float32]
    far_distance_m: NDArray[np.float32]
    subsources: Subsources
    plume_tables: NDArray[np.float64]
    bound: GateBound
    emission_limit: int

    @property
    def far(self) -> FarGrid:
        return far_grid(self.grid)


@dataclass(frozen=True, slots=True)
class RoadColumns:
    """Coefficients of SRM2 roads for one wind [2^-30 (ug/m3)/(ug/m/s) at 5 m/s].

    Attributes
    ----------
    near : (n_near,) int32
        In the order of ``AirColumns.near_cell``.
    far : (n_roads, n_nodes) int32
    """

    near: NDArray[np.int32]
    far: NDArray[np.int32]


def street_column(
    grid: ReceptorGrid, line: NDArray[np.float64], road_type: srm1.RoadType = srm1.RoadType.GENERAL
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Cells and coefficients of an SRM1 street, each (n,), by rising cell; line is (m, 2) [m]."""
    window = _window(grid, line, srm1.DISTANCE_MAX_M)
    if window is None:
        return np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int32)
    row0, row1, column0, column1 = window
    x = np.tile(grid.x()[column0:column1], row1 - row0)
    y = np.repeat(grid.y()[row0:row1], column1 - column0)
    coefficient = quantise_coefficient(srm1.line_coefficients(x, y, line, srm1.PARAMETERS[road_type - 1]))
    cell = _window_cells(grid, window)
    some = coefficient > 0
    return cell[some], coefficient[some]


def near_cells(
    grid: ReceptorGrid, line: NDArray[np.float64]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Cells within 300 m of a road and their distance [m], each (n,), by rising cell."""
    window = _window(grid, line, NEAR_OUTER_M)
    if window is None:
        return np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32)
    row0, row1, column0, column1 = window
    x = np.tile(grid.x()[column0:column1], row1 - row0)
    y = np.repeat(grid.y()[row0:row1], column1 - column0)
    distance = distances_to_line(x, y, line)
    some = distance < NEAR_OUTER_M
    return _window_cells(grid, window)[some], distance[some].astype(np.float32)


def far_distances(grid: ReceptorGrid, line: NDArray[np.float64]) -> NDArray[np.float32]:
    """Distance of each node of the far grid to a road [m], (n_nodes,)."""
    far = far_grid(grid)
    x = np.tile(far.x_min + FAR_STEP_M * np.arange(far.n_columns), far.n_rows)
    y = np.repeat(far.y_min + FAR_STEP_M * np.arange(far.n_rows), far.n_columns)
    return distances_to_line(x, y, line).astype(np.float32)


def subsources(lines: list[NDArray[np.float64]]) -> Subsources:
    """Points at the middle of equal parts of each road, for every step."""
    points: list[NDArray[np.float64]] = []
    start = np.zeros((len(lines), SUBSOURCE_STEPS_M.size + 1), dtype=np.int64)
    length = np.zeros(len(lines))
    total = 0
    for r, line in enumerate(lines):
        along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
        length[r] = along[-1]
        for k, step in enumerate(SUBSOURCE_STEPS_M):
            start[r, k] = total
            n = max(1, int(np.ceil(length[r] / step)))
            at = (np.arange(n) + 0.5) * (length[r] / n)
            points.append(
                np.stack([np.interp(at, along, line[:, 0]), np.interp(at, along, line[:, 1])], axis=1)
            )
            total += n
        start[r, -1] = total
    xy = np.concatenate(points) if points else np.empty((0, 2))
    return Subsources(xy=xy, start=start, length_m=length)


def road_columns(columns: AirColumns, wind_m_s: float, wind_from_deg: float) -> RoadColumns:
    """Coefficients of the SRM2 roads for a wind, at the reference speed of 5 m/s.

    The speed enters only through the meandering; see :func:`kernels.srm2.hourly_factor` for the rest.
    """
    toward_x, toward_y = srm2.transport_vector(wind_from_deg)
    return _road_columns(columns, toward_x, toward_y, srm2.meander_share(wind_m_s))


def bounding_columns(columns: AirColumns) -> RoadColumns:
    """Coefficients that no wind direction exceeds: every sub-source blows straight at every receptor."""
    return _road_columns(columns, 1.0, 0.0, UNIFORM_BOUND)


def _road_columns(columns: AirColumns, toward_x: float, toward_y: float, meander: float) -> RoadColumns:
    """Both kinds of coefficients, roads shared among threads; each road writes only its own."""
    grid, far, points = columns.grid, columns.far, columns.subsources
    near = np.empty(columns.near_cell.size, dtype=np.int32)
    far_values = np.empty(columns.far_distance_m.shape, dtype=np.int32)
    x = far.x_min + FAR_STEP_M * np.arange(far.n_columns)
    y = far.y_min + FAR_STEP_M * np.arange(far.n_rows)
    grid_x, grid_y = grid.x(), grid.y()

    def fill(first: int, last: int) -> float:
        largest_near = _fill_near(
            near, first, last, columns.near_start, columns.near_cell, columns.near_distance_m, grid_x, grid_y,
            points.xy, points.start, points.length_m, columns.plume_tables, columns.road_table, toward_x,
            toward_y, meander,
        )  # fmt: skip
        largest_far = _fill_far(
            far_values, first, last, columns.far_distance_m, x, y, points.xy, points.start, points.length_m,
            columns.plume_tables, columns.road_table, toward_x, toward_y, meander,
        )  # fmt: skip
        return max(largest_near, largest_far)

    n_roads = int(columns.road_segment.size)
    edges = np.unique(np.linspace(0, n_roads, ROAD_PARTS + 1).astype(int)).tolist()
    with ThreadPoolExecutor(n_threads()) as pool:
        largest = max(pool.map(fill, edges[:-1], edges[1:]), default=0.0)
    if not largest < COEFFICIENT_LIMIT and meander != UNIFORM_BOUND:
        raise AirColumnsError(
            f"coefficient of an SRM2 road: got {largest}, expected below 2 (ug/m3)/(ug/m/s)"
        )
    return RoadColumns(near=near, far=far_values)


def emission_limit(largest_sum: int) -> int:
    """Emission [2^-20 ug/m/s] up to which a sum of coefficients [2^-30] times it stays within an int64."""
    return min(EMISSION_MAX_QUANTA, (2**63 - 1) // max(1, largest_sum))


@njit(cache=True, error_model="numpy")
def distances_to_line(
    x: NDArray[np.float64], y: NDArray[np.float64], line: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Distance of points to a polyline [m], (n,)."""
    out = np.empty(x.size)
    for i in range(x.size):
        nearest = np.inf
        for k in range(line.shape[0] - 1):
            ax, ay = line[k, 0], line[k, 1]
            dx, dy = line[k + 1, 0] - ax, line[k + 1, 1] - ay
            squared = dx * dx + dy * dy
            t = 0.0
            if squared > 0.0:
                t = min(max(((x[i] - ax) * dx + (y[i] - ay) * dy) / squared, 0.0), 1.0)
            ex, ey = x[i] - ax - t * dx, y[i] - ay - t * dy
            nearest = min(nearest, ex * ex + ey * ey)
        out[i] = np.sqrt(nearest)
    return out


@njit(cache=True, error_model="numpy")
def _road_coefficient(
    x: float,
    y: float,
    distance: float,
    xy: NDArray[np.float64],
    start: NDArray[np.int64],
    length: float,
    table: NDArray[np.float64],
    toward_x: float,
    toward_y: float,
    meander: float,
) -> float:
    level, step = 0, 2.0
    while level + 2 < start.size and step <= STEP_PER_DISTANCE * distance:
        level += 1
        step *= 2.0
    first, last = start[level], start[level + 1]
    total = 0.0
    for p in range(first, last):
        total += srm2.point_coefficient(x - xy[p, 0], y - xy[p, 1], table, toward_x, toward_y, meander)
    return total * length / (last - first)


@njit(cache=True, error_model="numpy", nogil=True)
def _fill_near(
    out: NDArray[np.int32],
    first: int,
    last: int,
    near_start: NDArray[np.int64],
    near_cell: NDArray[np.int32],
    distance: NDArray[np.float32],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    xy: NDArray[np.float64],
    start: NDArray[np.int64],
    length: NDArray[np.float64],
    tables: NDArray[np.float64],
    road_table: NDArray[np.int8],
    toward_x: float,
    toward_y: float,
    meander: float,
) -> float:
    largest = 0.0
    for r in range(first, last):
        for k in range(near_start[r], near_start[r + 1]):
            row, column = divmod(near_cell[k], x.size)
            d = np.float64(distance[k])
            share = 1.0 - srm2.blend(d, NEAR_INNER_M, NEAR_OUTER_M)
            value = share * _road_coefficient(
                x[column],
                y[row],
                d,
                xy,
                start[r],
                length[r],
                tables[road_table[r]],
                toward_x,
                toward_y,
                meander,
            )
            largest = max(largest, value)
            out[k] = np.int32(np.rint(min(value, COEFFICIENT_LIMIT) * QUANTA))
    return largest


@njit(cache=True, error_model="numpy", nogil=True)
def _fill_far(
    out: NDArray[np.int32],
    first: int,
    last: int,
    distance: NDArray[np.float32],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    xy: NDArray[np.float64],
    start: NDArray[np.int64],
    length: NDArray[np.float64],
    tables: NDArray[np.float64],
    road_table: NDArray[np.int8],
    toward_x: float,
    toward_y: float,
    meander: float,
) -> float:
    largest = 0.0
    for r in range(first, last):
        table, start_r = tables[road_table[r]], start[r]
        for i in range(y.size):
            for j in range(x.size):
                node = i * x.size + j
                d = np.float64(distance[r, node])
                share = srm2.blend(d, NEAR_INNER_M, NEAR_OUTER_M)
                value = 0.0
                if share > 0.0:
                    value = share * _road_coefficient(
                        x[j], y[i], d, xy, start_r, length[r], table, toward_x, toward_y, meander
                    )
                largest = max(largest, value)
                out[r, node] = np.int32(np.rint(min(value, COEFFICIENT_LIMIT) * QUANTA))
    return largest


def _window(
    grid: ReceptorGrid, line: NDArray[np.float64], reach_m: float
) -> tuple[int, int, int, int] | None:
    """Rows and columns of the receptors that may lie within a reach of a line; None without any."""
    low, high = line.min(axis=0) - reach_m, line.max(axis=0) + reach_m
    column0 = max(0, int(np.floor((low[0] - grid.x_min) / grid.step_m)))
    column1 = min(grid.n_columns, int(np.ceil((high[0] - grid.x_min) / grid.step_m)))
    row0 = max(0, int(np.floor((low[1] - grid.y_min) / grid.step_m)))
    row1 = min(grid.n_rows, int(np.ceil((high[1] - grid.y_min) / grid.step_m)))
    return None if row1 <= row0 or column1 <= column0 else (row0, row1, column0, column1)


def _window_cells(grid: ReceptorGrid, window: tuple[int, int, int, int]) -> NDArray[np.int32]:
    row0, row1, column0, column1 = window
    rows = np.arange(row0, row1, dtype=np.int32)[:, None] * np.int32(grid.n_columns)
    return np.asarray((rows + np.arange(column0, column1, dtype=np.int32)).ravel())
