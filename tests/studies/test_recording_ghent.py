"""The bundled recording, sensors and truth: whole, honest about what is simulated, and of the stated sizes."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from studies.observe import apply_changes, read_lines

HOME = Path(__file__).resolve().parents[2]
CITY = HOME / "cities" / "ghent"
DATA = HOME / "tests" / "data"
TUNNEL = {("WEGO011014", "backward"), ("WEGO011015", "forward")}


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return read_lines(CITY / "recording.jsonl.gz")


@pytest.fixture(scope="module")
def rows(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines[1:]]


@pytest.fixture(scope="module")
def sensors() -> dict[str, dict[str, Any]]:
    features = json.loads((CITY / "sensors.geojson").read_text())["features"]
    return {f["properties"]["id"]: f["properties"] for f in features}


@pytest.fixture(scope="module")
def truth() -> dict[tuple[str, str, str], list[float]]:
    """Flow of the sixteen quarters of every street, direction and mode."""
    flows: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    with gzip.open(CITY / "truth.csv.gz", "rt", newline="") as text:
        for row in csv.DictReader(text):
            flows[row["segment_id"], row["direction"], row["mode"]].append(float(row["flow_per_h"]))
    return dict(flows)


@pytest.mark.parametrize("name", ["recording.jsonl.gz", "truth.csv.gz", "sensors.geojson"])
def test_no_file_is_larger_than_5_mb(name: str) -> None:
    assert (CITY / name).stat().st_size <= 5_000_000


def test_the_recording_is_of_the_bundled_network(lines: list[str]) -> None:
    header = json.loads(lines[0])
    network = (CITY / "network.geojson").read_bytes()
    assert header["network_hash"] == hashlib.sha256(network).hexdigest()[:16]
    assert header["span"] == ["2022-11-23T05:00:00Z", "2022-11-23T09:00:00Z"]


def test_rows_stand_in_order_of_arrival_between_clock_rows(rows: list[dict[str, Any]]) -> None:
    last_clock = last_arrival = ""
    for row in rows:
        if row["source"] == "clock":
            assert last_clock < row["time"]
            assert last_arrival < row["time"]
            last_clock = row["time"]
        else:
            assert row["received"] >= last_clock
            assert row["received"] >= last_arrival
            assert row["start"] < row["end"] < row["received"]
            last_arrival = row["received"]
    assert sum(row["source"] == "clock" for row in rows) == 242


def test_readings_arrive_within_90_seconds(rows: list[dict[str, Any]]) -> None:
    from datetime import datetime

    delays = {
        row["source"]: (datetime.fromisoformat(row["received"]) - datetime.fromisoformat(row["end"])).seconds
        for row in rows
        if row["source"] != "clock"
    }
    assert max(delays.values()) < 90


def test_every_sensor_is_known_and_every_simulated_row_says_so(
    rows: list[dict[str, Any]], sensors: dict[str, dict[str, Any]]
) -> None:
    for row in rows:
        if row["source"] == "clock":
            continue
        sensor = sensors[row["sensor"]]
        assert sensor["source"] == row["source"]
        assert row.get("to_sensor", row["sensor"]) in sensors
        assert row.get("simulated", False) is sensor["simulated"]
        assert sensor["simulated"] is (row["source"] != "counter")


def test_sensors_stand_on_streets_of_the_network_in_the_wanted_numbers(
    sensors: dict[str, dict[str, Any]],
) -> None:
    network = json.loads((CITY / "network.geojson").read_text())["features"]
    ids = {f["properties"]["id"] for f in network}
    assert all(s["segment_id"] in ids for s in sensors.values() if "segment_id" in s)
    count = Counter(s["source"] for s in sensors.values())
    assert count["anpr"] == 30
    assert count["wifi"] == 60
    assert count["telecom"] == 60
    assert count["bikeshare"] == 100
    on_cars = {
        (s["segment_id"], s["direction"]): s["source"]
        for s in sensors.values()
        if "segment_id" in s and "car" in s["modes"]
    }
    assert 750 <= len(on_cars) <= 1000
    assert sum(source == "loops" for source in on_cars.values()) > len(on_cars) / 2
    assert on_cars.keys() >= TUNNEL


def test_the_bicycle_counter_is_the_real_one(rows: list[dict[str, Any]]) -> None:
    with (CITY / "coupure-2022-11-23.csv").open(newline="") as text:
        real = {r["Ordening"]: r for r in csv.DictReader(text, delimiter=";")}
    seen = {(r["sensor"], r["start"]): r["count"] for r in rows if r["source"] == "counter"}
    assert len(seen) == 2 * 48
    for (sensor, start), count in seen.items():
        hour = int(start[11:13]) + 1
        row = real[f"2022-11-23T{hour:02d}{start[13:19]}+01:00"]
        assert count == int(row["Hoofdrichting" if sensor.endswith("f") else "Tegenrichting"])
    assert seen["COUPUREf", "2022-11-23T07:00:00Z"] + seen["COUPUREb", "2022-11-23T07:00:00Z"] == 153


def test_the_true_bicycles_agree_with_the_real_counter(
    truth: dict[tuple[str, str, str], list[float]], sensors: dict[str, dict[str, Any]]
) -> None:
    segment = sensors["COUPUREf"]["segment_id"]
    both = [truth[segment, d, "bicycle"] for d in ("forward", "backward")]
    at_eight = both[0][8] + both[1][8]  # 08:00-08:15 local
    assert at_eight == pytest.approx(12 * (153 + 160 + 168) / 3, rel=0.12)


def test_the_tunnel_is_closed_and_the_surface_takes_its_traffic(
    truth: dict[tuple[str, str, str], list[float]],
) -> None:
    for segment, direction in TUNNEL:
        flow = truth[segment, direction, "car"]
        assert flow[9] == flow[10] == 0  # 08:15-08:45
        assert flow[7] >= 500
        assert flow[8] == pytest.approx(flow[7] * 2 / 3, rel=0.15)  # closed from ten past
    for segment, direction in (("WEGO010879", "forward"), ("WEGO010881", "backward")):
        flow = truth[segment, direction, "car"]
        assert flow[9] > 2.0 * flow[7]
        assert flow[12] < 0.8 * flow[9]


def test_levels_of_traffic_are_plausible(truth: dict[tuple[str, str, str], list[float]]) -> None:
    network = json.loads((CITY / "network.geojson").read_text())["features"]
    road_class = {f["properties"]["id"]: f["properties"]["road_class"] for f in network}
    at_peak: dict[Any, list[float]] = defaultdict(list)
    for (segment, _direction, mode), flow in truth.items():
        at_peak[mode, road_class[segment]].append(flow[7])
    cars = {c: sorted(flows) for (mode, c), flows in at_peak.items() if mode == "car"}
    assert 300 < cars[2][len(cars[2]) // 2] < 900
    assert cars[0][int(0.9 * len(cars[0]))] < 4500
    assert cars[7][len(cars[7]) // 2] < 40
    for c in (0, 2, 4):
        share = sum(at_peak["truck", c]) / (sum(cars[c]) + sum(at_peak["truck", c]))
        assert 0.02 < share < 0.15


@pytest.mark.parametrize("name", ["no_closure", "other_closure"])
def test_a_variant_differs_only_while_a_street_is_closed(lines: list[str], name: str) -> None:
    changed = read_lines(DATA / f"{name}.jsonl.gz")
    assert (DATA / f"{name}.jsonl.gz").stat().st_size < 1_000_000
    variant = list(apply_changes(lines, changed))
    before = set(lines[1:])
    different = [json.loads(line) for line in variant[1:] if line not in before]
    assert different
    for row in different:
        if "to_sensor" not in row:
            assert row["end"] > "2022-11-23T07:10:00Z"
            assert row["start"] < "2022-11-23T07:50:00Z"


def test_without_the_closure_the_tunnel_goes_on_counting(
    lines: list[str], sensors: dict[str, dict[str, Any]]
) -> None:
    inside = {
        name
        for name, s in sensors.items()
        if s["source"] == "loops" and (s.get("segment_id"), s.get("direction")) in TUNNEL
    }
    assert len(inside) == 2
    for changed, is_open in ((None, False), (DATA / "no_closure.jsonl.gz", True)):
        variant = lines if changed is None else list(apply_changes(lines, read_lines(changed)))
        counts = [
            row["count"]
            for row in map(json.loads, variant[1:])
            if row.get("sensor") in inside
            and row["mode"] == "car"
            and "2022-11-23T07:10:00Z" <= row["start"] < "2022-11-23T07:50:00Z"
        ]
        assert len(counts) == 80
        assert (sum(counts) > 500) is is_open


def test_another_closure_fills_other_streets(lines: list[str], sensors: dict[str, dict[str, Any]]) -> None:
    """Palinghuizen closed: the loops on three streets around it count at least twice as many cars."""
    around = {"WEGO009847": "forward", "WEGO008978": "forward", "WEGO015276": "backward"}
    loops = {
        name
        for name, s in sensors.items()
        if s["source"] == "loops" and around.get(s.get("segment_id", "")) == s.get("direction")
    }
    assert len(loops) == 3
    counts = {}
    for name in ("no_closure", "other_closure"):
        counts[name] = Counter()
        for row in map(json.loads, list(apply_changes(lines, read_lines(DATA / f"{name}.jsonl.gz")))[1:]):
            if (
                row.get("sensor") in loops
                and row["mode"] == "car"
                and "2022-11-23T07:10:00Z" <= row["start"] < "2022-11-23T07:50:00Z"
            ):
                counts[name][row["sensor"]] += row["count"]
    for loop in loops:
        assert counts["other_closure"][loop] >= 2 * counts["no_closure"][loop] > 0
