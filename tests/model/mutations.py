"""Broken versions of the protocol, each one step done otherwise, and the invariant that each must violate.

They prove that the invariants can fail and that the models are large enough to show it.
"""

from collections.abc import Callable
from typing import NamedTuple

import append_steps as writing
import group_mutations as grouping
import recovery as lossy
import repair_steps as repairing
import rotation as chain
from append_repair import AppendRepair
from checker import Model, Violation, explore, find_stuck
from lossy_shard import State as Shard
from recovery import Recovery
from rotation import Rotation
from segment_state import (
    DATA,
    IDLE,
    NOBODY,
    NOTHING,
    Repairer,
    Setting,
    State,
    Writer,
    put,
    with_slot,
    with_state,
)


class Mutation(NamedTuple):
    """``stopped``: for a violated I12, who stands still."""

    name: str
    model: Callable[[dict[str, object] | None], Model]
    changes: dict[str, object]
    invariant: str
    stopped: tuple[int, ...] = ()

    def find(self) -> Violation | None:
        """Return the shortest way to a violation of this invariant in the broken model."""
        model = self.model(self.changes)
        if self.invariant == "i12_progress":
            return find_stuck(model, self.stopped)
        model.of_states = tuple(check for check in model.of_states if check.__name__ == self.invariant)
        model.of_steps = tuple(check for check in model.of_steps if check.__name__ == self.invariant)
        return explore(model).violation


# ---- One segment ----


def commit_by_plain_store(model: writing.Model, state: State, number: int, writer: Writer) -> writing.Found:
    """B9 without the comparison."""
    words = put(state.words, writer.unit, writing.claim_word(model, number, writer, DATA))
    return writing.moved(state, number, writer._replace(step="B10"), words=words)


def no_marker(model: writing.Model, state: State, number: int, writer: Writer) -> writing.Found:
    """B6 dropped: the payload follows the claim at once."""
    step = "B8" if model.units(number, writer) > 1 else "B9"
    return writing.moved(state, number, writer._replace(step=step))


def commit_unmarked(model: writing.Model, state: State, number: int, writer: Writer) -> writing.Found:
    """B9 of a frame without a marker: CAS(word, 0, DATA)."""
    if state.words[writer.unit] != NOTHING:
        return writing.fenced(model, state, number, writer)
    return commit_by_plain_store(model, state, number, writer)


def commit_before_payload(model: writing.Model, state: State, number: int, writer: Writer) -> writing.Found:
    """B7 leads to the commit, the payload comes later."""
    (after,) = writing.b7_mark(model, state, number, writer)
    return writing.moved(after, number, after.writers[number]._replace(step="B9"))


def no_grace_period(model: writing.Model, state: State, number: int, repairer: Repairer) -> writing.Found:
    """D3 dropped: a zero word is taken for a dead claim at once."""
    return repairing.repaired(state, number, repairer._replace(step="D4 word", slot=0))


def impatient_grace_period(
    model: writing.Model, state: State, number: int, repairer: Repairer
) -> writing.Found:
    """D3 gives up on a live owner after a while."""
    return repairing.next_slot(state, number, repairer, dead=False)


def counter_alone(model: writing.Model, state: State, number: int, repairer: Repairer) -> writing.Found:
    """D3 waits until the counter differs, not the whole state word."""
    slot = state.slots[repairer.slot]
    if slot.word >> 2 != repairer.seen >> 2 or slot.holder == NOBODY:
        return repairing.next_slot(state, number, repairer, dead=False)
    return []


def no_second_probe(model: writing.Model, state: State, number: int, repairer: Repairer) -> writing.Found:
    """D3 probes once, before it waits."""
    if state.slots[repairer.slot].word != repairer.seen:
        return repairing.next_slot(state, number, repairer, dead=False)
    return []


def tail_after_slots(model: writing.Model, state: State, number: int, repairer: Repairer) -> writing.Found:
    """T is loaded when the slots were looked at already."""
    return repairing.d4_word(model, state, number, repairer._replace(top=state.tail[0]))


def pad_beyond_tail(model: writing.Model, state: State, number: int, repairer: Repairer) -> writing.Found:
    """D4 scans for the next frame up to the capacity, not to T."""
    return repairing.d4_scan(model, state, number, repairer._replace(top=model.setting.capacity))


def idle_without_comparison(
    model: writing.Model, state: State, number: int, repairer: Repairer
) -> writing.Found:
    """D5 by plain store: whoever owns the slot by now is not asked."""
    if not repairer.dead:
        return repairing.d5_idle(model, state, number, repairer)
    (position, _), *rest = repairer.dead
    slots = with_slot(state, position, with_state(state.slots[position], IDLE))
    return repairing.repaired(state, number, repairer._replace(dead=tuple(rest)), slots=slots)


def small(changes: dict[str, object] | None) -> AppendRepair:
    return AppendRepair(Setting(((2,), (1,)), capacity=4), changes)


def steady(changes: dict[str, object] | None) -> AppendRepair:
    return AppendRepair(Setting(((2,), (1,)), capacity=4, patience=False), changes)


def slot_reuse(changes: dict[str, object] | None) -> AppendRepair:
    return AppendRepair(Setting(((1,), (1,)), capacity=2, slots=1, late=(1,)), changes)


# ---- Rotation ----


def not_rotating(model: Rotation, state: chain.State, number: int, writer: chain.Writer) -> chain.Found:
    """E1 without ROTATING."""
    return chain.moved(state, number, writer._replace(step="E2"))


def rotating_after_look(
    model: Rotation, state: chain.State, number: int, writer: chain.Writer
) -> chain.Found:
    """ROTATING is stored after E2."""
    (after,) = chain.e1_rotating(model, state, number, writer)
    return chain.moved(after, number, after.writers[number]._replace(step="E3"))


def look_before_rotating(
    model: Rotation, state: chain.State, number: int, writer: chain.Writer
) -> chain.Found:
    """E2 first."""
    step = "B2" if state.active > writer.bound else "E1 late"
    return chain.moved(state, number, writer._replace(step=step))


def seal_falls_through(model: Rotation, state: chain.State, number: int, writer: chain.Writer) -> chain.Found:
    """A seal that failed is taken for one that another made."""
    (after,) = chain.b4_seal(model, state, number, writer)
    return chain.moved(after, number, after.writers[number]._replace(step="E1"))


def rename_over(_model: Rotation, state: chain.State, number: int, writer: chain.Writer) -> chain.Found:
    """E4 renames over whatever has the name."""
    segments = chain.put(
        state.segments, writer.bound + 1, chain.Segment(chain.LINKED, writer.base, 0, False, ())
    )
    return chain.moved(state, number, writer._replace(step="E5", base=0), segments=segments)


def active_by_store(_model: Rotation, state: chain.State, number: int, writer: chain.Writer) -> chain.Found:
    """E5 by plain store."""
    return chain.moved(state, number, writer._replace(step="E5 idle"), active=writer.bound + 1)


def active_unlinked(model: Rotation, state: chain.State, number: int, writer: chain.Writer) -> chain.Found:
    """`active` moves on before the link."""
    (after,) = chain.e5_activate(model, state, number, writer)
    return chain.moved(after, number, after.writers[number]._replace(step="E4"))


def wait_for_next_number(_model: Rotation, state: chain.State, reader: chain.Reader) -> chain.Found:
    """The reader waits for S + 1 by number, though retention may have been faster."""
    found = chain.c_read(_model, state, reader)
    return [after for after in found if after.reader.segment <= reader.segment + 1]


def unlink_active(_model: Rotation, state: chain.State, retention: chain.Retention) -> chain.Found:
    """Retention takes the active segment as well."""
    linked = [
        n for n, segment in enumerate(state.segments) if segment.file == chain.LINKED and n <= state.active
    ]
    return (
        [state._replace(retention=chain.Retention("R look", linked[0], 0, retention.left))]
        if retention.left
        else []
    )


def rotations(changes: dict[str, object] | None) -> Rotation:
    return Rotation(chain.Setting(((2,), (2, 2))), changes)


def long_rotations(changes: dict[str, object] | None) -> Rotation:
    return Rotation(chain.Setting(((2,), (2, 2, 2)), segments=4, kills=0, unlinked=2), changes)


def mixed_rotations(changes: dict[str, object] | None) -> Rotation:
    return Rotation(chain.Setting(((2,), (1, 1)), segments=3, kills=0), changes)


# ---- Sync, power loss and recovery ----


def mark_first(setting: lossy.Setting, state: Shard) -> lossy.Found:
    """The mark is written before the data is synced."""
    return [after._replace(mark=after.wanted) for after in lossy.g_resolve(setting, state)]


def sync_last_only(setting: lossy.Setting, state: Shard) -> lossy.Found:
    """Fdatasync of Q's segment alone."""
    return lossy.g_fdatasync(setting, state._replace(synced_file=state.wanted[0]))


def no_directory_sync(_setting: lossy.Setting, state: Shard) -> lossy.Found:
    """The names are not synced."""
    return [state._replace(syncing="G mark")]


def append_into_old_bytes(setting: lossy.Setting, state: Shard) -> lossy.Found:
    """Recovery goes on behind the last good frame, in the same segment."""
    position = state.end[0]
    files = lossy.with_file(state, position, sealed=False)
    opened = lossy.f_open(setting, state._replace(files=files))
    return [after._replace(active=position) for after in opened]


def discard_nothing(_setting: lossy.Setting, state: Shard) -> lossy.Found:
    """Later segments stay under their names."""
    return [state._replace(step="F directory")]


def trust_tails(setting: lossy.Setting, state: Shard) -> lossy.Found:
    """After a power cut the same-boot form is run: no boot identity tells them apart."""
    last = max((file.number, n) for n, file in enumerate(state.files) if file.name == lossy.LINKED)[1]
    return [state._replace(active=last, step="F repair")]


def no_seal(_setting: lossy.Setting, state: Shard) -> lossy.Found:
    """Recovery leaves the word where it stopped as it is."""
    position, unit, index = state.end
    files = lossy.with_file(state, position, units=unit, entries=index, sealed=True)
    return [state._replace(files=files, step="F fdatasync")]


def sync_without_waiting(_setting: lossy.Setting, state: Shard) -> lossy.Found:
    """The sync does not wait for unresolved words, and marks Q itself."""
    first = lossy.first_from_mark(state)
    return [state._replace(syncing="G fdatasync", synced_file=first, covered=state.wanted[1])]


def whatever_is_missing(state: Shard, position: int, following: int | None, _unit: int, index: int) -> bool:
    """The next segment goes on if its numbers do, though numbers may be missing before them that were given out."""
    if following is None or not state.files[following].header:
        return False
    file, candidate = state.files[position], state.files[following]
    return candidate.previous == position and candidate.base >= file.base + index


def walk_over_holes(setting: lossy.Setting, state: Shard) -> lossy.Found:
    """F takes every end of a segment for one where numbers were burnt."""
    return lossy.f_walk(setting, state, whatever_is_missing)


def tail_before_names(setting: lossy.Setting, state: Shard) -> lossy.Found:
    """F sets the tail where the walk stopped before the later segments lost their names: the next recovery takes it for a seal."""
    (after,) = lossy.f_walk(setting, state)
    position, unit, index = after.end
    files = lossy.with_file(after, position, units=unit, entries=index, sealed=True)
    return [after._replace(files=files)]


def crashed_cuts(changes: dict[str, object] | None) -> Recovery:
    return Recovery(lossy.Setting((1, 2), claims=0, syncs=0), changes)


def cuts(changes: dict[str, object] | None) -> Recovery:
    return Recovery(lossy.Setting((1, 2), claims=0, crashes=0), changes)


def two_cuts(changes: dict[str, object] | None) -> Recovery:
    return Recovery(lossy.Setting((1, 2), claims=0, crashes=0, cuts=2), changes)


def holes(changes: dict[str, object] | None) -> Recovery:
    return Recovery(lossy.Setting((1,), claims=1, seals=0, crashes=0, cuts=0), changes)


def old_bytes(changes: dict[str, object] | None) -> Recovery:
    return Recovery(lossy.Setting((1, 1, 1), claims=0, seals=0, syncs=0, crashes=0, cuts=2), changes)


MUTATIONS = (
    Mutation("commit by plain store", small, {"B9": commit_by_plain_store}, "i2_words"),
    Mutation("no marker", small, {"B6": no_marker, "B9": commit_unmarked}, "i7_marked"),
    Mutation("commit before the payload", small, {"B7": commit_before_payload}, "i6_intact"),
    Mutation("no grace period", small, {"D3 state": no_grace_period}, "i10_pads"),
    Mutation("grace period with a time-out", small, {"D3 wait": impatient_grace_period}, "i10_pads"),
    Mutation(
        "grace period waits for the counter alone", small, {"D3 wait": counter_alone}, "i12_progress", (0,)
    ),
    Mutation("grace period probes once", small, {"D3 wait": no_second_probe}, "i12_progress"),
    Mutation("a stalled owner is never fenced", steady, {}, "i12_progress", (0,)),
    Mutation("tail read after the slots", small, {"D4 word": tail_after_slots}, "i10_pads"),
    Mutation("PAD beyond the tail", small, {"D4 scan": pad_beyond_tail}, "i10_pads"),
    Mutation("slot reset without comparison", slot_reuse, {"D5": idle_without_comparison}, "i14_slots"),
    Mutation("rotation without ROTATING", long_rotations, {"E1": not_rotating}, "i9_files"),
    Mutation(
        "ROTATING after the look",
        long_rotations,
        {"E1": look_before_rotating, "E1 late": rotating_after_look},
        "i9_files",
    ),
    Mutation("a failed seal falls through", mixed_rotations, {"B4 seal": seal_falls_through}, "i8_base"),
    Mutation("link over an existing name", rotations, {"E4": rename_over}, "i9_files"),
    Mutation("active by plain store", long_rotations, {"E5": active_by_store}, "i9_active"),
    Mutation("active before the link", rotations, {"E4": active_unlinked, "E5": chain.e4_link}, "i9_active"),
    Mutation("retention of the active segment", rotations, {"R pick": unlink_active}, "i9_active"),
    Mutation("reader waits for the next number", long_rotations, {"C": wait_for_next_number}, "i12_progress"),
    Mutation("mark ahead of the data", cuts, {"G resolve": mark_first}, "i13_mark"),
    Mutation("sync of the last segment alone", cuts, {"G fdatasync": sync_last_only}, "i13_synced"),
    Mutation("no sync of the directory", cuts, {"G directory": no_directory_sync}, "i13_synced"),
    Mutation(
        "recovery appends into old bytes",
        old_bytes,
        {"F seal": no_seal, "F link": append_into_old_bytes},
        "i4_acknowledged",
    ),
    Mutation("sync that does not wait", holes, {"G resolve": sync_without_waiting}, "i13_durable"),
    Mutation("recovery discards nothing", two_cuts, {"F discard": discard_nothing}, "i12_reached"),
    Mutation("tails trusted after a power cut", cuts, {"F walk": trust_tails}, "i13_synced"),
    Mutation("the walk goes on over holes", cuts, {"F walk": walk_over_holes}, "prefix"),
    Mutation("recovery sets the tail first", crashed_cuts, {"F walk": tail_before_names}, "prefix"),
    Mutation(
        "position by plain store",
        grouping.consumers,
        {"raise": grouping.raise_by_store},
        "position_is_acknowledged",
    ),
    Mutation(
        "raise over a reset",
        grouping.consumers,
        {"look": grouping.raise_from_any_word},
        "position_is_acknowledged",
    ),
    Mutation(
        "groups beyond the end",
        grouping.checkpoints,
        {"recovery lower": grouping.lower_nothing},
        "words_are_below_the_end",
    ),
    Mutation(
        "checkpoints beyond the end",
        grouping.checkpoints,
        {"recovery lower": grouping.lower_position_alone},
        "words_are_below_the_end",
    ),
    Mutation(
        "checkpoint looks once",
        grouping.checkpoints,
        {"checkpoint look": grouping.checkpoint_at_once},
        "checkpoint_is_acknowledged",
    ),
    Mutation(
        "reset stores its checkpoint once",
        grouping.checkpoints,
        {"reset again": grouping.checkpoint_of_reset_once},
        "checkpoint_is_acknowledged",
    ),
)
