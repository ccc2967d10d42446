"""Noise transfers through a city: what buildings, screens, ground and terrain leave of the sound of a road.

The patches are those of :mod:`kernels.transfer`; here each receptor hears each cluster of road pieces
(:mod:`kernels.road_clusters`) over the profile that is cut between them, in both states of the air.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.cnossos import BAND_GROUPS, N_GROUPS, SOURCE_HEIGHT_M
from kernels.cnossos_path import N_BANDS, boundary_energy, workspace
from kernels.cut_profile import MAX_POINTS, cut_profile, cut_workspace
from kernels.obstacles import Obstacles
from kernels.propagation import Atmosphere, air_absorption_db_per_km
from kernels.road_clusters import RoadClusters
from kernels.transfer import MANTISSA_BITS, Patches, code_table, reference_spectrum

# A cluster or a piece is heard as one from this many times its extent.
OPENING = 4.0
TILE = 32  # receptors along each side of what is computed, and kept, at a time
N_SECTORS = 16
_AIR_STEP_M = 0.5
_GROUP_OF_BAND = np.array([g for g, bands in enumerate(BAND_GROUPS) for _ in bands])


class Air(NamedTuple):
    """What distance alone takes from the sound, and how often it is bent down.

    Attributes
    ----------
    bands : (n_distances, 8) float64
        Energy of each octave band at each half metre [m], without 1/distance^2, weighted with the spectrum
        within its band group.
    groups : (n_distances, 4) float64
        Sums over the groups.
    p_favourable : (16,) float64
        By the direction in which the sound travels, from north clockwise.
    receptor_height_m : float
    source_g : float
        Ground factor at the source.
    """

    bands: NDArray[np.float64]
    groups: NDArray[np.float64]
    p_favourable: NDArray[np.float64]
    receptor_height_m: float
    source_g: float


def air_over(
    max_distance_m: float,
    atmosphere: Atmosphere,
    receptor_height_m: float,
    p_favourable: NDArray[np.float64] | None = None,
    source_g: float = 0.0,
) -> Air:
    """Air up to a distance; ``p_favourable`` (16,) by direction, else that of the atmosphere."""
    distance = np.arange(int(np.ceil(max_distance_m / _AIR_STEP_M)) + 2) * _AIR_STEP_M
    loss = air_absorption_db_per_km(atmosphere) * distance[:, None] / 1000.0 + 11.0
    bands = reference_spectrum() * 10.0 ** (-loss / 10.0)
    groups = np.stack([bands[:, list(group)].sum(axis=1) for group in BAND_GROUPS], axis=1)
    share = np.full(N_SECTORS, atmosphere.p_favourable) if p_favourable is None else p_favourable
    return Air(bands, groups, np.asarray(share, dtype=np.float64), float(receptor_height_m), float(source_g))


class Tile(NamedTuple):
    """Rows and columns of receptors."""

    row: int
    row_end: int
    column: int
    column_end: int


def tiles(shape: tuple[int, int]) -> list[Tile]:
    """Tiles that cover a grid of receptors."""
    return [
        Tile(r, min(r + TILE, shape[0]), c, min(c + TILE, shape[1]))
        for r in range(0, shape[0], TILE)
        for c in range(0, shape[1], TILE)
    ]


def screened_tile(
    tile: Tile,
    grid_origin: tuple[float, float],
    step_m: float,
    obstacles: Obstacles,
    clusters: RoadClusters,
    reach_m: NDArray[np.float64],
    air: Air,
    is_indoors: NDArray[np.bool_],
    patches: Patches,
    codes: NDArray[np.uint8],
    wanted: NDArray[np.bool_],
    *,
    opening: float = OPENING,
) -> NDArray[np.int64]:
    """Write the codes of the receptors of a tile.

    Parameters
    ----------
    tile : Tile
    grid_origin : (float, float)
        South-west corner of the grid of receptors [m].
    step_m : float
    obstacles, clusters, air
    reach_m : (n_segments,) float64
        Distance to which a piece of a segment is heard [m].
    is_indoors : (n_rows, n_columns) bool
        Receptors that get no transfer.
    patches : Patches
        Their codes are not used.
    codes : (n_codes,) uint8
        255 where no code is written.
    wanted : (n_segments,) bool
        Segments whose codes are written.
    opening : float
        A cluster is heard as one from this many times its extent.

    Returns
    -------
    (3,) int64
        Paths that were computed, receptors, and paths that were too long to be written down.
    """
    x0, y0 = grid_origin[0] + tile.column * step_m, grid_origin[1] + tile.row * step_m
    x1, y1 = grid_origin[0] + tile.column_end * step_m, grid_origin[1] + tile.row_end * step_m
    at = clusters.points[clusters.representative[clusters.tops], 2:4]
    away = np.hypot(
        np.maximum(np.maximum(x0 - at[:, 0], at[:, 0] - x1), 0.0),
        np.maximum(np.maximum(y0 - at[:, 1], at[:, 1] - y1), 0.0),
    )
    tops = clusters.tops[away - clusters.radius_m[clusters.tops] <= clusters.reach_m[clusters.tops]]
    work, stack = workspace(MAX_POINTS)
    events, within = cut_workspace()
    profile = np.empty((3, MAX_POINTS))
    sums = np.zeros((int(patches.segment.size), N_GROUPS), dtype=np.float32)
    counts = np.zeros(3, dtype=np.int64)
    _tile(
        tile, np.array(grid_origin), step_m, obstacles, clusters, tops, reach_m**2, air, is_indoors,
        patches.slot, patches.box, patches.start, codes, wanted, opening, code_table(), work, stack, events,
        within, profile[0], profile[1], profile[2], sums, np.empty(sums.shape[0], dtype=np.int32),
        np.empty((2, N_BANDS)), np.empty((2, N_BANDS)), np.zeros(N_GROUPS), counts,
    )  # fmt: skip
    return counts


@njit(cache=True, error_model="numpy", nogil=True)
def _tile(
    tile: Tile,
    grid_origin: NDArray[np.float64],
    step_m: float,
    obstacles: Obstacles,
    clusters: RoadClusters,
    tops: NDArray[np.int32],
    reach2: NDArray[np.float64],
    air: Air,
    is_indoors: NDArray[np.bool_],
    slot: NDArray[np.int32],
    box: NDArray[np.int32],
    start: NDArray[np.int64],
    codes: NDArray[np.uint8],
    wanted: NDArray[np.bool_],
    opening: float,
    code_of: NDArray[np.uint8],
    work: NDArray[np.float64],
    stack: NDArray[np.int64],
    events: NDArray[np.float64],
    within: NDArray[np.int64],
    x: NDArray[np.float64],
    z: NDArray[np.float64],
    g: NDArray[np.float64],
    sums: NDArray[np.float32],
    touched: NDArray[np.int32],
    homogeneous: NDArray[np.float64],
    favourable: NDArray[np.float64],
    energy: NDArray[np.float64],
    counts: NDArray[np.int64],
) -> None:
    lowest, highest = (127 - 40) << MANTISSA_BITS, ((127 + 1) << MANTISSA_BITS) - 1
    bits = sums.view(np.int32)
    nodes = np.empty(4096, dtype=np.int32)
    ox, oy = obstacles.origin[0], obstacles.origin[1]
    points, length_m = clusters.points, clusters.length_m
    for row in range(tile.row, tile.row_end):
        for column in range(tile.column, tile.column_end):
            if is_indoors[row, column]:
                continue
            counts[1] += 1
            rx, ry = grid_origin[0] + (column + 0.5) * step_m, grid_origin[1] + (row + 0.5) * step_m
            n_touched = 0
            for top in tops:
                nodes[0] = top
                n_nodes = 1
                while n_nodes > 0:
                    n_nodes -= 1
                    node = nodes[n_nodes]
                    piece = clusters.representative[node]
                    dx, dy = points[piece, 2] - rx, points[piece, 3] - ry
                    distance = np.sqrt(dx * dx + dy * dy)
                    radius = clusters.radius_m[node]
                    if distance - radius > clusters.reach_m[node]:
                        continue
                    begin, end = clusters.begin[node], clusters.end[node]
                    child, child_end = clusters.child_begin[node], clusters.child_end[node]
                    # a cluster of a cluster: it is that one
                    if child < child_end and (
                        child_end - child == 1 or (2.0 * radius + length_m[piece]) * opening > distance
                    ):
                        for k in range(child, child_end):
                            nodes[n_nodes] = k
                            n_nodes += 1
                        continue
                    is_heard = False
                    for k in range(begin, end):
                        s = clusters.segment[k]
                        if wanted[s]:
                            u, v = points[k, 2] - rx, points[k, 3] - ry
                            if u * u + v * v <= reach2[s]:
                                is_heard = True
                                break
                    if not is_heard:
                        continue
                    slant = np.sqrt(distance * distance + air.receptor_height_m * air.receptor_height_m)
                    n_parts = 1
                    if end - begin == 1:
                        n_parts = max(int(np.ceil(length_m[piece] * opening / slant)), 1)
                    for i in range(n_parts):
                        sx, sy = _along(points, piece, (i + 0.5) / n_parts)
                        counts[0] += 1
                        if not _path_energy(
                            obstacles, air, sx - ox, sy - oy, rx - ox, ry - oy, work, stack, events, within,
                            x, z, g, homogeneous, favourable, energy,
                        ):  # fmt: skip
                            counts[2] += 1
                            continue
                        base2 = (sx - rx) * (sx - rx) + (sy - ry) * (sy - ry)
                        rise2 = air.receptor_height_m * air.receptor_height_m
                        at = int(np.sqrt(base2 + rise2) / _AIR_STEP_M + 0.5)
                        for k in range(begin, end):
                            s = clusters.segment[k]
                            if not wanted[s]:
                                continue
                            u, v = points[k, 2] - rx, points[k, 3] - ry
                            here2 = u * u + v * v
                            if here2 > reach2[s]:
                                continue
                            p = slot[s]
                            if p < 0:
                                continue
                            if sums[p, 0] == 0.0:
                                touched[n_touched] = p
                                n_touched += 1
                            if end - begin == 1:
                                part = length_m[k] / n_parts
                                for group in range(N_GROUPS):
                                    sums[p, group] += np.float32(part * energy[group])
                            else:
                                # a piece beside the one that is heard differs by its distance alone
                                here2 += rise2
                                own = int(np.sqrt(here2) / _AIR_STEP_M + 0.5)
                                part = length_m[k] * (base2 + rise2) / here2
                                for group in range(N_GROUPS):
                                    air_share = air.groups[own, group] / air.groups[at, group]
                                    sums[p, group] += np.float32(part * energy[group] * air_share)
            for i in range(n_touched):
                p = touched[i]
                width = box[p, 3] - box[p, 2]
                n = (box[p, 1] - box[p, 0]) * width
                if box[p, 0] <= row < box[p, 1] and box[p, 2] <= column < box[p, 3]:
                    at_code = start[p] + (row - box[p, 0]) * width + column - box[p, 2]
                    for group in range(N_GROUPS):
                        leading = bits[p, group] >> (23 - MANTISSA_BITS)
                        codes[at_code + group * n] = code_of[min(max(leading, lowest), highest) - lowest]
                for group in range(N_GROUPS):
                    sums[p, group] = 0.0


@njit(cache=True, error_model="numpy", nogil=True)
def _along(points: NDArray[np.float64], piece: int, share: float) -> tuple[float, float]:
    """Point of a piece at a share of its length, over its middle."""
    first = 0 if share < 0.5 else 2
    t = 2.0 * share - (0.0 if share < 0.5 else 1.0)
    return (
        points[piece, first] + t * (points[piece, first + 2] - points[piece, first]),
        points[piece, first + 1] + t * (points[piece, first + 3] - points[piece, first + 1]),
    )


@njit(cache=True, error_model="numpy", nogil=True)
def _path_energy(
    obstacles: Obstacles,
    air: Air,
    sx: float,
    sy: float,
    rx: float,
    ry: float,
    work: NDArray[np.float64],
    stack: NDArray[np.int64],
    events: NDArray[np.float64],
    within: NDArray[np.int64],
    x: NDArray[np.float64],
    z: NDArray[np.float64],
    g: NDArray[np.float64],
    homogeneous: NDArray[np.float64],
    favourable: NDArray[np.float64],
    energy: NDArray[np.float64],
) -> bool:
    """Energy of the direct path in each band group, of a source of 1, into ``energy``; False if too long."""
    n = cut_profile(obstacles, sx, sy, rx, ry, x, z, g, 0, events, within)
    if n < 0:
        return False
    boundary_energy(
        x, z, g, 0, n, SOURCE_HEIGHT_M, air.receptor_height_m, air.source_g, np.nan, np.nan, work, stack, 0,
        homogeneous, favourable,
    )  # fmt: skip
    rise = z[n - 1] + air.receptor_height_m - z[0] - SOURCE_HEIGHT_M
    _add_up(air, x[n - 1], rise, rx - sx, ry - sy, homogeneous, favourable, energy)
    return True


@njit(cache=True, error_model="numpy", nogil=True)
def _add_up(
    air: Air,
    run: float,
    rise: float,
    east: float,
    north: float,
    homogeneous: NDArray[np.float64],
    favourable: NDArray[np.float64],
    energy: NDArray[np.float64],
) -> None:
    """Divergence, air, and both states by their share, into the four groups."""
    distance2 = run * run + rise * rise
    at = int(np.sqrt(distance2) / _AIR_STEP_M + 0.5)
    sector = int(np.floor(np.arctan2(east, north) * (N_SECTORS / (2.0 * np.pi)) + 0.5)) % N_SECTORS
    p = air.p_favourable[sector]
    per_distance2 = 1.0 / distance2
    for group in range(N_GROUPS):
        energy[group] = 0.0
    for b in range(N_BANDS):
        both = p * favourable[0, b] + (1.0 - p) * homogeneous[0, b]
        energy[_GROUP_OF_BAND[b]] += both * air.bands[at, b] * per_distance2
