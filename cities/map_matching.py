"""Find the street on which a sensor stands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray

from cities.pack import City
from kernels.network import Mode


class StreetIndex:
    """The nearest street to a point, among those on which given modes may travel."""

    def __init__(self, city: City) -> None:
        network = city.network
        vertex = np.arange(len(network.vertex_xy))
        owner = np.searchsorted(network.vertex_start, vertex, side="right") - 1
        self._lines = shapely.linestrings(network.vertex_xy, indices=owner)
        every = np.ones(network.n_segments, dtype=np.bool_)
        motor, bicycle = np.zeros_like(every), np.zeros_like(every)
        motor[city.car_edges.segment] = True
        bicycle[city.bicycle_edges.segment] = True
        self._open = {Mode.BICYCLE: bicycle, Mode.PEDESTRIAN: every}
        self._motor, self._every = motor, every
        self._trees: dict[bytes, tuple[shapely.STRtree, NDArray[np.int64]]] = {}

    def nearest(self, xy: tuple[float, float], modes: Sequence[Mode]) -> tuple[int, float]:
        """Nearest segment that all modes may use, and its distance [m]; (-1, inf) when there is none."""
        allowed = self._every.copy()
        for mode in modes:
            allowed &= self._open.get(mode, self._motor)
        tree, segments = self._tree(allowed)
        if segments.size == 0:
            return -1, float("inf")
        point = shapely.Point(xy)
        at = int(tree.nearest(point))
        return int(segments[at]), float(shapely.distance(point, self._lines[segments[at]]))

    def distance_m(self, xy: tuple[float, float], segment: int) -> float:
        """From a point to a segment [m]."""
        return float(shapely.distance(shapely.Point(xy), self._lines[segment]))

    def _tree(self, allowed: NDArray[np.bool_]) -> tuple[shapely.STRtree, NDArray[np.int64]]:
        key = allowed.tobytes()
        if key not in self._trees:
            segments = np.flatnonzero(allowed)
            self._trees[key] = shapely.STRtree(self._lines[segments]), segments
        return self._trees[key]
