"""cometlog itself: every write path, through a writer handle or through the client.

Config keys: `write_path` (mmap, buffered, sync, async), `preset` (a constructor of cometlog.Config,
"default"), `via` ("writer" or "client"), `segment_size_bytes`, and `rest_ms`: an untimed pause before each
value, in which the engine's helper thread can populate pages ahead, as it does for a writer that is not
always busy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from time import perf_counter, sleep
from typing import Any

import cometlog
from cometbench.subjects.contract import Chunk, Subject, Timed

_CHUNK_ENTRIES = 20_000


class EngineSubject(Subject):
    """One client and one writer on `stream`."""

    def open(self) -> None:
        write_path: Any = str(self.config.get("write_path", "mmap"))
        self._client = cometlog.open(self.directory / "log", self._engine_config(), write_path=write_path)
        self._writer = self._client.writer(self.stream)

    def append_call(self, batch: int) -> Callable[[Any], object]:
        if self.config.get("via", "writer") == "writer":
            return self._writer.append if batch == 1 else self._writer.extend
        append, stream = self._client.append, self.stream
        return lambda item: append(stream, [item] if batch == 1 else item)

    def time_calls(self, items: list[Any], batch: int) -> Timed:
        """Like the contract's loop; single entries through the client get their list inside the loop."""
        if batch != 1 or self.config.get("via", "writer") == "writer":
            return super().time_calls(items, batch)
        append, stream, result = self._client.append, self.stream, None
        started = perf_counter()
        for item in items:
            result = append(stream, [item])
        return Timed(perf_counter() - started, result)

    def last_number(self, result: Any) -> int | None:
        return result if isinstance(result, int) else int(result[-1])

    def prepare(self, bytes_in_all: int) -> None:
        del bytes_in_all
        sleep(float(self.config.get("rest_ms", 0)) / 1000)

    def settle(self) -> None:
        self._client.sync(self.stream)

    def close(self) -> None:
        self._client.close()

    def read_back(self) -> Iterator[Chunk]:
        with cometlog.open(self.directory / "log", read_only=True) as client:
            number = client.first_entry(self.stream)
            end = client.next_entry(self.stream)
            while number < end:
                batch = client.read(self.stream, start=number, count=_CHUNK_ENTRIES)
                if not batch:
                    return
                numbers = batch.numbers
                yield Chunk(range(numbers[0], numbers[-1] + 1), batch.payloads())
                number = batch.next_entry

    def _engine_config(self) -> cometlog.Config:
        config: cometlog.Config = getattr(cometlog.Config, str(self.config.get("preset", "default")))()
        size = int(self.config.get("segment_size_bytes", config.storage.segment_size_bytes))
        return dataclasses.replace(
            config, storage=dataclasses.replace(config.storage, segment_size_bytes=size)
        )
