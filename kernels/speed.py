"""Speed and density of a stream from its flow, corrected by what is measured.

The free-flow speed of a street and the volume-delay function of the Bureau of Public Roads give a first
speed; measured speeds move it, fully on their own edge and damped on streets of like class nearby. Density is
flow / speed within a fundamental diagram by class of road [1]_, [2]_: free below the critical density, jammed
at most.

References
----------
.. [1] B. D. Greenshields, "A study of traffic capacity", Highway Research Board Proceedings 14, 1935: speed
   falls with density, down to zero in a jam.
.. [2] C. F. Daganzo, "The cell transmission model", Transportation Research B 28, 1994: capacity and jam
   density as the corners of the diagram.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.spatial import cKDTree

from kernels.assignment import BPR_ALPHA, BPR_BETA

JAM_PER_KM = 130.0  # vehicles on a kilometre of lane that stands still: 7.7 m each
REACH_M = 600.0
NEIGHBOUR_DAMPING = 1.0  # neighbours weigh against one imagined sensor that measures no deviation
CLASS_DAMPING = 4.0
HALF_LIFE_MS = 3_600_000  # of the say of a measured speed
LEAST_WEIGHT = 0.05
MIN_SPEED_KMH = 3.0


def volume_delay_speed(
    free_kmh: NDArray[np.float64], flow_per_h: NDArray[np.float64], capacity_per_h: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Speed v0 / (1 + 0.15 (v / c)^4), not below 3 km/h [km/h]."""
    delay = 1.0 + BPR_ALPHA * np.minimum(flow_per_h / capacity_per_h, 3.0) ** BPR_BETA
    return np.maximum(free_kmh / delay, MIN_SPEED_KMH)


@dataclass(frozen=True, slots=True)
class FundamentalDiagram:
    """Which flows, speeds and densities of a direction of a street go together.

    Attributes
    ----------
    free_kmh, capacity_per_h, jam_per_km : (n_edges,) float64
        Free speed, capacity and jam density of all lanes of the direction.
    """

    free_kmh: NDArray[np.float64]
    capacity_per_h: NDArray[np.float64]
    jam_per_km: NDArray[np.float64]

    @property
    def critical_kmh(self) -> NDArray[np.float64]:
        """Speed at capacity [km/h]: slower is the congested branch."""
        return self.free_kmh / (1.0 + BPR_ALPHA)

    @property
    def critical_per_km(self) -> NDArray[np.float64]:
        """Density at capacity [1/km]."""
        return np.minimum(self.capacity_per_h / self.critical_kmh, self.jam_per_km)

    def free_speed(self, flow_per_h: NDArray[np.float64]) -> NDArray[np.float64]:
        """Speed where nobody measured one, (n_edges,) [km/h]."""
        return volume_delay_speed(self.free_kmh, flow_per_h, self.capacity_per_h)

    def possible_speed(
        self, flow_per_h: NDArray[np.float64], speed_kmh: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Speed, raised where flow / speed would be denser than a jam, (n_edges,) [km/h].

        Below the critical speed density follows from the measured speed as flow / speed: the diagram only
        bounds it. That a capacity is assumed forbids more. Density read off the line between capacity and jam
        was tried for inferred flows: on Ghent's ways between cameras the error of the speed that goes with it
        rose from 6.9 to 7.6 km/h, and to 7.3 with capacities half as large again.
        """
        return np.maximum(speed_kmh, flow_per_h / self.jam_per_km)


def measured_weight(age_ms: NDArray[np.int64]) -> NDArray[np.float64]:
    """Say of measured speeds by their age: halved in an hour, nothing after four and a half."""
    weight = 0.5 ** (np.maximum(age_ms, 0) / HALF_LIFE_MS)
    return np.where(weight < LEAST_WEIGHT, 0.0, weight)


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
        share = self.own_share(weight)
        mean = measured / np.where(own > 0, own, 1.0)
        return np.exp(share * mean + (1.0 - share) * log_factor)

    def own_share(self, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Say of its own measurements in the speed of each edge, 0 to 1: (n_edges,)."""
        return np.minimum(np.bincount(self.edge, weight, self.road_class.size), 1.0)


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
