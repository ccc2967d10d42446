"""The alarms agent: rules over fields, exposure and feeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.alarm_state import Alarm, State, acknowledge, evaluate
from agents.watch import PowerWatch, StreetWatch
from cities.pack import City
from cities.rules import Rule, Rules
from streams.readings import SOURCES, Rhythm
from streams.topics import Batch, Topic

MINIMUM_HOURS = 0.5  # a rise is told from a mean over at least half an hour
FEED_RULE = Rule(
    name="feed-silent",
    title="Feed is silent",
    quantity="people",
    threshold=1.0,
    scope="zone",
    action="Call the feed's operator; streets that rely on it lose accuracy",
    consequence="Flows of its streets fall back to the prior",
    priority=3,
)
SENSOR_RULE = Rule(
    name="sensor-fault",
    title="Counter at fault",
    quantity="people",
    threshold=1.0,
    scope="zone",
    action="Have the counter looked at; its street is told by the others until then",
    consequence="Its readings are left out",
    priority=3,
)
UNITS = {FEED_RULE.name: "x the allowed silence", SENSOR_RULE.name: "fault"}
HOURLY_MS, HOURLY_KEPT = 300_000, 24  # hourly means come every five minutes; two hours of them
UNKNOWN_GAP_MS = 3_600_000  # until a feed has spoken twice: weather comes hourly
QUALITY_PRIORITY = 4


class AlarmsAgent:
    """Raises, clears and acknowledges alarms.

    Consumes densities (for the faults of counters), emissions, fields, exposure, observations (for the
    feeds) and operator actions.
    Produces alarms: one row for each transition.
    Keeps the state of each alarm and the field values along the watched streets.
    Guarantees that below the accuracy gate a data-quality alarm is raised instead of the alarm.
    """

    name = "alarms"
    consumes = (
        Topic.DENSITIES, Topic.EMISSIONS, Topic.FIELDS, Topic.EXPOSURE, Topic.OBSERVATIONS,
        Topic.OPERATOR_ACTIONS,
    )  # fmt: skip
    produces = (Topic.ALARMS,)

    def __init__(self, city: City, rules: Rules) -> None:
        self._city, self._rules = city, rules
        self._watch = {
            rule.name: StreetWatch(city, rule.road_classes, rule.quantity)
            for rule in rules.rules
            if rule.scope == "street"
        }
        self._hourly: dict[str, list[Any]] = {}
        self._power = PowerWatch(city.network.n_segments)
        self._alarms: dict[str, Alarm] = {}
        self._facts: dict[str, dict[str, Any]] = {}
        self._people: dict[str, list[Any]] = {}
        self._feeds: dict[str, list[int]] = {}
        self._faults: dict[str, list[Any]] = {}
        self._actions: list[Batch] = []
        self._evaluated_ms = self._revision = 0
        self._mid = city.network.midpoints()

    def receive(self, batch: Batch) -> None:
        if batch.topic is Topic.FIELDS:
            for watch in self._watch.values():
                watch.receive(batch)
        elif batch.topic is Topic.EMISSIONS:
            self._power.receive(batch)
        elif batch.topic is Topic.DENSITIES:
            self._receive_faults(batch)
        elif batch.topic is Topic.EXPOSURE:
            self._receive_exposure(batch)
        elif batch.topic is Topic.OPERATOR_ACTIONS:
            self._actions.append(batch)
        else:
            self._receive_readings(batch)

    def close(self, now_ms: int) -> Sequence[Batch]:
        published: list[Batch] = []
        for action in self._actions:
            self._acknowledge(action, now_ms, published)
        self._actions = []
        if now_ms == self._evaluated_ms:  # an action between two steps
            return published
        self._evaluated_ms = now_ms
        for rule in self._rules.rules:
            if rule.scope == "street":
                self._close_streets(rule, now_ms, published)
            else:
                self._close_zones(rule, now_ms, published)
        self._close_feeds(now_ms, published)
        self._close_sensors(now_ms, published)
        return published

    def snapshot(self) -> dict[str, Any]:
        return {
            "alarms": {k: (a.state.value, a.since_ms, a.pending_ms) for k, a in self._alarms.items()},
            "facts": self._facts,
            "people": self._people,
            "feeds": self._feeds,
            "faults": self._faults,
            "evaluated_ms": self._evaluated_ms,
            "revision": self._revision,
            "power": self._power.state,
            "hourly": self._hourly,
            "watch": {name: watch.state for name, watch in self._watch.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        self._alarms = {k: Alarm(State(v[0]), v[1], v[2]) for k, v in state["alarms"].items()}
        self._facts, self._people, self._feeds = state["facts"], state["people"], state["feeds"]
        self._faults = state["faults"]
        self._evaluated_ms, self._revision = state["evaluated_ms"], state["revision"]
        self._power.state, self._hourly = state["power"], state["hourly"]
        for name, watched in state["watch"].items():
            self._watch[name].state = watched

    def _receive_exposure(self, batch: Batch) -> None:
        if batch.key == "all":
            return
        columns = batch.columns
        for k in range(batch.n_rows):
            name = f"{columns['quantity'][k]}/{columns['averaging'][k]}/{float(columns['threshold'][k]):g}"
            self._people[f"{batch.key}/{name}"] = [
                float(columns["people_above"][k]), float(columns["accuracy"][k])
            ]  # fmt: skip

    def _receive_readings(self, batch: Batch) -> None:
        source, start_ms, end_ms = (batch.columns[name] for name in ("source", "start_ms", "end_ms"))
        for code in np.unique(source):
            name, mine = SOURCES[code].value, source == code
            rhythm = Rhythm(*self._feeds.get(name, ())).after(start_ms[mine], end_ms[mine], UNKNOWN_GAP_MS)
            self._feeds[name] = [rhythm.last_ms, rhythm.length_ms, rhythm.gap_ms]

    def _receive_faults(self, batch: Batch) -> None:
        """Faults of the counters of a tile, as they were at its newest step."""
        known = self._faults.get(batch.key, [-1, []])
        if batch.time_ms >= known[0]:
            self._faults[batch.key] = [batch.time_ms, list(batch.attributes.get("faults", []))]

    def _close_streets(self, rule: Rule, now_ms: int, published: list[Batch]) -> None:
        watch = self._watch[rule.name]
        level, accuracy = self._levels(rule, watch, rule.averaging)
        if rule.compare == "rise":
            if self._hours_seen(rule, watch) < MINIMUM_HOURS:
                return
            rise = level - self._reference(rule, watch, now_ms)
            known = rise[np.isfinite(rise)]
            level = rise - (float(np.median(known)) if known.size else 0.0)
        for street, at in watch.worst(level):
            segment = int(watch.segments[at])
            place = {
                "scope": self._city.segment_ids[segment],
                "title": f"{rule.title}: {street}",
                "x": float(self._mid[segment, 0]),
                "y": float(self._mid[segment, 1]),
            }
            key = f"{rule.name}/{street}"
            self._judge(rule, key, float(level[at]), float(accuracy[at]), place, now_ms, published)

    def _levels(
        self, rule: Rule, watch: StreetWatch, averaging: str
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Level and accuracy at each watched segment."""
        if rule.quantity == "sound_power":
            return self._power.levels(watch.segments, averaging), self._power.accuracies(watch.segments)
        return watch.levels(rule.quantity, averaging), watch.accuracies(rule.quantity, averaging)

    def _reference(self, rule: Rule, watch: StreetWatch, now_ms: int) -> NDArray[np.float64]:
        """Highest hourly mean of the last two hours: a street that recovers from a closure has not risen."""
        held = self._hourly.setdefault(rule.name, [])
        if not held or now_ms - held[-1][0] >= HOURLY_MS:
            held.append([now_ms, self._levels(rule, watch, "1h")[0]])
            del held[:-HOURLY_KEPT]
        return np.asarray(np.fmax.reduce([mean for _, mean in held]))

    def _hours_seen(self, rule: Rule, watch: StreetWatch) -> float:
        if rule.quantity == "sound_power":
            return float(self._power.state["hours"])
        return watch.hours_seen(rule.quantity, "1h")

    def _close_zones(self, rule: Rule, now_ms: int, published: list[Batch]) -> None:
        suffix = f"/{rule.exposure}/{rule.averaging}/{rule.exposure_threshold:g}"
        for name in sorted(self._people):
            if not name.endswith(suffix):
                continue
            people, accuracy = self._people[name]
            zone = name[: -len(suffix)]
            place = {"scope": zone, "title": f"{rule.title}: {zone}", "x": math.nan, "y": math.nan}
            self._judge(rule, f"{rule.name}/{zone}", people, accuracy, place, now_ms, published)

    def _close_feeds(self, now_ms: int, published: list[Batch]) -> None:
        for feed in sorted(self._feeds):
            last_ms, length_ms, gap_ms = self._feeds[feed]
            interval_ms = max(length_ms, gap_ms or UNKNOWN_GAP_MS, 60_000)
            allowed_ms = self._rules.silent_after_intervals * interval_ms
            place = {
                "scope": feed,
                "title": f"{FEED_RULE.title}: {feed}",
                "x": math.nan,
                "y": math.nan,
                "kind": "data quality",
                "age_s": (now_ms - last_ms) / 1000,
            }
            late = (now_ms - last_ms) / allowed_ms
            self._move(FEED_RULE, f"feed-silent/{feed}", late, 1.0, place, now_ms, published)

    def _close_sensors(self, now_ms: int, published: list[Batch]) -> None:
        """One alarm a counter, whatever its modes; it names the fault that was found first."""
        faults: dict[str, tuple[int, str, int]] = {}
        for _, rows in self._faults.values():
            for sensor, _, segment, fault, since_ms in rows:
                found = (int(since_ms), str(fault), int(segment))
                faults[sensor] = min(found, faults.get(sensor, found))
        prefix = f"{SENSOR_RULE.name}/"
        raised = {key.removeprefix(prefix) for key in self._alarms if key.startswith(prefix)}
        for sensor in sorted(raised | faults.keys()):
            _, fault, segment = faults.get(sensor, (0, "", -1))
            place = {
                "scope": sensor,
                "title": f"{SENSOR_RULE.title}: {sensor} is {fault}",
                "x": float(self._mid[segment, 0]) if fault else math.nan,
                "y": float(self._mid[segment, 1]) if fault else math.nan,
                "kind": "data quality",
            }
            value = 1.0 if fault else 0.0
            self._move(SENSOR_RULE, prefix + sensor, value, 1.0, place, now_ms, published)

    def _judge(
        self,
        rule: Rule,
        key: str,
        value: float,
        accuracy: float,
        place: dict[str, Any],
        now_ms: int,
        published: list[Batch],
    ) -> None:
        """Raise the alarm, or below the accuracy gate a data-quality alarm in its place."""
        trusted = accuracy >= rule.minimum_accuracy or rule.minimum_accuracy == 0
        quality_key = f"{key} (data quality)"
        held = self._alarms.get(key, Alarm())
        doubtful = {**place, "kind": "data quality", "title": f"{place['title']} (too uncertain to alarm)"}
        self._move(rule, quality_key, -math.inf if trusted else value, accuracy, doubtful, now_ms, published)
        if trusted or held.is_active:
            self._move(rule, key, value, accuracy, place, now_ms, published)

    def _move(
        self,
        rule: Rule,
        key: str,
        value: float,
        accuracy: float,
        place: dict[str, Any],
        now_ms: int,
        published: list[Batch],
    ) -> None:
        before = self._alarms.get(key, Alarm())
        after = evaluate(before, rule, value, now_ms)
        if after == before:
            return
        if after.state is State.NORMAL and after.pending_ms < 0:
            self._alarms.pop(key, None)
        else:
            self._alarms[key] = after
        if after.state is before.state:
            return
        shown = value if math.isfinite(value) else math.nan
        if after.is_active:
            self._facts[key] = dict(place)
        facts = self._facts.get(key, place)
        published.append(self._transition(rule, key, before, after, shown, accuracy, facts, now_ms, "", ""))

    def _acknowledge(self, action: Batch, now_ms: int, published: list[Batch]) -> None:
        before = self._alarms.get(action.key, Alarm())
        after = acknowledge(before, now_ms)
        if str(action.columns["action"][0]) != "acknowledge" or after == before:
            return
        if after.state is State.NORMAL:
            self._alarms.pop(action.key, None)
        else:
            self._alarms[action.key] = after
        name = action.key.split("/", 1)[0]
        rule = next((r for r in (*self._rules.rules, SENSOR_RULE) if r.name == name), FEED_RULE)
        who, note = str(action.columns["who"][0]), str(action.columns["note"][0])
        facts = self._facts.get(action.key, {"scope": "", "title": rule.title, "x": math.nan, "y": math.nan})
        published.append(
            self._transition(rule, action.key, before, after, math.nan, math.nan, facts, now_ms, who, note)
        )

    def _transition(
        self,
        rule: Rule,
        key: str,
        before: Alarm,
        after: Alarm,
        value: float,
        accuracy: float,
        facts: dict[str, Any],
        now_ms: int,
        who: str,
        note: str,
    ) -> Batch:
        kind = facts.get("kind", "threshold")
        row: dict[str, Any] = {
            "state": after.state.value,
            "previous": before.state.value,
            "kind": kind,
            "rule": rule.name,
            "scope": facts["scope"],
            "priority": QUALITY_PRIORITY if kind == "data quality" else rule.priority,
            "title": facts["title"],
            "value": round(value, 2),
            "threshold": rule.threshold,
            "unit": UNITS.get(rule.name, rule.unit),
            "averaging": rule.averaging,
            "compare": rule.compare,
            "accuracy": round(accuracy, 3),
            "age_s": float(facts.get("age_s", 0.0)),
            "action": rule.action,
            "who": who,
            "note": note,
            "x": round(facts["x"], 1),
            "y": round(facts["y"], 1),
            "since_ms": after.since_ms,
        }
        columns = {
            name: np.array([cell], dtype=object if isinstance(cell, str) else None)
            for name, cell in row.items()
        }
        self._revision += 1  # an acknowledgement may follow a transition of the same step
        return Batch(Topic.ALARMS, key, now_ms, columns, revision=self._revision)
