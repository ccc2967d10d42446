"""What all tests share: a small world of its own for each test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.toy import write_toy_city


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Prepared data of tests goes to a folder of this session, never to the user's cache."""
    folder = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("TWINROOM_CACHE", str(folder))


@pytest.fixture
def toy_folder(tmp_path: Path) -> Iterator[Path]:
    """A city of twenty streets, with its own identifiers and CRS."""
    folder = tmp_path / "toyville"
    write_toy_city(folder)
    yield folder
    shutil.rmtree(folder)
