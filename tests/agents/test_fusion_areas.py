"""Devices in areas: penetrations are learnt from the published flows, which they do not move."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from agents.fusion import FusionAgent
from agents.fusion_areas import PENETRATION_SD, USUAL_PENETRATION, Areas
from cities.pack import City, Sensor, load_city
from kernels.network import Mode
from kernels.prior import Prior
from streams.clock import GRACE_MS
from streams.codec import pack_state, unpack_state
from streams.observation import Observation, Source
from streams.readings import ReadingTable, readings_batch
from streams.steps import StepBuffer
from studies.prior import prepare_prior
from tests.toy import BLOCK_M, START, X0, Y0, write_toy_city

START_MS = round(START.timestamp() * 1000)
MINUTE_MS = 60_000
Arrivals = list[tuple[int, Observation]]


def area(name: str, source: str, west_m: float, south_m: float, size_m: float) -> Sensor:
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]) * size_m
    polygon = corners + np.array([X0 + west_m, Y0 + south_m])
    return Sensor(name, source, -1, "both", (), (0.0, 0.0), polygon, True)


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> City:
    folder = tmp_path_factory.mktemp("areas") / "toyville"
    write_toy_city(folder, minutes=1)
    toy = load_city(folder)
    areas = [area("C1", "telecom", -50, -50, 900), area("W1", "wifi", -50, -50, BLOCK_M),
             area("W2", "wifi", 5_000, 5_000, 200)]  # fmt: skip
    return dataclasses.replace(toy, sensors=(*toy.sensors, *areas))


@pytest.fixture(scope="module")
def prior(city: City) -> Prior:
    return prepare_prior(city, lambda _what, _part: None)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with threadpool_limits(1):
        yield


def seen(name: str, minute: int, devices: float, version: int = 0) -> Observation:
    end = START_MS + (minute + 1) * MINUTE_MS
    source = Source.TELECOM if name.startswith("C") else Source.WIFI
    return Observation(
        source, name, end - 5 * MINUTE_MS, end, end + 2_000 + version, devices=devices, simulated=True,
        event_id=f"{name}{minute}v{version}",
    )  # fmt: skip


class Room:
    """Buffer and agent over some minutes; with ``cut``, restarted from the state after that minute."""

    def __init__(
        self, city: City, prior: Prior, arrivals: Arrivals, minutes: int = 40, cut: int = -1
    ) -> None:
        self.agent = FusionAgent(city, prior)
        self.flows: dict[int, bytes] = {}
        buffer = StepBuffer({s.id: s.source for s in city.sensors})
        for minute in range(minutes):
            end = START_MS + (minute + 1) * MINUTE_MS
            rows = [row for m, row in arrivals if m == minute]
            buffer.add(ReadingTable.of(rows), end + GRACE_MS)
            self.agent.receive(buffer.close(end))
            self.flows |= {b.time_ms: b.columns["flow_per_h"].tobytes() for b in self.agent.close(end)}
            if minute == cut:
                state, self.agent = self.agent.snapshot(), FusionAgent(city, prior)
                self.agent.restore(unpack_state(pack_state(state)))


def test_a_steady_penetration_is_learnt_and_its_interval_narrows(city: City, prior: Prior) -> None:
    first = Room(city, prior, [(4, seen("C1", 4, 100.0))], 5).agent.areas()[0]
    people = first.expected_devices / USUAL_PENETRATION[Source.TELECOM]
    rows = [(m, seen("C1", m, 0.8 * people)) for m in range(4, 60, 5)]
    last = Room(city, prior, rows, 60).agent.areas()[0]
    assert last.penetration == pytest.approx(0.8, rel=0.25)  # flows grow with the morning, devices do not
    assert last.lo90 < last.penetration < last.hi90
    assert last.hi90 / last.lo90 < first.hi90 / first.lo90
    assert (last.sensor, last.source, last.devices, last.simulated) == ("C1", "telecom", 0.8 * people, True)
    assert last.age_s == 0.0


def test_devices_move_no_flow(city: City, prior: Prior) -> None:
    rows = [(m, seen(name, m, 500.0 + 40 * m)) for m in range(4, 30, 5) for name in ("C1", "W1")]
    assert Room(city, prior, rows, 30).flows == Room(city, prior, [], 30).flows


def test_order_lateness_repeats_and_a_restart_change_no_penetration(city: City, prior: Prior) -> None:
    chance = random.Random(5)
    rows = [(m, seen(n, m, float(chance.randint(20, 90)))) for m in range(4, 30, 5) for n in ("C1", "W1")]
    rows.append((29, seen("W1", 24, 70.0, version=9)))  # revises
    mixed = [(m + chance.choice((0, 1, 3, 7)), row) for m, row in rows]
    mixed += [(m + 2, row) for m, row in mixed[:5]]
    chance.shuffle(mixed)
    found = [Room(city, prior, arrivals, cut=cut).agent.areas()
             for arrivals, cut in ((rows, -1), (mixed, -1), (mixed, 22))]  # fmt: skip
    assert len(found[0]) == 2
    assert all(a == b for a, b in pairwise(found))


def test_suppressed_devices_are_unknown_and_none_are_a_reading(city: City, prior: Prior) -> None:
    assert Room(city, prior, [(4, seen("C1", 4, float("nan")))], 6).agent.areas() == []
    (none,) = Room(city, prior, [(4, seen("C1", 4, 0.0))], 6).agent.areas()
    assert none.devices == 0.0
    assert 0.0 < none.penetration < USUAL_PENETRATION[Source.TELECOM]


def test_one_absurd_row_moves_a_penetration_to_a_bound(city: City, prior: Prior) -> None:
    (absurd,) = Room(city, prior, [(4, seen("C1", 4, 9e6))], 6).agent.areas()
    assert absurd.penetration < USUAL_PENETRATION[Source.TELECOM] * np.exp(3.5 * PENETRATION_SD)


def test_an_area_without_streets_expects_nothing_and_learns_nothing(city: City, prior: Prior) -> None:
    (empty,) = Room(city, prior, [(4, seen("W2", 4, 50.0))], 6).agent.areas()
    assert np.isnan(empty.expected_devices)
    assert empty.devices == 50.0
    assert empty.penetration == pytest.approx(USUAL_PENETRATION[Source.WIFI])


def test_people_are_those_present_and_those_who_pass_in_the_interval(city: City, prior: Prior) -> None:
    (bicycle,) = (m for m in FusionAgent(city, prior).modes() if m.counters.mode is Mode.BICYCLE)
    estimate = bicycle.estimate(START_MS, 1.0)
    areas = Areas(city, [Mode.BICYCLE], city.network.midpoints())
    present, passing = areas._people(
        {Mode.BICYCLE: estimate}, {Mode.BICYCLE: np.full(city.bicycle_edges.n_edges, 15.0)}
    )
    streets = [city.segment_ids.index(s) for s in ("h00", "v00")]  # whose middle lies in W1
    on = np.isin(city.bicycle_edges.segment, streets)
    mean = np.exp(estimate.log_mean[on] + estimate.log_sd[on] ** 2 / 2) - 5
    km = np.maximum(mean, 0.0).sum() * BLOCK_M / 1000
    (w1,) = (n for n, s in enumerate(areas.sensors) if s.id == "W1")
    assert present[w1] == pytest.approx(km / 15.0, rel=1e-3)
    assert passing[w1] == pytest.approx(km / (np.pi * BLOCK_M / 4 / 1000), rel=1e-3)


def test_a_city_without_areas_and_an_unknown_area_have_no_evidence(city: City, prior: Prior) -> None:
    bare = dataclasses.replace(city, sensors=tuple(s for s in city.sensors if s.polygon is None))
    assert Areas(bare, [Mode.CAR], city.network.midpoints()).evidence(START_MS) == []
    areas = Areas(city, [Mode.CAR], city.network.midpoints())
    rows = [seen("W9", 0, 1.0), dataclasses.replace(seen("W1", 0, 1.0), source=Source.TELECOM)]
    assert areas.numbers_of(readings_batch(rows, START_MS)).tolist() == [-1, -1]
    assert FusionAgent(city, prior).areas() == []
