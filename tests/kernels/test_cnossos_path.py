"""Paths in the vertical plane against the formulas written out in decibels, and their properties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.cnossos_path import Profiles, path_energies
from kernels.propagation import (
    OCTAVE_BANDS_HZ,
    Atmosphere,
    Ground,
    air_absorption_db_per_km,
    attenuation_db,
    ground_db,
)

AIR = Atmosphere()
WAVE_M = 340.0 / OCTAVE_BANDS_HZ
STATES = (False, True)


@dataclass(frozen=True)
class Cut:
    """One path: points, ground factor after each, and both ends."""

    x: tuple[float, ...]
    z: tuple[float, ...]
    g: tuple[float, ...]
    source_height_m: float = 0.05
    receiver_height_m: float = 4.0
    source_g: float = 0.0
    reflector_x: float = np.nan
    reflector_top: float = np.nan
    absorption: float = 0.0

    def reversed(self) -> Cut:
        length = self.x[-1]
        return replace(
            self,
            x=tuple(length - x for x in self.x[::-1]),
            z=self.z[::-1],
            g=(*self.g[-2::-1], 0.0),
            source_height_m=self.receiver_height_m,
            receiver_height_m=self.source_height_m,
        )


def flat(distance_m: float, g: float = 0.0, **ends: float) -> Cut:
    return Cut((0.0, distance_m), (0.0, 0.0), (g, g), **ends)


def walls(distance_m: float, tops: Sequence[tuple[float, float]], g: float = 0.0, **ends: float) -> Cut:
    x, z = [0.0], [0.0]
    for at, top in tops:
        x += [at] * 3
        z += [0.0, top, 0.0]
    return Cut((*x, distance_m), (*z, 0.0), (g,) * (len(x) + 1), **ends)


def energies(cuts: Sequence[Cut]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    def joined(name: str) -> NDArray[np.float64]:
        return np.concatenate([getattr(cut, name) for cut in cuts]).astype(np.float64)

    def each(name: str) -> NDArray[np.float64]:
        return np.array([getattr(cut, name) for cut in cuts], dtype=np.float64)

    distance = [np.hypot(c.x[-1], c.z[-1] + c.receiver_height_m - c.z[0] - c.source_height_m) for c in cuts]
    profiles = Profiles(
        joined("x"), joined("z"), joined("g"), np.cumsum([0, *(len(c.x) for c in cuts)]),
        each("source_height_m"), each("receiver_height_m"), each("source_g"), np.array(distance),
        each("reflector_x"), each("reflector_top"), np.repeat(1.0 - each("absorption")[:, None], 8, axis=1),
    )  # fmt: skip
    return path_energies(profiles, air_absorption_db_per_km(AIR))


def levels(cut: Cut) -> NDArray[np.float64]:
    """-A in both states, (2, 8) [dB]."""
    return 10.0 * np.log10(np.concatenate(energies([cut])))


# --- the formulas written out: decibels, one path, one state, no shortcuts -----------------------------------


def plane_of(x: NDArray[np.float64], z: NDArray[np.float64]) -> tuple[float, float]:
    """Least-squares plane z = a x + b through a chain of points, by fine sampling of every stretch."""
    rows = [(0.0, 0.0, 0.0, 0.0, 0.0)]
    for x1, x2, z1, z2 in zip(x[:-1], x[1:], z[:-1], z[1:], strict=True):
        t, w = np.polynomial.legendre.leggauss(3)  # exact for the products of two lines
        at, weight = 0.5 * (x1 + x2) + 0.5 * (x2 - x1) * t, 0.5 * (x2 - x1) * w
        high = z1 + (z2 - z1) * (at - x1) / (x2 - x1) if x2 > x1 else 0.0 * at
        rows.append((weight.sum(), weight @ at, weight @ at**2, weight @ high, weight @ (at * high)))
    s0, s1, s2, t0, t1 = np.sum(rows, axis=0)
    a = (s0 * t1 - s1 * t0) / (s0 * s2 - s1**2)
    return a, (t0 - a * s1) / s0


def side_of(
    cut: Cut, first: int, last: int, p: NDArray[np.float64], q: NDArray[np.float64]
) -> tuple[float, float, float, float, NDArray[np.float64], NDArray[np.float64]]:
    """Heights over the mean plane, distance along it, ground factor, and images of both ends."""
    x, z, g = (np.array(v[first : last + 1]) for v in (cut.x, cut.z, cut.g))
    a, b = plane_of(x, z)
    up = np.array([-a, 1.0]) / np.hypot(a, 1.0)
    h_p, h_q = ((end - (0.0, b)) @ up for end in (p, q))
    foot = (q - h_q * up) - (p - h_p * up)
    ground = float((g[:-1] * np.diff(x)).sum() / (x[-1] - x[0]))
    return h_p, h_q, float(np.hypot(*foot)), ground, p - 2 * h_p * up, q - 2 * h_q * up


def arc(p: NDArray[np.float64], q: NDArray[np.float64], radius: float) -> float:
    chord = float(np.hypot(*(q - p)))
    return chord if np.isinf(radius) else 2.0 * radius * np.arcsin(chord / (2.0 * radius))


def detour(points: Sequence[NDArray[np.float64]], is_favourable: bool) -> float:
    s, r = points[0], points[-1]
    radius = max(1000.0, 8.0 * float(np.hypot(*(r - s)))) if is_favourable else np.inf
    over = sum(arc(p, q, radius) for p, q in pairwise(points))
    if len(points) > 3 or points[1][1] >= np.interp(points[1][0], [s[0], r[0]], [s[1], r[1]]):
        return over - arc(s, r, radius)
    if not is_favourable:
        return arc(s, r, radius) - over
    a = np.array([points[1][0], np.interp(points[1][0], [s[0], r[0]], [s[1], r[1]])])
    return 2.0 * (arc(s, a, radius) + arc(a, r, radius)) - over - arc(s, r, radius)


def written_out(cut: Cut, is_favourable: bool) -> NDArray[np.float64]:
    """A_boundary of a path without reflection, (8,) [dB]."""
    s = np.array([cut.x[0], cut.z[0] + cut.source_height_m])
    r = np.array([cut.x[-1], cut.z[-1] + cut.receiver_height_m])
    points = np.array([cut.x, cut.z]).T
    inner = [k for k in range(1, len(points) - 1) if s[0] + 1e-3 < points[k, 0] < r[0] - 1e-3]

    def high(k: int) -> float:
        d, t = r[0] - s[0], points[k, 0] - s[0]
        sr = float(np.hypot(*(r - s)))
        bend = 0.0
        if is_favourable:
            radius = max(1000.0, 8.0 * sr)
            bend = np.sqrt(radius**2 - (t - d / 2) ** 2) - np.sqrt(radius**2 - d**2 / 4)
        return float(points[k, 1] - bend)

    # the string: again and again the steepest point seen from where it is
    edges, here, height = [], s[0], s[1]
    while True:
        ahead = [(k, (high(k) - height) / (points[k, 0] - here)) for k in inner if points[k, 0] > here + 1e-9]
        straight = (r[1] - height) / (r[0] - here)
        best = max(ahead, key=lambda pair: (pair[1], pair[0]), default=(-1, -np.inf))
        if best[1] <= straight + 1e-12:
            break
        edges.append(best[0])
        here, height = points[best[0], 0], high(best[0])
    if edges:
        return over_edges(cut, s, r, edges, is_favourable)
    loss = over_ground(cut, s, r, is_favourable)
    nearest = np.full(8, -np.inf)
    for k in inner:
        _, _, _, _, s_image, _ = side_of(cut, 0, k, s, points[k])
        _, _, _, _, _, r_image = side_of(cut, k, len(points) - 1, points[k], r)
        delta = detour([s, points[k], r], is_favourable)
        mirrored = detour([s_image, points[k], r_image], is_favourable)
        passes = (delta > -WAVE_M / 20) & (delta > WAVE_M / 4 - mirrored) & (delta > nearest)
        if passes.any():
            loss[passes] = over_edges(cut, s, r, [k], is_favourable)[passes]
            nearest[passes] = delta
    return loss


def over_ground(
    cut: Cut, s: NDArray[np.float64], r: NDArray[np.float64], is_favourable: bool
) -> NDArray[np.float64]:
    h_s, h_r, dp, g, _, _ = side_of(cut, 0, len(cut.x) - 1, s, r)
    return on_plane(dp, h_s, h_r, Ground(g, cut.source_g), is_favourable)


def on_plane(dp: float, h_1: float, h_2: float, ground: Ground, is_favourable: bool) -> NDArray[np.float64]:
    return ground_db(np.array([dp]), max(h_1, 5e-7), max(h_2, 5e-7), ground, is_favourable=is_favourable)[0]


def over_edges(
    cut: Cut, s: NDArray[np.float64], r: NDArray[np.float64], edges: list[int], is_favourable: bool
) -> NDArray[np.float64]:
    tops = [np.array([cut.x[k], cut.z[k]]) for k in edges]
    e = sum(float(np.hypot(*(q - p))) for p, q in pairwise(tops))
    c2 = np.ones(8) if e <= 0.3 else (1 + (5 * WAVE_M / e) ** 2) / (1 / 3 + (5 * WAVE_M / e) ** 2)

    def diffraction(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        t = 40.0 / WAVE_M * c2 * detour([a, *tops, b], is_favourable)
        return np.where(t >= -2.0, 10.0 * np.log10(np.maximum(3.0 + t, 1e-9)), 0.0)

    h_s, h_o, dp, g, s_image, _ = side_of(cut, 0, edges[0], s, tops[0])
    at_s = on_plane(dp, h_s, h_o, Ground(g, cut.source_g), is_favourable)
    h_o, h_r, dp, g, _, r_image = side_of(cut, edges[-1], len(cut.x) - 1, tops[-1], r)
    at_r = on_plane(dp, h_o, h_r, Ground(g, g), is_favourable)
    direct, by_s, by_r = diffraction(s, r), diffraction(s_image, r), diffraction(s, r_image)

    def shared(ground: NDArray[np.float64], image: NDArray[np.float64]) -> NDArray[np.float64]:
        return -20.0 * np.log10(1.0 + (10.0 ** (-ground / 20.0) - 1.0) * 10.0 ** (-(image - direct) / 20.0))

    level = by_s if h_s < 0 else by_r if h_r < 0 else direct
    on_s = at_s if h_s < 0 else shared(at_s, by_s)
    on_r = at_r if h_r < 0 else shared(at_r, by_r)
    return np.minimum(25.0, np.maximum(0.0, level)) + on_s + on_r


def random_cut(rng: np.random.Generator) -> Cut:
    """Ground that goes up and down, with none to three walls or buildings on it."""
    length = float(rng.uniform(20.0, 700.0))
    ground_x = np.sort(rng.uniform(0.0, length, rng.integers(0, 6)))
    ground_x = np.concatenate([[0.0], ground_x, [length]])
    ground_z = rng.choice([0.0, 0.3, 2.0]) * rng.normal(size=ground_x.size)
    places = np.sort(rng.uniform(0.08, 0.92, 2 * rng.integers(0, 4))) * length
    x, z = list(ground_x), list(ground_z)
    for first, last in places.reshape(-1, 2):
        inside = [k for k, at in enumerate(x) if first <= at <= last]
        foot = np.interp([first, last], ground_x, ground_z)
        top = float(foot.max() + rng.uniform(1.0, 12.0))
        if rng.random() < 0.4:  # a wall
            new = [(first, foot[0]), (first, top), (first, foot[0])]
            inside = []
        else:
            new = [(first, foot[0]), (first, top), (last, top), (last, foot[1])]
        x = [at for k, at in enumerate(x) if k not in inside]
        z = [at for k, at in enumerate(z) if k not in inside]
        at = sum(value < first for value in x)
        x[at:at], z[at:at] = [p[0] for p in new], [p[1] for p in new]
    return Cut(
        tuple(map(float, x)), tuple(map(float, z)), tuple(rng.choice([0.0, 0.3, 0.7, 1.0], len(x))),
        float(rng.choice([0.05, 0.5, 2.0])), float(rng.choice([1.5, 4.0, 15.0])), float(rng.choice([0.0, 0.5])),
    )  # fmt: skip


def test_kernel_is_the_formulas_written_out() -> None:
    rng = np.random.default_rng(7)
    cuts = [random_cut(rng) for _ in range(150)]
    homogeneous, favourable = energies(cuts)
    n_diffracted = 0
    for k, cut in enumerate(cuts):
        d = np.hypot(cut.x[-1], cut.z[-1] + cut.receiver_height_m - cut.z[0] - cut.source_height_m)
        spread = 20.0 * np.log10(d) + 11.0 + air_absorption_db_per_km(AIR) * d / 1000.0
        for is_favourable, energy in ((False, homogeneous), (True, favourable)):
            expected = -written_out(cut, is_favourable) - spread
            np.testing.assert_allclose(10.0 * np.log10(energy[k]), expected, atol=2e-3, err_msg=f"{k} {cut}")
            n_diffracted += bool(expected[-1] < -spread[-1] - 5.0)
    assert 50 < n_diffracted < 250


# --- properties ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("g", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("p_favourable", [0.0, 0.5, 1.0])
def test_flat_ground_is_that_of_open_propagation(g: float, p_favourable: float) -> None:
    distance = np.array([3.0, 30.0, 120.0, 300.0, 800.0])
    homogeneous, favourable = energies([flat(d, g) for d in distance])
    level = 10.0 * np.log10(p_favourable * favourable + (1.0 - p_favourable) * homogeneous)
    expected = -attenuation_db(distance, 0.05, 4.0, Ground(g), replace(AIR, p_favourable=p_favourable))
    np.testing.assert_allclose(level, expected, atol=1e-3)


def test_source_and_receiver_may_change_places_over_ground_of_one_kind() -> None:
    for g in (0.0, 0.6):
        cut = walls(220.0, [(60.0, 5.0), (90.0, 7.0), (150.0, 4.0)], g, source_g=g, source_height_m=0.5)
        np.testing.assert_allclose(levels(cut), levels(cut.reversed()), atol=1e-9)


def test_points_that_add_nothing_change_nothing() -> None:
    few = walls(200.0, [(80.0, 6.0)], 0.5)
    more = Cut(
        (0.0, 20.0, 50.0, 80.0, 80.0, 80.0, 80.0, 120.0, 200.0),
        (0.0, 0.0, 0.0, 0.0, 3.0, 6.0, 0.0, 0.0, 0.0),
        (0.5,) * 9,
    )
    np.testing.assert_allclose(levels(more), levels(few), atol=1e-9)
    open_ground = Cut(tuple(np.linspace(0.0, 300.0, 31)), (0.0,) * 31, (0.5,) * 31)
    np.testing.assert_allclose(levels(open_ground), levels(flat(300.0, 0.5)), atol=1e-9)


def test_height_above_the_sea_changes_nothing() -> None:
    cut = walls(200.0, [(80.0, 6.0), (120.0, 5.0)], 0.5)
    np.testing.assert_allclose(
        levels(replace(cut, z=tuple(z + 2500.0 for z in cut.z))), levels(cut), atol=1e-6
    )


def test_removing_a_screen_never_lowers_the_level_over_hard_ground() -> None:
    rng = np.random.default_rng(3)
    for _ in range(60):
        length = float(rng.uniform(30.0, 600.0))
        tops = [
            (float(at), float(rng.uniform(3.0, 12.0))) for at in np.sort(rng.uniform(0.1, 0.9, 3)) * length
        ]
        three, two, none = levels(walls(length, tops)), levels(walls(length, tops[:2])), levels(flat(length))
        assert (none >= three - 1e-9).all()
        assert (none >= two - 1e-9).all()


def test_higher_screens_are_better_until_25_db() -> None:
    total = [levels(walls(150.0, [(60.0, top)])).max(axis=0) for top in (3.0, 5.0, 8.0)]
    assert (np.diff(total, axis=0) <= 1e-9).all()
    tall = levels(walls(30.0, [(10.0, 25.0)], 0.0)) - levels(flat(30.0))
    assert (tall >= -25.0 - 3.1).all()
    assert tall[:, -1] == pytest.approx(-25.0, abs=3.1)


def test_bent_rays_pass_over_a_screen_more_easily() -> None:
    for tops in ([(100.0, 6.0)], [(80.0, 6.0), (140.0, 8.0)]):
        homogeneous, favourable = levels(walls(400.0, tops))
        assert (favourable >= homogeneous - 1e-9).all()
        assert favourable[-1] > homogeneous[-1] + 0.5


def test_an_edge_just_below_the_ray_attenuates_only_long_waves() -> None:
    """A wall that the ray clears by 0.3 m."""
    open_level = levels(flat(40.0, source_height_m=2.0))[0]
    near = levels(walls(40.0, [(20.0, 2.7)], source_height_m=2.0))[0]
    assert near[3] < open_level[3] - 0.5
    np.testing.assert_allclose(near[-1], open_level[-1], atol=1e-9)
    far = levels(walls(40.0, [(20.0, 0.5)], source_height_m=2.0))[0]
    np.testing.assert_allclose(far, open_level, atol=1e-9)


def test_two_edges_30_cm_apart_are_one_and_farther_apart_more() -> None:
    def pair(gap: float) -> NDArray[np.float64]:
        return levels(walls(100.0, [(50.0, 8.0), (50.0 + gap, 8.0)]))[0]

    np.testing.assert_allclose(pair(0.29), levels(walls(100.0, [(50.0, 8.0)]))[0], atol=0.15)
    assert (pair(10.0)[3:6] < pair(0.29)[3:6] - 1.0).all()  # below the limit of 25 dB


def test_a_reflector_takes_its_absorption_and_what_passes_over_its_edge() -> None:
    cut = flat(100.0, source_height_m=4.0)
    plain = levels(cut)
    tall = replace(cut, reflector_x=40.0, reflector_top=60.0)
    np.testing.assert_allclose(levels(tall), plain, atol=1e-9)
    half = levels(replace(tall, absorption=0.5))
    np.testing.assert_allclose(half, plain - 3.0103, atol=1e-4)
    grazing = levels(replace(cut, reflector_x=40.0, reflector_top=4.0))
    np.testing.assert_allclose(grazing[0], plain[0] - 4.771, atol=1e-3)
    missed = levels(replace(cut, reflector_x=40.0, reflector_top=2.0))
    assert (missed < grazing - 0.1).all()
    assert (energies([replace(tall, absorption=1.0)])[0] == 0.0).all()


def test_source_at_the_foot_of_a_wall_and_receiver_above_the_source_are_finite() -> None:
    foot = walls(50.0, [(0.01, 3.0)], 0.5)
    above = Cut((0.0, 1e-4), (0.0, 0.0), (0.5, 0.5))
    for cut in (foot, above, flat(0.5, 1.0)):
        assert np.isfinite(levels(cut)).all()


def test_the_result_does_not_depend_on_the_paths_beside_it() -> None:
    rng = np.random.default_rng(1)
    cuts = [random_cut(rng) for _ in range(20)]
    together = energies(cuts)
    for k, cut in enumerate(cuts):
        for state in STATES:
            np.testing.assert_array_equal(energies([cut])[state][0], together[state][k])
