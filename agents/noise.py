"""Noise: the level at the receptors, followed as the sound power of the roads changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cities.pack import City
from kernels import noise_field
from kernels.cnossos import N_GROUPS
from kernels.fixedpoint import POWER_MAX
from kernels.receptors import TILE
from kernels.transfer import NoiseTransfers
from streams.topics import Batch, Topic

SCALE_DB = 0.01
OFFSET_DB = -20.0
UNKNOWN = 65535
WITHIN_DB = 2.0  # accuracy is the probability of being within it
MODEL_SD_DB = 2.0  # of emission (fleet) and propagation (flat open ground); stated, not measured
DB_PER_NEPER = 10.0 / math.log(10.0)

AVERAGINGS = ("now", "1h")
_COLUMNS = {
    "now": tuple(f"power{g}" for g in range(N_GROUPS)),
    "1h": tuple(f"power{g}_1h" for g in range(N_GROUPS)),
}


class _Field:
    """One averaging time: the powers received and applied, and the field that holds the applied ones."""

    def __init__(self, n_segments: int, transfers: NoiseTransfers) -> None:
        self.received = np.zeros((n_segments, N_GROUPS), dtype=np.int64)
        self.applied = np.zeros((n_segments, N_GROUPS), dtype=np.int64)
        self.accumulator = noise_field.empty_field(transfers.patches)
        self.published = np.full(transfers.grid.shape, UNKNOWN, dtype=np.uint16)


class NoiseAgent:
    """A-weighted level over flat open ground, now and over the last hour.

    Consumes: emissions. Produces: fields ``noise/now/r/c`` and ``noise/1h/r/c``, where a value changed.
    Keeps: the power per metre of every segment, and the integer field that follows from it.
    Guarantees: the field after any history is that of the present powers, bit for bit; a step touches
    only the receptors of the segments that changed.
    """

    name = "noise"
    consumes: tuple[Topic, ...] = (Topic.EMISSIONS,)
    produces: tuple[Topic, ...] = (Topic.FIELDS,)

    def __init__(self, city: City, transfers: NoiseTransfers) -> None:
        self._transfers = transfers
        self._network_hash = city.network_hash
        n = city.network.n_segments
        self._fields = {averaging: _Field(n, transfers) for averaging in AVERAGINGS}
        self._log_sd = np.zeros(n, dtype=np.float32)
        self._is_simulated = np.zeros(n, dtype=np.bool_)
        self._hours_seen = 0.0
        self._tile_segments = _segments_of_tiles(transfers)
        self.changed_segments = 0  # of all steps so far, `now` and 1 h added up
        self.cells_updated = 0

    def receive(self, batch: Batch) -> None:
        """Take in a tile of emissions; the newest power of a segment counts."""
        if batch.topic is not Topic.EMISSIONS:
            return
        columns = batch.columns
        segment = columns["segment"]
        for averaging, field in self._fields.items():
            power = np.stack([columns[name] for name in _COLUMNS[averaging]], axis=1)
            if power.size and not 0 <= power.min() <= power.max() <= POWER_MAX:
                raise ValueError(
                    f"emissions {batch.key}: {_COLUMNS[averaging][0]}: got {int(power.min())} to "
                    f"{int(power.max())}, allowed 0 to {POWER_MAX}"
                )
            field.received[segment] = power
        self._log_sd[segment] = columns["log_sd"]
        self._is_simulated[segment] = columns["simulated"]
        self._hours_seen = float(batch.attributes.get("hours_seen", 0.0))

    def close(self, now_ms: int) -> Sequence[Batch]:
        """Apply the differences of the step and publish the tiles in which a value changed."""
        batches: list[Batch] = []
        for averaging, field in self._fields.items():
            segments = np.flatnonzero((field.received != field.applied).any(axis=1)).astype(np.int32)
            if segments.size:
                batches.extend(self._update(averaging, field, segments, now_ms))
        return batches

    def _update(self, averaging: str, field: _Field, segments: NDArray[np.int32], now_ms: int) -> list[Batch]:
        patches, grid = self._transfers.patches, self._transfers.grid
        delta = field.received[segments] - field.applied[segments]
        cells = noise_field.apply(field.accumulator, patches, segments, delta)
        field.applied[segments] = field.received[segments]
        self.changed_segments += int(segments.size)
        self.cells_updated += cells
        touched = _touched_tiles(self._transfers, segments)
        batches = []
        for r, c in grid.tiles():
            is_count_carrier = (r, c) == (0, 0) and cells > 0
            if not touched[r, c] and not is_count_carrier:
                continue
            part = grid.tile_slices(r, c)
            values = stored_levels(field.accumulator[part])
            if is_count_carrier or not np.array_equal(values, field.published[part]):
                field.published[part] = values
                batches.append(self._batch(averaging, field, r, c, values, cells, now_ms))
        return batches

    def _batch(
        self,
        averaging: str,
        field: _Field,
        r: int,
        c: int,
        values: NDArray[np.uint16],
        cells: int,
        now_ms: int,
    ) -> Batch:
        accuracy, is_simulated = self._quality(field, r, c)
        attributes: dict[str, Any] = {
            "scale": SCALE_DB,
            "offset": OFFSET_DB,
            "unit": "dB(A)",
            "rows": values.shape[0],
            "columns": values.shape[1],
            "accuracy": accuracy,
            "simulated": is_simulated,
            "hours_seen": self._hours_seen,
            "network_hash": self._network_hash,
        }
        if (r, c) == (0, 0):
            attributes["cells_updated"] = cells
        return Batch(
            topic=Topic.FIELDS,
            key=f"noise/{averaging}/{r}/{c}",
            time_ms=now_ms,
            columns={"values": values.ravel()},
            attributes=attributes,
        )

    def _quality(self, field: _Field, r: int, c: int) -> tuple[float, bool]:
        """Probability of being within 2 dB, and whether a simulated input is heard, for one tile."""
        segment, cells = self._tile_segments[(r, c)]
        weight = field.applied[segment].sum(axis=1) * cells.astype(np.float64)
        loud = weight > 0.0
        if not loud.any():
            return math.nan, False
        segment, weight = segment[loud], weight[loud]
        log_sd = float((weight * self._log_sd[segment]).sum() / weight.sum())
        return round(level_accuracy(log_sd), 3), bool(self._is_simulated[segment].any())

    def snapshot(self) -> dict[str, Any]:
        """Powers per segment; the receptor fields follow from them."""
        state: dict[str, Any] = {
            "network_hash": self._network_hash,
            "log_sd": self._log_sd.copy(),
            "is_simulated": self._is_simulated.copy(),
            "hours_seen": self._hours_seen,
            "changed_segments": self.changed_segments,
            "cells_updated": self.cells_updated,
        }
        for averaging, field in self._fields.items():
            state[f"received_{averaging}"] = field.received.copy()
            state[f"applied_{averaging}"] = field.applied.copy()
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
        self.changed_segments = int(state["changed_segments"])
        self.cells_updated = int(state["cells_updated"])
        patches = self._transfers.patches
        for averaging, field in self._fields.items():
            field.received[:] = state[f"received_{averaging}"]
            field.applied[:] = state[f"applied_{averaging}"]
            field.accumulator[:] = 0
            noise_field.apply(field.accumulator, patches, patches.segment, field.applied[patches.segment])
            field.published[:] = stored_levels(field.accumulator)


def stored_levels(accumulator: NDArray[np.int64]) -> NDArray[np.uint16]:
    """Levels as they are published: 0.01 dB from -20 dB, 65535 where nothing is heard."""
    return noise_field.stored_levels(accumulator, offset_db=OFFSET_DB, scale_db=SCALE_DB, unknown=UNKNOWN)


def level_accuracy(log_sd: float) -> float:
    """Probability that the true level lies within 2 dB, from the sd of the logarithm of the powers.

    To first order a relative error e of the energy is 4.34 e dB; the model's own error is added in
    quadrature. The powers of a tile are taken as wrong together, which is the cautious side.
    """
    sd_db = math.hypot(DB_PER_NEPER * log_sd, MODEL_SD_DB)
    return math.erf(WITHIN_DB / (sd_db * math.sqrt(2.0)))


def _touched_tiles(transfers: NoiseTransfers, segments: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Tiles that a patch of the segments overlaps, (tile rows, tile columns)."""
    rows, columns = (-(-n // TILE) for n in transfers.grid.shape)
    slots = transfers.patches.slot[segments]
    box = transfers.patches.box[slots[slots >= 0]]
    r0, c0 = box[:, 0] // TILE, box[:, 2] // TILE
    r1, c1 = (box[:, 1] - 1) // TILE + 1, (box[:, 3] - 1) // TILE + 1
    corners = np.zeros((rows + 1, columns + 1), dtype=np.int64)  # running sums count the boxes on a tile
    for r, c, sign in ((r0, c0, 1), (r0, c1, -1), (r1, c0, -1), (r1, c1, 1)):
        np.add.at(corners, (r, c), sign)
    return np.asarray(corners.cumsum(axis=0).cumsum(axis=1)[:rows, :columns] > 0)


def _segments_of_tiles(
    transfers: NoiseTransfers,
) -> dict[tuple[int, int], tuple[NDArray[np.int32], NDArray[np.int64]]]:
    """Segments whose patch overlaps each tile, and on how many receptors."""
    box = transfers.patches.box.astype(np.int64)
    segments = {}
    for r, c in transfers.grid.tiles():
        rows, columns = transfers.grid.tile_slices(r, c)
        height = np.minimum(box[:, 1], rows.stop) - np.maximum(box[:, 0], rows.start)
        width = np.minimum(box[:, 3], columns.stop) - np.maximum(box[:, 2], columns.start)
        cells = np.maximum(height, 0) * np.maximum(width, 0)
        on = np.flatnonzero(cells)
        segments[(r, c)] = (transfers.patches.segment[on], cells[on])
    return segments
