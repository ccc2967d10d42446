"""A study gives the levels and concentrations of the kernels at its points, and refuses what it cannot read."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pyproj import Transformer

from cities.pack import City, load_city
from cities.road_noise import road_noise_of
from controlroom import main
from kernels.cnossos import BAND_GROUPS, a_weighted_db, band_group_power, sound_power, surface_indices
from kernels.cnossos_coefficients import EU_2021, NL_NATIONAL
from kernels.cnossos_tables import A_WEIGHTING_DB
from kernels.emission import Regime, VehicleClass
from kernels.network import Direction, Mode
from kernels.propagation import Atmosphere, Ground, attenuation_db
from studies.annual_air import annual_air
from studies.noise_scene import HARD_FACE
from studies.study import COLUMNS, Study, mean_emission, study
from studies.study_settings import StudyOptions, study_settings
from studies.study_tables import StudyError
from studies.study_traffic import read_traffic, traffic_emission, traffic_power
from tests.toy import BLOCK_M, CRS, X0, Y0

HEAD = "segment_id,period,mode,flow_per_h,speed_kmh"
# Cars and trucks on a main road (h00), by day, evening and night, and cars on a side street (v10 is none).
TRAFFIC = "\n".join(
    [
        HEAD,
        "h00,day,car,600,48", "h00,day,truck,40,45", "h00,day,bus,6,40", "h00,evening,car,300,50",
        "h00,night,car,80,", "h00,night,truck,5,",
        "h11,day,car,90,25", "h11,evening,car,50,27", "h11,night,car,8,30",
    ]
)  # fmt: skip
OPEN = StudyOptions(distance_m=800.0)


@pytest.fixture
def city(toy_folder: Path) -> City:
    return load_city(toy_folder)


def at(column: float, row: float, north_m: float = 0.0) -> tuple[float, float]:
    return X0 + column * BLOCK_M, Y0 + row * BLOCK_M + north_m


def receptors(path: Path, points: list[tuple[float, float]], more: str = "") -> Path:
    file = path / "receptors.csv"
    rows = [f"P{k},{x:.3f},{y:.3f}" for k, (x, y) in enumerate(points)]
    file.write_text("\n".join(["id,x,y", *rows]) + more, encoding="utf-8")
    return file


def traffic(path: Path, text: str = TRAFFIC) -> Path:
    file = path / "traffic.csv"
    file.write_text(text, encoding="utf-8")
    return file


def run(
    city: City,
    path: Path,
    points: list[tuple[float, float]],
    text: str = TRAFFIC,
    options: StudyOptions = OPEN,
) -> Study:
    return study(city, traffic(path, text), receptors(path, points), options, lambda _what, _done: None)


def test_a_level_is_power_less_attenuation_added_up_along_the_road(city: City, tmp_path: Path) -> None:
    found = run(city, tmp_path, [at(0.5, 0, 40.0)], f"{HEAD}\nh00,day,car,600,48\nh00,day,truck,40,45")
    line = (
        sound_power(600.0, 48.0, "1", "DEF", 10.0)[0],
        sound_power(20.0, 45.0, "2", "DEF", 10.0)[0],
        sound_power(20.0, 45.0, "3", "DEF", 10.0)[0],
    )
    power = (10.0 ** (np.array(line) / 10.0)).sum(axis=0)
    x = (np.arange(1600) + 0.5) * 0.25
    loss = attenuation_db(np.hypot(x - 200.0, 40.0), 0.05, 4.0, Ground(0.5), Atmosphere())
    want = 10.0 * np.log10(power * (0.25 * 10.0 ** (-loss / 10.0)).sum(axis=0))
    assert found.octave_db[0, 0] == pytest.approx(want, abs=0.05)
    assert found.level_dba[0, 0] == pytest.approx(float(a_weighted_db(want)), abs=0.05)


def test_the_power_is_that_of_the_live_room(city: City, tmp_path: Path) -> None:
    text = f"{HEAD}\nh00,day,car,600,48\nh00,day,truck,40,45\nh00,day,bus,6,45\nh11,day,truck,10,25"
    got = traffic_power(
        city, read_traffic(traffic(tmp_path, text), city), surface_indices(city.surface), 10.0, EU_2021
    )[:, 0]
    got = got * 10.0 ** (A_WEIGHTING_DB / 10.0)
    def_ = surface_indices(["DEF", "DEF"])
    want = band_group_power([600.0, 0.0], [26.0, 8.0], [20.0, 2.0], [48.0, 25.0], [45.0, 25.0], def_, 10.0)
    for k, street in enumerate(("h00", "h11")):
        groups = [got[city.segment_ids.index(street), list(bands)].sum() for bands in BAND_GROUPS]
        assert groups == pytest.approx(want[k], rel=1e-9)


def test_the_course_of_a_road_is_that_of_the_live_room(city: City, tmp_path: Path) -> None:
    n = city.network.n_segments
    rises = tuple({"gradient_percent": 6.0, "junction_end": "crossing"} for _ in range(n))
    noise = {**city.settings["noise"], "studded_share": 0.5, "studded_months": 6.0}
    city = replace(city, noise_properties=rises, settings={**city.settings, "noise": noise})
    text = f"{HEAD}\nh00,day,car,600,48\nh00,day,truck,40,45\nh00,day,bus,6,45\nh00,day,motorcycle,0,45"
    read = read_traffic(traffic(tmp_path, text), city)
    got = traffic_power(city, read, surface_indices(city.surface), 10.0, EU_2021)[:, 0]
    street = city.segment_ids.index("h00")
    groups = [(got * 10.0 ** (A_WEIGHTING_DB / 10.0))[street, list(bands)].sum() for bands in BAND_GROUPS]
    road, all_ = road_noise_of(city), np.ones(n)
    want = sum(
        band_group_power(
            300.0 * all_, 13.0 * all_, 10.0 * all_, 48.0, 45.0, road.surface, 10.0, EU_2021,
            road.corrections(direction),
        )[street]
        for direction in Direction
    )  # fmt: skip
    assert groups == pytest.approx(want, rel=1e-9)
    with pytest.raises(StudyError, match="NL national, which have none for studded tyres"):
        traffic_power(city, read, NL_NATIONAL.surface_indices(city.surface), 10.0, NL_NATIONAL)


def test_motorcycles_are_heard_as_their_own_category(city: City, tmp_path: Path) -> None:
    read = read_traffic(traffic(tmp_path, f"{HEAD}\nh00,day,motorcycle,30,50"), city)
    got = traffic_power(city, read, surface_indices(city.surface), 10.0, EU_2021)
    want = sound_power(30.0, 50.0, "4b")[0]
    assert 10.0 * np.log10(got[city.segment_ids.index("h00"), 0]) == pytest.approx(want)
    assert not traffic_emission(city, read).any()


def test_doubled_flow_is_three_decibels(city: City, tmp_path: Path) -> None:
    points = [at(0.5, 0, 30.0), at(1.5, 1, 12.0)]
    one, two = (
        run(city, tmp_path, points, f"{HEAD}\nh00,day,car,{q},50\nh11,day,truck,{q},30") for q in (200, 400)
    )
    assert two.octave_db[:, 0] - one.octave_db[:, 0] == pytest.approx(3.0103, abs=1e-4)


def test_lden_weighs_the_periods_and_constant_traffic_is_six_decibels_more(
    city: City, tmp_path: Path
) -> None:
    found = run(city, tmp_path, [at(0.5, 0, 30.0), at(1.2, 1, 9.0)])
    day, evening, night = found.level_dba.T
    energy = 12 * 10 ** (day / 10) + 4 * 10 ** ((evening + 5) / 10) + 8 * 10 ** ((night + 10) / 10)
    assert found.lden_dba == pytest.approx(10 * np.log10(energy / 24))
    rows = [f"h00,{period},car,100,50" for period in ("day", "evening", "night")]
    same = run(city, tmp_path, [at(0.5, 0, 30.0)], "\n".join([HEAD, *rows]))
    assert same.lden_dba - same.level_dba[:, 0] == pytest.approx(6.395, abs=1e-3)


def emission_by_hand(city: City) -> NDArray[np.float64]:
    """Of the traffic above: E = q e / 3.6, weighted by 12, 4 and 8 h; no one stagnates."""
    out = np.zeros((city.network.n_segments, 4))
    free, normal = (city.emission.g_per_km[:, regime] for regime in (Regime.FREE, Regime.NORMAL))
    light, medium, heavy, bus = VehicleClass
    cars, trucks = (12 * 600 + 4 * 300 + 8 * 80) / 24, (12 * 40 + 8 * 5) / 24
    main_road = cars * free[light] + trucks * 0.5 * (free[medium] + free[heavy]) + 12 * 6 / 24 * free[bus]
    out[city.segment_ids.index("h00")] = main_road / 3.6
    out[city.segment_ids.index("h11")] = (12 * 90 + 4 * 50 + 8 * 8) / 24 * normal[light] / 3.6
    return out


def test_concentrations_are_the_annual_means_for_the_mean_traffic(city: City, tmp_path: Path) -> None:
    points = [at(0.5, 0, 20.0), at(1.5, 1, 8.0), at(2.5, 2, 100.0)]
    found = run(city, tmp_path, points)
    settings = study_settings(city, OPEN)
    emission = mean_emission(traffic_emission(city, read_traffic(traffic(tmp_path), city)), settings)
    by_hand = emission_by_hand(city)
    assert emission == pytest.approx(by_hand, rel=1e-9)
    want = annual_air(city, np.array(points), by_hand)
    assert found.air_ug_m3 == pytest.approx(np.stack([want.no2, want.pm10, want.pm25], axis=1), rel=1e-9)
    assert (found.air_ug_m3[:2] > [15.0, 18.0, 10.0]).all()


def test_a_speed_that_is_missing_is_that_of_the_segment(city: City, tmp_path: Path) -> None:
    read = read_traffic(traffic(tmp_path), city)
    night = (read.period == 2) & (read.segment == city.segment_ids.index("h00"))
    assert read.speed_kmh[night].tolist() == [50.0, 50.0]
    assert read.n_without_speed == 2


def test_flows_of_both_directions_are_added(city: City, tmp_path: Path) -> None:
    head = "segment_id,direction,period,mode,flow_per_h,speed_kmh"
    apart = run(
        city, tmp_path, [at(0.5, 0, 30.0)],
        f"{head}\nh00,forward,day,car,150,50\nh00,backward,day,car,50,50",
    )  # fmt: skip
    together = run(city, tmp_path, [at(0.5, 0, 30.0)], f"{HEAD}\nh00,day,car,200,50")
    assert apart.octave_db[0, 0] == pytest.approx(together.octave_db[0, 0])
    assert any("both directions" in told for told in apart.findings)


def test_a_period_without_rows_is_unknown_not_silent(city: City, tmp_path: Path) -> None:
    found = run(city, tmp_path, [at(0.5, 0, 30.0)], f"{HEAD}\nh00,day,car,200,50\nh00,evening,car,0,50")
    assert np.isfinite(found.level_dba[0, 0])
    assert np.isnan(found.level_dba[0, 1:]).all()
    assert np.isnan(found.lden_dba).all()
    assert np.isnan(found.air_ug_m3).all()
    assert any("no row of night" in told for told in found.findings)


def test_options_change_what_they_say(city: City, tmp_path: Path) -> None:
    points = [at(0.5, 0, 200.0)]
    plain = run(city, tmp_path, points).level_dba[0, 0]
    louder = [
        replace(OPEN, surface="NL11"), replace(OPEN, ground_factor=0.0), replace(OPEN, p_favourable=1.0),
        replace(OPEN, temperature_c=0.0), replace(OPEN, humidity_percent=95.0),
    ]  # fmt: skip
    for options in louder:
        assert run(city, tmp_path, points, options=options).level_dba[0, 0] > plain, options
    for options in (replace(OPEN, coefficients="2015"), replace(OPEN, surface="NL14")):
        assert run(city, tmp_path, points, options=options).level_dba[0, 0] < plain - 0.5, options
    assert np.isnan(run(city, tmp_path, points, options=replace(OPEN, distance_m=150.0)).level_dba[0, 0])


def test_settings_come_from_the_option_then_the_city_then_a_default(toy_folder: Path) -> None:
    file = toy_folder / "city.toml"
    file.write_text(
        file.read_text().replace("ground_factor = 0.5", "ground_factor = 0.2\nmax_distance_m = 500.0")
    )
    found = study_settings(load_city(toy_folder), StudyOptions(distance_m=300.0))
    assert (found.distance_m, found.ground_factor, found.reflections) == (300.0, 0.2, 1)
    assert found.wall_absorption.tolist() == list(HARD_FACE)
    origins = [found.origins[name] for name in ("distance_m", "ground_factor", "wall_absorption")]
    assert origins == ["option", "city", "default"]


def building(folder: Path, west: float, south: float, east: float, north: float, height_m: float) -> None:
    to_lonlat = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    ring = [(west, south), (east, south), (east, north), (west, north), (west, south)]
    feature = {
        "type": "Feature",
        "properties": {"id": "b1", "height_m": height_m},
        "geometry": {"type": "Polygon", "coordinates": [[to_lonlat.transform(*p) for p in ring]]},
    }
    (folder / "buildings.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": [feature]})
    )


def test_a_building_screens_reflects_and_holds_no_level(toy_folder: Path, tmp_path: Path) -> None:
    x, y = at(0.5, 0)
    building(toy_folder, x - 60.0, y + 20.0, x + 60.0, y + 35.0, 12.0)
    city = load_city(toy_folder)
    points = [(x, y + 60.0), (x, y - 15.0), (x, y + 27.0)]
    bare, screened, mirrored = (
        run(city, tmp_path, points, options=replace(OPEN, reflections=r, wall_absorption=a))
        for r, a in ((0, None), (0, 0.9), (1, 0.2))
    )
    (toy_folder / "buildings.geojson").unlink()
    free = run(load_city(toy_folder), tmp_path, points)
    assert bare.level_dba[0, 0] < free.level_dba[0, 0] - 8.0
    assert bare.level_dba[1] == pytest.approx(free.level_dba[1], abs=0.01)
    assert bare.level_dba[:2] == pytest.approx(screened.level_dba[:2])
    assert any("--wall-absorption" in told for told in screened.findings)
    assert 0.5 < mirrored.level_dba[1, 0] - bare.level_dba[1, 0] < 2.0
    for found in (bare, mirrored):
        assert np.isnan(found.level_dba[2]).all()
        assert found.flags[2] == ["indoors"]
        assert np.isfinite(found.air_ug_m3[2]).all()


def test_what_to_know_of_a_receptor_is_flagged(city: City, tmp_path: Path) -> None:
    far = (X0 + 50_000.0, Y0)
    found = run(city, tmp_path, [at(0.5, 0, 1.0), at(1.5, 1, 4.0), far, at(0.5, 0, 30.0)])
    assert found.flags == [
        ["in_road"],
        ["nearer_than_fit"],
        ["outside_window", "outside_network", "outside_geometry"],
        [],
    ]
    assert np.isnan(found.level_dba[2]).all()
    assert found.air_ug_m3[2, 1] == pytest.approx(18.0, abs=0.01)


def command(folder: Path, path: Path, *more: str) -> int:
    return main(
        ["study", "--city", str(folder), "--traffic", str(path / "traffic.csv"),
         "--receptors", str(path / "receptors.csv"), "--out", str(path / "out" / "levels.csv"), *more]
    )  # fmt: skip


def test_the_command_writes_a_row_for_each_receptor_and_a_report(
    toy_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    traffic(tmp_path, f"{TRAFFIC}\nh11,day,bicycle,40,\nh11,night,motorcycle,2,\n")
    receptors(tmp_path, [at(0.5, 0, 30.0), (X0 - 50_000.0, Y0)])
    assert command(toy_folder, tmp_path, "--report", str(tmp_path / "r.json"), "--distance", "600") == 0
    with (tmp_path / "out" / "levels.csv").open(encoding="utf-8") as file:
        near, far = csv.DictReader(file)
    assert tuple(near) == COLUMNS
    assert near["flags"] == ""
    decimals = {len(near[name].partition(".")[2]) for name in COLUMNS[1:-1]}
    assert decimals == {2}
    assert 50.0 < float(near["lden_dba"]) < 75.0
    assert [far[name] for name in ("lday_dba", "lday_63_db", "lden_dba")] == ["", "", ""]
    report = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert report["settings"]["distance_m"] == 600.0
    assert report["settings"]["from"]["distance_m"] == "option"
    assert report["counts"]["traffic_rows"] == 11
    assert report["counts"]["receptors_with_level"] == 1
    assert report["flags"]["outside_network"] == 1
    printed = capsys.readouterr()
    for told in (
        "1 rows of bicycle left out",
        "motorcycle count for noise alone",
        "speeds beyond those surface DEF",
    ):
        assert any(told in finding for finding in report["findings"]), told
        assert told in printed.out
    assert "study: noise at points: done" in printed.err


def test_degrees_and_heights_can_be_given(city: City, tmp_path: Path) -> None:
    point = at(0.5, 0, 30.0)
    lon, lat = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True).transform(*point)
    file = tmp_path / "degrees.csv"
    file.write_text(f"height_m,id,lat,lon,note\n,A,{lat:.8f},{lon:.8f},x\n1.5,B,{lat:.8f},{lon:.8f}\n\n")
    found = study(city, traffic(tmp_path), file, OPEN, lambda _what, _done: None)
    same = run(city, tmp_path, [point])
    assert found.receptors.height_m.tolist() == [4.0, 1.5]
    assert found.level_dba[0] == pytest.approx(same.level_dba[0], abs=1e-3)
    assert found.level_dba[1, 0] != pytest.approx(same.level_dba[0, 0], abs=0.05)
    assert found.flags == [[], ["below_2_m"]]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"{HEAD}\nh00,day,car,1,50\nh99,day,car,1,50\nh98,day,car,1,50", "line 3: segment_id: got 'h99', expected a segment of toyville, as 'h00'; it is not in network.geojson; so are 1 other"),
        (f"{HEAD}\nh00,noon,car,1,50", "line 2: period: got 'noon', expected one of day, evening, night"),
        (f"{HEAD}\nh00,day,tram,1,50", "line 2: mode: got 'tram', expected one of car, truck"),
        (f"{HEAD}\nh00,day,car,-3,50", "line 2: flow_per_h: got '-3', expected a number of at least 0"),
        (f"{HEAD}\nh00,day,car,many,50", "line 2: flow_per_h: got 'many', expected a number"),
        (f"{HEAD}\nh00,day,car,,50", "line 2: flow_per_h: got '', expected a number"),
        (f"{HEAD}\nh00,day,car,nan,50", "line 2: flow_per_h: got 'nan'"),
        (f"{HEAD}\nh00,day,car,1,0", "line 2: speed_kmh: got '0', expected a number above 0 and at most 250 km/h"),
        (f"{HEAD}\nh00,day,car,1,fast", "line 2: speed_kmh: got 'fast'"),
        (f"{HEAD}\n,day,car,1,50", "line 2: segment_id: got '', expected a text"),
        (f"{HEAD}\nh00,day,car,1,50\n\nh00,day,car,2,50", "line 4: segment_id: got 'h00', expected each segment, period, mode and direction once; it is in line 2 too"),
        (f"{HEAD}\nh00,day,car,1,5,5", "line 2: got 6 fields, expected 5"),
        (f"{HEAD},direction\nh00,day,car,1,50,up", "line 2: direction: got 'up', expected both, forward"),
        ("segment_id,period,mode,flow\nh00,day,car,1", "line 1: column flow_per_h is missing; expected segment_id"),
        (f"{HEAD},mode\nh00,day,car,1,5,car", "line 1: column mode is there 2 times"),
        (f"{HEAD}\nh00,day,bicycle,1,", "holds no row of car, truck"),
        ("", "line 1: column segment_id is missing"),
    ],
)  # fmt: skip
def test_traffic_that_cannot_be_read_is_refused_by_line_and_column(
    city: City, tmp_path: Path, text: str, told: str
) -> None:
    with pytest.raises(StudyError) as error:
        read_traffic(traffic(tmp_path, text), city)
    assert str(error.value).startswith(f"{tmp_path / 'traffic.csv'}: ")
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("id,x,y\nA,1,2\nA,3,4", "line 3: id: got 'A', expected each receptor once; it is in line 2 too"),
        ("id,x,y\nA,one,2", "line 2: x: got 'one', expected a number"),
        ("id,x,y\nA,1,", "line 2: y: got '', expected a number"),
        ("id,x,y\n,1,2", "line 2: id: got '', expected a text"),
        ("id,lon,lat\nA,4.0,95", "line 2: lat: got '95', expected a number of at least -90 and at most 90"),
        ("id,x,y,height_m\nA,1,2,-4", "line 2: height_m: got '-4', expected a number above 0 and at most 500 m"),
        ("id,lon,lat\nA,48.2,16.3", "line 2: lon, lat: got 48.2, 16.3; this and all other receptors lie more than 5 km from the roads of toyville; are latitude and longitude swapped?"),
        ("id,x,y\nA,16.3,48.2", "are they in EPSG:32633?"),
        ("id,x\nA,1", "line 1: expected the columns x and y"),
        ("id,x,y,lon,lat\nA,1,2,3,4", "line 1: expected the columns x and y"),
        ("name,x,y\nA,1,2", "line 1: column id is missing"),
        ("id,x,y\n", "holds no receptor"),
    ],
)  # fmt: skip
def test_receptors_that_cannot_be_read_are_refused_by_line_and_column(
    city: City, tmp_path: Path, text: str, told: str
) -> None:
    file = tmp_path / "receptors.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(StudyError) as error:
        study(city, traffic(tmp_path), file, OPEN, lambda _what, _done: None)
    assert str(error.value).startswith(f"{file}: ")
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--surface", "XX1"], "surface: got 'XX1', expected one of DEF, NL01"),
        (["--ground-factor", "1.5"], "--ground-factor: got 1.5, expected 0 to 1"),
        (["--temperature", "99"], "--temperature: got 99, expected -40 to 50"),
        (["--distance", "0"], "--distance: got 0, expected 50 to 2000"),
        (["--traffic", "nowhere.csv"], "nowhere.csv: there is no such file"),
    ],
)
def test_the_command_refuses_with_a_message_and_status_2(
    toy_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], told: str
) -> None:
    traffic(tmp_path)
    receptors(tmp_path, [at(0.5, 0, 30.0)])
    assert command(toy_folder, tmp_path, *options) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_city_without_background_has_levels_but_no_concentrations(toy_folder: Path, tmp_path: Path) -> None:
    file = toy_folder / "city.toml"
    before, _, rest = file.read_text().partition("[background]")
    file.write_text(before + rest[rest.index("[emission]") :])
    found = run(load_city(toy_folder), tmp_path, [at(0.5, 0, 30.0)])
    assert np.isfinite(found.lden_dba).all()
    assert np.isnan(found.air_ug_m3).all()
    assert any("[background]" in told for told in found.findings)


def test_traffic_where_the_network_allows_none_is_told(toy_folder: Path, tmp_path: Path) -> None:
    file = toy_folder / "network.geojson"
    network = json.loads(file.read_text())
    for feature in network["features"]:
        if feature["properties"]["id"] == "h11":
            feature["properties"]["direction"] = "none"
    file.write_text(json.dumps(network))
    found = run(load_city(toy_folder), tmp_path, [at(0.5, 0, 30.0)])
    assert any("1 segments have motor traffic where the network allows none" in t for t in found.findings)
    assert Mode.CAR in read_traffic(traffic(tmp_path), load_city(toy_folder)).mode
