"""Days and hours above a limit from annual means, by the fits of the regulation.

References
----------
.. [1] Regeling beoordeling luchtkwaliteit 2007, annex 1 par. 3 b and e, annex 2 par. 6.
"""

from __future__ import annotations

import math

PM10_LIMIT_UG_PER_M3 = 50.0  # daily mean
NO2_LIMIT_UG_PER_M3 = 200.0  # hourly mean
DAYS_PER_UG = 4.6128  # slope of the linear branch, also of what traffic adds
LEAST_DAYS = 6.0

# K, M of the i-th highest hour, K + M C [1]_
NO2_HIGHEST_HOURS = (
    (45.1, 2.88), (42.4, 2.72), (41.0, 2.58), (39.6, 2.51), (38.7, 2.45), (38.5, 2.38), (38.1, 2.33),
    (37.8, 2.29), (37.7, 2.25), (37.7, 2.20), (37.8, 2.17), (37.9, 2.13), (37.9, 2.10), (37.9, 2.08),
    (37.6, 2.06), (37.6, 2.04), (37.4, 2.02), (37.4, 2.00), (37.3, 1.98),
)  # fmt: skip


class StatisticsError(ValueError):
    """An input outside its range; the message names the field, what it held and what is allowed."""


def pm10_days_above_limit(annual_pm10: float) -> float:
    """Days a year with a mean of PM10 above 50 ug/m3 [1]_.

    Parameters
    ----------
    annual_pm10 : float
        Annual mean with the background [ug/m3].

    Raises
    ------
    StatisticsError
        For a mean that is negative or not finite.
    """
    _check("annual_pm10", annual_pm10)
    above = annual_pm10 - 31.2
    if above > 0.0:
        return DAYS_PER_UG * annual_pm10 - 108.92
    if annual_pm10 >= 16.0:
        return 0.13401 * above * above + 3.9427 * above + 35.0
    return LEAST_DAYS


def pm10_days_of_traffic(pm10_contribution: float) -> float:
    """Days above 50 ug/m3 that a road's contribution [ug/m3] adds to those of everything else [1]_.

    Raises
    ------
    StatisticsError
        For a contribution that is negative or not finite.
    """
    _check("pm10_contribution", pm10_contribution)
    return DAYS_PER_UG * pm10_contribution


def no2_highest_hour(annual_no2: float, rank: int) -> float:
    """The highest (rank 1) to 19th highest hourly mean of NO2 in a year [ug/m3] [1]_.

    Parameters
    ----------
    annual_no2 : float
        Annual mean with the background [ug/m3].
    rank : int
        1 to 19.

    Raises
    ------
    StatisticsError
        For a mean that is negative or not finite, or another rank.
    """
    _check("annual_no2", annual_no2)
    if not 1 <= rank <= len(NO2_HIGHEST_HOURS):
        raise StatisticsError(f"rank: got {rank}, expected 1 to {len(NO2_HIGHEST_HOURS)}")
    k, m = NO2_HIGHEST_HOURS[rank - 1]
    return k + m * annual_no2


def no2_hours_above_limit(annual_no2: float) -> int:
    """Hours a year above 200 ug/m3, 0 to 19; 19 means 19 or more, which the limit of 18 does not allow [1]_.

    Raises
    ------
    StatisticsError
        For a mean that is negative or not finite.
    """
    ranks = range(1, len(NO2_HIGHEST_HOURS) + 1)
    return sum(no2_highest_hour(annual_no2, rank) > NO2_LIMIT_UG_PER_M3 for rank in ranks)


def _check(name: str, value: float) -> None:
    if not 0.0 <= value < math.inf:
        raise StatisticsError(f"{name}: got {value}, expected at least 0 ug/m3")
