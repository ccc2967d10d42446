"""Where prepared data is kept, by a hash of what it was made from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import platformdirs

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
