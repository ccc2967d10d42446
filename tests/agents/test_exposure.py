from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from agents.exposure import ExposureAgent
from dashboards.board import Board
from dashboards.noise_day import DayHours
from dashboards.rolling import people_state
from dashboards.view import figures_state
from streams.codec import decode_batch, encode_batch, pack_state, unpack_state
from streams.topics import Batch, Topic

PERIOD = 300_000
START = 1_700_000_100_000


def _tiles(city, quantity, field, scale=0.01, offset=0.0, accuracy=0.6, averaging="now", **more):
    batches = []
    for row, column in city.grid.tiles():
        part = field[city.grid.tile_slices(row, column)]
        attributes = {
            "scale": scale,
            "offset": offset,
            "accuracy": accuracy,
            "simulated": True,
            "rows": part.shape[0],
            "columns": part.shape[1],
            **more,
        }
        key = f"{quantity}/{averaging}/{row}/{column}"
        batches.append(Batch(Topic.FIELDS, key, START, {"values": part.ravel()}, attributes=attributes))
    return batches


def _step(agent, time, batches):
    for batch in batches:
        agent.receive(batch)
    return {batch.key: batch for batch in agent.close(time)}


def _flat(city, value):
    return np.full(city.grid.shape, value, dtype=np.uint16)


def test_all_inside_people_are_above_a_threshold_that_all_exceed(lattice):
    out = _step(ExposureAgent(lattice), START, _tiles(lattice, "no2", _flat(lattice, 3000)))
    assert set(out) == {"all", "east", "west"}
    whole = out["all"].columns
    assert whole["quantity"].tolist() == ["no2", "no2"]
    assert whole["threshold"].tolist() == [22.0, 40.0]
    assert whole["people"].tolist() == [9000.0, 9000.0]  # all streets lie inside the receptors
    assert whole["people_above"].tolist() == [9000.0, 0.0]
    assert whole["mean"].tolist() == [30.0, 30.0]
    assert whole["p95"].tolist() == [30.0, 30.0]
    assert whole["accuracy"].tolist() == [0.6, 0.6]
    assert out["all"].attributes["share_covered"] == 1.0
    assert out["all"].attributes["simulated"]
    assert "derived" in out["all"].attributes


def test_people_follow_the_length_of_residential_streets(lattice):
    out = _step(ExposureAgent(lattice), START, _tiles(lattice, "no2", _flat(lattice, 3000)))
    length = lattice.network.length_m
    street = lattice.road_class == 1
    east = street & (np.array(lattice.segment_zones) == "east")
    expected = 9000.0 * length[east].sum() / length[street].sum()
    assert out["east"].columns["people"][0] == pytest.approx(expected, abs=0.51)
    assert out["east"].columns["people"][0] + out["west"].columns["people"][0] == pytest.approx(9000, abs=1)


def test_only_people_within_a_hot_half_are_above(lattice):
    field = _flat(lattice, 2100)
    field[:, lattice.grid.n_columns // 2 :] = 4500
    out = _step(ExposureAgent(lattice), START, _tiles(lattice, "no2", field))
    above = {zone: batch.columns["people_above"].tolist() for zone, batch in out.items()}
    assert above["west"][1] < above["east"][1] <= out["east"].columns["people"][0]
    assert above["all"][1] == pytest.approx(above["west"][1] + above["east"][1], abs=1)
    assert out["all"].columns["p95"][0] == 45.0


def test_noise_is_read_with_its_own_scale_and_offset(lattice):
    out = _step(ExposureAgent(lattice), START, _tiles(lattice, "noise", _flat(lattice, 8000), offset=-20.0))
    assert out["all"].columns["mean"].tolist() == [60.0]
    assert out["all"].columns["people_above"].tolist() == [9000.0]


def test_publishes_at_five_minutes_and_only_what_changed(lattice):
    agent = ExposureAgent(lattice)
    assert _step(agent, START - 60_000, _tiles(lattice, "no2", _flat(lattice, 3000))) == {}
    assert len(_step(agent, START, [])) == 3
    assert _step(agent, START + PERIOD, []) == {}
    field = _flat(lattice, 3000)
    field[:, 110:] = 5000  # only the east
    assert set(_step(agent, START + 2 * PERIOD, _tiles(lattice, "no2", field))) == {"all", "east"}


def test_people_outside_the_receptors_do_not_count_and_the_share_says_so(lattice):
    grid = dataclasses.replace(lattice.grid, n_columns=100)
    city = dataclasses.replace(lattice, grid=grid)
    out = _step(ExposureAgent(city), START, _tiles(city, "no2", np.full(grid.shape, 3000, dtype=np.uint16)))
    whole = out["all"]
    assert 0.3 < whole.attributes["share_covered"] < 0.8
    assert whole.columns["people"][0] == pytest.approx(9000 * whole.attributes["share_covered"], abs=1)


def test_without_settings_nothing_is_published(lattice):
    for missing in ("exposure", "population"):
        settings = {key: value for key, value in lattice.settings.items() if key != missing}
        agent = ExposureAgent(dataclasses.replace(lattice, settings=settings))
        assert _step(agent, START, _tiles(lattice, "no2", _flat(lattice, 3000))) == {}


def test_before_a_field_was_seen_nothing_is_published(lattice):
    assert _step(ExposureAgent(lattice), START, []) == {}


def test_a_restored_agent_goes_on_as_if_never_stopped(lattice):
    agent, successor = ExposureAgent(lattice), ExposureAgent(lattice)
    field = np.random.default_rng(3).integers(2000, 5000, lattice.grid.shape).astype(np.uint16)
    _step(agent, START, _tiles(lattice, "no2", field))
    successor.restore(unpack_state(pack_state(agent.snapshot())))
    assert _step(successor, START + PERIOD, []) == {}
    tiles = _tiles(lattice, "no2", field)[:1]
    changed = dataclasses.replace(tiles[0], columns={"values": tiles[0].columns["values"] + np.uint16(500)})
    one, other = (_step(a, START + 2 * PERIOD, [changed]) for a in (agent, successor))
    assert set(one) == {"all", "east", "west"}
    assert [encode_batch(b) for b in one.values()] == [encode_batch(b) for b in other.values()]


def test_its_batches_travel(lattice):
    out = _step(ExposureAgent(lattice), START, _tiles(lattice, "no2", _flat(lattice, 3000)))
    back = decode_batch(encode_batch(out["all"]))
    assert back.columns["quantity"].tolist() == ["no2", "no2"]
    np.testing.assert_array_equal(back.columns["mean"], out["all"].columns["mean"])


def _day(city, lden, lnight):
    """Tiles of both indicators from levels [dB]."""
    hours = {"hours_seen": 24.0, "hours_needed": 24.0}
    batches = []
    for name, level in (("lden", lden), ("lnight", lnight)):
        stored = np.where(np.isnan(level), 65535, np.rint((level + 20.0) / 0.01)).astype(np.uint16)
        batches += _tiles(city, "noise", stored, offset=-20.0, averaging=name, **hours)
    return batches


def _level(city, value):
    return np.full(city.grid.shape, float(value))


def test_until_24_hours_are_seen_the_bands_are_absent_and_the_reason_is_told(lattice):
    now = _tiles(
        lattice, "noise", _flat(lattice, 8000), offset=-20.0, hours_seen_24h=3.27, hours_needed_24h=24.0
    )
    told = _step(ExposureAgent(lattice), START, now)["all"].attributes["noise_24h"]
    assert told == {
        "indicator": "rolling 24 h, not the annual Lden and Lnight of 2002/49/EC",
        "hours_seen": 3.27,
        "hours_needed": 24.0,
        "reason": "needs 24 h, has 3.2 h",
    }


@pytest.mark.parametrize(
    ("population", "reason"),
    [
        (None, "no [population] total: nobody is counted"),
        ({"source": "a census to come"}, "no [population] total: nobody is counted"),
        ({"total": 0}, "[population] total: got 0, expected a number above 0: nobody is counted"),
        ({"total": "many"}, "[population] total: got 'many', expected a number above 0: nobody is counted"),
        ({"total": math.inf}, "[population] total: got inf, expected a number above 0: nobody is counted"),
    ],
)
def test_where_nobody_is_counted_the_page_says_why(lattice, population, reason):
    settings = {key: value for key, value in lattice.settings.items() if key != "population"}
    if population is not None:
        settings["population"] = population
    city = dataclasses.replace(lattice, settings=settings)
    hours = {"hours_seen_24h": 3.27, "hours_needed_24h": 24.0}
    out = _step(ExposureAgent(city), START, _tiles(city, "noise", _flat(city, 8000), offset=-20.0, **hours))
    assert set(out) == {"all"}
    told = decode_batch(encode_batch(out["all"]))
    assert told.n_rows == 0
    board = Board(city)
    board.apply(told)
    board.close(START)
    day = people_state(board.noise_day(), DayHours(3.5, 24.0))
    assert (day["reason"], day["bands"]) == (reason, [])  # not that hours are missing: none would help
    assert [card["label"] for card in figures_state(board)] == ["median accuracy of car flow"]


def test_people_beside_streets_without_receptors_are_not_counted_and_it_says_so(lattice):
    grid = dataclasses.replace(lattice.grid, x_min=lattice.grid.x_min + 1e5)
    hours = {"hours_seen_24h": 3.27, "hours_needed_24h": 24.0}
    city = dataclasses.replace(lattice, grid=grid)
    out = _step(ExposureAgent(city), START, _tiles(city, "noise", _flat(city, 8000), offset=-20.0, **hours))
    told = out["all"].attributes["noise_24h"]
    assert told["reason"] == "no residential street is within the receptors: nobody is counted"


def test_without_noise_nothing_is_told_of_its_day(lattice):
    out = _step(ExposureAgent(lattice), START, _tiles(lattice, "no2", _flat(lattice, 3000)))
    assert "noise_24h" not in out["all"].attributes


def test_people_are_counted_by_band_and_harmed_by_the_share_at_its_middle(lattice):
    """9,000 people at 57 and 52 dB: 12.816 % highly annoyed, 5.145 % highly sleep-disturbed."""
    out = _step(ExposureAgent(lattice), START, _day(lattice, _level(lattice, 57.0), _level(lattice, 52.0)))
    told = out["all"].attributes["noise_24h"]
    assert told["people_lden"] == told["people_lnight"] == 9000.0
    assert told["lden_from_db"] == [55.0, 60.0, 65.0, 70.0, 75.0]
    assert told["people_by_lden"] == [9000.0, 0.0, 0.0, 0.0, 0.0]
    assert told["lnight_from_db"] == [50.0, 55.0, 60.0, 65.0, 70.0]
    assert told["people_by_lnight"] == [9000.0, 0.0, 0.0, 0.0, 0.0]
    assert told["highly_annoyed"] == pytest.approx(0.1282 * 9000, abs=1)
    assert told["highly_sleep_disturbed"] == pytest.approx(0.0515 * 9000, abs=1)
    assert told["accuracy_lden"] == told["accuracy_lnight"] == 0.6
    assert "2020/367" in told["method"]
    assert "reason" not in told
    assert out["all"].columns["quantity"].size == 0  # no threshold of the pack asks for these averagings


def test_quiet_people_are_in_no_band_and_zones_add_up(lattice):
    lden, lnight = _level(lattice, 44.0), _level(lattice, 40.0)
    lden[:, lattice.grid.n_columns // 2 :] = 76.0
    out = _step(ExposureAgent(lattice), START, _day(lattice, lden, lnight))
    told = {zone: batch.attributes["noise_24h"] for zone, batch in out.items()}
    east = told["east"]["people_by_lden"]
    assert east[:4] == [0.0] * 4
    assert 0.0 < told["west"]["people_by_lden"][4] < east[4] <= told["east"]["people_lden"]
    assert told["all"]["people_by_lden"][4] == pytest.approx(
        east[4] + told["west"]["people_by_lden"][4], abs=1
    )
    assert told["all"]["people_by_lnight"] == [0.0] * 5
    assert told["all"]["highly_sleep_disturbed"] == 0.0


def test_an_indicator_that_becomes_unknown_takes_its_people_with_it(lattice):
    agent = ExposureAgent(lattice)
    _step(agent, START, _day(lattice, _level(lattice, 57.0), _level(lattice, 52.0)))
    gone = _day(lattice, _level(lattice, np.nan), _level(lattice, np.nan))
    for batch in gone:
        batch.attributes["hours_seen"] = 22.0
    told = _step(agent, START + PERIOD, gone)["all"].attributes["noise_24h"]
    assert told["reason"] == "needs 24 h, has 22.0 h"
    assert "highly_annoyed" not in told


def test_the_day_of_noise_is_published_when_it_changes_and_goes_on_after_a_restart(lattice):
    agent, successor = ExposureAgent(lattice), ExposureAgent(lattice)
    lden, lnight = _level(lattice, 57.0), _level(lattice, 52.0)
    _step(agent, START, _day(lattice, lden, lnight))
    successor.restore(unpack_state(pack_state(agent.snapshot())))
    for each in (agent, successor):
        assert _step(each, START + PERIOD, _day(lattice, lden, lnight)) == {}
    louder = _day(lattice, lden, lnight + 5.0)
    one, other = (_step(a, START + 2 * PERIOD, louder) for a in (agent, successor))
    assert set(one) == {"all", "east", "west"}
    assert [encode_batch(b) for b in one.values()] == [encode_batch(b) for b in other.values()]
    assert decode_batch(encode_batch(one["all"])).attributes["noise_24h"]["people_by_lnight"][1] == 9000.0
