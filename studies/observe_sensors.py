"""Where the simulated sensors stand: by class of road and nearness to the middle, never by true flow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer
from scipy.cluster.vq import kmeans2
from scipy.spatial import cKDTree
from shapely import MultiPoint, Polygon, box, voronoi_polygons
from shapely.geometry import Point

from studies.truth_morning import Morning
from studies.truth_network import DIRECTIONS, Edges, Streets

# Share of the loops on each class of road: counters are where the traffic is expected.
LOOP_SHARE = {0: 0.05, 1: 0.11, 2: 0.42, 3: 0.19, 4: 0.23}
RADAR_SHARE = {0: 0.2, 1: 0.35, 2: 0.35, 3: 0.1}
TELRAAM_SHARE = {4: 0.25, 5: 0.25, 6: 0.35, 7: 0.15}
BICYCLE_LOOP_SHARE = {4: 0.15, 5: 0.2, 6: 0.35, 7: 0.15, 10: 0.15}
ANPR_CLASSES = (1, 2, 3)
SHORTEST_M = 20.0
WIFI_RADIUS_M = 110.0
CENTRE_KM = 1.6


@dataclass(frozen=True, slots=True)
class Placed:
    """One sensor.

    ``edge`` is an index into the car edges, or the bicycle edges for a sensor of bicycles alone; -1 for
    areas.
    ``polygon`` is metric.
    """

    id: str
    source: str
    modes: tuple[str, ...]
    xy: tuple[float, float]
    edge: int = -1
    segment_id: str = ""
    direction: str = ""
    site: str = ""
    polygon: Polygon | None = None
    simulated: bool = True
    interval_min: int = 5


def place_sensors(morning: Morning, streets: Streets, cars: Edges, bicycles: Edges) -> list[Placed]:
    """All sensors of ``study.toml``."""
    wanted = morning.settings["sensors"]
    rng = np.random.default_rng([morning.seed, 20])
    middle = city_middle(streets)
    sensors: list[Placed] = []
    free = cars.length_m >= SHORTEST_M
    minute_loops = _named_edges(streets, cars, wanted.get("minute_loops", []))
    free[minute_loops] = False
    sensors += [
        _on_edge(f"L{i + 1}", "loops", ("car", "truck"), streets, cars, e, interval_min=1)
        for i, e in enumerate(minute_loops)
    ]
    n_loops = int(wanted["loops"]) - len(minute_loops)
    for i, e in enumerate(_draw(cars, LOOP_SHARE, n_loops, free, rng)):
        sensors.append(_on_edge(f"L{len(minute_loops) + i + 1}", "loops", ("car", "truck"), streets, cars, e))
    for i, e in enumerate(_draw(cars, RADAR_SHARE, int(wanted["radar"]), free, rng)):
        sensors.append(_on_edge(f"R{i + 1}", "radar", ("car", "truck"), streets, cars, e))
    sensors += _telraam(int(wanted["telraam_streets"]), streets, cars, free, rng)
    sensors += _anpr(int(wanted["anpr"]), streets, cars, free, rng)
    sensors += _bicycle_loops(morning, int(wanted["bicycle_loops"]), streets, bicycles, middle, rng)
    sensors += _wifi(int(wanted["wifi"]), middle)
    sensors += _telecom(int(wanted["telecom"]), streets)
    near = np.exp(-np.hypot(*(streets.node_xy - middle).T) / 2000.0)
    docks = rng.choice(len(near), int(wanted["bikeshare"]), replace=False, p=near / near.sum())
    for i, node in enumerate(docks):
        sensors.append(
            Placed(f"B{i + 1}", "bikeshare", ("bicycle",), _pair(streets.node_xy[node]), interval_min=15)
        )
    sensors.append(Placed("M1", "weather", (), _pair(middle), interval_min=60))
    return sensors


def city_middle(streets: Streets) -> NDArray[np.float64]:
    """Where nodes are densest: mean of nodes weighted by their neighbours within 500 m, (2,) [m]."""
    tree = cKDTree(streets.node_xy)
    density = tree.query_ball_point(streets.node_xy, 500.0, return_length=True).astype(float)
    middle: NDArray[np.float64] = np.average(streets.node_xy, axis=0, weights=density**3)
    return middle


def _pair(xy: NDArray[np.float64]) -> tuple[float, float]:
    return float(xy[0]), float(xy[1])


def _on_edge(
    identifier: str, source: str, modes: tuple[str, ...], streets: Streets, edges: Edges, edge: int,
    *, site: str = "", simulated: bool = True, interval_min: int = 5,
) -> Placed:  # fmt: skip
    segment = int(edges.segment[edge])
    return Placed(
        id=identifier,
        source=source,
        modes=modes,
        xy=_halfway(streets.lines[segment]),
        edge=int(edge),
        segment_id=streets.ids[segment],
        direction=DIRECTIONS[edges.direction[edge]],
        site=site,
        simulated=simulated,
        interval_min=interval_min,
    )


def _halfway(line: NDArray[np.float64]) -> tuple[float, float]:
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    return tuple(float(np.interp(along[-1] / 2, along, line[:, k])) for k in (0, 1))  # type: ignore[return-value]


def _named_edges(streets: Streets, edges: Edges, names: list[str]) -> list[int]:
    index = {
        f"{streets.ids[s]} {DIRECTIONS[d]}": e
        for e, (s, d) in enumerate(zip(edges.segment, edges.direction, strict=True))
    }
    unknown = [name for name in names if name not in index]
    if unknown:
        raise ValueError(
            f"study.toml: minute_loops: got {', '.join(unknown)}, expected '<segment id> <direction>'"
        )
    return [index[name] for name in names]


def _draw(
    edges: Edges, share: dict[int, float], wanted: int, free: NDArray[np.bool_], rng: np.random.Generator,
    weight: NDArray[np.float64] | None = None,
) -> list[int]:  # fmt: skip
    """Edges drawn within each class, by its share; marks them taken in ``free``."""
    drawn: list[int] = []
    total = sum(share.values())
    for road_class, part in share.items():
        candidates = np.flatnonzero(free & (edges.road_class == road_class))
        number = min(round(wanted * part / total), candidates.size)
        p = None if weight is None else weight[candidates] / weight[candidates].sum()
        drawn += [int(e) for e in rng.choice(candidates, number, replace=False, p=p)] if number else []
    free[drawn] = False
    return drawn


def _opposite(edges: Edges) -> NDArray[np.int64]:
    """Edge of the other direction of the same segment, -1 where there is none, (n_edges,)."""
    table = np.full((int(edges.segment.max()) + 1, 2), -1, dtype=np.int64)
    table[edges.segment, edges.direction] = np.arange(edges.segment.size)
    return table[edges.segment, 1 - edges.direction]


def _telraam(
    wanted: int, streets: Streets, cars: Edges, free: NDArray[np.bool_], rng: np.random.Generator
) -> list[Placed]:
    other = _opposite(cars)
    usable = free & (other >= 0) & (cars.direction == 0)
    usable[usable] &= free[other[usable]]
    sensors = []
    for i, e in enumerate(_draw(cars, TELRAAM_SHARE, wanted, usable, rng)):
        for edge, suffix in ((e, "f"), (int(other[e]), "b")):
            free[edge] = False
            sensors.append(
                _on_edge(
                    f"T{i + 1}{suffix}",
                    "telraam",
                    ("car", "truck", "bicycle"),
                    streets,
                    cars,
                    edge,
                    site=f"T{i + 1}",
                    interval_min=15,
                )
            )
    return sensors


def _anpr(
    wanted: int, streets: Streets, cars: Edges, free: NDArray[np.bool_], rng: np.random.Generator
) -> list[Placed]:
    """Cameras at least 400 m from each other."""
    sensors: list[Placed] = []
    for e in rng.permutation(np.flatnonzero(free & np.isin(cars.road_class, ANPR_CLASSES))):
        placed = _on_edge(f"A{len(sensors) + 1}", "anpr", ("car", "truck"), streets, cars, int(e))
        if all(np.hypot(placed.xy[0] - s.xy[0], placed.xy[1] - s.xy[1]) > 400.0 for s in sensors):
            sensors.append(placed)
            free[e] = False
        if len(sensors) == wanted:
            break
    return sensors


def _bicycle_loops(
    morning: Morning, wanted: int, streets: Streets, bicycles: Edges, middle: NDArray[np.float64],
    rng: np.random.Generator,
) -> list[Placed]:  # fmt: skip
    sensors = []
    free = bicycles.length_m >= SHORTEST_M
    counter = morning.counter
    if counter is not None:
        for direction, suffix in enumerate("fb"):
            e = _named_edges(streets, bicycles, [f"{counter.segment} {DIRECTIONS[direction]}"])[0]
            free[e] = False
            sensors.append(
                _on_edge(
                    f"{counter.sensor}{suffix}",
                    "counter",
                    ("bicycle",),
                    streets,
                    bicycles,
                    e,
                    site=counter.sensor,
                    simulated=False,
                )
            )
    start = streets.node_xy[bicycles.tail]
    near = np.exp(-np.hypot(*(start - middle).T) / 2500.0)
    for i, e in enumerate(_draw(bicycles, BICYCLE_LOOP_SHARE, wanted, free, rng, near)):
        sensors.append(_on_edge(f"Y{i + 1}", "loops", ("bicycle",), streets, bicycles, e))
    return sensors


def _wifi(wanted: int, middle: NDArray[np.float64]) -> list[Placed]:
    """Hexagons around the middle, the nearest first."""
    step = 2.2 * WIFI_RADIUS_M
    spots = [
        (float(middle[0] + step * (i + 0.5 * (j % 2))), float(middle[1] + step * j * 3**0.5 / 2))
        for i in range(-8, 9)
        for j in range(-8, 9)
    ]
    spots.sort(key=lambda p: (round(np.hypot(p[0] - middle[0], p[1] - middle[1]), 3), p))
    angle = np.arange(6) * np.pi / 3 + np.pi / 6
    corners = WIFI_RADIUS_M * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return [
        Placed(f"W{k + 1}", "wifi", (), spot, polygon=Polygon(corners + np.array(spot)))
        for k, spot in enumerate(spots[:wanted])
    ]


def _telecom(wanted: int, streets: Streets) -> list[Placed]:
    """Voronoi cells of masts, one for each group of nodes."""
    masts = kmeans2(
        streets.node_xy, min(wanted, len(streets.node_xy)), minit="++", rng=np.random.default_rng(21)
    )[0]
    low, high = streets.node_xy.min(axis=0) - 500.0, streets.node_xy.max(axis=0) + 500.0
    area = box(*low, *high)
    cells = list(voronoi_polygons(MultiPoint(masts), extend_to=area).geoms)
    sensors = []
    for k, mast in enumerate(masts):
        cell = next(c for c in cells if c.covers(Point(mast)))
        sensors.append(
            Placed(f"C{k + 1}", "telecom", (), _pair(mast), polygon=cell.intersection(area), interval_min=15)
        )
    return sensors


def sensors_geojson(sensors: list[Placed], crs: str) -> Iterator[str]:
    """Lines of ``sensors.geojson``."""
    import json

    to_lonlat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)

    def lonlat(x: float, y: float) -> list[float]:
        return [round(v, 6) for v in to_lonlat.transform(x, y)]

    yield '{"type":"FeatureCollection","features":[\n'
    for k, s in enumerate(sensors):
        properties: dict[str, Any] = {"id": s.id, "source": s.source}
        if s.segment_id:
            properties |= {"segment_id": s.segment_id, "direction": s.direction}
        properties |= {"modes": list(s.modes), "interval_min": s.interval_min, "simulated": s.simulated}
        if s.site:
            properties["site"] = s.site
        geometry: dict[str, Any] = {"type": "Point", "coordinates": lonlat(*s.xy)}
        if s.polygon is not None:
            geometry = {"type": "Polygon", "coordinates": [[lonlat(*p) for p in s.polygon.exterior.coords]]}
        feature = {"type": "Feature", "properties": properties, "geometry": geometry}
        yield json.dumps(feature, separators=(",", ":")) + (",\n" if k + 1 < len(sensors) else "\n")
    yield "]}\n"
