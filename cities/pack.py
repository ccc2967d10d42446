"""Read a city pack: a folder that says everything Twinroom knows of one city.

See docs/city-pack.md for the files and their fields.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from pyproj import Transformer

from cities.emission_factors import EmissionFactors, city_factors
from kernels.cnossos_tables import SURFACE_NAMES
from kernels.emission import EmissionError, regime_codes
from kernels.network import DirectedEdges, Network, build_network
from kernels.receptors import ReceptorGrid

BUNDLED = Path(__file__).parent
ALLOWED_DIRECTIONS = ("both", "forward", "backward", "none")
MAX_CLASS = 32_767
DISPERSION_PROPERTIES = (
    "srm", "road_type", "tree_factor", "elevation_m", "side_angle_deg", "is_viaduct",
    "barrier_left_m", "barrier_left_kind", "barrier_right_m", "barrier_right_kind",
)  # fmt: skip
NOISE_PROPERTIES = (
    "gradient_percent", "is_bridge", "is_tunnel", "is_viaduct", "junction_start", "junction_end",
)  # fmt: skip
NO_LINE = "expected two or more finite positions"


class CityError(ValueError):
    """A city pack that cannot be read; the message names the file, the field and what was expected."""


@dataclass(frozen=True, slots=True)
class RoadClass:
    """What is assumed of every segment of one class of road.

    ``lanes`` and ``capacity_veh_per_h`` (per lane) hold for one direction of travel; ``truck_medium_share``
    is the share of medium trucks (CNOSSOS category 2) among trucks, the rest are heavy. ``bus_share`` is of
    motor vehicles too.
    """

    code: int
    name: str
    speed_kmh: float
    lanes: float
    width_m: float
    capacity_veh_per_h: float
    surface: str
    truck_share: float
    truck_medium_share: float
    regime: str
    srm: str
    motor: bool
    bicycle: bool
    residential: bool
    source: str
    bus_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Sensor:
    """Where a sensor stands. Area sensors have a polygon [m] and no segment."""

    id: str
    source: str
    segment: int
    direction: str
    modes: tuple[str, ...]
    xy: tuple[float, float]
    polygon: NDArray[np.float64] | None
    simulated: bool


@dataclass(frozen=True, slots=True)
class City:
    """A city pack in memory; per-segment arrays are in the order of network.geojson.

    Attributes
    ----------
    folder : Path
        Where it was read from.
    name, title, crs, timezone, region : str
    settings : mapping
        city.toml as read: background, population, thresholds, profile.
    network : Network
    segment_ids, segment_names, segment_zones : tuple of str
        Identifiers, street names ("" when unknown), zone of exposure of each segment.
    road_class : (n_segments,) int16
    speed_kmh, lanes, width_m : (n_segments,) float64
        Free-flow speed, lanes per direction, width between facades.
    dispersion_properties : tuple of mapping
        Of each segment, those of :data:`DISPERSION_PROPERTIES` that its file gives, as read; what they mean
        and whether they fit is for :func:`cities.dispersion.dispersion_of`.
    noise_properties : tuple of mapping
        Likewise of :data:`NOISE_PROPERTIES`, for :func:`cities.road_noise.road_noise_of`.
    derived : tuple of frozenset of str
        Fields of each segment that were filled in, not given.
    car_edges, bicycle_edges : DirectedEdges
    grid : ReceptorGrid
    sensors : tuple of Sensor
    emission : EmissionFactors
        Of the table, year and fleet that [emission] asks for.
    network_hash : str
        SHA-256 of network.geojson's content, 16 hexadecimal digits.
    """

    folder: Path
    name: str
    title: str
    crs: str
    timezone: str
    region: str
    settings: Mapping[str, Any]
    classes: Mapping[int, RoadClass]
    network: Network
    segment_ids: tuple[str, ...]
    segment_names: tuple[str, ...]
    segment_zones: tuple[str, ...]
    road_class: NDArray[np.int16]
    speed_kmh: NDArray[np.float64]
    lanes: NDArray[np.float64]
    width_m: NDArray[np.float64]
    surface: tuple[str, ...]
    dispersion_properties: tuple[Mapping[str, Any], ...]
    noise_properties: tuple[Mapping[str, Any], ...]
    derived: tuple[frozenset[str], ...]
    car_edges: DirectedEdges
    bicycle_edges: DirectedEdges
    grid: ReceptorGrid
    sensors: tuple[Sensor, ...]
    emission: EmissionFactors
    network_hash: str

    def class_values(self, field: str) -> NDArray[Any]:
        """Value of a field of :class:`RoadClass` for each segment, (n_segments,)."""
        return np.array([getattr(self.classes[int(c)], field) for c in self.road_class])

    def to_lonlat(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Metric coordinates to WGS84 longitude and latitude, (n, 2)."""
        transformer = Transformer.from_crs(self.crs, "EPSG:4326", always_xy=True)
        return np.stack(transformer.transform(xy[:, 0], xy[:, 1]), axis=1)


def find_city(name_or_folder: str) -> Path:
    """Folder of a bundled city or of a given path."""
    for folder in (Path(name_or_folder), BUNDLED / name_or_folder):
        if (folder / "city.toml").is_file():
            return folder
    bundled = sorted(p.parent.name for p in BUNDLED.glob("*/city.toml"))
    raise CityError(
        f"city: '{name_or_folder}' is neither a folder with a city.toml nor a bundled city; "
        f"bundled: {', '.join(bundled) or 'none'}"
    )


def load_city(folder: Path) -> City:
    """Read and check a city pack.

    Raises
    ------
    CityError
        Naming the file and field at fault.
    """
    settings = _read_toml(folder / "city.toml")
    city = _table(settings, "city", "city.toml")
    crs = _text(city, "crs", "city.toml [city]")
    classes = _read_classes(settings)
    network_bytes = _read_bytes(folder, "network.geojson")
    features = read_features(network_bytes, "network.geojson")
    to_metric = Transformer.from_crs("EPSG:4326", crs, always_xy=True)

    polylines = _polylines(features, to_metric)
    properties = [feature.get("properties") or {} for feature in features]
    ids = tuple(str(p.get("id", "")) for p in properties)
    _check_ids(ids)
    road_class = np.array([_class_of(p, i, classes) for p, i in zip(properties, ids, strict=True)])
    motor = np.array([classes[int(c)].motor for c in road_class])
    bicycle = np.array([classes[int(c)].bicycle for c in road_class])
    direction = np.array([_direction(p, i) for p, i in zip(properties, ids, strict=True)])
    network = build_network(polylines, node_tolerance_m=0.5)

    derived = [{str(f) for f in p.get("derived", ())} for p in properties]

    def per_segment(field: str, class_field: str) -> NDArray[np.float64]:
        values = np.empty(len(ids))
        for s, p in enumerate(properties):
            value = p.get(field)
            if value is None:
                derived[s].add(field)
                value = getattr(classes[int(road_class[s])], class_field)
            values[s] = _positive(value, field, ids[s])
        return values

    def given(fields: tuple[str, ...]) -> tuple[Mapping[str, Any], ...]:
        return tuple({f: p[f] for f in fields if p.get(f) is not None} for p in properties)

    arrays = {
        "speed_kmh": per_segment("speed_kmh", "speed_kmh"),
        "lanes": per_segment("lanes", "lanes"),
        "width_m": per_segment("width_m", "width_m"),
    }
    surface = []
    for s, p in enumerate(properties):
        if not p.get("surface"):
            derived[s].add("surface")
        surface.append(_surface(p.get("surface") or classes[int(road_class[s])].surface, ids[s]))
    index = {identifier: s for s, identifier in enumerate(ids)}
    return City(
        folder=folder,
        name=_text(city, "name", "city.toml [city]"),
        title=_text(city, "title", "city.toml [city]"),
        crs=crs,
        timezone=_text(city, "timezone", "city.toml [city]"),
        region=_text(city, "region", "city.toml [city]"),
        settings=settings,
        classes=classes,
        network=network,
        segment_ids=ids,
        segment_names=tuple(str(p.get("name") or "") for p in properties),
        segment_zones=tuple(str(p.get("zone") or "all") for p in properties),
        road_class=road_class.astype(np.int16),
        **arrays,
        surface=tuple(surface),
        dispersion_properties=given(DISPERSION_PROPERTIES),
        noise_properties=given(NOISE_PROPERTIES),
        derived=tuple(frozenset(d) for d in derived),
        car_edges=network.directed_edges(
            motor & np.isin(direction, ("both", "forward")),
            motor & np.isin(direction, ("both", "backward")),
        ),
        bicycle_edges=network.directed_edges(bicycle, bicycle),
        grid=_read_grid(settings),
        sensors=_read_sensors(folder, index, to_metric),
        emission=_read_emission(settings, classes),
        network_hash=hashlib.sha256(network_bytes).hexdigest()[:16],
    )


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError as error:
        raise CityError(f"{path}: file is missing; a city pack needs it") from error
    except tomllib.TOMLDecodeError as error:
        raise CityError(f"{path}: not valid TOML: {error}") from error


def _read_bytes(folder: Path, name: str) -> bytes:
    plain, packed = folder / name, folder / f"{name}.gz"
    if plain.is_file():
        return plain.read_bytes()
    if packed.is_file():
        return gzip.decompress(packed.read_bytes())
    raise CityError(f"{plain}: file is missing; a city pack needs it")


def read_features(content: bytes, name: str) -> list[dict[str, Any]]:
    """Features of a FeatureCollection.

    Raises
    ------
    CityError
        When there is none.
    """
    try:
        collection = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        try:
            collection = json.loads(content)  # takes NaN, which tables with gaps are written with
        except ValueError:
            raise CityError(f"{name}: not valid JSON: {error}") from error
    features = collection.get("features") if isinstance(collection, dict) else None
    if not isinstance(features, list) or not features:
        raise CityError(f"{name}: features: expected a FeatureCollection with features, got none")
    return [_feature(feature) for feature in features]


def _feature(feature: Any) -> dict[str, Any]:
    """A feature whose properties and geometry are objects, empty where they are anything else."""
    whole = feature if isinstance(feature, dict) else {}
    parts = {key: whole.get(key) for key in ("properties", "geometry")}
    return {**whole, **{key: part if isinstance(part, dict) else {} for key, part in parts.items()}}


def _polylines(features: list[dict[str, Any]], to_metric: Transformer) -> list[NDArray[np.float64]]:
    """Metric vertices of each street; checked and transformed together, which is much faster."""
    lonlats = [_lonlat(feature, number) for number, feature in enumerate(features)]
    lonlat = np.concatenate(lonlats)
    starts = np.cumsum([0, *(len(x) for x in lonlats)])
    names = [(f.get("properties") or {}).get("id", f"number {n}") for n, f in enumerate(features)]
    if degrees_fault(lonlat):
        fault = next((n, told) for n, x in enumerate(lonlats) if (told := degrees_fault(x)))
        raise CityError(f"network.geojson: segment {names[fault[0]]}: coordinates: {fault[1]}")
    xy = np.stack(to_metric.transform(lonlat[:, 0], lonlat[:, 1]), axis=1)
    if not (finite := np.isfinite(xy).all(axis=1)).all():
        at = int(np.argmin(finite))
        raise CityError(
            f"network.geojson: segment {names[np.searchsorted(starts, at, side='right') - 1]}: coordinates: "
            f"{lonlat[at].tolist()} lies outside the city's CRS; looks like latitude and longitude swapped"
        )
    keep = np.concatenate([[True], np.abs(np.diff(xy, axis=0)).max(axis=1) > 1e-6])
    keep[starts[:-1]] = True
    kept = np.add.reduceat(keep, starts[:-1])
    if (kept < 2).any():
        raise CityError(
            f"network.geojson: segment {names[int(np.argmin(kept))]}: coordinates: its length is zero"
        )
    return np.split(xy[keep], np.cumsum(kept)[:-1])


def _lonlat(feature: dict[str, Any], number: int) -> NDArray[np.float64]:
    geometry = feature.get("geometry") or {}
    name = (feature.get("properties") or {}).get("id", f"number {number}")
    if geometry.get("type") != "LineString":
        raise CityError(
            f"network.geojson: segment {name}: geometry.type: expected LineString, got {geometry.get('type')}"
        )
    lonlat = _positions(geometry.get("coordinates"))
    if lonlat is None:
        raise CityError(f"network.geojson: segment {name}: coordinates: {NO_LINE}")
    return lonlat


def _positions(coordinates: object) -> NDArray[np.float64] | None:
    """First two columns of two or more finite positions, None for anything else."""
    try:
        lonlat = np.asarray(coordinates, dtype=float)
    except (TypeError, ValueError):
        return None
    if lonlat.ndim != 2 or lonlat.shape[0] < 2 or lonlat.shape[1] < 2 or not np.isfinite(lonlat).all():
        return None
    return np.asarray(lonlat[:, :2])


def line_positions(coordinates: object) -> tuple[NDArray[np.float64], str]:
    """Longitudes and latitudes of a line, (n, 2) [deg], and what is wrong with them ("" when nothing is)."""
    lonlat = _positions(coordinates)
    return (np.empty((0, 2)), NO_LINE) if lonlat is None else (lonlat, degrees_fault(lonlat))


def degrees_fault(lonlat: NDArray[np.float64]) -> str:
    """What is wrong with positions as WGS84 degrees, "" when nothing is; lonlat is (n, 2)."""
    longitude, latitude = np.abs(lonlat).max(axis=0)
    if latitude <= 90 and longitude <= 180:
        return ""
    swapped = latitude <= 180 and longitude <= 90
    return (
        f"expected longitude and latitude in degrees (WGS84), got {lonlat[0].tolist()}; looks like "
        f"{'latitude and longitude swapped' if swapped else 'metric coordinates'}"
    )


def _check_ids(ids: tuple[str, ...]) -> None:
    seen: set[str] = set()
    for number, identifier in enumerate(ids):
        if not identifier:
            raise CityError(f"network.geojson: feature number {number}: id: is missing")
        if identifier in seen:
            raise CityError(f"network.geojson: segment {identifier}: id: occurs twice")
        seen.add(identifier)


def _class_of(properties: dict[str, Any], identifier: str, classes: Mapping[int, RoadClass]) -> int:
    """Code of a segment's class, which may be told by its code or its name."""
    value = properties.get("road_class")
    if isinstance(value, int) and value in classes:
        return value
    for code, road_class in classes.items():
        if value == road_class.name:
            return code
    raise CityError(
        f"network.geojson: segment {identifier}: road_class: got {value!r}, "
        f"expected one of {sorted(classes)} or a name of theirs (city.toml [[road_class]])"
    )


def _direction(properties: dict[str, Any], identifier: str) -> str:
    value = properties.get("direction", "both")
    if value not in ALLOWED_DIRECTIONS:
        raise CityError(
            f"network.geojson: segment {identifier}: direction: got {value!r}, "
            f"expected one of {', '.join(ALLOWED_DIRECTIONS)}"
        )
    return str(value)


def _read_classes(settings: Mapping[str, Any]) -> dict[int, RoadClass]:
    rows = settings.get("road_class")
    if not isinstance(rows, list) or not rows:
        raise CityError("city.toml: [[road_class]]: expected one table for each class of road")
    classes = {}
    for row in rows:
        try:
            road_class = RoadClass(**row)
        except TypeError as error:
            raise CityError(f"city.toml: [[road_class]] {row.get('code')}: {error}") from error
        if not isinstance(road_class.code, int) or not 0 <= road_class.code <= MAX_CLASS:
            raise CityError(
                f"city.toml: [[road_class]] {road_class.name}: code: got {road_class.code!r}, "
                f"expected a whole number of 0 to {MAX_CLASS}"
            )
        if road_class.srm not in ("srm1", "srm2"):
            raise CityError(
                f"city.toml: [[road_class]] {road_class.code}: srm: got {road_class.srm!r}, "
                "expected srm1 or srm2"
            )
        classes[road_class.code] = road_class
    return classes


def _read_emission(settings: Mapping[str, Any], classes: Mapping[int, RoadClass]) -> EmissionFactors:
    where = "city.toml"
    try:
        factors = city_factors(settings)
        for code, road_class in classes.items():
            where = f"city.toml: [[road_class]] {code}"
            regime_codes([str(road_class.regime)])
    except EmissionError as error:
        raise CityError(f"{where}: {error}") from error
    return factors


def _read_grid(settings: Mapping[str, Any]) -> ReceptorGrid:
    table = _table(settings, "receptors", "city.toml")
    x_min, y_min, x_max, y_max, step = (
        float(_number(table, key, "city.toml [receptors]"))
        for key in ("x_min", "y_min", "x_max", "y_max", "step_m")
    )
    if step <= 0 or x_max <= x_min or y_max <= y_min:
        raise CityError("city.toml: [receptors]: expected step_m > 0, x_max > x_min and y_max > y_min")
    return ReceptorGrid(
        x_min=x_min,
        y_min=y_min,
        step_m=step,
        n_columns=round((x_max - x_min) / step),
        n_rows=round((y_max - y_min) / step),
    )


def _read_sensors(folder: Path, index: Mapping[str, int], to_metric: Transformer) -> tuple[Sensor, ...]:
    if not any((folder / n).is_file() for n in ("sensors.geojson", "sensors.geojson.gz")):
        return ()
    sensors = []
    for feature in read_features(_read_bytes(folder, "sensors.geojson"), "sensors.geojson"):
        p, geometry = feature.get("properties") or {}, feature.get("geometry") or {}
        identifier = str(p.get("id", ""))
        segment_id = p.get("segment_id")
        if segment_id is not None and str(segment_id) not in index:
            raise CityError(
                f"sensors.geojson: sensor {identifier}: segment_id: got {segment_id!r}, "
                "expected an id of network.geojson"
            )
        polygon = None
        if geometry.get("type") == "Polygon":
            ring = np.asarray(geometry["coordinates"][0], dtype=float)
            polygon = np.stack(to_metric.transform(ring[:, 0], ring[:, 1]), axis=1)
            x, y = (float(v) for v in polygon[:-1].mean(axis=0))
        elif geometry.get("type") == "Point":
            x, y = (float(v) for v in to_metric.transform(*geometry["coordinates"][:2]))
        else:
            raise CityError(
                f"sensors.geojson: sensor {identifier}: geometry.type: got "
                f"{geometry.get('type')!r}, expected Point or Polygon"
            )
        sensors.append(
            Sensor(
                id=identifier,
                source=str(p.get("source", "")),
                segment=index.get(str(segment_id), -1),
                direction=str(p.get("direction", "both")),
                modes=tuple(p.get("modes", ())),
                xy=(x, y),
                polygon=polygon,
                simulated=bool(p.get("simulated", False)),
            )
        )
    return tuple(sensors)


def _table(settings: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    value = settings.get(key)
    if not isinstance(value, dict):
        raise CityError(f"{where}: [{key}]: is missing")
    return value


def _text(table: Mapping[str, Any], key: str, where: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value:
        raise CityError(f"{where} {key}: got {value!r}, expected text")
    return value


def _number(table: Mapping[str, Any], key: str, where: str) -> float:
    value = table.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise CityError(f"{where} {key}: got {value!r}, expected a number")
    return float(value)


def _positive(value: Any, field: str, identifier: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise CityError(
            f"network.geojson: segment {identifier}: {field}: got {value!r}, expected a number > 0"
        )
    return float(value)


def _surface(value: Any, identifier: str) -> str:
    if value not in SURFACE_NAMES:
        raise CityError(
            f"network.geojson: segment {identifier}: surface: got {value!r}, "
            f"expected one of {', '.join(SURFACE_NAMES)}"
        )
    return str(value)
