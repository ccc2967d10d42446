"""The page of an evaluation: plots and tables in one file that needs no network."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bokeh.document import Document
from bokeh.embed import file_html
from bokeh.models import ColumnDataSource, FixedTicker, HoverTool, NumeralTickFormatter, Range1d, Span
from bokeh.plotting import figure
from bokeh.resources import INLINE
from jinja2 import Environment, FileSystemLoader
from numpy.typing import NDArray

from cities.pack import City
from kernels.network import Mode
from studies.evaluate import Evaluation
from studies.evaluate_scores import Compared

# As the control room's (dashboards/static/ops.css), which this file cannot link to.
PANEL, EDGE, TEXT, DIM = "#1c1f23", "#33383e", "#e8eaed", "#a4aab1"
OWN, OTHER = "#d9c667", "#48b0fe"
REFERENCES = {
    "assignment": ("assignment", "#48b0fe"),
    "class_prior": ("class prior", "#6c747d"),
    "class_mean": ("class mean", "#a4aab1"),
    "profile": ("profile", "#fda2b5"),
}
SHOWN_POINTS = 4_000
HEIGHT = 300


def write_page(evaluation: Evaluation, city: City, path: Path) -> None:
    """Write the page of an evaluation: reliability, PIT, coverage, errors and counters left out."""
    report = evaluation.report
    document = Document()
    plots_of = {
        mode: _plots(rows, report["modes"][mode.name.lower()]) for mode, rows in evaluation.rows.items()
    }
    with document.models.freeze():  # else each root walks over all that came before
        for plots in plots_of.values():
            for _, _, plot in plots:
                document.add_root(plot)
    modes, root = [], itertools.count()
    for mode, plots in plots_of.items():
        shown = [{"title": title, "note": note, "root": next(root)} for title, note, _ in plots]
        modes.append({"plots": shown, **_texts(mode, report["modes"][mode.name.lower()])})
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=False)
    compared = {**report, "n_compared_text": f"{report['truth']['n_compared']:,} street windows"}
    html = file_html(
        document,
        resources=INLINE,
        title=f"{city.title}: what the estimates are worth",
        template=environment.get_template("evaluate_page.html"),
        template_variables={"report": compared, "city_title": city.title, "modes": modes},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html, encoding="utf-8")


def _texts(mode: Mode, scores: dict[str, Any]) -> dict[str, Any]:
    """Figures and tables of a mode."""
    own, other = scores["unsensored"], scores["sensored"]
    names = [name for name in REFERENCES if name in _errors(own).get("references", {})]
    coverage = {row["road_class"]: row for row in own["coverage"]["by_class"]} if own["n"] else {}
    classes = []
    for row in own.get("errors_by_class", ()):
        held = coverage[row["road_class"]]
        references = [row.get("references", {}).get(name, {}).get("wape") for name in names]
        classes.append({**held, "n_all": held["n"], "wape": None, **row, "references": references})
    return {
        "name": mode.name.lower(),
        "scores": scores,
        "tiles": _tiles(own, other),
        "references": [{"title": REFERENCES[name][0]} for name in names],
        "classes": classes,
        "named": [row for row in scores["left_out"]["sensors"] if not row["simulated"]][:20],
    }


def _errors(group: dict[str, Any]) -> dict[str, Any]:
    errors: dict[str, Any] = group.get("errors_truth_at_least_50_per_h", {"n": 0})
    return errors


def _tiles(own: dict[str, Any], other: dict[str, Any]) -> list[dict[str, str]]:
    """Headline numbers, of streets without a counter and with one."""

    def shown(group: dict[str, Any], *keys: str) -> str:
        value: Any = group
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return "" if value is None else f"{value:.3f}"

    errors, held, score = "errors_truth_at_least_50_per_h", ("coverage", "overall"), "accuracy_score"
    calibration = "expected_calibration_error"
    wanted = (
        ("WAPE, truth ≥ 50/h", (errors, "wape")),
        ("GEH < 5, truth ≥ 50/h", (errors, "geh_below_5_share")),
        ("held by 90 % intervals", (*held, "coverage_90")),
        ("held by 50 % intervals", (*held, "coverage_50")),
        ("calibration error of the score", (score, "all", calibration)),
        ("the same, estimate ≥ 50/h", (score, "estimate_at_least_50_per_h", calibration)),
        ("skill over the assignment", (errors, "references", "assignment", "skill")),
        ("CRPS of log(flow + 5)", ("crps_log",)),
    )
    return [
        {"title": title, "own": shown(own, *keys) or "-", "other": shown(other, *keys)}
        for title, keys in wanted
    ]


def _plots(rows: Compared, scores: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """Title, note and figure of each plot."""
    groups = [(scores["unsensored"], OWN), (scores["sensored"], OTHER)]
    groups = [(group, colour) for group, colour in groups if group["n"]]
    coverage = [(group["coverage"], colour) for group, colour in groups]
    return [
        ("Reliability of the score", "Of the streets scored 0.8, how many are within max(15 %, GEH 5)? "
         "On the line the score means what it says. Larger points hold more.", _reliability(groups)),
        ("PIT histogram", "Flat: the predictive distributions are right. A hump: too wide; a slope: biased.",
         _pit(groups)),
        ("Estimate and truth", f"Up to {SHOWN_POINTS:,} street windows; the lines are max(15 %, GEH 5).",
         _scatter(rows)),
        ("Coverage by road class", "Filled: the 90 % interval, hollow: the 50 % interval.",
         _held_by_class(coverage)),
        ("Coverage by tenth of the estimate", "Each point is a tenth of the street windows, by the estimate.",
         _held_by_tenth(coverage)),
        ("Coverage by distance", "To the nearest street with a counter of the mode.",
         _held_by_distance(scores["unsensored"]["coverage"])),
        ("WAPE by road class", "Streets without a counter, truth at least 50/h, beside the references.",
         _class_errors(scores["unsensored"])),
        ("Counters left out", "What all other sites say of a counter, with its 90 % interval, against its "
         "reading. Squares: real counters.", _left_out(scores["left_out"]["sensors"])),
        ("Width of the 90 % interval", "Median over the estimate by its tenth: how sharp the estimates are.",
         _width(rows)),
    ]  # fmt: skip


def _figure(x_title: str, y_title: str, **options: Any) -> Any:
    """An empty figure in the page's style."""
    plot = figure(
        height=HEIGHT,
        sizing_mode="stretch_width",
        toolbar_location=None,
        tools="",
        background_fill_color=PANEL,
        border_fill_color=PANEL,
        outline_line_color=None,
        min_border_right=14,
        **options,
    )
    plot.axis.axis_line_color = plot.axis.major_tick_line_color = EDGE
    plot.axis.minor_tick_line_color = None
    plot.axis.major_label_text_color = plot.axis.axis_label_text_color = DIM
    plot.axis.axis_label_text_font_style = "normal"
    plot.axis.axis_label_text_font_size = plot.axis.major_label_text_font_size = "12px"
    plot.grid.grid_line_color = "#2a2e33"
    plot.xaxis.axis_label, plot.yaxis.axis_label = x_title, y_title
    return plot


def _reliability(groups: Sequence[tuple[dict[str, Any], str]]) -> Any:
    plot = _figure("accuracy score", "share within the band", x_range=Range1d(0, 1), y_range=Range1d(0, 1.02))
    plot.line([0, 1], [0, 1], color=DIM, line_dash="dashed")
    for group, colour in groups[::-1]:
        bins = group["accuracy_score"]["all"]["bins"]
        number = np.array([b["n"] for b in bins])
        x, y = [b["mean_score"] for b in bins], [b["hit_share"] for b in bins]
        plot.line(x, y, color=colour, line_width=2)
        plot.scatter(x, y, size=5 + 13 * np.sqrt(number / number.max()), color=colour, alpha=0.85)
    return plot


def _pit(groups: Sequence[tuple[dict[str, Any], str]]) -> Any:
    plot = _figure("probability integral transform", "share of truths", x_range=Range1d(0, 1))
    plot.y_range.start = 0
    for k, (group, colour) in enumerate(groups):
        share = group["pit_share"]
        edges = np.linspace(0, 1, len(share) + 1)
        fill = {"fill_color": colour, "fill_alpha": 0.55} if k == 0 else {"fill_color": None}
        plot.quad(left=edges[:-1], right=edges[1:], bottom=0, top=share, line_color=colour, **fill)
        flat = Span(location=1 / len(share), dimension="width", line_color=DIM, line_dash="dashed")
        plot.add_layout(flat)
    plot.yaxis.formatter = NumeralTickFormatter(format="0 %")
    return plot


def _scatter(rows: Compared) -> Any:
    """Points of evenly spaced rows, so that the page is the same each time."""
    flow, truth = rows.values["flow_per_h"], rows.truth
    top = float(max(flow.max(initial=10.0), truth.max(initial=10.0))) * 1.3
    plot = _figure("truth [1/h]", "estimate [1/h]", x_axis_type="log", y_axis_type="log",
                   x_range=Range1d(1, top), y_range=Range1d(1, top))  # fmt: skip
    for sensored, colour, size in ((False, OWN, 3), (True, OTHER, 4)):
        at = np.flatnonzero(rows.is_sensored == sensored)
        at = at[:: max(1, -(-at.size // (SHOWN_POINTS if not sensored else SHOWN_POINTS // 4)))]
        plot.scatter(np.maximum(truth[at], 1), np.maximum(flow[at], 1), size=size, color=colour, alpha=0.35)
    line = np.geomspace(1, top, 80)
    reach, centre = np.sqrt(625 / 16 + 25 * line), line + 6.25
    for edge in (np.maximum(centre + reach, 1.15 * line), np.minimum(centre - reach, 0.85 * line)):
        plot.line(np.maximum(edge, 0.5), line, color=TEXT, line_dash="dotted")
    return plot


def _place(labels: Sequence[str], axis: Any) -> None:
    """Labels instead of whole numbers on an axis."""
    axis.ticker = FixedTicker(ticks=list(range(len(labels))))
    axis.major_label_overrides = dict(enumerate(labels))


def _dots(
    plot: Any, x: Any, y: Any, hollow: dict[str, Any], rows: Sequence[dict[str, Any]], colour: str
) -> None:
    """Filled and hollow points, and what they are on hovering; ``hollow`` replaces one coordinate."""
    numbers = {name: [row[name] for row in rows] for name in ("n", "coverage_50", "coverage_90")}
    filled = ColumnDataSource({"x": x, "y": y, **numbers})
    open_ = ColumnDataSource({"x": x, "y": y, **hollow, **numbers})
    glyphs = [
        plot.scatter("x", "y", source=filled, size=9, color=colour),
        plot.scatter("x", "y", source=open_, size=9, fill_color=PANEL, line_color=colour, line_width=2),
    ]
    held = [("90 %", "@coverage_90{0.000}"), ("50 %", "@coverage_50{0.000}"), ("n", "@n{0,0}")]
    plot.add_tools(HoverTool(renderers=glyphs, tooltips=held))


def _nominal(plot: Any, dimension: str) -> None:
    for share in (0.5, 0.9):
        plot.add_layout(Span(location=share, dimension=dimension, line_color=DIM, line_dash="dashed"))


def _held_by_class(coverage: Sequence[tuple[dict[str, Any], str]]) -> Any:
    """Classes from the top down, streets with a counter a little lower."""
    codes = sorted({row["road_class"] for group, _ in coverage for row in group["by_class"]})
    names = {row["road_class"]: row["name"] for group, _ in coverage for row in group["by_class"]}
    plot = _figure(
        "share of truths held", "", x_range=Range1d(0, 1.02), y_range=Range1d(len(codes) - 0.3, -0.6)
    )
    _nominal(plot, "height")
    for k, (group, colour) in enumerate(coverage):
        rows = group["by_class"]
        y = [codes.index(row["road_class"]) + 0.22 * k for row in rows]
        _dots(plot, _of(rows, "coverage_90"), y, {"x": _of(rows, "coverage_50")}, rows, colour)
    _place([names[code] for code in codes], plot.yaxis)
    return plot


def _of(rows: Sequence[dict[str, Any]], name: str) -> list[float]:
    return [row[name] for row in rows]


def _held_by_tenth(coverage: Sequence[tuple[dict[str, Any], str]]) -> Any:
    """Tenths at the middle of their estimates."""
    plot = _figure("estimate [1/h]", "share of truths held", x_axis_type="log", y_range=Range1d(0, 1.02))
    _nominal(plot, "width")
    for group, colour in coverage:
        rows = group["by_tenth_of_estimate"]
        x = [np.sqrt(max(row["from_flow_per_h"], 0.5) * max(row["to_flow_per_h"], 0.5)) for row in rows]
        _dots(plot, x, _of(rows, "coverage_90"), {"y": _of(rows, "coverage_50")}, rows, colour)
    return plot


def _held_by_distance(coverage: dict[str, Any]) -> Any:
    rows = coverage["by_distance_to_sensor"]
    labels = [
        f"> {row['from_m']:.0f} m" if row["to_m"] is None else f"{row['from_m']:.0f} to {row['to_m']:.0f} m"
        for row in rows
    ]
    plot = _figure(
        "", "share of truths held", y_range=Range1d(0, 1.02), x_range=Range1d(-0.6, len(rows) - 0.4)
    )
    _nominal(plot, "width")
    places = np.arange(len(rows))
    _dots(plot, places, _of(rows, "coverage_90"), {"y": _of(rows, "coverage_50")}, rows, OWN)
    _place(labels, plot.xaxis)
    return plot


def _class_errors(group: dict[str, Any]) -> Any:
    classes = [row for row in group.get("errors_by_class", ()) if row["n"]]
    own = _of(classes, "wape")
    # A reference may be off by several times the truth: it stands at the edge, and in the table.
    edge = max([1.0, *own]) * 1.06
    plot = _figure("WAPE", "", x_range=Range1d(0, edge), y_range=Range1d(len(classes) - 0.3, -0.6))
    for name, (title, colour) in REFERENCES.items():
        y = [k for k, row in enumerate(classes) if name in row["references"]]
        if y:
            x = [min(classes[k]["references"][name]["wape"], edge * 0.995) for k in y]
            mark = {"marker": "dash", "angle": np.pi / 2, "line_color": colour, "line_width": 3}
            plot.scatter(x, y, size=16, legend_label=title, **mark)
    plot.scatter(own, np.arange(len(own)), size=11, color=OWN, legend_label="Twinroom")
    _place([row["name"] for row in classes], plot.yaxis)
    _legend(plot)
    return plot


def _legend(plot: Any) -> None:
    """One line above the plot."""
    (legend,) = plot.legend
    plot.add_layout(legend, "above")
    legend.orientation, legend.background_fill_color, legend.border_line_color = "horizontal", PANEL, None
    legend.label_text_color, legend.label_text_font_size = DIM, "11px"
    legend.spacing, legend.padding, legend.margin, legend.glyph_width, legend.label_standoff = 8, 0, 2, 14, 2


def _left_out(sensors: Sequence[dict[str, Any]]) -> Any:
    """Expected with its interval over the reading, on logarithmic scales."""
    columns = ("sensor", "source", "reading_per_h", "expected_per_h", "lo90_per_h", "hi90_per_h")
    reading = [row["reading_per_h"] for row in sensors]
    top = 1.3 * max([10.0, *reading, *(row["expected_per_h"] for row in sensors)])
    plot = _figure("reading [1/h]", "expected from the others [1/h]", x_axis_type="log", y_axis_type="log",
                   x_range=Range1d(1, top), y_range=Range1d(1, top))  # fmt: skip
    plot.line([1, top], [1, top], color=DIM, line_dash="dashed")
    for simulated, colour, marker, size, alpha, bar_alpha in (
        (True, OWN, "circle", 4, 0.6, 0.18),
        (False, OTHER, "square", 10, 1.0, 0.9),
    ):
        chosen = [row for row in sensors if row["simulated"] == simulated]
        table: dict[str, Any] = {name: [row[name] for row in chosen] for name in columns}
        for name in columns[2:]:
            table[name] = np.maximum(np.array(table[name], dtype=np.float64), 1.0)
        source = ColumnDataSource(table)
        bar = {"color": colour, "alpha": bar_alpha, "line_width": 1 if simulated else 2}
        plot.segment("reading_per_h", "lo90_per_h", "reading_per_h", "hi90_per_h", source=source, **bar)
        point = {"marker": marker, "size": size, "color": colour, "alpha": alpha}
        points = plot.scatter("reading_per_h", "expected_per_h", source=source, **point)
        tooltips = [("counter", "@sensor (@source)"), ("reading", "@reading_per_h{0}/h"),
                    ("expected", "@expected_per_h{0}/h (@lo90_per_h{0} to @hi90_per_h{0})")]  # fmt: skip
        plot.add_tools(HoverTool(renderers=[points], tooltips=tooltips))
        if not simulated:
            plot.text("reading_per_h", "expected_per_h", text="sensor", source=source, x_offset=-9,
                      y_offset=4, text_align="right", text_color=TEXT, text_font_size="12px")  # fmt: skip
    return plot


def _width(rows: Compared) -> Any:
    """Median relative width of the 90 % interval in tenths of the estimate."""
    plot = _figure("estimate [1/h]", "(hi90 - lo90) / (estimate + 5)", x_axis_type="log")
    plot.y_range.start = 0
    for sensored, colour in ((False, OWN), (True, OTHER)):
        at = rows.is_sensored == sensored
        if at.sum() < 10:
            continue
        flow = rows.values["flow_per_h"][at]
        width = (rows.values["hi90"] - rows.values["lo90"])[at] / (flow + 5.0)
        parts: list[NDArray[np.int64]] = np.array_split(np.argsort(flow, kind="stable"), 10)
        x = [max(float(np.median(flow[part])), 0.5) for part in parts]
        y = [float(np.median(width[part])) for part in parts]
        plot.line(x, y, color=colour, line_width=2)
        plot.scatter(x, y, color=colour, size=8)
    return plot
