from __future__ import annotations

import numpy as np
import pytest

from kernels import srm2
from kernels.air_columns import road_columns
from kernels.air_explanation import contributions_at, strongest
from kernels.air_fields import AirAccumulators, AirReader
from kernels.chemistry import Background
from kernels.emission import Pollutant
from tests.kernels.open_roads import ROAD, STREET, cells, columns_of, off_the_road

ROADS = (ROAD, ROAD[:2] + np.array([0.0, 130.0]), ROAD[:2] + np.array([300.0, -100.0]))
WIND = (3.0, 190.0)


def _case():
    columns = columns_of(roads=ROADS, sigma_z0=np.array([2.5, 3.0, 4.0]))
    emission = np.random.default_rng(0).integers(1 << 24, 1 << 28, (4, 4))
    return columns, emission


def test_the_contributions_of_all_segments_add_up_to_the_field():
    columns, emission = _case()
    roads = road_columns(columns, srm2.hourly_winds(*WIND))
    sums = AirAccumulators(columns)
    sums.add(roads, np.arange(4), emission)
    field = AirReader(columns, Background(0.0, 0.0, 0.0, 0.0)).contributions(sums, roads, WIND[0])
    away = np.flatnonzero(off_the_road(ROADS, cells()))
    for cell in np.random.default_rng(1).choice(away, 40, replace=False):
        parts = contributions_at(
            columns, int(columns.blocks.place[cell]), emission, srm2.hourly_winds(*WIND), WIND[0]
        )
        np.testing.assert_allclose(parts.sum(axis=0), field[cell], rtol=3e-3, atol=2e-4 * field.max())
        assert (parts >= 0).all()


def test_a_receptor_in_a_street_names_the_street_first():
    columns, emission = _case()
    beside = np.argmin(np.hypot(*(cells() - STREET.mean(axis=0)).T))
    place = int(columns.blocks.place[beside])
    parts = contributions_at(columns, place, emission, srm2.hourly_winds(*WIND), WIND[0])
    some, others = strongest(parts, Pollutant.NOX, 12.0, 2)
    assert some[0].segment == 0
    assert [c.segment for c in some] == list(np.argsort(-parts[:, 0])[:2])
    assert sum(c.share for c in some) + others == pytest.approx(1.0, abs=1e-12)
    assert sum(c.ug_per_m3 for c in some) == pytest.approx(12.0 * (1.0 - others))


def test_without_traffic_nobody_contributes():
    columns, emission = _case()
    parts = contributions_at(columns, 0, 0 * emission, srm2.hourly_winds(*WIND), WIND[0])
    assert strongest(parts, Pollutant.PM10, 0.0, 5) == ((), 0.0)


def test_equal_contributors_go_by_their_number_and_none_without_a_share():
    some, others = strongest(np.array([[1.0] * 4, [2.0] * 4, [1.0] * 4, [0.0] * 4]), Pollutant.NOX, 8.0, 9)
    assert [(c.segment, c.share, c.ug_per_m3) for c in some] == [
        (1, 0.5, 4.0),
        (0, 0.25, 2.0),
        (2, 0.25, 2.0),
    ]
    assert others == 0.0
