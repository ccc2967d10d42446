"""Conformity: what a calculation gives against cases whose results are known.

One report for every subject: a :class:`Check` for each case and group of quantities, a verdict, totals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson


class CasesError(ValueError):
    """Cases that cannot be read; the message names the file, where in it, and what was expected."""


@dataclass(frozen=True, slots=True)
class Check:
    """The values of one group of quantities of one case.

    Attributes
    ----------
    case, quantity : str
        Names for the reader.
    n_values : int
        Compared.
    worst : float
        Largest deviation, in ``unit``.
    tolerance : float
        Allowed deviation, in ``unit``.
    unit : str
        "relative" or that of the values, as "dB".
    detail : str
        The value that deviates most, as expected and as calculated.
    note : str
        What the reader must know of this case.
    """

    case: str
    quantity: str
    n_values: int
    worst: float
    tolerance: float
    unit: str = "relative"
    detail: str = ""
    note: str = ""

    @property
    def is_met(self) -> bool:
        return self.worst <= self.tolerance  # never of a NaN

    def line(self) -> str:
        """For the terminal."""
        size = f"{self.worst:.1e}" if self.unit == "relative" else f"{self.worst:.3f} {self.unit}"
        limit = f"{self.tolerance:g}" if self.unit == "relative" else f"{self.tolerance:g} {self.unit}"
        words = [
            f"{'ok  ' if self.is_met else 'FAIL'} {self.case}: {self.quantity}: "
            f"{self.n_values} {'value' if self.n_values == 1 else 'values'}, worst {size} (allowed {limit})"
        ]
        if not self.is_met and self.detail:
            words.append(self.detail)
        if self.note:
            words.append(self.note)
        return "; ".join(words)


@dataclass(frozen=True, slots=True)
class Conformity:
    """Checks of all cases of a file.

    Attributes
    ----------
    subject : str
        As "air".
    cases : Path
        Where they come from.
    checks : tuple of Check
    notes : tuple of str
        What holds for all of them: what is compared with what, and what is not compared.
    """

    subject: str
    cases: Path
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()

    @property
    def is_met(self) -> bool:
        """Whether there are checks and all of them are met."""
        return bool(self.checks) and all(check.is_met for check in self.checks)

    @property
    def n_cases(self) -> int:
        return len({check.case for check in self.checks})

    @property
    def n_values(self) -> int:
        return sum(check.n_values for check in self.checks)

    def lines(self) -> list[str]:
        """For the terminal: notes, a line for each check, totals."""
        failed = [check for check in self.checks if not check.is_met]
        total = f"{self.n_cases} cases, {len(self.checks)} checks, {self.n_values} values"
        if failed:
            total = f"does not conform: {len(failed)} checks above their tolerance; {total}"
        else:
            total = f"conforms: {total}"
        return [*self.notes, *(check.line() for check in self.checks), f"{self.subject} {total}"]

    def report(self) -> dict[str, Any]:
        """Of plain values, for JSON."""
        return {
            "subject": self.subject,
            "cases": self.cases.name,
            "conforms": self.is_met,
            "n_cases": self.n_cases,
            "n_checks": len(self.checks),
            "n_failed": sum(not check.is_met for check in self.checks),
            "n_values": self.n_values,
            "notes": list(self.notes),
            "checks": [
                {
                    "case": check.case,
                    "quantity": check.quantity,
                    "n_values": check.n_values,
                    "worst": check.worst if math.isfinite(check.worst) else None,
                    "tolerance": check.tolerance,
                    "unit": check.unit,
                    "conforms": check.is_met,
                    "detail": check.detail,
                    "note": check.note,
                }
                for check in self.checks
            ],
        }


def write_conformity(conformity: Conformity, path: Path) -> None:
    """Write the report as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(conformity.report(), option=orjson.OPT_INDENT_2) + b"\n")


def relative_deviation(expected: float, got: float) -> float:
    """Of a value from the expected one; where that is 0 the absolute value, and infinite when not finite."""
    if not math.isfinite(got):
        return math.inf
    if expected == 0.0:
        return abs(got)
    return abs(got - expected) / abs(expected)


def relative_check(
    case: str, quantity: str, values: Sequence[tuple[str, float, float]], tolerance: float, note: str = ""
) -> Check:
    """Check of values given as name, expected, calculated, by their relative deviations."""
    deviations = [relative_deviation(expected, got) for _, expected, got in values]
    at = deviations.index(max(deviations))
    name, expected, got = values[at]
    return Check(
        case=case,
        quantity=quantity,
        n_values=len(values),
        worst=deviations[at],
        tolerance=tolerance,
        detail=f"{name}: expected {expected:.10g}, got {got:.10g}",
        note=note,
    )
