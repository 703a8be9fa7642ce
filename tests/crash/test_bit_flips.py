"""One bit flipped at every position of a small log: all ten entries identical, or a typed error that names the place.

Each flip is judged by a read-only client, by a writer that attaches on the same boot, and by one on another boot, which both append
an entry and read it back. Fewer entries without an error, other bytes, an invented entry, a hang or a signal fail.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from cometlog.kernel import layout
from damage import Change, Judges, build, describe, files_of, frames_end, memory_directory
from recording import Count
from support import SHARD
from tiers import Tier

CONTROL = f"{SHARD}/control"
STATISTICS = f"{SHARD}/statistics"
SLOTS_JUDGED = 2
"""Slots of the control file of which every bit counts as telling; the other 1022 are no different."""


@pytest.fixture(scope="module")
def log() -> Iterator[tuple[Judges, Path]]:
    with memory_directory() as base:
        truth = build(base / "pristine")
        yield Judges(base, base / "pristine", truth), base / "pristine"


def telling_bytes(name: str, size: int, root: Path) -> set[int]:
    """The bytes of a file that say something; the rest are padding, zeros behind the tail, counters, and slots like the first ones."""
    if name == CONTROL:
        slots = layout.CONTROL_SLOTS
        return {
            *range(layout.CONTROL_CLEAN + 64),
            *range(slots, slots + SLOTS_JUDGED * layout.SLOT_SIZE_BYTES),
        }
    if name == STATISTICS:
        return set(range(layout.STATISTICS_CREATED + 8))
    if name.endswith(".seg"):
        header = [*range(layout.SEGMENT_CHECKSUM + 4), *range(layout.SEGMENT_TAIL, layout.SEGMENT_TAIL + 8)]
        backed = range(layout.SEGMENT_BACKED, layout.SEGMENT_BACKED + 8)
        return {*header, *backed, *range(layout.SEGMENT_HEADER_BYTES, frames_end(root / name) + 32)}
    return set(range(size))


def flips(
    root: Path, rng: random.Random, segments_one_of: int, telling_one_of: int, others_one_of: int
) -> Iterator[Change]:
    """One of so many of the bits that say something, in segments and in other files, and of the rest; one of one is every one."""
    for name, data in sorted(files_of(root).items()):
        telling = telling_bytes(name, len(data), root)
        for bit in range(8 * len(data)):
            step = segments_one_of if name.endswith(".seg") else telling_one_of
            step = step if bit // 8 in telling else others_one_of
            if step == 1 or rng.randrange(step) == 0:
                yield [["flip", name, bit]]


def run(judges: Judges, mode: str, changes: list[Change], count: Count) -> None:
    verdicts = judges.judge(mode, changes)
    outcomes = dict(verdicts.outcomes)
    assert verdicts.broken == [], describe(verdicts)
    assert sum(outcomes.values()) == len(changes)
    identical = outcomes.pop("identical")
    count(bits_flipped=len(changes), identical=identical, **dict(sorted(outcomes.items())))
    assert identical > 0
    assert outcomes.get("CorruptionError", 0) > 0


@pytest.mark.timeout(900)
def test_every_bit_flipped_under_a_reader(
    log: tuple[Judges, Path], tier: Tier, rng: random.Random, count: Count
) -> None:
    judges, pristine = log
    changes = list(flips(pristine, rng, 1, tier.pick(6, 1), tier.pick(500, 10, 1)))
    run(judges, "read", changes, count)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", ["attach", "reboot"])
def test_bits_flipped_under_a_writer_that_attaches(
    log: tuple[Judges, Path], tier: Tier, rng: random.Random, count: Count, mode: str
) -> None:
    judges, pristine = log
    changes = list(flips(pristine, rng, tier.pick(8, 2, 1), tier.pick(24, 2, 1), tier.pick(9_999, 999, 99)))
    run(judges, mode, changes, count)
