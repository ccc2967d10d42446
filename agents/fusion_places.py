"""Where the readings of a batch belong: a counter's row, a pair of cameras, an area."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from cities.pack import Sensor
from kernels.network import Mode
from streams.observation import Source
from streams.readings import NO_TEXT, SOURCE_CODE, SensorPlaces
from streams.topics import Batch

NOT_OF_KIND = -2  # in place of a number: another kind of reading; -1 is one of the kind that nobody knows
_NO_DIRECTION, _OTHER_DIRECTION = -1, -2


class CounterPlaces:
    """Rows of the counters of all modes.

    Parameters
    ----------
    counters : mapping of Mode to sequence of Sensor
        The counter of each row.
    """

    def __init__(self, counters: Mapping[Mode, Sequence[Sensor]]) -> None:
        known = sorted({sensor.id for sensors in counters.values() for sensor in sensors})
        self._sensors = SensorPlaces(known)
        self._directions = sorted({s.direction for sensors in counters.values() for s in sensors})
        # one column more, which an unknown sensor finds, and one row more, which an unknown mode finds
        shape = (max(Mode) + 2, len(known) + 1)
        self._row = np.full(shape, -1, dtype=np.int32)
        self._source = np.full(shape, -1, dtype=np.int8)
        self._direction = np.full(shape, _OTHER_DIRECTION, dtype=np.int32)
        for mode, sensors in counters.items():
            for row, sensor in enumerate(sensors):
                at = mode, self._sensors.place[sensor.id]
                self._row[at] = row
                self._source[at] = SOURCE_CODE[Source(sensor.source)]
                self._direction[at] = self._directions.index(sensor.direction)

    def of(self, batch: Batch) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
        """Mode and row of each reading, (n,) each; row -1 where no counter counts that mode there."""
        c = batch.columns
        at = c["mode"], self._sensors.of(batch, "sensor")
        named = [self._directions.index(d) if d in self._directions else _OTHER_DIRECTION
                 for d in batch.attributes["directions"]]  # fmt: skip
        direction = np.array([*named, _NO_DIRECTION], dtype=np.int32)[c["direction"]]
        fits = (direction == _NO_DIRECTION) | (direction == self._direction[at])
        fits &= self._source[at] == c["source"]
        return c["mode"].copy(), np.where(fits, self._row[at], -1).astype(np.int32)


def variants(batch: Batch) -> NDArray[np.uint32]:
    """Number for what tells readings of one row and interval apart: direction and next sensor, (n,)."""
    directions, sensors = batch.attributes["directions"], batch.attributes["sensors"]
    direction, to_sensor = batch.columns["direction"], batch.columns["to_sensor"]
    both = (direction.astype(np.int64) - NO_TEXT) * (len(sensors) + 1)
    both += np.maximum(to_sensor, NO_TEXT) - NO_TEXT
    found, place = np.unique(both, return_inverse=True)
    number = np.empty(found.size, dtype=np.uint32)
    for k, value in enumerate(found.tolist()):
        d, t = divmod(value, len(sensors) + 1)
        text = f"{directions[d - 1] if d else ''}/{sensors[t - 1] if t else ''}"
        number[k] = crc32(text.encode())
    return number[place]
