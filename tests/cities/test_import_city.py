"""From GeoJSON to a pack: what is taken over, filled in, left out by name, and refused."""

from __future__ import annotations

import gzip
import json
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cities.importers.city import Imported, Source, import_city
from cities.importers.settings import toml_text
from cities.pack import CityError, load_city
from controlroom import main
from tests.foreign import CLASSES, MINUTES, START, make_town, place_instruments, write_foreign_city

Features = list[dict[str, Any]]


def line(identifier: str, *lonlat: tuple[float, float], **properties: Any) -> dict[str, Any]:
    geometry = {"type": "LineString", "coordinates": [list(p) for p in lonlat]}
    return {"type": "Feature", "properties": {"id": identifier, **properties}, "geometry": geometry}


def town() -> Features:
    """Five streets around a crossing at 10 degrees east, 50 north; about 140 m and 220 m long."""
    return [
        line("a", (10.0, 50.0), (10.002, 50.0), road_class=3, direction="both", name="A"),
        line(
            "b",
            (10.002, 50.0),
            (10.004, 50.0),
            road_class=3,
            direction="forward",
            name="A",
            lanes=2,
            speed_kmh=70,
        ),
        line("c", (10.002, 50.0), (10.002, 50.002), road_class=6, direction="both", name="C"),
        line("d", (10.002, 50.0), (10.002, 49.998), road_class=10, direction="none", name="D"),
        line("e", (10.002, 50.002), (10.004, 50.0), road_class=6, name="E", surface="NL11", zone="east"),
    ]


def write(path: Path, features: Features) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def imported(tmp_path: Path, features: Features, **more: Any) -> Imported:
    return import_city(
        Source(write(tmp_path / "town" / "network.geojson", features), **more), tmp_path / "pack"
    )


def left_out(made: Imported, kind: str = "network") -> dict[str, str]:
    return {row["id"]: row["reason"] for row in made.report[kind]["left_out"]}


def noted(made: Imported, kind: str = "network") -> dict[str, str]:
    return {row["id"]: row["reason"] for row in made.report[kind]["notes"]}


def test_a_bare_network_becomes_a_city_with_stated_assumptions(tmp_path: Path) -> None:
    made = imported(tmp_path, town(), timezone="Europe/Berlin")
    city = load_city(tmp_path / "pack")
    assert (city.name, city.crs, city.timezone) == ("town", "EPSG:32632", "Europe/Berlin")
    assert city.network.n_nodes == 5
    assert city.car_edges.n_edges == 7
    assert city.settings["background"]["source"] == "assumed"
    assert "[background] no2 = 15.0" in made.report["settings"]["assumed"]
    assert any("assumed: [receptors] around the network every 10 m" in told for told in made.lines)
    inside = city.grid.cell_of(city.network.vertex_xy)
    assert (inside >= 0).all()


def test_what_is_missing_comes_from_the_class_and_is_marked_in_the_file(tmp_path: Path) -> None:
    imported(tmp_path, town())
    features = json.loads((tmp_path / "pack" / "network.geojson").read_text())["features"]
    told = {f["properties"]["id"]: f["properties"] for f in features}
    assert told["a"]["speed_kmh"] == 50.0
    assert told["a"]["derived"] == ["lanes", "speed_kmh", "surface", "width_m"]
    assert (told["b"]["lanes"], told["b"]["speed_kmh"]) == (2.0, 70.0)
    assert told["b"]["derived"] == ["surface", "width_m"]
    assert told["e"]["direction"] == "both"
    assert told["e"]["derived"] == ["direction", "lanes", "speed_kmh", "width_m"]
    assert told["e"]["zone"] == "east"
    assert load_city(tmp_path / "pack").derived[1] == {"surface", "width_m"}


def test_a_class_may_be_a_value_of_openstreetmaps_highway(tmp_path: Path) -> None:
    features = town()
    for feature, value in zip(
        features, ("primary", "motorway_link", "living_street", "footway", "busway"), strict=True
    ):
        feature["properties"]["road_class"] = value
    imported(tmp_path, features)
    city = load_city(tmp_path / "pack")
    assert city.road_class.tolist() == [2, 1, 7, 11, 8]
    assert city.speed_kmh.tolist() == [55.0, 70.0, 20.0, 5.0, 20.0]
    assert 4 not in city.car_edges.segment  # buses alone
    assert 3 not in city.bicycle_edges.segment


def test_a_class_without_a_row_is_refused_by_name(tmp_path: Path) -> None:
    features = town()
    features[1]["properties"]["road_class"] = 42
    features[3]["properties"]["road_class"] = "bahnhofstrasse"
    with pytest.raises(CityError, match=r"'42' of 1 segments, as b; 'bahnhofstrasse' of 1 segments, as d"):
        imported(tmp_path, features)
    assert not (tmp_path / "pack").exists()


def test_a_street_without_a_class_gets_the_least_one_and_says_so(tmp_path: Path) -> None:
    features = town()
    del features[1]["properties"]["road_class"]
    imported(tmp_path, features)
    city = load_city(tmp_path / "pack")
    assert city.classes[int(city.road_class[1])].name == "private road"
    assert "road_class" in city.derived[1]


def test_whole_numbers_written_as_decimals_are_classes_too(tmp_path: Path) -> None:
    features = town()
    features[1]["properties"]["road_class"] = 3.0
    imported(tmp_path, features)
    assert load_city(tmp_path / "pack").road_class[1] == 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda f: f["properties"].pop("id"), "id: is missing"),
        (lambda f: f["geometry"].update(type="Point", coordinates=[10.0, 50.0]), "expected LineString or MultiLineString"),
        (lambda f: f["geometry"].update(coordinates=[[10.0, 50.0], [10.0, 50.0]]), "length is zero"),
        (lambda f: f["geometry"].update(coordinates=[[10.0, None], [10.0, 50.0]]), "finite positions"),
        (lambda f: f["geometry"].update(coordinates=[[50.0, 10.0], [50.0, 10.002]]), "latitude and longitude swapped"),
        (lambda f: f["geometry"].update(coordinates=[[600000, 5540000], [600100, 5540000]]), "looks like metric"),
        (lambda f: f["geometry"].update(coordinates=[[0.0, 0.0], [0.0, 0.001]]), "far from the network's middle"),
        (lambda f: f["properties"].update(direction="up"), "direction: got 'up'"),
        (lambda f: f.update(geometry=None), "geometry.type: got None"),
    ],
)  # fmt: skip
def test_one_bad_street_is_left_out_by_name_and_all_others_come_in(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], reason: str
) -> None:
    features = town()
    change(features[2])
    made = imported(tmp_path, features)
    (told,) = left_out(made).items()
    assert told[0] in ("c", "(feature 3)")
    assert reason in told[1]
    assert any("left out: segment" in text and reason in text for text in made.lines)
    assert load_city(tmp_path / "pack").segment_ids == ("a", "b", "d", "e")


def test_a_line_that_crosses_itself_is_told_and_kept(tmp_path: Path) -> None:
    features = town()
    loop = [[10.002, 50.0], [10.002, 50.002], [10.003, 50.001], [10.001, 50.001]]
    features[2]["geometry"]["coordinates"] = loop
    made = imported(tmp_path, features)
    assert "crosses itself" in noted(made)["c"]
    assert "c" in made.city.segment_ids


def test_unusable_numbers_and_surfaces_are_told_and_taken_from_the_class(tmp_path: Path) -> None:
    features = town()
    features[0]["properties"].update(lanes=-1)
    features[1]["properties"].update(speed_kmh="30")
    features[2]["properties"].update(surface="cobblestone")
    features[4]["properties"].update(surface="moon dust")
    made = imported(tmp_path, features)
    city = load_city(tmp_path / "pack")
    assert noted(made) == {
        "a": "lanes: got -1, expected a number > 0; taken from the class",
        "e": "surface: got 'moon dust', taken from the class",
    }
    assert city.lanes[0] == 1.2
    assert city.speed_kmh[1] == 30.0
    assert city.surface == ("DEF", "DEF", "NL11", "DEF", "DEF")


def test_gaps_of_a_table_written_as_nan_are_gaps(tmp_path: Path) -> None:
    features = town()
    features[0]["properties"].update(lanes=float("nan"), surface=float("nan"))
    features[1]["properties"].update(road_class=float("nan"))
    made = imported(tmp_path, features)
    assert made.city.lanes[0] == 1.2
    assert "road_class" in made.city.derived[1]
    assert not made.report["network"]["notes"]


def test_two_streets_with_one_id_are_both_kept(tmp_path: Path) -> None:
    features = town()
    features[2]["properties"]["id"] = "a"
    features.append(features[0])
    made = imported(tmp_path, features)
    assert made.city.segment_ids == ("a", "b", "a.2", "d", "e")
    assert noted(made) == {"a": "id: occurs twice; the later street is imported as a.2"}
    assert left_out(made) == {"a": "id: occurs twice, with the same line"}


def test_a_street_of_several_lines_is_joined_where_they_meet_and_else_split(tmp_path: Path) -> None:
    features = town()
    features[0]["geometry"] = {
        "type": "MultiLineString",
        "coordinates": [[[10.0, 50.0], [10.001, 50.0]], [[10.001, 50.0], [10.002, 50.0]]],
    }
    features[2]["geometry"] = {
        "type": "MultiLineString",
        "coordinates": [[[10.002, 50.0], [10.002, 50.001]], [[10.002, 50.0015], [10.002, 50.002]]],
    }
    features[2]["properties"] |= {"junction_start": "crossing", "junction_end": "roundabout"}
    made = imported(tmp_path, features)
    of = dict(zip(made.city.segment_ids, made.city.noise_properties, strict=True))
    assert of["c.1"] == {"junction_start": "crossing"}
    assert of["c.2"] == {"junction_end": "roundabout"}
    assert made.city.segment_ids == ("a", "b", "c.1", "c.2", "d", "e")
    assert made.report["network"]["streets"] == 5


def test_a_network_of_nothing_usable_is_refused_with_the_reasons(tmp_path: Path) -> None:
    features = [line("a", (600000, 5540000), (600100, 5540000), road_class=3)]
    with pytest.raises(CityError, match=r"none of its features can be a street: .*looks like metric"):
        imported(tmp_path, features)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"type":"FeatureCollection","features":[]}', b"\x1f\x8bxx"]
)
def test_an_unreadable_file_is_named(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "streets.geojson"
    path.write_bytes(content)
    assert main(["city", "import", "--network", str(path), "--out", str(tmp_path / "pack")]) == 2
    assert "streets.geojson" in capsys.readouterr().err
    missing = str(tmp_path / "none.geojson")
    assert main(["city", "import", "--network", missing, "--out", str(tmp_path / "pack")]) == 2
    assert "none.geojson: cannot be read" in capsys.readouterr().err


def test_a_city_toml_beside_the_network_is_taken_over_as_it_is(tmp_path: Path) -> None:
    write_foreign_city(tmp_path / "valdoro")
    made = import_city(Source(tmp_path / "valdoro" / "network.geojson"), tmp_path / "pack")
    assert made.report["settings"] == {"from": str(tmp_path / "valdoro" / "city.toml"), "assumed": []}
    assert (tmp_path / "pack" / "city.toml").read_bytes() == (tmp_path / "valdoro" / "city.toml").read_bytes()
    assert {row.name for row in made.city.classes.values()} == {name for name, *_ in CLASSES.values()}


def test_a_short_city_toml_is_completed_and_what_was_assumed_is_told(tmp_path: Path) -> None:
    (tmp_path / "town").mkdir()
    (tmp_path / "town" / "city.toml").write_text(
        '[city]\nname = "x"\ncrs = "EPSG:25832"\n[background]\nno2 = 9.0\nsource = "a station"\n'
        '[[road_class]]\ncode = 700\nname = "gasse"\nspeed_kmh = 28\nlanes = 1\nbicycle = false\ncolour = "red"\n'
    )
    features = town()
    for feature in features:
        feature["properties"]["road_class"] = "gasse"
    made = imported(tmp_path, features, name="Y")
    city = load_city(tmp_path / "pack")
    assert (city.name, city.crs, city.timezone) == ("Y", "EPSG:25832", "UTC")
    assert city.classes[700].capacity_veh_per_h == 600.0
    assert not city.classes[700].bicycle
    assert city.settings["background"]["no2"] == 9.0
    assert city.settings["background"]["source"] == "a station; o3, pm10, pm25, mean_wind_m_s: assumed"
    assumed = made.report["settings"]["assumed"]
    assert "[[road_class]] 700 capacity_veh_per_h" in assumed
    assert "[[road_class]] 700 colour: is not a field of a road class, not taken over" in assumed


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[city", "not valid TOML"),
        ('[city]\ncrs = "EPSG:4326"', "expected a projected CRS in metres"),
        ('[city]\ncrs = "EPSG:1"', "expected a metric CRS"),
        ('[city]\ncrs = "EPSG:32612"', "outside the area of EPSG:32612"),
        ('[city]\ntimezone = "Mars/Olympus"', "timezone: got 'Mars/Olympus'"),
        ('[[road_class]]\ncode = "A"', "code: got 'A', expected a whole number"),
        ('[[road_class]]\ncode = 3\nspeed_kmh = "fast"', "speed_kmh: got 'fast'"),
        ("[[road_class]]\ncode = 3\nmotor = 1", "motor: got 1, expected as True"),
        ("[receptors]\nx_min = nan\ny_min = 0\nx_max = 1\ny_max = 1\nstep_m = 1", "x_min: got nan, expected a number"),
        ("city = 5", r"city: got 5, expected a table \[city\]"),
    ],
)  # fmt: skip
def test_a_wrong_city_toml_is_refused_by_field(tmp_path: Path, toml: str, message: str) -> None:
    (tmp_path / "town").mkdir()
    (tmp_path / "town" / "city.toml").write_text(toml)
    with pytest.raises(CityError, match=message):
        imported(tmp_path, town())


def test_settings_are_read_again_as_they_were_written() -> None:
    table = {
        "a": 1, "b": [1.5, True, "x\"\\\n\u00e9"], "list": [1, {"c": "d"}],
        "t": {"u": {"v w": "x"}, "n": -2}, "rows": [{"k": 1, "sub": {"m": 2}}, {"k": 2}], "none": [],
    }  # fmt: skip
    assert tomllib.loads(toml_text(table)) == table


def test_a_swapped_network_is_told_where_the_crs_is_known(tmp_path: Path) -> None:
    features = town()
    for feature in features:
        feature["geometry"]["coordinates"] = [p[::-1] for p in feature["geometry"]["coordinates"]]
    (tmp_path / "town").mkdir()
    (tmp_path / "town" / "city.toml").write_text('[city]\ncrs = "EPSG:25832"')
    with pytest.raises(CityError, match="latitude and longitude swapped"):
        imported(tmp_path, features)


def test_a_large_city_gets_a_coarser_grid(tmp_path: Path) -> None:
    features = [*town(), line("f", (10.004, 50.0), (10.9, 50.5), road_class=0)]
    city = imported(tmp_path, features).city
    assert city.grid.step_m == 50.0
    assert 5e5 < city.grid.n_receptors <= 1.5e6


def test_buildings_get_heights_that_say_where_they_come_from(tmp_path: Path) -> None:
    ring = [[10.0, 50.0], [10.0001, 50.0], [10.0001, 50.0001], [10.0, 50.0]]
    square = {"type": "Polygon", "coordinates": [ring]}
    bow = {
        "type": "Polygon",
        "coordinates": [[[10, 50], [10.0001, 50.0001], [10.0001, 50], [10, 50.0001], [10, 50]]],
    }
    features = [
        {"type": "Feature", "properties": {"id": 1, "height_m": 12.5}, "geometry": square},
        {"type": "Feature", "properties": {"id": 2, "levels": 4}, "geometry": square},
        {"type": "Feature", "properties": {"id": 3, "height": "40 ft"}, "geometry": square},
        {
            "type": "Feature",
            "properties": {},
            "geometry": {"type": "MultiPolygon", "coordinates": [[ring], [ring]]},
        },
        {"type": "Feature", "properties": {"id": 5}, "geometry": bow},
    ]
    made = imported(tmp_path, town(), buildings=write(tmp_path / "b.geojson", features))
    told = json.loads((tmp_path / "pack" / "buildings.geojson").read_text())["features"]
    assert [(f["properties"]["id"], f["properties"]["height_m"], "derived" in f["properties"]) for f in told] == [
        ("1", 12.5, False), ("2", 12.0, True), ("3", 12.19, False), ("b4.1", 9.0, True), ("b4.2", 9.0, True),
    ]  # fmt: skip
    assert "not a plain outline" in left_out(made, "buildings")["5"]


def test_the_use_of_a_building_is_taken_over_or_read_from_its_tag(tmp_path: Path) -> None:
    ring = [[10.0, 50.0], [10.0001, 50.0], [10.0001, 50.0001], [10.0, 50.0]]
    given: list[dict[str, Any]] = [
        {"use": "residential", "building": "garage"}, {"use": "museum"}, {"building": "house"}, {"use": 3}, {},
    ]  # fmt: skip
    features = [
        {
            "type": "Feature",
            "properties": {"id": k, **p},
            "geometry": {"type": "Polygon", "coordinates": [ring]},
        }
        for k, p in enumerate(given, start=1)
    ]
    made = imported(tmp_path, town(), buildings=write(tmp_path / "b.geojson", features))
    told = json.loads((tmp_path / "pack" / "buildings.geojson").read_text())["features"]
    assert [f["properties"].get("use", "-") for f in told] == [
        "residential",
        "museum",
        "residential",
        "-",
        "-",
    ]
    assert made.report["buildings"]["notes"] == [
        {"id": "4", "reason": "use: got 3, expected a text; taken as not told"}
    ]
    assert any(line.endswith("2 residential, 2 of unknown use") for line in made.lines)


def test_importing_again_replaces_what_an_import_made_and_nothing_else(tmp_path: Path) -> None:
    sensors = [{"type": "Feature", "properties": {"id": "M", "source": "weather"}, "geometry": {"type": "Point", "coordinates": [10.0, 50.0]}}]  # fmt: skip
    imported(tmp_path, town(), sensors=write(tmp_path / "s.geojson", sensors))
    (tmp_path / "pack" / "rules.toml").write_text("")
    first = (tmp_path / "pack" / "network.geojson").read_bytes()
    imported(tmp_path, town())
    assert (tmp_path / "pack" / "network.geojson").read_bytes() == first
    assert not (tmp_path / "pack" / "sensors.geojson").exists()
    assert (tmp_path / "pack" / "rules.toml").exists()
    assert not list(tmp_path.glob(".import-*"))


def test_a_folder_that_no_import_made_is_not_written_over(tmp_path: Path) -> None:
    path = write(tmp_path / "town" / "network.geojson", town())
    with pytest.raises(CityError, match="folder of the network itself"):
        import_city(Source(path), tmp_path / "town")
    shutil.copytree(tmp_path / "town", tmp_path / "other")
    with pytest.raises(CityError, match="was not imported"):
        import_city(Source(path), tmp_path / "other")


def test_the_foreign_town_agrees_with_itself() -> None:
    made = make_town()
    for mode in (0, 2):
        flow = made.flow[:, :, mode]
        balance = np.zeros(len(made.node_xy))
        for way, (a, b) in enumerate(((0, 1), (1, 0))):
            np.add.at(balance, made.ends[:, a], -flow[:, way])
            np.add.at(balance, made.ends[:, b], flow[:, way])
        assert abs(balance.sum()) < 1e-6
        assert (flow >= 0).all()
    one_way = [s for s, d in enumerate(made.direction) if d == "forward"]
    assert (made.flow[one_way, 1, :2] == 0).all()


@pytest.mark.slow
def test_a_foreign_city_and_its_recording_are_imported_and_played(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, pack = tmp_path / "valdoro", tmp_path / "pack"
    write_foreign_city(source)
    network, sensors = source / "network.geojson", source / "sensors.geojson"
    command = ["city", "import", "--network", str(network), "--sensors", str(sensors), "--out", str(pack)]
    assert main(command) == 0
    told = capsys.readouterr().out
    placed = place_instruments(make_town())
    sought = [i for i in placed if not i.names_segment]
    city = load_city(pack)
    segment_of = {s.id: city.segment_ids[s.segment] for s in city.sensors if s.segment >= 0}
    assert segment_of == {i.id: make_town().ids[i.segment] for i in placed}
    assert all(f"matched: {i.id} to {segment_of[i.id]}" in told for i in sought)
    assert f"{len(sought)} of them map-matched" in told

    recording = pack / "recording.jsonl.gz"
    command = [
        "recording",
        "import",
        str(source / "recording.jsonl"),
        "--city",
        str(pack),
        "--out",
        str(recording),
    ]
    assert main(command) == 0
    assert "6 lines rejected" in capsys.readouterr().out
    report = tmp_path / "report.json"
    assert main(["replay", str(pack), "--report", str(report)]) == 0
    played = json.loads(report.read_text())
    assert played["steps"] >= MINUTES
    rows = len(gzip.decompress(recording.read_bytes()).split(b"\n"))
    assert rows > 1400
    assert played["first_event_time"].startswith(START.strftime("%Y-%m-%dT%H"))


@pytest.mark.parametrize(
    "junk", [None, 7, "x", [], [[1, 2]], {"type": "LineString"}, {"type": "Polygon", "coordinates": {}}]
)
def test_junk_in_place_of_a_feature_or_its_parts_is_left_out(tmp_path: Path, junk: Any) -> None:
    features = town()
    features[1]["properties"] = junk
    features[2]["geometry"] = junk
    features.append(junk)
    sensors = [{"type": "Feature", "properties": {"id": "S", "source": "wifi"}, "geometry": junk}, junk]
    buildings = [{"type": "Feature", "properties": junk, "geometry": junk}, junk]
    made = imported(
        tmp_path,
        features,
        sensors=write(tmp_path / "s.geojson", sensors),
        buildings=write(tmp_path / "b.geojson", buildings),
    )
    assert made.city.segment_ids == ("a", "d", "e")
    assert [len(made.report[kind]["left_out"]) for kind in ("network", "sensors", "buildings")] == [3, 2, 2]
