"""city.toml of an imported city: what was given, completed by stated defaults."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from cities.importers.osm_tags import DEFAULTS
from cities.pack import CityError, RoadClass
from kernels.profile import DEFAULT_HOURLY

MAX_RECEPTORS = 1_500_000
STEPS_M = (10.0, 15.0, 20.0, 25.0, 40.0, 50.0, 75.0, 100.0, 150.0, 200.0, 300.0, 500.0)
MARGIN_M = 200.0  # of receptors around the network
BACKGROUND = ("no2", "o3", "pm10", "pm25", "mean_wind_m_s")
HEAD = """\
# Written by `twinroom city import`. Where a source says "assumed", replace it by the city's own.
# The gaps of the network are filled in from the road classes: after a change of these, import again with
# --settings and a copy of this file.

"""
ROW_FIELDS = tuple(f.name for f in fields(RoadClass))


@dataclass(frozen=True, slots=True)
class Named:
    """What the one who imports says of the city; None where nothing is said."""

    name: str | None = None
    timezone: str | None = None
    attribution: str = ""


@dataclass(slots=True)
class Settings:
    """A city.toml in the making; ``assumed`` names what was filled in."""

    table: dict[str, Any]
    assumed: list[str] = field(default_factory=list)
    given: bytes | None = None

    def content(self) -> bytes:
        """The file as it was given if that is complete, else written anew."""
        if self.given is not None and tomllib.loads(self.given.decode()) == self.table:
            return self.given
        return (HEAD + toml_text(self.table)).encode()


def read_settings(path: Path) -> Settings:
    """A city.toml that was given; :func:`complete_settings` fills it in.

    Raises
    ------
    CityError
        When it cannot be read.
    """
    try:
        content = path.read_bytes()
        return Settings(tomllib.loads(content.decode()), given=content)
    except OSError as error:
        raise CityError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CityError(f"{path}: not valid TOML: {error}") from error


def complete_classes(settings: Settings) -> None:
    """Road classes: the default table, or the given rows, each completed by the default row of like speed."""
    rows = settings.table.get("road_class")
    if rows is None:
        settings.table["road_class"] = _defaults()["road_class"]
        settings.assumed.append("[[road_class]]")
        return
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise CityError("city.toml: [[road_class]]: expected one table for each class of road")
    settings.table["road_class"] = [_complete_row(row, settings.assumed) for row in rows]


def _complete_row(row: Mapping[str, Any], assumed: list[str]) -> dict[str, Any]:
    where = f"[[road_class]] {row.get('code')}"
    if isinstance(row.get("code"), bool) or not isinstance(row.get("code"), int):
        raise CityError(f"city.toml: {where}: code: got {row.get('code')!r}, expected a whole number")
    defaults = _defaults()["road_class"]
    for name, default in defaults[0].items():
        if name in row and not _is_like(row[name], default):
            raise CityError(f"city.toml: {where}: {name}: got {row[name]!r}, expected as {default!r}")
    defaults = [d for d in defaults if d["motor"] == row.get("motor", True)]
    speed = float(row.get("speed_kmh", 30.0))
    like = min(defaults, key=lambda d: abs(d["speed_kmh"] - speed))
    missing = [name for name in like if name not in row and name not in ("code", "name", "source")]
    known = {name: row[name] for name in ROW_FIELDS if name in row}
    made = {**like, "code": row["code"], "name": f"class {row['code']}", "source": "assumed", **known}
    assumed += [
        f"{where} {name}: is not a field of a road class, not taken over"
        for name in row
        if name not in ROW_FIELDS
    ]
    if missing:
        assumed += [f"{where} {name}" for name in missing]
        if "source" in row:
            made["source"] = f"{row['source']}; {', '.join(missing)}: assumed"
    return made


def _is_like(value: object, default: object) -> bool:
    """A text for a text, a truth value for one, and a number that is not negative for a number."""
    if isinstance(default, str | bool):
        return isinstance(value, type(default))
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def complete_settings(
    settings: Settings, named: Named, fallback_name: str, lonlat: NDArray[np.float64]
) -> None:
    """Fill in all that load_city and the agents need and that was not given.

    Parameters
    ----------
    settings : Settings
        Changed in place.
    named : Named
    fallback_name : str
        Where nothing names the city.
    lonlat : (n, 2) float64
        Vertices of the network [deg].

    Raises
    ------
    CityError
        For a CRS or time zone that does not exist, or a CRS that is not metric.
    """
    table, assumed = settings.table, settings.assumed
    city = part_of(table, "city")
    if named.name:
        city["name"] = named.name
    if named.timezone:
        city["timezone"] = named.timezone
    name = str(city.get("name") or _plain(fallback_name))
    values = {
        "name": name,
        "title": name.replace("-", " ").replace("_", " ").title(),
        "region": name,
        "crs": utm_of(lonlat),
        "timezone": "UTC",
        "attribution": named.attribution or "not given",
    }
    _fill(city, values, "[city]", assumed)
    check_timezone(str(city["timezone"]))
    _complete_receptors(table, assumed, lonlat, metric_crs(str(city["crs"])))
    defaults = _defaults()
    background = part_of(table, "background")
    lacks = [key for key in BACKGROUND if key not in background]
    if background and lacks:
        background["source"] = f"{background.get('source', 'not given')}; {', '.join(lacks)}: assumed"
    _fill(background, defaults["background"], "[background]", assumed)
    if settings.given is not None:
        return  # the rest has defaults where it is read
    for key in ("emission", "noise", "exposure"):
        if key not in table:
            table[key] = defaults[key]
            assumed.append(f"[{key}]")
    if "profile" not in part_of(table, "traffic"):
        hourly = list(DEFAULT_HOURLY)
        modes = dict.fromkeys(("car", "truck", "bicycle"), hourly)
        table["traffic"]["profile"] = {**modes, "source": "assumed"}
        assumed.append("[traffic.profile]")


def _defaults() -> dict[str, Any]:
    return tomllib.loads((DEFAULTS / "settings.toml").read_text(encoding="utf-8"))


def part_of(table: dict[str, Any], key: str) -> dict[str, Any]:
    """A table of city.toml, made when it is not there."""
    part = table.setdefault(key, {})
    if not isinstance(part, dict):
        raise CityError(f"city.toml: {key}: got {part!r}, expected a table [{key}]")
    return part


def _fill(part: dict[str, Any], values: Mapping[str, Any], where: str, assumed: list[str]) -> None:
    for key, value in values.items():
        if key not in part:
            part[key] = value
            if key != "source":
                assumed.append(f"{where} {key} = {value}")


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "city"


def utm_of(lonlat: NDArray[np.float64]) -> str:
    """CRS of the UTM zone around the middle of positions.

    Raises
    ------
    CityError
        Beyond 84 degrees north or 80 south, where there is none.
    """
    lon, lat = (float(v) for v in (lonlat.min(axis=0) + lonlat.max(axis=0)) / 2)
    if not -80.0 <= lat <= 84.0:
        raise CityError(
            f"network: coordinates: latitude {lat:.1f} has no UTM zone; give a crs in a city.toml"
        )
    zone = min(int((lon + 180.0) // 6.0) + 1, 60)
    return f"EPSG:{(32600 if lat >= 0 else 32700) + zone}"


def metric_crs(name: str) -> CRS:
    """A CRS in metres.

    Raises
    ------
    CityError
        When it is unknown, or counts in degrees or feet.
    """
    try:
        crs = CRS.from_user_input(name)
    except CRSError as error:
        raise CityError(f"city.toml [city] crs: got {name!r}, expected a metric CRS as EPSG:32631") from error
    if not crs.is_projected or crs.axis_info[0].unit_name not in ("metre", "meter"):
        raise CityError(f"city.toml [city] crs: got {name!r}, expected a projected CRS in metres")
    return crs


def check_timezone(name: str) -> None:
    """Refuse a time zone that does not exist."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise CityError(
            f"city.toml [city] timezone: got {name!r}, expected a name as Europe/Zurich"
        ) from error


def _complete_receptors(
    table: dict[str, Any], assumed: list[str], lonlat: NDArray[np.float64], crs: CRS
) -> None:
    """A grid over the network, as fine as 1.5 million receptors allow."""
    part = part_of(table, "receptors")
    if all(key in part for key in ("x_min", "y_min", "x_max", "y_max", "step_m")):
        return
    transformer = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    xy = np.stack(transformer.transform(lonlat[:, 0], lonlat[:, 1]), axis=1)
    xy = xy[np.isfinite(xy).all(axis=1)]
    low, high = xy.min(axis=0) - MARGIN_M, xy.max(axis=0) + MARGIN_M
    wanted = [float(part["step_m"])] if "step_m" in part else []
    step = next(
        s for s in (*wanted, *STEPS_M, math.inf) if np.prod(np.ceil((high - low) / s) + 1) <= MAX_RECEPTORS
    )
    if math.isinf(step):
        raise CityError(f"network: its extent of {(high - low) / 1000} km is too large for one city")
    low, high = np.floor(low / step) * step, np.ceil(high / step) * step
    part |= {
        "height_noise_m": 4.0,
        **part,
        "x_min": float(low[0]), "y_min": float(low[1]), "x_max": float(high[0]), "y_max": float(high[1]),
        "step_m": step,
    }  # fmt: skip
    assumed.append(f"[receptors] around the network every {step:g} m")


def toml_text(table: Mapping[str, Any], prefix: str = "") -> str:
    """TOML of tables, arrays of tables, lists, texts, numbers and truth values."""
    plain, nested = [], []
    for key, value in table.items():
        name = f"{prefix}{_key(key)}"
        if isinstance(value, dict):
            nested.append(f"[{name}]\n{toml_text(value, name + '.')}")
        elif isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
            nested += [f"[[{name}]]\n{toml_text(row, name + '.')}" for row in value]
        else:
            plain.append(f"{_key(key)} = {_value(value)}\n")
    return "".join(plain) + ("\n" if plain else "") + "".join(nested)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(_value(v) for v in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_key(k)} = {_value(v)}' for k, v in value.items())}}}"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in escaped) + '"'
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return str(value)  # whole numbers, decimals and dates read as they are written
