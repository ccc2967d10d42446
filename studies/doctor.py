"""Check what Twinroom needs, and say how to mend what fails."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agents.exposure import why_nobody_is_counted
from cities.cache import MAX_BYTES, cache_folder, entries
from cities.dispersion import Model, Why, dispersion_of
from cities.noise_geometry import has_obstacles, read_noise_geometry
from cities.pack import City, find_city, load_city
from cities.road_noise import road_noise_of
from cities.wind_rose import annual_wind
from streams.recording import read_recording
from studies.screened_noise import read_setting

ROOM = ("agents", "cities", "dashboards", "kernels", "streams", "studies")
NEEDED = ("bokeh", "numba", "numpy", "orjson", "pandas", "pyproj", "scipy", "shapely", "tornado")
TOLD = 5  # segments that are named
FREE_GB = 2.0  # the transfers and columns of Ghent take 0.7 GB


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what, whether it is well, and how to mend it if not."""

    subject: str
    is_well: bool
    text: str


def examine(city: str, port: int) -> list[Finding]:
    """All checks, each on its own: one that fails hides no other."""
    checks: list[tuple[str, Callable[[], str]]] = [
        ("python", _python),
        ("packages", _packages),
        ("import names", _collisions),
        ("cache", _cache),
        ("port", lambda: _port(port)),
        ("city pack", lambda: _city(city)),
        ("air", lambda: _air(city)),
        ("noise", lambda: _noise(city)),
        ("people", lambda: _people(city)),
        ("recording", lambda: _recording(city)),
    ]
    findings = []
    for subject, check in checks:
        try:
            findings.append(Finding(subject, True, check()))
        except (OSError, ValueError, ImportError) as error:
            findings.append(Finding(subject, False, str(error)))
    return findings


def _python() -> str:
    version = sys.version_info
    if (version.major, version.minor) != (3, 11):
        raise ValueError(f"got {version.major}.{version.minor}, expected 3.11; use `make run` with it")
    return sys.version.split()[0]


def _packages() -> str:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"missing: {', '.join(missing)}; run `make install`")
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in NEEDED)


def _collisions() -> str:
    home = Path(__file__).resolve().parent.parent
    for name in ROOM:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None or not Path(spec.origin).is_relative_to(home):
            origin = spec.origin if spec else "nowhere"
            raise ImportError(
                f"'{name}' is imported from {origin}, not from {home}; another package has its name: "
                "install Twinroom in an environment of its own (`make install`)"
            )
    return f"all from {home}"


def _cache() -> str:
    folder = cache_folder()
    probe = folder / ".probe"
    probe.write_bytes(b"")
    probe.unlink()
    free_gb = shutil.disk_usage(folder).free / 1e9
    if free_gb < FREE_GB:
        raise OSError(f"{folder}: {free_gb:.1f} GB free, {FREE_GB} needed; set TWINROOM_CACHE elsewhere")
    held_gb = sum(entry.n_bytes for entry in entries()) / 1e9
    return (
        f"{folder}: holds {held_gb:.1f} GB, beyond {MAX_BYTES / 1e9:.0f} GB what was unused longest goes; "
        f"{free_gb:.0f} GB free"
    )


def _port(port: int) -> str:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise OSError(f"{port} is in use ({error.strerror}); choose another with --port") from error
    return f"{port} is free"


def _city(name: str) -> str:
    city = load_city(find_city(name))
    return f"{city.title}: {city.network.n_segments} segments, {len(city.sensors)} sensors"


def _air(name: str) -> str:
    city = load_city(find_city(name))
    dispersion = dispersion_of(city)
    annual_wind(city)
    streets, roads = (dispersion.model > Model.NONE) & (dispersion.model < Model.SRM2), Model.SRM2
    flags = [Why(int(why)) for why in dispersion.why]
    outside = [city.segment_ids[s] for s, why in enumerate(flags) if why.is_outside]
    told = f" ({', '.join(outside[:TOLD])}{' ...' if len(outside) > TOLD else ''})" if outside else ""
    return (
        f"{int((dispersion.model == roads).sum())} open roads by SRM2, {int(streets.sum())} streets by SRM1, "
        f"{sum(Why.TYPE_ASSUMED in why for why in flags)} of them of an assumed type; "
        f"{len(outside)} outside the validity of their method{told}"
    )


def _noise(name: str) -> str:
    city = load_city(find_city(name))
    setting, roads = read_setting(city), _roads(city)
    if not has_obstacles(city.folder):
        return f"open ground: no buildings, screens or terrain in this pack; {roads}"
    geometry = read_noise_geometry(city, setting.ground_factor)
    counts = (
        f"screened by {geometry.n_buildings} buildings ({geometry.n_derived} of a derived height, "
        f"{geometry.n_repaired} repaired) and {geometry.n_barriers} screens; {roads}"
    )
    return "; ".join((counts, *geometry.findings))


def _roads(city: City) -> str:
    """Coefficients, what is known of gradients and junctions, free speeds beyond those of the surfaces."""
    road = road_noise_of(city)
    told = [f"coefficients {road.coefficients.name}"]
    n_near = int(((road.near_crossing > 0.0) | (road.near_roundabout > 0.0)).sum())
    for count, what in (
        (road.n_gradients_given, "have a gradient of their own"),
        (road.n_gradients_of_terrain, "that of the terrain"),
        (n_near, "are near a junction"),
    ):
        if count:
            told.append(f"{count} segments {what}")
    motor = np.isin(np.arange(city.network.n_segments), city.car_edges.segment)
    outside = road.is_outside_range(city.speed_kmh) & motor
    for row in np.unique(road.surface[outside]):
        name = road.coefficients.surface_names[row]
        _, least, most = road.coefficients.surfaces[name]
        told.append(
            f"{int((outside & (road.surface == row)).sum())} segments at free speeds beyond those surface "
            f"{name} was made for ({least:g} to {most:g} km/h), calculated at their speed"
        )
    return "; ".join(told)


def _people(name: str) -> str:
    city = load_city(find_city(name))
    if nobody := why_nobody_is_counted(city):
        return nobody
    return f"{city.settings['population']['total']:,} residents are spread over the city and counted"


def _recording(name: str) -> str:
    recording = read_recording(find_city(name))
    if recording.damage is not None:
        raise ValueError(f"{recording.path}: {recording.damage.reason}")
    return f"{recording.path.name}: {len(recording.lines)} lines"
