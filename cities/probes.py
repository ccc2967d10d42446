"""A history of floating cars (probes): how many of them passed each street.

``probes.csv`` of a pack has segment_id, direction, vehicles and hours: passages of one fleet over so many
hours of past weekdays. What share of all cars they are need not be known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cities.pack import City, CityError
from kernels.network import Direction

COLUMNS = ("segment_id", "direction", "vehicles", "hours")


@dataclass(frozen=True, slots=True)
class Probes:
    """Passages on each directed edge, (n_segments, 2), and the hours over which they were counted."""

    vehicles: NDArray[np.float64]
    hours: float


def read_probes(city: City) -> Probes | None:
    """Floating cars of a pack, None when it has none.

    Raises
    ------
    CityError
        Naming line, field and value.
    """
    path = city.folder / "probes.csv"
    if not path.is_file():
        return None
    table = pd.read_csv(path, dtype={"segment_id": str, "direction": str})
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise CityError(f"{path}: {', '.join(missing)}: got no such column, expected {', '.join(COLUMNS)}")
    segments = {name: s for s, name in enumerate(city.segment_ids)}
    checks = {
        "segment_id": (table.segment_id.isin(segments), "an id of network.geojson"),
        "direction": (table.direction.isin([d.name.lower() for d in Direction]), "forward or backward"),
        "vehicles": (table.vehicles >= 0, "at least 0"),
        "hours": (
            (table.hours > 0) & (table.hours == table.hours.iloc[0]),
            "one number above 0",
        ),
    }
    for name, (is_well, expected) in checks.items():
        if not is_well.all():
            row = int(np.argmax(~is_well.to_numpy()))
            raise CityError(
                f"{path}: line {row + 2}: {name}: got {table[name].iloc[row]}, expected {expected}"
            )
    vehicles = np.zeros((city.network.n_segments, 2))
    direction = (table.direction == Direction.BACKWARD.name.lower()).to_numpy(dtype=np.int64)
    np.add.at(vehicles, (table.segment_id.map(segments).to_numpy(), direction), table.vehicles.to_numpy())
    return Probes(vehicles, float(table.hours.iloc[0]))
