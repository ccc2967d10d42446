"""Colours of the control room, and how a value becomes one.

Grey is the base and colour means something. The alarm colours were chosen together: on the dark background
each has a contrast of at least 4.5 : 1 (WCAG 2.2, 1.4.3), and any two stay well apart in CIELAB also as a
colour-blind operator sees them. Sequential data use Cividis, which is ordered by lightness for all common
forms of colour vision (Nunez, Anderton and Renslow 2018, PLOS ONE 13(7), e0199239).
"""

from __future__ import annotations

import numpy as np
from bokeh.palettes import Cividis256
from numpy.typing import NDArray

BACKGROUND = "#16181b"
ROAD = "#40464c"
TEXT = "#e8eaed"
UNKNOWN = "#5b6168"
PRIORITY = {1: "#f36921", 2: "#f5e887", 3: "#fda2b5", 4: "#48b0fe"}


def rgb_of(colour: str) -> NDArray[np.float32]:
    """Red, green and blue (0-255) of "#rrggbb", (3,)."""
    return np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)], dtype=np.float32)


def cividis() -> NDArray[np.float32]:
    """The sequential palette, (256, 3), 0-255."""
    return np.stack([rgb_of(c) for c in Cividis256])


def fraction_of(values: NDArray[np.float32], low: float, high: float, is_log: bool) -> NDArray[np.float32]:
    """Place of values on a scale, 0 at ``low`` and 1 at ``high``, clipped; NaN stays NaN.

    Parameters
    ----------
    values : (...) float32
    low, high : float
        Ends of the scale; both positive when it is logarithmic.
    """
    if is_log:
        with np.errstate(divide="ignore"):
            scaled = np.log(values / low) / np.log(high / low)
    else:
        scaled = (values - low) / (high - low)
    return np.clip(scaled, 0.0, 1.0).astype(np.float32)
