"""The integer noise field: exact, reversible, local, and within its bounds of a float64 sum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels import noise_field, runs, transfer
from kernels.fixedpoint import POWER_MAX, POWER_QUANTUM_PW, quantise_power
from kernels.network import build_network
from kernels.propagation import Atmosphere, Ground
from kernels.receptors import ReceptorGrid

GRID = ReceptorGrid(x_min=0.0, y_min=0.0, step_m=10.0, n_columns=90, n_rows=70)
N = 120
TABLE_BOUND_DB = 0.02  # stated: of the integer table; the codes are the same on both sides


@pytest.fixture(scope="module")
def patches() -> transfer.Patches:
    rng = np.random.default_rng(11)
    start = rng.uniform((0, 0), (900, 700), (N, 2))
    lines = [np.stack([a, a + rng.uniform(-80, 80, 2)]) for a in start]
    table = transfer.radial_table(350.0, Ground(0.5), Atmosphere())
    return transfer.build_patches(build_network(lines), np.full(N, 200.0), GRID, table)


def float_sum(patches: transfer.Patches, power: NDArray[np.int64]) -> NDArray[np.float64]:
    """Energy by a float64 sum over all segments, written without the integer table."""
    field = np.zeros(patches.shape)
    for p, segment in enumerate(patches.segment):
        r0, r1, c0, c1 = patches.box[p]
        codes = patches.codes[patches.start[p] : patches.start[p + 1]].reshape(4, r1 - r0, c1 - c0)
        energy = np.where(codes == transfer.NONE, 0.0, 10.0 ** (-codes.astype(np.float64) / 20.0))
        field[r0:r1, c0:c1] += np.tensordot(power[segment].astype(np.float64), energy, axes=1)
    return field


def random_power(rng: np.random.Generator, *shape: int) -> NDArray[np.int64]:
    return quantise_power(10.0 ** rng.uniform(4.0, 9.5, shape))


def full(patches: transfer.Patches, power: NDArray[np.int64]) -> NDArray[np.int64]:
    field = noise_field.empty_field(patches)
    noise_field.apply(field, patches, np.arange(N, dtype=np.int32), power)
    return field


def test_after_1000_changes_the_field_is_that_of_the_present_powers(patches: transfer.Patches) -> None:
    rng = np.random.default_rng(12)
    power = random_power(rng, N, 4)
    field = full(patches, power)
    for _ in range(1000):
        segments = rng.choice(N, rng.integers(1, 4), replace=False).astype(np.int32)
        new = random_power(rng, segments.size, 4) * rng.integers(0, 2, (segments.size, 1))
        noise_field.apply(field, patches, segments, new - power[segments])
        power[segments] = new
    np.testing.assert_array_equal(field, full(patches, power))
    heard = field > 0
    exact = 10.0 * np.log10(float_sum(patches, power)[heard] * POWER_QUANTUM_PW)
    level = noise_field.levels_db(field)
    np.testing.assert_allclose(level[heard], exact, atol=TABLE_BOUND_DB)
    assert np.isnan(level[~heard]).all()


def test_a_change_touches_only_the_cells_of_its_segments(patches: transfer.Patches) -> None:
    rng = np.random.default_rng(13)
    field = full(patches, random_power(rng, N, 4))
    segments = np.array([3, 40, 77], dtype=np.int32)
    before = field.copy()
    cells = noise_field.apply(field, patches, segments, np.full((3, 4), 5, dtype=np.int64))
    reached, expected = np.zeros(patches.shape, dtype=bool), 0
    for p in patches.slot[segments]:
        r0, r1, c0, c1 = patches.box[p]
        codes = patches.codes[patches.start[p] : patches.start[p + 1]].reshape(4, r1 - r0, c1 - c0)
        own = (codes != transfer.NONE).any(axis=0)
        reached[r0:r1, c0:c1] |= own
        expected += int(own.sum())
    np.testing.assert_array_equal(field != before, reached)
    assert cells == expected


def test_a_change_and_its_reversal_leave_nothing_behind(patches: transfer.Patches) -> None:
    rng = np.random.default_rng(14)
    power = random_power(rng, N, 4)
    field = full(patches, power)
    before = field.copy()
    delta = random_power(rng, N, 4) - power
    order = rng.permutation(N).astype(np.int32)
    for segment in order:
        noise_field.apply(field, patches, order[:1] * 0 + segment, delta[segment : segment + 1])
    assert (field != before).any()
    noise_field.apply(field, patches, np.arange(N, dtype=np.int32), -delta)
    np.testing.assert_array_equal(field, before)


def test_threads_change_nothing(patches: transfer.Patches, monkeypatch: pytest.MonkeyPatch) -> None:
    power = random_power(np.random.default_rng(15), N, 4)
    fields = []
    for threads in (1, 3):
        monkeypatch.setattr(runs, "n_threads", lambda threads=threads: threads)
        fields.append(full(patches, power))
    np.testing.assert_array_equal(fields[0], fields[1])


def test_codes_in_any_place_are_heard_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patches of every width from 1 to 20, against one product per cell; bands of one row and of all."""
    rng = np.random.default_rng(19)
    for width in range(1, 21):
        shape, box = (5, 24), np.array([[1, 4, 2, 2 + width]], dtype=np.int32)
        codes = rng.choice(np.array([0, 7, 100, 194, 255, 255, 255], np.uint8), 4 * 3 * width)
        codes[-width:] = 255  # the last words hear nothing
        one = transfer.Patches(
            segment=np.zeros(1, np.int32),
            slot=np.zeros(1, np.int32),
            box=box,
            start=np.array([0, codes.size]),
            n_cells=np.array([3 * width]),
            codes=codes,
            shape=shape,
        )
        delta = rng.integers(-POWER_MAX, POWER_MAX, (1, 4))
        expected = np.zeros(shape, dtype=np.int64)
        products = noise_field.transfer_quanta()[codes.reshape(4, 3, width)] * delta[0][:, None, None]
        expected[1:4, 2 : 2 + width] = products.sum(axis=0)
        for band_bytes in (8 * 24, 1 << 18):
            monkeypatch.setattr(noise_field, "_BAND_BYTES", band_bytes)
            field = noise_field.empty_field(one)
            noise_field.apply(field, one, np.zeros(1, np.int32), delta)
            np.testing.assert_array_equal(field, expected)


def test_doubling_all_powers_adds_3_01_db_everywhere(patches: transfer.Patches) -> None:
    power = random_power(np.random.default_rng(16), N, 4) // 4
    once, twice = (noise_field.levels_db(full(patches, k * power)) for k in (1, 2))
    np.testing.assert_allclose(twice - once, 3.0103, atol=1e-4)


WRITER = noise_field.LevelWriter(offset_db=-20.0, scale_db=0.01, unknown=65535)
BOXES = np.array([[0, 40, 0, 50], [0, 40, 50, 90], [40, 70, 0, 50], [40, 70, 50, 90]])


def test_stored_levels_are_the_rounded_levels(patches: transfer.Patches) -> None:
    power = random_power(np.random.default_rng(18), N, 4)
    power[5:] = 0  # and most of the grid hears nothing
    field = full(patches, power)
    stored = np.zeros(GRID.shape, dtype=np.uint16)
    assert WRITER.update(field[None], np.ones(1), stored, BOXES).all()
    level = noise_field.levels_db(field)
    np.testing.assert_array_equal(stored == 65535, np.isnan(level))
    heard = ~np.isnan(level)
    assert heard.any()
    assert not heard.all()
    np.testing.assert_allclose(stored[heard] * 0.01 - 20.0, level[heard], atol=0.005 + 1e-4)


def test_every_energy_has_its_level() -> None:
    """All magnitudes of an int64, and both sides of each entry of the table, against numpy's logarithm."""
    top = np.ldexp(1.0 + np.arange(1024) / 1024, np.arange(1024) % 63)
    energy = np.unique(np.concatenate([top, top + 1, top - 1, [(1 << 62) - 1]]).astype(np.int64))[None]
    stored = np.zeros(energy.shape, dtype=np.uint16)
    WRITER.update(energy[None], np.ones(1), stored, np.array([[0, 1, 0, energy.size]]))
    heard = energy > 0
    level = 10.0 * np.log10(energy[heard].astype(np.float64) * POWER_QUANTUM_PW / 2.0**39)
    expected = np.maximum((level + 20.0) / 0.01, 0.0)
    np.testing.assert_allclose(stored[heard], expected, atol=0.5 + 1e-3)
    assert (stored[~heard] == 65535).all()


def test_weighted_fields_add_up_to_one_level() -> None:
    rng = np.random.default_rng(20)
    fields = rng.integers(0, 1 << 50, (3, 70, 90))
    weights = np.array([0.5, 0.7, 3.0])
    stored = np.zeros(GRID.shape, dtype=np.uint16)
    WRITER.update(fields, weights, stored, BOXES)
    energy = np.tensordot(weights, fields.astype(np.float64), axes=1) * POWER_QUANTUM_PW / 2.0**39
    np.testing.assert_allclose(stored * 0.01 - 20.0, 10.0 * np.log10(energy), atol=0.005 + 1e-4)


def test_only_tiles_that_changed_are_told_and_only_those_asked_for_are_written() -> None:
    field = np.full((1, 70, 90), 1 << 40, dtype=np.int64)
    stored = np.zeros(GRID.shape, dtype=np.uint16)
    WRITER.update(field, np.ones(1), stored, BOXES)
    field[0, 39, 50] *= 2  # in the second tile
    field[0, 69, 89] *= 2  # in the fourth, which nobody asks for
    before = stored.copy()
    assert WRITER.update(field, np.ones(1), stored, BOXES[:3]).tolist() == [False, True, False]
    assert np.argwhere(stored != before).tolist() == [[39, 50]]


def test_silencing_a_segment_raises_no_level(patches: transfer.Patches) -> None:
    power = random_power(np.random.default_rng(17), N, 4)
    before = full(patches, power)
    power[50] = 0
    after = full(patches, power)
    assert (after <= before).all()
    assert (after < before).any()


def test_a_segment_without_a_patch_is_passed_over(patches: transfer.Patches) -> None:
    slot = patches.slot.copy()
    slot[0] = -1
    field = noise_field.empty_field(patches)
    deaf = replace(patches, slot=slot)
    assert noise_field.apply(field, deaf, np.zeros(1, np.int32), np.ones((1, 4), np.int64)) == 0
    assert not field.any()


def test_all_roads_at_the_largest_power_do_not_overflow(patches: transfer.Patches) -> None:
    bits = noise_field.headroom_bits(patches)
    loudest = full(patches, np.full((N, 4), POWER_MAX, dtype=np.int64))
    exact = float_sum(patches, np.full((N, 4), POWER_MAX, dtype=np.int64)) * 2.0**39
    np.testing.assert_allclose(loudest, exact, rtol=1e-2)  # an overflow would be off by 2^64
    assert bits == pytest.approx(63.0 - np.log2(exact.max()), abs=0.01)
    assert bits > 0.0


def test_crowded_roads_that_could_overflow_are_refused() -> None:
    line = np.array([[100.0, 105.0], [300.0, 105.0]])
    table = transfer.radial_table(250.0, Ground(0.0), Atmosphere())
    grid = ReceptorGrid(0.0, 0.0, 10.0, 40, 20)
    few, many = (
        transfer.build_patches(build_network([line] * n), np.full(n, 30.0), grid, table) for n in (8, 80)
    )
    assert noise_field.headroom_bits(few) > 0.0
    with pytest.raises(OverflowError, match="transfers to one receptor add up to"):
        noise_field.headroom_bits(many)


def test_integer_table_is_within_its_stated_bound() -> None:
    quanta = noise_field.transfer_quanta()
    codes = np.arange(transfer.MAX_CODE + 1)
    error = 10.0 * np.log10(quanta[codes] / 2.0**39) + codes * transfer.STEP_DB
    assert np.abs(error).max() <= TABLE_BOUND_DB
    assert quanta[0] == 2**39
    assert quanta[transfer.NONE] == 0
    assert not quanta[transfer.MAX_CODE + 1 :].any()
