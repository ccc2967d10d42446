"""Speed of a stream from its flow, corrected by what is measured.

The free-flow speed of a street and the volume-delay function of the Bureau of Public Roads give a first
speed; measured speeds move it, fully on their own edge and damped on streets of like class nearby.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.spatial import cKDTree

from kernels.assignment import BPR_ALPHA, BPR_BETA

REACH_M = 600.0
NEIGHBOUR_DAMPING = 1.0  # neighbours weigh against one imagined sensor that measures no deviation
CLASS_DAMPING = 4.0
MIN_SPEED_KMH = 3.0


def volume_delay_speed(
    free_kmh: NDArray[np.float64], flow_per_h: NDArray[np.float64], capacity_per_h: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Speed v0 / (1 + 0.15 (v / c)^4), not below 3 km/h [km/h]."""
    delay = 1.0 + BPR_ALPHA * np.minimum(flow_per_h / capacity_per_h, 3.0) ** BPR_BETA
    return np.maximum(free_kmh / delay, MIN_SPEED_KMH)


@dataclass(frozen=True, slots=True)
class SpeedCorrection:
    """How deviations of measured speeds spread: own edge, class, neighbourhood.

    Attributes
    ----------
    edge : (n_sites,) int64
        Edge of each measuring site.
    road_class : (n_edges,) int64
    near : (n_edges, n_sites) sparse
        exp(-d^2 / 2 (300 m)^2) to sites of the same class within 600 m.
    """

    edge: NDArray[np.int64]
    road_class: NDArray[np.int64]
    near: csr_array

    def factor(self, log_ratio: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Factor on the speed of every edge, (n_edges,).

        Parameters
        ----------
        log_ratio, weight : (n_sites,) float64
            log(measured / modelled speed) of each site and its weight, 0 without a fresh measurement.
        """
        n_classes = int(self.road_class.max(initial=0)) + 1
        at = self.road_class[self.edge]
        by_class = np.bincount(at, weight * log_ratio, n_classes) / (
            np.bincount(at, weight, n_classes) + CLASS_DAMPING
        )
        log_factor = by_class[self.road_class]
        rest = log_ratio - log_factor[self.edge]
        log_factor = log_factor + (self.near @ (weight * rest)) / (self.near @ weight + NEIGHBOUR_DAMPING)
        own = np.bincount(self.edge, weight, self.road_class.size)
        measured = np.bincount(self.edge, weight * log_ratio, self.road_class.size)
        share = np.minimum(own, 1.0)
        mean = measured / np.where(own > 0, own, 1.0)
        return np.exp(share * mean + (1.0 - share) * log_factor)


def speed_correction(
    xy: NDArray[np.float64], road_class: NDArray[np.int64], edge: NDArray[np.int64]
) -> SpeedCorrection:
    """Weights from the middle of each edge, (n_edges, 2) [m], and the edges of the sites."""
    n_edges, n_sites = xy.shape[0], edge.size
    if n_sites == 0:
        return SpeedCorrection(edge, road_class, csr_array((n_edges, 0)))
    pairs = cKDTree(xy).query_ball_point(xy[edge], REACH_M)
    site = np.repeat(np.arange(n_sites), [len(p) for p in pairs])
    at = np.concatenate([np.sort(np.asarray(p, dtype=np.int64)) for p in pairs])
    like = road_class[at] == road_class[edge[site]]
    site, at = site[like], at[like]
    d2 = ((xy[at] - xy[edge[site]]) ** 2).sum(axis=1)
    weight = np.exp(-d2 / (2.0 * (REACH_M / 2.0) ** 2))
    near = coo_array((weight, (at, site)), shape=(n_edges, n_sites)).tocsr()
    return SpeedCorrection(edge, road_class, near)
