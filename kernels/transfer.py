"""Noise transfers from road segments to receptors, as patches of bytes over the receptor grid.

A segment emits W_g [pW/m] in band group g; a receptor hears E = sum over segments and groups of T W. The
transfer T = integral along the segment of 10^(-A/10) dl depends on the geometry only, so it is made once and
kept as -10 lg T in steps of 0.5 dB, a byte for each receptor in the bounding box of the segment and its
radius. Here: flat open ground with one ground factor; what stands in between comes with the buildings.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numba
import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels import cnossos
from kernels.cnossos_tables import A_WEIGHTING_DB
from kernels.facades import FacadeTransfers
from kernels.network import Network
from kernels.propagation import Atmosphere, Ground, attenuation_db
from kernels.receptors import ReceptorGrid

RECEPTOR_HEIGHT_M = 4.0
STEP_DB = 0.5
MAX_CODE = 194  # -97 dB; weaker transfers are left out: they turn the loudest road (100 dB) into 3 dB
NONE = 255
OPEN_GROUND = "open ground: no buildings in this pack"

TABLE_STEP_M = 0.2  # nearest entry: at most 0.04 dB off, under a line 4 m away, and averaged along the line
# Points along a segment [m], each step used where a point of the step before it is nearer than this [m]: 120,
# 60 and 18 m, and half that step since the end of a line may be nearer. A point stands for at most a third of
# its distance, where the midpoint rule is within 0.13 dB in the worst direction.
_STEPS_M = (40.0, 20.0, 6.0, 1.3)
_WITHIN_M = np.array([np.inf, 120.0 + 20.0, 60.0 + 10.0, 18.0 + 3.0])
_N_STEPS = len(_STEPS_M)
MANTISSA_BITS = 11  # of a float32 when it becomes a code: 0.002 dB

Report = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Patches:
    """Transfers of the segments that have any, on one receptor grid.

    Attributes
    ----------
    segment : (n_patches,) int32
        Segment of each patch, ascending.
    slot : (n_segments,) int32
        Patch of each segment, -1 without one.
    box : (n_patches, 4) int32
        First row, end row, first column, end column on the grid.
    start : (n_patches + 1,) int64
        Patch p has the codes ``start[p]:start[p + 1]``: four groups after each other, each row by row.
    n_cells : (n_patches,) int64
        Receptors that a patch reaches in any group.
    codes : (n_codes,) uint8
        -10 lg T in steps of 0.5 dB, 255 where there is none. T in metres for T W in pW.
    shape : (int, int)
        Rows and columns of the grid.
    """

    segment: NDArray[np.int32]
    slot: NDArray[np.int32]
    box: NDArray[np.int32]
    start: NDArray[np.int64]
    n_cells: NDArray[np.int64]
    codes: NDArray[np.uint8]
    shape: tuple[int, int]

    @property
    def n_patches(self) -> int:
        return int(self.segment.size)


@dataclass(frozen=True, slots=True)
class NoiseTransfers:
    """Everything the noise of a city is computed from, besides its traffic.

    Attributes
    ----------
    grid : ReceptorGrid
    patches : Patches
    ground_factor : float
        Of all paths; 0 hard, 1 porous.
    headroom_bits : float
        Between all segments at the largest power and overflow, at the loudest receptor.
    kind : str
        What was in the way of the sound, for the page.
    is_screened : bool
        Whether buildings, screens or terrain were.
    n_indoors : int
        Receptors within a building, which hear nothing.
    findings : tuple of str
        What was assumed or repaired.
    facades : FacadeTransfers, optional
        To the facades of homes, where the pack has buildings.
    """

    grid: ReceptorGrid
    patches: Patches
    ground_factor: float
    headroom_bits: float
    kind: str = OPEN_GROUND
    is_screened: bool = False
    n_indoors: int = 0
    findings: tuple[str, ...] = ()
    facades: FacadeTransfers | None = None


def n_threads() -> int:
    """Threads for work that is exact in any order: as many as numba would take."""
    return int(numba.config.NUMBA_NUM_THREADS)


def reference_spectrum() -> NDArray[np.float64]:
    """A-weighted spectrum inside each band group, each adding up to 1, (8,).

    Of 90 % light, 5 % medium heavy and 5 % heavy vehicles at 50 km/h on the reference surface at 10 degC: the
    weights that turn the octave bands of a group into one transfer.
    """
    energy = _reference_energy()
    for bands in cnossos.BAND_GROUPS:
        energy[list(bands)] /= energy[list(bands)].sum()
    return energy


def group_shares() -> NDArray[np.float64]:
    """Shares of the band groups in the A-weighted power of the same vehicles, adding up to 1, (4,)."""
    energy = _reference_energy()
    return np.array([energy[list(bands)].sum() for bands in cnossos.BAND_GROUPS]) / energy.sum()


def _reference_energy() -> NDArray[np.float64]:
    energy = np.zeros(8)
    for category, flow in (("1", 900.0), ("2", 50.0), ("3", 50.0)):
        level = cnossos.sound_power(flow, 50.0, category, "DEF", 10.0)[0]
        energy += 10.0 ** ((level + A_WEIGHTING_DB) / 10.0)
    return energy


def radial_table(
    max_distance_m: float,
    ground: Ground,
    atmosphere: Atmosphere,
    receptor_height_m: float = RECEPTOR_HEIGHT_M,
) -> NDArray[np.float32]:
    """Transfer of a metre of road to a receptor, by horizontal distance, (n_distances, 4) [1/m].

    Entry k holds for k x 0.2 m.
    """
    distance = np.arange(int(np.ceil(max_distance_m / TABLE_STEP_M)) + 2) * TABLE_STEP_M
    distance[0] = TABLE_STEP_M / 4.0  # the method divides by the distance along the ground
    loss = attenuation_db(distance, cnossos.SOURCE_HEIGHT_M, receptor_height_m, ground, atmosphere)
    weighted = reference_spectrum() * 10.0 ** (-loss / 10.0)
    groups = [weighted[:, list(bands)].sum(axis=1) for bands in cnossos.BAND_GROUPS]
    return np.ascontiguousarray(np.stack(groups, axis=1), dtype=np.float32)


def _in_memory(n: int) -> NDArray[np.uint8]:
    return np.empty(n, dtype=np.uint8)


def build_patches(
    network: Network,
    radius_m: NDArray[np.float64],
    grid: ReceptorGrid,
    table: NDArray[np.float32],
    report: Report | None = None,
    *,
    allocate: Callable[[int], NDArray[np.uint8]] = _in_memory,
    threads: int = 0,
) -> Patches:
    """Patches of all segments whose radius reaches the grid, also of those that lie outside it.

    Parameters
    ----------
    network : Network
    radius_m : (n_segments,) float64
        Distance to which a segment is heard [m]; 0 gives it no patch.
    grid : ReceptorGrid
    table : (n_distances, 4) float32
        From :func:`radial_table`, to the largest radius and the longest segment beyond it; what lies farther
        counts as its last row.
    report : callable
        Told the fraction that is done.
    allocate : callable
        Makes the array of codes, for one that lives in a file.
    threads : int
        0 for :func:`n_threads`. The result does not depend on it.
    """
    points, point_start = _points(network)
    segment, slot, box, start = patch_layout(network, radius_m, grid)
    codes = allocate(int(start[-1]))
    n_cells = np.zeros(segment.size, dtype=np.int64)
    origin = np.array([grid.x_min, grid.y_min, grid.step_m])
    code_of = code_table()
    first_xy = network.vertex_xy[network.vertex_start[:-1]]

    def build(part: NDArray[np.int64]) -> None:
        _build(
            part, segment, first_xy, network.length_m, radius_m, box, start, points, point_start, origin,
            table, code_of, codes, n_cells,
        )  # fmt: skip

    parts = np.array_split(np.arange(segment.size), max(1, segment.size // 100))
    with ThreadPoolExecutor(threads or n_threads()) as pool:
        for done, _ in enumerate(pool.map(build, parts), start=1):
            if report is not None:
                report(done / len(parts))
    codes.flags.writeable = False
    return Patches(segment, slot, box, start, n_cells, codes, grid.shape)


def patch_layout(
    network: Network, radius_m: NDArray[np.float64], grid: ReceptorGrid
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
    """Segments whose radius reaches the grid, and their slots, boxes and starts as in :class:`Patches`."""
    box = _boxes(network, radius_m, grid)
    reaches = (box[:, 1] > box[:, 0]) & (box[:, 3] > box[:, 2]) & (radius_m > 0)
    segment = np.flatnonzero(reaches).astype(np.int32)
    box = np.ascontiguousarray(box[segment])
    size = (box[:, 1] - box[:, 0]).astype(np.int64) * (box[:, 3] - box[:, 2]) * cnossos.N_GROUPS
    slot = np.full(network.n_segments, -1, dtype=np.int32)
    slot[segment] = np.arange(segment.size, dtype=np.int32)
    return segment, slot, box, np.concatenate([[0], np.cumsum(size)])


def _boxes(network: Network, radius_m: NDArray[np.float64], grid: ReceptorGrid) -> NDArray[np.int32]:
    """Receptors within the bounding box of each segment and its radius, (n_segments, 4)."""
    first = network.vertex_start[:-1]
    low = np.minimum.reduceat(network.vertex_xy, first) - radius_m[:, None]
    high = np.maximum.reduceat(network.vertex_xy, first) + radius_m[:, None]
    origin = np.array([grid.x_min, grid.y_min])
    limit = np.array([grid.n_columns, grid.n_rows])
    begin = np.clip(np.ceil((low - origin) / grid.step_m - 0.5), 0, limit)
    end = np.clip(np.floor((high - origin) / grid.step_m - 0.5) + 1, 0, limit)
    return np.stack([begin[:, 1], end[:, 1], begin[:, 0], end[:, 0]], axis=1).astype(np.int32)


def _points(network: Network) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Middles of equal pieces of each segment at each of the steps.

    Returns the points (n, 2) relative to each segment's first vertex, and where those of segment s at step k
    start (``_N_STEPS s + k``).
    """
    first = network.vertex_start[:-1]
    legs = np.hypot(*np.diff(network.vertex_xy, axis=0).T)
    legs[first[1:] - 1] = 0.0  # from the end of a segment to the beginning of the next
    along = np.concatenate([[0.0], np.cumsum(legs)])

    length = np.repeat(network.length_m, _N_STEPS)
    count = np.maximum(np.ceil(length / np.tile(_STEPS_M, network.n_segments)), 1.0).astype(np.int64)
    start = np.concatenate([[0], np.cumsum(count)])
    line = np.repeat(np.arange(count.size), count)
    number = np.arange(line.size) - start[line]
    segment = line // _N_STEPS
    at = along[first[segment]] + (number + 0.5) * (length / count)[line]
    points = np.empty((line.size, 2), dtype=np.float32)
    for axis in range(2):
        xy = network.vertex_xy[:, axis]
        points[:, axis] = np.interp(at, along, xy) - xy[first[segment]]
    return points, start


def code_table() -> NDArray[np.uint8]:
    """Code of a transfer by the leading :data:`MANTISSA_BITS` of its float32, from 2^-40 to 2^1."""
    leading = np.arange((127 - 40) << MANTISSA_BITS, (127 + 1) << MANTISSA_BITS, dtype=np.int64)
    middle = ((leading << (23 - MANTISSA_BITS)) + (1 << (22 - MANTISSA_BITS))).astype(np.int32)
    code = np.rint(-10.0 * np.log10(middle.view(np.float32).astype(np.float64)) / STEP_DB)
    return np.where(code > MAX_CODE, NONE, np.maximum(code, 0.0)).astype(np.uint8)


@njit(cache=True, error_model="numpy", nogil=True)
def _build(
    part: NDArray[np.int64],
    segment: NDArray[np.int32],
    first_xy: NDArray[np.float64],
    length_m: NDArray[np.float64],
    radius_m: NDArray[np.float64],
    box: NDArray[np.int32],
    start: NDArray[np.int64],
    points: NDArray[np.float32],
    point_start: NDArray[np.int64],
    origin: NDArray[np.float64],
    table: NDArray[np.float32],
    code_of: NDArray[np.uint8],
    codes: NDArray[np.uint8],
    n_cells: NDArray[np.int64],
) -> None:
    lowest, highest = (127 - 40) << MANTISSA_BITS, ((127 + 1) << MANTISSA_BITS) - 1
    within2 = _WITHIN_M**2
    sums = np.zeros(5, dtype=np.float32)
    bits = sums.view(np.int32)
    for p in part:
        s = segment[p]
        width = box[p, 3] - box[p, 2]
        n = (box[p, 1] - box[p, 0]) * width
        at = start[p]
        reach2 = np.float32(radius_m[s] * radius_m[s])
        for row in range(box[p, 0], box[p, 1]):
            y = np.float32(origin[1] + (row + 0.5) * origin[2] - first_xy[s, 1])
            for column in range(box[p, 2], box[p, 3]):
                x = np.float32(origin[0] + (column + 0.5) * origin[2] - first_xy[s, 0])
                begin, end = point_start[_N_STEPS * s], point_start[_N_STEPS * s + 1]
                _add_points(x, y, points, begin, end, table, sums)
                if sums[4] > reach2:
                    for g in range(4):
                        codes[at + g * n] = NONE
                    at += 1
                    continue
                for k in range(1, _N_STEPS):
                    if sums[4] >= within2[k]:
                        break
                    begin, end = point_start[_N_STEPS * s + k], point_start[_N_STEPS * s + k + 1]
                    _add_points(x, y, points, begin, end, table, sums)
                piece_m = np.float32(length_m[s] / (end - begin))
                reached = False
                for g in range(4):
                    sums[g] *= piece_m
                    leading = bits[g] >> (23 - MANTISSA_BITS)
                    code = code_of[min(max(leading, lowest), highest) - lowest]
                    codes[at + g * n] = code
                    reached = reached or code != NONE
                n_cells[p] += reached
                at += 1


@njit(cache=True, error_model="numpy", nogil=True)
def _add_points(
    x: float,
    y: float,
    points: NDArray[np.float32],
    begin: int,
    end: int,
    table: NDArray[np.float32],
    sums: NDArray[np.float32],
) -> None:
    """Table summed over the points, and the smallest squared distance to one, into ``sums``."""
    a0 = a1 = a2 = a3 = np.float32(0.0)
    nearest2 = np.float32(np.inf)
    per_m, last = np.float32(1.0 / TABLE_STEP_M), table.shape[0] - 1
    for i in range(begin, end):
        dx, dy = points[i, 0] - x, points[i, 1] - y
        d2 = dx * dx + dy * dy
        nearest2 = min(nearest2, d2)
        k = min(np.int32(np.sqrt(d2) * per_m + np.float32(0.5)), last)
        a0 += table[k, 0]
        a1 += table[k, 1]
        a2 += table[k, 2]
        a3 += table[k, 3]
    sums[0], sums[1], sums[2], sums[3], sums[4] = a0, a1, a2, a3, nearest2
