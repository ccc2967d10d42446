"""A town of twenty-four streets for the truth: a grid of 4 x 4 junctions, and four ways out of it."""

from __future__ import annotations

import json
from pathlib import Path

from pyproj import Transformer

CRS = "EPSG:32633"
X0, Y0, BLOCK_M = 600_000.0, 5_340_000.0, 400.0
CLOSED = "h01"  # the middle block of the southern main road

STUDY = f"""
seed = 5
date = "2024-03-12"
utc_offset_h = 1
from = "08:00"
to = "09:00"
sunrise = "08:20"
zones = 8

[closure]
segments = ["{CLOSED}"]
from = "08:10"
to = "08:50"

[sensors]
loops = 6
radar = 2
telraam_streets = 3
anpr = 2
wifi = 3
telecom = 3
bikeshare = 3
bicycle_loops = 3
minute_loops = ["{CLOSED} forward", "h11 forward"]

[weather]
wind_speed_m_s = [3.0, 4.0]
wind_from_deg = [200.0, 210.0]
temperature_c = [5.0, 6.0]
"""


def streets() -> list[tuple[str, int, list[tuple[float, float]]]]:
    """Identifier, class and line in blocks of every street."""
    made = []
    for row in range(4):
        for column in range(4):
            if column < 3:
                main = row in (0, 3)
                made.append((f"h{row}{column}", 2 if main else 5, [(column, row), (column + 1, row)]))
            if row in (0, 2):
                made.append((f"v{row}{column}", 6, [(column, row), (column, row + 1)]))
    for name, ends in (
        ("w0", [(-1, 0), (0, 0)]), ("e0", [(3, 0), (4, 0)]), ("w3", [(-1, 3), (0, 3)]), ("e3", [(3, 3), (4, 3)]),
    ):  # fmt: skip
        made.append((name, 2, ends))
    made += [("v11", 4, [(1, 1), (1, 2)]), ("v12", 4, [(2, 1), (2, 2)])]
    return [(name, road_class, [(float(x), float(y)) for x, y in line]) for name, road_class, line in made]


def write_town(folder: Path) -> Path:
    """Write network.geojson, city.toml and study.toml; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    to_lonlat = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    features = [
        {
            "type": "Feature",
            "properties": {
                "id": name,
                "road_class": road_class,
                "direction": "both",
                "name": "",
                "zone": "all",
            },
            "geometry": {
                "type": "LineString",
                "coordinates": [to_lonlat.transform(X0 + BLOCK_M * x, Y0 + BLOCK_M * y) for x, y in line],
            },
        }
        for name, road_class, line in streets()
    ]
    (folder / "network.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    (folder / "city.toml").write_text(f'[city]\nname = "town"\ncrs = "{CRS}"\n')
    (folder / "study.toml").write_text(STUDY)
    return folder
