"""Alarm rules are read, or refused by rule and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from cities.pack import CityError, find_city
from cities.rules import load_rules
from tests.toy import RULES


def test_the_rules_of_the_toy_city_are_read(toy_folder: Path) -> None:
    (rule,) = load_rules(toy_folder).rules
    assert (rule.name, rule.compare, rule.road_classes, rule.unit) == ("rise", "rise", (11, 12), "dB")


def test_the_bundled_rules_are_read() -> None:
    rules = load_rules(find_city("ghent")).rules
    assert all(rule.action and rule.consequence for rule in rules)


def test_a_pack_without_rules_has_none(tmp_path: Path) -> None:
    assert load_rules(tmp_path).rules == ()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('quantity = "sound_power"', 'quantity = "smell"', "quantity: got 'smell'"),
        ('compare = "rise"', 'compare = "fall"', "compare"),
        ("threshold = 2.0", "treshold = 2.0", "treshold: is not a field"),
        ('action = "Look for a closure"', 'action = " "', "action: is empty"),
        ("on_delay_s = 60", "on_delay_s = -1", "on_delay_s: got -1"),
        ('scope = "street"', 'scope = "zone"', "scope"),
        ("priority = 2", "priority = 9", "priority"),
        ("threshold = 2.0", "threshold = = 2", "not valid TOML"),
    ],
)
def test_a_rule_that_does_not_fit_is_refused_by_field(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    (tmp_path / "rules.toml").write_text(RULES.replace(old, new))
    with pytest.raises(CityError, match=message):
        load_rules(tmp_path)


def test_two_rules_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(RULES + RULES)
    with pytest.raises(CityError, match="occurs twice"):
        load_rules(tmp_path)
