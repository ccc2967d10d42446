from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from cities import cache


@dataclass(frozen=True, slots=True)
class Part:
    values: NDArray[np.float32]
    reach_m: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Whole:
    count: int
    parts: tuple[Part, ...]
    empty: NDArray[np.int32]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TWINROOM_CACHE", str(tmp_path))
    return cache.cache_folder() / "whole-1"


def _whole():
    parts = tuple(Part(np.arange(n, dtype=np.float32).reshape(1, n), (1.5 * n, math.inf)) for n in (3, 4))
    return Whole(7, parts, np.empty((0, 2), dtype=np.int32))


def test_what_is_kept_comes_back_equal_and_mapped(folder):
    cache.keep(folder, _whole())
    got = cache.kept(folder, Whole, Part)
    assert (got.count, got.parts[0].reach_m, got.parts[1].reach_m) == (7, (4.5, math.inf), (6.0, math.inf))
    for mine, theirs in zip(_whole().parts, got.parts, strict=True):
        np.testing.assert_array_equal(mine.values, theirs.values)
        assert not theirs.values.flags.writeable
    assert got.empty.shape == (0, 2)


def test_keeping_the_same_again_changes_nothing_and_leaves_no_half(folder):
    cache.keep(folder, _whole())
    cache.keep(folder, _whole())
    assert [p.name for p in folder.parent.iterdir()] == ["whole-1"]


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(OSError, match="missing"):
        cache.keep(tmp_path / "missing" / "whole", _whole())


def test_a_large_array_is_mapped_from_a_file_without_a_name(folder, monkeypatch):
    monkeypatch.setattr(cache, "MAPPED_FROM_BYTES", 4096)
    small, large = cache.zeros((100,), np.int64), cache.zeros((1000, 4), np.int64)
    assert isinstance(large, np.memmap)
    assert not isinstance(small, np.memmap)
    assert not small.any()
    assert not large.any()
    large[999, 3] = 5
    assert large.sum() == 5
    assert list(folder.parent.iterdir()) == []


@pytest.mark.usefixtures("folder")
def test_air_fields_of_a_mapped_room_equal_those_in_memory(monkeypatch):
    from kernels import srm2
    from kernels.air_columns import road_columns
    from kernels.air_fields import AirAccumulators, AirReader
    from kernels.chemistry import Background
    from tests.kernels.open_roads import GRID, columns_of

    columns = columns_of()
    stored = []
    for limit in (1 << 40, 16):
        monkeypatch.setattr(cache, "MAPPED_FROM_BYTES", limit)
        roads = road_columns(columns, srm2.hourly_winds(3.0, 100.0), cache.zeros)
        sums = AirAccumulators(columns, cache.zeros)
        sums.add(roads, np.arange(2), np.full((2, 4), 1 << 28))
        stored.append(AirReader(columns, Background(20.0, 40.0, 20.0, 10.0)).stored(sums, roads, 3.0, GRID))
    np.testing.assert_array_equal(*stored)
