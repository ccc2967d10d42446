"""From fields to the people who are exposed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents import facade_people
from agents.facade_noise import QUANTITY as AT_FACADES
from agents.facade_people import FacadePeople
from cities.indoors import indoors_of
from cities.pack import City
from kernels import health
from kernels.exposure import UNKNOWN, beside_points, exposure_of, people_in_stored_bands
from kernels.facades import FacadeReceptors
from kernels.receptors import ReceptorGrid
from streams.topics import Batch, Topic

PERIOD_MS = 300_000
WHOLE_CITY = "all"
NOISE = "noise"
LDEN, LNIGHT = (NOISE, "lden"), (NOISE, "lnight")
INDICATOR = "rolling 24 h, not the annual Lden and Lnight of 2002/49/EC"
HEALTH_METHOD = "people of each band times the share of Directive (EU) 2020/367 at its middle"


@dataclass(frozen=True, slots=True)
class _Zone:
    """People of one zone: positions in the list of inhabited cells, and how many live there."""

    name: str
    cell: NDArray[np.int64]
    people: NDArray[np.float64]
    share_covered: float
    people_by_tile: NDArray[np.float64]


@dataclass(slots=True)
class _Field:
    """Latest values of a quantity at the inhabited cells, or at the facades of homes."""

    stored: NDArray[np.uint16]
    accuracy: NDArray[np.float64]
    simulated: NDArray[np.bool_]
    scale: float = 0.0
    offset: float = 0.0
    is_seen: bool = False


class ExposureAgent:
    """People above the thresholds of the city pack, by zone and for the whole city.

    Consumes
        fields.
    Produces
        exposure, every five minutes of event time, for the zones whose numbers changed and for the key "all".
        Where noise is known, an attribute tells the people in each band of Lden and Lnight of the last 24
        hours, and those highly annoyed and sleep-disturbed; until these hours have been seen, why not. Of a
        city where nobody can be counted a batch without rows says why, each time.
    Keeps
        the latest values at inhabited receptors, and what was published.
    Guarantees
        who lives outside the receptor grid is not counted; the attributes say the share that is.

    The municipality's total is spread over its residential streets by length, ten metres to either side:
    derived. With facades (of a pack with buildings) people hear noise there instead: the total is spread over
    homes by floor area, and the levels on the grid do not count.
    """

    name = "exposure"
    consumes: tuple[Topic, ...] = (Topic.FIELDS,)
    produces: tuple[Topic, ...] = (Topic.EXPOSURE,)

    def __init__(self, city: City, facades: FacadeReceptors | None = None) -> None:
        self._city = city
        self._grid = city.grid
        self._tile_number = {tile: t for t, tile in enumerate(city.grid.tiles())}
        self._thresholds = _thresholds(city)
        cells, self._zones = _zones(city)
        self._tiles = _cells_by_tile(city.grid, cells)
        self._n_cells = cells.size
        self._facades: FacadePeople | None = None
        if facades is not None and self._zones:
            homes = _residential(city)
            self._facades = FacadePeople(
                city, facades, city.settings["population"]["total"], homes, WHOLE_CITY
            )
        self._fields = {key: self._new_field(key) for key in (*self._thresholds, LDEN, LNIGHT)}
        self._at_facades: dict[tuple[str, str], NDArray[np.float64]] = {}  # people at the present levels
        self._hours_seen = self._hours_needed = math.nan  # of the 24 that noise needs
        self._published: dict[str, tuple[list[list[float]], dict[str, Any]]] = {}

    def receive(self, batch: Batch) -> None:
        if batch.topic != Topic.FIELDS:
            return
        quantity, averaging, row, column = batch.key.split("/")
        self._receive_hours(quantity, averaging, batch.attributes)
        tile = self._tile_number[int(row), int(column)]
        if self._facades is not None and quantity in (NOISE, AT_FACADES):
            field = self._fields.get((NOISE, averaging)) if quantity == AT_FACADES else None
            if field is None:
                return
            field.stored[self._facades.span(tile)] = batch.columns["values"]
            self._at_facades.pop((NOISE, averaging), None)
        else:
            field = self._fields.get((quantity, averaging))
            if field is None:
                return
            position, within = self._tiles[tile]
            field.stored[position] = batch.columns["values"][within]
        field.accuracy[tile] = float(batch.attributes["accuracy"])
        field.simulated[tile] = bool(batch.attributes["simulated"])
        field.scale = float(batch.attributes["scale"])
        field.offset = float(batch.attributes["offset"])
        field.is_seen = True

    def close(self, now_ms: int) -> Sequence[Batch]:
        if now_ms % PERIOD_MS != 0 or not any(field.is_seen for field in self._fields.values()):
            return ()
        if not self._zones:
            return self._nobody(now_ms)
        out = []
        for zone in self._zones:
            names, numbers = self._rows(zone)
            noise = self._noise_of_day(zone)
            if self._published.get(zone.name) == (numbers, noise):
                continue
            self._published[zone.name] = numbers, noise
            out.append(self._batch(zone, names, numbers, noise, now_ms))
        return tuple(out)

    def snapshot(self) -> dict[str, Any]:
        return {
            "fields": {
                "/".join(key): {
                    "stored": field.stored.copy(),
                    "accuracy": field.accuracy.copy(),
                    "simulated": field.simulated.copy(),
                    "scale": field.scale,
                    "offset": field.offset,
                    "is_seen": field.is_seen,
                }
                for key, field in sorted(self._fields.items())
            },
            "hours_seen": self._hours_seen,
            "hours_needed": self._hours_needed,
            "published": {
                zone: [[list(row) for row in rows], dict(noise)]
                for zone, (rows, noise) in self._published.items()
            },
        }

    def restore(self, state: dict[str, Any]) -> None:
        self._at_facades.clear()
        for key in self._fields:
            kept = state["fields"]["/".join(key)]
            self._fields[key] = _Field(
                stored=np.array(kept["stored"]),
                accuracy=np.array(kept["accuracy"]),
                simulated=np.array(kept["simulated"]),
                scale=float(kept["scale"]),
                offset=float(kept["offset"]),
                is_seen=bool(kept["is_seen"]),
            )
        self._hours_seen, self._hours_needed = float(state["hours_seen"]), float(state["hours_needed"])
        self._published = {
            zone: ([[float(v) for v in row] for row in rows], dict(noise))
            for zone, (rows, noise) in state["published"].items()
        }

    def _receive_hours(self, quantity: str, averaging: str, attributes: Mapping[str, Any]) -> None:
        """How much of the last 24 hours the noise agent has seen."""
        of_day = (quantity, averaging) in (LDEN, LNIGHT)
        seen, needed = ("hours_seen", "hours_needed") if of_day else ("hours_seen_24h", "hours_needed_24h")
        if quantity == NOISE and seen in attributes:
            self._hours_seen, self._hours_needed = float(attributes[seen]), float(attributes[needed])

    def _new_field(self, key: tuple[str, str]) -> _Field:
        n_tiles = len(self._tile_number)
        at_facades = self._facades is not None and key[0] == NOISE
        n = self._facades.n_receptors if self._facades is not None and at_facades else self._n_cells
        return _Field(
            stored=np.full(n, UNKNOWN, dtype=np.uint16),
            accuracy=np.full(n_tiles, np.nan),
            simulated=np.zeros(n_tiles, dtype=np.bool_),
        )

    def _rows(self, zone: _Zone) -> tuple[list[tuple[str, str]], list[list[float]]]:
        """Quantity and averaging, and (threshold, above, people, mean, p95, accuracy), of each row."""
        names, numbers = [], []
        for key, thresholds in self._thresholds.items():
            field = self._fields[key]
            if not field.is_seen:
                continue
            stored, people, by_tile = self._heard(zone, key)
            exposure = exposure_of(stored, people, np.array(thresholds), field.scale, field.offset)
            if exposure.people == 0.0:
                continue
            accuracy = self._accuracy(field, by_tile)
            for threshold, above in zip(thresholds, exposure.people_above, strict=True):
                names.append(key)
                numbers.append(
                    [
                        threshold,
                        float(round(above)),
                        float(round(exposure.people)),
                        round(exposure.mean, 2),
                        round(exposure.p95, 2),
                        accuracy,
                    ]
                )
        return names, numbers

    def _noise_of_day(self, zone: _Zone) -> dict[str, Any]:
        """People in bands of Lden and Lnight and how many of them are harmed; empty until these are known."""
        told: dict[str, Any] = {}
        for key, bands, harm, harmed in (
            (LDEN, health.LDEN_BANDS_DB, "highly_annoyed", health.highly_annoyed),
            (LNIGHT, health.LNIGHT_BANDS_DB, "highly_sleep_disturbed", health.highly_sleep_disturbed),
        ):
            field, name = self._fields[key], key[1]
            if not field.is_seen:
                return {}
            stored, people, by_tile = self._heard(zone, key)
            known, in_band = people_in_stored_bands(stored, people, bands, field.scale, field.offset)
            if known == 0.0:
                return {}
            accuracy = self._accuracy(field, by_tile)
            told |= {
                f"people_{name}": float(round(known)),
                f"{name}_from_db": list(bands),
                f"people_by_{name}": [float(round(n)) for n in in_band],
                harm: float(round(harmed(in_band))),
                f"accuracy_{name}": None if accuracy < 0.0 else accuracy,
            }
        return told | {"method": HEALTH_METHOD}

    def _why_unknown(self) -> str:
        if self._hours_seen < self._hours_needed:
            seen = math.floor(10.0 * self._hours_seen) / 10.0  # 23.98 h are not 24.0
            return f"needs {self._hours_needed:g} h, has {seen:.1f} h"
        return "no road is heard where people live"

    def _heard(
        self, zone: _Zone, key: tuple[str, str]
    ) -> tuple[NDArray[np.uint16], NDArray[np.float64], NDArray[np.float64]]:
        """Stored values and people where the people of a zone are, and its people by tile."""
        field = self._fields[key]
        if self._facades is None or key[0] != NOISE:
            return field.stored[zone.cell], zone.people, zone.people_by_tile
        at = self._facades.zones.get(zone.name)
        if at is None:
            return field.stored[:0], np.empty(0), np.zeros(len(self._tiles))
        if key not in self._at_facades:
            self._at_facades[key] = self._facades.at_receptors(field.stored)
        return field.stored[at.receptor], self._at_facades[key][at.receptor], at.people_by_tile

    def _accuracy(self, field: _Field, people_by_tile: NDArray[np.float64]) -> float:
        """Accuracy of the tiles, weighted by the people of a zone in them."""
        known = np.isfinite(field.accuracy) & (people_by_tile > 0.0)
        people = people_by_tile[known]
        if not people.size:
            return -1.0  # replaced by NaN when published: NaN equals nothing, not even itself
        return round(float(people @ field.accuracy[known] / people.sum()), 3)

    def _batch(
        self,
        zone: _Zone,
        names: list[tuple[str, str]],
        numbers: list[list[float]],
        noise: dict[str, Any],
        now_ms: int,
    ) -> Batch:
        simulated = any(
            bool((field.simulated & (self._heard(zone, key)[2] > 0.0)).any())
            for key, field in self._fields.items()
        )
        day: dict[str, Any] = {}
        if not math.isnan(self._hours_needed):
            hours = {"hours_seen": round(self._hours_seen, 3), "hours_needed": self._hours_needed}
            known = noise or {"reason": self._why_unknown()}
            day = {"noise_24h": {"indicator": INDICATOR, **hours, **known}}
        return Batch(
            topic=Topic.EXPOSURE,
            key=zone.name,
            time_ms=now_ms,
            columns=_columns(names, numbers),
            attributes={
                "derived": "population total spread over residential streets by length",
                "share_covered": zone.share_covered,
                "simulated": simulated,
                "network_hash": self._city.network_hash,
                **self._method(zone),
                **day,
            },
        )

    def _nobody(self, now_ms: int) -> Sequence[Batch]:
        """Why nobody is counted, once noise is known; no hour that is still missing would change it."""
        if math.isnan(self._hours_needed):
            return ()
        reason = (
            why_nobody_is_counted(self._city)
            or "no residential street is within the receptors: nobody is counted"
        )
        day = {
            "indicator": INDICATOR,
            "hours_seen": round(self._hours_seen, 3),
            "hours_needed": 0.0,
            "reason": reason,
        }
        attributes = {
            "share_covered": 0.0,
            "simulated": False,
            "network_hash": self._city.network_hash,
            "noise_24h": day,
        }
        return (Batch(Topic.EXPOSURE, WHOLE_CITY, now_ms, _columns([], []), attributes=attributes),)

    def _method(self, zone: _Zone) -> dict[str, Any]:
        """Where people hear noise, of a city with facades; else as everything, on the grid."""
        if self._facades is None:
            return {}
        at = self._facades.zones.get(zone.name)
        return {
            "noise_receptors": facade_people.RECEPTORS,
            "noise_derived": facade_people.SPREAD,
            "noise_share_covered": 0.0 if at is None else at.share_covered,
        }


def why_nobody_is_counted(city: City) -> str:
    """What of a city pack keeps people from being counted; empty where nothing does."""
    population = city.settings.get("population", {})
    if "total" not in population:
        return "no [population] total: nobody is counted"
    total = population["total"]
    if isinstance(total, bool) or not isinstance(total, int | float) or not 0.0 < total < math.inf:
        return f"[population] total: got {total!r}, expected a number above 0: nobody is counted"
    return "" if _residential(city).any() else "no residential street: nobody is counted"


def _columns(names: list[tuple[str, str]], numbers: list[list[float]]) -> dict[str, NDArray[Any]]:
    table = np.array(numbers, dtype=np.float64).reshape(-1, 6)
    return {
        "quantity": np.array([quantity for quantity, _ in names], dtype=object),
        "averaging": np.array([averaging for _, averaging in names], dtype=object),
        "threshold": table[:, 0],
        "people_above": table[:, 1],
        "people": table[:, 2],
        "mean": table[:, 3],
        "p95": table[:, 4],
        "accuracy": np.where(table[:, 5] < 0.0, np.nan, table[:, 5]),
    }


def _thresholds(city: City) -> dict[tuple[str, str], tuple[float, ...]]:
    """Thresholds by quantity and averaging from the keys ``<quantity>_<averaging>_<unit>`` of [exposure]."""
    out = {}
    for name, values in sorted(city.settings.get("exposure", {}).items()):
        parts = name.split("_", 2)
        if len(parts) == 3 and isinstance(values, list) and values:
            out[parts[0], parts[1]] = tuple(float(v) for v in values)
    return out


def _residential(city: City) -> NDArray[np.bool_]:
    """Streets beside which people live, (n_segments,)."""
    is_home = np.zeros(city.network.n_segments, dtype=np.bool_)
    is_home[city.car_edges.segment] = True
    return np.asarray(is_home & city.class_values("residential").astype(np.bool_))


def _zones(city: City) -> tuple[NDArray[np.int64], list[_Zone]]:
    """Inhabited cells of the grid (sorted), and the people of each zone and of the whole city."""
    if why_nobody_is_counted(city):
        return np.empty(0, dtype=np.int64), []
    is_home = _residential(city)
    length = city.network.length_m
    per_m = float(city.settings["population"]["total"]) / float(length[is_home].sum())
    cell, people, segment = [], [], []
    for s in np.flatnonzero(is_home):
        at = city.grid.cell_of(beside_points(city.network.polyline(int(s))))
        cell.append(at)
        people.append(np.full(at.size, per_m * length[s] / at.size))
        segment.append(np.full(at.size, s))
    all_cells, all_people = np.concatenate(cell), np.concatenate(people)
    inside = indoors_of(city)
    if inside is not None:  # nobody is exposed to what is inside a wall, but to what is before it
        all_cells = np.where(all_cells >= 0, inside.outdoors[all_cells], all_cells)
    names, number = np.unique(np.array(city.segment_zones), return_inverse=True)
    zone_of = number[np.concatenate(segment)]
    is_covered = all_cells >= 0
    cells = np.unique(all_cells[is_covered])
    zones = []
    for name in sorted({*names.tolist(), WHOLE_CITY}):
        # a segment without a zone has the name of the whole city and belongs only to that
        is_whole = name == WHOLE_CITY
        of_zone = (
            np.ones(zone_of.size, dtype=np.bool_) if is_whole else zone_of == np.searchsorted(names, name)
        )
        here = of_zone & is_covered
        if here.any():
            share = float(all_people[here].sum() / all_people[of_zone].sum())
            zones.append(_zone(city.grid, name, cells, all_cells[here], all_people[here], share))
    return cells, zones


def _zone(
    grid: ReceptorGrid,
    name: str,
    cells: NDArray[np.int64],
    cell: NDArray[np.int64],
    people: NDArray[np.float64],
    share: float,
) -> _Zone:
    by_cell: NDArray[np.float64] = np.zeros(cells.size)
    np.add.at(by_cell, np.searchsorted(cells, cell), people)
    lived_in = np.flatnonzero(by_cell > 0.0)
    by_tile: NDArray[np.float64] = np.zeros(len(grid.tiles()))
    np.add.at(by_tile, _tile_of(grid, cells[lived_in]), by_cell[lived_in])
    return _Zone(
        name=name,
        cell=lived_in,
        people=by_cell[lived_in],
        share_covered=round(share, 4),
        people_by_tile=by_tile,
    )


def _tile_of(grid: ReceptorGrid, cell: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the tile, in the order of ``grid.tiles()``, of each cell."""
    number = np.empty(grid.shape, dtype=np.int64)
    for t, (row, column) in enumerate(grid.tiles()):
        number[grid.tile_slices(row, column)] = t
    return np.asarray(number.ravel()[cell])


def _cells_by_tile(
    grid: ReceptorGrid, cells: NDArray[np.int64]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """For each tile the positions in the list of cells, and their places in the flattened tile."""
    tile = _tile_of(grid, cells)
    row, column = np.divmod(cells, grid.n_columns)
    out = []
    for t, (tile_row, tile_column) in enumerate(grid.tiles()):
        rows, columns = grid.tile_slices(tile_row, tile_column)
        position = np.flatnonzero(tile == t)
        within = (
            (row[position] - rows.start) * (columns.stop - columns.start) + column[position] - columns.start
        )
        out.append((position, within))
    return out
