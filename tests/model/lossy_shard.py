"""A shard over a disk that loses what was not synced: what ``recovery`` models, but for sync and recovery themselves.

Shared: the files of a shard, each with what the page cache holds and what the disk holds, and the durable mark in both. An append is
one step here, because ``append_repair`` looks into it; a claim whose owner died is another. A power cut keeps what was synced and,
independently for every unit, every header, every name and the mark, either the old or the new, or the CLAIMED in between.
"""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

FREE, CLAIMED, DATA, PAD, SEAL, PAYLOAD = range(6)
ABSENT, LINKED, DISCARDED, RETIRED = range(4)

Word = tuple[int, int, int]
"""Kind, units (or the part of a payload), the append it belongs to."""
NOTHING: Word = (FREE, 0, 0)


class File(NamedTuple):
    """One segment. ``previous``: the position of the file it continues; ``units``, ``entries`` and ``sealed`` are its tail."""

    number: int
    previous: int
    base: int
    words: tuple[Word, ...]
    on_disk: tuple[Word, ...]
    units: int
    entries: int
    sealed: bool
    tail_on_disk: tuple[int, int, bool]
    name: int
    name_on_disk: int
    header: bool
    header_on_disk: bool


class Append(NamedTuple):
    """Where an append went, and what was promised: (a)cknowledged, (s)ynced, (t)orn and never acknowledged, (l)ost for good."""

    file: int
    unit: int
    index: int
    promise: str


class Left(NamedTuple):
    """How often each event may still happen."""

    appends: int
    claims: int
    torn: int
    seals: int
    syncs: int
    crashes: int
    cuts: int
    retired: int


class State(NamedTuple):
    """``step``: the next of a recovery, "" while the shard is open; ``syncing``: the next of a sync, "" between syncs.

    ``wanted``: the tail that a sync saw, later the boundary it will mark; ``covered``: the unit of that tail.
    """

    files: tuple[File, ...]
    active: int
    appends: tuple[Append, ...]
    mark: tuple[int, int, int]
    mark_on_disk: tuple[int, int, int]
    syncing: str
    wanted: tuple[int, int, int]
    covered: int
    synced_file: int
    step: str
    end: tuple[int, int, int]
    left: Left


class Setting(NamedTuple):
    """``units``: of each append; the rest says how often each event may happen."""

    units: tuple[int, ...]
    capacity: int = 3
    files: int = 4
    claims: int = 1
    torn: int = 0
    seals: int = 1
    syncs: int = 1
    crashes: int = 1
    cuts: int = 1
    retired: int = 0


NO_PLACE = (0, 0, 0)
NO_TAIL = (0, 0, False)
Found = list[State]


def put(values: tuple, position: int, value: object) -> tuple:
    return (*values[:position], value, *values[position + 1 :])


def with_file(state: State, position: int, **changed: object) -> tuple[File, ...]:
    return put(state.files, position, state.files[position]._replace(**changed))


def spent(state: State, event: str) -> Left:
    return state.left._replace(**{event: getattr(state.left, event) - 1})


def new_file(setting: Setting, number: int, previous: int, base: int) -> File:
    free = (NOTHING,) * setting.capacity
    return File(number, previous, base, free, free, 0, 0, False, NO_TAIL, LINKED, ABSENT, True, False)


# ---- What can happen to all at once ----


def crashed(state: State) -> State:
    """Every process dies; memory stays. A recovery is repeated in the form it had."""
    form = "F repair" if state.step in {"", "F repair", "F torn", "F active"} else "F walk"
    return state._replace(
        syncing="",
        wanted=NO_PLACE,
        covered=0,
        synced_file=0,
        step=form,
        end=NO_PLACE,
        left=spent(state, "crashes"),
    )


def cut(state: State) -> Iterator[State]:
    """Yield every state that a power cut may leave: what was synced, and any part of what was not."""
    marks = {state.mark, state.mark_on_disk}
    for *files, mark in product(*(versions(file) for file in state.files), marks):
        yield state._replace(
            files=tuple(files), active=0, mark=mark, mark_on_disk=mark, syncing="", wanted=NO_PLACE,
            covered=0, synced_file=0, step="F walk", end=NO_PLACE, left=spent(state, "cuts"),
        )  # fmt: skip


def versions(file: File) -> list[File]:
    """Return what the disk may hold of a file after a cut.

    Its tail is the old or the new one. Of tails that are not sealed the old one stands for all: recovery sets it anew, and only asks
    a sealed one where it is.
    """
    found = []
    tails = {file.tail_on_disk, (file.units, file.entries, True)} if file.sealed else {file.tail_on_disk}
    for name in {file.name, file.name_on_disk}:
        if name == ABSENT:
            free = (NOTHING,) * len(file.words)
            found.append(
                File(
                    file.number,
                    file.previous,
                    file.base,
                    free,
                    free,
                    0,
                    0,
                    False,
                    NO_TAIL,
                    ABSENT,
                    ABSENT,
                    False,
                    False,
                )
            )
            continue
        units = [
            {old, new, (CLAIMED, new[1], new[2])} if new[0] == DATA and old != new else {old, new}
            for old, new in zip(file.on_disk, file.words, strict=True)
        ]
        for header in {file.header, file.header_on_disk}:
            found += [
                file._replace(
                    words=words, on_disk=words, units=tail[0], entries=tail[1], sealed=tail[2], tail_on_disk=tail, name=name,
                    name_on_disk=name, header=header, header_on_disk=header,
                )
                for words in product(*units)
                for tail in tails
            ]  # fmt: skip
    return found


# ---- An open shard ----


def store_frame(setting: Setting, state: State, number: int) -> tuple[Word, ...]:
    """Return the words of the active file with the frame of append ``number`` behind its tail."""
    file = state.files[state.active]
    units = setting.units[number]
    frame = ((DATA, units, number), *((PAYLOAD, part, number) for part in range(1, units)))
    return (*file.words[: file.units], *frame, *file.words[file.units + units :])


def room(setting: Setting, state: State) -> bool:
    """Return whether the next append may go behind the tail: it fits, and nothing torn lies there."""
    file = state.files[state.active]
    number = len(state.appends)
    if not state.left.appends or file.sealed or file.units + setting.units[number] > len(file.words):
        return False
    return file.words[file.units] == NOTHING


def append(setting: Setting, state: State) -> Found:
    """An append from its claim to its acknowledgement."""
    if not room(setting, state):
        return []
    number = len(state.appends)
    file = state.files[state.active]
    files = with_file(
        state, state.active, words=store_frame(setting, state, number),
        units=file.units + setting.units[number], entries=file.entries + 1,
    )  # fmt: skip
    appends = (*state.appends, Append(state.active, file.units, file.entries, "a"))
    return [state._replace(files=files, appends=appends, left=spent(state, "appends"))]


def die_in_claim(setting: Setting, state: State) -> Found:
    """A claim of one unit whose owner dies: its word stays free or CLAIMED."""
    file = state.files[state.active]
    if (
        not state.left.claims
        or file.sealed
        or file.units == len(file.words)
        or file.words[file.units] != NOTHING
    ):
        return []
    return [
        state._replace(
            files=with_file(
                state, state.active, words=put(file.words, file.units, word), units=file.units + 1, entries=file.entries + 1
            ),
            left=spent(state, "claims"),
        )
        for word in (NOTHING, (CLAIMED, 1, 0))
    ]  # fmt: skip


def tear(setting: Setting, state: State) -> Found:
    """A file-lock path writes a frame behind the tail and dies before the tail store."""
    if not state.left.torn or not room(setting, state):
        return []
    number = len(state.appends)
    file = state.files[state.active]
    files = with_file(state, state.active, words=store_frame(setting, state, number))
    appends = (*state.appends, Append(state.active, file.units, file.entries, "t"))
    left = spent(state, "appends")._replace(torn=state.left.torn - 1)
    return [state._replace(files=files, appends=appends, left=left)]


def seal(setting: Setting, state: State) -> Found:
    """Seal the active segment: it is full, something torn lies behind its tail, or for no reason, as often as allowed."""
    file = state.files[state.active]
    if file.sealed or len(state.files) == setting.files:
        return []
    forced = file.units == len(file.words) or file.words[file.units] != NOTHING
    if not forced and (not state.left.seals or not file.units):
        return []
    left = state.left if forced else spent(state, "seals")
    return [state._replace(files=with_file(state, state.active, sealed=True), left=left)]


def next_of(state: State, position: int) -> int | None:
    """Return the file with the lowest number above another's, of those whose name is there."""
    later = [
        (file.number, other)
        for other, file in enumerate(state.files)
        if file.name == LINKED and file.number > state.files[position].number
    ]
    return min(later)[1] if later else None


def link_next(setting: Setting, state: State) -> Found:
    """Link the file of the next segment."""
    file = state.files[state.active]
    if not file.sealed or next_of(state, state.active) is not None or len(state.files) == setting.files:
        return []
    following = new_file(setting, file.number + 1, state.active, file.base + file.entries)
    return [state._replace(files=(*state.files, following))]


def activate(_setting: Setting, state: State) -> Found:
    """CAS(active, S, S + 1)."""
    following = next_of(state, state.active)
    if not state.files[state.active].sealed or following is None:
        return []
    return [state._replace(active=following)]


def walk_resolved(state: State, file: File) -> tuple[int, int]:
    """Return unit and next index where a walk over final words of a file stops, below its tail."""
    unit = index = 0
    while unit < file.units and file.words[unit][0] in {DATA, PAD}:
        if file.words[unit][0] == DATA:
            index = state.appends[file.words[unit][2]].index + 1
        unit += file.words[unit][1]
    return unit, index


def pad_first(state: State, position: int) -> tuple[File, ...] | None:
    """Return the files with the first unresolved word of one of them turned into a PAD; None where there is none."""
    file = state.files[position]
    unit, _ = walk_resolved(state, file)
    if unit >= file.units or file.words[unit][0] == SEAL:
        return None
    kind, units, _ = file.words[unit]
    stop = unit + units if kind == CLAIMED else unit + 1
    while kind == FREE and stop < file.units and file.words[stop] == NOTHING:
        stop += 1
    return with_file(state, position, words=put(file.words, unit, (PAD, stop - unit, 0)))


def repair(_setting: Setting, state: State) -> Found:
    """A reader or a sync repairs a word that a dead writer left."""
    found = (pad_first(state, position) for position, file in enumerate(state.files) if file.name == LINKED)
    return [state._replace(files=files) for files in found if files is not None]


def retire(_setting: Setting, state: State) -> Found:
    """Retention unlinks the oldest segment, below the durable one, and the directory is synced."""
    oldest = oldest_file(state)
    below = state.files[oldest].number < min(
        state.files[state.mark[0]].number, state.files[state.active].number
    )
    if not state.left.retired or state.syncing or not below:
        return []
    files = with_file(state, oldest, name=RETIRED, name_on_disk=RETIRED)
    return [state._replace(files=files, left=spent(state, "retired"))]


def oldest_file(state: State) -> int:
    return min((file.number, n) for n, file in enumerate(state.files) if file.name == LINKED)[1]


EVENTS = {
    "append": append,
    "die in claim": die_in_claim,
    "tear": tear,
    "H seal": seal,
    "E4": link_next,
    "E5": activate,
    "D": repair,
    "R unlink": retire,
}
