"""Day, evening, night: published values of Lden, and exact rolling means."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.periods import DayRing, Period, Periods, lden_db

N, GROUPS = 5, 4
LOUDEST = (1 << 20) - 1


def level(*values: float) -> np.ndarray:
    return np.array(values)


def test_a_constant_level_is_6_4_db_louder_as_lden():
    """12/24 + 4/24 10^0.5 + 8/24 10 = 4.3604, 6.395 dB."""
    for constant in (0.0, 55.0, 71.3):
        same = level(constant)
        assert lden_db(same, same, same)[0] == pytest.approx(constant + 6.395, abs=5e-4)


def test_lden_of_60_58_52_is_61_34():
    """10 lg((12 10^6 + 4 10^6.3 + 8 10^6.2) / 24)."""
    assert lden_db(level(60.0), level(58.0), level(52.0))[0] == pytest.approx(61.34, abs=5e-3)


def test_a_silent_period_adds_nothing_and_a_silent_day_has_no_level():
    silent = level(-np.inf)
    assert lden_db(level(60.0), silent, silent)[0] == pytest.approx(60.0 + 10.0 * np.log10(0.5))
    assert lden_db(silent, silent, silent)[0] == -np.inf


def test_lden_weighs_the_hours_that_a_state_has_chosen():
    """An evening of two hours and a day of 14, as the Directive allows: 14/24 + 2/24 10^0.5 + 8/24 10."""
    short = Periods(day_from_h=7, evening_from_h=21, night_from_h=23)
    assert short.hours == (14, 2, 8)
    same = level(50.0)
    expected = 50.0 + 10.0 * np.log10((14 + 2 * 10**0.5 + 80) / 24)
    assert lden_db(same, same, same, short)[0] == pytest.approx(expected)


def test_the_default_periods_are_those_of_the_directive():
    periods = Periods()
    assert periods.hours == (12, 4, 8)
    assert [periods.at(h) for h in range(24)] == (
        [Period.NIGHT] * 7 + [Period.DAY] * 12 + [Period.EVENING] * 4 + [Period.NIGHT]
    )


@pytest.mark.parametrize("hours", [(7, 7, 23), (-1, 19, 23), (7, 19, 24), (20, 19, 23)])
def test_hours_out_of_order_are_refused_with_what_was_got(hours):
    with pytest.raises(ValueError, match=f"evening_from_h {hours[1]}.*0 <= day < evening < night <= 23"):
        Periods(*hours)


def fill(ring: DayRing, first: int, n: int, rng: np.random.Generator) -> list[tuple[int, np.ndarray]]:
    """Minutes of n hours from an hour on; what was added."""
    added = []
    for hour in range(first, first + n):
        for _ in range(60):
            power = rng.integers(0, LOUDEST, (N, GROUPS), endpoint=True)
            ring.add(hour, Periods().at(hour % 24), power, np.zeros(N, dtype=bool))
            added.append((hour, power))
    return added


def test_the_means_are_those_of_the_single_minutes_of_the_last_24_hours():
    ring = DayRing(N, GROUPS)
    added = fill(ring, 5, 31, np.random.default_rng(1))
    last = 35
    got, _ = ring.means(last)
    assert ring.minutes_seen(last).tolist() == [720, 240, 480]
    for period in Period:
        minutes = [p for hour, p in added if hour > last - 24 and Periods().at(hour % 24) == period]
        exact = [sum(int(p[i, g]) for p in minutes) / len(minutes) for i in range(N) for g in range(GROUPS)]
        np.testing.assert_allclose(got[period].ravel(), exact, atol=0.5)


def test_the_loudest_hour_fits():
    ring = DayRing(1, GROUPS)
    for _ in range(60):
        ring.add(0, Period.NIGHT, np.full((1, GROUPS), LOUDEST), np.zeros(1, dtype=bool))
    assert (ring.means(0)[0][Period.NIGHT] == LOUDEST).all()


def test_minutes_that_were_not_seen_do_not_count():
    ring = DayRing(1, GROUPS)
    ring.add(0, Period.NIGHT, np.full((1, GROUPS), 10), np.zeros(1, dtype=bool))
    ring.add(3, Period.NIGHT, np.full((1, GROUPS), 21), np.ones(1, dtype=bool))
    power, simulated = ring.means(3)
    assert (power[Period.NIGHT] == 16).all()  # 15.5, rounded half up
    assert not power[Period.DAY].any()
    assert simulated.all()
    assert ring.minutes_seen(3).tolist() == [0, 0, 2]
    assert ring.minutes_seen(24).tolist() == [0, 0, 1]  # the hour 0 is too old
    assert ring.minutes_seen(27).tolist() == [0, 0, 0]


def test_a_restored_ring_goes_on_with_the_same_means():
    ring, rng = DayRing(N, GROUPS), np.random.default_rng(2)
    fill(ring, 7, 20, rng)
    state = ring.snapshot()
    other = DayRing(N, GROUPS)
    fill(other, 100, 3, rng)  # what it held before is gone
    other.restore(state)
    for each in (ring, other):
        fill(each, 27, 9, np.random.default_rng(3))
    assert ring.minutes_seen(35).tolist() == other.minutes_seen(35).tolist() == [720, 240, 480]
    for a, b in zip(ring.means(35), other.means(35), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_snapshot_holds_only_the_hours_that_were_seen():
    ring = DayRing(N, GROUPS)
    assert ring.snapshot()["sums"].size == 0
    fill(ring, 40, 2, np.random.default_rng(4))
    assert ring.snapshot()["sums"].shape == (2, N, GROUPS)
