"""Files cut, swapped, lost and mixed with those of another shard or of an earlier moment: all entries, or a typed error.

A write that the disk acknowledged and lost must be noticed where the durable mark covers it. The verdicts are those of the bit flips.
"""

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import pytest

import cometlog
from cometlog.kernel import layout
from cometlog.reference import walk
from cometlog.segment import byte_offset
from damage import CONFIG, Change, Judges, describe, files_of, memory_directory, rotate, trim
from recording import Count
from support import SHARD, STREAM, segment_files
from tiers import Tier

MODES = ("read", "attach", "reboot")
FRAME_BYTES = 64
SAME_SIZE = 40


@dataclass
class Logs:
    """The log that is damaged, and where its earlier moments and another shard with the same names lie."""

    judges: Judges
    pristine: Path
    earlier: list[Path]
    other: Path


def entry(text: str, number: int) -> bytes:
    """An entry of SAME_SIZE bytes."""
    return f"{text} {number:04d} ".encode().ljust(SAME_SIZE, b".")


def write(root: Path, text: str, earlier: list[Path]) -> list[tuple[int, bytes]]:
    """Write two segments of equal frames, over more than one page, synced, with copies of earlier synced moments."""
    with cometlog.open(root, CONFIG) as client:
        for number in range(160):
            client.append(STREAM, [entry(text, number)])
            if number == 79:
                rotate(client)
            if number in (19, 99, 139):
                client.sync()
                for place in earlier[:1]:
                    shutil.copytree(root, place, ignore=shutil.ignore_patterns("*.tmp.*"))
                del earlier[:1]
        client.sync()
        truth = [(found.number, found.data) for found in client.scan(STREAM)]
    trim_to_pages(root)
    assert len(truth) == 160
    return truth


def trim_to_pages(root: Path) -> None:
    for path in segment_files(root):
        length = 4 * layout.PAGE_BYTES
        with path.open("r+b") as file:
            file.truncate(length)
            file.seek(layout.SEGMENT_BACKED)
            file.write(((length - layout.SEGMENT_HEADER_BYTES) // layout.UNIT_BYTES).to_bytes(8, "little"))


@pytest.fixture(scope="module")
def logs() -> Iterator[Logs]:
    with memory_directory() as base:
        earlier = [base / f"earlier-{turn}" for turn in range(3)]
        truth = write(base / "pristine", "mine", list(earlier))
        write(base / "other", "other", [])
        yield Logs(Judges(base, base / "pristine", truth), base / "pristine", earlier, base / "other")


def run(logs: Logs, mode: str, changes: list[Change], count: Count, what: str) -> dict[str, int]:
    verdicts = logs.judges.judge(mode, changes)
    assert verdicts.broken == [], describe(verdicts)
    assert verdicts.total == len(changes) > 0
    count(**{what: len(changes)}, **dict(sorted(verdicts.outcomes.items())))
    return dict(verdicts.outcomes)


def segment_names(root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in segment_files(root)]


def frames_of(root: Path, name: str) -> list[tuple[int, bytes]]:
    """Offset in the file and bytes of each frame."""
    raw = (root / name).read_bytes()
    return [
        (byte_offset(batch.unit), raw[byte_offset(batch.unit) : byte_offset(batch.unit) + FRAME_BYTES])
        for batch in walk(raw).batches
    ]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", MODES)
def test_frames_copied_over_each_other(
    logs: Logs, tier: Tier, rng: random.Random, count: Count, mode: str
) -> None:
    """From the same segment, from the other segment, and from the same place of another shard."""
    changes: list[Change] = []
    names = segment_names(logs.pristine)
    frames = {name: frames_of(logs.pristine, name) for name in names}
    for name in names:
        for offset, own in frames[name]:
            others = [data for source in names for _, data in frames[source] if data != own] + [
                data for _, data in frames_of(logs.other, segment_names(logs.other)[names.index(name)])
            ]
            changes += [[["write", name, offset, data.hex()]] for data in others]
    changes = rng.sample(
        changes, min(len(changes), tier.pick(200, 2000, 20_000) // (1 if mode == "read" else 8))
    )
    outcomes = run(logs, mode, changes, count, "frames_copied")
    assert outcomes == {"CorruptionError": len(changes)}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", MODES)
def test_pages_of_an_earlier_moment_are_lost_writes(logs: Logs, count: Count, mode: str) -> None:
    """Each page of each file as it was at an earlier sync, or before anything was written there: never fewer entries."""
    changes: list[Change] = []
    noticed: list[Change] = []
    for name, data in files_of(logs.pristine).items():
        versions = {bytes(len(data))} if name.endswith(".seg") else set()
        for place in logs.earlier:
            for earlier in place.rglob(Path(name).name):
                versions.add(earlier.read_bytes().ljust(len(data), b"\0")[: len(data)])
        for version in sorted(versions):
            for offset in range(0, len(data), layout.PAGE_BYTES):
                page = slice(offset, offset + layout.PAGE_BYTES)
                if version[page] == data[page]:
                    continue
                change: Change = [["write", name, offset, version[page].hex()]]
                changes.append(change)
                if name.endswith(".seg") and offset:
                    noticed.append(change)
    assert len(noticed) >= 6
    run(logs, mode, changes, count, "pages_lost")
    outcomes = run(logs, mode, noticed, count, "frame_pages_lost")
    assert outcomes == {"CorruptionError": len(noticed)}


@pytest.mark.parametrize("mode", MODES)
def test_whole_files_of_an_earlier_moment(logs: Logs, count: Count, mode: str) -> None:
    """Every combination of the files of the shard from now and from one earlier moment."""
    changes: list[Change] = []
    for place in logs.earlier:
        older = [name for name in files_of(place) if name in files_of(logs.pristine) and name != "FORMAT"]
        for chosen in range(1, 1 << len(older)):
            files = [name for bit, name in enumerate(older) if chosen >> bit & 1]
            if any(name.endswith("durable") for name in files) and any(n.endswith(".seg") for n in files):
                continue  # a mark as old as the segment knows no better: a copied directory, a named limit
            changes.append([["replace", name, str(place / name)] for name in files])
    run(logs, mode, changes, count, "combinations")


@pytest.mark.parametrize("mode", MODES)
def test_files_of_another_shard(logs: Logs, count: Count, mode: str) -> None:
    """The other shard has other file contents under the same names."""
    theirs = [name for name in files_of(logs.other) if name != "FORMAT"]
    mine = files_of(logs.pristine)
    changes: list[Change] = [[["replace", name, str(logs.other / name)]] for name in theirs if name in mine]
    assert len(changes) >= 5
    run(logs, mode, changes, count, "files_replaced")


@pytest.mark.parametrize("mode", MODES)
def test_files_renamed_swapped_doubled_and_removed(logs: Logs, count: Count, mode: str) -> None:
    names = [name for name in files_of(logs.pristine) if name != "FORMAT"]
    segments = segment_names(logs.pristine)
    free = f"{SHARD}/0000000007-00000000000000000160.seg"
    changes: list[Change] = [
        [["rename", one, f"{SHARD}/swap"], ["rename", two, one], ["rename", f"{SHARD}/swap", two]]
        for one, two in permutations(names, 2)
    ]
    changes += [[["copy", one, two]] for one, two in permutations(names, 2)]
    changes += [[["rename", name, free]] for name in segments[1:]]
    changes += [[["copy", name, free]] for name in names]
    changes += [[["remove", name]] for name in names if name != segments[0]]
    changes += [[["remove", name] for name in segments]]
    changes += [[["remove", name] for name in names if not name.endswith(".seg")]]
    run(logs, mode, changes, count, "files_moved")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", MODES)
def test_files_cut_at_every_byte_and_extended(
    logs: Logs, tier: Tier, rng: random.Random, count: Count, mode: str
) -> None:
    one_of = tier.pick(800, 40, 1) if mode == "read" else tier.pick(4000, 400, 40)
    changes: list[Change] = []
    for name, data in files_of(logs.pristine).items():
        step = one_of if len(data) > layout.PAGE_BYTES else tier.pick(20, 1)
        for length in range(len(data)):
            if rng.randrange(step) == 0:
                changes.append([["truncate", name, length]])
        for extra in (1, 7, 64, 4096, 40_000):
            changes.append([["write", name, len(data), rng.randbytes(extra).hex()]])
    run(logs, mode, changes, count, "cut_or_extended")


def test_a_segment_missing_from_the_middle(tmp_path: Path, count: Count) -> None:
    root = tmp_path / "log"
    with cometlog.open(root, CONFIG) as client:
        for number in range(40):
            client.append(STREAM, [entry("mine", number)])
            if number % 10 == 9:
                rotate(client)
        truth = [(found.number, found.data) for found in client.scan(STREAM)]
    trim(root)
    names = segment_names(root)
    assert len(names) >= 4
    with memory_directory() as base:
        judges = Judges(base, root, truth)
        changes: list[Change] = [[["remove", name]] for name in names[1:]]
        for mode in MODES:
            verdicts = judges.judge(mode, changes)
            assert verdicts.broken == [], describe(verdicts)
            assert verdicts.outcomes == {"CorruptionError": len(changes)}
            count(segments_removed=len(changes))
