"""Densities as batches: all rows of all modes, rounded and cut into tiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.fusion_answers import SensorFault
from agents.fusion_covariance import edges_of
from cities.pack import City
from kernels.network import Mode
from streams.topics import Batch, Topic

TILE_SEGMENTS = 1_000


class Tiles:
    """Order of all rows of all modes by tile, and the batches of one step."""

    decimals: Mapping[str, int] = {
        "flow_per_h": 1, "speed_kmh": 1, "density_per_km": 2, "lo50": 1, "hi50": 1, "lo90": 1, "hi90": 1,
        "log_sd": 3, "accuracy": 3, "age_s": 0, "sources": 0,
    }  # fmt: skip

    def __init__(self, city: City, modes: Sequence[Mode]) -> None:
        edges = [edges_of(city, mode) for mode in modes]
        segment = np.concatenate([e.segment for e in edges])
        self._order = np.argsort(segment // TILE_SEGMENTS, kind="stable")
        self._segment = segment[self._order]
        self._direction = np.concatenate([e.direction for e in edges])[self._order]
        self._mode = np.repeat(np.array(modes, dtype=np.int8), [e.n_edges for e in edges])[self._order]
        tile = self._segment // TILE_SEGMENTS
        first = np.flatnonzero(np.diff(tile, prepend=-1))
        self._tiles = [
            (int(tile[a]), slice(int(a), int(b)))
            for a, b in zip(first, np.append(first[1:], tile.size), strict=True)
        ]

    def batches(
        self,
        now_ms: int,
        columns: Mapping[str, Sequence[NDArray[Any]]],
        simulated: NDArray[np.bool_],
        attributes: Mapping[str, Any],
        faults: Sequence[SensorFault],
    ) -> list[Batch]:
        """Round to the published decimals and cut into tiles, each with the faults of its counters."""
        table: dict[str, NDArray[Any]] = {
            "segment": self._segment, "direction": self._direction, "mode": self._mode,
        }  # fmt: skip
        for name, parts in columns.items():
            values = np.round(np.concatenate(parts), self.decimals[name])[self._order]
            table[name] = values.astype(np.int16 if name == "sources" else np.float32)
        table["simulated"] = simulated[self._order]
        of_tile: dict[int, list[list[Any]]] = {}
        for f in faults:
            of_tile.setdefault(f.segment // TILE_SEGMENTS, []).append(
                [f.sensor, f.mode.name.lower(), f.segment, f.fault, f.since_ms]
            )
        return [
            Batch(
                topic=Topic.DENSITIES,
                key=f"t{tile}",
                time_ms=now_ms,
                columns={name: values[at] for name, values in table.items()},
                attributes={**attributes, "faults": of_tile.get(tile, [])},
            )
            for tile, at in self._tiles
        ]
