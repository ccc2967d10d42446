"""Who lives behind which facade: the people of a municipality over its homes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import shapely
from numpy.typing import NDArray

from cities.pack import City
from kernels.exposure import UNKNOWN
from kernels.facades import FacadeReceptors, dwellings_at_points

RECEPTORS = "most exposed facade / 4 m"
SPREAD = (
    "population total spread over buildings of residential or unknown use by floor area (footprint times "
    "height), within each over the louder half of its facades"
)


@dataclass(frozen=True, slots=True)
class FacadeZone:
    """Receptors of the homes of a zone, the people there by tile, and the share who live at a receptor."""

    receptor: NDArray[np.int64]
    people_by_tile: NDArray[np.float64]
    share_covered: float


class FacadePeople:
    """People of each home and zone.

    A home belongs to the zone of the residential street that is nearest to it.

    Parameters
    ----------
    city : City
    receptors : FacadeReceptors
    total : float
        People of the municipality.
    is_residential : (n_segments,) bool
    whole_city : str
        Name under which all zones are taken together.
    """

    def __init__(
        self,
        city: City,
        receptors: FacadeReceptors,
        total: float,
        is_residential: NDArray[np.bool_],
        whole_city: str,
    ) -> None:
        self._home = receptors.home
        self._people = total * receptors.floor_area_m2 / receptors.floor_area_m2.sum()
        start = receptors.tile_start
        self._spans = [slice(a, b) for a, b in pairwise(start.tolist())]
        zone = np.array(city.segment_zones)[_nearest(city, receptors.home_xy, np.flatnonzero(is_residential))]
        at_receptor = np.zeros(receptors.n_homes, dtype=np.bool_)
        at_receptor[self._home] = True
        first = np.searchsorted(self._home, np.flatnonzero(at_receptor))
        tile = np.zeros(receptors.n_homes, dtype=np.int64)
        tile[at_receptor] = np.searchsorted(start, first, side="right") - 1
        self.zones: dict[str, FacadeZone] = {}
        for name in sorted({*zone.tolist(), whole_city}):
            of_zone = np.full(zone.size, True) if name == whole_city else zone == name
            here = of_zone & at_receptor
            by_tile: NDArray[np.float64] = np.zeros(start.size - 1)
            np.add.at(by_tile, tile[here], self._people[here])
            share = float(self._people[here].sum() / self._people[of_zone].sum())
            self.zones[name] = FacadeZone(np.flatnonzero(here[self._home]), by_tile, round(share, 4))

    @property
    def n_receptors(self) -> int:
        return int(self._home.size)

    def span(self, tile: int) -> slice:
        """Receptors of a tile, in the order in which the noise agent tells their levels."""
        return self._spans[tile]

    def at_receptors(self, stored: NDArray[np.uint16]) -> NDArray[np.float64]:
        """People at each receptor by its level as it is stored, (n_receptors,).

        The steps of a level are of one size, so their order and medians are those of levels.
        """
        level = np.where(stored == UNKNOWN, np.nan, stored.astype(np.float64))
        return dwellings_at_points(level, self._home, self._people)


def _nearest(city: City, xy: NDArray[np.float64], segments: NDArray[np.int64]) -> NDArray[np.int64]:
    """The nearest of some segments to each place."""
    lines = np.array([shapely.LineString(city.network.polyline(int(s))) for s in segments], dtype=object)
    return np.asarray(segments[shapely.STRtree(lines).nearest(shapely.points(xy))])
