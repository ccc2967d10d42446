"""Near field of SRM2 roads: coefficients at the receptors beside each road, for one wind.

A road is halved again and again where it is near, until its elements are short against their distance; each
has four points of Gauss-Legendre, so that also the ends of a road are right. (Equal points have errors of
second order there: 2 % where their distance is that of the plume's standard deviation.) Nearer than the first
nodes of the far field all of it is counted, farther a share that falls smoothly to zero
(:mod:`kernels.far_field` counts the rest).

In float32, eight receptors at a time: the plume is a polynomial in R / (R + 20 m), the spread in direction a
power of the cosine (:class:`kernels.srm2.Winds`), so that there is no branch and no table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels import srm2
from kernels.fixedpoint import AIR_COEFFICIENT_BITS
from kernels.receptors import BLOCK, ReceptorBlocks
from kernels.runs import Allocate, Runs, block_boxes, in_parts

SHORTEST_M = 2.0  # elements are not halved below; distances under 3.5 m count as 3.5 m
# An element is at most this long against the distance of its middle, with so many points: 3e-4 of an hour's
# plume for a road of 50 m beside it. 2 points and 0.4 cost as much and are ten times worse, 3 and 0.9 too.
LENGTH_PER_DISTANCE = 0.9
N_GAUSS = 4
_GAUSS_NODE, _weight = np.polynomial.legendre.leggauss(N_GAUSS)
GAUSS_SHARE = 0.5 * _weight  # of an element that each of its points stands for
FIT_DEGREE = 10  # within 1e-3 of the plume over 3.5 to 300 m (tested)
COEFFICIENT_LIMIT = 2.0 - 2.0**-22  # of an int32, as float32; only a bounding coefficient may reach it
_FIT_M = 20.0
_FLOAT = np.float32
_DISTANCE_MIN = _FLOAT(srm2.DISTANCE_MIN_M)
_HALF, _ZERO, _ONE, _SIX, _TEN, _FIFTEEN = (_FLOAT(v) for v in (0.5, 0.0, 1.0, 6.0, 10.0, 15.0))
_FIT = _FLOAT(_FIT_M)
_QUANTA = _FLOAT(2.0**AIR_COEFFICIENT_BITS)
_LIMIT = _FLOAT(COEFFICIENT_LIMIT)


@dataclass(frozen=True, slots=True)
class Elements:
    """Each road as a binary tree: element 0 is the whole road, the halves of i are 2 i + 1 and 2 i + 2.

    Attributes
    ----------
    start : (n_roads + 1,) int64
        Elements of road r are ``start[r]:start[r + 1]``.
    middle : (n, 2) float32
        Relative to the origin of the receptors [m].
    point : (n, N_GAUSS, 2) float32
        Points of Gauss-Legendre [m].
    length_m : (n,) float32
    """

    start: NDArray[np.int64]
    middle: NDArray[np.float32]
    point: NDArray[np.float32]
    length_m: NDArray[np.float32]


def points_on(line: NDArray[np.float64], n_elements: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gauss points on equal elements of a polyline, and the share of an element that each stands for.

    Returns
    -------
    xy : (n_elements, N_GAUSS, 2) float64 [m], share : (N_GAUSS,) float64
    """
    at = (np.arange(n_elements)[:, None] + 0.5 + 0.5 * _GAUSS_NODE) / n_elements
    return _along(line, at.ravel()).reshape(n_elements, N_GAUSS, 2), GAUSS_SHARE


def elements(lines: list[NDArray[np.float64]]) -> Elements:
    """Trees of roads; lines relative to the origin of the receptors [m]."""
    start, middle, point, length = [0], [np.empty((0, 2))], [np.empty((0, N_GAUSS, 2))], [np.empty(0)]
    for line in lines:
        total = length_of(line)
        depth = max(0, int(np.ceil(np.log2(max(total, SHORTEST_M) / SHORTEST_M))))
        for level in range(depth + 1):
            n = 2**level
            middle.append(_along(line, (np.arange(n) + 0.5) / n))
            point.append(points_on(line, n)[0])
            length.append(np.full(n, total / n))
        start.append(start[-1] + 2 ** (depth + 1) - 1)
    return Elements(
        np.array(start, dtype=np.int64),
        np.concatenate(middle).astype(np.float32),
        np.concatenate(point).astype(np.float32),
        np.concatenate(length).astype(np.float32),
    )


def length_of(line: NDArray[np.float64]) -> float:
    """Length of a polyline, (m, 2) [m]."""
    return float(np.hypot(*np.diff(line, axis=0).T).sum())


def _along(line: NDArray[np.float64], share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points at shares of the length of a polyline, (n, 2)."""
    at = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    place = share * at[-1]
    return np.stack([np.interp(place, at, line[:, 0]), np.interp(place, at, line[:, 1])], axis=1)


def plume_fit(
    reach_m: float, roughness: srm2.Roughness, sigma_z0_m: float, rule: srm2.SigmaZRule
) -> NDArray[np.float32]:
    """Polynomial of R times the plume in R / (R + 20 m), 3.5 m to the reach, (11,), lowest power first."""
    low, high = (r / (r + _FIT_M) for r in (srm2.DISTANCE_MIN_M, reach_m))
    t = low + (high - low) * (0.5 - 0.5 * np.cos(np.pi * (np.arange(400) + 0.5) / 400))
    value = np.array(
        [srm2.distance_times_plume(r, roughness, sigma_z0_m, rule) for r in _FIT_M * t / (1.0 - t)]
    )
    fit = np.polynomial.Polynomial.fit(
        t, value, FIT_DEGREE, domain=[low, high], window=[low, high], w=1 / value
    )
    return np.asarray(fit.coef, dtype=np.float32)


def near_coefficients(
    runs: Runs,
    blocks: ReceptorBlocks,
    points: Elements,
    fits: NDArray[np.float32],
    fit_of: NDArray[np.int32],
    winds: srm2.Winds,
    blend_m: tuple[float, float],
    allocate: Allocate,
) -> NDArray[np.int32]:
    """Coefficients of every road for a wind [2^-30 (ug/m3)/(ug/m/s) at 5 m/s], (n_coefficients,).

    Parameters
    ----------
    fits : (n_fits, 11) float32, fit_of : (n_roads,) int32
        See :func:`plume_fit`.
    blend_m : (float, float)
        Distances between which the near field fades out [m]; infinite: it does not.

    Raises
    ------
    kernels.srm2.Srm2Error
        For a coefficient that an int32 cannot hold.
    """
    out = allocate((runs.n_coefficients,), np.int32)
    box = block_boxes(blocks)
    toward = winds.toward.astype(np.float32)
    inner, outer = blend_m
    per_blend = _FLOAT(1.0 / (outer - inner)) if np.isfinite(outer) else _ZERO
    blend_from = _FLOAT(inner) if np.isfinite(inner) else _ZERO

    most = (int(np.diff(points.start).max(initial=1)) + 1) // 2 * N_GAUSS
    share = GAUSS_SHARE.astype(np.float32)

    def fill(low: int, high: int) -> float:
        return float(
            _fill(
                out, runs.start, runs.block, runs.offset, box, blocks.x, blocks.y, points.start,
                points.middle, points.point, share, points.length_m, fits, fit_of, toward,
                _FLOAT(winds.uniform), _FLOAT(winds.mean_density), blend_from, per_blend, most, low, high,
            )
        )  # fmt: skip

    largest = max((float(v) for v in in_parts(fill, runs.n_columns)), default=0.0)  # type: ignore[arg-type]
    if not largest < COEFFICIENT_LIMIT:
        raise srm2.Srm2Error(f"coefficient of an SRM2 road: got {largest}, expected below 2 (ug/m3)/(ug/m/s)")
    return out


# contract lets a product and a sum become one instruction; nothing is reordered, so results repeat.
@njit(cache=True, error_model="numpy", nogil=True, fastmath={"contract", "nnan", "ninf", "nsz"})
def _add_points(
    total: NDArray[np.float32],
    w: NDArray[np.float32],
    r: NDArray[np.float32],
    inverse: NDArray[np.float32],
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    point: NDArray[np.float32],
    n_points: int,
    fit: NDArray[np.float32],
    toward: NDArray[np.float32],
    uniform: np.float32,
    mean_density: np.float32,
    blend_from: np.float32,
    per_blend: np.float32,
) -> None:
    """Add points, each of x, y and ug/s, to the receptors of a block."""
    c0, c1, c2, c3, c4, c5 = fit[0], fit[1], fit[2], fit[3], fit[4], fit[5]
    c6, c7, c8, c9, c10 = fit[6], fit[7], fit[8], fit[9], fit[10]
    n = x.size
    for p in range(n_points):
        px, py, weight = point[p, 0], point[p, 1], point[p, 2]
        for k in range(n):
            dx, dy = x[k] - px, y[k] - py
            r[k] = np.sqrt(dx * dx + dy * dy)
            # direction to the receptor, as if from 3.5 m if it is nearer: there it fades
            inverse[k] = _ONE / max(r[k], _DISTANCE_MIN)
            w[k] = uniform
        for i in range(toward.shape[0]):
            tx, ty, peak = _HALF * toward[i, 0], _HALF * toward[i, 1], toward[i, 2]
            for k in range(n):
                dx, dy = x[k] - px, y[k] - py
                power = max(_HALF + (dx * tx + dy * ty) * inverse[k], _ZERO)
                power *= power
                power *= power
                power *= power
                power *= power
                power *= power
                w[k] += peak * power
        for k in range(n):
            t = _ONE / (_ONE + _FIT * inverse[k])
            plume = c9 + t * c10
            plume = c8 + t * plume
            plume = c7 + t * plume
            plume = c6 + t * plume
            plume = c5 + t * plume
            plume = c4 + t * plume
            plume = c3 + t * plume
            plume = c2 + t * plume
            plume = c1 + t * plume
            plume = c0 + t * plume
            b = min(max((r[k] - blend_from) * per_blend, _ZERO), _ONE)
            near = max(_ONE - b * b * b * (b * (_SIX * b - _FIFTEEN) + _TEN), _ZERO)
            spread = mean_density + r[k] * inverse[k] * (w[k] - mean_density)
            total[k] += weight * (near * spread * plume * inverse[k])


@njit(cache=True, error_model="numpy", nogil=True, fastmath={"nnan", "ninf", "nsz"})
def _quantise(out: NDArray[np.int32], value: NDArray[np.float32]) -> np.float32:
    """Coefficients of values; returns the largest."""
    largest = _ZERO
    for k in range(value.size):
        largest = max(largest, value[k])
        out[k] = np.int32(np.rint(min(value[k], _LIMIT) * _QUANTA))
    return largest


@njit(cache=True, error_model="numpy", nogil=True)
def _pick(
    out: NDArray[np.float32],
    stack: NDArray[np.int64],
    box: NDArray[np.float64],
    middle: NDArray[np.float32],
    point: NDArray[np.float32],
    share: NDArray[np.float32],
    length: NDArray[np.float32],
) -> int:
    """Points of the largest elements that are short against their distance to a box; returns how many."""
    mx, my = 0.5 * (box[0] + box[1]), 0.5 * (box[2] + box[3])
    hx, hy = box[1] - mx, box[3] - my
    n, depth = 0, 1
    stack[0] = 0
    while depth > 0:
        depth -= 1
        i = stack[depth]
        dx = max(abs(middle[i, 0] - mx) - hx, 0.0)
        dy = max(abs(middle[i, 1] - my) - hy, 0.0)
        reach = LENGTH_PER_DISTANCE * np.sqrt(dx * dx + dy * dy)
        if length[i] > reach and 2 * i + 2 < length.size:
            stack[depth] = 2 * i + 2
            stack[depth + 1] = 2 * i + 1
            depth += 2
        else:
            for g in range(N_GAUSS):
                out[n, 0], out[n, 1], out[n, 2] = point[i, g, 0], point[i, g, 1], share[g] * length[i]
                n += 1
    return n


@njit(cache=True, error_model="numpy", nogil=True)
def _fill(
    out: NDArray[np.int32],
    start: NDArray[np.int64],
    block: NDArray[np.int32],
    offset: NDArray[np.int64],
    box: NDArray[np.float64],
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    element_start: NDArray[np.int64],
    middle: NDArray[np.float32],
    point: NDArray[np.float32],
    share: NDArray[np.float32],
    length: NDArray[np.float32],
    fits: NDArray[np.float32],
    fit_of: NDArray[np.int32],
    toward: NDArray[np.float32],
    uniform: np.float32,
    mean_density: np.float32,
    blend_from: np.float32,
    per_blend: np.float32,
    most: int,
    low: int,
    high: int,
) -> float:
    work = np.empty((4, BLOCK), dtype=np.float32)
    total, w, distance, inverse = work[0], work[1], work[2], work[3]
    picked = np.empty((most, 3), dtype=np.float32)
    stack = np.empty(64, dtype=np.int64)
    largest = _ZERO
    for r in range(low, high):
        fit, some = fits[fit_of[r]], slice(element_start[r], element_start[r + 1])
        of_middle, of_point, of_length = middle[some], point[some], length[some]
        for run in range(start[r], start[r + 1]):
            at = offset[run]
            for b in range(block[run], block[run] + (offset[run + 1] - at) // BLOCK):
                n_points = _pick(picked, stack, box[b], of_middle, of_point, share, of_length)
                total[:] = _ZERO
                _add_points(
                    total, w, distance, inverse, x[b], y[b], picked, n_points, fit, toward, uniform,
                    mean_density, blend_from, per_blend,
                )  # fmt: skip
                largest = max(largest, _quantise(out[at : at + BLOCK], total))
                at += BLOCK
    return np.float64(largest)
