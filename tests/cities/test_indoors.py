from __future__ import annotations

import json

import numpy as np
import pytest
from pyproj import Transformer

from agents.exposure import _zones
from cities.indoors import indoors_of, nearest_outdoors
from cities.pack import load_city


def _with_building(folder, x0, y0, x1, y1):
    to_lonlat = Transformer.from_crs(load_city(folder).crs, "EPSG:4326", always_xy=True)
    ring = [list(to_lonlat.transform(*p)) for p in ((x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0))]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"id": "house", "height_m": 9.0},
    }
    text = json.dumps({"type": "FeatureCollection", "features": [feature]})
    (folder / "buildings.geojson").write_text(text)
    return load_city(folder)


def test_receptors_inside_a_building_are_found_and_the_next_outdoors(toy_folder):
    city = load_city(toy_folder)
    assert indoors_of(city) is None
    x, y = city.grid.x()[10], city.grid.y()[20]
    step = city.grid.step_m  # 3 columns, 5 rows
    city = _with_building(toy_folder, x - 1.2 * step, y - 2.2 * step, x + 1.3 * step, y + 2.4 * step)
    found = indoors_of(city)
    rows, columns = np.nonzero(found.is_indoors)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (18, 22, 9, 11)
    assert found.is_indoors.sum() == 15
    n = city.grid.n_columns
    assert found.outdoors[20 * n + 9] == 20 * n + 8
    assert found.outdoors[18 * n + 10] == 17 * n + 10
    assert found.outdoors[5 * n + 5] == 5 * n + 5
    np.testing.assert_array_equal(indoors_of(city).outdoors, found.outdoors)


def test_a_town_under_one_roof_keeps_its_receptors():
    everywhere = np.ones((3, 4), dtype=np.bool_)
    assert nearest_outdoors(everywhere).outdoors.tolist() == list(range(12))


def test_people_beside_a_street_stand_before_the_house_not_in_it(toy_folder):
    city = load_city(toy_folder)
    line = city.network.polyline(7)
    low, high = line.min(axis=0), line.max(axis=0)
    bare = _zones(city)
    # a house over one side of the street: from 3 m beside the axis to 40 m
    across = np.array([3.0, 0.0]) if high[1] - low[1] > high[0] - low[0] else np.array([0.0, 3.0])
    far = across / 3.0 * 40.0
    city = _with_building(toy_folder, *(low + across), *(high + far))
    found = indoors_of(city)
    built = _zones(city)
    assert found.is_indoors.ravel()[bare[0]].any()
    assert not found.is_indoors.ravel()[built[0]].any()
    people = [sum(zone.people.sum() for zone in zones) for _, zones in (bare, built)]
    assert people[0] == pytest.approx(people[1])
