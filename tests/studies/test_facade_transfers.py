"""Facades of a whole city: who gets receptors, kept and resumed, and heard by the noise and exposure agents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from agents.exposure import ExposureAgent
from agents.noise import OFFSET_DB, SCALE_DB, UNKNOWN, NoiseAgent
from cities.pack import City, CityError, load_city
from kernels import facade_field, health
from kernels.facades import OFFSET_M, FacadeTransfers
from kernels.noise_field import levels_db
from kernels.transfer import NoiseTransfers
from streams.codec import decode_batch, encode_batch, pack_state, unpack_state
from streams.topics import Batch, Topic
from studies import facade_transfers
from studies.facade_homes import facade_receptors
from studies.noise_transfers import prepare_noise
from tests.studies.test_noise_transfers import write_city
from tests.studies.test_screened_noise import Feature, box, write

MINUTE_MS = 60_000
START = 1_700_000_400_000  # an hour and a period of five minutes begin here
TOTAL = 1200
EXPOSURE = f"""
[population]
total = {TOTAL}
source = "test"
[exposure]
noise_now_db = [45.0, 65.0]
no2_now_ug_m3 = [22.0]
"""


def used(feature: Feature, use: object) -> Feature:
    return {**feature, "properties": {**feature["properties"], "use": use}}


# The roads lie at x = 150 to 250 m, y = 110, 176, 243 and 310 m.
HOUSES = [
    box("by the road", 150, 88, 38, 12, 9.0),
    used(box("school", 210, 130, 30, 20, 12.0), "school"),
    box("behind", 150, 40, 40, 12, 9.0),
    used(box("far", 400, 420, 20, 12, 18.0), "residential"),
    box("on the edge", 590, 200, 40, 10, 9.0),
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("TWINROOM_CACHE", str(folder))
    return folder


@pytest.fixture
def town(tmp_path: Path) -> City:
    folder = tmp_path / "town"
    write(folder, HOUSES)
    path = folder / "city.toml"
    path.write_text(path.read_text(encoding="utf-8") + EXPOSURE, encoding="utf-8")
    return load_city(folder)


def facades_of(city: City) -> FacadeTransfers:
    facades = prepare_noise(city).facades
    assert facades is not None
    return facades


def test_homes_within_the_grid_have_receptors_before_their_walls(town: City) -> None:
    receptors = facades_of(town).receptors
    names = [HOUSES[k]["properties"]["id"] for k in receptors.building]
    assert set(names[:3]) == {"by the road", "behind", "far"}
    assert names[3:] == ["on the edge"]  # beyond the receptors in part, so it has none; the school is no home
    assert set(receptors.home.tolist()) == {0, 1, 2}
    assert np.all(np.diff(receptors.home) >= 0)
    home = names.index("by the road")
    xy = receptors.xy[receptors.home == home] - receptors.home_xy[home]
    away = np.maximum(np.abs(xy[:, 0]) - 19.0, np.abs(xy[:, 1]) - 6.0)
    np.testing.assert_allclose(away, OFFSET_M, atol=0.15)  # the toy's degrees are metres to 0.3 %
    assert len(xy) == 2 * 8 + 2 * 3
    area = dict(zip(names, receptors.floor_area_m2, strict=True))
    assert area["by the road"] == pytest.approx(38 * 12 * 3, rel=0.01)
    assert area["far"] == pytest.approx(20 * 12 * 6, rel=0.01)


def test_tiles_hold_the_receptors_of_their_homes(tmp_path: Path) -> None:
    folder = tmp_path / "fine"
    write(folder, HOUSES)
    text = (folder / "city.toml").read_text(encoding="utf-8").replace("step_m = 10.0", "step_m = 3.0")
    (folder / "city.toml").write_text(text, encoding="utf-8")
    city = load_city(folder)
    receptors, start = facade_receptors(city), [0]
    for tile_row, tile_column in city.grid.tiles():  # 384 m wide and high
        start.append(start[-1])
        if (tile_row, tile_column) == (0, 0):
            start[-1] += np.isin(receptors.building[receptors.home], [0, 2]).sum()
        if (tile_row, tile_column) == (1, 1):
            start[-1] += (receptors.building[receptors.home] == 3).sum()
    assert start[-1] == receptors.n_receptors
    np.testing.assert_array_equal(receptors.tile_start, start)


def test_a_city_without_buildings_has_no_facades(tmp_path: Path) -> None:
    assert prepare_noise(write_city(tmp_path / "open")).facades is None
    wall: Feature = {
        "type": "Feature", "properties": {"id": "w", "height_m": 4.0},
        "geometry": {"type": "LineString", "coordinates": [[9.002, 48.7537], [9.0034, 48.7537]]},
    }  # fmt: skip
    assert prepare_noise(write(tmp_path / "walled", [wall], "barriers.geojson")).facades is None


def test_a_use_that_is_no_text_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CityError, match=r"buildings.geojson: building odd: use: got 3, expected a text"):
        prepare_noise(write(tmp_path / "town", [used(box("odd", 100, 60, 20, 20), 3)]))


def test_facades_are_kept_and_an_interrupted_build_goes_on(
    town: City, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = facades_of(town)
    (report,) = cache.glob("facades-*/report.json")
    told = json.loads(report.read_text())
    assert told["receptors"] == expected.receptors.n_receptors
    assert told["transfers"] == expected.code_start[-1]
    again = facades_of(town)
    assert isinstance(again.codes.base, np.memmap)
    for name in ("run_start", "first", "code_start", "codes"):
        np.testing.assert_array_equal(getattr(again, name), getattr(expected, name))

    for path in report.parent.iterdir():
        path.unlink()
    report.parent.rmdir()
    monkeypatch.setattr(facade_transfers, "join_runs", _stop)
    with pytest.raises(KeyboardInterrupt):
        prepare_noise(town)
    (part,) = cache.glob("facades-*-part")
    assert (part / "tile0.npz").is_file()
    monkeypatch.undo()
    monkeypatch.setenv("TWINROOM_CACHE", str(cache))
    monkeypatch.setattr(facade_transfers, "screened_points", _stop)  # nothing is calculated again
    np.testing.assert_array_equal(facades_of(town).codes, expected.codes)
    assert not list(cache.glob("facades-*-part"))


def _stop(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


def emissions(power: NDArray[np.int64], now_ms: int) -> Batch:
    """Powers (4, 4) of the segments now, and as their hourly means."""
    columns: dict[str, NDArray[Any]] = {"segment": np.arange(4, dtype=np.int32)}
    columns |= {f"power{g}": power[:, g] for g in range(4)}
    columns |= {f"power{g}_1h": power[:, g] for g in range(4)}
    columns |= {"log_sd": np.full(4, 0.1, dtype=np.float32), "simulated": np.zeros(4, dtype=np.bool_)}
    return Batch(Topic.EMISSIONS, "t0", now_ms, columns, attributes={"hours_seen": 1.0})


def powers(seed: int) -> NDArray[np.int64]:
    power = np.random.default_rng(seed).integers(20_000, 400_000, (4, 4))
    power[3] = 0  # a path
    return power


class Room:
    """Noise and exposure of the town, and what was published last."""

    def __init__(self, city: City, transfers: NoiseTransfers) -> None:
        assert transfers.facades is not None
        self.noise = NoiseAgent(city, transfers)
        self.exposure = ExposureAgent(city, transfers.facades.receptors)
        self.fields: dict[str, Batch] = {}
        self.now_ms = START

    def step(self, power: NDArray[np.int64] | None, minutes: int = 1) -> dict[str, Batch]:
        """Run some minutes; what exposure published."""
        out: dict[str, Batch] = {}
        for _ in range(minutes):
            self.now_ms += MINUTE_MS
            if power is not None:
                self.noise.receive(emissions(power, self.now_ms))
                power = None
            for batch in self.noise.close(self.now_ms):
                self.fields[batch.key] = batch
                self.exposure.receive(batch)
            out |= {batch.key: batch for batch in self.exposure.close(self.now_ms)}
        return out

    def level(self, averaging: str) -> NDArray[np.float64]:
        stored = self.fields[f"facades/{averaging}/0/0"].columns["values"]
        return np.where(stored == UNKNOWN, np.nan, OFFSET_DB + SCALE_DB * stored)


def expected_db(facades: FacadeTransfers, power: NDArray[np.int64]) -> NDArray[np.float32]:
    field = facade_field.empty_field(facades)
    facade_field.apply(field, facades, np.arange(4, dtype=np.int32), power)
    return levels_db(field)


def test_published_levels_at_facades_are_those_of_the_present_powers(town: City) -> None:
    transfers = prepare_noise(town)
    room = Room(town, transfers)
    for seed in range(6):
        room.step(powers(seed))
    np.testing.assert_allclose(
        room.level("now"), expected_db(transfers.facades, powers(5)), atol=SCALE_DB / 2 + 1e-4
    )
    batch = room.fields["facades/now/0/0"]
    receptors = transfers.facades.receptors
    np.testing.assert_array_equal(batch.columns["building"], receptors.building[receptors.home])
    assert batch.attributes["unit"] == "dB(A)"
    assert batch.attributes["propagation"] == transfers.kind
    assert batch.attributes["accuracy"] == room.fields["noise/now/0/0"].attributes["accuracy"]
    assert "cells_updated" not in batch.attributes
    loudest = batch.columns["is_most_exposed"]
    assert batch.columns["building"][loudest].tolist() == receptors.building[:3].tolist()
    for k in receptors.building[:3]:
        own = batch.columns["values"][batch.columns["building"] == k]
        assert batch.columns["values"][loudest & (batch.columns["building"] == k)] == own.max()
    road, behind = (np.flatnonzero(batch.columns["building"] == k) for k in (0, 2))
    assert np.nanmax(room.level("now")[road]) > np.nanmax(room.level("now")[behind]) + 10.0
    decoded = decode_batch(encode_batch(batch))
    np.testing.assert_array_equal(decoded.columns["values"], batch.columns["values"])


def test_twice_the_flow_adds_3_01_db_at_every_facade_and_silence_leaves_nothing(town: City) -> None:
    room = Room(town, prepare_noise(town))
    room.step(powers(1))
    once = room.level("now")
    room.step(2 * powers(1))
    np.testing.assert_allclose(room.level("now") - once, 3.01, atol=0.02)
    assert room.step(2 * powers(1)) == {}
    room.step(np.zeros((4, 4), dtype=np.int64))
    assert np.isnan(room.level("now")).all()


def test_people_are_counted_at_the_louder_half_of_their_facades(town: City) -> None:
    transfers = prepare_noise(town)
    room = Room(town, transfers)
    room.step(powers(2), minutes=4)
    out = room.step(None)["all"]
    receptors = transfers.facades.receptors
    share = receptors.floor_area_m2 / receptors.floor_area_m2.sum()
    assert out.attributes["noise_receptors"] == "most exposed facade / 4 m"
    assert "floor area" in out.attributes["noise_derived"]
    assert out.attributes["noise_share_covered"] == pytest.approx(1.0 - share[-1], abs=1e-4)
    columns = out.columns
    assert columns["quantity"].tolist() == ["noise"] * 2  # no level of air is known
    np.testing.assert_allclose(columns["people"], round(TOTAL * (1.0 - share[-1])))
    level, above = room.level("now"), {45.0: 0.0, 65.0: 0.0}
    for home in range(3):
        own = np.sort(level[receptors.home == home])
        louder = own[own.size % 2 + own[own.size % 2 :].size // 2 :]  # no two are equally loud
        for threshold in above:
            above[threshold] += TOTAL * share[home] * float((louder > threshold).mean())
    np.testing.assert_allclose(columns["people_above"], list(above.values()), atol=0.5)
    assert 0 < columns["people_above"][1] < columns["people_above"][0]


def test_a_day_at_the_facades_gives_bands_and_harm_and_a_gap_takes_them_away(town: City) -> None:
    transfers = prepare_noise(town)
    room = Room(town, transfers)
    assert "reason" in room.step(powers(3), minutes=5)["all"].attributes["noise_24h"]
    out = room.step(None, minutes=25 * 60)["all"]
    for name, penalty in (("lday", 0.0), ("lnight", 0.0), ("lden", 6.4)):  # steady traffic
        np.testing.assert_allclose(room.level(name), room.level("now") + penalty, atol=0.02)
    told = out.attributes["noise_24h"]
    receptors = transfers.facades.receptors
    people = room.exposure._facades.at_receptors(room.fields["facades/lden/0/0"].columns["values"])
    assert people.sum() == pytest.approx(told["people_lden"], abs=0.5)
    in_bands = health.people_in_bands(room.level("lden"), people, health.LDEN_BANDS_DB)
    np.testing.assert_allclose(told["people_by_lden"], in_bands, atol=0.5)
    assert told["highly_annoyed"] == round(health.highly_annoyed(in_bands)) > 0
    assert receptors.home[people > 0.0].max() == 2
    room.now_ms += 60 * MINUTE_MS  # the feed was silent for an hour
    room.step(powers(4), minutes=60)
    assert np.isnan(room.level("lden")).all()


def test_a_restored_room_goes_on_at_the_facades_as_if_never_stopped(town: City) -> None:
    transfers = prepare_noise(town)
    whole, other = Room(town, transfers), Room(town, transfers)
    whole.step(powers(5), minutes=25 * 60)
    for agent, successor in ((whole.noise, other.noise), (whole.exposure, other.exposure)):
        successor.restore(unpack_state(pack_state(agent.snapshot())))
    other.now_ms = whole.now_ms
    one, two = (room.step(powers(6), minutes=60) for room in (whole, other))
    assert {k: encode_batch(b) for k, b in one.items()} == {k: encode_batch(b) for k, b in two.items()}
    assert "all" in one
    for key, batch in other.fields.items():
        assert encode_batch(batch) == encode_batch(whole.fields[key])
    assert {"facades/now/0/0", "facades/lden/0/0"} <= set(other.fields)


def test_without_facades_people_hear_noise_on_the_grid(town: City) -> None:
    transfers = prepare_noise(town)
    noise, exposure = NoiseAgent(town, transfers), ExposureAgent(town)
    noise.receive(emissions(powers(1), START))
    for batch in noise.close(START):
        exposure.receive(batch)
    (out,) = exposure.close(START)
    assert out.columns["quantity"].tolist() == ["noise"] * 2
    assert not any(name.startswith("noise_") for name in out.attributes if name != "noise_24h")
