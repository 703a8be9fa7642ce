"""Sync, power loss and recovery: PROTOCOL F and G, through crashes and power cuts anywhere, also in recovery itself, and again.

Same boot: memory is whole, so claims are repaired and the walk must reach the tail. After a power cut nothing is trusted but frames
that prove themselves, from the durable mark on. What is shared stands in ``lossy_shard``.
"""

from collections.abc import Callable, Iterator

from checker import FAULT, Step
from lossy_invariants import OF_STATES, OF_STEPS, proves_itself, readable
from lossy_shard import (
    DATA,
    DISCARDED,
    EVENTS,
    LINKED,
    NO_PLACE,
    NOTHING,
    PAD,
    SEAL,
    Append,
    File,
    Found,
    Left,
    Setting,
    State,
    crashed,
    cut,
    new_file,
    next_of,
    pad_first,
    put,
    walk_resolved,
    with_file,
)

SHARD, SYNCER, RECOVERY = range(3)


class Recovery:
    """The model. ``changes`` replaces the function of a step: a mutation."""

    def __init__(self, setting: Setting, changes: dict[str, object] | None = None) -> None:
        self.setting = setting
        self.steps = STEPS | (changes or {})
        self.of_states = OF_STATES
        self.of_steps = OF_STEPS

    def initial(self) -> State:
        setting = self.setting
        first = new_file(setting, 1, -1, 0)._replace(name_on_disk=LINKED, header_on_disk=True)
        left = Left(
            len(setting.units), setting.claims, setting.torn, setting.seals, setting.syncs, setting.crashes,
            setting.cuts, setting.retired,
        )  # fmt: skip
        return State((first,), 0, (), NO_PLACE, NO_PLACE, "", NO_PLACE, 0, 0, "", NO_PLACE, left)

    def successors(self, state: State) -> Iterator[tuple[Step, State]]:
        if state.step:
            for after in self.steps[state.step](self.setting, state):
                yield (RECOVERY, state.step), after
        else:
            for name in EVENTS:
                for after in self.steps[name](self.setting, state):
                    yield (SHARD, name), after
            name = state.syncing or "G tail"
            for after in self.steps[name](self.setting, state):
                yield (SYNCER, name), after
        if state.left.crashes:
            yield (FAULT, "all processes die"), crashed(state)
        if state.left.cuts and state.step != "F walk":
            for after in cut(state):
                yield (FAULT, "power cut"), after

    def describe(self, step: Step) -> str:
        if step[0] == FAULT:
            return step[1]
        return f"{step[1]}. {str(self.steps[step[1]].__doc__).partition(chr(10))[0]}"


# ---- G: sync ----


def g_tail(_setting: Setting, state: State) -> Found:
    """Q = the tail at entry."""
    if not state.left.syncs:
        return []
    file = state.files[state.active]
    left = state.left._replace(syncs=state.left.syncs - 1)
    return [state._replace(syncing="G resolve", wanted=(state.active, file.units, file.entries), left=left)]


def first_from_mark(state: State) -> int:
    """Return the file of the mark, or the next where that one is gone."""
    marked = state.mark[0]
    following = next_of(state, marked)
    return marked if state.files[marked].name == LINKED or following is None else following


def g_resolve(_setting: Setting, state: State) -> Found:
    """Wait until every word before Q is final; the frame boundary where the walk stops becomes the mark."""
    last, wanted_unit, wanted_index = state.wanted
    position: int | None = first_from_mark(state)
    while position != last:
        if position is None:
            return []
        file = state.files[position]
        if walk_resolved(state, file)[0] < file.units:
            return []
        position = next_of(state, position)
    unit, index = walk_resolved(state, state.files[last])
    if unit < wanted_unit:
        return []
    return [
        state._replace(
            syncing="G fdatasync", wanted=(last, unit, max(index, wanted_index)), synced_file=first_from_mark(state),
            covered=wanted_unit,
        )
    ]  # fmt: skip


def on_disk(file: File) -> File:
    tail = (file.units, file.entries, file.sealed)
    return file._replace(on_disk=file.words, header_on_disk=file.header, tail_on_disk=tail)


def up_to_on_disk(file: File, unit: int) -> File:
    return on_disk(file)._replace(on_disk=file.words[:unit] + file.on_disk[unit:])


def g_fdatasync(_setting: Setting, state: State) -> Found:
    """Sync one segment after the other, from the mark's to Q's; of the last no word behind the boundary that will be marked."""
    position, (last, unit, _) = state.synced_file, state.wanted
    file = state.files[position]
    files = put(state.files, position, up_to_on_disk(file, unit) if position == last else on_disk(file))
    if position == state.wanted[0]:
        return [state._replace(files=files, syncing="G directory", synced_file=0)]
    following = next_of(state, position)
    assert following is not None
    return [state._replace(files=files, synced_file=following)]


def with_names_on_disk(state: State) -> tuple[File, ...]:
    return tuple(file._replace(name_on_disk=file.name) for file in state.files)


def g_directory(_setting: Setting, state: State) -> Found:
    """Sync the directory."""
    return [state._replace(files=with_names_on_disk(state), syncing="G mark")]


def acknowledged(state: State) -> tuple[Append, ...]:
    """Return the appends, those before Q promised to survive."""
    last = state.wanted[0]
    return tuple(
        entry._replace(promise="s")
        if entry.promise == "a"
        and (
            state.files[entry.file].number < state.files[last].number
            or (entry.file == last and entry.unit < state.covered)
        )
        else entry
        for entry in state.appends
    )


def g_mark(_setting: Setting, state: State) -> Found:
    """Raise the durable position, write the mark unsynced, and return: what lies before Q survives from now on."""
    return [
        state._replace(
            appends=acknowledged(state),
            mark=state.wanted,
            syncing="",
            wanted=NO_PLACE,
            synced_file=0,
            covered=0,
        )
    ]


SYNC_STEPS = {
    "G tail": g_tail,
    "G resolve": g_resolve,
    "G fdatasync": g_fdatasync,
    "G directory": g_directory,
    "G mark": g_mark,
}


# ---- F: recovery on the same boot ----


def f_repair(_setting: Setting, state: State) -> Found:
    """Every slot is dead: repair the first unresolved word below a tail, one after the other."""
    for position, file in enumerate(state.files):
        if file.name == LINKED:
            files = pad_first(state, position)
            if files is not None:
                return [state._replace(files=files)]
    return [state._replace(step="F torn")]


def f_torn(setting: Setting, state: State) -> Found:
    """A word behind the tail is not zero: seal at the tail, then go on as any rotation."""
    file = state.files[state.active]
    torn = file.units < len(file.words) and file.words[file.units] != NOTHING
    if not torn and not file.sealed:
        return [state._replace(step="")]
    if len(state.files) == setting.files and next_of(state, state.active) is None:
        return []
    files = with_file(state, state.active, sealed=True)
    if next_of(state, state.active) is None:
        files = (*files, new_file(setting, file.number + 1, state.active, file.base + file.entries))
    return [state._replace(files=files, step="F active")]


def f_active(_setting: Setting, state: State) -> Found:
    """Store the active number, and open the shard."""
    following = next_of(state, state.active)
    assert following is not None
    return [state._replace(active=following, step="")]


# ---- F: the distrustful form ----


def walk_distrustfully(
    setting: Setting, state: State, position: int, unit: int, index: int
) -> tuple[int, int]:
    """Return unit and index where the walk of one segment stops."""
    file = state.files[position]
    following = next_of(state, position)
    while unit < len(file.words):
        kind, units, number = file.words[unit]
        if kind == DATA and proves_itself(setting, state, position, unit, index):
            first = file.base + state.appends[number].index
            if following is not None and first >= state.files[following].base:
                break  # it lies behind the seal
            index = state.appends[number].index + 1
        elif kind != PAD or unit + units > len(file.words):
            break
        unit += units
    return unit, index


def continues(state: State, position: int, following: int | None, unit: int, index: int) -> bool:
    """Return whether nothing is missing up to the next segment: the numbers meet, or the tail came to disk sealed at ``unit``."""
    if following is None or not state.files[following].header:
        return False
    file, candidate = state.files[position], state.files[following]
    next_entry = file.base + index
    burnt = file.sealed and file.units == unit and candidate.base > next_entry
    return candidate.previous == position and (candidate.base == next_entry or burnt)


def f_walk(setting: Setting, state: State, goes_on: Callable[..., bool] = continues) -> Found:
    """Walk from the mark over frames that prove themselves; set and sync the tails of all but the last; stop where one is missing."""
    position, unit, index = state.mark
    if first_from_mark(state) != position:
        position, unit, index = first_from_mark(state), 0, 0
    files = state.files
    while True:
        unit, index = walk_distrustfully(setting, state, position, unit, index)
        following = next_of(state, position)
        if not goes_on(state, position, following, unit, index):
            return [state._replace(files=files, step="F discard", end=(position, unit, index))]
        assert following is not None
        files = put(
            files, position, on_disk(files[position]._replace(units=unit, entries=index, sealed=True))
        )
        position, unit, index = following, 0, 0


def f_discard(_setting: Setting, state: State) -> Found:
    """Rename later segments to *.discarded, the newest first."""
    later = [
        (file.number, position)
        for position, file in enumerate(state.files)
        if file.name == LINKED and file.number > state.files[state.end[0]].number
    ]
    if not later:
        return [state._replace(step="F directory")]
    return [state._replace(files=with_file(state, max(later)[1], name=DISCARDED))]


def f_directory(_setting: Setting, state: State) -> Found:
    """Sync the directory."""
    return [state._replace(files=with_names_on_disk(state), step="F seal")]


def f_seal(_setting: Setting, state: State) -> Found:
    """Write a SEAL at X, none where X is the capacity, and set the tail: not before what lies behind lost its name for good."""
    position, unit, index = state.end
    words = state.files[position].words
    if unit < len(words):
        words = put(words, unit, (SEAL, 0, 0))
    files = with_file(state, position, words=words, units=unit, entries=index, sealed=True)
    return [state._replace(files=files, step="F fdatasync")]


def f_fdatasync(_setting: Setting, state: State) -> Found:
    """Fdatasync the segment that ends here."""
    files = put(state.files, state.end[0], on_disk(state.files[state.end[0]]))
    return [state._replace(files=files, step="F link")]


def highest_number(state: State) -> int:
    """Return the highest number seen: names, discarded ones included, and the mark's."""
    seen = [file.number for file in state.files if file.name in {LINKED, DISCARDED}]
    return max(*seen, state.files[state.mark[0]].number)


def f_link(setting: Setting, state: State) -> Found:
    """Start the highest number seen + 1, with base = base(S) + entries walked."""
    if len(state.files) == setting.files:
        return []
    position, _, index = state.end
    number = highest_number(state) + 1
    following = new_file(setting, number, position, state.files[position].base + index)
    return [state._replace(files=(*state.files, following), step="F sync new")]


def f_sync_new(_setting: Setting, state: State) -> Found:
    """Fdatasync the new segment and the directory."""
    files = (*state.files[:-1], on_disk(state.files[-1]))
    return [state._replace(files=with_names_on_disk(state._replace(files=files)), step="F mark")]


def f_mark(_setting: Setting, state: State) -> Found:
    """Write the mark: the start of the new segment."""
    return [state._replace(mark=(len(state.files) - 1, 0, 0), step="F open")]


def f_open(setting: Setting, state: State) -> Found:
    """Store the active number and the boot identity: the shard is open, and what is not there now is lost for good."""
    opened = state._replace(active=len(state.files) - 1, step="", end=NO_PLACE)
    there = [number for _, number in readable(setting, opened)]
    appends = tuple(
        entry._replace(promise="l") if entry.promise in {"a", "t"} and number not in there else entry
        for number, entry in enumerate(state.appends)
    )
    return [opened._replace(appends=appends)]


RECOVERY_STEPS = {
    "F repair": f_repair,
    "F torn": f_torn,
    "F active": f_active,
    "F walk": f_walk,
    "F discard": f_discard,
    "F directory": f_directory,
    "F seal": f_seal,
    "F fdatasync": f_fdatasync,
    "F link": f_link,
    "F sync new": f_sync_new,
    "F mark": f_mark,
    "F open": f_open,
}
STEPS = EVENTS | SYNC_STEPS | RECOVERY_STEPS
