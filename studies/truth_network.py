"""Streets of a city as the truth sees them: its own classes of speed and capacity, its own disturbances.

The truth must not share what an estimator assumes, so nothing here comes from the other packages and the
table below is not the one of a city pack.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

FORWARD, BACKWARD = 0, 1
DIRECTIONS = ("forward", "backward")
NODE_TOLERANCE_M = 0.5
N_CLASSES = 11

# One direction of a street: speed [km/h], capacity [passenger car units/h], BPR alpha and beta; assumed,
# by class 0..10.
CLASS_SPEED_KMH = np.array([104.0, 74.0, 47.0, 43.0, 37.0, 30.0, 21.0, 15.0, 13.0, 10.0, 9.0])
CLASS_CAPACITY = np.array([4500.0, 3300.0, 1700.0, 1150.0, 850.0, 620.0, 380.0, 230.0, 180.0, 120.0, 60.0])
CLASS_ALPHA = np.array([0.5, 0.6, 0.8, 0.8, 0.9, 0.9, 1.0, 1.0, 1.0, 1.0, 1.0])
CLASS_BETA = np.array([4.0, 4.0, 3.5, 3.5, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0])
# How long a metre feels on a bicycle, by class 0..10: traffic is avoided, quiet streets and paths are sought.
BICYCLE_STRESS = np.array([9.0, 9.0, 1.75, 1.5, 1.25, 1.1, 1.0, 0.96, 1.05, 1.3, 0.98])
SPEED_LOG_SD = 0.12
CAPACITY_LOG_SD = 0.15
SIGNAL_DELAY_S = (4.0, 16.0)


@dataclass(frozen=True, slots=True)
class Streets:
    """Segments and nodes of a network.

    Attributes
    ----------
    ids, names : tuple of str
        Of each segment.
    road_class : (n_segments,) int64
    direction : tuple of str
        both, forward, backward or none (of motor traffic).
    lines : tuple of (n, 2) float64
        Vertices in a metric coordinate system [m].
    length_m : (n_segments,) float64
    ends : (n_segments, 2) int64
        First and last node.
    node_xy : (n_nodes, 2) float64
        [m]
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]
    road_class: NDArray[np.int64]
    direction: tuple[str, ...]
    lines: tuple[NDArray[np.float64], ...]
    length_m: NDArray[np.float64]
    ends: NDArray[np.int64]
    node_xy: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Edges:
    """Directed edges of one mode, in order of (segment, direction).

    Attributes
    ----------
    segment, direction, tail, head, road_class : (n_edges,) int64
        ``direction`` is 0 forward, 1 backward; ``tail`` and ``head`` are nodes.
    length_m, free_time_s, wait_s, capacity, alpha, beta : (n_edges,) float64
        Supply; ``free_time_s`` holds the mean wait at signals, ``wait_s``. Infinite time: closed.
    n_nodes : int
    """

    segment: NDArray[np.int64]
    direction: NDArray[np.int64]
    tail: NDArray[np.int64]
    head: NDArray[np.int64]
    road_class: NDArray[np.int64]
    length_m: NDArray[np.float64]
    free_time_s: NDArray[np.float64]
    wait_s: NDArray[np.float64]
    capacity: NDArray[np.float64]
    alpha: NDArray[np.float64]
    beta: NDArray[np.float64]
    n_nodes: int

    def time_s(self, units_per_h: NDArray[np.float64]) -> NDArray[np.float64]:
        """Travel time at a flow in passenger car units (BPR, 1964), (n_edges,) [s]."""
        return self.free_time_s * self._slower(units_per_h)

    def speed_kmh(self, units_per_h: NDArray[np.float64]) -> NDArray[np.float64]:
        """Speed while driving, as a loop away from the junction sees it, (n_edges,) [km/h]."""
        driving_s = (self.free_time_s - self.wait_s) * self._slower(units_per_h)
        return 3.6 * self.length_m / driving_s

    def _slower(self, units_per_h: NDArray[np.float64]) -> NDArray[np.float64]:
        factor: NDArray[np.float64] = 1.0 + self.alpha * (units_per_h / self.capacity) ** self.beta
        return factor

    def without(self, closed: NDArray[np.bool_]) -> Edges:
        """The same edges with some of them closed, mask (n_edges,)."""
        return replace(self, free_time_s=np.where(closed, np.inf, self.free_time_s))


def read_streets(path: Path, crs: str) -> Streets:
    """Streets of a network.geojson.

    Parameters
    ----------
    path : Path
    crs : str
        Metric coordinate system to compute in.
    """
    features = json.loads(path.read_bytes())["features"]
    to_metric = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    lines = []
    for feature in features:
        lonlat = np.asarray(feature["geometry"]["coordinates"], dtype=float)
        lines.append(np.stack(to_metric.transform(lonlat[:, 0], lonlat[:, 1]), axis=1))
    properties = [feature["properties"] for feature in features]
    odd = sorted({p["road_class"] for p in properties} - set(range(N_CLASSES)))
    if odd:
        raise ValueError(f"{path}: road_class: got {odd}, expected 0 to {N_CLASSES - 1}")
    ends_xy = np.array([point for line in lines for point in (line[0], line[-1])])
    ends, node_xy = _nodes(ends_xy)
    return Streets(
        ids=tuple(str(p["id"]) for p in properties),
        names=tuple(str(p.get("name") or "") for p in properties),
        road_class=np.array([int(p["road_class"]) for p in properties]),
        direction=tuple(str(p.get("direction", "both")) for p in properties),
        lines=tuple(lines),
        length_m=np.array([np.hypot(*np.diff(line, axis=0).T).sum() for line in lines]),
        ends=ends,
        node_xy=node_xy,
    )


def _nodes(ends_xy: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    pairs = cKDTree(ends_xy).query_pairs(NODE_TOLERANCE_M, output_type="ndarray")
    joined = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(ends_xy),) * 2)
    n_nodes, label = connected_components(joined, directed=False)
    count = np.bincount(label)
    node_xy = np.stack([np.bincount(label, ends_xy[:, k], n_nodes) / count for k in (0, 1)], axis=1)
    return label.astype(np.int64).reshape(-1, 2), node_xy


def car_edges(streets: Streets, seed: int, speed_factor: NDArray[np.float64] | None = None) -> Edges:
    """Edges of motor traffic, with the speed and capacity each street happens to have.

    ``speed_factor`` multiplies the speed of each class, (N_CLASSES,).
    """
    allowed = (
        np.array([(d in ("both", "forward"), d in ("both", "backward")) for d in streets.direction])
        & (streets.road_class < 10)[:, None]
    )
    edges = _edges(streets, allowed)
    rng = np.random.default_rng([seed, 1])
    of_street = rng.normal(size=(2, len(streets.ids)))
    speed_m_s = edges.free_time_s * np.exp(SPEED_LOG_SD * of_street[0][edges.segment])
    if speed_factor is not None:
        speed_m_s *= speed_factor[edges.road_class]
    driving_s = edges.length_m / speed_m_s
    wait_s = _signal_delay_s(streets, edges, rng)
    return replace(
        edges,
        free_time_s=driving_s + wait_s,
        wait_s=wait_s,
        capacity=edges.capacity * np.exp(CAPACITY_LOG_SD * of_street[1][edges.segment]),
    )


def bicycle_edges(
    streets: Streets,
    seed: int,
    cycle_streets: Mapping[str, float] | None = None,
    felt_factor: NDArray[np.float64] | None = None,
) -> Edges:
    """Edges of bicycles: both directions of all but motorways and major roads; the time is felt time.

    ``cycle_streets`` multiplies the felt time of streets of a name, ``felt_factor`` that of each class,
    (N_CLASSES,).
    """
    allowed = np.repeat((streets.road_class > 1)[:, None], 2, axis=1)
    edges = _edges(streets, allowed)
    rng = np.random.default_rng([seed, 2])
    felt = BICYCLE_STRESS[edges.road_class] * np.exp(0.1 * rng.normal(size=len(streets.ids)))[edges.segment]
    if felt_factor is not None:
        felt *= felt_factor[edges.road_class]
    for name, factor in (cycle_streets or {}).items():
        felt[np.array([n == name for n in streets.names])[edges.segment]] *= factor
    return replace(edges, free_time_s=edges.length_m / (15.5 / 3.6) * felt)


def _edges(streets: Streets, allowed: NDArray[np.bool_]) -> Edges:
    segment, direction = np.nonzero(allowed)
    road_class = streets.road_class[segment]
    return Edges(
        segment=segment,
        direction=direction,
        tail=streets.ends[segment, direction],
        head=streets.ends[segment, 1 - direction],
        road_class=road_class,
        length_m=np.maximum(streets.length_m[segment], 1.0),
        free_time_s=CLASS_SPEED_KMH[road_class] / 3.6,  # a speed here; the caller makes it a time
        wait_s=np.zeros(segment.size),
        capacity=CLASS_CAPACITY[road_class],
        alpha=CLASS_ALPHA[road_class],
        beta=CLASS_BETA[road_class],
        n_nodes=len(streets.node_xy),
    )


def _signal_delay_s(streets: Streets, edges: Edges, rng: np.random.Generator) -> NDArray[np.float64]:
    """Mean wait at the end of an edge: where three or more streets meet, two of them of class 2 to 4."""
    motor = np.zeros(len(streets.ids), dtype=bool)
    motor[edges.segment] = True
    major = motor & (streets.road_class >= 2) & (streets.road_class <= 4)
    arms = np.bincount(streets.ends[motor].ravel(), minlength=edges.n_nodes)
    major_arms = np.bincount(streets.ends[major].ravel(), minlength=edges.n_nodes)
    wait_s = rng.uniform(*SIGNAL_DELAY_S, size=edges.n_nodes)
    has_signal = (arms >= 3) & (major_arms >= 2) & (rng.random(edges.n_nodes) < 0.75)
    delay: NDArray[np.float64] = np.where(has_signal & (major_arms > 0), wait_s, 0.0)[edges.head]
    # Priority on the larger road: a minor arm waits longer.
    return np.where(edges.road_class <= 1, 0.0, delay * np.where(edges.road_class >= 5, 1.4, 1.0))
