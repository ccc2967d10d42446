"""Floating cars of a pack: read onto directed edges, refused by line and field."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cities.pack import City, CityError, load_city
from cities.probes import read_probes
from kernels.prior import REFERENCE_SCALE, probe_log_flow


@pytest.fixture
def city(toy_folder: Path) -> City:
    return load_city(toy_folder)


def write(city: City, *rows: str) -> None:
    (city.folder / "probes.csv").write_text("segment_id,direction,vehicles,hours\n" + "\n".join(rows) + "\n")


def test_a_pack_without_probes_has_none(city: City) -> None:
    assert read_probes(city) is None


def test_vehicles_fall_on_their_directed_edge(city: City) -> None:
    name = city.segment_ids[3]
    write(city, f"{name},backward,12,20", f"{city.segment_ids[0]},forward,3,20")
    probes = read_probes(city)
    assert probes is not None
    assert probes.hours == 20.0
    assert probes.vehicles[3].tolist() == [0.0, 12.0]
    assert probes.vehicles.sum() == 15.0


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("nowhere,forward,1,20", "line 3: segment_id: got nowhere"),
        ("{id},both,1,20", "line 3: direction: got both"),
        ("{id},forward,-2,20", "line 3: vehicles: got -2"),
        ("{id},forward,2,10", "line 3: hours: got 10"),
    ],
)
def test_a_wrong_row_is_refused_by_line_and_field(city: City, row: str, message: str) -> None:
    name = city.segment_ids[0]
    write(city, f"{name},forward,1,20", row.format(id=name))
    with pytest.raises(CityError, match=message):
        read_probes(city)


def test_many_floating_cars_say_the_flow_and_few_leave_it_to_the_prior() -> None:
    rng = np.random.default_rng(1)
    prior = rng.uniform(5.0, 800.0, 500).astype(np.float32)
    flow = prior * REFERENCE_SCALE * np.exp(0.5 * rng.standard_normal(500))
    flow *= prior.sum() * REFERENCE_SCALE / flow.sum()
    many = probe_log_flow(rng.poisson(flow * 0.01 * 2_000.0).astype(float), 2_000.0, prior)
    np.testing.assert_allclose(many, np.log(flow + 5.0), atol=0.12)
    few = probe_log_flow(rng.poisson(flow * 1e-5).astype(float), 1e-3, prior)
    spread = np.log(prior * REFERENCE_SCALE + 5.0)
    assert np.corrcoef(few, spread)[0, 1] > 0.9
