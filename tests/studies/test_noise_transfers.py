"""Transfers of a whole city: cached by content, mapped, and told apart by what they depend on."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from cities.pack import City, CityError, load_city
from kernels.cnossos import a_weighted_db, sound_power
from kernels.propagation import Atmosphere, Ground
from kernels.transfer import radial_table
from studies.noise_transfers import (
    RADIUS_BY_POWER,
    capacity_power_db,
    prepare_noise,
    radius_m,
    transfer_table,
)
from studies.screened_noise import read_setting

CITY = """
[city]
name = "toy"
title = "Toy"
region = "toy"
crs = "EPSG:32632"
timezone = "UTC"
[receptors]
x_min = 500000.0
y_min = 5400000.0
x_max = 500600.0
y_max = 5400500.0
step_m = 10.0
height_noise_m = 4.0
[noise]
ground_factor = {ground}
annual_temperature_c = 10.0
"""
ROAD_CLASS = """
[[road_class]]
code = {code}
name = "class {code}"
speed_kmh = 50.0
lanes = 1.0
width_m = 20.0
capacity_veh_per_h = {capacity}
surface = "DEF"
truck_share = 0.05
truck_medium_share = 0.5
regime = "free"
srm = "srm1"
motor = {motor}
bicycle = true
residential = true
source = "assumed"
"""
CAPACITIES = {0: 2400.0, 4: 900.0, 7: 400.0}


def write_city(folder: Path, ground: float = 0.5) -> City:
    folder.mkdir()
    text = CITY.format(ground=ground)
    for code, capacity in {**CAPACITIES, 10: 100.0}.items():
        text += ROAD_CLASS.format(code=code, capacity=capacity, motor=str(code != 10).lower())
    (folder / "city.toml").write_text(text, encoding="utf-8")
    features = []
    for k, code in enumerate((0, 4, 7, 10)):
        # About 100 m of road each, near 9 degrees east, 48.75 north, where the grid begins.
        lat = 48.7540 + 0.0006 * k
        features.append(
            {
                "type": "Feature",
                "properties": {"id": f"s{k}", "road_class": code, "direction": "both"},
                "geometry": {"type": "LineString", "coordinates": [[9.002, lat], [9.0034, lat]]},
            }
        )
    collection = {"type": "FeatureCollection", "features": features}
    (folder / "network.geojson").write_text(json.dumps(collection), encoding="utf-8")
    return load_city(folder)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("TWINROOM_CACHE", str(folder))
    return folder


def test_radius_follows_the_power_at_capacity_and_paths_have_none(tmp_path: Path) -> None:
    city = write_city(tmp_path / "toy")
    power, radius = capacity_power_db(city), radius_m(city)
    for segment, capacity in enumerate(CAPACITIES.values()):
        light, truck = 2 * 0.95 * capacity, 2 * 0.025 * capacity  # two directions, 5 % trucks, half medium
        level = [
            a_weighted_db(sound_power(flow, 50.0, category, "DEF", 10.0))[0]
            for flow, category in ((light, "1"), (truck, "2"), (truck, "3"))
        ]
        assert power[segment] == pytest.approx(10 * np.log10(np.sum(10 ** (np.array(level) / 10))))
        assert radius[segment] == next(reach for least, reach in RADIUS_BY_POWER if power[segment] >= least)
    assert len(set(radius[:3])) == 3
    assert radius[3] == 0.0


def test_transfers_are_built_once_then_mapped_from_the_cache(tmp_path: Path, cache: Path) -> None:
    city = write_city(tmp_path / "toy")
    told: list[tuple[str, float]] = []
    first = prepare_noise(city, lambda what, done: told.append((what, done)))
    assert told[-1] == ("noise transfers", 1.0)
    assert [done for _, done in told] == sorted(done for _, done in told)
    made = {p: p.stat().st_mtime_ns for p in cache.rglob("*.np[yz]")}
    assert {p.name for p in made} == {"codes.npy", "index.npz"}
    told.clear()
    second = prepare_noise(city, lambda what, done: told.append((what, done)))
    assert not told
    assert {p: p.stat().st_mtime_ns for p in cache.rglob("*.np[yz]")} == made
    for name in ("segment", "slot", "box", "start", "n_cells", "codes"):
        np.testing.assert_array_equal(getattr(first.patches, name), getattr(second.patches, name))
    assert not second.patches.codes.flags.writeable
    assert isinstance(second.patches.codes.base, np.memmap)
    assert second.headroom_bits > 0.0


def test_only_segments_with_motor_traffic_have_transfers(tmp_path: Path) -> None:
    transfers = prepare_noise(write_city(tmp_path / "toy"))
    np.testing.assert_array_equal(transfers.patches.segment, [0, 1, 2])


def test_another_ground_is_another_entry(tmp_path: Path, cache: Path) -> None:
    soft = prepare_noise(write_city(tmp_path / "soft", ground=1.0))
    hard = prepare_noise(write_city(tmp_path / "hard", ground=0.0))
    assert len(list(cache.iterdir())) == 2
    assert hard.ground_factor == 0.0
    heard = (soft.patches.codes != 255) & (hard.patches.codes != 255)
    assert (soft.patches.codes[heard] >= hard.patches.codes[heard]).all()
    assert (soft.patches.codes[heard] > hard.patches.codes[heard]).any()


def _with(city: City, **noise: object) -> City:
    return dataclasses.replace(city, settings={**city.settings, "noise": {**city.settings["noise"], **noise}})


def test_the_air_of_open_ground_is_that_of_the_city(tmp_path: Path) -> None:
    city = write_city(tmp_path / "toy")
    by_direction = [0.25] * 8 + [0.75] * 8
    air = {"humidity_percent": 40.0, "annual_temperature_c": 20.0, "p_favourable": by_direction}
    table, _ = transfer_table(_with(city, **air))
    assert len(table) > 5 * 1500
    expected = radial_table(
        300.0, Ground(0.5), Atmosphere(20.0, 40.0)
    )  # with the mean of the directions, 0.5
    np.testing.assert_array_equal(table[:1500], expected[:1500])


@pytest.mark.parametrize("noise", [{"humidity_percent": 30.0}, {"p_favourable": 1.0}])
def test_another_air_is_another_entry(tmp_path: Path, cache: Path, noise: dict[str, float]) -> None:
    city = write_city(tmp_path / "toy")
    before, after = prepare_noise(city), prepare_noise(_with(city, **noise))
    assert len(list(cache.iterdir())) == 2
    assert (before.patches.codes != after.patches.codes).any()


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        ({"humidity_percent": 0.7}, "humidity_percent: got 0.7, expected 1 to 100"),
        ({"p_favourable": [0.5, 0.5]}, "p_favourable: got 2 values, expected one or 16"),
        ({"wall_absorption": 2}, "wall_absorption: got 2, expected 0 to 1"),
    ],
)
def test_a_setting_of_the_air_that_does_not_fit_is_refused_without_buildings_too(
    tmp_path: Path, noise: dict[str, object], message: str
) -> None:
    with pytest.raises(CityError, match=message):
        prepare_noise(_with(write_city(tmp_path / "toy"), **noise))


def test_walls_absorb_as_the_city_says_and_as_a_hard_face_where_it_says_nothing(tmp_path: Path) -> None:
    city = write_city(tmp_path / "toy")
    hard = read_setting(city).wall_absorption
    assert len(hard) == 8
    assert hard[0] < 0.01 < 0.1 < hard[-1]
    assert read_setting(_with(city, wall_absorption=0.4)).wall_absorption == (0.4,) * 8


def test_a_truncated_file_is_told_and_built_again(tmp_path: Path, cache: Path) -> None:
    city = write_city(tmp_path / "toy")
    codes = prepare_noise(city).patches.codes.copy()
    (path,) = cache.rglob("codes.npy")
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:1000])
    told: list[str] = []
    again = prepare_noise(city, lambda what, _: told.append(what))
    assert "cannot be read" in told[0]
    np.testing.assert_array_equal(again.patches.codes, codes)


def test_nothing_is_left_behind_when_building_fails(tmp_path: Path, cache: Path) -> None:
    def stop(_: str, done: float) -> None:
        if done > 0.0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_noise(write_city(tmp_path / "toy"), stop)
    assert not list(cache.iterdir())
