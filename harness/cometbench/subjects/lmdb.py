"""LMDB: ascending keys appended to its B-tree, a write transaction per append call.

A commit writes its pages to the file, and with `sync` also syncs them; without, it survives a crash of the process alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from cometbench.peers import import_peer
from cometbench.subjects.contract import Chunk, Subject
from cometbench.subjects.keyed import KEY, chunks, keyed

_MAP_BYTES = 16 << 30


class Lmdb(Subject):
    """Config `sync` False is MDB_NOSYNC."""

    def open(self) -> None:
        lmdb, path = import_peer("lmdb"), str(self.directory / "lmdb")
        self._environment = lmdb.open(path, map_size=_MAP_BYTES, sync=bool(self.config["sync"]))
        self._next = 0

    def append_call(self, batch: int) -> Callable[[Any], object]:
        return self._append_one if batch == 1 else self._append_many

    def last_number(self, result: Any) -> int | None:
        return int(result)

    def version(self) -> str:
        return "LMDB " + ".".join(map(str, import_peer("lmdb").version()))

    def close(self) -> None:
        self._environment.close()

    def read_back(self) -> Iterator[Chunk]:
        with (
            import_peer("lmdb").open(str(self.directory / "lmdb"), readonly=True) as environment,
            environment.begin() as transaction,
        ):
            yield from chunks(transaction.cursor())

    def _append_one(self, entry: bytes) -> int:
        number = self._next
        with self._environment.begin(write=True) as transaction:
            transaction.put(KEY.pack(number), entry, append=True)
        self._next = number + 1
        return number

    def _append_many(self, entries: list[bytes]) -> int:
        with self._environment.begin(write=True) as transaction:
            transaction.cursor().putmulti(keyed(self._next, entries), append=True)
        self._next += len(entries)
        return self._next - 1
