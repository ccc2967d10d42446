"""What this machine can do at best, measured in the same run as a benchmark, and how runs are timed."""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np

from kernels.transfer import n_threads

_COPY_BYTES = 256 * 1024 * 1024  # well beyond any cache


def median_s(work: Callable[[], object], runs: int = 7) -> float:
    """Median time of runs after one that compiles and warms [s]."""
    work()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return float(np.median(times))


def memory_copy() -> tuple[Callable[[], object], int]:
    """A plain copy of memory by all threads, and the bytes that it reads and writes."""
    source = np.ones(_COPY_BYTES // 8)
    target = np.empty_like(source)
    edges = np.linspace(0, source.size, n_threads() + 1).astype(int).tolist()

    def copy(part: tuple[int, int]) -> None:
        np.copyto(target[part[0] : part[1]], source[part[0] : part[1]])

    parts = list(pairwise(edges))
    pool = ThreadPoolExecutor(n_threads())
    return lambda: list(pool.map(copy, parts)), 2 * source.nbytes


def copy_bytes_per_s() -> float:
    """What that copy carries [bytes/s]."""
    copy, n_bytes = memory_copy()
    return n_bytes / median_s(copy)


def paired_s(
    one: Callable[[], object], other: Callable[[], object], runs: int = 11
) -> tuple[float, float, float]:
    """Median times of two works run in turn [s], and the median of one over the other, pair by pair."""
    one()
    other()
    times = np.empty((runs, 2))
    for i in range(runs):
        for k, work in enumerate((one, other)):
            started = time.perf_counter()
            work()
            times[i, k] = time.perf_counter() - started
    first, second = np.median(times, axis=0)
    return float(first), float(second), float(np.median(times[:, 0] / times[:, 1]))


def peak_gib() -> float:
    """Largest resident memory of this process so far [GiB]."""
    gc.collect()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
