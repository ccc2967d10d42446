"""Quanta of the exact integer fields.

A receptor field is linear in the emissions, so integer products add up to the same sum in any order: an
incremental update equals a full recompute bit for bit, and a change and its reversal leave nothing behind.

======================  ==================================  ==========================
quantity                quantum                             type
======================  ==================================  ==========================
air coefficient         2^-30 (ug/m3) / (ug/m/s)            int32
pollutant emission      2^-20 ug/m/s                        int64
air accumulator         2^-50 ug/m3, so +-8192 ug/m3        int64
sound power per metre   40 dB re 1 pW/m                     int64 (20 bits: to 100 dB)
noise transfer          0 to -97 dB in 0.5 dB steps         uint8, 255 = none
transfer table          2^39 for 0 dB                       int64
======================  ==================================  ==========================
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

AIR_COEFFICIENT_BITS = 30
EMISSION_BITS = 20
POWER_QUANTUM_PW = 1e4  # 40 dB re 1 pW/m: a street of one car in ten minutes is far above it
POWER_MAX = (1 << 20) - 1


def quantise_emission(emission_ug_per_m_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """Emission in quanta of 2^-20 ug/m/s, rounded to the nearest even."""
    return np.rint(np.ldexp(emission_ug_per_m_s, EMISSION_BITS)).astype(np.int64)


def emission_of(quanta: NDArray[np.int64]) -> NDArray[np.float64]:
    """Emission [ug/m/s] of quanta."""
    return np.ldexp(quanta.astype(np.float64), -EMISSION_BITS)


def quantise_coefficient(coefficient: NDArray[np.float64]) -> NDArray[np.int32]:
    """Air coefficient in quanta of 2^-30 (ug/m3)/(ug/m/s); it must be below 2."""
    return np.rint(np.ldexp(coefficient, AIR_COEFFICIENT_BITS)).astype(np.int32)


def concentration_of(accumulator: NDArray[np.int64]) -> NDArray[np.float64]:
    """Concentration [ug/m3] of an accumulator."""
    return np.ldexp(accumulator.astype(np.float64), -AIR_COEFFICIENT_BITS - EMISSION_BITS)


def quantise_power(power_pw_per_m: NDArray[np.float64]) -> NDArray[np.int64]:
    """Sound power per metre in quanta of 40 dB re 1 pW/m, limited to 20 bits (100.2 dB)."""
    return np.minimum(np.rint(power_pw_per_m / POWER_QUANTUM_PW).astype(np.int64), POWER_MAX)
