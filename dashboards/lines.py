"""Anti-aliased thick polylines and other pixel work, compiled.

The map is drawn on the server because a browser takes seconds for tens of thousands of vector lines
(measured: 20,000 `segment` glyphs 0.73 s, 100,000 5.6 s, against 0.2 s for one image of the screen).
All images have row 0 at the south, as Bokeh's image glyphs expect.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

FloatImage = NDArray[np.float32]


@njit(cache=True, error_model="numpy", nogil=True)
def _draw_piece(
    image: FloatImage, x0: float, y0: float, x1: float, y1: float, half: float,
    r: float, g: float, b: float, alpha: float, hatch: int,
) -> None:  # fmt: skip
    """One straight piece with round caps; coverage falls from 1 to 0 over the pixel at its edge."""
    height, width = image.shape[0], image.shape[1]
    dx, dy = x1 - x0, y1 - y0
    squared = dx * dx + dy * dy
    reach = half + 0.5
    row_low = max(0, int(np.floor(min(y0, y1) - reach)))
    row_high = min(height - 1, int(np.ceil(max(y0, y1) + reach)))
    for row in range(row_low, row_high + 1):
        yc = row + 0.5
        # the part of the piece that can touch this row, so that long diagonals cost their area only
        t_low, t_high = 0.0, 1.0
        if abs(dy) > 1e-9:
            ta, tb = (yc - reach - y0) / dy, (yc + reach - y0) / dy
            t_low = max(0.0, min(ta, tb))
            t_high = min(1.0, max(ta, tb))
            if t_low > t_high:
                continue
        xa, xb = x0 + t_low * dx, x0 + t_high * dx
        column_low = max(0, int(np.floor(min(xa, xb) - reach)))
        column_high = min(width - 1, int(np.ceil(max(xa, xb) + reach)))
        for column in range(column_low, column_high + 1):
            xc = column + 0.5
            t = 0.0
            if squared > 0.0:
                t = min(1.0, max(0.0, ((xc - x0) * dx + (yc - y0) * dy) / squared))
            ex, ey = xc - x0 - t * dx, yc - y0 - t * dy
            cover = reach - np.sqrt(ex * ex + ey * ey)
            if cover <= 0.0:
                continue
            # a line thinner than a pixel is fainter, not narrower, and never vanishes
            cover = alpha * min(1.0, cover) * min(1.0, 2.0 * half)
            if hatch > 0 and (column + row) % 6 < 3:
                cover *= 0.35
            image[row, column, 0] += cover * (r - image[row, column, 0])
            image[row, column, 1] += cover * (g - image[row, column, 1])
            image[row, column, 2] += cover * (b - image[row, column, 2])


@njit(cache=True, error_model="numpy", nogil=True)
def draw_polylines(
    image: FloatImage,
    xy: NDArray[np.float32],
    start: NDArray[np.int64],
    item: NDArray[np.int64],
    shift: NDArray[np.float32],
    half: NDArray[np.float32],
    rgb: NDArray[np.float32],
    alpha: NDArray[np.float32],
    hatch: NDArray[np.uint8],
) -> None:
    """Draw items in order, later over earlier.

    Parameters
    ----------
    image : (height, width, 3) float32
        Changed in place.
    xy : (n_vertices, 2) float32
        Vertices [pixels].
    start : (n_polylines + 1,) int64
    item : (n_items,) int64
        Polyline of each item.
    shift : (n_items,) float32
        Offset to the right of the polyline's own direction [pixels].
    half : (n_items,) float32
        Half of the width [pixels].
    rgb : (n_items, 3) float32
    alpha : (n_items,) float32
    hatch : (n_items,) uint8
        Non-zero draws diagonal gaps.
    """
    for i in range(item.size):
        first, last = start[item[i]], start[item[i] + 1] - 1
        x0, y0 = xy[first, 0], xy[first, 1]
        for k in range(first + 1, last + 1):
            x1, y1 = xy[k, 0], xy[k, 1]
            dx, dy = x1 - x0, y1 - y0
            length = np.sqrt(dx * dx + dy * dy)
            if length < 1.0 and k < last:
                continue  # bends smaller than a pixel cannot be seen
            ox = oy = 0.0
            if length > 0.0:
                ox, oy = shift[i] * dy / length, -shift[i] * dx / length
            _draw_piece(
                image, x0 + ox, y0 + oy, x1 + ox, y1 + oy, half[i],
                rgb[i, 0], rgb[i, 1], rgb[i, 2], alpha[i], hatch[i],
            )  # fmt: skip
            x0, y0 = x1, y1


@njit(cache=True, error_model="numpy", nogil=True)
def boxes_of(xy: NDArray[np.float64], start: NDArray[np.int64]) -> NDArray[np.float64]:
    """Bounding box of each polyline: x_min, y_min, x_max, y_max, (n, 4)."""
    boxes = np.empty((start.size - 1, 4))
    for s in range(start.size - 1):
        part = xy[start[s] : start[s + 1]]
        boxes[s, 0], boxes[s, 1] = part[:, 0].min(), part[:, 1].min()
        boxes[s, 2], boxes[s, 3] = part[:, 0].max(), part[:, 1].max()
    return boxes


@njit(cache=True, error_model="numpy", nogil=True)
def blur(image: FloatImage, radius: int) -> FloatImage:
    """Box blur along both axes, twice: near to a Gaussian of sd ``radius``; black outside."""
    out = image
    for _ in range(2):
        out = _blur_rows(out, radius)
        out = _blur_columns(out, radius)
    return out


@njit(cache=True, error_model="numpy", nogil=True)
def _blur_rows(image: FloatImage, radius: int) -> FloatImage:
    height, width, channels = image.shape
    out = np.zeros_like(image)
    scale = np.float32(1.0 / (2 * radius + 1))
    for row in range(height):
        for c in range(channels):
            total = np.float32(0.0)
            for column in range(min(radius, width)):
                total += image[row, column, c]
            for column in range(width):
                if column + radius < width:
                    total += image[row, column + radius, c]
                if column - radius - 1 >= 0:
                    total -= image[row, column - radius - 1, c]
                out[row, column, c] = total * scale
    return out


@njit(cache=True, error_model="numpy", nogil=True)
def _blur_columns(image: FloatImage, radius: int) -> FloatImage:
    height, width, channels = image.shape
    out = np.zeros_like(image)
    scale = np.float32(1.0 / (2 * radius + 1))
    total = np.zeros((width, channels), dtype=np.float32)
    for row in range(min(radius, height)):
        total += image[row]
    for row in range(height):
        if row + radius < height:
            total += image[row + radius]
        if row - radius - 1 >= 0:
            total -= image[row - radius - 1]
        out[row] = total * scale
    return out


@njit(cache=True, error_model="numpy", nogil=True)
def add_glow(image: FloatImage, glow: FloatImage, factor: int, strength: float) -> None:
    """Screen a smaller image over a larger one, with bilinear interpolation."""
    height, width = image.shape[0], image.shape[1]
    rows, columns = glow.shape[0], glow.shape[1]
    for row in range(height):
        gy = (row + 0.5) / factor - 0.5
        r0 = min(max(int(np.floor(gy)), 0), rows - 1)
        r1 = min(r0 + 1, rows - 1)
        fy = np.float32(min(max(gy - r0, 0.0), 1.0))
        for column in range(width):
            gx = (column + 0.5) / factor - 0.5
            c0 = min(max(int(np.floor(gx)), 0), columns - 1)
            c1 = min(c0 + 1, columns - 1)
            fx = np.float32(min(max(gx - c0, 0.0), 1.0))
            for c in range(3):
                low = glow[r0, c0, c] * (1 - fx) + glow[r0, c1, c] * fx
                high = glow[r1, c0, c] * (1 - fx) + glow[r1, c1, c] * fx
                light = strength * (low * (1 - fy) + high * fy)
                image[row, column, c] += light * (1 - image[row, column, c] / 255)


@njit(cache=True, error_model="numpy", nogil=True)
def draw_field(
    image: FloatImage,
    fraction: NDArray[np.float32],
    accuracy: NDArray[np.float32],
    doubtful_below: float,
    tile: int,
    palette: NDArray[np.float32],
    to_column: tuple[float, float],
    to_row: tuple[float, float],
    unknown: NDArray[np.float32],
) -> None:
    """Lay a receptor field over the image, bilinear between receptors.

    Parameters
    ----------
    fraction : (n_rows, n_columns) float32
        Place on the colour scale, NaN where unknown.
    accuracy : (tile rows, tile columns) float32
        Below ``doubtful_below`` the field is hatched and loses colour.
    tile : int
        Receptors along each side of a tile.
    to_column, to_row : (offset, factor)
        Receptor coordinate of pixel ``p`` is ``offset + factor (p + 1/2)``, 0 at the centre of the first.
    """
    height, width = image.shape[0], image.shape[1]
    rows, columns = fraction.shape
    for row in range(height):
        gy = to_row[0] + to_row[1] * (row + 0.5)
        for column in range(width):
            gx = to_column[0] + to_column[1] * (column + 0.5)
            if gy < -0.5 or gx < -0.5 or gy > rows - 0.5 or gx > columns - 0.5:
                if (column - row) % 9 == 0:  # outside the receptors: hatched, not a low value
                    for c in range(3):
                        image[row, column, c] += 0.22 * (unknown[c] - image[row, column, c])
                continue
            r0 = min(max(int(np.floor(gy)), 0), rows - 1)
            c0 = min(max(int(np.floor(gx)), 0), columns - 1)
            r1, c1 = min(r0 + 1, rows - 1), min(c0 + 1, columns - 1)
            fy, fx = min(max(gy - r0, 0.0), 1.0), min(max(gx - c0, 0.0), 1.0)
            low = fraction[r0, c0] * (1 - fx) + fraction[r0, c1] * fx
            high = fraction[r1, c0] * (1 - fx) + fraction[r1, c1] * fx
            value = low * (1 - fy) + high * fy
            if not np.isfinite(value):
                if column % 7 == 0 and row % 7 == 0:
                    for c in range(3):
                        image[row, column, c] = unknown[c]
                continue
            at = value * 255.0
            k = min(int(at), 254)
            f = at - k
            alpha = 0.42 + 0.5 * value
            trust = accuracy[r0 // tile, c0 // tile]
            doubtful = trust < doubtful_below
            if doubtful and (column + row) % 8 < 2:
                alpha *= 0.55
            red = palette[k, 0] * (1 - f) + palette[k + 1, 0] * f
            green = palette[k, 1] * (1 - f) + palette[k + 1, 1] * f
            blue = palette[k, 2] * (1 - f) + palette[k + 1, 2] * f
            if doubtful:
                grey = 0.3 * red + 0.59 * green + 0.11 * blue
                red = 0.45 * red + 0.55 * grey
                green = 0.45 * green + 0.55 * grey
                blue = 0.45 * blue + 0.55 * grey
            image[row, column, 0] += alpha * (red - image[row, column, 0])
            image[row, column, 1] += alpha * (green - image[row, column, 1])
            image[row, column, 2] += alpha * (blue - image[row, column, 2])


@njit(cache=True, error_model="numpy", nogil=True)
def pack_rgba(image: FloatImage) -> NDArray[np.uint32]:
    """Opaque RGBA as Bokeh reads it, red in the lowest byte, (height, width)."""
    height, width = image.shape[0], image.shape[1]
    out = np.empty((height, width), dtype=np.uint32)
    for row in range(height):
        for column in range(width):
            r = np.uint32(min(max(image[row, column, 0] + 0.5, 0.0), 255.0))
            g = np.uint32(min(max(image[row, column, 1] + 0.5, 0.0), 255.0))
            b = np.uint32(min(max(image[row, column, 2] + 0.5, 0.0), 255.0))
            out[row, column] = r | (g << np.uint32(8)) | (b << np.uint32(16)) | np.uint32(0xFF000000)
    return out
