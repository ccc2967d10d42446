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

Speed
-----
A cell of a patch costs four bytes of codes and, when its sum is not in the cache, sixteen for that; memory
would carry some thousand million of them a second. Four look-ups and additions in int64 are the bound: six
clock cycles. So rows are taken in bands whose sums stay in the second-level cache while all segments pass
over them (the codes of a band are contiguous in a patch, so they need no other order), eight codes are read
at a time, and eight cells that hear nothing cost one comparison.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from kernels.cnossos import N_GROUPS
from kernels.fixedpoint import POWER_MAX, POWER_QUANTUM_PW
from kernels.runs import in_parts
from kernels.transfer import MAX_CODE, STEP_DB, Patches

TRANSFER_BITS = 39
ACCUMULATOR_MAX = (1 << 63) - 1
_DB_PER_NEPER = np.float32(10.0 / np.log(10.0))
_DB_OF_ONE = 10.0 * np.log10(POWER_QUANTUM_PW / 2.0**TRANSFER_BITS)
_FEW_PATCHES = 16  # below it a second thread costs more than it saves
_BAND_BYTES = 1 << 18  # of sums, half of a second-level cache
_FRACTION_BITS = 52  # of a float64
_LOG_BITS = 10  # leading bits of the fraction that have an entry in the table of logarithms


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

    Returns
    -------
    int
        Cells updated: receptors of each of the segments, added up.
    """
    slots = patches.slot[segments]
    changed = (slots >= 0) & delta_power.any(axis=1)
    slots, delta = slots[changed], np.ascontiguousarray(delta_power[changed])
    n_rows, n_columns = patches.shape
    band = max(1, _BAND_BYTES // (8 * n_columns))

    def add(first_row: int, end_row: int) -> None:
        # Parts share no receptor, so threads never write the same number.
        _apply(
            accumulator, first_row, end_row, band, slots, delta,
            patches.box, patches.start, patches.codes, _QUANTA,
        )  # fmt: skip

    if slots.size < _FEW_PATCHES:
        add(0, n_rows)
    else:
        in_parts(add, n_rows)
    return int(patches.n_cells[slots].sum())


@intrinsic
def _eight_codes(_typing: Any, codes: Any, _at: Any) -> Any:
    """Eight bytes from a place on as one number, the first in its lowest bits on a little-endian machine.

    A view of a slice does the same in numba, ten times as slow.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = builder.gep(array.data, [arguments[1]])
        number = builder.load(builder.bitcast(place, ir.IntType(64).as_pointer()))
        number.align = 1
        return number

    return types.uint64(codes, types.int64), generate


@njit(cache=True, error_model="numpy", nogil=True)
def _apply(
    accumulator: NDArray[np.int64],
    first_row: int,
    end_row: int,
    band: int,
    slots: NDArray[np.int32],
    delta: NDArray[np.int64],
    box: NDArray[np.int32],
    start: NDArray[np.int64],
    codes: NDArray[np.uint8],
    quanta: NDArray[np.int64],
) -> None:
    table = np.zeros((4, 256), dtype=np.int64)
    t0, t1, t2, t3 = table[0], table[1], table[2], table[3]
    byte, silent = np.uint64(255), np.uint64(0xFFFFFFFFFFFFFFFF)
    for low in range(first_row, end_row, band):
        high = min(low + band, end_row)
        for k in range(slots.size):
            p = slots[k]
            begin, end = max(box[p, 0], low), min(box[p, 1], high)
            if begin >= end:
                continue
            d0, d1, d2, d3 = delta[k, 0], delta[k, 1], delta[k, 2], delta[k, 3]
            for code in range(MAX_CODE + 1):
                q = quanta[code]
                t0[code], t1[code], t2[code], t3[code] = q * d0, q * d1, q * d2, q * d3
            left = box[p, 2]
            width = np.int64(box[p, 3] - left)
            n = np.int64(box[p, 1] - box[p, 0]) * width
            for row in range(begin, end):
                at = start[p] + np.int64(row - box[p, 0]) * width
                line = accumulator[row, left : left + width]
                i = 0
                while i + 8 <= width:
                    c0, c1 = _eight_codes(codes, at + i), _eight_codes(codes, at + n + i)
                    c2, c3 = _eight_codes(codes, at + 2 * n + i), _eight_codes(codes, at + 3 * n + i)
                    if (c0 & c1 & c2 & c3) != silent:
                        for j in range(8):
                            s = np.uint64(8 * j)
                            line[i + j] += (
                                t0[(c0 >> s) & byte]
                                + t1[(c1 >> s) & byte]
                                + t2[(c2 >> s) & byte]
                                + t3[(c3 >> s) & byte]
                            )
                    i += 8
                for j in range(i, width):
                    line[j] += (
                        t0[codes[at + j]]
                        + t1[codes[at + n + j]]
                        + t2[codes[at + 2 * n + j]]
                        + t3[codes[at + 3 * n + j]]
                    )


def levels_db(accumulator: NDArray[np.int64]) -> NDArray[np.float32]:
    """A-weighted level of a field, NaN where nothing is heard [dB(A)]."""
    energy = (accumulator * (POWER_QUANTUM_PW / 2.0**TRANSFER_BITS)).astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        level = np.log(energy) * _DB_PER_NEPER  # float32: 1e-5 dB, and several times faster than log10
    level[accumulator <= 0] = np.nan
    return level


class LevelWriter:
    """Writes the levels of fields as steps of uint16, and tells which tiles of a grid changed.

    The same as rounding :func:`levels_db` to the step (a value half way may go to either side). The logarithm
    is that of the leading ten bits and a straight line for the rest: 1e-6 dB.

    Parameters
    ----------
    offset_db, scale_db : float
        A level is ``offset_db`` plus its steps times ``scale_db``.
    unknown : int
        Stands where nothing is heard; known levels stay below it.
    """

    def __init__(self, *, offset_db: float, scale_db: float, unknown: int) -> None:
        middle = 1.0 + (np.arange(1 << _LOG_BITS) + 0.5) / (1 << _LOG_BITS)
        per_neper = 10.0 / np.log(10.0) / scale_db
        self._logarithm = np.stack(
            [per_neper * np.log(middle), per_neper / middle / (1 << _FRACTION_BITS)], axis=1
        )
        self._base = (_DB_OF_ONE - offset_db) / scale_db + 0.5
        self._per_octave = per_neper * np.log(2.0)
        self._unknown = unknown

    def update(
        self,
        fields: NDArray[np.int64],
        weights: NDArray[np.float64],
        stored: NDArray[np.uint16],
        boxes: NDArray[np.int64],
    ) -> NDArray[np.bool_]:
        """Bring stored levels up to date in some tiles; which of them changed, (n_tiles,).

        Parameters
        ----------
        fields : (n, n_rows, n_columns) int64
            Accumulators whose weighted energies add up.
        weights : (n,) float64
        stored : (n_rows, n_columns) uint16
            Changed in place.
        boxes : (n_tiles, 4) int64
            First row, end row, first column, end column of each tile.
        """
        changed = np.zeros(boxes.shape[0], dtype=np.bool_)

        def write(low: int, high: int) -> None:
            _write(
                fields, weights, stored, boxes, changed, self._base, self._per_octave, self._logarithm,
                self._unknown, low, high,
            )  # fmt: skip

        if boxes.shape[0] < _FEW_PATCHES:
            write(0, boxes.shape[0])
        else:
            in_parts(write, boxes.shape[0])
        return changed


@njit(cache=True, error_model="numpy", nogil=True)
def _write(
    fields: NDArray[np.int64],
    weights: NDArray[np.float64],
    stored: NDArray[np.uint16],
    boxes: NDArray[np.int64],
    changed: NDArray[np.bool_],
    base: float,
    per_octave: float,
    logarithm: NDArray[np.float64],
    unknown: int,
    low: int,
    high: int,
) -> None:
    fraction = np.uint64((1 << _FRACTION_BITS) - 1)
    shift, exponent = np.uint64(_FRACTION_BITS - _LOG_BITS), np.uint64(_FRACTION_BITS)
    below = np.uint64((1 << (_FRACTION_BITS - _LOG_BITS)) - 1)
    middle = float(1 << (_FRACTION_BITS - _LOG_BITS - 1))
    highest = unknown - 1.0
    most = 0
    for t in range(low, high):
        most = max(most, boxes[t, 3] - boxes[t, 2])
    energy = np.empty(most, dtype=np.float64)
    bits_of = energy.view(np.uint64)
    step = np.empty(most, dtype=np.float64)
    for t in range(low, high):
        differs = np.int64(0)
        first, width = boxes[t, 2], boxes[t, 3] - boxes[t, 2]
        for row in range(boxes[t, 0], boxes[t, 1]):
            sums = fields[0, row, first : first + width]
            for i in range(width):
                energy[i] = weights[0] * np.float64(sums[i])
            for f in range(1, fields.shape[0]):
                sums = fields[f, row, first : first + width]
                for i in range(width):
                    energy[i] += weights[f] * np.float64(sums[i])
            for i in range(width):
                bits = bits_of[i]
                entry = (bits & fraction) >> shift
                step[i] = (
                    base
                    + np.float64(np.int32(bits >> exponent) - np.int32(1023)) * per_octave
                    + logarithm[entry, 0]
                    + (np.float64(np.int64(bits & below)) - middle) * logarithm[entry, 1]
                )
            line = stored[row, first : first + width]
            for i in range(width):  # apart from the loop above, which is the shorter for it
                at = min(max(step[i], 0.0), highest)
                if energy[i] <= 0.0:
                    at = np.float64(unknown)
                value = np.uint16(np.int32(at))
                differs |= np.int64(value ^ line[i])
                line[i] = value
        changed[t] = differs != 0


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
