"""A small foreign city in the interchange format: its own classes, a CRS of the southern half, simulated counts.

A town of 12 x 9 junctions and 199 streets whose traffic follows perturbed shortest paths of a gravity demand, so
that counts, truth and junctions agree. ``recording.jsonl`` holds :data:`BAD_LINES` among its rows.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

CRS = "EPSG:32719"  # UTM zone 19 south
X0, Y0, BLOCK_M = 282_000.0, 6_690_000.0, 170.0
COLUMNS, ROWS = 12, 9
SEED = 20250304
START = datetime(2025, 3, 4, 10, 0, tzinfo=UTC)  # a Tuesday, seven o'clock there
MINUTES = 120
MODES = ("car", "truck", "bicycle")
TRUCK_SHARE = 0.05
CLASSES = {100: ("avenida", 50.0, 2.0, 26.0, 900.0), 200: ("colectora", 40.0, 1.0, 18.0, 700.0), 300: ("pasaje", 30.0, 1.0, 12.0, 450.0)}  # fmt: skip
DETECTION = {"loops": 0.98, "telraam": 0.90, "counter": 1.0}

BAD_LINES = (
    b'{"source":"loops","sensor":"X99","start":"2025-03-04T10:00:00Z","end":"2025-03-04T10:05:00Z","received":"2025-03-04T10:05:03Z","mode":"car","count":4}',
    b'{"source":"loops","sensor":"D1","start":"2025-03-04T10:00:00Z","end":"2025-03-04T10:05:00Z","received":"2025-03-04T10:05:03Z","mode":"car","count":-4}',
    b'{"source":"loops","sensor":"D2","start":"2025-03-04T10:05:00Z","end":"2025-03-04T10:00:00Z","received":"2025-03-04T10:05:03Z","mode":"car","count":4}',
    b'{"source":"loops","sensor":"D3","start":"2025-03-04T10:00:00Z","end":"2025-03-04T10:05:00Z","received":"2025-03-04T10:05:03Z","mode":"tank","count":1}',
    b'{"source":"loops","sensor":"D4","start":"2026-03-04T10:00:00Z","end":"2026-03-04T10:05:00Z","received":"2025-03-04T10:05:03Z","mode":"car","count":1}',
    b'{"source":"loops","sensor":"D5","start":"2025-03-',
)  # fmt: skip
"""An unknown sensor, a negative count, an end before its start, an unknown mode, a clock in the future, half a row."""

SETTINGS = f"""
[city]
name = "valdoro"
title = "Valdoro"
region = "valdoro"
crs = "{CRS}"
timezone = "America/Santiago"
attribution = "made up"

[receptors]
x_min = {X0 - 300}
y_min = {Y0 - 300}
x_max = {X0 + (COLUMNS - 1) * BLOCK_M + 300}
y_max = {Y0 + (ROWS - 1) * BLOCK_M + 300}
step_m = 20.0

[population]
total = 9000
source = "made up"

[background]
no2 = 14.0
o3 = 45.0
pm10 = 22.0
pm25 = 12.0
mean_wind_m_s = 2.5
source = "made up"
"""
ROAD_CLASS = """
[[road_class]]
code = {code}
name = "{name}"
speed_kmh = {speed}
lanes = {lanes}
width_m = {width}
capacity_veh_per_h = {capacity}
surface = "DEF"
truck_share = {trucks}
truck_medium_share = 0.6
regime = "normal"
srm = "srm1"
motor = true
bicycle = true
residential = true
source = "made up"
"""


@dataclass(frozen=True)
class Town:
    """Streets between nodes, and the mean flow of each mode in both directions.

    ``ends`` (n_segments, 2) are nodes, ``flow`` (n_segments, 2, 3) the mean rates by direction and mode [1/h].
    """

    ids: list[str]
    node_xy: NDArray[np.float64]
    ends: NDArray[np.int64]
    road_class: NDArray[np.int64]
    direction: list[str]
    flow: NDArray[np.float64]


@dataclass(frozen=True)
class Instrument:
    """A point sensor: ``ways`` are the directions (0 forward, 1 backward) whose sum it counts."""

    id: str
    source: str
    segment: int
    direction: str
    modes: tuple[str, ...]
    interval_min: int
    names_segment: bool = True

    @property
    def ways(self) -> tuple[int, ...]:
        return {"forward": (0,), "backward": (1,), "both": (0, 1)}[self.direction]


def write_foreign_city(folder: Path, *, with_settings: bool = True) -> None:
    """Write city.toml (unless told not to), network.geojson, sensors.geojson, recording.jsonl and truth.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    town = make_town()
    sensors = place_instruments(town)
    if with_settings:
        (folder / "city.toml").write_text(settings_text())
    _write_features(folder / "network.geojson", street_features(town))
    _write_features(folder / "sensors.geojson", sensor_features(town, sensors))
    lines = [json.dumps(row, separators=(",", ":")).encode() for row in recording_rows(town, sensors)]
    lines[40:40] = BAD_LINES
    (folder / "recording.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    _write_truth(folder / "truth.csv", town)


def settings_text() -> str:
    rows = [
        ROAD_CLASS.format(
            code=code, name=name, speed=speed, lanes=lanes, width=width, capacity=capacity, trucks=TRUCK_SHARE
        )
        for code, (name, speed, lanes, width, capacity) in CLASSES.items()
    ]
    return SETTINGS + "".join(rows)


def make_town() -> Town:
    """Streets and their mean flows, always the same."""
    rng = np.random.default_rng(SEED)
    grid = np.stack(np.meshgrid(np.arange(COLUMNS), np.arange(ROWS)), axis=-1).reshape(-1, 2)
    node_xy = np.array([X0, Y0]) + grid * BLOCK_M + rng.uniform(-15.0, 15.0, grid.shape)
    ends, road_class, ids, direction = [], [], [], []

    def street(a: int, b: int, code: int, name: str, way: str = "both") -> None:
        ends.append((a, b))
        road_class.append(code)
        ids.append(name)
        direction.append(way)

    for row in range(ROWS):
        for column in range(COLUMNS):
            node = row * COLUMNS + column
            if column + 1 < COLUMNS:
                code = 100 if row in (0, 4, 8) else 200 if row in (2, 6) else 300
                way = {1: "forward", 3: "backward"}.get(row, "both")
                street(node, node + 1, code, f"calle-{row}-{column}", way)
            if row + 1 < ROWS:
                code = 100 if column in (0, 6, 11) else 200 if column in (3, 9) else 300
                street(node, node + COLUMNS, code, f"paseo-{column}-{row}")
    n_grid, outer = len(node_xy), []
    for node, step in ((48, (-1, 0)), (59, (1, 0)), (6, (0, -1)), (102, (0, 1))):  # the ways out of town
        outer.append(node_xy[node] + 2.0 * BLOCK_M * np.array(step))
        street(node, n_grid + len(outer) - 1, 100, f"salida-{len(outer)}")
    node_xy = np.concatenate([node_xy, outer])
    classes = np.array(road_class)
    flow = _flows(node_xy, np.array(ends), classes, direction, n_grid, rng)
    return Town(ids, node_xy, np.array(ends), classes, direction, flow)


def _flows(
    node_xy: NDArray[np.float64], ends: NDArray[np.int64], road_class: NDArray[np.int64],
    direction: list[str], n_grid: int, rng: np.random.Generator,
) -> NDArray[np.float64]:  # fmt: skip
    """Gravity demand on shortest paths, each origin with tastes of its own: (n_segments, 2, n_modes) [1/h]."""
    n_nodes, n_segments = len(node_xy), len(ends)
    length = np.hypot(*(node_xy[ends[:, 0]] - node_xy[ends[:, 1]]).T)
    speed = np.array([CLASSES[int(c)][1] for c in road_class])
    tail = np.concatenate([ends[:, 0], ends[:, 1]])
    head = np.concatenate([ends[:, 1], ends[:, 0]])
    opened = np.array([[d in ("both", "forward"), d in ("both", "backward")] for d in direction]).T.ravel()
    distance = np.hypot(*np.moveaxis(node_xy[:, None] - node_xy[None], -1, 0)) + 100.0
    size = rng.lognormal(0.0, 0.5, n_nodes)
    size[n_grid:] *= 25.0
    flow = np.zeros((n_segments, 2, len(MODES)))
    for motor, total, reach in ((True, 9000.0, 1200.0), (False, 1300.0, 700.0)):
        trips = size[:, None] * size * np.exp(-distance / reach)
        np.fill_diagonal(trips, 0.0)
        trips *= total / trips.sum()
        usable = np.flatnonzero(opened) if motor else np.arange(2 * n_segments)
        cost = np.tile(length / (speed if motor else 15.0), 2)
        on_edge = np.zeros(2 * n_segments)
        for origin in range(n_nodes):
            felt = cost * rng.lognormal(0.0, 0.2, cost.size)
            on_edge += _load(tail, head, felt, usable, origin, trips[origin])
        by_direction = on_edge.reshape(2, n_segments).T
        if motor:
            flow[:, :, 0], flow[:, :, 1] = by_direction * (1 - TRUCK_SHARE), by_direction * TRUCK_SHARE
        else:
            flow[:, :, 2] = by_direction
    return flow


def _load(
    tail: NDArray[np.int64], head: NDArray[np.int64], cost: NDArray[np.float64], usable: NDArray[np.int64],
    origin: int, trips: NDArray[np.float64],
) -> NDArray[np.float64]:  # fmt: skip
    """Trips of one origin on its tree of shortest paths, (n_edges,)."""
    shape = (trips.size, trips.size)
    graph = coo_array((cost[usable], (tail[usable], head[usable])), shape=shape).tocsr()
    edge_at = {(int(tail[e]), int(head[e])): int(e) for e in usable}
    reached, before = dijkstra(graph, indices=origin, return_predecessors=True)
    through, loaded = trips.copy(), np.zeros(cost.size)
    for node in np.argsort(-reached):
        if node != origin and np.isfinite(reached[node]):
            loaded[edge_at[int(before[node]), int(node)]] = through[node]
            through[before[node]] += through[node]
    return loaded


def time_factor(minute: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Flow of a minute since :data:`START` over the mean rate: a morning peak after 70 minutes."""
    return np.asarray(0.5 + 0.9 * np.exp(-0.5 * ((np.asarray(minute) - 70.0) / 40.0) ** 2))


def mean_factor(start_min: int, minutes: int) -> float:
    """Mean of :func:`time_factor` over an interval."""
    return float(time_factor(start_min + np.arange(minutes, dtype=np.float64) + 0.5).mean())


def place_instruments(town: Town) -> list[Instrument]:
    """Loops and cameras on chosen streets; every third does not say on which street it stands."""
    rng = np.random.default_rng([SEED, 1])
    chance = np.array([{100: 4.0, 200: 2.0, 300: 0.7}[int(c)] for c in town.road_class])
    chosen = rng.choice(len(town.ids), 40, replace=False, p=chance / chance.sum())
    made = []
    for number, segment in enumerate(int(s) for s in chosen):
        names = number % 3 != 2
        way = town.direction[segment]
        if number < 24:
            one = ("forward", "backward")[number % 2] if way == "both" else way
            made.append(
                Instrument(f"D{number + 1}", "loops", segment, one if names else "both", MODES[:2], 5, names)
            )
        elif number < 34:
            made.append(Instrument(f"T{number - 23}", "telraam", segment, "both", MODES, 15, names))
        else:
            made.append(Instrument(f"B{number - 33}", "counter", segment, "both", MODES[2:], 15, names))
    return made


def street_features(town: Town) -> list[dict[str, Any]]:
    lonlat = _lonlat(town.node_xy)
    made = []
    for s, name in enumerate(town.ids):
        given = {"speed_kmh": 60.0} if s % 20 == 0 else {}
        made.append(
            _feature(
                {"id": name, "road_class": int(town.road_class[s]), "direction": town.direction[s],
                 "name": name.rsplit("-", 1)[0].replace("-", " ").title(), **given},
                "LineString",
                lonlat[town.ends[s]].tolist(),
            )
        )  # fmt: skip
    return made


def sensor_features(town: Town, sensors: list[Instrument]) -> list[dict[str, Any]]:
    made = []
    for sensor in sensors:
        a, b = town.node_xy[town.ends[sensor.segment]]
        along = (b - a) / np.hypot(*(b - a))
        spot = (a + b) / 2 + 4.0 * np.array([-along[1], along[0]])  # beside the street
        named = {"segment_id": town.ids[sensor.segment]} if sensor.names_segment else {}
        made.append(
            _feature(
                {"id": sensor.id, "source": sensor.source, **named, "direction": sensor.direction,
                 "modes": list(sensor.modes), "interval_min": sensor.interval_min, "simulated": True},
                "Point",
                _lonlat(spot[None])[0].tolist(),
            )
        )  # fmt: skip
    middle = np.array([X0, Y0]) + np.array([COLUMNS - 1, ROWS - 1]) * BLOCK_M / 2
    square = middle + 200.0 * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)])
    area = {"id": "W1", "source": "wifi", "modes": ["pedestrian"], "interval_min": 15, "simulated": True}
    made.append(_feature(area, "Polygon", [_lonlat(square).tolist()]))
    weather = {"id": "M1", "source": "weather", "interval_min": 60, "simulated": True}
    made.append(_feature(weather, "Point", _lonlat(middle[None])[0].tolist()))
    return made


def recording_rows(town: Town, sensors: list[Instrument]) -> list[dict[str, Any]]:
    """Header and readings in order of receipt."""
    rng = np.random.default_rng([SEED, 2])
    rows = [row for sensor in sensors for row in _counts(town, sensor, rng)]
    for k in range(0, MINUTES, 15):
        rows.append(_row("wifi", "W1", k, 15, 20, devices=int(rng.poisson(250 * mean_factor(k, 15)))))
    for k in range(-60, MINUTES, 60):
        values = {"wind_speed_m_s": 2.8, "wind_from_deg": 240.0, "temperature_c": 14.0 + k / 60}
        rows.append(_row("weather", "M1", k, 60, 5, **values))
    rows.sort(key=lambda r: (r["received"], r["source"], r["sensor"], r["start"], r.get("mode", "")))
    span = [_iso(0), _iso(MINUTES)]
    header = {"format": "twinroom-recording", "version": 1, "city": "valdoro", "span": span}
    return [{**header, "generator": "tests.foreign", "seed": SEED}, *rows]


def _counts(town: Town, sensor: Instrument, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Poisson counts of what passes, as far as the instrument sees it; a Telraam keeps an unknown gain."""
    share = DETECTION[sensor.source]
    speed = CLASSES[int(town.road_class[sensor.segment])][1] * 0.85
    gain = float(np.exp(0.3 * rng.standard_normal())) if sensor.source == "telraam" else 1.0
    delay_s = {"loops": 3, "telraam": 240, "counter": 30}[sensor.source]
    for k in range(0, MINUTES, sensor.interval_min):
        hours = sensor.interval_min / 60.0
        for mode in sensor.modes:
            rate = town.flow[sensor.segment, list(sensor.ways), MODES.index(mode)].sum()
            seen = rng.poisson(rate * mean_factor(k, sensor.interval_min) * hours * share)
            values: dict[str, Any] = {"mode": mode, "count": int(seen)}
            if sensor.source == "telraam":
                values = {"mode": mode, "count": round(float(seen) * gain, 1), "uptime": 0.9}
            elif mode == "car" and seen:
                values["speed_kmh"] = round(speed + 2.0 * float(rng.standard_normal()), 1)
            yield _row(sensor.source, sensor.id, k, sensor.interval_min, delay_s, **values)


def _row(
    source: str, sensor: str, start_min: int, minutes: int, delay_s: int, **values: Any
) -> dict[str, Any]:
    end = start_min + minutes
    received = _iso(end, delay_s)
    return {
        "source": source, "sensor": sensor, "start": _iso(start_min), "end": _iso(end), "received": received,
        **values, "simulated": True,
    }  # fmt: skip


def _write_truth(path: Path, town: Town) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["segment_id", "direction", "mode", "start_utc", "minutes", "flow_per_h", "speed_kmh"])
        factors = [(_iso(k), mean_factor(k, 15)) for k in range(0, MINUTES, 15)]
        for s, name in enumerate(town.ids):
            speed = round(CLASSES[int(town.road_class[s])][1] * 0.85, 1)
            for d, way in enumerate(("forward", "backward")):
                for m, mode in enumerate(MODES):
                    if mode != "bicycle" and town.direction[s] not in ("both", way):
                        continue
                    kmh = 15.0 if mode == "bicycle" else speed
                    for start, factor in factors:
                        out.writerow([name, way, mode, start, 15, round(town.flow[s, d, m] * factor, 2), kmh])


def _feature(properties: dict[str, Any], kind: str, coordinates: Any) -> dict[str, Any]:
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def _write_features(path: Path, features: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def _lonlat(xy: NDArray[np.float64]) -> NDArray[np.float64]:
    transformer = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    return np.stack(transformer.transform(xy[:, 0], xy[:, 1]), axis=1).round(7)


def _iso(minute: int, seconds: int = 0) -> str:
    return (START + timedelta(minutes=minute, seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
