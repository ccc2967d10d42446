"""A town in memory for the tests of the page, batches for its board, and a control that notes what is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray
from pyproj import Transformer

from agents.air import AirExplanation
from agents.fusion_answers import Contribution, Evidence, Explanation, Gain, SensorFault
from cities.pack import City, load_city
from dashboards.board import Board
from kernels.air_explanation import Contributor
from kernels.network import Direction, Mode
from streams.topics import Batch, Topic

START_MS = 1_711_868_400_000  # 2024-03-31 10:00 in Helsinki, the day its clocks changed
X0, Y0 = 385_000.0, 6_672_000.0
SCRIPT_NAME = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
CITY = f"""
[city]
name = "testby"
title = "Testby & Co"
region = "testby"
crs = "EPSG:3067"
timezone = "Europe/Helsinki"
attribution = "© the people of Testby and all who drew its map (a long licence)"
[receptors]
x_min = {X0}
y_min = {Y0}
x_max = {X0 + 1500}
y_max = {Y0 + 1500}
step_m = 10.0
[[road_class]]
code = 1
name = "street"
speed_kmh = 50.0
lanes = 1.0
width_m = 12.0
capacity_veh_per_h = 900.0
surface = "DEF"
truck_share = 0.05
truck_medium_share = 0.5
regime = "free"
srm = "srm1"
motor = true
bicycle = true
residential = true
source = "assumed"
"""
# id, name, ends relative to the receptors' corner [m]: a line west to east, one south to north, one diagonal
STREETS = (
    ("we", SCRIPT_NAME, (250.0, 750.0), (1250.0, 750.0)),
    ("sn", "Long Lane", (750.0, 100.0), (750.0, 700.0)),
    ("dia", "Slant Street", (250.0, 850.0), (650.0, 1350.0)),
)


@dataclass(frozen=True, slots=True)
class Status:
    now_ms: int = START_MS
    start_ms: int = START_MS - 3_600_000
    end_ms: int = START_MS + 3 * 3_600_000
    playing: bool = True
    speed: float = 20.0
    finished: bool = False
    step_wall_s: float = 0.25
    mode: str = "REPLAY"


EVIDENCE = Evidence("L7", "loops", Mode.CAR, "forward", 412.0, 400.0, 0.8, 45.0, True, "")
CAMERA = replace(
    EVIDENCE, sensor="T2", source="telraam", reading_per_h=0.0, weight=0.02, fault="stuck", simulated=False
)
FAULT = SensorFault("T2", "telraam", Mode.CAR, 0, "stuck", START_MS - 600_000)
GAIN = Gain("T2", Mode.CAR, 0, float(np.log(1.18)), 0.072, True)
COUNTERS = tuple(
    Contribution(sensor, "loops", moved, distance_m)
    for sensor, moved, distance_m in (
        ("L7", 70.4, 0.0), ("L1", -30.4, 420.0), ("L2", 12.4, 1250.0), ("L3", 6.4, 3000.0),
        ("L4", -3.4, 80.0), ("L5", 2.0, 90.0), ("L6", 0.8, 95.0),
    )
)  # fmt: skip

# of the highest NO2 and PM2.5 at the first street on the full board: 20 + 1255 / 50 and 11 + 755 / 300
NO2_ORIGIN = AirExplanation(19.96, 25.14, (Contributor(0, 0.615, 15.46), Contributor(1, 0.226, 5.68)), 0.159)
PM25_ORIGIN = AirExplanation(12.5, 1.02, (Contributor(1, 1.0, 1.02),), 0.0)


def explanation(flow_per_h: float) -> Explanation:
    """Why a street has its flow: what the counters and the balance moved, from a prior that fits."""
    balance_per_h = 1.4
    moved = sum(c.moved_per_h for c in COUNTERS) + balance_per_h
    return Explanation(flow_per_h - moved, flow_per_h, balance_per_h, COUNTERS)


class NotingControl:
    """A control whose clock runs a second a call while it plays, and that notes each action."""

    def __init__(self) -> None:
        self.now = Status()
        self.acknowledged: list[tuple[str, str, str]] = []
        self.in_fault: list[SensorFault] = []
        self.told: list[str] = []
        self.not_taken: dict[str, str] = {}
        self.flows = {(Mode.CAR, 0): 400.0, (Mode.CAR, 1): 200.0}
        self.explained: list[tuple[int, Direction, Mode]] = []
        self.air = {"no2": NO2_ORIGIN, "pm25": PM25_ORIGIN}
        self.air_explained: list[tuple[int, str, str]] = []

    @property
    def transport(self) -> NotingControl:
        return self

    def notices(self) -> Sequence[str]:
        return self.told

    def refused(self) -> Mapping[str, str]:
        return self.not_taken

    def health(self) -> Mapping[str, object]:
        return {"frame_age_s": 1.5}

    def play(self) -> None:
        self.now = replace(self.now, playing=True)

    def pause(self) -> None:
        self.now = replace(self.now, playing=False)

    def set_speed(self, speed: float) -> None:
        self.now = replace(self.now, speed=speed)

    def acknowledge(self, alarm_key: str, who: str, note: str) -> None:
        self.acknowledged.append((alarm_key, who, note))

    def status(self) -> Status:
        if self.now.playing:
            self.now = replace(self.now, now_ms=self.now.now_ms + 1000)
        return self.now

    def evidence(self, segment: int) -> Sequence[Evidence]:
        return [CAMERA, EVIDENCE] if segment == 0 else []

    def faults(self) -> Sequence[SensorFault]:
        return self.in_fault

    def gains(self) -> Sequence[Gain]:
        return [GAIN]

    def explain_air(self, cell: int, quantity: str, averaging: str) -> AirExplanation | None:
        self.air_explained.append((cell, quantity, averaging))
        return self.air.get(quantity)

    def explain(self, segment: int, direction: Direction, mode: Mode) -> Explanation | None:
        self.explained.append((segment, direction, mode))
        flow_per_h = self.flows.get((mode, direction)) if segment == 0 else None
        return None if flow_per_h is None else explanation(flow_per_h)


def make_town(folder: Path) -> City:
    """Write the pack of the town and read it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "city.toml").write_text(CITY, encoding="utf-8")
    to_lonlat = Transformer.from_crs("EPSG:3067", "EPSG:4326", always_xy=True)
    features = []
    for identifier, name, *ends in STREETS:
        line = [to_lonlat.transform(X0 + x, Y0 + y) for x, y in ends]
        properties = {"id": identifier, "name": name, "road_class": 1, "direction": "both"}
        geometry = {"type": "LineString", "coordinates": line}
        features.append({"type": "Feature", "properties": properties, "geometry": geometry})
    collection = {"type": "FeatureCollection", "features": features}
    (folder / "network.geojson").write_bytes(orjson.dumps(collection))
    return load_city(folder)


def add_building(
    folder: Path, x: tuple[float, float], y: tuple[float, float], height_m: float | None = 15.0
) -> City:
    """Give the pack of the town a building, its sides from the receptors' corner [m], and read it again."""
    to_lonlat = Transformer.from_crs("EPSG:3067", "EPSG:4326", always_xy=True)
    corners = [(x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1]), (x[0], y[0])]
    ring = [to_lonlat.transform(X0 + px, Y0 + py) for px, py in corners]
    properties = {"id": "b1", "height_m": height_m}
    geometry = {"type": "Polygon", "coordinates": [ring]}
    feature = {"type": "Feature", "properties": properties, "geometry": geometry}
    collection = {"type": "FeatureCollection", "features": [feature]}
    (folder / "buildings.geojson").write_bytes(orjson.dumps(collection))
    return load_city(folder)


def powers(power: NDArray[np.int64]) -> Batch:
    """Emissions of all streets for the noise agent, (n_segments,) [quanta] in each band group."""
    n = power.size
    columns: dict[str, NDArray[np.generic]] = {
        "segment": np.arange(n, dtype=np.int32), "nox": np.zeros(n, np.int64),
        "log_sd": np.full(n, 0.2, np.float32), "simulated": np.zeros(n, np.bool_),
    }  # fmt: skip
    for group in range(4):
        columns |= {f"power{group}": power.copy(), f"power{group}_1h": power.copy()}
    return Batch(Topic.EMISSIONS, "t0", START_MS, columns, attributes={"hours_seen": 1.0})


def densities(
    flow_per_h: Sequence[float], *, mode: Mode = Mode.CAR, accuracy: float = 0.8, at_ms: int = START_MS
) -> Batch:
    """Flows of both directions of each street, in order; the backward one is half of the forward."""
    n = len(flow_per_h)
    segment = np.repeat(np.arange(n, dtype=np.int32), 2)
    flow = (np.repeat(flow_per_h, 2) * np.tile([1.0, 0.5], n)).astype(np.float32)
    columns: dict[str, NDArray[np.generic]] = {
        "segment": segment,
        "direction": np.tile([0, 1], n).astype(np.int8),
        "mode": np.full(2 * n, int(mode), np.int8),
        "flow_per_h": flow,
        "speed_kmh": np.full(2 * n, 40.0, np.float32),
        "lo90": 0.8 * flow,
        "hi90": 1.25 * flow,
        "accuracy": np.full(2 * n, accuracy, np.float32),
        "age_s": np.where(segment == 0, 40.0, np.nan).astype(np.float32),
        "simulated": segment == 0,
    }
    return Batch(Topic.DENSITIES, "t0", at_ms, columns)


def emissions(power: int, *, nox: int = 1 << 20, n: int = 3, at_ms: int = START_MS) -> Batch:
    """The same emission on every street; the power [quanta] is spread evenly over the band groups."""
    columns: dict[str, NDArray[np.generic]] = {
        "segment": np.arange(n, dtype=np.int32),
        "nox": np.full(n, nox, np.int64),
    }
    for group in range(4):
        columns[f"power{group}"] = np.full(n, power // 4, np.int64)
    return Batch(Topic.EMISSIONS, "t0", at_ms, columns, attributes={"hours_seen": 0.3})


def field(
    city: City,
    quantity: str,
    values: NDArray[np.float64],
    *,
    averaging: str = "now",
    hours_seen: float = 0.3,
    **more: object,
) -> list[Batch]:
    """Tiles of a field; NaN becomes unknown. ``more`` are attributes."""
    scale, offset = 0.01, -20.0 if quantity == "noise" else 0.0
    batches = []
    for row, column in city.grid.tiles():
        part = values[city.grid.tile_slices(row, column)]
        stored = np.where(np.isnan(part), 65535, np.rint((np.nan_to_num(part) - offset) / scale))
        attributes = {
            "scale": scale, "offset": offset, "unit": "", "rows": part.shape[0], "columns": part.shape[1],
            "accuracy": 0.7, "simulated": True, "hours_seen": hours_seen,
            "cells_updated": 7 if (row, column) == (0, 0) else 0, **more,
        }  # fmt: skip
        batches.append(
            Batch(
                Topic.FIELDS,
                f"{quantity}/{averaging}/{row}/{column}",
                START_MS,
                {"values": stored.astype(np.uint16).reshape(-1)},
                attributes=attributes,
            )
        )
    return batches


def noise_of_day(city: City, lden_db: NDArray[np.float64], *, propagation: str = "") -> list[Batch]:
    """Noise of the last 24 hours once these have been seen: made from Lden as of a constant level."""
    lday_db = lden_db - 6.4
    batches = field(
        city, "noise", lday_db, hours_seen_24h=23.02, hours_needed_24h=24.0, propagation=propagation
    )
    for averaging, values in (
        ("lday", lday_db), ("levening", lday_db), ("lnight", lday_db), ("lden", lden_db),
    ):  # fmt: skip
        batches += field(
            city,
            "noise",
            values,
            averaging=averaging,
            hours_seen=24.0,
            hours_needed=24.0,
            propagation=propagation,
        )
    return batches


PEOPLE_OF_DAY = {
    "indicator": "rolling 24 h", "hours_seen": 24.0, "hours_needed": 24.0, "people_lden": 25400.0,
    "people_lnight": 25400.0, "lden_from_db": [55.0, 60.0, 65.0, 70.0, 75.0],
    "lnight_from_db": [50.0, 55.0, 60.0, 65.0, 70.0], "people_by_lden": [6030.0, 5210.0, 3450.0, 1204.0, 43.0],
    "people_by_lnight": [4000.0, 3000.0, 2000.0, 500.0, 1.0], "highly_annoyed": 2567.0,
    "highly_sleep_disturbed": 987.0, "accuracy_lden": 0.61, "accuracy_lnight": None, "method": "",
}  # fmt: skip
NO_PEOPLE_OF_DAY = {
    "indicator": "rolling 24 h", "hours_seen": 3.2, "hours_needed": 24.0, "reason": "needs 24 h, has 3.2 h",
}  # fmt: skip


def exposure(
    noise_24h: Mapping[str, object] | None = None, *, key: str = "all", people: float = 1000.0
) -> Batch:
    """One line of exposure, and what is told of the noise of the last 24 hours."""
    columns = {
        "quantity": np.array(["no2"]), "averaging": np.array(["now"]), "threshold": np.array([40.0]),
        "people_above": np.array([0.345 * people]), "people": np.array([people]), "mean": np.array([20.0]),
        "p95": np.array([30.0]), "accuracy": np.array([0.7]),
    }  # fmt: skip
    attributes = {} if noise_24h is None else {"noise_24h": dict(noise_24h)}
    return Batch(Topic.EXPOSURE, key, START_MS, columns, attributes=attributes)


def alarm(
    key: str = "no2/we", *, state: str = "active unacknowledged", revision: int = 0, **fields: object
) -> Batch:
    """One transition of an alarm."""
    rule, scope = key.split("/")
    row: dict[str, object] = {
        "state": state, "previous": "normal", "kind": "threshold", "rule": rule, "scope": scope, "priority": 1,
        "title": "NO2 high", "value": 64.2, "threshold": 55.0, "unit": "ug/m3", "averaging": "now",
        "accuracy": 0.82, "age_s": 20.0, "action": "reroute", "who": "", "note": "",
        "x": X0 + 750.0, "y": Y0 + 750.0, "since_ms": START_MS - 60_000,
    }  # fmt: skip
    row.update(fields)
    return Batch(Topic.ALARMS, key, START_MS, {k: np.array([v]) for k, v in row.items()}, revision=revision)


def full_board(city: City) -> Board:
    """A board after one step with all there is to see."""
    board = Board(city)
    x, y = np.meshgrid(city.grid.x() - X0, city.grid.y() - Y0)
    board.apply(densities([400.0, 120.0, 40.0]))
    board.apply(densities([90.0, 60.0, 30.0], mode=Mode.BICYCLE))
    board.apply(emissions(4000))
    for quantity, values in (("no2", 20 + x / 50), ("pm25", 11 + y / 300), ("noise", 40 + x / 40)):
        for averaging in ("now", "1h"):
            for batch in field(city, quantity, values, averaging=averaging):
                board.apply(batch)
    board.close(START_MS)
    return board
