"""Late readings, revisions and repeats: in the end the same as if all had come in order."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from agents.emission import EmissionAgent
from agents.fusion import FusionAgent
from agents.fusion_log import AT_ONCE_MS, TAKEN_UP_MS
from cities.pack import City, load_city
from dashboards.board import Board
from kernels.gate import gate_bound
from kernels.network import Mode
from kernels.prior import Prior
from streams.clock import GRACE_MS, LATE_WINDOW_MS
from streams.codec import pack_state, unpack_state
from streams.observation import Observation, Source
from streams.readings import ReadingTable, readings_batch
from streams.steps import StepBuffer
from streams.topics import Batch
from studies.prior import prepare_prior
from tests.toy import SENSORS, START, write_toy_city

START_MS = round(START.timestamp() * 1000)
MINUTE_MS = 60_000
LOOPS = tuple(name for name, _, _ in SENSORS)
Arrivals = list[tuple[int, Observation]]
"""Minute in which a reading arrives, and the reading."""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> City:
    folder = tmp_path_factory.mktemp("late") / "toyville"
    write_toy_city(folder, minutes=1)
    return load_city(folder)


@pytest.fixture(scope="module")
def prior(city: City) -> Prior:
    return prepare_prior(city, lambda _what, _part: None)


def count(sensor: str, minute: int, per_h: float, mode: Mode = Mode.CAR, version: int = 0) -> Observation:
    end = START_MS + (minute + 1) * MINUTE_MS
    return Observation(
        Source.LOOPS, sensor, end - MINUTE_MS, end, end + 1_000 + version, mode=mode,
        count=per_h / 60, speed_kmh=30.0 + minute % 7, event_id=f"{sensor}{minute}{mode}v{version}",
    )  # fmt: skip


def morning(minutes: int, seed: int = 0) -> Arrivals:
    """Readings in order of two modes; loop L1 falls silent in between, as a street that is closed."""
    chance = random.Random(seed)
    return [
        (
            minute,
            count(name, minute, 60.0 * chance.randint(4, 16) * (0.05 if mode is Mode.TRUCK else 1), mode),
        )
        for minute in range(minutes)
        for name in LOOPS
        for mode in (Mode.CAR, Mode.TRUCK)
        if not (name == "L1" and 12 <= minute < 18)
    ]


class Room:
    """Buffer and fusion agent, fed minute by minute; keeps the highest revision of what was published."""

    def __init__(self, city: City, prior: Prior) -> None:
        self.buffer = StepBuffer({sensor.id: sensor.source for sensor in city.sensors})
        self.agent = FusionAgent(city, prior)
        self.published: dict[tuple[str, int], Batch] = {}
        self.n_batches: list[int] = []

    def close(self, minute: int) -> None:
        end = START_MS + (minute + 1) * MINUTE_MS
        self.agent.receive(self.buffer.close(end))
        batches = self.agent.close(end)
        self.n_batches.append(len(batches))
        for batch in batches:
            held = self.published.get((batch.key, batch.time_ms))
            assert held is None or batch.revision > held.revision
            self.published[batch.key, batch.time_ms] = batch

    def play(self, arrivals: Arrivals, first: int, end: int) -> Room:
        for minute in range(first, end):
            rows = [row for m, row in arrivals if m == minute]
            self.buffer.add(ReadingTable.of(rows), START_MS + (minute + 1) * MINUTE_MS + GRACE_MS)
            self.close(minute)
        return self


def same(a: Room, b: Room) -> bool:
    """Whether the last revisions of all steps are equal bit for bit."""
    return a.published.keys() == b.published.keys() and all(
        batch.columns[name].tobytes() == b.published[at].columns[name].tobytes()
        for at, batch in a.published.items()
        for name in batch.columns
    )


def delayed(arrivals: Arrivals, lag: Callable[[int, Observation], int]) -> Arrivals:
    return sorted(((m + lag(m, row), row) for m, row in arrivals), key=lambda a: a[0])


@pytest.mark.parametrize("seed", range(3))
def test_any_order_of_arrival_gives_the_same_densities_and_the_same_future(
    city: City, prior: Prior, seed: int
) -> None:
    chance = random.Random(seed)
    rows = morning(24, seed)
    mixed = delayed(rows, lambda _m, _r: chance.choice((0, 0, 0, 1, 2, 5, 11)))
    mixed += [(m + 3, row) for m, row in chance.sample(mixed, 30)]  # sent twice
    first, second = (Room(city, prior).play(r, 0, 40) for r in (rows, mixed))
    assert same(first, second)
    assert second.buffer.intake.duplicates == 30
    assert second.buffer.intake.late > 100


@pytest.mark.parametrize("seed", range(2))
def test_of_two_versions_of_a_reading_the_one_received_last_holds_whenever_it_arrives(
    city: City, prior: Prior, seed: int
) -> None:
    chance = random.Random(seed)
    rows = morning(20)
    revised = [
        (minute, dataclasses.replace(row, count=value, received_ms=row.received_ms + 9, event_id=f"{k}r"))
        for k, (minute, row) in enumerate(chance.sample(rows, 12))
        for value in (chance.choice((float("nan"), 0.0, row.count + 3)),)
    ]
    in_order = Room(city, prior).play(rows + revised, 0, 40)
    later = Room(city, prior).play(rows + delayed(revised, lambda _m, _r: chance.randint(0, 14)), 0, 40)
    swapped = [(m + 4, row) for m, row in rows if any(same_interval(row, r) for _, r in revised)]
    untouched = [(m, row) for m, row in rows if not any(same_interval(row, r) for _, r in revised)]
    older_last = Room(city, prior).play(untouched + revised + swapped, 0, 40)
    assert same(in_order, later)
    assert same(in_order, older_last)
    assert later.buffer.intake.revisions == older_last.buffer.intake.revisions == 12


def same_interval(a: Observation, b: Observation) -> bool:
    return (a.sensor, a.mode, a.end_ms) == (b.sensor, b.mode, b.end_ms)


def test_a_reading_two_hours_late_still_corrects_its_step(city: City, prior: Prior) -> None:
    rows = morning(4)
    (late,) = [row for minute, row in rows if row.sensor == "L3" and minute == 2 and row.mode is Mode.CAR]
    others = [(minute, row) for minute, row in rows if row is not late]
    last = LATE_WINDOW_MS // MINUTE_MS + 2
    in_order = Room(city, prior).play(rows, 0, last + 6)
    behind = Room(city, prior).play(others, 0, last)
    behind.buffer.add(ReadingTable.of([late]), START_MS + 3 * MINUTE_MS + LATE_WINDOW_MS)
    behind.play([], last, last + 6)
    assert same(in_order, behind)


def test_late_readings_of_one_closing_cost_one_replay_of_the_steps_since_theirs(
    city: City, prior: Prior
) -> None:
    rows = morning(24)
    n_late = AT_ONCE_MS // MINUTE_MS
    mixed = delayed(rows, lambda m, row: n_late if m == 11 and row.sensor in ("L2", "L5") else 0)
    room = Room(city, prior).play(mixed, 0, 24)
    assert room.n_batches == [1] * 14 + [1 + n_late] + [1] * 9


def test_readings_later_than_minutes_are_taken_up_together_at_the_next_mark(city: City, prior: Prior) -> None:
    rows = morning(40)
    mixed = delayed(rows, lambda m, row: 15 if m == 11 and row.sensor == "L2" else 0)
    mixed = delayed(mixed, lambda m, row: 15 if m == 12 and row.sensor == "L3" else 0)
    room = Room(city, prior).play(mixed, 0, 40)
    again = {minute: n - 1 for minute, n in enumerate(room.n_batches) if n > 1}
    assert again == {29: 18}  # arrived in minutes 26 and 27; steps 11 to 28 are published again
    assert TAKEN_UP_MS == 5 * MINUTE_MS


@pytest.mark.parametrize("cut", [13, 16, 22])
def test_a_restart_between_a_step_and_its_late_readings_changes_nothing(
    city: City, prior: Prior, cut: int
) -> None:
    rows = delayed(
        morning(40), lambda m, row: {"L2": 2, "L4": 11, "L7": 16}.get(row.sensor, 0) if m > 5 else 0
    )
    whole = Room(city, prior).play(rows, 0, 45)
    stopped = Room(city, prior).play(rows, 0, cut)
    resumed = Room(city, prior)
    resumed.published = stopped.published
    resumed.buffer.restore(unpack_state(pack_state(stopped.buffer.snapshot())))
    resumed.agent.restore(unpack_state(pack_state(stopped.agent.snapshot())))
    resumed.play(rows, cut, 45)
    assert same(whole, resumed)
    assert [b.revision for b in whole.published.values()] == [b.revision for b in resumed.published.values()]


def test_late_readings_of_warm_up_steps_publish_none_of_them(city: City, prior: Prior) -> None:
    agents = [FusionAgent(city, prior) for _ in range(2)]
    rows = morning(15)
    late = [row for minute, row in rows if minute == 7 and row.sensor == "L2"]
    outcome = []
    for agent, held_back in zip(agents, (False, True), strict=True):
        for minute in range(20):
            end = START_MS + (minute + 1) * MINUTE_MS
            now = [row for m, row in rows if m == minute and not (held_back and row in late)]
            now = [*late, *now] if held_back and minute == 12 else now
            agent.receive(readings_batch(now, end))
            if minute < 10:
                agent.warm_up(end)
            else:
                outcome.append((held_back, list(agent.close(end))))
    times = [[b.time_ms for b in batches] for held_back, batches in outcome if held_back]
    assert min(min(t) for t in times) == START_MS + 11 * MINUTE_MS
    first, second = (
        {b.time_ms: b for held_back, batches in outcome if held_back is which for b in batches}
        for which in (False, True)
    )
    for time_ms, batch in first.items():
        assert batch.columns["flow_per_h"].tobytes() == second[time_ms].columns["flow_per_h"].tobytes()


def test_the_log_of_a_long_run_is_bounded(city: City, prior: Prior) -> None:
    room = Room(city, prior).play(morning(30), 0, 30)
    early = len(pack_state(room.agent.snapshot()))
    room.play([], 30, 330)
    assert len(pack_state(room.agent.snapshot())) < 2 * early


def weather(version: int, *, minute: int = 0, wind_m_s: float = 3.0, event: str = "a") -> Batch:
    end = START_MS + minute * MINUTE_MS
    row = Observation(
        Source.WEATHER, "M1", end - 3_600_000, end, end + version, wind_speed_m_s=wind_m_s,
        wind_from_deg=90.0, temperature_c=wind_m_s, event_id=event,
    )  # fmt: skip
    return readings_batch([row], end)


def test_of_weather_the_newest_hour_holds_in_its_last_version_whenever_it_arrives(city: City) -> None:
    batches = [
        weather(0, wind_m_s=3.0, event="z"),
        weather(5, wind_m_s=4.0, event="a"),
        weather(99, minute=-60, wind_m_s=8.0),
    ]
    n = city.network.n_segments
    no_cells = np.zeros(0, dtype=np.int32)
    bound = gate_bound(
        no_cells, no_cells, np.zeros(0), 0, n, air_tolerance_ug_per_m3=0.1, noise_tolerance_db=0.1
    )
    for order in itertools.permutations(batches):
        agent = EmissionAgent(city, bound)
        for batch in order:
            agent.receive(batch)
        assert agent.snapshot()["wind_m_s"] == 4.0
        assert agent.snapshot()["temperature_c"] == 4.0


def test_revised_densities_of_an_earlier_step_change_nothing_downstream(city: City, prior: Prior) -> None:
    room = Room(city, prior).play(morning(2), 0, 2)
    before, after = (b for _, b in sorted(room.published.items(), key=lambda item: item[0][1]))
    board, seen = Board(city), []
    for batch in (after, dataclasses.replace(before, revision=1)):
        board.apply(batch)
        board.close(after.time_ms)
        seen.append(
            [flow.flow_per_h for s in range(city.network.n_segments) for flow in board.street(s).flows]
        )
    assert seen[0] == seen[1]
