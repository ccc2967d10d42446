"""The agents of a region over messages publish what they publish in one process."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from agents.agent import Agent
from agents.chain import group_of, inputs_of, topics_of
from agents.engines.embedded import EmbeddedEngine
from agents.engines.region import HoleError, RegionEngine
from agents.room import make_agents
from cities.pack import City, load_city
from streams.codec import pack_state, unpack_state
from streams.digest import Entry, batch_entry, run_digest
from streams.kafka_feed import records_of
from streams.messages import Mark, Message, Output, read_message
from streams.player import Player
from streams.recording import read_recording
from streams.topics import Topic
from studies.prepare import Prepared, prepare_city
from tests.toy import write_toy_city

MINUTES = 40
ROWS = 7  # of a message


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> tuple[City, Prepared]:
    folder = tmp_path_factory.mktemp("town") / "toyville"
    write_toy_city(folder, minutes=MINUTES)
    city = load_city(folder)
    return city, prepare_city(city, lambda _what, _fraction: None)


def agents_of(town: tuple[City, Prepared], names: Sequence[str]) -> list[Agent]:
    city, prepared = town
    made = make_agents(city, prepared.prior, prepared.air, prepared.noise)
    return [agent for agent in made if agent.name in names]


def messages_of(folder: Path) -> list[Message]:
    """The recording as a feed sends it."""
    records = records_of(read_recording(folder), "toyville", ROWS)
    return [read_message(record.value, record.headers) for _, record in records]


@pytest.fixture(scope="module")
def messages(town: tuple[City, Prepared]) -> list[Message]:
    return messages_of(town[0].folder)


@pytest.fixture(scope="module")
def embedded(town: tuple[City, Prepared]) -> str:
    """Digest of the same recording in one process."""
    city, prepared = town
    engine = EmbeddedEngine(
        city, make_agents(city, prepared.prior, prepared.air, prepared.noise), keep_digest=True
    )
    Player(read_recording(city.folder), engine).run()
    return run_digest(engine.entries())


def run(engine: RegionEngine, messages: Iterable[Message]) -> list[Output | Mark]:
    return [output for message in messages for output in engine.receive(message)]


def digest(outputs: Iterable[Output | Mark]) -> str:
    entries: dict[tuple[str, str, int, int], Entry] = {}
    for output in outputs:
        if isinstance(output, Output):
            entry = batch_entry(output.batch)
            assert entries.setdefault(entry[:4], entry) == entry
    return run_digest(entries.values())


def test_all_agents_of_a_region_publish_what_one_process_does(
    town: tuple[City, Prepared], messages: list[Message], embedded: str
) -> None:
    engine = RegionEngine(town[0], agents_of(town, group_of("all")))
    assert digest(run(engine, messages)) == embedded
    assert engine.steps == MINUTES


@pytest.mark.parametrize(
    "groups",
    [
        ["fusion", "emission,air,noise,exposure", "alarms"],
        ["fusion", "emission", "air", "noise", "exposure", "alarms"],
    ],
)
def test_groups_of_agents_behind_one_another_publish_the_same(
    town: tuple[City, Prepared], messages: list[Message], embedded: str, groups: list[str]
) -> None:
    log: list[tuple[Topic, Message]] = [(Topic.OBSERVATIONS, message) for message in messages]
    published: list[Output | Mark] = []
    chance = random.Random(5)
    for text in groups:
        names = group_of(text)
        wanted = topics_of(names)
        by_topic = {t: [m for topic, m in log if topic == t] for t in wanted}
        engine = RegionEngine(town[0], agents_of(town, names))
        while any(by_topic.values()):  # partitions are read in any order, each in its own
            topic = chance.choice([t for t in wanted if by_topic[t]])
            for output in engine.receive(by_topic[topic].pop(0)):
                published.append(output)
                log.append((output.topic if isinstance(output, Mark) else output.batch.topic, output))
    assert digest(published) == embedded


def test_repeats_of_messages_change_nothing(
    town: tuple[City, Prepared], messages: list[Message], embedded: str
) -> None:
    chance = random.Random(3)
    doubled: list[Message] = []
    for message in messages:
        doubled += [message] * chance.choice((1, 1, 2))
        if chance.random() < 0.05:
            doubled += doubled[-3:]
    engine = RegionEngine(town[0], agents_of(town, group_of("all")))
    assert digest(run(engine, doubled)) == embedded


def test_a_region_taken_up_from_its_snapshot_goes_on_as_if_never_stopped(
    town: tuple[City, Prepared], messages: list[Message], embedded: str
) -> None:
    outputs: list[Output | Mark] = []
    engine = RegionEngine(town[0], agents_of(town, group_of("all")))
    for number, message in enumerate(messages):
        outputs += engine.receive(message)
        if number in (5, 100):
            state = {name: unpack_state(pack_state(part)) for name, part in engine.snapshot().items()}
            engine = RegionEngine(town[0], agents_of(town, group_of("all")))
            engine.restore(state)
    assert digest(outputs) == embedded


def test_a_step_that_upstream_sends_again_is_used_once_and_a_missing_one_is_told(
    town: tuple[City, Prepared], messages: list[Message]
) -> None:
    fusion = RegionEngine(town[0], agents_of(town, ["fusion"]))
    steps: list[list[Output | Mark]] = [[]]
    for message in messages:
        for output in fusion.receive(message):
            steps[-1].append(output)
            if isinstance(output, Mark):
                steps.append([])
    first, second, third, fourth = steps[:4]

    def emission() -> RegionEngine:
        engine = RegionEngine(town[0], agents_of(town, ["emission"]))
        run(engine, messages)
        return engine

    plain = run(emission(), first + second + third)
    again = run(emission(), first + second[:-1] + first + second + second + third)
    assert again != []
    assert digest(again) == digest(plain)
    with pytest.raises(HoleError, match="the steps between are missing"):
        run(emission(), first + second + fourth)


def test_a_group_reads_what_its_agents_need_from_outside() -> None:
    assert topics_of(group_of("all")) == (Topic.OBSERVATIONS, Topic.OPERATOR_ACTIONS)
    assert topics_of(["exposure"]) == (Topic.FIELDS,)
    assert inputs_of(["exposure"]) == [(Topic.FIELDS, "air"), (Topic.FIELDS, "noise")]
    with pytest.raises(ValueError, match="got 'fushion', expected all or some of fusion"):
        group_of("fushion,air")
