"""What an appending process does, step by step: PROTOCOL A2 and B. Each function returns the states that its step may lead to."""

from typing import Protocol

from segment_state import (
    BUSY,
    CLAIMED,
    DATA,
    IDLE,
    MARKED,
    NOBODY,
    NOTHING,
    PAYLOAD,
    Setting,
    State,
    Word,
    Writer,
    put,
    with_slot,
    with_state,
)  # fmt: skip

FENCES_MAX = 2

Found = list[State]


class Model(Protocol):
    """What a step asks of the model."""

    setting: Setting

    def units(self, number: int, writer: Writer) -> int:
        """Return the units of a writer's present append."""


def moved(state: State, number: int, writer: Writer, **shared: object) -> Found:
    return [state._replace(writers=put(state.writers, number, writer), **shared)]


def ended(model: Model, state: State, number: int, writer: Writer, result: str) -> Found:
    """One append is over: slot IDLE, and the next begins."""
    results = writer.results + result
    step = "B3" if len(results) < len(model.setting.programs[number]) else "end"
    slots = with_slot(state, writer.slot, with_state(state.slots[writer.slot], IDLE))
    return moved(state, number, Writer(step, results, writer.slot, 0, 0, 0, 0), slots=slots)


def fenced(model: Model, state: State, number: int, writer: Writer) -> Found:
    """The range was given up by others: nothing more is written into it, and the append begins anew, or gives up."""
    if writer.fences + 1 == FENCES_MAX:
        return ended(model, state, number, writer, "f")
    slots = with_slot(state, writer.slot, with_state(state.slots[writer.slot], IDLE))
    again = Writer("B3", writer.results, writer.slot, 0, 0, 0, writer.fences + 1)
    return moved(state, number, again, slots=slots)


def a2_lock(_model: Model, state: State, number: int, writer: Writer) -> Found:
    """Lock the byte of a slot that nobody holds."""
    found = []
    for position, slot in enumerate(state.slots):
        if slot.holder == NOBODY:
            slots = with_slot(state, position, slot._replace(holder=number))
            found += moved(state, number, writer._replace(step="A2 idle", slot=position), slots=slots)
    return found


def a2_idle(_model: Model, state: State, number: int, writer: Writer) -> Found:
    """CAS the slot that a dead owner left to IDLE, its counter kept."""
    slots = with_slot(state, writer.slot, with_state(state.slots[writer.slot], IDLE))
    return moved(state, number, writer._replace(step="B3"), slots=slots)


def b3_busy(_model: Model, state: State, number: int, writer: Writer) -> Found:
    """slot.state = BUSY, counter + 1."""
    slots = with_slot(state, writer.slot, with_state(state.slots[writer.slot], BUSY, counted=True))
    return moved(state, number, writer._replace(step="B4"), slots=slots)


def b4_look(model: Model, state: State, number: int, writer: Writer) -> Found:
    """Load the tail: sealed ends the append here, no room leads to the seal, else to the claim."""
    units, entries, sealed = state.tail
    if sealed:
        return ended(model, state, number, writer, "s")
    fits = units + model.units(number, writer) <= model.setting.capacity
    return moved(state, number, writer._replace(step="B5" if fits else "B4 seal", unit=units, index=entries))


def b4_seal(_model: Model, state: State, number: int, writer: Writer) -> Found:
    """CAS(tail, t, t | SEALED); then look again."""
    again = writer._replace(step="B4", unit=0, index=0)
    if state.tail == (writer.unit, writer.index, False):
        return moved(state, number, again, tail=(writer.unit, writer.index, True))
    return moved(state, number, again)


def b5_allocate(model: Model, state: State, number: int, writer: Writer) -> Found:
    """CAS(tail, t, t + entries + units); on failure look again."""
    if state.tail != (writer.unit, writer.index, False):
        return moved(state, number, writer._replace(step="B4", unit=0, index=0))
    tail = (writer.unit + model.units(number, writer), writer.index + 1, False)
    return moved(state, number, writer._replace(step="B6"), tail=tail)


def claim_word(model: Model, number: int, writer: Writer, kind: int) -> Word:
    return (kind, model.units(number, writer), number * 4 + len(writer.results), writer.index)


def b6_claim(model: Model, state: State, number: int, writer: Writer) -> Found:
    """CAS(word, 0, CLAIMED); on failure this append is fenced."""
    if state.words[writer.unit] != NOTHING:
        return fenced(model, state, number, writer)
    words = put(state.words, writer.unit, claim_word(model, number, writer, CLAIMED))
    return moved(state, number, writer._replace(step="B7"), words=words)


def b7_mark(model: Model, state: State, number: int, writer: Writer) -> Found:
    """slot.claim = X; slot.state = MARKED. One step, because the claim is read only where the state says MARKED."""
    slot = with_state(state.slots[writer.slot], MARKED)._replace(claim=writer.unit)
    step = "B8" if model.units(number, writer) > 1 else "B9"
    return moved(state, number, writer._replace(step=step), slots=with_slot(state, writer.slot, slot))


def b8_store(model: Model, state: State, number: int, writer: Writer) -> Found:
    """Store the next unit of the payload."""
    part = writer.stored + 1
    words = put(state.words, writer.unit + part, (PAYLOAD, part, number * 4 + len(writer.results), 0))
    step = "B8" if part + 1 < model.units(number, writer) else "B9"
    return moved(state, number, writer._replace(step=step, stored=part), words=words)


def b9_commit(model: Model, state: State, number: int, writer: Writer) -> Found:
    """CAS(word, CLAIMED, DATA); on failure this append is fenced."""
    if state.words[writer.unit] != claim_word(model, number, writer, CLAIMED):
        return fenced(model, state, number, writer)
    words = put(state.words, writer.unit, claim_word(model, number, writer, DATA))
    return moved(state, number, writer._replace(step="B10"), words=words)


def b10_acknowledge(model: Model, state: State, number: int, writer: Writer) -> Found:
    """slot.state = IDLE, and the append returns."""
    return ended(model, state, number, writer, "a")


WRITER_STEPS = {
    "A2 lock": a2_lock,
    "A2 idle": a2_idle,
    "B3": b3_busy,
    "B4": b4_look,
    "B4 seal": b4_seal,
    "B5": b5_allocate,
    "B6": b6_claim,
    "B7": b7_mark,
    "B8": b8_store,
    "B9": b9_commit,
    "B10": b10_acknowledge,
}
