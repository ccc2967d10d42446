"""The state file holds all of a step, or none of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streams.store import Snapshot, Store, StoreError
from streams.topics import Batch, Topic

ENTRY = ("alarms", "a", 60_000, 1, "abc")


def alarm() -> Batch:
    return Batch(Topic.ALARMS, "a", 60_000, {"state": np.array(["normal"], dtype=object)})


def test_a_snapshot_comes_back_with_what_was_published_before_it(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    with Store(path, "run") as store:
        assert store.load() is None
        store.save(Snapshot(7, {"x": np.arange(3)}), [ENTRY], [alarm()])
    with Store(path, "run") as store:
        snapshot = store.load()
        assert snapshot is not None
        assert snapshot.offset == 7
        np.testing.assert_array_equal(snapshot.state["x"], np.arange(3))
        assert store.entries() == [ENTRY]
        assert [b.key for b in store.audit()] == ["a"]


def test_a_failed_save_leaves_the_snapshot_before_it(tmp_path: Path) -> None:
    with Store(tmp_path / "state.sqlite", "run") as store:
        store.save(Snapshot(1, {"x": 1}), [], [])
        with pytest.raises(AttributeError):
            store.save(Snapshot(2, {"x": 2}), [ENTRY], [None])  # type: ignore[list-item]
        snapshot = store.load()
        assert snapshot is not None
        assert snapshot.offset == 1
        assert store.entries() == []


def test_the_state_of_another_run_is_refused(tmp_path: Path) -> None:
    with Store(tmp_path / "state.sqlite", "one") as store:
        store.save(Snapshot(1, {}), [], [])
    with pytest.raises(StoreError, match="another run"):
        Store(tmp_path / "state.sqlite", "two")


def test_a_file_that_is_no_state_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.sqlite").write_text("not a database, but long enough to look like a file" * 20)
    with pytest.raises(StoreError, match="cannot be used"):
        Store(tmp_path / "state.sqlite", "run")
