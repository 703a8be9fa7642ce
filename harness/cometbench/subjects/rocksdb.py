"""RocksDB, through rocksdict: ascending keys, a write (of a WriteBatch) per append call.

Its log file is written on each write and survives a crash of the process; with `sync` it is synced too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

from cometbench.peers import import_peer
from cometbench.subjects.contract import Chunk, Subject
from cometbench.subjects.keyed import KEY, chunks, keyed


class RocksDb(Subject):
    """Config `sync` is the option of that name of each write."""

    def open(self) -> None:
        self._library = import_peer("rocksdict")
        self._database = self._open_database()
        self._options = self._library.WriteOptions()
        self._options.sync = bool(self.config["sync"])
        self._next = 0

    def append_call(self, batch: int) -> Callable[[Any], object]:
        return self._append_one if batch == 1 else self._append_many

    def last_number(self, result: Any) -> int | None:
        return int(result)

    def version(self) -> str:
        log = self.directory / "rocksdb" / "LOG"
        found = re.search(r"RocksDB version: (\S+)", log.read_text()) if log.exists() else None
        return f"RocksDB {found[1] if found else ''} (rocksdict {version('rocksdict')})"

    def close(self) -> None:
        self._database.close()

    def read_back(self) -> Iterator[Chunk]:
        database = self._open_database()
        yield from chunks(database.items())
        database.close()

    def _open_database(self) -> Any:
        library = import_peer("rocksdict")
        return library.Rdict(str(self.directory / "rocksdb"), library.Options(raw_mode=True))

    def _append_one(self, entry: bytes) -> int:
        number = self._next
        self._database.put(KEY.pack(number), entry, self._options)
        self._next = number + 1
        return number

    def _append_many(self, entries: list[bytes]) -> int:
        batch = self._library.WriteBatch(raw_mode=True)
        for key, entry in keyed(self._next, entries):
            batch.put(key, entry)
        self._database.write(batch, self._options)
        self._next += len(entries)
        return self._next - 1
