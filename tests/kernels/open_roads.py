"""Roads and receptors of the air tests, and an independent sum over their sub-sources."""

from __future__ import annotations

import numpy as np
import shapely
from scipy.integrate import quad

from kernels import srm2
from kernels.air_columns import air_columns, road_columns
from kernels.air_fields import AirAccumulators, AirReader
from kernels.chemistry import Background
from kernels.far_field import node_step_m
from kernels.receptors import ReceptorGrid, grid_blocks

GRID = ReceptorGrid(x_min=1000.0, y_min=-500.0, step_m=10.0, n_columns=120, n_rows=90)
ROAD = np.array([[600.0, -200.0], [1500.0, -80.0], [2900.0, -70.0]])
STREET = np.array([[1200.0, -394.0], [1700.0, -394.0]])
ROUGH = srm2.roughness_class(1.0)
_PEAK = quad(lambda a: ((1 + np.cos(a)) / 2) ** 32, -np.pi, np.pi)[0]


def columns_of(roads=(ROAD,), streets=(STREET,), *, grid=GRID, blocks=None, sigma_z0=3.0, types=4, trees=1.0):
    """Columns of streets (first segments) and roads (last segments)."""
    n, n_streets = len(streets) + len(roads), len(streets)
    is_road = np.arange(n) >= n_streets
    return air_columns(
        grid_blocks(grid) if blocks is None else blocks,
        [*streets, *roads],
        np.where(is_road, 0, types).astype(np.int8),
        np.full(n, trees),
        is_road,
        np.broadcast_to(np.concatenate([np.ones(n_streets), np.broadcast_to(sigma_z0, len(roads))]), n),
        3.0,
        ROUGH,
        node_step_m=node_step_m(grid.step_m),
    )


def field_of(columns, emission, wind=4.0, direction=200.0):
    """Contributions [ug/m3] of emissions [ug/m/s] of all segments, the first species, (n,)."""
    emission = np.broadcast_to(np.asarray(emission, dtype=float), columns.n_segments)
    roads = road_columns(columns, srm2.hourly_winds(wind, direction))
    sums = AirAccumulators(columns)
    quanta = np.rint(np.repeat(emission[:, None], 4, axis=1) * 2**20).astype(np.int64)
    sums.add(roads, np.arange(columns.n_segments), quanta)
    return AirReader(columns, Background(0.0, 0.0, 0.0, 0.0)).contributions(sums, roads, wind)[:, 0]


def direct(xy, line, wind_m_s, wind_from_deg, *, sigma_z0=3.0, step_m=1.0):
    """Concentration of 1 ug/m/s on a line at points for an hour, from the formulas alone, (n,) [ug/m3]."""
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    n = int(np.ceil(along[-1] / step_m))
    at = (np.arange(n) + 0.5) * along[-1] / n
    x, y = np.interp(at, along, line[:, 0]), np.interp(at, along, line[:, 1])
    out = np.zeros(len(xy))
    angle = np.radians(wind_from_deg)
    for px, py in zip(x, y, strict=True):
        dx, dy = xy[:, 0] - px, xy[:, 1] - py
        r = np.hypot(dx, dy)
        limited = np.maximum(r, 3.5)
        sigma = 0.7054 * limited**0.6207 + sigma_z0
        z, l_m = 0.75 * sigma, 400.0
        psi = lambda q: -17 * (1 - np.exp(-0.29 * q))  # noqa: E731
        wind = (np.log(z) - psi(z / l_m) + psi(1 / l_m)) / (np.log(10.0) - psi(10 / l_m) + psi(1 / l_m))
        cosine = (-dx * np.sin(angle) - dy * np.cos(angle)) / limited
        meander = 0.5 / (0.5 + wind_m_s**2)
        w = (1 - meander) * ((1 + cosine) / 2) ** 32 / _PEAK + meander / (2 * np.pi)
        w = np.where(r < 3.5, r / 3.5 * w + (1 - r / 3.5) / (2 * np.pi), w)
        plume = 2 * np.exp(-(1.5**2) / (2 * sigma**2)) / (np.sqrt(2 * np.pi) * sigma * wind * 0.961 * limited)
        out += plume * w * along[-1] / n
    return out / max(wind_m_s, 1.0)


def off_the_road(lines, xy):
    """Whether points are farther than 3.5 m from every line: nearer, on the carriageway, the plume has a kink."""
    points = shapely.points(xy)
    return np.all([shapely.distance(points, shapely.LineString(line)) > 3.5 for line in lines], axis=0)


def cells(grid=GRID):
    """Coordinates of the receptors of a grid, (n, 2)."""
    x, y = np.meshgrid(grid.x(), grid.y())
    return np.stack([x.ravel(), y.ravel()], axis=1)
