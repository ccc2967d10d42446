"""The Bokeh figures of the page: the map and the trends. Built once; then only their columns change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from bokeh.models import (
    ColumnDataSource,
    DatetimeTickFormatter,
    FixedTicker,
    ImageRGBA,
    Line,
    MultiLine,
    Range1d,
    Scatter,
    Span,
    Text,
    VArea,
)
from bokeh.plotting import figure
from numpy.typing import NDArray

from dashboards.board import Alarm
from dashboards.colour import BACKGROUND
from dashboards.raster import Viewport

MARKERS = {1: "triangle", 2: "diamond", 3: "circle", 4: "square"}
LETTERS = {1: "1", 2: "2", 3: "3", 4: "Q"}
MIN_EXTENT_M, MAX_EXTENT_M = 150.0, 80_000.0
MAX_PIXELS = 4096


class MapPlot:
    """Where is what? One image of the viewport; only the selection and the alarms are vectors."""

    def __init__(self, home: tuple[float, float, float]) -> None:
        self._home = home
        self._size = (0, 0)
        self._is_placed = False
        self._image = ColumnDataSource({k: [] for k in ("image", "x", "y", "dw", "dh")})
        self._selected = ColumnDataSource({"xs": [], "ys": []})
        self._alarms = ColumnDataSource({k: [] for k in ("x", "y", "colour", "marker", "letter", "ring")})
        self.plot = self._build()

    def _build(self) -> Any:
        x, y, height = self._home
        plot = figure(
            name="map",
            sizing_mode="stretch_both",
            x_range=Range1d(x - height, x + height, min_interval=MIN_EXTENT_M, max_interval=MAX_EXTENT_M),
            y_range=Range1d(y - height / 2, y + height / 2, min_interval=MIN_EXTENT_M / 4),
            tools="pan,wheel_zoom,tap",
            active_scroll="wheel_zoom",
            toolbar_location=None,
            min_border=0,
            background_fill_color=BACKGROUND,
            border_fill_color=BACKGROUND,
            outline_line_color=None,
            html_attributes={"role": "img", "aria-label": "Map of the streets, coloured by the chosen layer"},
        )
        plot.axis.visible = False
        plot.grid.visible = False
        # add_glyph, for the methods of a figure make four glyphs each: a visit would cost half as much again
        plot.add_glyph(self._image, ImageRGBA(image="image", x="x", y="y", dw="dw", dh="dh"))
        for colour, width in (("#000000", 9), ("#ffffff", 6), (BACKGROUND, 2)):
            outline = MultiLine(xs="xs", ys="ys", line_color=colour, line_width=width, line_cap="round")
            plot.add_glyph(self._selected, outline, nonselection_glyph=None)
        ring = Scatter(x="x", y="y", size="ring", marker="circle", fill_color=BACKGROUND, fill_alpha=0.72,
                       line_color="colour", line_width=1.5)  # fmt: skip
        mark = Scatter(x="x", y="y", size=14, marker="marker", fill_color="colour", line_color="#000000")
        letter = Text(x="x", y="y", text="letter", text_color="colour", x_offset=18, text_baseline="middle",
                      text_font_size="15px", text_font_style="bold",
                      text_outline_color=BACKGROUND)  # fmt: skip
        for glyph in (ring, mark, letter):
            plot.add_glyph(self._alarms, glyph, nonselection_glyph=None)
        return plot

    def on_view(self, callback: Callable[[], None]) -> None:
        """Call back when the viewer pans or zooms."""

        def moved(_attribute: str, _old: object, _new: object) -> None:
            callback()

        for axis in (self.plot.x_range, self.plot.y_range):
            for end in ("start", "end"):
                axis.on_change(end, moved)

    def resize(self, width: int, height: int) -> None:
        """Note the size of the map on the screen [pixels]; Bokeh does not tell it, so the page does."""
        self._size = (min(max(0, width), MAX_PIXELS), min(max(0, height), MAX_PIXELS))

    def viewport(self) -> Viewport | None:
        """What the viewer sees, None before the browser has said how large it is.

        Metres per pixel are made equal in both axes: what the range of x says, y follows.
        """
        width, height = self._size
        if width < 8 or height < 8:
            return None
        if not self._is_placed:
            self._is_placed = True
            self.home()
        x, y = self.plot.x_range, self.plot.y_range
        wanted = (x.end - x.start) * height / width
        if abs((y.end - y.start) / wanted - 1) > 1e-3:
            middle = (y.start + y.end) / 2
            y.update(start=middle - wanted / 2, end=middle + wanted / 2)
        return Viewport(x.start, y.start, x.end, y.start + wanted, width, height)

    def home(self) -> None:
        """The first view again."""
        x, y, height = self._home
        self._look_at(x, y, height * self._size[0] / max(1, self._size[1]))

    def centre_on(self, x: float, y: float) -> None:
        """Move a place to the middle, near enough to tell the streets apart."""
        extent = self.plot.x_range.end - self.plot.x_range.start
        self._look_at(x, y, min(extent, 4000.0))

    def zoom(self, factor: float) -> None:
        """Show ``factor`` times the extent."""
        x, y = self.plot.x_range, self.plot.y_range
        extent = min(MAX_EXTENT_M, max(MIN_EXTENT_M, (x.end - x.start) * factor))
        self._look_at((x.start + x.end) / 2, (y.start + y.end) / 2, extent)

    def pan(self, right: float, up: float) -> None:
        """Move by fractions of the extent."""
        x, y = self.plot.x_range, self.plot.y_range
        self._look_at(
            (x.start + x.end) / 2 + right * (x.end - x.start),
            (y.start + y.end) / 2 + up * (y.end - y.start),
            x.end - x.start,
        )

    def _look_at(self, x: float, y: float, extent: float) -> None:
        width, height = self._size
        half_height = extent / 2 * height / max(1, width)
        self.plot.x_range.update(start=x - extent / 2, end=x + extent / 2)
        self.plot.y_range.update(start=y - half_height, end=y + half_height)

    def show(self, image: NDArray[np.uint32], view: Viewport) -> None:
        """Put an image where its viewport lies."""
        self._image.data = {
            "image": [image],
            "x": [view.x_min],
            "y": [view.y_min],
            "dw": [view.x_max - view.x_min],
            "dh": [view.y_max - view.y_min],
        }

    def show_selected(self, polyline: NDArray[np.float64]) -> None:
        """Outline a street, (n, 2) [m]; none when empty."""
        lines = [polyline] if len(polyline) else []
        self._selected.data = {"xs": [p[:, 0] for p in lines], "ys": [p[:, 1] for p in lines]}

    def show_alarms(self, alarms: list[Alarm], colours: Mapping[int, str]) -> None:
        """Mark alarms that have a place; an unacknowledged one has a larger ring."""
        placed = [a for a in alarms if np.isfinite(a.x) and np.isfinite(a.y)][:200]
        self._alarms.data = {
            "x": [a.x for a in placed],
            "y": [a.y for a in placed],
            "colour": [colours[a.rank] for a in placed],
            "marker": [MARKERS[a.rank] for a in placed],
            "letter": [LETTERS[a.rank] for a in placed],
            "ring": [30 if a.is_unacknowledged else 22 for a in placed],
        }


class Trends:
    """How did the selected street come here? The last steps of flow, air and noise."""

    NAMES = ("flow_car", "flow_bicycle", "no2", "noise")
    LINE = "#d9c667"

    def __init__(self) -> None:
        self._x_range = Range1d(0, 1)
        self._sources = {n: ColumnDataSource({k: [] for k in ("t", "y", "lo", "hi")}) for n in self.NAMES}
        self._now = Span(dimension="height", location=None, line_color="#c3c7cc", line_width=1)
        self._ticker = FixedTicker(ticks=[])
        self.plots = [self._build(name) for name in self.NAMES]

    def _build(self, name: str) -> Any:
        is_flow = name.startswith("flow")
        plot = figure(
            name=f"trend_{name}",
            sizing_mode="stretch_both",
            x_range=self._x_range,
            y_range=Range1d(0, 10),
            tools="",
            toolbar_location=None,
            min_border=0,
            background_fill_color=None,
            border_fill_color=None,
            outline_line_color=None,
            html_attributes={"role": "img", "aria-label": f"Trend of {name.replace('_', ' of ')}"},
        )
        source = self._sources[name]
        if is_flow:
            plot.add_glyph(source, VArea(x="t", y1="lo", y2="hi", fill_color=self.LINE, fill_alpha=0.28))
        plot.add_glyph(source, Line(x="t", y="y", line_color=self.LINE, line_width=1.6))
        plot.add_layout(self._now)
        plot.xaxis.ticker = self._ticker
        plot.xaxis.formatter = DatetimeTickFormatter(
            minutes="%H:%M", hourmin="%H:%M", hours="%H:%M", days="%H:%M"
        )
        for axis in (plot.xaxis, plot.yaxis):
            axis.axis_line_color = None
            axis.major_tick_line_color = None
            axis.minor_tick_line_color = None
            axis.major_label_text_color = "#a4aab1"
            axis.major_label_text_font_size = "10px"
            axis.major_label_standoff = 3
        plot.yaxis.ticker.desired_num_ticks = 3
        plot.grid.grid_line_color = "#2b3036"
        return plot

    def set_span(self, start_ms: float, end_ms: float, now_ms: float) -> None:
        """Axis of time: the whole recording, a tick each hour, and a line where the replay is."""
        if (self._x_range.start, self._x_range.end) != (start_ms, end_ms):
            self._x_range.update(start=start_ms, end=end_ms)
            step = 3_600_000 * max(1, round((end_ms - start_ms) / 3_600_000 / 5))
            first = -(-start_ms // step) * step
            self._ticker.ticks = [float(t) for t in np.arange(first, end_ms + 1, step)]
        self._now.location = now_ms

    def show(
        self, time_ms: NDArray[np.int64], values: Mapping[str, NDArray[np.float32]], offset_ms: float
    ) -> None:
        """Draw the trends of a street; times are shifted by ``offset_ms`` to read local."""
        t = time_ms.astype(np.float64) + offset_ms
        for (name, source), plot in zip(self._sources.items(), self.plots, strict=True):
            mode = name.removeprefix("flow_")
            y = values[name]
            low, high = values.get(f"lo90_{mode}", y), values.get(f"hi90_{mode}", y)
            source.data = {"t": t, "y": y, "lo": low, "hi": high}
            start, end = _scale(high, from_zero=name.startswith("flow"))
            plot.y_range.update(start=start, end=end)


def _scale(values: NDArray[np.float32], *, from_zero: bool) -> tuple[float, float]:
    """Ends of an axis that holds the values and does not make noise look like change."""
    known = values[np.isfinite(values)].astype(np.float64)
    if from_zero:
        return 0.0, max(10.0, 1.1 * float(known.max(initial=0.0)))
    if not known.size:
        return 0.0, 10.0
    middle, half = (known.min() + known.max()) / 2, max(2.0, 0.6 * float(known.max() - known.min()))
    return float(middle - half), float(middle + half)
