"""The invariants of ``recovery``: what a reader of the open shard finds. A shard in recovery has no readers."""

from lossy_shard import DATA, FREE, LINKED, PAD, PAYLOAD, RETIRED, SEAL, Setting, State, next_of, oldest_file

RESTART = "F open"
"""The step of a recovery after which readers are there again."""


def proves_itself(setting: Setting, state: State, position: int, unit: int, index: int) -> bool:
    """Return whether the checksum of the frame at ``unit`` holds: written there, for this segment, whole; and the index rises."""
    words = state.files[position].words
    number = words[unit][2]
    entry = state.appends[number]
    payload = tuple((PAYLOAD, part, number) for part in range(1, setting.units[number]))
    whole = words[unit + 1 : unit + setting.units[number]] == payload
    return whole and (entry.file, entry.unit) == (position, unit) and entry.index >= index


def readable(setting: Setting, state: State) -> list[tuple[int, int]]:
    """Return (entry number, append) in the order a reader is given them; it has dead claims repaired on the way.

    An append of -1 stands for bytes that are no frame.
    """
    found: list[tuple[int, int]] = []
    position: int | None = oldest_file(state)
    while position is not None:
        file = state.files[position]
        unit = 0
        while unit < file.units:
            kind, units, number = file.words[unit]
            if kind == SEAL:
                break
            if kind == DATA:
                if not proves_itself(setting, state, position, unit, 0):
                    return [*found, (file.base, -1)]
                found.append((file.base + state.appends[number].index, number))
            elif kind == PAYLOAD:
                return [*found, (file.base, -1)]
            unit += 1 if kind == FREE else units
        ended = file.sealed or (unit < file.units and file.words[unit][0] == SEAL)
        position = next_of(state, position) if ended else None
    return found


def reached(state: State) -> int:
    """Return the file in which a reader that read everything stands."""
    position = oldest_file(state)
    while state.files[position].sealed and (following := next_of(state, position)) is not None:
        position = following
    return position


def i4_acknowledged(model, state: State) -> str:
    """I4: acknowledged = exactly one reachable frame; torn, never acknowledged = none once the shard is whole again."""
    if state.step:
        return ""
    there = [number for _, number in readable(model.setting, state)]
    for number, entry in enumerate(state.appends):
        expected = {"a": 1, "l": 0}.get(entry.promise)
        if (
            expected is not None
            and state.files[entry.file].name != RETIRED
            and there.count(number) != expected
        ):
            return f"append {number} ({entry.promise}) has {there.count(number)} readable frames"
    return ""


def i6_intact(model, state: State) -> str:
    """I6: what a reader is given is a frame that was written there, whole."""
    if state.step:
        return ""
    return (
        "bytes that are no frame" if any(number < 0 for _, number in readable(model.setting, state)) else ""
    )


def i8_numbers(model, state: State) -> str:
    """I8: entry numbers are strictly increasing, also over recoveries."""
    if state.step:
        return ""
    numbers = [number for number, _ in readable(model.setting, state)]
    return "" if numbers == sorted(set(numbers)) else f"entry numbers {numbers}"


def i9_numbers(_model, state: State) -> str:
    """I9: one file per number; a retired number never returns."""
    numbers = [file.number for file in state.files if file.name in {LINKED, RETIRED}]
    return "" if len(numbers) == len(set(numbers)) else f"segment numbers {numbers}"


def i12_reached(_model, state: State) -> str:
    """I12: the walk reaches the tail: every segment that a reader comes from leads to the active one."""
    if state.step:
        return ""
    last = reached(state)
    if state.files[last].number < state.files[state.active].number:
        return f"a reader stops in segment {state.files[last].number}, active is {state.files[state.active].number}"
    position = oldest_file(state)
    while position != last:
        following = next_of(state, position)
        assert following is not None
        if state.files[following].previous != position:
            return f"segment {state.files[following].number} does not continue the one before"
        position = following
    return ""


def i13_synced(model, state: State) -> str:
    """I13: everything synced survives."""
    if state.step:
        return ""
    there = [number for _, number in readable(model.setting, state)]
    lost = [
        number
        for number, entry in enumerate(state.appends)
        if entry.promise == "s" and state.files[entry.file].name != RETIRED and there.count(number) != 1
    ]
    return f"synced appends {lost} are not readable" if lost else ""


def i13_durable(_model, before: State, after: State) -> str:
    """I13: durable <= the resolved prefix when the sync started."""
    if after.mark == before.mark or after.step or before.step:
        return ""
    position, unit, _ = after.mark
    walked = 0
    words = after.files[position].words
    while walked < unit and words[walked][0] in {DATA, PAD}:
        walked += words[walked][1]
    return "" if walked == unit else f"the mark at {unit} is not a frame boundary that was resolved"


def i13_mark(_model, state: State) -> str:
    """I13: the mark covers nothing that is not on the disk."""
    position, unit, _ = state.mark
    file = state.files[position]
    if state.step or file.words[:unit] == file.on_disk[:unit]:
        return ""
    return f"the mark covers {unit} units of {file.words}, the disk holds {file.on_disk}"


def lost_by(before: State, after: State) -> list[int]:
    """Return the acknowledged appends that a recovery has just given up."""
    if before.step != RESTART or after.step:
        return []
    pairs = zip(before.appends, after.appends, strict=True)
    return [n for n, (old, new) in enumerate(pairs) if old.promise == "a" and new.promise == "l"]


def prefix(model, before: State, after: State) -> str:
    """DESIGN, power loss: what remains is a prefix of what was appended, inside a segment and over all of them."""
    lost = [(after.appends[n].file, after.appends[n].index) for n in lost_by(before, after)]
    if not lost:
        return ""
    kept = [
        (after.appends[n].file, after.appends[n].index)
        for _, n in readable(model.setting, after)
        if after.appends[n].promise != "t"
    ]
    return (
        f"appends at {lost} are lost, later ones at {kept} are kept" if kept and min(lost) < max(kept) else ""
    )


def no_more_lost_than_needed(model, before: State, after: State) -> str:
    """The first append that is lost was not whole on the disk. Not a promise, and not in ``OF_STEPS``: see README.md."""
    for number in lost_by(before, after)[:1]:
        entry = after.appends[number]
        file = after.files[entry.file]
        there = file.words[entry.unit] == (DATA, model.setting.units[number], number)
        if file.header and there and proves_itself(model.setting, after, entry.file, entry.unit, 0):
            return f"append {number} is lost, though it is whole in segment {file.number}"
    return ""


OF_STATES = (i4_acknowledged, i6_intact, i8_numbers, i9_numbers, i12_reached, i13_synced, i13_mark)
OF_STEPS = (i13_durable, prefix)
