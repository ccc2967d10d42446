"""Scores of what was published against a truth, on streets with and without a counter.

Errors are of edges and windows whose *truth* is at least 50/h, as they are usually quoted. Coverage and the
accuracy score are conditioned on the estimate or on the class, never on the truth: choosing by the truth
chooses by the error too, and makes a calibrated method look wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from agents.fusion_counters import INSTRUMENTS
from cities.pack import City
from kernels.network import Direction, Mode
from kernels.predictive import CountPrediction
from kernels.scores import (
    calibration_error,
    crps_flow,
    crps_log,
    geh,
    pit_histogram,
    reliability,
    wape,
    within_band,
)
from studies.evaluate_truth import Truth
from studies.evaluate_windows import Published

JUDGED_PER_H = 50.0
PIT_BINS, SCORE_BINS, TENTHS = 20, 10, 10
DISTANCE_BANDS_M = (0.0, 150.0, 500.0, 1_000.0, np.inf)


@dataclass(frozen=True, slots=True)
class Compared:
    """Estimates and truths side by side, one row for an edge in a window, each (n,).

    Attributes
    ----------
    values : mapping
        The published columns, as :class:`studies.evaluate_windows.Published` names them.
    truth : float64
        [1/h].
    counted_lo90, counted_hi90, counted_accuracy : float64
        Predictive for a perfect counter's rate in the window (:mod:`kernels.predictive`).
    references : mapping of name to float64
    road_class : int64
    distance_m : float64
        From the middle of the segment to that of the nearest with a counter of the mode.
    is_sensored : bool
        A counter of the mode stands on this directed edge.
    """

    values: Mapping[str, NDArray[np.float64]]
    truth: NDArray[np.float64]
    counted_lo90: NDArray[np.float64]
    counted_hi90: NDArray[np.float64]
    counted_accuracy: NDArray[np.float64]
    references: Mapping[str, NDArray[np.float64]]
    road_class: NDArray[np.int64]
    distance_m: NDArray[np.float64]
    is_sensored: NDArray[np.bool_]

    def at(self, chosen: NDArray[np.bool_]) -> Compared:
        return Compared(
            {name: value[chosen] for name, value in self.values.items()},
            self.truth[chosen],
            self.counted_lo90[chosen],
            self.counted_hi90[chosen],
            self.counted_accuracy[chosen],
            {name: value[chosen] for name, value in self.references.items()},
            self.road_class[chosen],
            self.distance_m[chosen],
            self.is_sensored[chosen],
        )


def sensored_edges(published: Published, city: City) -> NDArray[np.bool_]:
    """Directed edges with a counter of the mode, (n_edges,)."""
    seen = np.zeros((city.network.n_segments, 2), dtype=np.bool_)
    name = published.mode.name.lower()
    for sensor in city.sensors:
        if (
            sensor.segment >= 0
            and sensor.source in INSTRUMENTS
            and (not sensor.modes or name in sensor.modes)
        ):
            for direction in Direction:
                if sensor.direction in ("both", direction.name.lower()):
                    seen[sensor.segment, direction] = True
    return np.asarray(seen[published.segment, published.direction])


def compare(
    published: Published,
    truth: Truth,
    counted: CountPrediction,
    references: Mapping[str, NDArray[np.float64]],
    city: City,
) -> Compared:
    """Rows of the truth of a mode that were published; the others are left out.

    ``counted`` is of the flattened (n_windows, n_edges) of ``published``.
    """
    of_mode = truth.mode == int(published.mode)
    window = np.searchsorted(published.start_ms, truth.start_ms[of_mode])
    window = np.minimum(window, published.start_ms.size - 1)
    index = np.full((city.network.n_segments, 2), -1, dtype=np.int64)
    index[published.segment, published.direction] = np.arange(published.segment.size)
    edge = index[truth.segment[of_mode], truth.direction[of_mode]]
    known = (published.start_ms[window] == truth.start_ms[of_mode]) & (edge >= 0)
    known &= np.isfinite(published.flow_per_h[window, edge])
    window, edge = window[known], edge[known]
    flat = window * published.segment.size + edge
    is_sensored = sensored_edges(published, city)
    middles = city.network.midpoints()[published.segment]
    distance = np.full(published.segment.size, np.inf)
    if is_sensored.any():
        distance = cKDTree(middles[is_sensored]).query(middles)[0]
    names = ("flow_per_h", "lo50", "hi50", "lo90", "hi90", "log_mean", "log_sd", "accuracy")
    return Compared(
        values={name: getattr(published, name)[window, edge] for name in names},
        truth=truth.flow_per_h[of_mode][known],
        counted_lo90=counted.lo90_per_h[flat],
        counted_hi90=counted.hi90_per_h[flat],
        counted_accuracy=counted.accuracy[flat],
        references={name: value[window, edge] for name, value in references.items()},
        road_class=city.road_class[published.segment[edge]].astype(np.int64),
        distance_m=distance[edge],
        is_sensored=is_sensored[edge],
    )


def mode_scores(rows: Compared, city: City) -> dict[str, Any]:
    """Scores of a mode's edges without a counter, and of those with one."""
    return {
        "unsensored": _scores(rows.at(~rows.is_sensored), city),
        "sensored": _scores(rows.at(rows.is_sensored), city),
    }


def _scores(rows: Compared, city: City) -> dict[str, Any]:
    if rows.truth.size == 0:
        return {"n": 0}
    flow = rows.values["flow_per_h"]
    spread = rows.values["log_mean"], rows.values["log_sd"], rows.truth
    return {
        "n": int(rows.truth.size),
        "errors_truth_at_least_50_per_h": _errors(rows),
        "errors_by_class": [
            {**_class_label(code, city), **_errors(rows.at(rows.road_class == code))}
            for code in np.unique(rows.road_class)
        ],
        "crps_log": float(crps_log(*spread).mean()),
        "crps_flow_per_h": float(crps_flow(*spread).mean()),
        "width_50_mean_per_h": float((rows.values["hi50"] - rows.values["lo50"]).mean()),
        "width_90_mean_per_h": float((rows.values["hi90"] - rows.values["lo90"]).mean()),
        "coverage": _coverage(rows, city),
        "pit_share": pit_histogram(*spread, PIT_BINS).tolist(),
        "accuracy_score": _accuracy_score(rows.values["accuracy"], flow, rows.truth),
        "counted": {
            "coverage_90": _inside(rows.truth, rows.counted_lo90, rows.counted_hi90),
            "width_90_mean_per_h": float((rows.counted_hi90 - rows.counted_lo90).mean()),
            "accuracy_score": _accuracy_score(rows.counted_accuracy, flow, rows.truth),
        },
    }


def _errors(rows: Compared) -> dict[str, Any]:
    """Errors where the truth is at least 50/h, of the estimate and of each reference where it has a value."""
    judged = rows.at(rows.truth >= JUDGED_PER_H)
    truth, flow = judged.truth, judged.values["flow_per_h"]
    if truth.size == 0:
        return {"n": 0}
    own = wape(flow, truth)
    found: dict[str, Any] = {
        "n": int(truth.size),
        "wape": own,
        "mape": float((np.abs(flow - truth) / truth).mean()),
        "geh_below_5_share": float((geh(flow, truth) < 5.0).mean()),
        "bias": float((flow - truth).sum() / truth.sum()),
        "references": {},
    }
    for name, reference in judged.references.items():
        known = np.isfinite(reference)
        if not known.any():
            continue
        theirs, ours = wape(reference[known], truth[known]), wape(flow[known], truth[known])
        found["references"][name] = {
            "n": int(known.sum()),
            "wape": theirs,
            "skill": 1.0 - ours / theirs if theirs > 0.0 else None,
        }
    return found


def _inside(truth: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]) -> float:
    return float(((truth >= low) & (truth <= high)).mean())


def _coverage(rows: Compared, city: City) -> dict[str, Any]:
    """Share of truths in the published intervals: overall, by class, tenth of the estimate and distance."""
    tenth = _tenths(rows.values["flow_per_h"])
    band = np.digitize(rows.distance_m, DISTANCE_BANDS_M[1:-1])
    bounds = [None if np.isinf(m) else m for m in DISTANCE_BANDS_M]

    def held(chosen: NDArray[np.bool_]) -> dict[str, Any]:
        part = rows.at(chosen)
        return {
            "n": int(chosen.sum()),
            "coverage_50": _inside(part.truth, part.values["lo50"], part.values["hi50"]),
            "coverage_90": _inside(part.truth, part.values["lo90"], part.values["hi90"]),
            "counted_coverage_90": _inside(part.truth, part.counted_lo90, part.counted_hi90),
        }

    def each(group: NDArray[np.int64], label: Callable[[int, NDArray[np.bool_]], dict[str, Any]]) -> Any:
        return [{**label(int(g), group == g), **held(group == g)} for g in np.unique(group)]

    flow = rows.values["flow_per_h"]
    return {
        "overall": held(np.ones(flow.size, dtype=np.bool_)),
        "by_class": each(rows.road_class, lambda code, _: _class_label(code, city)),
        "by_tenth_of_estimate": each(
            tenth,
            lambda k, at: {
                "tenth": k + 1,
                "from_flow_per_h": float(flow[at].min()),
                "to_flow_per_h": float(flow[at].max()),
            },
        ),
        "by_distance_to_sensor": each(band, lambda k, _: {"from_m": bounds[k], "to_m": bounds[k + 1]}),
    }


def _class_label(code: int, city: City) -> dict[str, Any]:
    return {"road_class": int(code), "name": city.classes[int(code)].name}


def _tenths(flow: NDArray[np.float64]) -> NDArray[np.int64]:
    """Tenth of the estimates that each is in; equal ones stay together, (n,)."""
    edges = np.quantile(flow, np.arange(1, TENTHS) / TENTHS)
    return np.searchsorted(edges, flow, side="right").astype(np.int64)


def _accuracy_score(
    score: NDArray[np.float64], flow: NDArray[np.float64], truth: NDArray[np.float64]
) -> dict[str, Any]:
    """Reliability of the score, over all and where the estimate is at least 50/h."""
    hit = within_band(flow, truth)
    found = {}
    for name, at in (
        ("all", np.ones(flow.size, dtype=np.bool_)),
        ("estimate_at_least_50_per_h", flow >= 50.0),
    ):
        number, mean, share = reliability(score[at], hit[at], SCORE_BINS)
        found[name] = {
            "n": int(at.sum()),
            "expected_calibration_error": calibration_error(score[at], hit[at], SCORE_BINS),
            "mean_score": float(score[at].mean()) if at.any() else None,
            "hit_share": float(hit[at].mean()) if at.any() else None,
            "bins": [
                {"n": int(n), "mean_score": float(m), "hit_share": float(s)}
                for n, m, s in zip(number, mean, share, strict=True)
                if n
            ],
        }
    return found


def sensor_count(city: City, mode: Mode) -> int:
    """Counters of a mode that stand on a segment."""
    name = mode.name.lower()
    return sum(
        s.segment >= 0 and s.source in INSTRUMENTS and (not s.modes or name in s.modes) for s in city.sensors
    )
