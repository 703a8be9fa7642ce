"""A reader that may not write: it passes what dead writers left, writes nothing, and sees what a recovery will keep."""

import os
import random
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

import cometlog
import cometlog.control
from cometlog.control import Control
from cometlog.errors import CorruptionError
from cometlog.judging import Judge
from cometlog.kernel import layout
from cometlog.reader import ShardReader
from cometlog.segment import Segment, byte_offset, list_segments, make_tail, tail_parts
from recording import Count
from support import KIB, SHARD, STREAM, Worker, directory_state, make_config, payload, read_all, segment_files
from tiers import Tier

SCRIPT = Path(__file__).with_name("onlooker_workers.py")
CONFIG = make_config(64 * KIB, 3_600_000)
READ_ONLY_MOUNT = (
    "unshare", "-m", "sh", "-c", 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"',
)  # fmt: skip
ALLOCATED, CLAIMED, MARKED, COPIED, FINISHED = 2, 3, 4, 5, 6
needs_steps = pytest.mark.skipif(
    "COMETLOG_STEPS_PACKAGE" not in os.environ,
    reason="numbered steps need the debug build that `nox -s crash` makes",
)


def mount_problem(place: Path) -> str | None:
    """Say why a directory cannot be mounted read-only here, or None."""
    if shutil.which("unshare") is None:
        return "unshare is not installed"
    done = subprocess.run([*READ_ONLY_MOUNT, str(place), "true"], capture_output=True, check=False)
    return f"no read-only mount here: {done.stderr.decode().strip()}" if done.returncode else None


def end_at_step(
    root: Path, step: int, nth: int, number: int, owner: int = 0
) -> tuple[Worker, dict[int, int]]:
    """Append in a process that gets a signal at a step; return it and what was acknowledged, number to sequence."""
    worker = Worker(
        "append_for_ever", script=SCRIPT, package=Path(os.environ["COMETLOG_STEPS_PACKAGE"]),
        environment={"COMETLOG_STEP": f"{step}:{nth}:{int(number)}"}, root=str(root), owner=owner,
    )  # fmt: skip
    acknowledged: dict[int, int] = {}
    if number == signal.SIGKILL:
        acknowledged.update(dict(worker.hear_rest()))
        assert worker.end() == -signal.SIGKILL
    else:
        while worker.state() != "T" or worker.has_said_more():
            if worker.has_said_more():
                acknowledged.update([worker.hear()])
    return worker, acknowledged


def look_without_rights(root: Path, turns: int = 1) -> Worker:
    """Start a reader on a read-only mount of the log, where nothing can be written even by root."""
    if (problem := mount_problem(root)) is not None:
        pytest.skip(problem)
    return Worker("look", prefix=(*READ_ONLY_MOUNT, str(root)), script=SCRIPT, root=str(root), turns=turns)


def check_agreement(seen: dict[str, Any], expected: list[int]) -> None:
    """Scan, counts and verify of one look agree with each other and with what is expected."""
    assert seen["numbers"] == expected
    assert seen["count"] == seen["verified"] == len(expected)
    assert seen["blocked"] is None


@needs_steps
@pytest.mark.parametrize("survivor", [True, False], ids=["a writer lives", "nobody lives"])
@pytest.mark.parametrize("step", [ALLOCATED, CLAIMED, MARKED, COPIED, FINISHED])
def test_killed_writer_is_passed_by_and_nothing_is_written(
    root: Path,
    start_worker: type[Worker],
    rng: random.Random,
    tier: Tier,
    count: Count,
    step: int,
    survivor: bool,
) -> None:
    for turn in range(tier.pick(ci=1, full=4)):
        log = root / str(turn)
        with cometlog.open(log, CONFIG) as client:
            client.append(STREAM, [payload(9, 0)])
            if not survivor:
                client.close()
            _, acknowledged = end_at_step(log, step, rng.randrange(1, 400), signal.SIGKILL)
            expected = [0, *acknowledged]
            if survivor:
                expected += [client.append(STREAM, [payload(9, 1 + place)])[0] for place in range(3)]
            before = directory_state(log)
            reader = look_without_rights(log, turns=2)  # where a write of its own would be an error
            check_agreement(reader.hear(), expected)
            if not survivor:
                assert directory_state(log) == before
            # A repairer comes, or a recovery: what was delivered stays, and goes on without a gap or a double.
            with cometlog.open(log, CONFIG) as other:
                added = [other.append(STREAM, [payload(8, place)])[0] for place in range(2)]
                assert [entry.number for entry in other.scan(STREAM)] == expected + added
                assert other.entry_count(STREAM) == len(expected) + 2
            reader.tell()
            check_agreement(reader.hear(), expected + added)
            assert reader.end() == 0
        count(kills=1, looks=2, entries=len(expected))


@needs_steps
@pytest.mark.parametrize("step", [ALLOCATED, CLAIMED, MARKED, COPIED])
def test_stopped_writer_is_waited_for_and_never_passed_by(
    root: Path, start_worker: type[Worker], rng: random.Random, count: Count, step: int
) -> None:
    worker, acknowledged = end_at_step(root, step, rng.randrange(1, 300), signal.SIGSTOP)
    with cometlog.open(root, CONFIG) as client:
        behind = client.append(STREAM, [payload(9, 0)])[0]
        with cometlog.open(root, read_only=True) as reader:
            seen = [entry.number for entry in reader.scan(STREAM)]
            assert seen == list(acknowledged)
            assert reader.entry_count(STREAM) == len(seen)
            assert reader.next_entry(STREAM) == behind + 1
            assert ShardReader(root / SHARD, STREAM).verify().blocked_at is not None
            worker.go_on()
            later: list[int] = []
            while behind not in later:
                later = [entry.number for entry in reader.scan(STREAM)]
                assert later[: len(seen)] == seen
            # Nothing of the stopped writer's was given away: no number is missing between its last append and ours.
            assert later[: behind + 1] == list(range(behind + 1))
            worker.kill()
    count(stops=1)


def cut_power(root: Path, monkeypatch: pytest.MonkeyPatch, control: str) -> None:
    """Let everything that is opened from here on believe in another boot, and find a control file of the one before, or none."""
    monkeypatch.setattr(cometlog.control, "boot_id", lambda: b"another boot 16b")
    if control == "missing":
        (root / SHARD / "control").unlink()


def hole_at_the_end(root: Path, entries: int, units: int) -> None:
    """Do what a writer does that dies right after it moved the tail."""
    segment = Segment(segment_files(root)[-1], writable=True)
    allocated, end, sealed = tail_parts(segment.tail())
    segment.mapping.store_release(layout.SEGMENT_TAIL, make_tail(end + units, allocated + entries, sealed))
    segment.close()


def stale_tail(root: Path, position: int, units_off: int) -> None:
    """Move one segment's tail as a page that was written too early or too late would have it."""
    segment = Segment(segment_files(root)[position], writable=True)
    entries, units, sealed = tail_parts(segment.tail())
    stale = make_tail(max(units + units_off, 0), max(entries + units_off // 8, 0), sealed and units_off > 0)
    segment.mapping.store_release(layout.SEGMENT_TAIL, stale)
    segment.close()


def break_frame(root: Path, position: int) -> None:
    """Spoil a payload in the middle of one segment."""
    path = segment_files(root)[position]
    middle = byte_offset(tail_parts(Segment(path, writable=False).tail())[1] // 2)
    raw = bytearray(path.read_bytes())
    raw[middle] ^= 0xFF
    path.write_bytes(raw)


LOST_CACHES = {
    "nothing lost": lambda _: None,
    "hole, then the tail": lambda root: hole_at_the_end(root, 3, 12),
    "tail too low": lambda root: stale_tail(root, -1, -80),
    "tail too high": lambda root: stale_tail(root, -1, 80),
    "tail too low in the middle": lambda root: stale_tail(root, 2, -80),
    "frame torn in the middle": lambda root: break_frame(root, 2),
    "frame torn in the last": lambda root: break_frame(root, -1),
}


@pytest.mark.parametrize("synced", [0, 150, 400], ids=lambda entries: f"{entries} synced")
@pytest.mark.parametrize("lost", LOST_CACHES)
@pytest.mark.parametrize("control", ["of another boot", "missing"])
def test_after_a_reboot_a_reader_sees_what_the_next_recovery_keeps(
    root: Path, monkeypatch: pytest.MonkeyPatch, count: Count, lost: str, synced: int, control: str
) -> None:
    config = make_config(64 * KIB, 3_600_000)
    client = cometlog.open(root, config)
    for sequence in range(600):
        client.append(STREAM, [payload(0, sequence, 400)])
        if sequence + 1 == synced:
            client.sync()
    mark = (root / SHARD / "durable").read_bytes()
    client.close()
    (root / SHARD / "durable").write_bytes(mark)  # as if the last to leave had not come to its sync
    assert len(list_segments(root / SHARD)) >= 4
    LOST_CACHES[lost](root)
    cut_power(root, monkeypatch, control)
    before = directory_state(root)
    with cometlog.open(root, read_only=True) as reader:
        try:
            seen = [entry[1:] for entry in reader.scan(STREAM)]
        except CorruptionError:
            seen = None
        else:
            assert reader.entry_count(STREAM) == len(seen)
            assert reader.next_entry(STREAM) == len(seen)
        assert directory_state(root) == before
        with cometlog.open(root, config) as writer:
            if seen is None:  # a frame below the mark: reported by both, cut away by neither
                writer.writer(STREAM)
                with pytest.raises(CorruptionError):
                    list(writer.scan(STREAM))
                assert synced == 400
                assert lost == "frame torn in the middle"
                return
            assert [entry[1:] for entry in writer.scan(STREAM)] == seen
            assert len(seen) >= synced
            assert writer.append(STREAM, [b"behind"]) == range(len(seen), len(seen) + 1)
            for client in (writer, reader):  # at once, although both had believed that the log ends before
                assert client.read(STREAM, len(seen), 10).payloads() == [b"behind"]
                assert client.entry_count(STREAM) == len(seen) + 1
        again = [entry[1:] for entry in reader.scan(STREAM)]
        assert again[:-1] == seen
    count(cuts=1)


def test_word_below_the_durable_mark_is_damage_to_a_reader_and_to_a_writer(root: Path, count: Count) -> None:
    with cometlog.open(root, CONFIG) as client:
        for sequence in range(10):
            client.append(STREAM, [payload(0, sequence)])
        client.sync()
        segment = Segment(segment_files(root)[0], writable=True)
        units = segment.word(0) & layout.WORD_UNITS_MASK
        segment.mapping.store_release(byte_offset(3 * units), 0)
        segment.close()
        before = segment_files(root)[0].read_bytes()
        with cometlog.open(root, read_only=True) as reader:
            for opened in (reader, client):
                with pytest.raises(CorruptionError, match="below the durable mark") as caught:
                    list(opened.scan(STREAM))
                assert (caught.value.stream, caught.value.offset) == (STREAM, byte_offset(3 * units))
        assert segment_files(root)[0].read_bytes() == before
    count(words=1)


def test_after_a_failed_sync_no_hole_is_passed_by(root: Path) -> None:
    with cometlog.open(root, CONFIG) as client:
        client.append(STREAM, [payload(0, 0)])
        hole_at_the_end(root, 1, 8)
        client.append(STREAM, [payload(0, 2)])
        assert [entry.number for entry in read_all(root)] == [0, 2]
        control = Control(root / SHARD / "control", writable=True)
        control.poison()
        assert [entry.number for entry in read_all(root)] == [0]
        control.clear_poison()
        control.close()


def test_owner_that_commits_while_it_is_judged_is_not_passed_by(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit falls between the look at the slots, which finds nobody any more, and the last look at the word."""
    with cometlog.open(root, CONFIG) as client:
        for sequence in range(3):
            client.append(STREAM, [payload(0, sequence)])
        segment = Segment(segment_files(root)[0], writable=True)
        unit = segment.word(0) & layout.WORD_UNITS_MASK
        committed = segment.word(unit)
        claimed = committed ^ (layout.KIND_DATA ^ layout.KIND_CLAIMED) << layout.WORD_KIND_SHIFT
        assert segment.swap_word(unit, committed, claimed)
        judge = Judge.owner_of_claim

        def judge_while_it_commits(self: Judge, looked_at: Segment, at: int) -> object:
            owner = judge(self, looked_at, at)
            assert segment.swap_word(unit, claimed, committed)
            return owner

        monkeypatch.setattr(Judge, "owner_of_claim", judge_while_it_commits)
        assert [entry.number for entry in read_all(root)] == [0, 1, 2]
        segment.close()


def test_owner_that_claims_while_it_is_judged_is_not_passed_by(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A free word gets its claim during the grace period, from a writer that then stops in its copy: it is alive."""
    with cometlog.open(root, CONFIG) as client:
        client.append(STREAM, [payload(0, 0)])
        unit = tail_parts(Segment(segment_files(root)[0], writable=False).tail())[1]
        hole_at_the_end(root, 1, 8)
        client.append(STREAM, [payload(0, 2)])
        segment = Segment(segment_files(root)[0], writable=True)
        control = Control(root / SHARD / "control", writable=True)
        slot = control.look_at_slot(0)  # the client's own, whose lock it holds
        grace_period = Judge.grace_period

        def claim_meanwhile(self: Judge, looked_at: Segment, deadline: float) -> object:
            dead = grace_period(self, looked_at, deadline)
            claimed = 1 << layout.WORD_INDEX_SHIFT | layout.KIND_CLAIMED << layout.WORD_KIND_SHIFT | 8
            assert segment.swap_word(unit, 0, claimed)
            control.mapping.store_release(layout.CONTROL_SLOTS + layout.SLOT_SEGMENT, 1)
            control.mapping.store_release(layout.CONTROL_SLOTS + layout.SLOT_CLAIM, unit)
            control.mapping.store_release(layout.CONTROL_SLOTS, slot.word + 4 | layout.STATE_MARKED)
            return dead

        monkeypatch.setattr(Judge, "grace_period", claim_meanwhile)
        assert [entry.number for entry in read_all(root)] == [0]
        control.mapping.store_release(layout.CONTROL_SLOTS, slot.word)
        control.close()
        segment.close()


def test_claim_past_the_tail_is_corruption(root: Path) -> None:
    with cometlog.open(root, CONFIG) as client:
        client.append(STREAM, [payload(0, 0)])
        unit = tail_parts(Segment(segment_files(root)[0], writable=False).tail())[1]
        hole_at_the_end(root, 1, 8)
        segment = Segment(segment_files(root)[0], writable=True)
        for units in (9, 0, layout.WORD_UNITS_MASK):
            word = 1 << layout.WORD_INDEX_SHIFT | layout.KIND_CLAIMED << layout.WORD_KIND_SHIFT | units
            segment.mapping.store_release(byte_offset(unit), word)
            with pytest.raises(CorruptionError, match="does not end before the tail"):
                read_all(root)
        segment.mapping.store_release(byte_offset(unit), 0)
        segment.close()
