"""City packs: what is read, what is filled in, what is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cities.pack import CityError, find_city, load_city
from cities.register import import_register
from tests.toy import BLOCK_M


def change_network(folder: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    path = folder / "network.geojson"
    collection = json.loads(path.read_text())
    change(collection["features"])
    path.write_text(json.dumps(collection))


def test_the_toy_city_is_read_whole(toy_folder: Path) -> None:
    city = load_city(toy_folder)
    assert city.network.n_segments == 20
    assert city.network.n_nodes == 16
    assert city.car_edges.n_edges == 40
    np.testing.assert_allclose(city.network.length_m, BLOCK_M, rtol=1e-6)
    assert city.grid.shape == (80, 80)
    assert len(city.sensors) == 9


def test_what_the_network_does_not_give_is_marked_derived(toy_folder: Path) -> None:
    change_network(toy_folder, lambda f: f[0]["properties"].update(speed_kmh=70.0))
    city = load_city(toy_folder)
    first = city.segment_ids.index("h00")
    assert city.speed_kmh[first] == 70.0
    assert city.derived[first] == {"lanes", "width_m", "surface"}


def test_the_directions_of_a_segment_become_edges(toy_folder: Path) -> None:
    def one_way(features: list[dict[str, Any]]) -> None:
        features[0]["properties"]["direction"] = "backward"
        features[1]["properties"]["direction"] = "none"

    change_network(toy_folder, one_way)
    city = load_city(toy_folder)
    assert city.car_edges.n_edges == 37
    assert city.bicycle_edges.n_edges == 40
    edge = int(np.flatnonzero(city.car_edges.segment == 0)[0])
    assert city.car_edges.from_node[edge] == city.network.to_node[0]
    assert city.car_edges.opposite[edge] == -1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f[3]["properties"].update(id=f[2]["properties"]["id"]), "id: occurs twice"),
        (lambda f: f[3]["properties"].update(road_class=99), "road_class: got 99"),
        (lambda f: f[3]["properties"].update(direction="up"), "direction: got 'up'"),
        (lambda f: f[3]["properties"].update(lanes=-1), "lanes: got -1"),
        (lambda f: f[3]["geometry"].update(type="Point"), "expected LineString"),
        (lambda f: f[3]["geometry"].update(coordinates=[[600000, 5340000], [600400, 5340000]]),
         "looks like metric coordinates"),
        (lambda f: f[3]["geometry"].update(coordinates=[f[3]["geometry"]["coordinates"][0]] * 2), "length is zero"),
    ],
)  # fmt: skip
def test_a_network_that_does_not_fit_is_refused_by_segment_and_field(
    toy_folder: Path, change: Callable[[list[dict[str, Any]]], None], message: str
) -> None:
    change_network(toy_folder, change)
    with pytest.raises(CityError, match=message):
        load_city(toy_folder)


@pytest.mark.parametrize("name", ["city.toml", "network.geojson"])
def test_a_missing_file_is_named(toy_folder: Path, name: str) -> None:
    (toy_folder / name).unlink()
    with pytest.raises(CityError, match=name):
        load_city(toy_folder)


def test_an_unknown_city_is_answered_with_the_bundled_ones() -> None:
    with pytest.raises(CityError, match="bundled: ghent"):
        find_city("atlantis")


def test_a_sensor_on_an_unknown_segment_is_refused(toy_folder: Path) -> None:
    path = toy_folder / "sensors.geojson"
    path.write_text(path.read_text().replace('"segment_id": "h00"', '"segment_id": "h99"'))
    with pytest.raises(CityError, match="h99"):
        load_city(toy_folder)


def test_the_bundled_city_covers_the_whole_register() -> None:
    city = load_city(find_city("ghent"))
    assert city.network.n_segments == 14_276  # 14,266 features, seven of them of several lines
    assert 19_500 < city.car_edges.n_edges < 21_000
    assert 27_000 < city.bicycle_edges.n_edges < 28_500
    assert city.grid.shape == (800, 800)
    assert 1.55e6 < city.network.length_m.sum() < 1.62e6
    assert (city.folder / "network.geojson").stat().st_size < 5e6


def test_a_register_is_split_and_its_gaps_are_filled_by_rule() -> None:
    rules = {
        "missing_road_class": 8,
        "columns": {"id": "nr", "road_class": "k", "direction": "r", "name": "n", "zone": "z"},
        "direction": {"missing_none": [9], "values": {"D": "both", "N": "none"}},
    }
    lines = {"type": "MultiLineString", "coordinates": [[[0, 0], [1, 0]], [[2, 0], [3, 0]]]}
    line = {"type": "LineString", "coordinates": [[0, 0], [1, 1]]}
    register = {
        "features": [
            {"properties": {"nr": "a", "k": "7", "r": "D", "n": "A", "z": "1"}, "geometry": lines},
            {"properties": {"nr": "b", "k": "9", "n": None, "z": None}, "geometry": line},
            {"properties": {"nr": "c", "k": None, "n": "C", "z": "1"}, "geometry": line},
        ]
    }
    made = {f["properties"]["id"]: f["properties"] for f in import_register(register, rules)["features"]}
    assert list(made) == ["a.1", "a.2", "b", "c"]
    assert made["b"]["direction"] == "none"
    assert made["b"]["derived"] == ["direction"]
    assert made["c"]["direction"] == "both"
    assert made["c"]["road_class"] == 8
    assert made["c"]["derived"] == ["road_class", "direction"]
