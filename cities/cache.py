"""Where prepared data is kept, by a hash of what it was made from."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Callable
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
