"""NO2 from the NOx of traffic and the ozone of the background.

References
----------
.. [1] Regeling beoordeling luchtkwaliteit 2007, annex 1 and, for the double count, annex 2 par. 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

B = 0.6  # share of the hours with traffic's wind, annual formula [1]_
K_UG_PER_M3 = 100.0


class ChemistryError(ValueError):
    """A concentration outside its range; the message names the field, what it held and what is allowed."""


@dataclass(frozen=True, slots=True)
class Background:
    """Annual means of the background, or corrections of them [ug/m3]."""

    no2: float
    o3: float
    pm10: float
    pm25: float


def without_double_count(background: Background, double_count: Background) -> Background:
    """Background without the part of the roads that are calculated one by one [1]_.

    Each amount is taken off; that of ozone is negative, for without these roads there would be more of it.
    Nothing goes below zero.

    Raises
    ------
    ChemistryError
        For a background below 0, an amount below 0 or one of ozone above 0; both must be finite.
    """
    parts = {}
    for name in ("no2", "o3", "pm10", "pm25"):
        total, amount = getattr(background, name), getattr(double_count, name)
        if not 0.0 <= total < math.inf:
            raise ChemistryError(f"{name} of the background: got {total}, expected at least 0 ug/m3")
        is_allowed = -math.inf < amount <= 0.0 if name == "o3" else 0.0 <= amount < math.inf
        if not is_allowed:
            allowed = "at most 0 (taking it off raises ozone)" if name == "o3" else "at least 0"
            raise ChemistryError(f"{name} of the double count: got {amount}, expected {allowed} ug/m3")
        parts[name] = max(total - amount, 0.0)
    return Background(**parts)


@njit(cache=True, error_model="numpy")
def no2_contribution(nox: float, direct_no2: float, o3: float) -> float:
    """Contribution of traffic to NO2 [ug/m3] [1]_.

    ``f C + B O3 C (1 - f) / (C (1 - f) + K)`` with C the NOx of all roads together and f C their directly
    emitted NO2: roads are cumulated by adding NOx and weighting f with it, then the formula is applied once.

    Parameters
    ----------
    nox, direct_no2 : float
        Contributions of all roads, NOx as NO2 [ug/m3].
    o3 : float
        Background of ozone [ug/m3].
    """
    no = max(nox - direct_no2, 0.0)
    return direct_no2 + B * o3 * no / (no + K_UG_PER_M3)


@njit(cache=True, error_model="numpy")
def no2_field(
    nox: NDArray[np.float64], direct_no2: NDArray[np.float64], o3: float, background_no2: float
) -> NDArray[np.float64]:
    """NO2 [ug/m3] of each receptor, (n,); without traffic exactly the background."""
    out = np.empty(nox.size)
    for i in range(nox.size):
        out[i] = background_no2 + no2_contribution(nox[i], direct_no2[i], o3)
    return out
