"""Columns of an exact field: which receptors a segment reaches, as one run of blocks in each strip.

A field is a matrix of coefficients times emissions. A column holds the coefficients of a segment at the
receptors near it, without any index: only the first block and the length of each run are kept. Integer
products add up to the same sums in any order and with any number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.receptors import BLOCK, ReceptorBlocks
from kernels.transfer import n_threads

PARTS = 32  # shares of the work that threads take in turn
_pools: dict[int, ThreadPoolExecutor] = {}

Allocate = Callable[[tuple[int, ...], type], NDArray]  # type: ignore[type-arg]
"""Makes an array of zeros of a shape and type, in memory or mapped from a file."""


@dataclass(frozen=True, slots=True)
class Runs:
    """Receptors of each column.

    Attributes
    ----------
    first_strip : (n_columns,) int32
        Strip of the first run of each column; the others follow strip by strip.
    start : (n_columns + 1,) int64
        Runs of column c are ``start[c]:start[c + 1]``; a run may be empty.
    block : (n_runs,) int32
        First block of each run.
    offset : (n_runs + 1,) int64
        First coefficient of each run; 16 to a block.
    """

    first_strip: NDArray[np.int32]
    start: NDArray[np.int64]
    block: NDArray[np.int32]
    offset: NDArray[np.int64]

    @property
    def n_columns(self) -> int:
        return int(self.first_strip.size)

    @property
    def n_coefficients(self) -> int:
        return int(self.offset[-1])

    def size(self, column: NDArray[np.int64]) -> NDArray[np.int64]:
        """Coefficients of each column, (n,)."""
        return np.asarray(self.offset[self.start[column + 1]] - self.offset[self.start[column]])


def runs_within(
    lines: list[NDArray[np.float64]], reach_m: NDArray[np.float64], blocks: ReceptorBlocks
) -> Runs:
    """Blocks within a reach of each polyline; a line of reach 0 or without a block near has none.

    Parameters
    ----------
    lines : list of (m, 2) float64
        Vertices [m].
    reach_m : (n_columns,) float64
    blocks : ReceptorBlocks
    """
    vertices = np.concatenate([*lines, np.empty((0, 2))]) - blocks.origin
    vertex_start = np.concatenate([[0], np.cumsum([line.shape[0] for line in lines])]).astype(np.int64)
    box = block_boxes(blocks)
    starts, stops = blocks.strip_start[:-1], blocks.strip_start[1:]
    strip_x0 = np.array([box[a:b, 0].min() for a, b in zip(starts, stops, strict=True)])
    strip_x1 = np.array([box[a:b, 1].max() for a, b in zip(starts, stops, strict=True)])
    n = len(lines)
    first_strip, count = np.zeros(n, dtype=np.int32), np.zeros(n, dtype=np.int64)
    _strips(vertices, vertex_start, reach_m, strip_x0, strip_x1, first_strip, count)
    start = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    block, length = np.zeros(start[-1], dtype=np.int32), np.zeros(start[-1], dtype=np.int64)

    def fill(low: int, high: int) -> None:
        _blocks_of_runs(
            vertices, vertex_start, reach_m, box, blocks.strip_start, first_strip, start, block, length, low,
            high,
        )  # fmt: skip

    in_parts(fill, n)
    offset = np.concatenate([[0], np.cumsum(length * BLOCK)]).astype(np.int64)
    return Runs(first_strip, start, block, offset)


def block_boxes(blocks: ReceptorBlocks) -> NDArray[np.float64]:
    """West, east, south, north of each block, relative to the origin of the receptors [m], (n_blocks, 4)."""
    x, y = blocks.x, blocks.y
    return np.stack([x.min(axis=1), x.max(axis=1), y.min(axis=1), y.max(axis=1)], axis=1).astype(np.float64)


def in_parts(work: Callable[[int, int], object], n: int) -> list[object]:
    """Run work on ranges of 0 to n, by all threads; the results in order."""
    edges = np.unique(np.linspace(0, n, PARTS + 1).astype(int)).tolist()
    if n_threads() == 1 or len(edges) < 3:
        return [work(low, high) for low, high in pairwise(edges)]
    # threads are kept, for starting them costs as much as a small update; a fork has none of its parent's
    if os.getpid() not in _pools:
        _pools[os.getpid()] = ThreadPoolExecutor(n_threads(), thread_name_prefix="columns")
    return list(_pools[os.getpid()].map(work, edges[:-1], edges[1:]))


def add_columns(
    accumulator: NDArray[np.int64],
    runs: Runs,
    coefficient: NDArray[np.int32],
    column: NDArray[np.int64],
    change: NDArray[np.int64],
    blocks: ReceptorBlocks,
) -> int:
    """Add coefficient times change; returns the number of sums touched.

    Parameters
    ----------
    accumulator : (n_places, 4) int64
        Changed in place.
    coefficient : (n_coefficients,) int32
    column : (n,) int64
        Columns that changed.
    change : (n, 4) int64
    """
    if column.size == 0:
        return 0

    def add(low: int, high: int) -> None:
        _add(
            accumulator, runs.first_strip, runs.start, runs.block, runs.offset, coefficient, column, change,
            low, high,
        )  # fmt: skip

    in_parts(add, blocks.strip_start.size - 1)
    return int(runs.size(column).sum())


def coefficients_at(
    runs: Runs, coefficient: NDArray[np.int32], place: int, blocks: ReceptorBlocks
) -> NDArray[np.int64]:
    """Coefficient of every column at one receptor, (n_columns,)."""
    block = place // BLOCK
    strip = int(np.searchsorted(blocks.strip_start, block, "right")) - 1
    out = np.zeros(runs.n_columns, dtype=np.int64)
    run = runs.start[:-1] + strip - runs.first_strip
    has = (run >= runs.start[:-1]) & (run < runs.start[1:])
    run = np.where(has, run, 0)
    if runs.block.size == 0:
        return out
    at = (block - runs.block[run]) * BLOCK + runs.offset[run]
    has &= (at >= runs.offset[run]) & (at < runs.offset[run + 1])
    out[has] = coefficient[at[has] + place % BLOCK]
    return out


@njit(cache=True, error_model="numpy")
def _strips(
    vertices: NDArray[np.float64],
    vertex_start: NDArray[np.int64],
    reach: NDArray[np.float64],
    strip_x0: NDArray[np.float64],
    strip_x1: NDArray[np.float64],
    first: NDArray[np.int32],
    count: NDArray[np.int64],
) -> None:
    for c in range(first.size):
        if not reach[c] > 0.0:
            continue
        low, high = np.inf, -np.inf
        for v in range(vertex_start[c], vertex_start[c + 1]):
            low, high = min(low, vertices[v, 0]), max(high, vertices[v, 0])
        begin, end = strip_x0.size, -1
        for s in range(strip_x0.size):
            if strip_x1[s] >= low - reach[c] and strip_x0[s] <= high + reach[c]:
                begin, end = min(begin, s), s
        if end >= begin:
            first[c], count[c] = begin, end + 1 - begin


@njit(cache=True, error_model="numpy")
def _to_piece(x: float, y: float, ax: float, ay: float, bx: float, by: float) -> float:
    """Distance of a point to a straight piece."""
    dx, dy = bx - ax, by - ay
    squared = dx * dx + dy * dy
    t = 0.0
    if squared > 0.0:
        t = min(max(((x - ax) * dx + (y - ay) * dy) / squared, 0.0), 1.0)
    return np.hypot(x - ax - t * dx, y - ay - t * dy)


@njit(cache=True, error_model="numpy")
def to_box(ax: float, ay: float, bx: float, by: float, box: NDArray[np.float64]) -> float:
    """Lower bound of the distance of a straight piece and a box: to its middle line, less half its height."""
    x0, x1, y = box[0], box[1], 0.5 * (box[2] + box[3])
    if (ay - y) * (by - y) < 0.0:
        crossing = ax + (bx - ax) * (y - ay) / (by - ay)
        if x0 <= crossing <= x1:
            return 0.0
    nearest = min(_to_piece(x0, y, ax, ay, bx, by), _to_piece(x1, y, ax, ay, bx, by))
    nearest = min(nearest, _to_piece(ax, ay, x0, y, x1, y), _to_piece(bx, by, x0, y, x1, y))
    return nearest - 0.5 * (box[3] - box[2])


@njit(cache=True, error_model="numpy", nogil=True)
def _blocks_of_runs(
    vertices: NDArray[np.float64],
    vertex_start: NDArray[np.int64],
    reach: NDArray[np.float64],
    box: NDArray[np.float64],
    strip_start: NDArray[np.int64],
    first_strip: NDArray[np.int32],
    start: NDArray[np.int64],
    block: NDArray[np.int32],
    length: NDArray[np.int64],
    low: int,
    high: int,
) -> None:
    for c in range(low, high):
        south, north = np.inf, -np.inf
        for v in range(vertex_start[c], vertex_start[c + 1]):
            south, north = min(south, vertices[v, 1]), max(north, vertices[v, 1])
        for run in range(start[c], start[c + 1]):
            s = first_strip[c] + run - start[c]
            begin, end = -1, -1
            for b in range(strip_start[s], strip_start[s + 1]):
                if box[b, 3] < south - reach[c] or box[b, 2] > north + reach[c]:
                    continue
                for v in range(vertex_start[c], vertex_start[c + 1] - 1):
                    gap = to_box(
                        vertices[v, 0], vertices[v, 1], vertices[v + 1, 0], vertices[v + 1, 1], box[b]
                    )
                    if gap <= reach[c]:
                        if begin < 0:
                            begin = b
                        end = b
                        break
            if begin >= 0:
                block[run] = begin
                length[run] = end + 1 - begin


@njit(cache=True, error_model="numpy", nogil=True)
def _add(
    accumulator: NDArray[np.int64],
    first_strip: NDArray[np.int32],
    start: NDArray[np.int64],
    block: NDArray[np.int32],
    offset: NDArray[np.int64],
    coefficient: NDArray[np.int32],
    column: NDArray[np.int64],
    change: NDArray[np.int64],
    low: int,
    high: int,
) -> None:
    """Strip by strip, so that the sums of one stay in the cache while the columns pass over it."""
    for s in range(low, high):
        for i in range(column.size):
            c = column[i]
            run = start[c] + s - first_strip[c]
            if run < start[c] or run >= start[c + 1]:
                continue
            d0, d1, d2, d3 = change[i, 0], change[i, 1], change[i, 2], change[i, 3]
            values = coefficient[offset[run] : offset[run + 1]]
            sums = accumulator[block[run] * BLOCK : block[run] * BLOCK + values.size]
            for k in range(values.size):
                v = np.int64(values[k])
                sums[k, 0] += v * d0
                sums[k, 1] += v * d1
                sums[k, 2] += v * d2
                sums[k, 3] += v * d3
