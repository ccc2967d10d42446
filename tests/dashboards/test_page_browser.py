"""The page as an operator has it: in a browser."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from agents.noise import NoiseAgent
from dashboards.board import Board
from kernels.network import Mode
from studies.noise_transfers import prepare_noise
from tests.dashboards.conftest import Room, serving
from tests.dashboards.town import (
    FAULT,
    NO_PEOPLE_OF_DAY,
    PEOPLE_OF_DAY,
    SCRIPT_NAME,
    START_MS,
    X0,
    Y0,
    NotingControl,
    add_building,
    alarm,
    densities,
    emissions,
    exposure,
    field,
    make_town,
    noise_of_day,
    powers,
)

pytestmark = pytest.mark.browser
OpenPage = Callable[..., Any]
DRAWN = """() => {
  const found = window.twinroom && twinroom.state && Bokeh.documents[0].get_model_by_name("map");
  return Boolean(found && found.renderers[0].data_source.data.image.length);
}"""


@pytest.fixture
def open_page(room: Room, chromium: Any) -> Iterator[OpenPage]:
    """Open the page with a query and wait until its map is drawn."""
    errors: list[str] = []
    pages = []

    def opened(query: str = "") -> Any:
        page = chromium.new_page(viewport={"width": 1366, "height": 768})
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{room.address}/ops{query}")
        page.wait_for_function(DRAWN, timeout=60_000)
        pages.append(page)
        return page

    yield opened
    for page in pages:
        page.close()
    assert errors == []


def pixels(page: Any) -> NDArray[np.uint8]:
    """The map as it is on the screen, (height, width, 3)."""
    with Image.open(io.BytesIO(page.locator("#map-host").screenshot())) as image:
        return np.asarray(image.convert("RGB"))


def wait_for_state(page: Any, condition: str) -> None:
    page.wait_for_function(f"() => {{ const s = twinroom.state; return {condition}; }}", timeout=30_000)


def wait_for_new_image(page: Any, act: Callable[[], object]) -> None:
    """Act, and wait until the map has been drawn anew."""
    page.evaluate(
        """() => { window.redrawn = false;
          Bokeh.documents[0].get_model_by_name("map").renderers[0].data_source.properties.data.change
            .connect(() => requestAnimationFrame(() => requestAnimationFrame(() => { window.redrawn = true; }))); }"""
    )
    act()
    page.wait_for_function("window.redrawn", timeout=30_000)


def test_the_map_is_drawn_and_the_root_leads_to_it(room: Room, open_page: OpenPage) -> None:
    page = open_page()
    image = pixels(page).astype(int)
    assert (image.sum(axis=2) > 300).mean() > 0.002  # streets on a dark ground
    assert np.unique(image.reshape(-1, 3), axis=0).shape[0] > 50
    assert page.title().startswith("REPLAY")
    page.goto(room.address)
    assert page.url == f"{room.address}/ops"


def test_a_layer_is_switched_by_its_button_and_by_its_key(open_page: OpenPage) -> None:
    page = open_page()
    flow = pixels(page)
    wait_for_new_image(page, lambda: page.get_by_label("NO₂").check())
    wait_for_state(page, 's.layer === "no2"')
    no2 = pixels(page)
    assert (np.abs(flow.astype(int) - no2).sum(axis=2) > 30).mean() > 0.3
    assert page.locator("#legend-title").inner_text() == "NO₂"
    page.keyboard.press("8")
    wait_for_state(page, 's.layer === "noise"')
    assert page.locator("#legend-unit").inner_text() == "dB(A)"
    page.keyboard.press("9")
    wait_for_state(page, 's.averaging === "1h"')
    assert page.locator("#legend-averaging").inner_text() == "1 h mean (needs 1 h, has 0.3 h)"


def test_the_noise_of_a_day_can_be_chosen_once_it_is_known_and_is_no_annual_mean(
    room: Room, open_page: OpenPage
) -> None:
    waiting = field(
        room.city, "noise", np.full(room.city.grid.shape, 55.0),
        hours_seen_24h=3.24, hours_needed_24h=24.0, propagation="open ground: no buildings in this pack",
    )  # fmt: skip
    for batch in (*waiting, exposure(NO_PEOPLE_OF_DAY)):
        room.board.apply(batch)
    room.board.close(START_MS + 60_000)
    page = open_page("?segment=sn")
    lden = page.get_by_role("button", name="Lden")
    assert lden.is_disabled()
    assert page.locator("#rolling-note").inner_text() == "needs 24 h, has 3.2 h"
    assert page.locator("#noise-day .reason").text_content() == "needs 24 h, has 3.2 h"
    page.keyboard.press("8")
    wait_for_state(page, 's.layer === "noise"')
    assert page.locator("#legend-note").inner_text().endswith("open ground: no buildings in this pack")
    page.keyboard.press("6")
    wait_for_state(page, 's.layer === "no2"')

    for batch in (*noise_of_day(room.city, np.full(room.city.grid.shape, 61.4)), exposure(PEOPLE_OF_DAY)):
        room.board.apply(batch)
    room.board.close(START_MS + 120_000)
    wait_for_state(page, "s.version === 3")
    lden.click()
    wait_for_state(page, 's.layer === "noise" && s.averaging === "lden"')
    assert page.locator("#legend-averaging").inner_text() == "Lden, rolling 24 h"
    assert "not the annual mean of 2002/49/EC" in page.locator("#legend").get_attribute("title")
    assert page.locator('[data-group="Air"] [aria-pressed="true"]').inner_text() == "now"
    assert page.locator('[data-level="Lden"]').text_content() == "61.4"
    page.keyboard.press("9")
    wait_for_state(page, 's.averaging === "lnight"')
    page.keyboard.press("Escape")
    wait_for_state(page, "s.street === null")
    assert page.locator("#noise-day .bands b").all_inner_texts()[-1] == "43"
    assert "987 highly sleep-disturbed" in page.locator("#noise-day .harm").inner_text()


def test_a_street_whose_flow_rises_changes_colour_and_no_other_does(room: Room, open_page: OpenPage) -> None:
    page = open_page()
    before = pixels(page).astype(int)

    def rise() -> None:
        room.board.apply(densities([400.0, 2800.0, 40.0]))
        room.board.close(START_MS + 60_000)

    wait_for_new_image(page, rise)
    changed = np.abs(pixels(page).astype(int) - before).sum(axis=2) > 30
    rows, columns = np.nonzero(changed)
    height, width = changed.shape
    assert rows.size > 100
    assert abs(columns.mean() - width / 2) < width * 0.05  # the street in the middle, from south to north
    assert rows.min() > height * 0.4


def test_pause_stops_the_clock_and_play_starts_it(room: Room, open_page: OpenPage) -> None:
    page = open_page()
    page.get_by_role("button", name="Pause").click()
    page.wait_for_function("twinroom.clock && !twinroom.clock.playing")
    shown = page.locator("#local").inner_text()
    heard = page.evaluate("twinroom.clock.beat")
    page.wait_for_function(f"twinroom.clock.beat > {heard}")  # a beat later the clock has not moved
    assert page.locator("#local").inner_text() == shown
    assert "paused" in page.locator("#banner").inner_text()
    page.keyboard.press("Space")
    page.wait_for_function(f"document.getElementById('local').textContent !== '{shown}'")
    assert room.control.now.playing


def test_the_speed_is_set_by_its_button_and_by_its_key(room: Room, open_page: OpenPage) -> None:
    page = open_page()
    page.get_by_role("button", name="60").click()
    page.wait_for_function("twinroom.clock.speed === 60")
    page.keyboard.press(".")
    page.wait_for_function("twinroom.clock.speed === 'max'")
    assert room.control.now.speed == float("inf")


def test_an_alarm_is_acknowledged_by_button_and_by_key(room: Room, open_page: OpenPage) -> None:
    page = open_page()
    room.board.apply(alarm("no2/we", title="NO2 high"))
    room.board.apply(alarm("noise/sn", title="Loud", priority=2))
    wait_for_state(page, "s.alarms.length === 2")
    page.get_by_role("button", name="Acknowledge: Loud").click()
    page.keyboard.press("k")
    page.wait_for_function("document.querySelectorAll('.acknowledge:disabled').length === 2")
    for _ in range(100):
        if len(room.control.acknowledged) == 2:
            break
        page.wait_for_timeout(20)
    assert room.control.acknowledged == [("noise/sn", "local", ""), ("no2/we", "local", "")]
    room.board.apply(alarm("no2/we", title="NO2 high", state="active acknowledged", who="local", revision=1))
    wait_for_state(page, "s.alarms.some((a) => a.who === 'acknowledged by local')")


def test_a_street_is_opened_by_a_click_and_closed_by_escape(open_page: OpenPage) -> None:
    page = open_page()
    box = page.locator("#map-host").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.7)
    wait_for_state(page, "s.street && s.street.id === 'sn'")
    assert page.locator(".street .name").inner_text() == "Long Lane"
    page.keyboard.press("Escape")
    wait_for_state(page, "s.street === null")


def test_markup_in_the_name_of_a_street_is_shown_as_text(open_page: OpenPage) -> None:
    page = open_page("?segment=we")
    wait_for_state(page, "s.street !== null")
    assert page.locator(".street .name").inner_text() == SCRIPT_NAME
    assert page.evaluate("window.hacked") is None


def test_doubling_the_emission_shows_three_decibels_more(room: Room, open_page: OpenPage) -> None:
    page = open_page("?segment=sn")
    number = page.locator('[data-level="Sound power"]')
    before = float(number.inner_text())
    room.board.apply(emissions(8000))
    room.board.close(START_MS + 60_000)
    wait_for_state(page, "s.version === 2")
    assert float(number.inner_text()) - before == pytest.approx(3.01, abs=0.011)


def test_an_unknown_segment_or_layer_gets_a_polite_message(open_page: OpenPage) -> None:
    page = open_page("?segment=nowhere")
    assert "no street segment “nowhere” in Testby & Co" in page.locator("#message").inner_text()
    page = open_page("?layer=gravity")
    assert "no layer “gravity”" in page.locator("#message").inner_text()


def test_the_street_panel_shows_interval_and_accuracy(room: Room, open_page: OpenPage) -> None:
    room.board.apply(densities([33.0, 22.0, 11.0], mode=Mode.TRUCK, accuracy=0.4))
    room.board.close(START_MS + 60_000)
    page = open_page("?segment=we")
    wait_for_state(page, "s.street !== null")
    rows = page.locator(".flows tbody tr")
    assert rows.count() == 6
    assert rows.nth(0).locator(".interval").get_attribute("title") == "90 % interval 320 to 500"
    assert rows.nth(2).get_attribute("class") == "doubtful"


def written(page: Any) -> tuple[list[float], float]:
    """Parts of the explanation as they are on the screen, and the flow that they lead to."""
    texts = page.locator("#why-body .sum td b:only-of-type").all_inner_texts()
    signs = {ord("\u2212"): "-", ord("\u00b1"): "", ord("\u202f"): ""}
    numbers = [float(text.translate(signs)) for text in texts if text]
    return numbers[:-1], numbers[-1]


def test_a_street_shows_its_evidence_and_why_it_has_its_flow(room: Room, open_page: OpenPage) -> None:
    room.control.in_fault.append(FAULT)
    page = open_page("?segment=we")
    page.locator("#why-body .sum").wait_for()
    parts, flow = written(page)
    assert sum(parts) == flow == 400
    assert page.locator(".flows tbody tr").first.locator("td.n").first.inner_text() == "400"
    assert (
        "probability that the true flow lies within 15\u00a0% or GEH\u00a05"
        in page.locator(".means").inner_text()
    )
    rows = page.locator(".evidence tbody tr").all_inner_texts()
    assert rows[0].split() == ["loops", "L7", "S", "car", "E", "412", "400", "0.80", "45", "s"]
    assert rows[1].split()[:2] == ["telraam", "T2"]
    assert "stuck since 09:50 reads \u00d7 1.18 (1.05\u20131.33)" in rows[2]
    assert page.locator(".evidence .weight.low").inner_text() == "0.02"


def test_another_flow_of_the_street_is_explained_by_keyboard(room: Room, open_page: OpenPage) -> None:
    page = open_page("?segment=we")
    page.locator("#why-body .sum").wait_for()
    page.locator("#why-flow").focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_function("twinroom.why.flow === 'car/1'")
    parts, flow = written(page)
    assert sum(parts) == flow == 200
    assert room.control.explained == [(0, 0, Mode.CAR), (0, 1, Mode.CAR)]


def test_the_explanation_is_closed_and_opened_again(room: Room, open_page: OpenPage) -> None:
    page = open_page("?segment=we")
    page.locator("#why-body .sum").wait_for()
    page.keyboard.press("w")
    page.locator("#why").wait_for(state="hidden")
    room.board.close(START_MS + 60_000)
    wait_for_state(page, "s.version === 2")
    assert len(room.control.explained) == len(room.control.air_explained) == 1  # nobody looks, nobody works
    page.get_by_role("button", name="Why this flow").click()
    page.locator("#why-body .sum").wait_for()


def test_a_street_shows_where_its_air_comes_from_and_leads_there(room: Room, open_page: OpenPage) -> None:
    page = open_page("?segment=we")
    origin = page.locator("#origin")
    origin.locator(".sum").wait_for()
    assert origin.locator("h2").inner_text().split() == ["WHERE", "ITS", "NO₂", "COMES", "FROM", "10:00:00"]
    assert origin.locator(".parts").inner_text() == "background 20.0 + traffic 25.1 = 45.1 µg/m³ now"
    assert [row.split() for row in origin.locator("tr").all_inner_texts()] == [
        ["this", "street", "7", "m", "15.4", "61", "%"],
        ["Long", "Lane", "507", "m", "5.7", "23", "%"],
        ["all", "others", "4.0", "16", "%"],
    ]
    assert "SRM1, general urban street: road type assumed" in origin.inner_text()
    page.keyboard.press("7")
    page.wait_for_function("twinroom.origin.quantity === 'PM₂.₅'")
    assert page.locator("#origin-traffic").inner_text() == "1.02"
    origin.get_by_role("button").press("Enter")
    page.wait_for_function("twinroom.origin.id === 'sn'")
    assert page.locator(".street .name").inner_text() == "Long Lane"
    assert origin.locator("tr").inner_text().split()[:2] == ["this", "street"]
    assert [asked[1:] for asked in room.control.air_explained] == [
        ("no2", "now"), ("pm25", "now"), ("pm25", "now"),
    ]  # fmt: skip


def test_an_explanation_of_another_step_is_not_shown(room: Room, open_page: OpenPage) -> None:
    room.control.flows[Mode.CAR, 0] = 500.0  # fusion is a step ahead of the board
    page = open_page("?segment=we")
    page.locator("#why").get_by_text("Working it out").wait_for()
    room.board.apply(densities([500.0, 120.0, 40.0], at_ms=START_MS + 60_000))
    room.board.close(START_MS + 60_000)
    page.locator("#why-body .sum").wait_for()
    assert written(page)[1] == 500


def test_counters_in_doubt_are_named_and_lead_to_their_street(room: Room, open_page: OpenPage) -> None:
    page = open_page()
    page.keyboard.press("f")
    assert page.locator("#faults").inner_text() == "No counter in doubt."
    room.control.in_fault.append(FAULT)
    room.board.close(START_MS + 60_000)
    wait_for_state(page, "s.faults.length === 1")
    assert "1 in doubt" in page.locator("#feeds-button").inner_text()
    row = page.locator("#faults tbody tr").inner_text().split()
    assert (row[:2], row[-5:-2]) == (["telraam", "T2"], ["\u25a0", "stuck", "09:50"])
    page.locator("#faults").get_by_role("button").press("Enter")
    wait_for_state(page, "s.street && s.street.id === 'we'")
    assert not page.locator("#feeds-panel").is_visible()


def test_a_silent_server_greys_the_map(
    room: Room, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_page()
    assert not page.locator("#watchdog").is_visible()
    room.control.pause()
    page.wait_for_function("!twinroom.clock.playing")
    monkeypatch.setattr("dashboards.page.BEAT_S", 1e9)  # the server goes silent
    page.evaluate("twinroom.heard -= 60000")  # and a minute passes
    page.locator("#watchdog").wait_for(state="visible")
    assert "stale" in page.locator("body").get_attribute("class")


def test_behind_a_building_noise_is_drawn_quieter_and_the_legend_names_what_screens_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chromium: Any
) -> None:
    monkeypatch.setenv("TWINROOM_CACHE", str(tmp_path / "cache"))
    make_town(tmp_path / "town")
    with (tmp_path / "town" / "city.toml").open("a") as settings:
        settings.write("\n[noise]\nmax_distance_m = 250\n")
    # along the street from west to east at y = 750, on its north side alone
    city = add_building(tmp_path / "town", (850.0, 1150.0), (765.0, 777.0), height_m=None)
    transfers = prepare_noise(city)
    board = Board(city, transfers.findings)
    agent = NoiseAgent(city, transfers)
    loud = powers(np.array([3000, 0, 0], dtype=np.int64))
    agent.receive(loud)
    for batch in (loud, *agent.close(START_MS)):
        board.apply(batch)
    board.close(START_MS)
    with serving(city, board, NotingControl()) as server:
        page = chromium.new_page(viewport={"width": 1366, "height": 768})
        page.goto(f"http://127.0.0.1:{server.port}/ops?layer=noise")
        page.wait_for_function(DRAWN, timeout=60_000)
        image = pixels(page).astype(float)
        x0, x1, y1 = page.evaluate(
            """() => { const map = Bokeh.documents[0].get_model_by_name("map");
              return [map.x_range.start, map.x_range.end, map.y_range.end]; }"""
        )

        def brightness(x: float, y: float) -> float:
            """Of a square of 20 m around a place, from the receptors' corner [m]."""
            per_px = (x1 - x0) / image.shape[1]
            column, row = (X0 + x - x0) / per_px, (y1 - Y0 - y) / per_px
            half = 10.0 / per_px
            part = image[round(row - half) : round(row + half), round(column - half) : round(column + half)]
            return float(part.mean())

        street_side, behind = brightness(1000.0, 750.0 - 40.0), brightness(1000.0, 750.0 + 40.0)
        assert street_side > behind + 25.0  # 41 m from the street, but for the building
        assert abs(brightness(450.0, 710.0) - brightness(450.0, 790.0)) < 15.0  # no building there
        assert (
            "screened by 1 buildings; reflections of first order" in page.locator("#legend-note").inner_text()
        )
        page.get_by_text("About this layer").click()
        assert "without a height, taken as 9 m high: b1" in page.locator("#legend-findings").inner_text()
        page.keyboard.press("6")
        page.locator("#legend-about").wait_for(state="hidden")
        page.close()


def test_everything_fits_on_the_screen(room: Room, chromium: Any) -> None:
    room.control.in_fault.append(FAULT)
    screened = "screened by 9,812 buildings; reflections of first order"
    lden_db = np.full(room.city.grid.shape, 61.4)
    people = PEOPLE_OF_DAY | {"people_by_lden": [160_300.0, 152_100.0, 134_500.0, 1_012_040.0, 43.0]}
    for batch in (
        *noise_of_day(room.city, lden_db, propagation=screened),
        exposure(people, people=1_234_567.0),
    ):
        room.board.apply(batch)
    room.board.noise_findings = ("11669 of 11673 buildings have a derived height",)
    room.board.close(START_MS)
    for width, height in ((1920, 1080), (1600, 900), (1366, 768), (1280, 800), (1280, 720)):
        page = chromium.new_page(viewport={"width": width, "height": height})
        page.goto(f"{room.address}/ops?segment=we&layer=noise")
        page.wait_for_function(DRAWN, timeout=60_000)
        page.locator("#why-body .sum").wait_for()
        page.locator("#origin .sum").wait_for()
        page.get_by_role("button", name="Lden").click()
        wait_for_state(page, 's.averaging === "lden"')
        overflow = page.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
        )
        assert overflow == [width, height]
        for part in ("header", "nav", "aside", "#why", ".figures div", ".bands div", ".levels div"):
            for inner, outer in page.locator(part).evaluate_all(
                "(found) => found.map((e) => [e.scrollWidth, e.clientWidth])"
            ):
                assert inner <= outer, (part, width)
        boxes = [
            page.locator(part).bounding_box() for part in ("#why", ".legend", ".attribution", ".map-tools")
        ]
        for a, b in combinations(boxes, 2):
            apart = a["x"] + a["width"] <= b["x"] or b["x"] + b["width"] <= a["x"]
            assert apart or a["y"] + a["height"] <= b["y"] or b["y"] + b["height"] <= a["y"], (a, b, width)
        page.close()
