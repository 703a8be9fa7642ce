"""The soak: writers, consumer groups and retention at once, one process killed each second; nothing acknowledged misses any group."""

import random
import signal
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from itertools import count as numbers_from
from itertools import pairwise
from pathlib import Path
from typing import Any

import cometlog
from recording import Count
from soak_journal import ENTRY_BYTES_MIN, Journal, Record, identify, make_entry, read_journal
from soak_workers import BATCH_ENTRIES_MAX, SHARDS, config
from support import Worker, wait_until
from tiers import Tier

WORKERS = Path(__file__).with_name("soak_workers.py")
WRITERS = 5
CONSUMERS = (("a", 0, 2), ("a", 1, 2), ("b", 0, 1), ("c", 0, 1))
GROUPS = ("a", "b", "c")
FIRST = 0
"""The writer number of the test itself, which makes the shards and the groups."""


@dataclass
class Role:
    """What a process of the soak is for, and the process that is it at the moment."""

    name: str
    arguments: dict[str, Any]
    process: Worker
    ready: bool = False

    def wait_until_ready(self) -> None:
        """Return once the process obeys SIGTERM."""
        if not self.ready:
            assert self.process.hear() == "ready"
            self.ready = True


class Soak:
    """Processes of a soak and their journals."""

    def __init__(self, directory: Path, start_worker: type[Worker], rng: random.Random) -> None:
        self.root = directory / "log"
        self.journals = directory / "journals"
        self.journals.mkdir()
        self._start_worker = start_worker
        self._rng = rng
        self._started = numbers_from(FIRST + 1)
        self.killed: Counter[str] = Counter()
        self._make_shards_and_groups()
        self.roles = [self._start("write", {}) for _ in range(WRITERS)]
        for group, worker, workers in CONSUMERS:
            self.roles.append(self._start("consume", {"group": group, "worker": worker, "workers": workers}))
        for role in self.roles:
            role.wait_until_ready()
        for role in self.roles:
            role.process.tell()

    def _make_shards_and_groups(self) -> None:
        journal = Journal(self.journals / "write-first")
        with cometlog.open(self.root, config().with_changes(retention={"interval_s": 0.0})) as client:
            for shard, stream in enumerate(SHARDS):
                number = client.append(stream, [make_entry(FIRST, shard, ENTRY_BYTES_MIN, bytes(1000))])[0]
                journal.write([Record(shard, number, FIRST, shard)])
                for group in GROUPS:
                    assert client.consumer(group).lag(stream) == 1

    def _start(self, name: str, arguments: dict[str, Any]) -> Role:
        identity = next(self._started)
        own = {"writer": identity, "seed": self._rng.getrandbits(32)} if name == "write" else {}
        process = self._start_worker(
            name,
            script=WORKERS,
            root=str(self.root),
            journal=str(self.journals / f"{name}-{arguments.get('group', '')}-{identity}"),
            **arguments,
            **own,
        )
        return Role(name, arguments, process)

    def kill_one(self) -> None:
        """Kill a process and put another in its place, which begins as soon as it can."""
        victim = self._rng.choice(self.roles)
        victim.process.kill()
        self.killed[victim.name] += 1
        victim.process, victim.ready = self._start(victim.name, victim.arguments).process, False
        victim.process.tell()

    def end(self) -> None:
        """End the writers, then the consumers once nothing is left for them to read."""
        self._end("write")
        with cometlog.open(self.root, config()) as client:
            for group in GROUPS:
                consumer = client.consumer(group)
                for stream in SHARDS:
                    wait_until(partial(self._has_read, consumer, stream), f"group {group} to read {stream}")
        self._end("consume")

    def _has_read(self, consumer: cometlog.Consumer, stream: str) -> bool:
        codes = [role.process.process.poll() for role in self.roles if role.name == "consume"]
        assert codes == [None] * len(CONSUMERS), f"a consumer ended: {codes}"
        return consumer.lag(stream) == 0

    def _end(self, name: str) -> None:
        for role in self.roles:
            if role.name == name:
                role.wait_until_ready()
                role.process.signal(signal.SIGTERM)
        for role in self.roles:
            if role.name == name:
                assert role.process.end() == 0, f"a process that was to {name} failed"

    def records(self, pattern: str) -> list[list[Record]]:
        """Return the records of the journals that match, journal by journal."""
        return [list(read_journal(path)) for path in sorted(self.journals.glob(pattern))]


def known(soak: Soak) -> dict[tuple[int, int], tuple[int, int]]:
    """Return (shard, number) to (writer, sequence) of every acknowledged entry; no number and no entry is there twice."""
    records = [record for journal in soak.records("write-*") for record in journal]
    acknowledged = {record[:2]: record[2:] for record in records}
    assert len(acknowledged) == len(records), "a number was acknowledged twice"
    assert len(set(acknowledged.values())) == len(records), "an entry was acknowledged twice"
    return acknowledged


def check_group(soak: Soak, group: str, acknowledged: dict[tuple[int, int], tuple[int, int]]) -> Counter[Any]:
    """Hold what a group was handed over to what was acknowledged; return how often each (shard, number) was delivered."""
    delivered: Counter[Any] = Counter()
    for journal in soak.records(f"consume-{group}-*"):
        for record in journal:
            place, what = record[:2], record[2:]
            assert acknowledged.setdefault(place, what) == what, f"{place} was delivered as {what}"
            delivered[place] += 1
        for shard in range(len(SHARDS)):
            own = [record.number for record in journal if record.shard == shard]
            assert all(later > earlier for earlier, later in pairwise(own)), (
                "a process was delivered out of order"
            )
    missing = acknowledged.keys() - delivered.keys()
    assert not missing, f"group {group} was never delivered {len(missing)} entries: {sorted(missing)[:5]}"
    return delivered


def gaps(shard: int, numbers: set[int], following: int) -> list[range]:
    """Return the runs of numbers of a shard that no entry has."""
    edges = pairwise([-1, *sorted(numbers), following])
    return [range(before + 1, after) for before, after in edges if after > before + 1]


def test_no_group_misses_an_entry_while_one_process_after_the_other_is_killed(
    tmp_path: Path, tier: Tier, rng: random.Random, count: Count, start_worker: type[Worker]
) -> None:
    """Numbers are contiguous but for what killed appends burnt, and what is kept at the end is what was acknowledged."""
    soak = Soak(tmp_path, start_worker, rng)
    began = time.monotonic()
    for second in range(1, tier.pick(ci=10, full=60) + 1):
        # The task is one kill a second; nothing is asserted about time.
        time.sleep(max(0.0, began + second - time.monotonic()))
        soak.kill_one()
    soak.end()
    acknowledged = known(soak)
    writers = {writer for writer, _ in acknowledged.values()}
    entries = dict(acknowledged)
    deliveries = [check_group(soak, group, entries) for group in GROUPS]
    unheard = len(entries) - len(acknowledged)
    assert unheard <= BATCH_ENTRIES_MAX * soak.killed["write"], (
        "more was delivered than killed writers can have sent"
    )
    assert all(set(delivered) == set(entries) for delivered in deliveries), (
        "one group got what another did not"
    )
    burnt: list[range] = []
    kept = removed = fenced = 0
    with cometlog.open(soak.root, read_only=True) as client:
        for shard, stream in enumerate(SHARDS):
            burnt += gaps(shard, {n for s, n in entries if s == shard}, client.next_entry(stream))
            fenced += client.stats()[stream].fenced
            first = client.first_entry(stream)
            found = {(shard, entry.number): identify(entry.data) for entry in client.scan(stream)}
            assert found == {
                place: what for place, what in entries.items() if place[0] == shard and place[1] >= first
            }
            assert client.entry_count(stream) == len(found)
            kept += len(found)
            removed += (
                min(int(path.name.split("-")[0]) for path in soak.root.glob(f"soak/v1/{shard:04d}/*.seg")) - 1
            )
    assert len(burnt) <= soak.killed["write"] + fenced, (
        f"{len(burnt)} gaps, {soak.killed} kills, {fenced} fenced"
    )
    assert all(len(gap) <= BATCH_ENTRIES_MAX * (soak.killed["write"] + fenced) for gap in burnt)
    assert removed > 0, "retention removed nothing: the soak shows nothing about it"
    count(
        acknowledged_entries=len(acknowledged), acknowledged_by_a_killed_append=unheard, writers=len(writers),
        deliveries=sum(map(Counter.total, deliveries)), delivered_again=sum(map(Counter.total, deliveries)) - 3 * len(entries),
        kills=soak.killed.total(), writers_killed=soak.killed["write"], consumers_killed=soak.killed["consume"],
        gaps=len(burnt), numbers_burnt=sum(map(len, burnt)), segments_removed=removed, entries_kept=kept,
        entries_removed=len(entries) - kept,
    )  # fmt: skip
