from __future__ import annotations

import dataclasses

import msgpack
import numpy as np
import pytest

from agents.emission import QUANTITY_NAMES, EmissionAgent
from cities.emission_factors import load_factors
from kernels import cnossos
from kernels.emission import EmissionError
from kernels.fixedpoint import emission_of, quantise_power
from kernels.gate import air_bound, gate_bound
from streams.observation import Observation, Source
from streams.readings import readings_batch
from streams.topics import Batch, Topic

MINUTE = 60_000
START = 1_700_000_100_000  # a multiple of 300 s
N_CELLS = 6


def _bound(n, coefficient=0.02, noise_db=0.1, air=0.1):
    cell = np.repeat(np.arange(N_CELLS), n).astype(np.int32)
    segment = np.tile(np.arange(n), N_CELLS).astype(np.int32)
    weights = coefficient / (1.0 + (cell - segment % N_CELLS) ** 2)
    return gate_bound(
        cell, segment, weights, N_CELLS, n, air_tolerance_ug_per_m3=air, noise_tolerance_db=noise_db
    )


def _densities(city, time_ms, cars, trucks=None, speed=45.0, simulated=False):
    """Car (and truck) flows of each segment and direction, (2, n)."""
    n = city.network.n_segments
    batches = []
    parts = [(0, cars)] + ([(1, trucks)] if trucks is not None else [])
    for tile in range(-(-n // 1000)):
        segment = np.arange(tile * 1000, min(n, tile * 1000 + 1000))
        columns = {
            "segment": np.tile(segment, 2 * len(parts)).astype(np.int32),
            "direction": np.tile(np.repeat([0, 1], segment.size), len(parts)).astype(np.int8),
            "mode": np.repeat([m for m, _ in parts], 2 * segment.size).astype(np.int8),
            "flow_per_h": np.concatenate([f[:, segment].ravel() for _, f in parts]).astype(np.float32),
        }
        rows = columns["segment"].size
        columns["speed_kmh"] = np.full(rows, speed, dtype=np.float32)
        columns["log_sd"] = np.full(rows, 0.2, dtype=np.float32)
        columns["simulated"] = np.full(rows, simulated)
        batches.append(Batch(Topic.DENSITIES, f"t{tile}", time_ms, columns))
    return batches


def _weather(time_ms, temperature_c, sensor="W"):
    row = Observation(
        Source.WEATHER,
        sensor,
        time_ms - MINUTE,
        time_ms,
        time_ms,
        temperature_c=temperature_c,
        event_id=sensor,
    )
    return readings_batch([row], time_ms)


def _wind(time_ms, speed):
    row = Observation(Source.WEATHER, "W", time_ms - MINUTE, time_ms, time_ms, wind_speed_m_s=speed)
    return readings_batch([row], time_ms)


def _close(agent, time_ms, batches):
    for batch in batches:
        agent.receive(batch)
    return agent.close(time_ms)


def _read(table, batches):
    for batch in batches:
        for q, name in enumerate(QUANTITY_NAMES):
            table[batch.columns["segment"], q] = batch.columns[name]
            table[batch.columns["segment"], 8 + q] = batch.columns[f"{name}_1h"]


@pytest.fixture
def agent(lattice):
    return EmissionAgent(lattice, _bound(lattice.network.n_segments))


def _first(city, agent, cars, trucks=None, **kwargs):
    table = np.zeros((city.network.n_segments, 16), dtype=np.int64)
    _read(table, _close(agent, START + MINUTE, _densities(city, START + MINUTE, cars, trucks, **kwargs)))
    return table


def test_nothing_is_published_before_a_density_was_seen(agent):
    assert agent.close(START) == ()


def test_doubling_the_flow_at_fixed_speed_doubles_emissions_and_adds_3_01_db(lattice):
    n = lattice.network.n_segments
    cars = np.full((2, n), 400.0)
    once, twice = (
        _first(lattice, EmissionAgent(lattice, _bound(n)), cars * k, cars * k * 0.1) for k in (1, 2)
    )
    np.testing.assert_allclose(twice[:, :4] / once[:, :4], 2.0, rtol=1e-6)
    np.testing.assert_allclose(10 * np.log10(twice[:, 4:8] / once[:, 4:8]), 3.0103, atol=0.002)


def test_directions_add(lattice):
    n = lattice.network.n_segments
    one, both = np.zeros((2, n)), np.full((2, n), 600.0)
    one[0] = 600.0
    single, double = (_first(lattice, EmissionAgent(lattice, _bound(n)), f) for f in (one, both))
    np.testing.assert_allclose(double[:, :8], 2 * single[:, :8], atol=1)


def test_an_absent_mode_is_not_added_and_bicycles_emit_nothing(lattice, agent):
    n = lattice.network.n_segments
    batches = _densities(lattice, START + MINUTE, np.full((2, n), 300.0))
    columns = dict(batches[0].columns)
    columns["mode"] = np.full(columns["mode"].size, 4, dtype=np.int8)
    out = _close(agent, START + MINUTE, [Batch(Topic.DENSITIES, "t0", START + MINUTE, columns)])
    assert all((batch.columns["nox"] == 0).all() and (batch.columns["power0"] == 0).all() for batch in out)
    assert all(np.isnan(batch.columns["log_sd"]).all() for batch in out)


def test_slow_traffic_emits_the_stagnating_factor(lattice):
    n = lattice.network.n_segments
    cars = np.full((2, n), 500.0)
    flowing, slow = (_first(lattice, EmissionAgent(lattice, _bound(n)), cars, speed=v) for v in (45.0, 10.0))
    street = lattice.road_class == 1
    np.testing.assert_allclose(slow[street, 0] / flowing[street, 0], 0.748348 / 0.676415, rtol=1e-5)


def _of_netherlands(city):
    """The city with the Dutch table, whose fast road is a motorway of 110 km/h."""
    classes = {**city.classes, 0: dataclasses.replace(city.classes[0], regime="motorway")}
    return dataclasses.replace(city, classes=classes, emission=load_factors("netherlands", 2020))


def test_a_motorway_emits_by_its_limit_and_in_a_jam_by_that_of_motorways(lattice):
    city, n = _of_netherlands(lattice), lattice.network.n_segments
    cars = np.full((2, n), 500.0)
    flowing, slow = (_first(city, EmissionAgent(city, _bound(n)), cars, speed=v) for v in (110.0, 10.0))
    motorway = city.road_class == 0
    per_g_km = 1000.0 / 3.6 * (1 << 20)  # both directions, in quanta
    # official Dutch NOx for 2020: 100 km/h .256, 120 km/h .312, jam .403; a street .231 and .368
    np.testing.assert_allclose(flowing[motorway, 0] / per_g_km, (0.256 + 0.312) / 2, rtol=1e-6)
    np.testing.assert_allclose(slow[motorway, 0] / per_g_km, 0.403, rtol=1e-6)
    np.testing.assert_allclose(flowing[~motorway, 0] / per_g_km, 0.23067, rtol=1e-6)
    np.testing.assert_allclose(slow[~motorway, 0] / per_g_km, 0.36754, rtol=1e-6)


def test_flemish_motorways_emit_as_rural_roads(lattice):
    n = lattice.network.n_segments
    classes = {**lattice.classes, 0: dataclasses.replace(lattice.classes[0], regime="motorway")}
    city = dataclasses.replace(lattice, classes=classes)
    cars, trucks = np.full((2, n), 500.0), np.full((2, n), 60.0)
    for speed in (110.0, 55.0, 10.0):
        rural, motorway = (
            _first(c, EmissionAgent(c, _bound(n)), cars, trucks, speed=speed) for c in (lattice, city)
        )
        np.testing.assert_array_equal(rural, motorway)


def test_simulated_flows_mark_their_emissions(lattice, agent):
    n = lattice.network.n_segments
    out = _close(
        agent, START + MINUTE, _densities(lattice, START + MINUTE, np.full((2, n), 90.0), simulated=True)
    )
    assert all(batch.columns["simulated"].all() for batch in out)
    assert all((np.abs(batch.columns["log_sd"] - 0.2 * 95 / 90) < 1e-3).all() for batch in out)


def test_withheld_changes_never_exceed_the_tolerances(lattice, agent):
    n = lattice.network.n_segments
    bound = _bound(n)
    truth_agent = EmissionAgent(lattice, _bound(n, noise_db=0.0, air=0.0))
    rng = np.random.default_rng(11)
    cars, trucks = rng.lognormal(5, 1, (2, n)), rng.lognormal(2, 1, (2, n))
    held, truth = np.zeros((n, 16), dtype=np.int64), np.zeros((n, 16), dtype=np.int64)
    withheld_once = 0
    for step in range(1, 61):
        cars *= rng.lognormal(0, 0.006, cars.shape)
        trucks *= rng.lognormal(0, 0.006, cars.shape)
        time = START + step * MINUTE
        batches = _densities(lattice, time, cars, trucks)
        _read(held, _close(agent, time, batches))
        _read(truth, _close(truth_agent, time, batches))
        for species in range(4):
            error = air_bound(bound, emission_of(np.abs(held[:, species] - truth[:, species])))
            assert error.max() / 3.5 <= 0.1  # the bound is at calm, the mean wind of the pack is 3.5 m/s
        assert np.abs(10 * np.log10(held[:, 4:8] / truth[:, 4:8])).max() <= 0.1
        withheld_once += int((held[:, :8] != truth[:, :8]).any(axis=1).sum())
        np.testing.assert_array_equal(held[:, 8:], truth[:, 8:])  # hourly means pass no gate
    assert withheld_once > n  # the gate withheld something, so the test can fail


def test_more_is_released_when_the_wind_drops(lattice, agent):
    n = lattice.network.n_segments
    cars = np.full((2, n), 400.0)
    held = _first(lattice, agent, cars)
    wanted = _first(lattice, EmissionAgent(lattice, _bound(n)), cars * 1.02)
    change = emission_of(np.abs(wanted[:, :4] - held[:, :4]).max(axis=1))
    time = START + 2 * MINUTE
    _read(held, _close(agent, time, [_wind(time, 12.0), *_densities(lattice, time, cars * 1.02)]))
    windy = int((held[:, 0] != wanted[:, 0]).sum())
    assert air_bound(_bound(n), change).max() > 0.1  # calm, they could not all be withheld
    _read(held, _close(agent, time + MINUTE, [_wind(time + MINUTE, 0.5)]))
    calm = int((held[:, 0] != wanted[:, 0]).sum())
    assert calm < windy
    error = air_bound(_bound(n), emission_of(np.abs(held[:, 0] - wanted[:, 0])))
    assert error.max() <= 0.1


def test_unchanged_flows_publish_nothing_within_five_minutes(lattice, agent):
    cars = np.full((2, lattice.network.n_segments), 200.0)
    _first(lattice, agent, cars)
    assert agent.close(START + 2 * MINUTE) == ()
    assert _close(agent, START + 3 * MINUTE, _densities(lattice, START + 3 * MINUTE, cars)) == ()


def test_hourly_means_follow_every_five_minutes(lattice, agent):
    n = lattice.network.n_segments
    table = np.zeros((n, 16), dtype=np.int64)
    flows = [100.0 + 50.0 * (k % 7) for k in range(70)]
    now = []
    for k, flow in enumerate(flows):
        time = START + (k + 1) * MINUTE
        out = _close(agent, time, _densities(lattice, time, np.full((2, n), flow)))
        before = table.copy()
        _read(table, out)
        now.append(table[0, 0])
        if time % (5 * MINUTE) == 0:
            assert out[0].attributes["hours_seen"] == pytest.approx(min(k + 1, 60) / 60)
            assert table[0, 8] == pytest.approx(np.mean(now[-60:]), abs=0.51)
        elif k > 0:
            np.testing.assert_array_equal(table[:, 8:], before[:, 8:])


def test_warmer_air_makes_less_tyre_noise_and_the_latest_weather_counts(lattice, agent):
    cars = np.full((2, lattice.network.n_segments), 300.0)
    cold = _first(lattice, agent, cars)
    warm = cold.copy()
    out = _close(
        agent,
        START + 2 * MINUTE,
        [
            _weather(START + 2 * MINUTE, 30.0),
            _weather(START + MINUTE, -10.0),
            *_densities(lattice, START, cars),
        ],
    )
    _read(warm, out)
    assert (warm[:, 6] < cold[:, 6]).all()


def _steep(city):
    """The city whose segments all rise by 8 % along their vertices."""
    rises = tuple({"gradient_percent": 8.0} for _ in city.segment_ids)
    return dataclasses.replace(city, noise_properties=rises)


def test_each_direction_has_its_own_sign_of_the_gradient(lattice):
    n = lattice.network.n_segments
    up, down = np.zeros((2, n)), np.zeros((2, n))
    up[0], down[1] = 400.0, 400.0
    city = _steep(lattice)
    level = _first(lattice, EmissionAgent(lattice, _bound(n)), up, 0.2 * up)
    climbing, falling, both = (
        _first(city, EmissionAgent(city, _bound(n)), cars, 0.2 * cars) for cars in (up, down, up + down)
    )
    np.testing.assert_array_equal(climbing[:, :4], level[:, :4])  # the air's factors know no gradient
    assert (climbing[:, 4:8] > falling[:, 4:8]).all()
    assert (falling[:, 4:8] > level[:, 4:8]).all()  # heavy vehicles brake with their engines
    np.testing.assert_allclose(both[:, 4:8], climbing[:, 4:8] + falling[:, 4:8], atol=1)


def test_powers_of_a_corrected_road_are_those_of_the_whole_formula(lattice):
    n = lattice.network.n_segments
    noise = {**lattice.settings["noise"], "studded_share": 0.5, "studded_months": 6.0}
    city = dataclasses.replace(_steep(lattice), settings={**lattice.settings, "noise": noise})
    cars = np.zeros((2, n))
    cars[0] = 500.0
    power = _first(city, EmissionAgent(city, _bound(n)), cars)[:, 4:8].sum(axis=1)
    for_one = cnossos.sound_power(500.0, 45.0, "1", "DEF", 10.0, gradient_percent=8.0, studded_share=0.25)
    quanta = quantise_power(10 ** (cnossos.a_weighted_db(for_one)[0] / 10))
    np.testing.assert_allclose(power, float(quanta), atol=2)


def test_segments_at_speeds_beyond_their_surface_are_counted_where_somebody_drives(lattice):
    n = lattice.network.n_segments
    cars = np.zeros((2, n))
    cars[1, : n // 2] = 100.0
    time = START + MINUTE
    for speed, expected in ((25.0, n // 2), (45.0, 0)):  # the reference surface holds from 30 km/h
        agent = EmissionAgent(lattice, _bound(n))
        out = _close(agent, time, _densities(lattice, time, cars, speed=speed))
        assert sum(batch.attributes["n_outside_surface_speeds"] for batch in out) == expected


def test_an_older_density_does_not_replace_a_newer_one(lattice, agent):
    n = lattice.network.n_segments
    table = _first(lattice, agent, np.full((2, n), 300.0))
    assert _close(agent, START + 2 * MINUTE, _densities(lattice, START, np.full((2, n), 900.0))) == ()
    assert table[0, 0] > 0


def _run(city, agent, first, last, seed=3):
    rng = np.random.default_rng(seed)
    n = city.network.n_segments
    flows = rng.lognormal(5, 1, (n,)) * rng.lognormal(0, 0.01, (40, 2, n)).cumprod(axis=0)
    out = []
    for step in range(first, last):
        time = START + step * MINUTE
        batches = _densities(city, time, flows[step], 0.1 * flows[step])
        if step % 10 == 3:
            batches.append(_weather(time, float(step)))
        out.append(_close(agent, time, batches))
    return out


def _digest(outputs):
    return [
        (
            batch.key,
            batch.time_ms,
            sorted((k, v.tobytes()) for k, v in batch.columns.items()),
            dict(batch.attributes),
        )
        for step in outputs
        for batch in step
    ]


def test_the_same_rows_give_the_same_output(lattice):
    n = lattice.network.n_segments
    first, second = (_run(lattice, EmissionAgent(lattice, _bound(n)), 0, 12) for _ in range(2))
    assert _digest(first) == _digest(second)
    assert len(_digest(first)) > 5


def test_a_restored_agent_goes_on_as_if_never_stopped(lattice):
    n = lattice.network.n_segments
    agent, successor = (EmissionAgent(lattice, _bound(n)) for _ in range(2))
    _run(lattice, agent, 0, 17)
    successor.restore(agent.snapshot())
    assert _digest(_run(lattice, successor, 17, 33)) == _digest(_run(lattice, agent, 17, 33))


def test_a_bound_of_another_network_is_refused(lattice):
    with pytest.raises(EmissionError, match="made for 3 segments"):
        EmissionAgent(lattice, _bound(3))


def test_snapshot_holds_plain_values_and_arrays(lattice, agent):
    _first(lattice, agent, np.full((2, lattice.network.n_segments), 10.0))
    packed = msgpack.packb(agent.snapshot(), default=lambda a: a.tobytes())
    assert len(packed) > 1000
