"""Parts of an evaluation against sums done by hand: windows, references, counters left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from agents.fusion_answers import LeftOut
from cities.pack import City, load_city
from kernels.network import Mode
from kernels.profile import DEFAULT_HOURLY, day_profile
from kernels.scores import UNIT_VARIANCE
from streams.topics import Batch, Topic
from studies.evaluate_left_out import left_out_table
from studies.evaluate_references import profile_scale, readings_on_edges, reference_flows
from studies.evaluate_windows import VALUES, Published, WindowMeans

HOUR_MS = 1_710_226_800_000  # 07:00 UTC, 8 o'clock in the toy city
MINUTE_MS = 60_000


def step(minute: int, flow: float, *, key: str = "t0", revision: int = 0, segments: int = 3) -> Batch:
    """Densities of a tile at the end of a minute after the hour; segments of tile 1 begin at 1,000."""
    n = 2 * segments
    first = 1_000 * int(key[1:])
    columns = {name: np.full(n, flow * k, dtype=np.float32) for k, name in enumerate(VALUES, start=1)}
    columns["segment"] = np.repeat(first + np.arange(segments, dtype=np.int32), 2)
    columns["direction"] = np.tile(np.array([0, 1], dtype=np.int8), segments)
    columns["mode"] = np.zeros(n, dtype=np.int8)
    attributes = {"minutes": 1, "method": "m", "network_hash": "h"}
    return Batch(Topic.DENSITIES, key, HOUR_MS + minute * MINUTE_MS, columns, revision, attributes)


def means(*batches: Batch, minutes: int = 15) -> Published:
    windows = WindowMeans(minutes)
    for batch in batches:
        windows.take(batch)
    return windows.finish()[Mode.CAR]


def test_a_window_is_the_mean_of_its_steps_and_the_step_that_ends_on_its_end_is_its_last() -> None:
    found = means(*(step(minute, float(minute)) for minute in range(1, 31)))
    assert found.start_ms.tolist() == [HOUR_MS, HOUR_MS + 15 * MINUTE_MS]
    assert found.flow_per_h[:, 0].tolist() == [8.0, 23.0]
    assert found.log_sd[:, 0].tolist() == [48.0, 138.0]


def test_the_highest_revision_of_a_step_counts_in_whatever_order_it_comes() -> None:
    steps = [step(minute, 10.0) for minute in range(1, 16)]
    revised = [step(3, 40.0, revision=2), step(3, 25.0, revision=1)]
    for order in ([*steps, *revised], [*revised, *steps], [revised[1], *steps, revised[0]]):
        assert means(*order).flow_per_h[0, 0] == pytest.approx((14 * 10 + 40) / 15)


def test_a_window_with_less_than_half_of_its_steps_is_left_out() -> None:
    found = means(*(step(minute, 1.0) for minute in (*range(1, 16), *range(16, 23))))
    assert found.start_ms.tolist() == [HOUR_MS]
    found = means(*(step(minute, 1.0) for minute in (*range(1, 16), *range(16, 24))))
    assert found.start_ms.size == 2


def test_settled_windows_are_those_of_an_unbroken_run() -> None:
    windows = WindowMeans(15)
    for minute in range(1, 181):
        windows.take(step(minute, float(minute)))
        windows.settle(HOUR_MS + minute * MINUTE_MS)
    found = windows.finish()[Mode.CAR]
    assert found.flow_per_h[:, 0].tolist() == [8.0 + 15 * k for k in range(12)]


def test_tiles_are_joined_in_order_of_segment_and_direction_and_one_that_is_missing_is_unknown() -> None:
    batches = [step(m, 1.0, key=key) for m in range(1, 16) for key in ("t1", "t0")]
    later = [step(m, 2.0) for m in range(16, 31)]
    found = means(*batches, *later)
    assert found.segment.tolist() == [0, 0, 1, 1, 2, 2, 1000, 1000, 1001, 1001, 1002, 1002]
    assert found.direction.tolist() == [0, 1] * 6
    assert np.isnan(found.flow_per_h[1]).tolist() == [False] * 6 + [True] * 6


@pytest.fixture
def toy(toy_folder: Path) -> City:
    return load_city(toy_folder)


def published(city: City, n_windows: int = 2) -> Published:
    edges = city.car_edges
    zero = np.zeros((n_windows, edges.n_edges))
    start = HOUR_MS + 15 * MINUTE_MS * np.arange(n_windows)
    return Published(
        Mode.CAR, edges.segment.astype(np.int64), edges.direction.astype(np.int64), start, *([zero] * 8)
    )


def reading(city: City, street: str, direction: str, per_h: float, **others: float) -> LeftOut:
    segment = city.segment_ids.index(street)
    given = {"expected_per_h": per_h, "log_residual": 0.0, "log_sd": 0.3, **others}
    return LeftOut(f"{street}{direction}", "loops", Mode.CAR, segment, direction, per_h, **given)


def test_the_profile_is_that_of_the_local_hour(toy: City) -> None:
    scale = profile_scale(published(toy), toy, 15)
    profile = day_profile(DEFAULT_HOURLY)  # the toy city gives none
    assert scale == pytest.approx([profile.scale(8 * 60 + 7.5), profile.scale(8 * 60 + 22.5)])


def test_references_are_the_prior_the_means_of_classes_and_the_scaled_profile(toy: City) -> None:
    made = published(toy)
    scale = profile_scale(made, toy, 15)
    main = toy.road_class[made.segment] == 11
    flow = np.where(main, 400.0, 100.0)
    flow[np.flatnonzero(main)[0]] += 40.0
    h00, h01, h11 = (
        reading(toy, s, "forward", f) for s, f in (("h00", 500.0), ("h01", 700.0), ("h11", 90.0))
    )
    moments = [[h00, h01, h11], [reading(toy, "h00", "forward", 620.0)]]
    found = reference_flows(made, flow, moments, toy, 15)
    assert found["assignment"] == pytest.approx(scale[:, None] * flow)
    assert found["class_prior"][0][main] == pytest.approx(scale[0] * flow[main].mean())
    assert found["class_mean"][0][main] == pytest.approx(600.0)
    assert found["class_mean"][0][~main] == pytest.approx(90.0)
    # In the second window side roads have no counter: the mean of all.
    assert found["class_mean"][1] == pytest.approx(620.0)
    own = (made.segment == toy.segment_ids.index("h00")) & (made.direction == 0)
    level = (500.0 + 620.0) / scale.sum()
    assert found["profile"][:, own].ravel() == pytest.approx(level * scale)
    others = main & ~own & ~((made.segment == toy.segment_ids.index("h01")) & (made.direction == 0))
    assert found["profile"][1][others] == pytest.approx(scale[1] * (level + 700.0 / scale[0]) / 2)


def test_a_counter_of_both_directions_reads_half_on_each(toy: City) -> None:
    made = published(toy, 1)
    read = readings_on_edges(made, [[reading(toy, "v00", "both", 300.0)]], toy.network.n_segments)
    assert np.nansum(read) == pytest.approx(300.0)
    assert np.isfinite(read).sum() == 2


def test_without_readings_class_mean_and_profile_are_unknown(toy: City) -> None:
    made = published(toy)
    found = reference_flows(made, np.full(made.segment.size, 50.0), [[], []], toy, 15)
    assert np.isnan(found["class_mean"]).all()
    assert np.isnan(found["profile"]).all()
    assert np.isfinite(found["assignment"]).all()


def test_counters_left_out_are_scored_overall_by_source_and_each(toy: City) -> None:
    inside = reading(toy, "h00", "forward", 500.0, log_residual=0.1)
    outside = reading(toy, "h00", "forward", 500.0, log_residual=1.5, expected_per_h=108.0)
    table = left_out_table([[inside], [outside]], Mode.CAR, toy)
    assert table["n_readings"] == 2
    assert table["coverage_90"] == 0.5
    density = stats.t(6, 0, UNIT_VARIANCE * 0.3).logpdf([0.1, 1.5])
    assert table["log_score_nats"] == pytest.approx(density.mean())
    assert table["median_error_per_h"] == pytest.approx(196.0)
    (row,) = table["sensors"]
    assert (row["sensor"], row["n_readings"], row["share_inside_90"]) == ("h00forward", 2, 0.5)
    assert row["lo90_per_h"] < row["expected_per_h"]
    assert left_out_table([[inside]], Mode.BICYCLE, toy)["n_readings"] == 0
