"""Processes of the soak: writers and consumers that are killed and replaced. Each writes down what it did before it goes on."""

import json
import random
import signal
import sys
import time
from pathlib import Path

import cometlog
from soak_journal import ENTRY_BYTES_MAX, ENTRY_BYTES_MIN, Journal, Record, identify, make_entry
from support import MIB
from workers import hear, say

SHARDS = cometlog.all_shard_streams("soak", "v1", 8)
BATCH_ENTRIES_MAX = 100
PAUSE_S_MAX = 0.01
"""Longest pause of a writer between two batches; it decides how much the log grows, nothing is asserted about it."""


def config() -> cometlog.Config:
    """Segments that just take the largest batch, and a retention that removes whatever every group has acknowledged."""
    return cometlog.Config.default().with_changes(
        storage={"segment_size_bytes": 11 * MIB},
        retention={"max_shard_bytes": 1, "min_segments": 1, "interval_s": 0.1},
    )


def write(root: str, journal: str, writer: int, seed: int) -> None:
    """Append batches to shards at random until SIGTERM, retaining in the background; an append is written down after it returned."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    rng = random.Random(seed)
    noise = rng.randbytes(ENTRY_BYTES_MAX + 64)
    acknowledged = Journal(Path(journal))
    with cometlog.open(root, config()) as client:
        say("ready")
        hear()
        sequence = 0
        while not stopped:
            shard = rng.choice(
                [0, rng.randrange(len(SHARDS))]
            )  # one shard has more than all others: it rotates often
            lengths = [
                int(ENTRY_BYTES_MIN * (ENTRY_BYTES_MAX / ENTRY_BYTES_MIN) ** rng.random())
                for _ in range(rng.randint(1, BATCH_ENTRIES_MAX))
            ]
            sequences = range(sequence, sequence + len(lengths))
            batch = [
                make_entry(writer, own, length, noise) for own, length in zip(sequences, lengths, strict=True)
            ]
            sequence = sequences.stop
            numbers = client.append(SHARDS[shard], batch)
            acknowledged.write(
                [Record(shard, number, writer, own) for number, own in zip(numbers, sequences, strict=True)]
            )
            time.sleep(rng.uniform(0, PAUSE_S_MAX))


def consume(root: str, journal: str, group: str, worker: int, workers: int) -> None:
    """Process a group's part of the shards until SIGTERM; a batch is checked and written down before it is acknowledged."""
    delivered = Journal(Path(journal))

    def hand_over(batch: cometlog.ReadBatch) -> None:
        shard = SHARDS.index(batch.stream)
        delivered.write([Record(shard, entry.number, *identify(entry.data)) for entry in batch.each()])
        batch.check()  # takes a while: kills also fall between the handing over and its acknowledgement

    with cometlog.open(root, config()) as client, client.consumer(group) as consumer:
        signal.signal(signal.SIGTERM, lambda *_: consumer.stop())
        say("ready")
        hear()
        consumer.process(hand_over, "soak:*", batch_size=200, assignment=(worker, workers))


if __name__ == "__main__":
    globals()[sys.argv[1]](**json.loads(sys.argv[2]))
