"""Precision of log flows from turning shares: what enters a street left the streets before it.

For an edge b with upstream edges a, x_b = sum_a q_ab x_a + eps with q_ab = t_ab / (f_b + 3); and again for
every edge with its downstream edges. Rows stack to M = I - (q), the precision is 1/2 M' V^-1 M over both, a
weak proper part I / 5^2, and a weak tie of the two directions of a street. The constants were measured on
simulated cities.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, diags_array, eye_array, vstack

from kernels.assignment import EdgeGraph

FLOW_OFFSET = 3.0  # [1/h]
TURN_FLOOR = 0.03  # a turn that the assignment never makes still happens
BASE_SD, LEAK_SD = 0.12, 1.2
PROPER_SD = 5.0
DIRECTION_SD = 2.0  # a tie of 0.3 did harm


def turn_share_root(
    graph: EdgeGraph,
    flow_per_h: NDArray[np.float64],
    turn_flow_per_h: NDArray[np.float64],
    opposite: NDArray[np.int32],
) -> csr_array:
    """Root B of the precision Q = B' B of x = log(flow + 5); Q is sparse, symmetric and positive definite.

    Parameters
    ----------
    graph : EdgeGraph
    flow_per_h : (n_edges,) float64
        Mean flow [1/h].
    turn_flow_per_h : (n_turns,) float64
        Flow from edge to edge [1/h].
    opposite : (n_edges,) int32
        Edge of the other direction, or -1.

    Returns
    -------
    (n_rows, n_edges) sparse
    """
    a, b = graph.turn_from.astype(np.int64), graph.turn_to.astype(np.int64)
    kept = opposite[b] != a  # no U-turns
    a, b = a[kept], b[kept]
    t = turn_flow_per_h[kept] + TURN_FLOOR * np.sqrt((flow_per_h[a] + 1.0) * (flow_per_h[b] + 1.0))
    n = graph.n_edges
    both = np.flatnonzero(opposite > np.arange(n))
    sign = np.concatenate([np.ones(both.size), -np.ones(both.size)])
    row = np.tile(np.arange(both.size), 2)
    tie = coo_array((sign, (row, np.concatenate([both, opposite[both]]))), shape=(both.size, n))
    parts = (
        _half(b, a, t, flow_per_h, n) * np.sqrt(0.5),  # every edge from its upstream edges
        _half(a, b, t, flow_per_h, n) * np.sqrt(0.5),  # and from its downstream edges
        tie.tocsr() / DIRECTION_SD,
        eye_array(n, format="csr") / PROPER_SD,
    )
    return csr_array(vstack(parts, format="csr"))


def _half(
    row: NDArray[np.int64],
    column: NDArray[np.int64],
    t: NDArray[np.float64],
    flow: NDArray[np.float64],
    n: int,
) -> csr_array:
    """V^-1/2 M of one direction: each ``row`` edge as a mix of its ``column`` edges.

    var = 0.12^2 + sum q^2 (1 - t / (f_column + 3))^2 + (1.2 (1 - sum q))^2: a stream that is the whole of
    its neighbour says more than a part of it, and what the neighbours do not explain is free.
    """
    # Floors may lift the sum of turns above the flow; a share is never more than the whole.
    total = np.bincount(row, t, n)
    q = t / np.maximum(flow[row] + FLOW_OFFSET, total[row])
    part = np.minimum(1.0, t / (flow[column] + FLOW_OFFSET))
    explained = np.bincount(row, q, n)
    var = BASE_SD**2 + np.bincount(row, (q * (1.0 - part)) ** 2, n) + (LEAK_SD * (1.0 - explained)) ** 2
    m = eye_array(n, format="csr") - coo_array((q, (row, column)), shape=(n, n)).tocsr()
    return csr_array(diags_array(1.0 / np.sqrt(var)) @ m)
