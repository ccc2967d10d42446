"""The agents of a control room, upstream before downstream."""

from __future__ import annotations

from agents.agent import Agent
from agents.air import AirAgent
from agents.alarms import AlarmsAgent
from agents.emission import EmissionAgent
from agents.exposure import ExposureAgent
from agents.fusion import FusionAgent
from agents.noise import NoiseAgent
from cities.pack import City
from cities.rules import load_rules
from kernels.air_columns import AirColumns
from kernels.prior import Prior
from kernels.transfer import NoiseTransfers


def make_agents(city: City, prior: Prior, air: AirColumns, noise: NoiseTransfers) -> tuple[Agent, ...]:
    """Agents of one city, in the order in which their steps close.

    Raises
    ------
    cities.pack.CityError
        When the rules of the city cannot be read.
    """
    return (
        FusionAgent(city, prior),
        EmissionAgent(city, air.bound),
        AirAgent(city, air),
        NoiseAgent(city, noise),
        ExposureAgent(city, None if noise.facades is None else noise.facades.receptors),
        AlarmsAgent(city, load_rules(city.folder)),
    )
