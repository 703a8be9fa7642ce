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
from cometlog.control import Control
from cometlog.durable_mark import read_mark
from cometlog.errors import CorruptionError, NotALogError, ShardBusyError, WritePathConflictError
from cometlog.kernel import layout
from cometlog.locks import ATTACH_BYTE, LEAVE_BYTE, ShardLocks
from cometlog.rotation import PreparedFile, capacity_for, file_length_for, new_header, sync_directory
from cometlog.segment import list_segments

_ATTACH_LOOK_S = 0.002
_CONFLICT_AFTER_S = 0.25


def make_directories(root: Path, directory: Path, mode: int) -> None:
    """Create the directories of a shard below the root of the log, refusing links and files in their place."""
    parts = directory.relative_to(root).parts
    for depth in range(1, len(parts) + 1):
        path = root.joinpath(*parts[:depth])
        with suppress(FileExistsError):
            path.mkdir(mode)
            sync_directory(path.parent)
        if path.is_symlink() or not path.is_dir():
            raise NotALogError(f"{path} is not a directory")


class Entrance:
    """One client's way in and out. ``exclusive``: it stays alone for as long as it is attached."""

    def __init__(
        self, stream: str, directory: Path, config: Config, write_path: str, locks: ShardLocks, *, exclusive: bool, populate: bool
    ) -> None:  # fmt: skip
        self._stream = stream
        self._directory = directory
        self._config = config
        self._write_path = write_path
        self._locks = locks
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
                    f"{self._stream}: another process has held the shard alone for "
                    f"{self._config.concurrency.attach_timeout_s} s (concurrency.attach_timeout_s)"
                )
            time.sleep(_ATTACH_LOOK_S)
        return control

    def _try_enter(self, waited_s: float) -> Control | None:
        path = self._directory / "control"
        if self._locks.try_exclusive(ATTACH_BYTE):
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
        except FileNotFoundError:  # whoever held the shard alone died before it made the file
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
        if not path.exists():
            Control.create(path, self._config.storage.file_mode)
        try:
            control = Control(path, writable=True)
        except CorruptionError:
            # Nobody is attached and nothing in it outlives a reboot: a new one says that recovery has to trust frames alone.
            path.unlink()
            Control.create(path, self._config.storage.file_mode)
            control = Control(path, writable=True)
        try:
            self._prepare(control)
        except BaseException:
            control.close()
            raise
        if not self._exclusive:
            self._locks.try_shared(ATTACH_BYTE)
        return control

    def leave(self) -> bool:
        """Hold the shard alone if nobody else is attached (True), or else stop being attached.

        Two that leave at once would each see the other, so they ask one after the other: byte 2 is held for two calls.
        """
        if self._exclusive:
            return True
        self._locks.wait_exclusive(LEAVE_BYTE)
        try:
            last = self._locks.try_exclusive(ATTACH_BYTE)
            if not last:
                self._locks.unlock(ATTACH_BYTE)
            return last
        finally:
            self._locks.unlock(LEAVE_BYTE)

    @staticmethod
    def _path_in_use(path: Path) -> str | None:
        with suppress(FileNotFoundError):
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
            )  # fmt: skip
        for index in range(layout.SLOT_COUNT):
            slot = control.look_at_slot(index)
            if slot.state != layout.STATE_IDLE:
                control.set_slot_idle(slot)
        mark = read_mark(self._directory / "durable")
        control.reset_durable(
            mark.next_entry if mark is not None else 0, mark.number if mark is not None else 1
        )
        control.write_clean_record(None)
        control.clear_poison()
        control.write_path = self._write_path
        control.stored_boot_identity = control.boot_identity()

    def _create_first_segment(self) -> int:
        length = file_length_for(self._capacity_units)
        prepared = PreparedFile.make(
            self._directory, length, self._config.storage.file_mode, populate=self._populate
        )
        segment = prepared.publish(new_header(1, 0, capacity_units=self._capacity_units))
        if segment is None:
            raise ShardBusyError(
                f"{self._stream}: the first segment appeared while this process held the shard alone"
            )
        os.fdatasync(segment.fd)
        sync_directory(self._directory)
        segment.close()
        return 1
