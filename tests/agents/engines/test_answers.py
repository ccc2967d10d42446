"""What agents answer over JSON is what they answer in one process."""

from __future__ import annotations

import math
from typing import Any

import orjson
import pytest

from agents.agent import Agent
from agents.air import AirAgent
from agents.engines.answers import (
    AGENT_OF,
    AnswerError,
    answer,
    is_mine,
    read_air_explanation,
    read_evidence,
    read_explanation,
    read_faults,
    read_gains,
)  # fmt: skip
from agents.engines.embedded import EmbeddedEngine
from agents.fusion import FusionAgent
from agents.room import make_agents
from cities.pack import load_city
from kernels.network import Direction, Mode
from streams.player import Player
from streams.recording import read_recording
from studies.prepare import prepare_city
from tests.toy import write_toy_city


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> tuple[Agent, ...]:
    """Agents of the toy city after half an hour."""
    folder = tmp_path_factory.mktemp("town") / "toyville"
    write_toy_city(folder, minutes=30)
    city = load_city(folder)
    prepared = prepare_city(city, lambda _what, _fraction: None)
    made = make_agents(city, prepared.prior, prepared.air, prepared.noise)
    Player(read_recording(folder), EmbeddedEngine(city, made)).run()
    return made


def over_json(agents: tuple[Agent, ...], name: str, **arguments: Any) -> Any:
    return orjson.loads(orjson.dumps(answer(agents, name, arguments)))


def test_each_answer_is_the_same_over_json(agents: tuple[Agent, ...]) -> None:
    fusion = next(a for a in agents if isinstance(a, FusionAgent))
    air = next(a for a in agents if isinstance(a, AirAgent))
    explained = fusion.explain(0, Direction.FORWARD, Mode.CAR)
    assert explained is not None
    assert len(explained.counters) > 5
    assert read_explanation(over_json(agents, "explain", segment=0, direction=0, mode=0)) == explained
    assert read_explanation(over_json(agents, "explain", segment=0, direction=0, mode=3)) is None
    origin = read_air_explanation(
        over_json(agents, "explain_air", cell=1200, quantity="no2", averaging="now")
    )
    assert origin == air.explain(1200, "no2", "now")
    evidence = read_evidence(over_json(agents, "evidence"))
    assert len(evidence) == 7  # streets with a loop
    assert all(list(found) == fusion.evidence(segment) for segment, found in evidence.items())
    assert read_gains(over_json(agents, "gains")) == tuple(fusion.gains())
    assert read_faults(over_json(agents, "faults")) == tuple(fusion.faults())


def test_what_is_not_a_number_comes_back_as_such() -> None:
    raw = b'[{"sensor":"T","mode":0,"segment":1,"log_gain":null,"log_sd":1,"has_reference":false}]'
    (gain,) = read_gains(orjson.loads(raw))
    assert math.isnan(gain.log_gain)
    assert gain.mode is Mode.CAR


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("why", {}, "question: got 'why', expected one of evidence, explain"),
        ("explain", {"segment": -1, "direction": 0, "mode": 0}, "explain: segment: got -1"),
        ("explain", {"segment": 9999, "direction": 0, "mode": 0}, "segment: got 9999, which no street has"),
        (
            "explain",
            {"segment": 0, "direction": 2, "mode": 0},
            "direction: got 2, expected a code of Direction",
        ),
        ("explain", {"segment": 0, "direction": 0}, "explain: mode: got None"),
        ("explain_air", {"cell": 10**9, "quantity": "no2", "averaging": "now"}, "cell: got 1000000000"),
        (
            "explain_air",
            {"cell": 0, "quantity": "o3", "averaging": "now"},
            "quantity: got 'o3', expected one of no2",
        ),
        ("explain_air", {"cell": 0, "quantity": "no2", "averaging": []}, "averaging: got \\[\\]"),
    ],
)
def test_a_bad_question_is_refused_by_name(
    agents: tuple[Agent, ...], name: str, arguments: dict[str, Any], told: str
) -> None:
    with pytest.raises(AnswerError, match=told):
        answer(agents, name, arguments)


def test_a_name_belongs_to_one_group_whatever_the_groups(agents: tuple[Agent, ...]) -> None:
    for name in (*AGENT_OF, "unknown"):
        assert [agent.name for agent in agents if is_mine([agent], name)] == [AGENT_OF.get(name, "fusion")]
    with pytest.raises(AnswerError, match="explain is answered by agent fusion, which is not here"):
        answer([a for a in agents if isinstance(a, AirAgent)], "explain", {})


@pytest.mark.parametrize("value", [{}, [1], [{"sensor": "T"}]])
def test_an_answer_of_another_shape_is_told(value: object) -> None:
    with pytest.raises(AnswerError, match="expected"):
        read_gains(value)
