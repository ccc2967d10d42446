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
from kernels.facade_reflection import NEAR_M, Faces, face_distance, near_faces, place_of_reflection
from kernels.obstacles import Obstacles
from kernels.propagation import Atmosphere, air_absorption_db_per_km
from kernels.road_clusters import RoadClusters
from kernels.transfer import MANTISSA_BITS, NONE, Patches, code_table, group_shares, reference_spectrum

# How finely roads are heard. On the 10 m grid of a city at capacity, against clusters 20 times their extent
# away: 0.2 dB rms, 0.4 dB at one receptor in twenty, 4 dB at the worst, with 101 paths for each receptor
# (with 2e-3: 0.16, 0.30 and 133 paths; all clusters 4 times their extent away: 0.33, 0.72 and 104).
COARSEST, FINEST = 2.0, 12.0
FINENESS = 4e-3
_SOFT_M2 = 100.0  # a cluster around a receptor is not infinitely loud
TILE = 32  # receptors along each side of what is computed, and kept, at a time
N_SECTORS = 16
# A reflection counts where it may add this share to the energy of all direct paths at the receptor, all roads
# at capacity; it is taken as no louder than unscreened, not absorbed, with 6 dB from the ground. On a 10 m
# grid of a city what is left out makes levels 0.01 dB lower on average, 0.06 dB at one receptor in twenty,
# 0.5 dB at the worst, and saves 17 of 120 reflected paths at each (with 1e-2: 0.06, 0.36, 1.0 dB and 50).
PRUNE = 3e-3
_MOST_OF_A_PATH = 10.0 ** (-1.1 + 0.6)
_MAX_HEARD = 8192  # sources of a receptor
_MAX_FACES = 8192  # near a receptor
_AIR_STEP_M = 0.5
_SHARE_OF_GROUP = group_shares()
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
    faces: Faces | None = None,
    power: NDArray[np.float64] | None = None,
    *,
    coarsest: float = COARSEST,
    finest: float = FINEST,
    fineness: float = FINENESS,
    prune: float = PRUNE,
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
        Results.
    wanted : (n_segments,) bool
        Segments whose codes are written.
    faces : Faces, optional
        That reflect, None for no reflection.
    power : (n_segments,) float64, optional
        Sound power of a metre at capacity; needed with faces.
    coarsest, finest : float
        A cluster is never heard as one from less than the first times its extent, always from the second.
    fineness : float
        In between it is where its share of all that is heard in the open, times its extent over its distance,
        is below this.
    prune : float
        A reflection is left out if it cannot add more than this share to the energy at the receptor, with
        all roads at capacity.

    Returns
    -------
    (4,) int64
        Direct paths, receptors, what there was no room for (walls of a path, sources or faces of a receptor),
        reflected paths.
    """
    x0, y0 = grid_origin[0] + tile.column * step_m, grid_origin[1] + tile.row * step_m
    x1, y1 = grid_origin[0] + tile.column_end * step_m, grid_origin[1] + tile.row_end * step_m
    for p in np.flatnonzero(wanted[patches.segment]):
        _clear(tile, patches.box[p], codes[patches.start[p] : patches.start[p + 1]])
    xy = np.empty((tile.row_end - tile.row, tile.column_end - tile.column, 2))
    xy[..., 0] = grid_origin[0] + (np.arange(tile.column, tile.column_end) + 0.5) * step_m
    xy[..., 1] = (grid_origin[1] + (np.arange(tile.row, tile.row_end) + 0.5) * step_m)[:, None]
    return _hear(
        tile, xy, (x0, y0, x1, y1), obstacles, clusters, reach_m, air, is_indoors, patches, codes, wanted,
        faces, power, 0.0, (coarsest, finest, fineness, prune),
    )  # fmt: skip


def screened_points(
    xy: NDArray[np.float64],
    obstacles: Obstacles,
    clusters: RoadClusters,
    reach_m: NDArray[np.float64],
    air: Air,
    faces: Faces | None = None,
    power: NDArray[np.float64] | None = None,
    *,
    own_facade_m: float = 0.0,
    coarsest: float = COARSEST,
    finest: float = FINEST,
    fineness: float = FINENESS,
    prune: float = PRUNE,
) -> tuple[NDArray[np.int32], NDArray[np.uint8], NDArray[np.int64]]:
    """Transfers to scattered receptors, as :func:`screened_tile` to those of a grid.

    Parameters
    ----------
    xy : (n, 2) float64
        Outdoors, best within some hundred metres of each other: memory takes 4 n bytes for each segment that
        may be heard at one of them [m].
    obstacles, clusters, reach_m, air, faces, power, coarsest, finest, fineness, prune
        As for :func:`screened_tile`.
    own_facade_m : float
        Faces of buildings up to this distance from a receptor do not reflect to it: they are the facade that
        it stands at [m]. 0 for none.

    Returns
    -------
    segment : (n_segments_heard,) int32
        Segments that may be heard, ascending.
    codes : (n_segments_heard, 4, n) uint8
        As in :class:`kernels.transfer.Patches`.
    counts : (4,) int64
        As of :func:`screened_tile`.
    """
    west, south = (float(v) for v in xy.min(axis=0))
    east, north = (float(v) for v in xy.max(axis=0))
    middle = clusters.points[:, 2:4]
    reaches = _distance_to_box(middle, west, south, east, north) <= reach_m[clusters.segment]
    segment = np.unique(clusters.segment[reaches]).astype(np.int32)
    slot = np.full(reach_m.size, -1, dtype=np.int32)
    slot[segment] = np.arange(segment.size, dtype=np.int32)
    n = xy.shape[0]
    one_row = Patches(
        segment=segment,
        slot=slot,
        box=np.tile(np.array([0, 1, 0, n], dtype=np.int32), (segment.size, 1)),
        start=np.arange(segment.size + 1, dtype=np.int64) * (N_GROUPS * n),
        n_cells=np.zeros(segment.size, dtype=np.int64),
        codes=np.empty(0, dtype=np.uint8),
        shape=(1, n),
    )
    codes = np.full(segment.size * N_GROUPS * n, NONE, dtype=np.uint8)
    counts = _hear(
        Tile(0, 1, 0, n), np.ascontiguousarray(xy[None], dtype=np.float64), (west, south, east, north),
        obstacles, clusters, reach_m, air, np.zeros((1, n), dtype=np.bool_), one_row, codes, slot >= 0, faces,
        power, own_facade_m, (coarsest, finest, fineness, prune),
    )  # fmt: skip
    return segment, codes.reshape(segment.size, N_GROUPS, n), counts


def _hear(
    tile: Tile,
    xy: NDArray[np.float64],
    extent: tuple[float, float, float, float],
    obstacles: Obstacles,
    clusters: RoadClusters,
    reach_m: NDArray[np.float64],
    air: Air,
    is_indoors: NDArray[np.bool_],
    patches: Patches,
    codes: NDArray[np.uint8],
    wanted: NDArray[np.bool_],
    faces: Faces | None,
    power: NDArray[np.float64] | None,
    own_facade_m: float,
    limits: tuple[float, float, float, float],
) -> NDArray[np.int64]:
    at = clusters.points[clusters.representative[clusters.tops], 2:4]
    away = _distance_to_box(at, *extent)
    tops = clusters.tops[away - clusters.radius_m[clusters.tops] <= clusters.reach_m[clusters.tops]]
    work, stack = workspace(MAX_POINTS)
    events, within = cut_workspace()
    profile = np.empty((3, MAX_POINTS))
    sums = np.zeros((int(patches.segment.size), N_GROUPS), dtype=np.float32)
    counts = np.zeros(4, dtype=np.int64)
    coarsest, finest, fineness, prune = limits
    _tile(
        tile, xy, obstacles, clusters, tops, reach_m**2, air, is_indoors,
        patches.slot, patches.box, patches.start, codes, wanted, coarsest, finest, fineness, code_table(),
        work, stack, events, within, profile[0], profile[1], profile[2], sums,
        np.empty(sums.shape[0], dtype=np.int32),
        np.empty((2, N_BANDS)), np.empty((2, N_BANDS)), np.zeros(N_GROUPS), counts,
        faces is not None, _NO_FACES if faces is None else faces,
        np.zeros(reach_m.size) if power is None else power, prune, own_facade_m,
    )  # fmt: skip
    return counts


def _distance_to_box(
    xy: NDArray[np.float64], west: float, south: float, east: float, north: float
) -> NDArray[np.float64]:
    """From points (n, 2) to the nearest place of a box, (n,) [m]."""
    return np.hypot(
        np.maximum(np.maximum(west - xy[:, 0], xy[:, 0] - east), 0.0),
        np.maximum(np.maximum(south - xy[:, 1], xy[:, 1] - north), 0.0),
    )


def _clear(tile: Tile, box: NDArray[np.int32], codes: NDArray[np.uint8]) -> None:
    """No transfers on a tile, of one patch."""
    first, end, left, right = (int(edge) for edge in box)
    cells = codes.reshape(N_GROUPS, end - first, right - left)
    rows = slice(max(tile.row - first, 0), max(tile.row_end - first, 0))
    columns = slice(max(tile.column - left, 0), max(tile.column_end - left, 0))
    cells[:, rows, columns] = NONE


_NO_FACES = Faces(
    np.empty((0, 4)), np.empty(0), np.empty(0, dtype=np.bool_), 0, np.zeros(1, dtype=np.int32),
    np.empty(0, dtype=np.int32), np.zeros(1, dtype=np.int32), np.empty(0, dtype=np.int32), np.ones(N_BANDS),
)  # fmt: skip


@njit(cache=True, error_model="numpy", nogil=True)
def _tile(
    tile: Tile,
    receptor_xy: NDArray[np.float64],
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
    coarsest: float,
    finest: float,
    fineness: float,
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
    is_reflecting: bool,
    faces: Faces,
    power: NDArray[np.float64],
    prune: float,
    own_facade_m: float,
) -> None:
    lowest, highest = (127 - 40) << MANTISSA_BITS, ((127 + 1) << MANTISSA_BITS) - 1
    bits = sums.view(np.int32)
    ox, oy = obstacles.origin[0], obstacles.origin[1]
    # taken out of their tuples once: each access would count references
    points, length_m, segment = clusters.points, clusters.length_m, clusters.segment
    representative, node_radius, node_reach = clusters.representative, clusters.radius_m, clusters.reach_m
    node_watts, node_begin, node_end = clusters.watts, clusters.begin, clusters.end
    child_begin, child_ends = clusters.child_begin, clusters.child_end
    face_edge, piece_start, piece_face = faces.edge, faces.piece_start, faces.piece_face
    is_screen = faces.is_screen
    groups, height_m = air.groups, air.receptor_height_m
    nodes = np.empty(representative.size + 1, dtype=np.int32)
    heard = np.empty(_MAX_HEARD, dtype=np.int32)  # nodes of the sources of a receptor, and where they stand
    heard_at = np.empty((_MAX_HEARD, 4))
    near = np.empty(_MAX_FACES, dtype=np.int32)
    image = np.empty((_MAX_FACES, 2))
    for row in range(tile.row, tile.row_end):
        for column in range(tile.column, tile.column_end):
            if is_indoors[row, column]:
                continue
            counts[1] += 1
            rx = receptor_xy[row - tile.row, column - tile.column, 0]
            ry = receptor_xy[row - tile.row, column - tile.column, 1]
            n_touched = n_heard = 0
            total = 0.0
            # unscreened, from all roads: who brings more of it is heard at more points
            expected = 0.0
            for top in tops:
                piece = representative[top]
                dx, dy = points[piece, 2] - rx, points[piece, 3] - ry
                distance2 = dx * dx + dy * dy
                if np.sqrt(distance2) <= node_reach[top] + node_radius[top]:
                    radius = node_radius[top]
                    expected += node_watts[top] / (distance2 + radius * radius + _SOFT_M2)
            per_expected = 1.0 / (fineness * expected) if expected > 0.0 else 0.0
            for top in tops:
                nodes[0] = top
                n_nodes = 1
                while n_nodes > 0:
                    n_nodes -= 1
                    node = nodes[n_nodes]
                    piece = representative[node]
                    dx, dy = points[piece, 2] - rx, points[piece, 3] - ry
                    distance = np.sqrt(dx * dx + dy * dy)
                    radius = node_radius[node]
                    if distance - radius > node_reach[node]:
                        continue
                    begin, end = node_begin[node], node_end[node]
                    child, child_end = child_begin[node], child_ends[node]
                    slant2 = distance * distance + height_m * height_m
                    slant = np.sqrt(slant2)
                    extent = (2.0 * radius + length_m[piece]) / slant
                    spread = extent * node_watts[node] / slant2 * per_expected
                    # a cluster of a cluster: it is that one
                    if child < child_end and (
                        child_end - child == 1
                        or extent * coarsest > 1.0
                        or (extent * finest > 1.0 and spread > 1.0)
                    ):
                        for k in range(child, child_end):
                            nodes[n_nodes] = k
                            n_nodes += 1
                        continue
                    is_heard = False
                    for k in range(begin, end):
                        s = segment[k]
                        if wanted[s]:
                            u, v = points[k, 2] - rx, points[k, 3] - ry
                            if u * u + v * v <= reach2[s]:
                                is_heard = True
                                break
                    if not is_heard:
                        continue
                    n_parts = 1
                    if end - begin == 1:
                        parts = min(max(np.sqrt(spread), extent * coarsest), extent * finest)
                        n_parts = max(int(np.ceil(parts)), 1)
                    for i in range(n_parts):
                        sx, sy = _along(points, piece, (i + 0.5) / n_parts)
                        counts[0] += 1
                        if not _path_energy(
                            obstacles, air, sx - ox, sy - oy, rx - ox, ry - oy, work, stack, events, within,
                            x, z, g, homogeneous, favourable, energy,
                        ):  # fmt: skip
                            counts[2] += 1
                            continue
                        n_touched, watts = _share_out(
                            points, length_m, segment, groups, begin, end, n_parts, rx, ry, sx, sy,
                            height_m, reach2, slot, wanted, power, energy, sums, touched, n_touched,
                        )  # fmt: skip
                        if is_reflecting and n_heard == _MAX_HEARD:
                            counts[2] += 1
                        elif is_reflecting:
                            heard[n_heard] = node
                            heard_at[n_heard, 0], heard_at[n_heard, 1] = sx, sy
                            heard_at[n_heard, 2], heard_at[n_heard, 3] = n_parts, watts
                            n_heard += 1
                            for group in range(N_GROUPS):
                                total += watts * _SHARE_OF_GROUP[group] * energy[group]
            if is_reflecting:
                n_near = near_faces(faces, rx - ox, ry - oy, near, image)
                counts[2] += n_near == _MAX_FACES
                least = prune * total
                for h in range(n_heard):
                    node = heard[h]
                    sx, sy, watts = heard_at[h, 0], heard_at[h, 1], heard_at[h, 3]
                    piece = representative[node]
                    first, last = piece_start[piece], piece_start[piece + 1]
                    for i in range(n_near + last - first):
                        if i < n_near:
                            face = near[i]
                            ix, iy = image[i, 0], image[i, 1]
                            px, py, share = place_of_reflection(face_edge, face, ix, iy, sx - ox, sy - oy)
                            if share < 0.0:
                                continue
                            run2 = (sx - ox - ix) * (sx - ox - ix) + (sy - oy - iy) * (sy - oy - iy)
                            if share * share * run2 > NEAR_M * NEAR_M:
                                continue
                            share = 1.0 - share
                        else:
                            face = piece_face[first + i - n_near]
                            ax, ay = face_edge[face, 0], face_edge[face, 1]
                            ex, ey = face_edge[face, 2] - ax, face_edge[face, 3] - ay
                            twice = 2.0 * ((sx - ox - ax) * ey - (sy - oy - ay) * ex) / (ex * ex + ey * ey)
                            ix, iy = sx - ox - twice * ey, sy - oy + twice * ex
                            px, py, share = place_of_reflection(face_edge, face, ix, iy, rx - ox, ry - oy)
                            if share < 0.0:
                                continue
                            run2 = (rx - ox - ix) * (rx - ox - ix) + (ry - oy - iy) * (ry - oy - iy)
                            # one that is near to the receptor was found there
                            if share * share * run2 > NEAR_M * NEAR_M:
                                continue
                            if (1.0 - share) * (1.0 - share) * run2 <= NEAR_M * NEAR_M:
                                continue
                        if watts * _MOST_OF_A_PATH < least * run2:
                            continue
                        if (
                            own_facade_m > 0.0
                            and not is_screen[face]
                            and face_distance(rx - ox, ry - oy, face_edge, face) <= own_facade_m
                        ):
                            continue
                        counts[3] += 1
                        if not _reflected_energy(
                            obstacles, air, faces, face, sx - ox, sy - oy, px, py, share, rx - ox, ry - oy,
                            work, stack, events, within, x, z, g, homogeneous, favourable, energy,
                        ):  # fmt: skip
                            counts[2] += 1
                            continue
                        begin, end = node_begin[node], node_end[node]
                        n_touched, _ = _share_out(
                            points, length_m, segment, groups, begin, end, heard_at[h, 2], rx, ry, sx, sy,
                            height_m, reach2, slot, wanted, power, energy, sums, touched, n_touched,
                        )  # fmt: skip
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


@njit(cache=True, error_model="numpy", nogil=True, _nrt=False)
def _share_out(
    points: NDArray[np.float64],
    length_m: NDArray[np.float64],
    segment: NDArray[np.int32],
    groups: NDArray[np.float64],
    begin: int,
    end: int,
    n_parts: float,
    rx: float,
    ry: float,
    sx: float,
    sy: float,
    height_m: float,
    reach2: NDArray[np.float64],
    slot: NDArray[np.int32],
    wanted: NDArray[np.bool_],
    power: NDArray[np.float64],
    energy: NDArray[np.float64],
    sums: NDArray[np.float32],
    touched: NDArray[np.int32],
    n_touched: int,
) -> tuple[int, float]:
    """Add what was heard of a source to the segments whose pieces it stands for.

    Returns
    -------
    n_touched : int
    watts : float
        Sound power at capacity of all pieces, also of those that are not wanted.
    """
    base2 = (sx - rx) * (sx - rx) + (sy - ry) * (sy - ry)
    rise2 = height_m * height_m
    at = int(np.sqrt(base2 + rise2) / _AIR_STEP_M + 0.5)
    watts = 0.0
    for k in range(begin, end):
        s = segment[k]
        u, v = points[k, 2] - rx, points[k, 3] - ry
        here2 = u * u + v * v
        p = slot[s]
        if here2 > reach2[s] or p < 0:
            continue
        part = length_m[k] / n_parts
        watts += part * power[s]
        if not wanted[s]:
            continue
        if sums[p, 0] == 0.0:
            touched[n_touched] = p
            n_touched += 1
        if end - begin == 1:
            for group in range(N_GROUPS):
                sums[p, group] += np.float32(part * energy[group])
        else:
            # a piece beside the one that is heard differs by its distance alone
            here2 += rise2
            own = int(np.sqrt(here2) / _AIR_STEP_M + 0.5)
            part *= (base2 + rise2) / here2
            for group in range(N_GROUPS):
                air_share = groups[own, group] / groups[at, group]
                sums[p, group] += np.float32(part * energy[group] * air_share)
    return n_touched, watts


@njit(cache=True, error_model="numpy", nogil=True, _nrt=False)
def _along(points: NDArray[np.float64], piece: int, share: float) -> tuple[float, float]:
    """Point of a piece at a share of its length, over its middle."""
    first = 0 if share < 0.5 else 2
    t = 2.0 * share - (0.0 if share < 0.5 else 1.0)
    return (
        points[piece, first] + t * (points[piece, first + 2] - points[piece, first]),
        points[piece, first + 1] + t * (points[piece, first + 3] - points[piece, first + 1]),
    )


@njit(cache=True, error_model="numpy", nogil=True, _nrt=False)
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


@njit(cache=True, error_model="numpy", nogil=True, _nrt=False)
def _reflected_energy(
    obstacles: Obstacles,
    air: Air,
    faces: Faces,
    face: int,
    sx: float,
    sy: float,
    px: float,
    py: float,
    share: float,
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
    """Energy over a face in each band group into ``energy``; False if the path is too long.

    ``share`` is that of the path before the face. A face that the ray passes over reflects nothing.
    """
    for group in range(N_GROUPS):
        energy[group] = 0.0
    n = cut_profile(obstacles, sx, sy, px, py, x, z, g, 0, events, within)
    if n < 0:
        return False
    at = n - 1
    ground, top = z[at], faces.top[face]
    n = cut_profile(obstacles, px, py, rx, ry, x, z, g, at, events, within)
    if n < 0:
        return False
    source_z, receptor_z = z[0] + SOURCE_HEIGHT_M, z[n - 1] + air.receptor_height_m
    if top <= max(source_z + share * (receptor_z - source_z), ground):
        return True
    boundary_energy(
        x, z, g, 0, n, SOURCE_HEIGHT_M, air.receptor_height_m, air.source_g, x[at], top, work, stack, 0,
        homogeneous, favourable,
    )  # fmt: skip
    for b in range(N_BANDS):
        homogeneous[0, b] *= faces.reflected[b]
        favourable[0, b] *= faces.reflected[b]
    _add_up(air, x[n - 1], receptor_z - source_z, rx - sx, ry - sy, homogeneous, favourable, energy)
    return True


@njit(cache=True, error_model="numpy", nogil=True, _nrt=False)
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
    bands = air.bands
    for group in range(N_GROUPS):
        energy[group] = 0.0
    for b in range(N_BANDS):
        both = p * favourable[0, b] + (1.0 - p) * homogeneous[0, b]
        energy[_GROUP_OF_BAND[b]] += both * bands[at, b] * per_distance2
