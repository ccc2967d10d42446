"""Conservation of vehicles: what enters a junction leaves it, but for what starts and ends there.

Given log flows x with mean m and variance v, and for each inner node the row

    sum_in f - sum_out f = s +- (0.03 throughput + 5 veh/h),   f = exp(x) - 5,

the mode of both together is found by Gauss-Newton. Each pass solves a sparse symmetric system over the nodes
by conjugate gradients, without forming it. The prior's own flows leave s = their net inflow, so a mean equal
to the prior stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.network import DirectedEdges
from kernels.prior import OFFSET_PER_H

RELATIVE_SD, ABSOLUTE_SD_PER_H = 0.03, 5.0
PASSES = 3
ITERATIONS = 25  # of conjugate gradients; 60 change a flow by less than 1 %
TOLERANCE = 1e-4  # of the first residual
REACH_SD = 3.0  # a street moves no further from its mean than this


@dataclass(frozen=True, slots=True)
class Junctions:
    """Inner nodes of a mode: at least two streets meet there.

    Attributes
    ----------
    tail, head : (n_edges,) int32
    inner : (n_nodes,) bool
    """

    tail: NDArray[np.int32]
    head: NDArray[np.int32]
    inner: NDArray[np.bool_]

    def net_inflow(self, flow_per_h: NDArray[np.float64]) -> NDArray[np.float64]:
        """Inflow less outflow of each node [1/h], 0 where it is not inner: (n_nodes,)."""
        n = self.inner.size
        net = np.bincount(self.head, flow_per_h, n) - np.bincount(self.tail, flow_per_h, n)
        return np.where(self.inner, net, 0.0)


def junctions(edges: DirectedEdges, n_nodes: int) -> Junctions:
    """Junctions of a mode; where a single street ends, traffic may enter or leave the network."""
    nodes = np.concatenate([edges.from_node, edges.to_node])
    ends = np.unique(np.stack([np.tile(edges.segment, 2), nodes], axis=1), axis=0)
    streets = np.bincount(ends[:, 1], minlength=n_nodes)
    return Junctions(edges.from_node.astype(np.int32), edges.to_node.astype(np.int32), streets >= 2)


def conserve(
    log_mean: NDArray[np.float64],
    variance: NDArray[np.float64],
    nodes: Junctions,
    net_inflow_per_h: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Log flows nearest to the mean that obey conservation within its tolerance.

    Parameters
    ----------
    log_mean, variance : (n_edges,) float64
        Of x = log(flow + 5).
    nodes : Junctions
    net_inflow_per_h : (n_nodes,) float64
        s, traffic that ends less traffic that starts at each node [1/h].

    Returns
    -------
    (n_edges,) float64
    """
    x = log_mean.copy()
    reach = REACH_SD * np.sqrt(variance)
    n = nodes.inner.size
    for _ in range(PASSES):
        slope = np.exp(x)
        flow = slope - OFFSET_PER_H
        through = (np.bincount(nodes.head, flow, n) + np.bincount(nodes.tail, flow, n)) / 2.0
        noise = (RELATIVE_SD * np.maximum(through, 0.0) + ABSOLUTE_SD_PER_H) ** 2
        # The flow that the linearisation at x gives to the mean.
        at_mean = flow + slope * (log_mean - x)
        right = np.where(nodes.inner, net_inflow_per_h - nodes.net_inflow(at_mean), 0.0)
        pressure = _conjugate_gradients(
            nodes.tail, nodes.head, nodes.inner, slope**2 * variance, noise, right, ITERATIONS, TOLERANCE
        )
        push = np.where(nodes.inner, pressure, 0.0)
        shift = variance * slope * (push[nodes.head] - push[nodes.tail])
        x = log_mean + np.clip(shift, -reach, reach)
    return x


@njit(cache=True, error_model="numpy")
def _conjugate_gradients(  # type: ignore[no-untyped-def]
    tail, head, inner, weight, noise, right, iterations, tolerance
):
    """p of (A W A' + R) p = b with Jacobi's preconditioner; A is the incidence of edges to inner nodes."""
    n = noise.size
    diagonal = noise.copy()
    for e in range(tail.size):
        diagonal[tail[e]] += weight[e]
        diagonal[head[e]] += weight[e]
    p, r = np.zeros(n), right.copy()
    z = r / diagonal
    d, q = z.copy(), np.empty(n)
    rz = 0.0
    for i in range(n):
        rz += r[i] * z[i]
    limit = rz * tolerance * tolerance
    for _ in range(iterations):
        if rz <= limit or rz == 0.0:
            break
        for i in range(n):
            q[i] = noise[i] * d[i]
        for e in range(tail.size):
            a, b = tail[e], head[e]
            flow = weight[e] * ((d[b] if inner[b] else 0.0) - (d[a] if inner[a] else 0.0))
            if inner[b]:
                q[b] += flow
            if inner[a]:
                q[a] -= flow
        dq = 0.0
        for i in range(n):
            dq += d[i] * q[i]
        step = rz / dq
        before = rz
        rz = 0.0
        for i in range(n):
            p[i] += step * d[i]
            r[i] -= step * q[i]
            z[i] = r[i] / diagonal[i]
            rz += r[i] * z[i]
        for i in range(n):
            d[i] = z[i] + rz / before * d[i]
    return p
