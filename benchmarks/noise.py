"""Speed of the noise: the step of the agent's field, against what the memory of this machine can carry."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cities.pack import City, find_city, load_city
from kernels import noise_field
from kernels.cnossos import band_group_power, surface_indices
from kernels.fixedpoint import quantise_power
from kernels.transfer import NoiseTransfers, n_threads
from studies.noise_transfers import prepare_noise

_COPY_BYTES = 128 * 1024 * 1024  # well beyond any cache
_FEW = 100


def run(city_name: str = "ghent") -> dict[str, float | str]:
    """Time of a step with 100 and with all segments changed, cells a second, and the ratio to a memory copy.

    A cell costs at least the reading of its four codes, and the reading and writing of its sum: 20 bytes.
    """
    city = load_city(find_city(city_name))
    started = time.perf_counter()
    transfers = prepare_noise(city)
    prepare_s = time.perf_counter() - started
    patches = transfers.patches
    rng = np.random.default_rng(1)
    power = quantise_power(10.0 ** rng.uniform(5.0, 9.0, (patches.n_patches, 4)))
    field = noise_field.empty_field(patches)
    some = np.sort(rng.choice(patches.n_patches, min(_FEW, patches.n_patches), replace=False))

    all_s, cells = _best(lambda: noise_field.apply(field, patches, patches.segment, power))
    few_s, few_cells = _best(lambda: noise_field.apply(field, patches, patches.segment[some], power[some]))
    levels_s, _ = _best(lambda: noise_field.levels_db(field).size)
    copy_bytes_per_s = _copy_bytes_per_s()
    emission_s, rows = _emission(city)
    return {
        "city": city.name,
        "threads": float(n_threads()),
        "patches": float(patches.n_patches),
        "transfers_mb": patches.codes.nbytes / 1e6,
        "prepare_or_map_s": prepare_s,
        "headroom_bits": transfers.headroom_bits,
        "step_100_segments_ms": 1e3 * few_s,
        "step_100_segments_cells": float(few_cells),
        "step_all_segments_ms": 1e3 * all_s,
        "step_all_segments_cells": float(cells),
        "cells_per_s": cells / all_s,
        "levels_of_all_receptors_ms": 1e3 * levels_s,
        "copy_bytes_per_s": copy_bytes_per_s,
        "ratio_to_memory_copy": _bytes_of(transfers, cells) / all_s / copy_bytes_per_s,
        "emission_rows": float(rows),
        "emission_ms": 1e3 * emission_s,
    }


def _bytes_of(transfers: NoiseTransfers, cells: int) -> float:
    """Bytes that a full step must move: every code once, and 16 for each cell's sum."""
    return float(transfers.patches.codes.nbytes + 16 * cells)


def _best(action: Callable[[], int], times: int = 5) -> tuple[float, int]:
    """Shortest time of a few runs after a first that compiles [s], and what the action returned."""
    result = action()
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        result = action()
        seconds.append(time.perf_counter() - started)
    return min(seconds), result


def _copy_bytes_per_s() -> float:
    """Bytes read and written a second by one thread that copies a large array."""
    source: NDArray[np.uint8] = np.ones(_COPY_BYTES, dtype=np.uint8)
    target = np.zeros_like(source)

    def copy() -> int:
        np.copyto(target, source)
        return 2 * _COPY_BYTES

    seconds, moved = _best(copy)
    return moved / seconds


def _emission(city: City) -> tuple[float, int]:
    """Time of the sound power of every directed edge [s], and how many there are."""
    rng = np.random.default_rng(2)
    n = city.car_edges.n_edges
    surface = surface_indices([city.surface[s] for s in city.car_edges.segment])
    light, heavy = rng.uniform(5.0, 900.0, n), rng.uniform(1.0, 40.0, n)
    speed = city.speed_kmh[city.car_edges.segment]
    return _best(lambda: band_group_power(light, heavy, heavy, speed, speed, surface, 10.0).shape[0])
