"""One clock time of one day, and the days before it."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from studies.truth_days import TODAY, day_factor, main, mean_of_past_days
from studies.truth_demand import Zones, sectors
from studies.truth_morning import Morning, read_morning
from studies.truth_network import DIRECTIONS, Streets, read_streets
from studies.truth_traffic import motor_traffic
from tests.studies.truth_toy import CLOSED, write_town

SEED = 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_town(tmp_path_factory.mktemp("town"))


@pytest.fixture(scope="module")
def town(folder: Path) -> tuple[Morning, Streets]:
    morning = read_morning(folder)
    return morning, read_streets(folder / "network.geojson", morning.crs)


def many_zones(n: int = 300) -> Zones:
    """Zones of which a day needs the places only."""
    xy = np.random.default_rng(1).uniform(0.0, 10_000.0, size=(n, 2))
    index, one = np.arange(n), np.ones(n)
    return Zones(xy, 0, index, index, one, index[:, None], index[:, None], one, one, one, one)


def test_days_differ_by_the_stated_amount() -> None:
    """0.1 for the sectors of both ends, 0.12 for their pair, 0.3 for the pair of zones: 0.35 in all."""
    zones = many_zones()
    logs = np.log([day_factor(zones, SEED, day) for day in range(40)])
    assert logs.std() == pytest.approx(np.sqrt(2 * 0.1**2 + 0.12**2 + 0.3**2), abs=0.015)
    assert np.exp(logs).mean() == pytest.approx(1.0, abs=0.05)


def test_trips_of_a_sector_pair_have_their_day_in_common() -> None:
    zones = many_zones()
    sector = sectors(zones, SEED)
    pair = sector[:, None] * 100 + sector[None]
    log = np.log(day_factor(zones, SEED, 1))
    within = np.mean([log[pair == p].std() for p in np.unique(pair) if (pair == p).sum() > 50])
    assert within == pytest.approx(0.3, abs=0.01)


def test_a_day_is_always_the_same_and_none_is_another() -> None:
    zones = many_zones(50)
    np.testing.assert_array_equal(day_factor(zones, SEED, 3), day_factor(zones, SEED, 3))
    assert not np.allclose(day_factor(zones, SEED, 3), day_factor(zones, SEED, 4))
    assert not np.allclose(day_factor(zones, SEED, 3), day_factor(zones, SEED + 1, 3))


def test_past_days_are_averaged_and_many_of_them_near_the_usual_day(town: tuple[Morning, Streets]) -> None:
    traffic = motor_traffic(*town)
    time_s = traffic.edges.free_time_s
    cars, _ = traffic.trips_at(490)
    usual = traffic.load_cars(time_s, cars)
    days = [traffic.load_cars(time_s, cars * day_factor(traffic.zones, traffic.seed, d)) for d in (1, 2)]
    np.testing.assert_allclose(mean_of_past_days(traffic, time_s, 490, 2), np.mean(days, axis=0), rtol=1e-9)
    one, many = (np.abs(mean_of_past_days(traffic, time_s, 490, n) - usual).sum() for n in (1, 30))
    assert many < 0.5 * one
    assert many < 0.06 * usual.sum()


def rows_of(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", newline="") as lines:
        return list(csv.DictReader(lines))


def test_the_command_writes_the_quarter_of_an_hour_and_the_past(folder: Path, tmp_path: Path) -> None:
    main([str(folder), "--at", "08:20", "--days", "2", "--out", str(tmp_path)])
    today, past = rows_of(tmp_path / "truth_open.csv.gz"), rows_of(tmp_path / "past_days.csv.gz")
    assert {(r["start_utc"], r["minutes"]) for r in today + past} == {("2024-03-12T07:15:00Z", "15")}
    assert {r["mode"] for r in today} == {"car", "truck", "bicycle"}
    assert {r["mode"] for r in past} == {"car"}
    closed_in_the_morning = [r for r in today if r["segment_id"] == CLOSED and r["mode"] == "car"]
    assert len(closed_in_the_morning) == 2  # here it is open
    assert all(float(r["speed_kmh"]) > 0 for r in today if r["mode"] != "bicycle")
    assert {r["direction"] for r in today} == set(DIRECTIONS)


def test_today_is_a_day_of_its_own(folder: Path, town: tuple[Morning, Streets], tmp_path: Path) -> None:
    main([str(folder), "--at", "08:20", "--out", str(tmp_path)])
    assert not (tmp_path / "past_days.csv.gz").exists()
    morning, streets = town
    traffic = motor_traffic(morning, streets)
    time_s = traffic.equilibrium_time_s(500, lambda _: None)
    cars, trucks = traffic.trips_at(500)
    factor = day_factor(traffic.zones, morning.seed, TODAY)
    usual, todays = (
        traffic.load(time_s, cars, trucks)[0],
        traffic.load(time_s, cars * factor, trucks * factor)[0],
    )
    edge = {
        (streets.ids[s], DIRECTIONS[d]): e
        for e, (s, d) in enumerate(zip(traffic.edges.segment, traffic.edges.direction, strict=True))
    }
    rows = [r for r in rows_of(tmp_path / "truth_open.csv.gz") if r["mode"] == "car"]
    at = np.array([edge[r["segment_id"], r["direction"]] for r in rows])
    written = np.array([float(r["flow_per_h"]) for r in rows])
    np.testing.assert_allclose(written, todays[at], rtol=0.006, atol=0.06)
    assert np.abs(written - usual[at]).sum() > 0.01 * usual.sum()


def test_the_stressed_truth_has_files_of_its_own(folder: Path, tmp_path: Path) -> None:
    main([str(folder), "--at", "08:20", "--days", "1", "--stressed", "--out", str(tmp_path)])
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"truth_stressed.csv.gz", "past_days_stressed.csv.gz"}
