"""Propagation of sound in the vertical plane through source and receiver: CNOSSOS-EU.

Annex II, 2.5 of Directive 2002/49/EC as amended by 2021/1226: ground effect over mean ground planes,
diffraction over the convex hull of the profile with the ground effect on both sides, reflection on a vertical
surface, each in the homogeneous and in the favourable state (downward refraction). Sound that goes around the
vertical edges of obstacles is not part of it: the directive leaves it out for roads. Valid to 800 m, for
receivers from 2 m high, in octaves of 63 Hz to 8 kHz; c = 340 m/s.

Everything is computed as energy, 10^(-A/10), so that a band needs neither logarithms nor powers.
:class:`Profiles` holds many paths in flat arrays. One path is a chain of points (x, z) from source to
receiver, along the ground and over whatever stands on it: a vertical face is two points at the same x, a wall
three, a building four. In mean planes and ground factors vertical faces have no weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.propagation import OCTAVE_BANDS_HZ, SPEED_OF_SOUND_M_S

N_BANDS = 8

_A0_PER_M = 2e-4  # curvature of sound rays in the favourable state
_THIN_M = 0.3  # edges closer than this diffract as one
_MAX_DIFFRACTION = 10.0**2.5  # 25 dB
_NEAR_M = 1e-3  # a plane over a shorter stretch has no direction of its own

_K_PER_M = 2.0 * np.pi * OCTAVE_BANDS_HZ / SPEED_OF_SOUND_M_S
_INVERSE_K = 1.0 / _K_PER_M
_FOUR_K2 = 4.0 * _K_PER_M**2
_WAVE_M = SPEED_OF_SOUND_M_S / OCTAVE_BANDS_HZ
_40_PER_WAVE = 40.0 / _WAVE_M
_W_TOP = 0.0185 * OCTAVE_BANDS_HZ**2.5
_W_2 = OCTAVE_BANDS_HZ**1.5
_W_1 = 1.3e3 * OCTAVE_BANDS_HZ**0.75
_MAX_DEPTH_M = float(_WAVE_M[0]) / 20.0  # no wave is longer: a point deeper below the ray diffracts nothing


# Layout of the workspace: eight numbers each, of edges sixteen (two states), then three for each point.
_GROUND, _GROUND_S, _EDGE, _NEAREST, _ENERGY, _OVER, _MOMENTS = 0, 8, 16, 32, 48, 56, 64


@dataclass(frozen=True, slots=True)
class Profiles:
    """Vertical profiles of many paths.

    Attributes
    ----------
    x, z : (n_points,) float64
        Distance along each path, never decreasing, and height of ground or obstacle [m].
    g : (n_points,) float64
        Ground factor from a point to the next, 0 on roofs; that of the last point of a path is not used.
    start : (n_paths + 1,) int64
        Path p has the points ``start[p]:start[p + 1]``, two or more.
    source_height_m, receiver_height_m : (n_paths,) float64
        Above the first and the last point.
    source_g : (n_paths,) float64
        Ground factor at the source; 0 for a road.
    distance_m : (n_paths,) float64
        Straight from source to receiver, through the image of the source where the path is reflected.
    reflector_x, reflector_top : (n_paths,) float64
        Where along the path a vertical surface reflects it, and the height of its upper edge there; NaN
        without reflection.
    reflected : (n_paths, 8) float64
        Share of the energy that the surface reflects, 1 - absorption; 1 without reflection.
    """

    x: NDArray[np.float64]
    z: NDArray[np.float64]
    g: NDArray[np.float64]
    start: NDArray[np.int64]
    source_height_m: NDArray[np.float64]
    receiver_height_m: NDArray[np.float64]
    source_g: NDArray[np.float64]
    distance_m: NDArray[np.float64]
    reflector_x: NDArray[np.float64]
    reflector_top: NDArray[np.float64]
    reflected: NDArray[np.float64]

    @property
    def n_paths(self) -> int:
        return int(self.start.size - 1)


def path_energies(
    profiles: Profiles, air_db_per_km: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Energy that reaches the receiver in the homogeneous and in the favourable state, for a source of 1.

    Parameters
    ----------
    profiles : Profiles
    air_db_per_km : (8,) float64
        Absorption by air (:func:`kernels.propagation.air_absorption_db_per_km`).

    Returns
    -------
    homogeneous, favourable : (n_paths, 8) float64
        10^(-A/10), with A of 2.5.5 and 2.5.7 [dB]: divergence, air, ground and diffraction, reflection.
    """
    n = profiles.n_paths
    longest = int(np.diff(profiles.start).max(initial=2))
    homogeneous, favourable = np.empty((n, N_BANDS)), np.empty((n, N_BANDS))
    work, stack = workspace(longest)
    _paths(
        profiles.x, profiles.z, profiles.g, profiles.start, profiles.source_height_m,
        profiles.receiver_height_m, profiles.source_g, profiles.distance_m, profiles.reflector_x,
        profiles.reflector_top, profiles.reflected, np.asarray(air_db_per_km), work, stack, homogeneous,
        favourable,
    )  # fmt: skip
    return homogeneous, favourable


def workspace(n_points: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Arrays for one thread, for paths of up to ``n_points`` points."""
    return np.empty(_MOMENTS + 3 * n_points), np.empty(2 * n_points, dtype=np.int64)


@njit(cache=True, error_model="numpy", nogil=True)
def _paths(
    x: NDArray[np.float64],
    z: NDArray[np.float64],
    g: NDArray[np.float64],
    start: NDArray[np.int64],
    source_height_m: NDArray[np.float64],
    receiver_height_m: NDArray[np.float64],
    source_g: NDArray[np.float64],
    distance_m: NDArray[np.float64],
    reflector_x: NDArray[np.float64],
    reflector_top: NDArray[np.float64],
    reflected: NDArray[np.float64],
    air_db_per_km: NDArray[np.float64],
    work: NDArray[np.float64],
    stack: NDArray[np.int64],
    homogeneous: NDArray[np.float64],
    favourable: NDArray[np.float64],
) -> None:
    for p in range(start.size - 1):
        boundary_energy(
            x, z, g, start[p], start[p + 1], source_height_m[p], receiver_height_m[p], source_g[p],
            reflector_x[p], reflector_top[p], work, stack, p, homogeneous, favourable,
        )  # fmt: skip
        d = distance_m[p]
        divergence = 10.0**-1.1 / (d * d)
        for b in range(N_BANDS):
            work[_OVER + b] = divergence * _exp_minus(air_db_per_km[b] * d * (np.log(10.0) / 1e4))
        for b in range(N_BANDS):
            work[_OVER + b] *= reflected[p, b]
            homogeneous[p, b] *= work[_OVER + b]
            favourable[p, b] *= work[_OVER + b]


@njit(cache=True, error_model="numpy", nogil=True)
def boundary_energy(
    x: NDArray[np.float64],
    z: NDArray[np.float64],
    g: NDArray[np.float64],
    begin: int,
    end: int,
    source_height_m: float,
    receiver_height_m: float,
    source_g: float,
    reflector_x: float,
    reflector_top: float,
    work: NDArray[np.float64],
    stack: NDArray[np.int64],
    row: int,
    homogeneous: NDArray[np.float64],
    favourable: NDArray[np.float64],
) -> None:
    """10^(-A_boundary/10) of one path in both states, with the loss at the edge of a reflector.

    Parameters
    ----------
    x, z, g, begin, end, source_height_m, receiver_height_m, source_g, reflector_x, reflector_top
        As in :class:`Profiles`; the path has the points ``begin:end``.
    work, stack
        From :func:`workspace`.
    row : int
        Of the results.
    homogeneous, favourable : (n, 8) float64
        Results: this row is written.
    """
    half = stack.size // 2
    _moments(x, z, g, begin, end, work)
    searched = near = False
    n_edges = 1
    for state in range(2):
        is_favourable = state == 1
        at = state * half
        if n_edges > 0:  # rays that are bent down pass over whatever a straight one passes over
            n_edges = _hull(x, z, begin, end, source_height_m, receiver_height_m, is_favourable, stack, at)
        if n_edges == 0:
            if not searched:
                near = _near_edges(x, z, begin, end, source_height_m, receiver_height_m, work)
                searched = True
            _open_energy(
                x, z, begin, end, source_height_m, receiver_height_m, source_g, is_favourable, near, work,
                stack, at,
            )  # fmt: skip
        else:
            _diffracted_energy(
                x, z, begin, end, source_height_m, receiver_height_m, source_g, is_favourable, work, stack,
                at, n_edges,
            )  # fmt: skip
        if reflector_x == reflector_x:
            _lose_over_edge(
                x, z, begin, end, source_height_m, receiver_height_m, reflector_x, reflector_top,
                is_favourable, work, stack, at, n_edges,
            )  # fmt: skip
        for b in range(N_BANDS):
            if is_favourable:
                favourable[row, b] = work[_ENERGY + b]
            else:
                homogeneous[row, b] = work[_ENERGY + b]


@njit(cache=True, error_model="numpy", nogil=True)
def _exp_minus(y: float) -> float:
    """exp(-y) within 0.0003 dB for -3 < y < 30; a polynomial, so that the bands go side by side."""
    t = min(y, 60.0) * (1.0 / 64.0)
    p = 1.0 / 24.0 + t * (-1.0 / 120.0 + t * (1.0 / 720.0))
    p = 1.0 + t * (-1.0 + t * (0.5 + t * (-1.0 / 6.0 + t * p)))
    p *= p
    p *= p
    p *= p
    p *= p
    p *= p
    return p * p


@njit(cache=True, error_model="numpy", nogil=True)
def _moments(
    x: NDArray[np.float64],
    z: NDArray[np.float64],
    g: NDArray[np.float64],
    begin: int,
    end: int,
    work: NDArray[np.float64],
) -> None:
    """Integrals of z, x z and G from the first point to each, relative to it, into ``work``."""
    x0, z0 = x[begin], z[begin]
    m0 = m1 = mg = 0.0
    work[_MOMENTS] = work[_MOMENTS + 1] = work[_MOMENTS + 2] = 0.0
    for k in range(begin + 1, end):
        dx = x[k] - x[k - 1]
        left, right = z[k - 1] - z0, z[k] - z0
        m0 += 0.5 * dx * (left + right)
        m1 += dx * (0.5 * (x[k - 1] - x0) * (left + right) + dx * (left + 2.0 * right) * (1.0 / 6.0))
        mg += dx * g[k - 1]
        at = _MOMENTS + 3 * (k - begin)
        work[at], work[at + 1], work[at + 2] = m0, m1, mg


@njit(cache=True, error_model="numpy", nogil=True)
def _side(
    work: NDArray[np.float64],
    first: int,
    last: int,
    x_first: float,
    x_last: float,
    z_first: float,
    z_last: float,
) -> tuple[float, float, float, float, float, float]:
    """Mean ground plane between two points of the profile, and what stands at its ends.

    All relative to the first point of the profile. Gives the slope of the plane, the heights of both ends
    perpendicular to it (negative below it), the distance along it, the mean ground factor, and 1/sqrt(1 +
    slope^2).
    """
    length = x_last - x_first
    if length > _NEAR_M:
        i, j = _MOMENTS + 3 * first, _MOMENTS + 3 * last
        m0, m1 = work[j] - work[i], work[j + 1] - work[i + 1]
        middle = 0.5 * (x_first + x_last)
        a = 12.0 * (m1 - middle * m0) / (length * length * length)
        level = m0 / length
        g = (work[j + 2] - work[i + 2]) / length
    else:
        a, level, g, middle = 0.0, 0.0, 0.0, x_first
    c = 1.0 / np.sqrt(1.0 + a * a)
    h_first = c * (z_first - level - a * (x_first - middle))
    h_last = c * (z_last - level - a * (x_last - middle))
    dp = max(abs(c * (length + a * (z_last - z_first))), _NEAR_M)
    return a, h_first, h_last, dp, min(max(g, 0.0), 1.0), c


@njit(cache=True, error_model="numpy", nogil=True)
def _image(
    work: NDArray[np.float64], first: int, last: int, x_first: float, x_last: float, px: float, pz: float
) -> tuple[float, float]:
    """Image of a point in the mean ground plane between two points of the profile."""
    length = x_last - x_first
    i, j = _MOMENTS + 3 * first, _MOMENTS + 3 * last
    m0 = work[j] - work[i]
    middle = 0.5 * (x_first + x_last)
    per_length = 1.0 / length
    a = 12.0 * (work[j + 1] - work[i + 1] - middle * m0) * per_length * per_length * per_length
    twice = 2.0 * (pz - m0 * per_length - a * (px - middle)) / (1.0 + a * a)
    return px + twice * a, pz - twice


@njit(cache=True, error_model="numpy", nogil=True)
def _ground(
    zs: float,
    zr: float,
    dp: float,
    g_path: float,
    g_near: float,
    is_favourable: bool,
    work: NDArray[np.float64],
) -> None:
    """10^(-A_ground/10) of 2.5.14 to 2.5.20 into ``work``; ``g_near`` is G'_path."""
    zs, zr = max(zs, 0.0), max(zr, 0.0)
    heights = max(zs + zr, 1e-6)
    least_db = -3.0 * (1.0 - g_near)
    if is_favourable and dp > 30.0 * heights:
        least_db *= 1.0 + 2.0 * (1.0 - 30.0 * heights / dp)
    if g_path <= 0.0 and not is_favourable:
        least_db = -3.0
    least = _exp_minus(least_db * (np.log(10.0) / 10.0))
    if g_path <= 0.0:
        for b in range(N_BANDS):
            work[_GROUND + b] = least
        return
    g_w = g_near
    if is_favourable:
        g_w = g_path
        bend = 0.5 * _A0_PER_M * (dp / heights) * (dp / heights)
        turbulence = 6e-3 * dp / heights
        zs += bend * zs * zs + turbulence
        zr += bend * zr * zr + turbulence
    q = np.exp(1.3 * np.log(g_w)) if g_w > 0.0 else 0.0
    per_dp2 = 1.0 / (dp * dp)
    for b in range(N_BANDS):
        w = _W_TOP[b] * q * q / ((_W_2[b] * q + _W_1[b]) * q + 1.16e6)
        wd = w * dp
        cf_k = dp * (1.0 + 3.0 * wd * _exp_minus(np.sqrt(wd))) / (1.0 + wd) * _INVERSE_K[b]
        a = np.sqrt(2.0 * cf_k)
        interference = _FOUR_K2[b] * per_dp2 * ((zs - a) * zs + cf_k) * ((zr - a) * zr + cf_k)
        work[_GROUND + b] = min(interference, least)


@njit(cache=True, error_model="numpy", nogil=True)
def _near_ground(zs: float, zr: float, dp: float, g_path: float, source_g: float) -> float:
    """G'_path, 2.5.14."""
    reach = 30.0 * (max(zs, 0.0) + max(zr, 0.0))
    if dp >= reach:
        return g_path
    return g_path * dp / reach + source_g * (1.0 - dp / reach)


@njit(cache=True, error_model="numpy", nogil=True)
def _hull(
    x: NDArray[np.float64],
    z: NDArray[np.float64],
    begin: int,
    end: int,
    source_height_m: float,
    receiver_height_m: float,
    is_favourable: bool,
    stack: NDArray[np.int64],
    at: int,
) -> int:
    """Points of the profile where a string from source to receiver bends, into ``stack`` from ``at``.

    Gives their number. In the favourable state the profile is lowered by the arc of the ray.
    """
    x0 = x[begin]
    zs, zr = z[begin] + source_height_m, z[end - 1] + receiver_height_m
    d = x[end - 1] - x0
    if d <= _NEAR_M:
        return 0
    slope = (zr - zs) / d
    radius = max(1000.0, 8.0 * np.sqrt(d * d + (zr - zs) * (zr - zs)))
    top = np.sqrt(radius * radius - 0.25 * d * d)
    n = 0
    for k in range(begin + 1, end - 1):
        t = x[k] - x0
        if z[k] - zs - slope * t <= 0.0 or t <= _NEAR_M or t >= d - _NEAR_M:
            continue
        above = _lowered(t, z[k] - zs - slope * t, d, radius, top, is_favourable)
        if above <= 0.0:
            continue
        while n > 0:  # the last edge lies below the line from the one before it to this point
            x2 = x[stack[at + n - 1]] - x0
            z2 = _lowered(x2, z[stack[at + n - 1]] - zs - slope * x2, d, radius, top, is_favourable)
            x1 = z1 = 0.0
            if n > 1:
                x1 = x[stack[at + n - 2]] - x0
                z1 = _lowered(x1, z[stack[at + n - 2]] - zs - slope * x1, d, radius, top, is_favourable)
            if (z2 - z1) * (t - x1) > (above - z1) * (x2 - x1):
                break
            n -= 1
        # nor does this point count where it lies below the line from the last edge to the receiver
        if n > 0:
            x2 = x[stack[at + n - 1]] - x0
            z2 = _lowered(x2, z[stack[at + n - 1]] - zs - slope * x2, d, radius, top, is_favourable)
            if above * (d - x2) <= z2 * (d - t):
                continue
        stack[at + n] = k
        n += 1
    return n


@njit(cache=True, error_model="numpy", nogil=True)
def _lowered(t: float, above: float, d: float, radius: float, top: float, is_favourable: bool) -> float:
    """Height above the ray at the distance t, of a point that is ``above`` the straight line."""
    if not is_favourable:
        return above
    half = t - 0.5 * d
    return above - t * (d - t) / (top + np.sqrt(radius * radius - half * half))


@njit(cache=True, error_model="numpy", nogil=True)
def _arc(chord: float, bend: float) -> float:
    """Length of an arc over a chord, asin(chord bend) / bend; 1 / bend is its diameter."""
    t = chord * bend
    t *= t
    return chord * (1.0 + t * (1.0 / 6.0 + t * (3.0 / 40.0 + t * (5.0 / 112.0))))


@njit(cache=True, error_model="numpy", nogil=True)
def _length(dx: float, dz: float) -> float:
    return np.sqrt(dx * dx + dz * dz)


@njit(cache=True, error_model="numpy", nogil=True)
def _bend(distance: float, is_favourable: bool) -> float:
    """1 / diameter of the arc of the ray between two points; 0 in the homogeneous state [1/m]."""
    return 0.5 / max(1000.0, 8.0 * distance) if is_favourable else 0.0


@njit(cache=True, error_model="numpy", nogil=True)
def _detour(sx: float, sz: float, ox: float, oz: float, rx: float, rz: float, is_favourable: bool) -> float:
    """Path difference over one edge; negative where it lies below the ray."""
    sr = _length(rx - sx, rz - sz)
    bend = _bend(sr, is_favourable)
    so, o_r = _length(ox - sx, oz - sz), _length(rx - ox, rz - oz)
    on_line = sz + (rz - sz) * (ox - sx) / (rx - sx)
    arcs = _arc(so, bend) + _arc(o_r, bend)
    if oz >= on_line:
        return arcs - _arc(sr, bend)
    if not is_favourable:
        return sr - arcs
    sa, ar = _length(ox - sx, on_line - sz), _length(rx - ox, rz - on_line)
    return 2.0 * (_arc(sa, bend) + _arc(ar, bend)) - arcs - _arc(sr, bend)


@njit(cache=True, error_model="numpy", nogil=True)
def _diffraction(delta: float, c2: float, b: int) -> float:
    """10^(Delta_dif/10), without the limit of 25 dB."""
    t = _40_PER_WAVE[b] * c2 * delta
    return 3.0 + t if t >= -2.0 else 1.0


@njit(cache=True, error_model="numpy", nogil=True)
def _diffracted_energy(
    x: NDArray[np.float64],
    z: NDArray[np.float64],
    begin: int,
    end: int,
    source_height_m: float,
    receiver_height_m: float,
    source_g: float,
    is_favourable: bool,
    work: NDArray[np.float64],
    stack: NDArray[np.int64],
    at: int,
    n_edges: int,
) -> None:
    """10^(-A_dif/10) over the edges in ``stack`` from ``at``, with the ground on both sides."""
    x0, z0 = x[begin], z[begin]
    sx, sz = 0.0, source_height_m
    rx, rz = x[end - 1] - x0, z[end - 1] - z0 + receiver_height_m
    first, last = stack[at], stack[at + n_edges - 1]
    ax, az = x[first] - x0, z[first] - z0
    bx, bz = x[last] - x0, z[last] - z0

    a, zs, zo, dp, g, c = _side(work, 0, first - begin, sx, ax, sz, az)
    g_near = _near_ground(zs, zo, dp, g, source_g)
    _ground(zs, zo, dp, g, g_near, is_favourable, work)
    for b in range(N_BANDS):
        work[_GROUND_S + b] = work[_GROUND + b]
    below_s = zs < 0.0
    s1x, s1z = sx + 2.0 * zs * c * a, sz - 2.0 * zs * c
    a, zo, zr, dp, g, c = _side(work, last - begin, end - 1 - begin, bx, rx, bz, rz)
    _ground(zo, zr, dp, g, g, is_favourable, work)
    below_r = zr < 0.0
    r1x, r1z = rx + 2.0 * zr * c * a, rz - 2.0 * zr * c

    e = 0.0
    if n_edges == 1:
        direct = _detour(sx, sz, ax, az, rx, rz, is_favourable)
        image_s = _detour(s1x, s1z, ax, az, rx, rz, is_favourable)
        image_r = _detour(sx, sz, ax, az, r1x, r1z, is_favourable)
    else:
        sr, s1r, sr1 = _length(rx - sx, rz - sz), _length(rx - s1x, rz - s1z), _length(r1x - sx, r1z - sz)
        q, q_s, q_r = _bend(sr, is_favourable), _bend(s1r, is_favourable), _bend(sr1, is_favourable)
        so, s1o = _length(ax - sx, az - sz), _length(ax - s1x, az - s1z)
        o_r, o_r1 = _length(rx - bx, rz - bz), _length(r1x - bx, r1z - bz)
        direct = _arc(so, q) + _arc(o_r, q) - _arc(sr, q)
        image_s = _arc(s1o, q_s) + _arc(o_r, q_s) - _arc(s1r, q_s)
        image_r = _arc(so, q_r) + _arc(o_r1, q_r) - _arc(sr1, q_r)
        for i in range(n_edges - 1):
            k, m = stack[at + i], stack[at + i + 1]
            between = _length(x[m] - x[k], z[m] - z[k])
            e += _arc(between, q)
            direct += _arc(between, q)
            image_s += _arc(between, q_s)
            image_r += _arc(between, q_r)

    # an end below its mean plane has no image beneath it: there the ground attenuates as in the open
    level = image_s if below_s else image_r if below_r else direct
    image_s = direct if below_s else image_s
    image_r = direct if below_r else image_r
    per_e2 = 25.0 / (e * e) if e > _THIN_M else np.inf
    for b in range(N_BANDS):
        t = per_e2 * _WAVE_M[b] * _WAVE_M[b]
        c2 = (1.0 + t) / (1.0 / 3.0 + t) if t < 1e12 else 1.0
        d_sr = _diffraction(direct, c2, b)
        on_s = 1.0 + (np.sqrt(work[_GROUND_S + b]) - 1.0) * np.sqrt(d_sr / _diffraction(image_s, c2, b))
        on_r = 1.0 + (np.sqrt(work[_GROUND + b]) - 1.0) * np.sqrt(d_sr / _diffraction(image_r, c2, b))
        sides = max(on_s, 0.0) * max(on_r, 0.0)
        work[_ENERGY + b] = sides * sides / min(_diffraction(level, c2, b), _MAX_DIFFRACTION)


@njit(cache=True, error_model="numpy", nogil=True)
def _open_energy(
    x: NDArray[np.float64],
    z: NDArray[np.float64],
    begin: int,
    end: int,
    source_height_m: float,
    receiver_height_m: float,
    source_g: float,
    is_favourable: bool,
    has_near_edges: bool,
    work: NDArray[np.float64],
    stack: NDArray[np.int64],
    at: int,
) -> None:
    """10^(-A_boundary/10) where nothing reaches into the ray; bands with an edge near to it diffract."""
    rx, rz = x[end - 1] - x[begin], z[end - 1] - z[begin] + receiver_height_m
    _, zs, zr, dp, g, _ = _side(work, 0, end - 1 - begin, 0.0, rx, source_height_m, rz)
    _ground(zs, zr, dp, g, _near_ground(zs, zr, dp, g, source_g), is_favourable, work)
    for b in range(N_BANDS):
        work[_ENERGY + b] = work[_OVER + b] = work[_GROUND + b]
    if not has_near_edges:
        return
    edge = _EDGE + N_BANDS if is_favourable else _EDGE
    one = np.int64(1)
    for i in range(N_BANDS):
        if work[edge + i] < 0.0 or (i > 0 and work[edge + i] == work[edge + i - 1]):
            continue
        stack[at] = np.int64(work[edge + i])
        _diffracted_energy(
            x,
            z,
            begin,
            end,
            source_height_m,
            receiver_height_m,
            source_g,
            is_favourable,
            work,
            stack,
            at,
            one,
        )
        for b in range(i, N_BANDS):
            if work[edge + b] == work[edge + i]:
                work[_OVER + b] = work[_ENERGY + b]
    for b in range(N_BANDS):
        work[_ENERGY + b] = work[_OVER + b]


@njit(cache=True, error_model="numpy", nogil=True)
def _near_edges(
    x: NDArray[np.float64],
    z: NDArray[np.float64],
    begin: int,
    end: int,
    source_height_m: float,
    receiver_height_m: float,
    work: NDArray[np.float64],
) -> bool:
    """Edges below the ray that still diffract long waves; whether there are any.

    An edge does so in the bands where the path difference is above -lambda/20 and Rayleigh's criterion holds:
    the path difference is above lambda/4 less that between the images of source and receiver in their mean
    planes. Of several edges the one with the largest path difference counts. The edge of each band, or -1,
    goes into ``work``.
    """
    x0, z0 = x[begin], z[begin]
    sz = source_height_m
    rx, rz = x[end - 1] - x0, z[end - 1] - z0 + receiver_height_m
    slope = (rz - sz) / max(rx, _NEAR_M)
    stretch = np.sqrt(1.0 + slope * slope)
    shrink = 1.0 / stretch
    least = _WAVE_M[N_BANDS - 1] / 4.0
    sr = _length(rx, rz - sz)
    found = False
    for k in range(begin + 1, end - 1):
        # only where the profile bends down is there an edge
        rise, fall = z[k] - z[k - 1], z[k] - z[k + 1]
        if rise * (x[k + 1] - x[k]) + fall * (x[k] - x[k - 1]) <= 1e-6 and not (rise > 0.0 and fall > 0.0):
            continue
        ox, oz = x[k] - x0, z[k] - z0
        if ox <= _NEAR_M or ox >= rx - _NEAR_M:
            continue
        depth = (sz + slope * ox - oz) * shrink
        if depth > 0.0:  # a lower bound of the path difference, without roots
            u = 2.0 * max(ox * stretch - slope * depth, 0.0) + depth
            v = 2.0 * max((rx - ox) * stretch + slope * depth, 0.0) + depth
            if depth * depth * (u + v) > _MAX_DEPTH_M * u * v:
                continue
        so, o_r = _length(ox, oz - sz), _length(rx - ox, rz - oz)
        s1x, s1z = _image(work, 0, k - begin, 0.0, ox, 0.0, sz)
        r1x, r1z = _image(work, k - begin, end - 1 - begin, ox, rx, rx, rz)
        if (oz - s1z) * (r1x - s1x) < (r1z - s1z) * (ox - s1x):
            continue
        s1o, o_r1 = _length(ox - s1x, oz - s1z), _length(r1x - ox, r1z - oz)
        s1r1 = _length(r1x - s1x, r1z - s1z)
        if depth > 0.0 and s1o + o_r1 - s1r1 + sr - so - o_r <= least:
            continue  # nor in the favourable state, whose two differences are smaller
        for state in range(2):
            q, q1 = _bend(sr, state == 1), _bend(s1r1, state == 1)
            arcs = _arc(so, q) + _arc(o_r, q)
            if depth <= 0.0:
                delta = arcs - _arc(sr, q)
            else:
                split = ox / rx * sr
                delta = 2.0 * (_arc(split, q) + _arc(sr - split, q)) - arcs - _arc(sr, q)
            mirrored = _arc(s1o, q1) + _arc(o_r1, q1) - _arc(s1r1, q1)
            if delta <= least - mirrored:
                continue
            if not found:
                found = True
                for i in range(2 * N_BANDS):
                    work[_EDGE + i], work[_NEAREST + i] = -1.0, -np.inf
            for b in range(N_BANDS):
                i = state * N_BANDS + b
                if delta <= -_WAVE_M[b] / 20.0 or delta <= _WAVE_M[b] / 4.0 - mirrored:
                    continue
                if delta > work[_NEAREST + i]:
                    work[_EDGE + i], work[_NEAREST + i] = k, delta
    return found


@njit(cache=True, error_model="numpy", nogil=True)
def _lose_over_edge(
    x: NDArray[np.float64],
    z: NDArray[np.float64],
    begin: int,
    end: int,
    source_height_m: float,
    receiver_height_m: float,
    reflector_x: float,
    reflector_top: float,
    is_favourable: bool,
    work: NDArray[np.float64],
    stack: NDArray[np.int64],
    at: int,
    n_edges: int,
) -> None:
    """Take from the energy what passes over the upper edge of a reflecting surface (retrodiffraction).

    The ray is the string over the edges of the path: of it, the stretch on which the surface lies. A surface
    that the ray hits far below its edge loses nothing, one hit at the edge 4.8 dB, one that it misses more.
    """
    left_x, left_z = x[begin], z[begin] + source_height_m
    right_x, right_z = x[end - 1], z[end - 1] + receiver_height_m
    bend = _bend(_length(right_x - left_x, right_z - left_z), is_favourable)
    for i in range(n_edges):
        k = stack[at + i]
        if x[k] <= reflector_x:
            left_x, left_z = x[k], z[k]
        else:
            right_x, right_z = x[k], z[k]
            break
    over = _arc(_length(reflector_x - left_x, reflector_top - left_z), bend)
    over += _arc(_length(right_x - reflector_x, right_z - reflector_top), bend)
    delta = _arc(_length(right_x - left_x, right_z - left_z), bend) - over
    on_line = left_z + (right_z - left_z) * (reflector_x - left_x) / max(right_x - left_x, _NEAR_M)
    if reflector_top < on_line:
        delta = -delta
    for b in range(N_BANDS):
        work[_ENERGY + b] /= _diffraction(delta, 1.0, b)
