"""The prior of a city of twenty streets."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import studies.prior
from cities.cache import cache_folder
from cities.pack import City, load_city
from kernels.network import Mode
from studies.demand import build_zones, draw_demand
from studies.prior import main, prepare_prior

FEW = {Mode.CAR: 40, Mode.BICYCLE: 20, Mode.PEDESTRIAN: 10}


@pytest.fixture(autouse=True)
def few_members(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.prior.MEMBERS", FEW)


@pytest.fixture
def city(toy_folder: Path) -> City:
    return load_city(toy_folder)


def silent(_what: str, _part: float) -> None:
    pass


def test_every_mode_has_a_flow_on_every_edge(city: City) -> None:
    prior = prepare_prior(city, silent)
    assert prior.network_hash == city.network_hash
    for mode, edges in (
        (Mode.CAR, city.car_edges),
        (Mode.TRUCK, city.car_edges),
        (Mode.BICYCLE, city.bicycle_edges),
        (Mode.PEDESTRIAN, city.bicycle_edges),
    ):
        flow = prior.modes[mode].flow_per_h
        assert flow.shape == (edges.n_edges,)
        assert (flow > 0).mean() >= 0.9
    main_road = city.road_class[city.car_edges.segment] == 11
    share = prior.modes[Mode.TRUCK].flow_per_h / (
        prior.modes[Mode.TRUCK].flow_per_h + prior.modes[Mode.CAR].flow_per_h
    )
    assert np.nanmean(share[main_road]) == pytest.approx(0.06, abs=1e-3)


def test_prepared_twice_is_read_from_the_cache_and_equal(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare_prior(city, silent)
    assert list(cache_folder().glob("prior-*.npz"))
    monkeypatch.setattr("studies.prior._ensemble", None)  # would fail if it were computed again
    second = prepare_prior(city, silent)
    for mode, prior in first.modes.items():
        assert np.array_equal(prior.flow_per_h, second.modes[mode].flow_per_h)
        assert np.array_equal(prior.anomalies, second.modes[mode].anomalies)


def test_progress_ends_at_one(city: City, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TWINROOM_CACHE", str(tmp_path))
    parts: list[float] = []
    prepare_prior(city, lambda _what, part: parts.append(part))
    assert parts == sorted(parts)
    assert parts[-1] == pytest.approx(1.0)


def test_prior_of_the_pack_is_used_only_for_its_own_network_and_until_the_full_one_is_prepared(
    city: City, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("TWINROOM_CACHE", str(tmp_path))
    monkeypatch.setattr("studies.prior.COMPACT_RANK", {Mode.CAR: 3, Mode.BICYCLE: 2, Mode.PEDESTRIAN: 1})
    assert main([str(city.folder)]) == 0
    assert "100%" in capsys.readouterr().err
    bundled = prepare_prior(city, silent)
    assert bundled.modes[Mode.CAR].anomalies.shape[1] == 3
    other = dataclasses.replace(city, network_hash="other")
    assert prepare_prior(other, silent).modes[Mode.CAR].anomalies.shape[1] == FEW[Mode.CAR]
    assert prepare_prior(city, silent, compact=False).modes[Mode.CAR].anomalies.shape[1] == FEW[Mode.CAR]
    assert prepare_prior(city, silent).modes[Mode.CAR].anomalies.shape[1] == FEW[Mode.CAR]


def test_an_interrupted_preparation_goes_on_where_it_stopped_and_ends_the_same(
    city: City, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = prepare_prior(city, silent)
    monkeypatch.setenv("TWINROOM_CACHE", str(tmp_path))
    made: list[int] = []
    member = studies.prior.draw_member

    def cut_off(*arguments: Any) -> Any:
        if len(made) == 25:
            raise KeyboardInterrupt
        made.append(1)
        return member(*arguments)

    monkeypatch.setattr("studies.prior.draw_member", cut_off)
    monkeypatch.setattr("studies.prior.os.cpu_count", lambda: 1)
    with pytest.raises(KeyboardInterrupt):
        prepare_prior(city, silent)
    again: list[int] = []

    def counted(*arguments: Any) -> Any:
        again.append(1)
        return member(*arguments)

    monkeypatch.setattr("studies.prior.draw_member", counted)
    resumed = prepare_prior(city, silent)
    assert len(again) == sum(FEW.values()) - 20  # two files of ten were whole
    for mode, prior in whole.modes.items():
        assert np.array_equal(prior.anomalies, resumed.modes[mode].anomalies)
        assert np.array_equal(prior.turn_flow_per_h, resumed.modes[mode].turn_flow_per_h)


def test_a_broken_prior_file_is_computed_again(city: City) -> None:
    (city.folder / "prior.npz").write_bytes(b"PK\x03\x04 cut off")
    assert prepare_prior(city, silent).network_hash == city.network_hash


def test_zones_hold_all_people_and_demand_is_reproducible(city: City) -> None:
    zones = build_zones(city, Mode.CAR, None)
    assert zones.people == 4000.0
    assert zones.homes.sum(axis=1) == pytest.approx([1.0, 1.0])
    first, second = (draw_demand(zones, Mode.CAR, np.random.default_rng(1))[0] for _ in range(2))
    assert np.array_equal(first, second)
    assert (np.diag(first)[: zones.n_internal] == 0).all()
    many = np.mean([draw_demand(zones, Mode.CAR, np.random.default_rng(s))[0].sum() for s in range(60)])
    assert many == pytest.approx(4000 * 0.021, rel=0.15)
