"""Outdoor propagation over flat open ground: CNOSSOS-EU, and the absorption of air of ISO 9613-1.

Annex II, 2.5 of Directive 2002/49/EC (as amended by 2021/1226). Valid to 800 m, for receivers from 2 m high,
in octaves of 63 Hz to 8 kHz. The speed of sound is 340 m/s, with which the values of ISO/TR 17534-4 are
reproduced within 0.04 dB.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

OCTAVE_BANDS_HZ = np.array((63.0, 125.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0))
EXACT_BANDS_HZ = 10.0 ** (np.arange(18, 40, 3) / 10.0)  # air absorption is taken at the exact centres
SPEED_OF_SOUND_M_S = 340.0
MAX_DISTANCE_M = 800.0  # range of validity of the method

_CURVATURE_PER_M = 2e-4  # a0 of the favourable state


@dataclass(frozen=True, slots=True)
class Atmosphere:
    """State of the air, and how often sound is bent down to the ground.

    ``p_favourable`` is the share of the time with downward refraction (0.5 is usual by day).
    """

    temperature_c: float = 10.0
    humidity_percent: float = 70.0
    pressure_pa: float = 101_325.0
    p_favourable: float = 0.5


@dataclass(frozen=True, slots=True)
class Ground:
    """Ground factor of the path (0 hard, 1 porous) and at the source (0 for a road)."""

    path: float
    source: float = 0.0


def air_absorption_db_per_km(atmosphere: Atmosphere) -> NDArray[np.float64]:
    """Absorption of each octave band after ISO 9613-1, (8,) [dB/km]."""
    temperature_k = atmosphere.temperature_c + 273.15
    ratio = temperature_k / 293.15
    pr = atmosphere.pressure_pa / 101_325.0
    h = atmosphere.humidity_percent * 10.0 ** (4.6151 - 6.8346 * (273.16 / temperature_k) ** 1.261) / pr
    fr_o = pr * (24.0 + 4.04e4 * h * (0.02 + h) / (0.391 + h))
    fr_n = pr * ratio**-0.5 * (9.0 + 280.0 * h * np.exp(-4.170 * (ratio ** (-1.0 / 3.0) - 1.0)))
    f2 = EXACT_BANDS_HZ**2
    oxygen = 0.01275 * np.exp(-2239.1 / temperature_k) / (fr_o + f2 / fr_o)
    nitrogen = 0.1068 * np.exp(-3352.0 / temperature_k) / (fr_n + f2 / fr_n)
    classical = 1.84e-11 / pr * ratio**0.5
    return np.asarray(1000.0 * 8.686 * f2 * (classical + ratio**-2.5 * (oxygen + nitrogen)))


def divergence_db(distance_m: ArrayLike) -> NDArray[np.float64]:
    """Spherical spreading over the straight distance from source to receptor, 2.5.12 [dB]."""
    return np.asarray(20.0 * np.log10(np.asarray(distance_m, dtype=np.float64)) + 11.0)


def ground_db(
    distance_m: NDArray[np.float64],
    source_height_m: float,
    receiver_height_m: float,
    ground: Ground,
    *,
    is_favourable: bool,
) -> NDArray[np.float64]:
    """Attenuation by flat ground in the homogeneous or the favourable state, 2.5.14 to 2.5.20.

    Parameters
    ----------
    distance_m : (n,) float64
        Distance along the ground, above 0 [m].
    source_height_m, receiver_height_m : float
        Heights above the ground [m].
    ground : Ground
    is_favourable : bool

    Returns
    -------
    (n, 8) float64
        Attenuation [dB]; negative where the ground adds its reflection.
    """
    dp = np.asarray(distance_m, dtype=np.float64)[:, None]
    heights = source_height_m + receiver_height_m
    near = np.minimum(dp / (30.0 * heights), 1.0)
    g_near = ground.path * near + ground.source * (1.0 - near)
    g_w = np.full_like(g_near, ground.path) if is_favourable else g_near
    least = -3.0 * (1.0 - g_near)
    if is_favourable:
        least = least * np.where(near < 1.0, 1.0, 1.0 + 2.0 * (1.0 - 30.0 * heights / dp))
    if ground.path == 0.0:
        return np.broadcast_to(least if is_favourable else -3.0, (dp.shape[0], 8)).copy()

    zs, zr = np.full_like(dp, source_height_m), np.full_like(dp, receiver_height_m)
    if is_favourable:  # bent rays meet the ground as if both ends stood higher
        turbulence = 6e-3 * dp / heights
        zs = zs + _CURVATURE_PER_M * (source_height_m / heights) ** 2 * dp**2 / 2.0 + turbulence
        zr = zr + _CURVATURE_PER_M * (receiver_height_m / heights) ** 2 * dp**2 / 2.0 + turbulence
    k = 2.0 * np.pi * OCTAVE_BANDS_HZ / SPEED_OF_SOUND_M_S
    cf = _ground_function(dp, g_w)
    a, b = np.sqrt(2.0 * cf / k), cf / k
    interference = 4.0 * k**2 / dp**2 * (zs**2 - a * zs + b) * (zr**2 - a * zr + b)
    return np.asarray(np.maximum(-10.0 * np.log10(interference), least))


def _ground_function(dp: NDArray[np.float64], g_w: NDArray[np.float64]) -> NDArray[np.float64]:
    """C_f of 2.5.16 for distances and ground factors (n, 1): (n, 8) [m]."""
    f, g = OCTAVE_BANDS_HZ, g_w
    w = 0.0185 * f**2.5 * g**2.6 / (f**1.5 * g**2.6 + 1.3e3 * f**0.75 * g**1.3 + 1.16e6)
    x = w * dp
    return np.asarray(dp * (1.0 + 3.0 * x * np.exp(-np.sqrt(x))) / (1.0 + x))


def attenuation_db(
    distance_m: ArrayLike,
    source_height_m: float,
    receiver_height_m: float,
    ground: Ground,
    atmosphere: Atmosphere,
) -> NDArray[np.float64]:
    """Long-term attenuation from a point source over flat open ground, 2.5.5 to 2.5.11.

    Parameters
    ----------
    distance_m : (n,) array_like
        Horizontal distance, above 0 [m].
    source_height_m, receiver_height_m : float
        Heights above the ground [m].
    ground : Ground
    atmosphere : Atmosphere
        Its ``p_favourable`` weighs the energies of the two states.

    Returns
    -------
    (n, 8) float64
        Sound power level less sound pressure level, 63 Hz to 8 kHz [dB].
    """
    dp = np.atleast_1d(np.asarray(distance_m, dtype=np.float64))
    slant = np.hypot(dp, receiver_height_m - source_height_m)
    spread = divergence_db(slant)[:, None] + air_absorption_db_per_km(atmosphere) * slant[:, None] / 1000.0
    energy = np.zeros((dp.size, 8))
    for is_favourable, share in ((True, atmosphere.p_favourable), (False, 1.0 - atmosphere.p_favourable)):
        loss = ground_db(dp, source_height_m, receiver_height_m, ground, is_favourable=is_favourable)
        energy += share * 10.0 ** (-loss / 10.0)
    return np.asarray(spread - 10.0 * np.log10(energy))
