"""Annual means of air quality at points: streets by SRM1, open roads by SRM2, background.

The field of the control room is of one hour and one wind; this is the method of the regulation, at any
points, for a given emission of each segment. Where the emission comes from does not matter:
:func:`prior_emission` takes the traffic that is expected before any sensor.

References
----------
.. [1] Regeling beoordeling luchtkwaliteit 2007, annexes 1 (SRM1) and 2 (SRM2).
.. [2] van Velze and Wesseling, Technische beschrijving van standaardrekenmethode 1, RIVM 2014-0127:
       cumulation of NO2.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntFlag
from zoneinfo import ZoneInfo

import numpy as np
import shapely
from numpy.typing import NDArray

from agents.air import background_of
from cities.dispersion import Dispersion, Model, dispersion_of
from cities.pack import City, CityError
from cities.traffic_week import TrafficWeek
from cities.wind_rose import AnnualWind, annual_wind
from kernels import srm1, srm2_annual
from kernels.chemistry import Background, cumulated_no2_field
from kernels.emission import N_POLLUTANTS, Pollutant, VehicleClass, add_emission, regime_codes
from kernels.network import Mode
from kernels.prior import Prior
from kernels.speed import volume_delay_speed
from kernels.srm2 import roughness_class

MOTOR_MODES = (Mode.CAR, Mode.TRUCK, Mode.BUS)
# A week without a holiday and without a change of the clock; which one does not matter to a profile.
WEEK_START = datetime(2022, 11, 21)
WEEK_HOURS = 168


class AnnualAirError(ValueError):
    """Points or emissions that cannot be calculated; the message names the field and what was expected."""


class PointFlag(IntFlag):
    """What to know of a point; its value is calculated nevertheless."""

    IN_ROAD = 1  # nearer than 3.5 m to the axis of a street that emits: calculated at 3.5 m
    NEARER_THAN_FIT = 2  # nearer than 5 m to the axis of an SRM1 street: before the fit begins
    OUTSIDE_WINDOW = 4  # beyond the receptors of the city: roads there may be missing from the network
    OUTSIDE_NETWORK = 8  # beyond the extent of the network too: what is there is background and far roads


@dataclass(frozen=True, slots=True)
class AnnualAir:
    """Annual means at points [ug/m3].

    Attributes
    ----------
    no2, pm10, pm25 : (n,) float64
        Background and traffic together.
    street, road : (n, 4) float64
        Contributions of all SRM1 streets and of all SRM2 roads, in the order of
        :class:`kernels.emission.Pollutant` (NO2 is the directly emitted part).
    road_no2 : (n,) float64
        NO2 of the SRM2 roads alone, converted by wind sector.
    flags : (n,) uint8
        :class:`PointFlag`.
    background : Background
        Without what it holds of the roads that are calculated.
    wind : AnnualWind
    """

    no2: NDArray[np.float64]
    pm10: NDArray[np.float64]
    pm25: NDArray[np.float64]
    street: NDArray[np.float64]
    road: NDArray[np.float64]
    road_no2: NDArray[np.float64]
    flags: NDArray[np.uint8]
    background: Background
    wind: AnnualWind


def annual_air(
    city: City,
    xy: NDArray[np.float64],
    emission_ug_per_m_s: NDArray[np.float64],
    *,
    dispersion: Dispersion | None = None,
    wind: AnnualWind | None = None,
) -> AnnualAir:
    """Annual mean NO2, PM10 and PM2.5 at points.

    SRM1 of the streets within its reach of 30 or 60 m (road type, trees, ``F_regio = 5 / u``), SRM2 of all
    open roads within 5 km by wind sector, NOx of both cumulated [2]_, and the background without its double
    count. Streets beyond the network add nothing.

    Parameters
    ----------
    city : City
    xy : (n, 2) float64
        Points in the CRS of the city [m].
    emission_ug_per_m_s : (n_segments, 4) float64
        Annual mean emission of each segment, both directions together, in the order of
        :class:`kernels.emission.Pollutant` [ug/m/s].
    dispersion : Dispersion, optional
        Method of each segment, and SRM2's rule of sigma_z; those of the city's files by default.
    wind : AnnualWind, optional
        That of city.toml by default.

    Raises
    ------
    AnnualAirError
        For points that are not finite, emissions below 0 or not finite, or another shape of either.
    CityError
        For a city without background or annual mean wind.
    """
    _check(city, xy, emission_ug_per_m_s)
    dispersion = dispersion or dispersion_of(city)
    wind = wind or annual_wind(city)
    background = background_of(city)
    street, distance_m, nearest_srm1_m = _streets(city, xy, emission_ug_per_m_s, dispersion, wind.mean_m_s)
    road, road_no2 = _roads(city, xy, emission_ug_per_m_s, dispersion, wind, background.o3)
    no2 = background.no2 + cumulated_no2_field(
        np.ascontiguousarray(street[:, Pollutant.NOX]),
        np.ascontiguousarray(street[:, Pollutant.NO2]),
        np.ascontiguousarray(road[:, Pollutant.NOX]),
        np.ascontiguousarray(road[:, Pollutant.NO2]),
        road_no2,
        background.o3,
    )
    traffic = street + road
    return AnnualAir(
        no2=no2,
        pm10=background.pm10 + traffic[:, Pollutant.PM10],
        pm25=background.pm25 + traffic[:, Pollutant.PM25],
        street=street,
        road=road,
        road_no2=road_no2,
        flags=_flags(city, xy, distance_m, nearest_srm1_m),
        background=background,
        wind=wind,
    )


def prior_emission(city: City, prior: Prior) -> NDArray[np.float64]:
    """Annual mean emission by the traffic expected before any sensor, (n_segments, 4) [ug/m/s].

    The mean over the 168 hours of a week: the prior's flow of an average hour of a weekday, times the week's
    profile of its mode. Holidays and seasons are not in it. The prior has no speeds: that of each hour
    follows from flow and capacity of the direction by the volume-delay function, so that jams which a queue
    elsewhere would cause are missing; below 60 % of the free speed the stagnating factors are blended in.

    Raises
    ------
    CityError
        For a prior of another network.
    """
    n = city.network.n_segments
    if prior.network_hash != city.network_hash:
        raise CityError(f"prior: made for network {prior.network_hash}, the city has {city.network_hash}")
    week = TrafficWeek(city)
    regime = regime_codes([str(r) for r in city.class_values("regime")])
    factors = city.emission.of_segments(regime, city.speed_kmh)
    medium_share = city.class_values("truck_medium_share").astype(np.float64)
    capacity_per_h = city.class_values("capacity_veh_per_h").astype(np.float64) * city.lanes
    flows = mean_flows(city, prior)
    start_ms = int(WEEK_START.replace(tzinfo=ZoneInfo(city.timezone)).timestamp()) * 1000
    half_hour_ms, hour_ms = (round(timedelta(hours=h) / timedelta(milliseconds=1)) for h in (0.5, 1.0))
    total = np.zeros((n, N_POLLUTANTS))
    for hour in range(WEEK_HOURS):
        moment_ms = start_ms + hour * hour_ms + half_hour_ms
        scale = np.array([week.scale(mode, moment_ms) for mode in MOTOR_MODES])
        for direction in (0, 1):
            car, truck, bus = flows[:, direction] * scale[:, None]
            speed = volume_delay_speed(city.speed_kmh, car + truck + bus, capacity_per_h)
            for vehicle, q in (
                (VehicleClass.LIGHT, car),
                (VehicleClass.MEDIUM, truck * medium_share),
                (VehicleClass.HEAVY, truck * (1.0 - medium_share)),
                (VehicleClass.BUS, bus),
            ):
                add_emission(
                    total, q, speed, city.speed_kmh, factors.flowing_row, factors.stagnating_row,
                    factors.g_per_km[vehicle],
                )  # fmt: skip
    return total / WEEK_HOURS


def mean_flows(city: City, prior: Prior) -> NDArray[np.float64]:
    """Flow of the average hour of a weekday [1/h], (3, 2, n_segments): MOTOR_MODES, direction, segment."""
    flows = np.zeros((len(MOTOR_MODES), 2, city.network.n_segments))
    edges = city.car_edges
    for m, mode in enumerate(MOTOR_MODES):
        if mode in prior.modes:
            flows[m, edges.direction, edges.segment] = prior.modes[mode].flow_per_h
    return flows


def _check(city: City, xy: NDArray[np.float64], emission: NDArray[np.float64]) -> None:
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise AnnualAirError(f"xy: got shape {xy.shape}, expected (points, 2)")
    if not (finite := np.isfinite(xy).all(axis=1)).all():
        at = int(np.argmin(finite))
        raise AnnualAirError(f"xy[{at}]: got {xy[at].tolist()}, expected finite coordinates [m]")
    expected = (city.network.n_segments, N_POLLUTANTS)
    if emission.shape != expected:
        raise AnnualAirError(f"emission_ug_per_m_s: got shape {emission.shape}, expected {expected}")
    if not (good := ((emission >= 0.0) & np.isfinite(emission)).all(axis=1)).all():
        at = int(np.argmin(good))
        raise AnnualAirError(
            f"emission_ug_per_m_s of segment {city.segment_ids[at]}: got {emission[at].tolist()}, "
            "expected at least 0 ug/m/s"
        )


def _streets(
    city: City,
    xy: NDArray[np.float64],
    emission: NDArray[np.float64],
    dispersion: Dispersion,
    mean_wind_m_s: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Contribution of SRM1 streets (n, 4), and distances to any emitting axis and to one of SRM1, (n,)."""
    out = np.zeros((xy.shape[0], N_POLLUTANTS))
    distance_m, srm1_m = np.full(xy.shape[0], np.inf), np.full(xy.shape[0], np.inf)
    factor = srm1.F_K * srm1.regional_factor(mean_wind_m_s)
    points = shapely.points(xy)
    tree = shapely.STRtree(points)
    calculated = np.flatnonzero((dispersion.model != Model.NONE) & emission.any(axis=1))
    lines = np.array([shapely.LineString(city.network.polyline(int(s))) for s in calculated], dtype=object)
    numbers, found = tree.query(lines, predicate="dwithin", distance=srm1.DISTANCE_MAX_M)
    starts = np.searchsorted(numbers, np.arange(calculated.size + 1))
    for k, s in enumerate(calculated):
        at = found[starts[k] : starts[k + 1]]
        if not at.size:
            continue
        to_axis = shapely.distance(points[at], lines[k])
        distance_m[at] = np.minimum(distance_m[at], to_axis)
        if dispersion.model[s] == Model.SRM2:
            continue
        srm1_m[at] = np.minimum(srm1_m[at], to_axis)
        theta = srm1.line_coefficients(
            np.ascontiguousarray(xy[at, 0]),
            np.ascontiguousarray(xy[at, 1]),
            city.network.polyline(int(s)),
            srm1.PARAMETERS[dispersion.model[s] - 1],
        )
        out[at] += factor * dispersion.tree_factor[s] * theta[:, None] * emission[s]
    return out, distance_m, srm1_m


def _roads(
    city: City,
    xy: NDArray[np.float64],
    emission: NDArray[np.float64],
    dispersion: Dispersion,
    wind: AnnualWind,
    o3: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Contribution of SRM2 roads (n, 4), and their NO2 converted by sector (n,)."""
    segments = np.flatnonzero((dispersion.model == Model.SRM2) & emission.any(axis=1))
    if not segments.size:
        return np.zeros((xy.shape[0], N_POLLUTANTS)), np.zeros(xy.shape[0])
    roads = srm2_annual.roads_of(
        [city.network.polyline(int(s)) for s in segments], dispersion.sigma_z0_m[segments]
    )
    sectors = srm2_annual.sector_contributions(
        np.ascontiguousarray(xy[:, 0]),
        np.ascontiguousarray(xy[:, 1]),
        roads,
        emission[segments],
        wind.rose,
        roughness_class(dispersion.roughness_m),
        dispersion.rule,
    )
    no2 = srm2_annual.annual_no2(sectors[..., Pollutant.NOX], sectors[..., Pollutant.NO2], o3, wind.rose)
    return srm2_annual.annual_mean(sectors, wind.rose), no2


def _flags(
    city: City, xy: NDArray[np.float64], distance_m: NDArray[np.float64], srm1_m: NDArray[np.float64]
) -> NDArray[np.uint8]:
    low, high = city.network.vertex_xy.min(axis=0), city.network.vertex_xy.max(axis=0)
    flags = (
        (distance_m < srm1.DISTANCE_MIN_M) * PointFlag.IN_ROAD
        + (srm1_m < srm1.POLYNOMIAL_FROM_M) * PointFlag.NEARER_THAN_FIT
        + (city.grid.cell_of(xy) < 0) * PointFlag.OUTSIDE_WINDOW
        + ((xy < low) | (xy > high)).any(axis=1) * PointFlag.OUTSIDE_NETWORK
    )
    return np.asarray(flags, dtype=np.uint8)
