"""NO2 from the NOx of traffic and the ozone of the background.

References
----------
.. [1] Regeling beoordeling luchtkwaliteit 2007, annex 1.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

B = 0.6  # share of the hours with traffic's wind, annual formula [1]_
K_UG_PER_M3 = 100.0


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
