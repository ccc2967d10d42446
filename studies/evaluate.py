"""Evaluate fusion on a recording against a truth: play, average, compare, report."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import orjson

from agents.engines.embedded import EmbeddedEngine
from agents.fusion import FusionAgent
from agents.fusion_answers import LeftOut
from cities.cache import Progress
from cities.pack import City
from kernels.network import Direction, Mode
from kernels.predictive import CountPrediction, predict_counts
from kernels.prior import Prior
from streams.observation import time_text
from streams.player import Player
from streams.recording import Recording
from streams.topics import Topic
from studies.evaluate_left_out import left_out_table
from studies.evaluate_references import reference_flows
from studies.evaluate_scores import Compared, compare, mode_scores, sensor_count, sensored_edges
from studies.evaluate_truth import EvaluateError, Truth
from studies.evaluate_windows import Published, WindowMeans

ESTIMATES = ("flow_per_h", "lo90", "hi90", "accuracy")
SIGNIFICANT = 5  # digits of a figure in the report


@dataclass(frozen=True, slots=True)
class Played:
    """What a recording made fusion publish.

    Attributes
    ----------
    published : mapping of Mode to Published
    moments : mapping of int to sequence
        Counters left out, by the end of the window [ms].
    method : str
        As the batches name it.
    steps, revised, rows, dead_letters : int
        Steps closed, tiles published again, readings accepted and refused.
    wall_s : float
    """

    published: Mapping[Mode, Published]
    moments: Mapping[int, Sequence[LeftOut]]
    method: str
    steps: int
    revised: int
    rows: int
    dead_letters: int
    wall_s: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The report, and the compared rows and count predictions that the page and the estimates are made of."""

    report: dict[str, Any]
    rows: Mapping[Mode, Compared]
    counted: Mapping[Mode, CountPrediction]


def play(
    city: City,
    prior: Prior,
    recording: Recording,
    minutes: int,
    progress: Progress,
    *,
    from_ms: int | None = None,
    to_ms: int | None = None,
    warm_up_ms: int = 0,
) -> Played:
    """Play a recording through fusion alone and keep the windows of what it publishes.

    ``minutes`` is a divisor of 60.

    Raises
    ------
    EvaluateError
        When the recording holds nothing of this city or span.
    """
    agent = FusionAgent(city, prior)
    engine = EmbeddedEngine(city, (agent,), publish_from_ms=from_ms or 0)
    means = WindowMeans(minutes)
    moments: dict[int, Sequence[LeftOut]] = {}
    engine.bus.subscribe((Topic.DENSITIES,), means.take)
    try:
        player = Player(
            recording, engine, from_ms=from_ms, to_ms=to_ms, warm_up_ms=warm_up_ms if from_ms else 0
        )
    except ValueError as error:
        raise EvaluateError(str(error)) from error
    span = player.status()

    def stepped(now_ms: int, _wall_s: float) -> None:
        means.settle(now_ms)
        if now_ms % (minutes * 60_000) == 0:
            moments[now_ms] = agent.left_out()
        # below 1: the last steps close only when the clock has passed the end
        progress(
            "playing the recording", min((now_ms - span.start_ms) / (span.end_ms - span.start_ms), 0.999)
        )

    engine.on_step.append(stepped)
    started = time.monotonic()
    player.run()
    progress("playing the recording", 1.0)
    refused, accepted = engine.figures.rows[Topic.DEADLETTERS.value], engine.intake["accepted"]
    if accepted == 0:
        raise EvaluateError(
            f"{recording.path}: none of its readings is of the city {city.name}; {refused} were refused, "
            "as for sensors that are not in its sensors.geojson"
        )
    return Played(
        published=means.finish(),
        moments=moments,
        method=str(means.attributes.get("method", "")),
        steps=engine.figures.steps,
        revised=means.n_revised,
        rows=accepted,
        dead_letters=refused,
        wall_s=time.monotonic() - started,
    )


def evaluate(
    city: City, prior: Prior, recording: Recording, truth: Truth, played: Played, minutes: int
) -> Evaluation:
    """Compare what was published with a truth.

    Raises
    ------
    EvaluateError
        When the truth holds nothing of what was published.
    """
    rows, counted = {}, {}
    modes: dict[str, Any] = {}
    for mode, published in played.published.items():
        flow, centre, sd = (
            np.nan_to_num(value.ravel())
            for value in (published.flow_per_h, published.log_mean, published.log_sd)
        )
        counted[mode] = predict_counts(flow, centre, sd, minutes / 60)
        moments = [played.moments.get(int(s) + minutes * 60_000, ()) for s in published.start_ms]
        prior_per_h = prior.modes[mode].flow_per_h.astype(np.float64)
        references = reference_flows(published, prior_per_h, moments, city, minutes)
        compared = compare(published, truth, counted[mode], references, city)
        if compared.truth.size:
            rows[mode] = compared
        modes[mode.name.lower()] = {
            "n_edges": int(published.segment.size),
            "n_unsensored_edges": int((~sensored_edges(published, city)).sum()),
            "n_sensors": sensor_count(city, mode),
            "n_compared": int(compared.truth.size),
            **mode_scores(compared, city),
            "left_out": left_out_table(moments, mode, city),
        }
    if not rows:
        raise EvaluateError(_no_overlap(truth, played))
    report = {
        **_run_facts(city, recording, played, minutes),
        "truth": {
            "kind": "counts" if truth.is_counts else "rates",
            "n_windows": int(truth.flow_per_h.size),
            "n_compared": sum(int(r.truth.size) for r in rows.values()),
            "n_of_unknown_segments": truth.n_unknown,
            "first_unknown_segment": truth.first_unknown,
            "n_incomplete_windows": truth.n_incomplete,
        },
        "modes": modes,
    }
    return Evaluation(_rounded(report), rows, counted)


def _run_facts(city: City, recording: Recording, played: Played, minutes: int) -> dict[str, Any]:
    """What was played, and what came of it."""
    windows = next(iter(played.published.values())).start_ms
    return {
        "city": city.name,
        "network_hash": city.network_hash,
        "method": played.method,
        "recording": recording.path.name,
        "recording_hash": recording.content_hash,
        "first_time": time_text(int(windows[0])),
        "last_time": time_text(int(windows[-1]) + minutes * 60_000),
        "minutes": minutes,
        "n_windows": int(windows.size),
        "n_steps": played.steps,
        "n_revised_tiles": played.revised,
        "n_readings": played.rows,
        "n_dead_letters": played.dead_letters,
        "wall_s": round(played.wall_s, 2),
    }


def summary(report: Mapping[str, Any]) -> list[str]:
    """How much of the truth was compared, and one line a mode, of the edges without a counter."""
    truth = report["truth"]
    lines = [f"{truth['n_compared']} of {truth['n_windows']} windows of the truth were published too"]
    for mode, scores in report["modes"].items():
        group = scores["unsensored"]
        if not group["n"]:
            lines.append(f"{mode}: the truth holds nothing of edges without a counter")
            continue
        errors, held = group["errors_truth_at_least_50_per_h"], group["coverage"]["overall"]
        score = group["accuracy_score"]
        worth = (
            f"WAPE {errors['wape']:.3f}, GEH < 5 {errors['geh_below_5_share']:.3f}" if errors["n"] else "-"
        )
        lines.append(
            f"{mode}: {scores['n_unsensored_edges']} edges without a counter; at >= 50/h: {worth}; "
            f"90 % intervals hold {held['coverage_90']:.3f}; calibration error of the score "
            f"{score['all']['expected_calibration_error']:.3f}, of estimates >= 50/h "
            f"{score['estimate_at_least_50_per_h']['expected_calibration_error']:.3f}"
        )
    return lines


def write_report(report: Mapping[str, Any], path: Path) -> None:
    """Write the report as JSON; what is unknown is null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2) + b"\n")


def write_estimates(
    path: Path, city: City, played: Played, counted: Mapping[Mode, CountPrediction], minutes: int
) -> int:
    """Write what was published as CSV (gzip if named so); returns the number of rows.

    Interval and accuracy are of what a perfect counter would have counted in the window, as a rate.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    n_rows = 0
    with _opened(path) as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["segment_id", "direction", "mode", "start_utc", "minutes", *ESTIMATES])
        for mode, published in played.published.items():
            ids = [city.segment_ids[s] for s in published.segment]
            ways = [Direction(int(d)).name.lower() for d in published.direction]
            shape = published.flow_per_h.shape
            found = counted[mode]
            low, high, score = (
                v.reshape(shape) for v in (found.lo90_per_h, found.hi90_per_h, found.accuracy)
            )
            for w, start_ms in enumerate(published.start_ms):
                known = np.isfinite(published.flow_per_h[w])
                fixed = itertools.repeat((mode.name.lower(), time_text(int(start_ms)), minutes))
                values = zip(
                    published.flow_per_h[w].round(1).tolist(), low[w].round(2).tolist(),
                    high[w].round(2).tolist(), score[w].round(4).tolist(), strict=True,
                )  # fmt: skip
                rows = zip(ids, ways, fixed, values, known.tolist(), strict=False)
                out.writerows((name, way, *same, *own) for name, way, same, own, is_known in rows if is_known)
                n_rows += int(known.sum())
    return n_rows


def _opened(path: Path) -> TextIO:
    """A text file, or one in a gzip of the same bytes each time."""
    if path.suffix != ".gz":
        return path.open("w", newline="", encoding="utf-8")
    return io.TextIOWrapper(gzip.GzipFile(path, "wb", compresslevel=6, mtime=0), "utf-8", newline="")


def _no_overlap(truth: Truth, played: Played) -> str:
    first = int(truth.start_ms.min(initial=2**62))
    last = int(truth.start_ms.max(initial=0))
    span = "no whole window"
    for published in played.published.values():
        span = f"{time_text(int(published.start_ms[0]))} to {time_text(int(published.start_ms[-1]))}"
    modes = ", ".join(sorted(Mode(int(m)).name.lower() for m in np.unique(truth.mode))) or "none"
    return (
        f"truth: holds nothing of what was published; its windows begin from {time_text(first)} to "
        f"{time_text(last)} (modes: {modes}), the published ones {span} "
        f"(modes: {', '.join(m.name.lower() for m in played.published) or 'none'})"
    )


def _rounded(value: Any) -> Any:
    """Figures to five significant digits, what is not finite to None."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{SIGNIFICANT}g}") if np.isfinite(value) else None
    return value
