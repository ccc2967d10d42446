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


BLOCK = 16  # receptors that are computed together: two vectors of float32
STRIP_M = 100.0  # width of the strips into which scattered receptors are sorted


@dataclass(frozen=True, slots=True)
class ReceptorBlocks:
    """Receptors in the order of their sums: strips from west to east, each from south to north.

    A segment then touches one contiguous range in each strip: memory is read in long pieces (70 % of its
    bandwidth instead of 40 % for rows of the grid, measured), and no receptor needs an index of its own.

    Attributes
    ----------
    origin : (2,) float64
        What x and y are relative to [m].
    x, y : (n_blocks, BLOCK) float32
        Coordinates [m]; the last blocks of a strip may repeat a receptor or lie beyond the grid.
    strip_start : (n_strips + 1,) int64
        First block of each strip.
    place : (n_receptors,) int64
        Where each receptor is in x and y, flattened.
    """

    origin: NDArray[np.float64]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    strip_start: NDArray[np.int64]
    place: NDArray[np.int64]

    @property
    def n_blocks(self) -> int:
        return int(self.x.shape[0])

    @property
    def n_places(self) -> int:
        return int(self.x.size)


def grid_blocks(grid: ReceptorGrid) -> ReceptorBlocks:
    """Blocks of a grid: 16 columns wide, a row each; ``place`` is in row-major order."""
    n_strips = -(-grid.n_columns // BLOCK)
    column = np.arange(n_strips * BLOCK).reshape(n_strips, 1, BLOCK)
    shape = (n_strips, grid.n_rows, BLOCK)
    x = np.broadcast_to((column + 0.5) * grid.step_m, shape).astype(np.float32)
    row = np.arange(grid.n_rows).reshape(1, grid.n_rows, 1)
    y = np.broadcast_to((row + 0.5) * grid.step_m, shape).astype(np.float32)
    rows, columns = np.divmod(np.arange(grid.n_receptors), grid.n_columns)
    return ReceptorBlocks(
        origin=np.array([grid.x_min, grid.y_min]),
        x=x.reshape(-1, BLOCK),
        y=y.reshape(-1, BLOCK),
        strip_start=np.arange(n_strips + 1, dtype=np.int64) * grid.n_rows,
        place=(columns // BLOCK * grid.n_rows + rows) * BLOCK + columns % BLOCK,
    )


def point_blocks(xy: NDArray[np.float64]) -> ReceptorBlocks:
    """Blocks of scattered receptors such as facades, sorted into strips of 100 m; xy is (n, 2) [m].

    Raises
    ------
    ValueError
        For no point, or one that is not finite; the message names its index.
    """
    if xy.shape[0] == 0:
        raise ValueError("receptors: got none, expected at least one point")
    bad = np.flatnonzero(~np.isfinite(xy).all(axis=1))
    if bad.size:
        raise ValueError(f"receptor {bad[0]}: got {xy[bad[0]].tolist()}, expected finite coordinates [m]")
    origin = xy.min(axis=0)
    strip = ((xy[:, 0] - origin[0]) // STRIP_M).astype(np.int64)
    order = np.lexsort((xy[:, 1], strip))
    places, members, start = np.empty(xy.shape[0], dtype=np.int64), [], [0]
    for s in range(int(strip.max()) + 1):
        of_strip = order[np.searchsorted(strip[order], s) : np.searchsorted(strip[order], s, "right")]
        padding = -of_strip.size % BLOCK
        places[of_strip] = start[-1] * BLOCK + np.arange(of_strip.size)
        members.append(np.concatenate([of_strip, np.full(padding, of_strip[-1] if padding else 0)]))
        start.append(start[-1] + members[-1].size // BLOCK)
    relative = (xy[np.concatenate(members).astype(np.int64)] - origin).astype(np.float32)
    return ReceptorBlocks(
        origin=origin,
        x=np.ascontiguousarray(relative[:, 0]).reshape(-1, BLOCK),
        y=np.ascontiguousarray(relative[:, 1]).reshape(-1, BLOCK),
        strip_start=np.array(start, dtype=np.int64),
        place=places,
    )
