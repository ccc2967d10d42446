"""Noise at the receptors: exact integer sums that follow the changes of sound power.

The energy at a receptor is linear in the powers of the segments. Powers are integers (quanta of 40 dB re
1 pW/m, below 2^20), transfers are integers (2^39 for 0 dB), their products are added in int64. So the field
after any history is that of the present powers, bit for bit, in any order and on any number of threads.

Bounds
------
* No overflow: a product is below 2^59, which leaves 4 bits: a receptor may hear transfers that add up to 0 dB
  sixteen times over, while a straight road right below it gives -9 dB in each group. :func:`headroom_bits`
  adds up the transfers of a given city and proves that all its roads at the largest power stay below 2^63.
* Table: the integer of a transfer of -97 dB is off by 0.02 dB at most, stronger ones by less.
* Transfers in steps of 0.5 dB: 0.25 dB at most for one segment, 0.05 dB rms for a sum of thirty.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.cnossos import N_GROUPS
from kernels.fixedpoint import POWER_MAX, POWER_QUANTUM_PW
from kernels.transfer import MAX_CODE, STEP_DB, Patches, n_threads

TRANSFER_BITS = 39
ACCUMULATOR_MAX = (1 << 63) - 1
_DB_PER_NEPER = np.float32(10.0 / np.log(10.0))
_FEW_PATCHES = 16  # below it a second thread costs more than it saves: a patch takes some 40 us


def transfer_quanta() -> NDArray[np.int64]:
    """Integer transfer of each code, 2^39 for 0 dB and 0 where there is none, (256,)."""
    code = np.arange(256)
    quanta = np.rint(2.0**TRANSFER_BITS * 10.0 ** (-STEP_DB * code / 10.0)).astype(np.int64)
    quanta[code > MAX_CODE] = 0
    return quanta


_QUANTA = transfer_quanta()


def empty_field(patches: Patches) -> NDArray[np.int64]:
    """Accumulator without any source, (n_rows, n_columns)."""
    return np.zeros(patches.shape, dtype=np.int64)


def apply(
    accumulator: NDArray[np.int64],
    patches: Patches,
    segments: NDArray[np.int32],
    delta_power: NDArray[np.int64],
    *,
    threads: int = 0,
) -> int:
    """Add changes of sound power to a field, at the receptors that these segments reach and no others.

    Parameters
    ----------
    accumulator : (n_rows, n_columns) int64
        Changed in place.
    patches : Patches
    segments : (k,) int32
        Segments without a patch are passed over.
    delta_power : (k, 4) int64
        New less old power in each band group [quanta of 40 dB re 1 pW/m].
    threads : int
        0 for all. The result does not depend on it.

    Returns
    -------
    int
        Cells updated: receptors of each of the segments, added up.
    """
    slots = patches.slot[segments]
    changed = (slots >= 0) & delta_power.any(axis=1)
    slots, delta = slots[changed], np.ascontiguousarray(delta_power[changed])
    tables = patches.box, patches.start, patches.codes, _QUANTA
    n = threads or n_threads()
    if slots.size < _FEW_PATCHES or n == 1:
        _apply(accumulator, 0, patches.shape[0], slots, delta, *tables)
        return int(patches.n_cells[slots].sum())
    edges = _row_bands(patches, slots, 4 * n)

    def band(k: int) -> None:
        # Bands share no receptor, so threads never write the same number.
        _apply(accumulator, edges[k], edges[k + 1], slots, delta, *tables)

    with ThreadPoolExecutor(n) as pool:
        list(pool.map(band, range(len(edges) - 1)))
    return int(patches.n_cells[slots].sum())


def _row_bands(patches: Patches, slots: NDArray[np.int32], n: int) -> list[int]:
    """Rows where bands of about equal work begin and end."""
    box = patches.box[slots].astype(np.int64)
    step = np.zeros(patches.shape[0] + 1, dtype=np.int64)
    width = box[:, 3] - box[:, 2]
    np.add.at(step, box[:, 0], width)
    np.add.at(step, box[:, 1], -width)
    work = np.cumsum(np.cumsum(step[:-1]))
    inner = np.searchsorted(work, work[-1] * np.arange(1, n) / n)
    return [0, *(int(edge) for edge in np.unique(inner) if 0 < edge < patches.shape[0]), patches.shape[0]]


@njit(cache=True, error_model="numpy", nogil=True)
def _apply(
    accumulator: NDArray[np.int64],
    first_row: int,
    end_row: int,
    slots: NDArray[np.int32],
    delta: NDArray[np.int64],
    box: NDArray[np.int32],
    start: NDArray[np.int64],
    codes: NDArray[np.uint8],
    quanta: NDArray[np.int64],
) -> None:
    table = np.zeros((4, 256), dtype=np.int64)
    for k in range(slots.size):
        p = slots[k]
        begin, end = max(box[p, 0], first_row), min(box[p, 1], end_row)
        if begin >= end:
            continue
        for g in range(4):
            for code in range(MAX_CODE + 1):
                table[g, code] = quanta[code] * delta[k, g]
        left = box[p, 2]
        width = box[p, 3] - left
        n = (box[p, 1] - box[p, 0]) * width
        for row in range(begin, end):
            at = start[p] + (row - box[p, 0]) * width
            c0, c1 = codes[at : at + width], codes[at + n : at + n + width]
            c2, c3 = codes[at + 2 * n : at + 2 * n + width], codes[at + 3 * n : at + 3 * n + width]
            line = accumulator[row, left : left + width]
            for i in range(width):
                line[i] += table[0, c0[i]] + table[1, c1[i]] + table[2, c2[i]] + table[3, c3[i]]


def levels_db(accumulator: NDArray[np.int64]) -> NDArray[np.float32]:
    """A-weighted level of a field, NaN where nothing is heard [dB(A)]."""
    energy = (accumulator * (POWER_QUANTUM_PW / 2.0**TRANSFER_BITS)).astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        level = np.log(energy) * _DB_PER_NEPER  # float32: 1e-5 dB, and several times faster than log10
    level[accumulator <= 0] = np.nan
    return level


def stored_levels(
    accumulator: NDArray[np.int64], *, offset_db: float, scale_db: float, unknown: int
) -> NDArray[np.uint16]:
    """Levels of a field in steps of ``scale_db`` from ``offset_db``, ``unknown`` where nothing is heard.

    The same as rounding :func:`levels_db` to the step (a value half way may go to either side), in one pass.
    """
    stored = np.empty(accumulator.shape, dtype=np.uint16)
    db_of_one = 10.0 * np.log10(POWER_QUANTUM_PW / 2.0**TRANSFER_BITS)
    _store(accumulator, (db_of_one - offset_db) / scale_db, 10.0 / np.log(10.0) / scale_db, unknown, stored)
    return stored


@njit(cache=True, error_model="numpy", nogil=True)
def _store(
    accumulator: NDArray[np.int64], base: float, per_neper: float, unknown: int, stored: NDArray[np.uint16]
) -> None:
    for row in range(accumulator.shape[0]):
        for column in range(accumulator.shape[1]):
            energy = accumulator[row, column]
            if energy <= 0:
                stored[row, column] = unknown
            else:
                step = np.rint(base + per_neper * np.log(np.float64(energy)))
                stored[row, column] = np.uint16(min(max(step, 0.0), unknown - 1.0))


def headroom_bits(patches: Patches) -> float:
    """Bits between the loudest possible receptor, all segments at the largest power, and overflow.

    Raises
    ------
    OverflowError
        When so many segments crowd around a receptor that a sum might not fit.
    """
    if patches.n_patches >= 1 << 22:
        raise OverflowError(f"noise: {patches.n_patches} segments with transfers, at most {(1 << 22) - 1}")
    total = empty_field(patches)
    apply(total, patches, patches.segment, np.ones((patches.n_patches, N_GROUPS), dtype=np.int64))
    loudest = int(total.max(initial=0)) * POWER_MAX
    if loudest > ACCUMULATOR_MAX:
        got, allowed = (x / POWER_MAX / 2.0**TRANSFER_BITS for x in (loudest, ACCUMULATOR_MAX))
        raise OverflowError(
            f"noise: the transfers to one receptor add up to {got:.1f} times 0 dB, at most {allowed:.1f}; "
            "many segments lie on each other"
        )
    return float(np.log2(ACCUMULATOR_MAX / loudest)) if loudest else 63.0
