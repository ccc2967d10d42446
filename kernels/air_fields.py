"""Exact integer accumulators of the air fields, and their reading as concentrations.

Each of the four species (:class:`kernels.emission.Pollutant`) shares the coefficients, so an accumulator
holds four int64 a receptor. Products are integers: an update in any order equals a full recompute bit for
bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels import srm1, srm2
from kernels.air_columns import FAR_STEP_M, AirColumns, RoadColumns
from kernels.chemistry import no2_contribution
from kernels.emission import N_POLLUTANTS

QUANTUM_UG_PER_M3 = 2.0**-50
STORED_SCALE_UG_PER_M3 = 0.01
STORED_MAX = 65534  # 65535 is unknown


@dataclass(frozen=True, slots=True)
class Background:
    """Concentrations without the city's traffic [ug/m3]."""

    no2: float
    o3: float
    pm10: float
    pm25: float


class AirAccumulators:
    """Sums of coefficient times emission at receptors (streets, near) and at nodes (far).

    Attributes
    ----------
    street, near : (n_receptors, 4) int64
        Of SRM1, and of SRM2 within 300 m [2^-50 ug/m3, before the factor of the hour].
    far : (n_nodes, 4) int64
    """

    def __init__(self, columns: AirColumns) -> None:
        self._columns = columns
        self.street = np.zeros((columns.grid.n_receptors, N_POLLUTANTS), dtype=np.int64)
        self.near = np.zeros((columns.grid.n_receptors, N_POLLUTANTS), dtype=np.int64)
        self.far = np.zeros((columns.far.n_nodes, N_POLLUTANTS), dtype=np.int64)
        self._road_of = np.full(columns.n_segments, -1, dtype=np.int32)
        self._road_of[columns.road_segment] = np.arange(columns.road_segment.size, dtype=np.int32)

    def add(
        self,
        roads: RoadColumns,
        segment: NDArray[np.int64],
        change: NDArray[np.int64],
        *,
        streets: bool = True,
    ) -> int:
        """Add changes of emission; returns the number of cells touched, counted for each segment.

        Parameters
        ----------
        roads : RoadColumns
            Coefficients of SRM2 roads for the present wind.
        segment : (n,) int64
            Segments that changed.
        change : (n, 4) int64
            Change of each species [2^-20 ug/m/s].
        streets : bool
            Whether to add to SRM1 streets too; their columns do not know the wind.
        """
        c = self._columns
        touched = 0
        if streets:
            touched += _add_columns(
                self.street, c.street_start, c.street_cell, c.street_coefficient, segment, change
            )
        road = self._road_of[segment]
        is_road = road >= 0
        if is_road.any():
            number, change = road[is_road].astype(np.int64), np.ascontiguousarray(change[is_road])
            touched += _add_columns(self.near, c.near_start, c.near_cell, roads.near, number, change)
            touched += _add_rows(self.far, roads.far, number, change)
        return touched

    def clear_roads(self) -> None:
        """Forget what SRM2 roads gave, before it is added again for another wind."""
        self.near[:] = 0
        self.far[:] = 0


@njit(cache=True, error_model="numpy")
def _add_columns(
    accumulator: NDArray[np.int64],
    start: NDArray[np.int64],
    cell: NDArray[np.int32],
    coefficient: NDArray[np.int32],
    column: NDArray[np.int64],
    change: NDArray[np.int64],
) -> int:
    touched = 0
    for i in range(column.size):
        d0, d1, d2, d3 = change[i, 0], change[i, 1], change[i, 2], change[i, 3]
        for k in range(start[column[i]], start[column[i] + 1]):
            at, c = cell[k], np.int64(coefficient[k])
            accumulator[at, 0] += c * d0
            accumulator[at, 1] += c * d1
            accumulator[at, 2] += c * d2
            accumulator[at, 3] += c * d3
        touched += start[column[i] + 1] - start[column[i]]
    return touched


@njit(cache=True, error_model="numpy")
def _add_rows(
    accumulator: NDArray[np.int64],
    coefficient: NDArray[np.int32],
    row: NDArray[np.int64],
    change: NDArray[np.int64],
) -> int:
    for i in range(row.size):
        d0, d1, d2, d3 = change[i, 0], change[i, 1], change[i, 2], change[i, 3]
        values = coefficient[row[i]]
        for at in range(values.size):
            c = np.int64(values[at])
            accumulator[at, 0] += c * d0
            accumulator[at, 1] += c * d1
            accumulator[at, 2] += c * d2
            accumulator[at, 3] += c * d3
    return row.size * accumulator.shape[0]


def cubic_weights(n: int, step_m: float, first_m: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """First node and Catmull-Rom weights of the four nodes around each receptor of a row.

    Parameters
    ----------
    n : int
        Receptors, the first half a step after the origin.
    step_m : float
        Their distance [m].
    first_m : float
        Place of the first node from the same origin [m].

    Returns
    -------
    node : (n,) int64, weight : (n, 4) float64
    """
    at = ((np.arange(n, dtype=np.float64) + 0.5) * step_m - first_m) / FAR_STEP_M
    node = np.floor(at).astype(np.int64)
    t = at - node
    weight = np.stack(
        [
            0.5 * (-t + 2 * t**2 - t**3),
            0.5 * (2 - 5 * t**2 + 3 * t**3),
            0.5 * (t + 4 * t**2 - 3 * t**3),
            0.5 * (-(t**2) + t**3),
        ],
        axis=1,
    )
    return node - 1, weight


class AirReader:
    """Reads accumulators as NO2, PM10 and PM2.5 at every receptor.

    Parameters
    ----------
    columns : AirColumns
    background : Background
    """

    def __init__(self, columns: AirColumns, background: Background) -> None:
        self._columns = columns
        self._background = background
        grid, far = columns.grid, columns.far
        self._column = cubic_weights(grid.n_columns, grid.step_m, far.x_min - grid.x_min)
        self._row = cubic_weights(grid.n_rows, grid.step_m, far.y_min - grid.y_min)

    def contributions(self, accumulators: AirAccumulators, wind_m_s: float) -> NDArray[np.float64]:
        """Contribution of traffic to each species [ug/m3], (n_rows, n_columns, 4)."""
        grid, far = self._columns.grid, self._columns.far
        street = srm1.hourly_factor(wind_m_s, self._columns.mean_wind_m_s) * QUANTUM_UG_PER_M3
        road = srm2.hourly_factor(wind_m_s) * QUANTUM_UG_PER_M3
        out = np.empty((*grid.shape, N_POLLUTANTS))
        _contributions(
            out,
            accumulators.street.reshape(*grid.shape, N_POLLUTANTS),
            accumulators.near.reshape(*grid.shape, N_POLLUTANTS),
            accumulators.far.reshape(far.n_rows, far.n_columns, N_POLLUTANTS),
            *self._row,
            *self._column,
            street,
            road,
        )
        return out

    def stored(self, accumulators: AirAccumulators, wind_m_s: float) -> NDArray[np.uint16]:
        """NO2, PM10 and PM2.5 in steps of 0.01 ug/m3, (3, n_rows, n_columns)."""
        contributions = self.contributions(accumulators, wind_m_s)
        b = self._background
        return stored_fields(contributions, b.no2, b.o3, b.pm10, b.pm25)


@njit(cache=True, error_model="numpy")
def _contributions(
    out: NDArray[np.float64],
    street: NDArray[np.int64],
    near: NDArray[np.int64],
    far: NDArray[np.int64],
    row_node: NDArray[np.int64],
    row_weight: NDArray[np.float64],
    column_node: NDArray[np.int64],
    column_weight: NDArray[np.float64],
    street_factor: float,
    road_factor: float,
) -> None:
    across = np.empty((far.shape[1], out.shape[2]))
    for i in range(out.shape[0]):
        for n in range(far.shape[1]):
            for p in range(out.shape[2]):
                total = 0.0
                for k in range(4):
                    total += row_weight[i, k] * far[row_node[i] + k, n, p]
                across[n, p] = total
        for j in range(out.shape[1]):
            for p in range(out.shape[2]):
                total = 0.0
                for k in range(4):
                    total += column_weight[j, k] * across[column_node[j] + k, p]
                # the cubic may dip below zero beside a steep flank
                roads = np.float64(near[i, j, p]) + max(total, 0.0)
                out[i, j, p] = street_factor * street[i, j, p] + road_factor * roads


@njit(cache=True, error_model="numpy")
def stored_fields(
    contributions: NDArray[np.float64], no2: float, o3: float, pm10: float, pm25: float
) -> NDArray[np.uint16]:
    """NO2, PM10, PM2.5 from contributions and background, as stored, (3, n_rows, n_columns)."""
    out = np.empty((3, contributions.shape[0], contributions.shape[1]), dtype=np.uint16)
    for i in range(contributions.shape[0]):
        for j in range(contributions.shape[1]):
            c = contributions[i, j]
            for q, value in enumerate((no2 + no2_contribution(c[0], c[1], o3), pm10 + c[2], pm25 + c[3])):
                out[q, i, j] = np.uint16(min(np.rint(value / STORED_SCALE_UG_PER_M3), STORED_MAX))
    return out
