"""Writes where the air at a street comes from: the background, the traffic, and which streets it is on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely

from agents.air import AirExplanation
from cities.dispersion import REASONS, Dispersion, Model, Why
from cities.pack import City
from dashboards.board import Highest
from dashboards.view import QUANTITIES, Clock, State, number
from dashboards.why import distance_text

EXPLAINED = ("no2", "pm10", "pm25")
DEFAULT = "no2"  # what is explained beside a layer of something else
FINE_BELOW_UG_PER_M3 = 5.0  # less traffic than this is written to a hundredth, as it is published
LEAST_SHARE = 0.005  # less is written as 0 %: it counts among the others
# The sum over streets is within 0.005 ug/m3 of the field at 95 % of receptors, within 0.2 at the worst of two
# hundred, so what differs by more is of another step.
SAME_UG_PER_M3, SAME_SHARE = 0.3, 0.01
METHODS = {
    Model.NONE: "not calculated",
    Model.SRM1_BROAD_CANYON: "SRM1, broad street canyon",
    Model.SRM1_NARROW_CANYON: "SRM1, narrow street canyon",
    Model.SRM1_ONE_SIDED: "SRM1, buildings on one side",
    Model.SRM1_GENERAL: "SRM1, general urban street",
    Model.SRM2: "SRM2, open road",
}
NOX_TITLE = "NO\u2082 is no sum over streets: shares of it are shares of the NOx that traffic adds here"
SHARE_TITLE = "Shares of what traffic adds here"
NO_RECEPTOR = "No receptor here."
ALL_OTHERS: State = {"label": "all others", "id": "", "title": "", "distance": "", "is_own": False}


def quantity_of(layer_quantity: str) -> str:
    """What is explained while a layer is shown: what it shows, if that is explained at all."""
    return layer_quantity if layer_quantity in EXPLAINED else DEFAULT


def is_of(explanation: AirExplanation, ug_per_m3: float) -> bool:
    """Whether an explanation is of the value that is shown, not of the step that was closed since."""
    value = explanation.background + explanation.traffic
    return abs(value - ug_per_m3) <= SAME_UG_PER_M3 + SAME_SHARE * ug_per_m3


def apportioned(shares: Sequence[float], total: int) -> list[int]:
    """A whole number in parts by their shares, each within one of its own; they add up, none is negative.

    By the largest remainders; of equal ones the first is served first.
    """
    exact = np.asarray(shares, dtype=np.float64) * (total / max(sum(shares), 1e-12))
    parts = np.floor(exact).astype(np.int64)
    short = np.argsort(parts - exact, kind="stable")[: total - int(parts.sum())]
    parts[short] += 1
    return [int(part) for part in parts]


class OriginView:
    """Writes the panel that says where the concentration at a street comes from, and how it is calculated."""

    def __init__(self, city: City, dispersion: Dispersion, clock: Clock) -> None:
        self._city, self._dispersion, self._clock = city, dispersion, clock

    def state(
        self, segment: int, quantity: str, highest: Highest, explanation: AirExplanation, now_ms: int
    ) -> State:
        """The panel of a street with a receptor, at the end of a step; as written, all of it adds up.

        Parameters
        ----------
        highest : Highest
            The receptor that is explained, and its value as published [ug/m3].
        """
        decimals = 1 if explanation.traffic >= FINE_BELOW_UG_PER_M3 else 2
        unit = 10**decimals
        # rounded twice: in decimal, as it is written elsewhere, then to whole units
        total = round(round(highest.value, decimals) * unit)
        background = min(round(round(explanation.background, decimals) * unit), total)
        named = [c for c in explanation.contributors if c.share >= LEAST_SHARE]
        shares = [c.share for c in named]
        lines: list[State] = []
        if named:
            shares.append(max(0.0, 1.0 - sum(shares)))
            percents = apportioned(shares, 100)
            parts = apportioned(shares, total - background)
            names = [self._name(c.segment, segment, highest.cell) for c in named]
            ends = np.cumsum([0.0, *shares]).clip(0.0, 1.0)
            lines = [
                {"percent": f"{percent}\u00a0%", "value": number(part / unit, decimals),
                 "low": float(low), "high": float(high)} | name
                for name, percent, part, low, high in zip(
                    [*names, ALL_OTHERS], percents, parts, ends[:-1], ends[1:], strict=True
                )
                if name["id"] or percent or part
            ]  # fmt: skip
        unit_text = QUANTITIES[quantity][1]
        return self._head(segment, quantity) | {
            "at": self._clock.local(now_ms, "%H:%M:%S"),
            "title": NOX_TITLE if quantity == "no2" else SHARE_TITLE,
            "background": number(background / unit, decimals),
            "traffic": number((total - background) / unit, decimals),
            "total": number(total / unit, decimals),
            "unit": unit_text,
            "lines": lines,
        }

    def without(self, segment: int, quantity: str, highest: Highest | None) -> State:
        """The panel of a street without a receptor, or of one whose first value is still to come."""
        return self._head(segment, quantity) | {"missing": NO_RECEPTOR if highest is None else ""}

    def method(self, segment: int) -> State:
        """By which method a street itself is calculated, and what speaks against it."""
        d = self._dispersion
        why = Why(int(d.why[segment]))
        text = METHODS[Model(int(d.model[segment]))]
        if Why.TYPE_ASSUMED in why:
            text += ": road type assumed"
        elif Why.NO_MOTOR in why:
            text += f": {REASONS[Why.NO_MOTOR]}"
        outside = [REASONS[flag] for flag in Why if flag in why and flag.is_outside]
        return {"method": text, "reason": d.reason(segment), "outside": "; ".join(outside)}

    def _head(self, segment: int, quantity: str) -> State:
        head: State = {"id": self._city.segment_ids[segment], "quantity": QUANTITIES[quantity][0]}
        return head | self.method(segment)

    def _name(self, segment: int, own: int, cell: int) -> State:
        city, grid = self._city, self._city.grid
        row, column = divmod(cell, grid.n_columns)
        receptor = shapely.Point(grid.x()[column], grid.y()[row])
        distance_m = shapely.LineString(city.network.polyline(segment)).distance(receptor)
        name = city.segment_names[segment] or city.classes[int(city.road_class[segment])].name
        identifier = city.segment_ids[segment]
        return {
            "label": "this street" if segment == own else name,
            "id": identifier,
            "title": f"{name}, segment {identifier}",
            "distance": distance_text(distance_m),
            "is_own": segment == own,
        }
