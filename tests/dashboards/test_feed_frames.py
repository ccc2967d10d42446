"""Steps close when all agents that write have ended them, and no agent keeps the others for long."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cities.pack import City
from dashboards.board import Board
from dashboards.feed_frames import StepKeeper
from kernels.network import Mode
from streams.frames import Step
from streams.messages import Mark, Message, Output, output_record, read_message
from streams.observation import Observation, Source
from streams.readings import readings_batch
from streams.topics import Batch, Topic
from tests.dashboards.town import START_MS, alarm, densities, emissions, field, make_town

MINUTE_MS = 60_000
PRODUCES = {
    "fusion": Topic.DENSITIES, "emission": Topic.EMISSIONS, "air": Topic.FIELDS, "noise": Topic.FIELDS,
    "exposure": Topic.EXPOSURE, "alarms": Topic.ALARMS,
}  # fmt: skip


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(make_town(tmp_path / "town"))


@pytest.fixture
def city(tmp_path: Path) -> City:
    return make_town(tmp_path / "town")


def at(batch: Batch, minute: int, revision: int = 0) -> Batch:
    return replace(batch, time_ms=START_MS + minute * MINUTE_MS, revision=revision)


def flow(minute: int, per_h: float) -> Output:
    return Output("fusion", at(densities([per_h, 120.0, 40.0]), minute))


def step(minute: int, *agents: str, outputs: tuple[Message, ...] = ()) -> Step:
    time_ms = START_MS + minute * MINUTE_MS
    return Step("x", time_ms, (*outputs, *(Mark(PRODUCES[a], a, time_ms) for a in agents)))


def minute_of(board: Board) -> int:
    return (board.now_ms - START_MS) // MINUTE_MS


def flow_of(board: Board) -> float:
    return board.street(0).flows[0].flow_per_h


ALL = tuple(PRODUCES)
UPSTREAM = ("fusion", "emission")
REST = ("air", "noise", "exposure", "alarms")


def test_a_step_is_shown_when_the_last_agent_has_ended_it(board: Board) -> None:
    keeper = StepKeeper(board)
    assert not keeper.take_step(step(1, *UPSTREAM, outputs=(flow(1, 400.0),)))
    assert not keeper.take_step(step(2, *UPSTREAM, outputs=(flow(2, 500.0),)))
    assert board.version == 0
    assert keeper.take_step(step(1, *REST))
    assert (minute_of(board), flow_of(board)) == (1, 400.0)
    assert keeper.take_step(step(2, *REST))
    assert (minute_of(board), flow_of(board)) == (2, 500.0)
    assert keeper.behind == {}


def test_several_steps_in_one_frame_close_one_after_the_other(board: Board) -> None:
    first, second = step(1, *ALL, outputs=(flow(1, 400.0),)), step(2, *ALL, outputs=(flow(2, 500.0),))
    StepKeeper(board).take_step(Step("all", second.time_ms, (*first.messages, *second.messages)))
    assert (board.version, minute_of(board), flow_of(board)) == (2, 2, 500.0)
    assert len(board.trend(0)[0]) == 2


def test_a_group_that_died_keeps_the_others_three_steps_and_is_named(board: Board) -> None:
    keeper = StepKeeper(board)
    keeper.take_step(step(1, *ALL))
    for minute in (2, 3, 4):
        keeper.take_step(step(minute, *UPSTREAM))
        assert minute_of(board) == 1
    keeper.take_step(step(5, *UPSTREAM))
    assert minute_of(board) == 5
    assert keeper.behind == dict.fromkeys(REST, START_MS + MINUTE_MS)
    keeper.take_step(step(6, *UPSTREAM))  # from now on nobody waits for it
    assert minute_of(board) == 6


def test_a_group_that_comes_back_is_awaited_again_once_it_has_caught_up(board: Board, city: City) -> None:
    keeper = StepKeeper(board)
    keeper.take_step(step(1, *ALL))
    for minute in range(2, 7):
        keeper.take_step(step(minute, *UPSTREAM))
    tiles = [Output("air", at(batch, 2)) for batch in field(city, "no2", np.full(city.grid.shape, 30.0))]
    keeper.take_step(step(2, *REST, outputs=tuple(tiles)))
    assert minute_of(board) == 6
    assert board.is_known("no2", "now")  # late, but shown
    assert len(board.trend(0)[0]) == 6
    keeper.take_step(step(7, *UPSTREAM))
    assert minute_of(board) == 7
    for minute in range(3, 8):
        keeper.take_step(step(minute, *REST))
    keeper.take_step(step(8, *UPSTREAM))
    assert minute_of(board) == 7
    assert keeper.behind == {}
    keeper.take_step(step(8, *REST))
    assert minute_of(board) == 8


def test_what_the_latest_holds_already_is_not_taken_back(board: Board) -> None:
    keeper = StepKeeper(board)
    keeper.take_latest(
        [flow(3, 600.0), Output("emission", at(emissions(4000), 2)), Output("air", at(emissions(1), 3))]
    )
    assert (minute_of(board), flow_of(board)) == (3, 600.0)
    assert not keeper.take_step(step(2, "fusion", outputs=(flow(2, 500.0),)))
    assert not keeper.take_step(step(3, "fusion", outputs=(flow(3, 600.0),)))
    assert (minute_of(board), flow_of(board)) == (3, 600.0)
    keeper.take_step(step(4, "fusion", "emission", "air", outputs=(flow(4, 700.0),)))
    assert (minute_of(board), flow_of(board)) == (4, 700.0)


@pytest.mark.parametrize("is_told", ["by older steps", "by an older latest", "by an empty one"])
def test_a_cluster_that_was_set_back_takes_the_board_back_with_its_alarms(board: Board, is_told: str) -> None:
    keeper = StepKeeper(board)
    early, late = (
        Output("alarms", replace(alarm(key), time_ms=START_MS + m * MINUTE_MS))
        for key, m in (("no2/we", 1), ("no2/sn", 9))
    )
    keeper.take_step(step(1, *ALL, outputs=(flow(1, 100.0), early)))
    keeper.take_step(step(9, *ALL, outputs=(flow(9, 900.0), late)))
    assert (minute_of(board), flow_of(board), len(board.alarms())) == (9, 900.0, 2)
    version = board.version
    if is_told == "by an older latest":
        keeper.take_latest([flow(2, 200.0), early])
    else:
        if is_told == "by an empty one":
            keeper.take_latest([])
            assert minute_of(board) == 9
        keeper.take_step(step(2, *ALL, outputs=(flow(2, 200.0),)))
    assert (minute_of(board), flow_of(board)) == (2, 200.0)
    assert [a.key for a in board.alarms()] == ["no2/we"]
    assert board.version == version + 1


def test_an_alarm_between_two_steps_is_seen_at_once(board: Board) -> None:
    keeper = StepKeeper(board)
    keeper.take_step(Step("alarms", START_MS, (Output("alarms", alarm("no2/we")),)))
    assert [a.key for a in board.alarms()] == ["no2/we"]


def test_readings_that_the_intake_adds_count_once_and_with_their_step(board: Board) -> None:
    end_ms = START_MS + MINUTE_MS
    row = Observation(Source.LOOPS, "L1", START_MS, end_ms, end_ms, Mode.CAR, 10.0, simulated=True)
    record = output_record(Output("intake", readings_batch([row], end_ms)), "testby")
    readings = read_message(record.value, record.headers)
    keeper = StepKeeper(board)
    keeper.take_step(step(1, *UPSTREAM, outputs=(readings,)))
    assert board.key_figures().n_readings == 0
    keeper.take_step(step(1, *REST))
    keeper.take_latest([readings, flow(1, 400.0)])  # behind: the latest are taken again
    assert board.key_figures().n_readings == 1
    assert [f.last_end_ms for f in board.feeds() if f.source == "loops"] == [end_ms]
