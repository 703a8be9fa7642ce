"""System calls of a writer fail, one at a time, or the process is killed at one, wherever the story of a log makes a call.

What must hold: each operation succeeds or raises an error of the engine, OSError or MemoryError that says what happened; nothing waits
for ever and no signal but the one injected ends a process; what was acknowledged is read once, under its number, by the next process,
which appends, syncs and leaves; what raised is not visible; no temporary file stays.
"""

import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from injection import GROUPS, Outcome, Stage, inject, judge, show, strace_problem
from recording import Count
from support import LIBC_PATHS, Worker, segment_files
from tiers import Tier

pytestmark = pytest.mark.skipif(strace_problem() is not None, reason=str(strace_problem()))

CALL = re.compile(r"(?P<thread>[0-9]+) +(?P<name>[a-z0-9_]+)\(")
KILLED = -9


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("stage"))
    yield stage
    stage.close()


@pytest.fixture(scope="module")
def calls_made(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Counter[str]]:
    """How often a whole story makes each call, in the thread that makes it most, by write path."""
    names = ",".join(call for calls, _ in GROUPS.values() for call in calls)
    made = {}
    for write_path in LIBC_PATHS:
        root = tmp_path_factory.mktemp("undisturbed") / "log"
        outcome = stage.run("story", ["-e", f"trace={names}"], root=str(root), write_path=write_path)
        assert outcome.code == 0, show(outcome)
        assert not outcome.errors, show(outcome)
        calls = Counter(match.group("thread", "name") for match in map(CALL.match, outcome.trace) if match)
        most: Counter[str] = Counter()
        for (_, name), times in calls.items():
            most[name] = max(most[name], times)
        made[write_path] = most
    return made


def check_poison(outcome: Outcome) -> int:
    """After the first SyncError nothing is acknowledged until the log is opened again; return how many there were."""
    poisoned = False
    first = 0
    for line in outcome.said:
        if line["what"] in ("open", "close"):
            poisoned = False
        elif line["what"] in ("append", "sync"):
            if line.get("error") == "SyncError":
                first += not poisoned
                poisoned = True
            else:
                assert not poisoned, show(outcome)
    return first


def places(made: Counter[str], calls: tuple[str, ...], most: int, rng: random.Random) -> list[int]:
    """Which calls of a story are made to fail: all of them, or so many drawn from them."""
    times = max((made[name] for name in calls), default=0)
    return sorted(rng.sample(range(1, times + 1), min(most, times)))


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("write_path", LIBC_PATHS)
def test_a_failing_call_is_a_typed_error_and_loses_nothing(
    stage: Stage, calls_made: dict[str, Counter[str]], tmp_path: Path, rng: random.Random, tier: Tier,
    count: Count, write_path: str, group: str,
) -> None:  # fmt: skip
    calls, errors = GROUPS[group]
    for number in places(calls_made[write_path], calls, tier.pick(ci=1, full=6, record=10_000), rng):
        error = rng.choice(errors)
        root = tmp_path / f"{number}"
        options = inject(calls, f"error={error}:when={number}")
        outcome = stage.run("story", options, root=str(root), write_path=write_path)
        print(f"{group} {number} {error}")
        assert outcome.code == 0, show(outcome)
        entries = judge(stage, outcome, root, write_path)
        failed_syncs = check_poison(outcome)
        assert failed_syncs <= 1, show(outcome)
        count(
            injected=outcome.injected, entries=entries, sync_errors=failed_syncs, errors_raised=len(outcome.errors)
        )  # fmt: skip


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("write_path", LIBC_PATHS)
def test_killed_at_a_call_loses_nothing_that_was_acknowledged(
    stage: Stage, calls_made: dict[str, Counter[str]], tmp_path: Path, rng: random.Random, tier: Tier,
    count: Count, write_path: str, group: str,
) -> None:  # fmt: skip
    calls, _ = GROUPS[group]
    for number in places(calls_made[write_path], calls, tier.pick(ci=1, full=6, record=10_000), rng):
        root = tmp_path / f"{number}"
        options = inject(calls, f"signal=KILL:when={number}")
        outcome = stage.run("story", options, root=str(root), write_path=write_path)
        print(f"{group} {number}")
        # A helper's calls are not as many in every run: one that was not made killed nobody.
        assert outcome.code in (0, KILLED), show(outcome)
        assert not outcome.errors, show(outcome)
        entries = judge(stage, outcome, root, write_path)
        count(kills=outcome.code == KILLED, entries=entries)


@pytest.mark.parametrize("write_path", LIBC_PATHS)
def test_no_memory_for_any_of_the_first_mappings(
    stage: Stage, tmp_path: Path, tier: Tier, count: Count, write_path: str
) -> None:
    """The helper thread is among those who ask: what it does not get keeps nobody waiting."""
    for number in range(1, tier.pick(ci=4, full=10)):
        root = tmp_path / f"{number}"
        outcome = stage.run(
            "story", inject(("mmap",), f"error=ENOMEM:when={number}"), root=str(root), write_path=write_path
        )
        assert outcome.code == 0, show(outcome)
        count(injected=outcome.injected, entries=judge(stage, outcome, root, write_path))


STORM = 40
"""Calls in a row that a signal interrupts."""


@pytest.mark.parametrize("group", ["pwrite", "fallocate", "madvise", "pread", "fdatasync", "msync"])
@pytest.mark.parametrize("write_path", LIBC_PATHS)
def test_a_storm_of_interrupted_calls_is_weathered(
    stage: Stage, calls_made: dict[str, Counter[str]], tmp_path: Path, rng: random.Random, tier: Tier,
    count: Count, write_path: str, group: str,
) -> None:  # fmt: skip
    calls, _ = GROUPS[group]
    for first in places(calls_made[write_path], calls, tier.pick(ci=1, full=3, record=20), rng):
        root = tmp_path / f"{first}"
        options = inject(calls, f"error=EINTR:when={first}..{first + STORM - 1}")
        outcome = stage.run("story", options, root=str(root), write_path=write_path)
        print(f"{group} {first}")
        assert outcome.code == 0, show(outcome)
        assert not outcome.errors, show(outcome)
        count(
            interrupted=sum("EINTR" in line for line in outcome.trace),
            entries=judge(stage, outcome, root, write_path),
        )


@pytest.mark.parametrize("write_path", LIBC_PATHS)
def test_a_sync_that_lies_loses_nothing_when_the_process_dies(
    stage: Stage, tmp_path: Path, count: Count, write_path: str
) -> None:
    """What such a disk has is lost with its power alone: the page cache has it as long as the machine runs."""
    root = tmp_path / "log"
    calls = ("fdatasync", "fsync", "msync", "sync_file_range")
    outcome = stage.run("append_and_die", inject(calls, "retval=0"), root=str(root), write_path=write_path)
    assert outcome.code == KILLED, show(outcome)
    assert outcome.injected
    assert not outcome.errors, show(outcome)
    entries = judge(stage, outcome, root, write_path)
    assert entries == 4
    count(lies=sum("INJECTED" in line for line in outcome.trace), entries=entries)


@pytest.mark.parametrize("write_path", [path for path in LIBC_PATHS if path != "buffered"])
def test_a_failed_sync_refuses_in_every_process_and_a_lone_opener_goes_on_in_a_new_segment(
    stage: Stage, root: Path, start_worker: type[Worker], count: Count, write_path: str
) -> None:
    other = start_worker("append_after_word", root=str(root), write_path=write_path)
    assert other.hear() == "attached"
    # The first call of each of its threads: a shard that is there already is attached without a sync.
    calls = ("fdatasync", "msync")
    outcome = stage.run(
        "append_and_die", inject(calls, "error=EIO:when=1"), root=str(root), write_path=write_path
    )
    refused = [line for line in outcome.said if line["what"] in ("append", "sync") and "error" in line]
    assert {line["error"] for line in refused} == {"SyncError"}, show(outcome)
    assert all(line in refused for line in outcome.said[outcome.said.index(refused[0]) :]), show(outcome)
    syncs = [line for line in outcome.trace if "sync(" in line and "fsync(" not in line and "EIO" not in line]
    assert not syncs, "a failed sync was tried again"
    other.tell()
    assert other.hear() == ["SyncError", "SyncError"]
    late = start_worker("append_and_sync", root=str(root), write_path=write_path)
    assert late.hear() == ["SyncError"] * 3
    assert late.end() == 0
    other.tell()
    assert other.end() == 0
    before = segment_files(root)
    judge(stage, outcome, root, write_path)
    assert len(segment_files(root)) == len(before) + 1
    count(sync_errors=1, processes=3)
