"""A small city of straight streets and one motorway, made in a folder."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from pyproj import Transformer

from cities.pack import City, load_city

CITY_TOML = """
[city]
name = "lattice"
title = "Lattice"
crs = "EPSG:32631"
timezone = "UTC"
region = "lattice"

[receptors]
x_min = 500000.0
y_min = 5650000.0
x_max = 502000.0
y_max = 5651500.0
step_m = 10.0

[population]
total = 9000
source = "test"

[background]
no2 = 20.0
o3 = 45.0
pm10 = 18.0
pm25 = 10.0
mean_wind_m_s = 3.5

[emission]
year = 2020

[noise]
ground_factor = 0.5
annual_temperature_c = 10.0

[exposure]
no2_now_ug_m3 = [22.0, 40.0]
pm25_now_ug_m3 = [15.0]
noise_now_db = [55.0]
"""

ROAD_CLASS = """
[[road_class]]
code = {code}
name = "{name}"
speed_kmh = {speed}
lanes = 1.0
width_m = 20.0
capacity_veh_per_h = 1000.0
surface = "DEF"
truck_share = 0.1
truck_medium_share = 0.4
regime = "{regime}"
srm = "{srm}"
motor = true
bicycle = true
residential = {residential}
source = "test"
"""


def _feature(
    identifier: str, road_class: int, line: list[tuple[float, float]], zone: str
) -> dict[str, object]:
    back = Transformer.from_crs("EPSG:32631", "EPSG:4326", always_xy=True)
    coordinates = [list(back.transform(500_000.0 + x, 5_650_000.0 + y)) for x, y in line]
    return {
        "type": "Feature",
        "properties": {"id": identifier, "road_class": road_class, "direction": "both", "zone": zone},
        "geometry": {"type": "LineString", "coordinates": coordinates},
    }


@pytest.fixture(scope="session")
def lattice(tmp_path_factory: pytest.TempPathFactory) -> City:
    """Streets every 300 m cut at their crossings, a motorway with a bend through it; 2 x 1.5 km."""
    folder: Path = tmp_path_factory.mktemp("lattice")
    features = []
    for i in range(6):
        for j in range(4):
            x, y = 203.0 + 300.0 * i, 207.0 + 300.0 * j
            zone = "east" if i >= 3 else "west"
            if i < 5:
                features.append(_feature(f"h{i}{j}", 1, [(x, y), (x + 300.0, y)], zone))
            if j < 3:
                features.append(_feature(f"v{i}{j}", 1, [(x, y), (x, y + 300.0)], zone))
    features.append(_feature("m0", 0, [(-800.0, 300.0), (700.0, 640.0)], "west"))
    features.append(_feature("m1", 0, [(700.0, 640.0), (1300.0, 655.0), (3100.0, 1200.0)], "east"))
    text = CITY_TOML
    text += ROAD_CLASS.format(
        code=0, name="fast", speed=110.0, regime="rural", srm="srm2", residential="false"
    )
    text += ROAD_CLASS.format(
        code=1, name="street", speed=50.0, regime="normal", srm="srm1", residential="true"
    )
    (folder / "city.toml").write_text(text)
    (folder / "network.geojson").write_bytes(
        orjson.dumps({"type": "FeatureCollection", "features": features})
    )
    return load_city(folder)
