"""What is known of the flows of a mode before any sensor, and its compact form.

Flows are of the average hour of a weekday; :class:`cities.traffic_week.TrafficWeek` scales them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.network import Mode

OFFSET_PER_H = 5.0  # x = log(flow + 5): below a handful of vehicles an hour, differences stop to matter
REFERENCE_SCALE = 1.5  # anomalies hold at this multiple of the average hour: a busy hour of the day
RIDGE = 5.0  # in members: a response that a handful of members show is chance
_FLOW_STEPS = 4_000.0  # codes of log(1 + flow): 0.025 % of a flow, 16 bits reach 13 million
_TURN_STEPS = 20.0  # 5 % of a turning flow, 8 bits reach 340,000


@dataclass(frozen=True, slots=True)
class ModePrior:
    """Prior of one mode on its directed edges.

    Attributes
    ----------
    flow_per_h : (n_edges,) float32
        Mean flow of the average hour [1/h].
    turn_flow_per_h : (n_turns,) float32
        Flow from edge to edge, in the order of :class:`kernels.assignment.EdgeGraph` [1/h].
    anomalies : (n_edges, rank) float32
        Factor A of the ensemble's covariance A A' of x = log(flow + 5) at ``REFERENCE_SCALE``.
    lost_variance : (n_edges,) float32
        Variance of x in the ensemble that A A' does not hold.
    responses : (n_edges, n_guesses) float32
        Change of x with one standard deviation of each guess that holds for the whole city (totals, lengths
        of trips, speeds of a class); part of A A' too.
    probe_log_flow : (n_edges,) float32, optional
        x at ``REFERENCE_SCALE`` as a history of floating cars has it (:func:`probe_log_flow`).
    """

    flow_per_h: NDArray[np.float32]
    turn_flow_per_h: NDArray[np.float32]
    anomalies: NDArray[np.float32]
    lost_variance: NDArray[np.float32]
    responses: NDArray[np.float32]
    probe_log_flow: NDArray[np.float32] | None = None

    def log_mean(self, scale: float) -> NDArray[np.float64]:
        """Prior mean of x = log(flow + 5) when flows are ``scale`` times the average hour, (n_edges,)."""
        return np.log(self.flow_per_h.astype(np.float64) * scale + OFFSET_PER_H)


@dataclass(frozen=True, slots=True)
class Prior:
    """Priors of all modes of one network, named by its hash; ``revision`` says how they were made."""

    network_hash: str
    modes: Mapping[Mode, ModePrior]
    revision: str = ""


def log_deviations(members_per_h: NDArray[np.floating]) -> NDArray[np.float32]:
    """Deviations of x from the ensemble's mean over sqrt(n - 1), (n_members, n_edges).

    ``members_per_h`` are the flows of each member, (n_members, n_edges), average hour [1/h].
    """
    x = np.log(members_per_h * np.float32(REFERENCE_SCALE) + np.float32(OFFSET_PER_H)).astype(np.float32)
    x -= x.mean(axis=0, dtype=np.float64).astype(np.float32)
    x /= np.float32(np.sqrt(max(1, x.shape[0] - 1)))
    return x


def log_anomalies(
    deviations: NDArray[np.float32], rank: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Factor of an ensemble's covariance of x, cut to a rank, and the variance that the cut loses.

    Parameters
    ----------
    deviations : (n_members, n_edges) float32
        See :func:`log_deviations`.
    rank : int

    Returns
    -------
    anomalies : (n_edges, min(rank, n_members)) float32
    lost_variance : (n_edges,) float32
    """
    if rank >= deviations.shape[0]:
        return np.ascontiguousarray(deviations.T), np.zeros(deviations.shape[1], dtype=np.float32)
    x = deviations.astype(np.float64)
    _, vectors = np.linalg.eigh(x @ x.T)
    factor = x.T @ vectors[:, ::-1][:, :rank]
    lost = np.maximum(0.0, (x**2).sum(axis=0) - (factor**2).sum(axis=1))
    return factor.astype(np.float32), lost.astype(np.float32)


def log_responses(deviations: NDArray[np.float32], guesses: NDArray[np.float64]) -> NDArray[np.float32]:
    """Response of x to the city-wide guesses by ridge regression over the members, (n_edges, n_guesses).

    A taper in space cuts what one guess does to streets far apart; these columns keep it.

    Parameters
    ----------
    deviations : (n_members, n_edges) float32
        See :func:`log_deviations`.
    guesses : (n_members, n_guesses) float64
        Each member's draws.
    """
    centred = guesses - guesses.mean(axis=0)
    spread = centred.std(axis=0)
    centred = centred[:, spread > 0] / spread[spread > 0]
    x = deviations * np.float32(np.sqrt(max(1, deviations.shape[0] - 1)))
    normal = centred.T @ centred + RIDGE * np.eye(centred.shape[1])
    return np.ascontiguousarray(np.linalg.solve(normal, centred.T @ x).T, dtype=np.float32)


def probe_log_flow(
    vehicles: NDArray[np.float64], hours: float, flow_per_h: NDArray[np.float32]
) -> NDArray[np.float32]:
    """x at ``REFERENCE_SCALE`` by floating cars, drawn to the prior where few have passed: (n_edges,).

    With p the share of floating cars among all, (n + p f / 2) / (p T + p / 2) is the flow: half an hour of
    the prior's floating cars is added. p makes both totals equal; what it is really, the counters tell.

    Parameters
    ----------
    vehicles : (n_edges,) float64
        Floating cars that passed each edge.
    hours : float
        For how long they were counted [h].
    flow_per_h : (n_edges,) float32
        Prior flow of the average hour [1/h].
    """
    f = flow_per_h.astype(np.float64) * REFERENCE_SCALE
    share = max(float(vehicles.sum()), 1.0) / (hours * float(f.sum()))
    flow = (vehicles + 0.5 * share * f) / (share * (hours + 0.5))
    return np.log(flow + OFFSET_PER_H).astype(np.float32)


def with_share(prior: ModePrior, share: NDArray[np.float64]) -> ModePrior:
    """Prior of the part of a mode's flow that is ``share`` (n_edges,) of it on each edge.

    Turning flows keep their proportions, anomalies shrink as the part nears the offset of x.
    """
    flow, probes = prior.flow_per_h.astype(np.float64), prior.probe_log_flow
    ratio = (flow * share + 1.0) / (flow * share + OFFSET_PER_H) * (flow + OFFSET_PER_H) / (flow + 1.0)
    return ModePrior(
        flow_per_h=(flow * share).astype(np.float32),
        turn_flow_per_h=prior.turn_flow_per_h,
        anomalies=(prior.anomalies * ratio[:, None]).astype(np.float32),
        lost_variance=(prior.lost_variance * ratio**2).astype(np.float32),
        responses=(prior.responses * ratio[:, None]).astype(np.float32),
        probe_log_flow=None if probes is None else _of_share(probes, share),
    )


def _of_share(log_flow: NDArray[np.float32], share: NDArray[np.float64]) -> NDArray[np.float32]:
    flow = np.maximum(np.exp(log_flow.astype(np.float64)) - OFFSET_PER_H, 0.0)
    return np.log(flow * share + OFFSET_PER_H).astype(np.float32)


def pack(prior: ModePrior) -> dict[str, NDArray[Any]]:
    """Compact integer arrays of a prior: 16 bits a flow, 8 bits a turn, an anomaly or a response."""
    anomaly, anomaly_peak = _bytes(prior.anomalies)
    response, response_peak = _bytes(prior.responses)
    return {
        "flow": np.rint(np.log1p(prior.flow_per_h) * _FLOW_STEPS).astype(np.uint16),
        "turn": np.minimum(np.rint(np.log1p(prior.turn_flow_per_h) * _TURN_STEPS), 255).astype(np.uint8),
        "anomaly": anomaly,
        "anomaly_peak": anomaly_peak,
        "response": response,
        "response_peak": response_peak,
        "lost": np.minimum(np.rint(np.sqrt(prior.lost_variance) * 200.0), 255).astype(np.uint8),
    }


def unpack(arrays: Mapping[str, NDArray[Any]]) -> ModePrior:
    """Prior from the arrays of :func:`pack`."""
    return ModePrior(
        flow_per_h=np.expm1(arrays["flow"].astype(np.float32) / _FLOW_STEPS),
        turn_flow_per_h=np.expm1(arrays["turn"].astype(np.float32) / _TURN_STEPS),
        anomalies=_floats(arrays["anomaly"], arrays["anomaly_peak"]),
        lost_variance=(arrays["lost"].astype(np.float32) / 200.0) ** 2,
        responses=_floats(arrays["response"], arrays["response_peak"]),
    )


def _bytes(columns: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    peak = np.maximum(np.abs(columns).max(axis=0, initial=0.0), 1e-6)
    return np.rint(columns.T / peak[:, None] * 127.0).astype(np.int8), peak.astype(np.float32)


def _floats(rows: NDArray[np.int8], peak: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray((rows.astype(np.float32) * (peak / 127.0)[:, None]).T)
