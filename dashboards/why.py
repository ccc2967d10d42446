"""Writes why a flow is what it is: its parts, its score, the evidence, and which counters are in doubt."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate

import numpy as np

from agents.fusion_answers import Explanation, Gain, SensorFault
from cities.pack import City
from dashboards.board import ModeFlow
from dashboards.explanations import Answer
from dashboards.view import UNKNOWN, Clock, State, duration, number
from kernels.network import Mode
from kernels.scores import accuracy_band

STRONGEST = 5
FINE_BELOW_PER_H = 20.0  # such flows are written to a tenth
WIDEST = 1.6  # of the axis to the longest bar: a wider interval runs off it
LOW_WEIGHT = 0.3  # the counter says less than the prior does
Z90 = 1.645
SAME_PER_H = 0.1  # flows are published to a tenth
BALANCE_TITLE = (
    "What flows in at a junction flows out again, no street carries more than 1.5 times its capacity, and a "
    "flow keeps to a counter on its own street"
)


def chosen_flow(flows: Iterable[ModeFlow], mode: Mode, direction: int | None) -> ModeFlow | None:
    """The flow of a mode and direction, or the nearest to it that the street has: the greatest one."""
    return min(
        flows, key=lambda f: (f.mode is not mode, f.direction != direction, -f.flow_per_h), default=None
    )


def flow_key(flow: ModeFlow) -> str:
    """Names a flow of a street between page and server."""
    return f"{flow.mode.name.lower()}/{flow.direction}"


def is_of(explanation: Explanation, flow: ModeFlow) -> bool:
    """Whether an explanation is of the flow that is shown, not of the step that fusion has closed since."""
    return abs(explanation.flow_per_h - flow.flow_per_h) <= SAME_PER_H + 1e-5 * flow.flow_per_h


def parts_state(explanation: Explanation, flow: ModeFlow) -> list[State]:
    """Lines of the sum from the flow before any sensor to the present one; as written, they add up."""
    decimals = 0 if max(explanation.prior_per_h, flow.flow_per_h) >= FINE_BELOW_PER_H else 1
    unit = 10**decimals
    strongest = [
        c for c in explanation.counters[:STRONGEST] if round(c.moved_per_h * unit) != 0
    ]  # the others move less than what is written
    n_others = len(explanation.counters) - len(strongest)
    lines = [(f"{c.source} {c.sensor}", round(c.moved_per_h * unit), c.distance_m) for c in strongest]
    prior, now = round(explanation.prior_per_h * unit), round(flow.flow_per_h * unit)
    balance = round(explanation.balance_per_h * unit)
    rest = now - prior - balance - sum(moved for _, moved, _ in lines)
    if n_others:
        lines.append((f"{n_others} other counter{'s' if n_others > 1 else ''}", rest, math.nan))
    else:
        balance += rest
    lines.append(("junction balance", balance, math.nan))

    totals = list(accumulate([prior, *(moved for _, moved, _ in lines)]))
    low, high = min(0, *totals), max(1, *totals)
    if math.isfinite(flow.hi90):
        high = max(high, min(flow.hi90 * unit, low + WIDEST * (high - low)))

    def at(value: float) -> float:
        return min(1.0, max(0.0, (value - low) / (high - low)))

    def line(label: str, text: str, distance_m: float, a: float, b: float, kind: str) -> State:
        return {
            "label": label, "value": text, "distance": distance_text(distance_m), "kind": kind,
            "low": at(min(a, b)), "high": at(max(a, b)), "title": "",
        }  # fmt: skip

    state = [line("before any sensor", number(prior / unit, decimals), math.nan, 0, prior, "total")]
    for (label, moved, distance_m), total in zip(lines, totals[1:], strict=True):
        kind = "more" if moved >= 0 else "less"
        state.append(line(label, signed(moved / unit, decimals), distance_m, total - moved, total, kind))
    state[-1]["title"] = BALANCE_TITLE
    last = line("= now", number(now / unit, decimals), math.nan, 0, now, "total")
    if math.isfinite(flow.lo90) and math.isfinite(flow.hi90):
        last["interval"] = f"{number(flow.lo90)} to {number(flow.hi90)}"
        last["interval_low"], last["interval_high"] = at(flow.lo90 * unit), at(flow.hi90 * unit)
    return [*state, last]


def signed(value: float, decimals: int = 0) -> str:
    """A change: always with its sign, unless it is none."""
    sign = "+" if value > 0 else "\u2212" if value < 0 else "\u00b1"
    return sign + number(abs(value), decimals)


def distance_text(distance_m: float) -> str:
    """How far a counter is; nothing when that means nothing."""
    if math.isnan(distance_m):
        return ""
    if distance_m < 1.0:
        return "here"
    return f"{distance_m:.0f} m" if distance_m < 995.0 else f"{distance_m / 1000:.1f} km"


def score_state(flow: ModeFlow) -> State:
    """The score of a flow, and what it says."""
    low, high = (float(v[0]) for v in accuracy_band(np.array([flow.flow_per_h])))
    return {
        "value": number(flow.accuracy, 2),
        "text": "probability that the true flow lies within 15\u00a0% or GEH\u00a05 of this: "
        f"{number(low)} to {number(high)}/h",
        "doubtful": bool(flow.accuracy < 0.5),
    }


class WhyView:
    """Writes the panel that says why a street has its flow."""

    def __init__(self, city: City, clock: Clock, heading: Callable[[int, int], str]) -> None:
        self._city, self._clock, self._heading = city, clock, heading

    def state(self, segment: int, flow: ModeFlow, answer: Answer, now_ms: int) -> State:
        """The panel of one flow of a street, as it was at the end of a step."""
        return {
            "id": self._city.segment_ids[segment],
            "flow": flow_key(flow),
            "at": self._clock.local(now_ms, "%H:%M:%S"),
            "parts": [] if answer.explanation is None else parts_state(answer.explanation, flow),
            "score": score_state(flow),
            "evidence": self.evidence(segment, flow, answer),
        }

    def evidence(self, segment: int, flow: ModeFlow, answer: Answer) -> list[State]:
        """Counters on a street: those of the explained flow, then the others, the weightiest first; then
        those in doubt that say nothing now."""
        fault_of = {(f.sensor, f.mode): f for f in answer.faults}
        gain_of = {(g.sensor, g.mode): g for g in answer.gains}
        lines = []
        for e in sorted(answer.evidence, key=lambda e: (-e.weight, e.sensor, e.mode)):
            fault, gain = fault_of.pop((e.sensor, e.mode), None), gain_of.get((e.sensor, e.mode))
            direction = {"forward": 0, "backward": 1}.get(str(e.direction))
            line = {
                "sensor": f"{e.source} {e.sensor}",
                "mode": e.mode.name.lower(),
                "heading": "both" if direction is None else self._heading(segment, direction),
                "reading": number(e.reading_per_h),
                "expected": number(e.expected_per_h),
                "weight": number(e.weight, 2),
                "share": e.weight,
                "is_low": e.weight < LOW_WEIGHT,
                "age": duration(e.age_s),
                "simulated": e.simulated,
                "fault": e.fault,
                "detail": "" if fault is None else f"since {self._since(fault.since_ms)}",
                "gain": "" if gain is None else gain_text(gain),
                "is_explained": e.mode is flow.mode and direction in (None, flow.direction),
            }
            lines.append(line)
        lines.sort(key=lambda line: not line["is_explained"])
        return lines + [self._silent(f) for f in fault_of.values()]

    def _silent(self, fault: SensorFault) -> State:
        """Line of a counter whose last reading is too old to be weighed."""
        return {
            "sensor": f"{fault.source} {fault.sensor}", "mode": fault.mode.name.lower(), "heading": "",
            "reading": UNKNOWN, "expected": UNKNOWN, "weight": "0", "share": 0.0, "is_low": True,
            "age": UNKNOWN, "simulated": False, "fault": fault.fault,
            "detail": f"since {self._since(fault.since_ms)}", "gain": "", "is_explained": False,
        }  # fmt: skip

    def faults(self, faults: Sequence[SensorFault]) -> list[State]:
        """Counters in doubt, the latest first; modes of one counter with one fault are one line."""
        together: dict[tuple[str, str, str], list[SensorFault]] = {}
        for fault in faults:
            together.setdefault((fault.source, fault.sensor, fault.fault), []).append(fault)
        ordered = sorted(together.items(), key=lambda item: (-min(f.since_ms for f in item[1]), item[0]))
        return [
            {
                "sensor": f"{source} {sensor}",
                "street": self._city.segment_names[same[0].segment] or "unnamed street",
                "segment": self._city.segment_ids[same[0].segment],
                "modes": ", ".join(f.mode.name.lower() for f in sorted(same, key=lambda f: f.mode)),
                "fault": fault,
                "since": self._since(min(f.since_ms for f in same)),
            }
            for (source, sensor, fault), same in ordered
        ]

    def _since(self, moment_ms: int) -> str:
        return self._clock.local(moment_ms, "%H:%M")


def gain_text(gain: Gain) -> str:
    """A gain as a factor with its 90 % interval."""
    low, middle, high = (math.exp(gain.log_gain + z * gain.log_sd) for z in (-Z90, 0.0, Z90))
    by = "by a reference here" if gain.has_reference else "by the other counters"
    return f"reads \u00d7 {middle:.2f} ({low:.2f}\u2013{high:.2f}), {by}"
