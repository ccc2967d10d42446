"""Emission of traffic on a road, per metre: pollutants from factors by class and regime.

The factors themselves are data: see :mod:`cities.emission_factors`.

References
----------
.. [1] Regeling beoordeling luchtkwaliteit 2007, annex 1, emission per class and congested share.
.. [2] EMEP/EEA air pollutant emission inventory guidebook 2019, 1.A.3.b.vi-vii, road tyre and brake wear and
   road surface wear.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.fixedpoint import quantise_emission

# Below 40 % of the free speed a road counts as stagnating, above 60 % not at all; between them the factors
# are blended, so that a speed that wavers around one limit does not make the emission jump.
STAGNATING_BELOW = 0.40
FLOWING_ABOVE = 0.60

# Of all suspended particles of tyre, brake and road wear, the parts that are PM10 and PM2.5 [2].
WEAR_FRACTION = np.array([[0.60, 0.42], [0.98, 0.39], [0.50, 0.27]])

# 4096 ug/m/s of NOx is twenty thousand stagnating cars an hour. Above it the int64 accumulators of the fields
# could overflow, so an emission ends here.
EMISSION_MAX_QUANTA = (1 << 32) - 1


class EmissionError(ValueError):
    """An emission that cannot be computed; the message names the field, what it held and what is allowed."""


class VehicleClass(IntEnum):
    LIGHT = 0
    MEDIUM = 1
    HEAVY = 2
    BUS = 3


class Regime(IntEnum):
    """How traffic drives: the regimes of SRM1, and those of motorways."""

    RURAL = 0
    NORMAL = 1
    STAGNATING = 2
    FREE = 3
    MOTORWAY = 4
    MOTORWAY_STAGNATING = 5


# What the traffic of each regime becomes when it stagnates: a jam on a motorway is not one in a street.
STAGNATING_OF = (
    Regime.STAGNATING,
    Regime.STAGNATING,
    Regime.STAGNATING,
    Regime.STAGNATING,
    Regime.MOTORWAY_STAGNATING,
    Regime.MOTORWAY_STAGNATING,
)


class Pollutant(IntEnum):
    """Order of the species in every array of emissions and accumulators; NO2 is the directly emitted part."""

    NOX = 0
    NO2 = 1
    PM10 = 2
    PM25 = 3


N_POLLUTANTS = len(Pollutant)


def regime_codes(names: Sequence[str]) -> NDArray[np.int8]:
    """Code of each regime by name, (n,).

    Raises
    ------
    EmissionError
        For a name that is none of :class:`Regime`.
    """
    known = {r.name.lower(): int(r) for r in Regime}
    for name in names:
        if name not in known:
            raise EmissionError(f"regime: got {name!r}, expected one of {', '.join(known)}")
    return np.array([known[name] for name in names], dtype=np.int8)


@njit(cache=True, error_model="numpy")
def stagnating_share(speed_kmh: float, free_speed_kmh: float) -> float:
    """Share of the traffic that is stagnating, 0 to 1.

    1 below 40 % of the free speed, 0 above 60 %, linear between. An unknown speed (NaN) counts as free flow.
    """
    ratio = speed_kmh / free_speed_kmh
    if not ratio < FLOWING_ABOVE:
        return 0.0
    if ratio <= STAGNATING_BELOW:
        return 1.0
    return (FLOWING_ABOVE - ratio) / (FLOWING_ABOVE - STAGNATING_BELOW)


@njit(cache=True, error_model="numpy")
def add_emission(
    emission_ug_per_m_s: NDArray[np.float64],
    flow_per_h: NDArray[np.float64],
    speed_kmh: NDArray[np.float64],
    free_speed_kmh: NDArray[np.float64],
    flowing_row: NDArray[np.int32],
    stagnating_row: NDArray[np.int32],
    factors_g_per_km: NDArray[np.float64],
) -> None:
    """Add the emission of one class of vehicle in one direction to each segment.

    ``E [ug/m/s] = q [1/h] x e [g/km] / 3.6`` (1 g/km = 1000 ug/m, 1 h = 3600 s), with e blended towards the
    stagnating factor by :func:`stagnating_share` [1]_. An unknown flow (NaN) adds nothing.

    Parameters
    ----------
    emission_ug_per_m_s : (n, 4) float64
        Changed in place; species in the order of :class:`Pollutant` [ug/m/s].
    flow_per_h, speed_kmh, free_speed_kmh : (n,) float64
        Flow [1/h], fused speed (NaN: unknown) and free speed [km/h].
    flowing_row, stagnating_row : (n,) int32
        Rows of ``factors_g_per_km`` at free flow and in stagnation.
    factors_g_per_km : (n_rows, 4) float64
        (row, pollutant) of the class [g/km].
    """
    for i in range(flow_per_h.size):
        q = flow_per_h[i]
        if not q > 0.0:
            continue
        stagnating = stagnating_share(speed_kmh[i], free_speed_kmh[i])
        flowing_at, stagnating_at = flowing_row[i], stagnating_row[i]
        for p in range(emission_ug_per_m_s.shape[1]):
            e = (1.0 - stagnating) * factors_g_per_km[flowing_at, p] + stagnating * factors_g_per_km[
                stagnating_at, p
            ]
            emission_ug_per_m_s[i, p] += q * e / 3.6


def daily_emission(
    vehicles_per_day: float,
    shares: NDArray[np.float64],
    factors_g_per_km: NDArray[np.float64],
    regime: Regime,
    congested_share: float,
) -> NDArray[np.float64]:
    """Emission [ug/m/s] of a day's traffic, (4,), after [1]_ with the congested share FS.

    Parameters
    ----------
    vehicles_per_day : float
    shares : (4,) float64
        Shares of the classes in the order of :class:`VehicleClass`, summing to 1.
    factors_g_per_km : (4, 6, 4) float64
        (class, regime, pollutant) [g/km].
    regime : Regime
        Of the traffic that is not congested; :data:`STAGNATING_OF` says that of the congested share.
    congested_share : float
        FS, 0 to 1.
    """
    stagnating = STAGNATING_OF[regime]
    mixed = (1.0 - congested_share) * factors_g_per_km[:, regime] + congested_share * factors_g_per_km[
        :, stagnating
    ]
    return np.asarray(vehicles_per_day * (shares @ mixed) * 1000.0 / (24.0 * 3600.0))


def wear(tsp_g_per_km: NDArray[np.float64], speed_kmh: float) -> NDArray[np.float64]:
    """PM10 and PM2.5 of tyre, brake and road wear together [g/km], (..., 2), after [2]_.

    Tyres and brakes wear less at speed: by 1.39 and 1.67 below 40 km/h, down to 0.902 above 90 and 0.185
    above 95 km/h, linear between. The road's wear knows no speed.

    Parameters
    ----------
    tsp_g_per_km : (..., 3) float64
        Suspended particles of tyre, brake and road [g/km].
    speed_kmh : float
        Mean speed of the trip.
    """
    tyre = 1.39 if speed_kmh < 40.0 else 0.902 if speed_kmh > 90.0 else 1.78 - 0.00974 * speed_kmh
    brake = 1.67 if speed_kmh < 40.0 else 0.185 if speed_kmh > 95.0 else 2.75 - 0.0270 * speed_kmh
    return np.asarray((tsp_g_per_km * np.array([tyre, brake, 1.0])) @ WEAR_FRACTION)


def bounded_quanta(emission_ug_per_m_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """Emission in quanta of 2^-20 ug/m/s, ended at :data:`EMISSION_MAX_QUANTA`."""
    return np.minimum(quantise_emission(emission_ug_per_m_s), EMISSION_MAX_QUANTA)
