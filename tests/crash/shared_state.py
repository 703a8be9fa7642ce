"""What processes share of one shard, watched from outside: words of its mapped files, the files themselves, the locks held.

A difference is named in the words of PROTOCOL B, E and G, so that a test can say which states an operation goes through.
"""

import ctypes
import mmap
import os
from pathlib import Path

from cometlog.control import Control
from cometlog.kernel import layout
from cometlog.locks import (
    APPEND_BYTE,
    ATTACH_BYTE,
    INDEX_BYTE,
    LEAVE_BYTE,
    REPAIR_BYTE,
    SYNC_BYTE,
    ShardLocks,
)
from cometlog.segment import Segment, byte_offset, list_segments, parse_segment_name, tail_parts

WINDOW_BYTES = 2048
"""Bytes of frames that are watched from the tail on; no operation of the tests stores further."""
SLOTS_WATCHED = 8
LOCK_NAMES = {
    ATTACH_BYTE: "attach", REPAIR_BYTE: "repair", LEAVE_BYTE: "leave", SYNC_BYTE: "sync", APPEND_BYTE: "append",
    INDEX_BYTE: "index",
}  # fmt: skip
STATE_NAMES = {
    layout.STATE_IDLE: "IDLE", layout.STATE_BUSY: "BUSY", layout.STATE_MARKED: "MARKED",
    layout.STATE_ROTATING: "ROTATING",
}  # fmt: skip
KIND_NAMES = {layout.KIND_CLAIMED: "CLAIMED", layout.KIND_DATA: "DATA", layout.KIND_PAD: "PAD"}
SLOT_NAMES = {
    layout.SLOT_SEGMENT: "slot segment", layout.SLOT_CLAIM: "claim", layout.SLOT_FRAMES: "frames",
    layout.SLOT_ENTRIES: "entries", layout.SLOT_BYTES: "bytes", layout.SLOT_FENCED: "fenced",
    layout.SLOT_ROTATIONS: "rotations", layout.SLOT_REPAIRS: "repairs", layout.SLOT_RETRIES: "retries",
}  # fmt: skip
CONTROL_NAMES = {
    layout.CONTROL_ACTIVE: "active", layout.CONTROL_FLAGS: "flags", layout.CONTROL_FUTEX: "futex",
    layout.CONTROL_DURABLE_ENTRY: "durable entry", layout.CONTROL_DURABLE_SEGMENT: "durable segment",
    layout.CONTROL_TURNS: "turns",
}  # fmt: skip


class CArea(ctypes.Structure):
    """``struct area`` of stepper.c."""

    _fields_ = (("live", ctypes.c_void_p), ("seen", ctypes.c_void_p), ("length", ctypes.c_size_t))


class Area:
    """Bytes [start, start + length) of a mapped file, and how they were at the last state."""

    def __init__(self, path: Path, inode: int, start: int, length: int) -> None:
        self.path, self.inode, self.start, self.length = path, inode, start, length
        first_page = start // mmap.PAGESIZE * mmap.PAGESIZE
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), start + length - first_page, offset=first_page)
        self._live = (ctypes.c_char * length).from_buffer(self._map, start - first_page)
        self._seen = (ctypes.c_char * length)()
        self._seen.raw = self._live.raw

    def as_c(self) -> CArea:
        return CArea(ctypes.addressof(self._live), ctypes.addressof(self._seen), self.length)

    def take(self) -> list[tuple[int, int, int]]:
        """Return (offset in the file, word before, word now) of every word that changed, and take note of it."""
        before, now = self._seen.raw, self._live.raw
        self._seen.raw = now
        return [
            (self.start + at, int.from_bytes(before[at : at + 8], "little"), int.from_bytes(now[at : at + 8], "little"))
            for at in range(0, self.length, 8)
            if before[at : at + 8] != now[at : at + 8]
        ]  # fmt: skip

    def close(self) -> None:
        del self._live
        self._map.close()


def control_label(offset: int, now: int) -> str:
    if offset < layout.CONTROL_SLOTS:
        return CONTROL_NAMES.get(offset, "control")
    field = (offset - layout.CONTROL_SLOTS) % layout.SLOT_SIZE_BYTES
    return (
        STATE_NAMES[now & layout.STATE_MASK] if field == layout.SLOT_STATE else SLOT_NAMES.get(field, "owner")
    )


def segment_label(offset: int, now: int, frame: int) -> str:
    """Name a word of a segment in which the next frame starts at byte ``frame``."""
    if offset < layout.SEGMENT_HEADER_BYTES:
        if offset == layout.SEGMENT_TAIL:
            return "SEALED" if now & layout.TAIL_SEALED else "tail"
        return "backed" if offset == layout.SEGMENT_BACKED else "header"
    if offset == frame:
        return KIND_NAMES[now >> layout.WORD_KIND_SHIFT & 7]
    return {frame + layout.FRAME_CHECKSUM: "checksum", frame + layout.FRAME_TIMESTAMP: "timestamp"}.get(
        offset, "payload"
    )


def file_label(name: str) -> str:
    if ".tmp." in name:
        return "temporary index" if ".idx." in name else "temporary"
    return {".seg": "segment", ".idx": "index"}.get(name[-4:], name)


class SharedState:
    """The shared state of a shard whose writer stands still; ``changes`` says what became different since the last look."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._probe = ShardLocks(directory / "lock", 0o600)
        self._areas: list[Area] = []
        self._frames: dict[int, int] = {}
        self._files: dict[str, tuple[int, int]] = {}
        self._locks: set[str] = set()
        self.rebase()

    def rebase(self) -> None:
        """Take the present state as seen, and watch the frames from the present tail on."""
        self._close_areas()
        self._watch(
            "control",
            (0, layout.CONTROL_SLOTS // 8),
            (layout.CONTROL_SLOTS, SLOTS_WATCHED * layout.SLOT_SIZE_BYTES),
        )
        if (self.directory / "durable").exists():
            self._watch("durable", (0, 576))
        name = list_segments(self.directory)[-1]
        segment = Segment(self.directory / name.file_name, writable=False)
        tail = tail_parts(segment.tail())[1]
        segment.close()
        self._watch_segment(name.file_name, tail)
        self.file_changes()

    def _watch(self, name: str, *ranges: tuple[int, int]) -> None:
        path = self.directory / name
        info = path.stat()
        for start, length_max in ranges:
            length = min(length_max, info.st_size - start)
            if length > 0:
                self._areas.append(Area(path, info.st_ino, start, length))

    def _watch_segment(self, name: str, tail_units: int) -> None:
        frame = byte_offset(tail_units)
        self._frames[(self.directory / name).stat().st_ino] = frame
        self._watch(name, (0, 512), (frame, WINDOW_BYTES))

    def c_areas(self) -> ctypes.Array[CArea]:
        """What stepper.c compares after each step."""
        return (CArea * len(self._areas))(*(area.as_c() for area in self._areas))

    def _list_files(self) -> dict[str, tuple[int, int]]:
        found = {}
        with os.scandir(self.directory) as entries:
            for entry in entries:
                info = entry.stat()
                found[entry.name] = (info.st_ino, info.st_size)
        return found

    def _list_locks(self) -> set[str]:
        return {name for byte, name in LOCK_NAMES.items() if self._probe.is_held(byte)}

    def changes(self) -> list[str]:
        """Name what changed in memory since the last look."""
        labels: list[str] = []
        for area in self._areas:
            for offset, _, now in area.take():
                if area.path.name == "control":
                    label = control_label(offset, now)
                elif area.path.name == "durable":
                    label = "mark"
                else:
                    label = segment_label(offset, now, self._frames[area.inode])
                if label not in labels:
                    labels.append(label)
        return labels

    def file_changes(self) -> list[str]:
        """Name what changed of files and locks since the last look, and watch the memory of new segments from now on."""
        files, locks = self._list_files(), self._list_locks()
        labels = [f"+{file_label(name)}" for name in sorted(files.keys() - self._files.keys())]
        labels += [f"-{file_label(name)}" for name in sorted(self._files.keys() - files.keys())]
        labels += [
            f"length of {file_label(name)}"
            for name in sorted(files.keys() & self._files.keys())
            if files[name] != self._files[name]
        ]
        labels += [f"+lock {name}" for name in sorted(locks - self._locks)]
        labels += [f"-lock {name}" for name in sorted(self._locks - locks)]
        for name, (inode, size) in files.items():
            if inode in self._frames or size <= layout.SEGMENT_HEADER_BYTES:
                continue
            if name.startswith("next.tmp.") or parse_segment_name(name) is not None:
                self._watch_segment(name, 0)
        self._files, self._locks = files, locks
        return labels

    def _close_areas(self) -> None:
        for area in self._areas:
            area.close()
        self._areas, self._frames = [], {}

    def close(self) -> None:
        self._close_areas()
        self._probe.close()


def copy_shard(source: Path, target: Path, *, same_boot: bool) -> None:
    """Copy a log whose writer stands still, as it would be found if every process died in this instant.

    ``same_boot``: the copy's ``control`` vouches for its own file, so that the form of recovery runs that trusts the page cache; else
    the copy looks like one after a reboot. Nobody holds a lock of the copy.
    """
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir(parents=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
    if same_boot:
        for path in target.rglob("control"):
            control = Control(path, writable=True)
            control.stored_boot_identity = control.boot_identity()
            control.close()
