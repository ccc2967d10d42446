"""The field at facades: exact after any history, and each transfer where it belongs."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels import facade_field
from kernels.facade_field import Runs, join_runs, runs_of
from kernels.facades import FacadeReceptors, FacadeTransfers
from kernels.fixedpoint import POWER_MAX
from kernels.noise_field import transfer_quanta
from kernels.transfer import NONE

N_SEGMENTS, N, N_TILES = 40, 300, 3
TILE_START = np.array([0, 120, 120, 300])


def random_codes(seed: int) -> NDArray[np.uint8]:
    """Dense codes (n_segments, 4, n): stretches of receptors that hear, and single ones that do not."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(20, 195, (N_SEGMENTS, 4, N)).astype(np.uint8)
    for s in range(N_SEGMENTS):
        first, end = np.sort(rng.integers(0, N, 2))
        codes[s, :, :first], codes[s, :, end:] = NONE, NONE
    codes[:, :, rng.integers(0, N, 90)] = NONE
    codes[:, 0, 7] = NONE  # a group alone may be missing
    return codes


def transfers_of(codes: NDArray[np.uint8]) -> FacadeTransfers:
    """Of all tiles, the last one first: the order of the parts must not matter."""
    segments = np.arange(N_SEGMENTS, dtype=np.int32)
    parts = [runs_of(segments, codes[:, :, a:b], a) for a, b in ((120, 300), (0, 120))]
    names = ("segment", "first", "size")
    index = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    out = np.empty((int(index["size"].sum()), 4), dtype=np.uint8)
    home = np.arange(N, dtype=np.int32) // 5
    n_homes = int(home[-1]) + 1
    receptors = FacadeReceptors(
        np.zeros((N, 2)), home, TILE_START, np.arange(n_homes, dtype=np.int32), np.zeros((n_homes, 2)),
        np.ones(n_homes),
    )  # fmt: skip
    return join_runs(receptors, N_SEGMENTS, Runs(codes=out, **index), (part.codes for part in parts))


def full_field(codes: NDArray[np.uint8], power: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sum over all pairs from the dense codes, apart from the runs."""
    quanta = transfer_quanta()[codes.astype(np.int64)]
    return np.asarray((quanta * power[:, :, None]).sum(axis=(0, 1)))


def random_power(seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, POWER_MAX + 1, (N_SEGMENTS, 4))


@pytest.mark.parametrize("seed", [1, 2])
def test_after_any_history_the_field_is_that_of_the_present_powers(seed: int) -> None:
    codes = random_codes(seed)
    transfers, rng = transfers_of(codes), np.random.default_rng(seed)
    field, present = facade_field.empty_field(transfers), np.zeros((N_SEGMENTS, 4), dtype=np.int64)
    for step in range(30):
        changed = rng.permutation(N_SEGMENTS)[: rng.integers(1, N_SEGMENTS)].astype(np.int32)
        wanted = random_power(100 * seed + step)[changed]
        facade_field.apply(field, transfers, changed, wanted - present[changed])
        present[changed] = wanted
    np.testing.assert_array_equal(field, full_field(codes, present))
    everything = np.arange(N_SEGMENTS, dtype=np.int32)
    facade_field.apply(field, transfers, everything, -present)
    assert not field.any()


def test_a_change_touches_only_the_receptors_of_its_runs() -> None:
    codes = random_codes(3)
    transfers = transfers_of(codes)
    field = facade_field.empty_field(transfers)
    n = facade_field.apply(field, transfers, np.array([4], dtype=np.int32), np.full((1, 4), 1000))
    heard = (codes[4] != NONE).any(axis=0)
    np.testing.assert_array_equal(field > 0, heard)
    assert heard.sum() <= n <= heard.sum() + 4 * np.diff(transfers.run_start)[4] + np.flatnonzero(~heard).size
    assert facade_field.apply(field, transfers, np.array([4], dtype=np.int32), np.zeros((1, 4), int)) == 0


def test_runs_stay_within_their_tile_and_skip_wide_gaps() -> None:
    codes = np.full((1, 4, 40), NONE, dtype=np.uint8)
    codes[0, 2, [3, 4, 9, 15, 39]] = 80  # 4 silent receptors are kept, 5 are not
    runs = runs_of(np.array([17], dtype=np.int32), codes, 100)
    assert runs.first.tolist() == [103, 115, 139]
    assert runs.size.tolist() == [7, 1, 1]
    assert runs.segment.tolist() == [17] * 3
    assert runs.codes.shape == (9, 4)
    assert runs.codes[:, 2].tolist() == [80, 80, 255, 255, 255, 255, 80, 80, 80]
    nothing = runs_of(np.array([17], dtype=np.int32), np.full((1, 4, 40), NONE, dtype=np.uint8), 100)
    assert nothing.first.size == nothing.codes.size == 0


def test_segments_of_each_tile_are_counted_with_the_receptors_that_may_hear_them() -> None:
    transfers = transfers_of(random_codes(5))
    tile, segment, receptors = facade_field.segments_by_tile(transfers)
    assert set(tile.tolist()) == {0, 2}
    assert receptors.sum() == transfers.code_start[-1]
    assert np.unique(segment).size == np.flatnonzero(np.diff(transfers.run_start)).size


def test_roads_that_could_overflow_a_sum_are_refused() -> None:
    codes = np.zeros((N_SEGMENTS, 4, N), dtype=np.uint8)  # 0 dB each
    with pytest.raises(OverflowError, match=r"to one facade add up to 160\.0 times 0 dB, at most 16\.0"):
        transfers_of(codes)
    assert 0.0 < transfers_of(np.full_like(codes, 40)).headroom_bits < 63.0
