"""How soon a changed segment is on the page: from the close of its step to the map drawn in a browser.

The machine's own limit is the same browser drawing the same picture again without any server.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from threadpoolctl import threadpool_limits

from agents.engines.embedded import EmbeddedEngine
from agents.room import make_agents
from cities.pack import City, find_city, load_city
from dashboards.board import Board
from dashboards.control import Control
from dashboards.room import RoomControl
from dashboards.server import make_server
from streams.player import Player
from streams.recording import read_recording
from streams.topics import Topic
from studies.prepare import prepare_city

STEPS = 30
SPEED = 30.0
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
DRAWN = """() => window.twinroom && twinroom.state
  && Bokeh.documents[0].get_model_by_name("map").renderers[0].data_source.data.image.length > 0"""
NOTE_DRAWINGS = """() => { window.drawings = [];
  Bokeh.documents[0].get_model_by_name("map").renderers[0].data_source.properties.data.change.connect(
    () => requestAnimationFrame(() => requestAnimationFrame(() => window.drawings.push(Date.now())))); }"""
DRAW_AGAIN = """() => new Promise((done) => {
  const source = Bokeh.documents[0].get_model_by_name("map").renderers[0].data_source;
  const started = performance.now();
  source.change.emit();
  requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - started))); })"""


def run(city_name: str = "ghent") -> dict[str, Any]:
    """Figures of one viewer at 1600 x 900; needs Chromium and the test extra."""
    chromium = shutil.which("chromium")
    if chromium is None:
        return {"page": "not measured: chromium is not installed"}
    from playwright.sync_api import sync_playwright

    closed_ms: list[float] = []
    with threadpool_limits(1, "blas"):
        city = load_city(find_city(city_name))
        prepared = prepare_city(city, lambda _what, _fraction: None)
        engine = EmbeddedEngine(city, make_agents(city, prepared.prior, prepared.air, prepared.noise))
        board = Board(city)
        player = Player(read_recording(city.folder), engine, speed=SPEED)
        engine.bus.subscribe(Topic, board.apply)
        engine.on_step.append(lambda now_ms, _wall_s: board.close(now_ms))
        engine.on_step.append(lambda _now_ms, _wall_s: closed_ms.append(time.time() * 1000))
        thread = threading.Thread(target=player.run, daemon=True)
        with _serving(city, board, RoomControl(engine, player)) as server, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
            page = browser.new_page(viewport={"width": 1600, "height": 900})
            page.goto(f"http://127.0.0.1:{server.port}/ops")
            thread.start()
            page.wait_for_function(DRAWN, timeout=120_000)
            page.evaluate(NOTE_DRAWINGS)
            first = len(closed_ms)
            while len(closed_ms) < first + STEPS:
                page.wait_for_timeout(200)
            drawings = page.evaluate("window.drawings")
            player.stop()
            thread.join()
            redraw_ms = statistics.median(page.evaluate(DRAW_AGAIN) for _ in range(10))
            browser.close()
    delays = sorted(_delays(closed_ms[first:], drawings))
    return {
        "steps": len(delays),
        "close_to_drawn_median_ms": statistics.median(delays),
        "close_to_drawn_p95_ms": delays[int(0.95 * (len(delays) - 1))],
        "limit_browser_redraw_median_ms": redraw_ms,
        "limit_to_figure_ratio": redraw_ms / statistics.median(delays),
    }


def _delays(closed_ms: list[float], drawings: list[float]) -> Iterator[float]:
    """From the close of each step to the first drawing after it."""
    for moment in closed_ms:
        later = [drawn for drawn in drawings if drawn >= moment]
        if later:
            yield later[0] - moment


@contextmanager
def _serving(city: City, board: Board, control: Control) -> Iterator[Any]:
    ready = threading.Event()
    made: list[Any] = []

    def serve() -> None:
        asyncio.set_event_loop(asyncio.new_event_loop())
        made.append(make_server(city, board, control, port=0))
        made[0].start()
        made[0].io_loop.add_callback(ready.set)
        made[0].io_loop.start()
        made[0].stop()
        made[0].room.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    if not ready.wait(60):
        raise RuntimeError("the page's server did not start in 60 s")
    yield made[0]
    made[0].io_loop.add_callback(made[0].io_loop.stop)
    thread.join()
