"""Noise transfers between buildings: what a receptor costs, without and with one reflection.

Of every city the same way: tiles of 32 x 32 receptors evenly over the grid, one thread, roads heard to 500 m.
The machine's own limit is what the formulas of CNOSSOS-EU alone take for as many paths over open ground: no
search for what stands in between, no diffraction.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.blocks import write_blocks
from cities.noise_geometry import BUILDINGS, read_noise_geometry
from cities.pack import City, CityError, load_city
from kernels.cnossos_path import Profiles, path_energies
from kernels.facade_reflection import Faces, index_faces
from kernels.obstacles import indoors
from kernels.propagation import Atmosphere, air_absorption_db_per_km
from kernels.road_clusters import CLUSTER_M, cluster_roads
from kernels.screened_transfer import Tile, air_over, screened_tile, tiles
from kernels.transfer import NONE, Patches, patch_layout
from studies.noise_transfers import capacity_power_db, radius_m
from studies.screened_noise import read_setting

HEARD_M = 500.0
TILES = 24  # at most: of 224 in central Geneva, to 1 % of the time of all
NOISE_MODELLING_MS = (18.9, 55.3)  # version 6.0.1, central Geneva, 10 m, 500 m: no reflection, one
_N_PATHS = 20_000


def measure(city: City, max_tiles: int = TILES) -> dict[str, float | str]:
    """CPU of one receptor outdoors [ms], by order of reflection, and how that stands to what is known."""
    setting = read_setting(city)
    geometry = read_noise_geometry(city, setting.ground_factor)
    power = 10.0 ** (capacity_power_db(city) / 10.0)
    reach = np.minimum(radius_m(city), HEARD_M)
    clusters = cluster_roads(city.network, reach, power)
    air = air_over(
        HEARD_M + 3.0 * CLUSTER_M[-1], setting.atmosphere, setting.height_m, np.array(setting.p_favourable)
    )
    grid = city.grid
    segment, slot, box, start = patch_layout(city.network, reach, grid)
    is_indoors = indoors(geometry.obstacles, grid.x(), grid.y())
    codes = np.full(int(start[-1]), NONE, dtype=np.uint8)
    cells = np.zeros(segment.size, dtype=np.int64)
    patches = Patches(segment, slot, box, start, cells, codes, grid.shape)
    wanted = np.ones(city.network.n_segments, dtype=bool)
    every = tiles(grid.shape)
    chosen = every[:: -(-len(every) // max_tiles)]

    figures: dict[str, float | str] = {
        "buildings": float(geometry.n_buildings),
        "roads_km": float(city.network.length_m[reach > 0.0].sum() / 1e3),
        "screened_tiles": float(len(chosen)),
    }
    path_us = _open_path_us()
    for order, name in enumerate(("no_reflection", "one_reflection")):
        reflected = 1.0 - np.array(setting.wall_absorption)
        faces = index_faces(geometry.obstacles, clusters, reflected) if order else None

        def hear(tile: Tile, faces: Faces | None = faces) -> NDArray[np.int64]:
            return screened_tile(
                tile, (grid.x_min, grid.y_min), grid.step_m, geometry.obstacles, clusters, reach, air,
                is_indoors, patches, codes, wanted, faces, power,
            )  # fmt: skip

        hear(chosen[0])  # compiles
        started = time.thread_time()
        counts = np.sum([hear(tile) for tile in chosen], axis=0)
        cpu_s = time.thread_time() - started
        n_receptors, n_paths = int(counts[1]), int(counts[0] + counts[3])
        ms = 1e3 * cpu_s / n_receptors
        figures |= {
            f"{name}_ms_per_receptor": ms,
            f"{name}_paths_per_receptor": n_paths / n_receptors,
            f"{name}_ratio_to_open_paths": cpu_s / (1e-6 * path_us * n_paths),
            f"{name}_noise_modelling_over_this": NOISE_MODELLING_MS[order] / ms,
        }
    figures["screened_receptors"] = float(n_receptors)
    figures["open_path_us"] = path_us
    return figures


def _open_path_us() -> float:
    """CPU of the formulas of one path over flat open ground [us]."""
    n = _N_PATHS
    far = np.linspace(5.0, HEARD_M, n)
    nothing = np.full(n, np.nan)
    profiles = Profiles(
        x=np.stack([np.zeros(n), far], axis=1).reshape(-1), z=np.zeros(2 * n), g=np.full(2 * n, 0.5),
        start=np.arange(0, 2 * n + 1, 2), source_height_m=np.full(n, 0.05),
        receiver_height_m=np.full(n, 4.0), source_g=np.zeros(n), distance_m=np.hypot(far, 3.95),
        reflector_x=nothing, reflector_top=nothing, reflected=np.ones((n, 8)),
    )  # fmt: skip
    air = air_absorption_db_per_km(Atmosphere())
    path_energies(profiles, air)  # compiles
    times = []
    for _ in range(5):
        started = time.thread_time()
        path_energies(profiles, air)
        times.append(time.thread_time() - started)
    return 1e6 * float(np.median(times)) / n


def timed_city(folder: Path, city: Path | None) -> City:
    """The city that is timed: a pack, else the town of blocks, written into a folder.

    Raises
    ------
    CityError
        If the pack has no buildings.
    """
    if city is None:
        write_blocks(folder)
        return load_city(folder)
    if not (city / BUILDINGS).is_file():
        raise CityError(f"{city}: has no {BUILDINGS}: nothing stands in the way of its noise")
    return load_city(city)
