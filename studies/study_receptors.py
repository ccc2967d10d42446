"""Receptors of a study: points with a name, in the coordinates of the city or as longitude and latitude."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer

from cities.pack import City
from studies.study_tables import Row, StudyError, read_rows

COLUMNS = ("id", "x", "y", "lon", "lat", "height_m")
MAX_HEIGHT_M = 500.0
REACH_M = 5000.0  # to which roads count for air; where all receptors are beyond it they are misplaced


@dataclass(frozen=True, slots=True)
class StudyReceptors:
    """Points of a study.

    Attributes
    ----------
    ids : tuple of str
    xy : (n, 2) float64
        In the CRS of the city [m].
    height_m : (n,) float64
        Above the ground, for noise.
    """

    ids: tuple[str, ...]
    xy: NDArray[np.float64]
    height_m: NDArray[np.float64]


def read_receptors(path: Path, city: City, height_m: float) -> StudyReceptors:
    """Receptors of a file; ``height_m`` where it says no height.

    Raises
    ------
    StudyError
        Naming file, line, column and value.
    """
    rows, columns = read_rows(path, ("id",), COLUMNS)
    is_metric, is_degrees = (any(c in columns for c in pair) for pair in (("x", "y"), ("lon", "lat")))
    names = ("x", "y") if is_metric else ("lon", "lat")
    if is_metric == is_degrees or not all(name in columns for name in names):
        raise StudyError(
            f"{path}: line 1: expected the columns x and y ({city.crs}), or lon and lat (WGS84), "
            f"got {', '.join(columns)[:200]}"
        )
    limits = ((math.inf, math.inf), (180.0, 90.0))[is_degrees]
    seen: dict[str, int] = {}
    points: list[tuple[float, float]] = []
    heights: list[float] = []
    read: list[Row] = []
    for row in rows:
        name = row.text("id")
        if name in seen:
            raise row.error("id", f"each receptor once; it is in line {seen[name]} too")
        seen[name] = row.line
        a, b = (row.number(n, -limit, limit) for n, limit in zip(names, limits, strict=True))
        points.append((a, b))
        has_height = bool(row.values.get("height_m"))
        heights.append(
            row.number("height_m", 0.0, MAX_HEIGHT_M, is_above=True, what="m") if has_height else height_m
        )
        read.append(row)
    if not points:
        raise StudyError(f"{path}: holds no receptor")
    xy = np.array(points)
    if is_degrees:
        to_metric = Transformer.from_crs("EPSG:4326", city.crs, always_xy=True)
        xy = np.stack(to_metric.transform(xy[:, 0], xy[:, 1]), axis=1)
        if not (finite := np.isfinite(xy).all(axis=1)).all():
            raise read[int(np.argmin(finite))].error("lon", f"a place within the reach of {city.crs}")
    low, high = city.network.vertex_xy.min(axis=0) - REACH_M, city.network.vertex_xy.max(axis=0) + REACH_M
    if ((xy < low) | (xy > high)).any(axis=1).all():
        hint = "are latitude and longitude swapped?" if is_degrees else f"are they in {city.crs}?"
        got = f"{points[0][0]:g}, {points[0][1]:g}"
        raise StudyError(
            f"{path}: line {read[0].line}: {', '.join(names)}: got {got}; this and all other receptors lie "
            f"more than {REACH_M / 1000:g} km from the roads of {city.name}; {hint}"
        )
    return StudyReceptors(tuple(seen), xy, np.array(heights))
