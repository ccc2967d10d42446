"""Universal kriging of log flows on a network: prior covariance, posterior mean and variance, leave-site-out.

x = log(flow + 5) of all edges is Gaussian around the prior mean with covariance

    K = a_f^2 Phi Phi' + a_e^2 (A A') o exp(-d^2 / 2 L^2) + a_s^2 Q^-1 + a_n^2 I

with features Phi (level, road class, responses to city-wide guesses: what the crude demand gets wrong as a
whole), anomalies A of an ensemble of assignments, the turn-share precision Q, and a nugget. Only the columns
of K at the counter rows are formed. A counter row is H x: one edge, or both directions of a street linearised
around the prior.
Amplitudes are by the leave-site-out log score at the counters of simulated cities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.sparse import csr_array

from kernels.prior import REFERENCE_SCALE, ModePrior
from kernels.sparse_solve import BLOCK, SymmetricFactor

FEATURE_SD, ENSEMBLE_SD, STREAM_SD, NUGGET_SD = 0.36, 0.9, 0.8, 0.09  # a_f, a_e, a_s, a_n
FEATURE_SCALE = 0.7
PROBE_ENSEMBLE_SD = 0.5  # a_e beside a history of floating cars, which knows what the ensemble guesses
PROBE_SCALE = 2.0  # the counters decide how far to follow it
RESPONSE_SD = 1.0  # a guess is off by as much again as its draws; 0.5 to 4 are equal within 1 %
LOCAL_M = 1_500.0  # L
N_PROBES = 128  # samples for diag Q^-1: 12 % of a variance
_ROWS = 2_048  # edges at a time


@dataclass(frozen=True, slots=True)
class Kriging:
    """Covariances of one mode with its counter rows.

    Attributes
    ----------
    k_es : (n_edges, n_rows) float32
        Covariance of every edge with every row.
    k_ss : (n_rows, n_rows) float64
        Covariance of the rows.
    variance : (n_edges,) float32
        Prior variance of x.
    """

    k_es: NDArray[np.float32]
    k_ss: NDArray[np.float64]
    variance: NDArray[np.float32]


def features(
    log_mean: NDArray[np.float64],
    road_class: NDArray[np.int64],
    responses: NDArray[np.float32],
    probe_log_flow: NDArray[np.float32] | None = None,
    class_weight: float = 1.0,
) -> NDArray[np.float64]:
    """Phi = [0.7 [3, v, v^2 / 2, c class, v / 2 x class], responses / a_f], v = (mu - 4) / 1.5.

    ``class_weight`` c is how far the prior may be off for a whole class, in the usual 25 %.
    With a history of floating cars, their own v and its difference from the prior's come with it. Shape
    (n_edges, 3 + 2 n_classes + n_guesses), two more with floating cars.
    """
    v = (log_mean - 4.0) / 1.5
    _, group = np.unique(road_class, return_inverse=True)
    dummies = np.eye(int(group.max(initial=-1)) + 1)[group]
    level = v[:, None]
    columns = [
        np.full((v.size, 1), 3.0),
        level,
        level**2 / 2.0,
        class_weight * dummies,
        level / 2.0 * dummies,
    ]
    if probe_log_flow is not None:
        by_probes = (probe_log_flow[:, None] - 4.0) / 1.5
        columns += [by_probes, PROBE_SCALE * (by_probes - level)]
    general = FEATURE_SCALE * np.concatenate(columns, axis=1)
    return np.concatenate([general, responses * (RESPONSE_SD / FEATURE_SD)], axis=1)


def build_kriging(
    prior: ModePrior,
    root: csr_array,
    rows: csr_array,
    row_xy: NDArray[np.float64],
    xy: NDArray[np.float64],
    road_class: NDArray[np.int64],
    stream: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
    class_weight: float = 1.0,
) -> Kriging:
    """Covariances of a mode with its counter rows.

    Parameters
    ----------
    prior : ModePrior
    root : (any, n_edges) sparse
        Root of the turn-share precision (:func:`kernels.turnshare.turn_share_root`).
    rows : (n_rows, n_edges) sparse
        H, what each counter row sees of x.
    row_xy : (n_rows, 2), xy : (n_edges, 2) float64
        Where rows and edges are [m].
    road_class : (n_edges,) int64
    stream : pair, optional
        Result of :func:`stream_covariance` for these rows, when it is shared by modes.
    class_weight : float
        See :func:`features`.
    """
    columns, diagonal = stream if stream is not None else stream_covariance(root, rows)
    phi = features(
        prior.log_mean(REFERENCE_SCALE), road_class, prior.responses, prior.probe_log_flow, class_weight
    )
    ensemble_sd = ENSEMBLE_SD if prior.probe_log_flow is None else PROBE_ENSEMBLE_SD
    anomalies = prior.anomalies.astype(np.float64)
    phi_s, anomalies_s = (rows @ phi).astype(np.float32), (rows @ anomalies).astype(np.float32)
    own = NUGGET_SD**2 + ensemble_sd**2 * prior.lost_variance.astype(np.float64)
    n_edges, n_rows = xy.shape[0], rows.shape[0]
    k_es = np.empty((n_edges, n_rows), dtype=np.float32)
    # Distances in units of the taper keep float32 exact to a metre.
    origin = xy.mean(axis=0)
    to, of = ((p - origin).astype(np.float32) / np.float32(LOCAL_M) for p in (xy, row_xy))
    for first in range(0, n_edges, _ROWS):
        at = slice(first, first + _ROWS)
        taper = (to[at, None, 0] - of[None, :, 0]) ** 2 + (to[at, None, 1] - of[None, :, 1]) ** 2
        block = (prior.anomalies[at] @ anomalies_s.T) * np.exp(taper * np.float32(-0.5))
        block *= np.float32(ensemble_sd**2)
        block += np.float32(FEATURE_SD**2) * (phi[at].astype(np.float32) @ phi_s.T)
        k_es[at] = block + np.float32(STREAM_SD**2) * columns[at]
    rows = csr_array(rows)
    entry = rows.tocoo()
    k_es[entry.col, entry.row] += (entry.data * own[entry.col]).astype(np.float32)
    seen = np.unique(rows.indices)
    k_ss = np.asarray(rows[:, seen] @ k_es[seen].astype(np.float64)) if n_rows else np.zeros((0, 0))
    variance = (
        FEATURE_SD**2 * (phi**2).sum(axis=1) + ensemble_sd**2 * (anomalies**2).sum(axis=1)
        + STREAM_SD**2 * diagonal + own
    )  # fmt: skip
    return Kriging(k_es, (k_ss + k_ss.T) / 2.0, variance.astype(np.float32))


def stream_covariance(root: csr_array, rows: csr_array) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Columns Q^-1 H' (n_edges, n_rows), and the diagonal of Q^-1 (n_edges,) from 128 seeded samples."""
    n_edges = root.shape[1]
    factor = SymmetricFactor(root.T @ root)
    columns = np.empty((n_edges, rows.shape[0]), dtype=np.float32)
    for first in range(0, rows.shape[0], BLOCK):
        right = np.ascontiguousarray(rows[first : first + BLOCK].toarray().T)
        columns[:, first : first + BLOCK] = factor.solve(right)
    rng = np.random.default_rng(0)
    diagonal = np.zeros(n_edges)
    for first in range(0, N_PROBES, BLOCK):
        n = min(BLOCK, N_PROBES - first)
        sample = factor.solve(root.T @ rng.standard_normal((root.shape[0], n)))
        diagonal += (sample**2).sum(axis=1) / N_PROBES
    return columns, diagonal.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Solution:
    """Posterior of the counter rows that have evidence.

    Attributes
    ----------
    active : (n_active,) int64
        Rows with evidence.
    alpha : (n_active,) float64
        (K_SS o C + R)^-1 (z - prior mean).
    carry : (n_active,) float64
        Autocorrelation between each row's reading and now.
    lower : (n_active, n_active) float64
        Lower Cholesky factor of K_SS o C + R.
    """

    active: NDArray[np.int64]
    alpha: NDArray[np.float64]
    carry: NDArray[np.float64]
    lower: NDArray[np.float64]


def solve(
    kriging: Kriging,
    active: NDArray[np.int64],
    deviation: NDArray[np.float64],
    noise: NDArray[np.float64],
    carry: NDArray[np.float64],
) -> Solution:
    """Weights of the rows with evidence.

    Deviations from the prior are a first-order autoregression in time, the same everywhere: a reading made
    when the autocorrelation with now is ``carry`` has covariance carry_i K with now, and
    C_ij = min(carry_i / carry_j, carry_j / carry_i) with the others, so that old evidence fades to the prior.

    Parameters
    ----------
    active : (n_active,) int64
    deviation : (n_active,) float64
        z - H mu.
    noise : (n_active, n_active) float64
        R, covariance of the readings' errors.
    carry : (n_active,) float64
        Above 0, at most 1.
    """
    ratio = np.outer(carry, 1.0 / carry)
    between = np.minimum(ratio, ratio.T)
    factor, _ = cho_factor(kriging.k_ss[np.ix_(active, active)] * between + noise, lower=True)
    return Solution(active, cho_solve((factor, True), deviation), carry, np.tril(factor))


def posterior_shift(kriging: Kriging, solution: Solution) -> NDArray[np.float64]:
    """Posterior mean less prior mean of every edge, K_ES alpha: (n_edges,)."""
    alpha = np.zeros(kriging.k_ss.shape[0], dtype=np.float32)
    alpha[solution.active] = solution.carry * solution.alpha
    return (kriging.k_es @ alpha).astype(np.float64)


def posterior_variance(kriging: Kriging, solution: Solution, at: slice) -> NDArray[np.float64]:
    """Posterior variance of a slice of the edges, diag K - rows of K_ES (K_SS o C + R)^-1 K_SE."""
    variance = kriging.variance[at].astype(np.float64)
    if solution.active.size == 0:
        return variance
    lower, carry = solution.lower.astype(np.float32), solution.carry.astype(np.float32)
    k_es = np.asarray(kriging.k_es[at])
    for first in range(0, variance.size, _ROWS):
        part = slice(first, first + _ROWS)
        seen = np.take(k_es[part], solution.active, axis=1)
        seen *= carry
        reduced = solve_triangular(lower, seen.T, lower=True, overwrite_b=True, check_finite=False)
        variance[part] -= np.square(reduced.T).sum(axis=1, dtype=np.float64)
    # Sampled diagonals may fall short of what the counters take away; the nugget always stays in part.
    return np.maximum(variance, (NUGGET_SD / 2.0) ** 2)


def leave_site_out(
    solution: Solution, site: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Residual of each row against all rows of other sites, and its variance, each (n_active,).

    With A = K_SS o C + R and the rows i of one site: residual (A^-1_ii)^-1 alpha_i, covariance (A^-1_ii)^-1.
    """
    n = solution.alpha.size
    inverse_lower = solve_triangular(solution.lower, np.eye(n), lower=True, check_finite=False)
    inverse = inverse_lower.T @ inverse_lower
    residual, variance = solution.alpha / np.diag(inverse), 1.0 / np.diag(inverse)
    order = np.argsort(site, kind="stable")
    starts = np.flatnonzero(np.diff(site[order], prepend=-1))
    for group in np.split(order, starts[1:]):
        if group.size > 1:
            covariance = np.linalg.inv(inverse[np.ix_(group, group)])
            residual[group] = covariance @ solution.alpha[group]
            variance[group] = np.diag(covariance)
    return residual, variance
