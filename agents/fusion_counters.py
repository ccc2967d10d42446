"""Which counters see which edges, and what is known of each kind of counter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from cities.pack import City, Sensor
from kernels.network import DirectedEdges, Direction, Mode
from kernels.prior import OFFSET_PER_H, REFERENCE_SCALE, ModePrior
from streams.observation import Source


@dataclass(frozen=True, slots=True)
class Instrument:
    """What a kind of counter is known for.

    ``detection`` is the share of vehicles it counts, ``relative_sd`` the error of a count beyond chance, and
    ``gain_sd`` the spread of an unknown gain that one site keeps (log).
    """

    detection: float
    relative_sd: float
    gain_sd: float = 0.0


INSTRUMENTS = {
    Source.LOOPS: Instrument(0.98, 0.05),
    Source.RADAR: Instrument(0.98, 0.05),
    Source.COUNTER: Instrument(1.0, 0.05),
    Source.ANPR: Instrument(0.94, 0.05),
    Source.TELRAAM: Instrument(0.90, 0.15, 0.4),
}


@dataclass(frozen=True, slots=True)
class CounterRows:
    """One row for each counter that sees a mode, sorted by sensor id.

    Attributes
    ----------
    mode : Mode
    sensors : tuple of Sensor
    matrix : (n_rows, n_edges) sparse
        H: the reading's x as a mix of the x of its edges, linearised around the prior.
    sees : (n_rows, n_edges) sparse
        1 where the row counts the edge: H of the flows themselves.
    site : (n_rows,) int64
        Counters on one segment from one source are one site.
    xy : (n_rows, 2) float64
        Middle of the segment [m].
    detection, relative_sd, gain_sd : (n_rows,) float64
    """

    mode: Mode
    sensors: tuple[Sensor, ...]
    matrix: csr_array
    sees: csr_array
    site: NDArray[np.int64]
    xy: NDArray[np.float64]
    detection: NDArray[np.float64]
    relative_sd: NDArray[np.float64]
    gain_sd: NDArray[np.float64]

    @property
    def n_rows(self) -> int:
        return len(self.sensors)


def counter_rows(
    city: City, mode: Mode, edges: DirectedEdges, prior: ModePrior, middles: NDArray[np.float64]
) -> CounterRows:
    """Rows of all point counters of a mode; a counter without an edge of the mode has none.

    ``middles`` are the midpoints of all segments, (n_segments, 2) [m].
    """
    index = edges.index_of(city.network.n_segments)
    sensors: list[Sensor] = []
    row: list[int] = []
    column: list[int] = []
    for sensor in sorted(city.sensors, key=lambda s: s.id):
        if sensor.source not in INSTRUMENTS or sensor.segment < 0:
            continue
        if sensor.modes and mode.name.lower() not in sensor.modes:
            continue
        seen = [int(e) for e in index[sensor.segment, _directions(sensor)] if e >= 0]
        if seen:
            row += [len(sensors)] * len(seen)
            column += seen
            sensors.append(sensor)
    shape = (len(sensors), edges.n_edges)
    sees = coo_array((np.ones(len(row)), (np.array(row, int), np.array(column, int))), shape=shape).tocsr()
    flow = prior.flow_per_h.astype(np.float64) * REFERENCE_SCALE
    each = coo_array(sees).copy()
    each.data = (flow[each.col] + OFFSET_PER_H) / ((sees @ flow)[each.row] + OFFSET_PER_H)
    kinds = [INSTRUMENTS[Source(s.source)] for s in sensors]
    places = [(s.source, s.segment) for s in sensors]
    numbers = {place: n for n, place in enumerate(sorted(set(places)))}
    return CounterRows(
        mode=mode,
        sensors=tuple(sensors),
        matrix=each.tocsr(),
        sees=sees,
        site=np.array([numbers[p] for p in places], dtype=np.int64),
        xy=middles[np.array([s.segment for s in sensors], dtype=np.int64)].reshape(-1, 2),
        detection=np.array([k.detection for k in kinds], dtype=np.float64),
        relative_sd=np.array([k.relative_sd for k in kinds], dtype=np.float64),
        gain_sd=np.array([k.gain_sd for k in kinds], dtype=np.float64),
    )


def _directions(sensor: Sensor) -> list[int]:
    if sensor.direction == "forward":
        return [int(Direction.FORWARD)]
    if sensor.direction == "backward":
        return [int(Direction.BACKWARD)]
    return [int(Direction.FORWARD), int(Direction.BACKWARD)]
