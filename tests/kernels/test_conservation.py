"""Conservation at junctions against a dense Gauss-Newton solution."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize

from kernels.conservation import ABSOLUTE_SD_PER_H, RELATIVE_SD, Junctions, conserve, junctions
from kernels.network import DirectedEdges


def star() -> tuple[DirectedEdges, Junctions]:
    """0 -> 1 -> 2 and 1 -> 3: traffic of the first street divides over the other two."""
    edges = DirectedEdges(
        np.arange(3, dtype=np.int32), np.zeros(3, np.int8), np.array([0, 1, 1], np.int32),
        np.array([1, 2, 3], np.int32), np.full(3, -1, np.int32),
    )  # fmt: skip
    return edges, junctions(edges, 4)


def flow(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(x) - 5.0


def test_only_junctions_are_inner_and_ends_are_free() -> None:
    _, nodes = star()
    assert nodes.inner.tolist() == [False, True, False, False]
    assert nodes.net_inflow(np.array([100.0, 30.0, 20.0])).tolist() == [0.0, 50.0, 0.0, 0.0]


def test_uncertain_streets_make_up_what_sure_ones_leave_open() -> None:
    _, nodes = star()
    mean = np.log(np.array([600.0, 300.0, 100.0]) + 5)
    variance = np.array([1e-6, 1e-6, 0.25])
    found = flow(conserve(mean, variance, nodes, np.zeros(4)))
    assert found[:2] == pytest.approx([600.0, 300.0], rel=0.01)
    assert found[2] == pytest.approx(300.0, rel=0.1)


def test_a_balanced_mean_stays_as_it_is() -> None:
    _, nodes = star()
    mean = np.log(np.array([500.0, 320.0, 150.0]) + 5)
    source = nodes.net_inflow(flow(mean))
    assert conserve(mean, np.full(3, 0.3), nodes, source) == pytest.approx(mean, abs=1e-12)


def test_it_is_the_mode_that_a_general_optimiser_finds() -> None:
    _, nodes = star()
    mean = np.log(np.array([420.0, 250.0, 90.0]) + 5)
    variance = np.array([0.02, 0.05, 0.1])
    found = conserve(mean, variance, nodes, np.zeros(4))
    f = flow(found)
    noise = (RELATIVE_SD * (f[0] + f[1] + f[2]) / 2 + ABSOLUTE_SD_PER_H) ** 2

    def cost(x: NDArray[np.float64]) -> float:
        f = flow(x)
        return float(((x - mean) ** 2 / variance).sum() + (f[0] - f[1] - f[2]) ** 2 / noise)

    best = minimize(
        cost, mean, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-10, "maxiter": 4000}
    )
    assert flow(found) == pytest.approx(flow(best.x), rel=0.01)
