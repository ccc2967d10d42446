"""Which receptors of a city lie inside its buildings; looked for once and kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from cities.cache import cache_folder, content_key, keep, kept
from cities.noise_geometry import BUILDINGS, read_noise_geometry
from cities.pack import City
from kernels.obstacles import indoors

_FORMAT = 1  # rises when the same city would give other receptors
_ANY_GROUND = 0.5  # the ground's factor, of which outlines know nothing


@dataclass(frozen=True, slots=True)
class Indoors:
    """Receptors inside buildings, and where to go from them.

    Attributes
    ----------
    is_indoors : (n_rows, n_columns) bool
    outdoors : (n_receptors,) int64
        The nearest receptor that is outdoors, by flat index; of one outdoors itself.
    """

    is_indoors: NDArray[np.bool_]
    outdoors: NDArray[np.int64]


def indoors_of(city: City) -> Indoors | None:
    """Receptors inside buildings; None for a pack without buildings.

    Raises
    ------
    CityError
        Naming the building or file that cannot be used.
    """
    path = city.folder / BUILDINGS
    if not path.is_file():
        return None
    key = content_key(_FORMAT, city.crs, city.grid, np.fromfile(path, dtype=np.uint8))
    folder = cache_folder() / f"indoors-{key}"
    if not folder.is_dir():
        obstacles = read_noise_geometry(city, _ANY_GROUND).obstacles
        keep(folder, nearest_outdoors(indoors(obstacles, city.grid.x(), city.grid.y())))
    found: Indoors = kept(folder, Indoors)
    return found


def nearest_outdoors(is_indoors: NDArray[np.bool_]) -> Indoors:
    """For each receptor the nearest outdoors; itself where all are indoors."""
    flat = np.arange(is_indoors.size, dtype=np.int64)
    if is_indoors.any() and not is_indoors.all():
        row, column = distance_transform_edt(is_indoors, return_distances=False, return_indices=True)
        flat = (row.astype(np.int64) * is_indoors.shape[1] + column).ravel()
    return Indoors(is_indoors, flat)
