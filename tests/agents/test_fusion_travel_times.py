"""Travel times between cameras: speeds of the streets on the way, and of no other."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from agents.fusion import FusionAgent
from agents.fusion_log import PAIR
from agents.fusion_travel_times import TravelTimes
from cities.pack import City, Sensor, load_city
from kernels.network import Mode
from kernels.prior import Prior
from kernels.speed import JAM_PER_KM, FundamentalDiagram
from streams.clock import GRACE_MS
from streams.codec import pack_state, unpack_state
from streams.observation import Observation, Source
from streams.readings import ReadingTable, readings_batch
from streams.steps import StepBuffer
from streams.topics import Batch
from studies.prior import prepare_prior
from tests.toy import START, write_toy_city

START_MS = round(START.timestamp() * 1000)
MINUTE_MS = 60_000
WAY = ("h00", "h01", "h02")  # 2 x 200 m and 400 m at 50 km/h
FREE_S = 800.0 / (50.0 / 3.6)


def camera(name: str, city: City, street: str, direction: str = "forward") -> Sensor:
    return Sensor(name, "anpr", city.segment_ids.index(street), direction, ("car",), (0.0, 0.0), None, True)


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> City:
    folder = tmp_path_factory.mktemp("times") / "toyville"
    write_toy_city(folder, minutes=1)
    toy = load_city(folder)
    cameras = [("A1", "h00", "forward"), ("A2", "h02", "forward"), ("A3", "h01", "forward")]
    cameras += [("A4", "h12", "both"), ("A5", "h32", "both")]  # no way leads to the north half
    return dataclasses.replace(
        toy, sensors=(*toy.sensors, *(camera(n, toy, street, d) for n, street, d in cameras))
    )


def reading(
    first: str = "A1",
    second: str = "A2",
    minute: int = 0,
    *,
    time_s: float = 2 * FREE_S,
    vehicles: float = 99.0,
) -> Observation:
    end = START_MS + (minute + 1) * MINUTE_MS
    return Observation(
        Source.ANPR, first, end - MINUTE_MS, end, end + 2_000, to_sensor=second, vehicles=vehicles,
        travel_time_s=time_s, simulated=True, event_id=f"{first}{second}{minute}/{time_s}",
    )  # fmt: skip


def add(times: TravelTimes, *readings: Observation) -> None:
    numbers = times.numbers_of(readings_batch(readings, START_MS))
    rows = [r for r, number in zip(readings, numbers, strict=True) if number >= 0]
    times.add(
        numbers[numbers >= 0],
        np.array([r.vehicles for r in rows]),
        np.array([r.travel_time_s for r in rows]),
        np.array([r.end_ms for r in rows], dtype=np.int64),
        np.array([r.simulated for r in rows], dtype=np.bool_),
    )


def factor(times: TravelTimes, city: City, minute: int = 1, own: float = 0.0) -> NDArray[np.float64]:
    free = city.speed_kmh[city.car_edges.segment]
    return times.factor(START_MS + minute * MINUTE_MS, free, np.full(free.size, own))


def edges(city: City, streets: tuple[str, ...], direction: int = 0) -> list[int]:
    index = city.car_edges.index_of(city.network.n_segments)
    return [int(index[city.segment_ids.index(s), direction]) for s in streets]


def test_a_way_that_takes_twice_as_long_halves_the_speed_of_its_streets_and_of_no_other(city: City) -> None:
    times = TravelTimes(city)
    add(times, reading())
    found = factor(times, city)
    np.testing.assert_allclose(found[edges(city, WAY)], 0.5**0.99, rtol=1e-3)  # 99 vehicles against one
    assert (np.delete(found, edges(city, WAY)) == 1.0).all()
    assert times.is_simulated(START_MS + MINUTE_MS)


def test_a_street_with_a_measurement_of_its_own_keeps_it(city: City) -> None:
    times = TravelTimes(city)
    add(times, reading())
    assert (factor(times, city, own=1.0) == 1.0).all()


def test_a_travel_time_fades_with_age_and_one_vehicle_says_half(city: City) -> None:
    times = TravelTimes(city)
    add(times, reading())
    (edge, *_) = edges(city, WAY)
    fading = [-np.log(factor(times, city, minute)[edge]) for minute in (1, 61, 121, 600)]
    np.testing.assert_allclose(fading[:3], 0.99 * np.log(2.0) * np.array([1.0, 0.5, 0.25]), rtol=1e-3)
    assert fading[3] == 0.0
    lonely = TravelTimes(city)
    add(lonely, reading(vehicles=1.0))
    assert factor(lonely, city)[edge] == pytest.approx(0.5**0.5)


def test_a_street_on_two_ways_takes_the_mean_of_both(city: City) -> None:
    times = TravelTimes(city)
    add(times, reading(time_s=2 * FREE_S), reading("A1", "A3", time_s=FREE_S / 2))  # the second at free flow
    found = factor(times, city)
    first, _, last = edges(city, WAY)
    assert found[last] == pytest.approx(0.5**0.99, rel=1e-3)
    assert found[first] == pytest.approx(0.5**0.5)


def test_a_time_of_a_window_is_weighted_by_vehicles(city: City) -> None:
    times = TravelTimes(city)
    add(times, reading(minute=0, time_s=FREE_S, vehicles=10.0), reading(minute=15, time_s=3 * FREE_S))
    old = 10.0 * np.exp(-1.0)
    assert times.time_s[0] / times.vehicles[0] == pytest.approx(FREE_S * (old + 3 * 99) / (old + 99))


def test_a_few_who_stopped_are_left_out_and_a_jam_of_many_is_believed_to_a_bound(city: City) -> None:
    times = TravelTimes(city)
    add(times, reading(vehicles=4.0, time_s=10 * FREE_S))
    assert (factor(times, city) == 1.0).all()
    add(times, reading(vehicles=99.0, time_s=10 * FREE_S))
    np.testing.assert_allclose(factor(times, city)[edges(city, WAY)], 0.25**0.99, rtol=1e-3)


def test_the_way_makes_no_u_turn_and_a_camera_of_both_directions_takes_the_nearer(city: City) -> None:
    times = TravelTimes(city)
    add(times, reading("A2", "A1"))
    (way,) = times._ways().toarray() > 0
    assert city.car_edges.segment[way].size > 3  # around a block, not back on the same street
    back = city.car_edges.opposite[way]
    assert not np.isin(back, np.flatnonzero(way)).any()
    add(times, reading("A4", "A1"))
    km = times._ways().toarray().sum(axis=1)
    np.testing.assert_allclose(km, [2.4, 1.6], atol=1e-3)  # to the middle of h00 from those of h02 and h12


@pytest.mark.parametrize(
    "bad",
    [
        reading("A1", "A9"), reading("A9", "A1"), reading("A1", "A1"), reading("A1", "L1"),
        reading(vehicles=0.0), reading(vehicles=float("nan")), reading(time_s=0.0),
        reading(time_s=float("nan")), dataclasses.replace(reading(), mode=Mode.BICYCLE),
    ],
)  # fmt: skip
def test_unknown_cameras_no_vehicles_and_no_time_say_nothing(city: City, bad: Observation) -> None:
    times = TravelTimes(city)
    add(times, bad)
    assert times.pair.size == 0
    assert (factor(times, city) == 1.0).all()


def test_a_pair_without_a_way_between_says_nothing(city: City) -> None:
    allowed = np.isin(city.segment_ids, ["h00", "h02"])  # what lies between is closed to cars
    cut = dataclasses.replace(city, car_edges=city.network.directed_edges(allowed, np.zeros_like(allowed)))
    times = TravelTimes(cut)
    add(times, reading(), reading("A3", "A2"), reading("A2", "A3"))
    assert times.pair.size == 0
    whole = TravelTimes(city)
    add(whole, reading("A1", "A5"))
    assert whole.pair.size == 0


def test_a_restored_state_goes_on_as_if_never_stopped(city: City) -> None:
    whole, resumed = TravelTimes(city), TravelTimes(city)
    add(whole, reading(), reading("A4", "A2"))
    resumed.restore(unpack_state(pack_state(whole.snapshot())))
    for times in (whole, resumed):
        add(times, reading("A1", "A3", minute=3), reading(minute=4, time_s=FREE_S))
    assert factor(whole, city, 5).tobytes() == factor(resumed, city, 5).tobytes()


def test_density_is_flow_over_speed_and_never_beyond_a_jam() -> None:
    diagram = FundamentalDiagram(np.full(3, 50.0), np.full(3, 1000.0), np.array([1.0, 1.0, 2.0]) * JAM_PER_KM)
    flow, measured = np.array([500.0, 1300.0, 1300.0]), np.array([20.0, 5.0, 5.0])
    speed = diagram.possible_speed(flow, measured)
    np.testing.assert_allclose(speed, [20.0, 10.0, 5.0])
    assert (flow / speed <= diagram.jam_per_km).all()
    free = diagram.free_speed(diagram.capacity_per_h)
    np.testing.assert_allclose(free, diagram.critical_kmh)
    np.testing.assert_allclose(diagram.critical_per_km, diagram.capacity_per_h / free)


@pytest.fixture(scope="module")
def prior(city: City) -> Prior:
    return prepare_prior(city, lambda _what, _part: None)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with threadpool_limits(1):
        yield


def play(
    city: City, prior: Prior, arrivals: list[tuple[int, Observation]], cut: int = -1
) -> dict[int, Batch]:
    """Highest revision of each step of twenty minutes; with ``cut``, restarted from its state then."""
    buffer, agent = StepBuffer({s.id: s.source for s in city.sensors}), FusionAgent(city, prior)
    published: dict[int, Batch] = {}
    for minute in range(20):
        end = START_MS + (minute + 1) * MINUTE_MS
        buffer.add(ReadingTable.of([row for m, row in arrivals if m == minute]), end + GRACE_MS)
        agent.receive(buffer.close(end))
        published |= {batch.time_ms: batch for batch in agent.close(end)}
        if minute == cut:
            state, agent = agent.snapshot(), FusionAgent(city, prior)
            agent.restore(unpack_state(pack_state(state)))
    return published


def speeds(published: dict[int, Batch]) -> list[bytes]:
    columns = ("speed_kmh", "density_per_km", "flow_per_h", "simulated")
    return [published[at].columns[name].tobytes() for at in sorted(published) for name in columns]


def test_order_lateness_repeats_and_a_restart_change_no_speed(city: City, prior: Prior) -> None:
    chance = random.Random(3)
    rows = [
        (minute, reading(a, b, minute, time_s=FREE_S * chance.uniform(0.8, 3), vehicles=chance.randint(1, 9)))
        for minute in range(15)
        for a, b in (("A1", "A2"), ("A1", "A3"), ("A4", "A1"))
    ]
    mixed = [(minute + chance.choice((0, 1, 2, 4)), row) for minute, row in rows]
    mixed += [(minute + 1, row) for minute, row in mixed[:9]]
    chance.shuffle(mixed)
    in_order = play(city, prior, rows)
    assert speeds(play(city, prior, mixed)) == speeds(in_order)
    assert speeds(play(city, prior, mixed, cut=9)) == speeds(in_order)


def test_published_speed_density_and_flow_of_a_slow_way_agree(city: City, prior: Prior) -> None:
    slow = play(city, prior, [(m, reading(minute=m, time_s=3 * FREE_S)) for m in range(20)])
    bare = play(city, prior, [])
    last, without = (p[max(p)].columns for p in (slow, bare))
    car = last["mode"] == Mode.CAR
    on = np.flatnonzero(car)[edges(city, WAY)]
    assert np.abs(last["speed_kmh"][on] - 50.0 / 3).max() < 1.0
    assert (last["flow_per_h"] == without["flow_per_h"]).all()
    np.testing.assert_allclose(
        last["density_per_km"][car], last["flow_per_h"][car] / last["speed_kmh"][car], rtol=0.01, atol=0.02
    )
    assert last["simulated"][car].all()
    assert not without["simulated"].any()


def test_pair_readings_are_rows_of_their_own_kind(city: City, prior: Prior) -> None:
    agent = FusionAgent(city, prior)
    (row,) = agent._read(readings_batch([reading(), reading("A1", "A9")], START_MS))
    assert (row["mode"], row["count"], row["travel_time_s"]) == (PAIR, 99.0, 2 * FREE_S)
