"""Windows of what fusion published: means of its steps, each at its highest revision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.network import Mode
from kernels.prior import OFFSET_PER_H
from kernels.scores import T6_75, UNIT_VARIANCE
from streams.clock import LATE_WINDOW_MS
from streams.topics import Batch

VALUES = ("flow_per_h", "lo50", "hi50", "lo90", "hi90", "log_sd", "accuracy")
SETTLED_MS = LATE_WINDOW_MS + 15 * 60_000  # after this no late reading opens a step again
LEAST_SHARE = 0.5  # of its steps that a window needs


@dataclass(frozen=True, slots=True)
class Published:
    """Windows of one mode; rows are its directed edges in order of (segment, direction).

    The steps of a window err together, so quantiles and deviations are the means of those of its steps.

    Attributes
    ----------
    mode : Mode
    segment, direction : (n_edges,) int64
    start_ms : (n_windows,) int64
    flow_per_h, lo50, hi50, lo90, hi90, log_sd, accuracy : (n_windows, n_edges) float64
        NaN where nothing was published.
    log_mean : (n_windows, n_edges) float64
        Centre of x = log(flow + 5), from the published quartiles.
    """

    mode: Mode
    segment: NDArray[np.int64]
    direction: NDArray[np.int64]
    start_ms: NDArray[np.int64]
    flow_per_h: NDArray[np.float64]
    lo50: NDArray[np.float64]
    hi50: NDArray[np.float64]
    lo90: NDArray[np.float64]
    hi90: NDArray[np.float64]
    log_sd: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    log_mean: NDArray[np.float64]


class WindowMeans:
    """Takes batches of densities and keeps their means over windows.

    Parameters
    ----------
    minutes : int
        Length of a window, a divisor of 60; windows begin at the hour.
    """

    def __init__(self, minutes: int) -> None:
        self._window_ms = minutes * 60_000
        self._rows: dict[str, tuple[NDArray[Any], ...]] = {}
        self._open: dict[int, dict[tuple[str, int], tuple[int, NDArray[np.float32]]]] = {}
        self._settled: dict[int, dict[str, NDArray[np.float32]]] = {}
        self.attributes: Mapping[str, Any] = {}
        self.n_revised = 0

    def take(self, batch: Batch) -> None:
        """Keep the values of a step of a tile, unless a higher revision of it is known."""
        self.attributes = batch.attributes
        columns = batch.columns
        self._rows.setdefault(batch.key, tuple(columns[n] for n in ("mode", "segment", "direction")))
        start = (batch.time_ms - 1) // self._window_ms * self._window_ms
        if start in self._settled:
            raise RuntimeError(
                f"densities: {batch.key} at {batch.time_ms} was published after it was settled"
            )
        kept = self._open.setdefault(start, {})
        known = kept.get((batch.key, batch.time_ms))
        self.n_revised += known is not None
        if known is None or batch.revision >= known[0]:
            values = np.stack([columns[name] for name in VALUES]).astype(np.float32)
            kept[batch.key, batch.time_ms] = batch.revision, values

    def settle(self, now_ms: int) -> None:
        """Average the windows in which nothing will change any more."""
        for start in [s for s in self._open if s + self._window_ms + SETTLED_MS < now_ms]:
            self._average(start)

    def _average(self, start: int) -> None:
        steps = self._open.pop(start)
        by_key: dict[str, list[NDArray[np.float32]]] = {}
        for (key, _), (_, values) in sorted(steps.items(), key=lambda item: item[0]):
            by_key.setdefault(key, []).append(values)
        step_ms = int(self.attributes.get("minutes", 1)) * 60_000
        if max(len(v) for v in by_key.values()) * step_ms >= LEAST_SHARE * self._window_ms:
            self._settled[start] = {
                key: np.stack(values).mean(axis=0, dtype=np.float64).astype(np.float32)
                for key, values in by_key.items()
            }

    def finish(self) -> dict[Mode, Published]:
        """Windows of all modes; one with less than half of its steps is left out."""
        for start in sorted(self._open):
            self._average(start)
        keys, starts = sorted(self._rows), sorted(self._settled)
        if not keys or not starts:
            return {}
        mode, segment, direction = (
            np.concatenate([self._rows[key][k] for key in keys]).astype(np.int64) for k in range(3)
        )
        order = np.lexsort((direction, segment, mode))
        table = np.full((len(VALUES), len(starts), order.size), np.nan)
        place = np.cumsum([0] + [self._rows[key][0].size for key in keys])
        for w, start in enumerate(starts):
            for k, key in enumerate(keys):
                if key in self._settled[start]:
                    table[:, w, place[k] : place[k + 1]] = self._settled[start][key]
        found = {}
        for code in np.unique(mode):
            rows = order[mode[order] == code]
            values = dict(zip(VALUES, table[:, :, rows], strict=True))
            found[Mode(int(code))] = Published(
                mode=Mode(int(code)),
                segment=segment[rows],
                direction=direction[rows],
                start_ms=np.array(starts, dtype=np.int64),
                log_mean=_centre(values["lo50"], values["hi50"], values["log_sd"]),
                **values,
            )
        return found


def _centre(
    lo50: NDArray[np.float64], hi50: NDArray[np.float64], log_sd: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Centre of x between its quartiles; where the lower one is cut at 0, from the upper one alone."""
    upper = np.log(hi50 + OFFSET_PER_H)
    middle = 0.5 * (np.log(lo50 + OFFSET_PER_H) + upper)
    return np.asarray(np.where(lo50 > 0.0, middle, upper - T6_75 * UNIT_VARIANCE * log_sd))
