"""SRM2: the Dutch standard calculation method 2, for open roads (motorways), also hour by hour.

A road is a row of point sources, each a Gaussian plume of the vertical spread of the regulation.

Of the regulation's formulas the plume, C_wind and the rule that combines a R^b with the start value stand in
images that are not in its text. Plume and C_wind are reconstructed and agree with the regulation's own
constants; the rule awaits verification and is one switch, :class:`SigmaZRule`.

References
----------
.. [1] Regeling beoordeling luchtkwaliteit 2007, annex 2.
.. [2] Operationele Prioritaire Stoffen model (RIVM), stability function of the wind profile.
.. [3] Venkatram et al. 2013, Atmos. Environ. 77: meandering at low wind in a line source model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numba import njit
from numpy.typing import NDArray

RECEPTOR_HEIGHT_M = 1.5
SOURCE_HEIGHT_M = 0.0
SECTORS = 12
C_DIURNAL = 1.15  # C_etmaal: covariance of traffic and dispersion over the day; annual form only
WIND_MIN_M_S = 1.0
REFERENCE_WIND_M_S = 5.0
DISTANCE_MIN_M = 3.5  # as SRM1; nearer, the plume formula grows without limit
# Spread of the wind direction within an hour: the power 2^5 of (1 + cos) / 2 has a standard deviation of
# 0.25 rad, neutral; assumed (0.20-0.30 in the literature).
SPREAD_SQUARINGS = 5
_POWER = 2**SPREAD_SQUARINGS
UNIFORM_DENSITY = 1.0 / (2.0 * math.pi)
DENSITY_PEAK = UNIFORM_DENSITY * 4.0**_POWER / math.comb(2 * _POWER, _POWER)
TABLE_STEP_M = 0.5
SIGMA_V_M_S = 0.5  # lateral turbulence that lets the wind meander when it is weak; assumed
SIGMA_Z0_MOTORWAY_M = 3.0
SIGMA_Z0_M = 2.5


class Srm2Error(ValueError):
    """An input outside SRM2; the message names the field, what it held and what is allowed."""


class SigmaZRule(IntEnum):
    """How a R^b and the start value sigma_z0 combine. Awaits verification against RIVM 2014-0109."""

    ADD = 0
    VIRTUAL = 1
    QUADRATURE = 2


@dataclass(frozen=True, slots=True)
class Roughness:
    """Class of roughness length [1]_: spread a R^b, Obukhov length, calibration factor C_ijking."""

    z0_m: float
    a: float
    b: float
    obukhov_m: float
    calibration: float


ROUGHNESS = (
    Roughness(0.03, 0.2221, 0.6574, 60.0, 0.667),
    Roughness(0.10, 0.2745, 0.6688, 60.0, 0.712),
    Roughness(0.30, 0.3613, 0.6680, 100.0, 0.717),
    Roughness(1.00, 0.7054, 0.6207, 400.0, 0.961),
)
_UPPER_BOUNDS_M = (0.055, 0.17, 0.55, math.inf)


def roughness_class(roughness_m: float) -> Roughness:
    """Class of a roughness length [1]_.

    Raises
    ------
    Srm2Error
        For a length that is not above zero.
    """
    if not roughness_m > 0.0:
        raise Srm2Error(f"roughness_m: got {roughness_m}, expected a length above 0 m")
    for upper, roughness in zip(_UPPER_BOUNDS_M, ROUGHNESS, strict=True):
        if roughness_m < upper:
            return roughness
    return ROUGHNESS[-1]


@njit(cache=True, error_model="numpy")
def spread(r: float, a: float, b: float, sigma_z0: float, rule: int) -> float:
    """Vertical spread [m] at a distance: the one place of :class:`SigmaZRule`."""
    if rule == 1:
        return a * (r + (sigma_z0 / a) ** (1.0 / b)) ** b
    if rule == 2:
        return math.sqrt((a * r**b) ** 2 + sigma_z0**2)
    return a * r**b + sigma_z0


@njit(cache=True, error_model="numpy")
def _psi(z_over_l: float) -> float:
    return -17.0 * (1.0 - math.exp(-0.29 * z_over_l))


@njit(cache=True, error_model="numpy")
def _c_wind(sigma_z: float, z0: float, obukhov: float) -> float:
    zp = 0.75 * sigma_z
    base = _psi(z0 / obukhov)
    above = math.log(zp / z0) - _psi(zp / obukhov) + base
    return above / (math.log(10.0 / z0) - _psi(10.0 / obukhov) + base)


def sigma_z(distance_m: float, roughness: Roughness, sigma_z0_m: float, rule: SigmaZRule) -> float:
    """Vertical spread [m] at a distance [m]."""
    return float(spread(distance_m, roughness.a, roughness.b, sigma_z0_m, rule))


def stability_correction(z_over_l: float) -> float:
    """psi(z/L) = -17 (1 - exp(-0.29 z/L)), stable [2]_."""
    return float(_psi(z_over_l))


def wind_factor(sigma_z_m: float, roughness: Roughness) -> float:
    """C_wind: wind at the height of the plume, 0.75 sigma_z, over that at 10 m."""
    return float(_c_wind(sigma_z_m, roughness.z0_m, roughness.obukhov_m))


@njit(cache=True, error_model="numpy")
def plume_at(
    r: float, a: float, b: float, z0: float, obukhov: float, calibration: float, sigma_z0: float, rule: int
) -> float:
    """Crosswind integrated plume over R [1/m2]: [exp + exp] / (sqrt(2 pi) sigma_z C_wind C_ijking R)."""
    s = spread(r, a, b, sigma_z0, rule)
    below = RECEPTOR_HEIGHT_M - SOURCE_HEIGHT_M
    above = RECEPTOR_HEIGHT_M + SOURCE_HEIGHT_M
    vertical = math.exp(-below * below / (2.0 * s * s)) + math.exp(-above * above / (2.0 * s * s))
    c = _c_wind(s, z0, obukhov) * calibration
    return vertical / (math.sqrt(2.0 * math.pi) * s * c * r)


def distance_times_plume(
    distance_m: float, roughness: Roughness, sigma_z0_m: float, rule: SigmaZRule = SigmaZRule.ADD
) -> float:
    """R times the plume at 5 m/s [1/m]: what is left of it when the spread in direction is taken out."""
    r = roughness
    plume = plume_at(distance_m, r.a, r.b, r.z0_m, r.obukhov_m, r.calibration, sigma_z0_m, rule)
    return float(plume * distance_m / REFERENCE_WIND_M_S)


def annual_point_contribution(
    distance_m: float,
    wind_m_s: float,
    roughness: Roughness,
    sigma_z0_m: float,
    rule: SigmaZRule = SigmaZRule.ADD,
) -> float:
    """Annual contribution [ug/m3] of a source of 1 ug/s while the wind is in its sector, with C_etmaal.

    ``n E dw / ((2 pi)^(3/2) sigma_z R C u) [exp(-(z-h)^2 / 2 sigma_z^2) + exp(-(z+h)^2 / 2 sigma_z^2)]``;
    times the frequency of the sector.

    Raises
    ------
    Srm2Error
        For a distance or wind that is not above zero.
    """
    if not distance_m > 0.0:
        raise Srm2Error(f"distance_m: got {distance_m}, expected a distance above 0 m")
    if not wind_m_s > 0.0:
        raise Srm2Error(f"wind_m_s: got {wind_m_s}, expected a wind above 0 m/s")
    r = roughness
    plume = plume_at(distance_m, r.a, r.b, r.z0_m, r.obukhov_m, r.calibration, sigma_z0_m, rule)
    return float(plume * SECTORS / (2.0 * math.pi) / C_DIURNAL / wind_m_s)


def meander_share(wind_m_s: float) -> float:
    """Share of the hour in which a weak wind meanders over all directions, 2 sv^2 / (2 sv^2 + u^2) [3]_."""
    if not wind_m_s >= 0.0:
        raise Srm2Error(f"wind_m_s: got {wind_m_s}, expected at least 0")
    return 2.0 * SIGMA_V_M_S**2 / (2.0 * SIGMA_V_M_S**2 + wind_m_s**2)


@dataclass(frozen=True, slots=True)
class Winds:
    """Where transport goes: a sum of directions, each spread, and a part that goes everywhere.

    The density of transport in the direction theta is
    ``W(theta) = uniform + sum_i weight_i N ((1 + cos(theta - theta_i)) / 2)^32`` [1/rad], whose standard
    deviation is a quarter radian. It stays within 0.4 % of the peak of a Gaussian, and is a polynomial of the
    cosine: no angle, no exponential. The sectors of the annual form would draw visible wedges.

    Attributes
    ----------
    toward : (n, 3) float64
        Unit vector (east, north) of where each wind blows to, and its weight times N.
    uniform : float
        Density that does not depend on the direction [1/rad].
    """

    toward: NDArray[np.float64]
    uniform: float

    @property
    def mean_density(self) -> float:
        """Mean of W over all directions [1/rad]."""
        return self.uniform + float(self.toward[:, 2].sum()) / DENSITY_PEAK * UNIFORM_DENSITY


def hourly_winds(wind_m_s: float, wind_from_deg: float) -> Winds:
    """One wind that meanders the more the weaker it is; its density integrates to 1.

    Raises
    ------
    Srm2Error
        For a speed below zero or a direction that is not a number.
    """
    meander = meander_share(wind_m_s)
    toward = (*transport_vector(wind_from_deg), (1.0 - meander) * DENSITY_PEAK)
    return Winds(np.array([toward]), meander * UNIFORM_DENSITY)


def bounding_winds() -> Winds:
    """A density in every direction that no hour exceeds."""
    return Winds(np.empty((0, 3)), DENSITY_PEAK)


def plume_table(
    reach_m: float, roughness: Roughness, sigma_z0_m: float, rule: SigmaZRule = SigmaZRule.ADD
) -> NDArray[np.float64]:
    """R times the plume [1/m] every 0.5 m from 0 to the reach, distances below 3.5 m as 3.5 m, at 5 m/s.

    The product with R is smooth, so that linear interpolation is good to 2e-3 beside the road and 1e-4 from
    15 m (tested); the power, logarithm and exponentials then cost once.
    """
    r = roughness
    return np.asarray(
        _table(
            math.ceil(reach_m / TABLE_STEP_M) + 2,
            r.a,
            r.b,
            r.z0_m,
            r.obukhov_m,
            r.calibration,
            sigma_z0_m,
            rule,
        )
    )


@njit(cache=True, error_model="numpy")
def _table(
    n: int, a: float, b: float, z0: float, obukhov: float, calibration: float, sigma_z0: float, rule: int
) -> NDArray[np.float64]:
    out = np.empty(n)
    for i in range(n):
        r = max(i * TABLE_STEP_M, DISTANCE_MIN_M)
        out[i] = plume_at(r, a, b, z0, obukhov, calibration, sigma_z0, rule) * r / REFERENCE_WIND_M_S
    return out


@njit(cache=True, error_model="numpy")
def density(east: float, north: float, toward: NDArray[np.float64], uniform: float) -> float:
    """Density [1/rad] of transport along the unit vector (east, north); see :class:`Winds`."""
    total = uniform
    for i in range(toward.shape[0]):
        power = max(0.5 + 0.5 * (east * toward[i, 0] + north * toward[i, 1]), 0.0)
        for _ in range(SPREAD_SQUARINGS):
            power *= power
        total += toward[i, 2] * power
    return total


@njit(cache=True, error_model="numpy")
def point_coefficient(
    dx: float,
    dy: float,
    table: NDArray[np.float64],
    toward: NDArray[np.float64],
    uniform: float,
    mean_density: float,
) -> float:
    """Concentration of a source of 1 ug/s at an offset (dx, dy) from it, at 5 m/s [(ug/m3)/(ug/s)].

    ``plume(R) W(theta) / R``. Within 3.5 m a direction has no meaning: the density goes over into its
    mean, so the field is continuous. Beyond the table it is zero.

    Parameters
    ----------
    dx, dy : float
        From the source to the receptor [m].
    table : (n,) float64
        See :func:`plume_table`.
    toward, uniform, mean_density
        See :class:`Winds`.
    """
    distance = math.sqrt(dx * dx + dy * dy)
    at = distance / TABLE_STEP_M
    k = int(at)
    if k + 1 >= table.size:
        return 0.0
    limited = max(distance, DISTANCE_MIN_M)
    w = density(dx / limited, dy / limited, toward, uniform)
    inside = distance / limited
    plume = (table[k] + (at - k) * (table[k + 1] - table[k])) / limited
    return plume * (mean_density + inside * (w - mean_density))


@njit(cache=True, error_model="numpy")
def blend(distance_m: float, inner_m: float, outer_m: float) -> float:
    """Share of the far field: 0 to the inner distance, 1 from the outer, a quintic smoothstep between."""
    t = min(max((distance_m - inner_m) / (outer_m - inner_m), 0.0), 1.0)
    return t * t * t * (t * (6.0 * t - 15.0) + 10.0)


def hourly_factor(wind_m_s: float) -> float:
    """Factor from coefficients at 5 m/s to a wind [1], with the wind at least 1 m/s."""
    if not wind_m_s >= 0.0:
        raise Srm2Error(f"wind_m_s: got {wind_m_s}, expected at least 0")
    return REFERENCE_WIND_M_S / max(wind_m_s, WIND_MIN_M_S)


def transport_vector(wind_from_deg: float) -> tuple[float, float]:
    """Unit vector (east, north) of where a wind from a compass direction blows to.

    Raises
    ------
    Srm2Error
        For a direction that is not a finite number.
    """
    if not math.isfinite(wind_from_deg):
        raise Srm2Error(f"wind_from_deg: got {wind_from_deg}, expected degrees from north")
    angle = math.radians(wind_from_deg)
    return -math.sin(angle), -math.cos(angle)
