"""The slots of a shard that one client holds (PROTOCOL A2).

Thread safety: the caller holds the shard's lock. Invariant: a slot in the table is locked by this client's description, which
does not conflict with itself, so the table is what keeps two users inside one client apart.
"""

import os
from pathlib import Path

from cometlog.control import Control
from cometlog.errors import ShardBusyError
from cometlog.kernel import layout
from cometlog.locks import SLOT_BYTE_FIRST, ShardLocks


class Slots:
    """Takes slots and gives them back."""

    def __init__(self, stream: str, control: Control, locks: ShardLocks) -> None:
        self._stream = stream
        self._control = control
        self._locks = locks
        self._held: list[int] = []
        self._start_time = 0

    def take(self) -> int:
        """Lock a slot that is IDLE, or one that a dead owner left, and return its index."""
        left_behind: int | None = None
        for index in range(layout.SLOT_COUNT):
            if index in self._held or not self._locks.try_exclusive(SLOT_BYTE_FIRST + index):
                continue
            if self._control.look_at_slot(index).state == layout.STATE_IDLE:
                if left_behind is not None:
                    self._locks.unlock(SLOT_BYTE_FIRST + left_behind)
                return self._own(index)
            if left_behind is None:
                left_behind = index
            else:
                self._locks.unlock(SLOT_BYTE_FIRST + index)
        if left_behind is None:
            raise ShardBusyError(f"{self._stream}: all {layout.SLOT_COUNT} slots are taken by live writers")
        self._control.set_slot_idle(self._control.look_at_slot(left_behind))
        return self._own(left_behind)

    def _own(self, index: int) -> int:
        self._held.append(index)
        self._start_time = int(Path("/proc/self/stat").read_text().rpartition(") ")[2].split()[19])
        self._pid = os.getpid()
        self._control.name_slot_owner(index, self._pid, self._start_time)
        return index

    def somebody_took(self, index: int) -> bool:
        """Return whether another process took a slot that is held here, which it can only where its ``lock`` is another file."""
        return self._control.slot_owner(index) != (self._pid, self._start_time)

    def give_back(self) -> None:
        """Unlock every slot; the caller has made them IDLE."""
        while self._held:
            self._locks.unlock(SLOT_BYTE_FIRST + self._held.pop())
