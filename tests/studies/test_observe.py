"""A recording of a small town: ordered, complete, honest, and made again from its changes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shapely.geometry import Point, shape

from studies import observe, truth
from studies.observe import apply_changes, changes, read_lines
from studies.truth import read_fine
from studies.truth_morning import read_morning
from studies.truth_network import bicycle_edges, car_edges, read_streets
from tests.studies.truth_toy import CLOSED, write_town


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Town with a recording of the closure, and one without in the folder ``open``."""
    folder = write_town(tmp_path_factory.mktemp("town"))
    truth.main([str(folder), "--fine", str(folder / "fine.npz")])
    truth.main([str(folder), "--no-closure", "--fine", str(folder / "open.npz")])
    observe.main([str(folder), "--fine", str(folder / "fine.npz"), "--out", str(folder)])
    observe.main(
        [
            str(folder), "--fine", str(folder / "open.npz"), "--out", str(folder / "open"),
            "--changes-against", str(folder / "recording.jsonl.gz"), "--changes", str(folder / "changes.jsonl.gz"),
        ]
    )  # fmt: skip
    return folder


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in read_lines(folder / "recording.jsonl.gz")[1:]]


def test_rows_stand_in_order_of_arrival_between_clock_rows(town: Path) -> None:
    last_clock = ""
    arrivals = []
    for row in rows_of(town):
        if row["source"] == "clock":
            last_clock = row["time"]
            assert all(a < last_clock for a in arrivals)
        else:
            assert row["received"] >= last_clock
            assert row["received"] > row["end"] > row["start"]
            arrivals.append(row["received"])
    assert arrivals == sorted(arrivals)


def test_the_clock_ticks_every_minute_until_two_minutes_after_the_end(town: Path) -> None:
    clocks = [row["time"] for row in rows_of(town) if row["source"] == "clock"]
    assert clocks[0] == "2024-03-12T07:00:30Z"
    assert clocks[-1] == "2024-03-12T08:01:30Z"
    assert len(clocks) == 62


def test_the_header_names_city_span_and_seed(town: Path) -> None:
    header = json.loads(read_lines(town / "recording.jsonl.gz")[0])
    assert header["format"] == "twinroom-recording"
    assert header["city"] == "town"
    assert header["span"] == ["2024-03-12T07:00:00Z", "2024-03-12T08:00:00Z"]
    assert header["seed"] == 5
    assert len(header["network_hash"]) == 16


def test_every_sensor_of_a_row_stands_in_the_list_and_every_listed_one_reports(town: Path) -> None:
    features = json.loads((town / "sensors.geojson").read_text())["features"]
    listed = {f["properties"]["id"]: f["properties"] for f in features}
    assert len(listed) == len(features)
    heard = set()
    for row in rows_of(town):
        if row["source"] != "clock":
            heard.add(row["sensor"])
            assert listed[row["sensor"]]["source"] == row["source"]
            assert "mode" not in row or row["mode"] in listed[row["sensor"]]["modes"]
            assert row["simulated"] is True
    quiet = {i for i in set(listed) - heard if listed[i]["source"] != "telecom"}  # small cells are suppressed
    assert not quiet


def test_a_loop_reports_every_interval_even_when_it_saw_nothing(town: Path) -> None:
    rows = [row for row in rows_of(town) if row["source"] == "loops"]
    count = Counter((row["sensor"], row["mode"]) for row in rows)
    features = json.loads((town / "sensors.geojson").read_text())["features"]
    for p in (f["properties"] for f in features):
        if p["source"] == "loops":
            assert all(count[p["id"], mode] == 60 // p["interval_min"] for mode in p["modes"])
    assert any(row["count"] == 0 for row in rows)


def test_the_loop_on_the_closed_street_falls_silent_at_the_minute(town: Path) -> None:
    features = json.loads((town / "sensors.geojson").read_text())["features"]
    at = next(
        f["properties"]["id"]
        for f in features
        if f["properties"].get("segment_id") == CLOSED and f["properties"]["interval_min"] == 1
    )
    counts = [r for r in rows_of(town) if r.get("sensor") == at and r["mode"] == "car"]
    during = [r for r in counts if "2024-03-12T07:10" <= r["start"] < "2024-03-12T07:50"]
    assert len(during) == 40
    assert all(r["count"] == 0 and "speed_kmh" not in r for r in during)
    assert sum(r["count"] for r in counts if r not in during) > 0


def test_citizen_counters_say_nothing_in_the_dark(town: Path) -> None:
    starts = {row["start"] for row in rows_of(town) if row["source"] == "telraam"}
    assert min(starts) == "2024-03-12T07:30:00Z"  # the first quarter that begins after sunrise at 08:20 local


def test_area_sensors_are_closed_polygons_around_their_middle(town: Path) -> None:
    features = json.loads((town / "sensors.geojson").read_text())["features"]
    areas = [f for f in features if f["properties"]["source"] in ("wifi", "telecom")]
    assert len(areas) == 6
    for feature in areas:
        polygon = shape(feature["geometry"])
        assert polygon.is_valid
        assert polygon.contains(Point(polygon.representative_point()))
        assert feature["geometry"]["coordinates"][0][0] == feature["geometry"]["coordinates"][0][-1]


def test_the_other_recording_is_made_again_from_its_changes(town: Path) -> None:
    before, after = (read_lines(f / "recording.jsonl.gz") for f in (town, town / "open"))
    assert before != after
    assert list(apply_changes(before, read_lines(town / "changes.jsonl.gz"))) == after
    assert len(read_lines(town / "changes.jsonl.gz")) < 0.3 * len(before)


def test_changes_drop_and_add_rows(town: Path) -> None:
    before = read_lines(town / "recording.jsonl.gz")
    fewer = [line for line in before if '"B1"' not in line]
    assert list(apply_changes(before, changes(before, fewer))) == fewer
    assert list(apply_changes(fewer, changes(fewer, before))) == before


def test_changes_of_the_wrong_kind_are_refused(town: Path) -> None:
    before = read_lines(town / "recording.jsonl.gz")
    with pytest.raises(ValueError, match="twinroom-recording-changes"):
        list(apply_changes(before, before))


def test_a_closure_changes_no_row_that_ends_before_it(town: Path) -> None:
    for line in read_lines(town / "changes.jsonl.gz")[1:]:
        row = json.loads(line)
        # Travel times and pairs follow the way between cameras, which is of the whole morning.
        if "to_sensor" not in row:
            assert row["end"] > "2024-03-12T07:10:00Z"
            assert row["start"] < "2024-03-12T07:50:00Z"


def test_the_same_truth_makes_the_same_bytes(town: Path, tmp_path: Path) -> None:
    observe.main([str(town), "--fine", str(town / "fine.npz"), "--out", str(tmp_path)])
    for name in ("recording.jsonl.gz", "sensors.geojson"):
        assert (tmp_path / name).read_bytes() == (town / name).read_bytes()


def test_a_truth_of_another_network_is_refused(town: Path, tmp_path: Path) -> None:
    morning = read_morning(town)
    streets = read_streets(town / "network.geojson", morning.crs)
    cars, bicycles = car_edges(streets, 1), bicycle_edges(streets, 1)
    with np.load(town / "fine.npz") as kept:
        other = dict(kept) | {"car_segment": kept["car_segment"][::-1]}
    np.savez(tmp_path / "other.npz", **other)
    with pytest.raises(ValueError, match="another network"):
        read_fine(tmp_path / "other.npz", cars, bicycles)
