"""Rows of the files in cities/factors: comma separated, with the source in comments at the head."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from kernels.emission import EmissionError

FACTORS = Path(__file__).parent / "factors"
_SOURCE = "# source: "

Row = dict[str, str]


def read_rows(path: Path, columns: Sequence[str]) -> tuple[list[Row], str]:
    """Rows of a file by column, and its source.

    Raises
    ------
    EmissionError
        When the file or one of ``columns`` is missing.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise EmissionError(f"{path}: file is missing") from error
    source = next((line.removeprefix(_SOURCE) for line in lines if line.startswith(_SOURCE)), "not given")
    reader = csv.DictReader(line for line in lines if line and not line.startswith("#"))
    missing = [column for column in columns if column not in (reader.fieldnames or ())]
    if missing:
        raise EmissionError(f"{path.name}: column {missing[0]}: is missing, expected {', '.join(columns)}")
    return list(reader), source


def number(row: Row, column: str, where: str) -> float:
    """A number that is not negative.

    Raises
    ------
    EmissionError
        For anything else, an empty field too.
    """
    text = row[column]
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = math.nan
    if not 0.0 <= value < math.inf:
        raise EmissionError(f"{where}: {column}: got {text!r}, expected a number of 0 or more")
    return value
