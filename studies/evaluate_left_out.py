"""Each counter as all others see it: predictions of its reading without it, and what they are worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.fusion_answers import LeftOut
from cities.pack import City
from kernels.network import Mode
from kernels.prior import OFFSET_PER_H
from kernels.scores import T6_95, crps_log, interval, log_density


def left_out_table(moments: Sequence[Sequence[LeftOut]], mode: Mode, city: City) -> dict[str, Any]:
    """Scores of a mode's counters, left out one site at a time, overall, by source and each.

    Parameters
    ----------
    moments : sequence of sequence
        Readings at the end of each window.
    """
    rows = [row for moment in moments for row in moment if row.mode is mode]
    if not rows:
        return {"n_readings": 0, "by_source": [], "sensors": []}
    residual = np.array([row.log_residual for row in rows])
    sd = np.maximum(np.array([row.log_sd for row in rows]), 1e-6)
    reading = np.array([row.reading_per_h for row in rows])
    expected = np.array([row.expected_per_h for row in rows])
    centre = np.log(reading + OFFSET_PER_H) - residual
    lo90, hi90 = interval(centre, sd, T6_95)
    values = {
        "reading": reading,
        "expected": expected,
        "lo90": lo90,
        "hi90": hi90,
        "inside": ((reading >= lo90) & (reading <= hi90)).astype(np.float64),
        "log_score": log_density(residual / sd, sd),
        "crps_log": crps_log(centre, sd, reading),
        "error": np.abs(reading - expected),
        "log_error": np.abs(residual),
    }
    source = np.array([row.source for row in rows])
    sensor = np.array([row.sensor for row in rows])
    return {
        **_summary(values, np.ones(len(rows), dtype=np.bool_)),
        "by_source": [{"source": str(s), **_summary(values, source == s)} for s in np.unique(source)],
        "sensors": _by_sensor(values, sensor, source, mode, city),
    }


def _summary(values: dict[str, NDArray[np.float64]], at: NDArray[np.bool_]) -> dict[str, Any]:
    return {
        "n_readings": int(at.sum()),
        "coverage_90": float(values["inside"][at].mean()),
        "log_score_nats": float(values["log_score"][at].mean()),
        "crps_log": float(values["crps_log"][at].mean()),
        "median_error_per_h": float(np.median(values["error"][at])),
        "median_log_error": float(np.median(values["log_error"][at])),
    }


def _by_sensor(
    values: dict[str, NDArray[np.float64]],
    sensor: NDArray[np.str_],
    source: NDArray[np.str_],
    mode: Mode,
    city: City,
) -> list[dict[str, Any]]:
    """Means of each counter over the windows, real counters first."""
    names, first, of = np.unique(sensor, return_index=True, return_inverse=True)
    number = np.bincount(of)
    mean = {name: np.bincount(of, value) / number for name, value in values.items()}
    is_simulated = {s.id: s.simulated for s in city.sensors}
    found = [
        {
            "sensor": str(name),
            "source": str(source[first[k]]),
            "mode": mode.name.lower(),
            "simulated": is_simulated.get(str(name), True),
            "n_readings": int(number[k]),
            "reading_per_h": float(mean["reading"][k]),
            "expected_per_h": float(mean["expected"][k]),
            "lo90_per_h": float(mean["lo90"][k]),
            "hi90_per_h": float(mean["hi90"][k]),
            "share_inside_90": float(mean["inside"][k]),
        }
        for k, name in enumerate(names)
    ]
    return sorted(found, key=lambda row: (row["simulated"], row["sensor"]))
