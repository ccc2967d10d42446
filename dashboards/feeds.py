"""Health of the feeds, and the last reading of each sensor."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from cities.pack import Sensor
from kernels.network import Mode
from streams.readings import NO_MODE, NO_TEXT, SOURCES, Rhythm
from streams.topics import Batch

LATE_AFTER = 1.5  # expected intervals without a reading
SILENT_AFTER = 3.0
UNKNOWN_GAP_MS = 3_600_000  # until a feed has spoken twice: weather comes hourly
MIN_EXPECTED_MS = 60_000  # a step: nothing is seen to be late sooner


class FeedState(StrEnum):
    WAITING = "waiting"
    OK = "ok"
    LATE = "late"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class FeedHealth:
    """Health of one source; ``n_reporting`` of its ``n_sensors`` are not silent."""

    source: str
    state: FeedState
    n_rows: int
    last_end_ms: int
    expected_s: float
    n_reporting: int
    n_sensors: int
    simulated: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """Last reading of one sensor for one mode and direction; the rate is NaN when it counts nothing."""

    source: str
    sensor: str
    mode: str
    direction: str
    rate_per_h: float
    end_ms: int
    simulated: bool


@dataclass(slots=True)
class _Source:
    n_rows: int = 0
    rhythm: Rhythm = field(default_factory=Rhythm)
    simulated: bool = False
    last_of_sensor: dict[str, int] = field(default_factory=dict)

    @property
    def expected_ms(self) -> int:
        """Time between readings, as the alarms reckon it too: the longest interval or the smallest gap."""
        return max(self.rhythm.length_ms, self.rhythm.gap_ms or UNKNOWN_GAP_MS, MIN_EXPECTED_MS)


class Feeds:
    """What has come in from each source. A source of the pack that never spoke is waiting, not silent."""

    def __init__(self, sensors: Iterable[Sensor]) -> None:
        self._sources: dict[str, _Source] = {}
        self._n_sensors: dict[str, int] = {}
        self._readings: dict[tuple[str, str, str, str], Reading] = {}
        self.n_rows = 0
        for sensor in sensors:
            self._n_sensors[sensor.source] = self._n_sensors.get(sensor.source, 0) + 1
            self._sources.setdefault(sensor.source, _Source(simulated=sensor.simulated))

    def receive(self, batch: Batch) -> None:
        """Take in the readings of a step; an older one than already seen changes no health."""
        c = batch.columns
        self.n_rows += batch.n_rows
        for code in np.unique(c["source"]):
            source = self._sources.setdefault(SOURCES[code].value, _Source())
            mine = np.flatnonzero(c["source"] == code)
            source.n_rows += mine.size
            source.simulated = bool(c["simulated"][mine[-1]])
            source.rhythm = source.rhythm.after(c["start_ms"][mine], c["end_ms"][mine], UNKNOWN_GAP_MS)
        for k in _newest(batch):
            self._receive(batch, k)

    def _receive(self, batch: Batch, k: int) -> None:
        """Take in the newest reading of a sensor for one mode and direction."""
        c = batch.columns
        sensors, directions = batch.attributes["sensors"], batch.attributes["directions"]
        source, sensor = SOURCES[c["source"][k]].value, sensors[c["sensor"][k]]
        end_ms, mode, direction = int(c["end_ms"][k]), int(c["mode"][k]), int(c["direction"][k])
        last_of_sensor = self._sources[source].last_of_sensor
        last_of_sensor[sensor] = max(last_of_sensor.get(sensor, 0), end_ms)
        mode_name = "" if mode == NO_MODE else Mode(mode).name.lower()
        key = (source, sensor, mode_name, "" if direction == NO_TEXT else directions[direction])
        known = self._readings.get(key)
        if known is None or end_ms >= known.end_ms:
            hours = (end_ms - int(c["start_ms"][k])) / 3_600_000
            rate = rate_per_h(float(c["count"][k]), hours, float(c["uptime"][k]))
            self._readings[key] = Reading(*key, rate, end_ms, bool(c["simulated"][k]))

    def readings_of(self, sensor: str) -> list[Reading]:
        """Last readings of a sensor, by mode and direction."""
        return [r for key, r in sorted(self._readings.items()) if key[1] == sensor]

    def health(self, now_ms: int) -> list[FeedHealth]:
        """Health of each source at a moment of event time, by name."""
        return [self._health(name, source, now_ms) for name, source in sorted(self._sources.items())]

    def _health(self, name: str, source: _Source, now_ms: int) -> FeedHealth:
        allowed = SILENT_AFTER * source.expected_ms
        n_reporting = sum(1 for end in source.last_of_sensor.values() if now_ms - end <= allowed)
        silence = now_ms - source.rhythm.last_ms
        if source.n_rows == 0:
            state = FeedState.WAITING
        elif silence > allowed:
            state = FeedState.SILENT
        elif silence > LATE_AFTER * source.expected_ms:
            state = FeedState.LATE
        else:
            state = FeedState.OK
        return FeedHealth(
            source=name,
            state=state,
            n_rows=source.n_rows,
            last_end_ms=source.rhythm.last_ms,
            expected_s=source.expected_ms / 1000,
            n_reporting=n_reporting,
            n_sensors=max(self._n_sensors.get(name, 0), len(source.last_of_sensor)),
            simulated=source.simulated,
        )


def rate_per_h(count: float, hours: float, uptime: float) -> float:
    """Vehicles an hour that a reading counted, scaled up by its uptime; NaN when it counts none."""
    if hours <= 0 or math.isnan(count) or uptime <= 0:
        return math.nan
    return count / hours / uptime


def _newest(batch: Batch) -> list[int]:
    """Rows that are the newest of their sensor, mode and direction; of those of one end the last."""
    c = batch.columns
    by = np.lexsort([c["end_ms"], c["direction"], c["mode"], c["sensor"], c["source"]])
    is_last = np.ones(by.size, dtype=np.bool_)
    names = ("direction", "mode", "sensor", "source")
    is_last[:-1] = np.any([np.diff(c[name][by]) != 0 for name in names], axis=0)
    rows: list[int] = by[is_last].tolist()
    return rows
