"""Append and repair on one segment: PROTOCOL A2, B, C and D by several processes, any of which may be killed or stand still.

A process is a program counter, named after the PROTOCOL step that it does next, and what it remembers. Standing still needs no step of
its own: the search lets any process be slower than all others.
"""

from collections.abc import Collection, Iterator

from append_steps import WRITER_STEPS
from checker import FAULT, Step
from repair_steps import REPAIRER_STEPS
from segment_invariants import OF_STATES, OF_STEPS
from segment_state import BUSY, NOBODY, NOTHING, UNKNOWN, Repairer, Setting, Slot, State, Writer, put

ENDS = ("end", "dead")


class AppendRepair:
    """The model. ``changes`` replaces the function of a step: a mutation."""

    def __init__(self, setting: Setting, changes: dict[str, object] | None = None) -> None:
        self.setting = setting
        self.writer_steps = WRITER_STEPS | {k: v for k, v in (changes or {}).items() if k in WRITER_STEPS}
        self.repairer_steps = REPAIRER_STEPS | {
            k: v for k, v in (changes or {}).items() if k in REPAIRER_STEPS
        }
        self.of_states = OF_STATES
        self.of_steps = OF_STEPS
        self.writers = len(setting.programs)

    def initial(self) -> State:
        early = [number for number in range(self.writers) if number not in self.setting.late]
        slots = [
            Slot(0, 0, early[number] if number < len(early) else NOBODY)
            for number in range(self.setting.slots)
        ]
        return State(
            (NOTHING,) * self.setting.capacity,
            (0, 0, False),
            tuple(slots),
            tuple(
                Writer("B3", "", early.index(number), 0, 0, 0, 0)
                if number in early
                else Writer("A2 lock", "", NOBODY, 0, 0, 0, 0)
                for number in range(self.writers)
            ),
            (Repairer("C", 0, 0, 0, UNKNOWN, (), 0),) * self.setting.repairers,
            self.setting.kills,
        )

    def units(self, number: int, writer: Writer) -> int:
        """Return the units of a writer's present append."""
        return self.setting.programs[number][len(writer.results)]

    def successors(self, state: State) -> Iterator[tuple[Step, State]]:
        for number, writer in enumerate(state.writers):
            if writer.step not in ENDS:
                name = writer.step
                for after in self.writer_steps[name](self, state, number, writer):
                    yield (number, name), after
                if state.kills:
                    yield (FAULT, f"kill {number}"), killed_writer(state, number)
        for number, repairer in enumerate(state.repairers):
            if repairer.step not in ENDS:
                name = repairer.step
                for after in self.repairer_steps[name](self, state, number, repairer):
                    yield (self.writers + number, name), after
                if state.kills and name != "C":
                    dead = Repairer("dead", 0, 0, 0, UNKNOWN, (), 0)
                    repairers = put(state.repairers, number, dead)
                    yield (
                        (FAULT, f"kill {self.writers + number}"),
                        state._replace(repairers=repairers, kills=state.kills - 1),
                    )

    def describe(self, step: Step) -> str:
        number, name = step
        if number == FAULT:
            return name
        if number < self.writers:
            return f"writer {number}: {name}. {first_line(self.writer_steps[name])}"
        return f"repairer {number - self.writers}: {name}. {first_line(self.repairer_steps[name])}"

    def is_done(self, state: State, stopped: Collection[int]) -> bool:
        no_slot = all(slot.holder != NOBODY for slot in state.slots)
        return all(
            number in stopped or writer.step in ENDS or (writer.step == "A2 lock" and no_slot)
            for number, writer in enumerate(state.writers)
        ) and all(
            self.writers + number in stopped
            or repairer.step == "dead"
            or (repairer.step == "C" and repairer.unit == state.tail[0])
            for number, repairer in enumerate(state.repairers)
        )

    def may_wait(self, state: State, stopped: Collection[int]) -> bool:
        """A process stopped between B3 and B7, or in A2 before its slot is IDLE, blocks readers: they report it by name."""
        writers = [state.writers[number] for number in stopped if number < self.writers]
        return any(
            writer.step not in ENDS and writer.slot != NOBODY and state.slots[writer.slot].word & 3 == BUSY
            for writer in writers
        )


def first_line(function: object) -> str:
    return str(function.__doc__).partition("\n")[0]


def killed_writer(state: State, number: int) -> State:
    """The kernel releases the lock of a killed process; every byte it stored stays."""
    writer = state.writers[number]
    slots = state.slots
    if writer.slot != NOBODY:
        slots = put(slots, writer.slot, slots[writer.slot]._replace(holder=NOBODY))
    gone = Writer("dead", writer.results, NOBODY, 0, 0, 0, 0)
    return state._replace(slots=slots, writers=put(state.writers, number, gone), kills=state.kills - 1)
