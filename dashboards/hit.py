"""Which street an operator meant."""

from __future__ import annotations

import numpy as np
import shapely

from cities.pack import City


class StreetFinder:
    """Segments by place and by identifier; one index for all viewers."""

    def __init__(self, city: City) -> None:
        network = city.network
        counts = np.diff(network.vertex_start)
        lines = shapely.linestrings(
            network.vertex_xy, indices=np.repeat(np.arange(network.n_segments), counts)
        )
        self._tree = shapely.STRtree(lines)
        self._index = {identifier: s for s, identifier in enumerate(city.segment_ids)}

    def nearest(self, x: float, y: float, within_m: float) -> int | None:
        """Segment nearest to a point, if within a distance [m]."""
        found = self._tree.query_nearest(shapely.Point(x, y), max_distance=within_m, all_matches=False)
        return int(found[0]) if len(found) else None

    def index_of(self, identifier: str) -> int | None:
        """Index of a segment, None when there is none of that identifier."""
        return self._index.get(identifier)
