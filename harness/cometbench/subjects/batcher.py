"""The engine's batcher: the call under test is `add`, which queues; a thread of the same process appends.

Config keys: those of the engine subject; the batcher's own defaults are used, with one shard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import cometlog
from cometbench.errors import SubjectError
from cometbench.subjects.contract import Chunk, Subject
from cometbench.subjects.engine import chunks_of, engine_config


class BatcherSubject(Subject):
    """One client and one batcher; what was added is in the log once `close` has returned."""

    def open(self) -> None:
        namespace, version, _, shard = self.stream.split(":")
        if int(shard) != 0:
            raise SubjectError(f"the batcher fills shard 0, not {self.stream}")
        self._client = cometlog.open(self.directory / "log", engine_config(self.config))
        self._batcher = cometlog.Batcher(self._client, namespace, version)

    def append_call(self, batch: int) -> Callable[[Any], object]:
        if batch != 1:
            raise SubjectError(f"the batcher takes single entries, not batches of {batch}")
        return self._batcher.add

    def close(self) -> None:
        self._batcher.close()
        self._client.close()

    def read_back(self) -> Iterator[Chunk]:
        with cometlog.open(self.directory / "log", read_only=True) as client:
            yield from chunks_of(client, self.stream)
