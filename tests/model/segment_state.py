"""What processes share on one segment, and what each remembers between two of its steps."""

from typing import NamedTuple

FREE, CLAIMED, DATA, PAD, PAYLOAD = range(5)
IDLE, BUSY, MARKED = range(3)
NOBODY = -1
UNKNOWN = -1

Word = tuple[int, int, int, int]
"""Kind, units (or the part of a payload), the append it belongs to, first entry index."""
NOTHING: Word = (FREE, 0, 0, 0)


class Slot(NamedTuple):
    """State word as in the control file (counter << 2 | state), claim unit, and the process that holds the lock of its byte."""

    word: int
    claim: int
    holder: int


class Writer(NamedTuple):
    """One appending process; ``results`` has one letter for each append that ended: (a)cknowledged, (f)enced, (s)egment full."""

    step: str
    results: str
    slot: int
    unit: int
    index: int
    stored: int
    fences: int


class Repairer(NamedTuple):
    """One reading process that repairs what blocks it. ``unit``: what it reads next; ``top``: the tail it saw in D1.

    ``seen``: the state word it waits on; ``dead``: what it saw in slots whose owner is dead; ``stop``: where its PAD ends.
    """

    step: str
    unit: int
    top: int
    slot: int
    seen: int
    dead: tuple[tuple[int, int], ...]
    stop: int


class State(NamedTuple):
    """Everything that processes share, and what each remembers."""

    words: tuple[Word, ...]
    tail: tuple[int, int, bool]
    slots: tuple[Slot, ...]
    writers: tuple[Writer, ...]
    repairers: tuple[Repairer, ...]
    kills: int


class Setting(NamedTuple):
    """How large a model is. ``programs``: per writer the units of each of its appends; ``late``: writers that attach on the way.

    ``patience``: a live owner that does not finish is fenced in the end (D2), as the engine does.
    """

    programs: tuple[tuple[int, ...], ...]
    capacity: int
    repairers: int = 1
    slots: int = 2
    late: tuple[int, ...] = ()
    kills: int = 1
    patience: bool = True


def put(values: tuple, position: int, value: object) -> tuple:
    return (*values[:position], value, *values[position + 1 :])


def with_state(slot: Slot, state: int, *, counted: bool = False) -> Slot:
    """Return a slot in another state; a new operation counts."""
    return slot._replace(word=((slot.word >> 2) + counted) << 2 | state)


def with_slot(state: State, position: int, slot: Slot) -> tuple[Slot, ...]:
    return put(state.slots, position, slot)
