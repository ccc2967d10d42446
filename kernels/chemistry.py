"""NO2 from the NOx of traffic and the ozone of the background.

References
----------
.. [1] Regeling beoordeling luchtkwaliteit 2007, annex 1 and, for the double count, annex 2 par. 5.
.. [2] van Velze and Wesseling, Technische beschrijving van standaardrekenmethode 1, RIVM 2014-0127:
       cumulation of NO2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

B = 0.6  # share of the hours with traffic's wind, annual formula [1]_
K_UG_PER_M3 = 100.0
SRM1_NOTICED_UG_PER_M3 = 0.049  # NOx of streets above which they are cumulated with open roads [2]_
CONVERTED_MAX = (
    1.0 - 1e-9
)  # of the ozone that SRM1 has for conversion; at 1 no NO of SRM1 equals that of SRM2


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
def converted(nox: float, direct_no2: float, b_o3: float, k: float) -> float:
    """:func:`no2_contribution` in the precision of its arguments; ``b_o3`` is B times ozone."""
    no = max(nox, direct_no2) - direct_no2
    return direct_no2 + b_o3 * no / (no + k)


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
    return converted(nox, direct_no2, B * o3, K_UG_PER_M3)


@njit(cache=True, error_model="numpy")
def no2_field(
    nox: NDArray[np.float64], direct_no2: NDArray[np.float64], o3: float, background_no2: float
) -> NDArray[np.float64]:
    """NO2 [ug/m3] of each receptor, (n,); without traffic exactly the background."""
    out = np.empty(nox.size)
    for i in range(nox.size):
        out[i] = background_no2 + no2_contribution(nox[i], direct_no2[i], o3)
    return out


@njit(cache=True, error_model="numpy")
def cumulated_no2(
    srm1_nox: float,
    srm1_direct_no2: float,
    srm2_nox: float,
    srm2_direct_no2: float,
    srm2_no2: float,
    o3: float,
) -> float:
    """Contribution of streets (SRM1) and open roads (SRM2) together to NO2 [ug/m3] [2]_.

    SRM2 converts with all ozone, SRM1 with the share B of it. So the NO of SRM2 is first replaced by the NO
    of which SRM1 would convert as much, ``K eps / (1 - eps)`` with ``eps = NO / (NO + K) / B``, and the
    formula of SRM1 is applied to the sum. At an NO of SRM2 of ``B K / (1 - B)``, 150 ug/m3, eps reaches 1 and
    the formula ends. From there on eps is kept just below 1, so that conversion stays at ``B O3``, which it
    tends to from below.

    Streets whose NOx is not above 0.049 ug/m3 are not cumulated: what they add is added to SRM2's own NO2.

    Parameters
    ----------
    srm1_nox, srm1_direct_no2 : float
        Contributions of all streets [ug/m3].
    srm2_nox, srm2_direct_no2 : float
        Contributions of all open roads [ug/m3].
    srm2_no2 : float
        NO2 of the open roads alone, summed over the wind sectors [ug/m3].
    o3 : float
        Background of ozone [ug/m3].
    """
    if srm1_nox <= SRM1_NOTICED_UG_PER_M3:
        return srm2_no2 + no2_contribution(srm1_nox, srm1_direct_no2, o3)
    no_1 = max(srm1_nox - srm1_direct_no2, 0.0)
    no_2 = max(srm2_nox - srm2_direct_no2, 0.0)
    eps = min(no_2 / (no_2 + K_UG_PER_M3) / B, CONVERTED_MAX)
    no = no_1 + K_UG_PER_M3 * eps / (1.0 - eps)
    return srm1_direct_no2 + srm2_direct_no2 + B * o3 * no / (no + K_UG_PER_M3)


@njit(cache=True, error_model="numpy")
def cumulated_no2_field(
    srm1_nox: NDArray[np.float64],
    srm1_direct_no2: NDArray[np.float64],
    srm2_nox: NDArray[np.float64],
    srm2_direct_no2: NDArray[np.float64],
    srm2_no2: NDArray[np.float64],
    o3: float,
) -> NDArray[np.float64]:
    """:func:`cumulated_no2` of each receptor, all (n,)."""
    out = np.empty(srm1_nox.size)
    for i in range(srm1_nox.size):
        out[i] = cumulated_no2(
            srm1_nox[i], srm1_direct_no2[i], srm2_nox[i], srm2_direct_no2[i], srm2_no2[i], o3
        )
    return out


def nox_of_no2(no2: float, direct_share: float, o3: float) -> float:
    """NOx [ug/m3] whose contribution to NO2 is a known one, the inverse of :func:`no2_contribution` [2]_.

    The positive root of ``A x^2 + beta x - K NO2`` with ``A = f (1 - f)`` and
    ``beta = f K + (1 - f) (B O3 - NO2)``.

    Parameters
    ----------
    no2 : float
        Contribution to NO2 [ug/m3].
    direct_share : float
        f, NO2 emitted directly over NOx, 0 to 1.
    o3 : float
        Background of ozone [ug/m3].

    Raises
    ------
    ChemistryError
        For a value outside its range, or an NO2 that no NOx gives: without direct NO2 it stays below B O3.
    """
    for name, value in (("no2", no2), ("o3", o3)):
        if not 0.0 <= value < math.inf:
            raise ChemistryError(f"{name}: got {value}, expected at least 0 ug/m3")
    if not 0.0 <= direct_share <= 1.0:
        raise ChemistryError(f"direct_share: got {direct_share}, expected 0 to 1")
    if no2 == 0.0:
        return 0.0
    f = direct_share
    a = f * (1.0 - f)
    beta = f * K_UG_PER_M3 + (1.0 - f) * (B * o3 - no2)
    root = math.sqrt(beta * beta + 4.0 * a * no2 * K_UG_PER_M3)
    if beta > 0.0:  # the form that does not subtract two near numbers
        return 2.0 * no2 * K_UG_PER_M3 / (beta + root)
    if a == 0.0:
        raise ChemistryError(f"no2: got {no2}, expected less than B O3, {B * o3:g}, without direct NO2")
    return (root - beta) / (2.0 * a)
