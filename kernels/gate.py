"""The change gate: which changes of emission may be withheld without any receptor noticing.

A segment's change is withheld only while a computed bound on the error it causes stays within the tolerance.

Noise: each band group of a segment's sound power lies within 0.1 dB of what was published. A receptor's
energy is a sum of transfers times powers, none negative, so its level is then within 0.1 dB too.

Air: for each coarse cell, the sum over withheld segments of the largest coefficient of the segment at a
receptor of the cell times the withheld change must stay within 0.1 ug/m3. The change counted is the largest
of the four species', which bounds each of them and NO2 too: with direct part D and NOx C, ``dNO2 = dD + g (dC
- dD)`` with ``0 <= g = B O3 K / (NO + K)^2 <= B O3 / K``, so ``|dNO2| <= max(|dD|, |dC|)`` while O3 <= K / B
= 166 ug/m3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import sparse

AIR_TOLERANCE_UG_PER_M3 = 0.1
NOISE_TOLERANCE_DB = 0.1


@dataclass(frozen=True, slots=True)
class GateBound:
    """Largest coefficient of each segment in each coarse cell, by cell and by segment.

    Attributes
    ----------
    n_segments : int
    cell_start : (n_cells + 1,) int64, cell_segment : int32, cell_coefficient : float64
        Rows by cell [(ug/m3)/(ug/m/s)], for the worst weather.
    segment_start : (n_segments + 1,) int64, segment_cell : int32, segment_coefficient : float64
        The same by segment.
    air_tolerance_ug_per_m3, noise_tolerance_db : float
    """

    n_segments: int
    cell_start: NDArray[np.int64]
    cell_segment: NDArray[np.int32]
    cell_coefficient: NDArray[np.float64]
    segment_start: NDArray[np.int64]
    segment_cell: NDArray[np.int32]
    segment_coefficient: NDArray[np.float64]
    air_tolerance_ug_per_m3: float = AIR_TOLERANCE_UG_PER_M3
    noise_tolerance_db: float = NOISE_TOLERANCE_DB

    @classmethod
    def empty(cls, n_segments: int) -> GateBound:
        """A bound without any cell: nothing is ever released."""
        none = np.empty(0, dtype=np.int32)
        start = np.zeros(n_segments + 1, dtype=np.int64)
        return cls(n_segments, np.zeros(1, dtype=np.int64), none, np.empty(0), start, none, np.empty(0))

    @property
    def n_cells(self) -> int:
        return int(self.cell_start.size) - 1


def gate_bound(
    cell: NDArray[np.int32],
    segment: NDArray[np.int32],
    coefficient: NDArray[np.float64],
    n_cells: int,
    n_segments: int,
    *,
    air_tolerance_ug_per_m3: float = AIR_TOLERANCE_UG_PER_M3,
    noise_tolerance_db: float = NOISE_TOLERANCE_DB,
) -> GateBound:
    """Bound from entries (cell, segment, coefficient), each (n,); entries of one pair add up."""
    matrix = sparse.csr_array((coefficient, (cell, segment)), shape=(n_cells, n_segments))
    matrix.sum_duplicates()
    by_segment = matrix.tocsc()
    by_segment.sort_indices()
    return GateBound(
        n_segments=n_segments,
        cell_start=matrix.indptr.astype(np.int64),
        cell_segment=matrix.indices.astype(np.int32),
        cell_coefficient=np.asarray(matrix.data, dtype=np.float64),
        segment_start=by_segment.indptr.astype(np.int64),
        segment_cell=by_segment.indices.astype(np.int32),
        segment_coefficient=np.asarray(by_segment.data, dtype=np.float64),
        air_tolerance_ug_per_m3=air_tolerance_ug_per_m3,
        noise_tolerance_db=noise_tolerance_db,
    )


def noise_exceeds(
    published: NDArray[np.int64], wanted: NDArray[np.int64], tolerance_db: float
) -> NDArray[np.bool_]:
    """Whether a band group of a segment left the tolerance, (n,); powers are (n, 4) in any quantum."""
    factor = 10.0 ** (tolerance_db / 10.0)
    old, new = published.astype(np.float64), wanted.astype(np.float64)
    outside = (new > old * factor) | (new * factor < old)
    return np.asarray(outside.any(axis=1))


def air_releases(
    bound: GateBound, withheld_ug_per_m_s: NDArray[np.float64], wind_m_s: float = 0.0
) -> NDArray[np.bool_]:
    """Segments to release so that the bound holds in every cell, (n_segments,).

    In each violating cell, in order, the largest contributors go first (the lowest index of equal ones).

    Parameters
    ----------
    bound : GateBound
    withheld_ug_per_m_s : (n_segments,) float64
        Largest absolute withheld change of the species of each segment [ug/m/s].
    wind_m_s : float
        Present wind. Coefficients fall with 1 / max(u, 1), those of the bound are at calm. When the wind
        drops, more is released.
    """
    withheld = withheld_ug_per_m_s.astype(np.float64, copy=True)
    _release(
        bound.cell_start,
        bound.cell_segment,
        bound.cell_coefficient,
        withheld,
        bound.air_tolerance_ug_per_m3 * max(1.0, wind_m_s),
    )
    return np.asarray((withheld == 0.0) & (withheld_ug_per_m_s > 0.0))


def air_bound(bound: GateBound, withheld_ug_per_m_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bound on the error in each cell at calm [ug/m3], (n_cells,)."""
    return np.asarray(
        _sums(bound.cell_start, bound.cell_segment, bound.cell_coefficient, withheld_ug_per_m_s)
    )


@njit(cache=True, error_model="numpy")
def _sums(
    start: NDArray[np.int64],
    segment: NDArray[np.int32],
    coefficient: NDArray[np.float64],
    withheld: NDArray[np.float64],
) -> NDArray[np.float64]:
    out = np.zeros(start.size - 1)
    for cell in range(start.size - 1):
        total = 0.0
        for k in range(start[cell], start[cell + 1]):
            total += coefficient[k] * withheld[segment[k]]
        out[cell] = total
    return out


@njit(cache=True, error_model="numpy")
def _release(
    start: NDArray[np.int64],
    segment: NDArray[np.int32],
    coefficient: NDArray[np.float64],
    withheld: NDArray[np.float64],
    tolerance: float,
) -> None:
    """Zero ``withheld`` of the released. A release only lowers the other cells, so one pass is enough."""
    for cell in range(start.size - 1):
        while True:
            total, largest, at = 0.0, 0.0, -1
            for k in range(start[cell], start[cell + 1]):
                part = coefficient[k] * withheld[segment[k]]
                total += part
                if part > largest:
                    largest, at = part, segment[k]
            if total <= tolerance or at < 0:
                break
            withheld[at] = 0.0
