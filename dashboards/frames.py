"""Images of the map, drawn in a thread beside the event loop and shared by viewers that look at the same."""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from cities.pack import City
from dashboards.board import Board
from dashboards.layers import LAYERS
from dashboards.raster import MapRaster, Viewport

FrameKey = tuple[int, str, str, Viewport]
"""Version of the board, layer, averaging, viewport."""

REMEMBERED_FRAMES = 4  # 6 MB each


class Frames:
    """Draws each wanted frame once. One thread: two would take the cores that the agents need."""

    def __init__(self, city: City, board: Board) -> None:
        self._board = board
        self._raster = MapRaster(city)
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="raster")
        self._frames: OrderedDict[FrameKey, Future[NDArray[np.uint32]]] = OrderedDict()
        self._pool.submit(self._warm_up)

    def frame(self, key: FrameKey) -> Future[NDArray[np.uint32]]:
        """Image for a key, soon; a drawing that another viewer asked for is not repeated."""
        if key not in self._frames:
            self._frames[key] = self._pool.submit(self._draw, key)
            while len(self._frames) > REMEMBERED_FRAMES:
                self._frames.popitem(last=False)
        return self._frames[key]

    def _warm_up(self) -> None:
        """Compile the drawing before the first viewer waits for it."""
        for name in ("flow_car", "no2"):
            self._draw((0, name, "now", Viewport(0.0, 0.0, 160.0, 160.0, 16, 16)))

    def _draw(self, key: FrameKey) -> NDArray[np.uint32]:
        _, name, averaging, view = key
        layer = LAYERS[name]
        return self._raster.draw(view, layer, self._board.scene(layer, averaging))

    def close(self) -> None:
        """Let the thread end."""
        self._pool.shutdown(wait=False, cancel_futures=True)
