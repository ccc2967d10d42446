"""Traffic of a study: flows by segment, period and mode, and what they emit."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cities.pack import City
from cities.road_noise import RoadNoise, road_noise_of
from kernels.cnossos import RoadCorrections, sound_power
from kernels.cnossos_coefficients import CoefficientSet
from kernels.emission import N_POLLUTANTS, VehicleClass, add_emission, regime_codes
from kernels.network import Direction, Mode
from kernels.periods import Period
from studies.study_tables import StudyError, read_rows

REQUIRED = ("segment_id", "period", "mode", "flow_per_h", "speed_kmh")
OPTIONAL = ("direction",)
PERIODS = {period.name.lower(): period for period in Period}
N_PERIODS = len(PERIODS)
MODES = {mode.name.lower(): mode for mode in Mode}
MOTOR = (Mode.CAR, Mode.TRUCK, Mode.BUS, Mode.MOTORCYCLE)
DIRECTIONS = ("", "both", "forward", "backward")
MAX_SPEED_KMH = 250.0
MAX_FLOW_PER_H = 100_000.0


@dataclass(frozen=True, slots=True)
class StudyTraffic:
    """Rows of motor traffic; each array (n,).

    Attributes
    ----------
    segment, period, mode : int64
        Index into the city's network, codes of :class:`kernels.periods.Period` and ``Mode``.
    flow_per_h, speed_kmh : float64
        The speed is that of the segment where the file has none.
    n_rows : int
        Of the file.
    n_without_speed : int
        Rows that took the speed of their segment.
    ignored : dict
        Rows of modes that neither sound nor smell, by mode.
    has_direction : bool
        The file tells directions; they were added.
    """

    segment: NDArray[np.int64]
    period: NDArray[np.int64]
    mode: NDArray[np.int64]
    flow_per_h: NDArray[np.float64]
    speed_kmh: NDArray[np.float64]
    n_rows: int
    n_without_speed: int
    ignored: dict[str, int]
    has_direction: bool

    @property
    def has_period(self) -> NDArray[np.bool_]:
        """Whether the file says anything of each period, (3,)."""
        return np.bincount(self.period, minlength=N_PERIODS) > 0


def read_traffic(path: Path, city: City) -> StudyTraffic:
    """Traffic of a file for a city.

    Raises
    ------
    StudyError
        Naming file, line, column and value.
    """
    rows, columns = read_rows(path, REQUIRED, OPTIONAL)
    index = {name: s for s, name in enumerate(city.segment_ids)}
    seen: dict[tuple[int, int, int, str], int] = {}
    ignored: Counter[str] = Counter()
    kept: list[tuple[int, int, int, float, float]] = []
    n_rows = n_without_speed = 0
    unknown: dict[str, int] = {}
    for row in rows:
        n_rows += 1
        name = row.text("segment_id")
        segment = index.get(name, -1)
        if segment < 0:  # looked for to the end, for all of them are told
            unknown.setdefault(name, row.line)
        period = PERIODS.get(row.values["period"])
        if period is None:
            raise row.error("period", f"one of {', '.join(PERIODS)}")
        mode = MODES.get(row.values["mode"])
        if mode is None:
            raise row.error("mode", f"one of {', '.join(MODES)}")
        flow = row.number("flow_per_h", 0.0, MAX_FLOW_PER_H, what="vehicles an hour")
        if row.values["speed_kmh"]:
            speed = row.number("speed_kmh", 0.0, MAX_SPEED_KMH, is_above=True, what="km/h, or nothing")
        else:
            speed = float(city.speed_kmh[segment])
            n_without_speed += mode in MOTOR
        direction = row.values.get("direction", "")
        if direction not in DIRECTIONS:
            raise row.error("direction", "both, forward, backward, or nothing")
        key = (segment, int(period), int(mode), direction)
        if segment >= 0 and seen.setdefault(key, row.line) != row.line:
            raise row.error(
                "segment_id", f"each segment, period, mode and direction once; it is in line {seen[key]} too"
            )
        if mode in MOTOR:
            kept.append((segment, int(period), int(mode), flow, speed))
        else:
            ignored[mode.name.lower()] += 1
    if unknown:
        first, line = next(iter(unknown.items()))
        more = f"; so are {len(unknown) - 1} other segments" if len(unknown) > 1 else ""
        raise StudyError(
            f"{path}: line {line}: segment_id: got {first!r}, expected a segment of {city.name}, as "
            f"{city.segment_ids[0]!r}; it is not in network.geojson{more}"
        )
    if not kept:
        raise StudyError(f"{path}: holds no row of {', '.join(m.name.lower() for m in MOTOR)}")
    segments, periods, modes, flows, speeds = (np.array(column) for column in zip(*kept, strict=True))
    return StudyTraffic(
        segments.astype(np.int64), periods.astype(np.int64), modes.astype(np.int64),
        flows.astype(np.float64), speeds.astype(np.float64), n_rows, n_without_speed,
        dict(sorted(ignored.items())), "direction" in columns,
    )  # fmt: skip


def traffic_power(
    city: City,
    traffic: StudyTraffic,
    surface: NDArray[np.int8],
    temperature_c: float,
    coefficients: CoefficientSet,
) -> NDArray[np.float64]:
    """Sound power of a metre of each segment in each period and octave band, (n_segments, 3, 8) [pW/m].

    As in the control room: trucks are of categories 2 and 3 by the share of the class of road, buses of
    category 2; gradients, junctions and studded tyres are those of the city. The flow of a segment is shared
    evenly among the directions that are open to motor traffic. Motorcycles are of category 4b.

    Parameters
    ----------
    city : City
    traffic : StudyTraffic
    surface : (n_segments,) int8
        Rows of the set of coefficients.
    temperature_c : float
    coefficients : CoefficientSet

    Raises
    ------
    StudyError
        When the city has studded tyres and the coefficients have none.
    """
    road = road_noise_of(city)
    if road.studded_share > 0.0 and not coefficients.has_studded_tyres:
        raise StudyError(
            f"--coefficients: got {coefficients.name}, which have none for studded tyres; "
            "city.toml [noise] has a studded_share"
        )
    power = np.zeros((city.network.n_segments, N_PERIODS, 8))
    parts = _parts(city, road)
    medium_share = city.class_values("truck_medium_share").astype(np.float64)
    for mode, category, share in (
        (Mode.CAR, "1", None),
        (Mode.TRUCK, "2", medium_share),
        (Mode.TRUCK, "3", 1.0 - medium_share),
        (Mode.BUS, "2", None),
        (Mode.MOTORCYCLE, "4b", None),
    ):
        at = np.flatnonzero((traffic.mode == mode) & (traffic.flow_per_h > 0.0))
        segment = traffic.segment[at]
        flow = traffic.flow_per_h[at] * (1.0 if share is None else share[segment])
        for part, corrections in parts:
            level = sound_power(
                flow * part[segment], traffic.speed_kmh[at], category, surface[segment], temperature_c,
                coefficients=coefficients, corrections=_of_rows(corrections, segment),
            )  # fmt: skip
            np.add.at(power, (segment, traffic.period[at]), 10.0 ** (level / 10.0))
    return power


def _parts(city: City, road: RoadNoise) -> list[tuple[NDArray[np.float64], RoadCorrections | None]]:
    """Share of the flow of each segment that drives in a direction (n_segments,), and its corrections."""
    corrections = [road.corrections(direction) for direction in Direction]
    n = city.network.n_segments
    if corrections[0] is None:
        return [(np.ones(n), None)]
    is_open = np.zeros((n, 2), dtype=np.bool_)
    is_open[city.car_edges.segment, city.car_edges.direction] = True
    is_open[~is_open.any(axis=1)] = True  # traffic where the network allows none
    share = is_open / is_open.sum(axis=1, keepdims=True)
    return [(share[:, d], corrections[d]) for d in Direction]


def _of_rows(corrections: RoadCorrections | None, segment: NDArray[np.int64]) -> RoadCorrections | None:
    if corrections is None:
        return None
    return corrections._replace(
        rolling=corrections.rolling[segment],
        propulsion=corrections.propulsion[segment],
        propulsion_per_kmh=corrections.propulsion_per_kmh[segment],
    )


def traffic_emission(city: City, traffic: StudyTraffic) -> NDArray[np.float64]:
    """Emission of pollutants of each segment in each period, (n_segments, 3, 4) [ug/m/s].

    As in the control room; motorcycles are not in the tables of emission factors and are not added.
    """
    emission = np.zeros((city.network.n_segments, N_PERIODS, N_POLLUTANTS))
    regime = regime_codes([str(r) for r in city.class_values("regime")])
    factors = city.emission.of_segments(regime, city.speed_kmh)
    medium_share = city.class_values("truck_medium_share").astype(np.float64)
    for mode, vehicle, share in (
        (Mode.CAR, VehicleClass.LIGHT, None),
        (Mode.TRUCK, VehicleClass.MEDIUM, medium_share),
        (Mode.TRUCK, VehicleClass.HEAVY, 1.0 - medium_share),
        (Mode.BUS, VehicleClass.BUS, None),
    ):
        at = np.flatnonzero(traffic.mode == mode)
        segment = traffic.segment[at]
        flow = traffic.flow_per_h[at] * (1.0 if share is None else share[segment])
        part = np.zeros((at.size, N_POLLUTANTS))
        add_emission(
            part, flow, traffic.speed_kmh[at], city.speed_kmh[segment], factors.flowing_row[segment],
            factors.stagnating_row[segment], factors.g_per_km[vehicle],
        )  # fmt: skip
        np.add.at(emission, (segment, traffic.period[at]), part)
    return emission
