"""Where prepared data is kept, by a hash of what it was made from."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import platformdirs
from numpy.typing import NDArray

Progress = Callable[[str, float], None]
"""Called with what is being done and the fraction that is done."""


def cache_folder() -> Path:
    """$TWINROOM_CACHE, else the user's cache folder."""
    folder = os.environ.get("TWINROOM_CACHE") or platformdirs.user_cache_dir("twinroom")
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    return path


# A city's transfers and columns take 0.4 to 4 GB, and every change of its buildings leaves another version.
MAX_BYTES = 20_000_000_000
RECENT_S = 3600.0  # what a run may be making, or has made and not yet opened
_OURS = re.compile(r"[a-z]+(-[a-z]+)*-[0-9a-f]{20}([.-].*)?")  # a kind and a content key; anything else stays


@dataclass(frozen=True, slots=True)
class Entry:
    """One prepared file or folder: its size [bytes], and when it was last used [s since 1970]."""

    path: Path
    n_bytes: int
    used_s: float


def entries() -> list[Entry]:
    """What the cache holds, the longest unused first."""
    found = [_entry(path) for path in cache_folder().iterdir() if _OURS.fullmatch(path.name)]
    return sorted(found, key=lambda entry: (entry.used_s, entry.path.name))


def tidy(max_bytes: int = MAX_BYTES) -> list[Entry]:
    """Remove what was unused longest until the rest fits; returns what was removed.

    What was used within the last hour stays. A file that a running room has mapped lives on until it ends.
    """
    held = entries()
    n_bytes, recent_s = sum(entry.n_bytes for entry in held), time.time() - RECENT_S
    removed = []
    for entry in held:
        if n_bytes <= max_bytes or entry.used_s > recent_s:
            break
        if entry.path.is_dir():
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            entry.path.unlink(missing_ok=True)
        n_bytes -= entry.n_bytes
        removed.append(entry)
    return removed


def _entry(path: Path) -> Entry:
    """Size and use of a file, or of all files of a folder; another run may be removing them."""
    n_bytes, used_s = 0, 0.0
    for part in (path, *path.rglob("*")) if path.is_dir() else (path,):
        try:
            stat = part.stat()
        except FileNotFoundError:
            continue
        used_s = max(used_s, stat.st_mtime)
        if not part.is_dir():  # folders are read by whoever looks what is there
            n_bytes, used_s = n_bytes + stat.st_size, max(used_s, stat.st_atime)
    return Entry(path, n_bytes, used_s)


def content_key(*parts: object) -> str:
    """Twenty hexadecimal digits that change when any part does; arrays count with their bytes."""
    digest = hashlib.sha256()
    for part in parts:
        if hasattr(part, "tobytes"):
            digest.update(str((part.dtype, part.shape)).encode())  # type: ignore[attr-defined]
            digest.update(part.tobytes())
        else:
            digest.update(repr(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:20]


# From here on an array lies in a file of the cache, which a machine with less memory writes out and reads
# back where it would otherwise end: receptor grids may be of any size.
MAPPED_FROM_BYTES = 1 << 30


def zeros(shape: tuple[int, ...], dtype: type) -> NDArray[Any]:
    """An array of zeros, mapped from a file without a name if it is large."""
    n_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if n_bytes < MAPPED_FROM_BYTES:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile(dir=cache_folder()) as file:
        return np.memmap(file, dtype=dtype, mode="w+", shape=shape)


def keep(folder: Path, value: Any) -> None:
    """Write a dataclass of arrays, numbers, tuples and such dataclasses to a folder.

    It is made beside its place and renamed, so that a killed run leaves no half of it.
    """
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}-partial-"))
    try:
        tree = _kept(value, partial, "")
        (partial / "tree.json").write_bytes(orjson.dumps(tree))
        partial.rename(folder)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        if not folder.is_dir():  # else another run was faster, with the same content
            raise


def kept(folder: Path, *types: type) -> Any:
    """What :func:`keep` wrote, its arrays mapped from their files; ``types`` are the dataclasses in it."""
    tree = orjson.loads((folder / "tree.json").read_bytes())
    return _restored(tree, folder, {kind.__name__: kind for kind in types})


def _kept(value: Any, folder: Path, path: str) -> Any:
    if dataclasses.is_dataclass(value):
        fields = {
            f.name: _kept(getattr(value, f.name), folder, f"{path}.{f.name}" if path else f.name)
            for f in dataclasses.fields(value)
        }
        return {"dataclass": type(value).__name__, "fields": fields}
    if isinstance(value, np.ndarray):
        np.save(folder / f"{path}.npy", value)
        return {"array": f"{path}.npy"}
    if isinstance(value, tuple):
        return {"tuple": [_kept(v, folder, f"{path}.{i}") for i, v in enumerate(value)]}
    return {"number": "inf" if value == math.inf else value}


def _restored(tree: dict[str, Any], folder: Path, types: dict[str, type]) -> Any:
    if "dataclass" in tree:
        fields = {name: _restored(v, folder, types) for name, v in tree["fields"].items()}
        return types[tree["dataclass"]](**fields)
    if "array" in tree:
        return _mapped(folder / tree["array"])
    if "tuple" in tree:
        return tuple(_restored(v, folder, types) for v in tree["tuple"])
    return math.inf if tree["number"] == "inf" else tree["number"]


def _mapped(path: Path) -> NDArray[Any]:
    try:
        return np.asarray(np.load(path, mmap_mode="r"))
    except ValueError:  # an array without any byte cannot be mapped
        return np.asarray(np.load(path))
