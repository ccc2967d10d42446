"""Prepare what is known before any sensor: an ensemble of crude assignments on the network alone.

``python -m studies.prior cities/<name>`` writes ``prior.npz`` into a city pack.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cities.cache import Progress, cache_folder, content_key
from cities.pack import City, CityError, load_city
from kernels.assignment import EdgeGraph, assign, edge_graph
from kernels.network import Mode
from kernels.prior import ModePrior, Prior, log_anomalies, pack, unpack, with_share
from studies.demand import Zones, build_zones, draw_demand

VERSION = 1
PEAK_SCALE = 1.8  # of the average hour, where congestion decides the routes
SUPPLY_SD = 0.12  # street by street, and again class by class
LINK_TASTE_SD, CLASS_TASTE_SD = 0.2, 0.12
BUNDLED_MEMBERS = {Mode.CAR: 96, Mode.BICYCLE: 48}
BUNDLED_RANK = {Mode.CAR: 44, Mode.BICYCLE: 26}
MEMBERS = {Mode.CAR: 16, Mode.BICYCLE: 10}
ITERATIONS = {Mode.CAR: 4, Mode.BICYCLE: 1}
CYCLING_KMH = 15.0


def prepare_prior(city: City, progress: Progress) -> Prior:
    """Prior of a city: from its pack when it belongs to this network, else computed once and cached.

    Raises
    ------
    CityError
        When no street of the network is open to motor traffic.
    """
    if city.car_edges.n_edges == 0:
        raise CityError(
            "network.geojson: direction: got none on every street of a motor class, expected motor traffic"
        )
    for path in (city.folder / "prior.npz", _cache_path(city)):
        prior = _read(path, city)
        if prior is not None:
            progress("prior", 1.0)
            return prior
    _write(_cache_path(city), city, _ensemble(city, MEMBERS, MEMBERS, progress))
    prior = _read(_cache_path(city), city)
    if prior is None:
        raise OSError(f"{_cache_path(city)}: was written and cannot be read; is the disk full?")
    return prior


def _ensemble(
    city: City, members: dict[Mode, int], rank: dict[Mode, int], progress: Progress
) -> dict[Mode, ModePrior]:
    """Mean and anomalies of stochastic assignments for motor vehicles (as cars) and bicycles."""
    priors = {}
    total, done = sum(n * ITERATIONS[m] for m, n in members.items()), 0
    for mode, n_members in members.items():
        edges = city.car_edges if mode is Mode.CAR else city.bicycle_edges
        if edges.n_edges == 0:
            continue
        graph = edge_graph(edges, city.network.n_nodes)
        zones = build_zones(city, mode)
        flows = np.zeros((n_members, graph.n_edges))
        turns = np.zeros(graph.n_turns)
        for member in range(n_members):
            flows[member], turn = _member(city, mode, graph, zones, member)
            turns += turn / n_members
            done += ITERATIONS[mode]
            progress(f"prior of {mode.name.lower()} flows", done / total)
        anomalies, lost = log_anomalies(flows, rank[mode])
        priors[mode] = ModePrior(
            flows.mean(axis=0).astype(np.float32), turns.astype(np.float32), anomalies, lost
        )
    return priors


def _member(
    city: City, mode: Mode, graph: EdgeGraph, zones: Zones, member: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Flows and turning flows of the average hour of one member, each with its own demand and supply."""
    rng = np.random.default_rng([VERSION, int(mode), member])
    edges = city.car_edges if mode is Mode.CAR else city.bicycle_edges
    demand = draw_demand(zones, mode, rng)
    codes, road_class = np.unique(city.road_class, return_inverse=True)
    supply = np.exp(SUPPLY_SD * rng.standard_normal(city.network.n_segments))
    supply *= np.exp(SUPPLY_SD * rng.standard_normal(codes.size))[road_class]
    if mode is Mode.CAR:
        time_s = city.network.length_m / (city.speed_kmh / 3.6) + 4.0  # a crossing costs a few seconds
        capacity = city.class_values("capacity_veh_per_h").astype(float) * city.lanes
    else:
        stress = 1.0 + 0.012 * np.clip(city.speed_kmh - 30.0, 0.0, 60.0)
        time_s = city.network.length_m / (CYCLING_KMH / 3.6) * stress + 3.0
        capacity = np.full(city.network.n_segments, np.inf)

    def access(_: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        return zones.access(rng), zones.access(rng)

    flow, turn = assign(
        graph,
        (time_s * supply)[edges.segment],
        capacity[edges.segment] / PEAK_SCALE,
        demand,
        access,
        taste_class=road_class[edges.segment].astype(np.int32),
        link_taste_sd=LINK_TASTE_SD,
        class_taste_sd=CLASS_TASTE_SD,
        iterations=ITERATIONS[mode],
        seed=member + 1,
    )
    return flow, turn


def _cache_path(city: City) -> Path:
    key = content_key(
        VERSION, city.network_hash, city.settings.get("population"), city.settings.get("road_class"),
        MEMBERS, ITERATIONS,
    )  # fmt: skip
    return cache_folder() / f"prior-{key}.npz"


def _write(path: Path, city: City, priors: dict[Mode, ModePrior]) -> None:
    arrays: dict[str, NDArray[Any]] = {
        "network_hash": np.array(city.network_hash), "version": np.array(VERSION),
    }  # fmt: skip
    for mode, prior in priors.items():
        arrays |= {f"{mode.name.lower()}_{name}": values for name, values in pack(prior).items()}
    part = path.with_name(f"{path.stem}.part.npz")
    np.savez_compressed(part, **arrays)  # type: ignore[arg-type]
    part.replace(path)


def _read(path: Path, city: City) -> Prior | None:
    """Prior of a file, None when there is none for this network."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            arrays = {name: file[name] for name in file.files}
    except (zipfile.BadZipFile, ValueError, EOFError):
        return None  # cut off while it was written: computed again
    if str(arrays.get("network_hash")) != city.network_hash or int(arrays.get("version", -1)) != VERSION:
        return None
    fields = ("flow", "turn", "anomaly", "anomaly_peak", "lost")
    motor = unpack({f: arrays[f"car_{f}"] for f in fields})
    trucks = city.class_values("truck_share").astype(float)[city.car_edges.segment]
    modes = {Mode.CAR: with_share(motor, 1.0 - trucks), Mode.TRUCK: with_share(motor, trucks)}
    if "bicycle_flow" in arrays:  # a network of motor roads alone has none
        modes[Mode.BICYCLE] = unpack({f: arrays[f"bicycle_{f}"] for f in fields})
    return Prior(city.network_hash, modes)


def main(arguments: list[str] | None = None) -> int:
    """Write prior.npz into a city pack."""
    parser = argparse.ArgumentParser(
        description=main.__doc__, epilog="example: python -m studies.prior cities/<name>"
    )
    parser.add_argument("city", type=Path, help="folder of the city pack")
    city = load_city(parser.parse_args(arguments).city)
    priors = _ensemble(
        city, BUNDLED_MEMBERS, BUNDLED_RANK,
        lambda what, part: print(f"\r{what}: {part:.0%}", end="", file=sys.stderr, flush=True),
    )  # fmt: skip
    _write(city.folder / "prior.npz", city, priors)
    print(file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
