"""SRM2 as the regulation has it: annual means of open roads from a wind rose of twelve sectors.

A road is a row of sources; the direction from which the wind must blow to carry a source to a receptor picks
the sector [1]_. The regulation adds sources of finite length. Here a piece of road is cut where it passes
from one sector to the next and each part is integrated, which is what the sum tends to with ever shorter
sources.

References
----------
.. [1] Regeling beoordeling luchtkwaliteit 2007, annex 2.
.. [2] Operationele Prioritaire Stoffen model (RIVM), NO2 of roads by sector.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.chemistry import K_UG_PER_M3
from kernels.srm2 import (
    C_DIURNAL,
    DENSITY_PEAK,
    REFERENCE_WIND_M_S,
    SECTORS,
    Roughness,
    SigmaZRule,
    Srm2Error,
    Winds,
    spread,
    transport_vector,
)

SECTOR_DEG = 360.0 / SECTORS
STARTS_DEG = (-15.0, 0.0)  # of the first sector, both allowed [1]_
NIGHT_CORRECTION = (0.8, 1.0, 1.1)  # of the wind of a class: 0-2.75, 2.75-5.75, above 5.75 m/s [1]_
WIND_MIN_M_S = 1.0  # 1/u has no mean without a limit
DISTANCE_MIN_M = 3.5  # as SRM1; nearer, the plume formula grows without limit
REACH_M = 5000.0  # the national tool takes roads within 5 km
FREQUENCY_TOLERANCE = 1e-6
HEIGHT_M = 1.5  # of a receptor
SHORTEST_STEP_M = 2.0


@dataclass(frozen=True, slots=True)
class WindRose:
    """Wind at 10 m over the roughness of the place, by the sector it blows from.

    Attributes
    ----------
    frequency : (12,) float64
        Share of the year, adds up to 1.
    wind_m_s : (12,) float64
        Wind whose inverse is the mean inverse of the sector [m/s]; may be NaN where the frequency is 0.
    start_deg : float
        Where the first sector begins, clockwise from north: -15 or 0.

    Raises
    ------
    Srm2Error
        For another number of sectors, frequencies that are negative or do not add up to 1, a wind that is not
        above 0 in a sector that occurs, or another start.
    """

    frequency: NDArray[np.float64]
    wind_m_s: NDArray[np.float64]
    start_deg: float = -15.0

    def __post_init__(self) -> None:
        for name in ("frequency", "wind_m_s"):
            shape = getattr(self, name).shape
            if shape != (SECTORS,):
                raise Srm2Error(f"{name}: got shape {shape}, expected ({SECTORS},)")
        for i, f in enumerate(self.frequency):
            if not 0.0 <= f <= 1.0 + FREQUENCY_TOLERANCE:
                raise Srm2Error(f"frequency[{i}]: got {f}, expected 0 to 1")
        total = float(self.frequency.sum())
        if abs(total - 1.0) > FREQUENCY_TOLERANCE:
            raise Srm2Error(f"frequency: got a sum of {total:.9g}, expected 1")
        for i, u in enumerate(self.wind_m_s):
            if self.frequency[i] > 0.0 and not 0.0 < u < math.inf:
                raise Srm2Error(f"wind_m_s[{i}]: got {u}, expected a wind above 0 m/s")
        if self.start_deg not in STARTS_DEG:
            raise Srm2Error(f"start_deg: got {self.start_deg}, expected one of {STARTS_DEG}")

    @property
    def inverse_wind(self) -> NDArray[np.float64]:
        """1/u of each sector [s/m], 0 in one that never occurs, (12,)."""
        occurs = self.frequency > 0.0
        return np.where(occurs, 1.0 / np.where(occurs, self.wind_m_s, 1.0), 0.0)


def uniform_rose(wind_m_s: float, start_deg: float = -15.0) -> WindRose:
    """All directions alike, with one wind [m/s]."""
    return WindRose(np.full(SECTORS, 1.0 / SECTORS), np.full(SECTORS, float(wind_m_s)), start_deg)


def winds_of(rose: WindRose) -> Winds:
    """A year as one density of transport, for fields on a grid: the mean of its hours, over C_etmaal.

    Each sector counts with f / u (against 5 m/s) and is spread like the wind of an hour, so that no wedges
    show; the sums by sector of this module are those of the regulation.
    """
    toward = [transport_vector(rose.start_deg + (i + 0.5) * SECTOR_DEG) for i in range(SECTORS)]
    weight = rose.frequency * rose.inverse_wind * REFERENCE_WIND_M_S * DENSITY_PEAK / C_DIURNAL
    some = weight > 0.0
    return Winds(np.column_stack([toward, weight])[some], 0.0)


def rose_of_classes(
    frequency: NDArray[np.float64], wind_m_s: NDArray[np.float64], start_deg: float = -15.0
) -> WindRose:
    """Rose from frequencies in three classes of wind: 0-2.75, 2.75-5.75 and above 5.75 m/s.

    The wind of a sector is the harmonic mean of its classes, each corrected for the night by 0.8, 1.0 and 1.1
    [1]_, ``sum f / sum (f_j / (c_j u_j))``. The regulation names the classes and corrections; its formula is
    an image, so that the harmonic mean is a reconstruction. A corrected wind below 1 m/s counts as 1 m/s.

    Parameters
    ----------
    frequency : (12, 3) float64
        Hours or shares of each sector and class, of any unit.
    wind_m_s : (3,) or (12, 3) float64
        Mean wind of each class [m/s].
    start_deg : float
        Where the first sector begins, -15 or 0.

    Raises
    ------
    Srm2Error
        For another shape, a frequency below 0 or none above, or a wind that is not above 0 in a class that
        occurs.
    """
    if frequency.shape != (SECTORS, 3):
        raise Srm2Error(f"frequency: got shape {frequency.shape}, expected ({SECTORS}, 3)")
    if not ((frequency >= 0.0) & np.isfinite(frequency)).all() or not frequency.sum() > 0.0:
        raise Srm2Error(
            "frequency: got values below 0 or none above, expected hours of each sector and class"
        )
    if wind_m_s.shape not in ((3,), (SECTORS, 3)):
        raise Srm2Error(f"wind_m_s: got shape {wind_m_s.shape}, expected (3,) or ({SECTORS}, 3)")
    wind = np.broadcast_to(wind_m_s, (SECTORS, 3))
    occurs = frequency > 0.0
    if not ((wind > 0.0) & np.isfinite(wind))[occurs].all():
        raise Srm2Error(
            "wind_m_s: got a wind that is not above 0 in a class that occurs, expected m/s above 0"
        )
    corrected = np.maximum(np.where(occurs, wind, 1.0) * NIGHT_CORRECTION, WIND_MIN_M_S)
    slowness = (frequency / corrected).sum(axis=1)
    hours = frequency.sum(axis=1)
    speed = np.where(hours > 0.0, hours / np.where(hours > 0.0, slowness, 1.0), np.nan)
    return WindRose(hours / hours.sum(), speed, start_deg)


def rose_of_hours(
    wind_from_deg: NDArray[np.float64], wind_m_s: NDArray[np.float64], start_deg: float = -15.0
) -> WindRose:
    """Rose from hours: 1/u of a sector is the mean of ``1 / max(u, 1)`` of its hours.

    No night correction: with each hour's own wind the night needs none.

    Parameters
    ----------
    wind_from_deg : (n,) float64
        Direction the wind blows from, clockwise from north [degrees].
    wind_m_s : (n,) float64
        At 10 m, over the roughness of the place.
    start_deg : float
        Where the first sector begins, -15 or 0.

    Raises
    ------
    Srm2Error
        For no hours, unequal numbers, a direction outside 0 to 360 or a wind below 0, naming the first.
    """
    if wind_m_s.size == 0 or wind_from_deg.shape != wind_m_s.shape or wind_m_s.ndim != 1:
        raise Srm2Error(
            f"wind_m_s: got {wind_m_s.shape} winds and {wind_from_deg.shape} directions, "
            "expected as many of both"
        )
    for name, values, is_good, expected in (
        ("wind_from_deg", wind_from_deg, (wind_from_deg >= 0) & (wind_from_deg <= 360), "0 to 360 degrees"),
        ("wind_m_s", wind_m_s, (wind_m_s >= 0) & np.isfinite(wind_m_s), "at least 0 m/s"),
    ):
        if not is_good.all():
            at = int(np.argmin(is_good))
            raise Srm2Error(f"{name}[{at}]: got {values[at]}, expected {expected}")
    sector = np.floor((wind_from_deg - start_deg) / SECTOR_DEG).astype(np.int64) % SECTORS
    hours = np.bincount(sector, minlength=SECTORS).astype(np.float64)
    slowness = np.bincount(sector, 1.0 / np.maximum(wind_m_s, WIND_MIN_M_S), minlength=SECTORS)
    speed = np.where(hours > 0.0, hours / np.where(hours > 0.0, slowness, 1.0), np.nan)
    return WindRose(hours / hours.sum(), speed, start_deg)


@dataclass(frozen=True, slots=True)
class Roads:
    """Open roads as straight pieces.

    Attributes
    ----------
    ends : (m, 4) float64
        x and y of both ends of each piece [m].
    road : (m,) int32
        Which road it belongs to, rising.
    sigma_z0_m : (n_roads,) float64
        Start value of each road's vertical spread.
    """

    ends: NDArray[np.float64]
    road: NDArray[np.int32]
    sigma_z0_m: NDArray[np.float64]

    @property
    def n_roads(self) -> int:
        return self.sigma_z0_m.size


def roads_of(lines: Sequence[NDArray[np.float64]], sigma_z0_m: NDArray[np.float64]) -> Roads:
    """Roads from polylines, each (k, 2) [m] with two or more vertices.

    Raises
    ------
    Srm2Error
        For a polyline of another shape or not finite, another number of start values than of lines, or a
        start value that is not above 0.
    """
    if sigma_z0_m.shape != (len(lines),):
        raise Srm2Error(f"sigma_z0_m: got shape {sigma_z0_m.shape}, expected ({len(lines)},)")
    if not ((sigma_z0_m > 0.0) & np.isfinite(sigma_z0_m)).all():
        bad = sigma_z0_m[~((sigma_z0_m > 0.0) & np.isfinite(sigma_z0_m))][0]
        raise Srm2Error(f"sigma_z0_m: got {bad}, expected a spread above 0 m")
    ends, road = [np.empty((0, 4))], [np.empty(0, dtype=np.int32)]
    for r, line in enumerate(lines):
        if line.ndim != 2 or line.shape[0] < 2 or line.shape[1] != 2 or not np.isfinite(line).all():
            raise Srm2Error(
                f"lines[{r}]: got shape {line.shape}, expected two or more finite positions (k, 2)"
            )
        pieces = np.concatenate([line[:-1], line[1:]], axis=1)
        pieces = pieces[(line[1:] != line[:-1]).any(axis=1)]
        ends.append(pieces)
        road.append(np.full(len(pieces), r, dtype=np.int32))
    return Roads(np.concatenate(ends), np.concatenate(road), sigma_z0_m.astype(np.float64))


def sector_contributions(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    roads: Roads,
    emission_ug_per_m_s: NDArray[np.float64],
    rose: WindRose,
    roughness: Roughness,
    rule: SigmaZRule = SigmaZRule.ADD,
    *,
    reach_m: float = REACH_M,
    height_m: float = HEIGHT_M,
) -> NDArray[np.float64]:
    """Contribution at receptors for 100 % of the time in each sector [ug/m3], (n, 12, k).

    ``n E dw / ((2 pi)^(3/2) sigma_z R C u_i) [exp(-(z-h)^2 / 2 sigma_z^2) + exp(-(z+h)^2 / 2 sigma_z^2)]``
    with ``n = 12``, ``C = C_wind C_ijking C_etmaal``, h = 0, integrated along the roads. The wind must be
    that of the place: C_ruwheid is 1. Sectors that never occur in the rose are zero.

    Parameters
    ----------
    x, y : (n,) float64
        Receptors [m]. Distances below 3.5 m count as 3.5 m.
    roads : Roads
    emission_ug_per_m_s : (n_roads, k) float64
        Of k substances.
    rose : WindRose
    roughness : Roughness
    rule : SigmaZRule
    reach_m : float
        Pieces whose nearest point is farther add nothing; may be infinite.
    height_m : float
        Of the receptors.

    Raises
    ------
    Srm2Error
        For receptors that are not finite, an emission below 0 or of another shape, a reach or height outside
        its range, or a start value too small for the roughness (C_wind needs a plume above z0).
    """
    if x.shape != y.shape or x.ndim != 1 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise Srm2Error(
            f"x, y: got shapes {x.shape} and {y.shape}, expected as many finite coordinates of both"
        )
    if emission_ug_per_m_s.ndim != 2 or emission_ug_per_m_s.shape[0] != roads.n_roads:
        raise Srm2Error(
            f"emission_ug_per_m_s: got shape {emission_ug_per_m_s.shape}, "
            f"expected ({roads.n_roads}, substances)"
        )
    if not ((emission_ug_per_m_s >= 0.0) & np.isfinite(emission_ug_per_m_s)).all():
        raise Srm2Error("emission_ug_per_m_s: got a value below 0 or not finite, expected at least 0 ug/m/s")
    if not reach_m > 0.0:
        raise Srm2Error(f"reach_m: got {reach_m}, expected a distance above 0 m")
    if not 0.0 <= height_m < math.inf:
        raise Srm2Error(f"height_m: got {height_m}, expected at least 0 m")
    lowest = float(roads.sigma_z0_m.min(initial=math.inf))
    if not 0.75 * lowest > roughness.z0_m:
        raise Srm2Error(
            f"sigma_z0_m: got {lowest}, expected above {roughness.z0_m / 0.75:.3g} m, "
            f"a plume above the roughness length of {roughness.z0_m} m"
        )
    bearings = np.radians(rose.start_deg + SECTOR_DEG * np.arange(SECTORS))
    out = np.zeros((x.size, SECTORS, emission_ug_per_m_s.shape[1]))
    _add_all(
        x.astype(np.float64),
        y.astype(np.float64),
        roads.ends,
        roads.road,
        roads.sigma_z0_m,
        np.ascontiguousarray(emission_ug_per_m_s, dtype=np.float64),
        rose.inverse_wind,
        np.sin(bearings),
        np.cos(bearings),
        _law(roughness),
        int(rule),
        float(reach_m),
        float(height_m),
        out,
    )
    return out


def annual_mean(sectors: NDArray[np.float64], rose: WindRose) -> NDArray[np.float64]:
    """Annual mean from contributions by sector (n, 12, ...), weighted by how often each occurs [ug/m3]."""
    return np.tensordot(rose.frequency, sectors, axes=([0], [1]))


def annual_no2(
    nox: NDArray[np.float64],
    direct_no2: NDArray[np.float64],
    o3: NDArray[np.float64] | float,
    rose: WindRose,
) -> NDArray[np.float64]:
    """Annual NO2 of open roads, ``f C_i + O3_i C_i (1 - f) / (C_i (1 - f) + K)`` by sector [1]_ [2]_, (n,).

    Parameters
    ----------
    nox, direct_no2 : (n, 12) float64
        Contributions of all roads for 100 % of the time in each sector, see :func:`sector_contributions`.
    o3 : float or (12,) float64
        Background of ozone, where it is known by sector [ug/m3].
    rose : WindRose

    Raises
    ------
    Srm2Error
        For an ozone that is negative or not finite, or of another shape.
    """
    ozone = np.asarray(o3, dtype=np.float64)
    if ozone.shape not in ((), (SECTORS,)):
        raise Srm2Error(f"o3: got shape {ozone.shape}, expected a number or ({SECTORS},)")
    if not ((ozone >= 0.0) & np.isfinite(ozone)).all():
        raise Srm2Error(f"o3: got {o3}, expected at least 0 ug/m3")
    no = np.maximum(nox - direct_no2, 0.0)
    return annual_mean(direct_no2 + ozone * no / (no + K_UG_PER_M3), rose)


# abscissae and weights of Gauss on [0, 1], one to three points
_POINTS = np.array(
    [
        [0.5, 0.0, 0.0],
        [0.5 - math.sqrt(3.0) / 6.0, 0.5 + math.sqrt(3.0) / 6.0, 0.0],
        [0.5 - math.sqrt(0.15), 0.5, 0.5 + math.sqrt(0.15)],
    ]
)
_WEIGHTS = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [5 / 18, 8 / 18, 5 / 18]])


def _law(roughness: Roughness) -> NDArray[np.float64]:
    """a, b, L, and of ``C_wind = (log z_p - 17 exp(-0.29 z_p / L) + ground) / (the same at 10 m)`` what does
    not depend on the plume: ground, and all constant factors of the plume in one."""
    z0, obukhov = roughness.z0_m, roughness.obukhov_m
    ground = 17.0 * math.exp(-0.29 * z0 / obukhov) - math.log(z0)
    at_ten = math.log(10.0) - 17.0 * math.exp(-2.9 / obukhov) + ground
    scale = 2.0 * SECTORS / (2.0 * math.pi) ** 1.5 * at_ten / (roughness.calibration * C_DIURNAL)
    return np.array([roughness.a, roughness.b, obukhov, ground, scale])


@njit(cache=True, error_model="numpy")
def _plume(r: float, sigma_z0: float, law: NDArray[np.float64], rule: int, height: float) -> float:
    """12 / (2 pi)^(3/2) [exp + exp] / (sigma_z R C), at 1 m/s; law is that of :func:`_law`."""
    a, b, obukhov, ground, scale = law
    r = max(r, DISTANCE_MIN_M)
    s = spread(r, a, b, sigma_z0, rule)
    zp = 0.75 * s
    wind = math.log(zp) - 17.0 * math.exp(-0.29 * zp / obukhov) + ground
    return scale * math.exp(-0.5 * (height / s) ** 2) / (s * r * wind)


@njit(cache=True, error_model="numpy")
def _outward(
    near: float,
    far: float,
    across: float,
    sigma_z0: float,
    law: NDArray[np.float64],
    rule: int,
    height: float,
) -> float:
    """Integral over a straight part from its end near the receptor's foot outward, 0 <= near <= far [m].

    Steps are at most as long as their nearer end is far away (at least 2 m), so that they grow outward; the
    farther a step for its length, the fewer points it needs for 5e-4.
    """
    total, at = 0.0, near
    while at < far:
        distance = max(math.sqrt(at * at + across * across), SHORTEST_STEP_M)
        step = min(distance, far - at)
        share = step / distance
        n = 0 if share <= 0.05 else (1 if share <= 0.5 else 2)
        for i in range(n + 1):
            t = at + step * _POINTS[n, i]
            r = math.sqrt(t * t + across * across)
            total += step * _WEIGHTS[n, i] * _plume(r, sigma_z0, law, rule, height)
        at += step
        if far - at < 1e-9 * far:
            break
    return total


@njit(cache=True, error_model="numpy")
def _part(
    s1: float,
    s2: float,
    foot: float,
    across: float,
    sigma_z0: float,
    law: NDArray[np.float64],
    rule: int,
    height: float,
) -> float:
    """Integral over the part from s1 to s2 along a piece [m]."""
    if s2 <= foot:
        return _outward(foot - s2, foot - s1, across, sigma_z0, law, rule, height)
    if s1 >= foot:
        return _outward(s1 - foot, s2 - foot, across, sigma_z0, law, rule, height)
    before = _outward(0.0, foot - s1, across, sigma_z0, law, rule, height)
    return before + _outward(0.0, s2 - foot, across, sigma_z0, law, rule, height)


_ROOT_3 = math.sqrt(3.0)


@njit(cache=True, error_model="numpy")
def _sector(east: float, north: float, sine: float, cosine: float) -> int:
    """Sector of a direction; sine and cosine are of the start of the first. Without an angle: this is hot."""
    x, y = east * cosine - north * sine, north * cosine + east * sine
    if x >= 0.0 and y > 0.0:
        quarter, across, along = 0, x, y
    elif x > 0.0:
        quarter, across, along = 3, -y, x
    elif y < 0.0:
        quarter, across, along = 6, -x, -y
    else:
        quarter, across, along = 9, y, -x
    return quarter + (1 if across * _ROOT_3 >= along else 0) + (1 if across >= along * _ROOT_3 else 0)


@njit(cache=True, error_model="numpy")
def _add_piece(
    ax: float,
    ay: float,
    bx: float,
    by: float,
    sigma_z0: float,
    sines: NDArray[np.float64],
    cosines: NDArray[np.float64],
    law: NDArray[np.float64],
    rule: int,
    reach: float,
    height: float,
    sums: NDArray[np.float64],
) -> None:
    """Add a piece, its ends relative to the receptor, to the sums of the sectors (12,)."""
    ux, uy = bx - ax, by - ay
    length = math.sqrt(ux * ux + uy * uy)
    ux, uy = ux / length, uy / length
    foot = -(ax * ux + ay * uy)
    across = abs(ax * uy - ay * ux)
    beyond = max(-foot, foot - length, 0.0)
    if beyond * beyond + across * across > reach * reach:
        return
    first, last = _sector(ax, ay, sines[0], cosines[0]), _sector(bx, by, sines[0], cosines[0])
    if ax == 0.0 and ay == 0.0:
        first = last
    if bx == 0.0 and by == 0.0:
        last = first
    step = 1 if ay * bx - ax * by > 0.0 else -1  # clockwise, seen from the receptor
    n_edges = (step * (last - first)) % SECTORS
    if n_edges > 9:  # both ends on one line with the receptor, that of an edge: seven is the most
        n_edges = 0
    start = 0.0
    sector = first
    for i in range(n_edges + 1):
        end = length
        if i < n_edges:
            edge = (sector + 1 if step > 0 else sector) % SECTORS
            slope = ux * cosines[edge] - uy * sines[edge]
            # no slope: the receptor lies on the piece, which is the edge itself
            end = foot if slope == 0.0 else -(ax * cosines[edge] - ay * sines[edge]) / slope
            end = min(max(end, start), length)
        if end > start:
            sums[sector % SECTORS] += _part(start, end, foot, across, sigma_z0, law, rule, height)
        start = end
        sector += step


@njit(cache=True, error_model="numpy", nogil=True)
def _add_all(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    ends: NDArray[np.float64],
    road: NDArray[np.int32],
    sigma_z0: NDArray[np.float64],
    emission: NDArray[np.float64],
    inverse_wind: NDArray[np.float64],
    sines: NDArray[np.float64],
    cosines: NDArray[np.float64],
    law: NDArray[np.float64],
    rule: int,
    reach: float,
    height: float,
    out: NDArray[np.float64],
) -> None:
    sums = np.zeros(SECTORS)
    is_used = np.zeros(sigma_z0.size, dtype=np.bool_)
    for r in range(sigma_z0.size):
        is_used[r] = emission[r].any()
    for p in range(x.size):
        for m in range(road.size):
            r = road[m]
            if not is_used[r]:
                continue
            _add_piece(
                ends[m, 0] - x[p], ends[m, 1] - y[p], ends[m, 2] - x[p], ends[m, 3] - y[p],
                sigma_z0[r], sines, cosines, law, rule, reach, height, sums,
            )  # fmt: skip
            if m + 1 < road.size and road[m + 1] == r:
                continue
            for i in range(SECTORS):
                if sums[i] != 0.0:
                    for q in range(emission.shape[1]):
                        out[p, i, q] += sums[i] * inverse_wind[i] * emission[r, q]
                    sums[i] = 0.0
