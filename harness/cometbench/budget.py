"""How many rounds of a run fit its time: each group of benchmarks gets its least, and the time left is dealt out evenly.

A group is what a table compares, so that its members have the same rounds and ratios pair all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Group(NamedTuple):
    """Members that get the same rounds: `least` and `most`, those they have `done`, and the seconds of one round of them all."""

    name: str
    least: int
    most: int
    done: int
    round_seconds: float


def allot(groups: Sequence[Group], seconds: float) -> dict[str, int]:
    """Return the rounds of each group in all, those it has done included; `seconds` are what further ones may take.

    Every group gets its least, whatever that takes. Beyond it each gets the same part of its further rounds, as large as fits; a round
    that does not fit any more is not begun, and groups whose rounds take less may still get one.
    """
    rounds = {group.name: max(group.done, min(group.least, group.most)) for group in groups}
    left = seconds - sum((rounds[group.name] - group.done) * group.round_seconds for group in groups)
    open_groups = [group for group in groups if rounds[group.name] < group.most]
    while open_groups:
        group = min(open_groups, key=lambda one: (rounds[one.name] - one.least) / (one.most - one.least))
        if group.round_seconds > left:
            open_groups.remove(group)
            continue
        rounds[group.name] += 1
        left -= group.round_seconds
        if rounds[group.name] == group.most:
            open_groups.remove(group)
    return rounds
