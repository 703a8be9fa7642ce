"""Power loss on a real file system: ext4 on a loop device is cut while processes write, unmounted, and opened again.

Each log is cut and recovered several times, at times in the middle of its recovery. Needs root.
"""

import platform
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from loop_device import LoopDevice, why_not
from power_workers import identities
from promises import Identity, Promise
from recording import Count
from support import KIB, PATHS, SHARED_PATHS, Worker
from tiers import Tier

SCRIPT = Path(__file__).with_name("power_workers.py")
CUTS_PER_LOG = 8
FLUSH_ALL, FLUSH_JOURNAL, FLUSH_NOTHING = 0, 1, 2
FLAG_NAMES = {FLUSH_ALL: "flush_all", FLUSH_JOURNAL: "flush_journal", FLUSH_NOTHING: "flush_nothing"}
# Not data=journal: a store into a map of a file system that is shut down then hits a BUG of jbd2 (jbd2_journal_dirty_metadata, seen on
# Linux 6.18), whose journal thread never ends.
MOUNT_OPTIONS = ("", "", "data=writeback", "nodelalloc")
SIGKILL = 9
SIGBUS = 7

pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")


@pytest.fixture
def device(tmp_path: Path) -> Iterator[LoopDevice]:
    device = LoopDevice(tmp_path)
    yield device
    device.close()


@dataclass
class Log:
    """One log on the device, through many cuts."""

    device: LoopDevice
    worker: Worker
    rng: random.Random
    count: Count
    promise: Promise
    boot: int
    options: str = ""
    owners: int = 0
    story: list[str] = field(default_factory=list)

    @property
    def root(self) -> str:
        return str(self.device.mount_point / "srv" / "log")

    def _order(self, **order: Any) -> list[dict[str, Any]]:
        self.worker.tell({"mount": str(self.device.mount_point), "seed": self.rng.randrange(1 << 30)} | order)
        answers: list[dict[str, Any]] = self.worker.hear()
        return answers

    def _remount(self) -> None:
        if self.device.mounted:
            self.device.unmount()
        self.device.mount(self.options)
        self.boot += 1

    def _draw_cut(self, after_s: float) -> dict[str, Any]:
        flags = self.rng.choice([FLUSH_ALL, FLUSH_JOURNAL, FLUSH_JOURNAL, *[FLUSH_NOTHING] * 4])
        self.count(cuts=1, **{f"cuts_{FLAG_NAMES[flags]}": 1})
        return {"after_s": after_s, "flags": flags}

    def write_and_cut(self) -> None:
        """Let one to three processes write by one path, and cut; a killed one may leave a half-written entry first."""
        rng = self.rng
        write_path = rng.choice(PATHS)
        writers = [
            {
                "seed": rng.randrange(1 << 30), "owner": self.owners + turn + 1, "batches": 1 << 30,
                "sync_share": rng.choice([0.02, 0.1, 0.3]),
            }
            for turn in range(rng.randint(1, 3) if write_path in SHARED_PATHS else 1)
        ]  # fmt: skip
        self.owners += len(writers)
        cut = self._draw_cut(rng.uniform(0.02, 0.2))
        kill = None
        if rng.random() < 0.4:
            kill = {"child": rng.randrange(len(writers)), "after_s": rng.uniform(0.01, cut["after_s"])}
        answers = self._order(
            root=self.root, write_path=write_path, boot=self.boot, writers=writers,
            segment_size_bytes=rng.choice([64, 128, 256]) * KIB, kill=kill, cut=cut,
        )  # fmt: skip
        told = [line for answer in answers for line in answer["told"]]
        late = [line for answer in answers for line in answer["late"]]
        self.story.append(f"{write_path}, {len(writers)} writers, {kill}, {cut}: {told[-3:]}, late {late}")
        failed = [line for line in told if line[0] == "error"]
        assert not failed, f"a writer failed before the cut: {failed}"
        self._take_in(told, in_time=True)
        self._take_in(late, in_time=False)
        for answer in answers:
            self._check_end(answer, f"writers_of_{write_path}")

    def _check_end(self, answer: dict[str, Any], who: str) -> None:
        """How a process may end: by itself, killed, and, where it stores through a map, by the SIGBUS that ext4 answers a store
        with once it is shut down, which no power loss lives to see.
        """
        code, before = answer["code"], answer["ended_before"]
        assert code in (0, -SIGKILL) or (code == -SIGBUS and not before), f"one of {who} ended with {code}"
        if code == -SIGBUS:
            self.count(**{f"{who}_hit_by_SIGBUS_after_the_cut": 1})

    def _take_in(self, told: list[Any], *, in_time: bool) -> None:
        for kind, *rest in told:
            if kind == "append":
                first, owner, batch, lengths, durable = rest
                self.promise.acknowledge(
                    first, identities(owner, batch, lengths), durable=durable and in_time
                )
                self.count(acknowledged=len(lengths))
            elif kind == "sync":
                if in_time:
                    self.promise.synced(rest[0])
                    self.count(syncs=1)
            else:
                self.count(writers_that_saw_a_typed_error=1)

    def open_again(self) -> None:
        """Mount and open under a new boot, until one recovery is not cut off by a kill or by another cut."""
        self._remount()
        while True:
            self.owners += 1
            opens = {
                "root": self.root, "boot": self.boot, "write_path": self.rng.choice(PATHS), "owner": self.owners,
                "segment_size_bytes": 64 * KIB,
            }  # fmt: skip
            kind = self.rng.choice(["runs", "runs", "killed", "cut", "killed and cut"])
            after_s = self.rng.uniform(0, 0.02)
            kill = {"child": 0, "after_s": after_s} if "killed" in kind else None
            cut = self._draw_cut(after_s + self.rng.uniform(0, 0.003)) if "cut" in kind else None
            (answer,) = self._order(opens=opens, kill=kill, cut=cut)
            self.count(recoveries=1, recoveries_disturbed=int(kind != "runs"))
            # One that was done before it was disturbed is held to the promise; what kept another from it must not keep the next.
            if answer["told"] and (kind == "runs" or "error" not in answer["told"][0]):
                self._check(answer["told"][0])
            if kind == "runs":
                assert answer["told"], f"recovery ended with {answer['code']}"
                return
            self._check_end(answer, "recoveries")
            self.promise.unheard.add(self.owners)
            self.story.append(f"recovery by {opens['write_path']}, {kill}, {cut}: {answer}")
            if cut is not None:
                self._remount()

    def _check(self, result: dict[str, Any]) -> None:
        """Hold what a recovery found against what was promised; from now on all of it is, and what it added."""
        assert "error" not in result, result["error"]
        found = {number: Identity(*identity) for number, *identity in result["found"]}
        self.promise.check(found)
        self.count(
            durable_entries=len(self.promise.must_be_there()), entries_found=len(found),
            segments_set_aside=result["discarded"],
        )  # fmt: skip
        added = {number: Identity(*identity) for number, *identity in result["added"]}
        self.promise.recovered(found | added)


@pytest.mark.timeout(3600)
def test_every_cut_keeps_what_was_promised(
    device: LoopDevice, start_worker: type[Worker], tier: Tier, rng: random.Random, count: Count
) -> None:
    wanted = tier.pick(ci=60, full=300, record=1000)
    print(
        f"Linux {platform.release()} {platform.machine()}, {device.device}, {device.facts()}", file=sys.stderr
    )
    worker = start_worker("cut_rounds", script=SCRIPT)
    cuts = 0

    def count_too(**amounts: int) -> None:
        nonlocal cuts
        cuts += amounts.get("cuts", 0)
        count(**amounts)

    while cuts < wanted:
        device.format()
        log = Log(device, worker, rng, count_too, Promise(), boot=0, options=rng.choice(MOUNT_OPTIONS))
        device.mount(log.options)
        try:
            for _ in range(CUTS_PER_LOG):
                log.write_and_cut()
                log.open_again()
        except (AssertionError, OSError) as error:
            story = "\n".join(log.story)
            raise AssertionError(f"mounted with {log.options!r}\n{story}\n{error}") from error
        device.unmount()
        count_too(logs=1)
