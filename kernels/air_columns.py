"""What is known of the dispersion before any traffic: which receptors each segment reaches, and how.

* SRM1 streets: one static column a segment, the receptors within its reach of 30 or 60 m, to be scaled by
  the hour's factor when read.
* SRM2 roads: a column of the receptors nearby (:mod:`kernels.near_field`), and nodes for all the rest,
  without a cut-off (:mod:`kernels.far_field`). Both depend on the wind and are made again when it changes.

Coefficients of roads are at a reference wind of 5 m/s. Quanta: :mod:`kernels.fixedpoint`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels import far_field, near_field, srm1, srm2
from kernels.emission import EMISSION_MAX_QUANTA
from kernels.far_field import BLEND_STEPS, Level, Spread
from kernels.fixedpoint import quantise_coefficient
from kernels.gate import GateBound
from kernels.near_field import Elements
from kernels.receptors import BLOCK, ReceptorBlocks
from kernels.runs import Allocate, Runs, in_parts, runs_within

FAR_CLASSES_MAX = 3  # of sigma_z0; more values than that are split linearly between four


@dataclass(frozen=True, slots=True)
class AirColumns:
    """What is known of the dispersion before the wind.

    Attributes
    ----------
    n_segments : int
    blocks : ReceptorBlocks
        The receptors, in the order of the sums.
    mean_wind_m_s : float
        Annual mean at 10 m, of F_regio.
    roughness : int
        Row of :data:`kernels.srm2.ROUGHNESS`.
    rule : int
        A :class:`kernels.srm2.SigmaZRule`.
    streets : Runs
        Columns of SRM1, by segment; empty for SRM2 roads and for segments without motor traffic.
    street_coefficient : (n,) int32
        theta F_b, of :attr:`streets` [2^-30 (ug/m3)/(ug/m/s)].
    road_segment : (n_roads,) int32
        Segments that are SRM2.
    sigma_z0_m : (n_roads,) float64
    roads : Runs
        Receptors near each road.
    elements : Elements
    fit : (n_fits, 11) float32, fit_of : (n_roads,) int32
        Plume of each value of sigma_z0 nearby.
    far_sigma_z0_m : (n_classes,) float64
        Values whose far fields are computed.
    levels : tuple of Level, spreads : tuple of Spread
        The far field; no level without roads.
    bound : GateBound
        Largest coefficients, for the change gate.
    emission_limit : int
        Emission [2^-20 ug/m/s] up to which no sum can overflow, whatever the wind.
    """

    n_segments: int
    blocks: ReceptorBlocks
    mean_wind_m_s: float
    roughness: int
    rule: int
    streets: Runs
    street_coefficient: NDArray[np.int32]
    road_segment: NDArray[np.int32]
    sigma_z0_m: NDArray[np.float64]
    roads: Runs
    elements: Elements
    fit: NDArray[np.float32]
    fit_of: NDArray[np.int32]
    far_sigma_z0_m: NDArray[np.float64]
    levels: tuple[Level, ...]
    spreads: tuple[Spread, ...]
    bound: GateBound
    emission_limit: int

    @property
    def n_roads(self) -> int:
        return int(self.road_segment.size)

    @property
    def blend_m(self) -> tuple[float, float]:
        """Distances between which the near field of a road fades out [m]."""
        return self.levels[0].inner_m if self.levels else (np.inf, np.inf)


@dataclass(frozen=True, slots=True)
class RoadColumns:
    """Coefficients of SRM2 roads for one wind, at 5 m/s.

    Attributes
    ----------
    near : (n,) int32
        Of ``AirColumns.roads`` [2^-30 (ug/m3)/(ug/m/s)].
    spectra : for each level and class of sigma_z0 (rows, columns // 2 + 1) complex64
        See :func:`kernels.far_field.level_spectrum`.
    """

    near: NDArray[np.int32]
    spectra: tuple[tuple[NDArray[np.complex64], ...], ...]


def air_columns(
    blocks: ReceptorBlocks,
    lines: list[NDArray[np.float64]],
    street_type: NDArray[np.int8],
    tree_factor: NDArray[np.float64],
    is_road: NDArray[np.bool_],
    sigma_z0_m: NDArray[np.float64],
    mean_wind_m_s: float,
    roughness: srm2.Roughness,
    *,
    node_step_m: float,
    rule: srm2.SigmaZRule = srm2.SigmaZRule.ADD,
) -> AirColumns:
    """Columns of segments, without the bound of the change gate (:func:`kernels.air_bound.with_bound`).

    Parameters
    ----------
    blocks : ReceptorBlocks
    lines : list of (m, 2) float64
        Line of each segment [m].
    street_type : (n_segments,) int8
        :class:`kernels.srm1.RoadType` of SRM1 streets, 0 for others.
    tree_factor : (n_segments,) float64
        F_b of SRM1.
    is_road : (n_segments,) bool
        Whether a segment is an SRM2 road.
    sigma_z0_m : (n_segments,) float64
        Start value of SRM2 [m].
    node_step_m : float
        Distance of the finest nodes of the far field [m]; see :func:`kernels.far_field.node_step_m`.
    """
    lines = [np.asarray(line, dtype=np.float64) for line in lines]
    streets = runs_within(lines, _street_reach(street_type), blocks)
    road_segment = np.flatnonzero(is_road).astype(np.int32)
    road_lines = [lines[s] - blocks.origin for s in road_segment]
    sigma = np.asarray(sigma_z0_m[road_segment], dtype=np.float64)
    levels: tuple[Level, ...] = ()
    if road_lines:
        vertices = np.concatenate(road_lines)
        box = tuple(np.array([pick(blocks.x), pick(blocks.y)], dtype=np.float64) for pick in (np.min, np.max))
        levels = far_field.far_levels(
            (box[0], box[1]), (vertices.min(axis=0), vertices.max(axis=0)), node_step_m
        )
    reach = node_step_m * BLEND_STEPS[1]
    values, fit_of = np.unique(sigma, return_inverse=True)
    far_sigma, share = _far_classes(sigma)
    return AirColumns(
        n_segments=len(lines),
        blocks=blocks,
        mean_wind_m_s=mean_wind_m_s,
        roughness=srm2.ROUGHNESS.index(roughness),
        rule=int(rule),
        streets=streets,
        street_coefficient=_street_coefficients(streets, blocks, lines, street_type, tree_factor),
        road_segment=road_segment,
        sigma_z0_m=sigma,
        roads=runs_within([lines[s] for s in road_segment], np.full(road_segment.size, reach), blocks),
        elements=near_field.elements(road_lines),
        fit=np.array(
            [near_field.plume_fit(reach, roughness, float(v), rule) for v in values], dtype=np.float32
        ).reshape(values.size, near_field.FIT_DEGREE + 1),
        fit_of=fit_of.astype(np.int32).ravel(),
        far_sigma_z0_m=far_sigma,
        levels=levels,
        spreads=tuple(far_field.spread_onto(level, road_lines, share) for level in levels),
        bound=GateBound.empty(len(lines)),
        emission_limit=EMISSION_MAX_QUANTA,
    )


def road_columns(columns: AirColumns, winds: srm2.Winds, allocate: Allocate = np.zeros) -> RoadColumns:
    """Coefficients of the SRM2 roads for a wind, at the reference speed of 5 m/s.

    Of an hour (:func:`kernels.srm2.hourly_winds`) the speed enters only through the meandering; see
    :func:`kernels.srm2.hourly_factor` for the rest.
    """
    tables = [
        srm2.plume_table(
            _longest_m(columns.levels),
            srm2.ROUGHNESS[columns.roughness],
            float(s),
            srm2.SigmaZRule(columns.rule),
        )
        for s in columns.far_sigma_z0_m
    ]
    return RoadColumns(
        near=near_columns(columns, winds, columns.blend_m, allocate),
        spectra=tuple(
            tuple(far_field.level_spectrum(level, table, winds) for table in tables)
            for level in columns.levels
        ),
    )


def near_columns(
    columns: AirColumns, winds: srm2.Winds, blend_m: tuple[float, float], allocate: Allocate = np.zeros
) -> NDArray[np.int32]:
    """Coefficients of the receptors near each road; see :func:`kernels.near_field.near_coefficients`."""
    return near_field.near_coefficients(
        columns.roads, columns.blocks, columns.elements, columns.fit, columns.fit_of, winds, blend_m, allocate
    )


def _street_reach(street_type: NDArray[np.int8]) -> NDArray[np.float64]:
    """Reach of each type [m]: 0 where it is none."""
    has_power = ~np.isnan(srm1.PARAMETERS[:, 3])
    reach = np.where(has_power, srm1.DISTANCE_MAX_M, srm1.POLYNOMIAL_TO_M)
    return np.asarray(np.concatenate([[0.0], reach])[street_type])


def _street_coefficients(
    runs: Runs,
    blocks: ReceptorBlocks,
    lines: list[NDArray[np.float64]],
    street_type: NDArray[np.int8],
    tree_factor: NDArray[np.float64],
) -> NDArray[np.int32]:
    out = np.zeros(runs.n_coefficients, dtype=np.int32)

    def fill(low: int, high: int) -> None:
        for c in range(low, high):
            for run in range(runs.start[c], runs.start[c + 1]):
                n = int(runs.offset[run + 1] - runs.offset[run])
                if n == 0:
                    continue
                some = slice(runs.block[run], runs.block[run] + n // BLOCK)
                x = blocks.x[some].ravel().astype(np.float64) + blocks.origin[0]
                y = blocks.y[some].ravel().astype(np.float64) + blocks.origin[1]
                theta = srm1.line_coefficients(x, y, lines[c], srm1.PARAMETERS[street_type[c] - 1])
                out[runs.offset[run] : runs.offset[run + 1]] = quantise_coefficient(theta * tree_factor[c])

    in_parts(fill, runs.n_columns)
    return out


def _far_classes(sigma_z0_m: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values of sigma_z0 with a far field, and the shares of them that make up each road, (n_roads, n)."""
    values, of = np.unique(sigma_z0_m, return_inverse=True)
    if values.size <= FAR_CLASSES_MAX:
        return values, np.eye(values.size)[of.ravel()]
    values = np.geomspace(values[0], values[-1], FAR_CLASSES_MAX + 1)
    low = np.clip(np.searchsorted(values, sigma_z0_m, "right") - 1, 0, values.size - 2)
    t = (sigma_z0_m - values[low]) / (values[low + 1] - values[low])
    share = np.zeros((sigma_z0_m.size, values.size))
    rows = np.arange(sigma_z0_m.size)
    share[rows, low], share[rows, low + 1] = 1.0 - t, t
    return values, share


def _longest_m(levels: tuple[Level, ...]) -> float:
    """Longest displacement on any lattice [m]."""
    return max((level.step_m * float(np.hypot(*level.shape)) for level in levels), default=0.0) + 100.0
