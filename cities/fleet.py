"""Which Euro classes drive, and what another mix of them makes of an emission factor.

A factor of a table holds for the fleet of its country and year. Where other vehicles drive, it is multiplied
by the ratio of the two fleets' own emissions, so that the level stays that of the table:
``e_new = e_table x mix_new / mix_base`` [1]_.

References
----------
.. [1] EMEP/EEA air pollutant emission inventory guidebook 2019, 1.A.3.b.i-iv, Tier 2 (euro_classes.csv), and
   1.A.3.b.vi-vii, wear (wear.csv).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cities.factor_rows import FACTORS, number, read_rows
from kernels.emission import N_POLLUTANTS, EmissionError, Pollutant, VehicleClass, wear

FIELD = "emission.fleet"
CLASS_NAMES = tuple(c.name.lower() for c in VehicleClass)
SUM_TOLERANCE = 1e-6  # what shares written with six decimals may miss of 1


@dataclass(frozen=True, slots=True)
class EuroClass:
    """A kind of vehicle of one fuel and one Euro class, and what it emits.

    ``name`` is unique in its class of vehicle, as car_diesel_euro4. ``wear_g_per_km`` are suspended particles
    of tyre, brake and road.
    """

    vehicle_class: VehicleClass
    name: str
    vehicle: str
    nox_g_per_km: float
    no2_fraction: float
    exhaust_pm25_g_per_km: float
    wear_g_per_km: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class FleetMix:
    """Shares of Euro classes in the distance driven by their class of vehicle.

    Attributes
    ----------
    euro_classes : tuple of EuroClass
    share : tuple of float
        Of each, 0 to 1; those of one class of vehicle sum to 1.
    """

    euro_classes: tuple[EuroClass, ...]
    share: tuple[float, ...]

    def shares(self, vehicle_class: str) -> dict[str, float]:
        """Share of each Euro class of a class of vehicle, by name.

        Raises
        ------
        EmissionError
            For a class of vehicle that there is not.
        """
        code = _class_code(vehicle_class)
        pairs = zip(self.euro_classes, self.share, strict=True)
        return {euro.name: share for euro, share in pairs if euro.vehicle_class == code}


def base_fleet(folder: Path = FACTORS) -> FleetMix:
    """The fleet that the tables of factors are taken to hold for: roughly Belgium in 2020, assumed.

    Raises
    ------
    EmissionError
        For a file, row or number that is missing or wrong.
    """
    worn, _ = read_rows(folder / "wear.csv", ("class", "vehicle", "tyre", "brake", "road"))
    wear_of = {
        (row["class"], row["vehicle"]): (
            number(row, "tyre", "wear.csv"),
            number(row, "brake", "wear.csv"),
            number(row, "road", "wear.csv"),
        )
        for row in worn
    }
    rows, _ = read_rows(
        folder / "euro_classes.csv",
        ("class", "vehicle", "fuel", "euro", "share", "nox", "no2_fraction", "exhaust_pm25"),
    )
    euro_classes, shares = [], []
    for row in rows:
        name = "_".join(part for part in (row["vehicle"], row["fuel"], row["euro"]) if part)
        where = f"euro_classes.csv: {row['class']} {name}"
        key = (row["class"], row["vehicle"])
        if key not in wear_of:
            raise EmissionError(f"{where}: wear.csv has no row {key[0]},{key[1]}")
        euro = EuroClass(
            vehicle_class=_class_code(row["class"]),
            name=name,
            vehicle=row["vehicle"],
            nox_g_per_km=number(row, "nox", where),
            no2_fraction=number(row, "no2_fraction", where),
            exhaust_pm25_g_per_km=number(row, "exhaust_pm25", where),
            wear_g_per_km=wear_of[key],
        )
        euro_classes.append(euro)
        shares.append(number(row, "share", where))
    fleet = FleetMix(tuple(euro_classes), tuple(shares))
    for vehicle_class in CLASS_NAMES:
        _check_sum(fleet.shares(vehicle_class), f"euro_classes.csv: {vehicle_class}")
    return fleet


def with_shares(fleet: FleetMix, shares: Mapping[str, Mapping[str, float]]) -> FleetMix:
    """A fleet in which some classes of vehicle have other shares.

    Parameters
    ----------
    fleet : FleetMix
    shares : mapping
        Of a class of vehicle (light, medium, heavy, bus), the share of each Euro class by name; what is not
        named does not drive.

    Raises
    ------
    EmissionError
        For an unknown name, a share that is no number of 0 to 1, and shares that do not sum to 1.
    """
    changed = {(c, name): s for c in CLASS_NAMES for name, s in fleet.shares(c).items()}
    for vehicle_class, given in shares.items():
        known = fleet.shares(vehicle_class)
        if not isinstance(given, Mapping):
            raise EmissionError(f"{FIELD}.{vehicle_class}: got {given!r}, expected a table of shares by name")
        _check_names(given, known, vehicle_class)
        for name, share in given.items():
            is_number = isinstance(share, int | float) and not isinstance(share, bool)
            if not is_number or not 0.0 <= share <= 1.0:
                raise EmissionError(
                    f"{FIELD}.{vehicle_class}.{name}: got {share!r}, expected a share of 0 to 1"
                )
        _check_sum(given, f"{FIELD}.{vehicle_class}")
        changed |= {(vehicle_class, name): float(given.get(name, 0.0)) for name in known}
    return _of_shares(fleet, changed)


def without(fleet: FleetMix, removed: Mapping[str, Iterable[str]]) -> FleetMix:
    """A fleet from which Euro classes have gone, as behind the sign of a low-emission zone.

    Their share goes to what is left of the same kind of vehicle, in proportion: who may no longer come with
    an old van comes with a newer van.

    Parameters
    ----------
    fleet : FleetMix
    removed : mapping
        Of a class of vehicle, the names of the Euro classes that go.

    Raises
    ------
    EmissionError
        For an unknown name, and where nothing of a kind of vehicle is left.
    """
    changed: dict[tuple[str, str], float] = {}
    for vehicle_class in removed:
        _class_code(vehicle_class)
    for vehicle_class in CLASS_NAMES:
        shares = fleet.shares(vehicle_class)
        gone = _names(removed.get(vehicle_class, ()), vehicle_class)
        _check_names(gone, shares, vehicle_class)
        for vehicle, names in _by_vehicle(fleet, vehicle_class).items():
            total = math.fsum(shares[name] for name in names)
            kept = math.fsum(shares[name] for name in names if name not in gone)
            if total > 0.0 and kept == 0.0:
                raise EmissionError(
                    f"{FIELD}.{vehicle_class}: no {vehicle} is left to take the share of what was removed"
                )
            scale = total / kept if kept != total else 1.0
            changed |= {
                (vehicle_class, name): 0.0 if name in gone else shares[name] * scale for name in names
            }
    return _of_shares(fleet, changed)


def mix_ratio(base: FleetMix, changed: FleetMix, speed_kmh: float = 19.0) -> NDArray[np.float64]:
    """Ratio of the factors of two fleets, (class, pollutant); by it a factor of a table is multiplied [1]_.

    NOx and NO2 each by their own exhaust. PM10 and PM2.5 by exhaust (all of it finer than 2.5 um) and wear
    together, where the wear of the base fleet stays: only the exhaust changes.

    Parameters
    ----------
    base, changed : FleetMix
        Of the same Euro classes.
    speed_kmh : float
        At which tyres and brakes wear; the default is that of normal traffic in streets.

    Raises
    ------
    EmissionError
        When the fleets are of different Euro classes, or a class of the base fleet emits nothing.
    """
    if base.euro_classes != changed.euro_classes:
        raise EmissionError(f"{FIELD}: the two fleets are not made of the same Euro classes")
    before, after, worn = _exhaust(base), _exhaust(changed), np.zeros((len(VehicleClass), N_POLLUTANTS))
    for euro, share in zip(base.euro_classes, base.share, strict=True):
        worn[euro.vehicle_class, Pollutant.PM10 :] += share * wear(np.array(euro.wear_g_per_km), speed_kmh)
    if not (before + worn > 0.0).all():
        code, pollutant = np.argwhere(~(before + worn > 0.0))[0]
        raise EmissionError(
            f"{FIELD}.{CLASS_NAMES[code]}: the base fleet emits no {Pollutant(pollutant).name}, "
            "so nothing can be compared with it"
        )
    return np.asarray((worn + after) / (worn + before))


def _exhaust(fleet: FleetMix) -> NDArray[np.float64]:
    """Mean exhaust emission of a fleet [g/km], (class, pollutant)."""
    mean = np.zeros((len(VehicleClass), N_POLLUTANTS))
    for euro, share in zip(fleet.euro_classes, fleet.share, strict=True):
        nox, particles = euro.nox_g_per_km, euro.exhaust_pm25_g_per_km
        mean[euro.vehicle_class] += share * np.array([nox, nox * euro.no2_fraction, particles, particles])
    return mean


def _class_code(name: str) -> VehicleClass:
    if name not in CLASS_NAMES:
        raise EmissionError(
            f"{FIELD}: class of vehicle: got {name!r}, expected one of {', '.join(CLASS_NAMES)}"
        )
    return VehicleClass(CLASS_NAMES.index(name))


def _names(given: Iterable[str], vehicle_class: str) -> frozenset[str]:
    if isinstance(given, str):  # its letters would be taken for names
        raise EmissionError(f"{FIELD}.{vehicle_class}: got the text {given!r}, expected a list of names")
    return frozenset(given)


def _check_names(given: Iterable[str], known: Iterable[str], vehicle_class: str) -> None:
    for name in sorted(set(given) - set(known)):
        raise EmissionError(
            f"{FIELD}.{vehicle_class}: Euro class: got {name!r}, expected one of {', '.join(known)}"
        )


def _check_sum(shares: Mapping[str, float], where: str) -> None:
    total = math.fsum(shares.values())
    if abs(total - 1.0) > SUM_TOLERANCE:
        raise EmissionError(f"{where}: the shares sum to {total:.7g}, expected 1")


def _by_vehicle(fleet: FleetMix, vehicle_class: str) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for euro in fleet.euro_classes:
        if euro.vehicle_class == _class_code(vehicle_class):
            names.setdefault(euro.vehicle, []).append(euro.name)
    return names


def _of_shares(fleet: FleetMix, shares: Mapping[tuple[str, str], float]) -> FleetMix:
    keys = ((CLASS_NAMES[euro.vehicle_class], euro.name) for euro in fleet.euro_classes)
    return replace(fleet, share=tuple(shares[key] for key in keys))
