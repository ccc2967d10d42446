"""Health of the feeds, and the last reading of each sensor."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from cities.pack import Sensor
from streams.observation import Observation

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
    last_end_ms: int = 0
    longest_ms: int = 0
    gap_ms: int = 0
    simulated: bool = False
    last_of_sensor: dict[str, int] = field(default_factory=dict)

    @property
    def expected_ms(self) -> int:
        """Time between readings, as the alarms reckon it too: the longest interval or the smallest gap."""
        return max(self.longest_ms, self.gap_ms or UNKNOWN_GAP_MS, MIN_EXPECTED_MS)


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

    def receive(self, row: Observation) -> None:
        """Take in one reading; an older one than already seen changes no health."""
        self.n_rows += 1
        source = self._sources.setdefault(row.source.value, _Source())
        source.n_rows += 1
        source.simulated = row.simulated
        if source.last_end_ms and row.end_ms > source.last_end_ms:
            source.gap_ms = min(source.gap_ms or UNKNOWN_GAP_MS, row.end_ms - source.last_end_ms)
        source.last_end_ms = max(source.last_end_ms, row.end_ms)
        source.longest_ms = max(source.longest_ms, row.end_ms - row.start_ms)
        source.last_of_sensor[row.sensor] = max(source.last_of_sensor.get(row.sensor, 0), row.end_ms)
        mode = "" if row.mode is None else row.mode.name.lower()
        key = (row.source.value, row.sensor, mode, row.direction)
        known = self._readings.get(key)
        if known is None or row.end_ms >= known.end_ms:
            self._readings[key] = Reading(*key, rate_per_h(row), row.end_ms, row.simulated)

    def readings_of(self, sensor: str) -> list[Reading]:
        """Last readings of a sensor, by mode and direction."""
        return [r for key, r in sorted(self._readings.items()) if key[1] == sensor]

    def health(self, now_ms: int) -> list[FeedHealth]:
        """Health of each source at a moment of event time, by name."""
        return [self._health(name, source, now_ms) for name, source in sorted(self._sources.items())]

    def _health(self, name: str, source: _Source, now_ms: int) -> FeedHealth:
        allowed = SILENT_AFTER * source.expected_ms
        n_reporting = sum(1 for end in source.last_of_sensor.values() if now_ms - end <= allowed)
        silence = now_ms - source.last_end_ms
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
            last_end_ms=source.last_end_ms,
            expected_s=source.expected_ms / 1000,
            n_reporting=n_reporting,
            n_sensors=max(self._n_sensors.get(name, 0), len(source.last_of_sensor)),
            simulated=source.simulated,
        )


def rate_per_h(row: Observation) -> float:
    """Vehicles an hour that a reading counted, scaled up by its uptime; NaN when it counts none."""
    hours = (row.end_ms - row.start_ms) / 3_600_000
    if hours <= 0 or math.isnan(row.count) or row.uptime <= 0:
        return math.nan
    return row.count / hours / row.uptime
