"""Screened transfers of a whole city: resumed, redone only where it changed, and told apart from open ground."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from cities.pack import City, CityError, load_city
from kernels.transfer import OPEN_GROUND, NoiseTransfers
from studies.noise_transfers import prepare_noise
from tests.studies.test_noise_transfers import write_city

Feature = dict[str, Any]
LON, LAT = 9.0, 48.753013  # south-west corner of the receptors of the toy
PER_LON, PER_LAT = 73_500.0, 111_200.0  # metres in a degree there


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("TWINROOM_CACHE", str(folder))
    return folder


def box(name: str, x: float, y: float, width: float, height: float, height_m: object = 12.0) -> Feature:
    """A rectangle, in metres from the south-west corner of the receptors."""
    west, east = LON + x / PER_LON, LON + (x + width) / PER_LON
    south, north = LAT + y / PER_LAT, LAT + (y + height) / PER_LAT
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    properties = {"id": name} if height_m is None else {"id": name, "height_m": height_m}
    return {
        "type": "Feature",
        "properties": properties,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }


# The roads lie at x = 150 to 250 m, y = 110, 176, 243 and 310 m.
HOUSES = [box("south", 100, 60, 200, 20), box("west", 60, 120, 20, 90), box("east", 520, 30, 40, 30)]


def write(folder: Path, features: list[Feature], name: str = "buildings.geojson") -> City:
    if not folder.exists():
        write_city(folder)
    (folder / name).write_text(
        json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8"
    )
    return load_city(folder)


def with_setting(folder: Path, text: str) -> City:
    path = folder / "city.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("[noise]", f"[noise]\n{text}"), encoding="utf-8")
    return load_city(folder)


def energy(transfers: NoiseTransfers, segment: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    patches = transfers.patches
    p = patches.slot[segment]
    r0, r1, c0, c1 = patches.box[p]
    codes = patches.codes[patches.start[p] : patches.start[p + 1]].reshape(4, r1 - r0, c1 - c0)
    full = np.zeros((4, *patches.shape))
    full[:, r0:r1, c0:c1] = np.where(codes == 255, 0.0, 10.0 ** (-0.05 * codes))
    return full.sum(axis=0)


def test_a_city_without_buildings_says_that_its_ground_is_open(tmp_path: Path) -> None:
    transfers = prepare_noise(write_city(tmp_path / "toy"))
    assert not transfers.is_screened
    assert transfers.kind == OPEN_GROUND == "open ground: no buildings in this pack"


def test_a_city_with_buildings_is_screened_and_says_so(tmp_path: Path) -> None:
    open_ground = prepare_noise(write_city(tmp_path / "open"))
    told: list[tuple[str, float]] = []
    city = write(tmp_path / "toy", HOUSES)
    transfers = prepare_noise(city, lambda what, done: told.append((what, done)))
    assert transfers.is_screened
    assert transfers.kind == "screened by 3 buildings; reflections of first order"
    assert ("noise transfers", 1.0) in told
    assert told[-1] == ("noise at facades", 1.0)
    fractions = [done for what, done in told if what == "noise transfers"]
    assert fractions == sorted(fractions)
    shadow = np.s_[2:5, 15:25]  # behind the house in the south
    loss = 10.0 * np.log10(energy(open_ground, 0)[shadow] / energy(transfers, 0)[shadow])
    assert loss.min() > 5.0
    told.clear()
    again = prepare_noise(city, lambda what, done: told.append((what, done)))
    assert [what for what, _ in told] == ["noise transfers: buildings"]
    np.testing.assert_array_equal(again.patches.codes, transfers.patches.codes)
    np.testing.assert_array_equal(again.patches.n_cells, transfers.patches.n_cells)
    assert isinstance(again.patches.codes.base, np.memmap)


def test_receptors_indoors_are_counted_and_hear_nothing(tmp_path: Path) -> None:
    transfers = prepare_noise(write(tmp_path / "toy", HOUSES))
    assert transfers.n_indoors == pytest.approx(4000 / 100 + 1800 / 100 + 1200 / 100, abs=12)
    assert any("inside a building" in finding for finding in transfers.findings)
    assert energy(transfers, 0)[6, 20] == 0.0


def test_an_interrupted_build_goes_on_where_it_stopped(tmp_path: Path, cache: Path) -> None:
    expected = prepare_noise(write(tmp_path / "whole", HOUSES)).patches.codes.copy()
    for path in cache.rglob("*"):
        if path.is_file():
            path.unlink()
    for path in cache.iterdir():
        path.rmdir()

    def stop(what: str, done: float) -> None:
        if what == "noise transfers" and done > 0.3:
            raise KeyboardInterrupt

    city = write(tmp_path / "toy", HOUSES)
    with pytest.raises(KeyboardInterrupt):
        prepare_noise(city, stop)
    (part,) = cache.glob("noise-*-part")
    n_done = int(np.load(part / "done.npy").sum())
    assert 0 < n_done < np.load(part / "done.npy").size
    fractions: list[float] = []
    transfers = prepare_noise(city, lambda _, done: fractions.append(done))
    np.testing.assert_array_equal(transfers.patches.codes, expected)
    assert min(f for f in fractions if f > 0.0) > 0.3
    assert not list(cache.glob("*-part"))
    (report,) = cache.glob("noise-*/report.json")
    assert json.loads(report.read_text())["receptors"] < 3000 - transfers.n_indoors


def test_only_what_a_new_building_can_touch_is_made_again(tmp_path: Path, cache: Path) -> None:
    for reflections in (0, 1):
        folder = tmp_path / f"toy{reflections}"
        write(folder, HOUSES)
        before = prepare_noise(with_setting(folder, f"reflections = {reflections}"))
        new = [*HOUSES, box("new", 500, 450, 15, 30)]
        told: list[str] = []
        after = prepare_noise(write(folder, new), lambda what, _: told.append(what))  # noqa: B023
        (line,) = {what for what in told if "made again" in what}
        assert "1 outlines gone or new" in line
        share = int(line.split(", ")[1].split("%")[0])
        assert 0 < share < 100
        kept_codes = after.patches.codes.copy()
        reports = sorted(cache.glob("noise-*/report.json"), key=lambda p: p.stat().st_mtime)
        report = json.loads(reports[-1].read_text())
        assert 0 < report["tiles_made"] < report["tiles"]
        reports[-1].parent.joinpath("index.npz").unlink()
        for path in cache.glob("noise-*/index.npz"):
            path.unlink()
        whole = prepare_noise(load_city(folder))
        np.testing.assert_array_equal(kept_codes, whole.patches.codes)
        far = np.s_[:30, :30]
        np.testing.assert_array_equal(energy(after, 0)[far], energy(before, 0)[far])
        assert (energy(after, 0) < energy(before, 0))[46:, 50:].any()


def test_removing_the_building_gives_the_first_answer_back(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    first = prepare_noise(write(folder, HOUSES)).patches.codes.copy()
    prepare_noise(write(folder, HOUSES[1:]))
    again = prepare_noise(write(folder, HOUSES))
    np.testing.assert_array_equal(first, again.patches.codes)


def test_a_barrier_screens_the_road_behind_it(tmp_path: Path) -> None:
    line = [[LON + 100 / PER_LON, LAT + 95 / PER_LAT], [LON + 300 / PER_LON, LAT + 95 / PER_LAT]]
    wall = {
        "type": "Feature",
        "properties": {"id": "wall", "height_m": 5.0},
        "geometry": {"type": "LineString", "coordinates": line},
    }
    folder = tmp_path / "toy"
    open_ground = prepare_noise(write_city(folder))
    transfers = prepare_noise(write(folder, [wall], "barriers.geojson"))
    assert transfers.kind == "screened by 1 screens; reflections of first order"
    behind = np.s_[5:8, 16:24]
    assert (10.0 * np.log10(energy(open_ground, 0) / energy(transfers, 0))[behind] > 4.0).all()


def test_level_terrain_without_buildings_is_the_open_ground(tmp_path: Path) -> None:
    city = write_city(tmp_path / "toy")
    open_ground = prepare_noise(city)
    transform = rasterio.transform.from_origin(499_000.0, 5_402_000.0, 50.0, 50.0)
    with rasterio.open(
        city.folder / "terrain.tif", "w", driver="GTiff", width=60, height=60, count=1, dtype="float32",
        crs=city.crs, transform=transform,
    ) as raster:  # fmt: skip
        raster.write(np.full((60, 60), 372.0, dtype=np.float32), 1)
    transfers = prepare_noise(city)
    assert transfers.kind == "no buildings in this pack, over terrain; reflections of first order"
    for segment in range(3):
        one, other = energy(transfers, segment), energy(open_ground, segment)
        both = (one > 0.0) & (other > 0.0)
        assert both.mean() > 0.5
        assert np.abs(10.0 * np.log10(one[both] / other[both])).max() < 0.6


def test_outlines_and_heights_are_repaired_assumed_and_counted(tmp_path: Path) -> None:
    crossed = box("bow", 100, 100, 40, 40)
    ring = crossed["geometry"]["coordinates"][0]
    ring[1], ring[2] = ring[2], ring[1]
    derived = box("derived", 200, 100, 20, 20, 9.0)
    derived["properties"]["derived"] = ["height_m"]
    transfers = prepare_noise(write(tmp_path / "toy", [crossed, box("low", 300, 100, 20, 20, None), derived]))
    text = "\n".join(transfers.findings)
    assert "1 buildings whose outline crosses itself, repaired: bow" in text
    assert "1 buildings without a height, taken as 9 m high: low" in text
    assert "2 of 3 buildings have a derived height" in text


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("reflections = 2", "reflections: got 2, expected 0 or 1"),
        ("p_favourable = 1.5", "p_favourable: got 1.5, expected 0 to 1"),
        ("p_favourable = [0.5, 0.5]", "p_favourable: got 2 values, expected one or 16"),
        ("max_distance_m = 'far'", "max_distance_m: got 'far', expected 50 to 2000"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused_by_name(tmp_path: Path, setting: str, message: str) -> None:
    write(tmp_path / "toy", HOUSES)
    with pytest.raises(CityError, match=rf"\[noise\] {message.replace('[', '.')}"):
        prepare_noise(with_setting(tmp_path / "toy", setting))


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        (box("tall", 0, 0, 10, 10, "high"), "building tall: height_m: got 'high'"),
        (box("flat", 0, 0, 10, 10, -3.0), "building flat: height_m: got -3.0"),
        ({**box("line", 0, 0, 9, 9), "geometry": {"type": "Point", "coordinates": [9, 48]}}, "building line"),
    ],
)
def test_a_building_that_cannot_be_used_is_named(tmp_path: Path, feature: Feature, message: str) -> None:
    with pytest.raises(CityError, match=message):
        prepare_noise(write(tmp_path / "toy", [feature]))


def test_threads_end_with_an_interruption(tmp_path: Path) -> None:
    def stop(_: str, done: float) -> None:
        if done > 0.0:
            raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        prepare_noise(write(tmp_path / "toy", HOUSES), stop)
    assert threading.active_count() == before
