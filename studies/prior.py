"""Prepare what is known before any sensor: an ensemble of crude assignments on the network alone.

``python -m studies.prior cities/<name>`` writes the compact form, ``prior.npz``, into a city pack.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cities.cache import Progress, cache_folder, content_key
from cities.pack import City, CityError, load_city
from cities.probes import read_probes
from kernels.assignment import EdgeGraph, assign, edge_graph
from kernels.network import DirectedEdges, Mode
from kernels.prior import (
    ModePrior,
    Prior,
    log_anomalies,
    log_deviations,
    log_responses,
    pack,
    probe_log_flow,
    unpack,
    with_share,
)
from studies.demand import Zones, build_zones, draw_demand
from studies.land_use import read_land_use

VERSION = 4  # of the demand and its draws
FORMAT = 2  # of the file
PEAK_SCALE = 1.8  # of the average hour, where congestion decides the routes
SUPPLY_SD = 0.12  # street by street, and again class by class
LINK_TASTE_SD, CLASS_TASTE_SD = 0.2, 0.12
# The error falls with the number of members: by 9 % from 100 to 400 for cars. Others are fewer and simpler.
MEMBERS = {Mode.CAR: 400, Mode.BICYCLE: 200, Mode.PEDESTRIAN: 60}
COMPACT_RANK = {Mode.CAR: 88, Mode.BICYCLE: 48, Mode.PEDESTRIAN: 14}
ITERATIONS = {Mode.CAR: 3, Mode.BICYCLE: 1, Mode.PEDESTRIAN: 1}
CHUNK = 10  # members between two files: what an interruption costs
# How much longer a metre feels for each km/h of motor traffic above 30, off by a factor of two: assumed. What
# cyclists avoid, and how much, is the largest unknown of theirs.
AVERSION_PER_KMH, AVERSION_SD = 0.015, 0.7
SPEED_KMH = {Mode.BICYCLE: 15.0, Mode.PEDESTRIAN: 4.7}
FIELDS = ("flow", "turn", "anomaly", "anomaly_peak", "response", "response_peak", "lost")


def prepare_prior(city: City, progress: Progress, *, compact: bool = True) -> Prior:
    """Prior of a city: the full form if it was prepared, else the pack's compact form, else computed now.

    An interrupted computation goes on where it stopped.

    Parameters
    ----------
    city : City
    progress : callable
    compact : bool
        Whether the pack's compact form will do when there is no full one.

    Raises
    ------
    CityError
        When no street of the network is open to motor traffic.
    """
    if city.car_edges.n_edges == 0:
        raise CityError(
            "network.geojson: direction: got none on every street of a motor class, expected motor traffic"
        )
    full = _cache_path(city)
    for path in (full, city.folder / "prior.npz") if compact else (full,):
        prior = _read(path, city)
        if prior is not None:
            progress("prior", 1.0)
            return prior
    _write(full, city, _ensemble(city, MEMBERS, progress))
    prior = _read(full, city)
    if prior is None:
        raise OSError(f"{full}: was written and cannot be read; is the disk full?")
    shutil.rmtree(_parts_folder(city), ignore_errors=True)
    return prior


def _ensemble(city: City, ranks: Mapping[Mode, int], progress: Progress) -> dict[Mode, ModePrior]:
    """Mean, anomalies and responses of stochastic assignments for motor vehicles (as cars) and others."""
    land_use = read_land_use(city)
    priors = {}
    work = {mode: n * ITERATIONS[mode] for mode, n in MEMBERS.items()}
    done, total = 0, sum(work.values())
    for mode, n_members in MEMBERS.items():
        edges = _edges(city, mode)
        if edges.n_edges == 0:
            continue
        graph = edge_graph(edges, city.network.n_nodes)
        zones = build_zones(city, mode, land_use)
        chunks = [range(first, min(first + CHUNK, n_members)) for first in range(0, n_members, CHUNK)]
        # Members share nothing and the trees hold no lock: threads use all cores.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            waiting = [pool.submit(_chunk, city, mode, graph, zones, chunk) for chunk in chunks]
            for number, _ in enumerate(as_completed(waiting)):
                part = (done + work[mode] * (number + 1) / len(chunks)) / total
                progress(f"prior of {mode.name.lower()} flows", min(part, 1.0))
            parts = [future.result() for future in waiting]
        done += work[mode]
        flows = np.concatenate([p["flow"] for p in parts])
        guesses = np.concatenate([p["guesses"] for p in parts])
        turns = np.sum([p["turn"] for p in parts], axis=0) / n_members
        deviations = log_deviations(flows)
        anomalies, lost = log_anomalies(deviations, ranks[mode])
        priors[mode] = ModePrior(
            flow_per_h=flows.mean(axis=0, dtype=np.float64).astype(np.float32),
            turn_flow_per_h=turns.astype(np.float32),
            anomalies=anomalies,
            lost_variance=lost,
            responses=log_responses(deviations, guesses),
        )
    progress("prior", 1.0)
    return priors


def _edges(city: City, mode: Mode) -> DirectedEdges:
    return city.car_edges if mode is Mode.CAR else city.bicycle_edges


def _chunk(city: City, mode: Mode, graph: EdgeGraph, zones: Zones, members: range) -> dict[str, NDArray[Any]]:
    """Some members, from their file if an earlier run finished them."""
    path = _parts_folder(city) / f"{mode.name.lower()}-{members.start}.npz"
    arrays = _load(path)
    if arrays is None:
        made = [draw_member(city, mode, graph, zones, member) for member in members]
        arrays = {
            "flow": np.array([flow for flow, _, _ in made], dtype=np.float32),
            "turn": np.sum([turn for _, turn, _ in made], axis=0),
            "guesses": np.array([guesses for _, _, guesses in made]),
        }
        _save(path, arrays)
    return arrays


def draw_member(
    city: City, mode: Mode, graph: EdgeGraph, zones: Zones, member: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Flows, turning flows and city-wide guesses of one member, each with its own demand and supply."""
    rng = np.random.default_rng([VERSION, int(mode), member])
    edges = _edges(city, mode)
    demand, guesses = draw_demand(zones, mode, rng)
    codes, road_class = np.unique(city.road_class, return_inverse=True)
    class_supply = rng.standard_normal(codes.size)
    supply = np.exp(SUPPLY_SD * (rng.standard_normal(city.network.n_segments) + class_supply[road_class]))
    if mode is Mode.CAR:
        time_s = city.network.length_m / (city.speed_kmh / 3.6) + 4.0  # a crossing costs a few seconds
        capacity = city.class_values("capacity_veh_per_h").astype(float) * city.lanes
    else:
        guess = float(rng.standard_normal())
        aversion = AVERSION_PER_KMH * np.exp(AVERSION_SD * guess)
        guesses = np.append(guesses, guess)
        stress = 1.0 + aversion * np.clip(city.speed_kmh - 30.0, 0.0, 60.0)
        time_s = city.network.length_m / (SPEED_KMH[mode] / 3.6) * stress + 3.0
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
    return flow, turn, np.concatenate([guesses, class_supply])


def _key(city: City) -> str:
    """Name of everything that a prior is made from."""
    land = [city.folder / name for name in ("landcover.tif", "buildings.geojson", "population.csv")]
    return content_key(
        VERSION, city.network_hash, city.settings.get("population"), city.settings.get("road_class"),
        MEMBERS, ITERATIONS, [path.read_bytes() for path in land if path.is_file()],
    )  # fmt: skip


def _cache_path(city: City) -> Path:
    return cache_folder() / f"prior-{_key(city)}.npz"


def _parts_folder(city: City) -> Path:
    folder = cache_folder() / f"prior-{_key(city)}-members"
    folder.mkdir(exist_ok=True)
    return folder


def _save(path: Path, arrays: Mapping[str, NDArray[Any]], *, compress: bool = False) -> None:
    """Write a file that is there as a whole or not at all."""
    part = path.with_name(f"{path.stem}.part.npz")
    (np.savez_compressed if compress else np.savez)(part, **arrays)  # type: ignore[arg-type]
    part.replace(path)


def _load(path: Path) -> dict[str, NDArray[Any]] | None:
    """Arrays of a file, None when it is not there or was cut off."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            return {name: file[name] for name in file.files}
    except (zipfile.BadZipFile, ValueError, EOFError):
        return None  # cut off while it was written: computed again


def _write(path: Path, city: City, priors: Mapping[Mode, ModePrior]) -> None:
    arrays: dict[str, NDArray[Any]] = {
        "network_hash": np.array(city.network_hash), "format": np.array(FORMAT),
        "revision": np.array(f"{_key(city)[:8]} rank {priors[Mode.CAR].anomalies.shape[1]}"),
    }  # fmt: skip
    for mode, prior in priors.items():
        arrays |= {f"{mode.name.lower()}_{name}": values for name, values in pack(prior).items()}
    _save(path, arrays, compress=True)


def _read(path: Path, city: City) -> Prior | None:
    """Prior of a file, None when there is none for this network."""
    arrays = _load(path)
    if arrays is None or int(arrays.get("format", -1)) != FORMAT:
        return None
    if str(arrays.get("network_hash")) != city.network_hash:
        return None

    def of(name: str) -> ModePrior:
        return unpack({field: arrays[f"{name}_{field}"] for field in FIELDS})

    motor = _with_probes(of("car"), city)
    segment = city.car_edges.segment
    trucks, buses = (city.class_values(f"{n}_share").astype(float)[segment] for n in ("truck", "bus"))
    modes = {Mode.CAR: with_share(motor, 1.0 - trucks - buses), Mode.TRUCK: with_share(motor, trucks)}
    if buses.any():
        modes[Mode.BUS] = with_share(motor, buses)
    for mode in (Mode.BICYCLE, Mode.PEDESTRIAN):
        if f"{mode.name.lower()}_flow" in arrays:  # a network of motor roads alone has none
            modes[mode] = of(mode.name.lower())
    return Prior(city.network_hash, modes, str(arrays["revision"]))


def _with_probes(prior: ModePrior, city: City) -> ModePrior:
    """Prior of motor vehicles with the history of floating cars, where the pack has one."""
    probes = read_probes(city)
    if probes is None:
        return prior
    edges = city.car_edges
    vehicles = probes.vehicles[edges.segment, edges.direction]
    return replace(prior, probe_log_flow=probe_log_flow(vehicles, probes.hours, prior.flow_per_h))


def main(arguments: list[str] | None = None) -> int:
    """Write prior.npz into a city pack."""
    parser = argparse.ArgumentParser(
        description=main.__doc__, epilog="example: python -m studies.prior cities/<name>"
    )
    parser.add_argument("city", type=Path, help="folder of the city pack")
    city = load_city(parser.parse_args(arguments).city)
    priors = _ensemble(
        city, COMPACT_RANK,
        lambda what, part: print(f"\r{what}: {part:.0%}", end="", file=sys.stderr, flush=True),
    )  # fmt: skip
    _write(city.folder / "prior.npz", city, priors)
    print(file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
