"""The two truths of a quarter of an hour that the fusion benchmark reads: small, plausible, and not alike."""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

HOME = Path(__file__).resolve().parents[2]
DATA = HOME / "benchmarks" / "data" / "ghent"
Key = tuple[str, str]


@pytest.fixture(scope="module")
def streets() -> dict[str, dict[str, object]]:
    features = json.loads((HOME / "cities" / "ghent" / "network.geojson").read_text())["features"]
    return {f["properties"]["id"]: f["properties"] for f in features}


def flows(name: str, mode: str) -> dict[Key, float]:
    with gzip.open(DATA / f"{name}.csv.gz", "rt", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["mode"] == mode]
    assert {(r["start_utc"], r["minutes"]) for r in rows} == {("2022-11-23T06:45:00Z", "15")}
    return {(r["segment_id"], r["direction"]): float(r["flow_per_h"]) for r in rows}


def side_by_side(*files: dict[Key, float]) -> NDArray[np.float64]:
    keys = sorted(set().union(*files))
    return np.array([[file.get(key, 0.0) for key in keys] for file in files])


def wape(estimate: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    busy = true >= 50
    return float(np.abs(estimate - true)[busy].sum() / true[busy].sum())


def test_files_are_small() -> None:
    sizes = {path.name: path.stat().st_size for path in DATA.glob("*.csv.gz")}
    assert set(sizes) == {
        "truth_open.csv.gz", "truth_stressed.csv.gz", "past_days.csv.gz", "past_days_stressed.csv.gz"
    }  # fmt: skip
    assert max(sizes.values()) < 400_000


@pytest.mark.parametrize("name", ["truth_open", "truth_stressed"])
def test_levels_are_plausible(name: str, streets: dict[str, dict[str, object]]) -> None:
    cars = flows(name, "car")
    edges: Counter[object] = Counter()
    for street in streets.values():
        edges[street["road_class"]] += {"none": 0, "both": 2}.get(str(street["direction"]), 1)

    def quantile(road_class: int, q: float) -> float:
        of_class = [f for (s, _), f in cars.items() if streets[s]["road_class"] == road_class]
        return float(np.quantile(of_class + [0.0] * (edges[road_class] - len(of_class)), q))

    assert 2_300 < quantile(0, 0.9) < 3_300
    assert 400 < quantile(2, 0.5) < 900
    assert 1_300 < quantile(2, 0.9) < 1_900
    assert 10 < quantile(6, 0.5) < 60
    assert 1 < quantile(7, 0.5) < 20
    bicycles = np.array([*flows(name, "bicycle").values()])
    assert 0.05 < (bicycles >= 50).sum() / 27_980 < 0.2


def test_the_stressed_city_is_another_one() -> None:
    for mode in ("car", "bicycle"):
        true, stressed = side_by_side(flows("truth_open", mode), flows("truth_stressed", mode))
        assert wape(stressed, true) > 0.4


@pytest.mark.parametrize(
    ("truth", "past"), [("truth_open", "past_days"), ("truth_stressed", "past_days_stressed")]
)
def test_today_is_like_the_days_before_it_but_for_a_tenth(truth: str, past: str) -> None:
    today, mean = side_by_side(flows(truth, "car"), flows(past, "car"))
    assert 0.04 < wape(mean, today) < 0.15
