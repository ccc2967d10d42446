"""Receptors in front of the facades of buildings, the most exposed facade, and dwellings along facades.

Directive 2002/49/EC, annex II, section 2.8 as amended by (EU) 2021/1226. Its first way of placing receptors:
facades (straight pieces of an outline) longer than 5 m are cut into equal intervals, as long as possible but
at most 5 m, with a receptor in the middle of each; those longer than 2.5 m have one; shorter ones beside each
other are taken together where they add up to more than 5 m. Receptors are 0.1 m in front of the facade, 4 m
high. What counts is the incident sound: the facade that a receptor stands at reflects nothing to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

OFFSET_M = 0.1
HEIGHT_M = 4.0
INTERVAL_M = 5.0
SHORT_M = 2.5
CELL_M = 50.0  # of the grid in which the buildings around a point are looked up
OWN_FACADE_M = 2.1  # faces so near to a receptor are its own facade, as in kernels.point_levels
_ROUNDING_M = 1e-6


@dataclass(frozen=True, slots=True)
class FacadePoints:
    """Receptors in front of facades, building by building.

    Attributes
    ----------
    xy : (n, 2) float64
        [m]; 4 m above the ground.
    building : (n,) int32
        Building of the facade, ascending.
    facade_m : (n,) float64
        Length of facade that the receptor stands for [m].
    n_hidden : int
        Places inside a building, as at a wall between two houses, or in a corner of 0.1 m; they have no
        receptor.
    """

    xy: NDArray[np.float64]
    building: NDArray[np.int32]
    facade_m: NDArray[np.float64]
    n_hidden: int


@dataclass(frozen=True, slots=True)
class FacadeReceptors:
    """Receptors in front of the homes of a city: of a home all of them, or none if one would lie outside.

    Homes are sorted by tile of the grid, and within a tile such that neighbours come after each other; those
    without receptors are the last.

    Attributes
    ----------
    xy : (n, 2) float64
        [m]; 4 m above the ground.
    home : (n,) int32
        Home of each receptor, ascending.
    tile_start : (n_tiles + 1,) int64
        The homes on tile t of the grid have the receptors ``tile_start[t]:tile_start[t + 1]``.
    building : (n_homes,) int32
        Which building of the pack, counted from 0 in the order of its file.
    home_xy : (n_homes, 2) float64
        Middle of each home [m].
    floor_area_m2 : (n_homes,) float64
        Footprint times height, in storeys of 3 m: people are spread by it.
    """

    xy: NDArray[np.float64]
    home: NDArray[np.int32]
    tile_start: NDArray[np.int64]
    building: NDArray[np.int32]
    home_xy: NDArray[np.float64]
    floor_area_m2: NDArray[np.float64]

    @property
    def n_receptors(self) -> int:
        return int(self.home.size)

    @property
    def n_homes(self) -> int:
        return int(self.building.size)


@dataclass(frozen=True, slots=True)
class FacadeTransfers:
    """Noise transfers to facades: of each segment runs of receptors that come after each other.

    Attributes
    ----------
    receptors : FacadeReceptors
    run_start : (n_segments + 1,) int64
        Segment s has the runs ``run_start[s]:run_start[s + 1]``.
    first : (n_runs,) int32
        First receptor of each run; no run reaches into another tile.
    code_start : (n_runs + 1,) int64
        Run r has the codes ``code_start[r]:code_start[r + 1]``.
    codes : (n_codes, 4) uint8
        -10 lg T of each band group in steps of 0.5 dB, 255 where there is none.
    headroom_bits : float
        Between all segments at the largest power and overflow, at the loudest receptor.
    """

    receptors: FacadeReceptors
    run_start: NDArray[np.int64]
    first: NDArray[np.int32]
    code_start: NDArray[np.int64]
    codes: NDArray[np.uint8]
    headroom_bits: float


def facade_points(
    rings: Sequence[NDArray[np.float64]], building: NDArray[np.int32], *, offset_m: float = OFFSET_M
) -> FacadePoints:
    """Receptors around buildings.

    A building of which every facade is too short has one receptor, before its longest facade.

    Parameters
    ----------
    rings : sequence of (m, 2) float64
        Outlines and courtyards [m], closed or not, in either direction; of a building the largest is its
        outline.
    building : (n_rings,) int32
        Building of each ring.
    offset_m : float
        Distance from the facade [m].

    Raises
    ------
    ValueError
        For a ring without an area, or coordinates that are not finite; the message names the building.
    """
    outlines = [_ring(ring, int(b)) for ring, b in zip(rings, building, strict=True)]
    if not outlines:
        return FacadePoints(np.empty((0, 2)), np.empty(0, dtype=np.int32), np.empty(0), 0)
    area = np.array([_area(outline) for outline in outlines])
    order = np.lexsort((-np.abs(area), building))
    owner = np.asarray(building, dtype=np.int32)[order]
    begin = np.flatnonzero(np.diff(owner, prepend=-1) != 0)
    is_outline = np.zeros(len(outlines), dtype=np.bool_)
    is_outline[order[begin]] = True
    # the building on the left of every ring: an outline turns left, a courtyard right
    outlines = [
        ring if (a > 0.0) == outer else ring[::-1]
        for ring, a, outer in zip(outlines, area, is_outline, strict=True)
    ]
    xy, facade_m, of = [], [], []
    for first, end in zip(begin, np.append(begin[1:], owner.size), strict=True):
        own = [outlines[k] for k in order[first:end]]
        points = [_points(ring, offset_m) for ring in own]
        if not any(length.size for _, length in points):
            points = [_longest(own[0], offset_m)]
        for at, length in points:
            xy.append(at)
            facade_m.append(length)
            of.append(np.full(length.size, owner[first], dtype=np.int32))
    places = np.concatenate(xy)
    hidden = _inside_a_building(places, outlines, np.asarray(building, dtype=np.int32))
    return FacadePoints(
        xy=places[~hidden],
        building=np.concatenate(of)[~hidden],
        facade_m=np.concatenate(facade_m)[~hidden],
        n_hidden=int(hidden.sum()),
    )


def most_exposed(
    level_db: NDArray[np.float64], building: NDArray[np.int32], n_buildings: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Level at the most exposed facade of each building and its receptor, each (n_buildings,).

    NaN and -1 for a building at which nothing is heard, or that has no receptor; of receptors that are
    equally loud it is the first.

    Parameters
    ----------
    level_db : (n,) float64
        NaN where nothing is heard.
    building : (n,) int32
    n_buildings : int
    """
    highest, point = np.full(n_buildings, np.nan), np.full(n_buildings, -1, dtype=np.int64)
    _most_exposed(np.asarray(level_db, dtype=np.float64), building, highest, point)
    return highest, point


@njit(cache=True, error_model="numpy")
def _most_exposed(
    level: NDArray[np.float64],
    building: NDArray[np.int32],
    highest: NDArray[np.float64],
    point: NDArray[np.int64],
) -> None:
    for i in range(level.size):
        b = building[i]
        if not np.isnan(level[i]) and (point[b] < 0 or level[i] > highest[b]):
            highest[b], point[b] = level[i], i


def dwellings_at_points(
    level_db: NDArray[np.float64], building: NDArray[np.int32], dwellings: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Dwellings, or people, of each building at its receptors where their layout is not known, (n,).

    They are spread equally over the receptors whose level is at least the median of the building; of an odd
    number of receptors the quietest is left out first. The quieter half has none: it stands for the quiet
    side that a dwelling may also have.

    Parameters
    ----------
    level_db : (n,) float64
        NaN where nothing is heard, the quietest of all.
    building : (n,) int32
    dwellings : (n_buildings,) float64
        Those of a building without receptors are at none: the sum says how many.
    """
    level = np.where(np.isnan(level_db), -np.inf, level_db)
    order = np.lexsort((level, building))
    of = building[order]
    begin = np.flatnonzero(np.diff(of, prepend=-1) != 0)
    count = np.diff(begin, append=of.size)
    odd = np.where(count > 1, count % 2, 0)
    # the median lies between the two in the middle: from the upper one on, with all that equal it
    median = level[order[begin + odd + (count - odd) // 2]]
    is_upper = level[order] >= np.repeat(median, count)
    is_upper[begin[odd == 1]] = False
    n_upper = np.add.reduceat(is_upper, begin, dtype=np.int64) if begin.size else count
    out = np.zeros(level.size)
    out[order] = np.where(is_upper, np.repeat(dwellings[of[begin]] / np.maximum(n_upper, 1), count), 0.0)
    return out


def _ring(ring: NDArray[np.float64], building: int) -> NDArray[np.float64]:
    """Vertices of a ring, each once."""
    points = np.asarray(ring, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise ValueError(f"building {building}: outline: expected finite x and y of each corner [m]")
    step = np.hypot(*(points - _turned(points, -1)).T)
    points = points[step > _ROUNDING_M]
    if points.shape[0] < 3 or abs(_area(points)) < _ROUNDING_M:
        raise ValueError(
            f"building {building}: outline: got {points.shape[0]} different corners and no area, expected "
            "a ring of three or more"
        )
    return points


def _area(ring: NDArray[np.float64]) -> float:
    """Area of a ring, positive where it turns left."""
    x, y = (ring - ring[0]).T
    return 0.5 * float((x * _turned(y, 1) - _turned(x, 1) * y).sum())


def _turned(values: NDArray[Any], first: int) -> NDArray[Any]:
    """The same ring from another corner on (np.roll takes ten times as long)."""
    return np.concatenate([values[first:], values[:first]])


def _points(ring: NDArray[np.float64], offset_m: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Receptors around a ring, (n, 2), and the lengths of facade they stand for, (n,)."""
    length = np.hypot(*(_turned(ring, 1) - ring).T)
    is_long = length > SHORT_M
    if is_long.any():  # so that no row of short facades passes the first corner
        first = int(np.argmax(is_long))
        ring, length, is_long = (_turned(values, first) for values in (ring, length, is_long))
    # each long facade, and each row of short ones
    begins = np.flatnonzero(is_long | np.concatenate([[True], is_long[:-1]]))
    total = np.add.reduceat(length, begins)
    start = (np.cumsum(length) - length)[begins]
    used = is_long[begins] | (total > INTERVAL_M)
    n = np.maximum(np.ceil(total[used] / INTERVAL_M - _ROUNDING_M), 1.0).astype(np.int64)
    part = np.repeat(total[used] / n, n)
    within = np.arange(part.size) - np.repeat(np.cumsum(n) - n, n)
    along = np.repeat(start[used], n) + (within + 0.5) * part
    return _in_front(ring, length, along, offset_m), part


def _longest(ring: NDArray[np.float64], offset_m: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    length = np.hypot(*(_turned(ring, 1) - ring).T)
    k = int(np.argmax(length))
    middle = np.array([length[:k].sum() + 0.5 * length[k]])
    return _in_front(ring, length, middle, offset_m), length[k : k + 1]


def _in_front(
    ring: NDArray[np.float64], length: NDArray[np.float64], along: NDArray[np.float64], offset_m: float
) -> NDArray[np.float64]:
    """Places at distances along a ring, moved to its right, out of the building."""
    end = np.cumsum(length)
    k = np.minimum(np.searchsorted(end, along), length.size - 1)
    unit = (_turned(ring, 1) - ring)[k] / length[k, None]
    foot = ring[k] + (along - end[k] + length[k])[:, None] * unit
    return foot + offset_m * np.stack([unit[:, 1], -unit[:, 0]], axis=1)


def _inside_a_building(
    xy: NDArray[np.float64], rings: Sequence[NDArray[np.float64]], building: NDArray[np.int32]
) -> NDArray[np.bool_]:
    """Which points lie inside a building, (n,)."""
    order = np.argsort(building, kind="stable")
    corner = np.concatenate([rings[k] for k in order])
    origin = np.minimum(corner.min(axis=0), xy.min(axis=0))
    corner_start = np.concatenate([[0], np.cumsum([rings[k].shape[0] for k in order])]).astype(np.int64)
    ring_start = np.flatnonzero(np.diff(building[order], prepend=-1) != 0)
    ring_start = np.append(ring_start, len(rings)).astype(np.int64)
    first = corner_start[ring_start[:-1]]
    low = ((np.minimum.reduceat(corner, first) - origin) // CELL_M).astype(np.int64)
    high = ((np.maximum.reduceat(corner, first) - origin) // CELL_M).astype(np.int64)
    shape = np.maximum(high.max(axis=0), ((xy.max(axis=0) - origin) // CELL_M).astype(np.int64)) + 1
    start, member = _cells(low, high, int(shape[0]), int(shape[1]))
    return _inside(xy - origin, corner - origin, corner_start, ring_start, start, member, int(shape[0]))


@njit(cache=True, error_model="numpy")
def _cells(
    low: NDArray[np.int64], high: NDArray[np.int64], n_columns: int, n_rows: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Buildings that reach into each cell: where a cell's begin, and all of them."""
    start = np.zeros(n_columns * n_rows + 1, dtype=np.int64)
    for b in range(low.shape[0]):
        for row in range(low[b, 1], high[b, 1] + 1):
            for column in range(low[b, 0], high[b, 0] + 1):
                start[row * n_columns + column + 1] += 1
    start = np.cumsum(start)
    member, filled = np.empty(start[-1], dtype=np.int32), start[:-1].copy()
    for b in range(low.shape[0]):
        for row in range(low[b, 1], high[b, 1] + 1):
            for column in range(low[b, 0], high[b, 0] + 1):
                cell = row * n_columns + column
                member[filled[cell]] = b
                filled[cell] += 1
    return start, member


@njit(cache=True, error_model="numpy")
def _inside(
    xy: NDArray[np.float64],
    corner: NDArray[np.float64],
    corner_start: NDArray[np.int64],
    ring_start: NDArray[np.int64],
    start: NDArray[np.int64],
    member: NDArray[np.int32],
    n_columns: int,
) -> NDArray[np.bool_]:
    """A point is inside where a ray to the east crosses the rings of a building an odd number of times."""
    out = np.zeros(xy.shape[0], dtype=np.bool_)
    for i in range(xy.shape[0]):
        x, y = xy[i, 0], xy[i, 1]
        cell = np.int64(y // CELL_M) * n_columns + np.int64(x // CELL_M)
        for m in range(start[cell], start[cell + 1]):
            odd = False
            for r in range(ring_start[member[m]], ring_start[member[m] + 1]):
                last = corner_start[r + 1] - 1
                for k in range(corner_start[r], corner_start[r + 1]):
                    ax, ay, bx, by = corner[last, 0], corner[last, 1], corner[k, 0], corner[k, 1]
                    last = k
                    if (ay > y) != (by > y) and x < ax + (y - ay) / (by - ay) * (bx - ax):
                        odd = not odd
            if odd:
                out[i] = True
                break
    return out
