"""Event time: steps, the grace for late rows, and the watermark."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

STEP_MS = 60_000  # flows are minute means: loops report once a minute at the fastest
GRACE_MS = 30_000  # a step closes this long after its end; loops arrive within 10 s, cameras within 30 s
LATE_WINDOW_MS = 2 * 3_600_000  # Telraam may come two hours late; duplicates are remembered this long


Moment = TypeVar("Moment", int, NDArray[np.int64])


def step_end(moment_ms: Moment) -> Moment:
    """End of the step that holds a moment; a moment on a boundary belongs to the step it ends."""
    return -(-moment_ms // STEP_MS) * STEP_MS


def last_closed(clock_ms: int) -> int:
    """End of the last step that may be closed when the source's clock stands at ``clock_ms``."""
    return (clock_ms - GRACE_MS) // STEP_MS * STEP_MS
