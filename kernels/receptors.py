"""A regular grid of receptors, and its cut into tiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TILE = 128  # receptors along each side of a published tile: 64 kB as RGBA, 32 kB as uint16


@dataclass(frozen=True, slots=True)
class ReceptorGrid:
    """Receptors at the centres of square cells.

    Row 0 is the southernmost; ``values[row, column]`` lies at
    ``x_min + (column + 1/2) step``, ``y_min + (row + 1/2) step``.
    """

    x_min: float
    y_min: float
    step_m: float
    n_columns: int
    n_rows: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.n_rows, self.n_columns

    @property
    def n_receptors(self) -> int:
        return self.n_rows * self.n_columns

    def x(self) -> NDArray[np.float64]:
        """Coordinates of the columns [m]."""
        return self.x_min + (np.arange(self.n_columns, dtype=np.float64) + 0.5) * self.step_m

    def y(self) -> NDArray[np.float64]:
        """Coordinates of the rows [m]."""
        return self.y_min + (np.arange(self.n_rows, dtype=np.float64) + 0.5) * self.step_m

    def cell_of(self, xy: NDArray[np.float64]) -> NDArray[np.int64]:
        """Flat index of the cell that holds each point, -1 outside; xy is (n, 2) [m]."""
        column = np.floor((xy[:, 0] - self.x_min) / self.step_m).astype(np.int64)
        row = np.floor((xy[:, 1] - self.y_min) / self.step_m).astype(np.int64)
        inside = (column >= 0) & (column < self.n_columns) & (row >= 0) & (row < self.n_rows)
        return np.where(inside, row * self.n_columns + column, -1)

    def tiles(self) -> list[tuple[int, int]]:
        """(tile row, tile column) of every tile, row by row."""
        rows, columns = -(-self.n_rows // TILE), -(-self.n_columns // TILE)
        return [(r, c) for r in range(rows) for c in range(columns)]

    def tile_slices(self, tile_row: int, tile_column: int) -> tuple[slice, slice]:
        """Slices of the grid that a tile covers; edge tiles are smaller."""
        return (
            slice(tile_row * TILE, min((tile_row + 1) * TILE, self.n_rows)),
            slice(tile_column * TILE, min((tile_column + 1) * TILE, self.n_columns)),
        )
