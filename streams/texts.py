"""Columns of text without an object for each row."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from kernels.texts import copy_texts, find_texts, index_texts


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts in UTF-8 as one array of bytes, the way Arrow keeps them.

    Attributes
    ----------
    data : (n_bytes,) uint8
    start : (n + 1,) int32 or int64
        Text k is ``data[start[k] : start[k + 1]]``.
    """

    data: NDArray[np.uint8]
    start: NDArray[np.int64] | NDArray[np.int32]

    @classmethod
    def of(cls, texts: Sequence[str]) -> Self:
        joined = np.frombuffer("\0".join(texts).encode(), dtype=np.uint8)
        is_between = joined == 0
        between = np.flatnonzero(is_between)
        start = np.zeros(len(texts) + 1, dtype=np.int64)
        if between.size == len(texts) - 1:
            start[1:-1] = between - np.arange(between.size)
            start[-1] = joined.size - between.size
            return cls(joined[~is_between], start)
        data = [text.encode() for text in texts]  # one of them holds a zero, or there are none
        np.cumsum([len(text) for text in data], out=start[1:])
        return cls(np.frombuffer(b"".join(data), dtype=np.uint8), start)

    @classmethod
    def concatenated(cls, parts: Sequence[Texts]) -> Self:
        """All texts of several columns, as fresh arrays."""
        if not parts:
            return cls.of(())
        sizes = [len(part) for part in parts]
        start = np.zeros(sum(sizes) + 1, dtype=np.int64)
        data, at, n = [], 0, 0
        for part, size in zip(parts, sizes, strict=True):
            first, end = int(part.start[0]), int(part.start[-1])
            np.add(part.start[1:], at - first, out=start[n + 1 : n + 1 + size])
            data.append(part.data[first:end])
            at += end - first
            n += size
        return cls(np.concatenate(data), start)

    def __len__(self) -> int:
        return self.start.size - 1

    def text(self, k: int) -> str:
        return self.data[self.start[k] : self.start[k + 1]].tobytes().decode()

    def texts(self) -> list[str]:
        whole = self.data.tobytes()
        ends = self.start.tolist()
        return [whole[a:b].decode() for a, b in itertools.pairwise(ends)]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Bytes of each text, (n,)."""
        return np.diff(self.start)

    def take(self, rows: NDArray[np.int64]) -> Texts:
        """Texts of some rows, as fresh arrays."""
        length = self.lengths[rows].astype(np.int64)
        start = np.zeros(rows.size + 1, dtype=np.int64)
        np.cumsum(length, out=start[1:])
        data = np.empty(int(start[-1]), dtype=np.uint8)
        copy_texts(np.array(self.data), self.start[rows].astype(np.int64), length, data)
        return Texts(data, start)


NO_TEXTS = Texts.of(())


@dataclass(frozen=True, slots=True)
class Coded:
    """A text for each row as a place among ``names``; -1 where there is none. (n,) int32."""

    codes: NDArray[np.int32]
    names: Texts

    @classmethod
    def of(cls, texts: Iterable[str | None]) -> Self:
        places: dict[str | None, int] = {None: -1}
        codes = [places.setdefault(text, len(places) - 1) for text in texts]
        return cls(np.array(codes, dtype=np.int32), Texts.of([text for text in places if text is not None]))

    @classmethod
    def same(cls, text: str | None, n: int) -> Self:
        """One text, or none, for all of ``n`` rows."""
        if text is None:
            return cls(np.full(n, -1, dtype=np.int32), NO_TEXTS)
        return cls(np.zeros(n, dtype=np.int32), Texts.of((text,)))

    @classmethod
    def concatenated(cls, parts: Sequence[Coded]) -> Self:
        if all(len(part.names) == 0 for part in parts):
            return cls(np.full(sum(part.codes.size for part in parts), -1, dtype=np.int32), NO_TEXTS)
        codes, n = [], 0
        for part in parts:
            codes.append(np.where(part.codes < 0, -1, part.codes + n) if n else part.codes)
            n += len(part.names)
        return cls(np.concatenate(codes).astype(np.int32), Texts.concatenated([p.names for p in parts]))

    def text(self, k: int) -> str | None:
        code = int(self.codes[k])
        return None if code < 0 else self.names.text(code)

    def texts(self) -> list[str | None]:
        names: list[str | None] = [*self.names.texts(), None]
        return [names[code] for code in self.codes.tolist()]

    def take(self, rows: NDArray[np.int64]) -> Coded:
        return Coded(self.codes[rows], self.names)


class TextIndex:
    """Places of known names, looked up by their bytes."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        known = Texts.of(self.names)
        self._data, self._start = known.data.copy(), known.start
        self._slots = np.zeros(1 << max(3, (4 * len(self.names)).bit_length()), dtype=np.uint64)
        index_texts(self._data, self._start, self._slots)

    def find(self, texts: Texts) -> NDArray[np.int32]:
        """Place of each text, -1 where it is not known: (n,)."""
        data = texts.data if texts.data.flags.writeable else texts.data.copy()
        return np.asarray(
            find_texts(self._data, self._start, self._slots, data, texts.start.astype(np.int64)),
            dtype=np.int32,
        )
