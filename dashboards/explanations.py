"""Explanations of flows and air, worked out in a thread beside the event loop and shared by viewers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from agents.air import AirExplanation
from agents.fusion_answers import Evidence, Explanation, Gain, SensorFault
from dashboards.control import Control
from kernels.network import Direction, Mode

REMEMBERED = 8  # streets that viewers look at in one step
GAINS_STEPS = 5  # a gain changes over hours, and all of them take longer than an explanation
Asked = TypeVar("Asked")
Answered = TypeVar("Answered")


@dataclass(frozen=True, slots=True)
class Question:
    """Which flow is to be explained, at which version of the board."""

    version: int
    segment: int
    direction: int
    mode: Mode


@dataclass(frozen=True, slots=True)
class AirQuestion:
    """Which concentration, as it is now, is to be explained, at which version of the board."""

    version: int
    cell: int
    quantity: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Why a flow is what it is, None where there is no flow; and what the counters on its street say."""

    explanation: Explanation | None
    evidence: tuple[Evidence, ...]
    faults: tuple[SensorFault, ...]
    gains: tuple[Gain, ...]


class Explanations:
    """Answers each question once. One thread: an answer takes up to 100 ms of a core."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="explanations")
        self._answers = _Answers(self._pool, self._answer)
        self._air_answers = _Answers(self._pool, self._answer_air)
        self._gains: tuple[Gain, ...] = ()
        self._gains_version = -GAINS_STEPS

    def ask(self, question: Question) -> Future[Answer]:
        """Answer, soon; what another viewer asked too is not worked out again."""
        return self._answers.ask(question)

    def forget(self, question: Question) -> None:
        """Work the answer out anew when it is asked again."""
        self._answers.forget(question)

    def ask_air(self, question: AirQuestion) -> Future[AirExplanation | None]:
        """Where the air at a receptor comes from, soon and once for all viewers."""
        return self._air_answers.ask(question)

    def _answer(self, question: Question) -> Answer:
        control, segment = self._control, question.segment
        # both of one step: fusion may close its next one while it explains
        evidence = tuple(control.evidence(segment))
        faults = tuple(f for f in control.faults() if f.segment == segment)
        explanation = control.explain(segment, Direction(question.direction), question.mode)
        if evidence and not 0 <= question.version - self._gains_version < GAINS_STEPS:
            self._gains, self._gains_version = tuple(control.gains()), question.version
        gains = tuple(g for g in self._gains if g.segment == segment)
        return Answer(explanation, evidence, faults, gains)

    def _answer_air(self, question: AirQuestion) -> AirExplanation | None:
        return self._control.explain_air(question.cell, question.quantity, "now")

    def close(self) -> None:
        """Let the thread end."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class _Answers(Generic[Asked, Answered]):
    """The latest questions of a kind, and their answers."""

    def __init__(self, pool: ThreadPoolExecutor, answer: Callable[[Asked], Answered]) -> None:
        self._pool, self._answer = pool, answer
        self._answers: OrderedDict[Asked, Future[Answered]] = OrderedDict()

    def ask(self, question: Asked) -> Future[Answered]:
        if question not in self._answers:
            self._answers[question] = self._pool.submit(self._answer, question)
            while len(self._answers) > REMEMBERED:
                self._answers.popitem(last=False)
        return self._answers[question]

    def forget(self, question: Asked) -> None:
        self._answers.pop(question, None)
