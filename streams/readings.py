"""Many readings as columns: what a message of them holds, and what a closed step hands to the agents."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from kernels.network import Mode
from kernels.texts import pad_texts
from streams.observation import (
    FUTURE_MS,
    LIMITS,
    MAX_RATE_PER_H,
    Observation,
    Source,
    observation_from,
    time_text,
)
from streams.texts import Coded, TextIndex, Texts
from streams.topics import Batch, Topic

NUMBERS = tuple(LIMITS)
SOURCES = tuple(sorted(Source))  # so that codes are in the order of the names
SOURCE_CODE = {source: code for code, source in enumerate(SOURCES)}
NO_TEXT, UNKNOWN = -1, -2  # codes in place of a name: none was given; it is none of the known ones
NO_MODE = -1
_SOURCE_INDEX = TextIndex([source.value for source in SOURCES])
_MODE_INDEX = TextIndex([mode.name.lower() for mode in Mode])
_LONGEST_SENSOR = 200  # characters, as in parse_observation
_SHOWN_ID_BYTES = 64  # of an id in a step's batch
NO_TIME = np.iinfo(np.int64).min  # a time that was not given
_LAST_MS = 253_402_300_799_000  # the last second of the year 9999, the last that ISO 8601 can tell


@dataclass(frozen=True, slots=True)
class ReadingTable:
    """Readings as columns of equal length, as they came: nothing is known of the city yet.

    Attributes
    ----------
    source, sensor, to_sensor, direction, mode : Coded
        Texts as given, (n,).
    start_ms, end_ms, received_ms : (n,) int64
        ms since the epoch, UTC; the smallest int64 where none was given.
    numbers : mapping of str to (n,) float64
        Some of :data:`NUMBERS`, NaN where not given; what is left out was given for no row.
    simulated : (n,) bool
    event_id : Texts
        "" where none was given: it is then made from the row.
    extra : mapping of int to mapping
        Unknown keys of the rows that have some.
    is_checked : bool
        Each row went through :func:`streams.observation.parse_observation`.
    """

    source: Coded
    sensor: Coded
    to_sensor: Coded
    direction: Coded
    mode: Coded
    start_ms: NDArray[np.int64]
    end_ms: NDArray[np.int64]
    received_ms: NDArray[np.int64]
    numbers: Mapping[str, NDArray[np.float64]]
    simulated: NDArray[np.bool_]
    event_id: Texts
    extra: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    is_checked: bool = False

    @property
    def n_rows(self) -> int:
        return self.end_ms.size

    @classmethod
    def of(cls, rows: Sequence[Observation]) -> Self:
        """Table of readings that were checked one by one."""
        numbers = {}
        for name in NUMBERS:
            column = np.array([getattr(row, name) for row in rows], dtype=np.float64)
            if not (np.isnan(column) | ((name == "uptime") & (column == 1.0))).all():
                numbers[name] = column
        return cls(
            source=Coded.of(row.source.value for row in rows),
            sensor=Coded.of(row.sensor for row in rows),
            to_sensor=Coded.of(row.to_sensor or None for row in rows),
            direction=Coded.of(row.direction or None for row in rows),
            mode=Coded.of(None if row.mode is None else row.mode.name.lower() for row in rows),
            start_ms=np.array([row.start_ms for row in rows], dtype=np.int64),
            end_ms=np.array([row.end_ms for row in rows], dtype=np.int64),
            received_ms=np.array([row.received_ms for row in rows], dtype=np.int64),
            numbers=numbers,
            simulated=np.array([row.simulated for row in rows], dtype=np.bool_),
            event_id=Texts.of([row.event_id for row in rows]),
            extra={k: row.extra for k, row in enumerate(rows) if row.extra},
            is_checked=True,
        )

    def observations(self) -> list[Observation]:
        """The rows one by one, unchecked ones after a check.

        Raises
        ------
        RejectedError
            For the first row that may not enter.
        """
        return [self.observation(k) for k in range(self.n_rows)]

    def observation(self, k: int) -> Observation:
        """One row, checked as a single event is.

        Raises
        ------
        RejectedError
        """
        if not self.is_checked:
            return observation_from(self.event(k))
        mode = self.mode.text(k)
        numbers = {name: float(column[k]) for name, column in self.numbers.items()}
        return Observation(
            source=Source(self.source.text(k) or ""),
            sensor=self.sensor.text(k) or "",
            start_ms=int(self.start_ms[k]),
            end_ms=int(self.end_ms[k]),
            received_ms=int(self.received_ms[k]),
            mode=None if mode is None else Mode[mode.upper()],
            to_sensor=self.to_sensor.text(k) or "",
            direction=self.direction.text(k) or "",
            simulated=bool(self.simulated[k]),
            event_id=self.event_id.text(k),
            extra=self.extra.get(k, {}),
            **numbers,
        )

    def event(self, k: int) -> dict[str, Any]:
        """One row as the single event that would say the same."""
        texts = {
            "source": self.source.text(k),
            "sensor": self.sensor.text(k),
            "mode": self.mode.text(k),
            "to_sensor": self.to_sensor.text(k),
            "direction": self.direction.text(k),
            "id": self.event_id.text(k) or None,
        }
        times = {"start": self.start_ms, "end": self.end_ms, "received": self.received_ms}
        numbers = {name: float(column[k]) for name, column in self.numbers.items()}
        event: dict[str, Any] = {name: text for name, text in texts.items() if text is not None}
        event |= {name: _time_as_given(int(column[k])) for name, column in times.items()}
        event |= {name: _plain(value) for name, value in numbers.items() if not math.isnan(value)}
        if self.simulated[k]:
            event["simulated"] = True
        return {**self.extra.get(k, {}), **{key: value for key, value in event.items() if value is not None}}

    def take(self, rows: NDArray[np.int64]) -> ReadingTable:
        """Some rows, in the order given."""
        place = {int(k): j for j, k in enumerate(rows)} if self.extra else {}
        return ReadingTable(
            **{n: getattr(self, n).take(rows) for n in _TEXTS},
            **{n: getattr(self, n)[rows] for n in ("start_ms", "end_ms", "received_ms", "simulated")},
            numbers={name: column[rows] for name, column in self.numbers.items()},
            event_id=self.event_id.take(rows),
            extra={place[k]: extra for k, extra in self.extra.items() if k in place},
            is_checked=self.is_checked,
        )


def _time_as_given(moment_ms: int) -> str | int | None:
    """A time as an event would tell it; the number itself where no text can."""
    if moment_ms == NO_TIME:
        return None
    try:
        if moment_ms % 1000 == 0:
            return time_text(moment_ms)
        return datetime.fromtimestamp(moment_ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return moment_ms


def _plain(value: float) -> float | int:
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


@dataclass(frozen=True, slots=True)
class CityCodes:
    """Columns of readings with the codes of a city, those of closed steps too.

    Attributes
    ----------
    columns : mapping of str to (n,) array
        source int8, sensor and to_sensor int32, direction int32, mode int8, start_ms, end_ms, received_ms
        int64, simulated bool, and of :data:`NUMBERS` those that any row has.
    """

    columns: dict[str, NDArray[Any]]

    @property
    def n_rows(self) -> int:
        return int(self.columns["end_ms"].size)


class CityIndex:
    """Codes of the sensors of a city and of the directions that readings name.

    Parameters
    ----------
    sensors : mapping of str to str
        Source of each sensor.
    """

    def __init__(self, sensors: Mapping[str, str]) -> None:
        self.sensors = tuple(sorted(sensors))
        self._sensors = TextIndex(self.sensors)
        sources = [SOURCE_CODE.get(Source(sensors[name]), -1) if sensors[name] in _SOURCE_NAMES else -1
                   for name in self.sensors]  # fmt: skip
        # one more at the end, which the codes for no sensor and an unknown one find
        self.source_of = np.array([*sources, -1, -1], dtype=np.int8)
        self.is_long = np.array([*(len(s) > _LONGEST_SENSOR for s in self.sensors), False, False])
        self._directions = TextIndex(())

    @property
    def directions(self) -> tuple[str, ...]:
        """Texts of the codes of directions."""
        return self._directions.names

    @directions.setter
    def directions(self, names: Sequence[str]) -> None:
        self._directions = TextIndex(names)

    def coded(self, tables: Sequence[ReadingTable]) -> CityCodes:
        """The rows of several tables, one behind the other, with the codes of the city."""
        names = {n: Coded.concatenated([getattr(t, n) for t in tables]) for n in _TEXTS}
        columns: dict[str, NDArray[Any]] = {
            "source": _translated(names["source"], _SOURCE_INDEX).astype(np.int8),
            "sensor": _translated(names["sensor"], self._sensors),
            "to_sensor": _translated(names["to_sensor"], self._sensors),
            "direction": self._direction_codes(names["direction"]),
            "mode": _translated(names["mode"], _MODE_INDEX, empty=UNKNOWN).astype(np.int8),
        }
        for name in ("start_ms", "end_ms", "received_ms", "simulated"):
            columns[name] = np.concatenate([getattr(table, name) for table in tables])
        for name in NUMBERS:
            if any(name in table.numbers for table in tables):
                columns[name] = np.concatenate([
                    table.numbers.get(name, np.full(table.n_rows, np.nan)) for table in tables
                ])  # fmt: skip
        if "uptime" in columns:
            columns["uptime"][np.isnan(columns["uptime"])] = 1.0
        return CityCodes(columns)

    def _direction_codes(self, given: Coded) -> NDArray[np.int32]:
        codes = _translated(given, self._directions)
        if (codes == UNKNOWN).any():
            used = np.zeros(len(given.names), dtype=np.bool_)
            used[given.codes[codes == UNKNOWN]] = True
            new = {given.names.text(int(k)) for k in np.flatnonzero(used)} - {""}
            self._directions = TextIndex([*self.directions, *sorted(new.difference(self.directions))])
            codes = _translated(given, self._directions)
        return codes


_TEXTS = ("source", "sensor", "to_sensor", "direction", "mode")
_SOURCE_NAMES = {source.value for source in Source}


def _translated(given: Coded, index: TextIndex, empty: int = NO_TEXT) -> NDArray[np.int32]:
    """Codes of the index; a text of no length is ``empty``."""
    if len(given.names) == 0:
        return given.codes
    place = index.find(given.names)
    place[place < 0] = UNKNOWN
    place[given.names.lengths == 0] = empty
    return np.append(place, np.int32(NO_TEXT))[given.codes]


def suspects(codes: CityCodes, index: CityIndex) -> NDArray[np.bool_]:
    """Rows that :func:`streams.observation.observation_from` might refuse, (n,): it has the last word.

    None that it would refuse is missing. To refuse none but those would take the texts.
    """
    c = codes.columns
    start, end, received = c["start_ms"], c["end_ms"], c["received_ms"]
    sensor = c["sensor"]
    bad = (c["source"] < 0) | (sensor < 0) | (c["mode"] < NO_MODE) | index.is_long[sensor]
    bad |= (start <= 0) | (end < start) | (received <= 0) | (end > _LAST_MS) | (received > _LAST_MS)
    bad |= end > received + FUTURE_MS
    for name in NUMBERS:
        if name in c:
            low, high = LIMITS[name]
            bad |= (c[name] < low) | (c[name] > high)
    if "count" in c:
        counted = ~np.isnan(c["count"])
        bad |= counted & (end == start)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            bad |= c["count"] * 3_600_000 / (end - start) > MAX_RATE_PER_H
    return np.asarray(bad, dtype=np.bool_)


def step_batch(codes: CityCodes, index: CityIndex, event_id: NDArray[np.bytes_], time_ms: int) -> Batch:
    """Batch on observations of rows that are in order already; columns as in docs/topics.md."""
    columns, directions = dict(codes.columns), index.directions
    n = codes.n_rows
    used = np.zeros(len(directions), dtype=np.bool_)
    used[columns["direction"][columns["direction"] >= 0]] = True
    names = sorted(name for name, is_used in zip(directions, used, strict=True) if is_used)
    place = np.full(len(directions) + 1, NO_TEXT, dtype=np.int32)
    for code in np.flatnonzero(used):
        place[code] = names.index(directions[code])
    columns["direction"] = place[columns["direction"]]
    for name in NUMBERS:
        if name not in columns:
            columns[name] = np.full(n, 1.0 if name == "uptime" else np.nan)
    columns["event_id"] = event_id
    attributes = {"sensors": index.sensors, "directions": tuple(names)}
    return Batch(Topic.OBSERVATIONS, "", time_ms, columns, attributes=attributes)


def readings_batch(rows: Iterable[Observation], time_ms: int) -> Batch:
    """Batch on observations of single readings, in the order given."""
    table = ReadingTable.of(list(rows))
    names = (*table.sensor.names.texts(), *table.to_sensor.names.texts())
    index = CityIndex(dict.fromkeys(names, ""))
    codes = index.coded([table])
    start = table.event_id.start.astype(np.int64)
    ids = shown_ids(np.array(table.event_id.data), start[:-1], np.diff(start))
    return step_batch(codes, index, ids, time_ms)


def shown_ids(
    data: NDArray[np.uint8], first: NDArray[np.int64], length: NDArray[np.int64]
) -> NDArray[np.bytes_]:
    """Ids as bytes of one width, (n,) S; a long one is cut, and told from its like by a hash."""
    width = int(min(max(length.max(initial=1), 1), _SHOWN_ID_BYTES))
    out = np.zeros((first.size, width), dtype=np.uint8)
    pad_texts(data, first, length, out)
    for k in np.flatnonzero(length > width):
        whole = data[first[k] : first[k] + length[k]].tobytes()
        end = hashlib.blake2b(whole, digest_size=12).hexdigest().encode()
        out[k, width - len(end) :] = np.frombuffer(end, dtype=np.uint8)
    return out.view(f"S{width}")[:, 0]


class SensorPlaces:
    """Finds for the sensors of a batch their places in a list of one's own.

    Parameters
    ----------
    names : sequence of str
        The list.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.place = {name: n for n, name in enumerate(names)}
        self._names: tuple[str, ...] = ()
        self._places: NDArray[np.int64] = np.array([NO_TEXT], dtype=np.int64)

    def of(self, batch: Batch, column: str) -> NDArray[np.int64]:
        """Place of each row's ``sensor`` or ``to_sensor``, -1 where the list has it not: (n,)."""
        names = batch.attributes["sensors"]
        if names is not self._names:
            found = [self.place.get(name, -1) for name in names]
            self._names = names
            self._places = np.array([*found, -1, -1], dtype=np.int64)  # for the codes of none and unknown
        return np.asarray(self._places[batch.columns[column]], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class WeatherRow:
    """Weather of one reading; NaN where unknown. Readings are the newer the higher their ``order``."""

    order: tuple[int, str, int, str]
    wind_speed_m_s: float
    wind_from_deg: float
    temperature_c: float


def weather_rows(batch: Batch) -> list[WeatherRow]:
    """Readings of the weather in a batch on observations, few in any step."""
    c, sensors = batch.columns, batch.attributes["sensors"]
    return [
        WeatherRow(
            (
                int(c["end_ms"][k]),
                sensors[c["sensor"][k]],
                int(c["received_ms"][k]),
                c["event_id"][k].decode(errors="replace"),
            ),
            float(c["wind_speed_m_s"][k]),
            float(c["wind_from_deg"][k]),
            float(c["temperature_c"][k]),
        )
        for k in np.flatnonzero(c["source"] == SOURCE_CODE[Source.WEATHER])
    ]


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often a feed speaks.

    ``gap_ms`` is the smallest time between two ends that came in order, 0 before there were two; it is at
    most ``unknown_gap_ms``.
    """

    last_ms: int = 0
    length_ms: int = 0
    gap_ms: int = 0

    def after(self, start_ms: NDArray[np.int64], end_ms: NDArray[np.int64], unknown_gap_ms: int) -> Rhythm:
        """The rhythm once readings came, each (n,), in order."""
        if end_ms.size == 0:
            return self
        newest = np.maximum.accumulate(np.append(self.last_ms, end_ms))
        gaps = np.diff(newest)[0 if self.last_ms else 1 :]
        gap_ms = (
            min([self.gap_ms or unknown_gap_ms, *gaps[gaps > 0].tolist()])
            if (gaps > 0).any()
            else self.gap_ms
        )
        length_ms = max(self.length_ms, int((end_ms - start_ms).max()))
        return Rhythm(int(newest[-1]), length_ms, gap_ms)
