"""The true traffic of a morning, against which fusion is measured.

An equilibrium of zones by aequilibrae at several clock times, loaded from every node with its own tastes; a
closure is a second set of assignments on the network without the closed segments. Nothing here knows how
an estimator works: no import from the packages that make one, own zones, own speeds, own demand.

    python -m studies.truth cities/ghent --no-closure --fine open.npz
    python -m studies.truth cities/ghent --undisturbed open.npz --out cities/ghent --fine closed.npz
    python -m studies.truth cities/ghent --undisturbed open.npz --fine other.npz \\
        --close ID,ID --from 08:10 --to 08:50

``truth.csv.gz`` goes to ``--out`` (see the interchange formats), the flow of every minute to ``--fine``.
"""

from __future__ import annotations

import argparse
import gzip
import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from studies.truth_demand import (
    ANCHORS_MIN,
    PURPOSE_CLOCK,
    TRUCK_UNITS,
    Zones,
    bicycle_matrix,
    make_zones,
    purpose_matrices,
)
from studies.truth_loading import equilibrium_time_s, load_trips
from studies.truth_morning import Closure, Morning, minute_of, read_morning
from studies.truth_network import DIRECTIONS, Edges, Streets, bicycle_edges, car_edges, read_streets

SLOWEST_KMH = 5.0
TRUCK_LIMIT_KMH = 85.0
DELIVERY_SHARE = 0.015  # of cars on every street that are light trucks on a round: parcels, bins, builders
TRUCK_DETOUR = np.array([1.0, 1.0, 1.05, 1.15, 1.35, 1.6, 2.0, 2.4, 2.0, 2.0, 3.0])  # felt time by class
LEAST_FLOW_PER_H = 0.5  # a street that never carries so much of a mode has no rows


@dataclass(frozen=True, slots=True)
class Truth:
    """Mean flow of every minute.

    Attributes
    ----------
    car_edges, bicycle_edges : Edges
    car, truck, speed_kmh : (n_car_edges, n_minutes) float32
        Flows [1/h] and the speed of cars [km/h]; NaN speed while closed.
    bicycle : (n_bicycle_edges, n_minutes) float32
        [1/h]
    """

    car_edges: Edges
    bicycle_edges: Edges
    car: NDArray[np.float32]
    truck: NDArray[np.float32]
    speed_kmh: NDArray[np.float32]
    bicycle: NDArray[np.float32]

    @property
    def flow(self) -> dict[str, NDArray[np.float32]]:
        """Flows by mode."""
        return {"car": self.car, "truck": self.truck, "bicycle": self.bicycle}


def make_truth(
    morning: Morning,
    streets: Streets,
    *,
    undisturbed: Truth | None = None,
    gap: float = 0.005,
    report: Callable[[str], None] = print,
) -> Truth:
    """True flows of a morning.

    Parameters
    ----------
    morning : Morning
    streets : Streets
    undisturbed : Truth, optional
        The same morning without a closure, if it is already known: only the closure is then assigned.
    gap : float
        Relative gap of the equilibrium.
    report : callable
        Told what was done.
    """
    edges = car_edges(streets, morning.seed)
    zones = make_zones(streets, edges, morning.seed, morning.n_zones)
    street_km = float(streets.length_m[streets.road_class <= 8].sum()) / 1000.0
    purposes = purpose_matrices(zones, street_km, morning.seed)
    minutes = _middles(morning)

    def assigned(times: list[int], network: Edges, label: str) -> NDArray[np.float64]:
        flows = []
        for time in times:
            trips = [_trips_at(purposes, time, goods) for goods in (False, True)]
            units = trips[0] + TRUCK_UNITS * trips[1]
            time_s, reached = equilibrium_time_s(network, zones.access, units, gap=gap)
            flows.append(_load_motor(network, zones, time_s, trips, morning.seed))
            clock = f"{time // 60:02d}:{time % 60:02d}"
            report(f"{label} {clock}: {trips[0].sum():.0f} cars/h, gap {reached:.4f}")
        return _interpolated(np.array(flows), np.array(times, dtype=np.float64), minutes)

    inner = {a for a in ANCHORS_MIN if morning.start_min < a < morning.end_min}
    if undisturbed is None:
        flow = assigned(sorted({morning.start_min, morning.end_min, *inner}), edges, "open").astype(
            np.float32
        )
        cycling, bicycle = _bicycles(morning, streets, report)
    else:
        flow = np.stack([undisturbed.car, undisturbed.truck])
        cycling, bicycle = undisturbed.bicycle_edges, undisturbed.bicycle
    shut = np.zeros(edges.segment.size, dtype=bool)
    during = np.zeros(morning.n_minutes, dtype=bool)
    if morning.closure is not None:
        shut = closed_edges(streets, edges, morning.closure)
        start, end = morning.closure.from_min, morning.closure.to_min
        during = (minutes > start) & (minutes < end)
        times = sorted({start, end, *(a for a in inner if start < a < end)})
        flow[:, :, during] = assigned(times, edges.without(shut), "closed")[:, :, during]
    speed = _speeds(edges, flow, shut, during)
    return Truth(edges, cycling, flow[0], flow[1], speed, bicycle)


def _middles(morning: Morning) -> NDArray[np.float64]:
    """Middle of every minute, local minutes of the day, (n_minutes,)."""
    return morning.start_min + 0.5 + np.arange(morning.n_minutes, dtype=np.float64)


def _speeds(
    edges: Edges, flow: NDArray[np.float32], shut: NDArray[np.bool_], during: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Speed of every minute, NaN where closed, (n_edges, n_minutes) [km/h]."""
    speed = np.empty(flow.shape[1:], dtype=np.float32)
    for k in range(flow.shape[2]):
        speed[:, k] = edges.speed_kmh(flow[0, :, k].astype(np.float64) + TRUCK_UNITS * flow[1, :, k])
    speed = np.maximum(speed, np.float32(SLOWEST_KMH))
    speed[np.ix_(shut, during)] = np.nan
    return speed


def closed_edges(streets: Streets, edges: Edges, closure: Closure) -> NDArray[np.bool_]:
    """Edges of closed segments, (n_edges,).

    Raises
    ------
    ValueError
        For a segment that the network does not have.
    """
    index = {identifier: i for i, identifier in enumerate(streets.ids)}
    unknown = [s for s in closure.segments if s not in index]
    if unknown:
        raise ValueError(f"close: got {', '.join(unknown)}, expected ids of network.geojson")
    return np.isin(edges.segment, [index[s] for s in closure.segments])


def _trips_at(purposes: dict[str, NDArray[np.float64]], time_min: float, goods: bool) -> NDArray[np.float64]:
    total = np.zeros_like(next(iter(purposes.values())))
    for purpose, trips in purposes.items():
        if purpose.startswith("goods") == goods:
            total += trips * np.interp(time_min, ANCHORS_MIN, PURPOSE_CLOCK[purpose])
    return total


def _load_motor(
    edges: Edges, zones: Zones, time_s: NDArray[np.float64], trips: list[NDArray[np.float64]], seed: int
) -> NDArray[np.float64]:
    """Cars and trucks, (2, n_edges) [1/h]."""
    flows = []
    for mode, felt in enumerate((time_s, time_s * TRUCK_DETOUR[edges.road_class])):
        flow = load_trips(
            edges,
            felt,
            zones.node,
            zones.zone,
            zones.share,
            zones.destinations,
            trips[mode],
            seed=seed + mode,
        )[0]
        flows.append(flow)
    car, truck = flows
    return np.stack([(1.0 - DELIVERY_SHARE) * car, truck + DELIVERY_SHARE * car])


def _interpolated(
    values: NDArray[np.float64], at: NDArray[np.float64], times: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Linear in time, (n_at, modes, edges) to (modes, edges, n_times); sums over nodes stay balanced."""
    later = np.clip(np.searchsorted(at, times), 1, at.size - 1)
    weight = np.clip((times - at[later - 1]) / (at[later] - at[later - 1]), 0.0, 1.0)
    mixed = values[later - 1] * (1.0 - weight)[:, None, None] + values[later] * weight[:, None, None]
    return np.moveaxis(mixed, 0, -1)


def _bicycles(
    morning: Morning, streets: Streets, report: Callable[[str], None]
) -> tuple[Edges, NDArray[np.float32]]:
    """Bicycles of every minute; trips past the reference counter are scaled to what it counted."""
    edges = bicycle_edges(streets, morning.seed, morning.settings.get("cycle_streets"))
    zones = make_zones(streets, edges, morning.seed + 1, morning.n_zones)
    street_km = float(streets.length_m[(streets.road_class > 1) & (streets.road_class <= 8)].sum()) / 1000.0
    minutes = _middles(morning)
    counter = morning.counter
    watched = np.zeros(0, dtype=np.int64)
    clock = np.exp(-0.5 * ((minutes - 492.0) / 38.0) ** 2) + 0.12
    if counter is not None:
        segment = streets.ids.index(counter.segment)
        watched = np.flatnonzero(edges.segment == segment)  # forward, then backward
        clock = counter.rate_per_h(minutes).sum(axis=1)
    clock = clock / clock.max()
    flows = load_trips(
        edges, edges.free_time_s, zones.node, zones.zone, zones.share, zones.destinations,
        bicycle_matrix(zones, street_km, morning.seed), seed=morning.seed + 2, watched=watched,
    )  # fmt: skip
    bicycle = (flows[0] - flows[1:].sum(axis=0)).clip(min=0.0)[:, None] * clock
    if counter is not None:
        wanted = counter.rate_per_h(minutes)
        for k, edge in enumerate(watched):
            natural = flows[1 + k, edge]
            counted = wanted[:, k].max()
            report(f"bicycles past the counter, {DIRECTIONS[k]}: {natural:.0f}/h, counted {counted:.0f}/h")
            bicycle += (flows[1 + k] / max(natural, 1.0))[:, None] * wanted[:, k]
    return edges, bicycle.astype(np.float32)


def write_truth(truth: Truth, morning: Morning, streets: Streets, path: Path, minutes: int = 15) -> int:
    """Write ``truth.csv.gz``; returns the number of rows."""
    starts = [
        (morning.start + timedelta(minutes=m)).strftime("%Y-%m-%dT%H:%M:%SZ")
        for m in range(0, morning.n_minutes, minutes)
    ]
    text = io.StringIO()
    text.write("segment_id,direction,mode,start_utc,minutes,flow_per_h,speed_kmh\n")
    n_rows = 0
    parts = (
        ("car", truth.car_edges, truth.car, truth.speed_kmh),
        ("truck", truth.car_edges, truth.truck, np.minimum(truth.speed_kmh, TRUCK_LIMIT_KMH)),
        ("bicycle", truth.bicycle_edges, truth.bicycle, None),
    )
    for mode, edges, flow, speed in parts:
        flow_mean, speed_mean = period_means(flow, speed, minutes)
        for e in np.flatnonzero((flow_mean >= LEAST_FLOW_PER_H).any(axis=1)):
            name = f"{streets.ids[edges.segment[e]]},{DIRECTIONS[edges.direction[e]]},{mode}"
            for k, start in enumerate(starts):
                shown = "" if speed_mean is None or np.isnan(speed_mean[e, k]) else f"{speed_mean[e, k]:.0f}"
                text.write(f"{name},{start},{minutes},{_three_digits(flow_mean[e, k])},{shown}\n")
                n_rows += 1
    with (
        path.open("wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0, compresslevel=9) as out,
    ):
        out.write(text.getvalue().encode())
    return n_rows


def period_means(
    flow: NDArray[np.float32], speed: NDArray[np.float32] | None, minutes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Mean flow, and mean speed of the vehicles, of periods: (n_edges, n_periods) each."""
    shape = (flow.shape[0], -1, minutes)
    by_period = flow.reshape(shape).astype(np.float64)
    if speed is None:
        return by_period.mean(axis=2), None
    weight = np.where(np.isnan(speed), 0.0, flow + 1e-3).reshape(shape)
    total = weight.sum(axis=2)
    moving = (np.nan_to_num(speed).reshape(shape) * weight).sum(axis=2)
    return by_period.mean(axis=2), np.where(total > 0, moving / np.maximum(total, 1e-9), np.nan)


def _three_digits(flow: float) -> str:
    return f"{flow:.0f}" if flow >= 99.95 else f"{flow:.3g}" if flow >= 10 else f"{flow:.1f}"


def save_fine(truth: Truth, path: Path) -> None:
    """Keep the flow of every minute, for the observation models."""
    np.savez(
        path,
        car_segment=truth.car_edges.segment,
        car_direction=truth.car_edges.direction,
        bicycle_segment=truth.bicycle_edges.segment,
        bicycle_direction=truth.bicycle_edges.direction,
        car=truth.car,
        truck=truth.truck,
        speed_kmh=truth.speed_kmh,
        bicycle=truth.bicycle,
    )


def read_fine(path: Path, cars: Edges, bicycles: Edges) -> Truth:
    """Read what :func:`save_fine` kept.

    Raises
    ------
    ValueError
        If it belongs to another network.
    """
    with np.load(path) as kept:
        for mode, edges in (("car", cars), ("bicycle", bicycles)):
            if not np.array_equal(kept[f"{mode}_segment"], edges.segment):
                raise ValueError(f"{path}: {mode}_segment: is of another network than network.geojson")
        return Truth(cars, bicycles, kept["car"], kept["truck"], kept["speed_kmh"], kept["bicycle"])


def closure_from(arguments: argparse.Namespace, given: Closure | None) -> Closure | None:
    """The closure the command line asks for."""
    if arguments.no_closure:
        return None
    if arguments.close is None:
        return given
    return Closure(
        tuple(arguments.close.split(",")), minute_of(arguments.close_from), minute_of(arguments.close_to)
    )


def main(arguments: list[str] | None = None) -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(
        prog="python -m studies.truth",
        description="Make the true traffic of a city's simulated morning.",
        epilog="example: python -m studies.truth cities/ghent --out cities/ghent --fine fine.npz",
    )
    parser.add_argument("city", type=Path, help="city folder with network.geojson, city.toml, study.toml")
    parser.add_argument("--out", type=Path, help="folder for truth.csv.gz")
    parser.add_argument("--fine", type=Path, help="file for the flow of every minute (.npz)")
    parser.add_argument(
        "--undisturbed",
        type=Path,
        help="what --fine kept of the same morning without a closure: saves its part",
    )
    parser.add_argument("--close", help="segment ids to close, instead of those of study.toml")
    parser.add_argument("--from", dest="close_from", default="08:10", help="local time HH:MM")
    parser.add_argument("--to", dest="close_to", default="08:50", help="local time HH:MM")
    parser.add_argument("--no-closure", action="store_true", help="close nothing")
    options = parser.parse_args(arguments)
    morning = read_morning(options.city)
    morning = morning.with_closure(closure_from(options, morning.closure))
    streets = read_streets(options.city / "network.geojson", morning.crs)
    undisturbed = None
    if options.undisturbed is not None:
        edges = car_edges(streets, morning.seed), bicycle_edges(streets, morning.seed)
        undisturbed = read_fine(options.undisturbed, *edges)
    truth = make_truth(morning, streets, undisturbed=undisturbed)
    if options.fine is not None:
        save_fine(truth, options.fine)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        path = options.out / "truth.csv.gz"
        n_rows = write_truth(truth, morning, streets, path)
        print(f"{path}: {n_rows} rows, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
