"""Noise in front of the facades of homes: the fields of the noise agent, at receptors of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.noise_quality import TileQuality
from kernels import facade_field
from kernels.facades import most_exposed
from kernels.noise_field import LevelWriter
from kernels.receptors import ReceptorGrid
from kernels.transfer import NoiseTransfers
from streams.topics import Batch, Topic

QUANTITY = "facades"
SUMS = ("now", "1h", "lday", "levening", "lnight")
"""Averagings that have a field of their own."""
MIXED = {"lden": ("lday", "levening", "lnight")}
"""Averagings whose energy is a weighted sum of those of others."""


class FacadeNoise:
    """Fields at facades, kept in step with those on the grid; nothing at all in a city without facades.

    Parameters
    ----------
    transfers : NoiseTransfers
    n_segments : int
    writer : LevelWriter
        Of levels as uint16.
    unknown : int
        What it writes where nothing is heard.
    attributes : mapping
        Of every batch.
    """

    def __init__(
        self,
        transfers: NoiseTransfers,
        n_segments: int,
        writer: LevelWriter,
        unknown: int,
        attributes: Mapping[str, Any],
    ) -> None:
        grid: ReceptorGrid = transfers.grid
        self._tiles = grid.tiles()
        self._facades = transfers.facades or facade_field.no_facades(n_segments, len(self._tiles))
        receptors = self._facades.receptors
        self._building = receptors.building[receptors.home]
        start = receptors.tile_start
        self._lived_in = np.flatnonzero(np.diff(start))  # tiles
        self._boxes = np.array([(0, 1, start[t], start[t + 1]) for t in self._lived_in]).reshape(-1, 4)
        self._writer, self._unknown, self._attributes = writer, unknown, attributes
        self._sums = np.zeros((len(SUMS), 1, receptors.n_receptors), dtype=np.int64)
        self._published = {
            name: np.full((1, receptors.n_receptors), unknown, dtype=np.uint16) for name in (*SUMS, *MIXED)
        }
        self._quality = TileQuality(len(self._tiles), *facade_field.segments_by_tile(self._facades))

    def apply(self, averaging: str, segments: NDArray[np.int32], delta_power: NDArray[np.int64]) -> None:
        """Add changes of power to a field; ``delta_power`` is (k, 4) in quanta."""
        if self._building.size:
            field = self._sums[SUMS.index(averaging), 0]
            facade_field.apply(field, self._facades, segments, delta_power)

    def rebuild(self, averaging: str, power: NDArray[np.int64], *, weights: NDArray[np.float64]) -> None:
        """Make a field anew from the powers of all segments, (n_segments, 4), and note it as published.

        ``weights`` are those of the parts of a mixed averaging, of which nothing but the levels is made.
        """
        if averaging in SUMS:
            self._sums[SUMS.index(averaging)] = 0
            self.apply(averaging, np.arange(power.shape[0], dtype=np.int32), power)
        self._write(averaging, weights)

    def forget(self, averaging: str) -> bool:
        """Empty a field and its levels; whether there was any."""
        was_known = bool((self._published[averaging] != self._unknown).any())
        if averaging in SUMS:
            self._sums[SUMS.index(averaging)] = 0
        self._published[averaging][:] = self._unknown
        return was_known

    def batches(
        self,
        averaging: str,
        weights: NDArray[np.float64],
        power: NDArray[np.int64] | NDArray[np.float64],
        log_sd: NDArray[np.float32],
        is_simulated: NDArray[np.bool_],
        attributes: Mapping[str, Any],
        now_ms: int,
    ) -> list[Batch]:
        """Bring the levels up to date; batches of the tiles in which one changed.

        Parameters
        ----------
        averaging : str
        weights : (k,) float64
            Of the fields whose energies add up: one, or those of a mixed averaging.
        power : (n_segments, 4)
        log_sd, is_simulated : (n_segments,)
        attributes : mapping
            Beside those of every batch.
        now_ms : int
        """
        changed = self._write(averaging, weights)
        return self._tell(averaging, changed, power, log_sd, is_simulated, attributes, now_ms)

    def unknown_batches(
        self, averaging: str, is_simulated: NDArray[np.bool_], attributes: Mapping[str, Any], now_ms: int
    ) -> list[Batch]:
        """Forget a field, and say so on all tiles if it was known."""
        if not self.forget(averaging):
            return []
        silent = np.zeros((is_simulated.size, 1), dtype=np.int64)
        log_sd = np.zeros(is_simulated.size, dtype=np.float32)
        everywhere = np.arange(self._lived_in.size)
        return self._tell(averaging, everywhere, silent, log_sd, is_simulated, attributes, now_ms)

    def _write(self, averaging: str, weights: NDArray[np.float64]) -> NDArray[np.int64]:
        """Bring levels up to date; which of the tiles that are lived in changed."""
        parts = [SUMS.index(name) for name in MIXED.get(averaging, (averaging,))]
        if not self._lived_in.size:
            return np.empty(0, dtype=np.int64)
        fields = np.ascontiguousarray(self._sums[parts])
        return np.flatnonzero(self._writer.update(fields, weights, self._published[averaging], self._boxes))

    def _columns(self, averaging: str, first: int, end: int) -> dict[str, NDArray[Any]]:
        """Levels at some receptors, and which are the loudest of their buildings."""
        values = self._published[averaging][0, first:end].copy()
        home = self._facades.receptors.home[first:end]
        level = np.where(values == self._unknown, np.nan, values)
        _, loudest = most_exposed(level, home - home[0], int(home[-1] - home[0]) + 1)
        is_most_exposed = np.zeros(values.size, dtype=np.bool_)
        is_most_exposed[loudest[loudest >= 0]] = True
        return {
            "building": self._building[first:end].copy(),
            "values": values,
            "is_most_exposed": is_most_exposed,
        }

    def _tell(
        self,
        averaging: str,
        changed: NDArray[np.int64],
        power: NDArray[np.int64] | NDArray[np.float64],
        log_sd: NDArray[np.float32],
        is_simulated: NDArray[np.bool_],
        attributes: Mapping[str, Any],
        now_ms: int,
    ) -> list[Batch]:
        if not changed.size:
            return []
        accuracy, simulated = self._quality.quality(power, log_sd, is_simulated)
        batches = []
        for k in changed:
            tile, first, end = self._lived_in[k], self._boxes[k, 2], self._boxes[k, 3]
            row, column = self._tiles[tile]
            batches.append(
                Batch(
                    topic=Topic.FIELDS,
                    key=f"{QUANTITY}/{averaging}/{row}/{column}",
                    time_ms=now_ms,
                    columns=self._columns(averaging, int(first), int(end)),
                    attributes={
                        **self._attributes,
                        "accuracy": float(accuracy[tile]),
                        "simulated": bool(simulated[tile]),
                        **attributes,
                    },
                )
            )
        return batches
