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


def copy_bytes_per_s() -> float:
    """What a plain copy of memory by all threads carries, reading and writing [bytes/s]."""
    source = np.ones(_COPY_BYTES // 8)
    target = np.empty_like(source)
    edges = np.linspace(0, source.size, n_threads() + 1).astype(int).tolist()

    def copy(part: tuple[int, int]) -> None:
        np.copyto(target[part[0] : part[1]], source[part[0] : part[1]])

    with ThreadPoolExecutor(n_threads()) as pool:
        seconds = median_s(lambda: list(pool.map(copy, pairwise(edges))))
    return 2.0 * source.nbytes / seconds


def peak_gib() -> float:
    """Largest resident memory of this process so far [GiB]."""
    gc.collect()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
