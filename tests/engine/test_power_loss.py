"""What single losses of power leave, made by hand: one broken promise of each kind, without a recorder and without root."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import cometlog
import cometlog.control
from cometlog.control import Control
from cometlog.durable_mark import read_mark
from cometlog.kernel import layout
from cometlog.segment import Segment, byte_offset, read_header, tail_parts
from support import (
    DURABLE_PATHS,
    KIB,
    LIBC_PATHS,
    PATHS,
    SHARD,
    STREAM,
    frame_bytes,
    make_config,
    owner_and_sequence,
    payload,
    read_all,
    segment_files,
)

CONFIG = make_config(64 * KIB)
PAGE = 4096


@pytest.fixture
def reboot(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Give the kernel another boot identity, as often as called."""
    turn = [0]

    def next_boot() -> None:
        turn[0] += 1
        monkeypatch.setattr(cometlog.control, "boot_id", lambda: bytes([turn[0]]) * 16)

    return next_boot


def sequences(root: Path) -> list[int]:
    """The sequences of everything that can be read, in order; numbers are as they were given."""
    entries = read_all(root)
    found = [owner_and_sequence(entry.data)[1] for entry in entries]
    assert [entry.number for entry in entries] == found
    return found


@pytest.mark.parametrize("left", ["nothing", "zeros", "garbage", "half"])
@pytest.mark.parametrize("write_path", PATHS)
def test_control_file_of_which_the_power_left_little_is_made_anew(
    root: Path, reboot: Callable[[], None], write_path: str, left: str
) -> None:
    with cometlog.open(root, CONFIG, write_path=write_path) as client:
        for sequence in range(20):
            client.append(STREAM, [payload(0, sequence, 5000)])
    control = root / SHARD / "control"
    whole = control.read_bytes()
    torn = {
        "nothing": b"", "zeros": bytes(len(whole)), "garbage": b"\xa5" * len(whole), "half": whole[: len(whole) // 2],
    }  # fmt: skip
    control.write_bytes(torn[left])
    reboot()
    assert sequences(root) == list(range(20)), "a reader that comes before every writer"
    assert cometlog.open(root, read_only=True).stats()[STREAM].write_path is None
    with cometlog.open(root, CONFIG, write_path=write_path) as client:
        assert client.append(STREAM, [payload(0, 20)]) == range(20, 21)
    assert sequences(root) == list(range(21))


def test_whole_frame_behind_a_seal_is_no_entry_after_a_reboot(root: Path, reboot: Callable[[], None]) -> None:
    """An append that was killed between its write and its commit, sealed away by the next; then the mark is lost with the power."""
    with cometlog.open(root, CONFIG, write_path="async") as client:
        for sequence in range(5):
            client.append(STREAM, [payload(0, sequence)])
        cut_off = payload(9, 9)
        client.writer(STREAM)._frames.put([cut_off], len(cut_off))  # type: ignore[attr-defined]
    control = Control(root / SHARD / "control", writable=True)
    control.write_clean_record(None)  # as the kill leaves it
    control.close()
    with cometlog.open(root, CONFIG, write_path="async") as client:
        for sequence in range(5, 10):
            client.append(STREAM, [payload(0, sequence)])
    assert len(segment_files(root)) == 2
    (root / SHARD / "durable").unlink()
    reboot()
    with cometlog.open(root, CONFIG, write_path="async") as client:
        assert client.append(STREAM, [payload(0, 10)]) == range(10, 11)
    assert sequences(root) == list(range(11))
    assert not list((root / SHARD).glob("*.discarded"))


@pytest.mark.parametrize("lost", [(0, 4096), (0, 64), (64, 28), (48, 8), (48, 44), (88, 4)])
def test_torn_header_of_an_unsynced_segment_ends_the_log_there(
    root: Path, reboot: Callable[[], None], lost: tuple[int, int]
) -> None:
    """``lost``: offset and length of what stayed zero; the other lines of the page reached the disk."""
    with cometlog.open(root, CONFIG) as client:
        for sequence in range(40):
            client.append(STREAM, [payload(0, sequence, 4000)])
    (root / SHARD / "durable").unlink()
    _first, second, *later = segment_files(root)
    base = read_header(second)[0].base
    with second.open("r+b") as file:
        file.seek(lost[0])
        file.write(bytes(lost[1]))
    reboot()
    assert sequences(root) == list(range(base)), "a reader that comes before every writer"
    with cometlog.open(root, CONFIG) as client:
        assert client.append(STREAM, [payload(0, base)]) == range(base, base + 1)
    assert sequences(root) == list(range(base + 1))
    assert len(list((root / SHARD).glob("*.discarded"))) == 1 + len(later)


@pytest.mark.parametrize("byte", range(92))
def test_flipped_bit_in_the_header_of_an_unsynced_segment_is_damage(
    root: Path, reboot: Callable[[], None], byte: int
) -> None:
    with cometlog.open(root, CONFIG) as client:
        for sequence in range(20):
            client.append(STREAM, [payload(0, sequence, 4000)])
    (root / SHARD / "durable").unlink()
    second = segment_files(root)[1]
    raw = bytearray(second.read_bytes()[:92])
    raw[byte] = raw[byte] & (raw[byte] - 1) if raw[byte] else 1  # the flip that is nearest to zeros
    with second.open("r+b") as file:
        file.write(raw)
    reboot()
    with pytest.raises(cometlog.CometlogError, match=second.name), cometlog.open(root, CONFIG) as client:
        client.append(STREAM, [b"x"])


@pytest.mark.parametrize("lost", ["frame", "half a frame", "tail"])
@pytest.mark.parametrize("write_path", ["buffered", "mmap"])
def test_page_lost_in_an_unsynced_segment_ends_the_log_there(
    root: Path, reboot: Callable[[], None], write_path: str, lost: str
) -> None:
    """The segments behind it reached the disk whole, and are set aside: a prefix, not what happens to be there.

    A tail that came to disk too early is no loss: the frames say where the segment ends.
    """
    client = cometlog.open(root, CONFIG, write_path=write_path)
    for sequence in range(40):
        client.append(STREAM, [payload(0, sequence, 4000)])
    client.close()
    (root / SHARD / "durable").unlink()
    first, *later = segment_files(root)
    assert len(later) >= 2
    segment = Segment(first, writable=True)
    units = frame_bytes(4000) // layout.UNIT_BYTES
    if lost != "tail":
        unit = 7 * units + (units // 2 if lost == "half a frame" else 0)
        segment.mapping.write(byte_offset(unit), bytes(1024))
    segment.mapping.store_release(layout.SEGMENT_TAIL, 7 << layout.TAIL_ENTRIES_SHIFT | 7 * units)
    segment.close()
    reboot()
    left = 40 if lost == "tail" else 7
    with cometlog.open(root, CONFIG, write_path=write_path) as client:
        assert client.append(STREAM, [payload(0, left)]) == range(left, left + 1)
    assert sequences(root) == list(range(left + 1))
    aside = sorted(path.name for path in (root / SHARD).glob("*.discarded"))
    assert aside == [f"{path.name}.discarded" for path in later if lost != "tail"]


def test_numbers_burnt_at_the_end_of_a_segment_are_no_hole(root: Path, reboot: Callable[[], None]) -> None:
    """A writer died as the last in a segment; what was synced behind its PAD stays, also where the mark is lost."""
    with cometlog.open(root, CONFIG) as client:
        client.append(STREAM, [b"before"])
    (path,) = segment_files(root)
    segment = Segment(path, writable=True)
    claim = 1 << layout.TAIL_ENTRIES_SHIFT | frame_bytes(6) // layout.UNIT_BYTES
    segment.mapping.store_release(layout.SEGMENT_TAIL, segment.tail() + claim)
    control = Control(root / SHARD / "control", writable=True)
    control.write_clean_record(None)  # as the kill leaves it
    control.close()
    client = cometlog.open(root, CONFIG)
    client.writer(STREAM)
    segment.seal()
    segment.close()
    assert client.append(STREAM, [b"behind"]) == range(2, 3)
    client.close()
    (root / SHARD / "durable").unlink()
    reboot()
    with cometlog.open(root, CONFIG) as client:
        assert client.append(STREAM, [b"after"]) == range(3, 4)
    assert [(entry.number, entry.data) for entry in read_all(root)] == [
        (0, b"before"),
        (2, b"behind"),
        (3, b"after"),
    ]


class Disk:
    """What every page held when its last sync began, by inode, and the names that were synced; ``promised`` entries may be marked."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.held: dict[int, bytes] = {}
        self.names: set[str] = set()
        self.promised = 0
        self.parts = 0
        self._shard = root / SHARD
        self._real = {"fdatasync": os.fdatasync, "fsync": os.fsync}
        self._sync_to = Segment.sync_to
        monkeypatch.setattr(os, "fdatasync", self._fdatasync)
        monkeypatch.setattr(os, "fsync", self._fsync)
        monkeypatch.setattr(Segment, "sync_to", lambda *arguments: self._sync_part(*arguments))

    def _see(self, fd: int) -> tuple[int, bytes]:
        mark = read_mark(self._shard / "durable")
        assert mark is None or mark.next_entry <= self.promised, "the mark names what is not on disk yet"
        info = os.fstat(fd)
        return info.st_ino, os.pread(fd, info.st_size, 0)

    def _fdatasync(self, fd: int) -> None:
        inode, seen = self._see(fd)
        self._real["fdatasync"](fd)
        self.held[inode] = seen

    def _sync_part(self, segment: Segment, stop_unit: int) -> None:
        inode, seen = self._see(segment.fd)
        self._sync_to(segment, stop_unit)
        stop = -(-byte_offset(stop_unit) // PAGE) * PAGE
        self.held[inode] = seen[:stop] + self.held.get(inode, b"").ljust(len(seen), b"\0")[stop:]
        self.parts += 1

    def _fsync(self, fd: int) -> None:
        self._real["fsync"](fd)
        if os.readlink(f"/proc/self/fd/{fd}") == str(self._shard):
            self.names.update(os.listdir(fd))


@pytest.mark.parametrize("write_path", LIBC_PATHS)
def test_bytes_that_a_sync_saw_are_enough(
    root: Path, reboot: Callable[[], None], monkeypatch: pytest.MonkeyPatch, write_path: str
) -> None:
    """Every page goes back to what it held when its last sync began, or to zeros; a file whose name was not synced since is gone.

    The marks stay, which is the harder case.
    """
    disk = Disk(root, monkeypatch)
    client = cometlog.open(root, CONFIG, write_path=write_path)
    for sequence in range(60):
        client.append(STREAM, [payload(0, sequence, 5000)])  # more than a page
        if write_path in DURABLE_PATHS:
            disk.promised = sequence + 1
        elif sequence % 4 == 3 or sequence > 40:
            client.sync()
            disk.promised = sequence + 1
    assert (disk.parts > 10) == (write_path not in DURABLE_PATHS)
    files = {path: disk.held.get(path.stat().st_ino) for path in segment_files(root)}
    mark = (root / SHARD / "durable").read_bytes()
    client.close()
    for path, content in files.items():
        if path.name in disk.names:
            path.write_bytes(bytes(64 * KIB) if content is None else content)
        else:
            path.unlink()
    (root / SHARD / "durable").write_bytes(mark)
    for index in (root / SHARD).glob("*.idx"):
        index.unlink()
    reboot()
    with cometlog.open(root, CONFIG, write_path=write_path) as client:
        assert client.append(STREAM, [payload(0, disk.promised)]) == range(disk.promised, disk.promised + 1)
    assert sequences(root) == list(range(disk.promised + 1))


def test_first_segment_is_linked_only_after_its_header_and_every_name_that_leads_to_it_were_synced(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where another process made the directories, and was killed before it could sync them."""
    for directory in (SHARD.parent.parent, SHARD.parent, SHARD):
        (root / directory).mkdir(parents=True, mode=0o700)
    synced: set[str] = set()
    linked: list[set[str]] = []
    real_fsync, real_fdatasync, real_link = os.fsync, os.fdatasync, os.link

    def fsync(fd: int) -> None:
        real_fsync(fd)
        synced.add(os.readlink(f"/proc/self/fd/{fd}"))

    def fdatasync(fd: int) -> None:
        assert os.pread(fd, 8, 0) == layout.SEGMENT_MAGIC_BYTES
        real_fdatasync(fd)
        synced.add(os.readlink(f"/proc/self/fd/{fd}"))

    def link(
        source: str, target: str, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
    ) -> None:
        if str(target).endswith(".seg"):
            path = Path(os.readlink(f"/proc/self/fd/{src_dir_fd}")) / source
            linked.append({*synced, f"{path} linked" if str(path) in synced else ""})
        real_link(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "fdatasync", fdatasync)
    monkeypatch.setattr(os, "link", link)
    cometlog.open(root, CONFIG).writer(STREAM)
    (before,) = linked
    wanted = {root.parent, root, root / SHARD.parent.parent, root / SHARD.parent}
    assert {str(path) for path in wanted} <= before
    assert any(name.endswith(" linked") for name in before), "the header was not synced before the link"


def test_tail_of_a_segment_that_recovery_ended_is_sealed(root: Path, reboot: Callable[[], None]) -> None:
    """Bytes that may hold old frames are never appended into: the log goes on in a segment of its own after every reboot."""
    for turn in range(3):
        with cometlog.open(root, CONFIG) as client:
            client.append(STREAM, [payload(0, turn)])
        reboot()
    cometlog.open(root, CONFIG).close()
    assert len(segment_files(root)) == 3
    for path in segment_files(root)[:-1]:
        segment = Segment(path, writable=False)
        entries, units, sealed = tail_parts(segment.tail())
        assert (entries, sealed) == (1, True)
        assert segment.word(units) >> layout.WORD_KIND_SHIFT & 7 == layout.KIND_SEAL
        segment.close()
