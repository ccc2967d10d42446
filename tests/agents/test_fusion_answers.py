"""What fusion answers when asked why: explanations add up, counters are predicted from the others."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from agents.fusion import FusionAgent
from cities.pack import City, load_city
from kernels.network import Direction, Mode
from kernels.prior import Prior
from studies.prior import prepare_prior
from tests.agents.test_fusion import LOOPS, batch, count, run, steady
from tests.toy import write_toy_city


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> City:
    folder = tmp_path_factory.mktemp("answers") / "toyville"
    write_toy_city(folder, minutes=1)
    return load_city(folder)


@pytest.fixture
def prior(city: City) -> Prior:
    return prepare_prior(city, lambda _what, _part: None)


def test_before_the_first_step_nothing_is_known(city: City, prior: Prior) -> None:
    agent = FusionAgent(city, prior)
    assert agent.left_out() == agent.gains() == []
    assert agent.explain(0, Direction.FORWARD, Mode.CAR) is None


def test_the_parts_of_an_explanation_add_up_to_the_flow_on_every_street(city: City, prior: Prior) -> None:
    agent = FusionAgent(city, prior)
    run(agent, steady(900.0, 12))
    for segment in range(city.network.n_segments):
        for direction in Direction:
            for mode in (Mode.CAR, Mode.TRUCK, Mode.BICYCLE):
                why = agent.explain(segment, direction, mode)
                if why is None:
                    continue
                parts = why.prior_per_h + why.balance_per_h + sum(c.moved_per_h for c in why.counters)
                assert parts == pytest.approx(why.flow_per_h, abs=0.01)


def test_a_street_with_a_counter_is_moved_most_by_it(city: City, prior: Prior) -> None:
    agent = FusionAgent(city, prior)
    run(agent, steady(900.0, 12))
    sensor = next(s for s in city.sensors if s.id == "L1")
    why = agent.explain(sensor.segment, Direction[sensor.direction.upper()], Mode.CAR)
    assert why is not None
    assert why.counters[0].sensor == "L1"
    assert 0.5 < why.counters[0].moved_per_h / (why.flow_per_h - why.prior_per_h) < 1.5
    assert why.counters[0].distance_m == pytest.approx(0.0, abs=1.0)


def test_an_edge_that_a_mode_may_not_use_has_no_explanation(city: City, prior: Prior) -> None:
    agent = FusionAgent(city, prior)
    run(agent, steady(900.0, 2))
    assert agent.explain(0, Direction.FORWARD, Mode.MOTORCYCLE) is None


def test_a_counter_left_out_is_predicted_as_if_it_had_never_spoken(city: City, prior: Prior) -> None:
    agent = FusionAgent(city, prior)
    run(agent, steady(900.0, 1))
    left = next(x for x in agent.left_out() if x.sensor == "L3" and x.mode is Mode.CAR)
    without = FusionAgent(city, prior)
    site = {s.id for s in city.sensors if s.segment == left.segment}
    without.receive(batch([count(s, 0, 900.0) for s in LOOPS if s not in site], 0))
    without.close(batch([], 0).time_ms)
    fusion = without.modes()[0]
    row = [x.id for x in fusion.counters.sensors].index("L3")
    edge = int(fusion.counters.sees.indices[fusion.counters.sees.indptr[row]])
    scale = without._week.scale(Mode.CAR, batch([], 0).time_ms)
    why = without.explain(left.segment, Direction[left.direction.upper()], Mode.CAR)
    assert why is not None
    # conservation is no part of the prediction: take the shift by the counters alone
    before = float(fusion.prior.log_mean(scale)[edge])
    change = np.log(why.flow_per_h + 5.0) - before
    share = 1.0 - why.balance_per_h / (why.flow_per_h - why.prior_per_h)
    assert np.log(left.expected_per_h + 5.0) == pytest.approx(before + change * share, abs=0.02)


def test_without_a_reference_a_cameras_gain_is_its_prior_or_little_more(city: City, prior: Prior) -> None:
    cameras = tuple(dataclasses.replace(s, source="telraam") if s.id == "L2" else s for s in city.sensors)
    agent = FusionAgent(dataclasses.replace(city, sensors=cameras), prior)
    rows = [[count(s, m, 900.0) for s in LOOPS if s != "L2"] for m in range(6)]
    for m, minute in enumerate(rows):
        camera = count("L2", m, 900.0)
        minute.append(dataclasses.replace(camera, source=type(camera.source).TELRAAM))
    run(agent, rows)
    (gain,) = [g for g in agent.gains() if g.mode is Mode.CAR]
    assert gain.sensor == "L2"
    assert not gain.has_reference
    assert 0.1 < gain.log_sd < 0.4
