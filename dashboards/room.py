"""What the page may do to a running room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from agents.air import AirAgent, AirExplanation
from agents.engines.embedded import EmbeddedEngine
from agents.fusion import FusionAgent
from agents.fusion_answers import Evidence, Explanation, Gain, SensorFault
from kernels.network import Direction, Mode
from streams.player import Player, PlayerStatus
from streams.topics import Batch, Topic


class RoomControl:
    """Controls of the embedded engine and its replay (:class:`dashboards.control.Control`)."""

    def __init__(self, engine: EmbeddedEngine, player: Player) -> None:
        self._engine, self._player = engine, player
        self._step_wall_s = 0.0
        self._fusion = next(agent for agent in engine.agents if isinstance(agent, FusionAgent))
        self._air = next(agent for agent in engine.agents if isinstance(agent, AirAgent))

    def stepped(self, _now_ms: int, wall_s: float) -> None:
        """Note how long the last step took [s]; 0 is an operator's action."""
        if wall_s > 0:
            self._step_wall_s = wall_s

    @property
    def transport(self) -> Player:
        return self._player

    def acknowledge(self, alarm_key: str, who: str, note: str) -> None:
        """Acknowledge an alarm in the name of an operator."""
        columns = {
            name: np.array([text], dtype=object)
            for name, text in (("action", "acknowledge"), ("who", who), ("note", note))
        }
        self._engine.act(Batch(Topic.OPERATOR_ACTIONS, alarm_key, self._engine.now_ms, columns))

    def status(self) -> PlayerStatus:
        return replace(self._player.status(), step_wall_s=self._step_wall_s)

    def notices(self) -> Sequence[str]:
        """None: what the page shows is in its own process."""
        return ()

    def refused(self) -> Mapping[str, str]:
        """None: an action reaches the engine at once."""
        return {}

    def health(self) -> Mapping[str, object]:
        return {}

    def evidence(self, segment: int) -> Sequence[Evidence]:
        """Readings of the counters on a segment, and what fusion made of them."""
        return self._fusion.evidence(segment)

    def faults(self) -> Sequence[SensorFault]:
        """Counters in doubt at the last closed step."""
        return self._fusion.faults()

    def gains(self) -> Sequence[Gain]:
        """Gains of the counters that nobody calibrated, at the last closed step."""
        return self._fusion.gains()

    def explain_air(self, cell: int, quantity: str, averaging: str) -> AirExplanation | None:
        """Where a concentration at a receptor came from at the last closed step."""
        return self._air.explain(cell, quantity, averaging)

    def explain(self, segment: int, direction: Direction, mode: Mode) -> Explanation | None:
        """Why a street had its flow at the last closed step."""
        return self._fusion.explain(segment, direction, mode)
