"""The air fields at three million receptors and ten thousand segments, against this machine and a direct sum.

The town is made up: straight segments of 50 m anywhere in a square of 5.5 km, all of them SRM2, which is the
dear kind. Emissions are lognormal.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import sparse

from benchmarks.machine import median_s, memory_copy, paired_s, peak_gib
from kernels import srm2
from kernels.air_columns import AirColumns, RoadColumns, air_columns, road_columns
from kernels.air_fields import AirAccumulators, AirReader
from kernels.chemistry import Background
from kernels.far_field import node_step_m
from kernels.fixedpoint import quantise_emission
from kernels.receptors import BLOCK, ReceptorGrid, grid_blocks
from kernels.runs import add_columns, in_parts
from kernels.srm2_annual import WindRose, winds_of
from studies.validate_air import validate_air

STREETS = Path(__file__).parent / "data" / "srm1_reference_streets.csv"
SEGMENT_M = 50.0
SIDE_M = 5477.0  # 30 km2
CHANGED = 100
DIRECT_SEGMENTS = 1000
DIRECT_LENGTH_PER_DISTANCE = 0.4  # of the elements of the direct sum, each with four points: 3e-6
BYTES_PER_PAIR = 4 + 2 * 32  # a coefficient, and four sums of int64 read and written
WIND = (3.0, 225.0)
OTHER_WIND = (4.0, 300.0)
# south-west prevails, as in most of western Europe; made up for this benchmark
ROSE = WindRose(
    np.array([5, 5, 6, 6, 5, 7, 12, 16, 14, 10, 8, 6]) / 100.0,
    np.array([3.0, 3.2, 3.4, 3.0, 2.6, 2.8, 3.6, 4.2, 4.0, 3.6, 3.2, 3.0]),
)


def run(
    n_receptors: int = 3_000_000, n_segments: int = 10_000, n_direct: int = 300_000
) -> dict[str, float | str]:
    """Times are medians of seven, with all threads; errors are of the traffic's contribution."""
    figures: dict[str, float | str] = {}
    streets = validate_air(STREETS)
    figures["srm1_streets_worst_relative_error"] = max(c.worst for c in streets.checks)
    side = math.isqrt(n_receptors)
    grid = ReceptorGrid(0.0, 0.0, SIDE_M / side, side, side)
    rng = np.random.default_rng(1)
    lines = _segments(n_segments, rng)
    started = time.perf_counter()
    columns = _columns(grid, lines)
    figures |= {
        "receptors": float(grid.n_receptors),
        "segments": float(n_segments),
        "near_pairs": float(columns.roads.n_coefficients),
        "prepare_s": time.perf_counter() - started,
    }
    emission = quantise_emission(rng.lognormal(3.0, 1.0, (n_segments, 4)))
    changed = np.sort(rng.choice(n_segments, min(CHANGED, n_segments), replace=False)).astype(np.int64)
    figures |= _times(columns, grid, emission, changed)
    figures["peak_gib"] = peak_gib()
    figures |= _errors(grid, lines[:DIRECT_SEGMENTS], min(n_direct, grid.n_receptors))
    return figures


def _segments(n: int, rng: np.random.Generator) -> list[NDArray[np.float64]]:
    start, angle = rng.uniform(0.0, SIDE_M, (n, 2)), rng.uniform(0.0, 2.0 * np.pi, n)
    way = SEGMENT_M * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return [np.array([a, a + w]) for a, w in zip(start, way, strict=True)]


def _columns(grid: ReceptorGrid, lines: list[NDArray[np.float64]]) -> AirColumns:
    n = len(lines)
    return air_columns(
        grid_blocks(grid),
        lines,
        np.zeros(n, dtype=np.int8),
        np.ones(n),
        np.ones(n, dtype=np.bool_),
        np.full(n, srm2.SIGMA_Z0_M),
        3.5,
        srm2.roughness_class(1.0),
        node_step_m=node_step_m(grid.step_m),
    )


def _times(
    columns: AirColumns, grid: ReceptorGrid, emission: NDArray[np.int64], changed: NDArray[np.int64]
) -> dict[str, float | str]:
    everywhere = np.arange(columns.n_segments, dtype=np.int64)
    roads = road_columns(columns, srm2.hourly_winds(*WIND))
    sums, reader = AirAccumulators(columns), AirReader(columns, Background(20.0, 40.0, 20.0, 10.0))
    out = np.empty((3, *grid.shape), dtype=np.uint16)
    sums.add(roads, everywhere, emission)

    def step(segment: NDArray[np.int64]) -> None:
        sums.add(roads, segment, emission[segment])
        reader.stored(sums, roads, WIND[0], grid, out)

    some_s = median_s(lambda: step(changed))
    all_s = median_s(lambda: step(everywhere), 3)
    some = emission[changed]
    pairs = int(columns.roads.size(changed).sum())
    copy, copied = memory_copy()

    def near() -> None:
        add_columns(sums.near, columns.roads, roads.near, changed, some, columns.blocks)

    near_s, copy_s, times_copy = paired_s(near, copy)
    read_s = median_s(lambda: reader.stored(sums, roads, WIND[0], grid, out))
    wind_s = median_s(lambda: road_columns(columns, srm2.hourly_winds(*OTHER_WIND)), 3)

    def turn() -> None:
        sums.turn(roads, emission)
        reader.stored(sums, roads, WIND[0], grid, out)

    turn_s = median_s(turn, 3)
    sparse_s, _, times_ours = paired_s(_sparse_update(columns, roads, emission, changed), near)
    return {
        "change_100_ms": 1e3 * some_s,
        "change_all_s": all_s,
        "new_wind_s": wind_s + turn_s,
        "new_wind_coefficients_s": wind_s,
        "new_wind_coefficients_gib": roads.near.nbytes / 2**30,
        "sector_columns_would_be_gib": 12 * roads.near.nbytes / 2**30,
        "read_ms": 1e3 * read_s,
        "near_update_ms": 1e3 * near_s,
        "near_update_pairs_per_s": pairs / near_s,
        "copy_bytes_per_s": copied / copy_s,
        "near_update_ratio_to_copy": pairs * BYTES_PER_PAIR / copied / times_copy,
        "scipy_sparse_ms": 1e3 * sparse_s,
        "scipy_sparse_ratio": times_ours,
        "incremental_equals_full": _incremental_equals_full(columns, grid, emission, roads, reader),
    }


def _sparse_update(
    columns: AirColumns, roads: RoadColumns, emission: NDArray[np.int64], changed: NDArray[np.int64]
) -> Callable[[], None]:
    """The same update by scipy: the changed columns as CSC of float64, times the changes, added."""
    runs, rows, starts, values = columns.roads, [], [0], []
    for c in changed:
        for r in range(runs.start[c], runs.start[c + 1]):
            n = int(runs.offset[r + 1] - runs.offset[r])
            rows.append(int(runs.block[r]) * BLOCK + np.arange(n))
        values.append(roads.near[runs.offset[runs.start[c]] : runs.offset[runs.start[c + 1]]])
        starts.append(starts[-1] + values[-1].size)
    matrix = sparse.csc_array(
        (np.concatenate(values).astype(np.float64), np.concatenate(rows), np.array(starts)),
        shape=(columns.blocks.n_places, changed.size),
    )
    change = emission[changed].astype(np.float64)
    sums = np.zeros((columns.blocks.n_places, 4))

    def add() -> None:
        np.add(sums, matrix @ change, out=sums)

    return add


def _incremental_equals_full(
    columns: AirColumns,
    grid: ReceptorGrid,
    emission: NDArray[np.int64],
    roads: RoadColumns,
    reader: AirReader,
) -> str:
    """Whether a thousand single changes in random order give the sums and the fields of a recompute."""
    rng = np.random.default_rng(2)
    state = emission.copy()
    one = AirAccumulators(columns)
    one.add(roads, np.arange(columns.n_segments), state)
    for segment in rng.integers(0, columns.n_segments, (10, 100)):
        wanted = state.copy()
        wanted[segment] = rng.integers(0, 1 << 28, (segment.size, 4))
        segment = np.unique(segment)
        one.add(roads, segment, wanted[segment] - state[segment])
        state = wanted
    full = AirAccumulators(columns)
    full.add(roads, np.arange(columns.n_segments), state)
    same = all(
        np.array_equal(a, b)
        for a, b in zip((one.street, one.near, *one.far), (full.street, full.near, *full.far), strict=True)
    )
    first, second = (reader.stored(s, roads, WIND[0], grid) for s in (one, full))
    same = same and np.array_equal(first, second)
    return "bit-identical" if same else "NO"


def _errors(grid: ReceptorGrid, lines: list[NDArray[np.float64]], n_direct: int) -> dict[str, float | str]:
    """Near and far field against a direct sum, at receptors off the carriageway."""
    columns = _columns(grid, lines)
    rng = np.random.default_rng(3)
    emission = quantise_emission(np.repeat(rng.lognormal(3.0, 1.0, (len(lines), 1)), 4, axis=1))
    some = np.sort(rng.choice(grid.n_receptors, n_direct, replace=False))
    row, column = np.divmod(some, grid.n_columns)
    x, y = grid.x()[column], grid.y()[row]
    ends = np.array([np.concatenate([line[0], line[-1]]) for line in lines])
    rate = emission[:, 0] * 2.0**-20
    table = srm2.plume_table(3.0 * SIDE_M, srm2.roughness_class(1.0), srm2.SIGMA_Z0_M)
    node, weight = np.polynomial.legendre.leggauss(4)
    out: dict[str, float | str] = {"direct_sum_receptors": float(n_direct)}
    for name, winds in (("annual_rose", winds_of(ROSE)), ("single_hour", srm2.hourly_winds(*WIND))):
        roads = road_columns(columns, winds)
        sums = AirAccumulators(columns)
        sums.add(roads, np.arange(len(lines)), emission)
        # at 5 m/s the factor of the hour is one
        got = AirReader(columns, Background(0.0, 0.0, 0.0, 0.0)).contributions(sums, roads, 5.0)[some, 0]
        exact = np.empty(n_direct)
        nearest = np.empty(n_direct)

        def add(low: int, high: int, exact=exact, nearest=nearest, winds=winds) -> None:  # type: ignore[no-untyped-def]
            _direct(
                exact, nearest, x, y, ends, rate, table, winds.toward, winds.uniform, winds.mean_density,
                node, weight, low, high,
            )  # fmt: skip

        in_parts(add, n_direct)
        off = nearest > srm2.DISTANCE_MIN_M
        error = (got - exact)[off]
        out[f"{name}_rms_percent"] = 100.0 * math.sqrt((error**2).mean() / (exact[off] ** 2).mean())
        out[f"{name}_max_percent"] = 100.0 * float(np.abs(error / exact[off]).max())
        out[f"{name}_99_9_percent"] = 100.0 * float(np.quantile(np.abs(error / exact[off]), 0.999))
    return out


@njit(cache=True, error_model="numpy", nogil=True)
def _direct(
    out: NDArray[np.float64],
    nearest: NDArray[np.float64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    ends: NDArray[np.float64],
    rate: NDArray[np.float64],
    table: NDArray[np.float64],
    toward: NDArray[np.float64],
    uniform: float,
    mean_density: float,
    node: NDArray[np.float64],
    weight: NDArray[np.float64],
    low: int,
    high: int,
) -> None:
    """Sum over Gauss points of equal parts of straight segments, without columns or nodes [ug/m3]."""
    for i in range(low, high):
        total, least = 0.0, np.inf
        for s in range(ends.shape[0]):
            ax, ay = ends[s, 0], ends[s, 1]
            dx, dy = ends[s, 2] - ax, ends[s, 3] - ay
            length = np.sqrt(dx * dx + dy * dy)
            t = min(max(((x[i] - ax) * dx + (y[i] - ay) * dy) / (length * length), 0.0), 1.0)
            distance = np.hypot(x[i] - ax - t * dx, y[i] - ay - t * dy)
            least = min(least, distance)
            longest = DIRECT_LENGTH_PER_DISTANCE * max(distance, srm2.DISTANCE_MIN_M)
            n = int(np.ceil(length / longest))
            part = 0.0
            for k in range(n):
                for g in range(node.size):
                    at = (k + 0.5 + 0.5 * node[g]) / n
                    part += weight[g] * srm2.point_coefficient(
                        x[i] - ax - at * dx, y[i] - ay - at * dy, table, toward, uniform, mean_density
                    )
            total += rate[s] * part * 0.5 * length / n
        out[i] = total
        nearest[i] = least
