"""Sound power of road traffic: the source model of CNOSSOS-EU.

Annex II, 2.2 of Directive 2002/49/EC as amended by Delegated Directive (EU) 2021/1226, or with other sets of
coefficients (:mod:`kernels.cnossos_coefficients`). The source is a line 0.05 m above the road; its power is
that of the half space, so the propagation adds the mirror source.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels import cnossos_tables as tables
from kernels.cnossos_coefficients import EU_2021, CoefficientSet

SOURCE_HEIGHT_M = 0.05
V_POWER_MIN_KMH = 20.0  # 2.2.2: below it the power of a vehicle stays that of 20 km/h
V_DENSITY_MIN_KMH = 5.0  # a queue has a jam density; without a floor a standstill would be infinitely loud

# Bands of each group: one transfer for the whole spectrum is off by up to 4 dB in the open and 6.6 dB behind
# screens when speed or surface change; these four keep it within 0.44 dB in the open.
BAND_GROUPS: tuple[tuple[int, ...], ...] = ((0, 1, 2), (3,), (4,), (5, 6, 7))
N_GROUPS = len(BAND_GROUPS)

_LN10_10 = np.log(10.0) / 10.0
_ROAD_CATEGORIES = ("1", "2", "3")
_CHUNK = 4096  # rows at a time: the eight bands of them stay in the second-level cache


def surface_indices(names: Sequence[str]) -> NDArray[np.int8]:
    """Row of table F-4 of 2021 of each surface, (n,).

    Raises
    ------
    ValueError
        Naming the first surface that is not in the table, and those that are.
    """
    return EU_2021.surface_indices(names)


def studded_share(vehicles: float, months: float) -> float:
    """Share over the year of light vehicles with studded tyres, 2.2.7.

    Parameters
    ----------
    vehicles : float
        Share of the light vehicles that have them in their season.
    months : float
        Length of the season, of the twelve months of the year.
    """
    return vehicles * months / 12.0


def sound_power(
    flow_per_h: ArrayLike,
    speed_kmh: ArrayLike,
    category: str,
    surface: str | NDArray[np.int8] = "DEF",
    temperature_c: ArrayLike = tables.T_REF_C,
    *,
    coefficients: CoefficientSet = EU_2021,
    gradient_percent: ArrayLike = 0.0,
    is_two_way: bool = False,
    junction: str | None = None,
    junction_distance_m: ArrayLike = np.inf,
    studded_share: ArrayLike = 0.0,
    corrections: RoadCorrections | None = None,
    v_density_min_kmh: float = V_DENSITY_MIN_KMH,
) -> NDArray[np.float64]:
    """Sound power of a line of traffic of one category, for each octave band.

    Parameters
    ----------
    flow_per_h : (n,) array_like
        Vehicles of this category [1/h]; no traffic gives -inf.
    speed_kmh : (n,) array_like
        Mean speed [km/h].
    category : str
        "1" light, "2" medium heavy, "3" heavy, "4a" moped, "4b" motorcycle.
    surface : str or (n,) int8
        Name in the set of coefficients, or rows from its ``surface_indices``. Category 4 has no correction.
    temperature_c : array_like
        Air temperature [degC]; the yearly mean for legal indicators.
    coefficients : CoefficientSet
    gradient_percent : array_like
        Slope in the direction of driving, uphill positive [%]; limited to +-12.
    is_two_way : bool
        Half of the flow drives the other way, so one half up and one half down the gradient.
    junction : {"crossing", "roundabout"} or None
        Kind of the nearest junction.
    junction_distance_m : array_like
        Distance to it [m]; no effect beyond 100 m.
    studded_share : array_like
        Share of light vehicles with studded tyres, over the year (:func:`studded_share`).
    corrections : RoadCorrections or None
        For all n, instead of the five parameters before.
    v_density_min_kmh : float
        Slowest speed that makes the vehicles stand closer together.

    Returns
    -------
    (n, 8) float64
        Sound power per metre of road, 63 Hz to 8 kHz [dB re 1 pW/m].

    Notes
    -----
    Equations 2.2.1 to 2.2.20. The power of a vehicle is that at max(v, 20 km/h), the density of vehicles that
    at max(v, 5 km/h): where the directive is silent, vehicles in a queue stand closer together. Programs for
    legal maps take 20 km/h for both. A surface at a speed it was not printed for is taken at that speed;
    ``coefficients.is_outside_range`` tells.
    """
    if category not in tables.CATEGORIES:
        raise ValueError(f"category: got {category!r}, expected one of {', '.join(tables.CATEGORIES)}")
    if junction is not None and junction not in tables.JUNCTION_DB[category]:
        raise ValueError(f"junction: got {junction!r}, expected crossing, roundabout or None")
    speed = _column(speed_kmh)
    v = np.maximum(speed, V_POWER_MIN_KMH)
    if corrections is not None:
        studded_share = corrections.studded_share
    if np.any(np.asarray(studded_share) > 0.0) and not coefficients.has_studded_tyres:
        raise ValueError(f"studded_share: the coefficients {coefficients.name} have none for studded tyres")
    row = tables.CATEGORIES.index(category)
    near = np.clip(1.0 - np.abs(_column(junction_distance_m)) / 100.0, 0.0, 1.0)
    c_r, c_p = tables.JUNCTION_DB[category][junction] if junction else (0.0, 0.0)

    slope = _column(gradient_percent)
    if is_two_way:
        both = np.logaddexp(_gradient(category, v, slope), _gradient(category, v, -slope)) - np.log(2.0)
    else:
        both = _gradient(category, v, slope)
    of_road = np.zeros(1)
    if corrections is not None and category in _ROAD_CATEGORIES:
        of_road = corrections.rolling[:, row] / _LN10_10
        both = both + corrections.propulsion[:, row] + corrections.propulsion_per_kmh[:, row] * v
    propulsion = (
        coefficients.propulsion_a_db[row]
        + coefficients.propulsion_b_db[row] * ((v - tables.V_REF_KMH) / tables.V_REF_KMH)[:, None]
        + (both / _LN10_10 + c_p * near)[:, None]
    )
    if category in _ROAD_CATEGORIES:
        rows = coefficients.surface_indices([surface]) if isinstance(surface, str) else np.asarray(surface)
        alpha = coefficients.surface_alpha_db[rows, row]
        beta = coefficients.surface_beta_db[rows, row][:, None]
        warmth = tables.TEMPERATURE_DB_PER_C[row] * (tables.T_REF_C - _column(temperature_c))
        rolling = (
            coefficients.rolling_a_db[row]
            + alpha
            + (coefficients.rolling_b_db[row] + beta) * np.log10(v / tables.V_REF_KMH)[:, None]
            + (warmth + c_r * near + of_road)[:, None]
        )
        if category == "1":
            rolling = rolling + _studded_db(v, studded_share)
        propulsion = propulsion + np.minimum(alpha, 0.0)
        vehicle = np.logaddexp(rolling * _LN10_10, propulsion * _LN10_10) / _LN10_10
    else:
        vehicle = propulsion
    density = _column(flow_per_h) / (1000.0 * np.maximum(speed, v_density_min_kmh))
    with np.errstate(divide="ignore"):  # no traffic has no level
        return np.asarray(vehicle + 10.0 * np.log10(density)[:, None])


def _column(values: ArrayLike) -> NDArray[np.float64]:
    return np.atleast_1d(np.asarray(values, dtype=np.float64))


def _gradient(
    category: str, v: NDArray[np.float64], gradient_percent: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Equations 2.2.13 to 2.2.16, as the logarithm of a factor on the energy; v is (n,) [km/h]."""
    s = np.clip(gradient_percent, -12.0, 12.0)
    if category == "1":
        level = np.maximum(-s - 6.0, 0.0) + np.maximum(s - 2.0, 0.0) / 1.5 * v / 100.0
    elif category == "2":
        level = np.maximum(-s - 4.0, 0.0) / 0.7 * (v - 20.0) / 100.0 + np.maximum(s, 0.0) * v / 100.0
    elif category == "3":
        level = np.maximum(-s - 4.0, 0.0) / 0.5 * (v - 10.0) / 100.0 + np.maximum(s, 0.0) / 0.8 * v / 100.0
    else:
        level = np.zeros(np.broadcast(v, s).shape)
    return level * _LN10_10


def _studded_db(v: NDArray[np.float64], studded_share: ArrayLike) -> NDArray[np.float64]:
    """Equations 2.2.6 to 2.2.8 [dB], (n, 8)."""
    return np.asarray(10.0 * np.log10(_studded_factor(v, _column(studded_share))))


def _studded_factor(v: NDArray[np.float64], share: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same as a factor on the energy."""
    lg = np.log10(np.clip(v, 50.0, 90.0) / tables.V_REF_KMH)[:, None]
    delta = tables.STUDDED_A_DB + tables.STUDDED_B_DB * lg
    return np.asarray((1.0 - share[:, None]) + share[:, None] * 10.0 ** (delta / 10.0))


class RoadCorrections(NamedTuple):
    """What the course of a road and the tyres on it add to the power of its vehicles in one direction.

    Attributes
    ----------
    rolling, propulsion : (n, 3) float64
        Logarithms of factors on the energies of categories 1, 2 and 3.
    propulsion_per_kmh : (n, 3) float64
        Added to that of the propulsion for each km/h.
    studded_share : float
        Of category 1, over the year.
    """

    rolling: NDArray[np.float64]
    propulsion: NDArray[np.float64]
    propulsion_per_kmh: NDArray[np.float64]
    studded_share: float


def road_corrections(
    gradient_percent: ArrayLike = 0.0,
    near_crossing: ArrayLike = 0.0,
    near_roundabout: ArrayLike = 0.0,
    studded_share: float = 0.0,
) -> RoadCorrections | None:
    """Corrections of segments for :func:`band_group_power`; None where all are zero.

    Parameters
    ----------
    gradient_percent : (n,) array_like
        Slope in the direction of driving, uphill positive [%]; limited to +-12.
    near_crossing, near_roundabout : (n,) array_like
        x = max(1 - |distance| / 100 m, 0) of 2.2.17 and 2.2.18, or its mean along the segment.
    studded_share : float
        Share of light vehicles with studded tyres, over the year (:func:`studded_share`).
    """
    slope, crossing, roundabout = np.broadcast_arrays(
        _column(gradient_percent), _column(near_crossing), _column(near_roundabout)
    )
    if not (slope.any() or crossing.any() or roundabout.any() or studded_share > 0.0):
        return None
    rolling, propulsion, per_kmh = (np.zeros((slope.size, 3)) for _ in range(3))
    for m, category in enumerate(_ROAD_CATEGORIES):
        for near, kind in ((crossing, "crossing"), (roundabout, "roundabout")):
            c_r, c_p = tables.JUNCTION_DB[category][kind]
            rolling[:, m] += c_r * near * _LN10_10
            propulsion[:, m] += c_p * near * _LN10_10
        # the gradient is linear in the speed
        at_rest, at_1_kmh = (_gradient(category, np.array([v]), slope) for v in (0.0, 1.0))
        propulsion[:, m] += at_rest
        per_kmh[:, m] = at_1_kmh - at_rest
    return RoadCorrections(rolling, propulsion, per_kmh, studded_share)


def a_weighted_db(bands_db: NDArray[np.float64]) -> NDArray[np.float64]:
    """A-weighted total of octave bands, over the last axis of (..., 8) [dB(A)]."""
    energy = np.sum(10.0 ** ((bands_db + tables.A_WEIGHTING_DB) / 10.0), axis=-1)
    with np.errstate(divide="ignore"):
        return np.asarray(10.0 * np.log10(energy))


def band_group_power(
    light_per_h: ArrayLike,
    medium_per_h: ArrayLike,
    heavy_per_h: ArrayLike,
    speed_light_kmh: ArrayLike,
    speed_heavy_kmh: ArrayLike,
    surface_index: NDArray[np.int8],
    temperature_c: ArrayLike,
    coefficients: CoefficientSet = EU_2021,
    corrections: RoadCorrections | None = None,
) -> NDArray[np.float64]:
    """A-weighted sound power of mixed traffic in the four band groups: :func:`sound_power` in one pass.

    Parameters
    ----------
    light_per_h, medium_per_h, heavy_per_h : (n,) array_like
        Vehicles of categories 1, 2 and 3 [1/h]. A category without vehicles adds nothing, whatever its speed.
    speed_light_kmh, speed_heavy_kmh : (n,) array_like
        Mean speed of category 1, and of categories 2 and 3 [km/h].
    surface_index : (n,) int8
        Rows of the surfaces in the set of coefficients.
    temperature_c : array_like
        Air temperature, one or (n,) [degC].
    coefficients : CoefficientSet
    corrections : RoadCorrections or None
        For all n; None for level roads away from junctions, without studded tyres.

    Returns
    -------
    (n, 4) float64
        Power per metre of {63-250}, {500}, {1k}, {2k-8k} Hz [pW/m]. NaN where a flow or a speed is unknown.
    """
    surface = np.atleast_1d(np.asarray(surface_index, dtype=np.int8))
    n_surfaces = len(coefficients.surfaces)
    if surface.size and not 0 <= surface.min() <= surface.max() < n_surfaces:
        raise ValueError(
            f"surface_index: got {surface.min()} to {surface.max()}, expected 0 to {n_surfaces - 1}"
        )
    if corrections is not None and corrections.studded_share > 0.0 and not coefficients.has_studded_tyres:
        raise ValueError(f"studded_share: the coefficients {coefficients.name} have none for studded tyres")
    light, medium, heavy, v_light, v_heavy, temperature = (
        np.broadcast_to(np.asarray(a, dtype=np.float64), surface.shape)
        for a in (light_per_h, medium_per_h, heavy_per_h, speed_light_kmh, speed_heavy_kmh, temperature_c)
    )
    traffic = ((light, v_light), (medium, v_heavy), (heavy, v_heavy))
    power = np.zeros((surface.size, N_GROUPS))
    neper = _neper(coefficients)
    for row in range(n_surfaces):
        on = np.flatnonzero(surface == row)
        for start in range(0, on.size, _CHUNK):
            part = on[start : start + _CHUNK]
            for m, (flow, speed) in enumerate(traffic):
                some = part[flow[part] != 0.0]
                if some.size:
                    power[some] += _category_power(
                        neper[row, m], m, flow[some], speed[some], temperature[some],
                        None if corrections is None else _of_category(corrections, some, m),
                    )  # fmt: skip
    return power


def _of_category(corrections: RoadCorrections, rows: NDArray[np.int64], m: int) -> RoadCorrections:
    """Those of some segments and one category, (n_rows,) each."""
    return RoadCorrections(
        corrections.rolling[rows, m],
        corrections.propulsion[rows, m],
        corrections.propulsion_per_kmh[rows, m],
        corrections.studded_share if m == 0 else 0.0,
    )


def _category_power(
    neper: NDArray[np.float64],
    m: int,
    flow_per_h: NDArray[np.float64],
    speed_kmh: NDArray[np.float64],
    temperature_c: NDArray[np.float64],
    corrections: RoadCorrections | None,
) -> NDArray[np.float64]:
    """Power of category m + 1 with the coefficients (4, 8) of one surface, (n, 4) [pW/m]."""
    rolling, rolling_slope, propulsion, propulsion_slope = neper
    v = np.maximum(speed_kmh, V_POWER_MIN_KMH)
    ratio = v / tables.V_REF_KMH
    warmth = _TEMPERATURE[m] * (tables.T_REF_C - temperature_c)
    if corrections is not None:
        warmth = warmth + corrections.rolling
    energy = np.exp(rolling[:, None] + rolling_slope[:, None] * np.log(ratio) + warmth)
    if corrections is not None and corrections.studded_share > 0.0:
        energy *= _studded_factor(v, np.array([corrections.studded_share])).T
    # From 500 Hz up the slopes of the propulsion of table F-1 are equal: five bands share one exponential.
    n_apart = 4 if (propulsion_slope[3:] == propulsion_slope[3]).all() else 8
    faster = np.exp(propulsion_slope[:n_apart, None] * (ratio - 1.0))
    if corrections is not None:
        faster *= np.exp(corrections.propulsion + corrections.propulsion_per_kmh * v)
    energy[:n_apart] += np.exp(propulsion[:n_apart, None]) * faster
    energy[n_apart:] += np.exp(propulsion[n_apart:, None]) * faster[-1]
    energy *= flow_per_h / (1000.0 * np.maximum(speed_kmh, V_DENSITY_MIN_KMH))
    return np.stack([energy[list(bands)].sum(axis=0) for bands in BAND_GROUPS], axis=1)


@cache
def _neper(coefficients: CoefficientSet) -> NDArray[np.float64]:
    """Neper form of a set with the A-weighting, (n_surfaces, 3, 4, 8).

    Third axis: rolling constant and slope on ln(v / v_ref), propulsion constant and slope on v / v_ref - 1.
    """
    a_weighting = tables.A_WEIGHTING_DB
    alpha, beta = coefficients.surface_alpha_db, coefficients.surface_beta_db[:, :, None]
    parts = (
        (coefficients.rolling_a_db + a_weighting + alpha) * _LN10_10,
        (coefficients.rolling_b_db + beta) / 10.0,  # 10^(B lg r / 10) = exp(B ln r / 10)
        (coefficients.propulsion_a_db[:3] + a_weighting + np.minimum(alpha, 0.0)) * _LN10_10,
        coefficients.propulsion_b_db[:3] * _LN10_10,
    )
    return np.stack(np.broadcast_arrays(*parts), axis=2)


_TEMPERATURE = tables.TEMPERATURE_DB_PER_C * _LN10_10
