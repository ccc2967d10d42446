"""OpenStreetMap: how tags are read, where ways are split, and what becomes of buildings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cities.importers.city import Imported, Source, import_city
from cities.importers.osm_tags import (
    building_height_m,
    building_use,
    gradient_percent,
    lanes_per_direction,
    speed_limit_kmh,
    street_properties,
    travel_direction,
)
from cities.pack import CityError

NODES = {
    1: (6.140, 46.200), 2: (6.141, 46.200), 3: (6.142, 46.200), 4: (6.143, 46.200),
    5: (6.142, 46.201), 6: (6.142, 46.199), 7: (6.1425, 46.2005), 8: (6.1415, 46.2005),
    11: (6.1400, 46.2010), 12: (6.1402, 46.2010), 13: (6.1402, 46.2012), 14: (6.1400, 46.2012),
    15: (6.14005, 46.20105), 16: (6.14015, 46.20105), 17: (6.14015, 46.20115),
}  # fmt: skip


def write_osm(path: Path, ways: dict[int, tuple[list[int], dict[str, str]]], more: str = "") -> Path:
    """An .osm file of the nodes above."""
    text = "".join(f'<node id="{n}" lon="{lon}" lat="{lat}" version="1"/>' for n, (lon, lat) in NODES.items())
    for way, (nodes, tags) in ways.items():
        body = "".join(f'<nd ref="{n}"/>' for n in nodes) + "".join(
            f'<tag k="{k}" v="{v}"/>' for k, v in tags.items()
        )
        text += f'<way id="{way}" version="1">{body}</way>'
    path.write_text(f'<?xml version="1.0"?><osm version="0.6">{text}{more}</osm>')
    return path


def imported(tmp_path: Path, ways: dict[int, tuple[list[int], dict[str, str]]], more: str = "") -> Imported:
    return import_city(Source(write_osm(tmp_path / "town.osm", ways, more)), tmp_path / "pack")


def test_ways_are_split_where_they_share_a_node(tmp_path: Path) -> None:
    made = imported(
        tmp_path,
        {
            100: ([1, 2, 3, 4], {"highway": "secondary", "name": "Rue A"}),
            101: ([6, 3, 5], {"highway": "residential", "oneway": "-1"}),
            102: ([2, 8], {"highway": "steps"}),
            103: ([11, 12], {"highway": "construction"}),
        },
    )
    city = made.city
    assert city.segment_ids == ("w100.1", "w100.2", "w100.3", "w101.1", "w101.2", "w102")
    assert city.network.n_nodes == 7
    assert city.segment_names[0] == "Rue A"
    assert city.car_edges.n_edges == 8  # six of the secondary road, two of the one-way street
    assert (city.name, city.crs) == ("town", "EPSG:32632")
    assert city.settings["city"]["attribution"].startswith("© OpenStreetMap contributors")


def test_a_roundabout_is_one_way_and_starts_at_a_junction(tmp_path: Path) -> None:
    made = imported(
        tmp_path,
        {
            100: ([3, 6], {"highway": "tertiary"}),
            101: ([5, 8, 3, 7, 5], {"highway": "tertiary", "junction": "roundabout"}),
            102: ([7, 4], {"highway": "tertiary"}),
        },
    )
    city = made.city
    assert city.segment_ids == ("w100", "w101.1", "w101.2", "w102")  # not cut at node 5, where nothing meets
    assert city.car_edges.n_edges == 6


def _marks(made: Imported) -> dict[str, tuple[str | None, str | None]]:
    of = dict(zip(made.city.segment_ids, made.city.noise_properties, strict=True))
    return {name: (p.get("junction_start"), p.get("junction_end")) for name, p in of.items()}


def test_roundabouts_and_traffic_lights_are_marked_at_the_ends_of_streets(tmp_path: Path) -> None:
    """Nodes 5, 8, 3, 7 are a ring; the lights 21 stand 8 m before node 2, the lights 22 in the middle of a street."""
    nodes = "".join(
        f'<node id="{n}" lon="{lon}" lat="46.2" version="1"><tag k="highway" v="{kind}"/></node>'
        for n, lon, kind in (
            (21, 6.1409, "traffic_signals"), (22, 6.1405, "traffic_signals"), (23, 6.146, "mini_roundabout"),
        )
    )  # fmt: skip
    ways = {
        100: ([1, 22, 21, 2], {"highway": "tertiary"}),
        101: ([2, 3], {"highway": "tertiary"}),
        102: ([5, 8, 3, 7, 5], {"highway": "tertiary", "junction": "roundabout"}),
        103: ([7, 4], {"highway": "tertiary"}),
        104: ([4, 23], {"highway": "tertiary"}),
    }
    path = write_osm(tmp_path / "town.osm", ways)
    path.write_text(path.read_text().replace('<way id="100"', f'{nodes}<way id="100"'))
    made = import_city(Source(path), tmp_path / "pack")
    ring = ("roundabout", "roundabout")
    assert _marks(made) == {
        "w100": (None, "crossing"), "w101": (None, None), "w102.1": ring, "w102.2": ring,
        "w103": (None, None), "w104": (None, "roundabout"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("tags", "gradient"),
    [
        ({"incline": "8%"}, 8.0), ({"incline": "-3.5 %"}, -3.5), ({"incline": "up"}, None),
        ({"incline": "10°"}, None), ({"incline": "200%"}, None), ({}, None),
    ],
)  # fmt: skip
def test_gradients_are_read_in_percent(tags: dict[str, str], gradient: float | None) -> None:
    assert gradient_percent(tags) == gradient
    properties = street_properties({"highway": "residential", **tags})
    assert properties is not None
    assert properties.get("gradient_percent") == gradient


def test_bridges_and_tunnels_are_marked() -> None:
    for tags, mark in (
        ({"bridge": "viaduct"}, {"is_bridge"}), ({"tunnel": "yes"}, {"is_tunnel"}),
        ({"tunnel": "building_passage"}, set()), ({"bridge": "no"}, set()),
    ):  # fmt: skip
        properties = street_properties({"highway": "residential", **tags})
        assert properties is not None
        assert {key for key in properties if key.startswith("is_")} == mark


def test_a_way_that_leaves_the_file_is_cut_there_and_told(tmp_path: Path) -> None:
    made = imported(
        tmp_path,
        {100: ([1, 2, 999, 3, 4], {"highway": "secondary"}), 101: ([4, 998], {"highway": "secondary"})},
    )
    assert made.city.segment_ids == ("w100.1", "w100.2")
    assert [row["id"] for row in made.report["network"]["notes"]] == ["w100", "w101"]


@pytest.mark.parametrize(
    ("tags", "direction"),
    [
        ({"highway": "residential"}, "both"),
        ({"highway": "residential", "oneway": "yes"}, "forward"),
        ({"highway": "residential", "oneway": "-1"}, "backward"),
        ({"highway": "motorway"}, "forward"),
        ({"highway": "motorway", "oneway": "no"}, "both"),
        ({"highway": "tertiary", "junction": "roundabout"}, "forward"),
        ({"highway": "residential", "access": "private"}, "none"),
        ({"highway": "residential", "access": "no", "motor_vehicle": "destination"}, "both"),
        ({"highway": "residential", "vehicle": "no", "motor_vehicle": "yes"}, "both"),
        ({"highway": "residential", "motor_vehicle": "no"}, "none"),
        ({"highway": "service", "access": "permissive"}, "both"),
        ({"highway": "pedestrian"}, "none"),
        ({"highway": "footway", "motor_vehicle": "yes"}, "none"),
        ({"highway": "cycleway", "oneway": "yes"}, "none"),
        ({"highway": "busway"}, "none"),
    ],
)
def test_the_direction_of_motor_traffic(tags: dict[str, str], direction: str) -> None:
    assert travel_direction(tags) == direction


@pytest.mark.parametrize(
    ("tags", "speed", "is_exact"),
    [
        ({"maxspeed": "50"}, 50.0, True),
        ({"maxspeed": "30 mph"}, 48.28032, True),
        ({"maxspeed": "80 km/h"}, 80.0, True),
        ({"maxspeed": "walk"}, 7.0, False),
        ({"maxspeed": "none"}, 130.0, False),
        ({"maxspeed": "CH:urban"}, 50.0, False),
        ({"maxspeed": "DE:zone:30"}, 30.0, False),
        ({"maxspeed:type": "CH:zone30"}, 30.0, False),
        ({"zone:maxspeed": "BE:20"}, 20.0, False),
        ({"source:maxspeed": "sign"}, None, False),
        ({"maxspeed": "signals", "maxspeed:type": "CH:rural"}, 80.0, False),
        ({"maxspeed:forward": "50", "maxspeed:backward": "30"}, 40.0, True),
        ({"maxspeed": "0"}, None, False),
        ({"maxspeed": "fast"}, None, False),
        ({}, None, False),
    ],
)
def test_speed_limits(tags: dict[str, str], speed: float | None, is_exact: bool) -> None:
    assert speed_limit_kmh(tags) == (pytest.approx(speed) if speed else None, is_exact)


@pytest.mark.parametrize(
    ("tags", "is_one_way", "lanes"),
    [
        ({"lanes": "4"}, False, 2.0),
        ({"lanes": "3"}, True, 3.0),
        ({"lanes": "3", "lanes:forward": "2", "lanes:backward": "1"}, False, 1.5),
        ({"lanes": "1"}, False, 0.5),
        ({"lanes": "1w"}, False, None),
        ({"lanes": "0"}, True, None),
        ({"lanes:forward": "2"}, True, 2.0),
        ({}, False, None),
    ],
)
def test_lanes_are_of_one_direction(tags: dict[str, str], is_one_way: bool, lanes: float | None) -> None:
    assert lanes_per_direction(tags, is_one_way=is_one_way) == lanes


@pytest.mark.parametrize(
    ("tags", "road_class"),
    [
        ({"highway": "service"}, "service"),
        ({"highway": "service", "service": "driveway"}, 9),
        ({"highway": "footway", "bicycle": "yes"}, 10),
        ({"highway": "path", "bicycle": "no"}, 11),
        ({"highway": "pedestrian", "bicycle": "dismount"}, 11),
        ({"highway": "steps", "bicycle": "yes"}, "steps"),
    ],
)
def test_what_a_way_is_used_for_decides_its_class(tags: dict[str, str], road_class: object) -> None:
    made = street_properties(tags)
    assert made is not None
    assert made["road_class"] == road_class


@pytest.mark.parametrize(
    "tags", [{"highway": "platform"}, {"highway": "pedestrian", "area": "yes"}, {"railway": "rail"}]
)
def test_what_nobody_travels_along_is_no_street(tags: dict[str, str]) -> None:
    assert street_properties(tags) is None


@pytest.mark.parametrize(
    ("tags", "height_m", "is_derived"),
    [
        ({"height": "12"}, 12.0, False),
        ({"height": "12,5 m", "building:levels": "9"}, 12.5, False),
        ({"height": "40'6\""}, 12.3444, False),
        ({"height": "0", "building:levels": "5"}, 15.0, True),
        ({"building:levels": "1;3"}, 9.0, True),
        ({"building:levels": "0"}, 9.0, True),
        ({}, 9.0, True),
    ],
)
def test_heights_are_given_or_from_levels_or_nine_metres(
    tags: dict[str, str], height_m: float, is_derived: bool
) -> None:
    height, derived = building_height_m(tags)
    assert height == pytest.approx(height_m)
    assert derived is is_derived


@pytest.mark.parametrize(
    ("value", "use"),
    [
        ("apartments", "residential"), ("house", "residential"), ("dormitory", "residential"),
        ("retail;apartments", "residential"), ("garages", "other"), ("school", "other"), ("hotel", "other"),
        ("retail; office", "other"), ("yes", None), ("yes;retail", None), ("chalet of ours", None), ("", None),
    ],
)  # fmt: skip
def test_the_use_of_a_building_is_what_its_tag_says_it_was_built_for(value: str, use: str | None) -> None:
    assert building_use({"building": value}) == use


def test_what_tags_do_not_tell_is_marked_derived(tmp_path: Path) -> None:
    imported(
        tmp_path,
        {
            100: ([1, 2], {"highway": "primary", "maxspeed": "60", "lanes": "4", "surface": "sett"}),
            101: ([2, 3], {"highway": "primary_link", "maxspeed": "CH:urban", "oneway": "yes"}),
        },
    )
    features = json.loads((tmp_path / "pack" / "network.geojson").read_text())["features"]
    told = {f["properties"]["id"]: f["properties"] for f in features}
    assert (told["w100"]["speed_kmh"], told["w100"]["lanes"], told["w100"]["surface"]) == (60.0, 2.0, "NL11")
    assert told["w100"]["derived"] == ["width_m"]
    assert (told["w101"]["speed_kmh"], told["w101"]["lanes"], told["w101"]["highway"]) == (
        50.0,
        1.0,
        "primary_link",
    )
    assert told["w101"]["derived"] == ["lanes", "speed_kmh", "surface", "width_m"]


def test_buildings_come_from_ways_and_relations_with_their_courtyards(tmp_path: Path) -> None:
    relation = (
        '<relation id="300" version="1"><member type="way" ref="201" role="outer"/><member type="way" ref="202" role="inner"/>'
        '<tag k="type" v="multipolygon"/><tag k="building" v="yes"/><tag k="building:levels" v="6"/></relation>'
        '<relation id="301" version="1"><member type="way" ref="999" role="outer"/>'
        '<tag k="type" v="multipolygon"/><tag k="building" v="yes"/></relation>'
    )
    made = imported(
        tmp_path,
        {
            100: ([1, 2], {"highway": "primary"}),
            200: ([3, 4, 5, 3], {"building": "yes", "height": "20"}),
            201: ([11, 12, 13, 14, 11], {}),
            202: ([15, 16, 17, 15], {}),
            203: ([6, 7, 8], {"building": "house"}),
            204: ([6, 7, 8, 6], {"building": "no"}),
            205: ([6, 7, 8, 6], {"building": "garage", "height": "3"}),
            206: ([6, 7, 8, 6], {"building": "detached", "height": "7"}),
        },
        relation,
    )
    told = json.loads((tmp_path / "pack" / "buildings.geojson").read_text())["features"]
    assert {
        f["properties"]["id"]: (f["properties"]["height_m"], f["properties"].get("derived")) for f in told
    } == {
        "w200": (20.0, None),
        "r300": (18.0, ["height_m"]),
        "w205": (3.0, None),
        "w206": (7.0, None),
    }
    use = {f["properties"]["id"]: f["properties"].get("use", "not there") for f in told}
    assert use == {"w200": "not there", "r300": "not there", "w205": "other", "w206": "residential"}
    assert (made.report["buildings"]["residential"], made.report["buildings"]["use_unknown"]) == (1, 2)
    assert [len(f["geometry"]["coordinates"]) for f in told if f["properties"]["id"] == "r300"] == [2]
    assert [row["id"] for row in made.report["buildings"]["left_out"]] == ["r301", "w203"]


@pytest.mark.parametrize(
    ("name", "content"), [("a.osm.pbf", b"no such thing"), ("a.osm", b"<osm"), ("a.osm.pbf", b"")]
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CityError, match=name):
        import_city(Source(tmp_path / name), tmp_path / "pack")


def test_a_file_without_streets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CityError, match="holds no way with a highway tag"):
        imported(tmp_path, {100: ([1, 2], {"railway": "tram"})})
