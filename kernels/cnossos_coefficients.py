"""The sets of coefficients of the CNOSSOS-EU road source model, each as a whole.

The set of 2021 is the one in force. That of 2015 is for comparison with older maps, the Dutch one for the
Netherlands. A surface belongs to a set: the same name can be another surface in another set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels import cnossos_tables, cnossos_tables_2015, cnossos_tables_nl


@dataclass(frozen=True, slots=True, eq=False)
class CoefficientSet:
    """Vehicles and road surfaces that were made for each other.

    Attributes
    ----------
    name : str
    rolling_a_db, rolling_b_db : (3, 8) float64
        A_R and B_R of categories 1, 2 and 3 [dB].
    propulsion_a_db, propulsion_b_db : (5, 8) float64
        A_P and B_P of categories 1, 2, 3, 4a and 4b [dB].
    surfaces : mapping of str to (str, float, float)
        Description, and the lowest and highest speed the surface was printed for [km/h], in the order of the
        rows below.
    surface_alpha_db : (n_surfaces, 3, 8) float64
        Correction of each surface for categories 1, 2 and 3 [dB].
    surface_beta_db : (n_surfaces, 3) float64
        Its change with lg(v / 70 km/h) [dB].
    has_studded_tyres : bool
        Whether the coefficients of studded tyres belong to the set.
    """

    name: str
    rolling_a_db: NDArray[np.float64]
    rolling_b_db: NDArray[np.float64]
    propulsion_a_db: NDArray[np.float64]
    propulsion_b_db: NDArray[np.float64]
    surfaces: Mapping[str, tuple[str, float, float]]
    surface_alpha_db: NDArray[np.float64]
    surface_beta_db: NDArray[np.float64]
    has_studded_tyres: bool = True

    @property
    def surface_names(self) -> tuple[str, ...]:
        return tuple(self.surfaces)

    def surface_indices(self, names: Sequence[str]) -> NDArray[np.int8]:
        """Row of each surface, (n,).

        Raises
        ------
        ValueError
            Naming the first surface that is not in the set, and those that are.
        """
        index = {name: row for row, name in enumerate(self.surfaces)}
        try:
            return np.array([index[name] for name in names], dtype=np.int8)
        except KeyError as error:
            raise ValueError(
                f"surface: got {error.args[0]!r}, expected one of {', '.join(self.surfaces)} "
                f"(coefficients {self.name})"
            ) from None

    def is_outside_range(self, surface_index: NDArray[np.int8], speed_kmh: ArrayLike) -> NDArray[np.bool_]:
        """Whether a surface is used at a speed it was not printed for, (n,).

        The directive attaches no rule to it: the value at the actual speed is used, and whoever reads it
        should know.
        """
        limits = np.array([limits for _, *limits in self.surfaces.values()])[surface_index]
        speed = np.asarray(speed_kmh, dtype=np.float64)
        return np.asarray((speed < limits[..., 0]) | (speed > limits[..., 1]))


EU_2021 = CoefficientSet(
    "2021/1226",
    cnossos_tables.ROLLING_A_DB,
    cnossos_tables.ROLLING_B_DB,
    cnossos_tables.PROPULSION_A_DB,
    cnossos_tables.PROPULSION_B_DB,
    cnossos_tables.SURFACES,
    cnossos_tables.SURFACE_ALPHA_DB,
    cnossos_tables.SURFACE_BETA_DB,
)
EU_2015 = CoefficientSet(
    "2015/996",
    cnossos_tables_2015.ROLLING_A_DB,
    cnossos_tables_2015.ROLLING_B_DB,
    cnossos_tables_2015.PROPULSION_A_DB,
    cnossos_tables_2015.PROPULSION_B_DB,
    cnossos_tables_2015.SURFACES,
    cnossos_tables_2015.SURFACE_ALPHA_DB,
    cnossos_tables_2015.SURFACE_BETA_DB,
)
NL_NATIONAL = CoefficientSet(
    "NL national",
    cnossos_tables_nl.ROLLING_A_DB,
    cnossos_tables_nl.ROLLING_B_DB,
    cnossos_tables_nl.PROPULSION_A_DB,
    cnossos_tables_nl.PROPULSION_B_DB,
    cnossos_tables_nl.SURFACES,
    cnossos_tables_nl.SURFACE_ALPHA_DB,
    cnossos_tables_nl.SURFACE_BETA_DB,
    has_studded_tyres=False,
)
SETS: Mapping[str, CoefficientSet] = {each.name: each for each in (EU_2021, EU_2015, NL_NATIONAL)}


def coefficient_set(name: str) -> CoefficientSet:
    """The set of a name.

    Raises
    ------
    ValueError
        Naming the sets that there are.
    """
    if name not in SETS:
        raise ValueError(f"coefficients: got {name!r}, expected one of {', '.join(SETS)}")
    return SETS[name]
