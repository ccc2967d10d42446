"""Traffic assignment: shortest-path trees with tastes, loading of links and turns, capacity restraint.

Trees are found with Dijkstra's algorithm [1]_ on a ring of buckets [4]_ and loaded from the leaves to the
root.
Congestion follows the Bureau of Public Roads' volume-delay function [2]_ with successive averages [3]_. Each
origin sees each link with its own taste (a multinomial probit by simulation [3]_); tastes come from a
counter-based hash, so that a result depends on its seed alone and not on the order of evaluation.

References
----------
.. [1] E. W. Dijkstra, "A note on two problems in connexion with graphs", Numer. Math. 1, 1959.
.. [2] Bureau of Public Roads, "Traffic Assignment Manual", 1964.
.. [3] Y. Sheffi, "Urban Transportation Networks", Prentice-Hall, 1985, chapters 11 and 12.
.. [4] R. B. Dial, "Algorithm 360: shortest-path forest with topological ordering", CACM 12, 1969.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.network import DirectedEdges

BPR_ALPHA = 0.15  # [2]
BPR_BETA = 4.0  # [2]
MIN_TASTE = 0.2  # a link never looks shorter than this share of its cost
TICK_S = 0.1  # costs are whole multiples of it, one at least: far below what any taste changes
BUCKETS = 1 << 15  # no link costs more than 55 min, however congested
TABLE, STRIDE = 1 << 14, 6_367  # an odd stride near 2^14 / golden ratio sets neighbouring links far apart


@dataclass(frozen=True, slots=True)
class EdgeGraph:
    """Directed edges as adjacency lists, with every turn (edge to next edge) numbered.

    Attributes
    ----------
    n_nodes, n_edges : int
    tail, head : (n_edges,) int32
        Nodes where an edge begins and ends.
    out_start : (n_nodes + 1,) int32
    out_edge : (n_edges,) int32
        Edges that leave node n: ``out_edge[out_start[n]:out_start[n + 1]]``.
    in_slot : (n_edges,) int32
        Place of an edge among the edges that enter its head.
    turn_start : (n_edges + 1,) int32
        Turns into edge b: ``turn_start[b] + in_slot[a]`` for each edge a that enters its tail.
    turn_from, turn_to : (n_turns,) int32
        Edges of each turn, U-turns included.
    """

    n_nodes: int
    n_edges: int
    tail: NDArray[np.int32]
    head: NDArray[np.int32]
    out_start: NDArray[np.int32]
    out_edge: NDArray[np.int32]
    in_slot: NDArray[np.int32]
    turn_start: NDArray[np.int32]
    turn_from: NDArray[np.int32]
    turn_to: NDArray[np.int32]

    @property
    def n_turns(self) -> int:
        return int(self.turn_from.size)


def edge_graph(edges: DirectedEdges, n_nodes: int) -> EdgeGraph:
    """Adjacency lists and turns of the directed edges of a mode."""
    tail, head = edges.from_node.astype(np.int32), edges.to_node.astype(np.int32)
    n = edges.n_edges
    out_edge = np.argsort(tail, kind="stable").astype(np.int32)
    out_start = np.concatenate([[0], np.cumsum(np.bincount(tail, minlength=n_nodes))]).astype(np.int32)
    by_head = np.argsort(head, kind="stable").astype(np.int32)
    in_count = np.bincount(head, minlength=n_nodes)
    in_start = np.concatenate([[0], np.cumsum(in_count)])
    in_slot = np.empty(n, dtype=np.int32)
    in_slot[by_head] = np.arange(n) - in_start[head[by_head]]
    turns_into = in_count[tail]
    turn_start = np.concatenate([[0], np.cumsum(turns_into)]).astype(np.int32)
    turn_to = np.repeat(np.arange(n, dtype=np.int32), turns_into)
    slot = np.arange(turn_to.size) - turn_start[turn_to]
    return EdgeGraph(
        n_nodes=n_nodes,
        n_edges=n,
        tail=tail,
        head=head,
        out_start=out_start,
        out_edge=out_edge,
        in_slot=in_slot,
        turn_start=turn_start,
        turn_from=by_head[in_start[tail[turn_to]] + slot],
        turn_to=turn_to,
    )


def congested_time(
    free_time_s: NDArray[np.float64], flow_per_h: NDArray[np.float64], capacity_per_h: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Travel time under a flow: t0 (1 + 0.15 (v / c)^4) [s], Bureau of Public Roads 1964."""
    return free_time_s * (1.0 + BPR_ALPHA * (flow_per_h / capacity_per_h) ** BPR_BETA)


def assign(
    graph: EdgeGraph,
    free_time_s: NDArray[np.float64],
    capacity_per_h: NDArray[np.float64],
    demand_per_h: NDArray[np.float64],
    access: Callable[[int], tuple[NDArray[np.int32], NDArray[np.int32]]],
    *,
    taste_class: NDArray[np.int32],
    link_taste_sd: float,
    class_taste_sd: float,
    iterations: int,
    seed: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Stochastic assignment with capacity restraint by successive averages.

    Parameters
    ----------
    graph : EdgeGraph
    free_time_s, capacity_per_h : (n_edges,) float64
        Free-flow cost [s] and capacity [1/h]; an infinite capacity is never congested.
    demand_per_h : (n_zones, n_zones) float64
        Trips from origin (row) to destination (column) [1/h].
    access : callable
        Nodes where each zone's trips start and end in iteration k, two arrays of (n_zones,).
    taste_class : (n_edges,) int32
        Class of each edge for tastes that an origin has of a whole class.
    link_taste_sd, class_taste_sd : float
        Relative standard deviation of tastes per origin and link, per origin and class.
    iterations : int
    seed : int

    Returns
    -------
    flow : (n_edges,) float64
        Flow [1/h].
    turn_flow : (n_turns,) float64
        Flow from edge to edge [1/h].
    """
    flow, turn = np.zeros(graph.n_edges), np.zeros(graph.n_turns)
    for k in range(iterations):
        origins, destinations = access(k)
        cost = congested_time(free_time_s, flow, capacity_per_h)
        loaded, loaded_turn = load(
            graph, cost, demand_per_h, origins, destinations,
            taste_class=taste_class, link_taste_sd=link_taste_sd, class_taste_sd=class_taste_sd,
            seed=seed * 1_000 + k,
        )  # fmt: skip
        flow += (loaded - flow) / (k + 1)
        turn += (loaded_turn - turn) / (k + 1)
    return flow, turn


def load(
    graph: EdgeGraph,
    cost_s: NDArray[np.float64],
    demand_per_h: NDArray[np.float64],
    origins: NDArray[np.int32],
    destinations: NDArray[np.int32],
    *,
    taste_class: NDArray[np.int32],
    link_taste_sd: float = 0.0,
    class_taste_sd: float = 0.0,
    seed: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """All-or-nothing loading of shortest-path trees, one for each origin; see :func:`assign`.

    Demand between nodes without a path, or from a node to itself, is not loaded.
    """
    flow, turn = np.zeros(graph.n_edges), np.zeros(graph.n_turns)
    _load_trees(
        origins, destinations, demand_per_h, cost_s, taste_class, link_taste_sd, class_taste_sd, seed,
        graph.tail, graph.head, graph.out_start, graph.out_edge, graph.in_slot, graph.turn_start, flow, turn,
    )  # fmt: skip
    return flow, turn


@njit(cache=True, error_model="numpy")
def _unit(seed: int, number: int) -> float:
    """Uniform in [0, 1) from a seed and a counter (the finaliser of SplitMix64)."""
    z = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(number) * np.uint64(0xD1B54A32D192ED03)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return np.float64(z >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@njit(cache=True, error_model="numpy")
def _taste(seed: int, number: int, sd: float) -> float:
    """Factor of mean 1: the sum of two uniforms, scaled to a standard deviation."""
    u = _unit(seed, 2 * number) + _unit(seed, 2 * number + 1) - 1.0
    return max(MIN_TASTE, 1.0 + sd * 2.449489742783178 * u)


@njit(cache=True, error_model="numpy")
def _taste_table(seed: int, sd: float) -> NDArray[np.float64]:
    """Link tastes in a table that every origin reads from another place, (2^14,)."""
    table = np.empty(TABLE, np.float64)
    for k in range(TABLE):
        table[k] = _taste(seed, k, sd)
    return table


@njit(cache=True, error_model="numpy", nogil=True)
def _load_trees(  # type: ignore[no-untyped-def]
    origins, destinations, demand, cost, taste_class, link_sd, class_sd, seed,
    tail, head, out_start, out_edge, in_slot, turn_start, flow, turn,
):  # fmt: skip
    n_nodes, n_edges = out_start.size - 1, tail.size
    distance, entry = np.empty(n_nodes, np.int64), np.empty(n_nodes, np.int32)
    settled, amount = np.empty(n_nodes, np.int32), np.zeros(n_nodes)
    done = np.empty(n_nodes, np.bool_)
    ticks, ends = np.empty(n_edges, np.int32), np.empty(n_edges, np.int32)
    for i in range(n_edges):  # in the order of the nodes that edges leave
        ends[i] = head[out_edge[i]]
    n_classes = taste_class.max() + 1 if n_edges else 0
    class_factor = np.ones(n_classes)
    table = _taste_table(seed, link_sd)
    bucket = np.full(BUCKETS, -1, np.int32)
    next_slot, slot_node = np.empty(n_edges + 1, np.int32), np.empty(n_edges + 1, np.int32)
    for o in range(origins.size):
        origin_seed = seed * 4096 + o + 1
        place = np.int64(_unit(origin_seed, n_edges + n_classes) * TABLE)
        for c in range(n_classes):
            class_factor[c] = _taste(origin_seed, n_edges + c, class_sd)
        for i in range(n_edges):
            e = out_edge[i]
            taste = table[(e * STRIDE + place) & (TABLE - 1)] * class_factor[taste_class[e]]
            ticks[i] = int(min(max(cost[e] * taste / TICK_S + 0.5, 1.0), BUCKETS - 1.0))
        n_settled = _tree(
            origins[o], ticks, ends, out_start, out_edge,
            distance, entry, done, settled, bucket, next_slot, slot_node,
        )  # fmt: skip
        for d in range(destinations.size):
            if done[destinations[d]]:
                amount[destinations[d]] += demand[o, d]
        for i in range(n_settled - 1, 0, -1):
            node = settled[i]
            if amount[node] > 0.0:
                e = entry[node]
                before = tail[e]
                flow[e] += amount[node]
                amount[before] += amount[node]
                if entry[before] >= 0:
                    turn[turn_start[e] + in_slot[entry[before]]] += amount[node]
                amount[node] = 0.0
        amount[origins[o]] = 0.0


@njit(cache=True, error_model="numpy", nogil=True)
def _tree(  # type: ignore[no-untyped-def]
    origin, ticks, ends, out_start, out_edge,
    distance, entry, done, settled, bucket, next_slot, slot_node,
):  # fmt: skip
    """Shortest-path tree: entry edge of each node, nodes as they are settled; returns their number.

    ``ticks`` and ``ends`` are cost and head in the order of ``out_edge``; the buckets form a ring that is
    longer than any edge, empty at the beginning and again at the end.
    """
    distance[:] = np.int64(1) << 60
    entry[:] = -1
    done[:] = False
    mask = bucket.size - 1
    distance[origin] = 0
    bucket[0], slot_node[0], next_slot[0] = 0, origin, -1
    n_slots, waiting, n_settled = 1, 1, 0
    now = np.int64(0)
    while waiting > 0:
        slot = bucket[now & mask]
        bucket[now & mask] = -1
        while slot >= 0:
            node = slot_node[slot]
            slot = next_slot[slot]
            waiting -= 1
            if done[node]:
                continue
            done[node] = True
            settled[n_settled] = node
            n_settled += 1
            for i in range(out_start[node], out_start[node + 1]):
                reached = now + ticks[i]
                other = ends[i]
                if reached < distance[other]:
                    distance[other] = reached
                    entry[other] = out_edge[i]
                    slot_node[n_slots] = other
                    next_slot[n_slots] = bucket[reached & mask]
                    bucket[reached & mask] = n_slots
                    n_slots += 1
                    waiting += 1
        now += 1
    return n_settled
