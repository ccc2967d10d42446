"""Harm of road noise to people: annoyance and disturbed sleep, by the relations of Directive 2002/49/EC.

Relations and use: annex III, as set by Commission Directive (EU) 2020/367 (OJ L 67, 5.3.2020): the share of
people highly annoyed (HA) by Lden, and highly sleep-disturbed (HSD) by Lnight, of road traffic. They are for
annual means outside the most exposed facade and for large populations. With a rolling level of 24 hours they
give an indicator, not the legal value.

The Directive counts from the lowest band of its maps on (Lden 55 dB, Lnight 50 dB), so nobody below counts
here. Bands hold levels that are not rounded: [55, 60) and so on, the last one is open.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LDEN_BANDS_DB = (55.0, 60.0, 65.0, 70.0, 75.0)
LNIGHT_BANDS_DB = (50.0, 55.0, 60.0, 65.0, 70.0)
BAND_DB = 5.0


def highly_annoyed_percent(lden_db: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of people highly annoyed by road traffic at a level [%].

    ``78.9270 - 3.1162 Lden + 0.0342 Lden^2``, 0 below 55 dB, NaN where the level is unknown.
    """
    return _share(lden_db, (78.9270, -3.1162, 0.0342), LDEN_BANDS_DB[0])


def highly_sleep_disturbed_percent(lnight_db: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of people whose sleep road traffic disturbs highly at a level [%].

    ``19.4312 - 0.9336 Lnight + 0.0126 Lnight^2``, 0 below 50 dB, NaN where the level is unknown.
    """
    return _share(lnight_db, (19.4312, -0.9336, 0.0126), LNIGHT_BANDS_DB[0])


def highly_annoyed(people_in_band: NDArray[np.float64]) -> float:
    """People highly annoyed, from those in each band of Lden, (5,): each band by its middle."""
    return _of_bands(people_in_band, highly_annoyed_percent(_middles(LDEN_BANDS_DB)))


def highly_sleep_disturbed(people_in_band: NDArray[np.float64]) -> float:
    """People highly sleep-disturbed, from those in each band of Lnight, (5,): each band by its middle."""
    return _of_bands(people_in_band, highly_sleep_disturbed_percent(_middles(LNIGHT_BANDS_DB)))


def people_in_bands(
    level_db: NDArray[np.float64], people: NDArray[np.float64], bands_db: tuple[float, ...]
) -> NDArray[np.float64]:
    """People in each band, the last one open, (n_bands,).

    Parameters
    ----------
    level_db : (n,) float64
        Not rounded; NaN is in no band.
    people : (n,) float64
    bands_db : tuple of float
        Where each band begins.
    """
    band = np.searchsorted(np.array(bands_db), level_db, side="right")
    band = np.where(np.isnan(level_db), 0, band)
    return np.bincount(band, weights=people, minlength=len(bands_db) + 1)[1:].astype(np.float64)


def _share(
    level_db: NDArray[np.float64], coefficients: tuple[float, float, float], lowest_db: float
) -> NDArray[np.float64]:
    level = np.asarray(level_db, dtype=np.float64)
    a, b, c = coefficients
    return np.where(level < lowest_db, 0.0, a + level * (b + level * c))


def _middles(bands_db: tuple[float, ...]) -> NDArray[np.float64]:
    return np.array(bands_db) + 0.5 * BAND_DB


def _of_bands(people: NDArray[np.float64], percent: NDArray[np.float64]) -> float:
    people = np.asarray(people, dtype=np.float64)
    if people.shape != percent.shape:
        raise ValueError(f"people in bands: got shape {people.shape}, expected {percent.shape}")
    return float(people @ percent) / 100.0
