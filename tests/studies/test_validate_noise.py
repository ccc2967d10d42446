"""Validation of noise: it conforms to the published cases, and says so when something does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studies.validate import CasesError, write_conformity
from studies.validate_noise import NO_TERRAIN, validate_noise

CASES = Path(__file__).parents[2] / "benchmarks" / "data" / "cnossos_reference_cases.json"


@pytest.fixture
def cases() -> dict[str, Any]:
    return json.loads(CASES.read_text(encoding="utf-8"))


def write(path: Path, cases: dict[str, Any]) -> Path:
    file = path / "cases.json"
    file.write_text(json.dumps(cases), encoding="utf-8")
    return file


def only(cases: dict[str, Any], name: str) -> dict[str, Any]:
    """The file with one propagation case, and that case."""
    case = next(case for case in cases["propagation"] if case["id"] == name)
    return {"propagation": [case]}


def test_every_published_case_conforms() -> None:
    found = validate_noise(CASES)
    assert [check.line() for check in found.checks if not check.is_met] == []
    assert found.is_met
    emission = [check for check in found.checks if "emission" in check.quantity]
    propagation = [check for check in found.checks if "emission" not in check.quantity]
    assert len({check.case for check in emission}) == 23
    assert {check.case for check in propagation} == {
        f"TC{k:02d}" for k in (1, 3, 4, 6, 7, 8, 10, 13, 15, 17, 19, 20, 23, 28)
    }
    assert all(check.worst < 0.001 for check in emission)
    assert all(check.worst < 0.01 for check in propagation)  # published to two decimals


def test_terrain_in_words_is_replaced_by_the_cuts_of_the_case_and_told(
    cases: dict[str, Any], tmp_path: Path
) -> None:
    for name in ("TC17", "TC23"):
        one = only(cases, name)
        one["propagation"][0]["scene"]["topography_lines"] = "see the drawing"
        found = validate_noise(write(tmp_path, one))
        assert found.is_met
        assert {check.note for check in found.checks} == {NO_TERRAIN}
    del one["propagation"][0]["cut_profiles"]
    (check,) = validate_noise(write(tmp_path, one)).checks
    assert check.detail == "topography_lines is a text, and there are no cut_profiles"
    assert not check.is_met


def test_wrong_values_do_not_conform(cases: dict[str, Any], tmp_path: Path) -> None:
    one = only(cases, "TC07") | {"emission": cases["emission"][:1]}
    one["propagation"][0]["expected"]["direct"]["H"]["L_H"]["values"][2] += 0.2
    one["emission"][0]["expected_LW_line_dB_per_m"]["coefficients_2015"]["bands"][0] -= 0.02
    found = validate_noise(write(tmp_path, one))
    assert not found.is_met
    write_conformity(found, tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert (report["conforms"], report["n_failed"], report["n_cases"]) == (False, 2, 2)
    failed = {(check.case, check.quantity): check.detail for check in found.checks if not check.is_met}
    assert set(failed) == {
        ("TC07", "direct path, homogeneous L_H"),
        ("R01_cat1_50_ref", "emission, 2015/996"),
    }
    assert failed["TC07", "direct path, homogeneous L_H"].startswith("250: expected 29.8")


def test_a_path_that_the_scene_does_not_have_does_not_conform(cases: dict[str, Any], tmp_path: Path) -> None:
    one = only(cases, "TC17")
    one["propagation"][0]["scene"]["walls"] = []
    found = validate_noise(write(tmp_path, one))
    missing = [check for check in found.checks if check.detail == "the scene has no such path"]
    assert len(missing) == 3
    assert not any(check.is_met for check in missing)


def test_moved_wall_and_removed_wall_are_noticed(cases: dict[str, Any], tmp_path: Path) -> None:
    one = only(cases, "TC07")
    for point in one["propagation"][0]["scene"]["walls"][0]["line"]:
        point[2] += 0.3
    assert not validate_noise(write(tmp_path, one)).is_met
    one["propagation"][0]["scene"]["walls"] = []
    assert not validate_noise(write(tmp_path, one)).is_met


def test_speed_outside_the_range_of_a_surface_is_told(cases: dict[str, Any], tmp_path: Path) -> None:
    case = next(case for case in cases["emission"] if case["surface"] == "NL07")
    case["traffic"][0]["speed_kmh"] = 50
    note = validate_noise(write(tmp_path, {"emission": [case]})).checks[0].note
    assert note == "50 km/h lies outside the 70-80 km/h of surface NL07"


@pytest.mark.parametrize(
    ("change", "case", "detail"),
    [
        (lambda c: c["emission"][0].pop("id"), "emission[0]", "id: got None, expected a text"),
        (lambda c: c["emission"][0].update(surface="NL99"), "R01_cat1_50_ref", "surface: got 'NL99', expected one of"),
        (lambda c: c["emission"][0].update(junction_type=4), "R01_cat1_50_ref", "junction_type: got 4, expected 0, 1"),
        (lambda c: c["emission"][0]["traffic"][0].update(category=7), "R01_cat1_50_ref", "category: got '7'"),
        (lambda c: c["emission"].__setitem__(0, 3), "emission[0]", "got int, expected an object"),
        (lambda c: c["propagation"][0]["scene"].pop("source"), "TC01", "scene: source: got None, expected 3 numbers"),
        (lambda c: c["propagation"][0]["scene"].update(walls=[{}]), "TC01", "walls[0].line: got None"),
        (lambda c: c["propagation"][0].pop("lw_per_band_dB"), "TC01", "lw_per_band_dB: got None, expected a number"),
    ],
)  # fmt: skip
def test_a_case_that_cannot_be_read_is_named_and_the_others_are_calculated(
    cases: dict[str, Any], tmp_path: Path, change: Any, case: str, detail: str
) -> None:
    few = {"emission": cases["emission"][:2], "propagation": cases["propagation"][:2]}
    change(few)
    found = validate_noise(write(tmp_path, few))
    (failed,) = [check for check in found.checks if not check.is_met]
    assert (failed.case, failed.quantity) == (case, "cannot be calculated")
    assert failed.detail.startswith(detail)
    assert found.n_cases == 4
    assert not found.is_met


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(CasesError, match=r"none\.json: cannot be read"):
        validate_noise(tmp_path / "none.json")
    (tmp_path / "broken.json").write_text('{"emission": [\n}', encoding="utf-8")
    with pytest.raises(CasesError, match=r"broken\.json: line 2, column 1"):
        validate_noise(tmp_path / "broken.json")
    with pytest.raises(CasesError, match="emission: got dict, expected a list of cases"):
        validate_noise(write(tmp_path, {"emission": {}}))
    (tmp_path / "list.json").write_text("[]", encoding="utf-8")
    with pytest.raises(CasesError, match='expected an object with "emission" or "propagation"'):
        validate_noise(tmp_path / "list.json")
