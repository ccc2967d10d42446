"""Noise transfers of a city to the facades of its homes: made tile by tile, kept beside those to the grid."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cities.cache import Progress, cache_folder, content_key
from cities.noise_geometry import BUILDINGS
from cities.pack import City, CityError
from kernels.cnossos import N_GROUPS
from kernels.facade_field import Runs, join_runs, runs_of
from kernels.facade_reflection import Faces
from kernels.facades import HEIGHT_M, OWN_FACADE_M, FacadeReceptors, FacadeTransfers
from kernels.obstacles import Obstacles
from kernels.road_clusters import RoadClusters
from kernels.screened_transfer import Air, screened_points
from kernels.transfer import n_threads
from studies.facade_homes import facade_receptors

VERSION = "facade transfers 1"
TASK = "noise at facades"
# Receptors that are computed together, and how far apart: codes for all segments that reach one of them take
# 4 bytes each, some megabytes for 256.
_MOST_TOGETHER = 256
_EXTENT_M = 300.0
_RECEPTORS = ("xy", "home", "tile_start", "building", "home_xy", "floor_area_m2")


@dataclass(frozen=True, slots=True)
class WayOfSound:
    """What the transfers of a city are computed from; ``key`` changes when any of it does."""

    obstacles: Obstacles
    clusters: RoadClusters
    reach_m: NDArray[np.float64]
    air: Air
    power: NDArray[np.float64]
    faces: Faces | None
    key: str


def prepare_facades(city: City, way: WayOfSound, progress: Progress) -> FacadeTransfers | None:
    """Transfers to the facades of a city from the cache, built first where they are not there yet.

    None for a pack without buildings, or without a facade within the receptors.

    Raises
    ------
    CityError
        When a building cannot be used.
    OverflowError
        When so many roads crowd around a facade that the integer field might not hold them.
    """
    path = city.folder / BUILDINGS
    if not path.is_file():
        return None
    key = content_key(
        VERSION, way.key, city.crs, repr(city.grid), np.fromfile(path, dtype=np.uint8), HEIGHT_M, OWN_FACADE_M
    )
    folder = cache_folder() / f"facades-{key}"
    if folder.is_dir():
        try:
            return _read(folder)
        except (OSError, ValueError, KeyError) as error:
            progress(f"{TASK}: {folder} cannot be read ({error}), building again", 0.0)
            shutil.rmtree(folder)
    progress(TASK, 0.0)
    receptors = facade_receptors(city)
    if receptors.n_receptors == 0:
        return None
    part = folder.with_name(f"{folder.name}-part")
    part.mkdir(exist_ok=True)
    _build(part, city, receptors, way, progress)
    try:
        part.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster, and made the same
            raise
    progress(TASK, 1.0)
    return _read(folder)


def _build(part: Path, city: City, receptors: FacadeReceptors, way: WayOfSound, progress: Progress) -> None:
    """Codes and index in a folder that may hold the tiles that an earlier run has made."""
    start = receptors.tile_start
    with ThreadPoolExecutor(n_threads()) as pool:
        for tile in range(start.size - 1):
            if start[tile + 1] > start[tile] and not (part / f"tile{tile}.npz").is_file():
                _make_tile(part, tile, receptors, way, pool)
            progress(TASK, 0.95 * float(start[tile + 1]) / max(receptors.n_receptors, 1))
    made = [part / f"tile{tile}.npz" for tile in range(start.size - 1) if start[tile + 1] > start[tile]]
    with ExitStack() as held:
        kept = [held.enter_context(np.load(path)) for path in made]
        index = {name: np.concatenate([each[name] for each in kept]) for name in ("segment", "first", "size")}
        counts = np.sum([each["counts"] for each in kept], axis=0)
        if counts[2]:
            raise CityError(
                f"{BUILDINGS}: {counts[2]} of {counts[0] + counts[3]} paths to facades meet more walls than "
                "fit; simplify the outlines"
            )
        codes = np.lib.format.open_memmap(
            part / "codes.npy", mode="w+", dtype=np.uint8, shape=(int(index["size"].sum()), N_GROUPS)
        )
        joined = join_runs(
            receptors, city.network.n_segments, Runs(codes=codes, **index), (each["codes"] for each in kept)
        )
        codes.flush()
    np.savez(
        part / "index.npz", run_start=joined.run_start, first=joined.first, code_start=joined.code_start,
        headroom_bits=np.array(joined.headroom_bits),
        xy=receptors.xy, home=receptors.home, tile_start=receptors.tile_start, building=receptors.building,
        home_xy=receptors.home_xy, floor_area_m2=receptors.floor_area_m2,
    )  # fmt: skip
    (part / "report.json").write_text(
        json.dumps({
            "receptors": receptors.n_receptors, "homes": receptors.n_homes,
            "transfers": int(joined.code_start[-1]), "runs": int(joined.first.size),
            "direct_paths": int(counts[0]), "reflected_paths": int(counts[3]),
        }),
        encoding="utf-8",
    )  # fmt: skip
    for path in made:
        path.unlink()


def _make_tile(
    part: Path, tile: int, receptors: FacadeReceptors, way: WayOfSound, pool: ThreadPoolExecutor
) -> None:
    """Runs of the receptors of a tile, into a file that is there when it is whole."""
    air = way.air._replace(receptor_height_m=HEIGHT_M)

    def make(span: tuple[int, int]) -> tuple[Runs, NDArray[np.int64]]:
        segment, codes, counts = screened_points(
            receptors.xy[span[0] : span[1]], way.obstacles, way.clusters, way.reach_m, air, way.faces,
            way.power, own_facade_m=OWN_FACADE_M,
        )  # fmt: skip
        return runs_of(segment, codes, span[0]), counts

    made = list(pool.map(make, _together(receptors, tile)))
    names = ("segment", "first", "size", "codes")
    arrays = {name: np.concatenate([getattr(runs, name) for runs, _ in made]) for name in names}
    counts = np.sum([counts for _, counts in made], axis=0)
    unfinished = part / f"tile{tile}.tmp.npz"
    np.savez(unfinished, allow_pickle=False, counts=counts, **arrays)
    os.replace(unfinished, part / f"tile{tile}.npz")


def _together(receptors: FacadeReceptors, tile: int) -> Iterator[tuple[int, int]]:
    """Stretches of receptors of a tile, neighbours all of them: first and end."""
    first, end = (int(k) for k in receptors.tile_start[tile : tile + 2])
    if first == end:
        return
    begins = np.flatnonzero(np.diff(receptors.home[first:end], prepend=-1)) + first
    ends = np.append(begins[1:], end)
    low, high = receptors.xy[first], receptors.xy[first]
    for begin, stop in zip(begins.tolist(), ends.tolist(), strict=True):
        xy = receptors.xy[begin:stop]
        wide_low, wide_high = np.minimum(low, xy.min(axis=0)), np.maximum(high, xy.max(axis=0))
        if begin > first and (stop - first > _MOST_TOGETHER or (wide_high - wide_low).max() > _EXTENT_M):
            yield first, begin
            first, wide_low, wide_high = begin, xy.min(axis=0), xy.max(axis=0)
        low, high = wide_low, wide_high
    yield first, end


def _read(folder: Path) -> FacadeTransfers:
    with np.load(folder / "index.npz") as index:
        codes = np.asarray(np.load(folder / "codes.npy", mmap_mode="r"))
        if codes.shape != (int(index["code_start"][-1]), N_GROUPS):
            raise ValueError(f"codes.npy holds {codes.shape} codes, its index says {index['code_start'][-1]}")
        return FacadeTransfers(
            receptors=FacadeReceptors(**{name: index[name] for name in _RECEPTORS}),
            run_start=index["run_start"],
            first=index["first"],
            code_start=index["code_start"],
            codes=codes,
            headroom_bits=float(index["headroom_bits"]),
        )
