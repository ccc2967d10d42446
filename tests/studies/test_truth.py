"""The truth: independent of the estimator, balanced, and closed where and when it is closed."""

from __future__ import annotations

import ast
import csv
import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from studies import truth_loading
from studies.truth import Truth, closed_edges, make_truth, period_means, write_truth
from studies.truth_demand import N_SAMPLES, make_zones, purpose_matrices
from studies.truth_loading import equilibrium_time_s, load_trips
from studies.truth_morning import Closure, Morning, ReferenceCounter, read_morning
from studies.truth_network import Edges, Streets, car_edges, read_streets
from studies.truth_traffic import bicycle_traffic
from tests.studies.truth_toy import CLOSED, write_town

HOME = Path(__file__).resolve().parents[2]
GENERATOR = sorted([*(HOME / "studies").glob("truth*.py"), *(HOME / "studies").glob("observe*.py")])
ROOMS = {"kernels", "cities", "streams", "agents", "dashboards", "benchmarks", "controlroom"}


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> tuple[Morning, Streets]:
    folder = write_town(tmp_path_factory.mktemp("town"))
    morning = read_morning(folder)
    return morning, read_streets(folder / "network.geojson", morning.crs)


def silent(_: str) -> None:
    return None


@pytest.fixture(scope="module")
def closed(town: tuple[Morning, Streets]) -> Truth:
    morning, streets = town
    return make_truth(morning, streets, report=silent)


@pytest.fixture(scope="module")
def open_truth(town: tuple[Morning, Streets]) -> Truth:
    morning, streets = town
    return make_truth(morning.with_closure(None), streets, report=silent)


@pytest.mark.parametrize("path", GENERATOR, ids=lambda p: p.name)
def test_the_generator_shares_no_module_with_the_estimator(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            assert parts[0] not in ROOMS, name
            if parts[0] == "studies":
                assert parts[1].startswith(("truth", "observe")), name


def test_the_generator_is_found() -> None:
    assert {"truth.py", "observe.py"} <= {path.name for path in GENERATOR}


def test_flows_are_finite_and_never_negative(closed: Truth) -> None:
    for flow in (closed.car, closed.truck, closed.bicycle):
        assert np.isfinite(flow).all()
        assert (flow >= 0).all()
        assert flow.max() > 0


def test_a_closed_street_carries_nothing_from_the_first_to_the_last_minute(
    town: tuple[Morning, Streets], closed: Truth
) -> None:
    morning, streets = town
    assert morning.closure is not None
    shut = closed_edges(streets, closed.car_edges, morning.closure)
    assert shut.sum() == 2
    for flow in (closed.car, closed.truck):
        assert (flow[shut, 10:50] == 0).all()
        assert (flow[shut, :10] > 0).all()
        assert (flow[shut, 50:] > 0).all()
    assert np.isnan(closed.speed_kmh[shut, 10:50]).all()
    assert np.isfinite(closed.speed_kmh[~shut]).all()


def test_a_closure_changes_nothing_before_and_after_it(closed: Truth, open_truth: Truth) -> None:
    for mode in ("car", "truck", "speed_kmh"):
        with_it, without = getattr(closed, mode), getattr(open_truth, mode)
        np.testing.assert_array_equal(with_it[:, :10], without[:, :10])
        np.testing.assert_array_equal(with_it[:, 50:], without[:, 50:])
    np.testing.assert_array_equal(closed.bicycle, open_truth.bicycle)


def test_a_closure_sends_the_traffic_around_it(
    town: tuple[Morning, Streets], closed: Truth, open_truth: Truth
) -> None:
    _, streets = town
    around = closed.car_edges.segment == streets.ids.index("h11")
    assert closed.car[around, 10:50].sum() > 1.5 * open_truth.car[around, 10:50].sum()


def test_the_same_seed_gives_the_same_truth(town: tuple[Morning, Streets], open_truth: Truth) -> None:
    morning, streets = town
    again = make_truth(morning.with_closure(None), streets, report=silent)
    np.testing.assert_array_equal(again.car, open_truth.car)
    np.testing.assert_array_equal(again.bicycle, open_truth.bicycle)


def test_a_closure_can_be_added_to_a_known_morning(
    town: tuple[Morning, Streets], closed: Truth, open_truth: Truth
) -> None:
    morning, streets = town
    again = make_truth(morning, streets, undisturbed=open_truth, report=silent)
    for mode in ("car", "truck", "bicycle", "speed_kmh"):
        np.testing.assert_array_equal(getattr(again, mode), getattr(closed, mode))


def test_an_unknown_segment_cannot_be_closed(town: tuple[Morning, Streets], closed: Truth) -> None:
    _, streets = town
    with pytest.raises(ValueError, match="nowhere"):
        closed_edges(streets, closed.car_edges, Closure(("nowhere",), 490, 530))


def one_origin(
    streets: Streets, edges: Edges, watched: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """90 trips an hour from node 0 to the node farthest from it."""
    far = int(np.argmax(np.hypot(*(streets.node_xy - streets.node_xy[0]).T)))
    destinations = np.full((2, N_SAMPLES), far)
    trips = np.array([[0.0, 90.0], [0.0, 0.0]])
    one = np.array([0])
    return load_trips(
        edges, edges.free_time_s, one, one, np.array([1.0]), destinations, trips, seed=1, watched=watched
    )


def test_trips_are_neither_made_nor_lost_on_the_way(town: tuple[Morning, Streets]) -> None:
    morning, streets = town
    edges = car_edges(streets, morning.seed)
    flow = one_origin(streets, edges)[0]
    far = int(np.argmax(np.hypot(*(streets.node_xy - streets.node_xy[0]).T)))
    balance = np.bincount(edges.head, flow, edges.n_nodes) - np.bincount(edges.tail, flow, edges.n_nodes)
    expected = np.zeros(edges.n_nodes)
    expected[0], expected[far] = -90.0, 90.0
    np.testing.assert_allclose(balance, expected, atol=1e-9)


def test_trips_past_a_watched_edge_are_those_it_carries(town: tuple[Morning, Streets]) -> None:
    morning, streets = town
    edges = car_edges(streets, morning.seed)
    used = np.flatnonzero(one_origin(streets, edges)[0] > 0)
    total, past = one_origin(streets, edges, watched=used[1:2])
    np.testing.assert_array_equal(total, past)
    unused = np.flatnonzero(total == 0)
    assert one_origin(streets, edges, watched=unused[:1])[1].sum() == 0


def test_without_tastes_every_trip_takes_the_shortest_path(
    town: tuple[Morning, Streets], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against all-or-nothing paths of an independent implementation (scipy)."""
    monkeypatch.setattr(truth_loading, "LINK_TASTE_LOG_SD", 0.0)
    monkeypatch.setattr(truth_loading, "CLASS_TASTE_LOG_SD", 0.0)
    morning, streets = town
    edges = car_edges(streets, morning.seed)
    flow = one_origin(streets, edges)[0]
    graph = coo_array((edges.free_time_s, (edges.tail, edges.head)), shape=(edges.n_nodes,) * 2)
    far = int(np.argmax(np.hypot(*(streets.node_xy - streets.node_xy[0]).T)))
    shortest = dijkstra(graph.tocsr(), indices=0)[far]
    assert (flow * edges.free_time_s).sum() / 90.0 == pytest.approx(shortest, rel=1e-12)


def test_the_equilibrium_makes_used_routes_equally_long() -> None:
    """Two parallel roads: user equilibrium has one travel time on both (Wardrop 1952)."""
    n = 2
    index = np.arange(n)
    edges = Edges(
        segment=index, direction=np.zeros(n, dtype=np.int64), tail=np.array([0, 0]), head=np.array([1, 1]),
        road_class=np.array([2, 4]), length_m=np.array([1000.0, 1000.0]), free_time_s=np.array([60.0, 75.0]), wait_s=np.zeros(n),
        capacity=np.array([800.0, 600.0]), alpha=np.array([0.8, 0.8]), beta=np.array([3.0, 3.0]), n_nodes=2,
    )  # fmt: skip
    access = np.array([[0], [1]])
    time_s, gap = equilibrium_time_s(edges, access, np.array([[0.0, 1500.0], [0.0, 0.0]]), gap=1e-5, cores=1)
    assert gap <= 1e-5
    assert time_s[0] == pytest.approx(time_s[1], rel=0.01)
    assert time_s[0] > 75.0


def test_what_is_no_equilibrium_yet_is_refused(town: tuple[Morning, Streets]) -> None:
    morning, streets = town
    edges = car_edges(streets, morning.seed)
    zones = make_zones(streets, edges, morning.seed, morning.n_zones)
    trips = np.asarray(sum(purpose_matrices(zones, 5_000.0, morning.seed).values()))
    with pytest.raises(RuntimeError, match=r"gap: got 0\.\d+ in 2 iterations, expected <= 1e-06"):
        equilibrium_time_s(edges, zones.access, trips, gap=1e-6, max_iterations=2, cores=1)


def test_a_closed_edge_is_no_part_of_the_equilibrium(town: tuple[Morning, Streets]) -> None:
    morning, streets = town
    edges = car_edges(streets, morning.seed)
    assert morning.closure is not None
    shut = closed_edges(streets, edges, morning.closure)
    zones = make_zones(streets, edges, morning.seed, morning.n_zones)
    trips = sum(purpose_matrices(zones, 10.0, morning.seed).values())
    time_s, _ = equilibrium_time_s(edges.without(shut), zones.access, np.asarray(trips), cores=1)
    assert np.isinf(time_s[shut]).all()
    assert np.isfinite(time_s[~shut]).all()


def test_rows_of_the_truth_are_means_of_its_minutes(
    town: tuple[Morning, Streets], closed: Truth, tmp_path: Path
) -> None:
    morning, streets = town
    path = tmp_path / "truth.csv.gz"
    n_rows = write_truth(closed, morning, streets, path)
    with gzip.open(path, "rt", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == n_rows
    edges = closed.car_edges
    edge = int(np.flatnonzero((edges.segment == streets.ids.index(CLOSED)) & (edges.direction == 0))[0])
    mine = [r for r in rows if (r["segment_id"], r["direction"], r["mode"]) == (CLOSED, "forward", "car")]
    assert [r["start_utc"] for r in mine] == [f"2024-03-12T07:{m:02d}:00Z" for m in (0, 15, 30, 45)]
    for k, row in enumerate(mine):
        mean = closed.car[edge, 15 * k : 15 * k + 15].mean()
        assert float(row["flow_per_h"]) == pytest.approx(mean, abs=0.06, rel=0.006)
    assert float(mine[0]["flow_per_h"]) > 0  # open until ten past
    assert float(mine[1]["flow_per_h"]) == 0
    assert mine[1]["speed_kmh"] == ""
    assert all(r["speed_kmh"] == "" for r in rows if r["mode"] == "bicycle")
    assert {r["mode"] for r in rows} == {"car", "truck", "bicycle"}


def test_mean_speed_of_a_period_is_that_of_its_vehicles() -> None:
    flow = np.array([[100.0, 300.0, 0.0]], dtype=np.float32)
    speed = np.array([[40.0, 20.0, np.nan]], dtype=np.float32)
    _, mean = period_means(flow, speed, 3)
    assert mean is not None
    assert mean[0, 0] == pytest.approx(25.0, rel=1e-4)


def test_the_same_truth_makes_the_same_bytes(
    town: tuple[Morning, Streets], closed: Truth, tmp_path: Path
) -> None:
    morning, streets = town
    first, second = tmp_path / "a.csv.gz", tmp_path / "b.csv.gz"
    write_truth(closed, morning, streets, first)
    write_truth(closed, morning, streets, second)
    assert first.read_bytes() == second.read_bytes()


def test_a_class_without_a_row_is_named(town: tuple[Morning, Streets], tmp_path: Path) -> None:
    folder = write_town(tmp_path / "odd")
    path = folder / "network.geojson"
    path.write_text(path.read_text().replace('"road_class": 6', '"road_class": 42'))
    with pytest.raises(ValueError, match=r"road_class: got \[42\]"):
        read_streets(path, town[0].crs)


def test_bicycles_past_the_reference_counter_are_what_it_counted(town: tuple[Morning, Streets]) -> None:
    morning, streets = town
    start = np.arange(420, 600, 5)
    counts = np.stack([np.full(start.size, 10), np.full(start.size, 4)], axis=1)
    counter = ReferenceCounter(sensor="X", segment="v11", start_min=start, counts=counts)
    counted = replace(morning, counter=counter)
    edges, flow = bicycle_traffic(counted, streets, counted.middles_min, silent)
    at = np.flatnonzero(edges.segment == streets.ids.index("v11"))
    np.testing.assert_allclose(flow[at[0]], 120.0, rtol=1e-3)
    np.testing.assert_allclose(flow[at[1]], 48.0, rtol=1e-3)
