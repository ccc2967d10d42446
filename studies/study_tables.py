"""Tables that a study is given: CSV by columns, with the line and column of whatever is wrong."""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


class StudyError(ValueError):
    """A table or setting with which nothing can be calculated; the message says where, what and why."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table.

    Attributes
    ----------
    path : Path
    line : int
        In the file, from 1.
    values : dict
        Text of each column, without spaces around it; "" where the line has none.
    """

    path: Path
    line: int
    values: dict[str, str]

    def error(self, column: str, expected: str) -> StudyError:
        """What is wrong with a value of this line."""
        return StudyError(
            f"{self.path}: line {self.line}: {column}: got {self.values[column]!r}, expected {expected}"
        )

    def text(self, column: str) -> str:
        if not self.values[column]:
            raise self.error(column, "a text")
        return self.values[column]

    def number(
        self, column: str, least: float, most: float = math.inf, *, is_above: bool = False, what: str = ""
    ) -> float:
        """Finite number from ``least`` (or above it) to ``most``."""
        try:
            value = float(self.values[column])
        except ValueError:
            value = math.nan
        if not (least <= value <= most) or (is_above and value == least) or math.isinf(value):
            limits = f"above {least:g}" if is_above else f"of at least {least:g}"
            if math.isinf(least):
                limits = ""
            elif not math.isinf(most):
                limits += f" and at most {most:g}"
            raise self.error(column, " ".join(f"a number {limits} {what}".split()))
        return value


def read_rows(
    path: Path, required: Sequence[str], optional: Sequence[str] = ()
) -> tuple[Iterator[Row], list[str]]:
    """Lines of a CSV (.gz too), and the columns that it has.

    Blank lines are passed over; a column that is neither required nor optional is left alone.

    Raises
    ------
    StudyError
        When the file cannot be read, a column is missing or there twice.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = content.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise StudyError(f"{path}: there is no such file") from error
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: not a readable CSV in UTF-8: {error}") from error
    reader = csv.reader(io.StringIO(text, newline=""))
    columns = [name.strip() for name in next(reader, [])]
    for name in required:
        if name not in columns:
            raise StudyError(
                f"{path}: line 1: column {name} is missing; expected {', '.join(required)}, "
                f"got {', '.join(columns)[:200] or 'nothing'}"
            )
    for name in (*required, *optional):
        if columns.count(name) > 1:
            raise StudyError(f"{path}: line 1: column {name} is there {columns.count(name)} times")
    return _rows(path, reader, columns), columns


def _rows(path: Path, reader: Iterator[list[str]], columns: list[str]) -> Iterator[Row]:
    line = 1
    try:
        for fields in reader:
            line = reader.line_num  # type: ignore[attr-defined]
            if not any(field.strip() for field in fields):
                continue
            if len(fields) > len(columns):
                raise StudyError(
                    f"{path}: line {line}: got {len(fields)} fields, expected {len(columns)}: "
                    f"{', '.join(columns)}; does a number have a comma?"
                )
            padded = [*fields, *[""] * (len(columns) - len(fields))]
            yield Row(path, line, {c: f.strip() for c, f in zip(columns, padded, strict=True)})
    except csv.Error as error:
        raise StudyError(f"{path}: line {line + 1}: not valid CSV: {error}") from error
