"""Rows of a recording: the observation models applied to every sensor and interval."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from studies import observe_models as models
from studies.observe_models import FloatArray, Luck
from studies.observe_sensors import Placed
from studies.truth import Truth
from studies.truth_morning import Morning
from studies.truth_network import Edges, Streets

Row = dict[str, Any]

OCCUPANTS = {"car": 1.25, "truck": 1.05, "bicycle": 1.0}
DWELL_MIN = {"car": 0.6, "truck": 0.6, "bicycle": 0.9}  # time that a passer spends in a Wi-Fi zone
BICYCLE_KMH = 15.5
WALKERS_PER_ZONE = (
    55.0  # people on foot in a zone of the middle at the peak, a third of it half a kilometre on
)
PAIRS_PER_CAMERA = 2
PAIR_SHARE, PAIR_LENGTH_M = 0.75, 2_500.0  # of the smaller flow on the way, how many pass both cameras


def stamp(moment: datetime) -> str:
    """UTC time to the second."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def all_rows(morning: Morning, streets: Streets, sensors: list[Placed], truth: Truth) -> Iterator[Row]:
    """All readings of all sensors."""
    for sensor in sensors:
        if sensor.source in ("loops", "radar"):
            yield from _loop_rows(morning, sensor, truth)
        elif sensor.source == "telraam":
            yield from _telraam_rows(morning, sensor, truth)
        elif sensor.source == "anpr":
            yield from _anpr_rows(morning, sensor, truth)
        elif sensor.source == "counter":
            yield from _counter_rows(morning, sensor)
        elif sensor.source == "bikeshare":
            yield from _bikeshare_rows(morning, sensor)
        elif sensor.source == "weather":
            yield from _weather_rows(morning, sensor)
    yield from _pair_rows(morning, [s for s in sensors if s.source == "anpr"], truth)
    middles = np.array([_middle(line) for line in streets.lines])
    yield from _wifi_rows(morning, [s for s in sensors if s.source == "wifi"], truth, middles)
    yield from _telecom_rows(morning, [s for s in sensors if s.source == "telecom"], truth, middles)


def _middle(line: NDArray[np.float64]) -> NDArray[np.float64]:
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    return np.array([np.interp(along[-1] / 2, along, line[:, k]) for k in (0, 1)])


def _over(values: NDArray[Any], minutes: int) -> FloatArray:
    """Means over intervals of the last axis."""
    shaped = values.reshape(*values.shape[:-1], -1, minutes).astype(np.float64)
    return np.asarray(shaped.mean(axis=-1))


def _row(
    morning: Morning, sensor: str, source: str, k: int, minutes: int, delay_s: int, **values: Any
) -> Row:
    """One reading of interval ``k``; names in the order of the interchange format."""
    start = morning.start + timedelta(minutes=k * minutes)
    end = start + timedelta(minutes=minutes)
    row: Row = {"source": source, "sensor": sensor}
    if "to_sensor" in values:
        row["to_sensor"] = values.pop("to_sensor")
    row |= {"start": stamp(start), "end": stamp(end), "received": stamp(end + timedelta(seconds=delay_s))}
    return row | values


def _loop_rows(morning: Morning, sensor: Placed, truth: Truth) -> Iterator[Row]:
    luck, minutes = Luck(morning.seed, sensor.id), sensor.interval_min
    n = morning.n_minutes // minutes
    delay = models.delay_s(sensor.source, luck, n)
    for mode in sensor.modes:
        mean = _over(truth.flow[mode][sensor.edge], minutes) * minutes / 60.0
        counts = models.loop_counts(mean, luck, mode)
        speeds = np.full(n, np.nan)
        if mode == "car":
            speeds = models.loop_speeds(_mean_speed(truth, sensor.edge, minutes), luck)
        for k in range(n):
            values: Row = {"mode": mode, "count": int(counts[k])}
            if counts[k] > 0 and np.isfinite(speeds[k]):
                values["speed_kmh"] = round(float(speeds[k]), 1)
            yield _row(morning, sensor.id, sensor.source, k, minutes, int(delay[k]), **values, simulated=True)


def _mean_speed(truth: Truth, edge: int, minutes: int) -> FloatArray:
    """Mean speed of the vehicles of each interval, NaN where nothing may drive."""
    speed = truth.speed_kmh[edge].reshape(-1, minutes)
    weight = np.where(np.isnan(speed), 0.0, truth.flow["car"][edge].reshape(-1, minutes) + 1e-3)
    total = weight.sum(axis=1)
    mean: FloatArray = np.where(
        total > 0, (np.nan_to_num(speed) * weight).sum(axis=1) / np.maximum(total, 1e-9), np.nan
    )
    return mean


def _telraam_rows(morning: Morning, sensor: Placed, truth: Truth) -> Iterator[Row]:
    luck, minutes = Luck(morning.seed, sensor.id), sensor.interval_min
    n = morning.n_minutes // minutes
    gain = models.telraam_gain(Luck(morning.seed, sensor.site))
    uptime = models.telraam_uptime(luck, n)
    delay = models.delay_s(sensor.source, luck, n)
    cycle = np.flatnonzero(
        (truth.bicycle_edges.segment == truth.car_edges.segment[sensor.edge])
        & (truth.bicycle_edges.direction == truth.car_edges.direction[sensor.edge])
    )[0]
    for mode in sensor.modes:
        flow = truth.flow[mode][cycle if mode == "bicycle" else sensor.edge]
        counts = models.telraam_counts(_over(flow, minutes) * minutes / 60.0, uptime, gain, luck, mode)
        for k in range(n):
            if morning.start_min + k * minutes < morning.sunrise_min:
                continue  # dark: nothing is said, which is not zero
            yield _row(
                morning, sensor.id, sensor.source, k, minutes, int(delay[k]),
                mode=mode, count=float(counts[k]), uptime=float(uptime[k]), simulated=True,
            )  # fmt: skip


def _anpr_rows(morning: Morning, sensor: Placed, truth: Truth) -> Iterator[Row]:
    luck, minutes = Luck(morning.seed, sensor.id), sensor.interval_min
    delay = models.delay_s(sensor.source, luck, morning.n_minutes // minutes)
    for mode in sensor.modes:
        counts = models.anpr_counts(
            _over(truth.flow[mode][sensor.edge], minutes) * minutes / 60.0, luck, mode
        )
        for k, count in enumerate(counts):
            yield _row(
                morning, sensor.id, sensor.source, k, minutes, int(delay[k]),
                mode=mode, count=int(count), simulated=True,
            )  # fmt: skip


def _pair_rows(morning: Morning, cameras: list[Placed], truth: Truth) -> Iterator[Row]:
    """Travel times between each camera and the two that are next on the way; no row where nothing matched."""
    time_s = truth.car_edges.length_m / (np.nan_to_num(truth.speed_kmh, nan=1.0) / 3.6).mean(axis=1)
    minutes = 5
    n = morning.n_minutes // minutes
    for camera in cameras:
        for other, way in _next_cameras(truth.car_edges, time_s, camera, cameras):
            flow = _over(truth.flow["car"][way] + truth.flow["truck"][way], minutes)
            length_m = truth.car_edges.length_m[way].sum()
            mean = PAIR_SHARE * np.exp(-length_m / PAIR_LENGTH_M) * flow.min(axis=0) * minutes / 60.0
            speed = _over(np.nan_to_num(truth.speed_kmh[way], nan=1.0), minutes)
            true_time_s = (truth.car_edges.length_m[way][:, None] / (speed / 3.6)).sum(axis=0)
            luck = Luck(morning.seed, f"{camera.id} {other.id}")
            reads = tuple(models.anpr_read_rate(Luck(morning.seed, c.id)) for c in (camera, other))
            vehicles, seen_s = models.anpr_pairs(mean, true_time_s, luck, (reads[0], reads[1]))
            delay = models.delay_s("anpr", luck, n)
            for k in np.flatnonzero(vehicles > 0):
                yield _row(
                    morning, camera.id, "anpr", int(k), minutes, int(delay[k]), to_sensor=other.id,
                    vehicles=int(vehicles[k]), travel_time_s=round(float(seen_s[k]), 1), simulated=True,
                )  # fmt: skip


def _next_cameras(
    cars: Edges, time_s: FloatArray, camera: Placed, cameras: list[Placed]
) -> list[tuple[Placed, NDArray[np.int64]]]:
    """The nearest cameras downstream and the edges from one to the other."""
    at_edge = {c.edge: c for c in cameras}
    leaving: dict[int, list[int]] = {}
    for e, tail in enumerate(cars.tail):
        leaving.setdefault(int(tail), []).append(e)
    via = {camera.edge: -1}
    queue = [(0.0, camera.edge)]
    done: set[int] = set()
    found: list[tuple[Placed, NDArray[np.int64]]] = []
    while queue and len(found) < PAIRS_PER_CAMERA:
        so_far, edge = heapq.heappop(queue)
        if edge in done:
            continue
        done.add(edge)
        if edge in at_edge and edge != camera.edge:
            way = []
            step = edge
            while step >= 0:
                way.append(step)
                step = via[step]
            found.append((at_edge[edge], np.array(way[::-1])))
            continue
        for e in leaving.get(int(cars.head[edge]), []):
            # A U-turn on the street itself is not a way on.
            if e not in done and cars.segment[e] != cars.segment[edge]:
                heapq.heappush(queue, (so_far + float(time_s[e]), e))
                via.setdefault(e, edge)
    return found


def _counter_rows(morning: Morning, sensor: Placed) -> Iterator[Row]:
    """The real counts, as published; only the time of arrival is assumed."""
    counter = morning.counter
    if counter is None:
        return
    minutes = sensor.interval_min
    luck = Luck(morning.seed, sensor.id)
    delay = models.delay_s(sensor.source, luck, morning.n_minutes // minutes)
    column = ("forward", "backward").index(sensor.direction)
    for start, count in zip(counter.start_min, counter.counts[:, column], strict=True):
        if morning.start_min <= start < morning.end_min:
            k = int(start - morning.start_min) // minutes
            yield _row(
                morning, sensor.id, sensor.source, k, minutes, int(delay[k]), mode="bicycle", count=int(count)
            )


def _bikeshare_rows(morning: Morning, sensor: Placed) -> Iterator[Row]:
    luck, minutes = Luck(morning.seed, sensor.id), sensor.interval_min
    n = morning.n_minutes // minutes
    middle = morning.start_min + minutes * (np.arange(n) + 0.5)
    clock = 0.15 + np.exp(-0.5 * ((middle - 495.0) / 45.0) ** 2)
    departures, arrivals = models.bikeshare_trips(clock, luck)
    delay = models.delay_s(sensor.source, luck, n)
    for k in range(n):
        yield _row(
            morning, sensor.id, sensor.source, k, minutes, int(delay[k]),
            departures=int(departures[k]), arrivals=int(arrivals[k]), simulated=True,
        )  # fmt: skip


def _weather_rows(morning: Morning, sensor: Placed) -> Iterator[Row]:
    """Hourly; the first row is the hour before the start, so that weather is known from the start."""
    weather = morning.settings["weather"]
    luck = Luck(morning.seed, sensor.id)
    n = morning.n_minutes // 60 + 1
    delay = models.delay_s(sensor.source, luck, n)
    for k in range(n):
        values = {name: float(series[min(k, len(series) - 1)]) for name, series in weather.items()}
        yield _row(morning, sensor.id, sensor.source, k - 1, 60, int(delay[k]), **values, simulated=True)


def _wifi_rows(
    morning: Morning, zones: list[Placed], truth: Truth, middles: NDArray[np.float64]
) -> Iterator[Row]:
    if not zones:
        return
    minutes = zones[0].interval_min
    n = morning.n_minutes // minutes
    clock_min = morning.start_min + minutes * (np.arange(n) + 0.5)
    walking = (
        0.25
        + 0.75 * np.exp(-0.5 * ((clock_min - 500.0) / 55.0) ** 2)
        + 0.35 / (1 + np.exp((560 - clock_min) / 12))
    )
    heart = np.array(zones[0].xy)
    for zone in zones:
        luck = Luck(morning.seed, zone.id)
        nearness = np.exp(-np.hypot(*(np.array(zone.xy) - heart)) / 450.0)
        on_foot = (
            WALKERS_PER_ZONE
            * nearness
            * np.exp(0.4 * luck.normal("walkers")[0])
            * walking
            * (1.0 + minutes / 4.0)
        )
        people = on_foot + _distinct_people(truth, zone, middles, minutes)
        devices = models.wifi_devices(people, luck)
        delay = models.delay_s(zone.source, luck, n)
        for k in range(n):
            yield _row(
                morning,
                zone.id,
                zone.source,
                k,
                minutes,
                int(delay[k]),
                devices=int(devices[k]),
                simulated=True,
            )


def _telecom_rows(
    morning: Morning, cells: list[Placed], truth: Truth, middles: NDArray[np.float64]
) -> Iterator[Row]:
    """Devices on the move in a cell; those at rest are not reported by this feed."""
    if not cells:
        return
    minutes = cells[0].interval_min
    people = np.array([_distinct_people(truth, cell, middles, minutes) for cell in cells])
    shapes = np.array([cell.polygon for cell in cells])
    neighbours = [np.flatnonzero(shapely.distance(shapes[c], shapes) < 1.0) for c in range(len(cells))]
    neighbours = [around[around != c] for c, around in enumerate(neighbours)]
    lucks = [Luck(morning.seed, cell.id) for cell in cells]
    devices = models.telecom_devices(people, neighbours, lucks)
    for cell, luck, seen in zip(cells, lucks, devices, strict=True):
        delay = models.delay_s(cell.source, luck, seen.size)
        for k in np.flatnonzero(np.isfinite(seen)):
            yield _row(
                morning,
                cell.id,
                cell.source,
                int(k),
                minutes,
                int(delay[k]),
                devices=int(seen[k]),
                simulated=True,
            )


def _distinct_people(truth: Truth, area: Placed, middles: NDArray[np.float64], minutes: int) -> FloatArray:
    """Different people who travel through an area in each interval, (n_intervals,).

    Those present are flow x length / speed; with a mean stay w, an interval h sees (1 + h / w) times as many.
    """
    shapely.prepare(area.polygon)
    inside = shapely.contains_xy(area.polygon, middles[:, 0], middles[:, 1])
    people = np.zeros(truth.speed_kmh.shape[1] // minutes)
    size_km = float(np.sqrt(area.polygon.area)) / 1000.0 if area.polygon is not None else 0.0
    for mode, occupants in OCCUPANTS.items():
        edges = truth.bicycle_edges if mode == "bicycle" else truth.car_edges
        which = np.flatnonzero(inside[edges.segment])
        if which.size == 0:
            continue
        flow = truth.flow[mode][which]
        speed = (
            np.full(flow.shape, BICYCLE_KMH)
            if mode == "bicycle"
            else np.nan_to_num(truth.speed_kmh[which], nan=5.0)
        )
        present = (flow * edges.length_m[which][:, None] / 1000.0 / speed).sum(axis=0)
        stay_min = max(DWELL_MIN[mode], 60.0 * size_km / (BICYCLE_KMH if mode == "bicycle" else 28.0))
        people += occupants * _over(present, minutes) * (1.0 + minutes / stay_min)
    return people
