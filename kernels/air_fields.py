"""Exact integer sums of the air fields, and their reading as concentrations.

Each of the four species (:class:`kernels.emission.Pollutant`) shares the coefficients, so a receptor has four
int64. Products are integers: an update in any order equals a full recompute bit for bit, and a change and its
reversal leave nothing behind.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels import srm1, srm2
from kernels.air_columns import AirColumns, RoadColumns
from kernels.chemistry import K_UG_PER_M3, B, Background, converted
from kernels.emission import N_POLLUTANTS
from kernels.far_field import WEIGHT_BITS, add_spread, far_window, spline_weights
from kernels.fixedpoint import AIR_COEFFICIENT_BITS, EMISSION_BITS
from kernels.receptors import BLOCK, ReceptorGrid
from kernels.runs import Allocate, add_columns, in_parts

QUANTUM_UG_PER_M3 = 2.0 ** -(AIR_COEFFICIENT_BITS + EMISSION_BITS)
NODE_QUANTUM_UG_PER_S = 2.0 ** -(WEIGHT_BITS + EMISSION_BITS)
STORED_SCALE_UG_PER_M3 = 0.01
STORED = ("no2", "pm10", "pm25")
STORED_MAX = 65534  # 65535 is unknown
_PER_SCALE = np.float32(1.0 / STORED_SCALE_UG_PER_M3)
_MAX = np.float32(STORED_MAX)
_K = np.float32(K_UG_PER_M3)
_HIGH_QUANTUM = QUANTUM_UG_PER_M3 * 2.0**32  # 4e-6 ug/m3
_BITS = AIR_COEFFICIENT_BITS + EMISSION_BITS


class AirAccumulators:
    """Sums of coefficient times emission at receptors (streets, near) and at nodes (far).

    Attributes
    ----------
    street, near : (n_places, 4) int64
        Of SRM1, and of SRM2 nearby [2^-50 ug/m3, before the factor of the hour].
    far : for each level (4, n_classes * n_nodes) int64
        Emission times length [2^-36 ug/s].
    """

    def __init__(self, columns: AirColumns, allocate: Allocate = np.zeros) -> None:
        self._columns = columns
        places = columns.blocks.n_places
        self.street = allocate((places, N_POLLUTANTS), np.int64)
        self.near = allocate((places, N_POLLUTANTS), np.int64)
        n_classes = columns.far_sigma_z0_m.size
        self.far = tuple(
            allocate((N_POLLUTANTS, n_classes * level.n_nodes), np.int64) for level in columns.levels
        )
        self._road_of = np.full(columns.n_segments, -1, dtype=np.int32)
        self._road_of[columns.road_segment] = np.arange(columns.n_roads, dtype=np.int32)

    def add(self, roads: RoadColumns, segment: NDArray[np.int64], change: NDArray[np.int64]) -> int:
        """Add changes of emission; returns the number of sums at receptors touched, counted for each segment.

        Parameters
        ----------
        roads : RoadColumns
            Coefficients of SRM2 roads for the present wind.
        segment : (n,) int64
            Segments that changed.
        change : (n, 4) int64
            Change of each species [2^-20 ug/m/s].
        """
        c = self._columns
        segment, change = segment.astype(np.int64), np.ascontiguousarray(change)
        touched = add_columns(self.street, c.streets, c.street_coefficient, segment, change, c.blocks)
        road = self._road_of[segment]
        is_road = road >= 0
        return touched + self.add_roads(
            roads, road[is_road].astype(np.int64), change[is_road], with_nodes=True
        )

    def add_roads(
        self, roads: RoadColumns, road: NDArray[np.int64], change: NDArray[np.int64], *, with_nodes: bool
    ) -> int:
        """Add changes of SRM2 roads, by number of road; sums at nodes do not depend on the wind."""
        c = self._columns
        change = np.ascontiguousarray(change)
        if with_nodes:
            for sums, spread in zip(self.far, c.spreads, strict=True):
                add_spread(sums, spread.start, spread.node, spread.weight, road, change)
        return add_columns(self.near, c.roads, roads.near, road, change, c.blocks)

    def turn(self, roads: RoadColumns, emission: NDArray[np.int64]) -> None:
        """Sums of the roads for another wind, from the emission of all segments, (n_segments, 4)."""
        self.near[:] = 0
        road = np.flatnonzero(emission[self._columns.road_segment].any(axis=1))
        segment = self._columns.road_segment[road]
        self.add_roads(roads, road, emission[segment], with_nodes=False)


class AirReader:
    """Reads accumulators as concentrations.

    Parameters
    ----------
    columns : AirColumns
    background : Background
        Concentrations without the roads [ug/m3].
    """

    def __init__(self, columns: AirColumns, background: Background) -> None:
        self._columns = columns
        self._background = background

    def contributions(
        self, accumulators: AirAccumulators, roads: RoadColumns, wind_m_s: float
    ) -> NDArray[np.float64]:
        """Contribution of traffic to each species at every receptor for an hour's wind [ug/m3], (n, 4)."""
        street, road = self.parts(accumulators, roads)
        street_factor, road_factor = self._factors(wind_m_s)
        return street_factor * street + road_factor * road

    def parts(
        self, accumulators: AirAccumulators, roads: RoadColumns
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What SRM1 streets and SRM2 roads give, before the factors of the wind [ug/m3], each (n, 4)."""
        c = self._columns
        place = c.blocks.place
        street = np.ldexp(accumulators.street[place].astype(np.float64), -_BITS)
        road = np.empty_like(street)
        window, step, first = self._window(accumulators, roads)
        _road_values(
            road, accumulators.near, window, place, c.blocks.x.ravel(), c.blocks.y.ravel(), first, step
        )
        return street, road

    def stored(
        self,
        accumulators: AirAccumulators,
        roads: RoadColumns,
        wind_m_s: float,
        grid: ReceptorGrid,
        out: NDArray[np.uint16] | None = None,
    ) -> NDArray[np.uint16]:
        """NO2, PM10 and PM2.5 on a grid in steps of 0.01 ug/m3 for an hour's wind, (3, n_rows, n_columns).

        ``out`` is filled if given: fresh memory costs a quarter of the time.
        """
        c, b = self._columns, self._background
        window, step, first = self._window(accumulators, roads)
        column, row = (
            _taps((np.arange(n, dtype=np.float64) + 0.5) * grid.step_m, origin, step, size)
            for n, origin, size in (
                (-(-grid.n_columns // BLOCK) * BLOCK, first[0], window.shape[1]),
                (grid.n_rows, first[1], window.shape[0]),
            )
        )
        street_factor, road_factor = self._factors(wind_m_s)
        filled = np.empty((len(STORED), *grid.shape), dtype=np.uint16) if out is None else out

        single = np.array([b.no2, B * b.o3, b.pm10, b.pm25], dtype=np.float32)
        street, near = _high_words(accumulators.street), _high_words(accumulators.near)

        def read(low: int, high: int) -> None:
            _store(
                filled, street, near, window, *column, *row,
                np.float32(street_factor * _HIGH_QUANTUM), np.float32(road_factor * _HIGH_QUANTUM),
                np.float32(road_factor), single, low, high,
            )  # fmt: skip

        in_parts(read, c.blocks.strip_start.size - 1)
        return filled

    def _factors(self, wind_m_s: float) -> tuple[float, float]:
        return srm1.hourly_factor(wind_m_s, self._columns.mean_wind_m_s), srm2.hourly_factor(wind_m_s)

    def _window(
        self, accumulators: AirAccumulators, roads: RoadColumns
    ) -> tuple[NDArray[np.float32], float, NDArray[np.float64]]:
        """Far field on the finest nodes around the receptors, their step and the first of them."""
        levels = self._columns.levels
        if not levels:
            return np.zeros((4, 4, N_POLLUTANTS), dtype=np.float32), 1.0, np.zeros(2)
        finest = levels[0]
        row, _, column, _ = finest.window
        values = far_window(levels, accumulators.far, roads.spectra, NODE_QUANTUM_UG_PER_S)
        return values, finest.step_m, finest.origin + finest.step_m * np.array([column, row])


def _taps(
    at_m: NDArray[np.float64], first_m: float, step_m: float, n_nodes: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """First of the four nodes around each place, and their weights; places beyond the nodes use the last."""
    at = (at_m - first_m) / step_m
    node = np.clip(np.floor(at).astype(np.int64), 1, n_nodes - 3)
    return node - 1, spline_weights(np.clip(at - node, 0.0, 1.0)).astype(np.float32)


@njit(cache=True, error_model="numpy")
def _road_values(
    out: NDArray[np.float64],
    near: NDArray[np.int64],
    window: NDArray[np.float32],
    place: NDArray[np.int64],
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    first: NDArray[np.float64],
    step: float,
) -> None:
    wx, wy = np.empty(4), np.empty(4)
    for i in range(place.size):
        ax, ay = (x[place[i]] - first[0]) / step, (y[place[i]] - first[1]) / step
        column = min(max(int(np.floor(ax)), 1), window.shape[1] - 3)
        row = min(max(int(np.floor(ay)), 1), window.shape[0] - 3)
        _weights(wx, min(max(ax - column, 0.0), 1.0))
        _weights(wy, min(max(ay - row, 0.0), 1.0))
        for p in range(out.shape[1]):
            total = 0.0
            for m in range(4):
                across = 0.0
                for n in range(4):
                    across += wx[n] * window[row - 1 + m, column - 1 + n, p]
                total += wy[m] * across
            # the spline may dip below zero beside a steep flank
            out[i, p] = max(near[place[i], p] * QUANTUM_UG_PER_M3 + total, 0.0)


@njit(cache=True, error_model="numpy")
def _weights(out: NDArray[np.float64], t: float) -> None:
    out[0] = (1 - t) ** 3 / 6
    out[1] = (3 * t**3 - 6 * t**2 + 4) / 6
    out[2] = (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6
    out[3] = t**3 / 6


def _high_words(sums: NDArray[np.int64]) -> NDArray[np.int32]:
    """Sums as words of 32 bits, (8 n_places,): the odd ones are the sums in steps of 2^-18 ug/m3."""
    return sums.view(np.dtype("<i4")).ravel()


@njit(cache=True, error_model="numpy", nogil=True)
def _store(
    out: NDArray[np.uint16],
    street: NDArray[np.int32],
    near: NDArray[np.int32],
    window: NDArray[np.float32],
    column_node: NDArray[np.int64],
    column_weight: NDArray[np.float32],
    row_node: NDArray[np.int64],
    row_weight: NDArray[np.float32],
    street_factor: np.float32,
    near_factor: np.float32,
    far_factor: np.float32,
    background: NDArray[np.float32],
    low: int,
    high: int,
) -> None:
    """One pass over the sums: far field, species, chemistry, rounding; strip by strip."""
    n_species = window.shape[2]
    across = np.empty((window.shape[0], BLOCK * n_species), dtype=np.float32)
    total = np.empty(BLOCK * n_species, dtype=np.float32)
    n_rows, n_columns = out.shape[1], out.shape[2]
    for strip in range(low, high):
        for k in range(BLOCK):
            node, w = column_node[strip * BLOCK + k], column_weight[strip * BLOCK + k]
            w0, w1, w2, w3 = far_factor * w[0], far_factor * w[1], far_factor * w[2], far_factor * w[3]
            for n in range(window.shape[0]):
                v0, v1, v2, v3 = (
                    window[n, node],
                    window[n, node + 1],
                    window[n, node + 2],
                    window[n, node + 3],
                )
                for p in range(n_species):
                    across[n, k * n_species + p] = w0 * v0[p] + w1 * v1[p] + w2 * v2[p] + w3 * v3[p]
        width = min(BLOCK, n_columns - strip * BLOCK)
        for i in range(n_rows):
            first, weight = row_node[i], row_weight[i]
            w0, w1, w2, w3 = weight[0], weight[1], weight[2], weight[3]
            base = (strip * n_rows + i) * BLOCK
            _total(
                total, street, near, 2 * n_species * base, across, first, w0, w1, w2, w3, street_factor,
                near_factor,
            )  # fmt: skip
            begin = strip * BLOCK
            _stored_row(
                out[0, i, begin : begin + width],
                out[1, i, begin : begin + width],
                out[2, i, begin : begin + width],
                total,
                background[0],
                background[1],
                background[2],
                background[3],
            )  # fmt: skip


@njit(cache=True, error_model="numpy", nogil=True)
def _total(
    out: NDArray[np.float32],
    street: NDArray[np.int32],
    near: NDArray[np.int32],
    base: int,
    across: NDArray[np.float32],
    first: int,
    w0: np.float32,
    w1: np.float32,
    w2: np.float32,
    w3: np.float32,
    street_factor: np.float32,
    near_factor: np.float32,
) -> None:
    """Contributions of a block, all species of a receptor side by side."""
    zero = np.float32(0.0)
    s, n = street[base : base + 2 * out.size], near[base : base + 2 * out.size]
    a0, a1, a2, a3 = across[first], across[first + 1], across[first + 2], across[first + 3]
    for k in range(out.size):
        far = w0 * a0[k] + w1 * a1[k] + w2 * a2[k] + w3 * a3[k]
        # the spline may dip below zero beside a steep flank
        roads = max(near_factor * np.float32(n[2 * k + 1]) + far, zero)
        out[k] = street_factor * np.float32(s[2 * k + 1]) + roads


@njit(cache=True, error_model="numpy", nogil=True)
def _stored_row(
    out_no2: NDArray[np.uint16],
    out_pm10: NDArray[np.uint16],
    out_pm25: NDArray[np.uint16],
    total: NDArray[np.float32],
    no2: np.float32,
    b_o3: np.float32,
    pm10: np.float32,
    pm25: np.float32,
) -> None:
    """Background, chemistry and rounding of a block, in float32: steps of 0.01 need 16 of its 24 bits."""
    for k in range(out_no2.size):
        out_no2[k] = _stored(no2 + converted(total[4 * k], total[4 * k + 1], b_o3, _K))
        out_pm10[k] = _stored(pm10 + total[4 * k + 2])
        out_pm25[k] = _stored(pm25 + total[4 * k + 3])


@njit(cache=True, error_model="numpy")
def _stored(value: np.float32) -> np.uint16:
    return np.uint16(np.int32(min(np.rint(value * _PER_SCALE), _MAX)))
