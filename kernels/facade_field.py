"""Noise at facades: the exact integer sums of :mod:`kernels.noise_field` at scattered receptors.

Powers, transfers and sums are the same integers as on the grid, so the field after any history is that of the
present powers, bit for bit. The grid keeps a box of codes for each segment; here a segment has runs of codes
over receptors that come after each other, with a new run wherever the receptors between would cost more than
its index.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.cnossos import N_GROUPS
from kernels.facades import FacadeReceptors, FacadeTransfers
from kernels.fixedpoint import POWER_MAX
from kernels.noise_field import ACCUMULATOR_MAX, TRANSFER_BITS, transfer_quanta
from kernels.runs import in_parts
from kernels.transfer import MAX_CODE, NONE

MAX_GAP = 4  # receptors that hear nothing within a run: they cost 16 bytes, a run of its own 12
_FEW_SEGMENTS = 16  # below it a second thread costs more than it saves
_QUANTA = transfer_quanta()


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs of some segments over some receptors, as :class:`kernels.facades.FacadeTransfers` has them.

    Attributes
    ----------
    segment, first : (n_runs,) int32
    size : (n_runs,) int32
        Receptors of each run.
    codes : (n_codes, 4) uint8
        Run after run.
    """

    segment: NDArray[np.int32]
    first: NDArray[np.int32]
    size: NDArray[np.int32]
    codes: NDArray[np.uint8]


def no_facades(n_segments: int, n_tiles: int) -> FacadeTransfers:
    """Transfers of a city without facades."""
    none = np.empty(0, dtype=np.int32)
    receptors = FacadeReceptors(
        xy=np.empty((0, 2)), home=none, tile_start=np.zeros(n_tiles + 1, dtype=np.int64), building=none,
        home_xy=np.empty((0, 2)), floor_area_m2=np.empty(0),
    )  # fmt: skip
    return FacadeTransfers(
        receptors, np.zeros(n_segments + 1, dtype=np.int64), none, np.zeros(1, dtype=np.int64),
        np.empty((0, N_GROUPS), dtype=np.uint8), 63.0,
    )  # fmt: skip


def runs_of(segment: NDArray[np.int32], codes: NDArray[np.uint8], first_receptor: int) -> Runs:
    """Runs of receptors that hear a segment.

    Parameters
    ----------
    segment : (n_segments_heard,) int32
    codes : (n_segments_heard, 4, n) uint8
        Of n receptors after each other, as :func:`kernels.screened_transfer.screened_points` gives them.
    first_receptor : int
        Number of the first of them.
    """
    heard = codes.min(axis=1, initial=NONE) != NONE
    row, column = np.nonzero(heard)
    begins = np.ones(row.size, dtype=np.bool_)
    begins[1:] = (np.diff(row) != 0) | (np.diff(column) > MAX_GAP + 1)
    begin = np.flatnonzero(begins)
    end = np.append(begin[1:], row.size)[: begin.size]
    size = column[end - 1] + 1 - column[begin]
    run_row, run_column = np.repeat(row[begin], size), np.repeat(column[begin], size)
    within = np.arange(int(size.sum())) - np.repeat(np.cumsum(size) - size, size)
    return Runs(
        segment=segment[row[begin]],
        first=(column[begin] + first_receptor).astype(np.int32),
        size=size.astype(np.int32),
        codes=np.ascontiguousarray(codes[run_row, :, run_column + within]),
    )


def join_runs(
    receptors: FacadeReceptors,
    n_segments: int,
    index: Runs,
    codes: Iterable[NDArray[np.uint8]],
) -> FacadeTransfers:
    """Runs of all parts of a city, sorted by segment and receptor.

    Parameters
    ----------
    receptors : FacadeReceptors
    n_segments : int
    index : Runs
        Runs of all parts; its ``codes`` are where the sorted ones go.
    codes : iterable of (n, 4) uint8
        Codes of the parts, in the same order; only one is held at a time.

    Raises
    ------
    OverflowError
        As :func:`headroom_bits`.
    """
    order = np.lexsort((index.first, index.segment))
    code_start = np.concatenate([[0], np.cumsum(index.size[order], dtype=np.int64)])
    target = np.empty(order.size, dtype=np.int64)
    target[order] = code_start[:-1]
    run = 0
    for part in codes:
        run = _place(run, index.size, part, target, index.codes)
    run_start = np.searchsorted(index.segment[order], np.arange(n_segments + 1)).astype(np.int64)
    joined = FacadeTransfers(receptors, run_start, index.first[order], code_start, index.codes, 63.0)
    return replace(joined, headroom_bits=headroom_bits(joined))


@njit(cache=True, error_model="numpy", nogil=True)
def _place(
    run: int,
    size: NDArray[np.int32],
    codes: NDArray[np.uint8],
    target: NDArray[np.int64],
    out: NDArray[np.uint8],
) -> int:
    """Put the runs of a part where they belong, from a number of run on; the number of the next part's."""
    at = 0
    while at < codes.shape[0]:
        for k in range(size[run]):
            for g in range(codes.shape[1]):
                out[target[run] + k, g] = codes[at + k, g]
        at += size[run]
        run += 1
    return run


def empty_field(facades: FacadeTransfers) -> NDArray[np.int64]:
    """Accumulator without any source, (n_receptors,)."""
    return np.zeros(facades.receptors.n_receptors, dtype=np.int64)


def apply(
    accumulator: NDArray[np.int64],
    facades: FacadeTransfers,
    segments: NDArray[np.int32],
    delta_power: NDArray[np.int64],
) -> int:
    """Add changes of sound power to a field, at the receptors that these segments reach and no others.

    Parameters
    ----------
    accumulator : (n_receptors,) int64
        Changed in place.
    facades : FacadeTransfers
    segments : (k,) int32
    delta_power : (k, 4) int64
        New less old power in each band group [quanta of 40 dB re 1 pW/m].

    Returns
    -------
    int
        Receptors updated: those in the runs of each of the segments, added up.
    """
    start = facades.run_start
    changed = (start[segments + 1] > start[segments]) & delta_power.any(axis=1)
    segments, delta = segments[changed], np.ascontiguousarray(delta_power[changed])

    def add(low: int, high: int) -> None:
        # Parts share no receptor, so threads never write the same number.
        _apply(
            accumulator, low, high, segments, delta, start, facades.first, facades.code_start, facades.codes,
            _QUANTA,
        )  # fmt: skip

    if segments.size < _FEW_SEGMENTS:
        add(0, accumulator.size)
    else:
        in_parts(add, accumulator.size)
    code_start = facades.code_start
    return int((code_start[start[segments + 1]] - code_start[start[segments]]).sum())


@njit(cache=True, error_model="numpy", nogil=True)
def _apply(
    accumulator: NDArray[np.int64],
    low: int,
    high: int,
    segments: NDArray[np.int32],
    delta: NDArray[np.int64],
    run_start: NDArray[np.int64],
    first: NDArray[np.int32],
    code_start: NDArray[np.int64],
    codes: NDArray[np.uint8],
    quanta: NDArray[np.int64],
) -> None:
    table = np.zeros((4, 256), dtype=np.int64)
    t0, t1, t2, t3 = table[0], table[1], table[2], table[3]
    for i in range(segments.size):
        s = segments[i]
        d0, d1, d2, d3 = delta[i, 0], delta[i, 1], delta[i, 2], delta[i, 3]
        for code in range(MAX_CODE + 1):
            q = quanta[code]
            t0[code], t1[code], t2[code], t3[code] = q * d0, q * d1, q * d2, q * d3
        for r in range(run_start[s], run_start[s + 1]):
            run = int(first[r])
            at = int(code_start[r]) - run
            for k in range(max(run, low), min(int(code_start[r + 1]) - at, high)):
                c = at + k
                accumulator[k] += t0[codes[c, 0]] + t1[codes[c, 1]] + t2[codes[c, 2]] + t3[codes[c, 3]]


def headroom_bits(facades: FacadeTransfers) -> float:
    """Bits between the loudest possible receptor, all segments at the largest power, and overflow.

    Raises
    ------
    OverflowError
        When so many segments crowd around a receptor that a sum might not fit.
    """
    n_segments = facades.run_start.size - 1
    if n_segments >= 1 << 22:
        raise OverflowError(f"noise: {n_segments} segments with transfers, at most {(1 << 22) - 1}")
    total = empty_field(facades)
    apply(
        total, facades, np.arange(n_segments, dtype=np.int32),
        np.ones((n_segments, N_GROUPS), dtype=np.int64),
    )  # fmt: skip
    loudest = int(total.max(initial=0)) * POWER_MAX
    if loudest > ACCUMULATOR_MAX:
        got, allowed = (x / POWER_MAX / 2.0**TRANSFER_BITS for x in (loudest, ACCUMULATOR_MAX))
        raise OverflowError(
            f"noise: the transfers to one facade add up to {got:.1f} times 0 dB, at most {allowed:.1f}; "
            "many segments lie on each other"
        )
    return float(np.log2(ACCUMULATOR_MAX / loudest)) if loudest else 63.0


def segments_by_tile(
    facades: FacadeTransfers,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
    """Tile, segment and number of receptors on the tile that may hear it, of each pair that has any."""
    start = facades.receptors.tile_start
    n_tiles = start.size - 1
    segment = np.repeat(np.arange(facades.run_start.size - 1), np.diff(facades.run_start))
    tile = np.searchsorted(start, facades.first, side="right") - 1
    pair, of = np.unique(segment * n_tiles + tile, return_inverse=True)
    n_heard = np.bincount(of, weights=np.diff(facades.code_start), minlength=pair.size).astype(np.float64)
    return pair % n_tiles, (pair // n_tiles).astype(np.int32), n_heard
