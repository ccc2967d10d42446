"""What the truth is asked for: the day, the closure, the reference counter of a city's ``study.toml``."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studies.truth_stress import STRESSED_SEED_STEP, UNSTRESSED, Stress, draw_stress

SMOOTHING_MIN = 7.0  # sd of the Gaussian over the counter's 5-minute counts: their noise is not the truth's


@dataclass(frozen=True, slots=True)
class Closure:
    """Segments that carry nothing from one local minute of the day to another."""

    segments: tuple[str, ...]
    from_min: int
    to_min: int


@dataclass(frozen=True, slots=True)
class ReferenceCounter:
    """A real bicycle counter that the truth agrees with.

    Attributes
    ----------
    sensor, segment : str
    start_min : (n,) int64
        Start of each 5-minute count, local minute of the day.
    counts : (n, 2) int64
        Forward and backward.
    """

    sensor: str
    segment: str
    start_min: NDArray[np.int64]
    counts: NDArray[np.int64]

    def rate_per_h(self, minutes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Smoothed rate of both directions at local minutes of the day, (n_minutes, 2) [1/h]."""
        distance = minutes[:, None] - (self.start_min + 2.5)[None]
        weight = np.exp(-0.5 * (distance / SMOOTHING_MIN) ** 2)
        rate: NDArray[np.float64] = 12.0 * (weight @ self.counts) / weight.sum(axis=1, keepdims=True)
        return rate


@dataclass(frozen=True, slots=True)
class Morning:
    """One simulated stretch of a day in one city.

    ``start_min`` and ``end_min`` are local minutes of the day, ``midnight`` is local midnight in UTC.
    """

    folder: Path
    city: str
    crs: str
    seed: int
    midnight: datetime
    start_min: int
    end_min: int
    sunrise_min: int
    n_zones: int
    closure: Closure | None
    counter: ReferenceCounter | None
    settings: Mapping[str, Any]
    stress: Stress = UNSTRESSED

    @property
    def n_minutes(self) -> int:
        return self.end_min - self.start_min

    @property
    def start(self) -> datetime:
        return self.midnight + timedelta(minutes=self.start_min)

    @property
    def end(self) -> datetime:
        return self.midnight + timedelta(minutes=self.end_min)

    @property
    def middles_min(self) -> NDArray[np.float64]:
        """Middle of every minute, local minutes of the day, (n_minutes,)."""
        return self.start_min + 0.5 + np.arange(self.n_minutes, dtype=np.float64)

    def with_closure(self, closure: Closure | None) -> Morning:
        """The same morning with another closure, or none."""
        return replace(self, closure=closure)

    def stressed(self) -> Morning:
        """The same morning in a city that fits an estimator's assumptions badly."""
        seed = self.seed + STRESSED_SEED_STEP
        return replace(self, seed=seed, stress=draw_stress(seed))


def read_morning(folder: Path) -> Morning:
    """Read ``city.toml`` (name and coordinate system only) and ``study.toml`` of a city folder."""
    city = tomllib.loads((folder / "city.toml").read_text())["city"]
    settings = tomllib.loads((folder / "study.toml").read_text())
    closure = settings.get("closure")
    counter = settings.get("reference_counter")
    return Morning(
        folder=folder,
        city=city["name"],
        crs=city["crs"],
        seed=int(settings["seed"]),
        midnight=datetime.fromisoformat(settings["date"]).replace(tzinfo=UTC)
        - timedelta(hours=settings["utc_offset_h"]),
        start_min=minute_of(settings["from"]),
        end_min=minute_of(settings["to"]),
        sunrise_min=minute_of(settings["sunrise"]),
        n_zones=int(settings["zones"]),
        closure=None
        if closure is None
        else Closure(tuple(closure["segments"]), minute_of(closure["from"]), minute_of(closure["to"])),
        counter=None if counter is None else _read_counter(folder, counter),
        settings=settings,
    )


def minute_of(clock: str) -> int:
    """Minute of the day of ``HH:MM``."""
    hour, minute = clock.split(":")
    return 60 * int(hour) + int(minute)


def _read_counter(folder: Path, settings: Mapping[str, str]) -> ReferenceCounter:
    with (folder / settings["file"]).open(newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter=";"))
    columns = (settings["forward"], settings["backward"])
    return ReferenceCounter(
        sensor=settings["sensor"],
        segment=settings["segment"],
        start_min=np.array([minute_of(row["Uur5Minuten"].rsplit(":", 1)[0]) for row in rows]),
        counts=np.array([[int(row[column]) for column in columns] for row in rows]),
    )
