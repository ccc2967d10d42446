"""What is different in the stressed truth: a city that an estimator's assumptions fit badly.

It has the streets of the other truth and another seed, so other zones, tastes, speeds and capacities of
streets; whole classes are 25 % faster or slower; land use varies more; trips have other lengths. Bicycles
likewise. A conclusion that holds in one of the two truths only is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from studies.truth_demand import LAND_USE_LOG_SD, PURPOSE_TRIPS
from studies.truth_network import N_CLASSES

STRESSED_SEED_STEP = 1_000  # added to the seed of the city
CLASS_OFF = 1.25
STRESSED_LAND_USE_LOG_SD = (0.8, 1.2)
SHORTEST, LONGEST = 0.6, 1.6  # of the length of a purpose's trips


@dataclass(frozen=True, slots=True)
class Stress:
    """Factors on what the truth assumes.

    Attributes
    ----------
    speed, bicycle_felt : (N_CLASSES,) float64
        On the speed of motor traffic and the felt time of bicycles, by class of road.
    trip_length : mapping
        On the mean length of trips of a purpose, and of ``bicycle``.
    land_use_log_sd : (float, float)
        Of the homes and the jobs of a zone.
    """

    speed: NDArray[np.float64]
    bicycle_felt: NDArray[np.float64]
    trip_length: Mapping[str, float]
    land_use_log_sd: tuple[float, float]


UNSTRESSED = Stress(np.ones(N_CLASSES), np.ones(N_CLASSES), MappingProxyType({}), LAND_USE_LOG_SD)


def draw_stress(seed: int) -> Stress:
    """Class by class 25 % faster or slower, and trips of 0.6 to 1.6 times the length, purpose by purpose."""
    rng = np.random.default_rng([seed, 9])
    faster_or_slower = np.where(np.arange(N_CLASSES) % 2 == 0, 1.0, -1.0)  # half of the classes each
    speed, felt = (CLASS_OFF ** rng.permutation(faster_or_slower) for _ in range(2))
    purposes = [purpose for purpose in (*PURPOSE_TRIPS, "bicycle") if "through" not in purpose]
    length = rng.permutation(np.geomspace(SHORTEST, LONGEST, len(purposes)))
    trip_length = dict(zip(purposes, length.tolist(), strict=True))
    return Stress(speed, felt, MappingProxyType(trip_length), STRESSED_LAND_USE_LOG_SD)
