"""Fusion on the bundled recording against the truth beside it, which no agent reads."""

from __future__ import annotations

import gzip
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from agents.fusion import FusionAgent
from agents.fusion_covariance import edges_of
from cities.pack import City, find_city, load_city
from kernels.network import Mode
from kernels.prior import Prior
from kernels.profile import day_profile
from kernels.scores import geh, wape
from streams.observation import Observation, observation_from, time_ms
from streams.readings import readings_batch
from studies.prior import prepare_prior

FROM, TO = "2022-11-23T06:30:00Z", "2022-11-23T07:15:00Z"  # 07:30 to 08:15 in Ghent
WINDOW = "2022-11-23T07:00:00Z"
MINUTE_MS = 60_000
MODES = (Mode.CAR, Mode.TRUCK, Mode.BICYCLE)


@dataclass
class Outcome:
    """Published columns and truth of each mode's edges at 08:15, and which edges no counter sees."""

    city: City
    prior: Prior
    columns: dict[Mode, dict[str, NDArray[np.float64]]]
    truth: dict[Mode, NDArray[np.float64]]
    unsensored: dict[Mode, NDArray[np.bool_]]

    def prior_flow(self, mode: Mode) -> NDArray[np.float64]:
        profile = day_profile(self.city.settings["traffic"]["profile"][mode.name.lower()])
        return self.prior.modes[mode].flow_per_h.astype(float) * profile.scale(8 * 60 + 7.5)


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    city = load_city(find_city("ghent"))
    prior = prepare_prior(city, lambda _what, _part: None)
    truth = read_truth(city)
    with threadpool_limits(1):
        agent = FusionAgent(city, prior)
        steps = read_steps()
        for end_ms in range(time_ms(FROM) + MINUTE_MS, time_ms(TO) + 1, MINUTE_MS):
            rows = sorted(steps[end_ms], key=lambda o: o.order)
            agent.receive(readings_batch(rows, end_ms))
            published = agent.close(end_ms)
    columns, unsensored = {}, {}
    for mode in MODES:
        of_mode = [b.columns["mode"] == mode for b in published]
        columns[mode] = {
            name: np.concatenate(
                [b.columns[name][at] for b, at in zip(published, of_mode, strict=True)]
            ).astype(float)
            for name in published[0].columns
        }
        unsensored[mode] = np.isnan(columns[mode]["age_s"])
        table = edges_of(city, mode).index_of(city.network.n_segments)
        for sensor in city.sensors:
            if sensor.segment >= 0 and mode.name.lower() in sensor.modes:
                seen = table[sensor.segment]
                if sensor.direction != "both":
                    seen = seen[[("forward", "backward").index(sensor.direction)]]
                unsensored[mode][seen[seen >= 0]] = False
    return Outcome(city, prior, columns, truth, unsensored)


def read_steps() -> defaultdict[int, list[Observation]]:
    """Readings by the end of the step that they close in."""
    steps: defaultdict[int, list[Observation]] = defaultdict(list)
    with gzip.open(find_city("ghent") / "recording.jsonl.gz", "rb") as file:
        for line in file:
            event = orjson.loads(line)
            if event.get("end", "") > FROM and event["end"] <= TO:
                reading = observation_from(event, line)
                steps[-(-reading.end_ms // MINUTE_MS) * MINUTE_MS].append(reading)
    return steps


def read_truth(city: City) -> dict[Mode, NDArray[np.float64]]:
    """True flow of each edge of each mode at 08:00 [1/h], 0 where the file has none."""
    index = {identifier: s for s, identifier in enumerate(city.segment_ids)}
    tables = {m.name.lower(): edges_of(city, m).index_of(city.network.n_segments) for m in MODES}
    truth = {m.name.lower(): np.zeros(edges_of(city, m).n_edges) for m in MODES}
    with gzip.open(city.folder / "truth.csv.gz", "rt", encoding="utf-8") as file:
        names = next(file).strip().split(",")
        place = {
            name: names.index(name) for name in ("segment_id", "direction", "mode", "start_utc", "flow_per_h")
        }
        for line in file:
            if WINDOW not in line:
                continue
            row = line.rstrip("\n").split(",")
            mode = row[place["mode"]]
            direction = int(row[place["direction"]] == "backward")
            edge = tables[mode][index[row[place["segment_id"]]], direction]
            if edge >= 0:
                truth[mode][edge] = float(row[place["flow_per_h"]])
    return {m: truth[m.name.lower()] for m in MODES}


@pytest.mark.slow
def test_counters_take_a_quarter_off_the_priors_error_where_there_is_none(outcome: Outcome) -> None:
    lines = []
    ratio = {}
    for mode in MODES:
        truth = outcome.truth[mode]
        judged = outcome.unsensored[mode] & (truth >= 50)
        before = wape(outcome.prior_flow(mode)[judged], truth[judged])
        after = wape(outcome.columns[mode]["flow_per_h"][judged], truth[judged])
        ratio[mode] = after / before
        lines.append(f"{mode.name.lower()}: {judged.sum()} edges, WAPE prior {before:.3f}, fused {after:.3f}")
    print("\n".join(lines))
    assert ratio[Mode.CAR] <= 0.75, lines
    assert ratio[Mode.TRUCK] <= 0.75, lines
    assert ratio[Mode.BICYCLE] < 1.0, lines


@pytest.mark.slow
def test_intervals_hold_the_truth_about_as_often_as_they_say(outcome: Outcome) -> None:
    for mode, least in ((Mode.CAR, 0.87), (Mode.TRUCK, 0.85), (Mode.BICYCLE, 0.80)):
        truth, column = outcome.truth[mode], outcome.columns[mode]
        held = (column["lo90"] <= truth) & (truth <= column["hi90"])
        assert least <= held[outcome.unsensored[mode]].mean() <= 0.995


@pytest.mark.slow
def test_accuracy_score_is_near_the_share_of_hits(outcome: Outcome) -> None:
    """Conditioned on the estimate, as an operator sees it; calibration by class is not claimed here."""
    truth, column = outcome.truth[Mode.CAR], outcome.columns[Mode.CAR]
    flow = column["flow_per_h"]
    hit = (np.abs(truth - flow) <= 0.15 * flow) | (geh(flow, truth) <= 5)
    shown = outcome.unsensored[Mode.CAR] & (flow >= 50)
    assert column["accuracy"][shown].mean() == pytest.approx(hit[shown].mean(), abs=0.08)
    sure = shown & (column["accuracy"] > 0.8)
    unsure = shown & (column["accuracy"] < 0.5)
    assert hit[sure].mean() > hit[unsure].mean() + 0.25
