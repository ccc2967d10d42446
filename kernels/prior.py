"""What is known of the flows of a mode before any sensor, and its compact form.

Flows are of the average hour of a weekday; :class:`kernels.profile.DayProfile` scales them through the day.
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
    """

    flow_per_h: NDArray[np.float32]
    turn_flow_per_h: NDArray[np.float32]
    anomalies: NDArray[np.float32]
    lost_variance: NDArray[np.float32]

    def log_mean(self, scale: float) -> NDArray[np.float64]:
        """Prior mean of x = log(flow + 5) when flows are ``scale`` times the average hour, (n_edges,)."""
        return np.log(self.flow_per_h.astype(np.float64) * scale + OFFSET_PER_H)


@dataclass(frozen=True, slots=True)
class Prior:
    """Priors of all modes of one network, named by its hash."""

    network_hash: str
    modes: Mapping[Mode, ModePrior]


def log_anomalies(
    members_per_h: NDArray[np.float64], rank: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Factor of an ensemble's covariance of x, cut to a rank, and the variance that the cut loses.

    Parameters
    ----------
    members_per_h : (n_members, n_edges) float64
        Flows of each member, average hour [1/h].
    rank : int

    Returns
    -------
    anomalies : (n_edges, min(rank, n_members)) float32
    lost_variance : (n_edges,) float32
    """
    x = np.log(members_per_h * REFERENCE_SCALE + OFFSET_PER_H)
    x -= x.mean(axis=0)
    x /= np.sqrt(max(1, x.shape[0] - 1))
    _, vectors = np.linalg.eigh(x @ x.T)
    kept = vectors[:, ::-1][:, :rank]
    factor = x.T @ kept
    lost = np.maximum(0.0, (x**2).sum(axis=0) - (factor**2).sum(axis=1))
    return factor.astype(np.float32), lost.astype(np.float32)


def with_share(prior: ModePrior, share: NDArray[np.float64]) -> ModePrior:
    """Prior of the part of a mode's flow that is ``share`` (n_edges,) of it on each edge.

    Turning flows keep their proportions, anomalies shrink as the part nears the offset of x.
    """
    flow = prior.flow_per_h.astype(np.float64)
    ratio = (flow * share + 1.0) / (flow * share + OFFSET_PER_H) * (flow + OFFSET_PER_H) / (flow + 1.0)
    return ModePrior(
        flow_per_h=(flow * share).astype(np.float32),
        turn_flow_per_h=prior.turn_flow_per_h,
        anomalies=(prior.anomalies * ratio[:, None]).astype(np.float32),
        lost_variance=(prior.lost_variance * ratio**2).astype(np.float32),
    )


def pack(prior: ModePrior) -> dict[str, NDArray[Any]]:
    """Compact integer arrays of a prior: 16 bits a flow, 8 bits a turn, 8 bits an anomaly."""
    peak = np.maximum(np.abs(prior.anomalies).max(axis=0, initial=0.0), 1e-6)
    return {
        "flow": np.rint(np.log1p(prior.flow_per_h) * _FLOW_STEPS).astype(np.uint16),
        "turn": np.minimum(np.rint(np.log1p(prior.turn_flow_per_h) * _TURN_STEPS), 255).astype(np.uint8),
        "anomaly": np.rint(prior.anomalies.T / peak[:, None] * 127.0).astype(np.int8),
        "anomaly_peak": peak.astype(np.float32),
        "lost": np.minimum(np.rint(np.sqrt(prior.lost_variance) * 200.0), 255).astype(np.uint8),
    }


def unpack(arrays: Mapping[str, NDArray[Any]]) -> ModePrior:
    """Prior from the arrays of :func:`pack`."""
    factor = arrays["anomaly"].astype(np.float32) * (arrays["anomaly_peak"] / 127.0)[:, None]
    return ModePrior(
        flow_per_h=np.expm1(arrays["flow"].astype(np.float32) / _FLOW_STEPS),
        turn_flow_per_h=np.expm1(arrays["turn"].astype(np.float32) / _TURN_STEPS),
        anomalies=np.ascontiguousarray(factor.T),
        lost_variance=(arrays["lost"].astype(np.float32) / 200.0) ** 2,
    )
