"""Importing a topic of Kafka or a stream of JetStream into a stream of the log: a replay, in order and without what was sent twice.

::

    with Importer(client, "events:v1:shard:0000", source="kafka://broker:9092/events", until_end=True) as importer:
        importer.run()

Each record becomes one entry with the record's bytes and the time of the import. Records that a forwarder sent carry the key of their
entry: of each stream that was forwarded, those are appended that come behind the last of their partition, so what a forwarder sent
again is left out. A source keeps the order of a forwarded stream within a partition; beyond that the order is the one of reading.

That holds while an entry that is sent again goes into the partition that it was first sent to. Where the number of partitions of a
topic was raised in between, it may come in another and is appended twice; of a topic that is partitioned by key, one that did not
arrive the first time may then come behind a later entry of other keys and is left out. Exactly once, nothing arrives again.

Where an import stands is kept beside the stream (``import_position.py``): nothing is appended twice and nothing left out, whenever the
process is killed.

Thread safety: ``run`` belongs to one thread; ``stop`` and ``stats`` may be called from any other and from a signal handler.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from cometlog.client import Client
from cometlog.errors import BatchTooLargeError, ConfigurationError, ReadOnlyError
from cometlog.forward.entry_key import parse_key
from cometlog.forward.import_position import ImportPosition, Place
from cometlog.forward.source import Record, open_source
from cometlog.names import check_group_name, compile_pattern, parse_stream

WAIT_S = 0.2
"""How long a read waits for a record before it is looked whether to stop."""


@dataclass(frozen=True, slots=True)
class ImportStatistics:
    """What an import did since it began: ``records`` were read and ``appended``, or left out as ``duplicates`` or ``unwanted``.

    ``lost`` records had been removed by the source before they were read. ``state`` is "starting", "importing", "waiting" (for
    records), or "stopped".
    """

    records: int = 0
    appended: int = 0
    appended_bytes: int = 0
    duplicates: int = 0
    unwanted: int = 0
    lost: int = 0
    state: str = "starting"


class Importer:
    """One import into one stream. Use it as a context manager, or call ``close``.

    ``source`` is ``kafka://host:port/topic`` or ``nats://host:port/stream``; ``group`` names the import, which goes on where it stood;
    ``batch_size`` the most entries that are appended together; ``until_end`` lets ``run`` return when everything is read that there
    was when it began; ``only`` takes records of forwarded streams whose names match a pattern, and no others; ``properties`` go to
    the client library as they are.

    Raises DestinationError, ConfigurationError, GroupNameError, StreamNameError, ReadOnlyError, ExtraMissingError.
    """

    def __init__(
        self, client: Client, stream: str, *, source: str, group: str = "import", batch_size: int = 1000,
        until_end: bool = False, only: str | None = None, properties: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        if client.read_only:
            raise ReadOnlyError(f"the client of {client.path} was opened read-only; an import must append")
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ConfigurationError(f"batch_size is a whole number from 1 on, got {batch_size!r}")
        self.stream = str(parse_stream(stream))
        self.group = check_group_name(group)
        self._client = client
        self._name = source
        self._batch_size = batch_size
        self._until_end = until_end
        self._is_wanted = None if only is None else compile_pattern(only).fullmatch
        self._stopping = threading.Event()
        self._stats = ImportStatistics()
        self._source = open_source(source, properties or {})

    def run(self) -> None:
        """Import until ``stop``, or until the end.

        Raises TargetError where the source is not there, ImportPositionError where another process imports for this group or the
        position is of another source, and what appending raises. A source that stops answering later is waited for.
        """
        self._source.check()
        position = ImportPosition(self._client, self.stream, self.group, self._name)
        try:
            place = position.load()
            self._count(lost=self._source.go_to(place.offsets))
            while not self._stopping.is_set() and not (self._until_end and self._source.is_at_end()):
                records = self._source.read(self._batch_size, WAIT_S)
                self._stats = replace(self._stats, state="importing" if records else "waiting")
                place = self._append(position, place, records)
            position.settle(place)
        finally:
            position.close()
            self._stats = replace(self._stats, state="stopped")

    def _append(self, position: ImportPosition, place: Place, records: Sequence[Record]) -> Place:
        """Append what is new among some records, and return where the import stands behind them."""
        after = Place(dict(place.offsets), dict(place.numbers))
        entries, duplicates, unwanted = [], 0, 0
        for record in records:
            after.offsets[record.partition] = record.offset + 1
            key = parse_key(record.identity)
            origin = "" if key is None else f"{record.partition}/{key.origin}"
            if self._is_wanted is not None and (key is None or not self._is_wanted(key.stream)):
                unwanted += 1
            elif key is not None and after.numbers.get(origin, [-1]) >= [key.epoch, key.number]:
                duplicates += 1
            else:
                entries.append(record.data)
                if key is not None:
                    after.numbers[origin] = [key.epoch, key.number]
        if entries:
            position.announce(place, after, entries)
            try:
                self._client.append(self.stream, entries)
            except BatchTooLargeError:
                if len(records) == 1:
                    raise
                middle = len(records) // 2
                return self._append(
                    position, self._append(position, place, records[:middle]), records[middle:]
                )
        self._count(
            records=len(records), appended=len(entries), appended_bytes=sum(map(len, entries)),
            duplicates=duplicates, unwanted=unwanted,
        )  # fmt: skip
        return after

    def _count(self, **more: int) -> None:
        stats = self._stats
        self._stats = replace(stats, **{name: getattr(stats, name) + value for name, value in more.items()})

    def stats(self) -> ImportStatistics:
        """Return what this import has done so far."""
        return self._stats

    def stop(self) -> None:
        """Make ``run`` return behind the batch it is at."""
        self._stopping.set()

    def close(self) -> None:
        """Let go of the source. Closing twice is harmless."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
