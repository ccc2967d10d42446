"""The fusion agent on a city of twenty streets."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from agents.fusion import FusionAgent
from cities.pack import City, load_city
from kernels.network import Mode
from kernels.prior import Prior
from kernels.profile import DEFAULT_HOURLY, day_profile
from streams.observation import Observation, Source
from streams.readings import readings_batch
from streams.topics import Batch
from studies.prior import prepare_prior
from tests.toy import START, write_toy_city

START_MS = round(START.timestamp() * 1000)
MINUTE_MS = 60_000
LOOPS = ("L1", "L2", "L3", "L4", "L5", "L6", "L7", "L8")


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> City:
    folder = tmp_path_factory.mktemp("fusion") / "toyville"
    write_toy_city(folder, minutes=1)
    return load_city(folder)


@pytest.fixture
def prior(city: City) -> Prior:
    return prepare_prior(city, lambda _what, _part: None)


def count(
    sensor: str, minute: int, per_h: float, *, mode: Mode = Mode.CAR, minutes: int = 1, **values: object
) -> Observation:
    end = START_MS + (minute + 1) * MINUTE_MS
    return Observation(
        Source.LOOPS, sensor, end - minutes * MINUTE_MS, end, end + 1_000,
        mode=mode, count=_wavering(per_h, sensor, minute) * minutes / 60, simulated=True, event_id=f"{sensor}{minute}{mode}", **values,
    )  # fmt: skip


def _wavering(per_h: float, sensor: str, minute: int) -> float:
    """Nearly the same all the time, but never the same twice: that would be a counter that is stuck."""
    return per_h * (1.0 + 0.01 * math.sin(minute * 1.7 + int(sensor[1:])))


def batch(rows: list[Observation], minute: int) -> Batch:
    return readings_batch(rows, START_MS + (minute + 1) * MINUTE_MS)


def run(agent: FusionAgent, readings: list[list[Observation]], first: int = 0) -> list[list[Batch]]:
    published = []
    for number, rows in enumerate(readings):
        if rows:
            agent.receive(batch(rows, first + number))
        published.append(list(agent.close(START_MS + (first + number + 1) * MINUTE_MS)))
    return published


def steady(per_h: float, minutes: int, sensors: tuple[str, ...] = LOOPS) -> list[list[Observation]]:
    return [[count(s, m, per_h) for s in sensors] for m in range(minutes)]


def column(batches: list[Batch], name: str, mode: Mode = Mode.CAR) -> np.ndarray:
    return np.concatenate([b.columns[name][b.columns["mode"] == mode] for b in batches])


def at(
    batches: list[Batch], city: City, street: str, direction: int, name: str, mode: Mode = Mode.CAR
) -> float:
    segment = city.segment_ids.index(street)
    rows = (column(batches, "segment", mode) == segment) & (column(batches, "direction", mode) == direction)
    return float(column(batches, name, mode)[rows][0])


def equal(a: list[Batch], b: list[Batch]) -> bool:
    return all(
        x.key == y.key
        and all(
            np.array_equal(x.columns[n], y.columns[n], equal_nan=x.columns[n].dtype.kind == "f")
            for n in x.columns
        )
        for x, y in zip(a, b, strict=True)
    )


def test_without_observations_the_flows_are_the_priors_at_that_hour(city: City, prior: Prior) -> None:
    (first,) = run(FusionAgent(city, prior), [[]])
    local_minute = 7 * 60 + 1  # the first step ends at 06:01 UTC, 07:01 in Vienna in winter
    scale = day_profile(DEFAULT_HOURLY).scale(local_minute)
    for mode in (Mode.CAR, Mode.TRUCK, Mode.BICYCLE):
        expected = np.round(prior.modes[mode].flow_per_h.astype(float) * scale, 1).astype(np.float32)
        assert np.array_equal(column(first, "flow_per_h", mode), expected)
        assert np.isnan(column(first, "age_s", mode)).all()
        assert not column(first, "simulated", mode).any()


def test_every_edge_of_every_mode_has_one_row_with_ordered_intervals(city: City, prior: Prior) -> None:
    last = run(FusionAgent(city, prior), steady(400.0, 20))[-1]
    for mode, edges in (
        (Mode.CAR, city.car_edges),
        (Mode.TRUCK, city.car_edges),
        (Mode.BICYCLE, city.bicycle_edges),
    ):
        assert np.array_equal(column(last, "segment", mode), edges.segment)
        assert np.array_equal(column(last, "direction", mode), edges.direction)
        lo90, lo50, flow, hi50, hi90 = (
            column(last, n, mode) for n in ("lo90", "lo50", "flow_per_h", "hi50", "hi90")
        )
        assert (lo90 >= 0).all()
        assert (lo90 <= lo50).all()
        assert (lo50 <= flow).all()
        assert (flow <= hi50).all()
        assert (hi50 <= hi90).all()
        score = column(last, "accuracy", mode)
        assert ((score >= 0) & (score <= 1)).all()


def test_a_counted_street_follows_its_counter_and_is_more_accurate(city: City, prior: Prior) -> None:
    last = run(FusionAgent(city, prior), steady(700.0, 30))[-1]
    assert at(last, city, "h00", 0, "flow_per_h") == pytest.approx(700.0 / 0.98, rel=0.1)
    assert at(last, city, "h00", 0, "accuracy") > at(last, city, "v03", 0, "accuracy") + 0.2
    assert at(last, city, "h00", 0, "log_sd") < at(last, city, "v03", 0, "log_sd")
    assert at(last, city, "h00", 0, "sources") == 1
    assert at(last, city, "h00", 0, "age_s") == 0.0
    assert at(last, city, "h00", 1, "sources") == 0
    assert column(last, "simulated").all()


def test_doubling_every_loop_raises_streets_without_one(city: City, prior: Prior) -> None:
    single = run(FusionAgent(city, prior), steady(300.0, 20))[-1]
    double = run(FusionAgent(city, prior), steady(600.0, 20))[-1]
    unseen = column(single, "sources") == 0
    ratio = (column(double, "flow_per_h")[unseen] + 5) / (column(single, "flow_per_h")[unseen] + 5)
    assert (ratio > 1.1).all()


def test_two_runs_are_bit_identical(city: City, prior: Prior) -> None:
    first, second = (run(FusionAgent(city, prior), steady(321.0, 12)) for _ in range(2))
    assert all(equal(a, b) for a, b in zip(first, second, strict=True))


def test_restoring_a_snapshot_goes_on_as_if_never_stopped(city: City, prior: Prior) -> None:
    readings = steady(250.0, 30)
    whole = FusionAgent(city, prior)
    expected = run(whole, readings)[14:]
    stopped = FusionAgent(city, prior)
    run(stopped, readings[:14])
    state = copy.deepcopy(stopped.snapshot())
    run(stopped, readings[14:20], 14)  # what happens after the snapshot must not leak into it
    resumed = FusionAgent(city, prior)
    resumed.restore(state)
    assert all(equal(a, b) for a, b in zip(run(resumed, readings[14:], 14), expected, strict=True))


def test_evidence_fades_to_the_prior_when_counters_fall_silent(city: City, prior: Prior) -> None:
    agent = FusionAgent(city, prior)
    run(agent, steady(900.0, 15))
    bare = FusionAgent(city, prior)
    excess = []
    for hours in (0.1, 1, 3, 8, 25):
        now_ms = START_MS + 15 * MINUTE_MS + round(hours * 60) * MINUTE_MS
        with_evidence, without = (list(a.close(now_ms)) for a in (agent, bare))
        excess.append(
            np.log(
                (at(with_evidence, city, "h00", 0, "flow_per_h") + 5)
                / (at(without, city, "h00", 0, "flow_per_h") + 5)
            )
        )
    assert (np.diff(np.abs(excess)) < 0).all()
    assert excess[-1] == 0.0


def test_intervals_of_one_and_of_five_minutes_say_the_same(city: City, prior: Prior) -> None:
    by_one = run(FusionAgent(city, prior), steady(480.0, 30))[-1]
    by_five = run(
        FusionAgent(city, prior),
        [[count(s, m, 480.0, minutes=5) for s in LOOPS] if m % 5 == 4 else [] for m in range(30)],
    )[-1]
    np.testing.assert_allclose(
        column(by_one, "flow_per_h"), column(by_five, "flow_per_h"), rtol=0.03, atol=0.5
    )


def test_a_sudden_change_shows_within_minutes(city: City, prior: Prior) -> None:
    readings = steady(900.0, 30) + [
        [count(s, m, 0.0 if s in ("L1", "L2", "L3") else 900.0) for s in LOOPS] for m in range(30, 40)
    ]
    published = run(FusionAgent(city, prior), readings)
    assert at(published[29], city, "h00", 0, "flow_per_h") > 750
    assert at(published[39], city, "h00", 0, "flow_per_h") < 150


def test_a_counter_that_contradicts_all_others_loses_weight(city: City, prior: Prior) -> None:
    agent = FusionAgent(city, prior)
    run(agent, [[count(s, m, 9_000.0 if s == "L2" else 250.0) for s in LOOPS] for m in range(30)])
    weights = {s: agent.evidence(city.segment_ids.index(street))[0].weight
               for s, street in (("L2", "h01"), ("L4", "h30"))}  # fmt: skip
    evidence = {e.sensor: e for e in agent.evidence(city.segment_ids.index("h01"))}
    assert evidence["L2"].weight < 0.6 < weights["L4"]
    assert evidence["L2"].reading_per_h == pytest.approx(9_000.0 / 0.98, rel=0.1)  # carried up the morning
    assert evidence["L2"].expected_per_h < 4_500


def test_a_closed_street_is_believed_when_its_counter_was_right_before(city: City, prior: Prior) -> None:
    readings = steady(900.0, 40)
    detour = {"L1": 0.0, "L7": 3_600.0}  # who closes a street sends its traffic elsewhere
    readings += [[count(s, m, detour.get(s, 900.0)) for s in LOOPS] for m in range(40, 60)]
    published = run(FusionAgent(city, prior), readings)
    assert at(published[39], city, "h00", 0, "flow_per_h") > 750
    assert at(published[59], city, "h00", 0, "flow_per_h") < 200
    assert at(published[59], city, "h01", 0, "flow_per_h") > 500


def test_a_warm_up_judges_counters_and_leaves_the_flows_to_the_windows(city: City, prior: Prior) -> None:
    readings = steady(400.0, 25)
    agent, warmed = FusionAgent(city, prior), FusionAgent(city, prior)
    whole = run(agent, readings)[-1]
    for minute, rows in enumerate(readings[:-1]):
        warmed.receive(batch(rows, minute))
        warmed.warm_up(START_MS + (minute + 1) * MINUTE_MS)
    short = run(warmed, readings[-1:], 24)[-1]
    np.testing.assert_allclose(column(short, "flow_per_h"), column(whole, "flow_per_h"), rtol=0.02, atol=0.2)


def test_uptime_zero_and_unknown_counts_are_no_data(city: City, prior: Prior) -> None:
    rows = [count("L1", 0, 500.0, uptime=0.0), dataclasses.replace(count("L2", 0, 1.0), count=float("nan"))]
    (only,) = run(FusionAgent(city, prior), [rows])
    (bare,) = run(FusionAgent(city, prior), [[]])
    assert equal(only, bare)


def test_measured_speed_moves_the_speed_and_the_density_of_its_street(city: City, prior: Prior) -> None:
    slow = run(
        FusionAgent(city, prior), [[count(s, m, 300.0, speed_kmh=12.0) for s in LOOPS] for m in range(10)]
    )[-1]
    free = run(FusionAgent(city, prior), steady(300.0, 10))[-1]
    assert at(slow, city, "h00", 0, "speed_kmh") == pytest.approx(12.0, abs=0.5)
    assert at(slow, city, "h02", 0, "speed_kmh") < at(free, city, "h02", 0, "speed_kmh")
    assert at(slow, city, "h00", 0, "density_per_km") == pytest.approx(
        at(slow, city, "h00", 0, "flow_per_h") / at(slow, city, "h00", 0, "speed_kmh"), abs=0.3
    )


def test_a_prior_of_another_network_is_refused(city: City, prior: Prior) -> None:
    with pytest.raises(ValueError, match="network_hash is other"):
        FusionAgent(city, dataclasses.replace(prior, network_hash="other"))


def test_evidence_before_the_first_step_is_empty(city: City, prior: Prior) -> None:
    assert FusionAgent(city, prior).evidence(0) == []


def test_a_large_city_is_cut_into_tiles_of_a_thousand_segments(
    city: City, prior: Prior, tmp_path: Path
) -> None:
    assert tmp_path.is_dir()
    (first,) = run(FusionAgent(city, prior), [[]])
    assert [b.key for b in first] == ["t0"]
    assert first[0].attributes["minutes"] == 1
    assert first[0].attributes["network_hash"] == city.network_hash


def test_a_city_without_counters_or_without_cycling_has_the_flows_it_can_have(
    tmp_path: Path, city: City
) -> None:
    bare = dataclasses.replace(city, sensors=())
    (first,) = run(FusionAgent(bare, prepare_prior(bare, lambda _what, _part: None)), [[]])
    assert first[0].n_rows == 2 * city.car_edges.n_edges + 2 * city.bicycle_edges.n_edges
    write_toy_city(tmp_path / "motor", minutes=1)
    text = (tmp_path / "motor" / "city.toml").read_text()
    (tmp_path / "motor" / "city.toml").write_text(text.replace("bicycle = true", "bicycle = false"))
    motor = load_city(tmp_path / "motor")
    (first,) = run(FusionAgent(motor, prepare_prior(motor, lambda _what, _part: None)), [[]])
    assert set(column(first, "mode", Mode.CAR)) == {Mode.CAR}
    assert not (first[0].columns["mode"] == Mode.BICYCLE).any()
