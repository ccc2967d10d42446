"""Coefficients of the CNOSSOS-EU road source model.

Annex II of Directive 2002/49/EC as amended by Delegated Directive (EU) 2021/1226 (OJ L 269, 28.7.2021):
tables F-1 (vehicles), F-4 (road surfaces), F-3 (junctions), the studded-tyre table of 2.2.3 and the
A-weighting of 2.5.5. Octave bands 63 Hz to 8 kHz. They are 2.4-3.5 dB(A) louder than the tables of
2015/996 on the reference surface, so the two must never be mixed (:mod:`kernels.cnossos_coefficients`
holds each set as a whole).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

V_REF_KMH = 70.0
T_REF_C = 20.0

CATEGORIES = ("1", "2", "3", "4a", "4b")
"""Light, medium heavy (two axles, buses), heavy (three axles and more), mopeds, motorcycles."""


def table(*rows: object) -> NDArray[np.float64]:
    """Rows of numbers as an array that cannot be written to."""
    values = np.array(rows, dtype=np.float64)
    values.flags.writeable = False
    return values


# (8,) [dB]
A_WEIGHTING_DB = np.array((-26.2, -16.1, -8.6, -3.2, 0.0, 1.2, 1.0, -1.1))

# Table F-1, a row for each category that has a rolling term, (3, 8) [dB].
ROLLING_A_DB = table(
    (83.1, 89.2, 87.7, 93.1, 100.1, 96.7, 86.8, 76.2),
    (88.7, 93.2, 95.7, 100.9, 101.7, 95.1, 87.8, 83.6),
    (91.7, 96.2, 98.2, 104.9, 105.1, 98.5, 91.1, 85.6),
)
ROLLING_B_DB = table(
    (30.0, 41.5, 38.9, 25.7, 32.5, 37.2, 39.0, 40.0),
    (30.0, 35.8, 32.6, 23.8, 30.1, 36.2, 38.3, 40.1),
    (30.0, 33.5, 31.3, 25.4, 31.8, 37.1, 38.6, 40.6),
)

# Table F-1, propulsion, a row for each category, (5, 8) [dB].
PROPULSION_A_DB = table(
    (97.9, 92.5, 90.7, 87.2, 84.7, 88.0, 84.4, 77.1),
    (105.5, 100.2, 100.5, 98.7, 101.0, 97.8, 91.2, 85.0),
    (108.8, 104.2, 103.5, 102.9, 102.6, 98.5, 93.8, 87.5),
    (93.0, 93.0, 93.5, 95.3, 97.2, 100.4, 95.8, 90.9),
    (99.9, 101.9, 96.7, 94.4, 95.2, 94.7, 92.1, 88.6),
)
PROPULSION_B_DB = table(
    (-1.3, 7.2, 7.7, 8.0, 8.0, 8.0, 8.0, 8.0),
    (-1.9, 4.7, 6.4, 6.5, 6.5, 6.5, 6.5, 6.5),
    (0.0, 3.0, 4.6, 5.0, 5.0, 5.0, 5.0, 5.0),
    (4.2, 7.4, 9.8, 11.6, 15.7, 18.9, 20.3, 20.6),
    (3.2, 5.9, 11.9, 11.6, 11.5, 12.6, 11.1, 12.0),
)

# 2.2.10, a row for each rolling category [dB/degC].
TEMPERATURE_DB_PER_C = np.array((0.08, 0.04, 0.04))

# Table F-3: (rolling, propulsion) of a crossing with lights and of a roundabout [dB].
JUNCTION_DB = {
    "1": {"crossing": (-4.5, 5.5), "roundabout": (-4.4, 3.1)},
    "2": {"crossing": (-4.0, 9.0), "roundabout": (-2.3, 6.7)},
    "3": {"crossing": (-4.0, 9.0), "roundabout": (-2.3, 6.7)},
    "4a": {"crossing": (0.0, 0.0), "roundabout": (0.0, 0.0)},
    "4b": {"crossing": (0.0, 0.0), "roundabout": (0.0, 0.0)},
}

# Studded tyres, category 1 only: a + b lg(v / 70) with v limited to 50-90 km/h (2.2.6), (8,) [dB].
STUDDED_A_DB = np.array((0.0, 0.0, 0.0, 2.6, 2.9, 1.5, 2.3, 9.2))
STUDDED_B_DB = np.array((0.0, 0.0, 0.0, -3.1, -6.4, -14.0, -22.4, -11.4))

# Table F-4: name, then the range of speeds it was printed for [km/h]. The directive attaches no rule to a
# speed outside it; the value at the actual speed is used.
SURFACES = {
    "DEF": ("reference: mean of dense asphalt and SMA 0/11, 2-7 years old, dry", 30.0, 130.0),
    "NL01": ("1-layer ZOAB", 50.0, 130.0),
    "NL02": ("2-layer ZOAB", 50.0, 130.0),
    "NL03": ("2-layer ZOAB (fine)", 80.0, 130.0),
    "NL04": ("SMA-NL5", 40.0, 80.0),
    "NL05": ("SMA-NL8", 40.0, 80.0),
    "NL06": ("Brushed down concrete", 70.0, 120.0),
    "NL07": ("Optimized brushed down concrete", 70.0, 80.0),
    "NL08": ("Fine broomed concrete", 70.0, 120.0),
    "NL09": ("Worked surface", 50.0, 130.0),
    "NL10": ("Hard elements in herring-bone", 30.0, 60.0),
    "NL11": ("Hard elements not in herring-bone", 30.0, 60.0),
    "NL12": ("Quiet hard elements", 30.0, 60.0),
    "NL13": ("Thin layer A", 40.0, 130.0),
    "NL14": ("Thin layer B", 40.0, 130.0),
}
SURFACE_NAMES = tuple(SURFACES)

# Table F-4, (n_surfaces, 3, 8) [dB]: alpha for each category of vehicle and octave; 0 where none is printed.
SURFACE_ALPHA_DB = np.array(
    (
        (  # DEF
            (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
            (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
            (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        ),
        (  # NL01
            (0.0, 5.4, 4.3, 4.2, -1.0, -3.2, -2.6, 0.8),
            (7.9, 4.3, 5.3, -0.4, -5.2, -4.6, -3.0, -1.4),
            (9.3, 5.0, 5.5, -0.4, -5.2, -4.6, -3.0, -1.4),
        ),
        (  # NL02
            (1.6, 4.0, 0.3, -3.0, -4.0, -6.2, -4.8, -2.0),
            (7.3, 2.0, -0.3, -5.2, -6.1, -6.0, -4.4, -3.5),
            (8.3, 2.2, -0.4, -5.2, -6.2, -6.1, -4.5, -3.5),
        ),
        (  # NL03
            (-1.0, 3.0, -1.5, -5.3, -6.3, -8.5, -5.3, -2.4),
            (7.9, 0.1, -1.9, -5.9, -6.1, -6.8, -4.9, -3.8),
            (9.4, 0.2, -1.9, -5.9, -6.1, -6.7, -4.8, -3.8),
        ),
        (  # NL04
            (10.3, -0.9, 0.9, 1.8, -1.8, -2.7, -2.0, -1.3),
            (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
            (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        ),
        (  # NL05
            (6.0, 0.3, 0.3, 0.0, -0.6, -1.2, -0.7, -0.7),
            (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
            (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        ),
        (  # NL06
            (8.2, -0.4, 2.8, 2.7, 2.5, 0.8, -0.3, -0.1),
            (0.3, 4.5, 2.5, -0.2, -0.1, -0.5, -0.9, -0.8),
            (0.2, 5.3, 2.5, -0.2, -0.1, -0.6, -1.0, -0.9),
        ),
        (  # NL07
            (-0.2, -0.7, 1.4, 1.2, 1.1, -1.6, -2.0, -1.8),
            (-0.7, 3.0, -2.0, -1.4, -1.8, -2.7, -2.0, -1.9),
            (-0.5, 4.2, -1.9, -1.3, -1.7, -2.5, -1.8, -1.8),
        ),
        (  # NL08
            (8.0, -0.7, 4.8, 2.2, 1.2, 2.6, 1.5, -0.6),
            (0.2, 8.6, 7.1, 3.2, 3.6, 3.1, 0.7, 0.1),
            (0.1, 9.8, 7.4, 3.2, 3.1, 2.4, 0.4, 0.0),
        ),
        (  # NL09
            (8.3, 2.3, 5.1, 4.8, 4.1, 0.1, -1.0, -0.8),
            (0.1, 6.3, 5.8, 1.8, -0.6, -2.0, -1.8, -1.6),
            (0.0, 7.4, 6.2, 1.8, -0.7, -2.1, -1.9, -1.7),
        ),
        (  # NL10
            (27.0, 16.2, 14.7, 6.1, 3.0, -1.0, 1.2, 4.5),
            (29.5, 20.0, 17.6, 8.0, 6.2, -1.0, 3.1, 5.2),
            (29.4, 21.2, 18.2, 8.4, 5.6, -1.0, 3.0, 5.8),
        ),
        (  # NL11
            (31.4, 19.7, 16.8, 8.4, 7.2, 3.3, 7.8, 9.1),
            (34.0, 23.6, 19.8, 10.5, 11.7, 8.2, 12.2, 10.0),
            (33.8, 24.7, 20.4, 10.9, 10.9, 6.8, 12.0, 10.8),
        ),
        (  # NL12
            (26.8, 13.7, 11.9, 3.9, -1.8, -5.8, -2.7, 0.2),
            (9.2, 5.7, 4.8, 2.3, 4.4, 5.1, 5.4, 0.9),
            (9.1, 6.6, 5.2, 2.6, 3.9, 3.9, 5.2, 1.1),
        ),
        (  # NL13
            (10.4, 0.7, -0.6, -1.2, -3.0, -4.8, -3.4, -1.4),
            (13.8, 5.4, 3.9, -0.4, -1.8, -2.1, -0.7, -0.2),
            (14.1, 6.1, 4.1, -0.4, -1.8, -2.1, -0.7, -0.2),
        ),
        (  # NL14
            (6.8, -1.2, -1.2, -0.3, -4.9, -7.0, -4.8, -3.2),
            (13.8, 5.4, 3.9, -0.4, -1.8, -2.1, -0.7, -0.2),
            (14.1, 6.1, 4.1, -0.4, -1.8, -2.1, -0.7, -0.2),
        ),
    )
)
# Table F-4, (n_surfaces, 3) [dB].
SURFACE_BETA_DB = table(
    (0.0, 0.0, 0.0),  # DEF
    (-6.5, 0.2, 0.2),  # NL01
    (-3.0, 4.7, 4.7),  # NL02
    (-0.1, -0.8, -0.9),  # NL03
    (-1.6, 0.0, 0.0),  # NL04
    (-1.4, 0.0, 0.0),  # NL05
    (1.4, 5.0, 5.5),  # NL06
    (1.0, -6.6, -6.6),  # NL07
    (7.6, 3.2, 2.0),  # NL08
    (-0.3, 1.7, 1.4),  # NL09
    (2.5, 2.5, 2.5),  # NL10
    (2.9, 2.9, 2.9),  # NL11
    (-1.7, 0.0, 0.0),  # NL12
    (-2.9, 0.5, 0.3),  # NL13
    (-1.8, 0.5, 0.3),  # NL14
)
