"""What stands along the streets of a city, from its buildings; looked for once and kept."""

from __future__ import annotations

import numpy as np

from cities.cache import cache_folder, content_key, keep, kept
from cities.noise_geometry import BUILDINGS, read_noise_geometry
from cities.pack import City
from kernels.canyon import StreetSides, street_sides

_FORMAT = 1  # rises when the same city would give other sides
_ANY_GROUND = 0.5  # the ground's factor, of which facades know nothing


def street_sides_of(city: City) -> StreetSides | None:
    """Facades along each segment; None for a pack without buildings.

    Raises
    ------
    CityError
        Naming the building or file that cannot be used.
    """
    path = city.folder / BUILDINGS
    if not path.is_file():
        return None
    terrain = city.folder / "terrain.tif"
    parts = [np.fromfile(p, dtype=np.uint8) if p.is_file() else None for p in (path, terrain)]
    folder = cache_folder() / f"street-sides-{content_key(_FORMAT, city.network_hash, city.crs, *parts)}"
    if not folder.is_dir():
        obstacles = read_noise_geometry(city, _ANY_GROUND).obstacles
        keep(folder, street_sides(obstacles, city.network.vertex_xy, city.network.vertex_start))
    sides: StreetSides = kept(folder, StreetSides)
    return sides
