from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import rasterio

from agents.emission import EmissionAgent
from cities.pack import CityError, load_city
from cities.road_noise import coefficients_of, road_noise_of
from kernels.cnossos_coefficients import EU_2015, EU_2021, NL_NATIONAL
from kernels.gate import GateBound
from kernels.network import Direction
from studies.noise_transfers import capacity_power_db
from tests.toy import BLOCK_M, X0, Y0


def _with(city, **noise):
    return dataclasses.replace(city, settings={**city.settings, "noise": {**city.settings["noise"], **noise}})


def test_the_directive_in_force_is_the_default_and_others_can_be_chosen(toy_folder):
    city = load_city(toy_folder)
    assert coefficients_of(city) is EU_2021
    assert coefficients_of(_with(city, coefficients="2015")) is EU_2015
    assert coefficients_of(_with(city, coefficients="nl")) is NL_NATIONAL


def test_the_coefficients_of_2015_are_two_to_four_decibels_quieter(toy_folder):
    city = load_city(toy_folder)
    power = [capacity_power_db(c) for c in (city, _with(city, coefficients="2015"))]
    some = np.isfinite(power[0])
    assert some.any()
    assert ((power[0] - power[1])[some] > 2.0).all()
    assert ((power[0] - power[1])[some] < 4.0).all()


def test_the_live_agent_goes_by_the_city(toy_folder):
    city = load_city(toy_folder)
    bound = GateBound.empty(city.network.n_segments)
    assert EmissionAgent(_with(city, coefficients="nl"), bound)._road.coefficients is NL_NATIONAL


def test_an_unknown_set_is_named(toy_folder):
    with pytest.raises(
        CityError, match=r"\[noise\] coefficients: got '1999', expected one of 2021, 2015, nl"
    ):
        coefficients_of(_with(load_city(toy_folder), coefficients="1999"))


def test_a_surface_that_the_set_does_not_have_is_named(toy_folder):
    city = load_city(toy_folder)
    strange = dataclasses.replace(city, surface=("MUD", *city.surface[1:]))
    with pytest.raises(CityError, match="surface: got 'MUD', expected one of"):
        coefficients_of(strange)


def _write(folder, **properties):
    """The toy city whose streets have properties: h00={"gradient_percent": 3.0} and so on."""
    path = folder / "network.geojson"
    network = json.loads(path.read_text())
    for feature in network["features"]:
        feature["properties"].update(properties.get(feature["properties"]["id"], {}))
    path.write_text(json.dumps(network))
    return load_city(folder)


def _of(city, values, name):
    return values[city.segment_ids.index(name)]


def _write_slope(folder, percent):
    """Ground that rises to the east."""
    east = X0 - 1000.0 + (np.arange(40) + 0.5) * 100.0
    with rasterio.open(
        folder / "terrain.tif", "w", driver="GTiff", width=40, height=40, count=1, dtype="float32",
        crs="EPSG:32633", transform=rasterio.transform.from_origin(X0 - 1000.0, Y0 + 3000.0, 100.0, 100.0),
    ) as raster:  # fmt: skip
        raster.write(np.broadcast_to(percent / 100.0 * (east - X0), (40, 40)).astype(np.float32), 1)


def test_a_city_that_says_nothing_has_level_roads_away_from_junctions_without_studs(toy_folder):
    road = road_noise_of(load_city(toy_folder))
    assert not road.gradient_percent.any()
    assert [road.corrections(direction) for direction in Direction] == [None, None]


def test_a_gradient_is_uphill_one_way_and_downhill_the_other(toy_folder):
    city = _write(toy_folder, h00={"gradient_percent": 5.0})
    road = road_noise_of(city)
    assert _of(city, road.gradient_percent, "h00") == 5.0
    assert (road.n_gradients_given, road.n_gradients_of_terrain) == (1, 0)
    up, down = (road.corrections(direction) for direction in Direction)
    heavy = city.segment_ids.index("h00"), 2
    # heavy vehicles at 50 km/h: 5 / 0.8 x 0.5 dB uphill, (5 - 4) / 0.5 x 0.4 dB downhill
    for found, level_db in ((up, 3.125), (down, 0.8)):
        logarithm = found.propulsion[heavy] + 50.0 * found.propulsion_per_kmh[heavy]
        assert logarithm * 10.0 / np.log(10.0) == pytest.approx(level_db)


def test_terrain_gives_the_gradients_of_roads_on_the_ground_that_have_none(toy_folder):
    _write_slope(toy_folder, 4.0)
    city = _write(
        toy_folder, h00={"gradient_percent": 1.0}, h01={"is_bridge": True}, h10={"is_tunnel": True},
        h11={"is_viaduct": True}, h12={"is_bridge": False},
    )  # fmt: skip
    road = road_noise_of(city)
    found = {name: _of(city, road.gradient_percent, name) for name in ("h00", "h01", "h10", "h11")}
    assert found == {"h00": 1.0, "h01": 0.0, "h10": 0.0, "h11": 0.0}
    assert _of(city, road.gradient_percent, "h12") == pytest.approx(4.0, abs=0.01)  # drawn from west to east
    assert _of(city, road.gradient_percent, "v00") == pytest.approx(0.0, abs=0.01)
    assert (road.n_gradients_given, road.n_gradients_of_terrain) == (1, 16)


def test_nearness_is_the_mean_along_the_road_to_the_nearest_junction(toy_folder):
    city = _write(toy_folder, h00={"junction_end": "crossing"}, h01={"junction_end": "roundabout"})
    road = road_noise_of(city)
    one_end = 50.0 / BLOCK_M  # the integral of 1 - d / 100 m over 100 m is 50 m
    assert _of(city, road.near_crossing, "h00") == pytest.approx(one_end, abs=1e-3)
    assert _of(city, road.near_roundabout, "h00") == 0.0
    for near in (road.near_crossing, road.near_roundabout):  # the street between them has one at each end
        assert _of(city, near, "h01") == pytest.approx(one_end, abs=1e-3)
    # one mark is enough for all streets that meet there, and none that ends elsewhere is touched
    assert _of(city, road.near_crossing, "v01") == pytest.approx(one_end, abs=1e-3)
    assert _of(city, road.near_roundabout, "h02") == pytest.approx(one_end, abs=1e-3)
    assert _of(city, road.near_crossing, "h30") == 0.0


def test_a_junction_is_heard_beyond_the_next_node_by_the_way_along_roads(toy_folder):
    """Streets of 40 m: 0 to 100 m from the lights the nearness falls from 1 to 0."""
    network = json.loads((toy_folder / "network.geojson").read_text())
    first = network["features"][0]
    (x0, y0), (x1, y1) = first["geometry"]["coordinates"]
    features = []
    for k in range(3):
        ends = [[x0 + (x1 - x0) * t, y0 + (y1 - y0) * t] for t in (0.1 * k, 0.1 * (k + 1))]
        properties = {**first["properties"], "id": f"p{k}"}
        line = {"type": "LineString", "coordinates": ends[:: 1 - 2 * (k % 2)]}  # the second drawn backward
        features.append({"type": "Feature", "properties": properties, "geometry": line})
    features[0]["properties"]["junction_start"] = "crossing"
    path = [{"type": "Feature", "properties": {**first["properties"], "id": "walk", "direction": "none"},
             "geometry": {"type": "LineString", "coordinates": [[x0, y0], features[2]["geometry"]["coordinates"][1]]}}]  # fmt: skip
    (toy_folder / "network.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": features + path})
    )
    (toy_folder / "sensors.geojson").unlink()
    road = road_noise_of(load_city(toy_folder))
    np.testing.assert_allclose(road.near_crossing[:3], [0.8, 0.4, 0.05], atol=1e-3)


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({"gradient_percent": "steep"}, "segment h00: gradient_percent: got 'steep', expected a slope in %"),
        ({"gradient_percent": 89.0}, "segment h00: gradient_percent: got 89.0, .* at most 50 up or down"),
        ({"gradient_percent": True}, "segment h00: gradient_percent: got True"),
        ({"is_bridge": "yes"}, "segment h00: is_bridge: got 'yes', expected true or false"),
        ({"junction_end": "lights"}, "segment h00: junction_end: got 'lights', expected one of crossing, roundabout"),
        ({"junction_start": ["crossing"]}, "segment h00: junction_start: got "),
    ],
)  # fmt: skip
def test_a_property_that_does_not_fit_is_refused_by_segment_and_field(toy_folder, properties, message):
    with pytest.raises(CityError, match=message):
        road_noise_of(_write(toy_folder, h00=properties))


def test_studded_tyres_count_by_their_share_over_the_year(toy_folder):
    city = load_city(toy_folder)
    studded = _with(city, studded_share=0.6, studded_months=4)
    assert road_noise_of(studded).studded_share == pytest.approx(0.2)
    plain, louder = capacity_power_db(city), capacity_power_db(studded)
    assert (louder > plain).all()


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        ({"studded_share": 0.6}, "studded_months: got None, expected 0 to 12"),
        ({"studded_months": 4}, "studded_share: got None, expected 0 to 1"),
        ({"studded_share": 60, "studded_months": 4}, "studded_share: got 60, expected 0 to 1"),
        ({"studded_share": 0.6, "studded_months": 13}, "studded_months: got 13, expected 0 to 12"),
        (
            {"studded_share": 0.6, "studded_months": 4, "coefficients": "nl"},
            "studded_share: got 0.6, expected 0 or nothing: the coefficients NL national have none",
        ),
    ],
)
def test_studded_tyres_that_do_not_fit_are_refused_by_field(toy_folder, noise, message):
    with pytest.raises(CityError, match=message):
        road_noise_of(_with(load_city(toy_folder), **noise))


def test_a_road_is_heard_farther_by_what_its_course_adds(toy_folder):
    city = load_city(toy_folder)
    plain = capacity_power_db(city)
    found = capacity_power_db(
        _write(toy_folder, h00={"gradient_percent": 8.0}, v00={"junction_end": "crossing"})
    )
    louder = {city.segment_ids[s] for s in np.flatnonzero(found > plain + 0.05)}
    assert "h00" in louder
    assert "h30" not in louder
