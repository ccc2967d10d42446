"""Which segments make the concentration at one receptor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels import srm1, srm2
from kernels.air_columns import AirColumns
from kernels.air_fields import QUANTUM_UG_PER_M3
from kernels.emission import Pollutant
from kernels.fixedpoint import emission_of
from kernels.near_field import GAUSS_SHARE, LENGTH_PER_DISTANCE
from kernels.runs import coefficients_at


@dataclass(frozen=True, slots=True)
class Contributor:
    """What one segment gives at a receptor.

    Attributes
    ----------
    segment : int
    share : float
        Of the traffic's contribution; of NO2, of its NOx.
    ug_per_m3 : float
    """

    segment: int
    share: float
    ug_per_m3: float


def contributions_at(
    columns: AirColumns, place: int, emission: NDArray[np.int64], winds: srm2.Winds, wind_m_s: float
) -> NDArray[np.float64]:
    """Contribution of every segment at one receptor for an hour's wind [ug/m3], (n_segments, 4).

    Roads are summed directly, without the split into near and far field; the sum over segments is the field
    within what that split costs.

    Parameters
    ----------
    place : int
        Of the receptor in ``columns.blocks``.
    emission : (n_segments, 4) int64
        [2^-20 ug/m/s].
    """
    street = coefficients_at(columns.streets, columns.street_coefficient, place, columns.blocks)
    factor = srm1.hourly_factor(wind_m_s, columns.mean_wind_m_s) * QUANTUM_UG_PER_M3
    out = factor * street[:, None].astype(np.float64) * emission
    if columns.n_roads:
        x, y = float(columns.blocks.x.ravel()[place]), float(columns.blocks.y.ravel()[place])
        r = srm2.ROUGHNESS[columns.roughness]
        road = np.empty(columns.n_roads)
        elements = columns.elements
        _roads_at(
            road, x, y, elements.start, elements.middle, elements.point.astype(np.float64),
            GAUSS_SHARE, elements.length_m,
            columns.sigma_z0_m, np.array([r.a, r.b, r.z0_m, r.obukhov_m, r.calibration]), columns.rule,
            winds.toward, winds.uniform, winds.mean_density,
        )  # fmt: skip
        road *= srm2.hourly_factor(wind_m_s)
        out[columns.road_segment] += road[:, None] * emission_of(emission[columns.road_segment])
    return np.asarray(out)


def strongest(
    contributions: NDArray[np.float64], species: Pollutant, ug_per_m3: float, n: int
) -> tuple[tuple[Contributor, ...], float]:
    """The segments that give most of one species, and the share of all others; the shares add up to one.

    Parameters
    ----------
    contributions : (n_segments, 4) float64
    species : Pollutant
        By which shares are measured.
    ug_per_m3 : float
        What the traffic gives of the quantity that is explained.
    n : int
        How many at most. Equal ones go by the number of the segment.
    """
    of_species = contributions[:, species]
    total = float(of_species.sum())
    if not total > 0.0:
        return (), 0.0
    order = np.argsort(-of_species, kind="stable")[:n]
    share = of_species[order] / total
    some = [
        Contributor(int(s), float(f), float(f) * ug_per_m3)
        for s, f in zip(order, share, strict=True)
        if f > 0.0
    ]
    return tuple(some), max(0.0, 1.0 - sum(c.share for c in some))


@njit(cache=True, error_model="numpy")
def _roads_at(
    out: NDArray[np.float64],
    x: float,
    y: float,
    start: NDArray[np.int64],
    middle: NDArray[np.float32],
    point: NDArray[np.float64],
    weight: NDArray[np.float64],
    length: NDArray[np.float32],
    sigma_z0: NDArray[np.float64],
    roughness: NDArray[np.float64],
    rule: int,
    toward: NDArray[np.float64],
    uniform: float,
    mean_density: float,
) -> None:
    """Coefficient of each road at a point, at 5 m/s [(ug/m3)/(ug/m/s)]."""
    stack = np.empty(64, dtype=np.int64)
    for r in range(out.size):
        total, depth, n = 0.0, 1, start[r + 1] - start[r]
        stack[0] = 0
        while depth > 0:
            depth -= 1
            i = start[r] + stack[depth]
            reach = LENGTH_PER_DISTANCE * np.hypot(x - middle[i, 0], y - middle[i, 1])
            child = 2 * stack[depth] + 1
            if length[i] > reach and child + 1 < n:
                stack[depth], stack[depth + 1] = child + 1, child
                depth += 2
                continue
            for g in range(weight.size):
                dx, dy = x - point[i, g, 0], y - point[i, g, 1]
                distance = np.hypot(dx, dy)
                limited = max(distance, srm2.DISTANCE_MIN_M)
                w = srm2.density(dx / limited, dy / limited, toward, uniform)
                w = mean_density + distance / limited * (w - mean_density)
                plume = srm2.plume_at(
                    limited,
                    roughness[0],
                    roughness[1],
                    roughness[2],
                    roughness[3],
                    roughness[4],
                    sigma_z0[r],
                    rule,
                )
                total += weight[g] * length[i] * plume * w / srm2.REFERENCE_WIND_M_S
        out[r] = total
