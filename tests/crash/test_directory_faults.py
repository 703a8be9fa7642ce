"""Somebody changes the directory of a log that a process has open: it is removed, moved, replaced, made read-only.

Either the process goes on safely or it gets a typed error that names the path. Nothing is written outside; an append that returned is
readable where the shard lies now, or the next sync or rotation raises; a new client works once things are in order.
"""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import cometlog
from cometlog import CorruptionError
from cometlog.place import OPEN_DIRECTORY
from cometlog.rotation import PreparedFile, capacity_for, new_header
from cometlog.segment import SegmentName
from injection import Outcome, Stage, is_typed, judge, show
from recording import Count
from small_disks import ROOT_ONLY, small_disk
from support import (
    KIB,
    LIBC_PATHS,
    MIB,
    SHARD,
    STREAM,
    directory_state,
    owner_and_sequence,
    read_all,
    segment_files,
)

SCRIPT = Path(__file__).with_name("directory_workers.py")
NOBODY = 65534


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Stage]]:
    """Two, for two processes at once."""
    stages = [Stage(tmp_path_factory.mktemp("stage"), SCRIPT) for _ in range(2)]
    yield stages
    for stage in stages:
        stage.close()


class Change:
    """A change of the shard's directory, and the way back. ``aside`` is where what was there is kept; ``elsewhere`` is not ours."""

    def __init__(self, root: Path, name: str) -> None:
        self.shard = root / SHARD
        self.aside = root.parent / "aside"
        self.elsewhere = root.parent / "elsewhere"
        self.name = name

    def make(self) -> None:
        shutil.copytree(
            self.shard, self.elsewhere, ignore=shutil.ignore_patterns("*.tmp.*")
        )  # those come and go
        self.elsewhere_before = directory_state(self.elsewhere)
        self.shard.rename(self.aside)
        getattr(self, self.name)()

    def undo(self) -> None:
        if self.shard.is_symlink() or self.shard.exists():
            shutil.rmtree(self.shard) if self.name == "another_directory" else self.shard.unlink()
        self.aside.rename(self.shard)

    def moved(self) -> None:
        pass

    def symlink(self) -> None:
        self.shard.symlink_to(self.elsewhere)

    def fifo(self) -> None:
        os.mkfifo(self.shard)

    def regular_file(self) -> None:
        self.shard.write_bytes(b"not a directory")

    def another_directory(self) -> None:
        shutil.copytree(self.elsewhere, self.shard)


@pytest.mark.parametrize("name", ["moved", "symlink", "fifo", "regular_file", "another_directory"])
@pytest.mark.parametrize("write_path", LIBC_PATHS)
def test_directory_that_is_replaced(
    stages: list[Stage], root: Path, count: Count, write_path: str, name: str
) -> None:
    change = Change(root, name)

    def when_asked(line: dict[str, str]) -> None:
        if line["for"] == "change":
            change.make()
            if name != "another_directory":
                assert cannot_open(root, write_path) == (name != "moved")
                if name == "moved":
                    shutil.rmtree(root / SHARD)
        else:
            change.undo()

    outcome = stages[0].run("live_through", when_asked=when_asked, root=str(root), write_path=write_path)
    assert outcome.code == 0, show(outcome)
    check_named(outcome, str(change.shard))
    assert directory_state(change.elsewhere) == change.elsewhere_before
    # Back in its place, the same client goes on, and everything that was acknowledged meanwhile is there.
    again = outcome.said.index({"what": "again"})
    assert not any("error" in line for line in outcome.said[again:]), show(outcome)
    count(changes=1, entries=judge(stages[0], outcome, root, write_path))


def cannot_open(root: Path, write_path: str) -> bool:
    """Whether a new client gets a typed error at this place."""
    try:
        with cometlog.open(root, write_path=write_path) as client:
            client.append(STREAM, [b"elsewhere"])
    except cometlog.NotALogError:
        return True
    return False


def check_named(outcome: Outcome, path: str) -> None:
    """Something raised, everything that raised was typed, and the first of it names the path."""
    assert outcome.errors, show(outcome)
    for error in outcome.errors:
        assert is_typed(error), show(outcome)
    assert path in outcome.errors[0]["text"], show(outcome)
    last_sync = [
        line for line in outcome.said[: outcome.said.index({"what": "again"})] if line["what"] == "sync"
    ][-1]
    assert "error" in last_sync, show(outcome)


@pytest.mark.parametrize("what", ["shard", "root", "segment"])
@pytest.mark.parametrize("write_path", LIBC_PATHS)
def test_removed_directory_or_segment_is_an_error_at_the_next_rotation_and_sync(
    stages: list[Stage], root: Path, count: Count, write_path: str, what: str
) -> None:
    def when_asked(line: dict[str, str]) -> None:
        if line["for"] == "change" and what == "segment":
            for path in (root / SHARD).glob("*.seg"):
                path.unlink()
        elif line["for"] == "change":
            shutil.rmtree(root if what == "root" else root / SHARD)

    outcome = stages[0].run("live_through", when_asked=when_asked, root=str(root), write_path=write_path)
    assert outcome.code == 0, show(outcome)
    check_named(outcome, str(root / SHARD))
    # At the latest by the rotation: what was appended after the removal fits into the segment that was open.
    assert any(error["what"] == "append" for error in outcome.errors), show(outcome)
    if what == "segment":
        # The durable mark is still there and names what is gone: never fewer entries without an error.
        with (
            pytest.raises(CorruptionError, match="no segment"),
            cometlog.open(root, write_path=write_path) as client,
        ):
            client.append(STREAM, [b"on nothing"])
    else:
        after = stages[0].run("check", root=str(root), write_path=write_path)
        assert after.code == 0, show(after)
    count(removals=1, errors_raised=len(outcome.errors))


@pytest.mark.parametrize("write_path", ["buffered", "mmap"])
def test_sync_raises_where_a_segment_that_it_would_cover_was_removed(
    stages: list[Stage], root: Path, count: Count, write_path: str
) -> None:
    outcome = stages[0].run(
        "rotate_before_sync", root=str(root), write_path=write_path,
        when_asked=lambda _line: segment_files(root)[0].unlink(),
    )  # fmt: skip
    assert outcome.code == 0, show(outcome)
    check_named(outcome, str(root / SHARD / "0000000001-"))
    count(removals=1)


def test_a_prepared_segment_lands_in_the_directory_that_was_opened(root: Path) -> None:
    """Also where its path was turned into a link after the last look at it."""
    elsewhere = root.parent / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    directory_fd = os.open(root, OPEN_DIRECTORY)
    root.rename(root.parent / "aside")
    root.symlink_to(elsewhere)
    header = new_header(1, 0, capacity_units=capacity_for(64 * KIB))
    prepared = PreparedFile.make(root, 64 * KIB, 0o600, populate=False, directory_fd=directory_fd)
    segment = prepared.publish(header)
    assert segment is not None
    segment.close()
    os.close(directory_fd)
    assert not list(elsewhere.iterdir())
    assert [path.name for path in (root.parent / "aside").iterdir()] == [SegmentName(1, 0).file_name]
    with pytest.raises(NotADirectoryError):
        os.open(root, OPEN_DIRECTORY)


@pytest.mark.parametrize("what", ["control-removed", "control-replaced", "lock-removed", "lock-replaced"])
@pytest.mark.parametrize("write_path", LIBC_PATHS)
def test_two_processes_that_cannot_see_each_other(
    stages: list[Stage], root: Path, count: Count, write_path: str, what: str
) -> None:
    """The file that both must share is another one for whoever comes later: no entry that either was promised is lost."""
    name, _, how = what.partition("-")
    beside: list[Outcome] = []

    def change(line: dict[str, str]) -> None:
        if line["for"] != "change":
            return
        path = root / SHARD / name
        old = path.read_bytes()
        path.unlink()
        if how == "replaced":
            path.write_bytes(old)
            path.chmod(0o600)
        beside.append(stages[1].run("append_beside", root=str(root), write_path=write_path))

    outcome = stages[0].run("live_through", when_asked=change, root=str(root), write_path=write_path)
    assert outcome.code == 0, show(outcome)
    assert beside[0].code == 0, show(beside[0])
    check_named(outcome, str(root / SHARD / name))
    if name == "lock":
        assert not beside[0].errors, show(beside[0])
        if write_path != "mmap":  # no two may write behind one tail: the first append after it raises
            place = next(place for place, line in enumerate(outcome.said) if line["what"] == "ask")
            assert outcome.said[place + 1]["error"] == "NotALogError", show(outcome)
    else:
        assert {error["error"] for error in beside[0].errors} <= {"ShardBusyError", "WritePathConflictError"}
    expected = outcome.acknowledged() | beside[0].acknowledged()
    after = stages[0].run("check", root=str(root), write_path=write_path)
    assert after.code == 0, show(after)
    found = {key: number for number, owner, key in after.said[0]["found"] if owner == 1}
    assert {key: found.get(key) for key in expected} == expected, show(outcome) + show(beside[0])
    count(changes=1, entries=len(found))


@ROOT_ONLY
@pytest.mark.parametrize("write_path", LIBC_PATHS)
def test_directory_made_read_only(stages: list[Stage], tmp_path: Path, count: Count, write_path: str) -> None:
    """For a user who is not root: rotations are refused, and go on once the directory may be written again."""
    world = Path("/var/tmp") / f"cometlog-{os.getpid()}-{tmp_path.name}"
    world.mkdir()
    os.chown(world, NOBODY, NOBODY)
    root = world / "log"
    try:
        outcome = stages[0].run(
            "live_through", root=str(root), write_path=write_path, user=NOBODY,
            when_asked=lambda line: (root / SHARD).chmod(0o500 if line["for"] == "change" else 0o700),
        )  # fmt: skip
        assert outcome.code == 0, show(outcome)
        refused = [error for error in outcome.errors if error["what"] == "append"]
        assert refused, show(outcome)
        assert {error["errno"] for error in outcome.errors} == {errno.EACCES}, show(outcome)
        again = outcome.said.index({"what": "again"})
        assert not any("error" in line for line in outcome.said[again:]), show(outcome)
        found = {owner_and_sequence(entry.data)[1] for entry in read_all(root)}
        assert found == set(outcome.acknowledged())
        count(changes=1, refused=len(refused), entries=len(found))
    finally:
        shutil.rmtree(world)


@ROOT_ONLY
@pytest.mark.parametrize("write_path", LIBC_PATHS)
def test_read_only_file_system(stages: list[Stage], tmp_path: Path, count: Count, write_path: str) -> None:
    """The kernel refuses to make it read-only under a writer; one that comes later gets EROFS, and a reader reads."""
    with small_disk("ext4", tmp_path / "disk", 8 * MIB) as disk:
        root = disk / "log"

        def remount(how: str) -> int:
            return subprocess.run(
                ["mount", "-o", f"remount,{how}", str(disk)], capture_output=True, check=False
            ).returncode

        with cometlog.open(root, write_path=write_path) as client:
            client.append(STREAM, [b"one"])
            assert remount("ro") != 0
            client.append(STREAM, [b"two"])
        assert remount("ro") == 0
        with (
            pytest.raises(OSError, match="Read-only") as caught,
            cometlog.open(root, write_path=write_path) as client,
        ):
            client.append(STREAM, [b"three"])
        assert caught.value.errno == errno.EROFS
        assert [entry.data for entry in read_all(root)] == [b"one", b"two"]
        assert remount("rw") == 0
        with cometlog.open(root, write_path=write_path) as client:
            assert client.append(STREAM, [b"three"]) == range(2, 3)
        count(remounts=3, entries=3)
