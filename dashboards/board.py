"""The latest state of the city, as the pages read it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from threading import RLock

import numpy as np
from numpy.typing import NDArray

from cities.pack import City
from dashboards.feeds import FeedHealth, Feeds, Reading
from dashboards.fields import Fields
from dashboards.history import History
from dashboards.layers import Layer
from dashboards.near import StreetReceptors
from dashboards.noise_day import DayHours, NoiseDay, noise_day_of
from dashboards.raster import FieldScene, RoadScene
from kernels.fixedpoint import POWER_QUANTUM_PW, emission_of
from kernels.network import Mode
from streams.topics import Batch, Topic

TREND_MODES = (Mode.CAR, Mode.TRUCK, Mode.BICYCLE)
TREND_NAMES = (
    *(f"{part}_{m.name.lower()}" for m in TREND_MODES for part in ("flow", "lo90", "hi90")),
    "no2",
    "noise",
)
CONSUMED = frozenset(
    (
        Topic.OBSERVATIONS,
        Topic.DENSITIES,
        Topic.EMISSIONS,
        Topic.FIELDS,
        Topic.EXPOSURE,
        Topic.DEADLETTERS,
    )
)
DENSITY_COLUMNS = ("flow_per_h", "speed_kmh", "accuracy", "lo90", "hi90", "age_s")


@dataclass(frozen=True, slots=True)
class Alarm:
    """Latest state of one alarm; fields as in docs/topics.md."""

    key: str
    state: str
    kind: str
    rule: str
    scope: str
    priority: int
    title: str
    value: float
    threshold: float
    unit: str
    averaging: str
    accuracy: float
    age_s: float
    action: str
    who: str
    note: str
    x: float
    y: float
    since_ms: int
    time_ms: int
    revision: int = 0

    @property
    def rank(self) -> int:
        """1 to 3 by priority, 4 for the quality of data: its shape, letter and colour."""
        return 4 if self.kind == "data quality" else min(max(self.priority, 1), 3)

    @property
    def is_active(self) -> bool:
        return self.state.startswith("active")

    @property
    def is_unacknowledged(self) -> bool:
        return self.state.endswith("unacknowledged")


@dataclass(frozen=True, slots=True)
class PeopleAbove:
    """How many live where a value is above a threshold."""

    quantity: str
    averaging: str
    threshold: float
    people_above: float
    people: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class KeyFigures:
    """Figures of the whole city at the end of the last step."""

    people_above: tuple[PeopleAbove, ...]
    n_active_alarms: int
    median_accuracy: float
    n_readings: int
    n_dead_letters: int
    n_changed_segments: int
    n_cells_updated: int


@dataclass(frozen=True, slots=True)
class ModeFlow:
    """Flow of one mode on one directed edge; NaN where unknown."""

    mode: Mode
    direction: int
    flow_per_h: float
    lo90: float
    hi90: float
    accuracy: float
    speed_kmh: float
    age_s: float
    simulated: bool


@dataclass(frozen=True, slots=True)
class Street:
    """What is known of one segment. Levels are the highest within 15 m of it.

    Lden and its parts are of the last 24 hours.
    """

    segment: int
    flows: tuple[ModeFlow, ...]
    no2_now_ug_m3: float
    no2_1h_ug_m3: float
    pm25_now_ug_m3: float
    noise_now_db: float
    noise_1h_db: float
    noise_lden_db: float
    noise_lday_db: float
    noise_levening_db: float
    noise_lnight_db: float
    sound_power_db: float
    nox_ug_m_s: float


@dataclass(frozen=True, slots=True)
class Highest:
    """Highest value within 15 m of a segment, NaN where none is known yet, and at which receptor."""

    cell: int
    value: float


class Board:
    """Latest state of a city, fed by the engine's thread and read by the pages.

    Consumes: observations, densities, emissions, fields, exposure, alarms, deadletters.
    Keeps: the latest value of each entity, the highest revision, and rings of the last steps.
    Guarantees: readers see whole steps, except for alarms, which they see at once; ``version`` rises with
    each step and ``alarm_version`` with each change of an alarm.

    ``noise_findings`` is what the preparation of the noise has to tell: of what was assumed, repaired or left
    out, a sentence each.
    """

    def __init__(self, city: City, noise_findings: Sequence[str] = ()) -> None:
        n = city.network.n_segments
        self._lock = RLock()
        self._near = StreetReceptors(city.network, city.grid)
        shape = (len(Mode), n, 2)
        self._densities = {c: np.full(shape, np.nan, np.float32) for c in DENSITY_COLUMNS}
        self._simulated = np.zeros(shape, dtype=bool)
        self._latest_density: dict[str, tuple[int, int]] = {}
        self._power = np.zeros(n, dtype=np.int64)
        self._nox = np.zeros(n, dtype=np.int64)
        self._fields = Fields(city.grid)
        self._alarms: dict[str, Alarm] = {}
        self._people: tuple[PeopleAbove, ...] = ()
        self._noise_day: NoiseDay | None = None
        self._feeds = Feeds(city.sensors)
        self._history = History(TREND_NAMES, n)
        self._pending: list[Batch] = []
        self.noise_findings = tuple(noise_findings)
        self._n_dead_letters = 0
        self._changed = np.zeros(n, dtype=bool)
        self._n_changed = self._n_cells = 0
        self._median_accuracy = math.nan
        self.now_ms = 0
        self.version = 0
        self.alarm_version = 0

    # ---- written by the engine ----

    def apply(self, batch: Batch) -> None:
        """Take in a batch; it is seen when its step closes, an alarm at once."""
        with self._lock:
            if batch.topic is Topic.ALARMS:
                self._apply_alarms(batch)
            elif batch.topic in CONSUMED:
                self._pending.append(batch)

    def close(self, now_ms: int) -> None:
        """End a step: what came in since the last one becomes visible.

        A second end of the same step with nothing new, as after an operator's action, changes nothing.
        """
        with self._lock:
            if now_ms == self.now_ms and not self._pending:
                return
            if now_ms < self.now_ms:  # a jump back: the trends would run backwards
                self._history.clear()
                self._latest_density.clear()
                self._fields.forget_rolling()
                self._noise_day = None
            self._changed[:] = False
            self._n_cells = 0
            pending, self._pending = self._pending, []  # one that cannot be taken in is not tried again
            for batch in pending:
                self._apply(batch)
            self._n_changed = int(self._changed.sum())
            accuracy = self._densities["accuracy"][Mode.CAR]
            known = accuracy[np.isfinite(accuracy)]
            self._median_accuracy = float(np.median(known)) if known.size else math.nan
            self._history.append(now_ms, self._trend_values())
            self.now_ms = now_ms
            self.version += 1

    def forget_alarms_after(self, now_ms: int) -> None:
        """Before a jump back: what is in the future then has not been heard of."""
        with self._lock:
            self._alarms = {key: a for key, a in self._alarms.items() if a.time_ms <= now_ms}
            self.alarm_version += 1

    def _apply(self, batch: Batch) -> None:
        if batch.topic is Topic.OBSERVATIONS:
            self._feeds.receive(batch)
        elif batch.topic is Topic.DENSITIES:
            self._apply_densities(batch)
        elif batch.topic is Topic.EMISSIONS:
            self._apply_emissions(batch)
        elif batch.topic is Topic.FIELDS:
            self._n_cells += self._fields.receive(batch)
        elif batch.topic is Topic.EXPOSURE and batch.key == "all":
            self._apply_exposure(batch)
        elif batch.topic is Topic.DEADLETTERS:
            self._n_dead_letters += batch.n_rows

    def _apply_densities(self, batch: Batch) -> None:
        """The newest densities of a tile; trends keep an earlier minute as it was known when it closed."""
        order = (batch.time_ms, batch.revision)
        if order < self._latest_density.get(batch.key, (-1, -1)):
            return
        self._latest_density[batch.key] = order
        columns = batch.columns
        at = (columns["mode"].astype(np.intp), columns["segment"], columns["direction"].astype(np.intp))
        for name in DENSITY_COLUMNS:
            self._densities[name][at] = columns[name]
        self._simulated[at] = columns["simulated"]

    def _apply_emissions(self, batch: Batch) -> None:
        columns = batch.columns
        segment = columns["segment"]
        power = sum(columns[f"power{g}"].astype(np.int64) for g in range(4))
        nox = columns["nox"]
        self._changed[segment] |= (self._power[segment] != power) | (self._nox[segment] != nox)
        self._power[segment] = power
        self._nox[segment] = nox

    def _apply_exposure(self, batch: Batch) -> None:
        c = batch.columns
        self._people = tuple(
            PeopleAbove(
                quantity=str(c["quantity"][i]),
                averaging=str(c["averaging"][i]),
                threshold=float(c["threshold"][i]),
                people_above=float(c["people_above"][i]),
                people=float(c["people"][i]),
                accuracy=float(c["accuracy"][i]),
            )
            for i in range(batch.n_rows)
        )
        told = batch.attributes.get("noise_24h")
        if told is not None:
            self._noise_day = noise_day_of(told)

    def _apply_alarms(self, batch: Batch) -> None:
        known = self._alarms.get(batch.key)
        order = (batch.time_ms, batch.revision)
        if known is not None and order < (known.time_ms, known.revision):
            return
        c = {name: column[-1] for name, column in batch.columns.items()}
        self._alarms[batch.key] = Alarm(
            key=batch.key,
            state=str(c["state"]),
            kind=str(c["kind"]),
            rule=str(c["rule"]),
            scope=str(c["scope"]),
            priority=int(c["priority"]),
            title=str(c["title"]),
            value=float(c["value"]),
            threshold=float(c["threshold"]),
            unit=str(c["unit"]),
            averaging=str(c["averaging"]),
            accuracy=float(c["accuracy"]),
            age_s=float(c["age_s"]),
            action=str(c["action"]),
            who=str(c["who"]),
            note=str(c["note"]),
            x=float(c["x"]),
            y=float(c["y"]),
            since_ms=int(c["since_ms"]),
            time_ms=batch.time_ms,
            revision=batch.revision,
        )
        self.alarm_version += 1

    def _trend_values(self) -> dict[str, NDArray[np.float32]]:
        values = {}
        for mode in TREND_MODES:
            name = mode.name.lower()
            # the directions' errors are taken as fully dependent, so the sum's interval is not too narrow
            values[f"flow_{name}"] = _sum_of_directions(self._densities["flow_per_h"][mode])
            values[f"lo90_{name}"] = _sum_of_directions(self._densities["lo90"][mode])
            values[f"hi90_{name}"] = _sum_of_directions(self._densities["hi90"][mode])
        values["no2"] = self._near.highest(self._fields.value("no2", "now"))
        values["noise"] = self._near.highest(self._fields.value("noise", "now"))
        return values

    # ---- read by the pages ----

    def scene(self, layer: Layer, averaging: str) -> RoadScene | FieldScene:
        """Copy of what a layer shows."""
        with self._lock:
            if layer.quantity:
                return self._fields.scene(layer.quantity, averaging)
            column = {"speed": "speed_kmh", "accuracy": "accuracy"}.get(layer.name, "flow_per_h")
            mode = Mode.CAR if layer.mode is None else layer.mode
            return RoadScene(self._densities[column][mode].copy(), self._densities["accuracy"][mode].copy())

    def hours_seen(self, quantity: str, averaging: str) -> float:
        """Hours that an averaged field rests on so far; NaN before its first value."""
        with self._lock:
            return self._fields.hours_seen(quantity, averaging)

    def is_known(self, quantity: str, averaging: str) -> bool:
        """Whether a field has a value anywhere."""
        with self._lock:
            return self._fields.is_known(quantity, averaging)

    def day_hours(self) -> DayHours:
        """Hours of noise seen of those that the indicators of a day need."""
        with self._lock:
            return self._fields.day_hours

    def propagation(self) -> str:
        """What stood in the way of the sound; empty before noise is known."""
        with self._lock:
            return self._fields.propagation

    def noise_day(self) -> NoiseDay | None:
        """Whom the noise of the last 24 hours reaches, in the whole city; None before noise is known."""
        with self._lock:
            return self._noise_day

    def street(self, segment: int) -> Street:
        """What is known of one segment."""
        with self._lock:
            return Street(
                segment=segment,
                flows=self._flows(segment),
                no2_now_ug_m3=self._level("no2", "now", segment),
                no2_1h_ug_m3=self._level("no2", "1h", segment),
                pm25_now_ug_m3=self._level("pm25", "now", segment),
                noise_now_db=self._level("noise", "now", segment),
                noise_1h_db=self._level("noise", "1h", segment),
                noise_lden_db=self._level("noise", "lden", segment),
                noise_lday_db=self._level("noise", "lday", segment),
                noise_levening_db=self._level("noise", "levening", segment),
                noise_lnight_db=self._level("noise", "lnight", segment),
                sound_power_db=sound_power_level_db(int(self._power[segment])),
                nox_ug_m_s=float(emission_of(self._nox[segment : segment + 1])[0]),
            )

    def _flows(self, segment: int) -> tuple[ModeFlow, ...]:
        d = {name: values[:, segment] for name, values in self._densities.items()}
        return tuple(
            ModeFlow(
                mode=mode,
                direction=direction,
                simulated=bool(self._simulated[mode, segment, direction]),
                **{name: float(values[mode, direction]) for name, values in d.items()},
            )
            for mode in Mode
            for direction in (0, 1)
            if np.isfinite(d["flow_per_h"][mode, direction])
        )

    def highest(self, quantity: str, averaging: str, segment: int) -> Highest | None:
        """Where and how high a field is highest at a segment; None where no receptor lies at it."""
        with self._lock:
            cells = self._near.cells(segment)
            if not cells.size:
                return None
            values = self._fields.value(quantity, averaging).reshape(-1)[cells]
            at = int(np.argmax(np.where(np.isfinite(values), values, -np.inf)))
            return Highest(int(cells[at]), float(values[at]))

    def _level(self, quantity: str, averaging: str, segment: int) -> float:
        if not self._fields.is_known(quantity, averaging):
            return math.nan
        highest = self.highest(quantity, averaging, segment)
        return math.nan if highest is None else highest.value

    def trend(self, segment: int) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float32]]]:
        """Times [ms] and the values of ``TREND_NAMES`` of one segment, oldest first."""
        with self._lock:
            return self._history.of(segment)

    def alarms(self) -> list[Alarm]:
        """Alarms that are not normal: unacknowledged first, then by priority, newest first."""
        with self._lock:
            shown = [a for a in self._alarms.values() if a.state != "normal"]
        return sorted(
            shown, key=lambda a: (not a.is_unacknowledged, not a.is_active, a.rank, -a.since_ms, a.key)
        )

    def feeds(self) -> list[FeedHealth]:
        """Health of each feed at the end of the last step."""
        with self._lock:
            return self._feeds.health(self.now_ms)

    def readings_of(self, sensor: str) -> list[Reading]:
        """Last readings of a sensor."""
        with self._lock:
            return self._feeds.readings_of(sensor)

    def key_figures(self) -> KeyFigures:
        """Figures of the whole city."""
        with self._lock:
            return KeyFigures(
                people_above=self._people,
                n_active_alarms=sum(a.is_active for a in self._alarms.values()),
                median_accuracy=self._median_accuracy,
                n_readings=self._feeds.n_rows,
                n_dead_letters=self._n_dead_letters,
                n_changed_segments=self._n_changed,
                n_cells_updated=self._n_cells,
            )


def sound_power_level_db(quanta: int) -> float:
    """A-weighted sound power level per metre L'W [dB re 1 pW/m] of summed band groups; NaN without any."""
    return 10 * math.log10(quanta * POWER_QUANTUM_PW) if quanta > 0 else math.nan


def _sum_of_directions(values: NDArray[np.float32]) -> NDArray[np.float32]:
    known = np.isfinite(values)
    total = np.where(known, values, np.float32(0)).sum(axis=1)
    return np.where(known.any(axis=1), total, np.float32(np.nan))
