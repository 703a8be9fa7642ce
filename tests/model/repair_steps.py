"""What a reading process does, step by step, and how it repairs what blocks it: PROTOCOL C and D."""

from append_steps import Found, Model
from segment_state import (
    BUSY,
    CLAIMED,
    DATA,
    FREE,
    IDLE,
    MARKED,
    NOBODY,
    NOTHING,
    PAD,
    UNKNOWN,
    Repairer,
    State,
    put,
    with_slot,
    with_state,
)  # fmt: skip


def repaired(state: State, number: int, repairer: Repairer, **shared: object) -> Found:
    return [state._replace(repairers=put(state.repairers, number, repairer), **shared)]


def c_read(_model: Model, state: State, number: int, repairer: Repairer) -> Found:
    """Load the tail, then the word: pass a final one, repair another. One step, because finals stay and the tail grows."""
    if repairer.unit >= state.tail[0]:
        return []
    kind, units, _, _ = state.words[repairer.unit]
    if kind in {DATA, PAD}:
        return repaired(state, number, repairer._replace(unit=repairer.unit + units))
    return repaired(state, number, repairer._replace(step="D1 tail"))


def back_to_reading(state: State, number: int, repairer: Repairer, **shared: object) -> Found:
    return repaired(state, number, Repairer("C", repairer.unit, 0, 0, UNKNOWN, (), 0), **shared)


def d1_tail(_model: Model, state: State, number: int, repairer: Repairer) -> Found:
    """T = tail.units: what is claimed after this is not judged."""
    return repaired(state, number, repairer._replace(step="D1 word", top=state.tail[0]))


def d1_word(model: Model, state: State, number: int, repairer: Repairer) -> Found:
    """Load the word again: final is done, CLAIMED is judged by D2, zero by D3."""
    kind = state.words[repairer.unit][0]
    if kind in {DATA, PAD}:
        return back_to_reading(state, number, repairer)
    if kind == FREE:
        return repaired(state, number, repairer._replace(step="D3 state"))
    step = "D2 pad" if model.setting.patience else "D2 look"
    return repaired(state, number, repairer._replace(step=step, top=0))


def d2_look(_model: Model, state: State, number: int, repairer: Repairer) -> Found:
    """Look at one slot after the other: a live owner, BUSY or MARKED here, is waited for."""
    if repairer.slot == len(state.slots):
        return repaired(state, number, repairer._replace(step="D2 pad", slot=0))
    slot = state.slots[repairer.slot]
    owns = slot.word & 3 == BUSY or (slot.word & 3 == MARKED and slot.claim == repairer.unit)
    if owns and slot.holder != NOBODY:
        return back_to_reading(state, number, repairer)
    return repaired(state, number, repairer._replace(slot=repairer.slot + 1))


def d2_pad(_model: Model, state: State, number: int, repairer: Repairer) -> Found:
    """The owner is dead or has had its time: CAS(word, CLAIMED, PAD)."""
    kind, units, _, _ = state.words[repairer.unit]
    words = state.words
    if kind == CLAIMED:
        words = put(words, repairer.unit, (PAD, units, 0, 0))
    return back_to_reading(state, number, repairer, words=words)


def d3_state(_model: Model, state: State, number: int, repairer: Repairer) -> Found:
    """Load the state of the next slot: BUSY must be waited for."""
    if repairer.slot == len(state.slots):
        return repaired(state, number, repairer._replace(step="D4 word", slot=0))
    word = state.slots[repairer.slot].word
    if word & 3 == IDLE:
        return repaired(state, number, repairer._replace(slot=repairer.slot + 1))
    return repaired(
        state, number, repairer._replace(step="D3 wait" if word & 3 == BUSY else "D3 probe", seen=word)
    )


def next_slot(state: State, number: int, repairer: Repairer, *, dead: bool) -> Found:
    found = (*repairer.dead, (repairer.slot, repairer.seen)) if dead else repairer.dead
    after = repairer._replace(step="D3 state", slot=repairer.slot + 1, seen=UNKNOWN, dead=found)
    return repaired(state, number, after)


def d3_probe(_model: Model, state: State, number: int, repairer: Repairer) -> Found:
    """Ask for the lock of a slot that is MARKED: who left it so and died is remembered for D5."""
    return next_slot(state, number, repairer, dead=state.slots[repairer.slot].holder == NOBODY)


def d3_wait(_model: Model, state: State, number: int, repairer: Repairer) -> Found:
    """Wait until the state word is another one, or a new probe finds the lock free."""
    slot = state.slots[repairer.slot]
    found = []
    if slot.word != repairer.seen:
        found += next_slot(state, number, repairer, dead=False)
    if slot.holder == NOBODY:
        found += next_slot(state, number, repairer, dead=True)
    return found


def d4_word(_model: Model, state: State, number: int, repairer: Repairer) -> Found:
    """Load the word once more: where it is not zero, begin again at D1."""
    if state.words[repairer.unit] != NOTHING:
        return repaired(state, number, repairer._replace(step="D5", top=0))
    return repaired(state, number, repairer._replace(step="D4 scan", stop=repairer.unit + 1))


def d4_scan(_model: Model, state: State, number: int, repairer: Repairer) -> Found:
    """Look at the next unit below T: the first that is not zero starts a frame."""
    if repairer.stop < repairer.top and state.words[repairer.stop] == NOTHING:
        return repaired(state, number, repairer._replace(stop=repairer.stop + 1))
    return repaired(state, number, repairer._replace(step="D4 pad", top=0))


def d4_pad(_model: Model, state: State, number: int, repairer: Repairer) -> Found:
    """CAS(word, 0, PAD up to that frame or to T)."""
    words = state.words
    if words[repairer.unit] == NOTHING:
        words = put(words, repairer.unit, (PAD, repairer.stop - repairer.unit, 0, 0))
    return repaired(state, number, repairer._replace(step="D5", stop=0), words=words)


def d5_idle(_model: Model, state: State, number: int, repairer: Repairer) -> Found:
    """Set a dead slot IDLE by CAS from what D3 saw, without locking its byte."""
    if not repairer.dead:
        return back_to_reading(state, number, repairer)
    (position, seen), *rest = repairer.dead
    slots = state.slots
    if slots[position].word == seen:
        slots = with_slot(state, position, with_state(slots[position], IDLE))
    return repaired(state, number, repairer._replace(dead=tuple(rest)), slots=slots)


REPAIRER_STEPS = {
    "C": c_read,
    "D1 tail": d1_tail,
    "D1 word": d1_word,
    "D2 look": d2_look,
    "D2 pad": d2_pad,
    "D3 state": d3_state,
    "D3 probe": d3_probe,
    "D3 wait": d3_wait,
    "D4 word": d4_word,
    "D4 scan": d4_scan,
    "D4 pad": d4_pad,
    "D5": d5_idle,
}
