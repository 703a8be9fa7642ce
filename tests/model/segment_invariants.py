"""The invariants of ``append_repair``, each of a state or of a step. What looks at the words alone is computed once per content."""

from functools import cache
from typing import Protocol

from segment_state import (
    BUSY,
    CLAIMED,
    DATA,
    FREE,
    NOBODY,
    NOTHING,
    PAD,
    PAYLOAD,
    Setting,
    State,
    Word,
    Writer,
)


class Settled(Protocol):
    """What the invariants ask of the model."""

    setting: Setting

    def units(self, number: int, writer: Writer) -> int:
        """Return the units of a writer's present append."""


@cache
def under_pad(words: tuple[Word, ...]) -> tuple[bool, ...]:
    """Return for each unit whether a PAD that starts before it covers it."""
    covered = [False] * (len(words) + 1)
    for unit, (kind, units, _, _) in enumerate(words):
        if kind == PAD:
            covered[unit + 1 : unit + units] = [True] * (len(covered[unit + 1 : unit + units]))
    return tuple(covered)


def i1_claims(model: Settled, state: State) -> str:
    """I1: claims are disjoint and inside the capacity. I15: no carry in the tail."""
    taken = [0] * (model.setting.capacity + 1)
    for number, writer in enumerate(state.writers):
        if writer.step in {"B6", "B7", "B8", "B9"}:
            for unit in range(writer.unit, writer.unit + model.units(number, writer)):
                if unit >= state.tail[0] or taken[unit]:
                    return f"the claim of writer {number} at {writer.unit} is not its own"
                taken[unit] = 1
    return "" if state.tail[0] <= model.setting.capacity else f"tail at {state.tail[0]}"


def i1_tail(_model: Settled, before: State, after: State) -> str:
    """I1: the tail is monotone, and frozen once SEALED."""
    if after.tail is before.tail or after.tail == before.tail:
        return ""
    frozen = before.tail[2]
    back = after.tail[0] < before.tail[0] or after.tail[1] < before.tail[1]
    return f"tail {before.tail} became {after.tail}" if frozen or back else ""


MAY_BECOME = {FREE: {CLAIMED, PAD, PAYLOAD}, CLAIMED: {DATA, PAD}, DATA: set(), PAD: set(), PAYLOAD: set()}


def i2_words(_model: Settled, before: State, after: State) -> str:
    """I2: a word goes only 0 > CLAIMED > DATA, 0 > PAD, CLAIMED > PAD; a final word never changes."""
    if after.words is before.words:
        return ""
    for unit, (old, new) in enumerate(zip(before.words, after.words, strict=True)):
        if old != new and new[0] not in MAY_BECOME[old[0]]:
            return f"word {unit} was {old} and became {new}"
    return ""


def i3_stores(_model: Settled, before: State, after: State) -> str:
    """I3: no store into a DATA frame; a repairer writes only words."""
    if after.words is before.words:
        return ""
    by_repairer = after.repairers != before.repairers
    for unit, (old, new) in enumerate(zip(before.words, after.words, strict=True)):
        if old == new:
            continue
        if by_repairer and new[0] != PAD:
            return f"a repairer stored {new} at {unit}"
        for start, (kind, units, _, _) in enumerate(before.words[:unit]):
            if kind == DATA and start + units > unit:
                return f"{new} was stored into the DATA frame at {start}"
    return ""


def i4_acknowledged(_model: Settled, state: State) -> str:
    """I4: acknowledged = exactly one reachable DATA frame; fenced = none."""
    return _appended_as_promised(state.words, tuple(writer.results for writer in state.writers))


@cache
def _appended_as_promised(words: tuple[Word, ...], results: tuple[str, ...]) -> str:
    covered = under_pad(words)
    frames = [word[2] for unit, word in enumerate(words) if word[0] == DATA and not covered[unit]]
    for number, ended_so_far in enumerate(results):
        for position, result in enumerate(ended_so_far):
            found = frames.count(number * 4 + position)
            if found != (result == "a"):
                return f"append {position} of writer {number} ended with {result!r} and has {found} frames"
    return ""


def i5_covered(_model: Settled, state: State) -> str:
    """I5: no DATA under a PAD."""
    return _data_under_pad(state.words)


@cache
def _data_under_pad(words: tuple[Word, ...]) -> str:
    covered = under_pad(words)
    hidden = [unit for unit, word in enumerate(words) if word[0] == DATA and covered[unit]]
    return f"DATA at {hidden} lies under a PAD" if hidden else ""


def i6_intact(_model: Settled, state: State) -> str:
    """I6: the payload is intact where the word says DATA."""
    return _damaged_payload(state.words)


@cache
def _damaged_payload(words: tuple[Word, ...]) -> str:
    for unit, (kind, units, owner, _) in enumerate(words):
        if kind == DATA:
            payload = words[unit + 1 : unit + units]
            if payload != tuple((PAYLOAD, part, owner, 0) for part in range(1, units)):
                return f"the frame at {unit} holds {payload}"
    return ""


def i7_marked(_model: Settled, state: State) -> str:
    """I7: any non-zero byte in a claim implies a non-zero marker."""
    return _unmarked_payload(state.words)


@cache
def _unmarked_payload(words: tuple[Word, ...]) -> str:
    bare = [
        unit for unit, word in enumerate(words) if word[0] == PAYLOAD and words[unit - word[1]] == NOTHING
    ]
    return f"payload at {bare} without a marker" if bare else ""


def i8_index(_model: Settled, state: State) -> str:
    """I8: the first index is strictly increasing."""
    return _index_falls(state.words)


@cache
def _index_falls(words: tuple[Word, ...]) -> str:
    indexes = [word[3] for word in words if word[0] == DATA]
    return "" if indexes == sorted(set(indexes)) else f"first indexes {indexes}"


def i10_pads(_model: Settled, state: State) -> str:
    """I10: a PAD never passes the tail nor covers an owner that can still commit."""
    words = state.words
    covered = under_pad(words)
    if covered[state.tail[0]]:
        return f"a PAD passes the tail at {state.tail[0]}"
    for number, writer in enumerate(state.writers):
        if writer.step not in CAN_COMMIT or not covered[writer.unit]:
            continue
        if words[writer.unit][0] == CAN_COMMIT[writer.step]:
            return f"a PAD covers the claim of writer {number} at {writer.unit}"
    return ""


CAN_COMMIT = {"B6": FREE, "B7": CLAIMED, "B8": CLAIMED, "B9": CLAIMED}
"""What an owner at this step must find at its unit to go on."""


def i11_prefix(_model: Settled, state: State) -> str:
    """I11: a reader's prefix is never retracted."""
    for repairer in state.repairers:
        if repairer.unit not in _boundaries(state.words):
            return f"what was read up to {repairer.unit} is no longer there"
    return ""


@cache
def _boundaries(words: tuple[Word, ...]) -> frozenset[int]:
    """Return the units that a walk over final words comes to."""
    unit, found = 0, {0}
    while unit < len(words) and words[unit][0] in {DATA, PAD}:
        unit += words[unit][1]
        found.add(unit)
    return frozenset(found)


def i14_slots(_model: Settled, state: State) -> str:
    """I14: a slot never has two owners."""
    owners = [writer.slot for writer in state.writers if writer.slot != NOBODY]
    if len(owners) != len(set(owners)):
        return f"the writers own slots {owners}"
    for number, writer in enumerate(state.writers):
        if writer.slot != NOBODY and state.slots[writer.slot].holder != number:
            return f"slot {writer.slot} is not locked by its owner {number}"
        if writer.step in {"B4", "B5", "B6", "B7"} and state.slots[writer.slot].word & 3 != BUSY:
            return f"slot {writer.slot} of writer {number} was changed by another process"
    return ""


OF_STATES = (
    i1_claims, i4_acknowledged, i5_covered, i6_intact, i7_marked, i8_index, i10_pads, i11_prefix, i14_slots
)  # fmt: skip
OF_STEPS = (i1_tail, i2_words, i3_stores)
