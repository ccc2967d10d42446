"""Questions about a region's agents, answered as plain values, and the answers read back.

A name belongs to one agent, so that of several groups of agents only the one that has it answers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from agents.agent import Agent
from agents.air import AVERAGINGS, AirAgent, AirExplanation
from agents.fusion import FusionAgent
from agents.fusion_answers import Evidence, Explanation, Gain, SensorFault
from kernels.network import Direction, Mode

AGENT_OF: Mapping[str, str] = {
    "evidence": FusionAgent.name,
    "explain": FusionAgent.name,
    "explain_air": AirAgent.name,
    "faults": FusionAgent.name,
    "gains": FusionAgent.name,
}
TELLS_UNKNOWN = FusionAgent.name  # whose group says of a name that no agent has it
QUANTITIES = ("no2", "pm10", "pm25")
T = TypeVar("T")


class AnswerError(ValueError):
    """A question that has no answer here, or an answer that is none; names what is wrong."""


def is_mine(agents: Iterable[Agent], name: str) -> bool:
    """Whether a group with these agents answers questions of this name."""
    wanted = AGENT_OF.get(name, TELLS_UNKNOWN)
    return any(agent.name == wanted for agent in agents)


def answer(agents: Sequence[Agent], name: str, arguments: Mapping[str, Any]) -> Any:
    """Answer to a question at the last closed step, of dicts, lists, texts and numbers.

    May be called from any thread. An explanation takes up to 100 ms.

    Parameters
    ----------
    agents : sequence of Agent
        A group's; :func:`is_mine` says whether it has the agent that is asked.
    name : str
        A name of :data:`AGENT_OF`; ``evidence`` is that of all segments.
    arguments : mapping
        ``explain``: segment, direction (0, 1), mode (0 to 5); ``explain_air``: cell, quantity, averaging;
        the others: none.

    Raises
    ------
    AnswerError
        For a name, or an argument, that is unknown or missing.
    """
    if name not in AGENT_OF:
        raise AnswerError(f"question: got {name!r}, expected one of {', '.join(AGENT_OF)}")
    agent = next((agent for agent in agents if agent.name == AGENT_OF[name]), None)
    if agent is None:
        raise AnswerError(f"question: {name} is answered by agent {AGENT_OF[name]}, which is not here")
    asked = _Arguments(name, arguments)
    if isinstance(agent, AirAgent):
        return _plain(_explain_air(agent, asked))
    assert isinstance(agent, FusionAgent)
    return _plain(_ASKED_OF_FUSION[name](agent, asked))


class _Arguments:
    """Arguments of a question, checked one by one."""

    def __init__(self, question: str, given: Mapping[str, Any]) -> None:
        self._question, self._given = question, given

    def number(self, name: str) -> int:
        value = self._given.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise AnswerError(f"{self._question}: {name}: got {value!r}, expected a whole number, 0 or more")
        return value

    def one_of(self, name: str, known: Sequence[str]) -> str:
        value = self._given.get(name)
        if value not in known:
            raise AnswerError(f"{self._question}: {name}: got {value!r}, expected one of {', '.join(known)}")
        return str(value)

    def code(self, name: str, codes: type[T]) -> T:
        value = self.number(name)
        try:
            return codes(value)  # type: ignore[call-arg]
        except ValueError:
            raise AnswerError(
                f"{self._question}: {name}: got {value}, expected a code of {codes.__name__}"
            ) from None


def _explain_air(agent: AirAgent, asked: _Arguments) -> AirExplanation | None:
    cell = asked.number("cell")
    quantity, averaging = asked.one_of("quantity", QUANTITIES), asked.one_of("averaging", AVERAGINGS)
    try:
        return agent.explain(cell, quantity, averaging)
    except IndexError:
        raise AnswerError(f"explain_air: cell: got {cell}, which no receptor has") from None


def _explain(agent: FusionAgent, asked: _Arguments) -> Explanation | None:
    segment, direction = asked.number("segment"), asked.code("direction", Direction)
    mode = asked.code("mode", Mode)
    try:
        return agent.explain(segment, direction, mode)
    except IndexError:
        raise AnswerError(f"explain: segment: got {segment}, which no street has") from None


_ASKED_OF_FUSION: Mapping[str, Callable[[FusionAgent, _Arguments], Any]] = {
    "evidence": lambda agent, _: [
        {"segment": segment, "evidence": found} for segment, found in agent.evidence_by_segment().items()
    ],
    "explain": _explain,
    "faults": lambda agent, _: agent.faults(),
    "gains": lambda agent, _: agent.gains(),
}


# ---- back from JSON ----


def read_explanation(value: Any) -> Explanation | None:
    """Answer to ``explain``. AnswerError if it is none."""
    return None if value is None else _record(Explanation, value)


def read_air_explanation(value: Any) -> AirExplanation | None:
    """Answer to ``explain_air``. AnswerError if it is none."""
    return None if value is None else _record(AirExplanation, value)


def read_gains(value: Any) -> tuple[Gain, ...]:
    """Answer to ``gains``. AnswerError if it is none."""
    return _records(Gain, value)


def read_faults(value: Any) -> tuple[SensorFault, ...]:
    """Answer to ``faults``. AnswerError if it is none."""
    return _records(SensorFault, value)


def read_evidence(value: Any) -> dict[int, tuple[Evidence, ...]]:
    """Answer to ``evidence``, by segment. AnswerError if it is none."""
    found = {}
    for told in _list("evidence", value):
        if not isinstance(told, dict) or not isinstance(told.get("segment"), int):
            raise AnswerError(f"evidence: got {told!r}, expected an object with a segment")
        found[told["segment"]] = _records(Evidence, told.get("evidence"))
    return found


def _plain(value: Any) -> Any:
    """Dataclasses as dicts, codes as numbers, what is not a number as None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _list(what: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise AnswerError(f"{what}: got {value!r}, expected a list")
    return value


def _records(kind: type[T], value: Any) -> tuple[T, ...]:
    return tuple(_record(kind, told) for told in _list(kind.__name__, value))


def _record(kind: type[T], told: Any) -> T:
    hints = get_type_hints(kind)
    if not isinstance(told, dict) or told.keys() != hints.keys():
        raise AnswerError(f"{kind.__name__}: got {told!r}, expected an object with {', '.join(hints)}")
    return kind(**{name: _value(f"{kind.__name__}.{name}", hint, told[name]) for name, hint in hints.items()})


def _value(name: str, hint: Any, told: Any) -> Any:
    if get_origin(hint) is tuple:
        return _records(get_args(hint)[0], told)
    if hint is float and (told is None or isinstance(told, int | float)):
        return math.nan if told is None else float(told)
    if hint is Mode and told in list(Mode):
        return Mode(told)
    if hint in (str, int, bool) and type(told) is hint:
        return told
    raise AnswerError(f"{name}: got {told!r}, expected {getattr(hint, '__name__', hint)}")
