from __future__ import annotations

import numpy as np
import pytest

from kernels.hour_ring import HourRing

MINUTE = 60_000
START = 5 * 3_600_000


def test_mean_of_the_last_sixty_minutes_equals_that_of_single_minutes():
    rng = np.random.default_rng(2)
    minutes = rng.integers(0, 1 << 32, (97, 3))
    ring = HourRing((3,))
    for i, values in enumerate(minutes):
        end = START + (i + 1) * MINUTE
        ring.add(end, values)
        if end % (5 * MINUTE) == 0:
            mean, seen = ring.mean(end)
            window = minutes[max(0, i - 59) : i + 1]
            assert seen == len(window)
            assert np.abs(mean - window.astype(np.float64).mean(axis=0)).max() <= 0.5 + 1e-5


def test_minutes_that_were_not_seen_do_not_count():
    ring = HourRing((1,))
    ring.add(START + MINUTE, np.array([10]))
    ring.add(START + 33 * MINUTE, np.array([20]))
    mean, seen = ring.mean(START + 35 * MINUTE)
    assert (mean.tolist(), seen) == ([15], 2)
    mean, seen = ring.mean(START + 70 * MINUTE)
    assert (mean.tolist(), seen) == ([20], 1)


def test_an_empty_hour_is_refused():
    with pytest.raises(ValueError, match="no minute was seen"):
        HourRing((1,)).mean(START)
