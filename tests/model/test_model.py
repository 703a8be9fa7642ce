"""The protocol's models: every state of small settings is visited, broken versions are caught, each step has a place in the engine."""

import ast
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

import lossy_invariants
from append_steps import WRITER_STEPS
from checker import Model, Outcome, explore, find_stuck
from groups import STEPS as GROUP_STEPS
from lossy_shard import Setting
from mutations import MUTATIONS, Mutation, cuts, holes, mixed_rotations, old_bytes, rotations
from places import PLACES
from recovery import STEPS as RECOVERY_STEPS
from recovery import Recovery
from repair_steps import REPAIRER_STEPS
from rotation import STEPS as ROTATION_STEPS
from settings import FULL, SUITE, Search

ENGINE = Path(__file__).parent.parent.parent / "engine" / "cometlog"
ALL_STEPS = {*WRITER_STEPS, *REPAIRER_STEPS, *ROTATION_STEPS, *RECOVERY_STEPS, *GROUP_STEPS}
STANDSTILLS = [(search, stopped) for search in SUITE for stopped in search.stopped]


@cache
def explored(number: int) -> Outcome:
    return explore(SUITE[number].make())


@pytest.mark.parametrize("number", range(len(SUITE)), ids=[search.name for search in SUITE])
def test_every_state_keeps_the_invariants(number: int) -> None:
    found = explored(number)
    assert found.violation is None, str(found.violation)
    assert found.complete
    assert found.states == SUITE[number].states


@pytest.mark.parametrize(
    ("search", "stopped"), STANDSTILLS, ids=[f"{search.name}, {stopped}" for search, stopped in STANDSTILLS]
)
def test_the_others_get_done_whoever_stands_still(search: Search, stopped: tuple[int, ...]) -> None:
    stuck = find_stuck(search.make(), stopped)
    assert stuck is None, str(stuck)


def test_the_suite_takes_every_step() -> None:
    taken = frozenset().union(*(explored(number).steps for number in range(len(SUITE))))
    assert ALL_STEPS - taken == set()
    assert {name for name in taken - ALL_STEPS if not name.startswith("kill ")} == {
        "power cut",
        "all processes die",
    }


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[mutation.name for mutation in MUTATIONS])
def test_a_broken_protocol_violates_the_invariant(mutation: Mutation) -> None:
    found = mutation.find()
    assert found is not None
    assert found.invariant == mutation.invariant
    assert len(found.trace) > 0


# The others are broken versions of settings that the suite visits whole.
SOUND = (mixed_rotations, rotations, cuts, holes, old_bytes)


@pytest.mark.parametrize("make", SOUND, ids=[make.__name__ for make in SOUND])
def test_the_protocol_itself_does_not(make: Callable[[None], Model]) -> None:
    found = explore(make(None))
    assert found.complete
    assert found.violation is None, str(found.violation)


def test_a_violation_comes_with_a_shortest_way() -> None:
    found = next(mutation for mutation in MUTATIONS if mutation.name == "no marker").find()
    assert found is not None
    assert [step.partition(".")[0] for step in found.trace] == [
        f"writer 0: {name}" for name in ("B3", "B4", "B5", "B6", "B8")
    ]


def test_what_a_cut_leaves_is_a_prefix_in_every_setting() -> None:
    """Every search of the suite asks it: inside a segment and over segments, whatever was sealed, claimed or torn."""
    assert lossy_invariants.prefix in Recovery(Setting((1,))).of_steps
    model = Recovery(Setting((1, 1), syncs=0, crashes=0))
    model.of_steps = (lossy_invariants.prefix,)
    found = explore(model)
    assert found.complete
    assert found.violation is None, str(found.violation)


@pytest.mark.parametrize("torn", [0, 1])
def test_without_a_dead_claim_a_cut_takes_nothing_that_is_whole_on_the_disk(torn: int) -> None:
    model = Recovery(Setting((1, 1), claims=0, torn=torn, syncs=0))
    model.of_steps = (lossy_invariants.no_more_lost_than_needed,)
    found = explore(model)
    assert found.complete
    assert found.violation is None, str(found.violation)


def test_behind_a_dead_claim_that_nobody_repaired_a_cut_takes_whole_frames() -> None:
    """A known limit: nothing on the disk tells the hole of a killed writer from a frame that was lost."""
    model = Recovery(Setting((1, 1), syncs=0, crashes=0, seals=0))
    model.of_steps = (lossy_invariants.no_more_lost_than_needed,)
    found = explore(model).violation
    assert found is not None
    steps = [step.partition(".")[0] for step in found.trace]
    assert steps[:3] == ["die in claim", "append", "power cut"]


def functions_of(file: Path) -> set[str]:
    """Return the functions of a source file, methods with their class."""
    text = file.read_text()
    if file.suffix == ".py":
        tree = ast.parse(text)
        found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        for owner in tree.body:
            if isinstance(owner, ast.ClassDef):
                found |= {
                    f"{owner.name}.{node.name}" for node in owner.body if isinstance(node, ast.FunctionDef)
                }
        return found
    found, owner = set(), ""
    for line in text.splitlines():
        if opening := re.match(r"cdef class (\w+)", line):
            owner = opening[1] + "."
        elif opening := re.match(r"( *)(?:def|cpdef|cdef)\b[^=\n]*?\b(\w+)\(", line):
            found.add((owner if opening[1] else "") + opening[2])
    return found


@pytest.mark.parametrize("step", sorted(ALL_STEPS))
def test_each_step_has_a_place_in_the_engine(step: str) -> None:
    file, function = PLACES[step]
    assert function in functions_of(ENGINE / file)


def test_the_table_of_places_names_nothing_else() -> None:
    assert set(PLACES) == ALL_STEPS


def test_a_search_that_is_cut_short_says_so() -> None:
    assert not explore(SUITE[0].make(), states_max=100).complete


def test_the_page_states_the_counts() -> None:
    page = (Path(__file__).parent / "README.md").read_text()
    assert [f"{sum(search.states for search in searches):,}" in page for searches in (SUITE, FULL)] == [
        True,
        True,
    ]
