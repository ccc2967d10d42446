"""Facades that mirror the sound of a road towards a receptor, once.

The face of a building or screen reflects what comes from its outer side. Looked up are the faces near a
receptor and near a piece of road; one that is near to neither reflects nothing here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.obstacles import Obstacles
from kernels.road_clusters import RoadClusters

NEAR_M = 50.0  # from the place of reflection to the source or the receptor
MIN_FACE_M = 0.5  # shorter faces reflect nothing
_CELL_M = 20.0
_BEFORE_M = 0.01  # the place of reflection lies this far before the face


class Faces(NamedTuple):
    """Reflecting faces. Coordinates are relative to the origin of the obstacles.

    Attributes
    ----------
    edge : (n_faces, 4) float64
        Both ends, x and y; the outer side is on the right [m].
    top : (n_faces,) float64
        Height of the upper edge above the datum [m].
    is_screen : (n_faces,) bool
        Of a screen, not of a building.
    n_columns : int
    start, face : (n_cells + 1,) int32, (n_entries,) int32
        Faces within reach of each cell of 20 m.
    piece_start, piece_face : (n_pieces + 1,) int32, (n_entries,) int32
        Faces within reach of each piece of road, and turned to it.
    reflected : (8,) float64
        Share of the energy that a face reflects, 1 - absorption.
    """

    edge: NDArray[np.float64]
    top: NDArray[np.float64]
    is_screen: NDArray[np.bool_]
    n_columns: int
    start: NDArray[np.int32]
    face: NDArray[np.int32]
    piece_start: NDArray[np.int32]
    piece_face: NDArray[np.int32]
    reflected: NDArray[np.float64]


def index_faces(obstacles: Obstacles, clusters: RoadClusters, reflected: NDArray[np.float64]) -> Faces:
    """Faces of all buildings and, on both sides, screens.

    Parameters
    ----------
    obstacles : Obstacles
    clusters : RoadClusters
    reflected : (8,) float64
        Share of the energy that a face reflects.
    """
    listed = np.concatenate([obstacles.edge.view(np.int32), obstacles.owner[:, None]], axis=1)
    once = np.unique(listed, axis=0)
    edge = np.ascontiguousarray(once[:, :4]).view(np.float32).astype(np.float64)
    owner = once[:, 4]
    is_screen = owner >= obstacles.n_buildings
    edge = np.concatenate([edge, edge[is_screen][:, [2, 3, 0, 1]]])
    owner = np.concatenate([owner, owner[is_screen]])
    long = np.hypot(edge[:, 2] - edge[:, 0], edge[:, 3] - edge[:, 1]) >= MIN_FACE_M
    edge, owner = np.ascontiguousarray(edge[long]), owner[long]

    n_columns = int(np.ceil(obstacles.n_columns * obstacles.cell_m / _CELL_M))
    n_rows = int(np.ceil(obstacles.n_rows * obstacles.cell_m / _CELL_M))
    none = np.empty(0, dtype=np.int32)
    count = np.zeros(n_rows * n_columns, dtype=np.int32)
    _list_near_cells(edge, n_rows, n_columns, count, none)
    start = np.concatenate([[0], np.cumsum(count)]).astype(np.int32)
    face = np.empty(int(start[-1]), dtype=np.int32)
    _list_near_cells(edge, n_rows, n_columns, start[:-1].copy(), face)

    middle = clusters.points[:, 2:4] - obstacles.origin
    slack = clusters.length_m / 2.0
    count = np.zeros(middle.shape[0], dtype=np.int32)
    _list_near_pieces(middle, slack, edge, n_columns, start, face, count, none)
    piece_start = np.concatenate([[0], np.cumsum(count)]).astype(np.int32)
    piece_face = np.empty(int(piece_start[-1]), dtype=np.int32)
    _list_near_pieces(middle, slack, edge, n_columns, start, face, piece_start[:-1].copy(), piece_face)
    return Faces(
        edge, obstacles.top[owner], owner >= obstacles.n_buildings, n_columns, start, face, piece_start,
        piece_face, np.asarray(reflected, dtype=np.float64),
    )  # fmt: skip


@njit(cache=True, error_model="numpy", nogil=True, _nrt=False)
def face_distance(x: float, y: float, edge: NDArray[np.float64], k: int) -> float:
    """From a point to a face."""
    ex, ey = edge[k, 2] - edge[k, 0], edge[k, 3] - edge[k, 1]
    t = ((x - edge[k, 0]) * ex + (y - edge[k, 1]) * ey) / (ex * ex + ey * ey)
    t = min(max(t, 0.0), 1.0)
    u, v = edge[k, 0] + t * ex - x, edge[k, 1] + t * ey - y
    return np.sqrt(u * u + v * v)


@njit(cache=True, error_model="numpy", nogil=True)
def _list_near_cells(
    edge: NDArray[np.float64], n_rows: int, n_columns: int, at: NDArray[np.int32], face: NDArray[np.int32]
) -> None:
    """Count the faces within reach of each cell in ``at``, or write them to ``face`` from there."""
    half = _CELL_M / 2.0
    reach = NEAR_M + half * np.sqrt(2.0)
    for k in range(edge.shape[0]):
        first_row = max(int((min(edge[k, 1], edge[k, 3]) - NEAR_M) / _CELL_M), 0)
        last_row = min(int((max(edge[k, 1], edge[k, 3]) + NEAR_M) / _CELL_M), n_rows - 1)
        first_column = max(int((min(edge[k, 0], edge[k, 2]) - NEAR_M) / _CELL_M), 0)
        last_column = min(int((max(edge[k, 0], edge[k, 2]) + NEAR_M) / _CELL_M), n_columns - 1)
        for row in range(first_row, last_row + 1):
            for column in range(first_column, last_column + 1):
                if face_distance(column * _CELL_M + half, row * _CELL_M + half, edge, k) <= reach:
                    cell = row * n_columns + column
                    if face.size:
                        face[at[cell]] = k
                    at[cell] += 1


@njit(cache=True, error_model="numpy", nogil=True)
def _list_near_pieces(
    middle: NDArray[np.float64],
    slack: NDArray[np.float64],
    edge: NDArray[np.float64],
    n_columns: int,
    start: NDArray[np.int32],
    face: NDArray[np.int32],
    at: NDArray[np.int32],
    listed: NDArray[np.int32],
) -> None:
    for i in range(middle.shape[0]):
        x, y = middle[i, 0], middle[i, 1]
        cell = int(y / _CELL_M) * n_columns + int(x / _CELL_M)
        for e in range(start[cell], start[cell + 1]):
            k = face[e]
            if _before(x, y, edge, k) > -slack[i] and face_distance(x, y, edge, k) <= NEAR_M + slack[i]:
                if listed.size:
                    listed[at[i]] = k
                at[i] += 1


@njit(cache=True, error_model="numpy", nogil=True, _nrt=False)
def _before(x: float, y: float, edge: NDArray[np.float64], k: int) -> float:
    """How far a point lies before a face, negative behind it."""
    ex, ey = edge[k, 2] - edge[k, 0], edge[k, 3] - edge[k, 1]
    return ((x - edge[k, 0]) * ey - (y - edge[k, 1]) * ex) / np.sqrt(ex * ex + ey * ey)


@njit(cache=True, error_model="numpy", nogil=True, _nrt=False)
def near_faces(faces: Faces, x: float, y: float, found: NDArray[np.int32], image: NDArray[np.float64]) -> int:
    """Faces near a receptor and turned to it, and its images in them.

    Parameters
    ----------
    faces : Faces
    x, y : float
    found : (n,) int32
        Result: their indices.
    image : (n, 2) float64
        Result: the images.

    Returns
    -------
    int
        Their number.
    """
    edge, face = faces.edge, faces.face
    cell = int(y / _CELL_M) * faces.n_columns + int(x / _CELL_M)
    n = 0
    for e in range(faces.start[cell], faces.start[cell + 1]):
        k = face[e]
        ex, ey = edge[k, 2] - edge[k, 0], edge[k, 3] - edge[k, 1]
        twice = 2.0 * ((x - edge[k, 0]) * ey - (y - edge[k, 1]) * ex) / (ex * ex + ey * ey)
        if twice > 0.0 and n < found.size:
            found[n] = k
            image[n, 0], image[n, 1] = x - twice * ey, y + twice * ex
            n += 1
    return n


@njit(cache=True, error_model="numpy", nogil=True, _nrt=False)
def place_of_reflection(
    edge: NDArray[np.float64], k: int, image_x: float, image_y: float, x: float, y: float
) -> tuple[float, float, float]:
    """Where the line from an image behind a face to a point before it goes through the face.

    Returns
    -------
    px, py : float
        Place, a centimetre before the face.
    share : float
        Of the line, from the image; -1 where the line misses the face.
    """
    ax, ay = edge[k, 0], edge[k, 1]
    ex, ey = edge[k, 2] - ax, edge[k, 3] - ay
    dx, dy = x - image_x, y - image_y
    # the face seen from the image: its ends lie on both sides of the line
    side_a = dx * (ay - image_y) - dy * (ax - image_x)
    side_b = side_a + dx * ey - dy * ex
    if side_a * side_b > 0.0 or side_a == side_b:
        return 0.0, 0.0, -1.0
    before = (x - ax) * ey - (y - ay) * ex
    behind = (ax - image_x) * ey - (ay - image_y) * ex
    if before <= 0.0 or behind <= 0.0:
        return 0.0, 0.0, -1.0
    share = behind / (before + behind)
    off = _BEFORE_M / np.sqrt(ex * ex + ey * ey)
    return image_x + share * dx + off * ey, image_y + share * dy - off * ex, share
