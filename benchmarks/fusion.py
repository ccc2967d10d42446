"""Worth and cost of the fusion: random counters on two simulated truths of Ghent, and the time of a step.

A step's means must read the covariances of all edges with all counters once, so memory bandwidth, measured in
the same run by a copy, bounds them.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from agents.fusion import FusionAgent
from agents.fusion_covariance import edges_of
from agents.fusion_mode import ModeFusion
from benchmarks.fusion_scenario import Flows, Readings, with_counters, with_references
from cities.pack import City, find_city, load_city
from kernels.assignment import edge_graph
from kernels.kriging import Kriging, posterior_shift, posterior_variance, solve
from kernels.network import Mode
from kernels.prior import Prior, probe_log_flow
from kernels.scores import calibration_error, wape, within_band
from streams.observation import time_ms
from streams.topics import Batch
from studies.demand import build_zones
from studies.evaluate_truth import read_truth
from studies.land_use import read_land_use
from studies.prior import MEMBERS, draw_member, prepare_prior

DATA = Path(__file__).with_name("data")
TRUTHS = {"B": "truth_open", "C": "truth_stressed"}
TRUTH_MS = time_ms("2022-11-23T06:52:30Z")  # middle of the truths' quarter of an hour
LAST_MS = time_ms("2022-11-23T06:53:00Z")
STEPS = 12  # every counter is judged twice and every variance renewed
MINUTE_MS = 60_000
PLACEMENTS = 3
TILES = 4
SHARES = (0.01, 0.02, 0.10)
JUDGED = (Mode.CAR, Mode.TRUCK, Mode.BICYCLE)
LARGE = 200  # edges of a class whose coverage is quoted
PROBE_SHARE, PROBE_HOURS = 0.01, 20.0
GAIN_SITES = 60
GAIN_FROM_MS, GAIN_TO_MS = time_ms("2022-11-23T08:00:00Z"), time_ms("2022-11-23T12:00:00Z")


def run(city_name: str = "ghent") -> dict[str, float | str]:
    """Every row of the table; names end in the truth, B or C, and the unit where there is one."""
    city = load_city(find_city(city_name))
    full, compact = prepare_prior(city, _silent, compact=False), _bundled(city)
    truths = {name: _truth(city, file) for name, file in TRUTHS.items()}
    figures: dict[str, float | str] = {"city": city.name, "prior": full.revision, "compact": compact.revision}
    with threadpool_limits(limits=1, user_api="blas"):
        for name, truth in truths.items():
            figures |= _sensorless(city, full, truth, name)
            figures |= _averaged([_scores(city, full, truth, 0.05, seed) for seed in range(PLACEMENTS)], name)
        for share in SHARES:
            for name, truth in truths.items():
                scores = _scores(city, full, truth, share, 0)
                for mode in ("car", "bicycle"):
                    figures[f"{name}_{share:.0%}_{mode}_wape"] = scores[f"{mode}_wape"]
                figures[f"{name}_{share:.0%}_car_coverage_90"] = scores["car_coverage_90"]
        for name, truth in truths.items():
            figures[f"{name}_5%_compact_car_wape"] = _scores(city, compact, truth, 0.05, 0)["car_wape"]
            probed = _with_probes(city, full, f"past_days{'_stressed' if name == 'C' else ''}")
            figures[f"{name}_5%_probes_car_wape"] = _scores(city, probed, truth, 0.05, 0)["car_wape"]
        figures |= _gains(city, full, truths["B"])
        figures |= _cost(city, full, truths["B"])
        figures |= _preparation(city)
    return figures


def _silent(_what: str, _part: float) -> None:
    pass


def _bundled(city: City) -> Prior:
    """The pack's own compact form, whatever the cache holds."""
    with _empty_cache():
        return prepare_prior(city, _silent)


@contextmanager
def _empty_cache() -> Iterator[None]:
    """A cache of its own: a scenario's covariances are of no use to anyone later."""
    before = os.environ.get("TWINROOM_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TWINROOM_CACHE"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["TWINROOM_CACHE"]
            else:
                os.environ["TWINROOM_CACHE"] = before


def _truth(city: City, file: str) -> Flows:
    truth = read_truth(DATA / city.name / f"{file}.csv.gz", city, 15)
    flows = {}
    for mode in JUDGED:
        edges = edges_of(city, mode)
        of_mode = truth.mode == int(mode)
        edge = edges.index_of(city.network.n_segments)[truth.segment[of_mode], truth.direction[of_mode]]
        flows[mode] = np.zeros(edges.n_edges)
        flows[mode][edge] = truth.flow_per_h[of_mode]
    return flows


def _with_probes(city: City, prior: Prior, file: str) -> Prior:
    """The prior with a history of floating cars: 1 % of all, one hour on each of 20 days."""
    flow = _truth(city, file)[Mode.CAR]
    vehicles = np.random.default_rng(11).poisson(PROBE_SHARE * PROBE_HOURS * flow).astype(np.float64)
    car = prior.modes[Mode.CAR]
    known = replace(car, probe_log_flow=probe_log_flow(vehicles, PROBE_HOURS, car.flow_per_h))
    return replace(prior, modes={**prior.modes, Mode.CAR: known})


def _sensorless(city: City, prior: Prior, truth: Flows, name: str) -> dict[str, float | str]:
    """Error of the assignment alone, scaled by the profile."""
    scale = Readings(city, truth, TRUTH_MS, 0)
    found: dict[str, float | str] = {}
    for mode in JUDGED:
        flow = prior.modes[mode].flow_per_h.astype(np.float64) * scale.of_hour(mode)
        at = truth[mode] >= 50.0
        found[f"{name}_0%_{mode.name.lower()}_wape"] = wape(flow[at], truth[mode][at])
    return found


@dataclass(frozen=True, slots=True)
class _Played:
    """An agent after its last step, with what it published for each mode, in order of its edges."""

    city: City
    agent: FusionAgent
    columns: Mapping[Mode, Mapping[str, NDArray[np.float64]]]
    step_s: float


def _play(city: City, prior: Prior, truth: Flows, seed: int) -> _Played:
    agent = FusionAgent(city, prior)
    readings = Readings(city, truth, TRUTH_MS, seed)
    first_ms = LAST_MS - (STEPS - 1) * MINUTE_MS
    seconds = []
    batches: Sequence[Batch] = ()
    for end_ms in range(first_ms, LAST_MS + 1, MINUTE_MS):
        since_ms = first_ms - 60 * MINUTE_MS if end_ms == first_ms else None
        agent.receive(readings.batch(end_ms, since_ms=since_ms))
        started = time.perf_counter()
        batches = agent.close(end_ms)
        seconds.append(time.perf_counter() - started)
    table = {n: np.concatenate([b.columns[n] for b in batches]) for n in batches[0].columns}
    columns = {}
    for mode in truth:
        at = np.flatnonzero(table["mode"] == int(mode))
        at = at[np.lexsort((table["direction"][at], table["segment"][at]))]
        columns[mode] = {n: values[at].astype(np.float64) for n, values in table.items()}
    return _Played(city, agent, columns, median(seconds[1:]))


def _scores(city: City, prior: Prior, truth: Flows, share: float, seed: int) -> dict[str, float]:
    """Scores on edges without a counter, by mode."""
    scene = with_counters(city, prior, share, np.random.default_rng([seed, 1]))
    with _empty_cache():
        played = _play(scene, prior, truth, seed)
    found: dict[str, float] = {}
    for mode in JUDGED:
        name, edges, column = mode.name.lower(), edges_of(city, mode), played.columns[mode]
        index = edges.index_of(city.network.n_segments)
        free = np.ones(edges.n_edges, dtype=np.bool_)
        for s in scene.sensors:
            if name in s.modes:
                free[index[s.segment, ("forward", "backward").index(s.direction)]] = False
        road_class = city.road_class[edges.segment]
        flow, true = column["flow_per_h"], truth[mode]
        judged = free & (true >= 50.0)
        found[f"{name}_wape"] = wape(flow[judged], true[judged])
        main = judged & (road_class <= np.median(np.unique(road_class)))
        found[f"{name}_wape_upper_classes"] = wape(flow[main], true[main])
        held = (column["lo90"] <= true) & (true <= column["hi90"])
        found[f"{name}_coverage_90"] = float(held[free].mean())
        inner = (column["lo50"] <= true) & (true <= column["hi50"])
        found[f"{name}_coverage_50"] = float(inner[free].mean())
        classes = [c for c in np.unique(road_class) if (free & (road_class == c)).sum() > LARGE]
        by_class = [float(held[free & (road_class == c)].mean()) for c in classes]
        tenth = np.searchsorted(np.quantile(flow[free], np.arange(1, 10) / 10), flow, side="right")
        by_tenth = [float(held[free & (tenth == k)].mean()) for k in np.unique(tenth[free])]
        for label, parts in (("class", by_class), ("tenth", by_tenth)):
            found[f"{name}_coverage_90_least_{label}"] = min(parts)
            found[f"{name}_coverage_90_most_{label}"] = max(parts)
        hit, score = within_band(flow, true), column["accuracy"]
        sure = free & (flow >= 50.0)
        found[f"{name}_ece"] = calibration_error(score[free], hit[free])
        found[f"{name}_ece_estimate_at_least_50"] = calibration_error(score[sure], hit[sure])
        found[f"{name}_mean_score_estimate_at_least_50"] = float(score[sure].mean())
    return found


def _averaged(scores: list[dict[str, float]], name: str) -> dict[str, float | str]:
    """Means over placements, and the extremes of what is an extreme."""
    found: dict[str, float | str] = {}
    for key in scores[0]:
        values = [s[key] for s in scores]
        best = min if "_least_" in key else max if "_most_" in key else fmean
        found[f"{name}_5%_{key}"] = float(best(values))
    return found


def _gains(city: City, prior: Prior, truth: Flows) -> dict[str, float | str]:
    """What is known of the gains of citizens' cameras after four hours, some with a loop beside them."""
    rng = np.random.default_rng(5)
    scene = with_references(with_counters(city, prior, 0.05, rng), GAIN_SITES, rng)
    readings = Readings(scene, truth, TRUTH_MS, 5)
    with _empty_cache():
        agent = FusionAgent(scene, prior)
        for end_ms in range(GAIN_FROM_MS, GAIN_TO_MS, MINUTE_MS):
            agent.receive(readings.batch(end_ms))
            agent.warm_up(end_ms)
        agent.receive(readings.batch(GAIN_TO_MS))
        agent.close(GAIN_TO_MS)
    beside: list[tuple[float, float]] = []
    elsewhere: list[tuple[float, float]] = []
    for gain in agent.gains():
        if gain.mode is Mode.CAR:
            error = gain.log_gain - readings.log_gain[gain.segment]
            (beside if gain.has_reference else elsewhere).append((error, gain.log_sd))
    near, far = np.array(beside), np.array(elsewhere)
    return {
        "gain_sites_with_reference": float(len(near)),
        "gain_with_reference_within_15%_share": float((np.abs(np.expm1(near[:, 0])) <= 0.15).mean()),
        "gain_with_reference_coverage_90": float((np.abs(near[:, 0]) <= 1.645 * near[:, 1]).mean()),
        "gain_elsewhere_within_15%_share": float((np.abs(np.expm1(far[:, 0])) <= 0.15).mean()),
        "gain_elsewhere_coverage_90": float((np.abs(far[:, 0]) <= 1.645 * far[:, 1]).mean()),
    }


def _cost(city: City, prior: Prior, truth: Flows) -> dict[str, float | str]:
    """Time of a step of all modes with 5 % of the edges counted, and of all their variances."""
    scene = with_counters(city, prior, 0.05, np.random.default_rng([0, 1]))
    with _empty_cache():
        played = _play(scene, prior, truth, 0)
        fusions = played.agent.modes()
        krigings = [f.kriging for f in fusions]
        read_bytes = float(sum(k.k_es.nbytes for k in krigings))
        variances_s = 0.0
        for fusion in fusions:
            r = fusion.readings(LAST_MS, 1.0)
            if r.active.size:
                solution = solve(fusion.kriging, r.active, r.deviation, r.noise, r.carry)
                started = time.perf_counter()
                posterior_variance(fusion.kriging, solution, slice(0, fusion.variance.size))
                variances_s += time.perf_counter() - started
        tiled = _tiled(fusions[0])
    copy = _copy_bytes_per_s()
    return tiled | {
        "edges_of_all_modes": float(sum(f.variance.size for f in fusions)),
        "counter_rows_of_all_modes": float(sum(f.counters.n_rows for f in fusions)),
        "step_s": played.step_s,
        "all_variances_s": variances_s,
        "covariances_mb": read_bytes / 1e6,
        "memory_copy_bytes_per_s": copy,
        "step_bound_s": read_bytes / copy,
        "step_over_bound_ratio": played.step_s * copy / read_bytes,
    }


def _tiled(fusion: ModeFusion) -> dict[str, float | str]:
    """Means of cars in four such cities side by side, each seeing the others a little, as one solve."""
    r = fusion.readings(LAST_MS, 1.0)
    between = 0.2 + 0.8 * np.eye(TILES)
    kriging = Kriging(
        np.kron(between, fusion.kriging.k_es[:, r.active]).astype(np.float32),
        np.kron(between, fusion.kriging.k_ss[np.ix_(r.active, r.active)]).astype(np.float64),
        np.tile(fusion.kriging.variance, TILES),
    )
    rows = np.arange(r.active.size * TILES)
    noise = np.kron(np.eye(TILES), r.noise).astype(np.float64)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        solution = solve(kriging, rows, np.tile(r.deviation, TILES), noise, np.tile(r.carry, TILES))
        posterior_shift(kriging, solution)
        seconds.append(time.perf_counter() - started)
    return {
        "tiled_car_edges": float(kriging.variance.size),
        "tiled_car_counter_rows": float(rows.size),
        "tiled_car_means_s": median(seconds),
    }


def _preparation(city: City) -> dict[str, float | str]:
    """Processor time of a member of the ensemble, and what the whole takes on the cores of this machine."""
    land_use, total_s = read_land_use(city), 0.0
    found: dict[str, float | str] = {}
    for mode, n_members in MEMBERS.items():
        graph = edge_graph(edges_of(city, mode), city.network.n_nodes)
        zones = build_zones(city, mode, land_use)
        draw_member(city, mode, graph, zones, 0)  # compiles
        started = time.process_time()
        for member in range(1, 4):
            draw_member(city, mode, graph, zones, member)
        each_s = (time.process_time() - started) / 3.0
        total_s += each_s * n_members
        found[f"prepare_{mode.name.lower()}_member_cpu_s"] = each_s
    return found | {"prepare_all_members_s_on_all_cores": total_s / (os.cpu_count() or 1)}


def _copy_bytes_per_s() -> float:
    """Bytes read and written a second by one thread that copies a large array."""
    source = np.ones(1 << 27, dtype=np.uint8)
    target = np.zeros_like(source)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        np.copyto(target, source)
        seconds.append(time.perf_counter() - started)
    return 2.0 * source.nbytes / median(seconds)
