"""A shard whose control file is gone: on the boot that wrote it nothing acknowledged is lost, a copy or another boot is distrusted."""

import shutil
from pathlib import Path

import pytest

import cometlog
import cometlog.control
from cometlog.control import Control, segment_of_this_boot
from cometlog.errors import NotALogError
from cometlog.kernel import layout
from support import (
    KIB,
    PATHS,
    SHARD,
    STREAM,
    make_config,
    owner_and_sequence,
    payload,
    read_all,
    segment_files,
)
from test_holes import claim_and_vanish

CONFIG = make_config(64 * KIB)
BEFORE, BEHIND = 40, 60


def leave_hole(root: Path, *, sealed: bool) -> list[int]:
    """Leave a shard as killed writers do: nothing synced, a claim without a word, entries behind it. Returns the numbers kept.

    ``sealed``: the hole lies in a segment before the last.
    """
    with cometlog.open(root, CONFIG) as client:
        client.append(STREAM, [payload(0, sequence) for sequence in range(BEFORE)])
        burnt = claim_and_vanish(root, entries=5, units=100)
        length = 3000 if sealed else 40
        for sequence in range(BEHIND):
            client.append(STREAM, [payload(0, BEFORE + sequence, length)])
        shutil.copytree(root, root.with_name("killed"), ignore=shutil.ignore_patterns("*.tmp.*"))
    assert burnt == BEFORE
    # As the kill of every writer would have left it: the copy was made while the client lived.
    for path in (root.with_name("killed") / SHARD).iterdir():
        shutil.copyfile(path, root / SHARD / path.name)
    return [*range(BEFORE), *range(BEFORE + 5, BEFORE + 5 + BEHIND)]


def delete(root: Path, *patterns: str) -> None:
    for pattern in patterns:
        for path in (root / SHARD).glob(pattern):
            path.unlink()


@pytest.mark.parametrize("sealed", [False, True], ids=["in the last segment", "in a sealed segment"])
@pytest.mark.parametrize("deleted", [("control",), ("control", "durable", "*.idx")], ids=" and ".join)
@pytest.mark.parametrize("write_path", PATHS)
def test_entries_behind_a_hole_stay_on_the_boot_that_wrote_them(
    root: Path, write_path: str, deleted: tuple[str, ...], sealed: bool
) -> None:
    kept = leave_hole(root, sealed=sealed)
    segments = len(segment_files(root))
    assert (segments > 1) == sealed
    delete(root, *deleted)
    with cometlog.open(root, CONFIG, write_path=write_path) as client:
        assert client.append(STREAM, [payload(0, 100)])[0] == kept[-1] + 1
    entries = read_all(root)
    assert [entry.number for entry in entries] == [*kept, kept[-1] + 1]
    assert [owner_and_sequence(entry.data)[1] for entry in entries] == list(range(101))
    assert len(segment_files(root)) <= segments + 1
    assert not list((root / SHARD).glob("*.discarded"))


@pytest.mark.parametrize("why", ["another boot", "copied", "sync failed"])
def test_without_control_only_frames_that_prove_themselves_are_kept_where_the_cache_may_be_gone(
    root: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """What lies behind the hole may then be younger than what is missing: the segment ends before the hole, the next goes on."""
    kept = leave_hole(root, sealed=False)
    assert segment_of_this_boot(root / SHARD)
    if why == "another boot":
        monkeypatch.setattr(cometlog.control, "boot_id", lambda: bytes(16))
    elif why == "copied":
        root = root.with_name("killed")
    else:
        control = Control(root / SHARD / "control", writable=True)
        control.poison()
        control.close()
    assert not segment_of_this_boot(root / SHARD)
    delete(root, "control", "durable")
    with cometlog.open(root, CONFIG) as client:
        assert client.append(STREAM, [payload(0, 100)]) == range(BEFORE, BEFORE + 1)
    assert [entry.number for entry in read_all(root)] == [*kept[:BEFORE], BEFORE]


def test_each_new_segment_names_this_boot_and_its_own_file(root: Path) -> None:
    with cometlog.open(root, CONFIG) as client:
        for sequence in range(100):
            client.append(STREAM, [payload(0, sequence, 3000)])
    identities = []
    for path in segment_files(root):
        info = path.stat()
        raw = path.read_bytes()[layout.SEGMENT_BOOT_IDENTITY : layout.SEGMENT_BOOT_IDENTITY + 32]
        assert raw == cometlog.control.boot_identity_of(info.st_dev, info.st_ino)
        identities.append(raw)
    assert len(set(identities)) == len(identities) > 3


@pytest.mark.parametrize("damage", ["short", "header", "link"])
def test_last_segment_that_cannot_be_trusted_with_its_own_name_vouches_for_nothing(
    root: Path, damage: str
) -> None:
    with cometlog.open(root, CONFIG) as client:
        client.append(STREAM, [b"one"])
    (path,) = segment_files(root)
    if damage == "short":
        path.write_bytes(path.read_bytes()[:400])
    elif damage == "header":
        path.write_bytes(bytes(400) + path.read_bytes()[400:])
    else:
        path.rename(path.with_name("elsewhere"))
        path.symlink_to("elsewhere")
    assert not segment_of_this_boot(root / SHARD)


@pytest.mark.parametrize("write_path", PATHS)
def test_a_sync_with_nothing_to_sync_still_names_a_shard_that_was_moved(root: Path, write_path: str) -> None:
    shard, aside = root / SHARD, root / "aside"
    with cometlog.open(root, CONFIG, write_path=write_path) as client:
        client.append(STREAM, [b"entry"])
        client.sync(STREAM)
        shard.rename(aside)
        with pytest.raises(NotALogError, match=f"{shard} is no longer what this client"):
            client.sync(STREAM)
        aside.rename(shard)
        client.sync(STREAM)
