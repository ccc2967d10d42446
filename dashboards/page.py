"""The operators' page: one session of it. The template draws the frame, this moves data in and out."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
import orjson
from bokeh.document import Document
from bokeh.events import Tap
from bokeh.models import ColumnDataSource
from numpy.typing import NDArray

from agents.air import AirExplanation
from cities.pack import City
from dashboards import origin, rolling, view
from dashboards.board import Alarm, Board
from dashboards.colour import PRIORITY
from dashboards.control import Control
from dashboards.explanations import AirQuestion, Answer, Explanations, Question
from dashboards.frames import FrameKey, Frames
from dashboards.hit import StreetFinder
from dashboards.layers import DEFAULT, LAYERS
from dashboards.noise_day import MEANING, NAMES
from dashboards.origin import OriginView, quantity_of
from dashboards.plots import MapPlot, Trends
from dashboards.why import WhyView, chosen_flow, is_of
from kernels.network import Mode, point_along

log = logging.getLogger(__name__)

TICK_MS = 100
ASK_AGAIN_S = 1.0
BEAT_S = 1.0  # the page greys its map when it hears nothing for five of these
SETTLE_S = 0.08  # a pan is drawn anew when it has rested this long
HIT_PX = 14
GROUP_QUANTITIES = {layer.group: layer.quantity for layer in LAYERS.values() if layer.quantity}


class Session:
    """One viewer. Sends the newest state only: a slow browser skips frames instead of seeing old ones."""

    def __init__(
        self,
        document: Document,
        city: City,
        board: Board,
        control: Control,
        frames: Frames,
        explanations: Explanations,
        finder: StreetFinder,
        origin_view: OriginView,
    ) -> None:
        self._city, self._board, self._control = city, board, control
        self._frames, self._explanations, self._finder = frames, explanations, finder
        self._clock = view.Clock(city.timezone)
        self._street_view = view.StreetView(city)
        self._why_view = WhyView(city, self._clock, self._street_view.heading)
        self._origin_view = origin_view
        self._layer, self._averaging, self._segment = DEFAULT, "now", -1
        self._is_explaining, self._mode = True, Mode.CAR
        self._direction: int | None = None  # the busier one
        self._asked: tuple[Question, Future[Answer]] | None = None
        self._explained: tuple[Any, ...] = ()
        self._ask_again_s = math.inf
        self._asked_air: tuple[int, AirQuestion, Future[AirExplanation | None]] | None = None
        self._explained_air: tuple[Any, ...] = ()
        self._message = ""
        self._shown_frame: FrameKey | None = None
        self._drawing: tuple[FrameKey, Future[NDArray[np.uint32]]] | None = None
        self._shown_state: tuple[Any, ...] = ()
        self._shown_clock: tuple[Any, ...] = ()
        self._beat_at = self._moved_at = 0.0
        self._map = MapPlot(view.bounding_view(city))
        self._trends = Trends()
        self._state = ColumnDataSource({"json": [""]}, name="state")
        self._clock_source = ColumnDataSource({"json": [""]}, name="clock")
        self._why = ColumnDataSource({"json": [""]}, name="why")
        self._origin = ColumnDataSource({"json": [""]}, name="origin")
        self._command = ColumnDataSource({"json": [""]}, name="command")
        self._read_arguments(document)
        self._attach(document)

    def _read_arguments(self, document: Document) -> None:
        context = document.session_context
        arguments = {} if context is None else context.request.arguments
        wanted = {
            k: arguments[k][-1].decode(errors="replace") for k in ("segment", "layer") if k in arguments
        }
        layer = wanted.get("layer", DEFAULT)
        if layer in LAYERS:
            self._layer = layer
        else:
            self._message = f"There is no layer “{layer[:40]}”. Layers: {', '.join(LAYERS)}."
        if "segment" in wanted:
            self._select_id(wanted["segment"])

    def _select_id(self, identifier: str) -> None:
        segment = self._finder.index_of(identifier)
        if segment is None:
            self._message = f"There is no street segment “{identifier[:40]}” in {self._city.title}."
        else:
            self._select(segment)

    def _attach(self, document: Document) -> None:
        self._map.plot.on_event(Tap, self._on_tap)
        self._map.on_view(self._on_view)
        self._command.on_change("data", self._on_command)
        document.title = f"Twinroom · {self._city.title}"
        with document.models.freeze():  # else each root walks all models again: 1.4 s instead of 0.2
            sources = (self._state, self._clock_source, self._why, self._origin, self._command)
            for root in (self._map.plot, *self._trends.plots, *sources):
                document.add_root(root)
        document.add_periodic_callback(self.tick, TICK_MS)

    # ---- out ----

    async def tick(self) -> None:
        """Send what has changed; the next tick waits until this one is written.

        A frame or an explanation is fetched when it is ready, not waited for: a waiting tick would hold back
        the clicks.
        """
        now_s = asyncio.get_running_loop().time()
        self._send_clock(now_s)
        self._send_state()
        self._send_origin()
        self._send_why()
        if now_s - self._moved_at >= SETTLE_S:
            self._send_frame()

    def _send_clock(self, now_s: float) -> None:
        status = self._control.status()
        notices = list(self._control.notices())
        clock = (status.now_ms, status.playing, status.speed, status.finished, notices)
        if clock == self._shown_clock and now_s - self._beat_at < BEAT_S:
            return
        self._shown_clock, self._beat_at = clock, now_s
        has_transport = self._control.transport is not None
        state = self._clock.state(status) | {
            "beat": round(now_s, 1), "notices": notices, "has_transport": has_transport,
        }  # fmt: skip
        self._clock_source.data = {"json": [orjson.dumps(state).decode()]}

    def _send_state(self) -> None:
        board = self._board
        wanted = (
            board.version, board.alarm_version, self._layer, self._averaging, self._segment, self._message,
            self._is_explaining, tuple(self._control.faults()), dict(self._control.refused()),
        )  # fmt: skip
        if wanted == self._shown_state:
            return
        alarms = board.alarms()
        self._state.data = {"json": [orjson.dumps(self._build_state(alarms)).decode()]}
        if wanted[1] != (self._shown_state or (0, -1))[1]:
            self._map.show_alarms(alarms, PRIORITY)
        if self._segment >= 0:
            status = self._control.status()
            offset = self._clock.offset_ms(status.now_ms)
            self._trends.show(*board.trend(self._segment), offset)
            self._trends.set_span(status.start_ms + offset, status.end_ms + offset, board.now_ms + offset)
        self._shown_state = wanted

    def _build_state(self, alarms: list[Alarm]) -> view.State:
        board, layer, day_hours = self._board, LAYERS[self._layer], self._board.day_hours()
        known = [a for a in NAMES if board.is_known(rolling.NOISE, a)]
        figures, refused = board.key_figures(), self._control.refused()
        street = None
        if self._segment >= 0:
            street = self._street_view.state(board.street(self._segment), board.hours_seen("no2", "1h"))
        return {
            "city": self._city.title,
            "version": board.version,
            "layer": self._layer,
            "averaging": self._averaging,
            "switches": {g: rolling.averaging_of(q, self._averaging) for g, q in GROUP_QUANTITIES.items()},
            "next_averaging": rolling.next_averaging(layer.quantity, self._averaging, known),
            "rolling": rolling.switch_state(known, day_hours),
            "noise_day": rolling.people_state(board.noise_day(), day_hours),
            "legend": self._legend(known),
            "feeds": view.feeds_state(board.feeds(), board.now_ms),
            "faults": self._why_view.faults(self._control.faults()),
            "figures": view.figures_state(board),
            "alarms": [view.alarm_state(a, self._clock, refused.get(a.key, "")) for a in alarms],
            "street": street,
            "is_explaining": self._is_explaining,
            "message": self._message,
            "n_readings": view.number(figures.n_readings),
            "n_dead_letters": view.number(figures.n_dead_letters),
            "n_changed_segments": figures.n_changed_segments,
            "n_cells_updated": figures.n_cells_updated,
            "step_wall_s": self._control.status().step_wall_s,
        }

    def _legend(self, known: list[str]) -> view.State:
        board, layer = self._board, LAYERS[self._layer]
        averaging = rolling.averaging_of(layer.quantity, self._averaging)
        hours = board.hours_seen(layer.quantity, averaging) if layer.quantity else math.nan
        is_rolling = averaging in NAMES
        is_noise = layer.quantity == rolling.NOISE
        note = rolling.legend_note(averaging, board.propagation()) if is_noise else ""
        about = board.noise_findings if is_noise else ()
        state = view.legend_state(layer, averaging, hours, note, MEANING if is_rolling else "", about)
        if is_rolling and averaging not in known:
            state["averaging"] += f" ({rolling.needs_text(board.day_hours())})"
        return state

    def _send_why(self) -> None:
        """Ask why the chosen flow of the street is what it is, and show the answer once it is there."""
        if self._asked is not None:
            question, future = self._asked
            if not future.done():
                return
            self._asked = None
            self._show_why(question, future.result())
        if self._segment < 0 or not self._is_explaining:
            return
        wanted = (self._board.version, self._segment, self._mode, self._direction)
        if wanted == self._explained and time.monotonic() < self._ask_again_s:
            return
        self._ask_again_s = math.inf
        self._explained = wanted
        flow = chosen_flow(self._board.street(self._segment).flows, self._mode, self._direction)
        if flow is not None:
            question = Question(wanted[0], self._segment, flow.direction, flow.mode)
            self._asked = question, self._explanations.ask(question)

    def _show_why(self, question: Question, answer: Answer) -> None:
        segment = question.segment
        flow = chosen_flow(self._board.street(segment).flows, question.mode, question.direction)
        if flow is None or answer.explanation is None:
            return
        # fusion ends a step before the others do: an answer of the next step is asked again, at its end or,
        # where its end is long under way, as from workers to another machine, a little later
        if not is_of(answer.explanation, flow):
            self._explanations.forget(question)
            self._ask_again_s = time.monotonic() + ASK_AGAIN_S
            return
        state = self._why_view.state(segment, flow, answer, self._board.now_ms)
        self._why.data = {"json": [orjson.dumps(state).decode()]}

    def _send_origin(self) -> None:
        """Ask where the air at the street comes from, and show the answer once it is there."""
        if self._asked_air is not None:
            segment, question, future = self._asked_air
            if not future.done():
                return
            self._asked_air = None
            self._show_origin(segment, question, future.result())
        if self._segment < 0 or not self._is_explaining:
            return
        quantity = quantity_of(LAYERS[self._layer].quantity)
        wanted = (self._board.version, self._segment, quantity)
        if wanted == self._explained_air:
            return
        self._explained_air = wanted
        highest = self._board.highest(quantity, "now", self._segment)
        if highest is None or math.isnan(highest.value):
            self._write_origin(self._origin_view.without(self._segment, quantity, highest))
            return
        question = AirQuestion(wanted[0], highest.cell, quantity)
        self._asked_air = self._segment, question, self._explanations.ask_air(question)

    def _show_origin(self, segment: int, question: AirQuestion, explanation: AirExplanation | None) -> None:
        highest = self._board.highest(question.quantity, "now", segment)
        if explanation is None or highest is None or highest.cell != question.cell:
            return
        # as with a flow: an answer of the next step is asked again at its end
        if origin.is_of(explanation, highest.value):
            now_ms = self._board.now_ms
            self._write_origin(
                self._origin_view.state(segment, question.quantity, highest, explanation, now_ms)
            )

    def _write_origin(self, state: view.State) -> None:
        self._origin.data = {"json": [orjson.dumps(state).decode()]}

    def _send_frame(self) -> None:
        if self._drawing is not None:
            key, image = self._drawing
            if not image.done():
                return
            self._drawing, self._shown_frame = None, key
            self._map.show(image.result(), key[3])
        viewport = self._map.viewport()
        if viewport is None:
            return
        # what the map shows of an averaging layer only; the others have no averaging
        quantity = LAYERS[self._layer].quantity
        averaging = rolling.averaging_of(quantity, self._averaging) if quantity else "now"
        key = (self._board.version, self._layer, averaging, viewport)
        if key == self._shown_frame:
            return
        self._drawing = (key, self._frames.frame(key))

    # ---- in ----

    def _on_view(self) -> None:
        self._moved_at = asyncio.get_event_loop().time()

    def _on_tap(self, event: Tap) -> None:
        viewport = self._map.viewport()
        if viewport is None:
            return
        segment = self._finder.nearest(event.x, event.y, HIT_PX * viewport.m_per_px)
        if segment is None:
            self._deselect()
        else:
            self._select(segment)

    def _select(self, segment: int) -> None:
        if segment != self._segment:
            self._direction = None
        self._segment, self._message = segment, ""
        self._map.show_selected(self._city.network.polyline(segment))

    def _deselect(self) -> None:
        self._segment, self._message = -1, ""
        self._map.show_selected(np.empty((0, 2)))

    def _on_command(self, _attribute: str, _old: object, new: dict[str, list[str]]) -> None:
        command = orjson.loads(new["json"][0])
        name, value = str(command.get("name")), command.get("value")
        action = self._actions().get(name)
        if action is None:
            log.warning("the page sent an unknown command %r", name)
            return
        action(value)

    def _actions(self) -> dict[str, Callable[[Any], None]]:
        return {
            "layer": self._set_layer,
            "averaging": self._set_averaging,
            "acknowledge": lambda v: self._control.acknowledge(str(v["key"]), str(v["who"]), str(v["note"])),
            "goto": self._go_to,
            "select": self._go_to_street,
            "explain": self._explain,
            "explaining": self._set_explaining,
            "deselect": lambda _: self._deselect(),
            "zoom": lambda v: self._map.zoom(float(v)),
            "pan": lambda v: self._map.pan(float(v[0]), float(v[1])),
            "home": lambda _: self._map.home(),
            "size": self._resize,
            **self._transport_actions(),
        }

    def _transport_actions(self) -> dict[str, Callable[[Any], None]]:
        transport = self._control.transport
        if transport is None:
            return {}
        return {
            "play": lambda _: transport.play(),
            "pause": lambda _: transport.pause(),
            "speed": lambda v: transport.set_speed(math.inf if v == "max" else float(v)),
        }

    def _resize(self, size: list[float]) -> None:
        self._map.resize(round(size[0]), round(size[1]))
        self._on_view()

    def _set_layer(self, name: object) -> None:
        if name in LAYERS:
            self._layer = str(name)

    def _set_averaging(self, name: object) -> None:
        """Choose an averaging; an indicator of noise, once it is known, shows noise."""
        if name in NAMES:
            if not self._board.is_known(rolling.NOISE, str(name)):
                return
            self._layer = rolling.NOISE
        if name in view.AVERAGINGS:
            self._averaging = str(name)

    def _go_to(self, key: object) -> None:
        for alarm in self._board.alarms():
            if alarm.key == key and math.isfinite(alarm.x) and math.isfinite(alarm.y):
                self._map.centre_on(alarm.x, alarm.y)
                self._finder_select(alarm)

    def _go_to_street(self, identifier: object) -> None:
        self._select_id(str(identifier))
        if self._segment >= 0:
            self._map.centre_on(*point_along(self._city.network.polyline(self._segment), 0.5))

    def _explain(self, key: object) -> None:
        mode, direction = str(key).split("/")
        self._mode, self._direction = Mode[mode.upper()], int(direction)

    def _set_explaining(self, wanted: object) -> None:
        self._is_explaining = bool(wanted)

    def _finder_select(self, alarm: Alarm) -> None:
        segment = self._finder.nearest(alarm.x, alarm.y, 50.0)
        if segment is not None:
            self._select(segment)
