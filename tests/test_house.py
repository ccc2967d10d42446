"""The house stays whole: imports go only to the left, and no city is known to the code."""

import ast
from pathlib import Path

import pytest

HOME = Path(__file__).resolve().parent.parent
ROOMS = ["kernels", "cities", "streams", "agents"]
RIGHT = ["dashboards", "studies", "benchmarks"]
RANK = {room: rank for rank, room in enumerate(ROOMS)} | dict.fromkeys(RIGHT, len(ROOMS))
RANK |= {"cluster": len(ROOMS) + 1, "controlroom": len(ROOMS) + 2}  # a cluster runs rooms


def modules() -> list[Path]:
    found = [p for room in (*ROOMS, *RIGHT, "cluster") for p in sorted((HOME / room).rglob("*.py"))]
    return [*found, HOME / "controlroom.py"]


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        rooms |= {name.split(".")[0] for name in names} & RANK.keys()
    return rooms


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(HOME)))
def test_imports_go_only_to_the_left(path: Path) -> None:
    room = path.relative_to(HOME).parts[0].removesuffix(".py")
    for other in imported_rooms(path):
        allowed = RANK[other] < RANK[room] or other == room
        if room == "benchmarks":  # a benchmark of the whole room prepares and shows a city as the room does
            allowed = allowed or other in ("studies", "dashboards", "cluster")
        assert allowed, f"{path.relative_to(HOME)} imports {other}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(HOME)))
def test_no_module_knows_a_city(path: Path) -> None:
    if path.name == "controlroom.py" or path.parts[-2] == "benchmarks":
        return  # the default of --city
    strings = [
        node.value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 60
    ]
    examples = ("example:", "python -m")
    assert not [s for s in strings if ("ghent" in s.lower() or "WEGO" in s) and not s.startswith(examples)]


@pytest.mark.parametrize("room", ["kernels", "agents"])
def test_agents_and_kernels_read_no_wall_clock_and_no_random_generator(room: str) -> None:
    for path in sorted((HOME / room).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {a.name for a in node.names} | {getattr(node, "module", "") or ""}
                assert not {"time", "random", "requests", "socket"} & names, path
