from __future__ import annotations

import json

from pyproj import Transformer

from studies.doctor import examine
from tests.toy import CRS, X0, Y0


def _air(folder):
    return next(f for f in examine(str(folder), 0) if f.subject == "air")


def test_the_doctor_says_how_the_air_of_each_street_is_calculated(toy_folder):
    found = _air(toy_folder)
    assert found.is_well
    assert found.text.startswith("6 open roads by SRM2, 14 streets by SRM1, 14 of them of an assumed type; 0")


def test_the_doctor_names_segments_outside_their_method_and_a_bad_property(toy_folder):
    path = toy_folder / "network.geojson"
    network = json.loads(path.read_text())
    side = network["features"][7]["properties"]
    side["elevation_m"] = 3.0
    path.write_text(json.dumps(network))
    assert f"1 outside the validity of their method ({side['id']})" in _air(toy_folder).text
    side["elevation_m"] = "high"
    path.write_text(json.dumps(network))
    found = _air(toy_folder)
    assert not found.is_well
    assert f"segment {side['id']}: elevation_m: got 'high'" in found.text


def test_the_doctor_counts_gradients_junctions_and_speeds_beyond_the_surface(toy_folder):
    def noise():
        return next(f for f in examine(str(toy_folder), 0) if f.subject == "noise")

    assert noise().text.endswith("in this pack; coefficients 2021/1226")
    path = toy_folder / "network.geojson"
    network = json.loads(path.read_text())
    of = {feature["properties"]["id"]: feature["properties"] for feature in network["features"]}
    of["h00"].update(
        gradient_percent=-3.0, junction_start="roundabout", surface="NL07"
    )  # h00 and v00 begin there
    of["h01"].update(surface="NL07", direction="none")
    path.write_text(json.dumps(network))
    assert noise().text.endswith(
        "; 1 segments have a gradient of their own; 2 segments are near a junction; 1 segments at free speeds "
        "beyond those surface NL07 was made for (70 to 80 km/h), calculated at their speed"
    )
    of["h00"]["junction_start"] = "bend"
    path.write_text(json.dumps(network))
    assert not noise().is_well
    assert "segment h00: junction_start: got 'bend'" in noise().text


def test_the_doctor_says_what_screens_the_noise_and_what_was_assumed(toy_folder):
    def noise():
        return next(f for f in examine(str(toy_folder), 0) if f.subject == "noise")

    assert noise().text.startswith("open ground: no buildings, screens or terrain in this pack")
    to_lonlat = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    corners = [(100, 100), (120, 100), (120, 130), (100, 130), (100, 100)]
    ring = [list(to_lonlat.transform(X0 + x, Y0 + y)) for x, y in corners]
    house = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"id": "house 7"},
    }
    collection = {"type": "FeatureCollection", "features": [house]}
    (toy_folder / "buildings.geojson").write_text(json.dumps(collection))
    found = noise()
    assert found.is_well
    assert found.text.startswith("screened by 1 buildings (1 of a derived height, 0 repaired) and 0 screens")
    assert "house 7" in found.text
    house["geometry"]["type"] = "Blob"
    (toy_folder / "buildings.geojson").write_text(json.dumps(collection))
    assert not noise().is_well
    assert "house 7" in noise().text


def test_the_doctor_says_when_nobody_is_counted(toy_folder):
    def people():
        return next(f for f in examine(str(toy_folder), 0) if f.subject == "people")

    assert people().text == "4,000 residents are spread over the city and counted"
    path = toy_folder / "city.toml"
    path.write_text(path.read_text().replace("total = 4000", ""))
    found = people()
    assert found.is_well  # the city runs without
    assert found.text == "no [population] total: nobody is counted"
