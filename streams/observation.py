"""One reading of one sensor, checked at the edge."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import orjson

from kernels.network import Mode

MAX_BYTES = 64_000  # of one event; the largest real one seen is 3 kB
MAX_DEPTH = 16
MAX_RATE_PER_H = 40_000.0  # five lanes at saturation carry 12,000 veh/h; a crossing crowd a few times that
MAX_SPEED_KMH = 250.0
FUTURE_MS = 60_000


class Source(StrEnum):
    LOOPS = "loops"
    RADAR = "radar"
    ANPR = "anpr"
    WIFI = "wifi"
    TELECOM = "telecom"
    BIKESHARE = "bikeshare"
    TELRAAM = "telraam"
    COUNTER = "counter"
    WEATHER = "weather"
    AIR = "air"
    NOISE = "noise"


class RejectedError(ValueError):
    """A reading that may not enter; ``field`` names what is wrong with it."""

    def __init__(self, field: str, reason: str, source: str = "") -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason
        self.source = source


@dataclass(frozen=True, slots=True)
class Observation:
    """One reading. Times are ms since the epoch, UTC; what is not given is NaN, "" or None.

    ``count`` is per interval and direction of the sensor, ``devices`` distinct devices seen in an area,
    ``travel_time_s`` the median of matched pairs from ``sensor`` to ``to_sensor``.
    """

    source: Source
    sensor: str
    start_ms: int
    end_ms: int
    received_ms: int
    mode: Mode | None = None
    count: float = math.nan
    speed_kmh: float = math.nan
    uptime: float = 1.0
    to_sensor: str = ""
    direction: str = ""
    vehicles: float = math.nan
    travel_time_s: float = math.nan
    devices: float = math.nan
    departures: float = math.nan
    arrivals: float = math.nan
    wind_speed_m_s: float = math.nan
    wind_from_deg: float = math.nan
    temperature_c: float = math.nan
    simulated: bool = False
    event_id: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def order(self) -> tuple[int, str, str, str]:
        """Readings of a step are sorted by this before any arithmetic."""
        return self.end_ms, self.source.value, self.sensor, self.event_id


LIMITS: dict[str, tuple[float, float]] = {
    "count": (0.0, math.inf),  # its rate is limited, below
    "speed_kmh": (0.0, MAX_SPEED_KMH),
    "uptime": (0.0, 1.0),
    "vehicles": (0.0, 1e6),
    "travel_time_s": (0.0, 86_400.0),
    "devices": (0.0, 1e7),
    "departures": (0.0, 1e5),
    "arrivals": (0.0, 1e5),
    "wind_speed_m_s": (0.0, 75.0),
    "wind_from_deg": (0.0, 360.0),
    "temperature_c": (-60.0, 60.0),
}
_TEXTS = ("to_sensor", "direction", "id")
KNOWN_KEYS = {"source", "sensor", "start", "end", "received", "mode", "simulated", *LIMITS, *_TEXTS}


def parse_observation(raw: bytes) -> Observation:
    """Reading from one JSON event; unknown keys are kept in ``extra``.

    Raises
    ------
    RejectedError
        With the field, what it held and what was expected.
    """
    if len(raw) > MAX_BYTES:
        raise RejectedError("", f"event of {len(raw)} bytes, allowed {MAX_BYTES}")
    if json_depth(raw) > MAX_DEPTH:
        raise RejectedError("", f"event is nested deeper than {MAX_DEPTH}")
    try:
        event = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise RejectedError("", f"not valid JSON: {error}") from error
    if not isinstance(event, dict):
        raise RejectedError("", f"expected a JSON object, got {type(event).__name__}")
    return observation_from(event, raw)


def observation_from(event: Mapping[str, Any], raw: bytes = b"") -> Observation:
    """Reading from a decoded event; see :func:`parse_observation`."""
    name = event.get("source")
    try:
        source = Source(str(name))
    except ValueError:
        known = ", ".join(s.value for s in Source)
        raise RejectedError("source", f"got {_shown(name)}, expected one of {known}") from None
    try:
        return _checked(event, source, raw)
    except RejectedError as error:
        error.source = source.value
        raise


def _checked(event: Mapping[str, Any], source: Source, raw: bytes) -> Observation:
    sensor = event.get("sensor")
    if not isinstance(sensor, str) or not sensor or len(sensor) > 200:
        raise RejectedError("sensor", f"got {_shown(sensor)}, expected an identifier")
    start, end, received = (_time(event, key) for key in ("start", "end", "received"))
    if end < start:
        raise RejectedError("end", f"got {event['end']}, expected a time after start {event['start']}")
    if end > received + FUTURE_MS:
        raise RejectedError(
            "end", f"got {event['end']}, more than 60 s after it was received ({event['received']})"
        )
    numbers: dict[str, Any] = {
        key: _number(event, key, limits) for key, limits in LIMITS.items() if key in event
    }
    if "count" in numbers and end == start:
        raise RejectedError("end", f"got {event['end']}, a count needs an interval longer than zero")
    if "count" in numbers:
        rate = numbers["count"] * 3_600_000 / (end - start)
        if rate > MAX_RATE_PER_H:
            raise RejectedError(
                "count",
                f"got {event['count']} in {(end - start) / 1000:g} s, "
                f"expected at most {MAX_RATE_PER_H:g} an hour",
            )
    texts: dict[str, Any] = {key: _text(event, key) for key in _TEXTS if key in event}
    identifier = (
        texts.pop("id", "")
        or hashlib.blake2b(
            raw or orjson.dumps(dict(event), option=orjson.OPT_SORT_KEYS), digest_size=12
        ).hexdigest()
    )
    return Observation(
        source=source,
        sensor=sensor,
        start_ms=start,
        end_ms=end,
        received_ms=received,
        mode=_mode(event),
        simulated=_flag(event, "simulated"),
        event_id=identifier,
        extra={key: value for key, value in event.items() if key not in KNOWN_KEYS},
        **numbers,
        **texts,
    )


def time_ms(text: str) -> int:
    """ISO 8601 time with an offset to ms since the epoch."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("has no UTC offset")
    return round(moment.timestamp() * 1000)


def time_text(moment_ms: int) -> str:
    """ms since the epoch to ISO 8601 UTC, to the second."""
    return datetime.fromtimestamp(moment_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _time(event: Mapping[str, Any], key: str) -> int:
    value = event.get(key)
    if not isinstance(value, str):
        raise RejectedError(key, f"got {_shown(value)}, expected an ISO 8601 time with an offset")
    try:
        moment = time_ms(value)
    except (ValueError, OverflowError) as error:
        raise RejectedError(key, f"got {_shown(value)}, expected an ISO 8601 time with an offset") from error
    if moment <= 0:
        raise RejectedError(key, f"got {_shown(value)}, expected a time after 1970")
    return moment


def _number(event: Mapping[str, Any], key: str, limits: tuple[float, float]) -> float:
    value = event[key]
    if value is None:
        return 1.0 if key == "uptime" else math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RejectedError(key, f"got {_shown(value)}, expected a number")
    if not math.isfinite(value) or not limits[0] <= value <= limits[1]:
        upper = "" if math.isinf(limits[1]) else f" and at most {limits[1]:g}"
        raise RejectedError(key, f"got {value}, expected at least {limits[0]:g}{upper}")
    return float(value)


def _text(event: Mapping[str, Any], key: str) -> str:
    value = event[key]
    if not isinstance(value, str):
        raise RejectedError(key, f"got {_shown(value)}, expected text")
    return value


def _flag(event: Mapping[str, Any], key: str) -> bool:
    value = event.get(key, False)
    if not isinstance(value, bool):
        raise RejectedError(key, f"got {_shown(value)}, expected true or false")
    return value


def _mode(event: Mapping[str, Any]) -> Mode | None:
    value = event.get("mode")
    if value is None:
        return None
    try:
        return Mode[value.upper()] if isinstance(value, str) and value.islower() else _no_mode(value)
    except KeyError:
        return _no_mode(value)


def _no_mode(value: object) -> Mode:
    known = ", ".join(m.name.lower() for m in Mode)
    raise RejectedError("mode", f"got {_shown(value)}, expected one of {known}")


def _shown(value: object) -> str:
    return repr(value)[:80]


def json_depth(raw: bytes) -> int:
    """Deepest nesting of brackets outside strings; cheap for the usual flat event."""
    if raw.count(b"{") + raw.count(b"[") <= MAX_DEPTH:
        return 0
    depth = deepest = 0
    in_string = escaped = False
    for byte in raw:
        if in_string:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                in_string = False
        elif byte == 0x22:
            in_string = True
        elif byte in b"{[":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"}]":
            depth -= 1
    return deepest
