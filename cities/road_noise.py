"""How the noise of a city's roads is calculated: coefficients, gradients, junctions and tyres.

What a pack says of a segment counts first, then its terrain; see docs/city-pack.md for the properties.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cities.noise_geometry import TERRAIN, cell_grid, ground_heights_m
from cities.pack import City, CityError
from kernels.cnossos import RoadCorrections, road_corrections, studded_share
from kernels.cnossos_coefficients import EU_2015, EU_2021, NL_NATIONAL, CoefficientSet
from kernels.network import Direction, Network
from kernels.obstacles import CELL_M

COEFFICIENTS: Mapping[str, CoefficientSet] = {"2021": EU_2021, "2015": EU_2015, "nl": NL_NATIONAL}
JUNCTIONS = ("crossing", "roundabout")  # with traffic lights; of two at one distance the first counts
JUNCTION_REACH_M = 100.0
STEEPEST_PERCENT = 50.0  # beyond it a number is a height or an angle
_OFF_THE_GROUND = ("is_bridge", "is_tunnel", "is_viaduct")
_N_POINTS = (
    200  # along a segment: its mean nearness is within 0.003 of the integral, its level within 0.03 dB
)


@dataclass(frozen=True, slots=True)
class RoadNoise:
    """What the sound power of a segment follows from, besides its traffic; in the order of network.geojson.

    Attributes
    ----------
    coefficients : CoefficientSet
    surface : (n_segments,) int8
        Rows of the set of coefficients.
    gradient_percent : (n_segments,) float64
        Along the line's vertices, uphill positive.
    near_crossing, near_roundabout : (n_segments,) float64
        Mean along the segment of max(1 - d / 100 m, 0), d the way along roads to the nearest junction, over
        the points for which it is of that kind.
    studded_share : float
        Share of light vehicles with studded tyres over the year.
    n_gradients_given, n_gradients_of_terrain : int
        How many segments have their gradient from network.geojson and from terrain.tif.
    """

    coefficients: CoefficientSet
    surface: NDArray[np.int8]
    gradient_percent: NDArray[np.float64]
    near_crossing: NDArray[np.float64]
    near_roundabout: NDArray[np.float64]
    studded_share: float
    n_gradients_given: int
    n_gradients_of_terrain: int

    def corrections(self, direction: Direction) -> RoadCorrections | None:
        """For the traffic of one direction: what is uphill for one is downhill for the other."""
        along = self.gradient_percent if direction is Direction.FORWARD else -self.gradient_percent
        return road_corrections(along, self.near_crossing, self.near_roundabout, self.studded_share)

    def is_outside_range(self, speed_kmh: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Speeds (..., n_segments) that the surface of the segment was not printed for."""
        return self.coefficients.is_outside_range(self.surface, speed_kmh)


def coefficients_of(city: City) -> CoefficientSet:
    """Set of [noise] coefficients: 2021 (Directive 2021/1226, the default), 2015 (2015/996) or nl.

    Raises
    ------
    CityError
        For a set that there is not, or a surface of the city that the set does not have.
    """
    name = str(city.settings.get("noise", {}).get("coefficients", "2021"))
    if name not in COEFFICIENTS:
        raise CityError(
            f"city.toml: [noise] coefficients: got {name!r}, expected one of {', '.join(COEFFICIENTS)}"
        )
    try:
        COEFFICIENTS[name].surface_indices(city.surface)
    except ValueError as error:
        raise CityError(f"network.geojson or city.toml: {error}") from error
    return COEFFICIENTS[name]


def road_noise_of(city: City) -> RoadNoise:
    """Coefficients, surfaces, gradients, junctions and tyres of a city.

    Raises
    ------
    CityError
        For a setting or property that does not fit, with the segment's id.
    """
    coefficients = coefficients_of(city)
    gradient, n_given, n_of_terrain = _gradients(city)
    near = _nearness(city)
    return RoadNoise(
        coefficients=coefficients,
        surface=coefficients.surface_indices(city.surface),
        gradient_percent=gradient,
        near_crossing=near[0],
        near_roundabout=near[1],
        studded_share=_studded(city, coefficients),
        n_gradients_given=n_given,
        n_gradients_of_terrain=n_of_terrain,
    )


def _studded(city: City, coefficients: CoefficientSet) -> float:
    noise = city.settings.get("noise", {})
    limits = {"studded_share": 1.0, "studded_months": 12.0}
    given = [key for key in limits if key in noise]
    if not given:
        return 0.0
    values = []
    for key, most in limits.items():
        value = noise.get(key)
        if not _is_number(value) or not 0.0 <= value <= most:
            raise CityError(
                f"city.toml: [noise] {key}: got {value!r}, expected 0 to {most:g} (beside {given[0]})"
            )
        values.append(float(value))
    share = studded_share(*values)
    if share > 0.0 and not coefficients.has_studded_tyres:
        raise CityError(
            f"city.toml: [noise] studded_share: got {values[0]:g}, expected 0 or nothing: the coefficients "
            f"{coefficients.name} have none for studded tyres"
        )
    return share


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _gradients(city: City) -> tuple[NDArray[np.float64], int, int]:
    """Gradient of each segment (n_segments,) [%], how many were given, and how many are of the terrain."""
    gradient = np.full(city.network.n_segments, np.nan)
    on_ground = np.ones(gradient.size, dtype=np.bool_)
    for s, properties in enumerate(city.noise_properties):
        if "gradient_percent" in properties:
            value = properties["gradient_percent"]
            if not _is_number(value) or abs(value) > STEEPEST_PERCENT:
                raise _error(
                    city, s, "gradient_percent", f"a slope in %, at most {STEEPEST_PERCENT:g} up or down"
                )
            gradient[s] = value
        for field in _OFF_THE_GROUND:
            value = properties.get(field, False)
            if not isinstance(value, bool):
                raise _error(city, s, field, "true or false")
            on_ground[s] &= not value
    is_open = np.isnan(gradient)
    n_given = int((~is_open).sum())
    of_terrain = is_open & on_ground
    rise_m = _rise_of_terrain_m(city) if of_terrain.any() else None
    if rise_m is None:
        return np.where(is_open, 0.0, gradient), n_given, 0
    # over at least a cell of the terrain: what lies within one is no slope of the road
    slope = 100.0 * rise_m / np.maximum(city.network.length_m, CELL_M)
    return np.where(of_terrain, slope, np.where(is_open, 0.0, gradient)), n_given, int(of_terrain.sum())


def _error(city: City, s: int, field: str, expected: str) -> CityError:
    return CityError(
        f"network.geojson: segment {city.segment_ids[s]}: {field}: got {city.noise_properties[s][field]!r}, "
        f"expected {expected}"
    )


def _rise_of_terrain_m(city: City) -> NDArray[np.float64] | None:
    """Height of the ground at the last vertex of each segment less that at the first; None without any."""
    if not (city.folder / TERRAIN).is_file():
        return None
    from scipy.ndimage import map_coordinates

    origin, shape = cell_grid(city)
    height = ground_heights_m(city, origin, shape)
    network = city.network
    first, last = network.vertex_start[:-1], network.vertex_start[1:] - 1
    ends = []
    for vertex in (first, last):
        column, row = ((network.vertex_xy[vertex] - np.array(origin)) / CELL_M).T
        ends.append(map_coordinates(height, [row, column], order=1, mode="nearest", output=np.float64))
    return np.asarray(ends[1] - ends[0])


def _nearness(city: City) -> NDArray[np.float64]:
    """Mean nearness to crossings and to roundabouts of each segment, (2, n_segments)."""
    network = city.network
    near = np.zeros((len(JUNCTIONS), network.n_segments))
    nodes: dict[str, set[int]] = {kind: set() for kind in JUNCTIONS}
    for s, properties in enumerate(city.noise_properties):
        for field, node in (("junction_start", network.from_node[s]), ("junction_end", network.to_node[s])):
            if field in properties:
                kind: Any = properties[field]
                if kind not in JUNCTIONS:
                    raise _error(city, s, field, f"one of {', '.join(JUNCTIONS)}")
                nodes[kind].add(int(node))
    if not any(nodes.values()):
        return near
    motor = np.unique(city.car_edges.segment)
    away = np.stack([_way_m(network, motor, sorted(nodes[kind])) for kind in JUNCTIONS])
    start, end = away[:, network.from_node], away[:, network.to_node]
    at = np.flatnonzero(np.minimum(start, end).min(axis=0) < JUNCTION_REACH_M)
    fraction = (np.arange(_N_POINTS) + 0.5) / _N_POINTS
    for s in at.tolist():
        along = fraction * network.length_m[s]
        distance = np.minimum(start[:, s, None] + along, end[:, s, None] + network.length_m[s] - along)
        kind = distance.argmin(axis=0)
        x = np.maximum(1.0 - distance.min(axis=0) / JUNCTION_REACH_M, 0.0)
        near[:, s] = np.bincount(kind, x, len(JUNCTIONS)) / _N_POINTS
    return near


def _way_m(network: Network, segments: NDArray[np.int32], junctions: list[int]) -> NDArray[np.float64]:
    """Way along segments from each node to the nearest junction, infinite beyond 100 m, (n_nodes,) [m]."""
    if not junctions:
        return np.full(network.n_nodes, np.inf)
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import dijkstra

    ends = np.sort(np.stack([network.from_node, network.to_node], axis=1)[segments], axis=1)
    shortest_first = np.argsort(network.length_m[segments], kind="stable")
    _, first = np.unique(ends[shortest_first], axis=0, return_index=True)  # of parallel ones the shortest
    kept = shortest_first[first]
    graph = csr_array(
        (network.length_m[segments][kept], (ends[kept, 0], ends[kept, 1])),
        shape=(network.n_nodes, network.n_nodes),
    )
    return np.asarray(
        dijkstra(graph, directed=False, indices=junctions, min_only=True, limit=JUNCTION_REACH_M)
    )
