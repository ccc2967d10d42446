"""Speed of the air fields: a step, a new wind, and their ratio to what this machine's memory can carry."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from cities.pack import find_city, load_city
from kernels.air_columns import AirColumns, road_columns
from kernels.air_fields import AirAccumulators, AirReader, Background
from kernels.fixedpoint import quantise_emission
from kernels.gate import air_releases
from studies.air_columns import prepare_air

_COPY_BYTES = 128 * 1024 * 1024  # well beyond any cache
_STEP_SEGMENTS = 2_000
_BYTES_PER_PAIR = 4 + 4 + 2 * 32  # cell, coefficient, four int64 read and written


def run(city_name: str = "ghent") -> dict[str, float | str]:
    """Times of a step of 2,000 changed segments, of all, of a new wind, of reading, and of the gate.

    A pair of segment and receptor costs at least its cell and coefficient, and the reading and writing of
    four sums: 72 bytes.
    """
    city = load_city(find_city(city_name))
    started = time.perf_counter()
    columns = prepare_air(city, lambda *_: None)
    prepare_s = time.perf_counter() - started
    n = columns.n_segments
    rng = np.random.default_rng(1)
    emission = quantise_emission(rng.lognormal(3.0, 1.0, (n, 4)))
    accumulators = AirAccumulators(columns)
    reader = AirReader(columns, Background(20.0, 40.0, 20.0, 10.0))

    wind_s, _ = _best(lambda: _turn(columns))
    roads = road_columns(columns, 3.0, 225.0)
    streets = np.setdiff1d(np.arange(n), columns.road_segment)
    some = np.sort(rng.choice(n, min(n, _STEP_SEGMENTS), replace=False))
    street_s, pairs = _best(lambda: accumulators.add(roads, streets, emission[streets]))
    all_s, all_cells = _best(lambda: accumulators.add(roads, np.arange(n), emission))
    some_s, some_cells = _best(lambda: accumulators.add(roads, some, emission[some]))
    read_s, _ = _best(lambda: reader.stored(accumulators, 3.0).size)
    withheld = rng.exponential(0.5, n)
    gate_s, released = _best(lambda: int(air_releases(columns.bound, withheld).sum()))
    copy_bytes_per_s = _copy_bytes_per_s()
    return {
        "city": city.name,
        "threads": 1.0,
        "receptors": float(columns.grid.n_receptors),
        "street_pairs": float(columns.street_cell.size),
        "near_pairs": float(columns.near_cell.size),
        "far_pairs": float(columns.far_distance_m.size),
        "prepare_or_map_s": prepare_s,
        "new_wind_s": wind_s,
        "step_2000_segments_ms": 1e3 * (some_s + read_s),
        "step_2000_segments_add_ms": 1e3 * some_s,
        "step_2000_segments_cells": float(some_cells),
        "add_all_segments_ms": 1e3 * all_s,
        "add_all_segments_cells": float(all_cells),
        "read_all_receptors_ms": 1e3 * read_s,
        "gate_ms": 1e3 * gate_s,
        "gate_released": float(released),
        "pairs_per_s": pairs / street_s,
        "copy_bytes_per_s": copy_bytes_per_s,
        "ratio_to_memory_copy": pairs * _BYTES_PER_PAIR / street_s / copy_bytes_per_s,
    }


def _turn(columns: AirColumns) -> int:
    return int(road_columns(columns, 3.0, 225.0).far.size)


def _best(work: Callable[[], int]) -> tuple[float, int]:
    """Shortest of five runs after one that compiles [s], and what it returns."""
    times = []
    result = work()
    for _ in range(5):
        started = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - started)
    return min(times), result


def _copy_bytes_per_s() -> float:
    """What a plain copy of memory carries, reading and writing, best of five [bytes/s]."""
    source = np.ones(_COPY_BYTES // 8)
    target = np.empty_like(source)

    def copy() -> int:
        np.copyto(target, source)
        return int(target.size)

    seconds, _ = _best(copy)
    return 2.0 * source.nbytes / seconds
