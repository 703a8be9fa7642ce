"""Explicit-state search: every state a model can reach, breadth first, so that a violation comes with a shortest way to it.

A model is an immutable start, a function from a state to what can happen next, and named invariants. States are nested tuples of
small values: they hash and compare by content, and what a step leaves alone is shared.
"""

from array import array
from collections.abc import Callable, Collection, Hashable, Iterable
from typing import Any, NamedTuple, Protocol

Step = tuple[int, str]
"""Which process moves (``FAULT`` for a kill or a power cut), and the name of its step."""
FAULT = -1


class Model(Protocol):
    """What the search needs of a model."""

    of_states: tuple[Callable[[Any, Any], str], ...]
    """Invariants: functions of (model, state) that return what is wrong, or an empty string. Asked about every new state."""
    of_steps: tuple[Callable[[Any, Any, Any], str], ...]
    """The same for (model, state before, state after). Asked about every step, also one into a state seen before."""

    def initial(self) -> Hashable:
        """Return the start."""

    def successors(self, state: Any) -> Iterable[tuple[Step, Hashable]]:
        """Return everything that may happen next."""

    def describe(self, step: Step) -> str:
        """Return a step in words."""


class ProgressModel(Model, Protocol):
    """A model that also says what it must always be able to reach."""

    def is_done(self, state: Any, stopped: Collection[int]) -> bool:
        """Return whether everybody who is not stopped for ever has got where it wanted."""

    def may_wait(self, state: Any, stopped: Collection[int]) -> bool:
        """Return whether the protocol allows the others to wait for one of the stopped here."""


class Violation(NamedTuple):
    """A broken invariant: its function's name, what is wrong, and the shortest interleaving that leads there."""

    invariant: str
    detail: str
    trace: tuple[str, ...]

    def __str__(self) -> str:
        steps = "\n".join(f"  {number:2d}. {step}" for number, step in enumerate(self.trace, 1))
        return f"{self.invariant}: {self.detail}\n{steps}"


class Outcome(NamedTuple):
    """What a search found. ``complete``: every reachable state was visited."""

    states: int
    transitions: int
    steps: frozenset[str]
    complete: bool
    violation: Violation | None

    def __str__(self) -> str:
        end = "every state visited" if self.complete else "stopped"
        found = f"{self.states} states, {self.transitions} transitions, {end}"
        return f"{found}\n{self.violation}" if self.violation else found


def explore(model: Model, *, states_max: int = 10_000_000) -> Outcome:
    """Visit every state that ``model`` can reach, up to ``states_max``; stop at the first broken invariant."""
    start = model.initial()
    came_from: dict[Hashable, Hashable] = {start: None}
    names: set[str] = set()
    transitions = 0
    frontier = [start]
    while frontier:
        following = []
        for before in frontier:
            for step, after in model.successors(before):
                transitions += 1
                names.add(step[1])
                wrong = first_wrong(model.of_steps, model, before, after)
                if after not in came_from:
                    came_from[after] = before
                    following.append(after)
                    wrong = wrong or first_wrong(model.of_states, model, after)
                if wrong or len(came_from) >= states_max:
                    found = None
                    if wrong:
                        way = (*shortest_way(model, came_from, before), model.describe(step))
                        found = Violation(*wrong, way)
                    return Outcome(len(came_from), transitions, frozenset(names), False, found)
        frontier = following
    return Outcome(len(came_from), transitions, frozenset(names), True, None)


def first_wrong(invariants: tuple[Callable[..., str], ...], *arguments: Any) -> tuple[str, str] | None:
    """Return name and finding of the first invariant that does not hold."""
    for invariant in invariants:
        detail = invariant(*arguments)
        if detail:
            return invariant.__name__, detail
    return None


def shortest_way(model: Model, came_from: dict[Hashable, Hashable], state: Hashable) -> tuple[str, ...]:
    """Return the steps from the start to ``state``; only who came from where is kept, so each step is looked up again."""
    trace: list[str] = []
    while (before := came_from[state]) is not None:
        step = next(step for step, after in model.successors(before) if after == state)
        trace.append(model.describe(step))
        state = before
    return tuple(reversed(trace))


def find_stuck(
    model: ProgressModel, stopped: Collection[int] = (), *, states_max: int = 10_000_000
) -> Violation | None:
    """Return the way to a state from which the others can never get done, while the ``stopped`` processes stand still for ever.

    The stopped may stand still from any state on, so every reachable state is asked; faults are not counted on to help.
    """
    numbers: dict[Hashable, int] = {model.initial(): 0}
    came_from: dict[Hashable, Hashable] = {model.initial(): None}
    edges_from, edges_to = array("L"), array("L")
    order = [model.initial()]
    for number, before in enumerate(order):  # the list grows while it is walked
        for step, after in model.successors(before):
            other = numbers.setdefault(after, len(order))
            if other == len(order):
                order.append(after)
                came_from[after] = before
            if step[0] != FAULT and step[0] not in stopped:
                edges_from.append(number)
                edges_to.append(other)
        if len(order) > states_max:
            raise MemoryError(f"more than {states_max} states")
    reached = bytearray(model.is_done(state, stopped) for state in order)
    changed = True
    while changed:
        changed = False
        for position in range(len(edges_from) - 1, -1, -1):
            if reached[edges_to[position]] and not reached[edges_from[position]]:
                reached[edges_from[position]] = changed = True
    for number, state in enumerate(order):
        if not reached[number] and not model.may_wait(state, stopped):
            who = f" while {sorted(stopped)} stand still" if stopped else ""
            detail = f"the others can never get done{who}"
            return Violation("i12_progress", detail, shortest_way(model, came_from, state))
    return None
