"""Rotation with helpers, and retention beside it: PROTOCOL E, the retention rule, and a reader that follows the chain (C).

Shared: small segments with tail, base and whether their file is there, the active number, and the rotation slot of each process. An
append that fits is one step here, because ``append_repair`` looks into it. The disk may be full at any E3.
"""

from collections.abc import Collection, Iterator
from typing import NamedTuple

from checker import FAULT, Step

ABSENT, LINKED, RETIRED = range(3)
NOT_ROTATING = -1
NO_SEGMENT = -1


class Segment(NamedTuple):
    """One segment; ``appends`` are the (writer, position) of its frames, each one entry."""

    file: int
    base: int
    units: int
    sealed: bool
    appends: tuple[tuple[int, int], ...]


class Writer(NamedTuple):
    """``results`` has one letter per append that ended: (a)cknowledged, full (d)isk. ``base``: of the segment it prepared."""

    step: str
    results: str
    bound: int
    units: int
    base: int


class Retention(NamedTuple):
    """``number``: the segment it may unlink; ``slot``: the next slot it looks at; ``left``: how many it still wants to unlink."""

    step: str
    number: int
    slot: int
    left: int


class Reader(NamedTuple):
    """Where it reads: segment, position in it, and the entry number that must come next."""

    step: str
    segment: int
    position: int
    expected: int


class State(NamedTuple):
    """Everything that processes share, and what each remembers. ``rotating``: per writer the segment that its slot is ROTATING."""

    segments: tuple[Segment, ...]
    active: int
    rotating: tuple[int, ...]
    writers: tuple[Writer, ...]
    retention: Retention
    reader: Reader
    kills: int
    full: int


class Setting(NamedTuple):
    """``programs``: per writer the units of each append. ``full``: how often the disk may turn out to be full."""

    programs: tuple[tuple[int, ...], ...]
    capacity: int = 2
    segments: int = 3
    unlinked: int = 1
    kills: int = 1
    full: int = 0


Found = list[State]


def put(values: tuple, position: int, value: object) -> tuple:
    return (*values[:position], value, *values[position + 1 :])


class Rotation:
    """The model. ``changes`` replaces the function of a step: a mutation."""

    def __init__(self, setting: Setting, changes: dict[str, object] | None = None) -> None:
        self.setting = setting
        self.steps = STEPS | (changes or {})
        self.of_states = OF_STATES
        self.of_steps = OF_STEPS
        self.writers = len(setting.programs)
        self.retention = self.writers
        self.reader = self.writers + 1

    def initial(self) -> State:
        first = Segment(LINKED, 0, 0, False, ())
        absent = Segment(ABSENT, 0, 0, False, ())
        setting = self.setting
        return State(
            (first,) + (absent,) * (setting.segments - 1), 0, (NOT_ROTATING,) * self.writers,
            (Writer("B2", "", NO_SEGMENT, 0, 0),) * self.writers,
            Retention("R pick", NO_SEGMENT, 0, setting.unlinked), Reader("C", 0, 0, 0), setting.kills, setting.full,
        )  # fmt: skip

    def successors(self, state: State) -> Iterator[tuple[Step, State]]:
        for number, writer in enumerate(state.writers):
            if writer.step in ENDS:
                continue
            name = writer.step
            for after in self.steps[name](self, state, number, writer):
                yield (number, name), after
            if state.kills:
                gone = Writer("dead", writer.results, NO_SEGMENT, 0, 0)
                writers = put(state.writers, number, gone)
                yield (FAULT, f"kill {number}"), state._replace(writers=writers, kills=state.kills - 1)
        for after in self.steps[state.retention.step](self, state, state.retention):
            yield (self.retention, state.retention.step), after
        if state.kills and state.retention.step != "R pick":
            again = Retention("R pick", NO_SEGMENT, 0, state.retention.left)
            yield (FAULT, "kill retention"), state._replace(retention=again, kills=state.kills - 1)
        for after in self.steps[state.reader.step](self, state, state.reader):
            yield (self.reader, state.reader.step), after

    def describe(self, step: Step) -> str:
        number, name = step
        if number == FAULT:
            return name
        who = {self.retention: "retention", self.reader: "reader"}.get(number, f"writer {number}")
        return f"{who}: {name}. {str(self.steps[name].__doc__).partition(chr(10))[0]}"

    def is_done(self, state: State, stopped: Collection[int]) -> bool:
        writers = all(n in stopped or w.step in ENDS for n, w in enumerate(state.writers))
        reading = state.segments[state.reader.segment]
        read = state.reader.segment >= state.active and state.reader.position == len(reading.appends)
        oldest = min(n for n, segment in enumerate(state.segments) if segment.file == LINKED)
        trimmed = not state.retention.left or oldest == state.active
        return writers and (read or self.reader in stopped) and (trimmed or self.retention in stopped)

    def may_wait(self, state: State, stopped: Collection[int]) -> bool:
        """A process stopped while ROTATING holds retention up."""
        return any(state.rotating[n] != NOT_ROTATING for n in stopped if n < self.writers)


ENDS = ("end", "dead")


def moved(state: State, number: int, writer: Writer, **shared: object) -> Found:
    return [state._replace(writers=put(state.writers, number, writer), **shared)]


def ended(model: Rotation, state: State, number: int, writer: Writer, result: str, **shared: object) -> Found:
    results = writer.results + result
    step = "B2" if len(results) < len(model.setting.programs[number]) else "end"
    return moved(state, number, Writer(step, results, NO_SEGMENT, 0, 0), **shared)


# ---- B and E ----


def b2_bind(_model: Rotation, state: State, number: int, writer: Writer) -> Found:
    """S = active segment."""
    return moved(state, number, writer._replace(step="B4", bound=state.active))


def b4_look(model: Rotation, state: State, number: int, writer: Writer) -> Found:
    """Load the tail of S: sealed leads to E, no room to the seal, else to the append."""
    segment = state.segments[writer.bound]
    if segment.sealed:
        return moved(state, number, writer._replace(step="E1", units=0))
    fits = segment.units + model.setting.programs[number][len(writer.results)] <= model.setting.capacity
    return moved(state, number, writer._replace(step="B5" if fits else "B4 seal", units=segment.units))


def b4_seal(_model: Rotation, state: State, number: int, writer: Writer) -> Found:
    """CAS(tail, t, t | SEALED); then look again."""
    segment = state.segments[writer.bound]
    segments = state.segments
    if segment.units == writer.units and not segment.sealed:
        segments = put(segments, writer.bound, segment._replace(sealed=True))
    return moved(state, number, writer._replace(step="B4", units=0), segments=segments)


def b5_append(model: Rotation, state: State, number: int, writer: Writer) -> Found:
    """CAS(tail, t, t + entries + units), then store and commit; on failure look again."""
    segment = state.segments[writer.bound]
    if segment.units != writer.units or segment.sealed:
        return moved(state, number, writer._replace(step="B4", units=0))
    position = len(writer.results)
    after = segment._replace(
        units=segment.units + model.setting.programs[number][position],
        appends=(*segment.appends, (number, position)),
    )
    return ended(model, state, number, writer, "a", segments=put(state.segments, writer.bound, after))


def e1_rotating(_model: Rotation, state: State, number: int, writer: Writer) -> Found:
    """slot.state = ROTATING with segment S, and a fence."""
    rotating = put(state.rotating, number, writer.bound)
    return moved(state, number, writer._replace(step="E2"), rotating=rotating)


def e2_look(_model: Rotation, state: State, number: int, writer: Writer) -> Found:
    """Load `active`: where it is past S, somebody has rotated."""
    return moved(state, number, writer._replace(step="E5 idle" if state.active > writer.bound else "E3"))


def e3_prepare(model: Rotation, state: State, number: int, writer: Writer) -> Found:
    """Build the file: base' = base + entries of the sealed tail. A full disk: slot IDLE, and the append raises."""
    segment = state.segments[writer.bound]
    idle = put(state.rotating, number, NOT_ROTATING)
    if writer.bound + 1 == len(state.segments):
        return ended(model, state, number, writer, "d", rotating=idle)
    found = moved(state, number, writer._replace(step="E4", base=segment.base + len(segment.appends)))
    if state.full:
        found += ended(model, state, number, writer, "d", rotating=idle, full=state.full - 1)
    return found


def e4_link(_model: Rotation, state: State, number: int, writer: Writer) -> Found:
    """link(temporary, final): where the name exists, somebody won."""
    segments = state.segments
    if segments[writer.bound + 1].file != LINKED:
        segments = put(segments, writer.bound + 1, Segment(LINKED, writer.base, 0, False, ()))
    return moved(state, number, writer._replace(step="E5", base=0), segments=segments)


def e5_activate(_model: Rotation, state: State, number: int, writer: Writer) -> Found:
    """CAS(active, S, S + 1)."""
    active = writer.bound + 1 if state.active == writer.bound else state.active
    return moved(state, number, writer._replace(step="E5 idle"), active=active)


def e5_idle(_model: Rotation, state: State, number: int, writer: Writer) -> Found:
    """slot.state = IDLE, and the append begins anew."""
    idle = put(state.rotating, number, NOT_ROTATING)
    return moved(state, number, Writer("B2", writer.results, NO_SEGMENT, 0, 0), rotating=idle)


# ---- Retention ----


def r_pick(_model: Rotation, state: State, retention: Retention) -> Found:
    """Take the oldest segment K below `active`, then a fence."""
    linked = [n for n, segment in enumerate(state.segments) if segment.file == LINKED and n < state.active]
    if not retention.left or not linked:
        return []
    return [state._replace(retention=Retention("R look", linked[0], 0, retention.left))]


def r_look(_model: Rotation, state: State, retention: Retention) -> Found:
    """Look at one slot after the other: held and ROTATING a segment below K means not now."""
    if retention.slot == len(state.rotating):
        return [state._replace(retention=retention._replace(step="R unlink", slot=0))]
    held = state.writers[retention.slot].step != "dead"
    if (
        held
        and state.rotating[retention.slot] != NOT_ROTATING
        and state.rotating[retention.slot] < retention.number
    ):
        return [state._replace(retention=Retention("R pick", NO_SEGMENT, 0, retention.left))]
    return [state._replace(retention=retention._replace(slot=retention.slot + 1))]


def r_unlink(_model: Rotation, state: State, retention: Retention) -> Found:
    """Unlink K; the directory is synced before the next."""
    retired = state.segments[retention.number]._replace(file=RETIRED)
    after = Retention("R pick", NO_SEGMENT, 0, retention.left - 1)
    return [state._replace(segments=put(state.segments, retention.number, retired), retention=after)]


# ---- C ----


def c_read(_model: Rotation, state: State, reader: Reader) -> Found:
    """Deliver the next entry; at the end of a sealed segment look for the next."""
    segment = state.segments[reader.segment]
    if reader.position < len(segment.appends):
        number = segment.base + reader.position + 1
        return [state._replace(reader=reader._replace(position=reader.position + 1, expected=number))]
    if not segment.sealed:
        return []
    return following(state, reader)


def following(state: State, reader: Reader) -> Found:
    later = [n for n in range(reader.segment + 1, len(state.segments)) if state.segments[n].file == LINKED]
    if not later:
        return []
    # A previous uuid that is another's: what lies between was retired, and the gap is reported.
    number = later[0]
    expected = reader.expected if number == reader.segment + 1 else state.segments[number].base
    return [state._replace(reader=Reader("C", number, 0, expected))]


STEPS = {
    "B2": b2_bind,
    "B4": b4_look,
    "B4 seal": b4_seal,
    "B5": b5_append,
    "E1": e1_rotating,
    "E2": e2_look,
    "E3": e3_prepare,
    "E4": e4_link,
    "E5": e5_activate,
    "E5 idle": e5_idle,
    "R pick": r_pick,
    "R look": r_look,
    "R unlink": r_unlink,
    "C": c_read,
}


# ---- Invariants ----


def i1_tail(_model: Rotation, before: State, after: State) -> str:
    """I1: the tail is monotone, and frozen once SEALED."""
    if after.segments is before.segments:
        return ""
    for number, (old, new) in enumerate(zip(before.segments, after.segments, strict=True)):
        if old.sealed and old.file == LINKED and (new.units, new.sealed) != (old.units, True):
            return f"the sealed tail of segment {number} changed"
    return ""


def i4_acknowledged(_model: Rotation, state: State) -> str:
    """I4: acknowledged = exactly one reachable DATA frame."""
    frames = [append for segment in state.segments for append in segment.appends]
    for number, writer in enumerate(state.writers):
        for position, result in enumerate(writer.results):
            if frames.count((number, position)) != (result == "a"):
                return f"append {position} of writer {number} ended with {result!r}, frames are {frames}"
    return ""


def i8_base(_model: Rotation, state: State) -> str:
    """I8: base(S+1) = base(S) + entries(S) for any winner."""
    for number in range(1, len(state.segments)):
        before, segment = state.segments[number - 1 : number + 1]
        if segment.file == ABSENT:
            continue
        if not before.sealed or segment.base != before.base + len(before.appends):
            return f"segment {number} starts at {segment.base}, the one before: {before}"
    return ""


def i8_read(_model: Rotation, before: State, after: State) -> str:
    """I8: what a reader is given has the number that comes next; a gap is only what was retired."""
    if after.reader is before.reader or after.reader.position == 0:
        return ""
    given = after.reader.expected - 1
    return (
        ""
        if given == before.reader.expected
        else f"entry {given} was read instead of {before.reader.expected}"
    )


def i9_files(_model: Rotation, before: State, after: State) -> str:
    """I9: one fully initialised file per number; a retired number never returns."""
    if after.segments is before.segments:
        return ""
    for number, (old, new) in enumerate(zip(before.segments, after.segments, strict=True)):
        if old.file == RETIRED and new.file != RETIRED:
            return f"segment {number} was retired and is there again"
        if old.file == LINKED and new.file == LINKED and len(new.appends) < len(old.appends):
            return f"segment {number} was replaced by another file"
    return ""


def i9_active(_model: Rotation, before: State, after: State) -> str:
    """I9: `active` only rises, and its segment has a file."""
    if after.active < before.active:
        return f"active went from {before.active} back to {after.active}"
    file = after.segments[after.active].file
    return (
        "" if file == LINKED else f"active is {after.active}, whose file is {('absent', '', 'retired')[file]}"
    )


OF_STATES = (i4_acknowledged, i8_base)
OF_STEPS = (i1_tail, i8_read, i9_files, i9_active)
