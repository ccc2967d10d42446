"""Turn a city's road register (GeoJSON with its own column names) into network.geojson.

What differs between registers is told by an ``import.toml`` beside the pack:
``python -m cities.register cities/ghent --register FILE``.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from shapely import LineString, get_coordinates
from shapely.geometry import shape

DECIMALS = 6  # of a degree: 0.1 m
SIMPLIFY_DEGREES = 4e-6  # about 0.4 m north to south; end points stay where they are


def import_register(register: Mapping[str, Any], rules: Mapping[str, Any]) -> dict[str, Any]:
    """FeatureCollection in the interchange format.

    MultiLineStrings are split (``id.1``, ``id.2`` ...), a missing direction follows
    ``[direction.missing]`` by class and is marked derived, as is a missing class.

    Parameters
    ----------
    register : mapping
        The register's FeatureCollection, WGS84.
    rules : mapping
        import.toml as read.
    """
    features: list[dict[str, Any]] = []
    columns, directions = rules["columns"], rules["direction"]
    for feature in register["features"]:
        properties = feature["properties"]
        derived = []
        raw_class = properties.get(columns["road_class"])
        if raw_class is None:
            derived.append("road_class")
            raw_class = rules["missing_road_class"]
        road_class = int(raw_class)
        raw_direction = properties.get(columns["direction"])
        if raw_direction is None:
            derived.append("direction")
            direction = "none" if road_class in directions["missing_none"] else "both"
        else:
            direction = directions["values"][raw_direction]
        parts = _lines(feature["geometry"])
        for number, line in enumerate(parts, start=1):
            identifier = str(properties[columns["id"]])
            features.append(
                {
                    "type": "Feature",
                    "properties": {
                        "id": identifier if len(parts) == 1 else f"{identifier}.{number}",
                        "road_class": road_class,
                        "direction": direction,
                        "name": properties.get(columns["name"]) or "",
                        "zone": properties.get(columns["zone"]) or "",
                        **({"derived": derived} if derived else {}),
                    },
                    "geometry": {"type": "LineString", "coordinates": line},
                }
            )
    features.sort(key=lambda f: f["properties"]["id"])
    return {"type": "FeatureCollection", "features": features}


def _lines(geometry: Any) -> list[list[list[float]]]:
    lines = shape(geometry)
    parts = [lines] if isinstance(lines, LineString) else list(lines.geoms)
    rounded = []
    for part in parts:
        coordinates = get_coordinates(part.simplify(SIMPLIFY_DEGREES)).round(DECIMALS)
        rounded.append([[float(p[0]), float(p[1])] for p in coordinates])
    return rounded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pack", type=Path, help="folder with import.toml")
    parser.add_argument("--register", type=Path, required=True, help="the register as GeoJSON")
    arguments = parser.parse_args()
    rules = tomllib.loads((arguments.pack / "import.toml").read_text())
    collection = import_register(orjson.loads(arguments.register.read_bytes()), rules)
    lines = [orjson.dumps(feature) for feature in collection["features"]]
    target = arguments.pack / "network.geojson"
    target.write_bytes(b'{"type":"FeatureCollection","features":[\n' + b",\n".join(lines) + b"\n]}\n")
    print(f"{target}: {len(lines)} segments, {target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
