"""What an import met that does not fit: each thing by name, with the reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SHOWN = 20  # of each kind on the terminal; the report has all


@dataclass(frozen=True, slots=True)
class Finding:
    """One segment, sensor or building; ``is_left_out`` unless it was taken over all the same."""

    kind: str
    id: str
    reason: str
    is_left_out: bool


@dataclass(slots=True)
class Findings:
    """All of them, in the order they were met."""

    rows: list[Finding] = field(default_factory=list)

    def leave_out(self, kind: str, identifier: str, reason: str) -> None:
        self.rows.append(Finding(kind, identifier, reason, is_left_out=True))

    def note(self, kind: str, identifier: str, reason: str) -> None:
        self.rows.append(Finding(kind, identifier, reason, is_left_out=False))

    def of(self, kind: str, *, is_left_out: bool) -> list[dict[str, Any]]:
        """Rows of the report."""
        return [
            {"id": f.id, "reason": f.reason}
            for f in self.rows
            if f.kind == kind and f.is_left_out == is_left_out
        ]

    def lines(self) -> list[str]:
        """What the terminal shows."""
        shown = []
        for kind in dict.fromkeys(f.kind for f in self.rows):
            for is_left_out, word in ((True, "left out"), (False, "note")):
                rows = [f for f in self.rows if f.kind == kind and f.is_left_out == is_left_out]
                shown += [f"  {word}: {kind} {f.id}: {f.reason}" for f in rows[:SHOWN]]
                if len(rows) > SHOWN:
                    shown.append(f"  {word}: {len(rows) - SHOWN} more of kind {kind}, see import_report.json")
        return shown
