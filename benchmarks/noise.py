"""The noise field at three million receptors and ten thousand segments, against this machine and known cases.

The town is made up: straight segments of 50 m anywhere in a square of 5.5 km, each heard to 500 m over flat
open ground. Powers are spread evenly from 50 to 90 dB. A step is that of the agent: emissions come in, the
sums, the levels in hundredths of a decibel and the batches of the tiles that changed go out.

Transfers between buildings are timed in a town of blocks, or in a city of yours:
:mod:`benchmarks.screened_noise`.
"""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.emission import TILE_SEGMENTS
from agents.noise import OFFSET_DB, SCALE_DB, UNKNOWN, NoiseAgent
from benchmarks import screened_noise
from benchmarks.machine import copy_bytes_per_s, median_s, peak_gib
from cities.cache import cache_folder
from kernels import noise_field
from kernels.cnossos import N_GROUPS, band_group_power, surface_indices
from kernels.fixedpoint import POWER_MAX, quantise_power
from kernels.network import build_network
from kernels.periods import HOURS
from kernels.propagation import Atmosphere, Ground
from kernels.receptors import ReceptorGrid
from kernels.transfer import NoiseTransfers, build_patches, n_threads, radial_table
from streams.clock import STEP_MS
from streams.topics import Batch, Topic
from studies.validate_noise import validate_noise

CASES = Path(__file__).parent / "data" / "cnossos_reference_cases.json"
SEGMENT_M = 50.0
SIDE_M = 5477.0  # 30 km2
CHANGED = 100
HOUR_STEPS = 60
BYTES_PER_CELL = 4 + 16  # its codes, and its sum read and written
BYTES_PER_RECEPTOR = 8 + 4  # its sum read, its level read and written


def run(
    n_receptors: int = 3_000_000,
    n_segments: int = 10_000,
    radius_m: float = 500.0,
    city: Path | None = None,
    tiles: int = screened_noise.TILES,
) -> dict[str, float | str]:
    """Times are medians with all threads; what is stored lies in a file, as that of a city does.

    ``city`` is the pack whose transfers between buildings are timed, at most so many ``tiles`` of it.
    """
    figures = _conformity()
    with tempfile.TemporaryDirectory(prefix="noise-benchmark-", dir=cache_folder()) as folder:
        figures |= screened_noise.measure(screened_noise.timed_city(Path(folder), city), tiles)
    side = math.isqrt(n_receptors)
    grid = ReceptorGrid(0.0, 0.0, SIDE_M / side, side, side)
    with tempfile.TemporaryDirectory(prefix="noise-benchmark-", dir=cache_folder()) as folder:
        started = time.perf_counter()
        transfers = _transfers(grid, n_segments, radius_m, Path(folder) / "codes.npy")
        figures |= {
            "receptors": float(grid.n_receptors),
            "segments": float(n_segments),
            "threads": float(n_threads()),
            "pairs": float(transfers.patches.n_cells.sum()),
            "prepare_s": time.perf_counter() - started,
            "transfers_gb": transfers.patches.codes.nbytes / 1e9,
            "headroom_bits": transfers.headroom_bits,
        }
        rng = np.random.default_rng(1)
        power = quantise_power(10.0 ** rng.uniform(5.0, 9.0, (n_segments, N_GROUPS)))
        figures |= _steps(transfers, power, rng)
        figures |= _parts(transfers, power, rng)
        figures["incremental_equals_full"] = _incremental_equals_full(transfers, power, rng)
        figures["peak_gib"] = peak_gib()
    return figures


def _conformity() -> dict[str, float | str]:
    """Largest deviation from the known cases of emission, of direct paths and of totals."""
    checks = validate_noise(CASES).checks
    kinds = {
        "emission_cases_worst_db": [c for c in checks if c.quantity.startswith("emission")],
        "direct_paths_worst_db": [c for c in checks if c.quantity.startswith("direct")],
        "reflected_paths_worst_db": [c for c in checks if c.quantity.startswith("reflection")],
        "totals_worst_db": [c for c in checks if c.quantity.startswith("total")],
    }
    figures: dict[str, float | str] = {name: max(c.worst for c in of) for name, of in kinds.items()}
    figures["values_checked"] = float(sum(c.n_values for c in checks))
    figures["checks_not_met"] = float(sum(not c.is_met for c in checks))
    return figures


def _transfers(grid: ReceptorGrid, n: int, radius_m: float, file: Path) -> NoiseTransfers:
    def in_file(size: int) -> NDArray[np.uint8]:
        written.append(np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=(size,)))
        return written[0]

    written: list[np.memmap[Any, Any]] = []

    rng = np.random.default_rng(1)
    start, angle = rng.uniform(0.0, SIDE_M, (n, 2)), rng.uniform(0.0, 2.0 * np.pi, n)
    way = SEGMENT_M * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    network = build_network([np.array([a, a + w]) for a, w in zip(start, way, strict=True)])
    table = radial_table(radius_m + SEGMENT_M, Ground(0.5), Atmosphere())
    patches = build_patches(network, np.full(n, radius_m), grid, table, allocate=in_file)
    written.pop().flush()  # else the disk is busy with them while steps are timed
    patches = replace(patches, codes=np.asarray(np.load(file, mmap_mode="r")))
    return NoiseTransfers(grid, patches, 0.5, noise_field.headroom_bits(patches))


def _steps(
    transfers: NoiseTransfers, power: NDArray[np.int64], rng: np.random.Generator
) -> dict[str, float | str]:
    """Steps of the agent: a few segments, all of them, and the end of an hour that changes a period."""
    n = power.shape[0]
    city: Any = SimpleNamespace(
        network=SimpleNamespace(n_segments=n), network_hash="benchmark", timezone="UTC", settings={}
    )
    agent = NoiseAgent(city, transfers)
    some = np.sort(rng.choice(n, min(CHANGED, n), replace=False))
    louder, other = power.copy(), power.copy()
    louder[some] = np.minimum(2 * louder[some], POWER_MAX)
    other[:] = power[rng.permutation(n)]
    now_ms, published = 0, 0

    def step(batches: list[Batch]) -> None:
        nonlocal now_ms, published
        now_ms += STEP_MS
        for batch in batches:
            agent.receive(batch)
        published = len(agent.close(now_ms))

    few = cycle([_emissions(louder), _emissions(power)])
    some_s = median_s(lambda: step(next(few)))
    some_tiles, some_cells = published, agent.cells_updated
    step(next(few))
    some_cells = agent.cells_updated - some_cells
    every = cycle([_emissions(other), _emissions(power)])
    all_s = median_s(lambda: step(next(every)), 3)
    while now_ms % (HOURS * HOUR_STEPS * STEP_MS) != (HOURS * HOUR_STEPS - 1) * STEP_MS:
        step([])
    step([])
    first_day = published
    for _ in range(HOUR_STEPS - 1):
        step([])
    started = time.perf_counter()
    step([])
    return {
        "change_100_ms": 1e3 * some_s,
        "change_100_tiles": float(some_tiles),
        "change_100_cells": float(some_cells),
        "change_all_s": all_s,
        "first_indicators_tiles": float(first_day),
        "hour_of_indicators_s": time.perf_counter() - started,
        "hour_of_indicators_tiles": float(published),
    }


def _emissions(power: NDArray[np.int64]) -> list[Batch]:
    """Tiles of emissions as the emission agent makes them; the hour's mean is that of the present."""
    n = power.shape[0]
    batches = []
    for first in range(0, n, TILE_SEGMENTS):
        rows = slice(first, min(first + TILE_SEGMENTS, n))
        columns: dict[str, NDArray[Any]] = {"segment": np.arange(rows.start, rows.stop, dtype=np.int32)}
        columns |= {f"power{g}": power[rows, g].copy() for g in range(N_GROUPS)}
        columns |= {f"power{g}_1h": np.zeros(rows.stop - first, dtype=np.int64) for g in range(N_GROUPS)}
        columns["log_sd"] = np.full(rows.stop - first, 0.2, dtype=np.float32)
        columns["simulated"] = np.zeros(rows.stop - first, dtype=np.bool_)
        batches.append(Batch(Topic.EMISSIONS, f"t{first // TILE_SEGMENTS}", 0, columns))
    return batches


def _parts(
    transfers: NoiseTransfers, power: NDArray[np.int64], rng: np.random.Generator
) -> dict[str, float | str]:
    """Sums and levels alone, and what they are of a memory that only copies."""
    patches, grid = transfers.patches, transfers.grid
    n = power.shape[0]
    some = np.sort(rng.choice(n, min(CHANGED, n), replace=False)).astype(np.int32)
    everywhere = np.arange(n, dtype=np.int32)
    field, stored = noise_field.empty_field(patches), np.zeros(grid.shape, dtype=np.uint16)
    writer = noise_field.LevelWriter(offset_db=OFFSET_DB, scale_db=SCALE_DB, unknown=UNKNOWN)
    slices = [grid.tile_slices(r, c) for r, c in grid.tiles()]
    boxes = np.array([(a.start, a.stop, b.start, b.stop) for a, b in slices])
    some_s = median_s(lambda: noise_field.apply(field, patches, some, power[some]))
    all_s = median_s(lambda: noise_field.apply(field, patches, everywhere, power), 3)
    levels_s = median_s(lambda: writer.update(field[None], np.ones(1), stored, boxes))
    surface = surface_indices(["DEF"] * n)
    light, heavy, speed = rng.uniform(5.0, 900.0, n), rng.uniform(1.0, 40.0, n), np.full(n, 50.0)
    emission_s = median_s(lambda: band_group_power(light, heavy, heavy, speed, speed, surface, 10.0))
    bandwidth = copy_bytes_per_s()
    cells = int(patches.n_cells[patches.slot[some[patches.slot[some] >= 0]]].sum())
    all_cells = int(patches.n_cells.sum())
    return {
        "sums_100_ms": 1e3 * some_s,
        "sums_all_s": all_s,
        "sums_cells_per_s": all_cells / all_s,
        "levels_ms": 1e3 * levels_s,
        "emission_ms": 1e3 * emission_s,
        "copy_bytes_per_s": bandwidth,
        "sums_100_ratio_to_copy": cells * BYTES_PER_CELL / some_s / bandwidth,
        "sums_all_ratio_to_copy": all_cells * BYTES_PER_CELL / all_s / bandwidth,
        "levels_ratio_to_copy": grid.n_receptors * BYTES_PER_RECEPTOR / levels_s / bandwidth,
    }


def _incremental_equals_full(
    transfers: NoiseTransfers, power: NDArray[np.int64], rng: np.random.Generator
) -> str:
    """Whether a thousand changes of random segments give the sums of a recompute."""
    patches, state = transfers.patches, power.copy()
    everywhere = np.arange(state.shape[0], dtype=np.int32)
    one, full = noise_field.empty_field(patches), noise_field.empty_field(patches)
    noise_field.apply(one, patches, everywhere, state)
    for segments in rng.integers(0, state.shape[0], (10, 100)):
        segments = np.unique(segments).astype(np.int32)
        wanted = rng.integers(0, POWER_MAX, (segments.size, N_GROUPS))
        noise_field.apply(one, patches, segments, wanted - state[segments])
        state[segments] = wanted
    noise_field.apply(full, patches, everywhere, state)
    return "bit-identical" if np.array_equal(one, full) else "NO"
