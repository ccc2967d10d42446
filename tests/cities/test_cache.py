from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

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


def _lay_down(path: Path, n_bytes: int, hours_ago: float) -> None:
    """A file, or a folder with one, as if last used so long ago."""
    file = path if path.suffix else path / "codes.npy"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(bytes(n_bytes))
    used_s = time.time() - 3600.0 * hours_ago
    for part in {file, path}:
        os.utime(part, (used_s, used_s))


def test_what_was_unused_longest_goes_first_and_only_until_the_rest_fits(folder):
    home, key = folder.parent, "0123456789abcdef0123"
    old, newer, newest = (home / f"{kind}-{key}" for kind in ("noise", "air-columns", "kriging"))
    _lay_down(old, 3000, 50.0)
    _lay_down(home / f"prior-{key}.npz", 1000, 40.0)
    _lay_down(newer, 2000, 30.0)
    _lay_down(newest, 1000, 20.0)
    assert [entry.n_bytes for entry in cache.entries()] == [3000, 1000, 2000, 1000]
    assert cache.tidy(7000) == []
    assert [entry.path.name for entry in cache.tidy(3500)] == [old.name, f"prior-{key}.npz"]
    assert {path.name for path in home.iterdir()} == {newer.name, newest.name}


def test_tidying_spares_what_was_just_used_and_what_is_not_ours(folder):
    home, key = folder.parent, "0123456789abcdef0123"
    _lay_down(home / "photographs", 9000, 500.0)
    _lay_down(home / "noise-of-the-street.wav", 9000, 500.0)
    _lay_down(home / f"noise-{key}", 9000, 500.0)
    _lay_down(home / f"noise-{key}-{key}-part", 9000, 0.5)
    assert [entry.path.name for entry in cache.tidy(0)] == [f"noise-{key}"]
    assert len(list(home.iterdir())) == 3


def test_a_mapped_version_can_be_read_on_after_it_was_removed(folder):
    path = folder.parent / "noise-0123456789abcdef0123"
    cache.keep(path, _whole())
    held = cache.kept(path, Whole, Part)
    for part in path.iterdir():
        os.utime(part, (0.0, 0.0))
    os.utime(path, (0.0, 0.0))
    assert [entry.path for entry in cache.tidy(0)] == [path]
    assert not path.exists()
    np.testing.assert_array_equal(held.parts[1].values, [[0.0, 1.0, 2.0, 3.0]])


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
