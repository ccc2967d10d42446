"""twinroom evaluate on a small foreign city: figures against sums done by hand, files, and bad input."""

from __future__ import annotations

import csv
import gzip
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from cities.pack import City, load_city
from controlroom import main
from kernels.prior import Prior
from streams.recording import Recording, read_recording
from studies.evaluate import Played, play, write_estimates
from studies.evaluate import evaluate as compare_with
from studies.evaluate_truth import EvaluateError, read_truth
from studies.prior import prepare_prior
from tests.foreign import write_foreign_city

Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The foreign city as a pack, beside its recording and truth; prepared data is the module's own."""
    made: Path = tmp_path_factory.mktemp("foreign")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWINROOM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        _write(made)
        yield made


def _write(made: Path) -> None:
    write_foreign_city(made / "raw")
    network = ["--network", str(made / "raw/network.geojson"), "--sensors", str(made / "raw/sensors.geojson")]
    assert main(["city", "import", *network, "--out", str(made / "valdoro")]) == 0
    shutil.copy(made / "raw/recording.jsonl", made / "valdoro/recording.jsonl")


def evaluate(folder: Path, truth: Path, *options: str, recording: Path | None = None) -> int:
    played = recording or folder / "valdoro/recording.jsonl"
    return main(
        ["evaluate", "--city", str(folder / "valdoro"), "--recording", str(played), "--truth", str(truth),
         "--report", str(folder / "report.json"), *options]
    )  # fmt: skip


def rows_of(path: Path) -> Rows:
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    return list(csv.DictReader(text.splitlines()))


def changed(folder: Path, change: Callable[[Rows], Any], name: str = "changed.csv") -> Path:
    """The truth after a change of its rows."""
    rows = rows_of(folder / "raw/truth.csv")
    rows = change(rows) or rows
    path = folder / name
    with path.open("w", newline="") as file:
        out = csv.DictWriter(file, list(rows[0]))
        out.writeheader()
        out.writerows(rows)
    return path


@pytest.fixture(scope="module")
def whole(folder: Path) -> tuple[dict[str, Any], Rows, str]:
    """Report, estimates and page of the whole recording."""
    estimates = folder / "estimates.csv.gz"
    assert evaluate(folder, folder / "raw/truth.csv", "--estimates", str(estimates)) == 0
    report: dict[str, Any] = orjson.loads((folder / "report.json").read_bytes())
    return report, rows_of(estimates), (folder / "report.html").read_text()


def test_the_report_agrees_with_sums_over_the_estimates(
    folder: Path, whole: tuple[dict[str, Any], Rows, str]
) -> None:
    report, estimates, _ = whole
    key = ("segment_id", "direction", "mode", "start_utc")
    truth = {tuple(r[k] for k in key): float(r["flow_per_h"]) for r in rows_of(folder / "raw/truth.csv")}
    sensors = orjson.loads((folder / "valdoro/sensors.geojson").read_bytes())["features"]
    seen = {
        (p["segment_id"], way, mode)
        for p in (feature["properties"] for feature in sensors)
        if p["source"] in ("loops", "telraam", "counter")
        for way in (("forward", "backward") if p["direction"] == "both" else (p["direction"],))
        for mode in p["modes"]
    }
    for mode in ("car", "truck", "bicycle"):
        scores = report["modes"][mode]
        rows = [r for r in estimates if r["mode"] == mode]
        assert {r["start_utc"] for r in rows} == {key[3] for key in truth}
        assert len(rows) == 8 * scores["n_edges"]
        for group, is_sensored in (("unsensored", False), ("sensored", True)):
            pairs = [
                (float(r["flow_per_h"]), truth[tuple(r[k] for k in key)], float(r["lo90"]), float(r["hi90"]))
                for r in rows
                if ((r["segment_id"], r["direction"], mode) in seen) == is_sensored
            ]
            flow, true, low, high = np.array(pairs).T
            judged = true >= 50
            errors = scores[group]["errors_truth_at_least_50_per_h"]
            assert errors["n"] == judged.sum()
            if judged.any():
                expected = np.abs(flow - true)[judged].sum() / true[judged].sum()
                assert errors["wape"] == pytest.approx(expected, rel=2e-3)
            counted = scores[group]["counted"]["coverage_90"]
            assert counted == pytest.approx(((low <= true) & (true <= high)).mean(), abs=2e-3)
    assert report["truth"]["kind"] == "rates"
    assert report["n_dead_letters"] == 6


def test_each_group_adds_up_and_every_row_of_the_report_says_how_many(
    whole: tuple[dict[str, Any], Rows, str],
) -> None:
    report, _, _ = whole
    assert {"car", "truck", "bicycle"} <= set(report["modes"])
    for scores in report["modes"].values():
        assert scores["unsensored"]["n"] + scores["sensored"]["n"] == scores["n_compared"]
        # pedestrians are published, and the truth knows none
        for group in (g for g in (scores["unsensored"], scores["sensored"]) if g["n"]):
            coverage = group["coverage"]
            for by in ("by_class", "by_tenth_of_estimate", "by_distance_to_sensor"):
                assert sum(row["n"] for row in coverage[by]) == group["n"]
            assert sum(group["pit_share"]) == pytest.approx(1.0, abs=1e-3)
            assert sum(row["n"] for row in group["accuracy_score"]["all"]["bins"]) == group["n"]
            assert 0 <= coverage["overall"]["coverage_50"] <= coverage["overall"]["coverage_90"] <= 1


def test_counters_help_on_streets_without_one(whole: tuple[dict[str, Any], Rows, str]) -> None:
    errors = whole[0]["modes"]["car"]["unsensored"]["errors_truth_at_least_50_per_h"]
    assert errors["references"]["assignment"]["skill"] > 0.25


def test_the_page_holds_everything_itself(whole: tuple[dict[str, Any], Rows, str]) -> None:
    page = whole[2]
    assert "Valdoro" in page
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=", page)
    assert page.count("Reliability of the score") == 3


@dataclass
class Play:
    """The recording played once, to be compared with any truth."""

    city: City
    prior: Prior
    recording: Recording
    played: Played

    def against(self, truth: Path, minutes: int = 15) -> dict[str, Any]:
        found = read_truth(truth, self.city, minutes)
        return compare_with(self.city, self.prior, self.recording, found, self.played, minutes).report


@pytest.fixture(scope="module")
def once(folder: Path) -> Play:
    city = load_city(folder / "valdoro")
    prior = prepare_prior(city, lambda _what, _part: None)
    recording = read_recording(folder / "valdoro/recording.jsonl")
    return Play(city, prior, recording, play(city, prior, recording, 15, lambda _what, _part: None))


def test_estimates_are_the_same_each_time(
    folder: Path, whole: tuple[dict[str, Any], Rows, str], once: Play
) -> None:
    assert whole[1]
    truth = read_truth(folder / "raw/truth.csv", once.city, 15)
    counted = compare_with(once.city, once.prior, once.recording, truth, once.played, 15).counted
    assert write_estimates(folder / "again.csv.gz", once.city, once.played, counted, 15) == len(whole[1])
    assert rows_of(folder / "again.csv.gz") == whole[1]


def test_shorter_windows_of_the_truth_are_averaged(folder: Path, once: Play) -> None:
    quarters = read_truth(folder / "raw/truth.csv", once.city, 15)
    hours = read_truth(folder / "raw/truth.csv", once.city, 60)
    assert hours.flow_per_h.size * 4 == quarters.flow_per_h.size
    assert hours.flow_per_h.sum() * 4 == pytest.approx(quarters.flow_per_h.sum())
    at = (quarters.segment == 7) & (quarters.mode == 0) & (quarters.direction == 0)
    first = at & (quarters.start_ms < hours.start_ms.min() + 3_600_000)
    hour = (hours.segment == 7) & (hours.mode == 0) & (hours.direction == 0)
    hour &= hours.start_ms == hours.start_ms.min()
    assert hours.flow_per_h[hour] == pytest.approx([quarters.flow_per_h[first].mean()])


def test_an_hour_of_which_the_truth_misses_a_quarter_is_left_out(folder: Path, once: Play) -> None:
    truth = read_truth(changed(folder, lambda rows: rows[1:]), once.city, 60)
    assert truth.n_incomplete == 1
    assert "not whole" in truth.warnings[0]


def test_a_part_of_the_day_is_evaluated_alone(folder: Path) -> None:
    assert evaluate(folder, folder / "raw/truth.csv", "--from", "08:00", "--to", "08:31") == 0
    report = orjson.loads((folder / "report.json").read_bytes())
    assert (report["first_time"], report["n_windows"]) == ("2025-03-04T11:00:00Z", 2)


def test_a_counted_truth_is_told_from_rates_and_held_by_the_intervals_for_counts(
    folder: Path, once: Play
) -> None:
    def count(rows: Rows) -> None:
        rng = np.random.default_rng(1)
        for row in rows:
            row["flow_per_h"] = str(4 * int(rng.poisson(float(row["flow_per_h"]) / 4)))

    report = once.against(changed(folder, count))
    assert report["truth"]["kind"] == "counts"
    group = report["modes"]["bicycle"]["unsensored"]
    assert group["counted"]["coverage_90"] > group["coverage"]["overall"]["coverage_90"]


def test_unknown_segments_are_left_out_with_a_warning(folder: Path, once: Play) -> None:
    def rename(rows: Rows) -> None:
        for row in rows[:3]:
            row["segment_id"] = "nowhere-1"

    path = changed(folder, rename)
    (warning,) = read_truth(path, once.city, 15).warnings
    assert "3 rows left out" in warning
    assert "nowhere-1" in warning
    assert once.against(path)["truth"]["n_of_unknown_segments"] == 3


def test_an_edge_that_the_mode_may_not_use_is_left_out(folder: Path, once: Play) -> None:
    def oneway(rows: Rows) -> None:
        car = [row for row in rows if row["segment_id"] == "calle-1-0" and row["mode"] == "car"]
        assert {row["direction"] for row in car} == {"forward"}
        rows.append({**car[0], "direction": "backward"})

    truth = once.against(changed(folder, oneway))["truth"]
    assert truth["n_windows"] == truth["n_compared"] + 1


def put(name: str, value: str) -> Callable[[Rows], None]:
    return lambda rows: rows[4].__setitem__(name, value)


def every(name: str, value: str) -> Callable[[Rows], None]:
    def change(rows: Rows) -> None:
        for row in rows:
            row[name] = value

    return change


def without_flow(rows: Rows) -> Rows:
    return [{name: value for name, value in row.items() if name != "flow_per_h"} for row in rows]


def a_day_later(rows: Rows) -> None:
    for row in rows:
        row["start_utc"] = row["start_utc"].replace("2025-03-04", "2025-03-05")


@pytest.mark.parametrize(
    ("change", "options", "parts"),
    [
        (put("flow_per_h", "-3"), (), ("line 6", "flow_per_h", "-3", "at least 0")),
        (put("flow_per_h", "many"), (), ("line 6", "flow_per_h", "many")),
        (put("mode", "tank"), (), ("line 6", "mode", "tank", "bicycle")),
        (put("direction", "up"), (), ("line 6", "direction", "up", "backward")),
        (put("start_utc", "noon"), (), ("line 6", "start_utc", "noon", "ISO 8601")),
        (put("start_utc", "2025-03-04T10:01:00Z"), (), ("line 6", "start_utc", "multiple of 15")),
        (lambda rows: rows.insert(5, dict(rows[4])), (), ("line 7", "occurs twice")),
        (without_flow, (), ("flow_per_h", "missing")),
        (every("segment_id", "x1"), (), ("segment_id", "'x1'", "none of the 9200 rows")),
        (lambda _rows: None, ("--minutes", "10"), ("minutes", "15", "--minutes 10")),
        (lambda _rows: None, ("--minutes", "7"), ("minutes", "got 7", "divisor of 60")),
        (lambda _rows: None, ("--from", "23:00"), ("--from and --to",)),
    ],
)  # fmt: skip
def test_a_bad_truth_is_refused_by_field_and_value(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Rows], Any],
    options: tuple[str, ...],
    parts: tuple[str, ...],
) -> None:
    assert evaluate(folder, changed(folder, change), *options) == 2
    message = capsys.readouterr().err
    for part in parts:
        assert part in message, message


def test_a_truth_of_another_day_is_refused_with_both_spans(folder: Path, once: Play) -> None:
    with pytest.raises(EvaluateError, match=r"2025-03-05T10:00:00Z.*2025-03-04T10:00:00Z"):
        once.against(changed(folder, a_day_later))


def test_a_truth_that_is_not_there_and_one_that_is_no_table_are_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(folder, folder / "none.csv") == 2
    assert "none.csv" in capsys.readouterr().err
    (folder / "broken.csv.gz").write_bytes(b"not gzip")
    assert evaluate(folder, folder / "broken.csv.gz") == 2
    assert "not a readable CSV" in capsys.readouterr().err


def test_a_recording_of_another_network_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (folder / "raw/recording.jsonl").read_bytes().split(b"\n")
    header = orjson.loads(lines[0])
    other = folder / "other.jsonl"
    named = orjson.dumps({**header, "network_hash": "0" * 16})
    other.write_bytes(b"\n".join([named, *lines[1:]]))
    assert evaluate(folder, folder / "raw/truth.csv", recording=other) == 2
    assert "network_hash" in capsys.readouterr().err
    renamed = [line.replace(b'"sensor":"', b'"sensor":"Q') for line in lines]
    other.write_bytes(b"\n".join(renamed))
    assert evaluate(folder, folder / "raw/truth.csv", recording=other) == 2
    assert "none of its readings is of the city" in capsys.readouterr().err


@pytest.mark.browser
def test_the_page_draws_all_its_plots_without_a_network(
    folder: Path, whole: tuple[dict[str, Any], Rows, str], chromium: Any
) -> None:
    assert whole[2]
    errors: list[str] = []
    page = chromium.new_page(viewport={"width": 1400, "height": 900})
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: errors.append(request.url) if request.url.startswith("http") else None)
    page.goto(f"file://{folder / 'report.html'}")
    drawn = "() => Bokeh.documents.length && Bokeh.documents[0].is_idle && document.querySelectorAll('.plot').length"
    page.wait_for_function(drawn, timeout=60_000)
    shown = page.evaluate("() => [...document.querySelectorAll('.plot')].every(p => p.offsetHeight > 300)")
    page.close()
    assert shown
    assert not errors
