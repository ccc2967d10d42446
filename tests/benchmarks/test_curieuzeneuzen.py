"""The comparison with passive samplers: its statistics, what it reads and what it refuses."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray
from pyproj import Transformer
from scipy.stats import pearsonr, spearmanr

from benchmarks import curieuzeneuzen
from benchmarks.curieuzeneuzen import PointsError, Scores, facades, main, read_points
from cities.pack import City, load_city
from kernels.network import Mode
from kernels.prior import ModePrior, Prior
from studies.annual_air import annual_air, prior_emission
from tests.toy import BLOCK_M, CRS, X0, Y0


@pytest.fixture
def city(toy_folder: Path) -> City:
    return load_city(toy_folder)


@pytest.fixture
def prior(city: City, monkeypatch: pytest.MonkeyPatch) -> Prior:
    """A flow of its own on every edge, in place of an ensemble of assignments."""
    n = city.car_edges.n_edges
    flow = np.random.default_rng(7).uniform(5.0, 500.0, n).astype(np.float32)
    none, empty = np.zeros((n, 0), dtype=np.float32), np.zeros(0, dtype=np.float32)
    one = ModePrior(flow, empty, none, np.zeros(n, dtype=np.float32), none)
    made = Prior(city.network_hash, {Mode.CAR: one})
    monkeypatch.setattr(curieuzeneuzen, "prepare_prior", lambda *_: made)
    return made


def on_axes() -> NDArray[np.float64]:
    """Points on the axes of streets, as the open data set has them, and one 200 m from every street."""
    rng = np.random.default_rng(5)
    axes = [[X0 + rng.uniform(20, 380) + BLOCK_M * (k % 3), Y0 + BLOCK_M * (k % 4)] for k in range(24)]
    return np.array([*axes, [X0 + 1.5 * BLOCK_M, Y0 + 1.5 * BLOCK_M]])


def write(path: Path, xy: NDArray[np.float64], no2: NDArray[np.float64]) -> Path:
    lon, lat = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True).transform(xy[:, 0], xy[:, 1])
    rows = [
        f'"{k}","facade",{float(c)!r},{float(b)!r},{float(a)!r}'
        for k, (a, b, c) in enumerate(zip(lon, lat, no2, strict=True))
    ]
    path.write_text("\n".join(['"code","campaign","no2","lat","lon"', *rows]) + "\n")
    return path


def test_scores_are_those_of_scipy_and_of_their_definition() -> None:
    rng = np.random.default_rng(1)
    measured = np.round(rng.gamma(9.0, 3.0, 200), 0)  # with ties
    modelled = 0.6 * measured + rng.normal(8.0, 3.0, 200)
    got = Scores.of(measured, modelled)
    assert got.n == 200
    assert got.bias == pytest.approx(got.modelled - got.measured)
    assert got.rmse**2 == pytest.approx(np.var(modelled - measured) + got.bias**2)
    assert got.pearson == pytest.approx(pearsonr(measured, modelled).statistic)
    assert got.spearman == pytest.approx(spearmanr(measured, modelled).statistic)
    inside = [abs(m - t) <= 0.25 * t for m, t in zip(modelled, measured, strict=True)]
    assert got.within == pytest.approx(sum(inside) / 200)


def test_a_perfect_model_has_no_error_and_a_constant_no_correlation() -> None:
    measured = np.array([12.0, 20.0, 31.0])
    perfect = Scores.of(measured, measured)
    assert (perfect.bias, perfect.rmse, perfect.within) == (0.0, 0.0, 1.0)
    assert (perfect.pearson, perfect.spearman) == pytest.approx((1.0, 1.0))
    constant = Scores.of(measured, np.full(3, 21.0))
    assert constant.bias == pytest.approx(0.0)
    assert math.isnan(constant.pearson)
    assert math.isnan(constant.spearman)
    assert Scores.of(measured[:0], measured[:0]).n == 0


def test_measurements_made_by_the_model_are_found_without_error(
    city: City, prior: Prior, tmp_path: Path
) -> None:
    xy = on_axes()
    dummy = read_points(write(tmp_path / "dummy.csv", xy, np.ones(25)), city)
    no2 = annual_air(city, facades(city, dummy), prior_emission(city, prior)).no2.reshape(2, -1).mean(axis=0)
    outside = np.array([[X0 - 900.0, Y0], [X0, Y0 + 5000.0]])
    file = write(tmp_path / "points.csv", np.concatenate([xy, outside]), np.append(no2, [9.0, 9.0]))
    got = curieuzeneuzen.run(file, str(city.folder))
    assert got["points"]["in the extent of the network"] == 25
    assert got["points"]["on a street of it"] == 24
    assert got["points"]["beyond its streets"] == 1
    assert got["points"]["beyond its extent"] == 2
    model = got["tables"]["what the model adds"]["model"]
    assert model.n == 24
    assert model.bias == pytest.approx(0.0, abs=1e-4)
    assert model.spearman == pytest.approx(1.0)
    assert model.within == 1.0
    assert got["fits"]["offset_ug_m3"] == pytest.approx(0.0, abs=1e-4)
    assert got["fits"]["scale_of_traffic"] == pytest.approx(1.0, abs=1e-4)
    assert got["fits"]["level_ug_m3"] == pytest.approx(15.0, abs=1e-3)
    alone = got["tables"]["what the model adds"]["background alone"]
    assert alone.bias == pytest.approx(15.0 - no2[:24].mean(), abs=1e-4)
    parts = got["tables"]["by place"]
    assert parts["on an SRM1 street, model"].n + parts["on an SRM2 road, model"].n == 24
    assert parts["beyond the streets of the network, model"].n == 1


def test_an_offset_is_fitted_apart_from_the_pattern(city: City, prior: Prior, tmp_path: Path) -> None:
    xy = on_axes()
    dummy = read_points(write(tmp_path / "dummy.csv", xy, np.ones(25)), city)
    no2 = annual_air(city, facades(city, dummy), prior_emission(city, prior)).no2.reshape(2, -1).mean(axis=0)
    got = curieuzeneuzen.run(write(tmp_path / "points.csv", xy, no2 + 6.0), str(city.folder))
    rows = got["tables"]["what the model adds"]
    assert got["fits"]["offset_ug_m3"] == pytest.approx(6.0, abs=1e-4)
    assert rows["model"].bias == pytest.approx(-6.0, abs=1e-4)
    assert rows["model + fitted offset"].rmse == pytest.approx(0.0, abs=1e-4)


def test_points_on_an_axis_go_to_both_facades_and_others_stay(city: City, tmp_path: Path) -> None:
    xy = np.array([[X0 + 200.0, Y0 + BLOCK_M + 1.0], [X0 + 200.0, Y0 + BLOCK_M + 9.0]])
    points = read_points(write(tmp_path / "p.csv", xy, np.array([20.0, 20.0])), city)
    left, right = facades(city, points).reshape(2, -1, 2)
    # a side street is 14 m wide between its facades
    assert sorted([left[0, 1], right[0, 1]]) == pytest.approx(
        [Y0 + BLOCK_M - 7.0, Y0 + BLOCK_M + 7.0], abs=0.01
    )
    assert left[0, 0] == pytest.approx(X0 + 200.0, abs=0.01)
    assert left[1] == pytest.approx(xy[1], abs=0.01)
    assert right[1] == pytest.approx(xy[1], abs=0.01)


def test_the_table_and_the_report_hold_the_same_figures(
    city: City, prior: Prior, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prior.network_hash == city.network_hash
    file = write(tmp_path / "points.csv", on_axes(), np.linspace(16.0, 30.0, 25))
    report = tmp_path / "reports" / "no2.json"
    assert main([str(file), "--city", str(city.folder), "--report", str(report)]) == 0
    text = capsys.readouterr().out
    figures = orjson.loads(report.read_bytes())
    row = figures["tables"]["what the model adds"]["model"]
    line = next(at for at in text.splitlines() if at.startswith("model  "))
    assert line.split()[1:4] == ["24", f"{row['measured']:.1f}", f"{row['modelled']:.1f}"]
    assert figures["tables"]["what the model adds"]["background alone"]["pearson"] is None
    assert "cannot validate the dispersion alone" in text
    assert set(figures["tables"]["sensitivity"]) >= {
        "all streets of type 2 (narrow canyon)", "sigma_z by virtual", "emission factors: netherlands 2020",
        "emission factors: flanders 2018",
    }  # fmt: skip


@pytest.mark.parametrize("column", ["code", "campaign", "no2", "lat", "lon"])
def test_a_missing_column_is_named(
    city: City, tmp_path: Path, column: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "points.csv", on_axes(), np.ones(25))
    file.write_text(file.read_text().replace(f'"{column}"', '"other"'))
    assert main([str(file), "--city", str(city.folder)]) == 2
    assert f"line 1: column {column}: is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        ('"1","facade",many,48.2,16.3', "line 2: column no2: got 'many', expected ug/m3"),
        ('"1","facade",-2,48.2,16.3', "line 2: column no2: got '-2', expected ug/m3 of at least 0"),
        ('"1","facade",20,95,16.3', "line 2: column lat: got '95', expected degrees"),
        ('"1","facade",20,48.2', "line 2: column lon: got None, expected degrees"),
        ('"1","facade",20,48.2,16.3', "none of 1 points lies within the network of toyville"),
    ],
)
def test_cells_that_do_not_fit_are_refused_by_place(
    city: City, tmp_path: Path, cells: str, told: str
) -> None:
    file = tmp_path / "points.csv"
    file.write_text(f'"code","campaign","no2","lat","lon"\n{cells}\n')
    with pytest.raises(PointsError, match=told):
        read_points(file, city)


def test_a_file_that_is_not_there_is_told(city: City, tmp_path: Path) -> None:
    with pytest.raises(PointsError, match=r"none\.csv: cannot be read"):
        read_points(tmp_path / "none.csv", city)


def test_points_none_of_which_lies_on_a_street_are_refused(city: City, tmp_path: Path) -> None:
    file = write(tmp_path / "points.csv", on_axes()[-1:], np.ones(1))
    with pytest.raises(PointsError, match="none of 1 points within the extent of toyville lies within 30 m"):
        read_points(file, city)
