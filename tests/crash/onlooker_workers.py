"""Processes of the onlooker's tests: a writer that is killed or stopped at a step, a reader that may not write."""

import hashlib
import json
import sys
from pathlib import Path

import cometlog
from cometlog.reader import ShardReader
from support import KIB, SHARD, STREAM, make_config, payload
from workers import hear, say

SINGLES = 20
BATCH = 50


def append_for_ever(root: str, owner: int) -> None:
    """Append singles and batches, each told to the test after it returned; the environment says where this process ends."""
    client = cometlog.open(root, make_config(64 * KIB, 3_600_000))
    writer = client.writer(STREAM)
    sequence = 0
    while True:
        for _ in range(SINGLES):
            say([writer.append(payload(owner, sequence)), sequence])
            sequence += 1
        numbers = writer.extend([payload(owner, sequence + place, 100) for place in range(BATCH)])
        for number in numbers:
            say([number, sequence])
            sequence += 1


def digest(entries: list[cometlog.Entry]) -> str:
    return hashlib.sha256(repr([entry[1:] for entry in entries]).encode()).hexdigest()


def look(root: str, turns: int = 1) -> None:
    """Read everything in every way there is, once for each word from the test, with one client that may not write."""
    with cometlog.open(root, read_only=True) as client:
        for turn in range(turns):
            if turn:
                hear()
            entries = list(client.scan(STREAM))
            numbers = [entry.number for entry in entries]
            last = client.recent(STREAM, len(entries) + 1)
            assert [entry.number for entry in last] == numbers
            reader = ShardReader(Path(root) / SHARD, STREAM)
            report = reader.verify()
            middle = numbers[len(numbers) // 2] if numbers else 0
            from_middle = [entry.number for entry in client.scan(STREAM, middle)]
            assert from_middle == [number for number in numbers if number >= middle]
            say(
                {
                    "numbers": numbers,
                    "digest": digest(entries),
                    "count": client.entry_count(STREAM),
                    "verified": report.entries,
                    "blocked": report.blocked_at,
                    "next": client.next_entry(STREAM),
                }
            )
            reader.close()


if __name__ == "__main__":
    globals()[sys.argv[1]](**json.loads(sys.argv[2]))
