"""Roads as a tree of pieces: near ones one by one, far ones in clusters that are heard as one.

A cluster holds pieces that lie next to each other along streets, never two streets with something in between,
and stands on the road: at the piece that best represents it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from kernels.network import Network

PIECE_M = 10.0
CLUSTER_M = (20.0, 40.0, 80.0, 160.0)  # largest extent of a cluster of each level above the pieces
_TOUCH_M = 10.5  # middles of pieces that follow each other, and of two carriageways of one road


class RoadClusters(NamedTuple):
    """Pieces of road, and a forest of clusters over them.

    Attributes
    ----------
    points : (n_pieces, 6) float64
        Beginning, middle and end of each piece, x and y [m].
    length_m : (n_pieces,) float64
    segment : (n_pieces,) int32
    representative : (n_nodes,) int32
        Piece at which a cluster is heard. The first n_pieces nodes are the pieces.
    radius_m : (n_nodes,) float64
        Largest distance from its representative's middle to the middle of a piece, 0 for a piece [m].
    reach_m : (n_nodes,) float64
        Largest distance to which a piece of it is heard [m].
    watts : (n_nodes,) float64
        Sound power of a cluster at capacity, in the unit of that of a metre times m.
    begin, end : (n_nodes,) int32
        Pieces of a cluster.
    child_begin, child_end : (n_nodes,) int32
        Nodes of a cluster, none for a piece.
    tops : (n_tops,) int32
        Nodes that are in no other.
    """

    points: NDArray[np.float64]
    length_m: NDArray[np.float64]
    segment: NDArray[np.int32]
    representative: NDArray[np.int32]
    radius_m: NDArray[np.float64]
    reach_m: NDArray[np.float64]
    watts: NDArray[np.float64]
    begin: NDArray[np.int32]
    end: NDArray[np.int32]
    child_begin: NDArray[np.int32]
    child_end: NDArray[np.int32]
    tops: NDArray[np.int32]


def cluster_roads(network: Network, reach_m: NDArray[np.float64], power: NDArray[np.float64]) -> RoadClusters:
    """Clusters of the segments that are heard at all.

    Parameters
    ----------
    network : Network
    reach_m : (n_segments,) float64
        Distance to which a segment is heard, 0 for those that are not [m].
    power : (n_segments,) float64
        Sound power of a metre at capacity, any unit: a cluster stands where most of it is.
    """
    points, length_m, segment = _pieces(network, np.flatnonzero(reach_m > 0.0))
    n = segment.size
    weight = np.maximum(power[segment] * length_m, 1e-300)
    levels: list[NDArray[np.int32]] = []
    middle = points[:, 2:4]
    near = cKDTree(middle).query_pairs(_TOUCH_M, output_type="ndarray") if n else np.empty((0, 2), np.int64)
    label = np.arange(n, dtype=np.int32)
    for extent in CLUSTER_M:
        pairs = np.unique(np.sort(label[near], axis=1), axis=0) if near.size else near
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        n_nodes = int(label.max(initial=-1)) + 1
        both = np.concatenate([pairs, pairs[:, ::-1]])
        both = both[np.lexsort((both[:, 1], both[:, 0]))].reshape(-1, 2)
        neighbour_start = np.searchsorted(both[:, 0], np.arange(n_nodes + 1))
        low = np.full((n_nodes, 2), np.inf)
        high = np.full((n_nodes, 2), -np.inf)
        np.minimum.at(low, label, middle)
        np.maximum.at(high, label, middle)
        parent = _grow(low, high, neighbour_start, both[:, 1].astype(np.int64), extent)
        levels.append(parent)
        label = parent[label]
    return _forest(points, length_m, segment, weight, reach_m, levels)


def _pieces(
    network: Network, segments: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int32]]:
    """Equal pieces of at most 10 m: three points of each, length and segment."""
    first = network.vertex_start[:-1]
    legs = np.hypot(*np.diff(network.vertex_xy, axis=0).T)
    legs[first[1:] - 1] = 0.0  # from the end of a segment to the beginning of the next
    along = np.concatenate([[0.0], np.cumsum(legs)])
    count = np.maximum(np.ceil(network.length_m[segments] / PIECE_M), 1.0).astype(np.int64)
    owner = np.repeat(np.arange(segments.size), count)
    number = np.arange(owner.size) - np.concatenate([[0], np.cumsum(count)])[owner]
    segment = segments[owner]
    length = (network.length_m[segments] / count)[owner]
    points = np.empty((owner.size, 6))
    for k, share in enumerate((0.0, 0.5, 1.0)):
        at = along[first[segment]] + np.minimum((number + share) * length, network.length_m[segment])
        for axis in range(2):
            points[:, 2 * k + axis] = np.interp(at, along, network.vertex_xy[:, axis])
    # where the next segment begins at the same place along the line, its first vertex is not ours
    last = number == count[owner] - 1
    points[last, 4:] = network.vertex_xy[network.vertex_start[segment[last] + 1] - 1]
    return points, length, segment.astype(np.int32)


@njit(cache=True, error_model="numpy", nogil=True)
def _grow(
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    neighbour_start: NDArray[np.int64],
    neighbour: NDArray[np.int64],
    extent_m: float,
) -> NDArray[np.int32]:
    """Cluster of each node: from one that is left over, along its neighbours, while the extent allows it."""
    n = low.shape[0]
    cluster = np.full(n, -1, dtype=np.int32)
    queue = np.empty(n, dtype=np.int64)
    fringe = np.empty(n, dtype=np.int64)
    n_fringe = n_clusters = next_seed = 0
    while True:
        seed = -1
        while n_fringe > 0 and seed < 0:  # beside the clusters there are, so that no gaps are left
            n_fringe -= 1
            if cluster[fringe[n_fringe]] < 0:
                seed = fringe[n_fringe]
        while seed < 0 and next_seed < n:
            if cluster[next_seed] < 0:
                seed = next_seed
            next_seed += 1
        if seed < 0:
            return cluster
        x0, y0, x1, y1 = low[seed, 0], low[seed, 1], high[seed, 0], high[seed, 1]
        cluster[seed] = n_clusters
        queue[0] = seed
        begin, end = 0, 1
        while begin < end:
            node = queue[begin]
            begin += 1
            for k in range(neighbour_start[node], neighbour_start[node + 1]):
                other = neighbour[k]
                if cluster[other] >= 0:
                    continue
                u0, v0 = min(x0, low[other, 0]), min(y0, low[other, 1])
                u1, v1 = max(x1, high[other, 0]), max(y1, high[other, 1])
                if (u1 - u0) * (u1 - u0) + (v1 - v0) * (v1 - v0) <= extent_m * extent_m:
                    x0, y0, x1, y1 = u0, v0, u1, v1
                    cluster[other] = n_clusters
                    queue[end] = other
                    end += 1
                elif n_fringe < n:
                    fringe[n_fringe] = other
                    n_fringe += 1
        n_clusters += 1


def _forest(
    points: NDArray[np.float64],
    length_m: NDArray[np.float64],
    segment: NDArray[np.int32],
    weight: NDArray[np.float64],
    reach_m: NDArray[np.float64],
    levels: list[NDArray[np.int32]],
) -> RoadClusters:
    n = segment.size
    labels = [np.arange(n, dtype=np.int32)]
    for parent in levels:
        labels.append(parent[labels[-1]])
    order = np.lexsort(tuple(labels))  # by the highest level first: each cluster is one run of pieces
    points, length_m, segment, weight = points[order], length_m[order], segment[order], weight[order]
    middle = points[:, 2:4]
    reach = reach_m[segment]
    representative, radius, node_reach = [np.arange(n)], [np.zeros(n)], [reach]
    watts, begin, end = [weight], [np.arange(n)], [np.arange(1, n + 1)]
    child_begin, child_end = [np.zeros(n, dtype=np.int64)], [np.zeros(n, dtype=np.int64)]
    below_begin, offset = np.arange(n), 0
    for label in labels[1:]:
        of_piece = label[order]
        starts = np.flatnonzero(np.concatenate([[True], np.diff(of_piece) != 0])) if n else np.empty(0, int)
        ends = np.append(starts[1:], n)[: starts.size]
        run = np.repeat(np.arange(starts.size), ends - starts)
        total = np.add.reduceat(weight, starts) if n else np.empty(0)
        centre = np.empty((starts.size, 2))
        for k in range(2 if n else 0):
            centre[:, k] = np.add.reduceat(weight * middle[:, k], starts) / total
        off = np.hypot(*(middle - centre[run]).T)
        best = np.lexsort((np.arange(n), off, run))[starts] if n else np.empty(0, int)
        spread = np.hypot(*(middle - middle[best][run]).T)
        representative.append(best)
        radius.append(np.maximum.reduceat(spread, starts) if n else np.empty(0))
        node_reach.append(np.maximum.reduceat(reach, starts) if n else np.empty(0))
        watts.append(total)
        begin.append(starts)
        end.append(ends)
        child_begin.append(offset + np.searchsorted(below_begin, starts))
        child_end.append(offset + np.searchsorted(below_begin, ends))
        offset += below_begin.size
        below_begin = starts
    n_nodes = sum(each.size for each in representative)

    def joined(parts: list[NDArray[np.int64]]) -> NDArray[np.int32]:
        return np.concatenate(parts).astype(np.int32)

    return RoadClusters(
        np.ascontiguousarray(points), np.ascontiguousarray(length_m), np.ascontiguousarray(segment),
        joined(representative), np.concatenate(radius), np.concatenate(node_reach),
        np.concatenate(watts), joined(begin),
        joined(end), joined(child_begin), joined(child_end),
        np.arange(n_nodes - below_begin.size, n_nodes, dtype=np.int32),
    )  # fmt: skip
