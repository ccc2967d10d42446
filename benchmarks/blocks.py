"""A town of blocks with courtyards as a city pack: as many buildings and streets as in the middle of Geneva.

Closed blocks of ten houses of three to six storeys around a courtyard, 794 buildings and 18 km of streets
for each square kilometre (central Geneva has 800 and 14 km for motor traffic); every fourth street across the
town is a main road. The same each time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
from pyproj import Transformer

CRS, X0, Y0 = "EPSG:32632", 500_000.0, 5_100_000.0
BLOCK_M = (140.0, 90.0)  # from the middle of one street to that of the next, along and across
STREET_M = 15.0  # between facades
DEPTH_M = 13.0  # of a house
STOREY_M, STOREYS = 3.0, (3, 6)
MAIN_EVERY = 4

CITY = """
[city]
name = "blocks"
title = "Town of blocks"
region = "blocks"
crs = "{crs}"
timezone = "UTC"

[receptors]
x_min = {x_min}
y_min = {y_min}
x_max = {x_max}
y_max = {y_max}
step_m = 10.0
"""
ROAD_CLASS = """
[[road_class]]
code = {code}
name = "{name}"
speed_kmh = {speed}
lanes = {lanes}
width_m = 15.0
capacity_veh_per_h = {capacity}
surface = "DEF"
truck_share = {trucks}
truck_medium_share = 0.5
regime = "normal"
srm = "srm1"
motor = true
bicycle = true
residential = true
source = "made up"
"""


def write_blocks(folder: Path, n_blocks: tuple[int, int] = (12, 18), receptors_m: float = 640.0) -> None:
    """Write the pack; the receptors are a square in the middle, so that sound comes from all around."""
    folder.mkdir(parents=True, exist_ok=True)
    middle = (X0 + n_blocks[0] * BLOCK_M[0] / 2.0, Y0 + n_blocks[1] * BLOCK_M[1] / 2.0)
    half = receptors_m / 2.0
    settings = CITY.format(
        crs=CRS,
        x_min=middle[0] - half,
        x_max=middle[0] + half,
        y_min=middle[1] - half,
        y_max=middle[1] + half,
    )
    settings += ROAD_CLASS.format(code=2, name="main", speed=50.0, lanes=1.5, capacity=1000.0, trucks=0.06)
    settings += ROAD_CLASS.format(code=6, name="side", speed=30.0, lanes=1.0, capacity=600.0, trucks=0.03)
    (folder / "city.toml").write_text(settings, encoding="utf-8")
    _write(folder / "network.geojson", _streets(n_blocks))
    _write(folder / "buildings.geojson", _houses(n_blocks))


def _write(path: Path, features: list[dict[str, Any]]) -> None:
    path.write_bytes(orjson.dumps({"type": "FeatureCollection", "features": features}))


def _feature(kind: str, xy: list[tuple[float, float]], **properties: object) -> dict[str, Any]:
    lon, lat = _TO_LONLAT.transform(*(np.array(xy) + np.array([X0, Y0])).T)
    line = np.stack([lon, lat], axis=1).tolist()
    coordinates = [line] if kind == "Polygon" else line
    return {
        "type": "Feature",
        "properties": properties,
        "geometry": {"type": kind, "coordinates": coordinates},
    }


def _streets(n_blocks: tuple[int, int]) -> list[dict[str, Any]]:
    """One segment along each side of each block."""
    (dx, dy), (columns, rows) = BLOCK_M, n_blocks
    streets = []
    for row in range(rows + 1):
        for column in range(columns + 1):
            here = (column * dx, row * dy)
            for name, number, there, is_there in (
                ("h", row, (here[0] + dx, here[1]), column < columns),
                ("v", column, (here[0], here[1] + dy), row < rows),
            ):
                if is_there:
                    road_class = 6 if number % MAIN_EVERY else 2
                    streets.append(
                        _feature(
                            "LineString", [here, there], id=f"{name}{column}.{row}", road_class=road_class,
                            direction="both", name="",
                        )
                    )  # fmt: skip
    return streets


def _houses(n_blocks: tuple[int, int]) -> list[dict[str, Any]]:
    """Ten houses around the courtyard of each block: three along each long side, two along each short one."""
    rng = np.random.default_rng(1)
    length, width = (side - STREET_M for side in BLOCK_M)
    third, half = length / 3.0, (width - 2.0 * DEPTH_M) / 2.0
    plans = [(k * third, y, third, DEPTH_M) for y in (0.0, width - DEPTH_M) for k in range(3)]
    plans += [(x, DEPTH_M + k * half, DEPTH_M, half) for x in (0.0, length - DEPTH_M) for k in range(2)]
    houses = []
    for row in range(n_blocks[1]):
        for column in range(n_blocks[0]):
            x0, y0 = column * BLOCK_M[0] + STREET_M / 2.0, row * BLOCK_M[1] + STREET_M / 2.0
            storeys = rng.integers(STOREYS[0], STOREYS[1] + 1, len(plans))
            for k, (x, y, w, d) in enumerate(plans):
                x, y = x0 + x, y0 + y
                ring = [(x, y), (x + w, y), (x + w, y + d), (x, y + d), (x, y)]
                height_m = STOREY_M * float(storeys[k])
                houses.append(_feature("Polygon", ring, id=f"b{column}.{row}.{k}", height_m=height_m))
    return houses


_TO_LONLAT = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
