"""What fusion is compared with: estimates that anyone could make without it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agents.fusion_answers import LeftOut
from cities.pack import City
from cities.traffic_week import TrafficWeek
from kernels.network import Direction
from studies.evaluate_windows import Published


def reference_flows(
    published: Published,
    prior_per_h: NDArray[np.float64],
    moments: Sequence[Sequence[LeftOut]],
    city: City,
    minutes: int,
) -> dict[str, NDArray[np.float64]]:
    """Flows of each reference in all windows, each (n_windows, n_edges) [1/h].

    assignment
        The sensorless assignment: prior flow times the day profile.
    class_prior
        Mean prior flow of the road class, times the day profile.
    class_mean
        Mean of what the counters of the road class read at the end of the window; a class without counters
        has the mean of all.
    profile
        The day profile scaled to counters: on their own edges to their mean over the span, elsewhere to the
        mean of their road class. It knows the level of the day but nothing of the hour.

    Without readings the last two are NaN. ``prior_per_h`` (n_edges,) is of the average hour.
    """
    scale = profile_scale(published, city, minutes)
    n_edges = published.segment.size
    road_class = city.road_class[published.segment].astype(np.int64)
    if prior_per_h.size != n_edges:
        raise ValueError(
            f"prior: has {prior_per_h.size} edges of {published.mode.name.lower()}, not {n_edges}"
        )
    read = readings_on_edges(published, moments, city.network.n_segments)
    class_mean = np.stack([_class_mean(row, road_class) for row in read])
    known = np.isfinite(read)
    total = np.where(known, read, 0.0).sum(axis=0)
    exposure = (known * scale[:, None]).sum(axis=0)
    level = np.where(exposure > 0.0, total / np.where(exposure > 0.0, exposure, 1.0), np.nan)
    level = np.where(np.isfinite(level), level, _class_mean(level, road_class))
    return {
        "assignment": scale[:, None] * prior_per_h,
        "class_prior": scale[:, None] * _class_mean(prior_per_h, road_class),
        "class_mean": class_mean,
        "profile": scale[:, None] * level,
    }


def profile_scale(published: Published, city: City, minutes: int) -> NDArray[np.float64]:
    """Multiple of the average hour in the middle of each window, local time, (n_windows,)."""
    week = TrafficWeek(city)
    return np.array([week.scale(published.mode, int(s) + minutes * 30_000) for s in published.start_ms])


def readings_on_edges(
    published: Published, moments: Sequence[Sequence[LeftOut]], n_segments: int
) -> NDArray[np.float64]:
    """What counters read on their edges at the end of each window, NaN elsewhere: (n_windows, n_edges).

    A counter of both directions gives half of its reading to each; of two counters on one edge the last
    counts.
    """
    index = np.full((n_segments, 2), -1, dtype=np.int64)
    index[published.segment, published.direction] = np.arange(published.segment.size)
    read = np.full((published.start_ms.size, published.segment.size), np.nan)
    for window, moment in enumerate(moments):
        for row in moment:
            if row.mode is not published.mode:
                continue
            ways = [d for d in Direction if row.direction in ("both", d.name.lower())]
            edges = [edge for edge in index[row.segment, ways] if edge >= 0]
            read[window, edges] = row.reading_per_h / max(len(edges), 1)
    return read


def _class_mean(value: NDArray[np.float64], road_class: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean of the known values of each edge's class, of all where the class has none: (n_edges,)."""
    known = np.isfinite(value)
    if not known.any():
        return np.full(value.size, np.nan)
    number = np.bincount(road_class[known], minlength=int(road_class.max()) + 1)
    total = np.bincount(road_class[known], value[known], number.size)
    mean = np.where(number > 0, total / np.maximum(number, 1), value[known].mean())
    return np.asarray(mean[road_class])
