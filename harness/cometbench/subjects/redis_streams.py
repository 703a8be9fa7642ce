"""Redis Streams: XADD, pipelined for a batch. What an answer promises is the server's setting (services/redis.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

from cometbench.peers import import_peer
from cometbench.subjects.contract import Chunk
from cometbench.subjects.served import ServedSubject

_FIELD = b"d"
_CHUNK_ENTRIES = 10_000


class RedisStreams(ServedSubject):
    """One stream; its ids are times, so entries are read back without numbers."""

    def open(self) -> None:
        self._client = self._connect()

    def append_call(self, batch: int) -> Callable[[Any], object]:
        return self._append_one if batch == 1 else self._append_many

    def version(self) -> str:
        return f"{self.config['server']} (redis-py {version('redis')})"

    def close(self) -> None:
        self._client.close()

    def read_back(self) -> Iterator[Chunk]:
        client, after = self._connect(), "-"
        while found := client.xrange(self.log_name, min=after, count=_CHUNK_ENTRIES):
            yield Chunk(None, [fields[_FIELD] for _, fields in found])
            after = b"(" + found[-1][0]
        client.delete(self.log_name)
        client.close()

    def _connect(self) -> Any:
        host, _, port = self.address.rpartition(":")
        return import_peer("redis").Redis(host, int(port))

    def _append_one(self, entry: bytes) -> object:
        return self._client.xadd(self.log_name, {_FIELD: entry})

    def _append_many(self, entries: list[bytes]) -> object:
        pipeline, name = self._client.pipeline(transaction=False), self.log_name
        for entry in entries:
            pipeline.xadd(name, {_FIELD: entry})
        return pipeline.execute()
