"""What a step buffer remembers for the two hours in which readings may come late or twice."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.step_memory import (
    ID,
    KEY_WORDS,
    OPEN,
    SOURCE_BITS,
    fill_id_slots,
    fill_key_slots,
    take_in,
    throw_out,
)
from streams.texts import Texts

_FIRST_CAPACITY = 4096


class Recall:
    """Ids and intervals of readings as tables (:mod:`kernels.step_memory`).

    Dead entries are skipped, and thrown out when the room is used up: a reading pays for about one move of
    another.
    """

    def __init__(self) -> None:
        self.horizon_ms = np.iinfo(np.int64).min // 2
        self._n_ids = self._n_keys = 0
        self._ids = np.zeros((_FIRST_CAPACITY + 1, 2), dtype=np.int64)
        self._id_data = np.zeros(32 * _FIRST_CAPACITY, dtype=np.uint8)
        self._keys = np.zeros((_FIRST_CAPACITY, KEY_WORDS), dtype=np.int64)
        self._id_slots = self._key_slots = np.zeros(0, dtype=np.uint64)
        self._fill_slots()
        self._open_key = np.empty(_FIRST_CAPACITY, dtype=np.int64)
        self._n_open = 0

    @property
    def n_ids(self) -> int:
        """Ids held, forgotten ones that were not thrown out yet among them."""
        return self._n_ids

    def take_in(
        self,
        rows: NDArray[np.int64],
        words: NDArray[np.int64],
        received_ms: NDArray[np.int64],
        event_id: Texts,
        closed_ms: int,
        counts: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """Rows that are open from now on, of those in ``rows``; see :func:`kernels.step_memory.take_in`."""
        self._make_room(rows.size, event_id.data.size)
        kept = np.empty(rows.size, dtype=np.int64)
        self._n_ids, self._n_keys, n_kept = take_in(
            rows, words, received_ms, event_id.data, event_id.start, self.horizon_ms, closed_ms,
            self._ids, self._n_ids, self._id_data, self._id_slots, self._keys, self._n_keys,
            self._key_slots, self._open_key, self._n_open, kept, counts,
        )  # fmt: skip
        self._n_open += n_kept
        return kept[:n_kept]

    def is_open(self) -> NDArray[np.bool_]:
        """Which of the open rows no other has taken the place of, (n_open,)."""
        return self._open_key[: self._n_open] >= 0

    def ids_of(
        self, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
        """Ids of open rows: the bytes of all, where each one starts, and its length."""
        place = self._keys[self._open_key[rows], ID]
        first = self._ids[place, 1] >> SOURCE_BITS
        return self._id_data, first, (self._ids[place + 1, 1] >> SOURCE_BITS) - first

    def close(self, due: NDArray[np.int64], rest: NDArray[np.int64]) -> None:
        """Use up the open rows ``due``; ``rest`` are the open rows from now on, in this order."""
        self._keys[self._open_key[due], OPEN] = -1
        kept = self._open_key[rest]
        self._keys[kept, OPEN] = np.arange(rest.size)
        self._open_key[: rest.size] = kept
        self._n_open = rest.size

    def snapshot(self) -> dict[str, Any]:
        """All as arrays, without copies of the tables, which :meth:`restore` fills again."""
        end = int(self._ids[self._n_ids, 1]) >> SOURCE_BITS
        return {
            "horizon_ms": self.horizon_ms,
            "ids": self._ids[: self._n_ids + 1].copy(),
            "id_data": self._id_data[:end].copy(),
            "keys": self._keys[: self._n_keys].copy(),
            "open_key": self._open_key[: self._n_open].copy(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state that :meth:`snapshot` made."""
        self.horizon_ms = int(state["horizon_ms"])
        self._n_ids, self._n_keys = len(state["ids"]) - 1, len(state["keys"])
        self._n_open = len(state["open_key"])
        self._ids = _with_room(state["ids"], self._n_ids + 1)
        self._id_data = _with_room(state["id_data"], max(len(state["id_data"]), 32 * _FIRST_CAPACITY))
        self._keys = _with_room(state["keys"], self._n_keys)
        self._open_key = _with_room(state["open_key"], self._n_open)
        self._fill_slots()

    def _make_room(self, n: int, n_bytes: int) -> None:
        if self._open_key.size < self._n_open + n:
            self._open_key = _with_room(self._open_key, 2 * (self._n_open + n))
        used = int(self._ids[self._n_ids, 1]) >> SOURCE_BITS
        if (
            len(self._ids) > self._n_ids + n
            and len(self._keys) >= self._n_keys + n
            and self._id_data.size >= used + n_bytes
        ):
            return
        self._n_ids, self._n_keys = throw_out(
            self._ids, self._n_ids, self._id_data, self._keys, self._n_keys, self._open_key,
            self.horizon_ms,
        )  # fmt: skip
        used = int(self._ids[self._n_ids, 1]) >> SOURCE_BITS
        # Room for as many again, or this would come back before it has paid.
        self._ids = _with_room(self._ids, 2 * (self._n_ids + n) + 1)
        self._keys = _with_room(self._keys, 2 * (self._n_keys + n))
        self._id_data = _with_room(self._id_data, 2 * (used + n_bytes))
        self._fill_slots()

    def _fill_slots(self) -> None:
        self._id_slots = _slots_for(len(self._ids), self._id_slots)
        self._key_slots = _slots_for(len(self._keys), self._key_slots)
        fill_id_slots(self._ids, self._n_ids, self._id_data, self._id_slots)
        fill_key_slots(self._keys, self._n_keys, self._key_slots)


def _slots_for(capacity: int, slots: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """An empty table with at least twice as many slots as entries: the one given, if it is large enough."""
    if slots.size >= 2 * capacity:
        slots[:] = 0
        return slots
    return np.zeros(1 << (2 * capacity - 1).bit_length(), dtype=np.uint64)


def _with_room(array: NDArray[Any], needed: int) -> NDArray[Any]:
    """The array with room for at least ``needed`` rows; what is new is 0."""
    if len(array) >= needed:
        return array
    grown = np.zeros((max(_FIRST_CAPACITY, needed), *array.shape[1:]), dtype=array.dtype)
    grown[: len(array)] = array
    return grown
