"""A city of twenty streets made inside a test: other identifiers, other CRS, nothing of Ghent.

A grid of 4 x 4 junctions 400 m apart in UTM zone 33N; the two outer horizontal streets are main roads.
"""

from __future__ import annotations

import gzip
import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pyproj import Transformer

CRS = "EPSG:32633"
X0, Y0, BLOCK_M = 600_000.0, 5_340_000.0, 400.0
START = datetime(2024, 3, 12, 6, 0, tzinfo=UTC)  # a Tuesday

CITY = f"""
[city]
name = "toyville"
title = "Toyville"
region = "toy"
crs = "{CRS}"
timezone = "Europe/Vienna"
attribution = "made up"

[receptors]
x_min = {X0 - 200}
y_min = {Y0 - 200}
x_max = {X0 + 1400}
y_max = {Y0 + 1400}
step_m = 20.0

[population]
total = 4000
source = "made up"

[background]
no2 = 15.0
o3 = 45.0
pm10 = 18.0
pm25 = 10.0
mean_wind_m_s = 3.0
source = "made up"

[emission]
year = 2020
source = "made up"

[noise]
ground_factor = 0.5
annual_temperature_c = 10.0

[exposure]
no2_now_ug_m3 = [20.0]
pm25_now_ug_m3 = [11.0]
noise_now_db = [55.0]

[[road_class]]
code = 11
name = "main"
speed_kmh = 50.0
lanes = 1.0
width_m = 25.0
capacity_veh_per_h = 1000.0
surface = "DEF"
truck_share = 0.06
truck_medium_share = 0.5
regime = "free"
srm = "srm2"
motor = true
bicycle = true
residential = true
source = "assumed"

[[road_class]]
code = 12
name = "side"
speed_kmh = 30.0
lanes = 1.0
width_m = 14.0
capacity_veh_per_h = 600.0
surface = "DEF"
truck_share = 0.03
truck_medium_share = 0.8
regime = "normal"
srm = "srm1"
motor = true
bicycle = true
residential = true
source = "assumed"
"""

RULES = """
[[rule]]
name = "rise"
title = "Traffic noise far above the last hour"
quantity = "sound_power"
compare = "rise"
threshold = 2.0
deadband = 1.0
scope = "street"
road_classes = [11, 12]
on_delay_s = 60
off_delay_s = 120
action = "Look for a closure"
consequence = "Louder street"
priority = 2
"""


def streets() -> list[dict[str, Any]]:
    """Twenty streets: all 12 horizontal blocks, and 8 of the 12 vertical ones."""
    to_lonlat = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    made = []
    for row in range(4):
        for column in range(4):
            for kind, (dx, dy) in (("h", (1, 0)), ("v", (0, 1))):
                if column + dx > 3 or row + dy > 3 or (kind == "v" and row == 1):
                    continue
                ends = [(column, row), (column + dx, row + dy)]
                line = [to_lonlat.transform(X0 + BLOCK_M * c, Y0 + BLOCK_M * r) for c, r in ends]
                made.append(
                    {
                        "type": "Feature",
                        "properties": {
                            "id": f"{kind}{row}{column}",
                            "road_class": 11 if kind == "h" and row in (0, 3) else 12,
                            "direction": "both",
                            "name": f"{'Row' if kind == 'h' else 'Column'} {row if kind == 'h' else column}",
                            "zone": "south" if row < 2 else "north",
                        },
                        "geometry": {"type": "LineString", "coordinates": line},
                    }
                )
    return made


SENSORS = [
    ("L1", "h00", "forward"), ("L2", "h01", "forward"), ("L3", "h01", "backward"), ("L4", "h30", "forward"),
    ("L5", "h31", "backward"), ("L6", "v00", "forward"), ("L7", "h11", "forward"), ("L8", "v23", "forward"),
]  # fmt: skip


def write_toy_city(folder: Path, *, minutes: int = 90, scale: float = 1.0, bump: float = 1.0) -> None:
    """Write the pack and its recording; ``bump`` multiplies the north main road from minute 50 to 65."""
    folder.mkdir(parents=True, exist_ok=True)
    network = {"type": "FeatureCollection", "features": streets()}
    (folder / "network.geojson").write_text(json.dumps(network))
    (folder / "city.toml").write_text(CITY)
    (folder / "rules.toml").write_text(RULES)
    middle = {f["properties"]["id"]: f["geometry"]["coordinates"] for f in network["features"]}
    sensors = []
    for name, street, direction in SENSORS:
        (x0, y0), (x1, y1) = middle[street]
        sensors.append(
            {
                "type": "Feature",
                "properties": {
                    "id": name, "source": "loops", "segment_id": street, "direction": direction,
                    "modes": ["car", "truck"], "simulated": True,
                },
                "geometry": {"type": "Point", "coordinates": [(x0 + x1) / 2, (y0 + y1) / 2]},
            }
        )  # fmt: skip
    sensors.append(
        {
            "type": "Feature",
            "properties": {"id": "M1", "source": "weather", "simulated": True},
            "geometry": {"type": "Point", "coordinates": middle["h11"][0]},
        }
    )
    (folder / "sensors.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": sensors}))
    write_lines(folder / "recording.jsonl.gz", toy_rows(minutes=minutes, scale=scale, bump=bump))


def toy_rows(*, minutes: int = 90, scale: float = 1.0, bump: float = 1.0) -> list[dict[str, Any]]:
    """Header, readings and clock rows; flows follow a slow wave, nothing random."""
    end = START + timedelta(minutes=minutes)
    rows: list[dict[str, Any]] = [
        {"format": "twinroom-recording", "version": 1, "city": "toyville", "span": [iso(START), iso(end)]}
    ]
    for minute in range(minutes):
        start = START + timedelta(minutes=minute)
        stop = start + timedelta(minutes=1)
        if minute % 60 == 0:
            rows.append(
                reading(
                    "weather",
                    "M1",
                    start,
                    stop,
                    2,
                    wind_speed_m_s=3.5,
                    wind_from_deg=225.0,
                    temperature_c=9.0,
                )
            )
        for number, (name, street, _direction) in enumerate(SENSORS):
            main = street in ("h00", "h01", "h30", "h31")
            per_h = (600.0 if main else 120.0) * (1 + 0.2 * math.sin(minute / 25 + number)) * scale
            if street in ("h30", "h31") and 50 <= minute < 65:
                per_h *= bump
            for mode, share in (("car", 0.95), ("truck", 0.05)):
                count = round(per_h * share / 60, 3)  # a counter may report fractions
                rows.append(
                    reading(
                        "loops",
                        name,
                        start,
                        stop,
                        3,
                        mode=mode,
                        count=count,
                        speed_kmh=40.0 if main else 25.0,
                    )
                )
        rows.append({"source": "clock", "time": iso(stop + timedelta(seconds=30))})
    return rows


def reading(
    source: str, sensor: str, start: datetime, end: datetime, delay_s: int, **values: Any
) -> dict[str, Any]:
    """One event as it stands in a recording."""
    received = iso(end + timedelta(seconds=delay_s))
    return {
        "source": source, "sensor": sensor, "start": iso(start), "end": iso(end), "received": received,
        **values, "simulated": True,
    }  # fmt: skip


def iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_bytes(gzip.compress(b"".join(json.dumps(row).encode() + b"\n" for row in rows), mtime=0))
