"""What may be asked of fusion: evidence, faults, gains, predictions and explanations."""

from __future__ import annotations

from dataclasses import dataclass

from kernels.network import Mode


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one counter says of a street: its reading against the published flow, and its say in it."""

    sensor: str
    source: str
    mode: Mode
    direction: str
    reading_per_h: float
    expected_per_h: float
    weight: float
    age_s: float
    simulated: bool
    fault: str


@dataclass(frozen=True, slots=True)
class SensorFault:
    """What is wrong with a counter: stuck, zero, spiking, drifting, silent or contradicting."""

    sensor: str
    source: str
    mode: Mode
    segment: int
    fault: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One counter and what all others say of it; ``log_sd`` is of the reading about that, noise included."""

    sensor: str
    source: str
    mode: Mode
    segment: int
    direction: str
    reading_per_h: float
    expected_per_h: float
    log_residual: float
    log_sd: float


@dataclass(frozen=True, slots=True)
class Gain:
    """Log of what a counter reads for each vehicle it should, beyond the known share it detects."""

    sensor: str
    mode: Mode
    segment: int
    log_gain: float
    log_sd: float
    has_reference: bool


@dataclass(frozen=True, slots=True)
class Contribution:
    """What a source moved the flow of one edge by, against the flow before any sensor."""

    sensor: str
    source: str
    moved_per_h: float
    distance_m: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Flow of an edge as a sum: prior, counters, and what conservation and limits did [1/h].

    ``counters`` are all, the greatest first; with ``prior_per_h`` and ``balance_per_h`` they add up to
    ``flow_per_h``.
    """

    prior_per_h: float
    flow_per_h: float
    balance_per_h: float
    counters: tuple[Contribution, ...]
