"""Assignment against scipy's shortest paths and against conservation."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from kernels.assignment import EdgeGraph, assign, congested_time, edge_graph, load
from kernels.network import DirectedEdges


def edges_of(tail: list[int], head: list[int]) -> DirectedEdges:
    n = len(tail)
    return DirectedEdges(
        np.arange(n, dtype=np.int32), np.zeros(n, np.int8), np.array(tail, np.int32), np.array(head, np.int32),
        np.full(n, -1, np.int32),
    )  # fmt: skip


def random_graph(n_nodes: int = 60, n_edges: int = 240) -> tuple[EdgeGraph, NDArray[np.float64]]:
    rng = np.random.default_rng(4)
    pairs = np.unique(rng.integers(0, n_nodes, (n_edges, 2)), axis=0)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    cost = np.round(rng.uniform(1, 9, len(pairs)), 1)  # whole ticks: the trees are exact
    return edge_graph(edges_of(pairs[:, 0].tolist(), pairs[:, 1].tolist()), n_nodes), cost


def test_loaded_cost_equals_scipys_shortest_distances() -> None:
    graph, cost = random_graph()
    nodes = np.arange(graph.n_nodes, dtype=np.int32)
    demand = np.random.default_rng(1).uniform(0, 5, (graph.n_nodes, graph.n_nodes))
    flow, _ = load(graph, cost, demand, nodes, nodes, taste_class=np.zeros(graph.n_edges, np.int32))
    matrix = coo_array((cost, (graph.tail, graph.head)), shape=(graph.n_nodes,) * 2)
    distance = dijkstra(matrix)
    reached = np.isfinite(distance)
    assert (flow * cost).sum() == pytest.approx((demand[reached] * distance[reached]).sum(), rel=1e-12)


def test_flow_is_conserved_at_every_node_and_over_every_turn() -> None:
    graph, cost = random_graph()
    demand = np.zeros((1, graph.n_nodes))
    demand[0, 1:] = 2.0
    nodes = np.arange(graph.n_nodes, dtype=np.int32)
    flow, turn = load(graph, cost, demand, nodes[:1], nodes, taste_class=np.zeros(graph.n_edges, np.int32))
    net = np.bincount(graph.head, flow, graph.n_nodes) - np.bincount(graph.tail, flow, graph.n_nodes)
    assert set(np.round(net[1:], 9)) <= {0.0, 2.0}  # 0 where the origin cannot reach
    leaves_origin = graph.tail == 0
    into = np.bincount(graph.turn_to, turn, graph.n_edges)
    np.testing.assert_allclose(into[~leaves_origin], flow[~leaves_origin])
    assert into[leaves_origin].sum() == 0.0


def test_turns_join_an_edge_to_the_edges_that_leave_its_head() -> None:
    graph, _ = random_graph()
    assert np.array_equal(graph.head[graph.turn_from], graph.tail[graph.turn_to])
    pairs = {
        (a, b) for a in range(graph.n_edges) for b in range(graph.n_edges) if graph.head[a] == graph.tail[b]
    }
    assert set(zip(graph.turn_from.tolist(), graph.turn_to.tolist(), strict=True)) == pairs
    number = graph.turn_start[graph.turn_to] + graph.in_slot[graph.turn_from]
    assert np.array_equal(number, np.arange(graph.n_turns))


def test_capacity_restraint_divides_traffic_over_two_equal_routes() -> None:
    graph = edge_graph(edges_of([0, 0, 1, 2], [1, 2, 3, 3]), 4)
    nodes = np.array([0, 3], np.int32)
    demand = np.array([[0.0, 1_000.0], [0.0, 0.0]])
    flow, _ = assign(
        graph, np.array([10.0, 10.5, 10.0, 10.5]), np.full(4, 600.0), demand, lambda _: (nodes, nodes),
        taste_class=np.zeros(4, np.int32), link_taste_sd=0.0, class_taste_sd=0.0, iterations=40, seed=1,
    )  # fmt: skip
    # Wardrop: equal times, 10 (1 + .15 (v/600)^4) = 10.5 (1 + .15 ((1000 - v)/600)^4), solved by bisection.
    low, high = 0.0, 1_000.0
    for _ in range(60):
        middle = (low + high) / 2
        faster = congested_time(np.array([10.0, 10.5]), np.array([middle, 1000 - middle]), np.full(2, 600.0))
        low, high = (middle, high) if faster[0] < faster[1] else (low, middle)
    assert flow[0] == pytest.approx(low, abs=26.0)  # successive averages come this near in 40 iterations


def test_tastes_depend_on_the_seed_alone_and_spread_traffic() -> None:
    graph, cost = random_graph()
    nodes = np.arange(graph.n_nodes, dtype=np.int32)
    demand = np.ones((graph.n_nodes, graph.n_nodes))

    def flow(seed: int) -> NDArray[np.float64]:
        return load(
            graph, cost, demand, nodes, nodes, taste_class=np.zeros(graph.n_edges, np.int32), link_taste_sd=0.3,
            seed=seed,
        )[0]  # fmt: skip

    plain = load(graph, cost, demand, nodes, nodes, taste_class=np.zeros(graph.n_edges, np.int32))[0]
    assert np.array_equal(flow(1), flow(1))
    assert not np.array_equal(flow(1), flow(2))
    assert ((flow(1) + flow(2) + flow(3)) > 0).sum() >= (plain > 0).sum()
