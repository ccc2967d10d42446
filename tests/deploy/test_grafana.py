"""deploy/grafana.json asks for what workers tell, and for all of it."""

from __future__ import annotations

import json
import re
from typing import Any

from agents.engines.metrics import Metrics
from tests.deploy.conftest import HOME

BOARD: dict[str, Any] = json.loads((HOME / "deploy/grafana.json").read_text(encoding="utf-8"))
NOT_SHOWN = {"twinroom_snapshot_timestamp_seconds"}  # its age is shown


def told() -> dict[str, set[str]]:
    """Name of each series that a worker exports, and its labels."""
    found = {}
    for name, metric in Metrics().registry._names_to_collectors.items():
        if not name.endswith("_created"):
            found[name] = set(metric._labelnames) | ({"le"} if name.endswith("_bucket") else set())  # type: ignore[attr-defined]
    return found


def expressions() -> list[str]:
    return [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]


def asked(text: str) -> set[str]:
    return set(re.findall(r"twinroom_\w+", text))


def test_every_series_of_the_dashboard_is_exported() -> None:
    queries = [v["definition"] for v in BOARD["templating"]["list"] if v["type"] == "query"]
    named = {name for text in [*expressions(), *queries] for name in asked(text)}
    assert named
    assert named <= told().keys()


def test_every_metric_that_is_exported_is_shown() -> None:
    shown = " ".join(expressions())
    families = {metric.name for metric in Metrics().registry.collect()}
    assert {family for family in families - NOT_SHOWN if family not in shown} == set()


def test_a_query_uses_only_labels_that_its_series_has() -> None:
    series = told()
    for text in expressions():
        (name,) = asked(text)
        grouped = {label.strip() for by in re.findall(r"by \(([^)]*)\)", text) for label in by.split(",")}
        selected = set(re.findall(r"(\w+)=~", text))
        assert grouped | selected <= series[name], text


def test_a_legend_names_labels_that_are_left() -> None:
    for panel in BOARD["panels"]:
        for target in panel["targets"]:
            grouped = re.findall(r"by \(([^)]*)\)", target["expr"])
            (name,) = asked(target["expr"])
            left = {label.strip() for label in grouped[0].split(",")} if grouped else told()[name]
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= left


def test_counters_are_shown_as_rates_and_histograms_as_quantiles() -> None:
    for text in expressions():
        (name,) = asked(text)
        assert name.endswith("_total") == bool(re.search(r"(rate|increase)\(twinroom_\w+_total", text))
        assert name.endswith("_bucket") == ("histogram_quantile" in text)


def test_panels_do_not_overlap_and_each_says_what_it_means() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        mine = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & mine
        assert at["x"] + at["w"] <= 24
        assert panel["description"].endswith((".", ":"))
        cells |= mine
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
