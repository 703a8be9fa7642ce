"""cometlog itself: every write path, through a writer handle or through the client.

Config keys: `write_path` (mmap, buffered, sync, async, uring, or the dotted path `module:Class` of one that lies
elsewhere), `preset` (a constructor of cometlog.Config, "default"), fields of the engine's configuration by group
(`storage.checkpoint_interval_ms`), `via` ("writer" or "client"), `segment_size_bytes`, and `rest_ms`: an untimed pause
before each value, in which the engine's helper thread can populate pages ahead, as it does for a writer that is not
always busy. `sync_every`: a sync after as many calls, timed with them. `dictionary_samples`: a dictionary is trained on
as many other entries of `dictionary_workload` before anything is appended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import cometlog
from cometbench.benchmark import ConfigValue, load_subject
from cometbench.errors import CannotMeasureError
from cometbench.subjects.contract import Chunk, Subject, Timed
from cometbench.workloads import build_pool
from cometlog.compression import train
from cometlog.dictionaries import store_dictionary
from cometlog.errors import WritePathUnavailableError
from cometlog.names import parse_stream
from cometlog.write_paths import WRITE_PATHS

DICTIONARY_SIZE_BYTES = 64 << 10
_CHUNK_ENTRIES = 20_000
# Entries that a dictionary is trained on come from a seed of their own: it is never tried on what it was trained on.
_SAMPLES_SEED = -1


class EngineSubject(Subject):
    """One client and one writer on `stream`; the threads of a process share the client."""

    _client: cometlog.Client
    _writer: cometlog.Writer
    _shares_client = False

    def open_beside(self, other: Subject) -> None:
        assert isinstance(other, EngineSubject)
        self._shares_client, self._client = True, other._client
        self._writer = self._client.writer(self.stream)

    def open(self) -> None:
        write_path: Any = str(self.config.get("write_path", "mmap"))
        if ":" in write_path:
            WRITE_PATHS.setdefault(write_path, load_subject(write_path))
        log = self.directory / "log"
        self._client = cometlog.open(log, self._engine_config(), write_path=write_path)
        samples = int(self.config.get("dictionary_samples", 0))
        if samples:
            store_trained(log, self.stream, str(self.config["dictionary_workload"]), samples)
        try:
            self._writer = self._client.writer(self.stream)
        except WritePathUnavailableError as error:
            raise CannotMeasureError(str(error)) from error

    def append_call(self, batch: int) -> Callable[[Any], object]:
        if self.config.get("via", "writer") == "writer":
            return self._writer.append if batch == 1 else self._writer.extend
        append, stream = self._client.append, self.stream
        return lambda item: append(stream, [item] if batch == 1 else item)

    def time_calls(self, items: list[Any], batch: int) -> Timed:
        """Like the contract's loop; single entries through the client get their list inside the loop."""
        sync_every = int(self.config.get("sync_every", 0))
        if sync_every:
            return self._time_synced(items, batch, sync_every)
        if batch != 1 or self.config.get("via", "writer") == "writer":
            return super().time_calls(items, batch)
        append, stream, result = self._client.append, self.stream, None
        started = perf_counter()
        for item in items:
            result = append(stream, [item])
        return Timed(perf_counter() - started, result)

    def _time_synced(self, items: list[Any], batch: int, sync_every: int) -> Timed:
        append, sync, result = self.append_call(batch), self._client.sync, None
        started = perf_counter()
        for start in range(0, len(items), sync_every):
            for item in items[start : start + sync_every]:
                result = append(item)
            sync(self.stream)
        return Timed(perf_counter() - started, result)

    def last_number(self, result: Any) -> int | None:
        return result if isinstance(result, int) else int(result[-1])

    def prepare(self, bytes_in_all: int) -> None:
        del bytes_in_all
        sleep(float(self.config.get("rest_ms", 0)) / 1000)

    def settle(self) -> None:
        self._client.sync(self.stream)

    def close(self) -> None:
        if not self._shares_client:
            self._client.close()

    def read_back(self) -> Iterator[Chunk]:
        with cometlog.open(self.directory / "log", read_only=True) as client:
            yield from chunks_of(client, self.stream)

    def _engine_config(self) -> cometlog.Config:
        return engine_config(self.config)


def engine_config(settings: Mapping[str, ConfigValue]) -> cometlog.Config:
    """Return the engine's configuration that a benchmark's or probe's `config` describes."""
    groups: dict[str, dict[str, ConfigValue]] = {}
    for key, value in settings.items():
        group, _, field = ("storage." + key if key == "segment_size_bytes" else key).partition(".")
        if field:
            groups.setdefault(group, {})[field] = value
    preset: cometlog.Config = getattr(cometlog.Config, str(settings.get("preset", "default")))()
    return preset.with_changes(**groups)


@cache
def _trained(workload: str, samples: int) -> bytes:
    entries = build_pool(workload, samples, _SAMPLES_SEED)
    return train(entries, DICTIONARY_SIZE_BYTES, cometlog.Config.default().compression.level)


def store_trained(log: Path, stream: str, workload: str, samples: int) -> None:
    """Train a dictionary for a stream that has no entries yet, and store it."""
    directory = parse_stream(stream).directory(log)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    store_dictionary(directory, _trained(workload, samples), cometlog.Config.default().storage.file_mode)


def chunks_of(client: cometlog.Client, stream: str) -> Iterator[Chunk]:
    """Yield everything that a stream holds, from its first kept entry on."""
    number, end = client.first_entry(stream), client.next_entry(stream)
    while number < end:
        batch = client.read(stream, start=number, count=_CHUNK_ENTRIES)
        if not batch:
            return
        numbers = batch.numbers
        yield Chunk(range(numbers[0], numbers[-1] + 1), batch.payloads())
        number = batch.next_entry
