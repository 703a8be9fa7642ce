"""Every call of an atomic in the engine is argued in ARCHITECTURE.md, "Memory orders": by function and by operation."""

import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
ENGINE = ROOT / "engine" / "cometlog"
C_FUNCTION = re.compile(r"(?:\w+ )*\w+ \*?(\w+)\([^;]*$")
C_FUNCTION_IN_CYTHON = re.compile(r"    static inline \w+ (\w+)\(")
C_FUNCTIONS = {".h": [C_FUNCTION], ".c": [C_FUNCTION], ".pyx": [C_FUNCTION_IN_CYTHON], ".py": []}
FUNCTION = re.compile(r"( *)(?:async )?(?:def|cpdef|cdef)\b[^=\n]*?\b(\w+)\(")
CLASS = re.compile(r"(?:cdef )?class (\w+)")
NAMED_BY_ORDER = (
    r"(?:load|store|compare_and_swap|fetch_\w+|fence)_(?:relaxed|acquire|release|acq_rel|seq_cst)(?:_u32)?"
)
OPERATION = re.compile(
    rf"(?<![\w])({NAMED_BY_ORDER}|raise_to_at_least|compare_and_swap|set_bits|clear_bits|fence|__atomic_\w+)\("
)
ALIAS = re.compile(r"load = [\w.]*\bmapping\.(load_acquire)$")
Sites = dict[tuple[str, str], set[str]]


def sites_of(name: str, text: str) -> dict[tuple[str, str], list[str]]:
    """Return the atomic operations that each function of a source calls, in the order they stand there."""
    found = defaultdict(list)
    owner = function = ""
    for line in text.splitlines():
        if opening := CLASS.match(line):
            owner = opening[1] + "."
        declared = FUNCTION.match(line)
        in_c = (
            None
            if declared
            else next(filter(None, (form.match(line) for form in C_FUNCTIONS[Path(name).suffix])), None)
        )
        if declared:
            function = (owner if declared[1] else "") + declared[2]
        elif in_c:
            function = in_c[1]
        code = line[declared.end() :] if declared else line
        found[name, function] += OPERATION.findall(code) + ALIAS.findall(code)
    return {site: operations for site, operations in found.items() if operations}


def sites_in_the_engine() -> Sites:
    files = [
        file
        for file in ENGINE.rglob("*")
        if file.suffix in {".py", ".pyx", ".h", ".c"} and file.name != "atomics.h"  # which defines them
    ]
    found: Sites = {}
    for file in files:
        name = str(file.relative_to(ENGINE))
        found |= {site: set(operations) for site, operations in sites_of(name, file.read_text()).items()}
    return found


Row = tuple[list[tuple[str, str]], set[str]]


def rows() -> list[Row]:
    """Return the table: for each row its functions and the operations it argues."""
    section = (ROOT / "ARCHITECTURE.md").read_text().partition("### Memory orders")[2].partition("\n### ")[0]
    found = []
    for places, access, argument in re.findall(
        r"^\| (`[^|]+) \| ([^|]+) \| ([^|]+) \|$", section, re.MULTILINE
    ):
        assert len(argument) > 20
        found.append((re.findall(r"`([\w./]+): ([\w.]+)`", places), set(re.findall(r"`(\w+)`", access))))
    return found


def sites_in_the_table() -> Sites:
    found: Sites = defaultdict(set)
    for places, operations in rows():
        for place in places:
            found[place] |= operations
    return found


def test_each_function_with_an_atomic_is_in_the_table() -> None:
    assert sorted(sites_in_the_table()) == sorted(sites_in_the_engine())


def test_each_operation_is_in_the_row_of_its_function() -> None:
    argued = sites_in_the_table()
    missing = {site: operations - argued[site] for site, operations in sites_in_the_engine().items()}
    assert {site: operations for site, operations in missing.items() if operations} == {}


def test_no_row_argues_what_its_functions_do_not() -> None:
    engine = sites_in_the_engine()
    idle = [
        (places, operations - done)
        for places, operations in rows()
        if operations - (done := set().union(*(engine[place] for place in places)))
    ]
    assert idle == []


def test_a_new_atomic_is_noticed() -> None:
    text = "cdef class A:\n    cdef int f(self):\n        return load_acquire(self.x) + fence_seq_cst()\n"
    assert sites_of("a.pyx", text) == {("a.pyx", "A.f"): ["load_acquire", "fence_seq_cst"]}
    assert sites_of("a.h", "static inline int g(int *x)\n{\n    __atomic_load_n(x, 0);\n}\n") == {
        ("a.h", "g"): ["__atomic_load_n"]
    }


APPENDER = "kernel/appender.pyx"
IN_SEQUENCE = {
    "Appender.claim": (
        "load_acquire",  # active
        "store_relaxed",  # slot.segment
        "store_release",  # BUSY
        "load_acquire",  # tail
        "compare_and_swap_acq_rel",  # SEALED
        "load_acquire",  # backed
        "compare_and_swap_acq_rel",  # tail
        "store_relaxed",  # retries
        "load_acquire",  # backed, asserted in the debug build
        "compare_and_swap_acq_rel",  # CLAIMED
        "store_relaxed",  # slot.claim
        "store_release",  # MARKED
        "fence_release",
    ),
    "Appender.set_idle": ("store_release",),
    "Appender.append_payload": ("load_seq_cst",),
    "Appender.append_items": ("load_acquire", "load_seq_cst"),
}


def test_an_append_does_its_atomics_in_this_sequence() -> None:
    found = sites_of(APPENDER, (ENGINE / APPENDER).read_text())
    assert {name: tuple(found[APPENDER, name]) for name in IN_SEQUENCE} == IN_SEQUENCE
    assert found[APPENDER, "Appender.commit"][:2] == ["load_acquire", "compare_and_swap_seq_cst"]


BESIDE_A_FENCE = {
    ("control.py", "Control.mark_rotating"): ("store_release", "load_acquire", "store_release", "fence"),
    ("retention.py", "Retention._may_go"): ("fence",),
    ("write_paths/file_lock.py", "FileLockPath._wake_readers"): ("fence", "load_acquire"),
    ("kernel/waiting.pyx", "announce"): ("load_acquire_u32", "fetch_or_acq_rel", "fence_seq_cst"),
    ("kernel/waiting.pyx", "wake_waiters"): ("fetch_and_acq_rel", "fetch_add_acq_rel_u32"),
    ("kernel/waiting.pyx", "Bell.ring"): ("fetch_add_acq_rel_u32",),
    ("kernel/group_position.pyx", "GroupPosition.write_checkpoint"): (
        "load_acquire",
        "store_release",
        "fence_seq_cst",
        "load_acquire",
    ),
    ("group_offsets.py", "GroupOffsets._store"): ("store_release", "store_release", "fence", "store_release"),
}


def test_what_a_fence_orders_stands_on_its_two_sides() -> None:
    """Where two words meet: a row is shared by both sides, so losing the fence of one would leave the table true."""
    found = {
        (file, function): tuple(sites_of(file, (ENGINE / file).read_text())[file, function])
        for file, function in BESIDE_A_FENCE
    }
    assert found == BESIDE_A_FENCE
