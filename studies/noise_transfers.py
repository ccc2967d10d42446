"""Noise transfers of a city: made once for its geometry, then mapped into memory from the cache."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cities.cache import Progress, cache_folder, content_key
from cities.noise_geometry import has_obstacles
from cities.pack import City
from cities.road_noise import road_noise_of
from kernels.cnossos import band_group_power
from kernels.network import Direction
from kernels.noise_field import headroom_bits
from kernels.propagation import Ground
from kernels.transfer import (
    MAX_CODE,
    STEP_DB,
    NoiseTransfers,
    Patches,
    build_patches,
    radial_table,
)
from studies.screened_noise import prepare_screened, read_setting

VERSION = "noise transfers 2"
_TASK = "noise transfers"

# Distance to which a road is heard [m], by its sound power at capacity [dB(A) re 1 pW/m], never by its
# present flow: a detour fills a quiet street. In Ghent at peak traffic, against 1,500 m for every road
# (3.0 GB), levels are 0.3 dB too low on average, 1.0 dB or more at one receptor in twenty, and 6 dB at the
# worst, far from every road (with all roads at capacity 0.5, 1.7 and 9 dB). 800 m for every road (0.9 GB)
# gives 0.7, 2.5 and 7 dB. The method is validated to 800 m; for the loudest roads it is extrapolated.
RADIUS_BY_POWER = ((88.0, 1500.0), (85.0, 1000.0), (83.0, 800.0), (81.0, 650.0), (-np.inf, 250.0))
MAX_TRUCK_SPEED_KMH = 90.0  # speed limiters of lorries, Directive 92/6/EEC


def _silent(what: str, fraction: float) -> None:
    """Progress that nobody watches."""


def capacity_power_db(city: City) -> NDArray[np.float64]:
    """A-weighted sound power of each segment, all lanes full at free speed, (n_segments,) [dB re 1 pW/m].

    -inf where no motor traffic is allowed.
    """
    road, edges = road_noise_of(city), city.car_edges
    medium_share = city.class_values("truck_medium_share")
    temperature_c = read_setting(city).atmosphere.temperature_c
    power = np.zeros(city.network.n_segments)
    for direction in Direction:
        is_open = np.bincount(edges.segment[edges.direction == direction], minlength=power.size)
        flow = city.class_values("capacity_veh_per_h") * city.lanes * is_open
        trucks = flow * city.class_values("truck_share")
        medium = trucks * medium_share
        power += band_group_power(
            flow - trucks,
            medium,
            trucks - medium,
            city.speed_kmh,
            np.minimum(city.speed_kmh, MAX_TRUCK_SPEED_KMH),
            road.surface,
            temperature_c,
            road.coefficients,
            road.corrections(direction),
        ).sum(axis=1)
    with np.errstate(divide="ignore"):
        return np.asarray(10.0 * np.log10(power))


def radius_m(city: City) -> NDArray[np.float64]:
    """Distance to which each segment is heard, 0 where no motor traffic is allowed, (n_segments,) [m]."""
    return _radius_m(capacity_power_db(city))


def _radius_m(power: NDArray[np.float64]) -> NDArray[np.float64]:
    radius = np.zeros(power.size)
    for least, reach in sorted(RADIUS_BY_POWER):
        radius[power >= least] = reach
    return np.where(np.isneginf(power), 0.0, radius)


def transfer_table(city: City) -> tuple[NDArray[np.float32], float]:
    """Radial table of a city, and its ground factor; receptors, ground and air from city.toml.

    The table knows no direction: of a p_favourable by direction its mean is taken.
    """
    setting = read_setting(city)
    atmosphere = replace(setting.atmosphere, p_favourable=float(np.mean(setting.p_favourable)))
    # A receptor within the radius of a segment hears the whole of it, also its far end.
    reach = max(radius for _, radius in RADIUS_BY_POWER) + float(city.network.length_m.max(initial=0.0))
    table = radial_table(reach, Ground(setting.ground_factor), atmosphere, setting.height_m)
    return table, setting.ground_factor


def prepare_noise(city: City, progress: Progress = _silent) -> NoiseTransfers:
    """Transfers of a city from the cache, built first where they are not there yet.

    With buildings, screens or terrain in the pack they are screened (:mod:`studies.screened_noise`), else
    over open ground. The codes stay in the file and are mapped into memory; only the segments that change
    need be resident.

    Raises
    ------
    OverflowError
        When so many roads crowd around a receptor that the integer field might not hold them.
    CityError
        When a setting or an object of the pack cannot be used.
    """
    power = capacity_power_db(city)
    radius, grid, network = _radius_m(power), city.grid, city.network
    if has_obstacles(city.folder):
        return prepare_screened(city, radius, 10.0 ** (power / 10.0), progress)
    table, ground_factor = transfer_table(city)
    key = content_key(
        VERSION, network.vertex_xy, network.vertex_start, radius, repr(grid), table, STEP_DB, MAX_CODE
    )
    folder = cache_folder() / f"noise-{key}"
    if folder.is_dir():
        try:
            return _read(folder, city, ground_factor)
        except (OSError, ValueError, KeyError) as error:
            progress(f"{_TASK}: {folder} cannot be read ({error}), building again", 0.0)
            shutil.rmtree(folder)
    with tempfile.TemporaryDirectory(prefix="noise-", dir=cache_folder()) as temporary:
        made = Path(temporary) / "made"
        made.mkdir()
        _build(made, city, radius, table, progress)
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster, and made the same
                raise
    progress(_TASK, 1.0)
    return _read(folder, city, ground_factor)


def _build(
    folder: Path,
    city: City,
    radius: NDArray[np.float64],
    table: NDArray[np.float32],
    progress: Progress,
) -> None:
    def in_file(n: int) -> NDArray[np.uint8]:
        if n == 0:
            raise ValueError("noise: no road with motor traffic is near the receptors of the city")
        return np.lib.format.open_memmap(folder / "codes.npy", mode="w+", dtype=np.uint8, shape=(n,))

    patches = build_patches(
        city.network, radius, city.grid, table, lambda done: progress(_TASK, 0.95 * done), allocate=in_file
    )
    index = {name: getattr(patches, name) for name in ("segment", "slot", "box", "start", "n_cells")}
    np.savez(folder / "index.npz", headroom_bits=np.array(headroom_bits(patches)), **index)


def _read(folder: Path, city: City, ground_factor: float) -> NoiseTransfers:
    with np.load(folder / "index.npz") as index:
        codes = np.asarray(np.load(folder / "codes.npy", mmap_mode="r"))
        if codes.size != int(index["start"][-1]):
            raise ValueError(f"codes.npy holds {codes.size} codes, its index says {int(index['start'][-1])}")
        patches = Patches(
            segment=index["segment"],
            slot=index["slot"],
            box=index["box"],
            start=index["start"],
            n_cells=index["n_cells"],
            codes=codes,
            shape=city.grid.shape,
        )
        return NoiseTransfers(city.grid, patches, ground_factor, float(index["headroom_bits"]))
