"""What is known of a city before any sensor speaks: prior, air columns, noise transfers."""

from __future__ import annotations

from dataclasses import dataclass

from cities.cache import Progress
from cities.pack import City
from kernels.air_columns import AirColumns
from kernels.prior import Prior
from kernels.transfer import NoiseTransfers
from studies.air_columns import prepare_air
from studies.noise_transfers import prepare_noise
from studies.prior import prepare_prior


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that the agents need besides the city pack; cached by a hash of what it was made from."""

    prior: Prior
    air: AirColumns
    noise: NoiseTransfers


def prepare_city(city: City, progress: Progress, *, compact: bool = True) -> Prepared:
    """Make or load all of it; a second call takes seconds.

    Unless ``compact``, the prior is made in its full form even where the pack brings a compact one.
    """
    return Prepared(
        prior=prepare_prior(city, progress, compact=compact),
        air=prepare_air(city, progress),
        noise=prepare_noise(city, progress),
    )
