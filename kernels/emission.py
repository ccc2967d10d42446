"""Emission of traffic on a road, per metre: pollutants from factors by class and regime.

References
----------
.. [1] Regeling beoordeling luchtkwaliteit 2007, annex 1, emission per class and congested share.
.. [2] CAR-Vlaanderen 3.0, emission factors (:mod:`kernels.emission_tables`).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.emission_tables import CAR_VL3
from kernels.fixedpoint import quantise_emission

# Below 40 % of the free speed a road counts as stagnating, above 60 % not at all; between them the factors
# are blended, so that a speed that wavers around one limit does not make the emission jump.
STAGNATING_BELOW = 0.40
FLOWING_ABOVE = 0.60

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
    RURAL = 0
    NORMAL = 1
    STAGNATING = 2
    FREE = 3


class Pollutant(IntEnum):
    """Order of the species in every array of emissions and accumulators; NO2 is the directly emitted part."""

    NOX = 0
    NO2 = 1
    PM10 = 2
    PM25 = 3


N_POLLUTANTS = len(Pollutant)


def factor_table(year: int) -> NDArray[np.float64]:
    """Emission factors [g/km], (class, regime, pollutant), of one year [2]_.

    Raises
    ------
    EmissionError
        For a year without a table.
    """
    if year not in CAR_VL3:
        raise EmissionError(f"emission.year: got {year!r}, expected one of {sorted(CAR_VL3)}")
    table = CAR_VL3[year]
    return np.array([[table[c.name.lower()][r.name.lower()] for r in Regime] for c in VehicleClass])


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
    regime: NDArray[np.int8],
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
    regime : (n,) int8
        :class:`Regime` at free flow.
    factors_g_per_km : (4, 4) float64
        (regime, pollutant) of the class [g/km].
    """
    for i in range(flow_per_h.size):
        q = flow_per_h[i]
        if not q > 0.0:
            continue
        stagnating = stagnating_share(speed_kmh[i], free_speed_kmh[i])
        for p in range(emission_ug_per_m_s.shape[1]):
            e = (1.0 - stagnating) * factors_g_per_km[regime[i], p] + stagnating * factors_g_per_km[2, p]
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
    factors_g_per_km : (4, 4, 4) float64
        See :func:`factor_table`.
    """
    mixed = (1.0 - congested_share) * factors_g_per_km[:, regime] + congested_share * factors_g_per_km[
        :, Regime.STAGNATING
    ]
    return np.asarray(vehicles_per_day * (shares @ mixed) * 1000.0 / (24.0 * 3600.0))


def bounded_quanta(emission_ug_per_m_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """Emission in quanta of 2^-20 ug/m/s, ended at :data:`EMISSION_MAX_QUANTA`."""
    return np.minimum(quantise_emission(emission_ug_per_m_s), EMISSION_MAX_QUANTA)
