"""No room on the disk, or a limit of the process, at every allocation in turn: a typed error, nothing half-visible, and on it goes.

The disk is filled up to so many bytes, so that directories, control, first segment, growth, next segment, index and mark each are what
finds no room. A process is never ended by a signal: every page that is stored into has a block.
"""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cometlog.kernel import layout
from cometlog.segment import Segment, byte_offset, tail_parts
from injection import Outcome, Stage, judge, show
from recording import Count
from small_disks import FILE_SYSTEMS, ROOT_ONLY, fill, room, small_disk
from support import KIB, LIBC_PATHS, MIB, SHARD, owner_and_sequence, read_all
from tiers import Tier

DISK_BYTES = 6 * MIB
REACH_BYTES = 1408 * KIB
"""Room for directories, control, mark, and two segments with their indexes."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    directory = tmp_path_factory.mktemp("stage")
    stage = Stage(directory, Path(__file__).with_name("limit_workers.py"))
    yield stage
    stage.close()


def check_errors_are(outcome: Outcome, numbers: set[int]) -> None:
    """Everything that was refused was refused for want of what was missing, and nothing after there was enough again."""
    for error in outcome.errors:
        assert error["errno"] in numbers or error["error"] == "MemoryError", show(outcome)
    again = next(place for place, line in enumerate(outcome.said) if line["what"] == "again")
    assert not any("error" in line for line in outcome.said[again:]), show(outcome)


@ROOT_ONLY
@pytest.mark.parametrize("write_path", LIBC_PATHS)
@pytest.mark.parametrize("kind", FILE_SYSTEMS)
def test_full_disk_at_each_allocation(
    stage: Stage, tmp_path: Path, tier: Tier, count: Count, kind: str, write_path: str
) -> None:
    # In the shortest tier two paths share the places of 64 KiB each.
    step = tier.pick(ci=128 * KIB, full=16 * KIB, record=4 * KIB)
    first = LIBC_PATHS.index(write_path) % 2 * step // 2
    with small_disk(kind, tmp_path / "disk", DISK_BYTES) as disk:
        for leave_bytes in range(first, REACH_BYTES, step):
            root = disk / "log"
            fill(disk, leave_bytes)

            def give_room(line: dict[str, Any], root: Path = root) -> None:
                # Another process reads what was acknowledged and nothing else, while the disk is full.
                seen = read_all(root) if (root / "FORMAT").exists() else []
                assert [owner_and_sequence(entry.data)[1] for entry in seen] == line["acknowledged"]
                room(disk)

            outcome = stage.run("run_full", when_asked=give_room, root=str(root), write_path=write_path)
            assert outcome.code == 0, f"{leave_bytes} bytes left\n{show(outcome)}"
            check_errors_are(outcome, {errno.ENOSPC})
            entries = judge(stage, outcome, root, write_path)
            count(disks=1, refused=len(outcome.errors), entries=entries)
            subprocess.run(["rm", "-rf", str(root)], check=True)


# What is missing under each limit: a file may not be longer, no descriptor is left, no address space is left.
REFUSALS = {
    "FSIZE": {errno.EFBIG},
    "NOFILE": {errno.EMFILE},
    "AS": {errno.ENOMEM, errno.EAGAIN},
}


def limits(limit: str, opened: bool, tier: Tier) -> list[tuple[int, int]]:
    """Return (amount above what is used, segment size): each place where this limit can be met."""
    if limit == "NOFILE":
        return [(extra, 512 * KIB) for extra in (range(-6, 6) if opened else range(12))]
    if limit == "FSIZE":
        step = tier.pick(ci=136 * KIB, full=20 * KIB, record=4 * KIB)
        return [(extra, 512 * KIB) for extra in range(0, 544 * KIB, step)]
    if (
        opened
    ):  # a segment and the one prepared for later are mapped: below that, the next finds no address space
        step = tier.pick(ci=1 * MIB, full=128 * KIB, record=32 * KIB)
        return [(extra, 1 * MIB) for extra in range(-2 * MIB, 2 * MIB, step)]
    step = tier.pick(ci=40 * MIB, full=8 * MIB, record=1 * MIB)
    return [(extra, 64 * MIB) for extra in range(0, 240 * MIB, step)]


@pytest.mark.parametrize("opened", [False, True], ids=["before-open", "after-open"])
@pytest.mark.parametrize("limit", REFUSALS)
@pytest.mark.parametrize("write_path", LIBC_PATHS)
def test_limit_of_the_process_at_each_place(
    stage: Stage, tmp_path: Path, tier: Tier, count: Count, write_path: str, limit: str, opened: bool
) -> None:
    refused = 0
    for place, (extra, segment_bytes) in enumerate(limits(limit, opened, tier)):
        root = tmp_path / f"{place}"
        outcome = stage.run(
            "run_limited", root=str(root), write_path=write_path, limit=limit, extra=extra, opened=opened,
            segment_bytes=segment_bytes,
        )  # fmt: skip
        assert outcome.code == 0, f"{extra} left\n{show(outcome)}"
        check_errors_are(outcome, REFUSALS[limit])
        entries = judge(stage, outcome, root, write_path)
        refused += bool(outcome.errors)
        count(runs=1, refused=len(outcome.errors), entries=entries)
    assert refused


def shard_file(root: Path, pattern: str) -> Path:
    return max((root / SHARD).glob(pattern))


def punch_behind_the_tail(path: Path) -> None:
    """Take the blocks of every whole page behind what was appended."""
    segment = Segment(path, writable=False)
    start = -(-byte_offset(tail_parts(segment.tail())[1]) // layout.PAGE_BYTES) * layout.PAGE_BYTES
    segment.close()
    where = ["--offset", str(start), "--length", str(path.stat().st_size - start)]
    subprocess.run(["fallocate", "--punch-hole", *where, str(path)], check=True)


def take_blocks(root: Path, how: str) -> None:
    """Give blocks back that hold nothing but zeros, in place, as a sparse copy has none; or cut the file off behind its tail."""
    segment, control = shard_file(root, "*.seg"), root / SHARD / "control"
    before = segment.stat().st_blocks
    if how == "slots":  # which nobody has taken yet
        where = f"--offset {layout.CONTROL_SLOTS} --length {layout.CONTROL_SIZE_BYTES - layout.CONTROL_SLOTS}"
        subprocess.run(["fallocate", "--punch-hole", *where.split(), str(control)], check=True)
        return
    if how == "cut-off":
        os.truncate(segment, 100 * KIB)
    else:
        punch_behind_the_tail(segment)
    assert (before - segment.stat().st_blocks) * 512 > 300 * KIB
    if how == "holes-after-reboot":
        with control.open("r+b") as file:
            file.seek(layout.CONTROL_BOOT_IDENTITY)
            file.write(bytes(32))


@ROOT_ONLY
@pytest.mark.parametrize("how", ["holes", "holes-after-reboot", "slots", "cut-off", "cp", "tar"])
@pytest.mark.parametrize("write_path", LIBC_PATHS)
@pytest.mark.parametrize("kind", FILE_SYSTEMS)
def test_missing_blocks_below_what_is_backed_end_no_process_on_a_full_disk(
    stage: Stage, tmp_path: Path, count: Count, kind: str, write_path: str, how: str
) -> None:
    with small_disk(kind, tmp_path / "disk", DISK_BYTES) as disk:
        root = disk / "log"
        source = tmp_path / "source" if how in ("cp", "tar") else root
        filled = stage.run("fill_and_leave", root=str(source), write_path=write_path, count=3)
        assert filled.code == 0, show(filled)
        assert not filled.errors, show(filled)
        if how == "cp":
            subprocess.run(["cp", "-a", "--sparse=always", str(source), str(root)], check=True)
        elif how == "tar":
            copy = f"tar -C {source.parent} -cS source | tar -C {disk} -xS && mv {disk}/source {root}"
            subprocess.run(["bash", "-o", "pipefail", "-c", copy], check=True)
        else:
            take_blocks(root, how)
        fill(disk, 0)
        outcome = stage.run(
            "run_on_copy", when_asked=lambda _line: room(disk), root=str(root), write_path=write_path
        )
        assert outcome.code == 0, show(outcome)
        assert any(error["errno"] == errno.ENOSPC for error in outcome.errors), show(outcome)
        check_errors_are(outcome, {errno.ENOSPC})
        entries = read_all(root)
        assert [owner_and_sequence(entry.data)[1] for entry in entries[:3]] == [0, 1, 2]
        assert {owner_and_sequence(entry.data)[1] for entry in entries[3:]} == set(outcome.acknowledged())
        count(disks=1, entries=len(entries))
