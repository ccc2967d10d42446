"""A running page and a browser, for the tests that drive it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cities.pack import City
from dashboards.board import Board
from dashboards.control import Control
from dashboards.server import make_server
from tests.dashboards.town import NotingControl, full_board, make_town


@dataclass(slots=True)
class Room:
    """A running server, what it shows and who controls it."""

    city: City
    board: Board
    control: NotingControl
    server: Any

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    def on_loop(self, function: Callable[[], Any]) -> Any:
        """Result of a call in the server's own thread."""
        answer: Future[Any] = Future()
        self.server.io_loop.add_callback(lambda: answer.set_result(function()))
        return answer.result(timeout=30)


@contextmanager
def serving(city: City, board: Board, control: Control, origins: tuple[str, ...] = ()) -> Iterator[Any]:
    """A server of the page on a free port, in a thread of its own."""
    ready = threading.Event()
    made: list[Any] = []

    def serve() -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        server = make_server(city, board, control, port=0, origins=origins)
        made.append(server)
        server.start()
        server.io_loop.add_callback(ready.set)
        server.io_loop.start()
        server.stop()
        server.room.close()
        server.io_loop.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert ready.wait(60)
    yield made[0]
    made[0].io_loop.add_callback(made[0].io_loop.stop)
    thread.join(30)
    assert not thread.is_alive()


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    """The page of a small town, served from a thread of its own."""
    monkeypatch.setattr("dashboards.server.UNUSED_SESSION_MS", 500)
    city = make_town(tmp_path / "town")
    board, control = full_board(city), NotingControl()
    with serving(city, board, control) as server:
        yield Room(city, board, control, server)
