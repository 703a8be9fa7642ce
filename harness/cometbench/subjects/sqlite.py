"""SQLite in WAL mode: a row per entry, a transaction per append call.

A commit writes to the WAL file and survives a crash of the process. With `synchronous` FULL it is synced too; with NORMAL only a
checkpoint syncs, with OFF nothing does (CLAIMS.md A3).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

from cometbench.subjects.contract import Chunk, Subject

_INSERT = "INSERT INTO log (data) VALUES (?)"
_CHUNK_ENTRIES = 10_000


class Sqlite(Subject):
    """Config `synchronous` is "OFF", "NORMAL" or "FULL"."""

    def open(self) -> None:
        self._connection = sqlite3.connect(self.directory / "log.sqlite", isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute(f"PRAGMA synchronous = {self.config['synchronous']}")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS log (number INTEGER PRIMARY KEY, data BLOB NOT NULL)"
        )

    def append_call(self, batch: int) -> Callable[[Any], object]:
        return self._append_one if batch == 1 else self._append_many

    def last_number(self, result: Any) -> int | None:
        return int(result)

    def version(self) -> str:
        return f"SQLite {sqlite3.sqlite_version}"

    def close(self) -> None:
        self._connection.close()

    def read_back(self) -> Iterator[Chunk]:
        connection = sqlite3.connect(self.directory / "log.sqlite")
        rows = connection.execute("SELECT number, data FROM log ORDER BY number")
        while found := rows.fetchmany(_CHUNK_ENTRIES):
            yield Chunk(range(found[0][0], found[-1][0] + 1), [data for _, data in found])
        connection.close()

    def _append_one(self, entry: bytes) -> int | None:
        return self._connection.execute(_INSERT, (entry,)).lastrowid

    def _append_many(self, entries: list[bytes]) -> int | None:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        self._connection.executemany(_INSERT, [(entry,) for entry in entries])
        last: int = execute("SELECT last_insert_rowid()").fetchone()[0]
        execute("COMMIT")
        return last
