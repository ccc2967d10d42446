"""How the air of each street is calculated: by which method, with which properties, and why.

The class of a road says srm1 or srm2; a segment of network.geojson may say more about itself. See
docs/city-pack.md for the properties.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cities.pack import City, CityError
from cities.street_sides import street_sides_of
from kernels import srm1
from kernels.canyon import road_types
from kernels.chemistry import Background
from kernels.sigma_z0 import BARRIER_MAX_M, BARRIER_MIN_M, Barrier, BarrierKind, start_value
from kernels.srm1 import RoadType
from kernels.srm2 import ROUGHNESS, SigmaZRule, roughness_class

ROUGHNESS_M = 1.0  # a city
MOTORWAY_FROM_KMH = 100.0  # classes at least as fast start with the wider plume of a motorway
REACH_OF_TYPE_M = {
    RoadType.BROAD_CANYON: srm1.DISTANCE_MAX_M,
    RoadType.NARROW_CANYON: srm1.POLYNOMIAL_TO_M,
    RoadType.ONE_SIDED: srm1.POLYNOMIAL_TO_M,
}
_UNEVEN = ("elevation_m", "is_viaduct", "barrier_left_m", "barrier_right_m")  # no SRM1 with these


class Model(IntEnum):
    """Method of a segment; 1 to 4 are SRM1 with the road type of the same number."""

    NONE = 0
    SRM1_BROAD_CANYON = 1
    SRM1_NARROW_CANYON = 2
    SRM1_ONE_SIDED = 3
    SRM1_GENERAL = 4
    SRM2 = 5


class Why(IntFlag):
    """What led to the method of a segment, and what does not fit it."""

    NO_MOTOR = 1
    CLASS = 2
    SEGMENT = 4
    TYPE_ASSUMED = 8
    UNEVEN_STREET = 16
    FACADE_TOO_FAR = 32
    PROPERTY_UNUSED = 64
    BARRIER_TOO_LOW = 128
    BARRIER_CAPPED = 256
    TYPE_FROM_BUILDINGS = 512

    @property
    def is_outside(self) -> bool:
        """Whether the segment lies outside the validity of its method."""
        return bool(self & (Why.UNEVEN_STREET | Why.FACADE_TOO_FAR))


REASONS: Mapping[Why, str] = {
    Why.NO_MOTOR: "no motor traffic",
    Why.CLASS: "method of the road's class",
    Why.SEGMENT: "method of the segment itself",
    Why.TYPE_ASSUMED: "road type assumed: general urban",
    Why.TYPE_FROM_BUILDINGS: "road type from the buildings along it",
    Why.UNEVEN_STREET: "outside SRM1: not level with its surroundings, or with barriers",
    Why.FACADE_TOO_FAR: "outside SRM1: facades beyond the reach of the road type",
    Why.PROPERTY_UNUSED: "has properties of the other method, which are not used",
    Why.BARRIER_TOO_LOW: f"a barrier below {BARRIER_MIN_M:g} m counts as none",
    Why.BARRIER_CAPPED: f"a barrier above {BARRIER_MAX_M:g} m counts as {BARRIER_MAX_M:g} m",
}


@dataclass(frozen=True, slots=True)
class Dispersion:
    """Method and properties of each segment, in the order of network.geojson.

    Attributes
    ----------
    model : (n_segments,) int8
        A :class:`Model`.
    tree_factor : (n_segments,) float64
        F_b of SRM1; 1 where nothing is known and for the other models.
    sigma_z0_m : (n_segments,) float64
        Start value of SRM2 [m]; what it would be, for the other models.
    roughness_class : (n_segments,) int8
        Row of :data:`kernels.srm2.ROUGHNESS`, of [air] roughness_m.
    roughness_m : float
    rule : SigmaZRule
        How SRM2's vertical spread and its start value combine, of [air] sigma_z_rule.
    why : (n_segments,) int16
        :class:`Why`, flags; in words by :meth:`reason`.
    derived : tuple of frozenset of str
        Properties that the method of the segment uses and that were filled in, not given.
    double_count : Background
        What the background already holds of these roads, [background.double_count].
    """

    model: NDArray[np.int8]
    tree_factor: NDArray[np.float64]
    sigma_z0_m: NDArray[np.float64]
    roughness_class: NDArray[np.int8]
    roughness_m: float
    rule: SigmaZRule
    why: NDArray[np.int16]
    derived: tuple[frozenset[str], ...]
    double_count: Background

    def reason(self, segment: int) -> str:
        """Why a segment has its method, in words."""
        flags = Why(int(self.why[segment]))
        return "; ".join(REASONS[flag] for flag in Why if flag in flags)


def dispersion_of(city: City) -> Dispersion:
    """Method and properties of every segment.

    Segments that no motor traffic may use have no model. Otherwise ``srm`` of the segment counts, else that
    of its class. The type of an SRM1 street is its ``road_type``, else what its buildings make of it
    (:func:`kernels.canyon.road_types`), else 4, general urban. SRM2 starts with 3 m on classes of 100 km/h
    and more, else 2.5 m, changed by height and barriers.

    Raises
    ------
    CityError
        For a property that does not fit, naming segment, field, value and what was expected; or likewise for
        [air] roughness_m and [background.double_count].
    """
    roughness_m = _roughness(city)
    n = city.network.n_segments
    has_motor = np.zeros(n, dtype=np.bool_)
    has_motor[city.car_edges.segment] = True
    class_srm = city.class_values("srm")
    is_motorway = city.class_values("speed_kmh").astype(np.float64) >= MOTORWAY_FROM_KMH
    sides = street_sides_of(city)
    built = None if sides is None else road_types(sides)
    facade_m = city.width_m / 2.0
    if sides is not None:
        farther = np.fmax(sides.distance_m[:, 0], sides.distance_m[:, 1])
        facade_m = np.where(np.isnan(farther), facade_m, farther)
    model, why = np.zeros(n, dtype=np.int8), np.zeros(n, dtype=np.int16)
    tree_factor, sigma_z0 = np.ones(n), np.empty(n)
    derived = []
    for s, properties in enumerate(city.dispersion_properties):
        given = _Properties(properties, city.segment_ids[s])
        sigma_z0[s] = given.start_value(is_motorway=bool(is_motorway[s]))
        method, reasons = given.method(
            str(class_srm[s]), facade_m=float(facade_m[s]), built=None if built is None else int(built[s])
        )
        if not has_motor[s]:
            method, reasons = Model.NONE, Why.NO_MOTOR
        model[s], why[s] = method, reasons
        if method not in (Model.NONE, Model.SRM2):
            tree_factor[s] = given.tree_factor
        used = given.used(method)
        derived.append(frozenset(f for f in used if f not in properties or f in city.derived[s]))
    return Dispersion(
        model=model,
        tree_factor=tree_factor,
        sigma_z0_m=sigma_z0,
        roughness_class=np.full(n, ROUGHNESS.index(roughness_class(roughness_m)), dtype=np.int8),
        roughness_m=roughness_m,
        rule=_rule(city),
        why=why,
        derived=tuple(derived),
        double_count=double_count_of(city),
    )


class _Properties:
    """Properties of one segment, checked; what is not given has the value that changes nothing."""

    def __init__(self, properties: Mapping[str, Any], identifier: str) -> None:
        self._given = properties
        self._identifier = identifier
        self.srm = self._choice("srm", ("srm1", "srm2"))
        self.road_type = self._choice("road_type", tuple(int(t) for t in RoadType))
        self.tree_factor = float(self._choice("tree_factor", srm1.TREE_FACTORS) or 1.0)
        self.is_viaduct = bool(self._choice("is_viaduct", (True, False)))
        self.elevation_m = self._number(
            "elevation_m", -math.inf, math.inf, "a height in m, below 0 in a trough"
        )
        self.side_angle_deg = self._number("side_angle_deg", 0.0, 90.0, "0 to 90 degrees")
        if self.is_viaduct and self.elevation_m < 0.0:
            raise self._error("elevation_m", "at least 0 m on a viaduct")
        self.left, self.right = self._barrier("left"), self._barrier("right")

    def start_value(self, *, is_motorway: bool) -> float:
        return start_value(
            is_motorway=is_motorway,
            elevation_m=self.elevation_m,
            side_angle_deg=self.side_angle_deg,
            is_viaduct=self.is_viaduct,
            left=self.left,
            right=self.right,
        )

    def method(self, class_srm: str, facade_m: float, built: int | None) -> tuple[Model, Why]:
        """Model and reasons of a segment with motor traffic; ``built`` is the road type by its buildings."""
        why = Why.SEGMENT if self.srm else Why.CLASS
        if (self.srm or class_srm) == "srm2":
            if {"road_type", "tree_factor"} & self._given.keys():
                why |= Why.PROPERTY_UNUSED
            return Model.SRM2, why | self._barrier_flags()
        if any(self._given.get(field) for field in _UNEVEN):
            why |= Why.UNEVEN_STREET | Why.PROPERTY_UNUSED
        road_type = self.road_type
        if road_type is None and built is not None:
            road_type, why = built, why | Why.TYPE_FROM_BUILDINGS
        if road_type is None:
            return Model.SRM1_GENERAL, why | Why.TYPE_ASSUMED
        if facade_m > REACH_OF_TYPE_M.get(RoadType(road_type), math.inf):
            why |= Why.FACADE_TOO_FAR
        return Model(road_type), why

    def used(self, method: Model) -> tuple[str, ...]:
        """Properties that the method asks for."""
        if method is Model.NONE:
            return ()
        if method is not Model.SRM2:
            return "srm", "road_type", "tree_factor"
        on_dike = self.elevation_m > 0.0 and not self.is_viaduct
        kinds = tuple(
            f"barrier_{side}_kind" for side in ("left", "right") if f"barrier_{side}_m" in self._given
        )
        angle = ("side_angle_deg",) if on_dike else ()
        return "srm", "elevation_m", *angle, "is_viaduct", "barrier_left_m", "barrier_right_m", *kinds

    def _barrier_flags(self) -> Why:
        heights = [barrier.height_m for barrier in (self.left, self.right) if barrier is not None]
        why = Why(0)
        if any(0.0 < height < BARRIER_MIN_M for height in heights):
            why |= Why.BARRIER_TOO_LOW
        if any(height > BARRIER_MAX_M for height in heights):
            why |= Why.BARRIER_CAPPED
        return why

    def _barrier(self, side: str) -> Barrier | None:
        kind = self._choice(f"barrier_{side}_kind", ("screen", "wall")) or "screen"
        height_m = self._number(f"barrier_{side}_m", 0.0, math.inf, "a height in m of at least 0")
        return Barrier(BarrierKind[str(kind).upper()], height_m) if height_m else None

    def _choice(self, field: str, allowed: tuple[Any, ...]) -> Any:
        """Value of a field, None where it is not given; 1 is no True here, though 2.0 is a 2."""
        if field not in self._given:
            return None
        value = self._given[field]
        for one in allowed:
            if value == one and isinstance(value, bool) == isinstance(one, bool):
                return one
        raise self._error(field, "one of " + ", ".join(str(a).lower() for a in allowed))

    def _number(self, field: str, low: float, high: float, expected: str) -> float:
        value = self._given.get(field, 0.0)
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not is_number or not low <= value <= high:
            raise self._error(field, expected)
        return float(value)

    def _error(self, field: str, expected: str) -> CityError:
        return CityError(
            f"network.geojson: segment {self._identifier}: {field}: "
            f"got {self._given[field]!r}, expected {expected}"
        )


def _roughness(city: City) -> float:
    value = _section(city.settings, "air", "[air]").get("roughness_m", ROUGHNESS_M)
    if not _is_finite(value) or not value > 0.0:
        raise CityError(f"city.toml: [air] roughness_m: got {value!r}, expected a length above 0 m")
    return float(value)


def _rule(city: City) -> SigmaZRule:
    name = _section(city.settings, "air", "[air]").get("sigma_z_rule", SigmaZRule.ADD.name.lower())
    known = {rule.name.lower(): rule for rule in SigmaZRule}
    if name not in known:
        raise CityError(f"city.toml: [air] sigma_z_rule: got {name!r}, expected one of {', '.join(known)}")
    return known[name]


def double_count_of(city: City) -> Background:
    """What the background already holds of the roads that are calculated, [background.double_count].

    Raises
    ------
    CityError
        Naming the amount that does not fit.
    """
    background = _section(city.settings, "background", "[background]")
    table = _section(background, "double_count", "[background.double_count]")
    amounts = {}
    for name in ("no2", "o3", "pm10", "pm25"):
        value = table.get(name, 0.0)
        is_ozone = name == "o3"
        if not _is_finite(value) or (value > 0.0 if is_ozone else value < 0.0):
            allowed = "at most 0 (taking it off raises ozone)" if is_ozone else "at least 0"
            raise CityError(
                f"city.toml: [background.double_count] {name}: got {value!r}, expected {allowed}, in ug/m3"
            )
        amounts[name] = float(value)
    if unknown := sorted(table.keys() - amounts.keys() - {"source"}):
        raise CityError(
            f"city.toml: [background.double_count] {unknown[0]}: is not known, expected {', '.join(amounts)}"
        )
    return Background(**amounts)


def _section(table: Mapping[str, Any], key: str, name: str) -> Mapping[str, Any]:
    value = table.get(key, {})
    if not isinstance(value, Mapping):
        raise CityError(f"city.toml: {name}: got {value!r}, expected a table")
    return value


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
