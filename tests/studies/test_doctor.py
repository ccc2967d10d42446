from __future__ import annotations

import json

from studies.doctor import examine


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
