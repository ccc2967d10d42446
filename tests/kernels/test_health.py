"""Harm of noise: values of the Directive's relations, and bands of levels that are not rounded."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.health import (
    LDEN_BANDS_DB,
    LNIGHT_BANDS_DB,
    highly_annoyed,
    highly_annoyed_percent,
    highly_sleep_disturbed,
    highly_sleep_disturbed_percent,
    people_in_bands,
)


@pytest.mark.parametrize(("lden", "percent"), [(57.5, 12.82), (62.5, 17.76), (67.5, 24.41)])
def test_shares_of_annoyed_people_are_those_of_the_directive(lden, percent):
    assert highly_annoyed_percent(np.array([lden]))[0] == pytest.approx(percent, abs=5e-3)


@pytest.mark.parametrize(("lnight", "percent"), [(52.5, 5.15), (57.5, 7.41)])
def test_shares_of_disturbed_people_are_those_of_the_directive(lnight, percent):
    assert highly_sleep_disturbed_percent(np.array([lnight]))[0] == pytest.approx(percent, abs=5e-3)


def test_nobody_below_the_lowest_band_counts_and_an_unknown_level_stays_unknown():
    levels = np.array([-np.inf, 30.0, np.nextafter(55.0, 0.0), 55.0, np.nan])
    assert highly_annoyed_percent(levels)[:3].tolist() == [0.0, 0.0, 0.0]
    assert highly_annoyed_percent(levels)[3] > 10.0
    assert np.isnan(highly_annoyed_percent(levels)[4])
    assert highly_sleep_disturbed_percent(np.array([49.999, 50.0])).tolist() == [0.0, pytest.approx(4.2512)]


def test_louder_is_never_better():
    level = np.linspace(40.0, 90.0, 501)
    assert (np.diff(highly_annoyed_percent(level)) >= 0.0).all()
    assert (np.diff(highly_sleep_disturbed_percent(level)) >= 0.0).all()


def test_boundaries_are_on_levels_that_are_not_rounded():
    level = np.array([54.999, 55.0, 59.999, 60.0, 74.9999, 75.0, 91.0, np.nan])
    people = 10.0 ** np.arange(8)
    got = people_in_bands(level, people, LDEN_BANDS_DB)
    assert got.tolist() == [110.0, 1000.0, 0.0, 10000.0, 1100000.0]
    assert people_in_bands(np.array([49.99, 50.0, 70.0]), np.ones(3), LNIGHT_BANDS_DB).tolist() == [
        1.0, 0.0, 0.0, 0.0, 1.0
    ]  # fmt: skip


def test_a_band_counts_with_its_middle():
    """1,000 people in each band: by the shares at 57.5 to 77.5 dB, and at 52.5 to 72.5 dB."""
    people = np.full(5, 1000.0)
    annoyed = [78.9270 - 3.1162 * x + 0.0342 * x * x for x in (57.5, 62.5, 67.5, 72.5, 77.5)]
    disturbed = [19.4312 - 0.9336 * x + 0.0126 * x * x for x in (52.5, 57.5, 62.5, 67.5, 72.5)]
    assert highly_annoyed(people) == pytest.approx(10.0 * sum(annoyed))
    assert highly_sleep_disturbed(people) == pytest.approx(10.0 * sum(disturbed))
    with pytest.raises(ValueError, match=r"people in bands: got shape \(4,\), expected \(5,\)"):
        highly_annoyed(people[:4])
