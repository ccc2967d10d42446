"""Road noise against known results: emission of CNOSSOS-EU, and propagation as in ISO/TR 17534-4.

The cases are an object with lists ``emission`` and ``propagation``; some of each stand in
benchmarks/data/cnossos_reference_cases.json.

**Emission.** ``id``, ``traffic`` (objects with ``category``, ``flow_veh_h``, ``speed_kmh``), ``surface``
("reference" or its name), ``temperature_C``, ``slope_pct``, ``one_way``, ``junction_type`` (0 none, 1
crossing, 2 roundabout), ``junction_distance_m``, ``studded_months``, ``studded_fraction_cat1``,
``tolerance_dB``; ``expected_LW_line_dB_per_m`` has ``coefficients_2021``, ``coefficients_2015`` or
``coefficients_NL``, each with ``bands`` and ``LWA``.

**Propagation.** ``id``, ``scene`` (:func:`studies.noise_scene.read_scene`, with ``source``, ``receiver`` and
``reflection_order``), ``lw_per_band_dB``, ``temperature_C``, ``relative_humidity_pct``, ``pressure_Pa``,
``p_favourable``; ``expected`` has the paths ("direct", "reflection...") with the vectors ``H.L_H``, ``F.L_F``
and ``LT.L_longterm`` or ``LT.LA_longterm``; ``derived_total_dBA.without_lateral`` the level at the receiver.
Everything is calculated from the scene. Only where its terrain is told in words (``topography_lines`` is a
text) the vertical cuts of the case (``cut_profiles``) take its place. Paths around the vertical edges of
obstacles ("left", "right") are not part of the model for roads, and not compared.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels import cnossos
from kernels.cnossos_coefficients import EU_2015, EU_2021, NL_NATIONAL, CoefficientSet
from kernels.cnossos_path import N_BANDS, path_energies
from kernels.cnossos_tables import A_WEIGHTING_DB
from kernels.propagation import Atmosphere, air_absorption_db_per_km
from studies.noise_scene import HARD_FACE, SceneError, paths_between, profiles_of, read_scene
from studies.noise_scene import Path as SoundPath
from studies.validate import CasesError, Check, Conformity

EMISSION_TOLERANCE_DB = 0.01
PATH_TOLERANCE_DB = 0.05
TOTAL_TOLERANCE_DB = 0.1
SETS: Mapping[str, CoefficientSet] = {
    "coefficients_2021": EU_2021,
    "coefficients_2015": EU_2015,
    "coefficients_NL": NL_NATIONAL,
}
JUNCTIONS = {0: None, 1: "crossing", 2: "roundabout"}
REFERENCE_SURFACES = ("reference", "REF", "DEF")
STATES = (("H", "L_H", "homogeneous"), ("F", "L_F", "favourable"), ("LT", "L_longterm", "long-term"))
BANDS = ("63", "125", "250", "500", "1k", "2k", "4k", "8k")
NOTES = (
    "Emission: each octave band and the A-weighted sum. Propagation: each octave band of each path, and the "
    "A-weighted sum of all paths; sound around vertical edges is not part of the model for roads.",
)
NO_TERRAIN = "terrain in words: vertical cuts of the case used instead of the scene"


def validate_noise(cases: Path) -> Conformity:
    """Calculate every case of a file and compare.

    A case that cannot be read is a check that is not met; it names the field, and the others are calculated.

    Raises
    ------
    CasesError
        For a file that cannot be read, naming the line or what was expected.
    """
    try:
        everything = json.loads(cases.read_bytes())
    except OSError as error:
        raise CasesError(f"{cases}: cannot be read: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise CasesError(f"{cases}: line {error.lineno}, column {error.colno}: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise CasesError(f"{cases}: is not UTF-8") from error
    if not isinstance(everything, dict) or not {"emission", "propagation"} & everything.keys():
        raise CasesError(f'{cases}: expected an object with "emission" or "propagation", lists of cases')
    checks: list[Check] = []
    for kind, calculate in (("emission", _emission), ("propagation", _propagation)):
        found = everything.get(kind, [])
        if not isinstance(found, list):
            raise CasesError(f"{cases}: {kind}: got {type(found).__name__}, expected a list of cases")
        for i, case in enumerate(found):
            name = f"{kind}[{i}]"
            try:
                name = _Fields(case, name).text("id")
                of_case = list(calculate(_Fields(case, name)))
                if not of_case:
                    raise CasesError("no value to compare with")
                checks.extend(of_case)
            except (CasesError, SceneError, ValueError) as error:
                told = str(error).removeprefix(f"{name}: ")
                checks.append(Check(name, "cannot be calculated", 0, math.inf, 0.0, "dB", told))
    return Conformity("noise", cases, tuple(checks), NOTES)


class _Fields:
    """Fields of one case; what is missing or of the wrong kind is told by name."""

    def __init__(self, values: Any, name: str) -> None:
        if not isinstance(values, dict):
            raise CasesError(f"{name}: got {type(values).__name__}, expected an object")
        self.values: dict[str, Any] = values
        self.name = name

    def number(self, field: str, default: float | None = None) -> float:
        value = self.values.get(field)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise CasesError(f"{self.name}: {field}: got {value!r}, expected a number")
        return float(value)

    def text(self, field: str) -> str:
        value = self.values.get(field)
        if not isinstance(value, str):
            raise CasesError(f"{self.name}: {field}: got {value!r}, expected a text")
        return value

    def objects(self, field: str) -> list[_Fields]:
        value = self.values.get(field, [])
        if not isinstance(value, list):
            raise CasesError(f"{self.name}: {field}: got {type(value).__name__}, expected a list")
        return [_Fields(each, f"{self.name}: {field}[{i}]") for i, each in enumerate(value)]

    def object(self, field: str) -> _Fields:
        return _Fields(self.values.get(field), f"{self.name}: {field}")

    def bands(self, field: str) -> NDArray[np.float64]:
        """Eight numbers, or one for all of them; NaN where a band is not given."""
        value = self.values.get(field)
        if isinstance(value, list):
            return self.vector(field, N_BANDS)
        return np.full(N_BANDS, self.number(field))

    def ends(self, field: str) -> NDArray[np.float64]:
        """Two points of three numbers, (2, 3)."""
        value = self.values.get(field)
        if not isinstance(value, list) or len(value) != 2:
            raise CasesError(f"{self.name}: {field}: got {str(value)[:80]}, expected two points")
        pair = _Fields({"from": value[0], "to": value[1]}, f"{self.name}: {field}")
        return np.stack([pair.vector("from", 3), pair.vector("to", 3)])

    def vector(self, field: str, n: int) -> NDArray[np.float64]:
        value = self.values.get(field)
        try:
            numbers = np.array(value, dtype=np.float64)
        except (TypeError, ValueError):
            numbers = np.empty(0)
        if numbers.shape != (n,):
            raise CasesError(f"{self.name}: {field}: got {str(value)[:80]}, expected {n} numbers")
        return numbers


def _emission(case: _Fields) -> Iterator[Check]:
    expected = case.object("expected_LW_line_dB_per_m")
    tolerance = case.number("tolerance_dB", EMISSION_TOLERANCE_DB)
    for name in expected.values:
        if name not in SETS:
            raise CasesError(f"{expected.name}: got {name!r}, expected {', '.join(SETS)}")
        if expected.values[name] is None:
            continue
        values = expected.object(name)
        bands = _line(case, SETS[name])
        pairs = (
            list(zip(BANDS, values.bands("bands"), bands, strict=True)) if "bands" in values.values else []
        )
        if values.values.get("LWA") is not None:
            pairs.append(("A-weighted", values.number("LWA"), float(cnossos.a_weighted_db(bands))))
        note = _outside(case, SETS[name])
        yield _check(case.name, f"emission, {SETS[name].name}", pairs, tolerance, note)


def _line(case: _Fields, coefficients: CoefficientSet) -> NDArray[np.float64]:
    """Sound power of all traffic of a case, (8,) [dB/m]."""
    kind = case.number("junction_type", 0)
    if kind not in JUNCTIONS:
        raise CasesError(f"{case.name}: junction_type: got {kind:g}, expected 0, 1 or 2")
    studded = case.number("studded_fraction_cat1", 0.0), case.number("studded_months", 0.0)
    energy = np.zeros(N_BANDS)
    for traffic in case.objects("traffic"):
        category = str(traffic.values.get("category"))
        bands = cnossos.sound_power(
            traffic.number("flow_veh_h"),
            traffic.number("speed_kmh"),
            category,
            _surface(case),
            case.number("temperature_C", 20.0),
            coefficients=coefficients,
            gradient_percent=case.number("slope_pct", 0.0),
            is_two_way=case.values.get("one_way") is False,
            junction=JUNCTIONS[int(kind)],
            junction_distance_m=case.number("junction_distance_m", math.inf),
            studded_share=cnossos.studded_share(*studded) if category == "1" else 0.0,
        )
        energy += 10.0 ** (bands[0] / 10.0)
    with np.errstate(divide="ignore"):
        return np.asarray(10.0 * np.log10(energy))


def _surface(case: _Fields) -> str:
    name = case.text("surface")
    return "DEF" if name in REFERENCE_SURFACES else name


def _outside(case: _Fields, coefficients: CoefficientSet) -> str:
    """What to know of the speeds of a case."""
    row = coefficients.surface_indices([_surface(case)])
    speeds = [
        traffic.number("speed_kmh")
        for traffic in case.objects("traffic")
        if str(traffic.values.get("category"))[0] != "4"
    ]
    outside = [f"{v:g}" for v in speeds if coefficients.is_outside_range(row, v)[0]]
    if not outside:
        return ""
    _, low, high = coefficients.surfaces[_surface(case)]
    return f"{', '.join(outside)} km/h lies outside the {low:g}-{high:g} km/h of surface {_surface(case)}"


def _propagation(case: _Fields) -> Iterator[Check]:
    scene = case.object("scene")
    air = Atmosphere(
        case.number("temperature_C", 10.0),
        case.number("relative_humidity_pct", 70.0),
        case.number("pressure_Pa", 101_325.0),
        case.number("p_favourable", 0.5),
    )
    note = ""
    if isinstance(scene.values.get("topography_lines"), str):
        paths, note = _paths_of_cuts(case), NO_TERRAIN
    else:
        source, receiver = scene.vector("source", 3), scene.vector("receiver", 3)
        paths = paths_between(read_scene(scene.values), source, receiver, _reflections(case, scene))
    homogeneous, favourable = path_energies(profiles_of(paths), air_absorption_db_per_km(air))
    long_term = air.p_favourable * favourable + (1.0 - air.p_favourable) * homogeneous
    levels = {
        state: case.bands("lw_per_band_dB") + 10.0 * np.log10(energy)
        for state, energy in (("H", homogeneous), ("F", favourable), ("LT", long_term))
    }
    for label, path, expected in _expected(case, paths, levels):
        for state, quantity, words in STATES:
            values = expected.get(state)
            if values is None:
                continue
            if path is None:
                yield Check(case.name, f"{label} path, {words}", N_BANDS, math.inf, PATH_TOLERANCE_DB, "dB",
                            "the scene has no such path", note)  # fmt: skip
                continue
            pairs = list(zip(BANDS, values, levels[state][path], strict=True))
            yield _check(case.name, f"{label} path, {words} {quantity}", pairs, PATH_TOLERANCE_DB, note)
    if (case.values.get("derived_total_dBA") or {}).get("without_lateral") is not None:
        total = float(10.0 * np.log10((10.0 ** ((levels["LT"] + A_WEIGHTING_DB) / 10.0)).sum()))
        value = case.object("derived_total_dBA").number("without_lateral")
        words = f"total of {len(paths)} path{'s' * (len(paths) > 1)}, dB(A)"
        yield _check(case.name, words, [("total", value, total)], TOTAL_TOLERANCE_DB, note)


def _reflections(case: _Fields, scene: _Fields) -> int:
    """Order of reflections that a case asks for: as it says, else 1 where it has a reflected path."""
    options = (scene.values.get("nm_options") or {}).get("reflection_order_explicit") or []
    given = scene.values.get("reflection_order", max((int(order) for order in options), default=None))
    if given is not None:
        return min(int(given), 1)
    return int(any(label.startswith("reflection") for label in case.values.get("expected", {})))


def _expected(
    case: _Fields, paths: Sequence[SoundPath], levels: Mapping[str, NDArray[np.float64]]
) -> Iterator[tuple[str, int | None, dict[str, NDArray[np.float64]]]]:
    """Paths of a case: label, number of the calculated path, expected levels by state.

    A case does not say which face reflects a path: of several reflected ones each is compared with the one
    that comes nearest.
    """
    labels = {
        label: _levels(_Fields(values, f"{case.name}: expected.{label}"))
        for label, values in case.object("expected").values.items()
        if label == "direct" or label.startswith("reflection")
    }
    reflected = [k for k, path in enumerate(paths) if path.is_reflected]
    wanted = [label for label in labels if label != "direct"]
    candidates: list[int | None] = [*reflected, *[None] * max(len(wanted) - len(reflected), 0)]

    def deviation(chosen: Sequence[int | None]) -> float:
        return sum(
            float(np.nanmax(np.abs(levels[state][k] - values), initial=0.0))
            for label, k in zip(wanted, chosen, strict=True)
            if k is not None
            for state, values in labels[label].items()
        )

    ways: list[tuple[int | None, ...]] = list(permutations(candidates, len(wanted)))
    nearest = min(ways, key=deviation)
    chosen = dict(zip(wanted, nearest, strict=True))
    for label, values in labels.items():
        yield label, 0 if label == "direct" else chosen[label], values


def _levels(path: _Fields) -> dict[str, NDArray[np.float64]]:
    found = {}
    for state, quantity, _ in STATES:
        values = path.values.get(state, {})
        if quantity in values:
            found[state] = _Fields(values[quantity], f"{path.name}.{state}.{quantity}").bands("values")
        elif state == "LT" and "LA_longterm" in values:
            weighted = _Fields(values["LA_longterm"], f"{path.name}.LT.LA_longterm").bands("values")
            found[state] = weighted - A_WEIGHTING_DB
    return found


def _paths_of_cuts(case: _Fields) -> list[SoundPath]:
    """Direct and reflected paths of the vertical cuts that come with a case."""
    kinds = ("DIRECT", "REFLECTION")
    cuts = [cut for cut in case.objects("cut_profiles") if cut.values.get("profile_type") in kinds]
    if not cuts:
        raise CasesError(f"{case.name}: topography_lines is a text, and there are no cut_profiles")
    return [_path_of_cut(cut) for cut in sorted(cuts, key=lambda cut: kinds.index(cut.text("profile_type")))]


def _path_of_cut(cut: _Fields) -> SoundPath:
    x: list[float] = []
    z: list[float] = []
    g: list[float] = []
    is_roof = False
    reflector_x = top = math.nan
    absorption = np.zeros(N_BANDS)
    points = cut.objects("points")
    for point in points:
        kind, at = point.text("type"), point.number("x2d")
        ground, after = point.number("z_ground"), point.number("G_after")
        if kind == "Wall":
            how, height = point.text("intersection"), point.vector("xyz", 3)[2]
            chain = {
                "BUILDING_ENTER": [(ground, 0.0), (height, 0.0)],
                "BUILDING_EXIT": [(height, 0.0), (ground, after)],
                "THIN_WALL_ENTER_EXIT": [(ground, after), (height, after), (ground, after)],
            }
            if how not in chain:
                raise CasesError(f"{point.name}: intersection: got {how!r}, expected {', '.join(chain)}")
            is_roof = how == "BUILDING_ENTER"
            for height, factor in chain[how]:
                x.append(at)
                z.append(height)
                g.append(factor)
            continue
        if kind == "Reflection":
            place, (a, b) = point.vector("xyz", 3), point.ends("wall")
            share = math.dist(place[:2], a[:2]) / math.dist(a[:2], b[:2])
            reflector_x, top = at, a[2] + share * (b[2] - a[2])
            absorption = point.bands("alpha") if point.values.get("alpha") else np.array(HARD_FACE)
        if not is_roof:
            x.append(at)
            z.append(ground)
            g.append(after)
    source, receiver = points[0], points[-1]
    z_source, z_receiver = source.vector("xyz", 3)[2], receiver.vector("xyz", 3)[2]
    return SoundPath(
        np.array(x), np.array(z), np.array(g), z_source - z[0], z_receiver - z[-1], source.number("G_after"),
        math.hypot(x[-1], z_receiver - z_source), reflector_x, top, 1.0 - absorption,
    )  # fmt: skip


def _check(
    case: str, quantity: str, values: Sequence[tuple[str, float, float]], tolerance: float, note: str
) -> Check:
    """Check of values given as name, expected, calculated; what is expected as NaN is not compared."""
    compared = [(name, float(expected), float(got)) for name, expected, got in values if expected == expected]
    if not compared:
        raise CasesError(f"{case}: {quantity}: no value to compare with")
    deviations = [abs(got - expected) if math.isfinite(got) else math.inf for _, expected, got in compared]
    at = deviations.index(max(deviations))
    name, expected, got = compared[at]
    detail = f"{name}: expected {expected:.3f}, got {got:.3f}"
    return Check(case, quantity, len(compared), deviations[at], tolerance, "dB", detail, note)
