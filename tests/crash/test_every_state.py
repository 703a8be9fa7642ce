"""Every distinct shared state of one append, one batch, one rotation and one sync of the ordinary build, found by single-stepping.

At each of them the operation is (a) cut short, by a copy of the files that is opened as after a kill and as after a reboot, and
(b) stalled for real while another process appends, repairs and reads, and then resumed.
"""

import ctypes
import itertools
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import cometlog
from cometlog import repair
from cometlog.errors import ShardBusyError, StalledWriterError
from cometlog.segment import Segment, byte_offset, list_segments, tail_parts
from recording import Count
from shared_state import copy_shard
from single_step import State, Tracee, compile_stepper
from support import KIB, SHARD, STREAM, Worker, make_config, owner_and_sequence, payload, wait_until
from tiers import Tier

SCRIPT = Path(__file__).with_name("stall_workers.py")
SEGMENT_BYTES = 64 * KIB
TRACED, OTHER = 1, 2
HEADER_BYTES = 24
FIRST_BYTES = 40
COUNTERS = ["bytes", "entries", "frames"]

APPEND = [
    "BUSY", "tail", "CLAIMED", "claim", "MARKED", "payload", "checksum", "timestamp", "DATA", *COUNTERS, "IDLE",
]  # fmt: skip
UNPREPARED, PREPARED = "rotation", "rotation to a prepared file"
ROTATION_BEGINS = ["BUSY", "SEALED", "IDLE", "slot segment", "ROTATING"]
PUBLISHING = ["header", "backed", "header", "+segment", "-temporary", "active", "rotations"]
ROTATION_ENDS = ["IDLE", "slot segment", *APPEND]
SYNC = ["+lock sync", "mark", "durable entry", "-lock sync", "turns"]
STATES = {
    "append": APPEND, "batch": APPEND, "sync": SYNC,
    # The helper thread stands still from the start, so the writer makes the index of the segment before.
    UNPREPARED: [
        *ROTATION_BEGINS, "+temporary", "length of temporary", *PUBLISHING, "+temporary index",
        "length of temporary index", "+index", "-temporary index", "length of index", *ROTATION_ENDS,
    ],
    PREPARED: [*ROTATION_BEGINS, *PUBLISHING, *ROTATION_ENDS],
}  # fmt: skip
ENTRIES = {"append": 1, "batch": 3, "sync": 0, UNPREPARED: 1, PREPARED: 1}


@pytest.fixture(scope="session")
def stepper(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    try:
        return compile_stepper(tmp_path_factory.mktemp("stepper"))
    except LookupError as error:
        pytest.skip(str(error))


class Traced:
    """A traced worker, its shard, and what has been acknowledged: number -> (owner, sequence)."""

    def __init__(self, stepper: ctypes.CDLL, root: Path, operation: str) -> None:
        self.root = root
        self.operation = operation
        self.worker = Worker(
            "obey_between_marks",
            script=SCRIPT,
            root=str(root),
            owner=TRACED,
            segment_size_bytes=SEGMENT_BYTES,
        )
        assert self.worker.hear() == "ready"
        self.tracee = Tracee(stepper, self.worker, root / SHARD)
        self.acknowledged: dict[int, tuple[int, int]] = {}
        self.sequence = itertools.count()

    def warm_up(self) -> None:
        """Do once what only happens the first time."""
        for operation in ("append", self.operation, self.operation):
            self.begin(operation)
            self.resume()

    def _fillers(self, leave_bytes: int) -> list[int]:
        """Lengths of the first and of further single entries that leave so many bytes of the segment."""
        name = list_segments(self.root / SHARD)[-1]
        segment = Segment(self.root / SHARD / name.file_name, writable=False)
        room = byte_offset(segment.header.capacity_units) - byte_offset(tail_parts(segment.tail())[1])
        segment.close()
        room -= leave_bytes + FIRST_BYTES + HEADER_BYTES
        lengths = [FIRST_BYTES]
        while room > SEGMENT_BYTES // 2:
            lengths.append(20_000 - HEADER_BYTES)
            room -= 20_000
        return [*lengths, room - HEADER_BYTES]

    def _order(self, lengths: list[int], entries: int) -> None:
        before = [(next(self.sequence), length) for length in lengths]
        batch = [(next(self.sequence), 40) for _ in range(entries)]
        self.worker.tell({"before": before, "batch": batch})
        self._before = [(TRACED, sequence) for sequence, _ in before]
        self.batch = [(TRACED, sequence) for sequence, _ in batch]
        self.tracee.run_to_mark()

    def begin(self, operation: str) -> None:
        """Bring the worker to the beginning of an operation; what it appends is ``batch``."""
        if operation == PREPARED:
            self._order(self._fillers(leave_bytes=8_000), 1)
            self.resume()
            temporary = (self.root / SHARD).glob
            wait_until(
                lambda: [path for path in temporary("next.tmp.*") if path.stat().st_size == SEGMENT_BYTES],
                "the helper to prepare a file",
            )
        self.tracee.hold_helper()
        is_rotation = operation in (UNPREPARED, PREPARED)
        self._order(self._fillers(leave_bytes=0) if is_rotation else [FIRST_BYTES], ENTRIES[operation])

    def outcome(self) -> object:
        """What the worker said of its operation; takes note of what it was acknowledged."""
        numbers, outcome = self.worker.hear()
        self.acknowledge(numbers, self._before)
        if isinstance(outcome, list):
            self.acknowledge(outcome, self.batch)
        return outcome

    def acknowledge(self, numbers: list[int] | range, entries: list[tuple[int, int]]) -> None:
        for number, entry in zip(numbers, entries, strict=True):
            assert self.acknowledged.setdefault(number, entry) == entry, "a number was given twice"

    def before_is_acknowledged(self) -> dict[int, tuple[int, int]]:
        """What was acknowledged, with the appends before the mark, whose numbers the worker has not said yet."""
        found = dict(self.acknowledged)
        number = max(found, default=-1) + 1
        return found | dict(zip(itertools.count(number), self._before, strict=False))

    def states(self) -> Iterator[State]:
        while (state := self.tracee.next_state()) is not None:
            yield state

    def finish(self) -> None:
        """Leave an operation that was stepped through to its end."""
        self.tracee.finish()
        assert not isinstance(self.outcome(), str)

    def resume(self) -> None:
        """Let the process go on from wherever it stands in its operation, to its end, which is success."""
        self.tracee.go_on(helper=self.operation == PREPARED)
        assert not isinstance(self.outcome(), str)


@pytest.fixture(scope="session")
def recorded() -> dict[str, list[State]]:
    """The states of each operation once it was stepped through: what takes a second need not be done for each test."""
    return {}


@pytest.fixture
def operation(request: pytest.FixtureRequest, tier: Tier) -> str:
    if request.param == PREPARED and tier.name == "ci":
        pytest.skip("tier ci steps through the rotation that makes its own file, tier full through both")
    return str(request.param)


@pytest.fixture
def traced(stepper: ctypes.CDLL, root: Path, operation: str) -> Iterator[Traced]:
    traced = Traced(stepper, root, operation)
    try:
        traced.warm_up()
        yield traced
    finally:
        traced.tracee.kill()
        Worker.kill_all()


def kinds(states: list[State]) -> list[str]:
    """The kinds of states in order: repeated stores to one place once, and stores whose order is the compiler's sorted."""
    labels = [label for state in states for label in state.labels]
    labels = [label for label, _ in itertools.groupby(labels)]
    for free in ({"checksum", "timestamp"}, set(COUNTERS)):
        for start, label in enumerate(labels):
            if label in free:
                labels[start : start + len(free)] = sorted(labels[start : start + len(free)])
                break
    return labels


def entries_of(client: cometlog.Client) -> dict[int, tuple[int, int]]:
    """Every entry that can be read, by number, each checked to the byte and none twice."""
    entries = [(entry.number, owner_and_sequence(entry.data)) for entry in client.scan(STREAM)]
    found = dict(entries)
    assert len(found) == len(entries) == len(set(found.values()))
    assert list(found) == sorted(found)
    return found


def check_copy(
    copy: Path, expected: dict[int, tuple[int, int]], batch: list[tuple[int, int]], there: bool
) -> None:
    """Open a copy: what was acknowledged is there, the batch in flight whole or not at all, and appends go on."""
    with cometlog.open(copy, make_config(SEGMENT_BYTES)) as client:
        client.writer(STREAM)
        found = entries_of(client)
        assert expected.items() <= found.items()
        rest = [found[number] for number in found if number not in expected]
        assert rest == (batch if there else []), "the batch in flight"
        (number,) = client.append(STREAM, [payload(OTHER, 0)])
        assert number > max(found)
        assert entries_of(client) == found | {number: (OTHER, 0)}
    with cometlog.open(copy, read_only=True) as reader:
        assert entries_of(reader) == found | {number: (OTHER, 0)}


@pytest.mark.parametrize("operation", STATES, indirect=True)
def test_every_state_is_recovered_from(
    traced: Traced, tmp_path: Path, operation: str, count: Count, recorded: dict[str, list[State]]
) -> None:
    traced.begin(operation)
    states: list[State] = []
    committed = False
    for state in traced.states():
        states.append(state)
        committed |= "DATA" in state.labels
        for same_boot in (True, False):
            copy_shard(traced.root, tmp_path / "copy", same_boot=same_boot)
            check_copy(tmp_path / "copy", traced.before_is_acknowledged(), traced.batch, committed)
            shutil.rmtree(tmp_path / "copy")
    traced.finish()
    assert kinds(states) == STATES[operation]
    recorded[operation] = states
    count(shared_states=len(states), instructions=traced.tracee.steps, reopened_copies=2 * len(states))


def append_beside(traced: Traced, client: cometlog.Client, sequence: Iterator[int]) -> int:
    """Append three entries as another process; returns the number of the last."""
    for _ in range(3):
        entry = (OTHER, next(sequence))
        number = client.append(STREAM, [payload(*entry)])[0]
        traced.acknowledge([number], [entry])
    return number


def reach(traced: Traced, states: list[State], index: int) -> None:
    """Bring the worker to state ``index`` of its operation, without stepping through the system calls that were made before it.

    Where they were others than the last time, as after a rotation that another process did, from the start, step by step.
    """
    traced.begin(traced.operation)
    traced.tracee.run_through_calls(states[index].calls)
    skipped = sum(state.calls < states[index].calls for state in states)
    reached = list(itertools.islice(traced.states(), index + 1 - skipped))
    if [state.labels for state in reached] != [state.labels for state in states[skipped : index + 1]]:
        if len(reached) <= index - skipped:  # stepped to its end
            traced.finish()
        else:
            traced.resume()
        traced.begin(traced.operation)
        again = list(itertools.islice(traced.states(), index + 1))
        assert [state.labels for state in again] == [state.labels for state in states[: index + 1]]
        states[: index + 1] = again


class Stall:
    """What others may expect of a writer that stands where these labels led."""

    def __init__(self, labels: list[str]) -> None:
        self.claimed_nothing_seen = "tail" in labels and "CLAIMED" not in labels
        """Its claim is made, its word is zero: nobody may judge it, and readers stop in front of it (PROTOCOL D3)."""
        self.is_fenced = "CLAIMED" in labels and "DATA" not in labels
        self.holds_sync = "+lock sync" in labels and "-lock sync" not in labels


def stall_here(traced: Traced, client: cometlog.Client, labels: list[str], sequence: Iterator[int]) -> Stall:
    """While the tracee stands still, append, repair, read and sync as another process, then let it go on."""
    stall = Stall(labels)
    batch, before = traced.batch, traced.before_is_acknowledged()
    last = append_beside(traced, client, sequence)
    expected = before | traced.acknowledged
    name = rf"process {traced.worker.pid}\b"
    if stall.claimed_nothing_seen:
        with pytest.raises(StalledWriterError, match=name):
            client.sync()
        found = entries_of(client)
        assert found == before
        last = append_beside(traced, client, sequence)
    elif stall.holds_sync:
        with pytest.raises(ShardBusyError, match=name):
            client.sync()
        found = entries_of(client)
        assert found == expected
    else:
        client.sync()
        found = entries_of(client)
        assert max(found) == last
        assert [found[number] for number in found if number not in expected] == (
            batch if "DATA" in labels else []
        )
        assert expected.items() <= found.items()
    traced.resume()
    later = entries_of(client)
    assert later == traced.acknowledged
    assert list(later.items())[: len(found)] == list(found.items()), "what was read once changed"
    client.sync()
    return stall


@pytest.mark.parametrize("operation", STATES, indirect=True)
def test_writer_stalled_in_every_state_harms_nobody(
    traced: Traced, operation: str, tier: Tier, rng: random.Random, count: Count, monkeypatch: pytest.MonkeyPatch,
    recorded: dict[str, list[State]],
) -> None:  # fmt: skip
    monkeypatch.setattr(repair, "FENCE_AFTER_S", tier.pick(ci=0.02, full=repair.FENCE_AFTER_S))
    stall_timeout_s = tier.pick(ci=0.2, full=2.0)
    if operation not in recorded:
        traced.begin(operation)
        recorded[operation] = list(traced.states())
        traced.finish()
    states = list(recorded[operation])
    assert kinds(states) == STATES[operation]
    chosen = range(len(states))
    if operation in (UNPREPARED, PREPARED):
        chosen = sorted(rng.sample(chosen, tier.pick(ci=5, full=len(chosen))))
    sequence = itertools.count()
    config = make_config(SEGMENT_BYTES, concurrency={"stall_timeout_s": stall_timeout_s})
    with cometlog.open(traced.root, config) as client:
        for index in chosen:
            if operation in (UNPREPARED, PREPARED):
                traced.begin(
                    operation
                )  # the last one was perhaps done by the other process, after which the next is different
                traced.resume()
            reach(traced, states, index)
            labels = [label for state in states[: index + 1] for label in state.labels]
            stall = stall_here(traced, client, labels, sequence)
            count(stalls=1, fenced=stall.is_fenced, named_as_stalled=stall.claimed_nothing_seen)


@pytest.mark.parametrize("operation", ["append", "batch"], indirect=True)
def test_append_that_is_given_up_three_times_raises_and_leaves_nothing(
    traced: Traced, operation: str, count: Count, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repair, "FENCE_AFTER_S", 0.02)
    sequence = itertools.count()
    with cometlog.open(traced.root, make_config(SEGMENT_BYTES)) as client:
        traced.begin(operation)
        before = traced.before_is_acknowledged()
        for _ in range(3):
            while "MARKED" not in next(traced.states()).labels:
                pass
            append_beside(traced, client, sequence)
            assert entries_of(client) == before | traced.acknowledged
        traced.tracee.go_on(helper=False)
        assert traced.outcome() == "AppendFencedError"
        assert entries_of(client) == traced.acknowledged
        traced.begin(operation)
        traced.resume()
        assert entries_of(client) == traced.acknowledged
    count(fenced=3)
