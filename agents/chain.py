"""Which agents there are, upstream before downstream, and who feeds whom."""

from __future__ import annotations

from collections.abc import Sequence

from agents.air import AirAgent
from agents.alarms import AlarmsAgent
from agents.emission import EmissionAgent
from agents.exposure import ExposureAgent
from agents.fusion import FusionAgent
from agents.noise import NoiseAgent
from streams.topics import Topic

AgentType = (
    type[FusionAgent]
    | type[EmissionAgent]
    | type[AirAgent]
    | type[NoiseAgent]
    | type[ExposureAgent]
    | type[AlarmsAgent]
)
CHAIN: tuple[AgentType, ...] = (FusionAgent, EmissionAgent, AirAgent, NoiseAgent, ExposureAgent, AlarmsAgent)
ALL = "all"


def group_of(text: str) -> tuple[str, ...]:
    """Names of the agents that ``all`` or a list with commas stands for, upstream before downstream.

    Raises
    ------
    ValueError
        For a name that no agent has.
    """
    known = [kind.name for kind in CHAIN]
    wanted = known if text == ALL else [name.strip() for name in text.split(",")]
    for name in wanted:
        if name not in known:
            raise ValueError(f"agents: got {name!r}, expected {ALL} or some of {', '.join(known)}")
    return tuple(name for name in known if name in wanted)


def group_name(names: Sequence[str]) -> str:
    """What a group of agents is called in consumer groups and keys."""
    return ALL if len(names) == len(CHAIN) else "-".join(names)


def inputs_of(names: Sequence[str]) -> list[tuple[Topic, str]]:
    """Topics that a group needs from agents outside of it, and which agent publishes there."""
    wanted = {topic for kind in CHAIN if kind.name in names for topic in kind.consumes}
    return [
        (topic, kind.name)
        for kind in CHAIN
        if kind.name not in names
        for topic in kind.produces
        if topic in wanted
    ]


def topics_of(names: Sequence[str]) -> tuple[Topic, ...]:
    """Topics that a group reads from the log."""
    consumed = {topic for kind in CHAIN if kind.name in names for topic in kind.consumes}
    from_outside = {topic for topic, _ in inputs_of(names)}
    sources = {Topic.OBSERVATIONS, Topic.OPERATOR_ACTIONS}
    return tuple(topic for topic in Topic if topic in from_outside | (consumed & sources))
