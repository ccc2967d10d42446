"""People beside streets, and what they are exposed to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SPACING_M = 20.0
OFFSET_M = 10.0
UNKNOWN = 65535


@dataclass(frozen=True, slots=True)
class Exposure:
    """What a group of people is exposed to.

    ``people`` are those at receptors with a known value; ``mean`` and ``p95`` are over people, NaN without
    any.
    """

    people: float
    people_above: tuple[float, ...]
    mean: float
    p95: float


def beside_points(line: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points 10 m to either side of a street, in the middle of parts of about 20 m, (2 n, 2) [m].

    Parameters
    ----------
    line : (m, 2) float64
        Vertices without repetition [m].
    """
    step = np.diff(line, axis=0)
    length = np.hypot(step[:, 0], step[:, 1])
    along = np.concatenate([[0.0], np.cumsum(length)])
    n = max(1, round(float(along[-1]) / SPACING_M))
    at = (np.arange(n) + 0.5) * (along[-1] / n)
    piece = np.minimum(np.searchsorted(along, at, side="right") - 1, length.size - 1)
    unit = step[piece] / length[piece, None]
    foot = line[piece] + (at - along[piece])[:, None] * unit
    left = np.stack([-unit[:, 1], unit[:, 0]], axis=1) * OFFSET_M
    return np.concatenate([foot + left, foot - left])


def exposure_of(
    stored: NDArray[np.uint16],
    people: NDArray[np.float64],
    thresholds: NDArray[np.float64],
    scale: float,
    offset: float,
) -> Exposure:
    """Statistics over people of a stored field.

    Parameters
    ----------
    stored : (n,) uint16
        Value at each receptor, ``offset + scale x stored``; 65535 is unknown and its people do not count.
    people : (n,) float64
        People at each receptor.
    thresholds : (k,) float64
        In the unit of the field; above means greater than.
    """
    known = stored != UNKNOWN
    histogram = np.bincount(stored[known], weights=people[known])
    total = float(histogram.sum())
    if total <= 0.0:
        return Exposure(0.0, tuple(0.0 for _ in thresholds), float("nan"), float("nan"))
    values = offset + scale * np.arange(histogram.size)
    below = np.cumsum(histogram)
    # the stored value is exact to half a step, so a threshold on a step must not be lost to rounding
    first_above = np.floor((thresholds - offset) / scale + 1e-6).astype(np.int64) + 1
    above = [float(histogram[max(0, int(k)) :].sum()) for k in first_above]
    return Exposure(
        people=total,
        people_above=tuple(above),
        mean=float((histogram * values).sum()) / total,
        p95=float(values[int(np.searchsorted(below, 0.95 * total))]),
    )


def people_in_stored_bands(
    stored: NDArray[np.uint16],
    people: NDArray[np.float64],
    bands: tuple[float, ...],
    scale: float,
    offset: float,
) -> tuple[float, NDArray[np.float64]]:
    """People with a known value, and those in each band of it, the last one open, (n_bands,).

    Parameters
    ----------
    stored : (n,) uint16
        Value at each receptor, ``offset + scale x stored``; 65535 is unknown and its people do not count.
    people : (n,) float64
    bands : tuple of float
        Where each band begins, in the unit of the field; a value at the beginning belongs to it.
    """
    known = stored != UNKNOWN
    # the stored value is exact to half a step, so a beginning on a step must not be lost to rounding
    begin = np.ceil((np.array(bands) - offset) / scale - 1e-6)
    band = np.searchsorted(begin, stored[known], side="right")
    in_band = np.bincount(band, weights=people[known], minlength=len(bands) + 1).astype(np.float64)
    return float(in_band.sum()), in_band[1:]
