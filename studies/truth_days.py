"""One clock time of one day as a benchmark's truth, and the mean of the days before it.

    python -m studies.truth_days cities/ghent --at 07:50 --days 20 --out benchmarks/data/ghent
    python -m studies.truth_days cities/ghent --at 07:50 --days 20 --out benchmarks/data/ghent --stressed

Drivers know the usual travel times: those of the equilibrium of the usual day, without a closure. Today and
each of the past days has a demand of its own, which is loaded on them from every node. Writes
``truth_open.csv.gz`` (today: cars, trucks, bicycles) and ``past_days.csv.gz`` (the mean of the past days,
cars alone, for a history of floating cars; its rows carry the date of today), or ``truth_stressed.csv.gz``
and ``past_days_stressed.csv.gz``. The rates at the clock time stand for the quarter of an hour it is in.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from studies.truth import SLOWEST_KMH, TRUCK_LIMIT_KMH, period_rows, write_rows
from studies.truth_demand import TRUCK_UNITS, Zones, sectors
from studies.truth_morning import Morning, minute_of, read_morning
from studies.truth_network import Edges, Streets, read_streets
from studies.truth_traffic import MotorTraffic, Report, Trips, bicycle_traffic, motor_traffic

# How one day's demand differs from another's: log sd of the trips that begin, and that end, in a sector; of a
# pair of sectors; of a pair of zones; and the part of the sectors' variance that all share (weather).
SECTOR_LOG_SD, SECTOR_PAIR_LOG_SD, ZONE_PAIR_LOG_SD = 0.1, 0.12, 0.3
SHARED = 0.25
TODAY = 0
WINDOW_MIN = 15


def day_factor(zones: Zones, seed: int, day: int) -> Trips:
    """Factor of one day on the usual trips between zones, mean about 1, (n_zones, n_zones)."""
    rng = np.random.default_rng([seed, 11, day])
    sector = sectors(zones, seed)
    n_sectors = int(sector.max()) + 1
    shared, own = rng.normal(size=(2, 1)), rng.normal(size=(2, n_sectors))
    begins, ends = np.sqrt(SHARED) * shared + np.sqrt(1.0 - SHARED) * own
    log_sector = SECTOR_LOG_SD * (begins[:, None] + ends[None])
    log_sector += SECTOR_PAIR_LOG_SD * rng.normal(size=(n_sectors, n_sectors))
    log_zone = ZONE_PAIR_LOG_SD * rng.normal(size=(len(zones.xy),) * 2)
    variance = SECTOR_PAIR_LOG_SD**2 + ZONE_PAIR_LOG_SD**2
    return np.exp(log_sector[sector[:, None], sector[None]] + log_zone - variance / 2.0)


def todays_rows(
    morning: Morning,
    streets: Streets,
    traffic: MotorTraffic,
    time_s: NDArray[np.float64],
    clock_min: int,
    report: Report = print,
) -> list[str]:
    """Rows of a truth file: the window of a clock time, today."""
    factor = day_factor(traffic.zones, morning.seed, TODAY)
    cars, trucks = traffic.trips_at(clock_min)
    car, truck = traffic.load(time_s, cars * factor, trucks * factor)
    speed = np.maximum(traffic.edges.speed_kmh(car + TRUCK_UNITS * truck), SLOWEST_KMH)
    cycling, bicycle = bicycle_traffic(
        morning, streets, np.array([float(clock_min)]), report,
        partial(day_factor, seed=morning.seed + 1, day=TODAY),
    )  # fmt: skip
    rows = partial(_window_rows, morning, streets, clock_min)
    return [
        *rows(traffic.edges, "car", car[:, None], speed[:, None]),
        *rows(traffic.edges, "truck", truck[:, None], np.minimum(speed, TRUCK_LIMIT_KMH)[:, None]),
        *rows(cycling, "bicycle", bicycle.astype(np.float64)),
    ]


def mean_of_past_days(
    traffic: MotorTraffic, time_s: NDArray[np.float64], clock_min: int, n_days: int
) -> NDArray[np.float64]:
    """Mean flow of cars at a clock time over the days before today, (n_edges,) [1/h].

    On given times and tastes flows are linear in trips: the mean of the days' trips makes the mean flow.
    """
    cars, _ = traffic.trips_at(clock_min)
    factors = [day_factor(traffic.zones, traffic.seed, day) for day in range(1, n_days + 1)]
    return traffic.load_cars(time_s, cars * np.mean(factors, axis=0))


def _window_rows(
    morning: Morning,
    streets: Streets,
    clock_min: int,
    edges: Edges,
    mode: str,
    flow: NDArray[np.float64],
    speed: NDArray[np.float64] | None = None,
) -> Iterator[str]:
    start = morning.midnight + timedelta(minutes=clock_min // WINDOW_MIN * WINDOW_MIN)
    return period_rows(streets, edges, mode, [start], WINDOW_MIN, flow, speed)


def main(arguments: list[str] | None = None) -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(
        prog="python -m studies.truth_days",
        description="Make the true traffic of one clock time, and the mean of the days before.",
        epilog="example: python -m studies.truth_days cities/ghent --at 07:50 --days 20 --out OUT",
    )
    parser.add_argument("city", type=Path, help="city folder with network.geojson, city.toml, study.toml")
    parser.add_argument("--at", default="07:50", help="local time HH:MM")
    parser.add_argument("--days", type=int, default=0, help="how many days before it; 0: none")
    parser.add_argument("--stressed", action="store_true", help="a city that fits assumptions badly")
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    options = parser.parse_args(arguments)
    morning = read_morning(options.city)
    if options.stressed:
        morning = morning.stressed()
    streets = read_streets(options.city / "network.geojson", morning.crs)
    clock_min = minute_of(options.at)
    traffic = motor_traffic(morning, streets)
    time_s = traffic.equilibrium_time_s(clock_min, print)
    options.out.mkdir(parents=True, exist_ok=True)
    today = options.out / ("truth_stressed.csv.gz" if options.stressed else "truth_open.csv.gz")
    write_rows(todays_rows(morning, streets, traffic, time_s, clock_min), today)
    print(f"{today}: {today.stat().st_size / 1e6:.2f} MB")
    if options.days:
        past = options.out / ("past_days_stressed.csv.gz" if options.stressed else "past_days.csv.gz")
        mean = mean_of_past_days(traffic, time_s, clock_min, options.days)
        rows = _window_rows(morning, streets, clock_min, traffic.edges, "car", mean[:, None])
        write_rows(list(rows), past)
        print(f"{past}: {past.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
