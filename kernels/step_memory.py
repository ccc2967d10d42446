"""What a step buffer remembers of readings, as hash tables: which ids came, and which row holds an interval.

ids : (n + 1, 2) int64
    End of the reading with that id [ms]; where its text starts in the bytes of all ids, times 16, plus the
    code of its source. The last row holds the end of the texts only.
keys : (n, 7) int64
    Start and end [ms], two words that hold sensors, direction, mode and source; then of the reading that
    counts: when it was received [ms], the place of its id, and its place among the open rows, -1 once used.

What ended before the horizon is as good as absent, unless it is still open.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.texts import SEED, compare_texts, copy_text, mixed, put_in, text_hash

SOURCE_BITS = 4
RECEIVED, ID, OPEN = 4, 5, 6
KEY_WORDS = 7
ACCEPTED, DUPLICATES, REVISIONS, LATE, TOUCHED = range(5)
# Rows whose slots are fetched before the first of them is looked up, so that the misses overlap.
TOGETHER = 64
_UPPER = np.uint64(0xFFFFFFFF00000000)
_LOWER = np.uint64(0x00000000FFFFFFFF)
_ONE = np.uint64(1)


@njit(cache=True, error_model="numpy", nogil=True)
def _key_hash(words: NDArray[np.int64], k: int) -> np.uint64:
    h = SEED  # not the start itself: its difference from the end is the same for all readings of a sensor
    for w in range(4):
        h = mixed(h, np.uint64(words[k, w]))
    return h


@njit(cache=True, error_model="numpy", nogil=True)
def _text_of(ids: NDArray[np.int64], n: int) -> tuple[int, int]:
    return ids[n, 1] >> SOURCE_BITS, ids[n + 1, 1] >> SOURCE_BITS


@njit(cache=True, error_model="numpy", nogil=True)
def fill_id_slots(
    ids: NDArray[np.int64], n_ids: int, id_data: NDArray[np.uint8], slots: NDArray[np.uint64]
) -> None:
    """Enter all ids in an empty table."""
    hashes = np.empty(n_ids, dtype=np.uint64)
    for n in range(n_ids):
        first, end = _text_of(ids, n)
        hashes[n] = text_hash(id_data, first, end, ids[n, 1] & 15)
    for n in range(n_ids):
        put_in(slots, hashes[n], n)


@njit(cache=True, error_model="numpy", nogil=True)
def fill_key_slots(keys: NDArray[np.int64], n_keys: int, slots: NDArray[np.uint64]) -> None:
    """Enter all keys in an empty table."""
    hashes = np.empty(n_keys, dtype=np.uint64)
    for n in range(n_keys):
        hashes[n] = _key_hash(keys, n)
    for n in range(n_keys):  # apart, so that misses of the table overlap
        put_in(slots, hashes[n], n)


@njit(cache=True, error_model="numpy", nogil=True)
def _find_id(
    ids: NDArray[np.int64], id_data: NDArray[np.uint8], slots: NDArray[np.uint64], horizon_ms: int,
    h: np.uint64, source: int, data: NDArray[np.uint8], first: int, end: int,
) -> tuple[int, np.uint64]:  # fmt: skip
    """Place of an id or -1, and the slot where the search ended."""
    mask = np.uint64(slots.size - 1)
    at = h & mask
    while slots[at] != np.uint64(0):
        if slots[at] & _UPPER == h & _UPPER:
            n = int(np.int64(slots[at] & _LOWER)) - 1
            if ids[n, 0] >= horizon_ms and ids[n, 1] & 15 == source:
                known_first, known_end = _text_of(ids, n)
                if compare_texts(id_data, known_first, known_end, data, first, end) == 0:
                    return n, at
        at = (at + _ONE) & mask
    return -1, at


@njit(cache=True, error_model="numpy", nogil=True)
def _find_key(
    keys: NDArray[np.int64], slots: NDArray[np.uint64], horizon_ms: int, h: np.uint64,
    words: NDArray[np.int64], k: int,
) -> tuple[int, np.uint64]:  # fmt: skip
    """Place of a key or -1, and the slot where the search ended."""
    mask = np.uint64(slots.size - 1)
    at = h & mask
    while slots[at] != np.uint64(0):
        if slots[at] & _UPPER == h & _UPPER:
            n = int(np.int64(slots[at] & _LOWER)) - 1
            if (
                keys[n, 0] == words[k, 0]
                and keys[n, 1] == words[k, 1]
                and keys[n, 2] == words[k, 2]
                and keys[n, 3] == words[k, 3]
                and (keys[n, 1] >= horizon_ms or keys[n, OPEN] >= 0)
            ):
                return n, at
        at = (at + _ONE) & mask
    return -1, at


@njit(cache=True, error_model="numpy", nogil=True)
def take_in(
    rows: NDArray[np.int64],
    words: NDArray[np.int64],
    received_ms: NDArray[np.int64],
    data: NDArray[np.uint8],
    text_start: NDArray[np.int64],
    horizon_ms: int,
    closed_ms: int,
    ids: NDArray[np.int64],
    n_ids: int,
    id_data: NDArray[np.uint8],
    id_slots: NDArray[np.uint64],
    keys: NDArray[np.int64],
    n_keys: int,
    key_slots: NDArray[np.uint64],
    open_key: NDArray[np.int64],
    n_open: int,
    kept: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> tuple[int, int, int]:
    """Take in readings one after the other; ids, keys and open rows grow in place.

    Parameters
    ----------
    rows : (n,) int64
        Readings to take, of those that the next four describe.
    words : (n_all, 4) int64
        First four words of a key; the source is in the lowest four bits of the last.
    received_ms : (n_all,) int64
    data, text_start :
        Texts of the ids, (n_all + 1,).
    open_key : (capacity,) int64
        Key of each open row, -1 where another has taken its place.
    kept : (n,) int64, out
        Readings that became open rows, in order.
    counts : (5,) int64
        Accepted, duplicates, revisions and late readings are added to; the last has no meaning.

    Returns
    -------
    n_ids, n_keys, n_kept : int
    """
    n_kept = 0
    id_hash = np.empty(TOGETHER, dtype=np.uint64)
    key_hash = np.empty(TOGETHER, dtype=np.uint64)
    id_mask, key_mask = np.uint64(id_slots.size - 1), np.uint64(key_slots.size - 1)
    touched = np.uint64(0)
    for j in range(rows.size):
        if j % TOGETHER == 0:
            for i in range(min(TOGETHER, rows.size - j)):
                k = rows[j + i]
                id_hash[i] = text_hash(data, text_start[k], text_start[k + 1], words[k, 3] & 15)
                key_hash[i] = _key_hash(words, k)
                touched |= id_slots[id_hash[i] & id_mask] | key_slots[key_hash[i] & key_mask]
        k = rows[j]
        first, end, source = text_start[k], text_start[k + 1], words[k, 3] & 15
        known, slot = _find_id(
            ids, id_data, id_slots, horizon_ms, id_hash[j % TOGETHER], source, data, first, end
        )
        if known >= 0:
            counts[DUPLICATES] += 1
            continue
        at = ids[n_ids, 1] >> SOURCE_BITS
        copy_text(data, first, end, id_data, at)
        ids[n_ids, 0] = words[k, 1]
        ids[n_ids, 1] = (at << SOURCE_BITS) | source
        ids[n_ids + 1, 1] = (at + end - first) << SOURCE_BITS
        id_slots[slot] = (id_hash[j % TOGETHER] & _UPPER) | np.uint64(n_ids + 1)
        n_ids += 1
        n, slot = _find_key(keys, key_slots, horizon_ms, key_hash[j % TOGETHER], words, k)
        if n >= 0:
            counts[REVISIONS] += 1
            if received_ms[k] < keys[n, RECEIVED]:
                continue
            if received_ms[k] == keys[n, RECEIVED]:
                known_first, known_end = _text_of(ids, keys[n, ID])
                if compare_texts(data, first, end, id_data, known_first, known_end) < 0:
                    continue
            if keys[n, OPEN] >= 0:
                open_key[keys[n, OPEN]] = -1
        else:
            counts[ACCEPTED] += 1
            if words[k, 1] <= closed_ms:
                counts[LATE] += 1
            n = n_keys
            for w in range(4):
                keys[n, w] = words[k, w]
            key_slots[slot] = (key_hash[j % TOGETHER] & _UPPER) | np.uint64(n + 1)
            n_keys += 1
        keys[n, RECEIVED] = received_ms[k]
        keys[n, ID] = n_ids - 1
        keys[n, OPEN] = n_open + n_kept
        open_key[n_open + n_kept] = n
        kept[n_kept] = k
        n_kept += 1
    counts[TOUCHED] = np.int64(touched & _ONE)
    return n_ids, n_keys, n_kept


@njit(cache=True, error_model="numpy", nogil=True)
def throw_out(
    ids: NDArray[np.int64],
    n_ids: int,
    id_data: NDArray[np.uint8],
    keys: NDArray[np.int64],
    n_keys: int,
    open_key: NDArray[np.int64],
    horizon_ms: int,
) -> tuple[int, int]:
    """Move what is not forgotten to the front, in place, in the same order; new n_ids and n_keys.

    The tables of slots have to be filled again.
    """
    is_used = np.zeros(n_ids, dtype=np.bool_)
    for n in range(n_keys):
        if keys[n, 1] >= horizon_ms or keys[n, OPEN] >= 0:
            is_used[keys[n, ID]] = True
    place = np.empty(n_ids, dtype=np.int64)
    kept, at = 0, 0
    for n in range(n_ids):
        first, end = _text_of(ids, n)
        if ids[n, 0] >= horizon_ms or is_used[n]:
            place[n] = kept
            source = ids[n, 1] & 15
            copy_text(id_data, first, end, id_data, at)  # never behind where it is read
            ids[kept, 0] = ids[n, 0]
            ids[kept, 1] = (at << SOURCE_BITS) | source
            at += end - first
            kept += 1
    ids[kept, 1] = at << SOURCE_BITS
    kept_keys = 0
    for n in range(n_keys):
        if keys[n, 1] >= horizon_ms or keys[n, OPEN] >= 0:
            for w in range(KEY_WORDS):
                keys[kept_keys, w] = keys[n, w]
            keys[kept_keys, ID] = place[keys[n, ID]]
            if keys[n, OPEN] >= 0:
                open_key[keys[n, OPEN]] = kept_keys
            kept_keys += 1
    return kept, kept_keys
