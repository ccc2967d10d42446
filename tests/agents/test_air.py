from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from agents.air import AirAgent, probability_within
from cities.pack import CityError
from kernels import srm1
from kernels.air_columns import road_columns
from kernels.air_fields import AirAccumulators
from kernels.gate import air_bound
from kernels.srm2 import hourly_winds
from streams.observation import Observation, Source
from streams.readings import readings_batch
from streams.topics import Batch, Topic
from studies.air_columns import prepare_air
from tests.kernels.open_roads import direct, off_the_road

MINUTE = 60_000
START = 1_700_000_100_000
SAMPLE = 4  # the direct sum is made at every fourth receptor of every fourth row


@pytest.fixture(scope="module")
def columns(lattice, tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("TWINROOM_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield prepare_air(lattice, lambda *_: None)
    patch.undo()


def _emissions(city, time_ms, emission, hour=None, hours_seen=1.0, log_sd=0.2):
    """One tile with the emission of every segment, (n, 4) [ug/m/s]."""
    quanta = np.rint(emission * 2**20).astype(np.int64)
    quanta_1h = quanta if hour is None else np.rint(hour * 2**20).astype(np.int64)
    n = city.network.n_segments
    columns = {"segment": np.arange(n, dtype=np.int32)}
    for p, name in enumerate(("nox", "no2", "pm10", "pm25")):
        columns[name], columns[f"{name}_1h"] = quanta[:, p], quanta_1h[:, p]
    columns["log_sd"] = np.full(n, log_sd, dtype=np.float32)
    columns["simulated"] = np.zeros(n, dtype=np.bool_)
    return Batch(Topic.EMISSIONS, "t0", time_ms, columns, attributes={"hours_seen": hours_seen})


def _weather(time_ms, speed, direction):
    row = Observation(
        Source.WEATHER, "W", time_ms - 1, time_ms, time_ms, wind_speed_m_s=speed, wind_from_deg=direction
    )
    return readings_batch([row], time_ms)


def _step(agent, time_ms, *batches):
    for batch in batches:
        agent.receive(batch)
    return agent.close(time_ms)


def _paint(city, batches, fields):
    for batch in batches:
        quantity, averaging, row, column = batch.key.split("/")
        part = city.grid.tile_slices(int(row), int(column))
        field = fields.setdefault((quantity, averaging), np.full(city.grid.shape, 65535, dtype=np.uint16))
        shape = (batch.attributes["rows"], batch.attributes["columns"])
        field[part] = batch.columns["values"].reshape(shape)
    return fields


def _random_emission(city, rng):
    e = rng.lognormal(3.0, 1.0, (city.network.n_segments, 1))
    return e * np.array([1.0, 0.33, 0.08, 0.05])


def _direct(city, emission, wind_m_s, wind_from_deg):
    """Independent float64 sum over all segments, sub-sources every metre, no columns, blend or nodes."""
    grid = city.grid
    x, y = np.meshgrid(grid.x()[::SAMPLE], grid.y()[::SAMPLE])
    out = np.zeros((*x.shape, 4))
    for s in range(city.network.n_segments):
        line = city.network.polyline(s)
        if city.road_class[s] == 1:
            theta = srm1.line_coefficients(x.ravel(), y.ravel(), line, srm1.PARAMETERS[3]).reshape(x.shape)
            factor = srm1.hourly_factor(wind_m_s, 3.5)
        else:
            xy = np.stack([x.ravel(), y.ravel()], axis=1)
            theta = direct(xy, line, wind_m_s, wind_from_deg, sigma_z0=3.0).reshape(x.shape)
            factor = 1.0
        out += factor * theta[..., None] * emission[s]
    return out


def test_nothing_is_published_before_an_emission_was_seen(lattice, columns):
    assert AirAgent(lattice, columns).close(START) == ()


def test_without_emission_every_receptor_has_exactly_the_background(lattice, columns):
    out = _step(
        AirAgent(lattice, columns),
        START,
        _emissions(lattice, START, np.zeros((lattice.network.n_segments, 4))),
    )
    fields = _paint(lattice, out, {})
    for quantity, background in (("no2", 2000), ("pm10", 1800), ("pm25", 1000)):
        for averaging in ("now", "1h"):
            assert (fields[quantity, averaging] == background).all()
    assert all(batch.attributes["weather"] == "assumed" for batch in out)


def test_after_a_thousand_changes_the_field_equals_a_full_recompute_and_a_direct_sum(lattice, columns):
    rng = np.random.default_rng(8)
    agent = AirAgent(lattice, columns)
    emission = _random_emission(lattice, rng)
    _step(agent, START, _weather(START, 2.6, 347.0), _emissions(lattice, START, emission))
    hour = emission.copy()
    for k in range(100):  # ten changes a step
        for s in rng.integers(lattice.network.n_segments, size=10):
            emission[s] = np.minimum(emission[s] * rng.uniform(0.2, 3.0), 400.0)
        agent.receive(_emissions(lattice, START, emission, hour=hour))
        agent.close(START + (k + 1) * MINUTE)
    full = AirAccumulators(columns)
    roads = road_columns(columns, hourly_winds(2.6, 347.0))
    quanta = np.rint(emission * 2**20).astype(np.int64)
    full.add(roads, np.arange(lattice.network.n_segments), quanta)
    mine = agent._accumulators[0]
    for one, other in zip(
        (mine.street, mine.near, *mine.far), (full.street, full.near, *full.far), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    exact = _direct(lattice, np.ldexp(quanta.astype(np.float64), -20), 2.6, 347.0)
    shape = (*lattice.grid.shape, 4)
    got = agent._reader.contributions(mine, roads, 2.6).reshape(shape)[::SAMPLE, ::SAMPLE]
    x, y = np.meshgrid(lattice.grid.x(), lattice.grid.y())
    lines = [lattice.network.polyline(int(s)) for s in columns.road_segment]
    away = off_the_road(lines, np.stack([x.ravel(), y.ravel()], axis=1)).reshape(x.shape)[::SAMPLE, ::SAMPLE]
    error = np.abs(got - exact)[away]
    assert error.max() <= 0.001 * exact[away].max()
    assert np.sqrt((error**2).mean() / (exact[away] ** 2).mean()) < 0.0005
    assert (error <= 0.005 * exact[away] + 0.005).all()


def test_a_change_and_its_reversal_leave_nothing(lattice, columns):
    rng = np.random.default_rng(4)
    agent = AirAgent(lattice, columns)
    emission = _random_emission(lattice, rng)
    fields = _paint(lattice, _step(agent, START, _emissions(lattice, START, emission)), {})
    before = [a.street.copy() for a in agent._accumulators]
    first = {key: field.copy() for key, field in fields.items()}
    for k in range(20):
        other = _random_emission(lattice, rng)
        _paint(lattice, _step(agent, START + (2 * k + 1) * MINUTE, _emissions(lattice, START, other)), fields)
        _paint(
            lattice, _step(agent, START + (2 * k + 2) * MINUTE, _emissions(lattice, START, emission)), fields
        )
    for key, field in fields.items():
        np.testing.assert_array_equal(field, first[key])
    for old, accumulators in zip(before, agent._accumulators, strict=True):
        np.testing.assert_array_equal(old, accumulators.street)


def test_only_the_cells_of_a_changed_street_are_touched(lattice, columns):
    rng = np.random.default_rng(9)
    agent = AirAgent(lattice, columns)
    emission = _random_emission(lattice, rng)
    _step(agent, START, _emissions(lattice, START, emission))
    street = lattice.segment_ids.index("h22")
    before = agent._accumulators[0].street.copy()
    changed = emission.copy()
    changed[street] *= 1.5
    out = _step(agent, START + MINUTE, _emissions(lattice, START + MINUTE, changed, hour=emission))
    runs = columns.streets
    of_street = slice(runs.start[street], runs.start[street + 1])
    held = np.zeros(columns.blocks.n_places, dtype=np.int64)
    for block, n in zip(runs.block[of_street], np.diff(runs.offset)[of_street], strict=True):
        held[block * 16 : block * 16 + n] = 1
    some = columns.street_coefficient[runs.offset[of_street.start] : runs.offset[of_street.stop]] > 0
    touched = np.flatnonzero((agent._accumulators[0].street != before).any(axis=1))
    np.testing.assert_array_equal(touched, np.flatnonzero(held)[some])
    counts = [batch.attributes["cells_updated"] for batch in out if "cells_updated" in batch.attributes]
    assert counts == [held.sum()]
    assert {batch.key.split("/")[1] for batch in out} == {"now"}


def test_repeating_an_emission_publishes_nothing(lattice, columns):
    agent = AirAgent(lattice, columns)
    batch = _emissions(lattice, START, _random_emission(lattice, np.random.default_rng(1)))
    assert len(_step(agent, START, batch)) == 3 * 2 * len(lattice.grid.tiles())
    assert _step(agent, START + MINUTE, batch) == ()


def test_wind_turns_the_plume_of_the_road_and_its_speed_thins_all(lattice, columns):
    agent = AirAgent(lattice, columns)
    emission = np.zeros((lattice.network.n_segments, 4))
    emission[columns.road_segment] = 300.0
    fields = {}
    batch = _emissions(lattice, START, emission)
    _paint(lattice, _step(agent, START, _weather(START, 4.0, 180.0), batch), fields)
    south_wind = fields["pm10", "now"].astype(int)
    row, column = 120, 100  # 500 m north of the road
    assert south_wind[row, column] > 1800 + 50
    _paint(lattice, _step(agent, START + MINUTE, _weather(START + MINUTE, 4.0, 0.0)), fields)
    north_wind = fields["pm10", "now"].astype(int)
    assert north_wind[row, column] - 1800 < 0.2 * (south_wind[row, column] - 1800)
    _paint(lattice, _step(agent, START + 2 * MINUTE, _weather(START + 2 * MINUTE, 8.0, 0.0)), fields)
    assert fields["pm10", "now"].mean() < north_wind.mean()


def test_calm_and_unknown_direction_give_finite_fields(lattice, columns):
    agent = AirAgent(lattice, columns)
    emission = _random_emission(lattice, np.random.default_rng(2))
    out = _step(agent, START, _weather(START, 0.0, float("nan")), _emissions(lattice, START, emission))
    assert all((batch.columns["values"] < 65535).all() for batch in out)
    assert all(batch.attributes["weather"] == "observed" for batch in out)


def test_doubling_all_emissions_doubles_the_particles_of_traffic(lattice, columns):
    emission = _random_emission(lattice, np.random.default_rng(3))
    fields = []
    for k in (1, 2):
        out = _step(AirAgent(lattice, columns), START, _emissions(lattice, START, k * emission))
        fields.append(_paint(lattice, out, {})["pm10", "now"].astype(int) - 1800)
    assert np.abs(fields[1] - 2 * fields[0]).max() <= 2


def test_a_restored_agent_goes_on_as_if_never_stopped(lattice, columns):
    rng = np.random.default_rng(6)
    agent, successor = AirAgent(lattice, columns), AirAgent(lattice, columns)
    for k in range(3):
        time = START + k * MINUTE
        _step(
            agent,
            time,
            _weather(time, 2.0 + k, 100.0 + k),
            _emissions(lattice, time, _random_emission(lattice, rng)),
        )
    agent.receive(_weather(START + 3 * MINUTE, 6.0, 40.0))  # arrived, its step not closed
    successor.restore(agent.snapshot())
    for k in range(3, 6):
        time = START + k * MINUTE
        batch = _emissions(lattice, time, _random_emission(lattice, rng))
        one, other = (_step(a, time, batch) for a in (agent, successor))
        assert len(one) > 1
        assert [(b.key, b.columns["values"].tobytes(), dict(b.attributes)) for b in one] == [
            (b.key, b.columns["values"].tobytes(), dict(b.attributes)) for b in other
        ]
    size = sum(v.nbytes for v in agent.snapshot().values() if isinstance(v, np.ndarray))
    assert size < 200 * lattice.network.n_segments  # per segment, no receptor field


def test_hourly_fields_follow_the_hourly_emission(lattice, columns):
    zero = np.zeros((lattice.network.n_segments, 4))
    out = _step(
        AirAgent(lattice, columns), START, _emissions(lattice, START, zero, hour=zero + 100.0, hours_seen=0.5)
    )
    fields = _paint(lattice, out, {})
    assert (fields["no2", "now"] == 2000).all()
    assert fields["no2", "1h"].max() > 2100
    assert {batch.attributes["hours_seen"] for batch in out} == {0.5}


def test_accuracy_of_a_tile_is_the_probability_within_twenty_percent(lattice, columns):
    samples = np.random.default_rng(0).normal(0.0, np.hypot(0.4, 0.3), 200_000)
    expected = ((samples > np.log(0.8)) & (samples < np.log(1.2))).mean()
    assert probability_within(np.array([0.4]))[0] == pytest.approx(expected, abs=0.004)
    emission = _random_emission(lattice, np.random.default_rng(3))
    out = _step(AirAgent(lattice, columns), START, _emissions(lattice, START, emission, log_sd=0.4))
    assert all(batch.attributes["accuracy"] == pytest.approx(expected, abs=0.004) for batch in out)


def test_an_emission_that_could_overflow_is_limited(lattice, columns):
    emission = np.full((lattice.network.n_segments, 4), 1e6)
    out = _step(
        AirAgent(lattice, columns), START, _weather(START, 0.0, 90.0), _emissions(lattice, START, emission)
    )
    fields = _paint(lattice, out, {})
    assert fields["pm10", "now"].max() == 65534
    assert (fields["pm10", "now"] >= 1800).all()


def test_columns_of_another_network_are_refused(lattice, columns):
    with pytest.raises(CityError, match="made for 2 segments"):
        AirAgent(lattice, dataclasses.replace(columns, n_segments=2))


def test_a_missing_background_is_named(lattice, columns):
    settings = {
        **lattice.settings,
        "background": {"no2": 20.0, "pm10": 1.0, "pm25": 1.0, "mean_wind_m_s": 3.0},
    }
    with pytest.raises(CityError, match=r"\[background\] o3: got None"):
        AirAgent(dataclasses.replace(lattice, settings=settings), columns)


def test_gate_bound_holds_for_any_wind(lattice, columns):
    """The true effect of a change on the fields stays below the bound that the gate counts."""
    rng = np.random.default_rng(12)
    n = lattice.network.n_segments
    withheld = rng.exponential(1.0, n)
    bound = air_bound(columns.bound, withheld)
    quanta = np.rint(np.repeat(withheld[:, None], 4, axis=1) * 2**20).astype(np.int64)
    agent = AirAgent(lattice, columns)
    across = int(np.ceil(lattice.grid.n_columns * 10 / 250))
    row, column = np.divmod(np.arange(lattice.grid.n_receptors), lattice.grid.n_columns)
    coarse = row // 25 * across + column // 25
    for speed, direction in ((0.0, 0.0), (1.0, 257.0), (1.0, 77.0), (1.0, 167.0), (6.0, 300.0)):
        accumulators = AirAccumulators(columns)
        roads = road_columns(columns, hourly_winds(speed, direction))
        accumulators.add(roads, np.arange(n), quanta)
        error = agent._reader.contributions(accumulators, roads, speed)[:, 0]
        assert (error <= bound[coarse] / max(speed, 1.0) * (1 + 1e-9)).all()


def test_an_explanation_of_a_receptor_adds_up_to_what_was_published(lattice, columns):
    agent = AirAgent(lattice, columns)
    assert agent.explain(0, "no2") is None
    emission = _random_emission(lattice, np.random.default_rng(11))
    out = _step(agent, START, _weather(START, 2.6, 347.0), _emissions(lattice, START, emission))
    fields = _paint(lattice, out, {})
    x, y = np.meshgrid(lattice.grid.x(), lattice.grid.y())
    lines = [lattice.network.polyline(int(s)) for s in columns.road_segment]
    away = np.flatnonzero(off_the_road(lines, np.stack([x.ravel(), y.ravel()], axis=1)))
    for cell in np.random.default_rng(2).choice(away, 10, replace=False):
        for quantity in ("no2", "pm10", "pm25"):
            answer = agent.explain(int(cell), quantity)
            published = fields[quantity, "now"].ravel()[cell] * 0.01
            assert answer.background + answer.traffic == pytest.approx(published, abs=0.03 + 3e-3 * published)
            assert 1 <= len(answer.contributors) <= 5
            shares = [c.share for c in answer.contributors]
            assert shares == sorted(shares, reverse=True)
            assert sum(shares) + answer.others == pytest.approx(1.0)
