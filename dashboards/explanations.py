"""Explanations of flows, worked out in a thread beside the event loop and shared by viewers of one street."""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from agents.fusion_answers import Evidence, Explanation, Gain, SensorFault
from dashboards.control import Control
from kernels.network import Direction, Mode

REMEMBERED = 8  # streets that viewers look at in one step
GAINS_STEPS = 5  # a gain changes over hours, and all of them take longer than an explanation


@dataclass(frozen=True, slots=True)
class Question:
    """Which flow is to be explained, at which version of the board."""

    version: int
    segment: int
    direction: int
    mode: Mode


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
        self._answers: OrderedDict[Question, Future[Answer]] = OrderedDict()
        self._gains: tuple[Gain, ...] = ()
        self._gains_version = -GAINS_STEPS

    def ask(self, question: Question) -> Future[Answer]:
        """Answer, soon; what another viewer asked too is not worked out again."""
        if question not in self._answers:
            self._answers[question] = self._pool.submit(self._answer, question)
            while len(self._answers) > REMEMBERED:
                self._answers.popitem(last=False)
        return self._answers[question]

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

    def close(self) -> None:
        """Let the thread end."""
        self._pool.shutdown(wait=False, cancel_futures=True)
