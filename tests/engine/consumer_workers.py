"""What worker processes of the consumers' tests do; see ``workers.py``."""

import json
import random
import signal
import sys
import time

import cometlog
from support import KIB, STREAM, make_config, payload
from workers import hear, open_log, say


def make_groups(root: str, count: int) -> None:
    """Make the same groups as others do, at the same time, in an order of this process's own."""
    client = open_log(root)
    names = [f"g{index}" for index in range(count)]
    random.shuffle(names)
    say("ready")
    hear()
    for name in names:
        client.consumer(name).lag(STREAM)
    client.close()
    say("made")


def consume_and_acknowledge(root: str, group: str, batch_size: int) -> None:
    """Process a group until killed; each line is a batch: its numbers, and what its entries say."""
    consumer = open_log(root).consumer(group)
    say("ready")
    consumer.process(
        lambda batch: say([[entry.number, entry.data.hex()] for entry in batch]),
        STREAM,
        batch_size=batch_size,
    )


def consume_until_terminated(root: str, group: str) -> None:
    """Process a group until SIGTERM."""
    with open_log(root) as client:
        consumer = client.consumer(group)
        signal.signal(signal.SIGTERM, lambda *_: consumer.stop())
        say("ready")
        consumer.process(
            lambda batch: say([entry.number for entry in batch]), STREAM, batch_size=100, poll_interval=60.0
        )
    say("stopped")


def consume_share(root: str, worker: int, workers: int, entries: int) -> None:
    """Process this worker's share of the shards until it was handed so many entries; say what came from which stream."""
    seen: dict[str, list[int]] = {}
    with open_log(root) as client, client.consumer("g") as consumer:

        def handle(batch: cometlog.ReadBatch) -> None:
            seen.setdefault(batch.stream, []).extend(batch.numbers)
            if sum(map(len, seen.values())) == entries:
                consumer.stop()

        say("ready")
        hear()
        consumer.process(handle, "events:v1:shard:*", batch_size=7, assignment=(worker, workers))
    say(dict(sorted(seen.items())))


def append_to_shards(root: str, streams: list[str], entries: int) -> None:
    """Append a batch to each of some streams."""
    with open_log(root) as client:
        for stream in streams:
            client.append(stream, [b"%d" % number for number in range(entries)])


def fail_until_terminated(root: str) -> None:
    """Process with a handler that fails, with an hour between two tries, until SIGTERM."""
    with open_log(root) as client, client.consumer("g") as consumer:
        signal.signal(signal.SIGTERM, lambda *_: consumer.stop())

        def fail(batch: cometlog.ReadBatch) -> None:
            say("failing")
            raise RuntimeError("no")

        consumer.process(fail, STREAM, retry_delay=3600.0)
    say("stopped")


def retain_to_a_total(root: str, max_total_bytes: int) -> None:
    """Retain the whole log at the same moment as others do, again and again; say how often and what went."""
    limits = {"max_total_bytes": max_total_bytes, "min_segments": 1, "interval_s": 0.0}
    with open_log(root, segment_size_bytes=64 * KIB, retention=limits) as client:
        for stream in client.streams():
            client.writer(stream)
        say("ready")
        hear()
        removed = [[item.stream, item.number, item.size_bytes] for item in client.retain()]
    say(removed)


def sleep_until_appended(root: str, sleep_s: float) -> None:
    """Wait for a new entry; say how long it took and which it was. Attaches to no shard as a writer."""
    with cometlog.open(root, make_config()) as client:
        consumer = client.consumer("sleeper", start="next")
        consumer.lag(STREAM)
        say("asleep soon")
        started = time.monotonic()
        found = [entry.number for entry in next(iter(consumer.batches(STREAM, wait_s=sleep_s)))]
        say([time.monotonic() - started, found])


def append_and_retain(root: str, write_path: str, owner: int, entries: int) -> None:
    """Append singles, retaining after every tenth; say which numbers they got and which segments this process removed."""
    limits = {"max_shard_bytes": 1, "interval_s": 0.0}
    client = open_log(root, write_path, segment_size_bytes=64 * KIB, retention=limits)
    writer = client.writer(STREAM)
    say("ready")
    hear()
    numbers, removed = [], []
    for sequence in range(entries):
        numbers.append(writer.append(payload(owner, sequence, 4000)))
        if sequence % 10 == 9:
            removed += [item.number for item in client.retain()]
    client.close()
    say([numbers, removed])


if __name__ == "__main__":
    globals()[sys.argv[1]](**json.loads(sys.argv[2]))
