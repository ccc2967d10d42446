"""Gains of citizens' cameras are learnt from a counter on their own street, and only there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from agents.fusion_gains import INDEPENDENT_MS, Gains

STEP_MS = 300_000


def counters(beside: bool) -> Any:
    """A camera on edge 0 in both directions as one site, and a loop on edge 0 or on another street."""
    sees = np.zeros((3, 4))
    sees[0, 0] = sees[1, 1] = 1.0
    sees[2, 0 if beside else 3] = 1.0
    return SimpleNamespace(
        site=np.array([0, 0, 1]), gain_sd=np.array([0.4, 0.4, 0.0]), n_rows=3, sees=csr_array(sees)
    )


def learn(gains: Gains, log_gain: float, hours: float, seed: int = 1) -> None:
    """Both count 200 vehicles an hour in windows of a quarter of an hour."""
    rng = np.random.default_rng(seed)
    for k in range(int(hours * 12)):
        passed = rng.poisson(50.0, 3)
        count = passed * np.exp([log_gain, log_gain, 0.0])
        gains.learn(
            (k + 1) * STEP_MS, count * 4.0, passed.astype(float), np.ones(3), np.array([0.15, 0.15, 0.05]),
            np.ones(3, dtype=np.bool_),
        )  # fmt: skip


def test_four_hours_beside_a_loop_tell_a_gain_within_its_own_interval() -> None:
    errors = []
    for seed in range(60):
        gains = Gains(counters(beside=True))
        truth = 0.4 * float(np.random.default_rng([seed, 9]).standard_normal())
        learn(gains, truth, 4.0, seed)
        errors.append((gains.mean[0] - truth) / np.sqrt(gains.variance[0]))
    assert np.mean(np.abs(errors) < 1.645) >= 0.8
    assert np.std(errors) > 0.2  # and the interval is not a wild guess either


def test_both_directions_of_a_camera_share_what_is_learnt() -> None:
    gains = Gains(counters(beside=True))
    learn(gains, 0.5, 2.0)
    assert gains.mean[0] == gains.mean[1] == pytest.approx(0.5, abs=0.15)
    assert gains.mean[2] == 0.0
    assert gains.variance[2] == 0.0
    assert gains.is_learnt.tolist() == [True, True, False]


def test_without_a_loop_on_the_street_nothing_is_learnt() -> None:
    gains = Gains(counters(beside=False))
    learn(gains, 0.5, 4.0)
    assert gains.mean.tolist() == [0.0, 0.0, 0.0]
    assert np.sqrt(gains.variance).tolist() == pytest.approx([0.4, 0.4, 0.0])


def test_a_ratio_heard_again_within_its_window_adds_no_second_observation() -> None:
    often, once = Gains(counters(beside=True)), Gains(counters(beside=True))
    args = (
        np.full(3, 200.0),
        np.full(3, 50.0),
        np.ones(3),
        np.array([0.15, 0.15, 0.05]),
        np.ones(3, dtype=np.bool_),
    )
    for ms in range(0, INDEPENDENT_MS + 1, 60_000):
        often.learn(ms + 1, *args)
    for ms in (1, INDEPENDENT_MS + 1):
        once.learn(ms, *args)
    np.testing.assert_allclose(often.information, once.information, rtol=0.01)


def test_a_state_taken_up_goes_on_as_if_never_stopped() -> None:
    whole, second = Gains(counters(beside=True)), Gains(counters(beside=True))
    learn(whole, 0.3, 1.0)
    second.restore(whole.snapshot())
    learn(whole, 0.3, 1.0, seed=2)
    learn(second, 0.3, 1.0, seed=2)
    assert np.array_equal(whole.mean, second.mean)
