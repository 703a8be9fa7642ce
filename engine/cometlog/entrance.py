"""Coming to a shard and leaving it (PROTOCOL A1 and A4): who is alone prepares, creates or recovers it; the others wait.

Thread safety: one thread of a client at a time. Invariant: whoever holds byte 0 shared saw, after it got the lock, a shard that is
recovered on this boot and written by its own path.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

from cometlog import recovery
from cometlog.config import Config
from cometlog.control import Control, segment_of_this_boot
from cometlog.durable_mark import read_mark
from cometlog.errors import CorruptionError, ShardBusyError, WritePathConflictError
from cometlog.files import check_directory, make_directory, sync_directory
from cometlog.lock_wait import holder_name, release, wait_exclusive
from cometlog.locks import ATTACH_BYTE, LEAVE_BYTE, ShardLocks
from cometlog.place import Place
from cometlog.rotation import PreparedFile, capacity_for, file_length_for, new_header
from cometlog.segment import list_segments
from cometlog.statistics_file import replace_damaged_statistics

_ATTACH_LOOK_S = 0.002
_CONFLICT_AFTER_S = 0.25
_DEPTH = 3  # directories of a shard below the root: namespace, version, shard


def make_directories(root: Path, directory: Path, mode: int) -> None:
    """Create the directories of a shard below the root of the log, refusing links, files and strangers' in their place."""
    parts = directory.relative_to(root).parts
    for depth in range(1, len(parts) + 1):
        path = root.joinpath(*parts[:depth])
        make_directory(path, mode)
        check_directory(path, writing=True, directory_mode=mode)


class Entrance:
    """One client's way in and out. ``exclusive``: it stays alone for as long as it is attached."""

    def __init__(
        self, stream: str, directory: Path, config: Config, write_path: str, locks: ShardLocks, place: Place, *,
        exclusive: bool, populate: bool,
    ) -> None:  # fmt: skip
        self._stream = stream
        self._directory = directory
        self._config = config
        self._write_path = write_path
        self._locks = locks
        self._place = place
        self._exclusive = exclusive
        self._populate = populate
        self._capacity_units = capacity_for(config.storage.segment_size_bytes)

    def enter(self) -> Control:
        """Attach and return the control file; waits for another process that recovers the shard.

        Raises WritePathConflictError where live processes use another path, ShardBusyError after ``concurrency.attach_timeout_s``.
        """
        try:
            return self._wait_to_enter()
        except CorruptionError as error:
            raise error.of_stream(self._stream) from error.__cause__

    def _wait_to_enter(self) -> Control:
        started = time.monotonic()
        while (control := self._try_enter(time.monotonic() - started)) is None:
            if time.monotonic() - started > self._config.concurrency.attach_timeout_s:
                raise ShardBusyError(
                    f"{self._stream}: {holder_name(self._locks, ATTACH_BYTE)} has held the shard alone for "
                    f"{self._config.concurrency.attach_timeout_s} s (concurrency.attach_timeout_s)"
                )
            time.sleep(_ATTACH_LOOK_S)
        return control

    def _try_enter(self, waited_s: float) -> Control | None:
        path = self._directory / "control"
        if self._locks.try_exclusive(ATTACH_BYTE):
            self._place.check()  # a lock on a file that was replaced meanwhile keeps nobody out
            return self._enter_alone(path)
        if self._exclusive:
            if waited_s > _CONFLICT_AFTER_S:
                raise self._conflict(self._path_in_use(path))
            return None
        if not self._locks.try_shared(ATTACH_BYTE):
            if waited_s > _CONFLICT_AFTER_S and self._path_in_use(path) == "buffered":
                raise self._conflict("buffered")
            return None
        try:
            control = Control(path, writable=True)
        except (FileNotFoundError, CorruptionError):
            # Whoever held the shard alone died before it made the file, or made a new one of what a power loss left.
            self._locks.unlock(ATTACH_BYTE)
            return None
        in_use = control.write_path
        if in_use == self._write_path and control.stored_boot_identity == control.boot_identity():
            return control
        recovered = in_use is not None and control.stored_boot_identity == control.boot_identity()
        control.close()
        self._locks.unlock(ATTACH_BYTE)
        if recovered:
            raise self._conflict(in_use)
        return None

    def _enter_alone(self, path: Path) -> Control:
        control = self._whole_control(path)
        try:
            self._prepare(control)
        except BaseException:
            control.close()
            raise
        if not self._exclusive:
            self._locks.try_shared(ATTACH_BYTE)
        return control

    def _whole_control(self, path: Path) -> Control:
        """Open the control file, or a new one where it is missing or no such file: it is never synced, so a power loss may leave
        its name with zeros or with nothing behind it, and recovery needs nothing of what it held.
        """
        try:
            return Control(path, writable=True)
        except FileNotFoundError:
            pass
        except CorruptionError:
            path.unlink()
        Control.create(path, self._config.storage.file_mode, segment_of_this_boot(self._directory))
        return Control(path, writable=True)

    def leave(self, control: Control) -> bool:
        """Hold the shard alone if nobody else is attached (True), or else stop being attached.

        Two that leave at once would each see the other, so they ask one after the other: byte 2 is held for two calls. A process that
        was stopped between them does not keep this one: without a clean record, whoever opens the shard next recovers it.
        """
        if self._exclusive:
            return True
        if not wait_exclusive(self._locks, control, LEAVE_BYTE, self._config.concurrency.stall_timeout_s):
            self._locks.unlock(ATTACH_BYTE)
            return False
        try:
            return self._is_last()
        finally:
            release(self._locks, control, LEAVE_BYTE)

    def _is_last(self) -> bool:
        last = self._locks.try_exclusive(ATTACH_BYTE)
        if not last:
            self._locks.unlock(ATTACH_BYTE)
        return last

    @staticmethod
    def _path_in_use(path: Path) -> str | None:
        with suppress(FileNotFoundError, CorruptionError):
            return Control(path, writable=False).write_path
        return None

    def _conflict(self, in_use: str | None) -> WritePathConflictError:
        return WritePathConflictError(
            f"{self._stream} is being written by live processes with write path {in_use!r}; this client asked for "
            f"{self._write_path!r}; close them first or open with write_path={in_use!r}"
        )

    def _prepare(self, control: Control) -> None:
        """Make the shard ready while nobody else is attached: remove left-overs, create or recover, clear the slots."""
        for left_over in self._directory.glob("*.tmp.*"):
            left_over.unlink(missing_ok=True)
        mark = read_mark(self._directory / "durable")
        if not list_segments(self._directory):
            if mark is not None or control.active:
                raise CorruptionError(
                    f"the shard has no segment, but had {mark.number if mark is not None else control.active}",
                    file=str(self._directory), offset=0,
                )  # fmt: skip
            control.set_active(self._create_first_segment())
        elif not recovery.is_clean(self._directory, control):
            control.withdraw_write_path()
            recovery.recover(
                self._directory, self._stream, control, self._locks,
                capacity_units=self._capacity_units, file_mode=self._config.storage.file_mode,
                directory_fd=self._place.directory_fd,
            )  # fmt: skip
            recovery.allocate_active(self._directory, control)
        for index in control.slots_in_use_alone():
            control.set_slot_idle(control.look_at_slot(index))
        mark = read_mark(self._directory / "durable")
        control.reset_durable(
            mark.next_entry if mark is not None else 0, mark.number if mark is not None else 1
        )
        replace_damaged_statistics(self._directory, self._config.storage.file_mode)
        control.write_clean_record(None)
        control.clear_poison()
        control.write_path = self._write_path
        control.stored_boot_identity = control.boot_identity()

    def _create_first_segment(self) -> int:
        """Create it such that a shard with a segment has its names and that segment's header on disk.

        The names are synced here, not where they were made: who made them may have been killed before it could.
        """
        version, namespace, root = self._directory.parents[:_DEPTH]
        for parent in (version, namespace):
            sync_directory(parent)
        sync_directory(root, follow=True)
        length = file_length_for(self._capacity_units)
        prepared = PreparedFile.make(
            self._directory, length, self._config.storage.file_mode,
            populate=self._populate, directory_fd=self._place.directory_fd,
        )  # fmt: skip
        segment = prepared.publish(new_header(1, 0, capacity_units=self._capacity_units), synced=True)
        if segment is None:
            raise ShardBusyError(
                f"{self._stream}: the first segment appeared while this process held the shard alone"
            )
        os.fsync(self._place.directory_fd)
        segment.close()
        return 1
