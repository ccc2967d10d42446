"""Conformity of air: known cases pass, a wrong number fails, unreadable input is refused by place."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controlroom import main
from studies.validate import CasesError, Check, Conformity, relative_check, relative_deviation
from studies.validate_air import validate_air

DATA = Path(__file__).parents[1] / "data"
STREETS = Path(__file__).parents[2] / "benchmarks" / "data" / "srm1_reference_streets.csv"
UNITS = DATA / "srm2_unit_cases.json"
HEADER_LINE = 3  # of the streets, after two comments


def streets(tmp_path: Path, column: str = "", value: str = "", line: int = HEADER_LINE + 1) -> Path:
    """The published streets, with one cell of one line changed."""
    lines = STREETS.read_text().splitlines()
    cells = lines[line - 1].split(",")
    if column:
        cells[lines[HEADER_LINE - 1].split(",").index(column)] = value
    lines[line - 1] = ",".join(cells)
    path = tmp_path / "streets.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def units(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The unit cases, changed."""
    content = json.loads(UNITS.read_text())
    change(content)
    path = tmp_path / "units.json"
    path.write_text(json.dumps(content, indent=1))
    return path


def case(content: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(c for c in content["cases"] if c["kind"] == kind)


def test_published_streets_conform_in_every_quantity() -> None:
    got = validate_air(STREETS)
    assert got.is_met
    assert got.n_cases == 5
    assert got.n_values == 5 * 6
    assert {check.quantity for check in got.checks} == {"dispersion", "NOx", "NO2", "PM"}
    assert max(check.worst for check in got.checks) < 1e-14
    assert got.notes[1:] == (
        "F_regio is taken as it is: no column wind_m_s tells the wind it comes from.",
        "Not compared, for there is no emission of it: C_EC.",
    )


def test_unit_cases_of_srm2_conform_and_say_that_they_are_not_independent() -> None:
    got = validate_air(UNITS)
    assert got.is_met
    assert got.n_cases == len(json.loads(UNITS.read_text())["cases"])
    assert "not an independent proof" in got.notes[1]
    ruled = [check for check in got.checks if check.case.startswith(("point", "spread", "motorway"))]
    assert all(check.note.startswith("sigma_z ") for check in ruled)
    assert {check.note for check in ruled} == {"sigma_z add", "sigma_z virtual", "sigma_z quadrature"}


@pytest.mark.parametrize(
    ("column", "quantity"),
    [("theta", "dispersion"), ("C_NOx", "NOx"), ("C_NO2_direct", "NO2"), ("C_NO2", "NO2"), ("C_PM10", "PM"), ("C_PM25", "PM")],
)  # fmt: skip
def test_a_result_off_by_a_millionth_does_not_conform(tmp_path: Path, column: str, quantity: str) -> None:
    lines = STREETS.read_text().splitlines()
    at = lines[HEADER_LINE - 1].split(",").index(column)
    wrong = float(lines[HEADER_LINE].split(",")[at]) * (1 + 1e-6)
    got = validate_air(streets(tmp_path, column, repr(wrong)))
    failed = [check for check in got.checks if not check.is_met]
    assert [(check.quantity, check.case) for check in failed] == [
        (quantity, "line 4, Aalst Dirk Martensstraat")
    ]
    assert failed[0].worst == pytest.approx(1e-6, rel=1e-3)
    assert failed[0].detail.startswith(f"{column}: expected {wrong:.10g}, got ")


@pytest.mark.parametrize("column", ["E_NOx", "E_NO2_cong", "bg_O3", "F_regio", "dist_m", "tree"])
def test_every_input_matters(tmp_path: Path, column: str) -> None:
    changed = {"dist_m": "6", "tree": "1.25", "F_regio": "1.8"}.get(column, "30")
    assert not validate_air(streets(tmp_path, column, changed)).is_met


def test_f_regio_is_compared_where_the_wind_is_given(tmp_path: Path) -> None:
    lines = STREETS.read_text().splitlines()
    at = lines[HEADER_LINE - 1].split(",").index("F_regio")
    lines[HEADER_LINE - 1] += ",wind_m_s"
    for line in range(HEADER_LINE, len(lines)):
        lines[line] += f",{5.0 / float(lines[line].split(',')[at])!r}"
    path = tmp_path / "streets.csv"
    path.write_text("\n".join(lines))
    got = validate_air(path)
    assert got.is_met
    assert [check.n_values for check in got.checks if check.quantity == "dispersion"] == [2] * 5
    path.write_text("\n".join([*lines[:HEADER_LINE], lines[HEADER_LINE].rsplit(",", 1)[0] + ",3.0"]))
    assert [check.quantity for check in validate_air(path).checks if not check.is_met] == [
        "dispersion",
        "NOx",
        "NO2",
        "PM",
    ]


def test_a_street_outside_srm1_is_told(tmp_path: Path) -> None:
    near = validate_air(streets(tmp_path, "dist_m", "3"))
    assert near.checks[0].note == "outside SRM1: too near, nearer than fit"
    far = validate_air(streets(tmp_path, "dist_m", "31"))
    assert far.checks[0].note == "outside SRM1: beyond reach"
    assert far.checks[-1].note == ""


def test_comments_blank_lines_line_ends_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    path = tmp_path / "streets.csv"
    path.write_bytes(b"\xef\xbb\xbf" + STREETS.read_bytes().replace(b"\n", b"\r\n") + b"\r\n# end\r\n")
    assert validate_air(path).n_cases == 5


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("dist_m", "0", "a number above 0"),
        ("dist_m", "five", "a number above 0"),
        ("dist_m", "", "a number above 0"),
        ("dist_m", "nan", "a number above 0"),
        ("F_regio", "0", "a number above 0"),
        ("F_regio", "inf", "a number above 0"),
        ("road_type", "5", "one of 2, 3a, 3b, 4"),
        ("road_type", "1", "one of 2, 3a, 3b, 4"),
        ("tree", "0", "one of 1, 1.25, 1.5"),
        ("tree", "yes", "a number"),
        ("bg_O3", "-1", "a number of at least 0"),
        ("E_NOx", "-1", "a number of at least 0"),
        ("E_PM25_cong", "1.0.0", "a number of at least 0"),
        ("C_NO2", "?", "a number"),
        ("theta", "x", "a number"),
    ],
)
def test_a_cell_that_cannot_be_read_is_refused_by_line_and_column(
    tmp_path: Path, column: str, value: str, expected: str
) -> None:
    path = streets(tmp_path, column, value, line=HEADER_LINE + 2)
    with pytest.raises(CasesError) as caught:
        validate_air(path)
    assert str(caught.value) == f"{path}: line 5, column {column}: got {value!r}, expected {expected}"


@pytest.mark.parametrize("column", ["road_type", "dist_m", "C_PM25", "E_NOx_cong"])
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    path = streets(tmp_path, column, "other", line=HEADER_LINE)
    with pytest.raises(CasesError, match=f"line 3, column {column}: is missing"):
        validate_air(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: has no streets"),
        (b"# only\n# comments\n", "line 3: has no streets"),
        (
            b"place;street;road_type\n",
            "line 1, column place: is missing; the columns must be separated by commas",
        ),
        (b"place,street\xff\n", "line 1, column 13: is not UTF-8"),
        (b"a\nplace,stra\xdfe\n", "line 2, column 11: is not UTF-8"),
    ],
)
def test_a_file_that_is_no_table_of_streets_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "streets.csv"
    path.write_bytes(content)
    with pytest.raises(CasesError, match=f"streets.csv: {message}"):
        validate_air(path)


def test_a_row_that_is_cut_or_too_long_is_refused_by_line_and_column(tmp_path: Path) -> None:
    lines = STREETS.read_text().splitlines()
    path = tmp_path / "streets.csv"
    path.write_text("\n".join([*lines[:-1], lines[-1].rsplit(",", 2)[0]]))
    with pytest.raises(CasesError, match="line 8, column C_PM25: got 32 cells, expected 34"):
        validate_air(path)
    path.write_text("\n".join([*lines, lines[-1] + ",1"]))
    with pytest.raises(CasesError, match="line 9, column number 35: got 35 cells, expected 34"):
        validate_air(path)
    header = lines[2].replace("bg_EC", "bg_O3")
    path.write_text("\n".join([header, *lines[3:]]))
    with pytest.raises(CasesError, match="line 1, column bg_O3: occurs twice"):
        validate_air(path)


def test_a_file_that_is_not_there_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CasesError, match=r"none.csv: cannot be read: No such file"):
        validate_air(tmp_path / "none.csv")
    other = tmp_path / "streets.xlsx"
    other.write_bytes(b"PK")
    with pytest.raises(CasesError, match=r"got a name that ends in '.xlsx', expected .csv \(SRM1\) or .json"):
        validate_air(other)


@pytest.mark.parametrize("kind", ["point", "wind_factor", "spread", "start_value", "road"])
def test_a_unit_case_that_is_off_does_not_conform(tmp_path: Path, kind: str) -> None:
    def off(content: dict[str, Any]) -> None:
        expected = case(content, kind)["expected"]
        name = next(iter(expected))
        expected[name] *= 1.001

    got = validate_air(units(tmp_path, off))
    assert [check.is_met for check in got.checks].count(False) == 1


def test_a_case_without_a_tolerance_allows_none_but_rounding(tmp_path: Path) -> None:
    got = validate_air(units(tmp_path, lambda c: [one.pop("tolerance", None) for one in c["cases"]]))
    assert {check.tolerance for check in got.checks} == {1e-9}
    assert {check.is_met for check in got.checks if check.case.startswith("start value")} == {True}
    assert not any(check.is_met for check in got.checks if check.case.startswith("point"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format="cases"), "format: got 'cases', expected one of twinroom-srm2-cases"),
        (lambda c: c.update(version=2), "version: got 2, expected 1"),
        (lambda c: c.pop("cases"), "cases: is missing"),
        (lambda c: c.update(cases=[]), "cases: expected one or more"),
        (lambda c: c.update(cases=[3]), "case number 1: got 3, expected an object"),
        (lambda c: c.update(extra=1), "extra: is not known"),
        (lambda c: c["cases"].append(c["cases"][0]), "case point add 10 m: id: occurs twice"),
        (lambda c: case(c, "point").pop("id"), "case number 1: id: is missing"),
        (lambda c: case(c, "point").update(kind="area"), "kind: got 'area', expected one of point, wind_factor"),
        (lambda c: case(c, "point").pop("wind_m_s"), "line 7, case point add 10 m: wind_m_s: is missing"),
        (lambda c: case(c, "point").update(distance_m=0), "distance_m: got 0.0, expected a distance above 0 m"),
        (lambda c: case(c, "point").update(wind_m_s=0.0), "wind_m_s: got 0.0, expected a wind above 0 m/s"),
        (lambda c: case(c, "point").update(wind_m_s="5"), "wind_m_s: got '5', expected a number"),
        (lambda c: case(c, "point").update(wind_m_s=10**400), "wind_m_s: got 10"),
        (lambda c: case(c, "point").update(wind_m_s=math.nan), "wind_m_s: got nan, expected a number"),
        (lambda c: case(c, "point").update(wind_m_s=True), "wind_m_s: got True, expected a number"),
        (lambda c: case(c, "point").update(roughness_m=-0.3), "roughness_m: got -0.3, expected a length above 0 m"),
        (lambda c: case(c, "point").update(sigma_z0_m=0), "sigma_z0_m: got 0.0, expected a number above 0"),
        (lambda c: case(c, "point").update(emission_ug_s=-1), "emission_ug_s: got -1.0, expected a number of at least 0"),
        (lambda c: case(c, "point").update(sigma_z_rule="sum"), "sigma_z_rule: got 'sum', expected one of add, virtual"),
        (lambda c: case(c, "point").update(tolerance=-1), "tolerance: got -1.0, expected at least 0"),
        (lambda c: case(c, "point").update(distanc_m=1), "distanc_m: is not known"),
        (lambda c: case(c, "point").update(expected={}), "expected: is empty, expected one of contribution_ug_m3"),
        (lambda c: case(c, "point").update(expected={"nox": 1}), "expected: nox: is not known"),
        (lambda c: case(c, "point").update(expected={"contribution_ug_m3": "1"}), "contribution_ug_m3: got '1'"),
        (lambda c: case(c, "wind_factor").update(roughness_m=0), "roughness_m: got 0.0, expected a length above 0 m"),
        (lambda c: case(c, "start_value").update(is_motorway=1), "is_motorway: got 1, expected true or false"),
        (lambda c: case(c, "start_value").update(side_angle_deg=99), "side_angle_deg: got 99.0, expected 0 to 90 degrees"),
        (lambda c: case(c, "start_value").update(barriers=[{"kind": "hedge", "height_m": 1}]), r"barriers\[0\]: kind: got 'hedge'"),
        (lambda c: case(c, "start_value").update(barriers=[{"kind": "wall"}] * 3), "barriers: got .*, expected at most two"),
        (lambda c: case(c, "road").update(line=[[0, 0]]), r"lines\[0\]: got shape \(1, 2\), expected two or more"),
        (lambda c: case(c, "road").update(line=[[0, 0], [1]]), "line: got .*, expected n x 2 numbers"),
        (lambda c: case(c, "road").update(receptor=["0", "1"]), "receptor: got .*, expected 2 numbers"),
        (lambda c: case(c, "road").update(nox_ug_m_s=-1), "nox_ug_m_s: got -1.0"),
        (lambda c: case(c, "road").update(o3_ug_m3=-1), "o3_ug_m3: got -1.0"),
        (lambda c: case(c, "road")["wind_rose"].update(frequency=[0.1] * 12), "frequency: got a sum of 1.2, expected 1"),
        (lambda c: case(c, "road")["wind_rose"].update(frequency=[0.125] * 8), r"frequency: got shape \(8,\)"),
        (lambda c: case(c, "road")["wind_rose"].update(wind_m_s=[0] * 12), r"wind_m_s\[0\]: got 0.0, expected a wind"),
        (lambda c: case(c, "road")["wind_rose"].update(start_deg=7), "start_deg: got 7.0"),
    ],
)  # fmt: skip
def test_a_unit_case_that_does_not_fit_is_refused_by_case_and_field(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    with pytest.raises(CasesError, match=f"units.json: .*{message}|units.json: {message}"):
        validate_air(units(tmp_path, change))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": "twinroom-srm2-cases",\n "version" 1}', "line 2, column 12: Expecting ':' delimiter"),
        ("", "line 1, column 1: Expecting value"),
        ("[1]", r"got \[1\], expected an object"),
        ("[" * 100_000, "is not JSON that can be read"),
        ("1" * 5000, "is not JSON that can be read"),
    ],
)
def test_a_file_that_is_not_json_is_refused_by_line_and_column(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "units.json"
    path.write_text(text)
    with pytest.raises(CasesError, match=f"units.json: {message}"):
        validate_air(path)


def test_the_command_prints_and_writes_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "reports" / "air.json"
    assert main(["validate", "air", "--cases", str(STREETS), "--report", str(report)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[3].startswith("ok   line 4, Aalst Dirk Martensstraat: dispersion: 1 value, worst ")
    assert printed[-2] == "air conforms: 5 cases, 20 checks, 30 values"
    assert printed[-1] == str(report)
    written = json.loads(report.read_text())
    assert written["conforms"] is True
    assert (written["n_cases"], written["n_checks"], written["n_failed"], written["n_values"]) == (
        5,
        20,
        0,
        30,
    )
    assert written["checks"][2]["quantity"] == "NO2"
    assert written["checks"][2]["worst"] <= written["checks"][2]["tolerance"] == 1e-9


def test_the_command_exits_1_above_the_tolerance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "air.json"
    cases = streets(tmp_path, "C_NO2", "20")
    assert main(["validate", "air", "--cases", str(cases), "--report", str(report)]) == 1
    printed = capsys.readouterr().out
    assert (
        "FAIL line 4, Aalst Dirk Martensstraat: NO2: 2 values, worst 2.1e-02 (allowed 1e-09); C_NO2: expected 20, got 19.57"
        in printed
    )
    assert "air does not conform: 1 checks above their tolerance" in printed
    assert json.loads(report.read_text())["conforms"] is False


def test_the_command_exits_2_on_what_it_cannot_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "air.json"
    cases = streets(tmp_path, "C_NO2", "much")
    assert main(["validate", "air", "--cases", str(cases), "--report", str(report)]) == 2
    assert "line 4, column C_NO2: got 'much', expected a number" in capsys.readouterr().err
    assert not report.exists()


def test_the_command_takes_cases_of_noise_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    emission = json.loads((STREETS.parent / "cnossos_reference_cases.json").read_text())["emission"][:2]
    cases, report = tmp_path / "noise.json", tmp_path / "report.json"
    cases.write_text(json.dumps({"emission": emission}))
    assert main(["validate", "noise", "--cases", str(cases), "--report", str(report)]) == 0
    assert "noise conforms: 2 cases" in capsys.readouterr().out
    assert json.loads(report.read_text())["subject"] == "noise"
    cases.write_text("{")
    assert main(["validate", "noise", "--cases", str(cases)]) == 2
    assert "line 1, column 2" in capsys.readouterr().err


def test_a_value_that_is_not_finite_never_conforms() -> None:
    assert relative_deviation(1.0, math.nan) == relative_deviation(0.0, math.inf) == math.inf
    assert relative_deviation(0.0, 0.25) == 0.25
    check = relative_check("a", "x", [("p", 1.0, 1.0), ("q", 2.0, math.nan)], 1e-9)
    assert not check.is_met
    assert check.detail == "q: expected 2, got nan"
    assert not Check("a", "x", 1, math.nan, 1.0).is_met
    assert Conformity("air", Path("a.csv"), (check,)).report()["checks"][0]["worst"] is None


def test_no_checks_are_no_conformity() -> None:
    assert not Conformity("air", Path("a.csv"), ()).is_met


def test_another_unit_than_relative_is_printed() -> None:
    line = Check("a", "L_Aeq", 8, 0.0123, 0.1, unit="dB").line()
    assert line == "ok   a: L_Aeq: 8 values, worst 0.012 dB (allowed 0.1 dB)"
