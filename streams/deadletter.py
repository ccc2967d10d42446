"""What was rejected, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streams.observation import RejectedError
from streams.topics import Batch, Topic

SHOWN_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One rejected event: its bytes (cut), the reason, the field and where it came from."""

    raw: str
    reason: str
    field: str
    source: str
    line: int = -1


def dead_letter(raw: bytes, error: RejectedError, line: int = -1) -> DeadLetter:
    """Dead letter of an event that :func:`streams.observation.parse_observation` refused."""
    text = raw[:SHOWN_CHARACTERS].decode("utf-8", "replace")
    return DeadLetter(text, error.reason, error.field, error.source, line)


def dead_letter_batches(letters: Sequence[DeadLetter], time_ms: int) -> list[Batch]:
    """One batch for each source, rows in order of line and text."""
    batches = []
    for source in sorted({letter.source for letter in letters}):
        rows = sorted((x for x in letters if x.source == source), key=lambda x: (x.line, x.field, x.raw))
        columns = {
            name: np.array([getattr(row, name) for row in rows], dtype=object)
            for name in ("raw", "reason", "field", "source")
        }
        columns["line"] = np.array([row.line for row in rows], dtype=np.int64)
        batches.append(Batch(Topic.DEADLETTERS, source, time_ms, columns))
    return batches
