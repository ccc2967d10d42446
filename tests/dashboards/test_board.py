from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agents.exposure import ExposureAgent
from cities.pack import City
from dashboards.board import Board, sound_power_level_db
from dashboards.feeds import FeedState
from dashboards.layers import LAYERS
from dashboards.raster import FieldScene, RoadScene
from kernels.network import Mode
from streams.observation import Observation, Source
from streams.readings import readings_batch
from streams.topics import Batch, Topic
from tests.dashboards.town import (
    NO_PEOPLE_OF_DAY,
    START_MS,
    X0,
    alarm,
    densities,
    emissions,
    exposure,
    field,
    full_board,
    make_town,
    noise_of_day,
)

MINUTE_MS = 60_000


@pytest.fixture
def city(tmp_path: Path) -> City:
    return make_town(tmp_path / "town")


def observations(*rows: Observation) -> Batch:
    return readings_batch(rows, START_MS)


def reading(
    end_ms: int, *, sensor: str = "L1", source: Source = Source.LOOPS, count: float = 10.0
) -> Observation:
    return Observation(source, sensor, end_ms - MINUTE_MS, end_ms, end_ms, Mode.CAR, count, simulated=True)


def test_a_step_is_seen_when_it_closes_and_not_before(city: City) -> None:
    board = Board(city)
    board.apply(densities([400.0, 120.0, 40.0]))
    assert board.street(0).flows == ()
    board.close(START_MS)
    forward, backward = board.street(0).flows
    assert (forward.flow_per_h, backward.flow_per_h) == (400.0, 200.0)
    assert forward.lo90 == pytest.approx(320.0)
    assert forward.simulated
    assert board.version == 1


def test_unknown_is_not_zero(city: City) -> None:
    board = Board(city)
    board.close(START_MS)
    street = board.street(0)
    assert street.flows == ()
    assert math.isnan(street.no2_now_ug_m3)
    assert math.isnan(street.sound_power_db)
    scene = board.scene(LAYERS["flow_car"], "now")
    assert isinstance(scene, RoadScene)
    assert np.isnan(scene.value).all()


def test_sound_power_adds_the_band_groups_and_is_referred_to_a_picowatt() -> None:
    # 1,000 quanta of 1e4 pW are 1e7 pW: 70 dB
    assert sound_power_level_db(1000) == pytest.approx(70.0)


def test_doubling_the_power_adds_three_decibels(city: City) -> None:
    board = Board(city)
    board.apply(emissions(4000))
    board.close(START_MS)
    before = board.street(1).sound_power_db
    board.apply(emissions(8000))
    board.close(START_MS + MINUTE_MS)
    assert board.street(1).sound_power_db - before == pytest.approx(3.0103, abs=1e-4)


def test_only_segments_whose_emission_differs_count_as_changed(city: City) -> None:
    board = Board(city)
    board.apply(emissions(4000))
    board.close(START_MS)
    assert board.key_figures().n_changed_segments == 3
    again = emissions(4000)
    again.columns["nox"][1] += 1
    board.apply(again)
    board.close(START_MS + MINUTE_MS)
    assert board.key_figures().n_changed_segments == 1


def test_a_field_keeps_its_values_and_unknown_cells(city: City) -> None:
    board = Board(city)
    values = np.full(city.grid.shape, 30.0)
    values[:, 0] = np.nan
    values[140, 139] = 41.25  # in the last tile
    for batch in field(city, "no2", values):
        board.apply(batch)
    board.close(START_MS)
    scene = board.scene(LAYERS["no2"], "now")
    assert isinstance(scene, FieldScene)
    np.testing.assert_allclose(scene.value, values, atol=0.005)
    assert board.key_figures().n_cells_updated == 7
    assert board.hours_seen("no2", "now") == pytest.approx(0.3)


@pytest.mark.parametrize("averaging", ["lday", "levening", "lnight", "lden"])
def test_an_indicator_of_a_day_is_taken_in_when_it_is_first_seen(city: City, averaging: str) -> None:
    board = Board(city)
    layer = LAYERS["noise"]
    assert np.isnan(board.scene(layer, averaging).value).all()
    assert math.isnan(board.hours_seen("noise", averaging))
    values = np.full(city.grid.shape, 61.5)
    values[3, 4] = np.nan
    for batch in field(city, "noise", values, averaging=averaging, hours_seen=24.0):
        board.apply(batch)
    board.close(START_MS)
    np.testing.assert_allclose(board.scene(layer, averaging).value, values, atol=0.006)
    assert board.hours_seen("noise", averaging) == 24.0
    assert np.isnan(board.scene(layer, "now").value).all()


def test_an_indicator_of_later_hours_is_forgotten_after_a_jump_back(city: City) -> None:
    board = Board(city)
    for batch in field(city, "noise", np.full(city.grid.shape, 61.5), averaging="lden", hours_seen=24.0):
        board.apply(batch)
    board.close(START_MS)
    board.close(START_MS - MINUTE_MS)
    assert np.isnan(board.scene(LAYERS["noise"], "lden").value).all()


def test_an_indicator_is_known_until_all_its_tiles_are_made_unknown(city: City) -> None:
    board = Board(city)
    for batch in noise_of_day(city, np.full(city.grid.shape, 61.4), propagation="screened by 7 buildings"):
        board.apply(batch)
    board.close(START_MS)
    assert board.is_known("noise", "lden")
    assert (board.day_hours().seen, board.day_hours().needed) == (23.02, 24.0)
    assert board.propagation() == "screened by 7 buildings"
    street = board.street(0)
    assert street.noise_lden_db == pytest.approx(61.4, abs=0.006)
    assert street.noise_lnight_db == pytest.approx(55.0, abs=0.006)
    nothing = field(city, "noise", np.full(city.grid.shape, np.nan), averaging="lden", hours_seen=23.4)
    for batch in nothing[:-1]:
        board.apply(batch)
    board.close(START_MS + MINUTE_MS)
    assert board.is_known("noise", "lden")
    board.apply(nothing[-1])
    board.close(START_MS + 2 * MINUTE_MS)
    assert not board.is_known("noise", "lden")
    assert math.isnan(board.street(0).noise_lden_db)


def test_the_people_of_a_noisy_day_are_those_that_the_exposure_agent_counts(city: City) -> None:
    settings = dict(city.settings) | {"population": {"total": 9000}}
    agent = ExposureAgent(replace(city, settings=settings))
    x = np.meshgrid(city.grid.x() - X0, city.grid.y())[0]
    for batch in noise_of_day(city, 45.0 + x / 40.0):
        agent.receive(batch)
    board = Board(city)
    for batch in agent.close(START_MS):
        board.apply(batch)
    board.close(START_MS)
    day = board.noise_day()
    assert day is not None
    assert not day.reason
    assert day.people == pytest.approx(9000, abs=1)
    below = day.people - sum(day.people_by_lden)
    assert min(below, *day.people_by_lden[:4]) > 0
    assert 0.0 < day.highly_annoyed < sum(day.people_by_lden)
    assert 0.0 < day.highly_sleep_disturbed < day.highly_annoyed


def test_the_reason_why_a_day_is_unknown_is_kept(city: City) -> None:
    board = Board(city)
    assert board.noise_day() is None
    board.apply(exposure(NO_PEOPLE_OF_DAY, key="9000"))
    board.apply(exposure(NO_PEOPLE_OF_DAY))
    board.close(START_MS)
    day = board.noise_day()
    assert day is not None
    assert day.reason == "needs 24 h, has 3.2 h"
    assert math.isnan(day.highly_annoyed)


def test_a_field_that_no_page_shows_is_passed_over(city: City) -> None:
    board = full_board(city)
    for batch in field(city, "ozone", np.full(city.grid.shape, 61.5), averaging="8h"):
        board.apply(batch)
    board.close(START_MS + MINUTE_MS)
    assert board.version == 2
    assert math.isnan(board.hours_seen("ozone", "8h"))


def test_the_level_of_a_street_is_the_highest_within_fifteen_metres(city: City) -> None:
    board = Board(city)
    x, y = np.meshgrid(city.grid.x(), city.grid.y())
    line_y = city.network.polyline(0)[0, 1]
    values = 100.0 - np.abs(y - line_y) / 10  # highest on the line
    values[np.abs(y - line_y) > 15.0] = 500.0  # beyond 15 m
    for batch in field(city, "no2", values):
        board.apply(batch)
    board.close(START_MS)
    inside = (np.abs(y - line_y) <= 15.0) & (x > city.network.polyline(0)[:, 0].min())
    assert board.street(0).no2_now_ug_m3 == pytest.approx(values[inside].max(), abs=0.01)


def test_an_alarm_is_seen_at_once_and_an_older_revision_is_ignored(city: City) -> None:
    board = Board(city)
    board.apply(alarm(revision=1, state="active acknowledged", who="An"))
    board.apply(alarm(revision=0))
    (seen,) = board.alarms()
    assert seen.state == "active acknowledged"
    assert board.alarm_version == 1
    board.apply(alarm(revision=2, state="normal"))
    assert board.alarms() == []


def test_unacknowledged_and_urgent_alarms_come_first(city: City) -> None:
    board = Board(city)
    board.apply(alarm("a/1", state="active acknowledged", priority=1))
    board.apply(alarm("b/1", priority=3))
    board.apply(alarm("c/1", priority=2))
    assert [a.key for a in board.alarms()] == ["c/1", "b/1", "a/1"]
    assert board.key_figures().n_active_alarms == 3


def test_a_feed_is_late_then_silent_after_its_own_interval(city: City) -> None:
    board = Board(city)
    for minute in range(5):
        board.apply(observations(reading(START_MS + minute * MINUTE_MS)))
    last = START_MS + 4 * MINUTE_MS
    states = []
    for minutes in (1, 2, 4):
        board.close(last + minutes * MINUTE_MS)
        (feed,) = board.feeds()
        states.append(feed.state)
    assert states == [FeedState.OK, FeedState.LATE, FeedState.SILENT]
    assert feed.n_rows == 5
    assert feed.n_reporting == 0
    assert feed.simulated


def test_a_reading_becomes_a_rate(city: City) -> None:
    board = Board(city)
    board.apply(observations(reading(START_MS, count=7.0)))
    board.close(START_MS)
    (seen,) = board.readings_of("L1")
    assert seen.rate_per_h == pytest.approx(420.0)


def test_the_trend_of_a_street_sums_its_directions_and_forgets_after_a_jump_back(city: City) -> None:
    board = Board(city)
    for minute in range(3):
        board.apply(densities([100.0 * (minute + 1), 10.0, 10.0]))
        board.close(START_MS + minute * MINUTE_MS)
    times, values = board.trend(0)
    np.testing.assert_array_equal(times, START_MS + MINUTE_MS * np.arange(3))
    np.testing.assert_allclose(values["flow_car"], [150.0, 300.0, 450.0], rtol=1e-3)
    np.testing.assert_allclose(values["hi90_car"], 1.25 * values["flow_car"], rtol=2e-3)
    assert np.isnan(values["flow_truck"]).all()
    board.close(START_MS)
    assert board.trend(0)[0].tolist() == [START_MS]


def test_the_ring_of_the_trend_keeps_the_newest_steps(city: City) -> None:
    board = Board(city)
    for step in range(250):
        board.close(START_MS + step * MINUTE_MS)
    times, _ = board.trend(1)
    assert times.size == 240
    assert times[-1] == START_MS + 249 * MINUTE_MS
    assert (np.diff(times) == MINUTE_MS).all()


def test_people_come_from_the_whole_city_only(city: City) -> None:
    board = Board(city)
    for key, people in (("9000", 12.0), ("all", 345.0)):
        columns = {
            "quantity": np.array(["no2"]), "averaging": np.array(["now"]), "threshold": np.array([40.0]),
            "people_above": np.array([people]), "people": np.array([1000.0]), "mean": np.array([20.0]),
            "p95": np.array([30.0]), "accuracy": np.array([0.7]),
        }  # fmt: skip
        board.apply(Batch(Topic.EXPOSURE, key, START_MS, columns))
    board.close(START_MS)
    (above,) = board.key_figures().people_above
    assert above.people_above == 345.0


def test_dead_letters_are_counted(city: City) -> None:
    board = Board(city)
    board.apply(Batch(Topic.DEADLETTERS, "", START_MS, {"reason": np.array(["x", "y"], dtype=object)}))
    board.close(START_MS)
    assert board.key_figures().n_dead_letters == 2


def test_the_median_accuracy_is_of_the_car_flows(city: City) -> None:
    board = full_board(city)
    assert board.key_figures().median_accuracy == pytest.approx(0.8)


def test_an_operators_action_between_steps_adds_no_step(city: City) -> None:
    board = full_board(city)
    board.apply(Batch(Topic.OPERATOR_ACTIONS, "no2/we", START_MS, {"action": np.array(["acknowledge"])}))
    board.close(START_MS)
    assert board.version == 1
    assert board.key_figures().n_changed_segments == 3
    assert board.trend(0)[0].size == 1
