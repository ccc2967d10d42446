"""Read a truth: what really flowed, as a table of windows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cities.pack import City
from kernels.network import Direction, Mode
from streams.observation import time_text

COLUMNS = ("segment_id", "direction", "mode", "start_utc", "minutes", "flow_per_h")
WHOLE = 1e-3  # counts: how far from a whole number rounding may have brought them


class EvaluateError(ValueError):
    """A truth, a recording or an option with which nothing can be evaluated; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Truth:
    """Rows of a truth, windows of equal length; each array (n,).

    Attributes
    ----------
    segment, direction, mode : int64
        Index into the city's network, codes of :class:`kernels.network.Direction` and ``Mode``.
    start_ms : int64
        Beginning of the window.
    flow_per_h : float64
    is_counts : bool
        Every flow is a whole number of passages in its window: counted, not a rate behind the counts.
    n_unknown : int
        Rows left out, for their segment is not in the network.
    first_unknown : str
        The first of those segments.
    n_incomplete : int
        Windows left out, for the file holds only a part of their shorter windows.
    """

    segment: NDArray[np.int64]
    direction: NDArray[np.int64]
    mode: NDArray[np.int64]
    start_ms: NDArray[np.int64]
    flow_per_h: NDArray[np.float64]
    is_counts: bool
    n_unknown: int
    first_unknown: str
    n_incomplete: int

    @property
    def warnings(self) -> list[str]:
        """What was left out."""
        found = []
        if self.n_unknown:
            found.append(
                f"segment_id: {self.n_unknown} rows left out, of segments that are not in the network; the "
                f"first is {self.first_unknown!r}"
            )
        if self.n_incomplete:
            found.append(f"minutes: {self.n_incomplete} windows left out, which are not whole in the file")
        return found


def read_truth(path: Path, city: City, minutes: int) -> Truth:
    """Truth of a city in windows of ``minutes``; shorter windows are averaged.

    Raises
    ------
    EvaluateError
        Naming line, field and value; or when ``minutes`` is no divisor of 60.
    """
    if minutes < 1 or 60 % minutes:
        raise EvaluateError(f"minutes: got {minutes}, expected a divisor of 60")
    table = _read(path)
    _number(path, table, "minutes")
    _number(path, table, "flow_per_h")
    direction = _codes(path, table, "direction", {d.name.lower(): int(d) for d in Direction})
    mode = _codes(path, table, "mode", {m.name.lower(): int(m) for m in Mode})
    segment = _mapped(table["segment_id"], {name: s for s, name in enumerate(city.segment_ids)})
    rows = pd.DataFrame(
        {
            "segment": segment, "direction": direction, "mode": mode, "start_ms": _times(path, table),
            "minutes": table["minutes"], "flow": table["flow_per_h"],
        }
    )  # fmt: skip
    _check_windows(path, table, rows, minutes)
    unknown = segment < 0
    first_unknown = str(table["segment_id"][int(np.argmax(unknown))]) if unknown.any() else ""
    if unknown.all():
        raise EvaluateError(
            f"{path}: segment_id: none of the {unknown.sum()} rows is of the network of {city.name}; "
            f"the first is {first_unknown!r}, expected an id as {city.segment_ids[0]!r}"
        )
    rows = rows[~unknown]
    _check_twice(path, table, rows)
    counted = rows["flow"] * rows["minutes"] / 60.0
    windows, n_incomplete = _averaged(path, rows, city, minutes)
    return Truth(
        segment=windows["segment"].to_numpy(np.int64),
        direction=windows["direction"].to_numpy(np.int64),
        mode=windows["mode"].to_numpy(np.int64),
        start_ms=windows["start_ms"].to_numpy(np.int64),
        flow_per_h=windows["flow"].to_numpy(np.float64),
        is_counts=bool((np.abs(counted - counted.round()) <= WHOLE * np.maximum(counted, 1.0)).all()),
        n_unknown=int(unknown.sum()),
        first_unknown=first_unknown,
        n_incomplete=n_incomplete,
    )


def _read(path: Path) -> pd.DataFrame:
    """Columns of the file as text; texts that repeat as categories."""
    try:
        table = pd.read_csv(path, dtype="str", keep_default_na=False, skipinitialspace=True)
    except FileNotFoundError as error:
        raise EvaluateError(f"{path}: there is no such truth") from error
    except (OSError, EOFError, UnicodeDecodeError, ValueError) as error:  # pandas' own are ValueErrors
        raise EvaluateError(f"{path}: not a readable CSV: {error}") from error
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise EvaluateError(
            f"{path}: column {missing[0]} is missing; expected {', '.join(COLUMNS)}, got "
            f"{', '.join(map(str, table.columns))[:200]}"
        )
    if table.empty:
        raise EvaluateError(f"{path}: holds no rows")
    for name in ("segment_id", "direction", "mode", "start_utc", "minutes"):
        table[name] = table[name].astype("category")
    return table


def _line(table: pd.DataFrame, row: int) -> str:
    """Where a row stands in the file."""
    values = table.iloc[row]
    return f"line {row + 2}: segment {values['segment_id']}, {values['direction']} {values['mode']}"


def _number(path: Path, table: pd.DataFrame, name: str) -> None:
    """Make a column numbers at least 0 (minutes: above 0)."""
    values = pd.to_numeric(table[name].astype("str"), errors="coerce").to_numpy(np.float64)
    bad = ~np.isfinite(values) | (values < 0.0) | ((name == "minutes") & (values == 0.0))
    if bad.any():
        row = int(np.argmax(bad))
        raise EvaluateError(
            f"{path}: {_line(table, row)}: {name}: got {table[name].iloc[row]!r}, expected a number "
            f"{'above' if name == 'minutes' else 'of at least'} 0"
        )
    table[name] = values


def _mapped(column: pd.Series, codes: dict[str, int]) -> NDArray[np.int64]:
    """Code of each text, -1 where it has none, (n,)."""
    of_category = np.array([codes.get(str(c), -1) for c in column.cat.categories], dtype=np.int64)
    return of_category[column.cat.codes.to_numpy()]


def _codes(path: Path, table: pd.DataFrame, name: str, codes: dict[str, int]) -> NDArray[np.int64]:
    found = _mapped(table[name], codes)
    if (found < 0).any():
        row = int(np.argmax(found < 0))
        raise EvaluateError(
            f"{path}: {_line(table, row)}: {name}: got {table[name].iloc[row]!r}, "
            f"expected one of {', '.join(codes)}"
        )
    return found


def _times(path: Path, table: pd.DataFrame) -> NDArray[np.int64]:
    """Beginning of each row [ms]; a time without an offset is UTC, as the column says."""
    column = table["start_utc"]
    times = []
    for text in column.cat.categories:
        try:
            moment = datetime.fromisoformat(str(text))
        except ValueError as error:
            row = int(np.argmax((column == text).to_numpy()))
            raise EvaluateError(
                f"{path}: {_line(table, row)}: start_utc: got {text!r}, expected an ISO 8601 time"
            ) from error
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        times.append(round(aware.timestamp() * 1000))
    return np.array(times, dtype=np.int64)[column.cat.codes.to_numpy()]


def _check_windows(path: Path, table: pd.DataFrame, rows: pd.DataFrame, minutes: int) -> None:
    """Each row lies in one window of ``minutes``."""
    lengths = np.unique(rows["minutes"])
    for length in lengths:
        if length > minutes or abs(minutes / length - round(minutes / length)) > 1e-9:
            raise EvaluateError(
                f"{path}: minutes: got windows of {length:g}, which do not divide --minutes {minutes}; "
                f"try --minutes {lengths.max():g}"
            )
    astray = (rows["start_ms"] % np.rint(rows["minutes"] * 60_000).astype(np.int64) != 0).to_numpy()
    if astray.any():
        row = int(np.argmax(astray))
        raise EvaluateError(
            f"{path}: {_line(table, row)}: start_utc: got {table['start_utc'].iloc[row]}, expected a "
            f"multiple of {rows['minutes'].iloc[row]:g} min after the hour"
        )


def _check_twice(path: Path, table: pd.DataFrame, rows: pd.DataFrame) -> None:
    twice = rows.duplicated(["segment", "direction", "mode", "start_ms"]).to_numpy()
    if twice.any():
        row = int(rows.index[int(np.argmax(twice))])
        raise EvaluateError(
            f"{path}: {_line(table, row)}: start_utc: {table['start_utc'].iloc[row]} occurs twice"
            f"{f', as do {int(twice.sum()) - 1} more' if twice.sum() > 1 else ''}"
        )


def _averaged(path: Path, rows: pd.DataFrame, city: City, minutes: int) -> tuple[pd.DataFrame, int]:
    """Means over windows of ``minutes``, and how many windows the file holds only in part."""
    if (rows["minutes"] == minutes).all():
        return rows, 0
    window_ms = minutes * 60_000
    rows = rows.assign(
        start_ms=rows["start_ms"] // window_ms * window_ms, flow=rows["flow"] * rows["minutes"]
    )
    keys = ["segment", "direction", "mode", "start_ms"]
    sums = rows.groupby(keys, as_index=False)[["minutes", "flow"]].sum()
    over = sums["minutes"] > minutes + 1e-6
    if over.any():
        first = sums[over].iloc[0]
        raise EvaluateError(
            f"{path}: minutes: windows of segment {city.segment_ids[int(first['segment'])]} overlap within "
            f"the {minutes} min from {time_text(int(first['start_ms']))}"
        )
    whole = (sums["minutes"] - minutes).abs() <= 1e-6
    return sums[whole].assign(flow=sums["flow"] / minutes), int((~whole).sum())
