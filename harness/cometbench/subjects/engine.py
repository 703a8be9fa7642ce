"""cometlog itself: every write path, through a writer handle or through the client.

Config keys: `write_path` (mmap, buffered, sync, async), `preset` (a constructor of cometlog.Config,
"default"), `via` ("writer" or "client").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import cometlog

from cometbench.subjects.contract import Chunk, Subject

_CHUNK_ENTRIES = 20_000


class EngineSubject(Subject):
    """One client and one writer on `stream`."""

    def open(self) -> None:
        preset = getattr(cometlog.Config, str(self.config.get("preset", "default")))
        self._write_path: Any = str(self.config.get("write_path", "mmap"))
        self._client = cometlog.open(self.directory / "log", preset(), write_path=self._write_path)
        self._writer = self._client.writer(self.stream)

    def append_call(self, batch: int) -> Callable[[Any], object]:
        if self.config.get("via", "writer") == "writer":
            return self._writer.append if batch == 1 else self._writer.extend
        client_append, stream = self._client.append, self.stream
        if batch == 1:
            return lambda entry: client_append(stream, [entry])
        return lambda entries: client_append(stream, entries)

    def last_number(self, result: Any) -> int | None:
        return result if isinstance(result, int) else result[-1]

    def settle(self) -> None:
        self._client.sync(self.stream)

    def close(self) -> None:
        self._client.close()

    def read_back(self) -> Iterator[Chunk]:
        with cometlog.open(self.directory / "log", read_only=True) as client:
            number = client.first_entry(self.stream)
            end = client.next_entry(self.stream)
            while number < end:
                batch = list(client.read(self.stream, start=number, count=_CHUNK_ENTRIES))
                if not batch:
                    return
                numbers = range(batch[0].number, batch[-1].number + 1)
                yield Chunk(numbers, [entry.data for entry in batch])
                number = numbers.stop
