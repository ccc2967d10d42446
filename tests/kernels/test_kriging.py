"""Kriging against dense textbook formulas; turn shares and the sparse factor against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array, eye_array, random_array

from kernels.assignment import edge_graph
from kernels.kriging import (
    ENSEMBLE_SD,
    FEATURE_SD,
    LOCAL_M,
    NUGGET_SD,
    STREAM_SD,
    Kriging,
    build_kriging,
    features,
    leave_site_out,
    posterior_shift,
    posterior_variance,
    solve,
)
from kernels.network import DirectedEdges
from kernels.prior import REFERENCE_SCALE, ModePrior
from kernels.sparse_solve import SymmetricFactor
from kernels.turnshare import DIRECTION_SD, PROPER_SD, turn_share_root

RNG = np.random.default_rng(7)
ALL = slice(None)


def chain(n: int) -> DirectedEdges:
    """Edges 0 -> 1 -> ... -> n, and each back again."""
    tail = np.concatenate([np.arange(n), np.arange(1, n + 1)]).astype(np.int32)
    head = np.concatenate([np.arange(1, n + 1), np.arange(n)]).astype(np.int32)
    opposite = np.concatenate([np.arange(n, 2 * n), np.arange(n)]).astype(np.int32)
    segment = np.tile(np.arange(n, dtype=np.int32), 2)
    direction = np.repeat(np.array([0, 1], np.int8), n)
    return DirectedEdges(segment, direction, tail, head, opposite)


def small() -> tuple[Kriging, NDArray[np.float64], csr_array]:
    """Covariances of a chain with five counters, and the full dense K."""
    edges = chain(12)
    n = edges.n_edges
    graph = edge_graph(edges, 13)
    flow = RNG.uniform(20, 900, n)
    turn = np.minimum(flow[graph.turn_from], flow[graph.turn_to]) * 0.8
    prior = ModePrior(
        flow.astype(np.float32), turn.astype(np.float32),
        RNG.normal(0, 0.2, (n, 6)).astype(np.float32), RNG.uniform(0, 0.01, n).astype(np.float32),
        RNG.normal(0, 0.1, (n, 3)).astype(np.float32),
    )  # fmt: skip
    root = turn_share_root(graph, flow, turn, edges.opposite)
    at = np.array([1, 5, 9, 14, 20])
    rows = csr_array(eye_array(n, format="csr")[at])
    xy = np.stack([edges.segment * 300.0, np.zeros(n)], axis=1)
    road_class = (np.arange(n) % 3).astype(np.int64)
    kriging = build_kriging(prior, root, rows, xy[at], xy, road_class)
    phi = features(prior.log_mean(REFERENCE_SCALE), road_class, prior.responses)
    anomalies = prior.anomalies.astype(float)
    d2 = ((xy[:, None] - xy[None]) ** 2).sum(axis=2)
    dense = (
        FEATURE_SD**2 * phi @ phi.T
        + ENSEMBLE_SD**2 * (anomalies @ anomalies.T) * np.exp(-d2 / (2 * LOCAL_M**2))
        + STREAM_SD**2 * np.linalg.inv((root.T @ root).toarray())
        + np.diag(NUGGET_SD**2 + ENSEMBLE_SD**2 * prior.lost_variance.astype(float))
    )
    return kriging, dense, rows


def test_columns_equal_the_dense_covariance() -> None:
    kriging, dense, rows = small()
    np.testing.assert_allclose(kriging.k_es, dense @ rows.T.toarray(), rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(kriging.k_ss, rows.toarray() @ dense @ rows.T.toarray(), rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(kriging.variance, np.diag(dense), rtol=0.1)  # the diagonal of Q^-1 is sampled


def test_posterior_equals_conditioning_of_the_dense_gaussian() -> None:
    kriging, dense, rows = small()
    active = np.array([0, 2, 4])
    deviation, noise = RNG.normal(0, 0.5, 3), np.diag(RNG.uniform(0.01, 0.1, 3))
    h = rows.toarray()[active]
    gain = dense @ h.T @ np.linalg.inv(h @ dense @ h.T + noise)
    solution = solve(kriging, active, deviation, noise, np.ones(3))
    np.testing.assert_allclose(posterior_shift(kriging, solution), gain @ deviation, rtol=1e-3, atol=1e-4)
    reduced = np.diag(gain @ h @ dense)
    np.testing.assert_allclose(
        kriging.variance - posterior_variance(kriging, solution, ALL), reduced, rtol=5e-3, atol=2e-3
    )


def test_old_evidence_is_the_posterior_of_a_separable_process_in_time() -> None:
    kriging, dense, rows = small()
    active, hours = np.array([0, 1, 3]), np.array([0.0, 2.0, 5.0])
    deviation, noise = np.array([0.4, -0.2, 0.9]), np.eye(3) * 0.05
    h = rows.toarray()[active]
    between = 0.8 ** np.abs(hours[:, None] - hours[None])
    weights = np.linalg.solve(h @ dense @ h.T * between + noise, deviation)
    expected = (dense @ h.T * 0.8**hours) @ weights
    solution = solve(kriging, active, deviation, noise, 0.8**hours)
    np.testing.assert_allclose(posterior_shift(kriging, solution), expected, rtol=1e-3, atol=1e-4)


def test_posterior_is_linear_in_the_deviations_and_zero_without_any() -> None:
    kriging, _, _ = small()
    active, noise = np.arange(5), np.eye(5) * 0.02
    one, two = RNG.normal(size=5), RNG.normal(size=5)

    def shift(deviation: NDArray[np.float64]) -> NDArray[np.float64]:
        return posterior_shift(kriging, solve(kriging, active, deviation, noise, np.ones(5)))

    np.testing.assert_allclose(shift(one) + 2 * shift(two), shift(one + 2 * two), atol=1e-4)
    assert not shift(np.zeros(5)).any()


def test_leaving_a_site_out_equals_refitting_without_it() -> None:
    kriging, _, _ = small()
    active, deviation = np.arange(5), RNG.normal(0, 0.4, 5)
    noise = np.eye(5) * 0.03
    noise[1, 2] = noise[2, 1] = 0.02  # one site of two rows shares its gain
    site = np.array([4, 7, 7, 2, 9])
    residual, variance = leave_site_out(solve(kriging, active, deviation, noise, np.ones(5)), site)
    for left in set(site.tolist()):
        out = np.flatnonzero(site == left)
        kept = np.flatnonzero(site != left)
        k = kriging.k_ss
        gain = k[np.ix_(out, kept)] @ np.linalg.inv(k[np.ix_(kept, kept)] + noise[np.ix_(kept, kept)])
        np.testing.assert_allclose(residual[out], deviation[out] - gain @ deviation[kept], rtol=1e-6)
        cov = k[np.ix_(out, out)] + noise[np.ix_(out, out)] - gain @ k[np.ix_(kept, out)]
        np.testing.assert_allclose(variance[out], np.diag(cov), rtol=1e-6)


def test_precision_ties_a_street_to_the_stream_that_feeds_it_more_than_to_its_other_direction() -> None:
    edges = chain(8)
    graph = edge_graph(edges, 9)
    flow = np.full(16, 500.0)
    turn = np.where(edges.opposite[graph.turn_to] == graph.turn_from, 0.0, 480.0)
    root = turn_share_root(graph, flow, turn, edges.opposite)
    covariance = np.linalg.inv((root.T @ root).toarray())
    correlation = covariance / np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    assert correlation[3, 4] > 0.9
    assert correlation[3, edges.opposite[3]] < 0.75
    assert PROPER_SD > DIRECTION_SD


def test_precision_is_positive_definite_with_empty_streets() -> None:
    edges = chain(5)
    graph = edge_graph(edges, 6)
    root = turn_share_root(graph, np.zeros(10), np.zeros(graph.n_turns), edges.opposite)
    assert np.linalg.eigvalsh((root.T @ root).toarray()).min() > 0


def test_sparse_factor_solves_like_numpy() -> None:
    half = random_array((90, 90), density=0.05, rng=np.random.default_rng(2), format="csr")
    matrix = csr_array(half.T @ half + eye_array(90) * 0.3)
    right = np.random.default_rng(3).normal(size=(90, 130))
    np.testing.assert_allclose(
        SymmetricFactor(matrix).solve(right), np.linalg.solve(matrix.toarray(), right), rtol=1e-9
    )


def test_features_do_not_depend_on_the_codes_of_classes() -> None:
    mean = RNG.normal(4, 1, 20)
    codes = RNG.integers(0, 3, 20)
    none = np.zeros((20, 0), np.float32)
    assert np.array_equal(features(mean, codes, none), features(mean, codes * 10 + 5, none))
    assert features(mean, codes, none).shape == (20, 9)
    assert features(np.array([4.0]), np.array([1]), none[:1])[0, 0] == pytest.approx(2.1)
    doubtful = features(mean, codes, none, class_weight=2.0) - features(mean, codes, none)
    assert np.count_nonzero(doubtful) == 20  # one class of each edge, and nothing else
