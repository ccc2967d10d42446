"""Texts as bytes are compared, found and sorted as Python does it."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.texts import compare_texts, copy_texts, find_texts, index_texts, pad_texts, sort_runs

TEXTS = st.lists(st.binary(max_size=30), min_size=1, max_size=30)


def packed(texts: list[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    data = np.frombuffer(bytearray(b"".join(texts)), dtype=np.uint8)
    return data, np.cumsum([0, *map(len, texts)]).astype(np.int64)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(TEXTS, st.data())
def test_texts_are_ordered_and_sorted_within_runs_as_bytes_are(
    texts: list[bytes], data: st.DataObject
) -> None:
    texts += [texts[0] + b"\0", texts[0][:-1]]
    whole, start = packed(texts)
    a, b = (data.draw(st.integers(0, len(texts) - 1)) for _ in range(2))
    sign = compare_texts(whole, start[a], start[a + 1], whole, start[b], start[b + 1])
    assert np.sign(sign) == (texts[a] > texts[b]) - (texts[a] < texts[b])
    key = np.array([data.draw(st.integers(0, 3)) for _ in texts], dtype=np.int64)
    order = np.argsort(key, kind="stable")
    assert sort_runs(whole, start[:-1].copy(), np.diff(start), key, order, 1_000) == 0
    expected = sorted(range(len(texts)), key=lambda k: (key[k], texts[k]))
    assert [texts[k] for k in order] == [texts[k] for k in expected]
    assert key[order].tolist() == sorted(key.tolist())


def test_runs_above_the_longest_are_left_and_counted() -> None:
    whole, start = packed([b"c", b"b", b"a", b"z", b"y"])
    key, order = np.array([1, 1, 1, 2, 2]), np.arange(5)
    assert sort_runs(whole, start[:-1].copy(), np.diff(start), key, order, 2) == 1
    assert order.tolist() == [0, 1, 2, 4, 3]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(TEXTS, TEXTS)
def test_texts_are_found_copied_and_padded(names: list[bytes], texts: list[bytes]) -> None:
    names = sorted(set(names))
    known, known_start = packed(names)
    whole, start = packed([*texts, *names])
    slots = np.zeros(128, dtype=np.uint64)
    index_texts(known, known_start, slots)
    expected = [names.index(text) if text in names else -1 for text in [*texts, *names]]
    assert find_texts(known, known_start, slots, whole, start).tolist() == expected
    first, length = start[:-1][::-1].copy(), np.diff(start)[::-1].copy()
    out = np.empty(whole.size, dtype=np.uint8)
    copy_texts(whole, first, length, out)
    assert out.tobytes() == b"".join([*texts, *names][::-1])
    padded = np.zeros((first.size, 9), dtype=np.uint8)
    pad_texts(whole, first, length, padded)
    assert [row.tobytes() for row in padded] == [text[:9].ljust(9, b"\0") for text in [*texts, *names][::-1]]
