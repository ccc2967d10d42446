"""Texts as one array of bytes: hashing, comparing, looking up and copying many of them at once.

Text k lies at ``data[start[k] : start[k + 1]]`` in UTF-8, as Arrow keeps it; its bytes are in the order of
its characters. Hash tables are open addressing with linear probing; a slot holds the upper half of the hash
and, one up, the place of the entry: 0 is free. A table has at least twice as many slots as entries, a power
of 2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

SEED = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIER = np.uint64(0xFF51AFD7ED558CCD)  # of the finaliser of MurmurHash3 (Appleby, public domain)
_MULTIPLIER_2 = np.uint64(0xC4CEB9FE1A85EC53)
_UPPER = np.uint64(0xFFFFFFFF00000000)
_LOWER = np.uint64(0x00000000FFFFFFFF)
_ONE = np.uint64(1)
_SHIFT = np.uint64(33)


@intrinsic
def word_at(_context: Any, data: Any, _at: Any) -> Any:
    """Eight bytes from a place on as one word, aligned or not."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = cgutils.create_struct_proxy(signature.args[0])(context, builder, args[0])
        word = context.get_value_type(types.uint64).as_pointer()
        value = builder.load(builder.bitcast(builder.gep(array.data, [args[1]]), word))
        value.align = 1
        return value

    return types.uint64(data, types.int64), code


@intrinsic
def put_word(_context: Any, data: Any, _at: Any, _value: Any) -> Any:
    """Write eight bytes from a place on."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = cgutils.create_struct_proxy(signature.args[0])(context, builder, args[0])
        word = context.get_value_type(types.uint64).as_pointer()
        builder.store(args[2], builder.bitcast(builder.gep(array.data, [args[1]]), word)).align = 1
        return context.get_dummy_value()

    return types.none(data, types.int64, types.uint64), code


@njit(cache=True, error_model="numpy", nogil=True)
def mixed(h: np.uint64, word: np.uint64) -> np.uint64:
    """Hash with one more word of 64 bits in it."""
    h = (h ^ word) * _MULTIPLIER
    h ^= h >> _SHIFT
    h *= _MULTIPLIER_2
    return h ^ (h >> _SHIFT)


@njit(cache=True, error_model="numpy", nogil=True)
def text_hash(data: NDArray[np.uint8], first: int, end: int, seed: int) -> np.uint64:
    """Hash of one text."""
    h = mixed(SEED ^ np.uint64(seed), np.uint64(end - first))
    at = first
    while at + 8 <= end:
        h = mixed(h, word_at(data, at))
        at += 8
    if at < end:
        word = np.uint64(0)
        for k in range(end - at):
            word |= np.uint64(data[at + k]) << np.uint64(8 * k)
        h = mixed(h, word)
    return h


@njit(cache=True, error_model="numpy", nogil=True)
def compare_texts(
    a: NDArray[np.uint8], a_first: int, a_end: int, b: NDArray[np.uint8], b_first: int, b_end: int
) -> int:
    """Below, at or above 0 where text a comes before, is, or comes after text b."""
    shorter = min(a_end - a_first, b_end - b_first)
    same = 0
    while same + 8 <= shorter and word_at(a, a_first + same) == word_at(b, b_first + same):
        same += 8
    for k in range(same, shorter):
        difference = np.int64(a[a_first + k]) - np.int64(b[b_first + k])
        if difference != 0:
            return int(difference)
    return (a_end - a_first) - (b_end - b_first)


@njit(cache=True, error_model="numpy", nogil=True)
def put_in(slots: NDArray[np.uint64], h: np.uint64, entry: int) -> None:
    """Enter an entry in a table, after those of the same hash."""
    mask = np.uint64(slots.size - 1)
    at = h & mask
    while slots[at] != np.uint64(0):
        at = (at + _ONE) & mask
    slots[at] = (h & _UPPER) | np.uint64(entry + 1)


@njit(cache=True, error_model="numpy", nogil=True)
def index_texts(data: NDArray[np.uint8], start: NDArray[np.int64], slots: NDArray[np.uint64]) -> None:
    """Enter all texts in an empty table."""
    for k in range(start.size - 1):
        put_in(slots, text_hash(data, start[k], start[k + 1], 0), k)


@njit(cache=True, error_model="numpy", nogil=True)
def find_texts(
    names: NDArray[np.uint8],
    names_start: NDArray[np.int64],
    slots: NDArray[np.uint64],
    data: NDArray[np.uint8],
    start: NDArray[np.int64],
) -> NDArray[np.int32]:
    """Place of each text among the names of a table, -1 where it is none of them."""
    found = np.full(start.size - 1, -1, dtype=np.int32)
    mask = np.uint64(slots.size - 1)
    for k in range(found.size):
        first, end = start[k], start[k + 1]
        h = text_hash(data, first, end, 0)
        at = h & mask
        while slots[at] != np.uint64(0):
            if slots[at] & _UPPER == h & _UPPER:
                n = int(np.int64(slots[at] & _LOWER)) - 1
                if compare_texts(data, first, end, names, names_start[n], names_start[n + 1]) == 0:
                    found[k] = n
                    break
            at = (at + _ONE) & mask
    return found


@njit(cache=True, error_model="numpy", nogil=True)
def copy_text(data: NDArray[np.uint8], first: int, end: int, out: NDArray[np.uint8], at: int) -> None:
    """Copy one text."""
    while first + 8 <= end:
        put_word(out, at, word_at(data, first))
        first += 8
        at += 8
    for k in range(end - first):
        out[at + k] = data[first + k]


@njit(cache=True, error_model="numpy", nogil=True)
def copy_texts(
    data: NDArray[np.uint8], first: NDArray[np.int64], length: NDArray[np.int64], out: NDArray[np.uint8]
) -> None:
    """Copy texts one behind the other."""
    at = 0
    for k in range(first.size):
        copy_text(data, first[k], first[k] + length[k], out, at)
        at += length[k]


@njit(cache=True, error_model="numpy", nogil=True)
def pad_texts(
    data: NDArray[np.uint8], first: NDArray[np.int64], length: NDArray[np.int64], out: NDArray[np.uint8]
) -> None:
    """Copy texts into the rows of ``out``, (n, width) and zero, cut at the width."""
    width = out.shape[1]
    flat = out.reshape(out.size)
    for k in range(first.size):
        copy_text(data, first[k], first[k] + min(length[k], width), flat, k * width)


@njit(cache=True, error_model="numpy", nogil=True)
def sort_runs(
    data: NDArray[np.uint8],
    first: NDArray[np.int64],
    length: NDArray[np.int64],
    key: NDArray[np.int64],
    order: NDArray[np.int64],
    longest: int,
) -> int:
    """Sort each run of equal ``key[order]`` by its texts, in place, by insertion.

    Runs above ``longest`` are left as they are; the number of those is returned.
    """
    left = 0
    run = 0
    while run < order.size:
        end = run + 1
        while end < order.size and key[order[end]] == key[order[run]]:
            end += 1
        if end - run > longest:
            left += 1
            run = end
            continue
        for k in range(run + 1, end):
            row = order[k]
            at = k
            while at > run:
                before = order[at - 1]
                if (
                    compare_texts(
                        data, first[before], first[before] + length[before],
                        data, first[row], first[row] + length[row],
                    )
                    <= 0
                ):  # fmt: skip
                    break
                order[at] = before
                at -= 1
            order[at] = row
        run = end
    return left
