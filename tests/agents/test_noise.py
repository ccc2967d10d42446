"""The noise agent: follows the emissions exactly, publishes only what changed, and comes back from a snapshot."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from numpy.typing import NDArray

from agents.noise import OFFSET_DB, SCALE_DB, UNKNOWN, NoiseAgent
from agents.noise_quality import level_accuracy
from cities.pack import CityError
from kernels import cnossos, noise_field, transfer
from kernels.fixedpoint import POWER_MAX, quantise_power
from kernels.network import build_network
from kernels.propagation import Atmosphere, Ground
from kernels.receptors import ReceptorGrid
from streams.codec import pack_state, unpack_state
from streams.topics import Batch, Topic

# 3 x 2 tiles; the roads lie in a row from west to east.
GRID = ReceptorGrid(x_min=0.0, y_min=0.0, step_m=10.0, n_columns=300, n_rows=200)
N = 10
STEP_MS = 60_000


@pytest.fixture(scope="module")
def transfers() -> transfer.NoiseTransfers:
    lines = [np.array([[150.0 + 300.0 * k, 640.0], [230.0 + 300.0 * k, 655.0]]) for k in range(N)]
    table = transfer.radial_table(400.0, Ground(0.5), Atmosphere())
    radius = np.where(np.arange(N) == 9, 0.0, 250.0)  # the last is a path without motor traffic
    patches = transfer.build_patches(build_network(lines), radius, GRID, table)
    return transfer.NoiseTransfers(GRID, patches, 0.5, noise_field.headroom_bits(patches))


def agent_of(transfers: transfer.NoiseTransfers, network_hash: str = "abc", **settings: Any) -> NoiseAgent:
    city: Any = SimpleNamespace(
        network=SimpleNamespace(n_segments=N), network_hash=network_hash, timezone="UTC", settings=settings
    )
    return NoiseAgent(city, transfers)


def emissions(
    power: NDArray[np.int64],
    hourly: NDArray[np.int64] | None = None,
    *,
    segment: NDArray[np.int32] | None = None,
    log_sd: float = 0.0,
    simulated: bool = False,
) -> Batch:
    """Emissions of segments, all by default; powers are (n, 4)."""
    segment = np.arange(N, dtype=np.int32) if segment is None else segment
    hourly = np.zeros_like(power) if hourly is None else hourly
    columns: dict[str, NDArray[Any]] = {"segment": segment}
    columns |= {f"power{g}": power[:, g] for g in range(4)}
    columns |= {f"power{g}_1h": hourly[:, g] for g in range(4)}
    columns["log_sd"] = np.full(segment.size, log_sd, dtype=np.float32)
    columns["simulated"] = np.full(segment.size, simulated)
    return Batch(Topic.EMISSIONS, "t0", STEP_MS, columns, attributes={"hours_seen": 0.25})


def step(agent: NoiseAgent, *batches: Batch, now_ms: int = STEP_MS) -> list[Batch]:
    for batch in batches:
        agent.receive(batch)
    return list(agent.close(now_ms))


def levels(batches: list[Batch], averaging: str = "now") -> NDArray[np.float64]:
    """Levels of published tiles on the whole grid, NaN elsewhere [dB]."""
    field = np.full(GRID.shape, np.nan)
    for batch in batches:
        _, kind, r, c = batch.key.split("/")
        if kind == averaging:
            stored = batch.columns["values"].reshape(batch.attributes["rows"], batch.attributes["columns"])
            level = stored * batch.attributes["scale"] + batch.attributes["offset"]
            field[GRID.tile_slices(int(r), int(c))] = np.where(stored == UNKNOWN, np.nan, level)
    return field


def random_power(seed: int) -> NDArray[np.int64]:
    return quantise_power(10.0 ** np.random.default_rng(seed).uniform(5.0, 9.0, (N, 4)))


def test_published_levels_are_those_of_the_powers(transfers: transfer.NoiseTransfers) -> None:
    power = 2 * (random_power(1) // 2)
    batches = step(agent_of(transfers), emissions(power, power // 2))
    field = noise_field.empty_field(transfers.patches)
    noise_field.apply(field, transfers.patches, np.arange(N, dtype=np.int32), power)
    exact = noise_field.levels_db(field)
    np.testing.assert_allclose(levels(batches), exact, atol=SCALE_DB / 2 + 1e-4)
    assert np.nanmax(exact) > 50.0
    heard = ~np.isnan(exact)
    np.testing.assert_allclose((levels(batches) - levels(batches, "1h"))[heard], 3.01, atol=0.02)
    assert {batch.attributes["unit"] for batch in batches} == {"dB(A)"}
    assert {batch.time_ms for batch in batches} == {STEP_MS}
    assert {batch.attributes["hours_seen"] for batch in batches} == {0.25}
    assert {batch.attributes["propagation"] for batch in batches} == {transfer.OPEN_GROUND}


def test_doubling_all_flows_at_fixed_speed_adds_3_01_db(transfers: transfer.NoiseTransfers) -> None:
    agent, surface = agent_of(transfers), cnossos.surface_indices(["DEF"] * N)
    seen = []
    for factor in (1.0, 2.0):
        flow = factor * np.linspace(200.0, 900.0, N)
        groups = cnossos.band_group_power(flow, 0.03 * flow, 0.03 * flow, 50.0, 45.0, surface, 10.0)
        seen.append(levels(step(agent, emissions(quantise_power(groups)))))
    heard = ~np.isnan(seen[0])
    np.testing.assert_allclose((seen[1] - seen[0])[heard], 3.01, atol=0.02)


def test_a_step_without_a_change_publishes_nothing(transfers: transfer.NoiseTransfers) -> None:
    agent, power = agent_of(transfers), random_power(2)
    assert step(agent) == []
    assert step(agent, emissions(power, power))
    assert step(agent, emissions(power, power), now_ms=2 * STEP_MS) == []


def test_only_tiles_of_changed_segments_are_published(transfers: transfer.NoiseTransfers) -> None:
    agent, power = agent_of(transfers), random_power(3)
    step(agent, emissions(power))
    east = np.array([8], dtype=np.int32)
    batches = step(agent, emissions(power[east] // 2, segment=east))
    # The road and its 250 m lie in the second and third; the first carries the count of cells.
    assert [batch.key for batch in batches] == ["noise/now/0/0", "noise/now/0/1", "noise/now/0/2"]
    (count,) = [b.attributes["cells_updated"] for b in batches if "cells_updated" in b.attributes]
    assert count == transfers.patches.n_cells[transfers.patches.slot[8]]


def test_present_and_hourly_levels_are_published_apart(transfers: transfer.NoiseTransfers) -> None:
    agent, power = agent_of(transfers), random_power(4)
    assert {b.key.split("/")[1] for b in step(agent, emissions(power))} == {"now"}
    assert {b.key.split("/")[1] for b in step(agent, emissions(power, power))} == {"1h"}


def test_the_last_power_of_a_step_counts_and_its_history_does_not(transfers: transfer.NoiseTransfers) -> None:
    direct, wandering = agent_of(transfers), agent_of(transfers)
    for seed in range(5, 25):
        step(wandering, emissions(random_power(seed)), emissions(random_power(seed + 100)))
    final = random_power(200)
    expected = step(direct, emissions(final))
    got = step(wandering, emissions(random_power(6)), emissions(final))
    np.testing.assert_array_equal(levels(got), levels(expected))


def test_receiving_the_same_batch_twice_changes_nothing(transfers: transfer.NoiseTransfers) -> None:
    once, twice = agent_of(transfers), agent_of(transfers)
    batch = emissions(random_power(7))
    assert_same(step(once, batch), step(twice, batch, batch))


def test_a_silent_city_is_unknown_again(transfers: transfer.NoiseTransfers) -> None:
    agent = agent_of(transfers)
    step(agent, emissions(random_power(8)))
    batches = step(agent, emissions(np.zeros((N, 4), dtype=np.int64)))
    assert all((batch.columns["values"] == UNKNOWN).all() for batch in batches)
    assert all(math.isnan(batch.attributes["accuracy"]) for batch in batches)


def test_it_goes_on_from_a_snapshot_as_if_never_stopped(transfers: transfer.NoiseTransfers) -> None:
    agent, first = agent_of(transfers), random_power(9)
    step(agent, emissions(first, first, log_sd=0.3))
    agent.receive(emissions(random_power(10), log_sd=0.2, segment=np.arange(N, dtype=np.int32)))
    state = agent.snapshot()
    assert len(pack_state(state)) < GRID.n_receptors  # no receptor field
    other = agent_of(transfers)
    other.restore(state)
    for seed in (11, 12):
        batches = step(agent), step(other)
        assert_same(*batches)
        for each in (agent, other):
            each.receive(emissions(random_power(seed), first, simulated=True))
    assert (other.changed_segments, other.cells_updated) == (agent.changed_segments, agent.cells_updated)


def test_a_snapshot_does_not_change_afterwards(transfers: transfer.NoiseTransfers) -> None:
    agent = agent_of(transfers)
    step(agent, emissions(random_power(13)))
    state = agent.snapshot()
    before = {key: np.copy(value) for key, value in state.items()}
    step(agent, emissions(random_power(14)))
    for key, value in before.items():
        np.testing.assert_array_equal(state[key], value)


def test_a_state_of_another_network_is_refused(transfers: transfer.NoiseTransfers) -> None:
    state = agent_of(transfers, "old").snapshot()
    with pytest.raises(ValueError, match="state of network old, expected abc"):
        agent_of(transfers).restore(state)


@pytest.mark.parametrize("power", [-1, POWER_MAX + 1])
def test_a_power_out_of_range_is_refused(transfers: transfer.NoiseTransfers, power: int) -> None:
    bad = random_power(15)
    bad[4, 2] = power
    with pytest.raises(ValueError, match=f"allowed 0 to {POWER_MAX}"):
        agent_of(transfers).receive(emissions(bad))


def test_accuracy_falls_with_the_uncertainty_of_the_flows() -> None:
    """Model term alone: P(|N(0, 2 dB)| < 2 dB) = 0.683."""
    assert level_accuracy(0.0) == pytest.approx(0.6827, abs=1e-4)
    assert level_accuracy(0.3) == pytest.approx(math.erf(2 / math.hypot(1.303, 2) / math.sqrt(2)), abs=1e-4)
    assert level_accuracy(1.0) < level_accuracy(0.3) < level_accuracy(0.0)


def test_accuracy_and_simulated_are_those_of_the_segments_heard(transfers: transfer.NoiseTransfers) -> None:
    agent, power = agent_of(transfers), random_power(16)
    west, east = (np.array(s, dtype=np.int32) for s in ([0], [7, 8]))
    batches = step(
        agent,
        emissions(power[west], segment=west, log_sd=0.1),
        emissions(power[east], segment=east, log_sd=0.8, simulated=True),
    )
    by_key = {batch.key: batch.attributes for batch in batches}
    assert by_key["noise/now/0/0"]["accuracy"] == pytest.approx(level_accuracy(0.1), abs=1e-3)
    assert by_key["noise/now/0/2"]["accuracy"] == pytest.approx(level_accuracy(0.8), abs=1e-3)
    assert not by_key["noise/now/0/0"]["simulated"]
    assert by_key["noise/now/0/2"]["simulated"]


MORNING_MS = 1_700_002_800_000  # 2023-11-14 23:00 UTC, midnight in Brussels
HOUR_MS = 60 * STEP_MS


def run_hours(
    agent: NoiseAgent,
    begin_ms: int,
    hours: range,
    power_of_hour: Callable[[int], NDArray[np.int64]],
    minutes: tuple[int, ...] = tuple(range(1, 61)),
) -> list[Batch]:
    """Steps of whole hours after a moment; everything but the levels of now and 1 h."""
    batches = []
    for hour in hours:
        agent.receive(emissions(power_of_hour(hour)))
        for minute in minutes:
            now_ms = begin_ms + hour * HOUR_MS + minute * STEP_MS
            batches.extend(b for b in agent.close(now_ms) if b.key.split("/")[1] not in ("now", "1h"))
    return batches


def by_local_hour(day: int, evening: int, night: int) -> Callable[[int], NDArray[np.int64]]:
    """Power of all roads in each hour from midnight."""
    of_hour = [night] * 7 + [day] * 12 + [evening] * 4 + [night]
    return lambda hour: np.full((N, 4), of_hour[hour % 24], dtype=np.int64)


def test_a_day_of_known_levels_has_their_lden(transfers: transfer.NoiseTransfers) -> None:
    """Levels in the ratio of 60, 58 and 52 dB have an Lden 1.34 dB above that of the day."""
    power = [round(100_000 * 10 ** (db / 10)) for db in (0.0, -2.0, -8.0)]
    agent = agent_of(transfers)
    batches = run_hours(agent, 0, range(24), by_local_hour(*power))
    assert {b.time_ms for b in batches} == {24 * HOUR_MS}
    lday, levening, lnight, lden = (levels(batches, name) for name in ("lday", "levening", "lnight", "lden"))
    field = noise_field.empty_field(transfers.patches)
    noise_field.apply(field, transfers.patches, np.arange(N, dtype=np.int32), by_local_hour(*power)(12))
    heard = field > 0
    exact = noise_field.levels_db(field)[heard]
    for got, above in ((lday, 0.0), (levening, -2.0), (lnight, -8.0), (lden, 1.34)):
        np.testing.assert_allclose(got[heard], exact + above, atol=0.011)
        assert np.isnan(got[~heard]).all()


def test_a_constant_day_is_6_4_db_louder_as_lden(transfers: transfer.NoiseTransfers) -> None:
    constant = random_power(30)
    batches = run_hours(agent_of(transfers), 0, range(24), lambda _: constant)
    lday, lden = levels(batches, "lday"), levels(batches, "lden")
    np.testing.assert_array_equal(levels(batches, "lnight"), lday)
    np.testing.assert_allclose((lden - lday)[~np.isnan(lday)], 6.395, atol=0.011)


def test_before_24_hours_are_seen_there_is_no_indicator_but_how_many_there_are(
    transfers: transfer.NoiseTransfers,
) -> None:
    agent = agent_of(transfers)
    batches = step(agent, emissions(random_power(31)), now_ms=STEP_MS)
    assert {b.attributes["hours_seen_24h"] for b in batches} == {1 / 60}
    assert run_hours(agent, 0, range(1), lambda _: random_power(31), tuple(range(2, 61))) == []
    assert run_hours(agent, 0, range(1, 23), lambda _: random_power(31)) == []
    assert run_hours(agent, 0, range(23, 24), lambda _: random_power(32), tuple(range(1, 60))) == []
    now = step(agent, emissions(random_power(33)), now_ms=24 * HOUR_MS)
    assert {b.attributes["hours_needed_24h"] for b in now if "/now/" in b.key} == {24.0}
    day = [b.attributes for b in now if "/lden/" in b.key]
    assert {(a["hours_seen"], a["hours_needed"]) for a in day} == {(24.0, 24.0)}
    assert {a["indicator"] for a in day} == {"rolling 24 h; not the annual mean of 2002/49/EC"}


def test_a_day_that_begins_within_an_hour_is_whole_at_the_end_of_that_hour(
    transfers: transfer.NoiseTransfers,
) -> None:
    agent = agent_of(transfers)
    assert run_hours(agent, 0, range(1), lambda _: random_power(34), tuple(range(31, 61))) == []
    batches = run_hours(agent, 0, range(1, 26), lambda _: random_power(34))
    assert {b.time_ms for b in batches} == {25 * HOUR_MS}


def test_an_hour_later_the_last_24_count(transfers: transfer.NoiseTransfers) -> None:
    """A night hour ten times as loud replaces one: (7 + 10) / 8 of the energy, 3.27 dB."""
    agent, quiet, loud = agent_of(transfers), random_power(35) // 10, 10 * (random_power(35) // 10)
    first = run_hours(agent, 0, range(24), lambda _: quiet)
    second = run_hours(agent, 0, range(24, 25), lambda _: loud)
    before, after = levels(first, "lnight"), levels(second, "lnight")
    heard = ~np.isnan(before)
    np.testing.assert_allclose((after - before)[heard], 10 * np.log10(17 / 8), atol=0.011)
    assert {b.key.split("/")[1] for b in second} == {"lnight", "lden"}
    assert np.nanmin(levels(second, "lden") - levels(first, "lden")) > 0.0


def test_the_rolling_fields_are_those_of_a_full_recompute(transfers: transfer.NoiseTransfers) -> None:
    direct, wandering = agent_of(transfers), agent_of(transfers)
    run_hours(wandering, 0, range(30), lambda hour: random_power(hour))
    got = run_hours(wandering, 0, range(30, 54), lambda hour: random_power(1000 + hour))
    expected = run_hours(direct, 0, range(30, 54), lambda hour: random_power(1000 + hour))
    final = [b for b in got if b.time_ms == 54 * HOUR_MS]
    for name in ("lday", "levening", "lnight", "lden"):
        have, want = levels(final, name), levels(expected, name)
        published = ~np.isnan(have)
        np.testing.assert_array_equal(have[published], want[published])
    assert not np.isnan(levels(final, "lden")).all()


def test_hours_of_the_periods_are_those_of_the_clock_on_the_wall(
    transfers: transfer.NoiseTransfers,
) -> None:
    """Midnight in Brussels is 23:00 UTC: in UTC the same hours would belong to other periods."""
    agent = agent_of(transfers)
    agent._zone = ZoneInfo("Europe/Brussels")
    batches = run_hours(agent, MORNING_MS, range(24), by_local_hour(1000, 100, 10))
    lday, levening, lnight = (levels(batches, name) for name in ("lday", "levening", "lnight"))
    heard = ~np.isnan(lnight)
    np.testing.assert_allclose((lday - levening)[heard], 10.0, atol=0.011)
    np.testing.assert_allclose((levening - lnight)[heard], 10.0, atol=0.011)


def test_a_city_may_choose_its_periods(transfers: transfer.NoiseTransfers) -> None:
    agent = agent_of(transfers, noise={"day_from_h": 6, "evening_from_h": 18, "night_from_h": 22})
    batches = run_hours(agent, 0, range(24), lambda h: by_local_hour(1000, 100, 10)(h + 1))
    lday, levening = levels(batches, "lday"), levels(batches, "levening")
    np.testing.assert_allclose((lday - levening)[~np.isnan(lday)], 10.0, atol=0.011)
    with pytest.raises(CityError, match=r"\[noise\] day_from_h: got '7', expected a whole hour"):
        agent_of(transfers, noise={"day_from_h": "7"})
    with pytest.raises(CityError, match=r"\[noise\] periods: got day_from_h 20"):
        agent_of(transfers, noise={"day_from_h": 20})


def test_the_rolling_periods_go_on_from_a_snapshot_as_if_never_stopped(
    transfers: transfer.NoiseTransfers,
) -> None:
    agent = agent_of(transfers)
    run_hours(agent, 0, range(25), lambda hour: random_power(hour))
    agent.receive(emissions(random_power(99)))
    for minute in range(1, 31):
        agent.close(25 * HOUR_MS + minute * STEP_MS)
    other = agent_of(transfers)
    other.restore(unpack_state(pack_state(agent.snapshot())))
    later = tuple(range(31, 61))
    for each in (run_hours(a, 0, range(25, 26), lambda _: random_power(99), later) for a in (agent, other)):
        assert {b.key.split("/")[1] for b in each} == {"lnight", "lden"}
    got, expected = (run_hours(a, 0, range(26, 33), lambda hour: random_power(hour)) for a in (agent, other))
    assert len(got) > 6
    assert_same(got, expected)
    assert (other.changed_segments, other.cells_updated) == (agent.changed_segments, agent.cells_updated)


def test_a_gap_makes_the_indicators_unknown_and_says_what_was_seen(
    transfers: transfer.NoiseTransfers,
) -> None:
    agent = agent_of(transfers)
    run_hours(agent, 0, range(24), lambda _: random_power(36))
    kept = run_hours(agent, 0, range(24, 25), lambda _: random_power(36), tuple(range(1, 47)))
    assert kept == []
    small_gap = run_hours(agent, 0, range(25, 26), lambda _: random_power(36))
    assert small_gap == []  # 14 minutes are missing, and no level changed
    batches = run_hours(agent, 0, range(27, 28), lambda _: random_power(36), (30, 60))
    assert {b.key.split("/")[1] for b in batches} == {"lday", "levening", "lnight", "lden"}
    assert len(batches) == 4 * len(GRID.tiles())
    assert all((b.columns["values"] == UNKNOWN).all() for b in batches)
    assert batches[0].attributes["hours_seen"] < 23.0
    again = run_hours(agent, 0, range(28, 52), lambda _: random_power(36))
    assert {b.time_ms for b in again} == {52 * HOUR_MS}


def test_a_simulated_minute_marks_the_day(transfers: transfer.NoiseTransfers) -> None:
    agent = agent_of(transfers)
    east = np.array([7, 8], dtype=np.int32)
    agent.receive(emissions(random_power(37)[east], segment=east, simulated=True))
    agent.close(STEP_MS)
    run_hours(agent, 0, range(1), lambda _: random_power(37), tuple(range(2, 61)))
    batches = run_hours(agent, 0, range(1, 24), lambda _: random_power(37))
    simulated = {b.key: b.attributes["simulated"] for b in batches}
    assert not simulated["noise/lden/0/0"]
    assert simulated["noise/lden/0/2"]


def test_stored_values_leave_room_for_every_level() -> None:
    """From -20 dB up to 635 dB; no road gives either."""
    assert OFFSET_DB + SCALE_DB * (UNKNOWN - 1) > 140.0


def assert_same(got: list[Batch], expected: list[Batch]) -> None:
    assert [batch.key for batch in got] == [batch.key for batch in expected]
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a.columns["values"], b.columns["values"])
        assert str(a.attributes) == str(b.attributes)
