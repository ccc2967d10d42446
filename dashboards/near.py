"""Which receptors lie at a street: those within a few metres of its line."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.network import Network
from kernels.receptors import ReceptorGrid

NEAR_M = 15.0  # half the width of a usual street between its facades, plus half a cell of 10 m


class StreetReceptors:
    """Receptor cells near each segment, and the highest value among them."""

    def __init__(self, network: Network, grid: ReceptorGrid, near_m: float = NEAR_M) -> None:
        segment, cell = _near_pairs(
            network.vertex_xy, network.vertex_start, grid.x_min, grid.y_min, grid.step_m,
            grid.n_rows, grid.n_columns, near_m,
        )  # fmt: skip
        pair = np.unique(segment * grid.n_receptors + cell)
        self._cell = (pair % grid.n_receptors).astype(np.int64)
        counts = np.bincount(pair // grid.n_receptors, minlength=network.n_segments)
        self._start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def cells(self, segment: int) -> NDArray[np.int64]:
        """Flat indices of the cells near a segment; empty outside the grid."""
        return self._cell[self._start[segment] : self._start[segment + 1]]

    def highest(self, field: NDArray[np.float32]) -> NDArray[np.float32]:
        """Highest known value near each segment, (n_segments,); NaN where there is none."""
        return _highest(field.reshape(-1), self._cell, self._start)


@njit(cache=True, error_model="numpy")
def _near_pairs(
    xy: NDArray[np.float64], start: NDArray[np.int64], x_min: float, y_min: float, step: float,
    n_rows: int, n_columns: int, near_m: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:  # fmt: skip
    """(segment, cell) of cell centres within ``near_m`` of a segment; a pair may occur twice."""
    segments = [np.int64(0) for _ in range(0)]
    cells = [np.int64(0) for _ in range(0)]
    for s in range(start.size - 1):
        for k in range(start[s], start[s + 1] - 1):
            x0, y0, x1, y1 = xy[k, 0], xy[k, 1], xy[k + 1, 0], xy[k + 1, 1]
            dx, dy = x1 - x0, y1 - y0
            squared = dx * dx + dy * dy
            column_low = max(0, int(np.floor((min(x0, x1) - near_m - x_min) / step)))
            column_high = min(n_columns - 1, int(np.floor((max(x0, x1) + near_m - x_min) / step)))
            row_low = max(0, int(np.floor((min(y0, y1) - near_m - y_min) / step)))
            row_high = min(n_rows - 1, int(np.floor((max(y0, y1) + near_m - y_min) / step)))
            for row in range(row_low, row_high + 1):
                y = y_min + (row + 0.5) * step
                for column in range(column_low, column_high + 1):
                    x = x_min + (column + 0.5) * step
                    t = 0.0
                    if squared > 0.0:
                        t = min(1.0, max(0.0, ((x - x0) * dx + (y - y0) * dy) / squared))
                    if np.hypot(x - x0 - t * dx, y - y0 - t * dy) <= near_m:
                        segments.append(np.int64(s))
                        cells.append(np.int64(row * n_columns + column))
    return np.array(segments, dtype=np.int64), np.array(cells, dtype=np.int64)


@njit(cache=True, error_model="numpy")
def _highest(
    field: NDArray[np.float32], cell: NDArray[np.int64], start: NDArray[np.int64]
) -> NDArray[np.float32]:
    out = np.full(start.size - 1, np.nan, dtype=np.float32)
    for s in range(start.size - 1):
        for k in range(start[s], start[s + 1]):
            value = field[cell[k]]
            if not (value <= out[s]) and not np.isnan(value):
                out[s] = value
    return out
