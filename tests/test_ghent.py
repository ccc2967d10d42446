"""The bundled morning: the closure is found from the sensors alone, where it is and only there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from threadpoolctl import threadpool_limits

from agents.engines.embedded import EmbeddedEngine
from agents.room import make_agents
from cities.pack import City, find_city, load_city
from streams.observation import time_ms
from streams.player import Player
from streams.recording import read_recording
from streams.topics import Batch, Topic
from studies.observe import apply_changes, read_lines, write_lines
from studies.prepare import Prepared, prepare_city

DATA = Path(__file__).parent / "data"
pytestmark = pytest.mark.slow
FROM, TO = "2022-11-23T06:30:00Z", "2022-11-23T08:20:00Z"  # 07:30 to 09:20 local
CLOSED, OPENED = time_ms("2022-11-23T07:10:00Z"), time_ms("2022-11-23T07:50:00Z")
DETOUR = "traffic-rise/Sint-Lievenslaan"


@pytest.fixture(scope="module")
def city() -> City:
    return load_city(find_city("ghent"))


@pytest.fixture(scope="module")
def prepared(city: City, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    with pytest.MonkeyPatch.context() as patch, threadpool_limits(1, "blas"):
        patch.setenv("TWINROOM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield prepare_city(city, lambda _what, _fraction: None)


HEARD = ("fusion", "emission", "alarms")  # what the rule of rising traffic hangs on


def transitions(
    city: City, prepared: Prepared, recording: Path, to_ms: int, *, whole: bool = False
) -> list[tuple[str, str, int]]:
    """Alarms of the traffic rule from 07:30, by the whole room or by what the rule hears: key, state, time."""
    from_ms = time_ms(FROM)
    agents = make_agents(city, prepared.prior, prepared.air, prepared.noise)
    agents = tuple(agent for agent in agents if whole or agent.name in HEARD)
    engine = EmbeddedEngine(city, agents, publish_from_ms=from_ms)
    found: list[tuple[str, str, int]] = []

    def note(batch: Batch) -> None:
        if batch.key.startswith("traffic-rise/") and "quality" not in batch.key:
            found.append((batch.key, str(batch.columns["state"][0]), batch.time_ms))

    engine.bus.subscribe((Topic.ALARMS,), note)
    player = Player(
        read_recording(recording), engine, speed=math.inf, from_ms=from_ms, to_ms=to_ms,
        warm_up_ms=1_800_000,
    )  # fmt: skip
    player.run()
    assert engine.figures.steps >= (to_ms - from_ms) // 60_000 - 1
    return found


def raised(found: list[tuple[str, str, int]]) -> set[str]:
    return {key for key, state, _ in found if state == "active unacknowledged"}


def variant(name: str, folder: Path) -> Path:
    """The bundled recording with the rows of a variant in their places."""
    bundled = find_city("ghent") / "recording.jsonl.gz"
    path = folder / "recording.jsonl.gz"
    write_lines(apply_changes(read_lines(bundled), read_lines(DATA / name)), path)
    return path


@pytest.fixture(scope="module")
def bundled(city: City, prepared: Prepared) -> list[tuple[str, str, int]]:
    return transitions(city, prepared, find_city("ghent") / "recording.jsonl.gz", time_ms(TO), whole=True)


def test_the_closure_raises_an_alarm_on_the_detour_and_it_clears_afterwards(
    bundled: list[tuple[str, str, int]],
) -> None:
    mine = [(state, moment) for key, state, moment in bundled if key == DETOUR]
    assert [state for state, _ in mine] == ["active unacknowledged", "cleared unacknowledged"]
    assert CLOSED < mine[0][1] < CLOSED + 20 * 60_000
    assert mine[1][1] > OPENED


def test_without_the_closure_no_such_alarm_is_raised(city: City, prepared: Prepared, tmp_path: Path) -> None:
    found = transitions(city, prepared, variant("no_closure.jsonl.gz", tmp_path), OPENED)
    assert DETOUR not in raised(found)


def test_another_closure_raises_it_elsewhere(
    city: City, prepared: Prepared, tmp_path: Path, bundled: list[tuple[str, str, int]]
) -> None:
    found = transitions(city, prepared, variant("other_closure.jsonl.gz", tmp_path), OPENED)
    assert DETOUR not in raised(found)
    assert raised(found) - raised(bundled)
