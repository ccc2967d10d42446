"""The page of the bundled morning: the detour changes colour after the closure, and not before."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from threadpoolctl import threadpool_limits

from agents.engines.embedded import EmbeddedEngine
from agents.room import make_agents
from cities.pack import find_city, load_city
from dashboards.board import Board
from dashboards.room import RoomControl
from streams.observation import time_ms
from streams.player import Player
from streams.recording import read_recording
from streams.topics import Topic
from studies.prepare import prepare_city
from tests.dashboards.conftest import serving
from tests.dashboards.test_page_browser import DRAWN, written

pytestmark = [pytest.mark.browser, pytest.mark.slow]
DETOUR = "WEGO010881"  # Sint-Lievenslaan, beside the tunnel


class Room:
    """The control room of the bundled city, played in pieces by the test."""

    def __init__(self) -> None:
        self.city = load_city(find_city("ghent"))
        prepared = prepare_city(self.city, lambda _what, _fraction: None)
        self.recording = read_recording(self.city.folder)
        agents = make_agents(self.city, prepared.prior, prepared.air, prepared.noise)
        self.engine = EmbeddedEngine(self.city, agents, publish_from_ms=time_ms("2022-11-23T06:58:00Z"))
        self.board = Board(self.city)
        self.engine.bus.subscribe(Topic, self.board.apply)
        self.engine.on_step.append(lambda now_ms, _wall_s: self.board.close(now_ms))
        self.player = self._player("2022-11-23T06:58:00Z", "2022-11-23T07:00:00Z", 0)
        self.server: Any = None

    def _player(self, first: str, last: str, offset: int) -> Player:
        return Player(
            self.recording, self.engine, speed=math.inf, from_ms=time_ms(first), to_ms=time_ms(last) + 30_000,
            warm_up_ms=1_800_000, offset=offset,
        )  # fmt: skip

    def play_to(self, local: str) -> None:
        """Play up to a time of the morning, HH:MM local."""
        hour, minute = (int(part) for part in local.split(":"))
        last = f"2022-11-23T{hour - 1:02d}:{minute:02d}:00Z"
        self.player = self._player("2022-11-23T06:58:00Z", last, self.player.offset)
        self.player.run()
        assert self.engine.now_ms == time_ms(last)


@pytest.fixture(scope="module")
def room() -> Iterator[Room]:
    with threadpool_limits(1, "blas"):
        made = Room()
        made.player.run()
        with serving(made.city, made.board, RoomControl(made.engine, made.player)) as made.server:
            yield made


def detour(room: Room) -> NDArray[np.float64]:
    return room.city.network.polyline(room.city.segment_ids.index(DETOUR))


def look_closely(page: Any, room: Room) -> None:
    """Zoom in until the detour is told apart from the ring road beside it."""
    x, y = detour(room).mean(axis=0)
    page.evaluate(
        """([x, y]) => { const map = Bokeh.documents[0].get_model_by_name("map");
          const half = 0.5 * 160 * (map.y_range.end - map.y_range.start) / (map.x_range.end - map.x_range.start);
          map.x_range.setv({start: x - 80, end: x + 80}); map.y_range.setv({start: y - half, end: y + half}); }""",
        [x, y],
    )


def shown(page: Any, room: Room) -> Any:
    """Colours along the detour on the screen, once the page shows the present step: (n, 3)."""
    page.wait_for_function(
        "v => twinroom.state && twinroom.state.version === v", arg=room.board.version, timeout=60_000
    )
    page.wait_for_timeout(1500)  # of the browser's clock: the map follows its figures by one drawing
    frame = page.evaluate(
        """() => { const map = Bokeh.documents[0].get_model_by_name("map");
          return [map.x_range.start, map.x_range.end, map.y_range.start, map.y_range.end]; }"""
    )
    with Image.open(io.BytesIO(page.locator("#map-host").screenshot())) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    height, width = pixels.shape[:2]
    line = detour(room)
    at = np.linspace(0.2, 0.8, 25)
    x = np.interp(at, np.linspace(0, 1, len(line)), line[:, 0])
    y = np.interp(at, np.linspace(0, 1, len(line)), line[:, 1])
    column = ((x - frame[0]) / (frame[1] - frame[0]) * width).astype(int)
    row = ((frame[3] - y) / (frame[3] - frame[2]) * height).astype(int)
    return np.stack([pixels[row + d, column] for d in range(-2, 3)]).max(axis=0)


def test_the_detour_changes_colour_after_the_closure_and_not_before(room: Room, chromium: Any) -> None:
    page = chromium.new_page(viewport={"width": 1600, "height": 900})
    try:
        page.goto(f"http://127.0.0.1:{room.server.port}/ops?segment={DETOUR}")
        page.wait_for_function(DRAWN, timeout=60_000)
        page.keyboard.press("Escape")
        look_closely(page, room)
        early = shown(page, room)
        room.play_to("08:09")
        before = shown(page, room)
        room.play_to("08:30")
        after = shown(page, room)
    finally:
        page.close()
    changed_before = np.abs(before - early).mean()
    changed_after = np.abs(after - before).mean()
    assert changed_before < 8
    assert changed_after > 20


def test_the_flow_of_the_detour_is_explained_by_its_own_counter(room: Room, chromium: Any) -> None:
    page = chromium.new_page(viewport={"width": 1600, "height": 900})
    try:
        page.goto(f"http://127.0.0.1:{room.server.port}/ops?segment={DETOUR}")
        page.locator("#why .sum:not(#origin-table)").wait_for(timeout=60_000)
        parts, flow = written(page)
        evidence = page.locator(".evidence tbody tr").first.inner_text()
        shown_flow = page.locator(".flows tbody tr").first.locator("td.n").first.inner_text()
    finally:
        page.close()
    assert sum(parts) == flow == float(shown_flow.replace("\u202f", ""))
    assert evidence.startswith("loops")
