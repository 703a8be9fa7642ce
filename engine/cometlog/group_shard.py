"""One consumer group on one shard: what was delivered, what is acknowledged.

Thread safety: ``_lock`` guards reading and what is settled out of order; acknowledgements in order go to ``position``, which the GIL
serialises.

Invariants: the shared position never passes an entry that was not acknowledged, burnt or retired; a number beyond the end of the log
is never acknowledged. Out of order means ahead of the position: kept here, and delivered again after a crash.
"""

import threading
from pathlib import Path

from cometlog.errors import CorruptionError, EntryNotFoundError
from cometlog.group_offsets import GroupOffsets
from cometlog.kernel import layout
from cometlog.kernel.group_position import GroupPosition
from cometlog.ranges import Ranges
from cometlog.read_batch import ReadBatch
from cometlog.reader import ShardReader
from cometlog.statistics_file import count, map_statistics


class GroupShard:
    """Reads on from the group's position; ``at_end``: a group that is new here begins at the next entry to come."""

    def __init__(
        self, directory: Path, stream: str, group: str, reader: ShardReader, *, at_end: bool, file_mode: int
    ) -> None:  # fmt: skip
        self.stream = stream
        self.group = group
        self._reader = reader
        self._lock = threading.RLock()
        self._settled = Ranges()
        self._delivered_stop = 0
        self._statistics = map_statistics(directory, writable=True)
        self._offsets = GroupOffsets(directory, stream, file_mode)
        try:
            begin = reader.next_entry() if at_end else 0
            self._line = self._offsets.find_or_make(group, begin, file_mode)
            self.position: GroupPosition = self._offsets.position_of(self._line, self._settle)
        except BaseException:
            self._offsets.close()
            raise
        self._following = self._delivered_stop = self.position.following

    def read(self, count: int) -> ReadBatch:
        """Return up to ``count`` entries that follow those delivered before; none where there is nothing new.

        Raises EntryNotFoundError where the group stands beyond the end of the log.
        """
        # In one stretch: a reader that was just woken finds its caches cold, and each function called costs it a microsecond or two.
        with self._lock:
            position = self.position
            if position.moved_back:
                self.rewind()
            start = self._following
            if position.following > start:
                start = self._following = position.following
            try:
                batch = self._reader.read(start, count)
            except EntryNotFoundError:
                batch = self._read_from_first(start, count)
            if batch.next_entry - start != batch.length:
                self._note_gaps(batch)
            self._following = following = batch.next_entry
            self._delivered_stop = max(self._delivered_stop, following)
            if self._settled:
                self._settle_gaps()
            else:
                position.settle_from(self._delivered_stop)
            if batch.length and self._statistics is not None and not self._statistics.closed:
                self._statistics.add(layout.STATISTICS_DELIVERED, batch.length)
            return batch

    def count(self, field: int, amount: int = 1) -> None:
        """Raise a counter of the shard's statistics, where there are some."""
        if self._statistics is not None:
            count(self._statistics, field, amount)

    def _pass_acknowledged(self) -> None:
        """Go on behind what was acknowledged without having been delivered here."""
        self._following = max(self._following, self.position.following)

    def _read_from(self, start: int, count: int) -> ReadBatch:
        try:
            return self._reader.read(start, count)
        except EntryNotFoundError:
            return self._read_from_first(start, count)

    def _read_from_first(self, start: int, count: int) -> ReadBatch:
        """Read from the first kept entry, where ``start`` was retired."""
        first = self._reader.first_entry()
        if start >= first:
            raise EntryNotFoundError(
                f"group {self.group!r} stands at entry {start} of {self.stream}, which ends before "
                f"{self._reader.next_entry()}; reset the group to go on"
            ) from None
        return self._reader.read(first, count)

    def _note_gaps(self, batch: ReadBatch) -> None:
        """Settle the numbers that no entry has: appends that died, and what retention removed."""
        expected = self._following
        for number in batch.numbers:
            self._settled.add(expected, number)
            expected = number + 1
        self._settled.add(expected, batch.next_entry)

    def _settle_gaps(self) -> None:
        """Raise the position over what is settled, and say how far acknowledgements in order stay plain."""
        if not self._settled:
            self.position.settle_from(self._delivered_stop)
            return
        self.position.advance(self._settled.take_from(self.position.following))
        ahead = self._settled.first
        self.position.settle_from(
            self._delivered_stop if ahead is None else min(ahead - 1, self._delivered_stop)
        )

    def _settle(self, start: int, stop: int) -> None:
        """Take an acknowledgement that is ahead of its turn, or of entries that were not delivered here."""
        with self._lock:
            if stop > self._delivered_stop:
                following = self._reader.next_entry()
                if stop > following:
                    raise EntryNotFoundError(
                        f"entry {stop - 1} of {self.stream} cannot be acknowledged: the next to come is {following}"
                    )
                self._delivered_stop = stop
            self._settled.add(start, stop)
            self._settle_gaps()

    def lag(self) -> int:
        """Return how many entry numbers lie between the group's position and the end of the log."""
        return max(0, self._reader.next_entry() - self._shared_position())

    def _shared_position(self) -> int:
        line = self._offsets.find(self.group)
        if line is None or line.position is None:
            raise CorruptionError(
                f"the line of group {self.group!r} is gone",
                file=str(self._offsets.path),
                offset=0,
                stream=self.stream,
            )
        return line.position

    @staticmethod
    def check_reset(group: str, stream: str, number: int, following: int) -> None:
        """Raise EntryNotFoundError unless a group may stand at ``number`` of a stream that ends before ``following``."""
        if not 0 <= number <= following:
            raise EntryNotFoundError(
                f"group {group!r} cannot stand at entry {number} of {stream}: the next to come is {following}"
            )

    def has_new(self) -> bool:
        """Return whether there is an entry to deliver now; one in flight is none yet."""
        with self._lock:
            self._pass_acknowledged()
            return self.position.moved_back or len(self._read_from(self._following, 1)) > 0

    def rewind(self) -> None:
        """Deliver again from the shared position on."""
        with self._lock:
            self._following = self._delivered_stop = self.position.follow()
            self._settled.clear()

    def checkpoint(self) -> None:
        """Make the position durable. Raises OSError where the file system does not."""
        self.position.write_checkpoint()
        self._offsets.sync()

    def close(self) -> None:
        """Leave the position as it is and let go of the file."""
        if self._statistics is not None:
            self._statistics.close()
        self._offsets.close()
