"""What must last, in one SQLite file: snapshots, what was published, and the audit of alarms."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from streams.codec import decode_batch, encode_batch, pack_state, unpack_state
from streams.digest import Entry
from streams.topics import Batch

_SCHEMA = """
CREATE TABLE IF NOT EXISTS snapshot (id INTEGER PRIMARY KEY CHECK (id = 1), run TEXT, offset INTEGER,
                                     state BLOB);
CREATE TABLE IF NOT EXISTS published (topic TEXT, key TEXT, time_ms INTEGER, revision INTEGER, digest TEXT,
                                      PRIMARY KEY (topic, key, time_ms, revision)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS audit (topic TEXT, time_ms INTEGER, message BLOB);
"""


class StoreError(ValueError):
    """A state file that cannot be used."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """State of all agents and the next line of the recording, written together."""

    offset: int
    state: dict[str, Any]


class Store:
    """State file of one run.

    A snapshot, the digests of what was published since the one before, and the audit rows are one
    transaction: after kill -9 the file holds either all or none of a step.

    Parameters
    ----------
    path : Path
        SQLite file, made if missing.
    run : str
        Names what is being played and how; a file of another run is refused.
    """

    def __init__(self, path: Path, run: str) -> None:
        self._run = run
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise StoreError(f"{path}: cannot be used as a state file: {error}") from error
        row = self._connection.execute("SELECT run FROM snapshot").fetchone()
        if row is not None and row[0] != run:
            self._connection.close()
            raise StoreError(
                f"{path}: holds the state of another run ({row[0]}), this one is {run}; "
                "choose another --state or remove the file"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def load(self) -> Snapshot | None:
        """The last snapshot, if there is one."""
        row = self._connection.execute("SELECT offset, state FROM snapshot").fetchone()
        return None if row is None else Snapshot(row[0], unpack_state(row[1]))

    def save(self, snapshot: Snapshot, entries: Iterable[Entry], audit: Iterable[Batch]) -> None:
        """Write a snapshot, the digests of what was published before it, and the audit rows."""
        state = pack_state(snapshot.state)
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(
                "INSERT OR REPLACE INTO snapshot VALUES (1, ?, ?, ?)", (self._run, snapshot.offset, state)
            )
            connection.executemany("INSERT OR REPLACE INTO published VALUES (?, ?, ?, ?, ?)", entries)
            connection.executemany(
                "INSERT INTO audit VALUES (?, ?, ?)",
                ((b.topic.value, b.time_ms, encode_batch(b)) for b in audit),
            )
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise

    def entries(self) -> list[Entry]:
        """All that was published up to the last snapshot."""
        return [tuple(row) for row in self._connection.execute("SELECT * FROM published")]

    def audit(self) -> list[Batch]:
        """Alarm transitions, operator actions and dead letters, in the order they were written."""
        rows = self._connection.execute("SELECT message FROM audit ORDER BY rowid")
        return [decode_batch(row[0]) for row in rows]
