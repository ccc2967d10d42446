"""Noise: the level at the receptors, followed as the sound power of the roads changes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from agents.facade_noise import FacadeNoise
from agents.noise_quality import TileQuality
from cities.pack import City, CityError
from kernels import noise_field
from kernels.cnossos import N_GROUPS
from kernels.fixedpoint import POWER_MAX
from kernels.periods import HOUR_MS, HOURS, MINUTES, DayRing, Period, Periods
from kernels.receptors import TILE
from kernels.transfer import NoiseTransfers
from streams.clock import STEP_MS
from streams.topics import Batch, Topic

SCALE_DB = 0.01
OFFSET_DB = -20.0
UNKNOWN = 65535

AVERAGINGS = ("now", "1h")
_COLUMNS = {
    "now": tuple(f"power{g}" for g in range(N_GROUPS)),
    "1h": tuple(f"power{g}_1h" for g in range(N_GROUPS)),
}
INDICATORS = ("lday", "levening", "lnight", "lden")
INDICATOR_OF = "rolling 24 h; not the annual mean of 2002/49/EC"
NEEDED_HOURS = float(HOURS)
MISSING_MAX_MINUTES = 14  # 1 %: a restart of minutes must not blank a day's indicators


class _Field:
    """One averaging time: the powers received and applied, and the field that holds the applied ones."""

    def __init__(self, n_segments: int, transfers: NoiseTransfers) -> None:
        self.received = np.zeros((n_segments, N_GROUPS), dtype=np.int64)
        self.applied = np.zeros((n_segments, N_GROUPS), dtype=np.int64)
        self.accumulator = noise_field.empty_field(transfers.patches)
        self.published = np.full(transfers.grid.shape, UNKNOWN, dtype=np.uint16)


class _Day:
    """Rolling 24 h: the mean powers applied in each period, their fields, and what follows from these."""

    def __init__(self, n_segments: int, transfers: NoiseTransfers) -> None:
        shape = transfers.grid.shape
        self.applied = np.zeros((len(Period), n_segments, N_GROUPS), dtype=np.int64)
        self.is_simulated = np.zeros(n_segments, dtype=np.bool_)
        self.hours_seen = 0.0
        self.accumulator = np.zeros((len(Period), *shape), dtype=np.int64)
        self.published = np.full((len(INDICATORS), *shape), UNKNOWN, dtype=np.uint16)


class NoiseAgent:
    """A-weighted level at the receptors: now, over the last hour, and Lden over the last 24 hours.

    Consumes
        emissions.
    Produces
        fields ``noise/now/r/c`` and ``noise/1h/r/c``, where a value changed; once 24 hours have been seen
        also ``noise/lday/r/c``, ``levening``, ``lnight`` and ``lden``, where an hour of local time ends. A
        gap of more than a quarter of an hour makes these unknown until it is 24 hours old. The same of
        ``facades``, where the pack has buildings.
    Keeps
        the power per metre of every segment, the sums of its minutes in each of the last 24 hours, and the
        integer fields that follow from them.
    Guarantees
        a field after any history is that of the present powers, bit for bit; a step touches only the
        receptors of the segments that changed.
    """

    name = "noise"
    consumes: tuple[Topic, ...] = (Topic.EMISSIONS,)
    produces: tuple[Topic, ...] = (Topic.FIELDS,)

    def __init__(self, city: City, transfers: NoiseTransfers) -> None:
        self._transfers = transfers
        self._network_hash = city.network_hash
        self._zone = ZoneInfo(city.timezone)
        self._periods = periods_of(city)
        self._n = n = city.network.n_segments
        self._fields = {averaging: _Field(n, transfers) for averaging in AVERAGINGS}
        self._log_sd = np.zeros(n, dtype=np.float32)
        self._is_simulated = np.zeros(n, dtype=np.bool_)
        self._hours_seen = 0.0
        self._is_started = False
        self._ring = DayRing(n, N_GROUPS)
        self._first_ms = 0  # where the first minute began
        self._hour = -1  # of the newest minute
        self._evaluated = -1  # last hour whose end was looked at
        self._day: _Day | None = None
        self._writer = noise_field.LevelWriter(offset_db=OFFSET_DB, scale_db=SCALE_DB, unknown=UNKNOWN)
        self._tiles = transfers.grid.tiles()
        self._boxes = _tile_boxes(transfers)
        self._quality = _quality_of(transfers)
        self._facades = FacadeNoise(
            transfers, n, self._writer, UNKNOWN,
            {
                "scale": SCALE_DB, "offset": OFFSET_DB, "unit": "dB(A)", "propagation": transfers.kind,
                "network_hash": self._network_hash,
            },
        )  # fmt: skip
        self.changed_segments = 0  # of all steps so far, all fields added up
        self.cells_updated = 0

    def receive(self, batch: Batch) -> None:
        """Take in a tile of emissions; the newest power of a segment counts."""
        if batch.topic is not Topic.EMISSIONS:
            return
        columns = batch.columns
        segment = columns["segment"]
        for averaging, field in self._fields.items():
            power = np.array([columns[name] for name in _COLUMNS[averaging]])
            if power.size and not 0 <= power.min() <= power.max() <= POWER_MAX:
                raise ValueError(
                    f"emissions {batch.key}: {_COLUMNS[averaging][0]}: got {int(power.min())} to "
                    f"{int(power.max())}, allowed 0 to {POWER_MAX}"
                )
            field.received[segment] = power.T
        known = np.isfinite(columns["log_sd"])  # of a road that falls silent, what its means rest on
        self._log_sd[segment[known]] = columns["log_sd"][known]
        self._is_simulated[segment] = columns["simulated"]
        self._hours_seen = float(batch.attributes.get("hours_seen", 0.0))
        self._is_started = True

    def close(self, now_ms: int) -> Sequence[Batch]:
        """Apply the differences of the step and publish the tiles in which a value changed."""
        if not self._is_started:
            return []
        day = self._close_day(now_ms)
        batches: list[Batch] = []
        for averaging, field in self._fields.items():
            segments = _changed(field.received, field.applied)
            if segments.size:
                batches.extend(self._update(averaging, field, segments, now_ms))
        return batches + day

    def _update(self, averaging: str, field: _Field, segments: NDArray[np.int32], now_ms: int) -> list[Batch]:
        delta = field.received[segments] - field.applied[segments]
        cells = noise_field.apply(field.accumulator, self._transfers.patches, segments, delta)
        self._facades.apply(averaging, segments, delta)
        field.applied[segments] = field.received[segments]
        self.changed_segments += int(segments.size)
        self.cells_updated += cells
        touched = np.flatnonzero(_touched_tiles(self._transfers, segments))
        changed = self._write(field.accumulator[None], np.ones(1), field.published, touched)
        attributes = {
            "hours_seen": self._hours_seen,
            "hours_seen_24h": self._ring_hours(),
            "hours_needed_24h": NEEDED_HOURS,
        }
        told = (field.applied, self._is_simulated)
        batches = self._batches(averaging, field.published, changed, *told, cells, attributes, now_ms)
        return batches + self._at_facades(averaging, np.ones(1), *told, attributes, now_ms)

    def _close_day(self, now_ms: int) -> list[Batch]:
        """Add the minute to its hour; where an hour of local time ends, update the indicators."""
        begin_ms = now_ms - STEP_MS
        local = datetime.fromtimestamp(begin_ms / 1000.0, self._zone)
        offset = local.utcoffset()
        shift_ms = 0 if offset is None else int(offset.total_seconds() * 1000.0) % HOUR_MS
        hour = (begin_ms + shift_ms) // HOUR_MS
        batches = []
        if self._hour < 0:
            self._first_ms, self._evaluated = begin_ms, hour - 1
        elif hour > self._hour and self._evaluated < hour - 1:  # steps were missed where the hour ended
            batches = self._end_hour(hour - 1, now_ms)
        self._hour = hour
        self._ring.add(hour, self._periods.at(local.hour), self._fields["now"].received, self._is_simulated)
        if (now_ms + shift_ms) % HOUR_MS == 0:
            batches = self._end_hour(hour, now_ms)
        return batches

    def _ring_hours(self) -> float:
        return float(self._ring.minutes_seen(self._hour).sum()) / 60.0

    def _end_hour(self, hour: int, now_ms: int) -> list[Batch]:
        """Indicators of the 24 whole hours up to this one, where enough of them was seen."""
        self._evaluated = hour
        minutes = self._ring.minutes_seen(hour)
        is_whole = now_ms - self._first_ms >= HOURS * HOUR_MS and minutes.all()
        if not is_whole or minutes.sum() < MINUTES - MISSING_MAX_MINUTES:
            return self._forget_day(float(minutes.sum()) / 60.0, now_ms)
        if self._day is None:
            self._day = _Day(self._n, self._transfers)
        day = self._day
        power, day.is_simulated = self._ring.means(hour)
        day.hours_seen = float(minutes.sum()) / 60.0
        touched, cells = np.zeros((len(INDICATORS), len(self._tiles)), dtype=np.bool_), [0] * len(INDICATORS)
        for period in Period:
            segments = _changed(power[period], day.applied[period])
            delta = power[period][segments] - day.applied[period][segments]
            cells[period] = noise_field.apply(
                day.accumulator[period], self._transfers.patches, segments, delta
            )
            self._facades.apply(INDICATORS[period], segments, delta)
            touched[period] = _touched_tiles(self._transfers, segments)
            self.changed_segments += int(segments.size)
            self.cells_updated += cells[period]
        day.applied[:] = power
        touched[-1] = touched[:-1].any(axis=0)
        return self._publish_day(day, touched, cells, now_ms)

    def _publish_day(
        self, day: _Day, touched: NDArray[np.bool_], cells: list[int], now_ms: int
    ) -> list[Batch]:
        attributes = {
            "hours_seen": day.hours_seen, "hours_needed": NEEDED_HOURS, "indicator": INDICATOR_OF
        }  # fmt: skip
        weights = self._periods.lden_weights()
        batches = []
        for i, name in enumerate(INDICATORS):
            is_lden = i == len(INDICATORS) - 1
            fields = day.accumulator if is_lden else day.accumulator[i : i + 1]
            of_fields = weights if is_lden else np.ones(1)
            changed = self._write(fields, of_fields, day.published[i], np.flatnonzero(touched[i]))
            power = np.tensordot(weights, day.applied, axes=1) if is_lden else day.applied[i]
            told = (power, day.is_simulated)
            batches += self._batches(name, day.published[i], changed, *told, cells[i], attributes, now_ms)
            batches += self._at_facades(name, of_fields, *told, attributes, now_ms)
        return batches

    def _forget_day(self, hours_seen: float, now_ms: int) -> list[Batch]:
        """Say that the indicators are unknown again, if they were known."""
        if self._day is None:
            return []
        self._day = None
        attributes = {
            "hours_seen": hours_seen, "hours_needed": NEEDED_HOURS, "indicator": INDICATOR_OF
        }  # fmt: skip
        nothing = np.full(self._transfers.grid.shape, UNKNOWN, dtype=np.uint16)
        silent = np.zeros((self._n, N_GROUPS), dtype=np.int64)
        everywhere = np.arange(len(self._tiles))
        batches = []
        for name in INDICATORS:
            batches += self._batches(
                name, nothing, everywhere, silent, self._is_simulated, 0, attributes, now_ms
            )
            batches += self._facades.unknown_batches(name, self._is_simulated, attributes, now_ms)
        return batches

    def _write(
        self,
        fields: NDArray[np.int64],
        weights: NDArray[np.float64],
        published: NDArray[np.uint16],
        touched: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """Bring published levels up to date; the tiles that changed."""
        return touched[self._writer.update(fields, weights, published, self._boxes[touched])]

    def _batches(
        self,
        averaging: str,
        published: NDArray[np.uint16],
        changed: NDArray[np.int64],
        power: NDArray[np.int64] | NDArray[np.float64],
        is_simulated: NDArray[np.bool_],
        cells: int,
        attributes: dict[str, Any],
        now_ms: int,
    ) -> list[Batch]:
        """Batches of the tiles that changed; the first tile goes with them where it has cells to tell."""
        accuracy, simulated = self._quality.quality(power, self._log_sd, is_simulated)
        tiles = np.union1d(changed, [0]) if cells else changed
        batches = []
        for t in tiles:
            r, c = self._tiles[t]
            values = published[self._transfers.grid.tile_slices(r, c)]
            count = {"cells_updated": cells} if t == 0 and cells else {}
            batches.append(
                Batch(
                    topic=Topic.FIELDS,
                    key=f"noise/{averaging}/{r}/{c}",
                    time_ms=now_ms,
                    columns={"values": values.flatten()},
                    attributes={
                        "scale": SCALE_DB,
                        "offset": OFFSET_DB,
                        "unit": "dB(A)",
                        "rows": values.shape[0],
                        "columns": values.shape[1],
                        "accuracy": float(accuracy[t]),
                        "simulated": bool(simulated[t]),
                        "propagation": self._transfers.kind,
                        "network_hash": self._network_hash,
                        **attributes,
                        **count,
                    },
                )
            )
        return batches

    def _at_facades(
        self,
        averaging: str,
        weights: NDArray[np.float64],
        power: NDArray[np.int64] | NDArray[np.float64],
        is_simulated: NDArray[np.bool_],
        attributes: dict[str, Any],
        now_ms: int,
    ) -> list[Batch]:
        return self._facades.batches(
            averaging, weights, power, self._log_sd, is_simulated, attributes, now_ms
        )

    def snapshot(self) -> dict[str, Any]:
        """Powers per segment; the receptor fields follow from them."""
        state: dict[str, Any] = {
            "network_hash": self._network_hash,
            "log_sd": self._log_sd.copy(),
            "is_simulated": self._is_simulated.copy(),
            "hours_seen": self._hours_seen,
            "is_started": self._is_started,
            "changed_segments": self.changed_segments,
            "cells_updated": self.cells_updated,
            "ring": self._ring.snapshot(),
            "first_ms": self._first_ms,
            "hour": self._hour,
            "evaluated": self._evaluated,
            "day": None,
        }
        for averaging, field in self._fields.items():
            state[f"received_{averaging}"] = field.received.copy()
            state[f"applied_{averaging}"] = field.applied.copy()
        if self._day is not None:
            state["day"] = {
                "applied": self._day.applied.copy(),
                "is_simulated": self._day.is_simulated.copy(),
                "hours_seen": self._day.hours_seen,
            }
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Take up the powers and rebuild the fields from them, exactly.

        Raises
        ------
        ValueError
            When the state belongs to another network.
        """
        if state["network_hash"] != self._network_hash:
            raise ValueError(
                f"noise: state of network {state['network_hash']}, expected {self._network_hash}; "
                "start without it"
            )
        self._log_sd[:] = state["log_sd"]
        self._is_simulated[:] = state["is_simulated"]
        self._hours_seen = float(state["hours_seen"])
        self._is_started = bool(state["is_started"])
        self.changed_segments = int(state["changed_segments"])
        self.cells_updated = int(state["cells_updated"])
        self._ring.restore(state["ring"])
        self._first_ms, self._hour = int(state["first_ms"]), int(state["hour"])
        self._evaluated = int(state["evaluated"])
        for averaging, field in self._fields.items():
            field.received[:] = state[f"received_{averaging}"]
            field.applied[:] = state[f"applied_{averaging}"]
            field.accumulator[:] = 0
            self._rebuild(field.accumulator, field.applied)
            self._write(field.accumulator[None], np.ones(1), field.published, np.arange(len(self._tiles)))
            self._facades.rebuild(averaging, field.applied, weights=np.ones(1))
        self._day = None
        for name in INDICATORS:
            self._facades.forget(name)
        if state["day"] is not None:
            self._restore_day(state["day"])

    def _restore_day(self, state: dict[str, Any]) -> None:
        self._day = day = _Day(self._n, self._transfers)
        day.applied[:] = state["applied"]
        day.is_simulated[:] = state["is_simulated"]
        day.hours_seen = float(state["hours_seen"])
        everywhere = np.arange(len(self._tiles))
        for period in Period:
            self._rebuild(day.accumulator[period], day.applied[period])
            self._write(day.accumulator[period : period + 1], np.ones(1), day.published[period], everywhere)
            self._facades.rebuild(INDICATORS[period], day.applied[period], weights=np.ones(1))
        weights = self._periods.lden_weights()
        self._write(day.accumulator, weights, day.published[-1], everywhere)
        self._facades.rebuild(INDICATORS[-1], day.applied[-1], weights=weights)

    def _rebuild(self, accumulator: NDArray[np.int64], power: NDArray[np.int64]) -> None:
        patches = self._transfers.patches
        noise_field.apply(accumulator, patches, patches.segment, power[patches.segment])


def _quality_of(transfers: NoiseTransfers) -> TileQuality:
    """Segments whose patch overlaps each tile of the grid, and on how many receptors."""
    box = transfers.patches.box.astype(np.int64)
    boxes = _tile_boxes(transfers)
    tile, segment, cells = [], [], []
    for t, (top, bottom, left, right) in enumerate(boxes):
        height = np.minimum(box[:, 1], bottom) - np.maximum(box[:, 0], top)
        width = np.minimum(box[:, 3], right) - np.maximum(box[:, 2], left)
        shared = np.maximum(height, 0) * np.maximum(width, 0)
        on = np.flatnonzero(shared)
        tile.append(np.full(on.size, t))
        segment.append(transfers.patches.segment[on])
        cells.append(shared[on].astype(np.float64))
    return TileQuality(len(boxes), np.concatenate(tile), np.concatenate(segment), np.concatenate(cells))


def periods_of(city: City) -> Periods:
    """Hours at which day, evening and night begin, from [noise] of city.toml or the Directive's default.

    Raises
    ------
    cities.pack.CityError
        When they are no whole hours in order.
    """
    noise, default = city.settings.get("noise", {}), Periods()
    begins = {}
    for name in ("day_from_h", "evening_from_h", "night_from_h"):
        value = noise.get(name, getattr(default, name))
        if isinstance(value, bool) or not isinstance(value, int):
            raise CityError(f"city.toml [noise] {name}: got {value!r}, expected a whole hour from 0 to 23")
        begins[name] = value
    try:
        return Periods(**begins)
    except ValueError as error:
        raise CityError(f"city.toml [noise] {error}") from error


def _changed(wanted: NDArray[np.int64], applied: NDArray[np.int64]) -> NDArray[np.int32]:
    return np.flatnonzero((wanted != applied).any(axis=1)).astype(np.int32)


def _tile_boxes(transfers: NoiseTransfers) -> NDArray[np.int64]:
    """First row, end row, first column, end column of each tile, (n_tiles, 4)."""
    grid = transfers.grid
    slices = (grid.tile_slices(r, c) for r, c in grid.tiles())
    return np.array([(rows.start, rows.stop, columns.start, columns.stop) for rows, columns in slices])


def _touched_tiles(transfers: NoiseTransfers, segments: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Tiles that a patch of the segments overlaps, (n_tiles,)."""
    rows, columns = (-(-n // TILE) for n in transfers.grid.shape)
    slots = transfers.patches.slot[segments]
    box = transfers.patches.box[slots[slots >= 0]]
    r0, c0 = box[:, 0] // TILE, box[:, 2] // TILE
    r1, c1 = (box[:, 1] - 1) // TILE + 1, (box[:, 3] - 1) // TILE + 1
    corners = np.zeros((rows + 1, columns + 1), dtype=np.int64)  # running sums count the boxes on a tile
    for r, c, sign in ((r0, c0, 1), (r0, c1, -1), (r1, c0, -1), (r1, c1, 1)):
        np.add.at(corners, (r, c), sign)
    return np.asarray(corners.cumsum(axis=0).cumsum(axis=1)[:rows, :columns] > 0).ravel()
