"""What OpenStreetMap's tags say of a street or a building; the tables are in defaults/openstreetmap.toml."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

from cities.pack import BUNDLED

DEFAULTS = BUNDLED / "defaults"
_TABLES: dict[str, Any] = tomllib.loads((DEFAULTS / "openstreetmap.toml").read_text(encoding="utf-8"))
HIGHWAYS: Mapping[str, Mapping[str, Any]] = _TABLES["highway"]
SURFACES: Mapping[str, str] = _TABLES["surface"]
RESIDENTIAL, OTHER_USE = "residential", "other"
KMH_PER_MPH = 1.609344
KMH_PER_KNOT = 1.852
M_PER_FOOT = 0.3048
LEVEL_M = 3.0
STEEPEST_PERCENT = 50.0  # steps, or a slip of the pen
UNKNOWN_HEIGHT_M = 9.0
PATH, FOOTWAY = 10, 11  # rows of settings.toml with and without bicycles

Tags = Mapping[str, str]


def street_properties(tags: Tags) -> dict[str, Any] | None:
    """Properties of the interchange format, None for what nobody travels on.

    ``lanes`` is of one direction: the mean of both where they differ. What no tag tells is left out, and what
    a word tells instead of a number (a zone's speed) is marked derived.
    """
    highway = tags.get("highway", "")
    if highway not in HIGHWAYS or tags.get("area") == "yes":
        return None
    direction = travel_direction(tags)
    made: dict[str, Any] = {
        "road_class": highway,
        "direction": direction,
        "name": tags.get("name") or tags.get("ref") or "",
        "highway": highway,
    }
    code = _class_by_use(tags)
    if code != HIGHWAYS[highway]["road_class"]:
        made["road_class"] = code
    speed, is_exact = speed_limit_kmh(tags)
    if speed is not None:
        made["speed_kmh"] = round(speed, 1)
        if not is_exact:
            made["derived"] = ["speed_kmh"]
    lanes = lanes_per_direction(tags, is_one_way=direction in ("forward", "backward"))
    if lanes is not None:
        made["lanes"] = lanes
    if SURFACES.get(tags.get("surface", "")):
        made["surface"] = SURFACES[tags["surface"]]
    gradient = gradient_percent(tags)
    if gradient is not None:
        made["gradient_percent"] = gradient
    if tags.get("bridge", "no") != "no":
        made["is_bridge"] = True
    if tags.get("tunnel", "no") not in ("no", "building_passage"):
        made["is_tunnel"] = True
    return made


def is_roundabout(tags: Tags) -> bool:
    """Of a way, or of a node that is a mini-roundabout."""
    return tags.get("junction") in ("roundabout", "circular") or tags.get("highway") == "mini_roundabout"


def gradient_percent(tags: Tags) -> float | None:
    """Slope in the direction of the way [%], None where no number in percent tells it."""
    number = re.fullmatch(r"([+-]?\d+(?:\.\d+)?)\s*%", tags.get("incline", "").strip())
    return float(number[1]) if number and abs(float(number[1])) <= STEEPEST_PERCENT else None


def _class_by_use(tags: Tags) -> int:
    """Class of the highway value, but for driveways and for ways where bicycles may or may not go."""
    highway = tags["highway"]
    code = int(HIGHWAYS[highway]["road_class"])
    if highway == "service":
        return int(_TABLES["service"].get(tags.get("service", ""), code))
    bicycle = tags.get("bicycle")
    if (
        code == FOOTWAY
        and highway in ("footway", "bridleway")
        and bicycle in ("yes", "designated", "permissive")
    ):
        return PATH
    if code == PATH and bicycle in ("no", "dismount", "private"):
        return FOOTWAY
    return code


def travel_direction(tags: Tags) -> str:
    """Direction of general motor traffic: both, forward, backward or none."""
    highway = tags["highway"]
    row = HIGHWAYS[highway]
    if not row.get("motor", True) or row["road_class"] in (PATH, FOOTWAY) or is_closed_to_motors(tags):
        return "none"
    one_way = tags.get("oneway")
    if one_way in ("-1", "reverse"):
        return "backward"
    if one_way in ("yes", "true", "1"):
        return "forward"
    implied = highway == "motorway" or is_roundabout(tags)
    return "forward" if implied and one_way != "no" else "both"


def is_closed_to_motors(tags: Tags) -> bool:
    """By the most special of the access tags that is there."""
    for key in ("motorcar", "motor_vehicle", "vehicle", "access"):
        if key in tags:
            return tags[key] in _TABLES["access"]["closed"]
    return False


def speed_limit_kmh(tags: Tags) -> tuple[float | None, bool]:
    """Limit [km/h], None when no tag tells; and whether a number told it."""
    numbers = [_speed(tags.get(f"maxspeed:{way}", "")) for way in ("forward", "backward")]
    both = [speed for speed, is_exact in numbers if speed is not None and is_exact]
    told = _speed(tags.get("maxspeed", ""))
    if told[0] is None and both:
        return sum(both) / len(both), True
    if told[0] is not None:
        return told
    for key in ("maxspeed:type", "source:maxspeed", "zone:maxspeed"):
        speed, _ = _speed(tags.get(key, ""))
        if speed is not None:
            return speed, False
    return None, False


def _speed(text: str) -> tuple[float | None, bool]:
    number = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(km/h|kmh|kph|mph|knots)?", text.strip())
    if number:
        unit = {"mph": KMH_PER_MPH, "knots": KMH_PER_KNOT}.get(number[2] or "", 1.0)
        value = float(number[1]) * unit
        return (value, True) if value > 0 else (None, False)
    word = text.rpartition(":")[2].strip().lower()
    zone = re.fullmatch(r"(?:zone)?:?(\d+)", word)
    if zone:
        return float(zone[1]), False
    value_of_word: float | None = _TABLES["speed_kmh"].get(word)
    return value_of_word, False


def lanes_per_direction(tags: Tags, *, is_one_way: bool) -> float | None:
    """Lanes of one direction, None when no tag tells."""
    ways = [_count(tags.get(f"lanes:{way}", "")) for way in ("forward", "backward")]
    given = [n for n in ways if n is not None]
    total = _count(tags.get("lanes", ""))
    if not is_one_way and len(given) == 2:
        return max(sum(given) / 2.0, 0.5)
    if total is None:
        return given[0] if is_one_way and given else None
    return total if is_one_way else total / 2.0


def _count(text: str) -> float | None:
    number = re.fullmatch(r"\d+(?:\.\d+)?", text.strip())
    return float(text) if number and float(text) > 0 else None


def building_use(tags: Tags) -> str | None:
    """Whether people live in a building: "residential", "other", or None where its tag does not tell.

    Of several values (``retail;apartments``) one that is residential is enough, and "other" takes them all.
    """
    values = [value.strip() for value in tags.get("building", "").split(";")]
    if any(value in _TABLES["building"]["residential"] for value in values):
        return RESIDENTIAL
    return OTHER_USE if all(value in _TABLES["building"]["other"] for value in values) else None


def building_height_m(tags: Tags) -> tuple[float, bool]:
    """Height [m], and whether it was derived: from levels of 3 m, or 9 m where nothing is known."""
    for key in ("height", "building:height"):
        height = _length_m(tags.get(key, ""))
        if height is not None:
            return height, False
    levels = [float(n) for n in re.findall(r"\d+(?:\.\d+)?", tags.get("building:levels", ""))]
    if levels and max(levels) > 0:
        return max(levels) * LEVEL_M, True
    return UNKNOWN_HEIGHT_M, True


def _length_m(text: str) -> float | None:
    """Metres of "12", "12.5 m", "40 ft" or 40'6"; None for anything else, zero included."""
    text = text.strip().replace(",", ".")
    number = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(m|ft)?", text)
    if number:
        value = float(number[1]) * (M_PER_FOOT if number[2] == "ft" else 1.0)
        return value if value > 0 else None
    feet = re.fullmatch(r"(\d+)'(?:\s*(\d+)\")?", text)
    return (int(feet[1]) + int(feet[2] or 0) / 12.0) * M_PER_FOOT if feet else None
