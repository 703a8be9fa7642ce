"""The ``control`` file of a shard: the words that live processes share. Format: FORMAT.md, "The control file".

Thread safety: every field is one aligned word with a stated order, argued in ARCHITECTURE.md, "Memory orders", but for the clean
record and the boot identity, which only the exclusive holder of lock byte 0 writes.
"""

import contextlib
import functools
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from cometlog.errors import CometlogError, CorruptionError, NewerFormatError
from cometlog.files import open_checked
from cometlog.fixed_file import create_fixed_file
from cometlog.kernel import layout, turns
from cometlog.kernel.checksum import crc32c
from cometlog.kernel.mapping import Mapping
from cometlog.segment import list_segments

_CLEAN = struct.Struct("<QQ16s28x")
WRITE_PATH_NUMBERS = {"buffered": 1, "sync": 2, "async": 3, "mmap": 4, "uring": 5}
WRITE_PATH_NAMES = {number: name for name, number in WRITE_PATH_NUMBERS.items()}
NO_BOOT = bytes(32)
_NOTHING_DURABLE = (1 << 64) - 1


@functools.cache
def boot_id() -> bytes:
    """Return the 16 bytes that name this boot of the kernel. Tests put another function here to play a reboot."""
    return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", ""))


def boot_identity_of(device: int, inode: int) -> bytes:
    """Return what a file that was written on this boot, and is no copy, has recorded: boot id, device, inode."""
    return boot_id() + struct.pack("<QQ", device, inode)


def segment_of_this_boot(directory: Path) -> int:
    """Return the number of the last segment if it was published on this boot, under its present inode; 0 if not.

    Then the page cache of the shard is whole, whatever became of its control file: a segment is published by a client that attached
    on this boot, after recovery, or by a recovery whose last step that is. After a power loss it names an earlier boot, or is lost.
    """
    for name in list_segments(directory)[-1:]:
        with contextlib.suppress(CometlogError, OSError):
            fd = open_checked(directory / name.file_name, os.O_RDONLY)
            try:
                info = os.fstat(fd)
                recorded = os.pread(fd, len(NO_BOOT), layout.SEGMENT_BOOT_IDENTITY)
            finally:
                os.close(fd)
            if recorded == boot_identity_of(info.st_dev, info.st_ino):
                return name.number
    return 0


def _withdraw_boot_identity(directory: Path) -> None:
    """Say in the last segment that the page cache is not to be trusted, by a call that fails where a store would end the process."""
    with contextlib.suppress(CometlogError, OSError):
        for name in list_segments(directory)[-1:]:
            fd = open_checked(directory / name.file_name, os.O_RDWR)
            try:
                os.pwrite(fd, NO_BOOT, layout.SEGMENT_BOOT_IDENTITY)
            finally:
                os.close(fd)


@dataclass(frozen=True, slots=True)
class CleanRecord:
    """Where the last client left the shard: segment number, tail word and uuid."""

    number: int
    tail: int
    uuid: bytes


@dataclass(frozen=True, slots=True)
class SlotView:
    """One look at a slot, in the order state, segment, claim (PROTOCOL D3 needs the state first)."""

    index: int
    word: int
    segment: int
    claim: int

    @property
    def state(self) -> int:
        """IDLE, BUSY, MARKED or ROTATING."""
        return self.word & layout.STATE_MASK


class Control:
    """The mapped control file of one shard."""

    def __init__(self, path: Path, *, writable: bool) -> None:
        self.path = path
        fd = open_checked(path, os.O_RDWR if writable else os.O_RDONLY)
        try:
            info = os.fstat(fd)
            if info.st_size != layout.CONTROL_SIZE_BYTES:
                raise CorruptionError(
                    f"control has {info.st_size} bytes, not {layout.CONTROL_SIZE_BYTES}",
                    file=str(path),
                    offset=0,
                )
            if writable:
                # A copy may have left zeros out, and a store where no block is would end the process on a full disk.
                os.posix_fallocate(fd, 0, info.st_size)
            self.mapping = Mapping(fd, info.st_size, writable)
        finally:
            os.close(fd)
        self.file_identity = info.st_dev, info.st_ino
        magic, version = self.mapping.read(0, 8), self.mapping.load_acquire_u32(layout.CONTROL_FORMAT)
        if magic != layout.CONTROL_MAGIC_BYTES:
            raise CorruptionError(f"control magic is {magic!r}", file=str(path), offset=0)
        if version > layout.FORMAT_VERSION:
            raise NewerFormatError(
                f"{path} has format {version}; this engine reads up to {layout.FORMAT_VERSION}"
            )

    @staticmethod
    def create(path: Path, file_mode: int, active: int = 0) -> None:
        """Put a control file in place, complete from its first instant; harmless if another process did.

        It is zeroed, or, where ``segment_of_this_boot`` gave ``active``, replaces one that was lost on this boot: then it describes
        a shard that nobody has recovered yet on the boot that wrote it, so that a recovery that is killed is repeated in that form.
        """
        head = layout.CONTROL_MAGIC_BYTES + struct.pack("<II", layout.FORMAT_VERSION, layout.SLOT_COUNT)

        def complete(fd: int) -> None:
            if active:
                info = os.fstat(fd)
                os.pwrite(fd, boot_identity_of(info.st_dev, info.st_ino), layout.CONTROL_BOOT_IDENTITY)
                os.pwrite(fd, struct.pack("<Q", active), layout.CONTROL_ACTIVE)

        create_fixed_file(path, head, layout.CONTROL_SIZE_BYTES, file_mode, complete=complete)

    def boot_identity(self) -> bytes:
        """Return what the stored identity must equal for the words here to mean anything: boot, device, inode."""
        return boot_identity_of(*self.file_identity)

    @property
    def stored_boot_identity(self) -> bytes:
        """The identity under which the shard was last recovered."""
        return self.mapping.read(layout.CONTROL_BOOT_IDENTITY, 32)

    @stored_boot_identity.setter
    def stored_boot_identity(self, identity: bytes) -> None:
        self.mapping.write(layout.CONTROL_BOOT_IDENTITY, identity)
        self.mapping.fence()

    @property
    def write_path(self) -> str | None:
        """Name of the write path in use, or None before the first writer."""
        return WRITE_PATH_NAMES.get(self.mapping.load_acquire(layout.CONTROL_WRITE_PATH))

    @write_path.setter
    def write_path(self, name: str) -> None:
        self.mapping.store_release(layout.CONTROL_WRITE_PATH, WRITE_PATH_NUMBERS[name])

    def withdraw_write_path(self) -> None:
        """Say that the shard is being recovered: whoever attaches shared meanwhile, because this process died, starts again.

        The boot identity stays, so a recovery that was killed is repeated in the same form.
        """
        self.mapping.store_release(layout.CONTROL_WRITE_PATH, 0)

    @property
    def active(self) -> int:
        """Number of the active segment (acquire)."""
        return self.mapping.load_acquire(layout.CONTROL_ACTIVE)

    def set_active(self, number: int) -> None:
        """Store the active segment's number; only under exclusive byte 0."""
        self.mapping.store_release(layout.CONTROL_ACTIVE, number)

    def advance_active(self, number: int) -> bool:
        """Move the active segment from ``number`` to the next (PROTOCOL E5). True if this call did it."""
        return self.mapping.compare_and_swap(layout.CONTROL_ACTIVE, number, number + 1)

    @property
    def poisoned(self) -> bool:
        """Whether a sync failed, after which nothing is acknowledged any more."""
        return bool(self.mapping.load_acquire(layout.CONTROL_FLAGS) & layout.FLAG_POISONED)

    def poison(self) -> None:
        """Refuse acknowledgements in every process from now on, and distrust the page cache even if this file gets lost."""
        self.mapping.set_bits(layout.CONTROL_FLAGS, layout.FLAG_POISONED)
        _withdraw_boot_identity(self.path.parent)

    def clear_poison(self) -> None:
        """Allow acknowledgements again; only an exclusive opener after recovery."""
        self.mapping.clear_bits(layout.CONTROL_FLAGS, layout.FLAG_POISONED)

    @property
    def durable_entry(self) -> int:
        """Entries below this number are on stable storage (acquire)."""
        return self.mapping.load_acquire(layout.CONTROL_DURABLE_ENTRY)

    def raise_durable(self, entry: int, segment: int) -> None:
        """Publish a durable position; a later one that is there already stays."""
        # The segment first: who sees the entry (acquire) sees its segment.
        self.mapping.raise_to_at_least(layout.CONTROL_DURABLE_SEGMENT, segment)
        self.mapping.raise_to_at_least(layout.CONTROL_DURABLE_ENTRY, entry)

    @property
    def turn(self) -> int:
        """How often a lock was let go of that others wait for (acquire); read before the lock is found taken."""
        return self.mapping.load_acquire_u32(layout.CONTROL_TURNS)

    def end_turn(self, durable_before: int | None) -> None:
        """Wake who sleeps in ``sleep_until_turn`` for what became durable since, and one more; the lock was let go of before."""
        turns.end_turn(self.mapping, _NOTHING_DURABLE if durable_before is None else durable_before)

    def sleep_until_turn(self, seen: int, next_entry: int, timeout_s: float) -> None:
        """Sleep until a turn after ``seen`` ends and this sleeper is woken, or ``timeout_s`` seconds passed."""
        turns.sleep_until_turn(self.mapping, seen, next_entry, timeout_s)

    def reset_durable(self, entry: int, segment: int) -> None:
        """Set the durable position to what the mark says; only under exclusive byte 0."""
        self.mapping.store_release(layout.CONTROL_DURABLE_SEGMENT, segment)
        self.mapping.store_release(layout.CONTROL_DURABLE_ENTRY, entry)

    def read_clean_record(self) -> CleanRecord | None:
        """Return the clean record, or None where there is none or it is damaged."""
        raw = self.mapping.read(layout.CONTROL_CLEAN, 64)
        number, tail, uuid = _CLEAN.unpack_from(raw)
        if not number or int.from_bytes(raw[60:], "little") != crc32c(raw[:60]):
            return None
        return CleanRecord(number, tail, uuid)

    def write_clean_record(self, record: CleanRecord | None) -> None:
        """Store the clean record, or clear it with None; only under exclusive byte 0."""
        raw = bytes(64)
        if record is not None:
            raw = _CLEAN.pack(record.number, record.tail, record.uuid)
            raw += crc32c(raw).to_bytes(4, "little")
        self.mapping.write(layout.CONTROL_CLEAN, raw)
        self.mapping.fence()

    @staticmethod
    def _slot_offset(index: int) -> int:
        return layout.CONTROL_SLOTS + index * layout.SLOT_SIZE_BYTES

    def look_at_slot(self, index: int) -> SlotView:
        """Return one look at a slot."""
        offset = self._slot_offset(index)
        load = self.mapping.load_acquire
        # acquire: what stands in segment and claim is at least as new as this state.
        word = load(offset + layout.SLOT_STATE)
        return SlotView(index, word, load(offset + layout.SLOT_SEGMENT), load(offset + layout.SLOT_CLAIM))

    def slots_in_use_alone(self) -> list[int]:
        """Return the slots that are not IDLE; only under exclusive byte 0, when nobody changes one."""
        raw = self.mapping.read(layout.CONTROL_SLOTS, layout.SLOT_COUNT * layout.SLOT_SIZE_BYTES)
        low_bytes = raw[layout.SLOT_STATE :: layout.SLOT_SIZE_BYTES]
        return [index for index, low in enumerate(low_bytes) if low & layout.STATE_MASK != layout.STATE_IDLE]

    def set_slot_idle(self, view: SlotView) -> bool:
        """Make a slot IDLE if it is still as seen; its counter is kept."""
        idle = view.word & ~layout.STATE_MASK
        return self.mapping.compare_and_swap(
            self._slot_offset(view.index) + layout.SLOT_STATE, view.word, idle
        )

    def mark_rotating(self, index: int, segment: int) -> None:
        """Say that slot ``index``, which the caller owns, rotates ``segment`` (PROTOCOL E1)."""
        offset = self._slot_offset(index)
        self.mapping.store_release(offset + layout.SLOT_SEGMENT, segment)
        counter = (self.mapping.load_acquire(offset) >> layout.STATE_COUNTER_SHIFT) + 1
        self.mapping.store_release(offset, counter << layout.STATE_COUNTER_SHIFT | layout.STATE_ROTATING)
        # Before the caller loads `active`; retention loads `active`, fences, then looks at slots: one of the two sees the other.
        self.mapping.fence()

    def mark_idle(self, index: int) -> None:
        """Make slot ``index``, which the caller owns, IDLE."""
        offset = self._slot_offset(index)
        self.mapping.store_release(offset, self.mapping.load_acquire(offset) & ~layout.STATE_MASK)

    def name_slot_owner(self, index: int, pid: int, start_time: int) -> None:
        """Store who took a slot, for people who look at a stalled one."""
        offset = self._slot_offset(index)
        self.mapping.store_release(offset + layout.SLOT_PID, pid)
        self.mapping.store_release(offset + layout.SLOT_START_TIME, start_time)

    def slot_owner_pid(self, index: int) -> int:
        """Return the pid that last took a slot: a hint for people, never proof of life."""
        return self.slot_owner(index)[0]

    def slot_owner(self, index: int) -> tuple[int, int]:
        """Return pid and start time of who last took a slot: hints for people, never proof of life."""
        offset = self._slot_offset(index)
        load = self.mapping.load_acquire
        return load(offset + layout.SLOT_PID), load(offset + layout.SLOT_START_TIME)

    def count(self, field: int, amount: int = 1) -> None:
        """Raise a counter of the shard, CONTROL_RECOVERIES and its neighbours, which several processes may raise at once."""
        seen = self.mapping.load_acquire(field)
        while not self.mapping.compare_and_swap(field, seen, seen + amount):
            seen = self.mapping.load_acquire(field)

    def add_to_slot(self, index: int, field: int, amount: int) -> None:
        """Raise a counter of slot ``index``, which the caller owns."""
        offset = self._slot_offset(index) + field
        self.mapping.store_release(offset, self.mapping.load_acquire(offset) + amount)

    def slot_counter(self, index: int, field: int) -> int:
        """Return a counter of one slot."""
        return self.mapping.load_acquire(self._slot_offset(index) + field)

    def sum_over_slots(self, field: int) -> int:
        """Return a counter summed over every slot."""
        return sum(self.slot_counter(index, field) for index in range(layout.SLOT_COUNT))

    def close(self) -> None:
        """Unmap."""
        self.mapping.close()
