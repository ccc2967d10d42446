"""The latest receptor fields, put together from their tiles."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dashboards.noise_day import DayHours
from dashboards.raster import FieldScene
from kernels.receptors import ReceptorGrid
from streams.topics import Batch

UNKNOWN_STORED = 65535
FieldName = tuple[str, str]
"""Quantity and averaging."""

PRESENT: tuple[FieldName, ...] = tuple(
    (q, a) for q in ("no2", "pm10", "pm25", "noise") for a in ("now", "1h")
)
ROLLING: tuple[FieldName, ...] = tuple(("noise", a) for a in ("lday", "levening", "lnight", "lden"))
"""Indicators of the last 24 hours: there is none before these have been seen."""


@dataclass(slots=True)
class _Field:
    """Values (n_rows, n_columns), NaN where unknown; accuracy, and whether a value is known, by tile."""

    value: NDArray[np.float32]
    accuracy: NDArray[np.float32]
    is_known: NDArray[np.bool_]
    hours_seen: float = math.nan


class Fields:
    """Latest fields of all quantities and averagings.

    Keeps: the fields of :data:`PRESENT`, and those of :data:`ROLLING` from when they are first seen, since a
    field of 3 million receptors takes 12 MB. Others, which no page shows, are passed over.
    """

    def __init__(self, grid: ReceptorGrid) -> None:
        self._grid = grid
        self._tiles_shape = (1 + grid.tiles()[-1][0], 1 + grid.tiles()[-1][1])
        self._fields = {name: self._new() for name in PRESENT}
        self.day_hours = DayHours()
        self.propagation = ""  # what stood in the way of the sound

    def _new(self) -> _Field:
        return _Field(
            value=np.full(self._grid.shape, np.nan, np.float32),
            accuracy=np.full(self._tiles_shape, np.nan, np.float32),
            is_known=np.zeros(self._tiles_shape, dtype=np.bool_),
        )

    def receive(self, batch: Batch) -> int:
        """Take in a tile; the number of receptor cells that the step touched, where the tile tells it."""
        quantity, averaging, row, column = batch.key.split("/")
        name, tile, a = (quantity, averaging), (int(row), int(column)), batch.attributes
        if name in ROLLING and name not in self._fields:
            self._fields[name] = self._new()
        field = self._fields.get(name)
        if field is not None:
            stored = batch.columns["values"].reshape(int(a["rows"]), int(a["columns"]))
            is_unknown = stored == UNKNOWN_STORED
            value = np.float32(a["offset"]) + np.float32(a["scale"]) * stored.astype(np.float32)
            value[is_unknown] = np.nan
            field.value[self._grid.tile_slices(*tile)] = value
            field.accuracy[tile] = a.get("accuracy", math.nan)
            field.is_known[tile] = not is_unknown.all()
            field.hours_seen = float(a.get("hours_seen", math.nan))
            self.propagation = str(a.get("propagation", self.propagation))
            if "hours_seen_24h" in a:
                self.day_hours = DayHours(float(a["hours_seen_24h"]), float(a["hours_needed_24h"]))
        return int(a.get("cells_updated", 0))

    def forget_rolling(self) -> None:
        """Make the indicators of the last 24 hours unknown."""
        for name in ROLLING:
            self._fields.pop(name, None)

    def value(self, quantity: str, averaging: str) -> NDArray[np.float32]:
        """Values of a field, (n_rows, n_columns), NaN where unknown; not a copy."""
        return self._field(quantity, averaging).value

    def scene(self, quantity: str, averaging: str) -> FieldScene:
        """Copy of a field, to be drawn."""
        field = self._field(quantity, averaging)
        return FieldScene(field.value.copy(), field.accuracy.copy())

    def is_known(self, quantity: str, averaging: str) -> bool:
        """Whether a field has a value anywhere."""
        field = self._fields.get((quantity, averaging))
        return field is not None and bool(field.is_known.any())

    def hours_seen(self, quantity: str, averaging: str) -> float:
        """Hours that a field rests on so far; NaN before its first value."""
        field = self._fields.get((quantity, averaging))
        return math.nan if field is None else field.hours_seen

    def _field(self, quantity: str, averaging: str) -> _Field:
        return self._fields.get((quantity, averaging)) or self._new()
