"""Who travels where on a weekday morning: the truth's own zones, purposes and clock. Totals are assumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from studies.truth_network import Edges, Streets

N_SAMPLES = 64
N_ACCESS = 6
LAND_USE_LOG_SD = (0.5, 0.75)  # of the homes and the jobs of a zone
OD_LOG_SD = 0.6
SECTOR_PAIR_LOG_SD = 0.35
N_SECTORS = 24

# Clock times at which the streets are assigned [min after local midnight]; flows between are interpolated.
ANCHORS_MIN = (360, 420, 465, 490, 530, 600)
# Share of its peak that each purpose has at the anchors.
PURPOSE_CLOCK: Mapping[str, tuple[float, ...]] = {
    "work": (0.34, 0.74, 0.97, 1.00, 0.84, 0.34),
    "school": (0.02, 0.20, 0.75, 1.00, 0.55, 0.10),
    "other": (0.20, 0.38, 0.60, 0.75, 0.90, 1.00),
    "in": (0.46, 0.86, 1.00, 0.99, 0.86, 0.46),
    "out": (0.44, 0.84, 1.00, 0.98, 0.80, 0.44),
    "through": (0.56, 0.90, 1.00, 0.98, 0.90, 0.66),
    "goods": (0.60, 0.80, 0.90, 0.92, 1.00, 1.00),
    "goods_through": (0.66, 0.88, 0.94, 0.94, 1.00, 1.00),
}
# Vehicles an hour at the peak of the purpose with SCALE_STREET_KM of streets; mean crow-fly length [m].
PURPOSE_TRIPS: Mapping[str, tuple[float, float]] = {
    "work": (10_500.0, 3_200.0),
    "school": (3_800.0, 1_300.0),
    "other": (5_500.0, 1_900.0),
    "in": (12_000.0, 5_500.0),
    "out": (7_000.0, 5_500.0),
    "through": (9_000.0, 12_000.0),
    "goods": (1_250.0, 4_000.0),
    "goods_through": (1_300.0, 12_000.0),
}
BICYCLE_TRIPS = (18_000.0, 1_700.0)
SCALE_STREET_KM = 1_300.0
FRINGE_WEIGHT = np.array([1.0, 0.62, 0.26, 0.15, 0.085, 0.03, 0.006, 0.002, 0.002, 0.0, 0.0])
TRUCK_UNITS = 2.0


@dataclass(frozen=True, slots=True)
class Zones:
    """Where trips begin and end.

    Attributes
    ----------
    xy : (n_zones, 2) float64
        Centre; the last ``n_fringe`` zones are single nodes at the edge of the network [m].
    n_fringe : int
    node, zone, share : (n_origins,)
        Nodes where trips begin, their zone, their share of its trips.
    destinations : (n_zones, N_SAMPLES) int64
        Nodes drawn by attraction.
    access : (n_zones, N_ACCESS) int64
        Nodes by which the engine's zones reach the streets.
    homes, jobs : (n_zones,) float64
        Size as an origin and a destination of internal trips, 0 at the fringe.
    gate_in, gate_out : (n_zones,) float64
        Size of a fringe zone as an entry and an exit, 0 inside.
    """

    xy: NDArray[np.float64]
    n_fringe: int
    node: NDArray[np.int64]
    zone: NDArray[np.int64]
    share: NDArray[np.float64]
    destinations: NDArray[np.int64]
    access: NDArray[np.int64]
    homes: NDArray[np.float64]
    jobs: NDArray[np.float64]
    gate_in: NDArray[np.float64]
    gate_out: NDArray[np.float64]


def make_zones(
    streets: Streets,
    edges: Edges,
    seed: int,
    n_internal: int,
    land_use_log_sd: tuple[float, float] = LAND_USE_LOG_SD,
) -> Zones:
    """Internal zones (k-means of nodes) and one zone for every street that leaves the network."""
    rng = np.random.default_rng([seed, 4])
    core = _core(edges)
    gates = _gates(edges, core)
    weight = _home_weight(edges) * core
    weight[gates] = 0.0
    inner = np.flatnonzero(weight > 0)
    n_internal = min(n_internal, inner.size)
    centre, label = kmeans2(
        streets.node_xy[inner], n_internal, minit="++", rng=np.random.default_rng([seed, 5])
    )
    used, label = np.unique(label, return_inverse=True)
    xy = np.concatenate([centre[used], streets.node_xy[gates]])
    n_inner, n_zones = used.size, used.size + gates.size

    zone = np.concatenate([label, n_inner + np.arange(gates.size)])
    node = np.concatenate([inner, gates])
    amount = np.concatenate([weight[inner] * np.exp(0.5 * rng.normal(size=inner.size)), np.ones(gates.size)])
    size = np.bincount(zone, amount, n_zones).astype(np.float64)
    share = amount / size[zone]
    attraction = np.concatenate(
        [weight[inner] * np.exp(0.9 * rng.normal(size=inner.size)), np.ones(gates.size)]
    )
    destinations = np.empty((n_zones, N_SAMPLES), dtype=np.int64)
    access = np.empty((n_zones, N_ACCESS), dtype=np.int64)
    for z in range(n_zones):
        members = np.flatnonzero(zone == z)
        p = attraction[members] / attraction[members].sum()
        destinations[z] = node[rng.choice(members, N_SAMPLES, p=p)]
        access[z] = node[rng.choice(members, N_ACCESS, p=p)]
    homes, jobs = _sizes(xy[:n_inner], size[:n_inner], land_use_log_sd, rng)
    gate_in, gate_out = (_gate_size(edges, gates, side) for side in (edges.tail, edges.head))
    pad, none = np.zeros(gates.size), np.zeros(n_inner)
    return Zones(
        xy=xy,
        n_fringe=int(gates.size),
        node=node,
        zone=zone,
        share=share,
        destinations=destinations,
        access=access,
        homes=np.concatenate([homes, pad]),
        jobs=np.concatenate([jobs, pad]),
        gate_in=np.concatenate([none, gate_in]),
        gate_out=np.concatenate([none, gate_out]),
    )


def _core(edges: Edges) -> NDArray[np.bool_]:
    """Nodes that reach and are reached by most others, (n_nodes,)."""
    graph = coo_array((np.ones(edges.tail.size), (edges.tail, edges.head)), shape=(edges.n_nodes,) * 2)
    _, label = connected_components(graph, connection="strong")
    core: NDArray[np.bool_] = label == np.bincount(label).argmax()
    return core


def _gates(edges: Edges, core: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Nodes where a street of class 0-5 ends, or where a one-way street begins or goes nowhere."""
    pairs = np.unique(np.sort(np.stack([edges.tail, edges.head], axis=1), axis=1), axis=0)
    arms = np.bincount(pairs.ravel(), minlength=edges.n_nodes)
    best = np.full(edges.n_nodes, 99)
    np.minimum.at(best, edges.tail, edges.road_class)
    np.minimum.at(best, edges.head, edges.road_class)
    n_out, n_in = (np.bincount(side, minlength=edges.n_nodes) for side in (edges.tail, edges.head))
    beside = core.copy()
    beside[edges.tail[core[edges.head]]] = True
    beside[edges.head[core[edges.tail]]] = True
    one_way = (n_out == 0) | (n_in == 0)
    # A chain of one-way pieces may lead to the end: it belongs to the gate even if it is not beside the core.
    return np.flatnonzero(((arms == 1) & (best <= 5) & beside) | (one_way & (best <= 4) & (arms > 0)))


def _gate_size(edges: Edges, gates: NDArray[np.int64], side: NDArray[np.int64]) -> NDArray[np.float64]:
    best = np.full(edges.n_nodes, len(FRINGE_WEIGHT) - 1)
    np.minimum.at(best, side, edges.road_class)
    return FRINGE_WEIGHT[best[gates]]


def _home_weight(edges: Edges) -> NDArray[np.float64]:
    """Half the length of the streets of class 4 to 8 at a node, (n_nodes,) [m]."""
    lived_in = (edges.road_class >= 4) & (edges.road_class <= 8)
    length = edges.length_m * lived_in * np.where(edges.road_class == 4, 0.5, 1.0)
    at_node: NDArray[np.float64] = np.zeros(edges.n_nodes)
    for side in (edges.tail, edges.head):
        np.add.at(at_node, side, length)
    return at_node


def _sizes(
    xy: NDArray[np.float64],
    street_m: NDArray[np.float64],
    log_sd: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Homes and jobs of internal zones: denser towards the middle, each zone by its own chance."""
    middle = np.average(xy, axis=0, weights=street_m**0.5)
    middle = np.average(xy, axis=0, weights=np.exp(-np.hypot(*(xy - middle).T) / 3000.0))
    distance = np.hypot(*(xy - middle).T)
    homes = street_m * (0.3 + np.exp(-distance / 3000.0)) * np.exp(log_sd[0] * rng.normal(size=len(xy)))
    luck = np.exp(log_sd[1] * rng.normal(size=len(xy)))
    jobs = street_m * (0.2 + 1.8 * np.exp(-distance / 2200.0)) * luck
    return homes, jobs


def sectors(zones: Zones, seed: int) -> NDArray[np.int64]:
    """Sector of every zone, (n_zones,): neighbours whose trips have something in common."""
    n_sectors = min(N_SECTORS, len(zones.xy))
    sector = kmeans2(zones.xy, n_sectors, minit="++", rng=np.random.default_rng([seed, 7]))[1]
    return sector.astype(np.int64)


def purpose_matrices(
    zones: Zones, street_km: float, seed: int, length_factor: Mapping[str, float] = MappingProxyType({})
) -> dict[str, NDArray[np.float64]]:
    """Trips between zones at the peak of each purpose, each (n_zones, n_zones) [1/h].

    ``length_factor`` multiplies the mean length of a purpose's trips and divides their number.
    """
    rng = np.random.default_rng([seed, 6])
    sector = sectors(zones, seed)
    distance = np.hypot(*(zones.xy[:, None] - zones.xy[None]).T).T
    goods = [zones.jobs + 6.0 * zones.jobs.mean() * gate for gate in (zones.gate_in, zones.gate_out)]
    sides = {
        "work": (zones.homes, zones.jobs),
        "school": (zones.homes, zones.homes**0.7),
        "other": (zones.homes + 0.3 * zones.jobs, zones.jobs + 0.3 * zones.homes),
        "in": (zones.gate_in, zones.jobs),
        "out": (zones.homes, zones.gate_out),
        "through": (zones.gate_in, zones.gate_out),
        "goods": (goods[0], goods[1]),
        "goods_through": (zones.gate_in**1.3, zones.gate_out**1.3),
    }  # fmt: skip
    matrices = {}
    for purpose, (origin, destination) in sides.items():
        total, length_m = PURPOSE_TRIPS[purpose]
        factor = length_factor.get(purpose, 1.0)
        deterrence = np.exp(-distance / (factor * length_m))
        if "through" in purpose:  # nobody drives in and out at the same side of the city
            deterrence = 1.0 - np.exp(-((distance / 7000.0) ** 4))
        pull = origin[:, None] * destination[None] * deterrence
        matrices[purpose] = _disturbed(pull, sector, rng) * (total / factor * street_km / SCALE_STREET_KM)
    return matrices


def bicycle_matrix(
    zones: Zones, street_km: float, seed: int, length_factor: float = 1.0
) -> NDArray[np.float64]:
    """Bicycle trips between zones at the peak, (n_zones, n_zones) [1/h]."""
    rng = np.random.default_rng([seed, 8])
    sector = sectors(zones, seed)
    total, length_m = BICYCLE_TRIPS[0] / length_factor, BICYCLE_TRIPS[1] * length_factor
    distance = np.hypot(*(zones.xy[:, None] - zones.xy[None]).T).T
    origin = zones.homes**0.9 + 0.25 * zones.homes.mean() * (zones.gate_in + zones.gate_out > 0)
    destination = zones.jobs + 0.4 * zones.homes
    pull = origin[:, None] * destination[None] * np.exp(-distance / length_m)
    return _disturbed(pull, sector, rng) * (total * street_km / SCALE_STREET_KM)


def _disturbed(
    pull: NDArray[np.float64], sector: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Chance on sector pairs and zone pairs; sums to 1."""
    n_sectors = int(sector.max()) + 1
    pair = rng.normal(size=(n_sectors, n_sectors))[sector[:, None], sector[None]]
    trips = pull * np.exp(SECTOR_PAIR_LOG_SD * pair + OD_LOG_SD * rng.normal(size=pull.shape))
    np.fill_diagonal(trips, 0.0)
    total = trips.sum()
    return trips / total if total > 0 else trips
