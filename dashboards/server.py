"""Serves the control room's page over HTTP and a websocket, without anything from outside."""

from __future__ import annotations

import errno
import math
import socket
import weakref
from collections.abc import Sequence
from pathlib import Path

import bokeh
from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.document import Document
from bokeh.server.server import Server
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tornado.web import RequestHandler, StaticFileHandler

from cities.dispersion import dispersion_of
from cities.pack import City
from dashboards import view
from dashboards.board import Board
from dashboards.colour import cividis
from dashboards.control import Control
from dashboards.explanations import Explanations
from dashboards.frames import Frames
from dashboards.hit import StreetFinder
from dashboards.layers import LAYERS
from dashboards.noise_day import NAMES
from dashboards.origin import OriginView
from dashboards.page import Session

HERE = Path(__file__).parent
SPEEDS = (1.0, 5.0, 20.0, 60.0, math.inf)
UNUSED_SESSION_MS = 5_000  # a closed tab is forgotten after this; a reload within it finds its session
MAX_MESSAGE_BYTES = 1_000_000  # from a browser: clicks and ranges are far below; Bokeh allows 20 MB


class PortInUseError(OSError):
    """The port is taken by another program."""


class ControlRoom:
    """What all viewers share, and which of them are there."""

    def __init__(self, city: City, board: Board, control: Control) -> None:
        self._city, self._board, self._control = city, board, control
        self._frames, self._explanations = Frames(city, board), Explanations(control)
        self._finder = StreetFinder(city)
        self._origin_view = OriginView(city, dispersion_of(city), view.Clock(city.timezone))
        self.sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        self.n_opened = 0
        environment = Environment(
            loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined
        )
        self._template = environment.get_template("ops.html")
        self._variables = template_variables(city)

    def open(self, document: Document) -> None:
        """Set up the document of a new viewer."""
        document.template = self._template
        document.template_variables.update(self._variables)
        session = Session(
            document,
            self._city,
            self._board,
            self._control,
            self._frames,
            self._explanations,
            self._finder,
            self._origin_view,
        )
        self.sessions.add(session)
        self.n_opened += 1

    def close(self) -> None:
        """End the threads of drawing and explaining."""
        self._frames.close()
        self._explanations.close()


class Health(RequestHandler):
    """Progress, not heartbeat: how many steps have closed, and where the clock stands."""

    def initialize(self, board: Board, control: Control) -> None:
        self._board, self._control = board, control

    def get(self) -> None:
        steps = {"steps": self._board.version, "now_ms": self._control.status().now_ms}
        self.write(steps | dict(self._control.health()))


def template_variables(city: City) -> dict[str, object]:
    """What the template writes once."""
    stops = cividis()[::15]
    gradient = ", ".join(f"rgb({r:.0f} {g:.0f} {b:.0f})" for r, g, b in stops)
    groups: dict[str, list[object]] = {}
    for layer in LAYERS.values():
        groups.setdefault(layer.group, []).append(layer)
    return {
        "city_title": city.title,
        "crs": city.crs,
        "attribution": str(city.settings.get("city", {}).get("attribution", "")),
        "gradient": gradient,
        "groups": groups,
        "indicators": NAMES,
        "speeds": [("max" if math.isinf(v) else f"{v:g}", view.speed_text(v)) for v in SPEEDS],
        # the map and the trends need the core alone: widgets, tables and formulas would be another 2.7 MB
        "bokeh_version": bokeh.__version__,
        "assets_version": str(max(int(p.stat().st_mtime) for p in (HERE / "static").iterdir())),
    }


def make_server(
    city: City,
    board: Board,
    control: Control,
    *,
    port: int = 5006,
    address: str = "127.0.0.1",
    origins: Sequence[str] = (),
) -> Server:
    """Server of the page at ``/ops`` (``/`` leads there), bound but not yet running.

    Run it with ``server.start()`` and its ``io_loop``; it belongs to the event loop of the calling thread.

    Parameters
    ----------
    port : int
        0 takes a free one; see ``server.port``.
    origins : sequence of str
        HOST or HOST:PORT under which a proxy serves the page.

    Raises
    ------
    PortInUseError
        When another program holds the port.
    """
    port = _checked_port(address, port)
    # a browser names the port only where it is not the scheme's
    named = [origin.removesuffix(":443").removesuffix(":80") for origin in origins]
    room = ControlRoom(city, board, control)
    application = Application(FunctionHandler(room.open))
    hosts = {address, "127.0.0.1", "localhost"}
    server = Server(
        {"/ops": application},
        address=address,
        port=port,
        allow_websocket_origin=[*(f"{host}:{port}" for host in sorted(hosts)), *named],
        extra_patterns=[
            (r"/assets/(.*)", StaticFileHandler, {"path": str(HERE / "static")}),
            (r"/health", Health, {"board": board, "control": control}),
        ],
        redirect_root=True,
        use_index=True,
        unused_session_lifetime_milliseconds=UNUSED_SESSION_MS,
        check_unused_sessions_milliseconds=UNUSED_SESSION_MS // 5,
        websocket_max_message_size=MAX_MESSAGE_BYTES,
        keep_alive_milliseconds=10_000,
    )
    server.room = room
    return server


def _checked_port(address: str, port: int) -> int:
    """A port that is free, or the reason why not in words."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise PortInUseError(error.errno, f"port {port} is in use; choose another with --port") from error
        return int(probe.getsockname()[1])
