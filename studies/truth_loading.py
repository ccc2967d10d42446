"""Trips onto streets: an equilibrium of zones by a third-party engine, then every node by itself."""

from __future__ import annotations

import logging
import os
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray

from studies.truth_network import N_CLASSES, Edges

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

TABLE_BITS = 16
TABLE_STRIDE = 40503  # odd, about 2^16 / golden ratio: neighbouring edges fall far apart in the table
GAP = 0.002  # relative; at 0.005 parallel streets still swap a part of their flow
MAX_ITERATIONS = 400  # 60 to 100 are usual
N_PARTS = 2  # a fixed number of partial sums, so that the number of cores changes nothing
LINK_TASTE_LOG_SD = 0.22
CLASS_TASTE_LOG_SD = 0.18


def equilibrium_time_s(
    edges: Edges,
    access: NDArray[np.int64],
    trips_per_h: NDArray[np.float64],
    *,
    gap: float = GAP,
    max_iterations: int = MAX_ITERATIONS,
    cores: int = 2,
) -> tuple[NDArray[np.float64], float]:
    """Travel times at the user equilibrium of zones (aequilibrae, bi-conjugate Frank-Wolfe).

    Parameters
    ----------
    edges : Edges
        Closed ones have an infinite free time.
    access : (n_zones, n_access) int64
        Nodes where a zone enters and leaves the streets.
    trips_per_h : (n_zones, n_zones) float64
        In passenger car units.

    Returns
    -------
    time_s : (n_edges,) float64
        Infinite where closed.
    gap : float
        Relative gap reached.

    Raises
    ------
    RuntimeError
        If the gap is not reached: what is no equilibrium differs from itself from day to day.
    """
    logging.getLogger("aequilibrae").setLevel(logging.ERROR)
    os.environ.setdefault("AEQ_SHOW_PROGRESS", "FALSE")  # thousands of lines of bars
    with warnings.catch_warnings():  # aequilibrae 1.7 uses what pandas 4 will change
        warnings.simplefilter("ignore")
        from aequilibrae.matrix import AequilibraeMatrix
        from aequilibrae.paths import Graph, TrafficAssignment, TrafficClass

        n_zones = len(access)
        graph = Graph()
        graph.network = _engine_network(edges, access)
        graph.prepare_graph(np.arange(1, n_zones + 1))
        graph.set_graph("free_flow_time")
        graph.set_blocked_centroid_flows(True)
        matrix = AequilibraeMatrix()
        matrix.create_empty(zones=n_zones, matrix_names=["units"], memory_only=True)
        matrix.index[:] = np.arange(1, n_zones + 1)
        matrix.matrix["units"][:, :] = trips_per_h
        matrix.computational_view(["units"])
        assignment = TrafficAssignment()
        assignment.set_classes([TrafficClass("units", graph, matrix)])
        assignment.set_vdf("BPR")
        assignment.set_vdf_parameters({"alpha": "b", "beta": "power"})
        assignment.set_capacity_field("capacity")
        assignment.set_time_field("free_flow_time")
        assignment.set_algorithm("bfw")
        assignment.set_cores(cores)
        assignment.max_iter = max_iterations
        assignment.rgap_target = gap
        assignment.execute()
        flow = assignment.results()["PCE_AB"]
        reached = float(assignment.assignment.rgap)
    if reached > gap:
        raise RuntimeError(
            f"equilibrium: gap: got {reached:.5f} in {max_iterations} iterations, expected <= {gap}"
        )
    units = np.nan_to_num(flow.reindex(np.arange(1, len(edges.tail) + 1)).to_numpy(dtype=float))
    return edges.time_s(units), reached


def _engine_network(edges: Edges, access: NDArray[np.int64]) -> pd.DataFrame:
    n_zones, n_access = access.shape
    open_edge = np.isfinite(edges.free_time_s)
    street = pd.DataFrame(
        {
            "link_id": np.arange(1, len(edges.tail) + 1),
            "a_node": edges.tail + n_zones + 1,
            "b_node": edges.head + n_zones + 1,
            "capacity": edges.capacity,
            "free_flow_time": edges.free_time_s / 60.0,
            "b": edges.alpha,
            "power": edges.beta,
        }
    )[open_edge]
    zone = np.repeat(np.arange(1, n_zones + 1), n_access)
    node = access.ravel() + n_zones + 1
    first = len(edges.tail) + 1
    connector = pd.DataFrame(
        {
            "link_id": np.arange(first, first + 2 * zone.size),
            "a_node": np.concatenate([zone, node]),
            "b_node": np.concatenate([node, zone]),
            "capacity": 1e6,
            "free_flow_time": 0.5,
            "b": 0.1,
            "power": 1.0,
        }
    ).drop_duplicates(["a_node", "b_node"])
    network = pd.concat([street, connector], ignore_index=True)
    # Streets between the same nodes are told apart by link_id; one from a node to itself carries nothing.
    network = network[network.a_node != network.b_node].reset_index(drop=True)
    network["direction"] = np.int8(1)
    network["id"] = np.arange(1, len(network) + 1)
    return network


def load_trips(
    edges: Edges,
    time_s: NDArray[np.float64],
    origins: NDArray[np.int64],
    origin_zone: NDArray[np.int64],
    origin_share: NDArray[np.float64],
    destinations: NDArray[np.int64],
    trips_per_h: NDArray[np.float64],
    *,
    seed: int,
    watched: NDArray[np.int64] | None = None,
    n_picked: int = 2,
) -> NDArray[np.float64]:
    """Flows when each origin node takes its own shortest path under its own tastes.

    Parameters
    ----------
    edges : Edges
    time_s : (n_edges,) float64
        Travel time, infinite where closed [s].
    origins, origin_zone, origin_share : (n_origins,)
        Node, its zone and its share of the zone's trips.
    destinations : (n_zones, n_samples) int64
        Nodes of each zone, drawn by their attraction; an origin takes ``n_picked`` of them.
    trips_per_h : (n_zones, n_zones) float64
    seed : int
        Tastes depend on it and on the origin only, so that closing a street leaves them as they were.
    watched : (n_watched,) int64, optional
        Edges whose trips are also returned on their own.

    Returns
    -------
    (1 + n_watched, n_edges) float64
        All trips, then the trips through each watched edge [1/h].
    """
    rng = np.random.default_rng([seed, 3])
    link_table = np.exp(LINK_TASTE_LOG_SD * rng.normal(size=1 << TABLE_BITS))
    class_taste = np.exp(CLASS_TASTE_LOG_SD * rng.normal(size=(len(origins), N_CLASSES)))
    offset = rng.integers(1 << TABLE_BITS, size=len(origins))
    order = np.argsort(edges.tail, kind="stable")
    first = np.searchsorted(edges.tail[order], np.arange(edges.n_nodes + 1))
    watched = np.zeros(0, dtype=np.int64) if watched is None else watched

    def part(which: NDArray[np.int64]) -> NDArray[np.float64]:
        return _load(
            first, order, edges.head, edges.road_class, time_s, origins[which], origin_zone[which],
            origin_share[which], destinations, trips_per_h, link_table, class_taste[which], offset[which],
            watched, n_picked,
        )  # fmt: skip

    parts = np.array_split(np.arange(len(origins)), N_PARTS)
    with ThreadPoolExecutor(N_PARTS) as pool:
        flows = list(pool.map(part, parts))
    return np.sum(flows, axis=0)


@njit(cache=True, error_model="numpy", nogil=True)
def _load(
    first: IntArray,
    order: IntArray,
    head: IntArray,
    road_class: IntArray,
    time_s: FloatArray,
    origins: IntArray,
    origin_zone: IntArray,
    origin_share: FloatArray,
    destinations: IntArray,
    trips: FloatArray,
    link_table: FloatArray,
    class_taste: FloatArray,
    offset: IntArray,
    watched: IntArray,
    n_picked: int,
) -> FloatArray:
    """Flows of some origins, (1 + n_watched, n_edges); see :func:`load_trips`."""
    n_nodes = first.size - 1
    n_samples = destinations.shape[1]
    flow = np.zeros((1 + watched.size, head.size))
    felt_s = np.empty(head.size)
    via = np.empty(n_nodes, dtype=np.int64)
    parent = np.empty(n_nodes, dtype=np.int64)
    sequence = np.empty(n_nodes, dtype=np.int64)
    load = np.empty((1 + watched.size, n_nodes))
    for i in range(origins.size):
        for e in range(head.size):
            taste = link_table[(e * TABLE_STRIDE + offset[i]) & (link_table.size - 1)]
            felt_s[e] = time_s[e] * taste * class_taste[i, road_class[e]]
        n_reached = _tree(first, order, head, felt_s, origins[i], via, parent, sequence)
        load[:, :] = 0.0
        zone = origin_zone[i]
        for z in range(trips.shape[1]):
            amount = trips[zone, z] * origin_share[i] / n_picked
            if amount > 0.0:
                for j in range(n_picked):
                    load[0, destinations[z, (offset[i] + 13 * z + 31 * j) % n_samples]] += amount
        if watched.size > 0:
            _split(watched, via, parent, sequence[:n_reached], load)
        for k in range(n_reached - 1, 0, -1):  # from the leaves towards the origin
            node = sequence[k]
            for row in range(load.shape[0]):
                if load[row, node] > 0.0:
                    flow[row, via[node]] += load[row, node]
                    load[row, parent[node]] += load[row, node]
    return flow


@njit(cache=True, error_model="numpy", nogil=True)
def _split(watched: IntArray, via: IntArray, parent: IntArray, sequence: IntArray, load: FloatArray) -> None:
    """Fill rows 1.. of ``load`` with the trips of row 0 whose path uses each watched edge."""
    through = np.full(load.shape[1], -1, dtype=np.int64)
    for k in range(1, sequence.size):
        node = sequence[k]
        through[node] = through[parent[node]]
        for w in range(watched.size):
            if via[node] == watched[w]:
                through[node] = w
        if through[node] >= 0:
            load[1 + through[node], node] = load[0, node]


@njit(cache=True, error_model="numpy", nogil=True)
def _tree(
    first: IntArray,
    order: IntArray,
    head: IntArray,
    felt_s: FloatArray,
    source: int,
    via: IntArray,
    parent: IntArray,
    sequence: IntArray,
) -> int:
    """Dijkstra's shortest path tree (1959) with a binary heap.

    Fills the edge by which each node is reached, the node before it, and the nodes in order of distance;
    returns how many are reached.
    """
    n_nodes = first.size - 1
    distance = np.full(n_nodes, np.inf)
    done = np.zeros(n_nodes, dtype=np.bool_)
    heap_key = np.empty(head.size + 1)
    heap_node = np.empty(head.size + 1, dtype=np.int64)
    distance[source] = 0.0
    heap_key[0], heap_node[0] = 0.0, source
    size, n_reached = 1, 0
    while size > 0:
        key, node = heap_key[0], heap_node[0]
        size -= 1
        _sift_down(heap_key, heap_node, size)
        if done[node]:
            continue
        done[node] = True
        sequence[n_reached] = node
        n_reached += 1
        for k in range(first[node], first[node + 1]):
            edge = order[k]
            other = head[edge]
            candidate = key + felt_s[edge]
            if not done[other] and candidate < distance[other]:
                distance[other] = candidate
                via[other] = edge
                parent[other] = node
                _sift_up(heap_key, heap_node, size, candidate, other)
                size += 1
    return n_reached


@njit(cache=True, error_model="numpy", nogil=True)
def _sift_down(heap_key: FloatArray, heap_node: IntArray, size: int) -> None:
    """Put the entry at ``size`` at the top of the heap and let it sink."""
    key, node = heap_key[size], heap_node[size]
    at = 0
    child = 1
    while child < size:
        if child + 1 < size and heap_key[child + 1] < heap_key[child]:
            child += 1
        if heap_key[child] >= key:
            break
        heap_key[at], heap_node[at] = heap_key[child], heap_node[child]
        at = child
        child = 2 * at + 1
    heap_key[at], heap_node[at] = key, node


@njit(cache=True, error_model="numpy", nogil=True)
def _sift_up(heap_key: FloatArray, heap_node: IntArray, size: int, key: float, node: int) -> None:
    """Add an entry at ``size`` and let it rise."""
    at = size
    while at > 0:
        up = (at - 1) // 2
        if heap_key[up] <= key:
            break
        heap_key[at], heap_node[at] = heap_key[up], heap_node[up]
        at = up
    heap_key[at], heap_node[at] = key, node
