"""The settings in which the models are explored: those of the test suite with their exact counts, and larger ones on demand.

A count that falls without a reason means that the search no longer looks where it did.
"""

from collections.abc import Callable
from typing import NamedTuple

import append_repair
import groups
import lossy_shard
import recovery
import rotation
from checker import Model


class Search(NamedTuple):
    """A model and how many states it has. ``stopped``: sets of processes that may stand still for ever; () is nobody."""

    name: str
    make: Callable[[], Model]
    states: int
    stopped: tuple[tuple[int, ...], ...] = ()


def one_segment(*programs: tuple[int, ...], **options: object) -> Callable[[], Model]:
    return lambda: append_repair.AppendRepair(append_repair.Setting(programs, **options))


def segments(*programs: tuple[int, ...], **options: object) -> Callable[[], Model]:
    return lambda: rotation.Rotation(rotation.Setting(programs, **options))


def shard(*units: int, **options: object) -> Callable[[], Model]:
    return lambda: recovery.Recovery(lossy_shard.Setting(units, **options))


def group(**options: object) -> Callable[[], Model]:
    return lambda: groups.Groups(groups.Setting(**options))


NOBODY_ONE_BOTH = ((), (0,), (0, 1))

SUITE = (
    Search("append and repair, one kill", one_segment((2,), (1,), capacity=4), 24776, NOBODY_ONE_BOTH),
    Search("the same without time-outs", one_segment((2,), (1,), capacity=4, patience=False), 7355, ((),)),
    Search("two kills", one_segment((2,), (1,), capacity=3, kills=2), 19687),
    Search("two repairers", one_segment((1,), (1,), capacity=1, repairers=2), 39210),
    Search(
        "a slot taken over from the dead, two repairers",
        one_segment((1,), (1,), capacity=2, slots=1, late=(1,), repairers=2), 64473,
    ),
    Search("the same, one repairer", one_segment((1,), (1,), capacity=2, slots=1, late=(1,)), 1717, ((), (0,), (1,))),
    Search("rotation on a disk that is full once", segments((2,), (2, 2), full=1), 8706, ((), (0,), (1,), (2,))),
    Search("helpers that are late", segments((2,), (2, 2, 2), segments=4, kills=0, unlinked=2), 18408, ((),)),
    Search("rotation after mixed sizes", segments((2,), (1, 2), segments=3, unlinked=2), 8736),
    Search("two power cuts", shard(1, 2, claims=0, crashes=0, cuts=2), 61086),
    Search("a torn append, a crash and a cut", shard(2, 1, claims=0, torn=1, seals=0, files=3), 36077),
    Search("a dead claim, a sync and a cut", shard(1, 1, seals=0, files=3, crashes=0), 33726),
    Search("retention below the mark", shard(1, 1, claims=0, crashes=0, retired=1), 7482),
    Search("two consumers and a reset, one kill", group(entries=3, checkpoints=0, cuts=0), 6032),
    Search("a reset and a checkpoint, a kill and a cut", group(consumers=1), 9995),
)  # fmt: skip

FULL = (
    Search("two writers of two appends", one_segment((2, 1), (1,), capacity=4), 64068, ((), (0,), (1,))),
    Search("two writers, two repairers", one_segment((2,), (1,), capacity=3, repairers=2, kills=0), 127585),
    Search("two writers, two repairers, one kill", one_segment((1,), (1,), capacity=2, repairers=2), 665752),
    Search("three writers", one_segment((2,), (1,), (1,), capacity=4, slots=3), 1217743),
    Search("three writers, two slots", one_segment((2,), (1,), (1,), capacity=4, late=(2,)), 210261),
    Search(
        "rotation of mixed sizes",
        segments((2,), (1, 2, 2), segments=4, unlinked=2),
        46204,
        ((), (0,), (1,), (2,)),
    ),
    Search("three rotating writers", segments((2,), (2,), (2,), segments=4, unlinked=2, full=1), 28431),
    Search("a torn append, a rotation, a crash and a cut", shard(2, 1, claims=0, torn=1), 146190),
    Search("a dead claim, a rotation, a crash and a cut", shard(1, 2), 1100559),
    Search("two cuts and a crash of recovery", shard(1, 2, claims=0, cuts=2), 263401),
    Search("two syncs and two cuts", shard(1, 2, claims=0, crashes=0, syncs=2, cuts=2), 123577),
    Search("a group on a shard that grows again, a kill and a cut", group(consumers=1, appends=1), 42074),
)
