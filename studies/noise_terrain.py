"""Terrain from lines of known height: a triangulation that keeps the lines as edges.

The Delaunay triangulation of their points, in which edges are flipped until every line is made of edges; then
those that no line needs are flipped back where that makes the triangles rounder. For scenes of some hundred
lines: each is compared with each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay, QhullError

SNAP_M = 1e-4  # points closer than this are one
_AREA_M2 = 1e-9


class TerrainError(ValueError):
    """Lines that span no surface."""


@dataclass(frozen=True, slots=True)
class Terrain:
    """A surface of triangles.

    Attributes
    ----------
    xyz : (n_points, 3) float64
        [m].
    triangles : (n_triangles, 3) int64
        Points, counter-clockwise.
    edges : (n_edges, 2) int64
        Points of each edge.
    border : (n_border, 2) int64
        Those of the edges that belong to one triangle only.
    """

    xyz: NDArray[np.float64]
    triangles: NDArray[np.int64]
    edges: NDArray[np.int64]
    border: NDArray[np.int64]

    def height(self, x: float, y: float) -> float:
        """Of the ground at a place [m]; outside the triangles that of the nearest place on their border."""
        a, b, c = (self.xyz[self.triangles[:, i]] for i in range(3))
        area = _twice_area(a, b, c)
        at = np.array([x, y])
        u, v, w = _twice_area(at, b, c), _twice_area(a, at, c), _twice_area(a, b, at)
        least = np.minimum(np.minimum(u, v), w) / area
        k = int(np.argmax(least))
        if least[k] >= -1e-9:
            return float((u[k] * a[k, 2] + v[k] * b[k, 2] + w[k] * c[k, 2]) / area[k])
        p, q = self.xyz[self.border[:, 0]], self.xyz[self.border[:, 1]]
        along = q[:, :2] - p[:, :2]
        t = np.clip(((at - p[:, :2]) * along).sum(axis=1) / (along**2).sum(axis=1), 0.0, 1.0)
        k = int(np.argmin(np.hypot(*(p[:, :2] + t[:, None] * along - at).T)))
        return float(p[k, 2] + t[k] * (q[k, 2] - p[k, 2]))

    def crossings(self, start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
        """Fractions of the straight way from start to end where it crosses an edge, ascending."""
        p, q = self.xyz[self.edges[:, 0], :2], self.xyz[self.edges[:, 1], :2]
        way, edge, off = end - start, q - p, p - start
        cross = way[0] * edge[:, 1] - way[1] * edge[:, 0]
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (off[:, 0] * edge[:, 1] - off[:, 1] * edge[:, 0]) / cross
            s = (off[:, 0] * way[1] - off[:, 1] * way[0]) / cross
        inside = (t > 0.0) & (t < 1.0) & (s >= -1e-9) & (s <= 1.0 + 1e-9)
        return np.sort(t[inside])


def terrain_of_lines(lines: Sequence[NDArray[np.float64]]) -> Terrain:
    """Surface through lines of three coordinates, (n, 3) each [m].

    Where two lines cross away from their points, both go through the mean of their heights.

    Raises
    ------
    TerrainError
        When all points lie on one line.
    """
    xyz, constraints = _points_and_edges(lines)
    try:
        found = Delaunay(xyz[:, :2]).simplices.astype(np.int64)
    except (QhullError, ValueError) as error:
        raise TerrainError(f"terrain: {len(xyz)} points span no surface") from error
    mesh = _Mesh(xyz, found)
    for p, q in constraints:
        mesh.force(p, q)
    triangles = mesh.triangles()
    directed = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    edges, count = np.unique(np.sort(directed, axis=1), axis=0, return_counts=True)
    return Terrain(xyz, triangles, edges, edges[count == 1])


def _twice_area(
    a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64]
) -> NDArray[np.float64]:
    ab, ac = b[..., :2] - a[..., :2], c[..., :2] - a[..., :2]
    return np.asarray(ab[..., 0] * ac[..., 1] - ab[..., 1] * ac[..., 0])


def _points_and_edges(
    lines: Sequence[NDArray[np.float64]],
) -> tuple[NDArray[np.float64], list[tuple[int, int]]]:
    """Points of all lines and of their crossings, once each, and the edges between them."""
    legs = [(a, b) for line in lines for a, b in pairwise(np.asarray(line, dtype=np.float64))]
    on_leg: list[list[tuple[float, NDArray[np.float64]]]] = [[(0.0, a), (1.0, b)] for a, b in legs]
    for i, (a, b) in enumerate(legs):
        for j in range(i):
            c, d = legs[j]
            way, other, off = b - a, d - c, c - a
            cross = way[0] * other[1] - way[1] * other[0]
            if abs(cross) < _AREA_M2:
                continue
            t = (off[0] * other[1] - off[1] * other[0]) / cross
            s = (off[0] * way[1] - off[1] * way[0]) / cross
            if 0.0 <= t <= 1.0 and 0.0 <= s <= 1.0:
                at = np.array([*(a + t * way)[:2], 0.5 * (a[2] + t * way[2] + c[2] + s * other[2])])
                on_leg[i].append((t, at))
                on_leg[j].append((s, at))
    index: dict[tuple[int, int], int] = {}
    xyz: list[NDArray[np.float64]] = []

    def number(at: NDArray[np.float64]) -> int:
        key = (round(float(at[0]) / SNAP_M), round(float(at[1]) / SNAP_M))
        if key not in index:
            index[key] = len(xyz)
            xyz.append(at)
        return index[key]

    edges = set()
    for a, b in legs:  # given points keep their own heights
        number(a)
        number(b)
    for points in on_leg:
        points.sort(key=lambda point: point[0])
        for (_, a), (_, b) in pairwise(points):
            p, q = number(a), number(b)
            if p != q:
                edges.add((min(p, q), max(p, q)))
    return np.array(xyz).reshape(-1, 3), sorted(edges)


class _Mesh:
    """Triangles as the third point of each directed edge."""

    def __init__(self, xyz: NDArray[np.float64], triangles: NDArray[np.int64]) -> None:
        self._xy = [(float(p[0]), float(p[1])) for p in xyz]
        self._third: dict[tuple[int, int], int] = {}
        self._forced: set[tuple[int, int]] = set()
        for a, b, c in triangles.tolist():
            area = self._area(a, b, c)
            if abs(area) > _AREA_M2:
                self._add(*((a, b, c) if area > 0.0 else (a, c, b)))

    def triangles(self) -> NDArray[np.int64]:
        found = {(a, b, c) for (a, b), c in self._third.items() if a < b and a < c}
        return np.array(sorted(found), dtype=np.int64).reshape(-1, 3)

    def force(self, p: int, q: int) -> None:
        """Flip edges until one leads from p to q, through the points that lie between them."""
        between = [
            (self._share(p, q, k), k)
            for k in range(len(self._xy))
            if k not in (p, q) and self._lies_between(p, q, k)
        ]
        chain = [p, *(k for _, k in sorted(between)), q]
        for a, b in pairwise(chain):
            self._force(a, b)

    def _force(self, p: int, q: int) -> None:
        crossing = [
            (a, b) for a, b in self._third if a < b and (b, a) in self._third and self._cross(p, q, a, b)
        ]
        made: list[tuple[int, int]] = []
        patience = 10 * len(crossing) ** 2 + 10
        while crossing:
            patience -= 1
            if patience < 0:
                raise TerrainError(f"terrain: no triangles along the line {self._xy[p]} to {self._xy[q]}")
            a, b = crossing.pop(0)
            c, d = self._third[a, b], self._third[b, a]
            if self._area(d, b, c) <= _AREA_M2 or self._area(c, a, d) <= _AREA_M2:
                crossing.append((a, b))  # not convex yet
                continue
            self._flip(a, b)
            edge = (min(c, d), max(c, d))
            (crossing if self._cross(p, q, *edge) else made).append(edge)
        self._forced.add((min(p, q), max(p, q)))
        self._round_off(made)

    def _round_off(self, edges: list[tuple[int, int]]) -> None:
        for _ in range(len(edges)):
            changed = False
            for i, (a, b) in enumerate(edges):
                if (a, b) in self._forced or (a, b) not in self._third or (b, a) not in self._third:
                    continue
                c, d = self._third[a, b], self._third[b, a]
                if (
                    self._is_in_circle(a, b, c, d)
                    and min(self._area(d, b, c), self._area(c, a, d)) > _AREA_M2
                ):
                    self._flip(a, b)
                    edges[i] = (min(c, d), max(c, d))
                    changed = True
            if not changed:
                return

    def _flip(self, a: int, b: int) -> None:
        c, d = self._third[a, b], self._third[b, a]
        for edge in ((a, b), (b, c), (c, a), (b, a), (a, d), (d, b)):
            del self._third[edge]
        self._add(c, d, b)
        self._add(d, c, a)

    def _add(self, a: int, b: int, c: int) -> None:
        self._third[a, b], self._third[b, c], self._third[c, a] = c, a, b

    def _area(self, a: int, b: int, c: int) -> float:
        (ax, ay), (bx, by), (cx, cy) = self._xy[a], self._xy[b], self._xy[c]
        return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)

    def _cross(self, p: int, q: int, a: int, b: int) -> bool:
        if len({p, q, a, b}) < 4:
            return False
        return (
            self._area(p, q, a) * self._area(p, q, b) < 0.0
            and self._area(a, b, p) * self._area(a, b, q) < 0.0
        )

    def _share(self, p: int, q: int, k: int) -> float:
        (px, py), (qx, qy), (kx, ky) = self._xy[p], self._xy[q], self._xy[k]
        return ((kx - px) * (qx - px) + (ky - py) * (qy - py)) / ((qx - px) ** 2 + (qy - py) ** 2)

    def _lies_between(self, p: int, q: int, k: int) -> bool:
        (px, py), (qx, qy) = self._xy[p], self._xy[q]
        length = float(np.hypot(qx - px, qy - py))
        return abs(self._area(p, q, k)) <= SNAP_M * length and 0.0 < self._share(p, q, k) < 1.0

    def _is_in_circle(self, a: int, b: int, c: int, d: int) -> bool:
        """Whether d lies in the circle through the counter-clockwise triangle a, b, c."""
        dx, dy = self._xy[d]
        rows = [(x - dx, y - dy) for x, y in (self._xy[a], self._xy[b], self._xy[c])]
        m = np.array([(x, y, x * x + y * y) for x, y in rows])
        return bool(np.linalg.det(m) > 1e-9 * float(np.abs(m).max()) ** 2)
