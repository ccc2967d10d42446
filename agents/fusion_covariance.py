"""Covariances of a city's flows with its counters, prepared once and kept in the cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agents.fusion_counters import CounterRows
from cities.cache import cache_folder, content_key
from cities.pack import City
from kernels.assignment import edge_graph
from kernels.kriging import Kriging, build_kriging, stream_covariance
from kernels.network import DirectedEdges, Mode
from kernels.prior import Prior
from kernels.turnshare import turn_share_root

VERSION = 4
# Which classes cyclists and walkers shun is guessed more badly than where cars go: main roads of a simulated
# city had a sixth of the prior's bicycles.
CLASS_WEIGHT = {Mode.BICYCLE: 2.0, Mode.PEDESTRIAN: 2.0}


def edges_of(city: City, mode: Mode) -> DirectedEdges:
    """Directed edges of a mode: trucks and buses use those of cars, pedestrians those of bicycles."""
    return city.bicycle_edges if mode in (Mode.BICYCLE, Mode.PEDESTRIAN) else city.car_edges


def prepare_kriging(
    city: City, prior: Prior, counters: dict[Mode, CounterRows], middles: NDArray[np.float64]
) -> dict[Mode, Kriging]:
    """Covariances of all modes, from the cache where they were computed for this very input."""
    krigings, streams = {}, {}
    for mode, rows in counters.items():
        of_mode = prior.modes[mode]
        key = content_key(
            VERSION, CLASS_WEIGHT.get(mode), city.network_hash, of_mode.flow_per_h,
            of_mode.turn_flow_per_h, of_mode.anomalies, of_mode.lost_variance, of_mode.responses,
            of_mode.probe_log_flow, city.road_class, rows.matrix.indices, rows.matrix.indptr,
            rows.matrix.data,
        )  # fmt: skip
        path = cache_folder() / f"kriging-{key}"
        kriging = _read(path)
        if kriging is None:
            edges = edges_of(city, mode)
            motor = mode if mode in (Mode.BICYCLE, Mode.PEDESTRIAN) else Mode.CAR
            stream_prior = prior.modes[motor]  # trucks and buses follow the streams of all motor traffic
            root = turn_share_root(
                edge_graph(edges, city.network.n_nodes),
                stream_prior.flow_per_h.astype(np.float64),
                stream_prior.turn_flow_per_h.astype(np.float64),
                edges.opposite,
            )
            same = (motor, content_key(rows.sees.indices, rows.sees.indptr))
            if same not in streams:
                streams[same] = stream_covariance(root, rows.matrix)
            kriging = build_kriging(
                of_mode, root, rows.matrix, rows.xy, middles[edges.segment],
                city.road_class[edges.segment].astype(np.int64), streams[same],
                CLASS_WEIGHT.get(mode, 1.0),
            )  # fmt: skip
            _write(path, kriging)
            kriging = _read(path) or kriging  # mapped from the file, its memory is free again
        krigings[mode] = kriging
    return krigings


def _read(path: Path) -> Kriging | None:
    """Covariances of a finished folder; the large one stays on disk and is mapped."""
    if not (path / "k_es.npy").is_file():
        return None
    return Kriging(
        k_es=np.load(path / "k_es.npy", mmap_mode="r"),
        k_ss=np.load(path / "k_ss.npy"),
        variance=np.load(path / "variance.npy"),
    )


def _write(path: Path, kriging: Kriging) -> None:
    path.mkdir(parents=True, exist_ok=True)
    np.save(path / "variance.npy", kriging.variance)
    np.save(path / "k_ss.npy", kriging.k_ss)
    part = path / "k_es.part.npy"
    np.save(part, kriging.k_es)
    part.replace(path / "k_es.npy")  # last and at once: its presence says that all is there
