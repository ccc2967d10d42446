"""Prepare the dispersion of a city: what is known before any traffic and wind, cached by content."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cities.cache import Progress, cache_folder, content_key
from cities.pack import City, CityError
from kernels import srm2
from kernels.air_bound import air_gate_bound, largest_sum
from kernels.air_columns import (
    AirColumns,
    Subsources,
    bounding_columns,
    emission_limit,
    far_distances,
    near_cells,
    street_column,
    subsources,
)
from kernels.gate import GateBound
from kernels.receptors import ReceptorGrid

FORMAT = 1  # rises when the same city would give other columns
ROUGHNESS_M = 1.0  # a city
MOTORWAY_FROM_KMH = 100.0  # classes at least as fast start with the wider plume of a motorway
PROGRESS_EVERY = 250


def prepare_air(city: City, progress: Progress) -> AirColumns:
    """Coefficient columns of a city, from the cache or built now.

    Segments of SRM2 classes anywhere in the network count, the others are SRM1 streets of type 4 until
    buildings are known. Segments that no motor traffic may use have no column.

    Raises
    ------
    CityError
        For a background without the annual mean wind.
    """
    mean_wind = _mean_wind(city)
    roughness = float(city.settings.get("air", {}).get("roughness_m", ROUGHNESS_M))
    is_road, table = _roads(city)
    path = _path(city, mean_wind, roughness, is_road, table)
    if path.is_file():
        progress("air columns", 1.0)
        return _load(path, city.grid)
    columns = _build(city, progress, mean_wind, roughness, is_road, table)
    _save(path, columns)
    progress("air columns", 1.0)
    return columns


def _mean_wind(city: City) -> float:
    value = city.settings.get("background", {}).get("mean_wind_m_s")
    if not isinstance(value, int | float) or not value > 0:
        raise CityError(
            f"city.toml: [background] mean_wind_m_s: got {value!r}, expected the annual mean wind above 0 m/s"
        )
    return float(value)


def _roads(city: City) -> tuple[NDArray[np.bool_], NDArray[np.int8]]:
    """Which segments are SRM2 roads, and the row of their plume table (0: sigma_z0 2.5 m, 1: 3 m)."""
    has_motor = np.zeros(city.network.n_segments, dtype=np.bool_)
    has_motor[city.car_edges.segment] = True
    is_road = has_motor & (city.class_values("srm") == "srm2")
    fast = city.class_values("speed_kmh").astype(np.float64) >= MOTORWAY_FROM_KMH
    return is_road, fast.astype(np.int8)


def _path(
    city: City, mean_wind: float, roughness: float, is_road: NDArray[np.bool_], table: NDArray[np.int8]
) -> Path:
    key = content_key(
        FORMAT,
        city.network_hash,
        city.crs,
        city.grid,
        mean_wind,
        roughness,
        is_road,
        table,
        city.car_edges.segment,
    )
    return cache_folder() / f"air-columns-{key}.npz"


def _build(
    city: City,
    progress: Progress,
    mean_wind: float,
    roughness: float,
    is_road: NDArray[np.bool_],
    table: NDArray[np.int8],
) -> AirColumns:
    network, grid = city.network, city.grid
    n = network.n_segments
    is_street = np.zeros(n, dtype=np.bool_)
    is_street[city.car_edges.segment] = True
    is_street &= ~is_road
    street_sizes, street_cells, street_coefficients = np.zeros(n, dtype=np.int64), [], []
    for s in np.flatnonzero(is_street):
        if s % PROGRESS_EVERY == 0:
            progress("air columns: streets", 0.3 * float(s) / n)
        cell, coefficient = street_column(grid, network.polyline(int(s)))
        street_sizes[s] = cell.size
        street_cells.append(cell)
        street_coefficients.append(coefficient)
    roads = np.flatnonzero(is_road)
    lines = [network.polyline(int(s)) for s in roads]
    near = []
    far = np.empty((roads.size, far_distances(grid, np.zeros((2, 2))).size), dtype=np.float32)
    for r, line in enumerate(lines):
        if r % 10 == 0:
            progress("air columns: roads", 0.3 + 0.4 * r / roads.size)
        near.append(near_cells(grid, line))
        far[r] = far_distances(grid, line)
    points = subsources(lines)
    columns = AirColumns(
        n_segments=n,
        grid=grid,
        mean_wind_m_s=mean_wind,
        roughness_m=roughness,
        street_start=_starts(street_sizes),
        street_cell=_joined(street_cells, np.int32),
        street_coefficient=_joined(street_coefficients, np.int32),
        road_segment=roads.astype(np.int32),
        road_table=table[roads],
        near_start=_starts(np.array([cell.size for cell, _ in near], dtype=np.int64)),
        near_cell=_joined([cell for cell, _ in near], np.int32),
        near_distance_m=_joined([distance for _, distance in near], np.float32),
        far_distance_m=far,
        subsources=points,
        plume_tables=_plume_tables(points, far, roughness),
        bound=_no_bound(n),
        emission_limit=0,
    )
    progress("air columns: bound of the change gate", 0.7)
    bounding = bounding_columns(columns)
    return dataclasses.replace(
        columns,
        bound=air_gate_bound(columns, bounding),
        emission_limit=emission_limit(largest_sum(columns, bounding)),
    )


def _plume_tables(
    points: Subsources, far_distance_m: NDArray[np.float32], roughness_m: float
) -> NDArray[np.float64]:
    """Tables that reach from every sub-source to every node."""
    reach = float(far_distance_m.max(initial=0.0)) + float(points.length_m.max(initial=0.0)) + 100.0
    roughness = srm2.roughness_class(roughness_m)
    return np.stack(
        [srm2.plume_table(reach, roughness, s) for s in (srm2.SIGMA_Z0_M, srm2.SIGMA_Z0_MOTORWAY_M)]
    )


def _no_bound(n_segments: int) -> GateBound:
    none = np.empty(0, dtype=np.int32)
    return GateBound(
        n_segments=n_segments,
        cell_start=np.zeros(1, dtype=np.int64),
        cell_segment=none,
        cell_coefficient=np.empty(0),
        segment_start=np.zeros(n_segments + 1, dtype=np.int64),
        segment_cell=none,
        segment_coefficient=np.empty(0),
    )


def _starts(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _joined(parts: list[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.empty(0, dtype=dtype)


_NESTED = {"subsources": Subsources, "bound": GateBound}


def _save(path: Path, columns: AirColumns) -> None:
    """Write beside the place and rename, so that a killed run leaves no half file."""
    arrays: dict[str, Any] = {}
    for field in dataclasses.fields(columns):
        value = getattr(columns, field.name)
        if field.name in _NESTED:
            for inner in dataclasses.fields(value):
                arrays[f"{field.name}.{inner.name}"] = getattr(value, inner.name)
        elif field.name != "grid":
            arrays[field.name] = value
    partial = path.with_suffix(f".{os.getpid()}.partial")
    with partial.open("wb") as file:
        np.savez(file, **arrays)
    partial.replace(path)


def _load(path: Path, grid: ReceptorGrid) -> AirColumns:
    with np.load(path) as file:
        flat = {name: file[name] if file[name].ndim else file[name].item() for name in file.files}
    values: dict[str, Any] = {"grid": grid}
    for name, value in flat.items():
        outer, _, inner = name.partition(".")
        if inner:
            values.setdefault(outer, {})[inner] = value
        else:
            values[name] = value
    for name, kind in _NESTED.items():
        values[name] = kind(**values[name])
    return AirColumns(**values)
