"""Levels along streets, read from the published field tiles."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cities.pack import City
from kernels.receptors import TILE
from streams.topics import Batch

SAMPLE_M = 10.0
UNKNOWN = 65535


class StreetWatch:
    """Latest field values at the receptors along the streets of some classes.

    Attributes
    ----------
    streets : list of str
        Name of each street, or the segment's identifier where it has none.
    segments : (n,) int32
        Watched segments, sorted by street.
    """

    def __init__(self, city: City, road_classes: tuple[int, ...]) -> None:
        watched = np.flatnonzero(np.isin(city.road_class, road_classes))
        names = [city.segment_names[s] or city.segment_ids[s] for s in watched]
        cells, starts, segments, labels = [], [0], [], []
        for order in sorted(range(len(watched)), key=lambda k: (names[k], int(watched[k]))):
            segment = int(watched[order])
            inside = _cells_along(city, segment)
            if inside.size:
                cells.append(inside)
                starts.append(starts[-1] + inside.size)
                segments.append(segment)
                labels.append(names[order])
        self.segments = np.array(segments, dtype=np.int32)
        self.streets = sorted(set(labels))
        self._street_of = np.searchsorted(self.streets, labels) if labels else np.zeros(0, dtype=np.int64)
        self._cells = np.concatenate(cells) if cells else np.zeros(0, dtype=np.int64)
        self._starts = np.array(starts[:-1], dtype=np.int64)
        self._counts = np.diff(starts)
        row, column = np.divmod(self._cells, city.grid.n_columns)
        self._tile = np.stack([row // TILE, column // TILE], axis=1)
        self._within = row % TILE, column % TILE
        self._members: dict[tuple[int, int], NDArray[np.int64]] = {}
        for tile in {(int(r), int(c)) for r, c in self._tile}:
            self._members[tile] = np.flatnonzero((self._tile == tile).all(axis=1))
        self.state: dict[str, Any] = {"values": {}, "accuracy": {}, "hours": {}}

    def receive(self, batch: Batch) -> None:
        """Take in a tile of a field."""
        quantity, averaging, tile_row, tile_column = batch.key.split("/")
        members = self._members.get((int(tile_row), int(tile_column)))
        if members is None:
            return
        name = f"{quantity}/{averaging}"
        at = batch.attributes
        stored = batch.columns["values"].reshape(at["rows"], at["columns"])
        picked = stored[self._within[0][members], self._within[1][members]]
        values = np.where(picked == UNKNOWN, np.nan, at["offset"] + at["scale"] * picked)
        self._array("values", name)[members] = values
        self._array("accuracy", name)[members] = at["accuracy"]
        self.state["hours"][name] = float(at.get("hours_seen", 0.0))

    def hours_seen(self, quantity: str, averaging: str) -> float:
        """Hours that an hourly value has been seen for, 0 before the first."""
        return float(self.state["hours"].get(f"{quantity}/{averaging}", 0.0))

    def levels(self, quantity: str, averaging: str) -> NDArray[np.float64]:
        """Mean value along each watched segment, NaN where unknown; noise as the energy mean."""
        values = self.state["values"].get(f"{quantity}/{averaging}")
        if values is None or not self.segments.size:
            return np.full(self.segments.size, np.nan)
        if quantity == "noise":
            energy = np.add.reduceat(np.power(10.0, values / 10.0), self._starts) / self._counts
            return np.asarray(10.0 * np.log10(energy))
        return np.asarray(np.add.reduceat(values, self._starts) / self._counts)

    def accuracies(self, quantity: str, averaging: str) -> NDArray[np.float64]:
        """Accuracy at each watched segment."""
        accuracy = self.state["accuracy"].get(f"{quantity}/{averaging}")
        if accuracy is None or not self.segments.size:
            return np.full(self.segments.size, np.nan)
        return np.asarray(np.add.reduceat(accuracy, self._starts) / self._counts)

    def worst(self, level: NDArray[np.float64]) -> list[tuple[str, int]]:
        """Street and position (in :attr:`segments`) of the highest level of each street."""
        rank = np.where(np.isnan(level), -np.inf, level)
        order = np.lexsort((self.segments, -rank, self._street_of))
        first = np.unique(self._street_of[order], return_index=True)[1]
        return [(self.streets[int(self._street_of[order[k]])], int(order[k])) for k in first]

    def _array(self, kind: str, name: str) -> NDArray[np.float64]:
        held: dict[str, NDArray[np.float64]] = self.state[kind]
        if name not in held:
            held[name] = np.full(self._cells.size, np.nan)
        return held[name]


def _cells_along(city: City, segment: int) -> NDArray[np.int64]:
    line = city.network.polyline(segment)
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    at = np.linspace(0.0, along[-1], max(2, int(along[-1] / SAMPLE_M) + 1))
    xy = np.stack([np.interp(at, along, line[:, 0]), np.interp(at, along, line[:, 1])], axis=1)
    cells = np.unique(city.grid.cell_of(xy))
    return cells[cells >= 0]
