"""Levels along streets: receptors of the published field tiles, and the sound power of the streets."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from cities.pack import City
from kernels.fixedpoint import POWER_QUANTUM_PW
from kernels.receptors import TILE
from streams.topics import Batch

SAMPLE_M = 10.0
BESIDE_M = 12.0  # receptors beside the street, where people are; on its axis there are none
UNKNOWN = 65535
WITHIN_DB = 2.0
DB_PER_NEPER = 10.0 / math.log(10.0)
AVERAGINGS = {"now": "", "1h": "_1h"}


class PowerWatch:
    """A-weighted sound power per metre of every segment, now and over the last hour."""

    def __init__(self, n_segments: int) -> None:
        self.state: dict[str, Any] = {
            "power": {averaging: np.zeros(n_segments) for averaging in AVERAGINGS},
            "log_sd": np.full(n_segments, np.nan),
            "hours": 0.0,
        }

    def receive(self, batch: Batch) -> None:
        """Take in a tile of emissions."""
        columns = batch.columns
        for averaging, suffix in AVERAGINGS.items():
            groups = [columns[f"power{group}{suffix}"] for group in range(4)]
            self.state["power"][averaging][columns["segment"]] = np.sum(groups, axis=0)
        self.state["log_sd"][columns["segment"]] = columns["log_sd"]
        self.state["hours"] = float(batch.attributes["hours_seen"])

    def levels(self, segments: NDArray[np.int32], averaging: str) -> NDArray[np.float64]:
        """Level of the sound power [dB(A) re 1 pW/m], NaN where there is none."""
        power = self.state["power"][averaging][segments] * POWER_QUANTUM_PW
        out = np.full(power.size, np.nan)
        np.log10(power, out=out, where=power > 0.0)
        return 10.0 * out

    def accuracies(self, segments: NDArray[np.int32]) -> NDArray[np.float64]:
        """Probability that the level is within 2 dB, from the uncertainty of the flows alone."""
        sd_db = np.maximum(DB_PER_NEPER * self.state["log_sd"][segments], 1e-6)
        return np.asarray(erf(WITHIN_DB / sd_db / math.sqrt(2.0)))


class StreetWatch:
    """Latest values of one quantity at the receptors beside the streets of some classes.

    Attributes
    ----------
    streets : list of str
        Name of each street, or the segment's identifier where it has none.
    segments : (n,) int32
        Watched segments, sorted by street.
    """

    def __init__(self, city: City, road_classes: tuple[int, ...], quantity: str) -> None:
        self._quantity = quantity
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
        if quantity != self._quantity:
            return
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
    middle = np.stack([np.interp(at, along, line[:, 0]), np.interp(at, along, line[:, 1])], axis=1)
    heading = np.gradient(middle, axis=0)
    across = np.stack([-heading[:, 1], heading[:, 0]], axis=1)
    across *= BESIDE_M / np.maximum(np.hypot(*across.T), 1e-9)[:, None]
    xy = np.concatenate([middle + across, middle - across])
    cells = np.unique(city.grid.cell_of(xy))
    return cells[cells >= 0]
