"""How far the published levels of noise can be trusted, tile by tile."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

WITHIN_DB = 2.0  # accuracy is the probability of being within it
MODEL_SD_DB = 2.0  # of emission (fleet) and propagation; stated, not measured
DB_PER_NEPER = 10.0 / math.log(10.0)


class TileQuality:
    """Quality of tiles from that of the segments heard there.

    Parameters
    ----------
    n_tiles : int
    tile, segment : (n,)
        Tiles, and segments that may be heard on them.
    receptors : (n,) float64
        Receptors of the tile that may hear the segment.
    """

    def __init__(
        self,
        n_tiles: int,
        tile: NDArray[np.int64],
        segment: NDArray[np.int32],
        receptors: NDArray[np.float64],
    ) -> None:
        self._n, self._tile, self._segment, self._receptors = n_tiles, tile, segment, receptors

    def quality(
        self,
        power: NDArray[np.int64] | NDArray[np.float64],
        log_sd: NDArray[np.float32],
        is_simulated: NDArray[np.bool_],
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Probability of being within 2 dB, NaN where nothing is heard, and whether a simulated input is.

        Parameters
        ----------
        power : (n_segments, 4)
        log_sd, is_simulated : (n_segments,)
            The present uncertainty, also of a mean: cautious, since part of it averages out.
        """
        loudness = power.sum(axis=1).astype(np.float64)
        weight = loudness[self._segment] * self._receptors
        total = np.bincount(self._tile, weights=weight, minlength=self._n)
        spread = np.bincount(self._tile, weights=weight * log_sd[self._segment], minlength=self._n)
        simulated = (is_simulated & (loudness > 0.0))[self._segment]
        accuracy = np.array(
            [
                round(level_accuracy(s / w), 3) if w > 0.0 else math.nan
                for s, w in zip(spread.tolist(), total.tolist(), strict=True)
            ]
        )
        return accuracy, np.bincount(self._tile[simulated], minlength=self._n) > 0


def level_accuracy(log_sd: float) -> float:
    """Probability that the true level lies within 2 dB, from the sd of the logarithm of the powers.

    To first order a relative error e of the energy is 4.34 e dB; the model's own error is added in
    quadrature. The powers of a tile are taken as wrong together, which is the cautious side.
    """
    sd_db = math.hypot(DB_PER_NEPER * log_sd, MODEL_SD_DB)
    return math.erf(WITHIN_DB / (sd_db * math.sqrt(2.0)))
