"""Alarm rules of a city pack: rules.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from cities.pack import CityError

QUANTITIES = {
    "no2": "ug/m3",
    "pm10": "ug/m3",
    "pm25": "ug/m3",
    "noise": "dB(A)",
    "sound_power": "dB(A)/m",
    "people": "people",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """When an operator is called, and what is expected of them.

    ``compare`` is ``level`` (the value against the threshold) or ``rise`` (the value now, less the
    highest of its hourly means in the last two hours, less the median of that difference over all watched
    streets, against the threshold).
    ``scope`` is ``street`` (the worst segment of each street of ``road_classes``) or ``zone`` (people in each
    zone of exposure, ``exposure`` naming the quantity and ``exposure_threshold`` its threshold).
    """

    name: str
    title: str
    quantity: str
    threshold: float
    scope: str
    action: str
    consequence: str
    averaging: str = "now"
    compare: str = "level"
    road_classes: tuple[int, ...] = ()
    exposure: str = ""
    exposure_threshold: float = 0.0
    deadband: float = 0.0
    on_delay_s: int = 0
    off_delay_s: int = 0
    minimum_accuracy: float = 0.0
    priority: int = 3
    response_min: int = 15

    @property
    def unit(self) -> str:
        is_level_in_db = QUANTITIES[self.quantity].startswith("dB")
        return "dB" if is_level_in_db and self.compare == "rise" else QUANTITIES[self.quantity]


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules of a city; ``silent_after_intervals`` is when a feed counts as silent."""

    rules: tuple[Rule, ...]
    silent_after_intervals: float = 3.0


def load_rules(folder: Path) -> Rules:
    """Read rules.toml; a pack without it has no rules.

    Raises
    ------
    CityError
        Naming the rule, the field, what it held and what was expected.
    """
    path = folder / "rules.toml"
    if not path.is_file():
        return Rules(())
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise CityError(f"{path}: not valid TOML: {error}") from error
    rules = tuple(_rule(row, number) for number, row in enumerate(content.get("rule", []), start=1))
    names = [rule.name for rule in rules]
    for name in names:
        if names.count(name) > 1:
            raise CityError(f"rules.toml: rule {name}: name: occurs twice")
    return Rules(rules, float(content.get("feeds", {}).get("silent_after_intervals", 3.0)))


def _rule(row: dict[str, Any], number: int) -> Rule:
    where = f"rules.toml: rule {row.get('name', f'number {number}')}"
    known = {f.name for f in fields(Rule)}
    for key in row:
        if key not in known:
            raise CityError(f"{where}: {key}: is not a field of a rule; fields: {', '.join(sorted(known))}")
    if "road_classes" in row:
        row = {**row, "road_classes": tuple(row["road_classes"])}
    try:
        rule = Rule(**row)
    except TypeError as error:
        raise CityError(f"{where}: {error}") from error
    _allow(where, "quantity", rule.quantity, tuple(QUANTITIES))
    _allow(where, "averaging", rule.averaging, ("now", "1h"))
    _allow(where, "compare", rule.compare, ("level", "rise"))
    _allow(where, "scope", rule.scope, ("street", "zone"))
    _allow(where, "priority", rule.priority, (1, 2, 3))
    if (rule.scope == "zone") != (rule.quantity == "people"):
        raise CityError(f"{where}: scope: a rule on people has scope zone, and no other has")
    if not rule.action.strip():
        raise CityError(f"{where}: action: is empty; what calls for no action is an event, not an alarm")
    for field in ("deadband", "on_delay_s", "off_delay_s", "minimum_accuracy"):
        value = getattr(rule, field)
        if not isinstance(value, int | float) or value < 0:
            raise CityError(f"{where}: {field}: got {value!r}, expected a number of at least 0")
    return rule


def _allow(where: str, field: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise CityError(
            f"{where}: {field}: got {value!r}, expected one of {', '.join(str(a) for a in allowed)}"
        )
