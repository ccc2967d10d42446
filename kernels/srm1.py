"""SRM1: the Dutch standard calculation method 1, for streets in built-up areas.

Valid for an urban road, receptors between 5 and 30 m from its axis (to 60 m for types 1 and 4), no difference
in height, no barriers, not behind buildings, annual means.

References
----------
.. [1] Regeling beoordeling luchtkwaliteit 2007, annex 1.
.. [2] van Velze and Wesseling, Technische beschrijving van standaardrekenmethode 1, RIVM 2014-0127.
"""

from __future__ import annotations

import math
from enum import IntEnum, IntFlag

import numpy as np
from numba import njit
from numpy.typing import NDArray

F_K = 0.62  # calibration factor [1]_
REFERENCE_WIND_M_S = 5.0  # F_regio = 5 / u
DISTANCE_MIN_M = 3.5  # nearer is calculated at 3.5 m, as the national tool does
POLYNOMIAL_FROM_M = 5.0  # the fit begins here; from 3.5 m it is carried on
POLYNOMIAL_TO_M = 30.0
DISTANCE_MAX_M = 60.0
EXPONENT = -0.747
WIND_MIN_M_S = 1.0  # 1/u has no mean without a limit; no dispersion formula holds below
TREE_FACTORS = (1.0, 1.25, 1.5)


class Srm1Error(ValueError):
    """An input outside SRM1; the message names the field, what it held and what is allowed."""


class RoadType(IntEnum):
    """Type of street by the number of the regulation (in brackets that of CAR)."""

    BROAD_CANYON = 1  # (3a) buildings on both sides, the axis 1.5 to 3 heights from the facades
    NARROW_CANYON = 2  # (3b) buildings on both sides, nearer than 1.5 heights
    ONE_SIDED = 3  # (4) buildings on one side
    GENERAL = 4  # (2) every other urban road


# a, b, c of a S^2 + b S + c, alpha of alpha S^-0.747 (NaN: not beyond 30 m), by type 1 to 4 [1]_
PARAMETERS = np.array(
    [
        [3.25e-4, -2.05e-2, 0.39, 0.856],
        [4.88e-4, -3.08e-2, 0.59, math.nan],
        [5.00e-4, -3.16e-2, 0.57, math.nan],
        [3.10e-4, -1.82e-2, 0.33, 0.799],
    ]
)


class Validity(IntFlag):
    """What of an input lies outside the fit of SRM1, or at its edge; none of it when 0."""

    TOO_NEAR = 1  # below 3.5 m, calculated at 3.5 m
    NEARER_THAN_FIT = 2  # below 5 m
    BEYOND_POLYNOMIAL = 4  # beyond 30 m, by the power law of types 1 and 4; inside SRM1
    BEYOND_REACH = 8  # of the type, 30 or 60 m; the contribution is zero, though the street adds something
    TREE_FACTOR = 16  # none of the three of the regulation
    UNEVEN = 32  # the street is not level with its surroundings
    BARRIER = 64  # a screen or wall beside it

    @property
    def is_inside(self) -> bool:
        """Whether the result may be called one of SRM1."""
        return not self & ~Validity.BEYOND_POLYNOMIAL


def reach_m(road_type: RoadType) -> float:
    """Largest distance from the axis [m] that a type has a formula for [1]_."""
    return POLYNOMIAL_TO_M if math.isnan(PARAMETERS[road_type - 1, 3]) else DISTANCE_MAX_M


def validity(
    distance_m: float,
    road_type: RoadType,
    tree_factor: float = 1.0,
    *,
    is_level: bool = True,
    has_barrier: bool = False,
) -> Validity:
    """What of an input lies outside SRM1 [1]_.

    Raises
    ------
    Srm1Error
        For a distance that is negative or unknown.
    """
    flags = Validity(int(distance_validity(np.array([distance_m]), road_type)[0]))
    if tree_factor not in TREE_FACTORS:
        flags |= Validity.TREE_FACTOR
    if not is_level:
        flags |= Validity.UNEVEN
    if has_barrier:
        flags |= Validity.BARRIER
    return flags


def distance_validity(distance_m: NDArray[np.float64], road_type: RoadType) -> NDArray[np.uint8]:
    """The flags of :class:`Validity` that come from distances to the axis [m], (n,).

    Raises
    ------
    Srm1Error
        For a distance that is negative or unknown.
    """
    if not (distance_m >= 0.0).all():
        at = distance_m[~(distance_m >= 0.0)][0]
        raise Srm1Error(f"distance_m: got {at}, expected at least 0")
    too_near = distance_m < DISTANCE_MIN_M
    is_nearer = distance_m < POLYNOMIAL_FROM_M
    is_beyond = distance_m > reach_m(road_type)
    by_power = (distance_m > POLYNOMIAL_TO_M) & ~is_beyond
    flags = (
        too_near * Validity.TOO_NEAR
        + is_nearer * Validity.NEARER_THAN_FIT
        + by_power * Validity.BEYOND_POLYNOMIAL
        + is_beyond * Validity.BEYOND_REACH
    )
    return flags.astype(np.uint8)


@njit(cache=True, error_model="numpy")
def _dilution(distance_m: float, a: float, b: float, c: float, alpha: float) -> float:
    s = max(distance_m, DISTANCE_MIN_M)
    if s <= POLYNOMIAL_TO_M:
        return a * s * s + b * s + c
    if s <= DISTANCE_MAX_M and not np.isnan(alpha):
        return alpha * s**EXPONENT
    return 0.0


def dilution(distance_m: float, road_type: RoadType) -> float:
    """Dilution factor theta [(ug/m3)/(ug/m/s)] at a distance from the axis [1]_.

    Below 3.5 m it is that of 3.5 m; beyond the validity of the type (30 or 60 m) it is zero. Neither shows in
    the number: :func:`validity` tells.

    Raises
    ------
    Srm1Error
        For a distance that is negative or unknown.
    """
    if not distance_m >= 0.0:
        raise Srm1Error(f"distance_m: got {distance_m}, expected at least 0")
    a, b, c, alpha = PARAMETERS[road_type - 1]
    return float(_dilution(distance_m, a, b, c, alpha))


def regional_factor(mean_wind_m_s: float) -> float:
    """F_regio, 5 / u with the annual mean wind at 10 m [1]_.

    Raises
    ------
    Srm1Error
        For a wind that is not above zero.
    """
    if not mean_wind_m_s > 0.0 or math.isinf(mean_wind_m_s):
        raise Srm1Error(f"mean_wind_m_s: got {mean_wind_m_s}, expected a wind above 0 m/s")
    return REFERENCE_WIND_M_S / mean_wind_m_s


def annual_contribution(
    emission_ug_per_m_s: float,
    distance_m: float,
    road_type: RoadType,
    mean_wind_m_s: float,
    tree_factor: float = 1.0,
) -> float:
    """Contribution of a street to the annual mean [ug/m3], ``F_k E theta F_b F_regio`` [1]_.

    Raises
    ------
    Srm1Error
        For a tree factor that the regulation does not know, or see :func:`dilution`, :func:`regional_factor`.
    """
    if tree_factor not in TREE_FACTORS:
        raise Srm1Error(f"tree_factor: got {tree_factor}, expected one of {TREE_FACTORS}")
    return (
        F_K
        * emission_ug_per_m_s
        * dilution(distance_m, road_type)
        * tree_factor
        * regional_factor(mean_wind_m_s)
    )


def mean_inverse_wind(mean_wind_m_s: float) -> float:
    """Mean of ``1 / max(u, 1)`` [s/m] over a year whose wind is Rayleigh distributed.

    With density ``2 a u exp(-a u^2)``, ``a = pi / (4 m^2)``: the calm part weighs ``1 - exp(-a)``, the rest
    ``pi / (2 m) erfc(sqrt(a))``.
    """
    regional_factor(mean_wind_m_s)
    a = math.pi / (4.0 * mean_wind_m_s**2)
    return 1.0 - math.exp(-a) + math.pi / (2.0 * mean_wind_m_s) * math.erfc(math.sqrt(a))


def hourly_factor(wind_m_s: float, mean_wind_m_s: float, tree_factor: float = 1.0) -> float:
    """Factor from ``E theta`` to an hourly indication.

    ``F_k F_b (5 / u_mean) w(u) / mean(w)`` with ``w = 1 / max(u, 1)``. SRM1 is an annual method: this spreads
    its mean over the hours by their dilution and keeps the annual mean. It is an indication, no legal value.

    Raises
    ------
    Srm1Error
        For a wind that is negative or unknown.
    """
    if not wind_m_s >= 0.0:
        raise Srm1Error(f"wind_m_s: got {wind_m_s}, expected at least 0")
    weight = 1.0 / max(wind_m_s, WIND_MIN_M_S)
    return F_K * tree_factor * regional_factor(mean_wind_m_s) * weight / mean_inverse_wind(mean_wind_m_s)


@njit(cache=True, error_model="numpy")
def piece_coefficient(
    x: float, y: float, ax: float, ay: float, bx: float, by: float, a: float, b: float, c: float, alpha: float
) -> float:
    """Part of theta(S) that a straight piece of axis gives a receptor [(ug/m3)/(ug/m/s)].

    SRM1 knows one straight street; a network cuts it into pieces. Of the axis a receptor sees the chord of
    the 60 m circle around it, under the angle ``2 acos(S / 60)``; a piece counts with the share of that angle
    it fills. So the pieces of a straight street add up to exactly theta(S), wherever it is cut, a receptor
    beside the end of a street gets half, and one beyond its end by 60 m nothing. S is the perpendicular
    distance to the axis, at least 3.5 m.

    Parameters
    ----------
    x, y : float
        Receptor [m].
    ax, ay, bx, by : float
        Ends of the piece [m].
    a, b, c, alpha : float
        Row of :data:`PARAMETERS`.
    """
    dx, dy = bx - ax, by - ay
    length = math.sqrt(dx * dx + dy * dy)
    if length == 0.0:
        return 0.0
    dx, dy = dx / length, dy / length
    s = max(abs((x - ax) * dy - (y - ay) * dx), DISTANCE_MIN_M)
    if s >= DISTANCE_MAX_M:
        return 0.0
    half_chord = math.sqrt(DISTANCE_MAX_M * DISTANCE_MAX_M - s * s)
    foot = (x - ax) * dx + (y - ay) * dy
    t1 = max(-foot, -half_chord)
    t2 = min(length - foot, half_chord)
    if t2 <= t1:
        return 0.0
    share = (math.atan(t2 / s) - math.atan(t1 / s)) / (2.0 * math.acos(s / DISTANCE_MAX_M))
    return share * _dilution(s, a, b, c, alpha)


@njit(cache=True, error_model="numpy")
def line_coefficients(
    x: NDArray[np.float64], y: NDArray[np.float64], line: NDArray[np.float64], parameters: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Coefficient of a polyline at receptors, the sum over its pieces, (n,); line is (m, 2) [m]."""
    out = np.zeros(x.size)
    for i in range(x.size):
        for k in range(line.shape[0] - 1):
            out[i] += piece_coefficient(
                x[i], y[i], line[k, 0], line[k, 1], line[k + 1, 0], line[k + 1, 1],
                parameters[0], parameters[1], parameters[2], parameters[3],
            )  # fmt: skip
    return out
