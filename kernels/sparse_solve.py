"""Many right-hand sides of one sparse symmetric positive definite system.

SuperLU's factor without pivoting is L D L'; its own solve takes one right-hand side at a time and is bound by
memory. Rows of 64 right-hand sides side by side make the same substitution ten times as fast.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array
from scipy.sparse.linalg import splu

BLOCK = 64


class SymmetricFactor:
    """Factor of a sparse symmetric positive definite matrix.

    Parameters
    ----------
    matrix : (n, n) sparse
    """

    def __init__(self, matrix: csr_array) -> None:
        factor = splu(
            csc_array(matrix),
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
        if not np.array_equal(factor.perm_r, factor.perm_c):
            raise ValueError("matrix: needed pivots off the diagonal, expected a positive definite matrix")
        lower = csc_array(factor.L)
        self._place = np.asarray(factor.perm_c, dtype=np.int64)
        self._start = lower.indptr.astype(np.int64)
        self._row = lower.indices.astype(np.int64)
        self._value = lower.data.astype(np.float64)
        self._pivot = factor.U.diagonal().astype(np.float64)

    def solve(self, right: NDArray[np.float64]) -> NDArray[np.float64]:
        """Solution of each column of (n, m) right-hand sides, (n, m)."""
        solution = np.empty_like(right)
        for first in range(0, right.shape[1], BLOCK):
            at = slice(first, first + BLOCK)
            block = np.empty((right.shape[0], min(BLOCK, right.shape[1] - first)))
            block[self._place] = right[:, at]
            _substitute(self._start, self._row, self._value, self._pivot, block)
            solution[:, at] = block[self._place]
        return solution


@njit(cache=True, error_model="numpy")
def _substitute(start, row, value, pivot, x):  # type: ignore[no-untyped-def]
    """L D L' x = b in place; L by columns, with its unit diagonal stored."""
    n, m = x.shape
    for j in range(n):
        for p in range(start[j], start[j + 1]):
            i = row[p]
            if i > j:
                v = value[p]
                for k in range(m):
                    x[i, k] -= v * x[j, k]
    for j in range(n):
        for k in range(m):
            x[j, k] /= pivot[j]
    for j in range(n - 1, -1, -1):
        for p in range(start[j], start[j + 1]):
            i = row[p]
            if i > j:
                v = value[p]
                for k in range(m):
                    x[j, k] -= v * x[i, k]
