"""Topics and the batch of rows that flows on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

VERSION = 1


class Topic(StrEnum):
    OBSERVATIONS = "observations"
    OPERATOR_ACTIONS = "operator_actions"
    DENSITIES = "densities"
    EMISSIONS = "emissions"
    FIELDS = "fields"
    EXPOSURE = "exposure"
    ALARMS = "alarms"
    DEADLETTERS = "deadletters"


@dataclass(frozen=True, slots=True)
class Batch:
    """A columnar table of rows of one kind.

    Attributes
    ----------
    topic : Topic
    key : str
        The entity the rows describe (a tile, a zone, a rule).
    time_ms : int
        Event time: the end of the step that made the rows [ms since the epoch, UTC].
    revision : int
        Rises when the same key and time are published again; readers keep the highest.
    columns : mapping of name to array
        Arrays of equal length; the columns of each topic are listed in docs/topics.md.
    attributes : mapping
        What holds for all rows: scale, method, units.
    """

    topic: Topic
    key: str
    time_ms: int
    columns: Mapping[str, NDArray[Any]]
    revision: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_rows(self) -> int:
        for column in self.columns.values():
            return int(np.shape(column)[0])
        return 0
