"""The true traffic of a morning, against which fusion is measured.

An equilibrium of zones by aequilibrae at several clock times, loaded from every node with its own tastes; a
closure is a second set of assignments on the network without the closed segments. Nothing here knows how
an estimator works: no import from the packages that make one, own zones, own speeds, own demand.

    python -m studies.truth cities/ghent --no-closure --fine open.npz
    python -m studies.truth cities/ghent --undisturbed open.npz --out cities/ghent --fine closed.npz
    python -m studies.truth cities/ghent --undisturbed open.npz --fine other.npz \\
        --close ID,ID --from 08:10 --to 08:50

``truth.csv.gz`` goes to ``--out`` (see the interchange formats), the flow of every minute to ``--fine``. With
``--stressed`` it is another city on the same streets, see :mod:`studies.truth_stress`. One clock time alone,
and the days before it: :mod:`studies.truth_days`.
"""

from __future__ import annotations

import argparse
import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from studies.truth_demand import ANCHORS_MIN, TRUCK_UNITS
from studies.truth_morning import Closure, Morning, minute_of, read_morning
from studies.truth_network import DIRECTIONS, Edges, Streets, bicycle_edges, car_edges, read_streets
from studies.truth_traffic import Report, bicycle_traffic, motor_traffic

SLOWEST_KMH = 5.0
TRUCK_LIMIT_KMH = 85.0
HEADER = "segment_id,direction,mode,start_utc,minutes,flow_per_h,speed_kmh"
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
    report: Report = print,
) -> Truth:
    """True flows of a morning.

    Parameters
    ----------
    morning : Morning
    streets : Streets
    undisturbed : Truth, optional
        The same morning without a closure, if it is already known: only the closure is then assigned.
    report : callable
        Told what was done.
    """
    traffic = motor_traffic(morning, streets)
    edges, minutes = traffic.edges, morning.middles_min

    def assigned(times: list[int], network: Edges | None = None) -> NDArray[np.float64]:
        flows = [
            traffic.load(traffic.equilibrium_time_s(time, report, network), *traffic.trips_at(time))
            for time in times
        ]
        return _interpolated(np.array(flows), np.array(times, dtype=np.float64), minutes)

    inner = {a for a in ANCHORS_MIN if morning.start_min < a < morning.end_min}
    if undisturbed is None:
        flow = assigned(sorted({morning.start_min, morning.end_min, *inner})).astype(np.float32)
        cycling, bicycle = bicycle_traffic(morning, streets, minutes, report)
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
        flow[:, :, during] = assigned(times, edges.without(shut))[:, :, during]
    speed = speeds_kmh(edges, flow, shut, during)
    return Truth(edges, cycling, flow[0], flow[1], speed, bicycle)


def speeds_kmh(
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


def _interpolated(
    values: NDArray[np.float64], at: NDArray[np.float64], times: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Linear in time, (n_at, modes, edges) to (modes, edges, n_times); sums over nodes stay balanced."""
    later = np.clip(np.searchsorted(at, times), 1, at.size - 1)
    weight = np.clip((times - at[later - 1]) / (at[later] - at[later - 1]), 0.0, 1.0)
    mixed = values[later - 1] * (1.0 - weight)[:, None, None] + values[later] * weight[:, None, None]
    return np.moveaxis(mixed, 0, -1)


def write_truth(truth: Truth, morning: Morning, streets: Streets, path: Path, minutes: int = 15) -> int:
    """Write ``truth.csv.gz``; returns the number of rows."""
    starts = [morning.start + timedelta(minutes=m) for m in range(0, morning.n_minutes, minutes)]
    rows: list[str] = []
    for mode, edges, flow, speed in (
        ("car", truth.car_edges, truth.car, truth.speed_kmh),
        ("truck", truth.car_edges, truth.truck, np.minimum(truth.speed_kmh, TRUCK_LIMIT_KMH)),
        ("bicycle", truth.bicycle_edges, truth.bicycle, None),
    ):
        rows += period_rows(streets, edges, mode, starts, minutes, *period_means(flow, speed, minutes))
    write_rows(rows, path)
    return len(rows)


def period_rows(
    streets: Streets,
    edges: Edges,
    mode: str,
    starts: list[datetime],
    minutes: int,
    flow: NDArray[np.float64],
    speed: NDArray[np.float64] | None = None,
) -> Iterator[str]:
    """Rows of a truth file of one mode, flow and speed (n_edges, n_periods) [1/h, km/h]."""
    stamps = [start.strftime("%Y-%m-%dT%H:%M:%SZ") for start in starts]
    for e in np.flatnonzero((flow >= LEAST_FLOW_PER_H).any(axis=1)):
        name = f"{streets.ids[edges.segment[e]]},{DIRECTIONS[edges.direction[e]]},{mode}"
        for k, stamp in enumerate(stamps):
            shown = "" if speed is None or np.isnan(speed[e, k]) else f"{speed[e, k]:.0f}"
            yield f"{name},{stamp},{minutes},{_three_digits(flow[e, k])},{shown}"


def write_rows(rows: list[str], path: Path) -> None:
    """A gzipped truth file; the same rows make the same bytes."""
    text = "\n".join([HEADER, *rows]) + "\n"
    with (
        path.open("wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0, compresslevel=9) as out,
    ):
        out.write(text.encode())


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
    parser.add_argument("--stressed", action="store_true", help="a city that fits assumptions badly")
    parser.add_argument("--no-closure", action="store_true", help="close nothing")
    options = parser.parse_args(arguments)
    morning = read_morning(options.city)
    if options.stressed:
        morning = morning.stressed()
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
