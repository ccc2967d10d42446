"""Screened noise transfers of a city: made in tiles that survive an interruption, redone where it changes.

What stands in a city is kept with its transfers. When buildings or screens change, only the transfers between
segments and receptors that have something of them in between are made again; all others are taken from what
the cache has of the same roads and receptors.
"""

from __future__ import annotations

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cities.cache import Progress, cache_folder, content_key
from cities.noise_geometry import BUILDINGS, NoiseGeometry, read_noise_geometry
from cities.noise_settings import favourable_shares, noise_number
from cities.pack import City, CityError
from kernels.facade_reflection import NEAR_M, Faces, index_faces
from kernels.noise_field import headroom_bits
from kernels.obstacles import indoors
from kernels.propagation import Atmosphere
from kernels.road_clusters import CLUSTER_M, PIECE_M, RoadClusters, cluster_roads
from kernels.screened_transfer import (
    COARSEST,
    FINENESS,
    FINEST,
    N_SECTORS,
    PRUNE,
    Air,
    Tile,
    air_over,
    screened_tile,
    tiles,
)
from kernels.transfer import (
    MAX_CODE,
    NONE,
    RECEPTOR_HEIGHT_M,
    STEP_DB,
    NoiseTransfers,
    Patches,
    n_threads,
    patch_layout,
)
from studies.facade_transfers import WayOfSound, prepare_facades
from studies.noise_scene import HARD_FACE

VERSION = "screened noise transfers 2"
_TASK = "noise transfers"
_SAVED_EVERY_S = 5.0  # what an interruption costs
_MANY_CHANGES = 500  # from here on everything is made again: little would be left
_INDEX = ("segment", "slot", "box", "start")


@dataclass(frozen=True, slots=True)
class Setting:
    """[noise] of city.toml, as far as it concerns the way of the sound."""

    ground_factor: float
    atmosphere: Atmosphere
    p_favourable: tuple[float, ...]
    max_distance_m: float
    height_m: float
    reflections: int
    wall_absorption: tuple[float, ...]


def read_setting(city: City) -> Setting:
    """Settings of the propagation.

    Raises
    ------
    CityError
        Naming the field.
    """
    noise = city.settings.get("noise", {})
    receptors = city.settings.get("receptors", {})
    height = receptors.get("height_noise_m", RECEPTOR_HEIGHT_M)
    if isinstance(height, bool) or not isinstance(height, int | float) or not 0.5 <= height <= 200.0:
        raise CityError(f"city.toml [receptors] height_noise_m: got {height!r}, expected 0.5 to 200")
    walls: tuple[float, ...] = HARD_FACE
    if "wall_absorption" in noise:
        walls = (noise_number(noise, "wall_absorption"),) * len(HARD_FACE)
    return Setting(
        ground_factor=noise_number(noise, "ground_factor"),
        atmosphere=Atmosphere(
            temperature_c=noise_number(noise, "annual_temperature_c"),
            humidity_percent=noise_number(noise, "humidity_percent"),
        ),
        p_favourable=favourable_shares(noise, N_SECTORS),
        max_distance_m=noise_number(noise, "max_distance_m"),
        height_m=float(height),
        reflections=int(noise_number(noise, "reflections")),
        wall_absorption=walls,
    )


@dataclass(frozen=True, slots=True)
class _Plan:
    """Everything a tile is computed from."""

    city: City
    geometry: NoiseGeometry
    clusters: RoadClusters
    reach_m: NDArray[np.float64]
    air: Air
    is_indoors: NDArray[np.bool_]
    layout: Patches
    power: NDArray[np.float64]
    faces: Faces | None
    key: str

    def folder(self) -> Path:
        digest = self.geometry.digest
        known = digest[np.lexsort(digest.T)]
        return cache_folder() / f"noise-{self.key}-{content_key(known)}"


def prepare_screened(
    city: City, radius_m: NDArray[np.float64], power: NDArray[np.float64], progress: Progress
) -> NoiseTransfers:
    """Screened transfers of a city to its grid and facades from the cache, built where not there yet.

    Parameters
    ----------
    city : City
    radius_m : (n_segments,) float64
        Distance to which a segment is heard, 0 for those that are not [m]; cut at ``max_distance_m``.
    power : (n_segments,) float64
        Sound power of a metre at capacity.
    progress : callable

    Raises
    ------
    CityError
        When a setting or an object of the pack cannot be used.
    """
    setting = read_setting(city)
    progress(f"{_TASK}: buildings", 0.0)
    geometry = read_noise_geometry(city, setting.ground_factor)
    plan = _plan(city, setting, geometry, np.minimum(radius_m, setting.max_distance_m), power)
    transfers = _to_grid(plan, setting, progress)
    way = WayOfSound(
        geometry.obstacles, plan.clusters, plan.reach_m, plan.air, plan.power, plan.faces, plan.folder().name
    )
    return replace(transfers, facades=prepare_facades(city, way, progress))


def _to_grid(plan: _Plan, setting: Setting, progress: Progress) -> NoiseTransfers:
    folder = plan.folder()
    if folder.is_dir():
        try:
            return _read(folder, plan, setting)
        except (OSError, ValueError, KeyError) as error:
            progress(f"{_TASK}: {folder} cannot be read ({error}), building again", 0.0)
            shutil.rmtree(folder)
    part = folder.with_name(f"{folder.name}-part")
    _build(part, plan, progress)
    try:
        part.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster, and made the same
            raise
    progress(_TASK, 1.0)
    return _read(folder, plan, setting)


def _plan(
    city: City,
    setting: Setting,
    geometry: NoiseGeometry,
    reach_m: NDArray[np.float64],
    power: NDArray[np.float64],
) -> _Plan:
    network, grid = city.network, city.grid
    segment, slot, box, start = patch_layout(network, reach_m, grid)
    if segment.size == 0:
        raise ValueError("noise: no road with motor traffic is near the receptors of the city")
    air = air_over(
        float(reach_m.max()) + 3.0 * CLUSTER_M[-1],
        setting.atmosphere,
        setting.height_m,
        np.array(setting.p_favourable),
    )
    key = content_key(
        VERSION, network.vertex_xy, network.vertex_start, reach_m, power, repr(grid), geometry.base_key,
        *air, COARSEST, FINEST, FINENESS, setting.reflections and (PRUNE, NEAR_M, setting.wall_absorption),
        STEP_DB, MAX_CODE,
    )  # fmt: skip
    clusters = cluster_roads(network, reach_m, power)
    return _Plan(
        city=city,
        geometry=geometry,
        clusters=clusters,
        reach_m=reach_m,
        air=air,
        is_indoors=indoors(geometry.obstacles, grid.x(), grid.y()),
        layout=Patches(
            segment, slot, box, start, np.zeros(segment.size, dtype=np.int64), np.empty(0, dtype=np.uint8),
            grid.shape,
        ),
        power=power,
        faces=index_faces(geometry.obstacles, clusters, 1.0 - np.array(setting.wall_absorption))
        if setting.reflections
        else None,
        key=key,
    )  # fmt: skip


def _bounds(city: City) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, xy = city.network.vertex_start[:-1], city.network.vertex_xy
    return np.minimum.reduceat(xy, first), np.maximum.reduceat(xy, first)


def _build(part: Path, plan: _Plan, progress: Progress) -> None:
    """Codes and index in a folder that may hold what an earlier run has done."""
    todo = tiles(plan.city.grid.shape)
    codes, wanted, done = _begin(part, plan, len(todo), progress)
    touched = np.asarray(wanted.any(axis=1))
    waiting = [k for k in range(len(todo)) if touched[k] and not done[k]]
    grid = plan.city.grid
    counts = np.zeros(4, dtype=np.int64)

    def make(k: int) -> tuple[int, NDArray[np.int64]]:
        is_wanted = np.zeros(plan.city.network.n_segments, dtype=bool)
        is_wanted[plan.layout.segment[np.flatnonzero(wanted[k])]] = True
        return k, screened_tile(
            todo[k], (grid.x_min, grid.y_min), grid.step_m, plan.geometry.obstacles, plan.clusters,
            plan.reach_m, plan.air, plan.is_indoors, plan.layout, codes, is_wanted, plan.faces, plan.power,
        )  # fmt: skip

    made: list[int] = []
    saved = time.monotonic()

    def save() -> None:
        codes.flush()
        done[made] = True
        done.flush()
        made.clear()

    n_before = int((touched & done).sum())
    pool = ThreadPoolExecutor(n_threads())
    try:
        futures = [pool.submit(make, k) for k in waiting]
        for number, future in enumerate(as_completed(futures), start=1):
            k, count = future.result()
            counts += count
            made.append(k)
            if time.monotonic() - saved > _SAVED_EVERY_S:
                save()
                saved = time.monotonic()
            progress(_TASK, 0.95 * (n_before + number) / (n_before + len(waiting)))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        save()
    if counts[2]:
        raise CityError(
            f"{BUILDINGS}: {counts[2]} of {counts[0] + counts[3]} paths meet more walls than fit; "
            "simplify the outlines"
        )
    codes.flush()
    n_cells = np.zeros(plan.layout.segment.size, dtype=np.int64)
    _count_cells(plan.layout.start, codes, n_cells)
    patches = replace(plan.layout, n_cells=n_cells, codes=codes)
    np.savez(
        part / "index.npz", headroom_bits=np.array(headroom_bits(patches)), n_cells=n_cells,
        digest=plan.geometry.digest, box_m=plan.geometry.box,
        **{name: getattr(plan.layout, name) for name in _INDEX},
    )  # fmt: skip
    (part / "report.json").write_text(
        json.dumps({
            "tiles": len(todo), "tiles_made": int(touched.sum()), "receptors": int(counts[1]),
            "direct_paths": int(counts[0]), "reflected_paths": int(counts[3]),
        }),
        encoding="utf-8",
    )  # fmt: skip
    (part / "done.npy").unlink()
    (part / "wanted.npy").unlink()


def _begin(part: Path, plan: _Plan, n_tiles: int, progress: Progress) -> tuple[Any, NDArray[np.bool_], Any]:
    """Codes, patches that are to be made, tiles that are done: of an interrupted run, else new ones."""
    try:
        codes = np.lib.format.open_memmap(part / "codes.npy", mode="r+")
        done = np.lib.format.open_memmap(part / "done.npy", mode="r+")
        wanted = np.load(part / "wanted.npy")
        if codes.size == plan.layout.start[-1] and done.size == n_tiles:
            return codes, wanted, done
        progress(f"{_TASK}: {part} does not fit, starting again", 0.0)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        progress(f"{_TASK}: {part} cannot be read ({error}), starting again", 0.0)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    codes = np.lib.format.open_memmap(
        part / "codes.npy", mode="w+", dtype=np.uint8, shape=(int(plan.layout.start[-1]),)
    )
    codes[:] = NONE
    wanted = _take_over(plan, tiles(plan.city.grid.shape), codes, progress)
    np.save(part / "wanted.npy", wanted)
    codes.flush()
    done = np.lib.format.open_memmap(part / "done.npy", mode="w+", dtype=np.bool_, shape=(n_tiles,))
    done.flush()
    return codes, wanted, done


def _take_over(
    plan: _Plan, todo: list[Tile], codes: NDArray[np.uint8], progress: Progress
) -> NDArray[np.bool_]:
    """Copy the codes of the most similar earlier build; what is still to be made, (n_tiles, n_patches)."""
    on_tile = np.array([_overlaps(t, plan.layout.box) for t in todo])
    best: tuple[int, NDArray[np.float64], Path] | None = None
    for path in sorted(cache_folder().glob(f"noise-{plan.key}-*/index.npz")):
        if path.parent.name.endswith("-part"):
            continue
        with np.load(path) as index:
            changed = _changed(index["digest"], index["box_m"], plan.geometry)
        if best is None or len(changed) < best[0]:
            best = len(changed), changed, path.parent
    if best is None or best[0] > _MANY_CHANGES:
        return on_tile
    n_changed, changed, folder = best
    codes[:] = np.load(folder / "codes.npy", mmap_mode="r")
    wanted: NDArray[np.bool_] = np.logical_and(on_tile, _in_between(plan, todo, changed))
    if plan.faces is not None:  # which reflections count depends on all that is heard at a receptor
        wanted = np.logical_and(on_tile, np.asarray(wanted.any(axis=1))[:, None])
    share = wanted.sum() / max(on_tile.sum(), 1)
    progress(f"{_TASK}: {n_changed} outlines gone or new, {share:.0%} of the transfers are made again", 0.0)
    return wanted


def _overlaps(tile: Tile, box: NDArray[np.int32]) -> NDArray[np.bool_]:
    rows = (box[:, 0] < tile.row_end) & (box[:, 1] > tile.row)
    return np.asarray(rows & (box[:, 2] < tile.column_end) & (box[:, 3] > tile.column))


def _changed(
    digest: NDArray[np.uint64], box: NDArray[np.float64], geometry: NoiseGeometry
) -> NDArray[np.float64]:
    """Boxes of the objects that only one of two cities has, (n, 4)."""
    both = np.concatenate([digest, geometry.digest])
    boxes = np.concatenate([box, geometry.box])
    is_new = np.arange(len(both)) >= len(digest)
    _, number = np.unique(both, axis=0, return_inverse=True)
    number = number.reshape(-1)
    n_kinds = int(number.max(initial=-1)) + 1
    before = np.bincount(number[~is_new], minlength=n_kinds)
    after = np.bincount(number[is_new], minlength=n_kinds)
    return np.asarray(boxes[np.not_equal(before, after)[number]])


def _in_between(plan: _Plan, todo: list[Tile], changed: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether anything that changed lies in the box around a tile and a segment, (n_tiles, n_patches)."""
    grid = plan.city.grid
    low, high = (each[plan.layout.segment] for each in _bounds(plan.city))
    # a cluster is heard at a piece that may lie beside the segment, a facade beside all
    clusters, top = plan.clusters, plan.clusters.tops
    count = clusters.end[top] - clusters.begin[top]
    radius = np.zeros(plan.reach_m.size)
    np.maximum.at(radius, clusters.segment, np.repeat(clusters.radius_m[top], count))
    beside = radius[plan.layout.segment] + PIECE_M + (NEAR_M if plan.faces is not None else 0.0)
    found = np.zeros((len(todo), len(low)), dtype=bool)
    for k, tile in enumerate(todo):
        x0, x1 = (grid.x_min + column * grid.step_m for column in (tile.column, tile.column_end))
        y0, y1 = (grid.y_min + row * grid.step_m for row in (tile.row, tile.row_end))
        west, south = np.minimum(low[:, 0], x0) - beside, np.minimum(low[:, 1], y0) - beside
        east, north = np.maximum(high[:, 0], x1) + beside, np.maximum(high[:, 1], y1) + beside
        for box in changed:
            found[k] |= (box[0] <= east) & (box[2] >= west) & (box[1] <= north) & (box[3] >= south)
    return found


@njit(cache=True, error_model="numpy", nogil=True)
def _count_cells(start: NDArray[np.int64], codes: NDArray[np.uint8], n_cells: NDArray[np.int64]) -> None:
    for p in range(n_cells.size):
        n = (start[p + 1] - start[p]) // 4
        for k in range(start[p], start[p] + n):
            if min(min(codes[k], codes[k + n]), min(codes[k + 2 * n], codes[k + 3 * n])) != NONE:
                n_cells[p] += 1


def _read(folder: Path, plan: _Plan, setting: Setting) -> NoiseTransfers:
    with np.load(folder / "index.npz") as index:
        codes = np.asarray(np.load(folder / "codes.npy", mmap_mode="r"))
        if codes.size != int(plan.layout.start[-1]):
            raise ValueError(f"codes.npy holds {codes.size} codes, expected {int(plan.layout.start[-1])}")
        patches = replace(plan.layout, n_cells=index["n_cells"], codes=codes)
        bits = float(index["headroom_bits"])
    n_indoors, geometry = int(plan.is_indoors.sum()), plan.geometry
    counted = ((geometry.n_buildings, "buildings"), (geometry.n_barriers, "screens"))
    things = " and ".join(f"{n:,} {what}" for n, what in counted if n)
    kind = f"screened by {things}" if things else "no buildings in this pack"
    if plan.geometry.obstacles.ground.size > 1:
        kind += ", over terrain"
    kind += "; reflections of first order" if plan.faces is not None else "; no reflections"
    findings = geometry.findings
    if n_indoors:
        findings += (
            f"{n_indoors} of {plan.is_indoors.size} receptors are inside a building: no level there",
        )
    return NoiseTransfers(
        plan.city.grid,
        patches,
        setting.ground_factor,
        bits,
        kind,
        True,
        n_indoors,
        findings,
    )
