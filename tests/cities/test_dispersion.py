"""Dispersion of a city: which method each street has, with what, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyproj import Transformer

from cities.dispersion import Dispersion, Model, Why, dispersion_of
from cities.pack import CityError, load_city
from kernels.chemistry import Background

MAIN, SIDE = 0, 7  # a street of class main (srm2, 50 km/h) and one of class side (srm1, 14 m wide)


def made(folder: Path, properties: dict[int, dict[str, Any]], toml: str = "", **changes: str) -> Dispersion:
    path = folder / "network.geojson"
    collection = json.loads(path.read_text())
    for number, own in properties.items():
        collection["features"][number]["properties"].update(own)
    path.write_text(json.dumps(collection))
    settings = (folder / "city.toml").read_text()
    for old, new in changes.items():
        settings = settings.replace(old, new)
    (folder / "city.toml").write_text(settings + toml)
    return dispersion_of(load_city(folder))


def test_without_properties_the_class_decides_and_counts_as_derived(toy_folder: Path) -> None:
    got = made(toy_folder, {})
    assert got.model.shape == (20,)
    assert (got.model[MAIN], got.model[SIDE]) == (Model.SRM2, Model.SRM1_GENERAL)
    assert set(got.model.tolist()) == {Model.SRM2, Model.SRM1_GENERAL}
    assert got.derived[SIDE] == {"srm", "road_type", "tree_factor"}
    assert got.derived[MAIN] == {"srm", "elevation_m", "is_viaduct", "barrier_left_m", "barrier_right_m"}
    assert got.reason(MAIN) == "method of the road's class"
    assert got.reason(SIDE) == "method of the road's class; road type assumed: general urban"
    assert got.roughness_m == 1.0
    assert got.roughness_class.tolist() == [3] * 20
    assert (got.tree_factor == 1.0).all()
    assert (got.sigma_z0_m == 2.5).all()
    assert got.double_count == Background(0.0, 0.0, 0.0, 0.0)


def _build_along(folder: Path, segment: int, *, axis_to_facade_m: float, height_m: float) -> None:
    """A row of houses on both sides of a straight segment of the toy city."""
    city = load_city(folder)
    a, b = city.network.polyline(segment)[[0, -1]]
    way = (b - a) / np.hypot(*(b - a))
    normal = np.array([-way[1], way[0]])
    to_lonlat = Transformer.from_crs(city.crs, "EPSG:4326", always_xy=True)
    features = []
    for side in (1.0, -1.0):
        near, far = side * axis_to_facade_m * normal, side * (axis_to_facade_m + 10.0) * normal
        ring = [a + near, b + near, b + far, a + far, a + near]
        geometry = {"type": "Polygon", "coordinates": [[list(to_lonlat.transform(*p)) for p in ring]]}
        features.append(
            {"type": "Feature", "geometry": geometry, "properties": {"id": f"b{side}", "height_m": height_m}}
        )
    text = json.dumps({"type": "FeatureCollection", "features": features})
    (folder / "buildings.geojson").write_text(text)


@pytest.mark.parametrize(
    ("axis_to_facade_m", "expected"), [(10.0, Model.SRM1_NARROW_CANYON), (20.0, Model.SRM1_BROAD_CANYON)]
)
def test_buildings_along_a_street_make_its_type(
    toy_folder: Path, axis_to_facade_m: float, expected: Model
) -> None:
    _build_along(toy_folder, SIDE, axis_to_facade_m=axis_to_facade_m, height_m=9.0)
    got = made(toy_folder, {})
    assert got.model[SIDE] == expected
    assert got.reason(SIDE) == "method of the road's class; road type from the buildings along it"
    assert got.model[MAIN] == Model.SRM2
    own = made(toy_folder, {SIDE: {"road_type": 4}})
    assert own.model[SIDE] == Model.SRM1_GENERAL  # what the pack says counts before


def test_a_segment_that_says_more_counts_before_its_class(toy_folder: Path) -> None:
    street = {"srm": "srm1", "road_type": 2, "tree_factor": 1.25}
    road = {
        "srm": "srm2",
        "elevation_m": 4,
        "side_angle_deg": 30,
        "barrier_left_m": 3,
        "barrier_right_m": 8.0,
    }
    got = made(toy_folder, {MAIN: street, SIDE: {**road, "barrier_right_kind": "wall"}})
    assert got.model[MAIN] == Model.SRM1_NARROW_CANYON
    assert got.tree_factor[MAIN] == 1.25
    assert got.derived[MAIN] == frozenset()
    assert got.model[SIDE] == Model.SRM2
    assert got.sigma_z0_m[SIDE] == 2.5 + 4 / 4 + 3 / 2 + 6 / 4
    assert got.derived[SIDE] == {"is_viaduct", "barrier_left_kind"}
    assert Why(int(got.why[SIDE])) == Why.SEGMENT | Why.BARRIER_CAPPED


@pytest.mark.parametrize("road_type", [1, 2, 3, 4, 2.0])
def test_each_road_type_is_its_model(toy_folder: Path, road_type: float) -> None:
    got = made(toy_folder, {SIDE: {"road_type": road_type}})
    assert got.model[SIDE] == road_type
    assert "road_type" not in got.derived[SIDE]
    assert Why(int(got.why[SIDE])) == Why.CLASS


def test_a_street_without_motor_traffic_has_no_model(toy_folder: Path) -> None:
    got = made(toy_folder, {SIDE: {"direction": "none", "road_type": 2, "tree_factor": 1.5}})
    assert got.model[SIDE] == Model.NONE
    assert got.reason(SIDE) == "no motor traffic"
    assert got.derived[SIDE] == frozenset()


def test_a_motorway_starts_wider_and_a_viaduct_wider_still(toy_folder: Path) -> None:
    viaduct = {"elevation_m": 7.0, "is_viaduct": True}
    got = made(
        toy_folder, {MAIN: viaduct, 2: {"elevation_m": -4.0}}, **{"speed_kmh = 50.0": "speed_kmh = 100.0"}
    )
    assert got.sigma_z0_m[MAIN] == 10.0
    assert got.sigma_z0_m[2] == 5.0
    assert got.sigma_z0_m[4] == 3.0
    assert got.sigma_z0_m[SIDE] == 2.5


def test_what_lies_outside_its_method_is_told(toy_folder: Path) -> None:
    got = made(
        toy_folder,
        {
            MAIN: {"road_type": 2, "barrier_left_m": 0.5},
            SIDE: {"elevation_m": 3.0},
            8: {"elevation_m": 0.0, "is_viaduct": False, "barrier_left_m": 0},
            9: {"road_type": 3, "width_m": 61.0},
            10: {"road_type": 1, "width_m": 61.0},
        },
    )
    why = [Why(int(flags)) for flags in got.why]
    assert why[MAIN] == Why.CLASS | Why.PROPERTY_UNUSED | Why.BARRIER_TOO_LOW
    assert why[SIDE] == Why.CLASS | Why.TYPE_ASSUMED | Why.UNEVEN_STREET | Why.PROPERTY_UNUSED
    assert why[SIDE].is_outside
    assert not why[8].is_outside
    assert why[9] == Why.CLASS | Why.FACADE_TOO_FAR
    assert not why[10].is_outside
    assert "facades beyond the reach" in got.reason(9)


def test_what_an_import_filled_in_counts_as_derived(toy_folder: Path) -> None:
    got = made(toy_folder, {SIDE: {"road_type": 2, "derived": ["road_type"]}})
    assert got.model[SIDE] == Model.SRM1_NARROW_CANYON
    assert "road_type" in got.derived[SIDE]


def test_a_property_that_is_null_is_not_given(toy_folder: Path) -> None:
    got = made(toy_folder, {SIDE: {"road_type": None, "tree_factor": None}})
    assert got.model[SIDE] == Model.SRM1_GENERAL


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("srm", "srm3", "one of srm1, srm2"),
        ("srm", "", "one of srm1, srm2"),
        ("road_type", 5, "one of 1, 2, 3, 4"),
        ("road_type", "3b", "one of 1, 2, 3, 4"),
        ("road_type", True, "one of 1, 2, 3, 4"),
        ("tree_factor", 1.1, "one of 1.0, 1.25, 1.5"),
        ("tree_factor", 0, "one of 1.0, 1.25, 1.5"),
        ("elevation_m", "high", "a height in m, below 0 in a trough"),
        ("elevation_m", float("nan"), "a height in m, below 0 in a trough"),
        ("elevation_m", True, "a height in m, below 0 in a trough"),
        ("side_angle_deg", 100, "0 to 90 degrees"),
        ("side_angle_deg", -1, "0 to 90 degrees"),
        ("is_viaduct", "yes", "one of true, false"),
        ("is_viaduct", 1, "one of true, false"),
        ("barrier_left_m", -2, "a height in m of at least 0"),
        ("barrier_right_m", [3], "a height in m of at least 0"),
        ("barrier_left_kind", "hedge", "one of screen, wall"),
        ("barrier_right_kind", 1, "one of screen, wall"),
    ],
)
def test_a_property_that_does_not_fit_is_refused_by_segment_and_field(
    toy_folder: Path, field: str, value: object, expected: str
) -> None:
    with pytest.raises(CityError) as caught:
        made(toy_folder, {SIDE: {field: value}})
    told = f"network.geojson: segment h10: {field}: got {value!r}, expected {expected}"
    assert told in str(caught.value)


def test_a_viaduct_below_the_ground_is_refused(toy_folder: Path) -> None:
    with pytest.raises(
        CityError, match=r"segment h00: elevation_m: got -3, expected at least 0 m on a viaduct"
    ):
        made(toy_folder, {MAIN: {"elevation_m": -3, "is_viaduct": True}})


def test_settings_of_the_city_are_read(toy_folder: Path) -> None:
    more = '\n[air]\nroughness_m = 0.2\n[background.double_count]\nno2 = 1.5\no3 = -2\npm10 = 0.3\nsource = "made up"\n'
    got = made(toy_folder, {}, more)
    assert got.roughness_m == 0.2
    assert np.unique(got.roughness_class).tolist() == [2]
    assert got.double_count == Background(no2=1.5, o3=-2.0, pm10=0.3, pm25=0.0)


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[air]\nroughness_m = -1.0", r"\[air\] roughness_m: got -1.0, expected a length above 0 m"),
        ("[air]\nroughness_m = 0", r"\[air\] roughness_m: got 0, expected a length above 0 m"),
        ("[air]\nroughness_m = inf", r"\[air\] roughness_m: got inf"),
        ("[air]\nroughness_m = 'city'", r"\[air\] roughness_m: got 'city'"),
        (
            "[background.double_count]\nno2 = -1",
            r"\[background.double_count\] no2: got -1, expected at least 0",
        ),
        ("[background.double_count]\no3 = 2", r"\[background.double_count\] o3: got 2, expected at most 0"),
        ("[background.double_count]\npm25 = nan", r"\[background.double_count\] pm25: got nan"),
        ("[background.double_count]\npm2_5 = 1", r"\[background.double_count\] pm2_5: is not known"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused_by_name(toy_folder: Path, toml: str, message: str) -> None:
    with pytest.raises(CityError, match=message):
        made(toy_folder, {}, f"\n{toml}\n")
