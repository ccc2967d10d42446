from __future__ import annotations

import contextlib
import gc
import http.client
import json
import socket
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from bokeh.client import pull_session
from bokeh.util.token import generate_jwt_token, generate_session_id

from dashboards.server import PortInUseError, make_server
from tests.dashboards.conftest import Room, serving
from tests.dashboards.town import NotingControl, full_board, make_town

N_VISITS = 26


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    """True as soon as a condition holds, False when it has not within some seconds."""
    event_at = time.monotonic() + seconds
    while time.monotonic() < event_at:
        if condition():
            return True
    return False


def test_a_busy_port_is_named_with_what_to_do(tmp_path: Path) -> None:
    city = make_town(tmp_path / "town")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"port {port} is in use; choose another with --port"):
            make_server(city, full_board(city), NotingControl(), port=port)


def test_the_page_needs_nothing_from_outside(room: Room) -> None:
    with urllib.request.urlopen(f"{room.address}/ops") as answer:
        text = answer.read().decode()
    assert "Testby &amp; Co" in text
    outside = [part.split('"')[0] for part in text.split('src="')[1:] + text.split('href="')[1:]]
    assert not [link for link in outside if link.startswith(("http:", "https:", "//"))]


def test_a_foreign_page_may_not_open_the_websocket(room: Room) -> None:
    host, port = "127.0.0.1", room.server.port
    with contextlib.closing(http.client.HTTPConnection(host, port)) as connection:
        connection.putrequest("GET", "/ops/ws")
        for name, value in (
            ("Origin", "http://example.org"),
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ):
            connection.putheader(name, value)
        connection.endheaders()
        assert connection.getresponse().status == 403


def test_visitors_that_leave_leave_nothing_behind(room: Room) -> None:
    for visit in range(N_VISITS):
        if visit % 25 == 0:  # some come as far as the websocket, the others leave before it
            session = pull_session(url=f"{room.address}/ops")
            assert session.document.get_model_by_name("map") is not None
            session.close()
        else:
            urllib.request.urlopen(f"{room.address}/ops").close()
    assert room.on_loop(lambda: room.server.room.n_opened) == N_VISITS

    def is_forgotten() -> bool:
        gc.collect()
        return not room.on_loop(lambda: room.server.get_sessions("/ops")) and not room.server.room.sessions

    assert wait_until(is_forgotten)
    assert room.control.now.playing


def test_health_says_steps_and_what_the_control_adds(room: Room) -> None:
    with urllib.request.urlopen(f"{room.address}/health") as answer:
        told = json.load(answer)
    assert told["steps"] == 1
    assert told["frame_age_s"] == 1.5


@pytest.mark.parametrize(
    ("origin", "status"), [("https://room.example", 101), ("https://other.example", 403)]
)
def test_a_page_behind_a_proxy_is_known_by_its_origin(tmp_path: Path, origin: str, status: int) -> None:
    city = make_town(tmp_path / "town")
    with serving(city, full_board(city), NotingControl(), origins=("room.example:443",)) as server:
        token = generate_session_id(signed=False)
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port)) as connection:
            connection.putrequest("GET", "/ops/ws")
            for name, value in (
                ("Origin", origin),
                ("Connection", "Upgrade"),
                ("Upgrade", "websocket"),
                ("Sec-WebSocket-Version", "13"),
                ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ("Sec-WebSocket-Protocol", f"bokeh, {generate_jwt_token(token, signed=False)}"),
            ):
                connection.putheader(name, value)
            connection.endheaders()
            assert connection.getresponse().status == status
