"""The map as one image of the viewport: roads, flows and receptor fields."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from cities.pack import City
from dashboards import lines
from dashboards.colour import BACKGROUND, ROAD, UNKNOWN, cividis, fraction_of, rgb_of
from dashboards.layers import Layer
from kernels.network import Direction
from kernels.receptors import TILE, ReceptorGrid

GLOW_FACTOR = 4  # the glow is blurred at a quarter of the resolution: 1/16 of the work, and no one sees it
TWO_WAYS_BELOW_M_PER_PX = 3.0  # finer than this, the directions of a street are drawn side by side
HATCHED_FROM_PX = 2.0  # a thinner line would fall into dots: it only loses its colour
REMEMBERED_BASES = 8


@dataclass(frozen=True, slots=True)
class Viewport:
    """Extent [m] and size [pixels] of an image."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float
    width: int
    height: int

    @property
    def m_per_px(self) -> float:
        return (self.x_max - self.x_min) / self.width


@dataclass(frozen=True, slots=True)
class RoadScene:
    """Values on directed edges, each (n_segments, 2); NaN where unknown or no such edge."""

    value: NDArray[np.float32]
    accuracy: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FieldScene:
    """A receptor field (n_rows, n_columns) and its accuracy by tile; NaN where unknown."""

    value: NDArray[np.float32]
    accuracy: NDArray[np.float32]


class MapRaster:
    """Draws any layer for any viewport; geometry is prepared once for all viewers."""

    def __init__(self, city: City) -> None:
        network = city.network
        self._xy = network.vertex_xy
        self._start = network.vertex_start
        self._boxes = lines.boxes_of(network.vertex_xy, network.vertex_start)
        self._grid: ReceptorGrid = city.grid
        self._palette = cividis()
        self._unknown = rgb_of(UNKNOWN)
        # wide roads stand out also before anything is known of them
        capacity = city.class_values("capacity_veh_per_h") * city.lanes
        self._rank = (np.clip(capacity / 4000.0, 0.0, 1.0) ** 0.7).astype(np.float32)
        self._is_motor = city.class_values("motor").astype(bool)
        self._bases: OrderedDict[Viewport, NDArray[np.float32]] = OrderedDict()
        self._lock = Lock()

    def draw(self, view: Viewport, layer: Layer, scene: RoadScene | FieldScene) -> NDArray[np.uint32]:
        """Image of a layer, (height, width) RGBA; row 0 is the south."""
        if isinstance(scene, FieldScene):
            image = self._blank(view)
            self._add_field(image, view, layer, scene)
            self._add_roads(image, view, over_field=True)
        else:
            image = self._base(view).copy()
            self._add_values(image, view, layer, scene)
        return lines.pack_rgba(image)

    def _blank(self, view: Viewport) -> NDArray[np.float32]:
        image = np.empty((view.height, view.width, 3), dtype=np.float32)
        image[:] = rgb_of(BACKGROUND)
        return image

    def _base(self, view: Viewport) -> NDArray[np.float32]:
        """The roads in grey; the same until a viewer pans, so remembered."""
        with self._lock:
            if view in self._bases:
                self._bases.move_to_end(view)
                return self._bases[view]
        image = self._blank(view)
        self._add_roads(image, view, over_field=False)
        with self._lock:
            self._bases[view] = image
            while len(self._bases) > REMEMBERED_BASES:
                self._bases.popitem(last=False)
        return image

    def _visible(self, view: Viewport) -> NDArray[np.int64]:
        margin = 12 * view.m_per_px
        b = self._boxes
        return np.nonzero(
            (b[:, 2] > view.x_min - margin)
            & (b[:, 0] < view.x_max + margin)
            & (b[:, 3] > view.y_min - margin)
            & (b[:, 1] < view.y_max + margin)
        )[0]

    def _pixels(self, view: Viewport, factor: int = 1) -> NDArray[np.float32]:
        scale = 1.0 / (view.m_per_px * factor)
        return np.asarray((self._xy - (view.x_min, view.y_min)) * scale, dtype=np.float32)

    def _add_roads(self, image: NDArray[np.float32], view: Viewport, *, over_field: bool) -> None:
        item = self._visible(view)
        item = item[np.argsort(self._rank[item], kind="stable")]
        rank = self._rank[item]
        zoom = zoom_factor(view.m_per_px)
        half = 0.5 * np.maximum(1.0, (0.7 + 1.9 * rank) * zoom)
        colour = rgb_of("#8a9099" if over_field else ROAD)
        alpha = (0.30 + 0.30 * rank) if over_field else (0.5 + 0.5 * rank)
        alpha = np.where(self._is_motor[item], alpha, 0.6 * alpha)
        lines.draw_polylines(
            image, self._pixels(view), self._start, item,
            np.zeros(item.size, np.float32), half.astype(np.float32),
            np.broadcast_to(colour, (item.size, 3)).copy(), alpha.astype(np.float32),
            np.zeros(item.size, np.uint8),
        )  # fmt: skip

    def _add_values(self, image: NDArray[np.float32], view: Viewport, layer: Layer, scene: RoadScene) -> None:
        visible = self._visible(view)
        zoom = zoom_factor(view.m_per_px)
        value, accuracy = scene.value[visible], scene.accuracy[visible]
        if view.m_per_px < TWO_WAYS_BELOW_M_PER_PX:
            item = np.repeat(visible, 2)
            value, accuracy = value.reshape(-1), accuracy.reshape(-1)
            both = np.isfinite(scene.value[visible]).all(axis=1)
            # traffic keeps to the right: the shift is to the right of each direction's own way
            sign = np.array([1.0 if d is Direction.FORWARD else -1.0 for d in Direction])
            side = np.where(both, 1.0, 0.0)[:, None] * sign
            shift_of_width = side.reshape(-1)
        else:
            item = visible
            value, accuracy = _together(value, layer), _lowest(accuracy)
            shift_of_width = np.zeros(item.size)
        fraction = fraction_of(value, layer.low, layer.high, layer.is_log)
        known = np.isfinite(fraction) & (value > 0.0)
        item, fraction, accuracy = item[known], fraction[known], accuracy[known]
        order = np.argsort(fraction, kind="stable")
        item, fraction, accuracy = item[order], fraction[order], accuracy[order]
        is_flow = layer.is_log
        weight = fraction**1.6 if is_flow else 0.15 + 0.5 * self._rank[item]
        half = 0.5 * np.maximum(1.0, (0.9 + 3.6 * weight) * zoom)
        doubtful = (accuracy < layer.doubtful_below) & (layer.name != "accuracy")
        rgb, alpha = self._line_colours(fraction, doubtful, is_flow)
        shift = shift_of_width[known][order] * (half + 0.6)
        arrays = (item, shift.astype(np.float32), half.astype(np.float32), rgb, alpha)
        hatched = doubtful & (2 * half >= HATCHED_FROM_PX)
        if is_flow:
            self._add_glow(image, view, arrays, fraction)
        lines.draw_polylines(image, self._pixels(view), self._start, *arrays, hatched.astype(np.uint8))

    def _line_colours(
        self, fraction: NDArray[np.float32], doubtful: NDArray[np.bool_], is_flow: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        # the darkest part of the palette cannot be told from the background as a thin line
        rgb = self._palette[(40 + 215 * fraction).astype(np.int64)]
        grey = rgb @ np.array([0.3, 0.59, 0.11], dtype=np.float32)
        rgb = np.where(doubtful[:, None], 0.35 * rgb + 0.65 * grey[:, None], rgb)
        alpha = 0.45 + 0.55 * fraction if is_flow else np.full(fraction.size, 0.95)
        return rgb.astype(np.float32), alpha.astype(np.float32)

    def _add_glow(
        self,
        image: NDArray[np.float32],
        view: Viewport,
        arrays: tuple[NDArray[np.int64], *tuple[NDArray[np.float32], ...]],
        fraction: NDArray[np.float32],
    ) -> None:
        bright = fraction > 0.45
        if not bright.any():
            return
        item, shift, half, rgb, _ = (a[bright] for a in arrays)
        size = (-(-view.height // GLOW_FACTOR), -(-view.width // GLOW_FACTOR), 3)
        glow = np.zeros(size, dtype=np.float32)
        strength = ((fraction[bright] - 0.45) / 0.55) ** 1.2
        lines.draw_polylines(
            glow, self._pixels(view, GLOW_FACTOR), self._start, item, shift / GLOW_FACTOR,
            half / GLOW_FACTOR + np.float32(0.25), rgb, strength.astype(np.float32),
            np.zeros(item.size, np.uint8),
        )  # fmt: skip
        lines.add_glow(image, lines.blur(glow, 2), GLOW_FACTOR, 0.75)

    def _add_field(self, image: NDArray[np.float32], view: Viewport, layer: Layer, scene: FieldScene) -> None:
        grid = self._grid
        per_px = view.m_per_px / grid.step_m
        lines.draw_field(
            image,
            fraction_of(scene.value, layer.low, layer.high, layer.is_log),
            scene.accuracy,
            np.float32(layer.doubtful_below),
            TILE,
            self._palette,
            ((view.x_min - grid.x_min) / grid.step_m - 0.5, per_px),
            ((view.y_min - grid.y_min) / grid.step_m - 0.5, per_px),
            self._unknown,
        )


def zoom_factor(m_per_px: float) -> float:
    """How much wider lines are drawn when zoomed in; 1 at 5 m per pixel."""
    return float(np.clip((5.0 / m_per_px) ** 0.45, 0.6, 3.0))


def _together(value: NDArray[np.float32], layer: Layer) -> NDArray[np.float32]:
    """One value for both directions: the sum of flows, else the worse of the two."""
    known = np.isfinite(value)
    if layer.is_log:
        total = np.where(known, value, 0.0).sum(axis=1)
        return np.where(known.any(axis=1), total, np.nan).astype(np.float32)
    return _lowest(value)


def _lowest(value: NDArray[np.float32]) -> NDArray[np.float32]:
    lowest = np.where(np.isfinite(value), value, np.inf).min(axis=1)
    return np.where(np.isfinite(lowest), lowest, np.nan).astype(np.float32)
