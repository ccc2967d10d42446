"""Sound of roads at single points: every stretch of road over its own profile, and by faces that mirror it.

Where the transfers of a grid (:mod:`kernels.screened_transfer`) hear far roads in clusters and in four band
groups, here each stretch of road and each octave band is calculated. Obstacles, profiles and the path kernel
are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from kernels.cnossos import SOURCE_HEIGHT_M
from kernels.cnossos_path import N_BANDS, boundary_energy, workspace
from kernels.cut_profile import MAX_POINTS, cut_profile, cut_workspace
from kernels.network import Network
from kernels.obstacles import Obstacles, ground_height
from kernels.transfer import n_threads

N_SECTORS = 16  # of the direction in which sound travels, from north clockwise
# A stretch of road is heard from its middle if it is at most this part of its distance long: on open ground
# the level is then within 0.03 dB of the integral, with a half within 0.06 dB.
STRETCH_PER_DISTANCE = 1.0 / 3.0
SHORTEST_M = 1.0
# A face reflects if the place where it does is this near to the source or the receptor, and seen from there:
# both sides of a street, the far side of a square. What lies between roofs, seen from neither, is left out.
REFLECTED_WITHIN_M = 100.0
OWN_FACADE_M = 2.1  # levels at a facade are of the sound that arrives there (2002/49/EC, annex I)
MIN_FACE_M = 0.5  # shorter faces reflect nothing

_PIECE_M = 20.0  # of a face, in the cells
_CELL_M = 25.0
_OFF_FACE_M = 0.005  # the ray turns so far before the face: edges are rounded to a millimetre
_EPS_M = 1e-6
_MOST_WAITING = 64  # stretches: one for each time that a road was halved


class PointRoads(NamedTuple):
    """Roads that emit. Coordinates are relative to the origin of the obstacles.

    Attributes
    ----------
    vertex_xy : (n_vertices, 2) float64
    along_m : (n_vertices,) float64
        Distance from the first vertex of the road.
    start : (n_roads + 1,) int64
        Road r has the vertices ``start[r]:start[r + 1]``.
    circle : (n_roads, 3) float64
        Centre and radius of a circle around each road [m].
    power : (n_roads, n_periods, 8) float64
        Sound power of a metre in each octave band [pW/m].
    """

    vertex_xy: NDArray[np.float64]
    along_m: NDArray[np.float64]
    start: NDArray[np.int64]
    circle: NDArray[np.float64]
    power: NDArray[np.float64]


class Faces(NamedTuple):
    """Upright faces that reflect, cut into pieces, in the cells of a grid of their own.

    Attributes
    ----------
    line : (n, 5) float64
        Beginning of the whole face, its direction, its length [m]; the reflecting side is on the right.
    span : (n, 2) float64
        Where the piece begins and ends along the face [m].
    top : (n,) float64
        Height of the upper edge above the datum [m].
    is_screen : (n,) bool
        Reflects on both sides.
    reflected : (8,) float64
        Share of the energy.
    start : (n_cells + 1,) int64
        Cell (row, column) holds the pieces from ``start[row * n_columns + column]``.
    n_columns, n_rows : int
    """

    line: NDArray[np.float64]
    span: NDArray[np.float64]
    top: NDArray[np.float64]
    is_screen: NDArray[np.bool_]
    reflected: NDArray[np.float64]
    start: NDArray[np.int64]
    n_columns: int
    n_rows: int


@dataclass(frozen=True, slots=True)
class PointEnergies:
    """Sound at points.

    Attributes
    ----------
    energy : (n, n_periods, 8) float64
        Of each octave band, 1 for 0 dB; NaN within a building.
    is_indoors : (n,) bool
        Below the top of a building.
    is_reached : (n,) bool
        Some road lies within the distance.
    is_at_facade : (n,) bool
        A face near to it was left out as its own.
    n_paths, n_reflected, n_lost : int
        Direct paths, reflected ones, and those that crossed too many walls to be calculated.
    """

    energy: NDArray[np.float64]
    is_indoors: NDArray[np.bool_]
    is_reached: NDArray[np.bool_]
    is_at_facade: NDArray[np.bool_]
    n_paths: int
    n_reflected: int
    n_lost: int


def point_roads(
    network: Network, segments: NDArray[np.int64], power: NDArray[np.float64], origin: NDArray[np.float64]
) -> PointRoads:
    """Roads of some segments.

    Parameters
    ----------
    network : Network
    segments : (n_roads,) int64
    power : (n_roads, n_periods, 8) float64
        Sound power of a metre [pW/m].
    origin : (2,) float64
        Of the obstacles [m].
    """
    lines = [network.polyline(int(s)) - origin for s in segments]
    along = [np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))]) for line in lines]
    circle = np.empty((len(lines), 3))
    for k, line in enumerate(lines):
        centre = 0.5 * (line.min(axis=0) + line.max(axis=0))
        circle[k] = *centre, np.hypot(*(line - centre).T).max()
    empty = np.empty((0, 2))
    return PointRoads(
        np.ascontiguousarray(np.concatenate([empty, *lines])),
        np.concatenate([empty[:, 0], *along]),
        np.cumsum([0, *(len(line) for line in lines)]),
        circle,
        np.ascontiguousarray(power, dtype=np.float64),
    )


def reflecting_faces(obstacles: Obstacles, absorption: ArrayLike) -> Faces:
    """Faces of all buildings and screens.

    Parameters
    ----------
    obstacles : Obstacles
    absorption : float or (8,) array_like
        Share of the energy that a face keeps, 0 to 1.
    """
    listed = np.column_stack([obstacles.edge.astype(np.float64), obstacles.owner.astype(np.float64)])
    edge = np.unique(listed, axis=0).reshape(-1, 5)
    delta = edge[:, 2:4] - edge[:, :2]
    length = np.hypot(*delta.T)
    edge, delta, length = (each[length >= MIN_FACE_M] for each in (edge, delta, length))
    owner = edge[:, 4].astype(np.int64)
    count = np.maximum(np.ceil(length / _PIECE_M), 1.0).astype(np.int64)
    face = np.repeat(np.arange(count.size), count)
    number = np.arange(face.size) - np.concatenate([[0], np.cumsum(count)])[face]
    piece = length[face] / count[face]
    span = np.stack([number * piece, (number + 1) * piece], axis=1)
    span[number == count[face] - 1, 1] = np.inf  # the end is checked on the whole face
    direction = delta[face] / length[face, None]
    middle = edge[face, :2] + direction * (number * piece + 0.5 * piece)[:, None]
    n_columns = int(obstacles.n_columns * obstacles.cell_m / _CELL_M) + 1
    n_rows = int(obstacles.n_rows * obstacles.cell_m / _CELL_M) + 1
    cell = (middle[:, 1] / _CELL_M).astype(np.int64) * n_columns + (middle[:, 0] / _CELL_M).astype(np.int64)
    order = np.argsort(cell, kind="stable")
    return Faces(
        np.ascontiguousarray(np.column_stack([edge[face, :2], direction, length[face]])[order]),
        np.ascontiguousarray(span[order]),
        obstacles.top[owner[face]][order],
        (owner[face] >= obstacles.n_buildings)[order],
        np.broadcast_to(1.0 - np.asarray(absorption, dtype=np.float64), N_BANDS).copy(),
        np.searchsorted(cell[order], np.arange(n_rows * n_columns + 1)).astype(np.int64),
        n_columns,
        n_rows,
    )


def no_faces() -> Faces:
    """Nothing reflects."""
    none = np.empty((0, 5))
    return Faces(
        none, none[:, :2].copy(), none[:, 0].copy(), np.empty(0, dtype=np.bool_), np.ones(N_BANDS),
        np.zeros(2, dtype=np.int64), 1, 1,
    )  # fmt: skip


def point_energies(
    xy: NDArray[np.float64],
    height_m: NDArray[np.float64],
    obstacles: Obstacles,
    faces: Faces,
    roads: PointRoads,
    air_db_per_km: NDArray[np.float64],
    p_favourable: NDArray[np.float64],
    max_distance_m: float,
    report: Callable[[float], None] | None = None,
    *,
    threads: int = 0,
) -> PointEnergies:
    """Energy of all roads within a distance at points.

    Parameters
    ----------
    xy : (n, 2) float64
        Within the grid of the obstacles, not relative to its origin [m].
    height_m : (n,) float64
        Above the ground.
    obstacles : Obstacles
    faces : Faces
        From :func:`reflecting_faces`, or :func:`no_faces` for none.
    roads : PointRoads
    air_db_per_km : (8,) float64
        Absorption by air.
    p_favourable : (16,) float64
        Share of the time with downward refraction, by the direction from source to receptor.
    max_distance_m : float
        Stretches of road whose middle is farther are not heard.
    report : callable
        Told the fraction that is done.
    threads : int
        0 for as many as there are cores. The result does not depend on it.
    """
    n, n_periods = xy.shape[0], roads.power.shape[1]
    energy = np.zeros((n, n_periods, N_BANDS))
    found = np.zeros((n, 3), dtype=np.bool_)
    counts = np.zeros((n, 3), dtype=np.int64)
    local = xy - obstacles.origin
    air = np.asarray(air_db_per_km, dtype=np.float64) * (np.log(10.0) / 1e4)
    favourable = np.asarray(p_favourable, dtype=np.float64)

    def hear(k: int) -> None:
        x, y, height = float(local[k, 0]), float(local[k, 1]), float(height_m[k])
        if roof_height(obstacles, x, y) >= ground_height(obstacles, x, y) + height:
            found[k, 0] = True
            energy[k] = np.nan
            return
        work, stack = workspace(MAX_POINTS)
        events, within = cut_workspace()
        _point(
            x, y, height, obstacles, faces, roads, air, favourable, max_distance_m, np.empty((3, MAX_POINTS)),
            work, stack, events, within, np.empty((2, N_BANDS)), energy[k], found[k], counts[k],
        )  # fmt: skip

    with ThreadPoolExecutor(threads or n_threads()) as pool:
        futures = [pool.submit(hear, k) for k in range(n)]
        for done, future in enumerate(as_completed(futures), start=1):
            future.result()
            if report is not None:
                report(done / n)
    total = counts.sum(axis=0)
    return PointEnergies(
        energy, found[:, 0], found[:, 1], found[:, 2], int(total[0]), int(total[1]), int(total[2])
    )


@njit(cache=True, error_model="numpy", nogil=True)
def roof_height(obstacles: Obstacles, x: float, y: float) -> float:
    """Highest top of the buildings around a point, -inf in the open; x and y relative to the origin [m]."""
    cell_m = obstacles.cell_m
    row = int(y / cell_m)
    winding = np.zeros(obstacles.top.size, dtype=np.int32)
    for column in range(int(x / cell_m), obstacles.n_columns):
        left, right = max(column * cell_m, x), (column + 1) * cell_m
        cell = row * obstacles.n_columns + column
        for k in range(obstacles.start[cell], obstacles.start[cell + 1]):
            if obstacles.owner[k] >= obstacles.n_buildings:
                continue
            ax, ay = float(obstacles.edge[k, 0]), float(obstacles.edge[k, 1])
            bx, by = float(obstacles.edge[k, 2]), float(obstacles.edge[k, 3])
            if (ay <= y) == (by <= y):
                continue
            at = ax + (y - ay) / (by - ay) * (bx - ax)
            if left <= at < right:
                winding[obstacles.owner[k]] += 1 if by > ay else -1
    roof = -np.inf
    for owner in range(winding.size):
        if winding[owner] > 0:
            roof = max(roof, obstacles.top[owner])
    return roof


@njit(cache=True, error_model="numpy", nogil=True)
def _point(
    rx: float,
    ry: float,
    height_m: float,
    obstacles: Obstacles,
    faces: Faces,
    roads: PointRoads,
    air: NDArray[np.float64],
    p_favourable: NDArray[np.float64],
    max_distance_m: float,
    profile: NDArray[np.float64],
    work: NDArray[np.float64],
    stack: NDArray[np.int64],
    events: NDArray[np.float64],
    within: NDArray[np.int64],
    states: NDArray[np.float64],
    energy: NDArray[np.float64],
    found: NDArray[np.bool_],
    counts: NDArray[np.int64],
) -> None:
    """Add the energy of all roads at one point; ``energy`` is (n_periods, 8)."""
    rz = ground_height(obstacles, rx, ry) + height_m
    waiting = np.empty((_MOST_WAITING, 2))
    heard = np.empty(N_BANDS)
    mirrors = np.empty(2 * faces.top.size, dtype=np.int64)
    near = np.empty(faces.top.size, dtype=np.int64)
    n_near = _near_faces(faces, rx, ry, near)
    for k in range(n_near):
        if not faces.is_screen[near[k]] and _face_distance(faces, near[k], rx, ry) <= OWN_FACADE_M:
            found[2] = True
    for road in range(roads.start.size - 1):
        off = np.sqrt((roads.circle[road, 0] - rx) ** 2 + (roads.circle[road, 1] - ry) ** 2)
        if off - roads.circle[road, 2] > max_distance_m:
            continue
        first, last = roads.start[road], roads.start[road + 1] - 1
        waiting[0, 0], waiting[0, 1] = 0.0, roads.along_m[last]
        n = 1
        heard[:] = 0.0
        is_heard = False
        while n > 0:
            n -= 1
            begin, end = waiting[n, 0], waiting[n, 1]
            length, middle = end - begin, 0.5 * (begin + end)
            sx, sy = _along(roads, first, last, middle)
            away = np.sqrt((sx - rx) ** 2 + (sy - ry) ** 2)
            if away - 0.5 * length > max_distance_m:
                continue
            nearest = max(away - 0.5 * length, 0.0)
            slant = np.sqrt(nearest * nearest + height_m * height_m)
            if length > max(SHORTEST_M, STRETCH_PER_DISTANCE * slant):
                waiting[n, 0], waiting[n, 1] = middle, end
                waiting[n + 1, 0], waiting[n + 1, 1] = begin, middle
                n += 2
                continue
            if away > max_distance_m:
                continue
            is_heard = True
            _pair(
                sx, sy, rx, ry, rz, length, obstacles, faces, near, n_near, mirrors, air, p_favourable,
                profile, work, stack, events, within, states, heard, counts,
            )  # fmt: skip
        if is_heard:
            found[1] = True
            for period in range(energy.shape[0]):
                for b in range(N_BANDS):
                    energy[period, b] += heard[b] * roads.power[road, period, b]


@njit(cache=True, error_model="numpy", nogil=True)
def _along(roads: PointRoads, first: int, last: int, at: float) -> tuple[float, float]:
    """Point of a road at a distance from its first vertex."""
    low, high = first, last
    while high - low > 1:
        k = (low + high) // 2
        if roads.along_m[k] <= at:
            low = k
        else:
            high = k
    span = roads.along_m[high] - roads.along_m[low]
    t = (at - roads.along_m[low]) / span if span > 0.0 else 0.0
    return (
        roads.vertex_xy[low, 0] + t * (roads.vertex_xy[high, 0] - roads.vertex_xy[low, 0]),
        roads.vertex_xy[low, 1] + t * (roads.vertex_xy[high, 1] - roads.vertex_xy[low, 1]),
    )


@njit(cache=True, error_model="numpy", nogil=True)
def _pair(
    sx: float,
    sy: float,
    rx: float,
    ry: float,
    rz: float,
    length_m: float,
    obstacles: Obstacles,
    faces: Faces,
    near: NDArray[np.int64],
    n_near: int,
    found: NDArray[np.int64],
    air: NDArray[np.float64],
    p_favourable: NDArray[np.float64],
    profile: NDArray[np.float64],
    work: NDArray[np.float64],
    stack: NDArray[np.int64],
    events: NDArray[np.float64],
    within: NDArray[np.int64],
    states: NDArray[np.float64],
    heard: NDArray[np.float64],
    counts: NDArray[np.int64],
) -> None:
    """Add what a receptor hears of a stretch of road, directly and by faces, to ``heard`` (8,)."""
    sz = ground_height(obstacles, sx, sy) + SOURCE_HEIGHT_M
    sector = int(np.floor(np.arctan2(rx - sx, ry - sy) * (N_SECTORS / (2.0 * np.pi)) + 0.5)) % N_SECTORS
    p = p_favourable[sector]
    x, z, g = profile[0], profile[1], profile[2]
    counts[0] += 1
    n = cut_profile(obstacles, sx, sy, rx, ry, x, z, g, 0, events, within)
    if n < 0:
        counts[2] += 1
    else:
        boundary_energy(
            x, z, g, 0, n, SOURCE_HEIGHT_M, rz - z[n - 1], 0.0, np.nan, np.nan, work, stack, 0,
            states[:1], states[1:],
        )  # fmt: skip
        _add(x[n - 1], rz - sz, length_m, p, air, states, heard)
    if faces.top.size == 0:
        return
    n_found = _mirrors(faces, near, n_near, sx, sy, sz, rx, ry, rz, found)
    for i in range(n_found):
        k, is_near_receptor = abs(found[i]) - 1, found[i] > 0
        run = _reflect(
            k, is_near_receptor, sx, sy, sz, rx, ry, rz, obstacles, faces, profile, work, stack, events,
            within, states, counts,
        )  # fmt: skip
        if run > 0.0:
            _add(run, rz - sz, length_m, p, air, states, heard)


@njit(cache=True, error_model="numpy", nogil=True)
def _cells(at: float, reach: float, n: int) -> tuple[int, int]:
    return min(max(int((at - reach) / _CELL_M), 0), n - 1), min(max(int((at + reach) / _CELL_M), 0), n - 1)


@njit(cache=True, error_model="numpy", nogil=True)
def _near_faces(faces: Faces, rx: float, ry: float, near: NDArray[np.int64]) -> int:
    """Pieces around a receptor that turn their reflecting side to it, into ``near``; gives their number."""
    if faces.top.size == 0:
        return 0
    n = 0
    reach = REFLECTED_WITHIN_M + 0.5 * _PIECE_M
    first_row, last_row = _cells(ry, reach, faces.n_rows)
    first_column, last_column = _cells(rx, reach, faces.n_columns)
    for row in range(first_row, last_row + 1):
        cell = row * faces.n_columns
        for k in range(faces.start[cell + first_column], faces.start[cell + last_column + 1]):
            x, y = rx - faces.line[k, 0], ry - faces.line[k, 1]
            if x * faces.line[k, 3] - y * faces.line[k, 2] > 0.0 or faces.is_screen[k]:
                near[n] = k
                n += 1
    return n


@njit(cache=True, error_model="numpy", nogil=True)
def _face_distance(faces: Faces, k: int, x: float, y: float) -> float:
    """Distance of a point from a whole face in the plane."""
    dx, dy = x - faces.line[k, 0], y - faces.line[k, 1]
    ux, uy = faces.line[k, 2], faces.line[k, 3]
    t = min(max(dx * ux + dy * uy, 0.0), faces.line[k, 4])
    return np.sqrt((dx - t * ux) ** 2 + (dy - t * uy) ** 2)


@njit(cache=True, error_model="numpy", nogil=True)
def _specular(
    ax: float, ay: float, ux: float, uy: float, sx: float, sy: float, rx: float, ry: float, is_screen: bool
) -> tuple[float, float]:
    """Where along a line it mirrors a source to a receptor, and the share of the way until there.

    -inf along where it does not: they are not both on its right side, of a screen on one side.
    """
    to_source = (sx - ax) * uy - (sy - ay) * ux
    to_receptor = (rx - ax) * uy - (ry - ay) * ux
    if to_source * to_receptor <= 0.0 or (to_source < 0.0 and not is_screen):
        return -np.inf, 0.0
    if min(abs(to_source), abs(to_receptor)) < _EPS_M:
        return -np.inf, 0.0
    share = to_source / (to_source + to_receptor)
    along = (sx - ax) * ux + (sy - ay) * uy
    return along + share * ((rx - ax) * ux + (ry - ay) * uy - along), share


@njit(cache=True, error_model="numpy", nogil=True)
def _mirrors(
    faces: Faces,
    near: NDArray[np.int64],
    n_near: int,
    sx: float,
    sy: float,
    sz: float,
    rx: float,
    ry: float,
    rz: float,
    found: NDArray[np.int64],
) -> int:
    """Pieces that mirror the source to the receptor near one of both, into ``found``; gives their number.

    ``k + 1`` for one near the receptor, ``-k - 1`` for one near the source; who is near to both is found
    twice.
    """
    line, span, top = faces.line, faces.span, faces.top
    limit2 = REFLECTED_WITHIN_M * REFLECTED_WITHIN_M
    n = 0
    for i in range(n_near):
        k = near[i]
        ax, ay, ux, uy = line[k, 0], line[k, 1], line[k, 2], line[k, 3]
        along, share = _specular(ax, ay, ux, uy, sx, sy, rx, ry, faces.is_screen[k])
        if along < span[k, 0] or along >= span[k, 1] or along > line[k, 4]:
            continue
        px, py = ax + along * ux - rx, ay + along * uy - ry
        if px * px + py * py <= limit2 and top[k] > sz + share * (rz - sz):
            found[n] = k + 1
            n += 1
    reach = REFLECTED_WITHIN_M + 0.5 * _PIECE_M
    first_row, last_row = _cells(sy, reach, faces.n_rows)
    first_column, last_column = _cells(sx, reach, faces.n_columns)
    for row in range(first_row, last_row + 1):
        cell = row * faces.n_columns
        for k in range(faces.start[cell + first_column], faces.start[cell + last_column + 1]):
            ax, ay, ux, uy = line[k, 0], line[k, 1], line[k, 2], line[k, 3]
            along, share = _specular(ax, ay, ux, uy, sx, sy, rx, ry, faces.is_screen[k])
            if along < span[k, 0] or along >= span[k, 1] or along > line[k, 4]:
                continue
            px, py = ax + along * ux - sx, ay + along * uy - sy
            if px * px + py * py <= limit2 and top[k] > sz + share * (rz - sz):
                found[n] = -k - 1
                n += 1
    return n


@njit(cache=True, error_model="numpy", nogil=True)
def _reflect(
    k: int,
    is_near_receptor: bool,
    sx: float,
    sy: float,
    sz: float,
    rx: float,
    ry: float,
    rz: float,
    obstacles: Obstacles,
    faces: Faces,
    profile: NDArray[np.float64],
    work: NDArray[np.float64],
    stack: NDArray[np.int64],
    events: NDArray[np.float64],
    within: NDArray[np.int64],
    states: NDArray[np.float64],
    counts: NDArray[np.int64],
) -> float:
    """Energy in both states of the path by a piece of a face, into ``states``; its length, 0 for none.

    As one near the receptor a piece counts if it is seen from there, as one near the source if it is seen
    from the source alone.
    """
    ax, ay, ux, uy = faces.line[k, 0], faces.line[k, 1], faces.line[k, 2], faces.line[k, 3]
    along, share = _specular(ax, ay, ux, uy, sx, sy, rx, ry, faces.is_screen[k])
    side = _OFF_FACE_M if (sx - ax) * uy - (sy - ay) * ux > 0.0 else -_OFF_FACE_M
    px, py = ax + along * ux + side * uy, ay + along * uy - side * ux
    ray = sz + share * (rz - sz)
    if faces.top[k] <= ground_height(obstacles, px, py):
        return 0.0
    if not faces.is_screen[k] and _face_distance(faces, k, rx, ry) <= OWN_FACADE_M:
        return 0.0
    if is_near_receptor:
        if not _is_seen(obstacles, rx, ry, rz, px, py, ray):
            return 0.0
    elif not _is_seen(obstacles, sx, sy, sz, px, py, ray) or (
        (px - rx) * (px - rx) + (py - ry) * (py - ry) <= REFLECTED_WITHIN_M * REFLECTED_WITHIN_M
        and _is_seen(obstacles, rx, ry, rz, px, py, ray)
    ):
        return 0.0
    x, z, g = profile[0], profile[1], profile[2]
    counts[1] += 1
    n = cut_profile(obstacles, sx, sy, px, py, x, z, g, 0, events, within)
    at = n - 1
    if n > 0:
        n = cut_profile(obstacles, px, py, rx, ry, x, z, g, at, events, within)
    if n < 0:
        counts[2] += 1
        return 0.0
    boundary_energy(
        x, z, g, 0, n, SOURCE_HEIGHT_M, rz - z[n - 1], 0.0, x[at], faces.top[k], work, stack, 0, states[:1],
        states[1:],
    )  # fmt: skip
    for b in range(N_BANDS):
        states[0, b] *= faces.reflected[b]
        states[1, b] *= faces.reflected[b]
    return x[n - 1]


@njit(cache=True, error_model="numpy", nogil=True)
def _is_seen(
    obstacles: Obstacles, from_x: float, from_y: float, from_z: float, to_x: float, to_y: float, to_z: float
) -> bool:
    """Whether a straight line enters no building and crosses no screen; terrain does not count."""
    cell_m, n_columns = obstacles.cell_m, obstacles.n_columns
    dx, dy, dz = to_x - from_x, to_y - from_y, to_z - from_z
    column, row = int(from_x / cell_m), int(from_y / cell_m)
    n_cells = abs(int(to_x / cell_m) - column) + abs(int(to_y / cell_m) - row)
    right, up = (1 if dx > 0.0 else -1), (n_columns if dy > 0.0 else -n_columns)
    next_x = ((column + (dx > 0.0)) * cell_m - from_x) / dx if dx != 0.0 else np.inf
    next_y = ((row + (dy > 0.0)) * cell_m - from_y) / dy if dy != 0.0 else np.inf
    over_x = cell_m / abs(dx) if dx != 0.0 else np.inf
    over_y = cell_m / abs(dy) if dy != 0.0 else np.inf
    cell = row * n_columns + column
    for _ in range(n_cells + 1):
        for k in range(obstacles.start[cell], obstacles.start[cell + 1]):
            ax, ay = float(obstacles.edge[k, 0]) - from_x, float(obstacles.edge[k, 1]) - from_y
            bx, by = float(obstacles.edge[k, 2]) - from_x, float(obstacles.edge[k, 3]) - from_y
            side_a, side_b = dx * ay - dy * ax, dx * by - dy * bx
            if (side_a < 0.0) == (side_b < 0.0):
                continue
            owner = obstacles.owner[k]
            # a building lies to the left of its edge: who crosses from the left of it leaves
            if side_a < 0.0 and owner < obstacles.n_buildings:
                continue
            t = (ax * (by - ay) - ay * (bx - ax)) / (side_b - side_a)
            if 0.0 < t < 1.0 and obstacles.top[owner] > from_z + t * dz:
                return False
        go_x = next_x < next_y
        cell += right if go_x else up
        next_x += over_x if go_x else 0.0
        next_y += 0.0 if go_x else over_y
    return True


@njit(cache=True, error_model="numpy", nogil=True)
def _add(
    run: float,
    rise: float,
    length_m: float,
    p: float,
    air: NDArray[np.float64],
    states: NDArray[np.float64],
    heard: NDArray[np.float64],
) -> None:
    """Divergence, air, and both states by their share, for a stretch of road."""
    distance2 = run * run + rise * rise
    distance = np.sqrt(distance2)
    spread = length_m * 10.0**-1.1 / distance2
    for b in range(N_BANDS):
        both = p * states[1, b] + (1.0 - p) * states[0, b]
        heard[b] += both * spread * np.exp(-air[b] * distance)
