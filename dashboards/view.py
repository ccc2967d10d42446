"""What the page writes, as plain values: numbers become text here, to be tested without a browser."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from cities.pack import City
from dashboards.board import Alarm, Board, ModeFlow, PeopleAbove, Street
from dashboards.control import PlayerStatus
from dashboards.feeds import FeedHealth, FeedState
from dashboards.layers import Layer
from dashboards.noise_day import MEANING, NAMES

State = dict[str, Any]

SHAPES = {1: ("▲", "1"), 2: ("◆", "2"), 3: ("●", "3"), 4: ("■", "Q")}
QUANTITIES = {
    "no2": ("NO₂", "µg/m³"),
    "pm10": ("PM₁₀", "µg/m³"),
    "pm25": ("PM₂.₅", "µg/m³"),
    "noise": ("noise", "dB(A)"),
}
AVERAGINGS = {"now": "now", "1h": "1 h mean"} | {a: f"{text}, rolling 24 h" for a, text in NAMES.items()}
COMPASS = ("N", "NE", "E", "SE", "S", "SW", "W", "NW")
UNKNOWN = "\u2013"


def number(value: float, decimals: int = 0) -> str:
    """A number with thin spaces between thousands; a dash when it is unknown."""
    if not math.isfinite(value):
        return UNKNOWN
    return f"{value:,.{decimals}f}".replace(",", "\u202f")


def duration(seconds: float) -> str:
    """An age in the largest unit that fits."""
    if not math.isfinite(seconds):
        return UNKNOWN
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def averaging_text(averaging: str, hours_seen: float) -> str:
    """How a value was averaged, and what it still lacks."""
    if averaging == "1h" and math.isfinite(hours_seen) and hours_seen < 0.999:
        return f"1 h mean (needs 1 h, has {hours_seen:.1f} h)"
    return AVERAGINGS[averaging]


def speed_text(speed: float) -> str:
    """A replay speed as on its button."""
    return "max" if math.isinf(speed) else f"{speed:g}\u00d7"


class Clock:
    """Writes event times as the city's clocks show them."""

    def __init__(self, timezone: str) -> None:
        self._zone = ZoneInfo(timezone)

    def local(self, moment_ms: int, form: str) -> str:
        return datetime.fromtimestamp(moment_ms / 1000, self._zone).strftime(form)

    def offset_ms(self, moment_ms: int) -> float:
        """What to add to UTC so that an axis reads local time."""
        offset = datetime.fromtimestamp(moment_ms / 1000, self._zone).utcoffset()
        return 0.0 if offset is None else offset.total_seconds() * 1000

    def state(self, status: PlayerStatus) -> State:
        """Everything that runs with the clock."""
        span = max(1, status.end_ms - status.start_ms)
        now = status.now_ms
        if now == 0:  # before the first step
            return self._unknown(status)
        return {
            "mode": status.mode,
            "now_ms": now,
            "date": self.local(now, "%a %d %b %Y"),
            "local": self.local(now, "%H:%M:%S"),
            "utc": datetime.fromtimestamp(now / 1000, UTC).strftime("%H:%M:%S"),
            "start": self.local(status.start_ms, "%H:%M"),
            "end": self.local(status.end_ms, "%H:%M"),
            "fraction": min(1.0, max(0.0, (now - status.start_ms) / span)),
            "playing": status.playing,
            "finished": status.finished,
            "speed": "max" if math.isinf(status.speed) else status.speed,
            "speed_text": speed_text(status.speed),
            "step_wall_s": status.step_wall_s,
        }

    def _unknown(self, status: PlayerStatus) -> State:
        times = dict.fromkeys(("date", "local", "utc", "start", "end"), UNKNOWN)
        return {
            "mode": status.mode, "now_ms": 0, **times, "fraction": 0.0, "playing": status.playing,
            "finished": status.finished, "speed": status.speed, "speed_text": speed_text(status.speed),
            "step_wall_s": status.step_wall_s,
        }  # fmt: skip


def legend_state(
    layer: Layer,
    averaging: str,
    hours_seen: float,
    note: str = "",
    meaning: str = "",
    about: Iterable[str] = (),
) -> State:
    """Legend of a layer: its title, unit and the places of the ticks on the bar.

    ``note`` is added to the layer's own; ``meaning`` is what the averaging means, as a tooltip; ``about`` is
    what was assumed for it, repaired or left out, and is opened on demand.
    """
    low, high = (math.log(v) if layer.is_log else v for v in (layer.low, layer.high))
    ticks = []
    for k, tick in enumerate(layer.ticks):
        at = ((math.log(tick) if layer.is_log else tick) - low) / (high - low)
        sign = "≤ " if k == 0 and layer.name != "accuracy" else ""
        sign = "≥ " if k == len(layer.ticks) - 1 and layer.name != "accuracy" else sign
        ticks.append({"at": at, "text": f"{sign}{tick:g}"})
    return {
        "name": layer.name,
        "title": layer.title,
        "unit": layer.unit,
        "note": " \u00b7 ".join(text for text in (layer.note, note) if text),
        "meaning": meaning,
        "about": list(about),
        "doubtful": f"accuracy below {layer.doubtful_below:g}",
        "averaging": averaging_text(averaging, hours_seen) if layer.quantity else "",
        "scale": "logarithmic" if layer.is_log else "",
        "ticks": ticks,
    }


def alarm_state(alarm: Alarm, clock: Clock, refused: str = "") -> State:
    """One line of the alarm list; ``refused`` is why its acknowledgement was not taken."""
    shape, letter = SHAPES[alarm.rank]
    detail = ""
    if math.isfinite(alarm.value) and alarm.unit != "fault":  # a fault is there or not: nothing to measure
        detail = f"{number(alarm.value, 1)} {alarm.unit}"
        if math.isfinite(alarm.threshold):
            detail += f" {'>' if alarm.is_active else 'of'} {number(alarm.threshold, 1)}"
        if alarm.averaging:
            detail += f", {AVERAGINGS.get(alarm.averaging, alarm.averaging)}"
    if math.isfinite(alarm.accuracy):
        detail += f"{' · ' if detail else ''}accuracy {alarm.accuracy:.2f}"
    if math.isfinite(alarm.age_s):
        detail += f"{' · ' if detail else ''}{duration(alarm.age_s)} old"
    return {
        "key": alarm.key,
        "shape": shape,
        "letter": letter,
        "priority": alarm.rank,
        "title": alarm.title,
        "detail": detail,
        "state": alarm.state,
        "since": f"Since {clock.local(alarm.since_ms, '%H:%M')}",
        "who": f"acknowledged by {alarm.who}" if alarm.who and not alarm.is_unacknowledged else "",
        "action": alarm.action,
        "is_active": alarm.is_active,
        "can_acknowledge": alarm.is_unacknowledged,
        "refused": refused if alarm.is_unacknowledged else "",
        "has_place": math.isfinite(alarm.x) and math.isfinite(alarm.y),
    }


def feeds_state(feeds: Iterable[FeedHealth], now_ms: int) -> list[State]:
    """Feeds for the header and its panel."""
    return [
        {
            "source": f.source,
            "state": f.state.value,
            "text": _feed_text(f, now_ms),
            "sensors": f"{f.n_reporting}/{f.n_sensors}",
            "rows": number(f.n_rows),
            "simulated": f.simulated,
        }
        for f in feeds
    ]


def _feed_text(feed: FeedHealth, now_ms: int) -> str:
    if feed.state is FeedState.WAITING:
        return "no reading yet"
    age = duration(max(0, now_ms - feed.last_end_ms) / 1000)
    if feed.state is FeedState.OK:
        return f"{age} ago"
    return f"{feed.state.value} {age}, expected every {duration(feed.expected_s)}"


def figures_state(board: Board) -> list[State]:
    """The key figures: people above thresholds, accuracy, readings."""
    figures = board.key_figures()
    cards = [_people_card(p) for p in _chosen(figures.people_above)]
    cards.append(
        {
            "value": number(figures.median_accuracy, 2),
            "label": "median accuracy of car flow",
            "title": "median over directed edges of P(true flow within 15 % or GEH 5)",
        }
    )
    return cards


def _chosen(people: Iterable[PeopleAbove]) -> list[PeopleAbove]:
    """Highest threshold of each pollutant and of noise, now: what fits and what matters."""
    best: dict[str, PeopleAbove] = {}
    for p in people:
        if p.averaging == "now" and (p.quantity not in best or p.threshold > best[p.quantity].threshold):
            best[p.quantity] = p
    return [best[q] for q in ("no2", "pm25", "noise") if q in best]


def _people_card(p: PeopleAbove) -> State:
    name, unit = QUANTITIES.get(p.quantity, (p.quantity, ""))
    when = AVERAGINGS.get(p.averaging, p.averaging)
    return {
        "value": number(p.people_above),
        "label": f"people, {name} {when} >\u00a0{p.threshold:g}\u00a0{unit}",
        "title": f"of {number(p.people)} residents (spread over streets: derived), "
        f"accuracy {number(p.accuracy, 2)}",
    }


class StreetView:
    """Writes the panel of the selected street."""

    def __init__(self, city: City) -> None:
        self._city = city

    def heading(self, segment: int, direction: int) -> str:
        """Compass point that a direction of a segment leads to."""
        line = self._city.network.polyline(segment)
        dx, dy = (line[-1] - line[0]) * (1 if direction == 0 else -1)
        return COMPASS[round(math.degrees(math.atan2(dx, dy)) / 45) % 8]

    def state(self, street: Street, hours_seen: float) -> State:
        """The panel: identity, flows with intervals, and levels."""
        s, city = street.segment, self._city
        flows = street.flows
        top = max((f.hi90 for f in flows if math.isfinite(f.hi90)), default=1.0) or 1.0
        return {
            "segment": s,
            "id": city.segment_ids[s],
            "name": city.segment_names[s] or "unnamed street",
            "class": city.classes[int(city.road_class[s])].name,
            "facts": f"{city.network.length_m[s]:.0f} m · {city.speed_kmh[s]:.0f} km/h"
            f" · {city.lanes[s]:g} lane{'' if city.lanes[s] == 1 else 's'}",
            "flows": [self._flow(s, f, top) for f in flows],
            "levels": self._levels(street, hours_seen),
            "nox_ug_m_s": number(street.nox_ug_m_s, 2),
            "sound_power_db": street.sound_power_db,
        }

    def _levels(self, street: Street, hours_seen: float) -> list[State]:
        hour = averaging_text("1h", hours_seen)
        levels: list[State] = [
            {"label": "NO₂ now", "value": number(street.no2_now_ug_m3, 1), "unit": "µg/m³"},
            {"label": "NO₂ 1 h", "value": number(street.no2_1h_ug_m3, 1), "unit": "µg/m³", "title": hour},
            {"label": "PM₂.₅ now", "value": number(street.pm25_now_ug_m3, 1), "unit": "µg/m³"},
            {"label": "Noise now", "value": number(street.noise_now_db, 1), "unit": "dB(A)"},
            {"label": "LAeq 1 h", "value": number(street.noise_1h_db, 1), "unit": "dB(A)", "title": hour},
            *_rolling_levels(street),
            {"label": "Sound power", "value": number(street.sound_power_db, 2), "unit": "dB(A)",
             "title": "L'W: A-weighted sound power level of a metre of this street, re 1 pW/m"},
        ]  # fmt: skip
        if math.isfinite(street.noise_lden_db):
            levels.append({"words": "Lden, Lnight: rolling 24 h, not annual", "title": MEANING})
        return levels

    def _flow(self, segment: int, flow: ModeFlow, top: float) -> State:
        return {
            "key": f"{flow.mode.name.lower()}/{flow.direction}",
            "mode": flow.mode.name.capitalize(),
            "heading": self.heading(segment, flow.direction),
            "flow": number(flow.flow_per_h),
            "flow_per_h": flow.flow_per_h,
            "speed": number(flow.speed_kmh),
            "interval": f"{number(flow.lo90)} to {number(flow.hi90)}",
            "at": flow.flow_per_h / top,
            "low": flow.lo90 / top,
            "high": flow.hi90 / top,
            "accuracy": number(flow.accuracy, 2),
            "doubtful": bool(flow.accuracy < 0.5),
            "age": "model" if math.isnan(flow.age_s) else duration(flow.age_s),
            "simulated": flow.simulated,
        }


def _rolling_levels(street: Street) -> list[State]:
    """Lden and Lnight of the last 24 hours at a street, once they are known."""
    if not math.isfinite(street.noise_lden_db):
        return []
    parts = (street.noise_lday_db, street.noise_levening_db, street.noise_lnight_db)
    texts = (f"{n}\u00a0{number(v, 1)}" for n, v in zip(("Lday", "Levening", "Lnight"), parts, strict=True))
    title = f"Rolling 24 h: {', '.join(texts)} dB(A). {MEANING}"
    return [
        {"label": name, "value": number(value, 1), "unit": "dB(A)", "title": title}
        for name, value in (("Lden", street.noise_lden_db), ("Lnight", street.noise_lnight_db))
    ]


def bounding_view(city: City) -> tuple[float, float, float]:
    """Centre x, y and height [m] of the first view: most of the receptors, or of a smaller network."""
    grid, xy = city.grid, city.network.vertex_xy
    low = np.maximum(xy.min(axis=0), (grid.x_min, grid.y_min))
    high = np.minimum(
        xy.max(axis=0), (grid.x_min + grid.n_columns * grid.step_m, grid.y_min + grid.n_rows * grid.step_m)
    )
    if (high <= low).any():
        low, high = xy.min(axis=0), xy.max(axis=0)
    centre = (low + high) / 2
    return float(centre[0]), float(centre[1]), float(max(200.0, 0.62 * (high - low)[1]))
