"""Prepare the dispersion of a city: what is known before any traffic and wind, cached by content."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cities.cache import Progress, cache_folder, content_key, keep, kept
from cities.dispersion import Dispersion, Model, dispersion_of
from cities.pack import City, CityError
from kernels import srm2
from kernels.air_bound import with_bound
from kernels.air_columns import AirColumns, air_columns
from kernels.far_field import Level, Spread, node_step_m
from kernels.gate import GateBound
from kernels.near_field import Elements
from kernels.receptors import ReceptorBlocks, grid_blocks
from kernels.runs import Runs

FORMAT = 2  # rises when the same city would give other columns
_TYPES = (AirColumns, ReceptorBlocks, Runs, Elements, Level, Spread, GateBound)
_TASK = "air columns"


def prepare_air(city: City, progress: Progress) -> AirColumns:
    """Coefficient columns of a city, from the cache or built now.

    Which method a segment has says :func:`cities.dispersion.dispersion_of`; SRM2 roads count anywhere in the
    network. Segments that no motor traffic may use have no column.

    Raises
    ------
    CityError
        For a background without the annual mean wind, or a property of dispersion that does not fit.
    """
    mean_wind = _mean_wind(city)
    dispersion = dispersion_of(city)
    folder = _folder(city, mean_wind, dispersion)
    if not folder.is_dir():
        keep(folder, _build(city, progress, mean_wind, dispersion))
    columns: AirColumns = kept(folder, *_TYPES)
    progress(_TASK, 1.0)
    return columns


def _mean_wind(city: City) -> float:
    value = city.settings.get("background", {}).get("mean_wind_m_s")
    if not isinstance(value, int | float) or not value > 0:
        raise CityError(
            f"city.toml: [background] mean_wind_m_s: got {value!r}, expected the annual mean wind above 0 m/s"
        )
    return float(value)


def _folder(city: City, mean_wind: float, dispersion: Dispersion) -> Path:
    key = content_key(
        FORMAT,
        city.network_hash,
        city.crs,
        city.grid,
        mean_wind,
        int(dispersion.rule),
        dispersion.roughness_m,
        dispersion.model,
        dispersion.tree_factor,
        dispersion.sigma_z0_m,
    )
    return cache_folder() / f"air-columns-{key}"


def _build(city: City, progress: Progress, mean_wind: float, dispersion: Dispersion) -> AirColumns:
    network, model = city.network, dispersion.model
    progress(_TASK, 0.0)
    is_road = model == Model.SRM2
    columns = air_columns(
        grid_blocks(city.grid),
        [network.polyline(s) for s in range(network.n_segments)],
        np.where(is_road, 0, model).astype(np.int8),
        dispersion.tree_factor,
        is_road,
        dispersion.sigma_z0_m,
        mean_wind,
        srm2.roughness_class(dispersion.roughness_m),
        node_step_m=node_step_m(city.grid.step_m),
        rule=dispersion.rule,
    )
    progress(f"{_TASK}: bound of the change gate", 0.7)
    return with_bound(columns, city.grid)
