"""Sensors of an imported city: placed by name or by the nearest street, or left out by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cities.importers.city import Imported
from cities.importers.sensors import SOURCES
from cities.pack import load_city
from streams.observation import Source
from tests.cities.test_import_city import imported, left_out, noted, town, write

NORTH_M = 1 / 111_200  # degrees of latitude in a metre


def sensor(
    identifier: Any, lon: float | None, lat: float, source: str = "loops", **properties: Any
) -> dict[str, Any]:
    geometry = {"type": "Point", "coordinates": [lon, lat]}
    return {
        "type": "Feature",
        "properties": {"id": identifier, "source": source, **properties},
        "geometry": geometry,
    }


def area(identifier: str, *ring: tuple[float, float], source: str = "wifi") -> dict[str, Any]:
    geometry = {"type": "Polygon", "coordinates": [[list(p) for p in ring]]}
    return {"type": "Feature", "properties": {"id": identifier, "source": source}, "geometry": geometry}


def with_sensors(tmp_path: Path, *sensors: dict[str, Any]) -> Imported:
    return imported(tmp_path, town(), sensors=write(tmp_path / "s.geojson", list(sensors)))


def street_of(made: Imported) -> dict[str, str]:
    return {s.id: made.city.segment_ids[s.segment] for s in made.city.sensors if s.segment >= 0}


def test_the_sources_are_those_that_may_speak() -> None:
    assert sorted(SOURCES) == sorted(source.value for source in Source)


def test_a_point_without_a_street_goes_to_the_nearest_and_the_match_is_told(tmp_path: Path) -> None:
    made = with_sensors(tmp_path, sensor("L1", 10.001, 50.0 + 8 * NORTH_M, modes=["car"], interval_min=5))
    assert street_of(made) == {"L1": "a"}
    assert made.report["sensors"]["matched"] == [
        {"id": "L1", "segment_id": "a", "street": "A", "direction": "both", "distance_m": 8.0}
    ]
    assert any("matched: L1 to a (A, both), 8.0 m away" in told for told in made.lines)
    assert load_city(tmp_path / "pack").sensors[0].direction == "both"


def test_a_sensor_is_matched_only_to_streets_of_its_modes(tmp_path: Path) -> None:
    beside_the_path = (10.002 + 1e-5, 49.9998)  # street d has no motor traffic; a and b are 22 m away
    made = with_sensors(
        tmp_path,
        sensor("cars", *beside_the_path, modes=["car", "truck"]),
        sensor("loop", *beside_the_path),
        sensor("bicycles", *beside_the_path, source="counter", modes=["bicycle"]),
        sensor("all", *beside_the_path, source="telraam", modes=["car", "bicycle"]),
    )
    assert street_of(made) == {"cars": "b", "loop": "b", "bicycles": "d", "all": "b"}


def test_a_sensor_where_only_some_of_its_modes_go_is_matched_for_those(tmp_path: Path) -> None:
    made = with_sensors(tmp_path, sensor("T", 10.002, 49.9985, source="telraam", modes=["car", "bicycle"]))
    assert street_of(made) == {"T": "d"}


def test_a_named_street_is_believed(tmp_path: Path) -> None:
    made = with_sensors(
        tmp_path,
        sensor("L1", 10.001, 50.0, segment_id="c", direction="forward"),
        sensor("L2", 10.009, 50.0, segment_id="b"),
    )
    assert street_of(made) == {"L1": "c", "L2": "b"}
    assert not made.report["sensors"]["matched"]
    assert noted(made, "sensors")["L2"].startswith("stands 358 m from its segment b")


def test_the_name_of_a_split_street_means_its_nearest_part(tmp_path: Path) -> None:
    features = town()
    features[2]["geometry"] = {
        "type": "MultiLineString",
        "coordinates": [[[10.002, 50.0], [10.002, 50.001]], [[10.002, 50.0015], [10.002, 50.002]]],
    }
    path = write(tmp_path / "s.geojson", [sensor("L", 10.002, 50.0018, segment_id="c")])
    assert street_of(imported(tmp_path, features, sensors=path)) == {"L": "c.2"}


def test_areas_and_stations_need_no_street(tmp_path: Path) -> None:
    square = ((10.0, 50.0), (10.002, 50.0), (10.002, 50.002), (10.0, 50.002), (10.0, 50.0))
    made = with_sensors(tmp_path, area("W", *square), sensor("M", 10.05, 50.0, source="weather"))
    zone, station = made.city.sensors
    assert zone.polygon is not None
    assert (zone.segment, station.segment) == (-1, -1)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (lambda: sensor("X", 10.001, 50.0 + 60 * NORTH_M), "not on the network: no street for car within 30 m (the nearest is a at 60 m)"),
        (lambda: sensor("X", 10.001, 50.0, segment_id="zz"), "segment_id: got 'zz'"),
        (lambda: sensor("L1", 10.001, 50.0), "id: occurs twice; the first is kept"),
        (lambda: sensor("X", 10.001, 50.0, source="sonar"), "source: got 'sonar', expected one of loops"),
        (lambda: sensor("X", 10.001, 50.0, modes=["tank"]), "modes: got 'tank'"),
        (lambda: sensor("X", 10.001, 50.0, modes="car"), "modes: got 'car', expected a list"),
        (lambda: sensor("X", 10.001, 50.0, direction="up"), "direction: got 'up'"),
        (lambda: sensor("X", 50.0, 10.001), "looks like latitude and longitude swapped"),
        (lambda: sensor("X", 50.0, 10.001, segment_id="a"), "looks like latitude and longitude swapped"),
        (lambda: sensor("X", 50.0, 139.0), "looks like latitude and longitude swapped"),
        (lambda: sensor("X", 565_000.0, 5_540_000.0), "looks like metric coordinates"),
        (lambda: sensor("X", 11.0, 50.0), "lies outside the network"),
        (lambda: sensor("X", float("nan"), 50.0), "finite positions"),
        (lambda: sensor("X", None, 50.0), "finite positions"),
        (lambda: sensor(None, 10.001, 50.0), "id: is missing"),
        (lambda: area("X", (10, 50), (10.001, 50.001), (10.001, 50), (10, 50.001), (10, 50)), "not a plain area"),
        (lambda: area("X", (10, 50), (10.001, 50.001)), "expected finite positions"),
        (lambda: {"type": "Feature", "properties": {"id": "X", "source": "loops"}, "geometry": None}, "geometry.type: got None"),
    ],
)  # fmt: skip
def test_one_bad_sensor_is_left_out_by_name_and_all_others_come_in(
    tmp_path: Path, bad: Callable[[], dict[str, Any]], reason: str
) -> None:
    made = with_sensors(tmp_path, sensor("L1", 10.001, 50.0), bad(), sensor("L2", 10.003, 50.0))
    ((name, told),) = left_out(made, "sensors").items()
    assert name in ("X", "L1", "(feature 2)")
    assert reason in told
    assert any(f"left out: sensor {name}: " in text for text in made.lines)
    assert [s.id for s in made.city.sensors] == ["L1", "L2"]


def test_a_city_of_which_no_sensor_is_usable_is_imported_without(tmp_path: Path) -> None:
    made = with_sensors(tmp_path, sensor("X", 11.0, 50.0))
    assert made.city.sensors == ()
    assert "sensors: 0 imported, 0 of them map-matched" in made.lines
