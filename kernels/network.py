"""Road network as arrays: segments, nodes and the directed edges of a mode."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Direction(IntEnum):
    """Direction of travel along a segment's own vertices."""

    FORWARD = 0
    BACKWARD = 1


class Mode(IntEnum):
    """Mode of transport; the integer is the code used in columns."""

    CAR = 0
    TRUCK = 1
    BUS = 2
    MOTORCYCLE = 3
    BICYCLE = 4
    PEDESTRIAN = 5


@dataclass(frozen=True, slots=True)
class DirectedEdges:
    """Directed edges that a mode may use, in order of (segment, direction).

    Attributes
    ----------
    segment : (n_edges,) int32
        Segment index of each edge.
    direction : (n_edges,) int8
        :class:`Direction` of each edge.
    from_node, to_node : (n_edges,) int32
        Node indices in the direction of travel.
    opposite : (n_edges,) int32
        Edge of the other direction of the same segment, or -1.
    """

    segment: NDArray[np.int32]
    direction: NDArray[np.int8]
    from_node: NDArray[np.int32]
    to_node: NDArray[np.int32]
    opposite: NDArray[np.int32]

    @property
    def n_edges(self) -> int:
        return int(self.segment.size)

    def index_of(self, n_segments: int) -> NDArray[np.int32]:
        """Edge index by segment and direction, -1 where there is none: (n_segments, 2)."""
        table = np.full((n_segments, 2), -1, dtype=np.int32)
        table[self.segment, self.direction] = np.arange(self.n_edges, dtype=np.int32)
        return table


@dataclass(frozen=True, slots=True)
class Network:
    """Segments of a road network in a metric coordinate system.

    Attributes
    ----------
    vertex_xy : (n_vertices, 2) float64
        Coordinates of all polylines, one after the other [m].
    vertex_start : (n_segments + 1,) int64
        Segment s has the vertices ``vertex_start[s]:vertex_start[s + 1]``.
    length_m : (n_segments,) float64
        Length along the polyline [m].
    from_node, to_node : (n_segments,) int32
        End nodes in the order of the vertices.
    node_xy : (n_nodes, 2) float64
        Node coordinates [m].
    """

    vertex_xy: NDArray[np.float64]
    vertex_start: NDArray[np.int64]
    length_m: NDArray[np.float64]
    from_node: NDArray[np.int32]
    to_node: NDArray[np.int32]
    node_xy: NDArray[np.float64]

    @property
    def n_segments(self) -> int:
        return int(self.length_m.size)

    @property
    def n_nodes(self) -> int:
        return int(self.node_xy.shape[0])

    def polyline(self, segment: int) -> NDArray[np.float64]:
        """Vertices of one segment, (n, 2) [m]."""
        return self.vertex_xy[self.vertex_start[segment] : self.vertex_start[segment + 1]]

    def midpoints(self) -> NDArray[np.float64]:
        """Point halfway along each segment, (n_segments, 2) [m]."""
        return np.array([point_along(self.polyline(s), 0.5) for s in range(self.n_segments)])

    def directed_edges(
        self, allows_forward: NDArray[np.bool_], allows_backward: NDArray[np.bool_]
    ) -> DirectedEdges:
        """Directed edges of a mode from the directions it may use, each (n_segments,)."""
        allowed = np.stack([allows_forward, allows_backward], axis=1)
        segment, direction = np.nonzero(allowed)
        forward = direction == Direction.FORWARD
        index = np.full((self.n_segments, 2), -1, dtype=np.int32)
        index[segment, direction] = np.arange(segment.size, dtype=np.int32)
        return DirectedEdges(
            segment=segment.astype(np.int32),
            direction=direction.astype(np.int8),
            from_node=np.where(forward, self.from_node[segment], self.to_node[segment]),
            to_node=np.where(forward, self.to_node[segment], self.from_node[segment]),
            opposite=index[segment, 1 - direction],
        )


def build_network(polylines: list[NDArray[np.float64]], *, node_tolerance_m: float = 0.5) -> Network:
    """Network of polylines whose end points agree within a tolerance.

    Lines that cross without a common end do not join.

    Parameters
    ----------
    polylines : list of (n, 2) float64
        Metric coordinates, at least two vertices each [m].
    node_tolerance_m : float
        End points closer than this become one node [m].
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    ends = np.array([p for line in polylines for p in (line[0], line[-1])])
    pairs = cKDTree(ends).query_pairs(node_tolerance_m, output_type="ndarray")
    links = coo_array(
        (np.ones(len(pairs), dtype=np.int8), (pairs[:, 0], pairs[:, 1])),
        shape=(len(ends), len(ends)),
    )
    n_nodes, label = connected_components(links, directed=False)
    node_xy = np.stack([np.bincount(label, ends[:, k], n_nodes) / np.bincount(label) for k in (0, 1)], axis=1)
    label = label.astype(np.int32).reshape(-1, 2)
    counts = np.array([len(line) for line in polylines], dtype=np.int64)
    return Network(
        vertex_xy=np.concatenate(polylines),
        vertex_start=np.concatenate([[0], np.cumsum(counts)]),
        length_m=np.array([np.hypot(*np.diff(line, axis=0).T).sum() for line in polylines]),
        from_node=np.ascontiguousarray(label[:, 0]),
        to_node=np.ascontiguousarray(label[:, 1]),
        node_xy=node_xy,
    )


def point_along(polyline: NDArray[np.float64], fraction: float) -> NDArray[np.float64]:
    """Point at a fraction of a polyline's length, (2,) [m]."""
    steps = np.hypot(*np.diff(polyline, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    at = fraction * along[-1]
    return np.array([np.interp(at, along, polyline[:, 0]), np.interp(at, along, polyline[:, 1])])
