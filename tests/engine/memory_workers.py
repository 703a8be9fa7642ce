"""What the measured processes of the memory tests do; see ``workers.py``."""

import json
import random
import sys
from pathlib import Path

import cometlog
from support import KIB
from workers import hear, say

SHARDS = cometlog.all_shard_streams("events", "v1", 16)
IDLE_SHARDS = cometlog.all_shard_streams("idle", "v1", 256)


def anonymous_bytes() -> int:
    """Bytes of memory of this process that no file backs."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) * KIB


def event(rng: random.Random) -> bytes:
    """About 800 bytes of JSON, as the guide's logs."""
    fields = {f"field_{name}": f"{rng.getrandbits(64):016x} of service {name % 3}" for name in range(16)}
    return json.dumps({"time": rng.random(), "level": "INFO", "message": "order created"} | fields).encode()


def deploy_typically(root: str, seed: int) -> None:
    """Write 16 shards with compression, single entries and batches up to more than 1 MiB; read all by one group; say what it took."""
    rng = random.Random(seed)
    events = [event(rng) for _ in range(2000)]
    before = anonymous_bytes()
    config = cometlog.Config.high_compression()
    with cometlog.open(root, config) as client, client.consumer("group") as consumer:
        seen = 0

        def handle(batch: cometlog.ReadBatch) -> None:
            nonlocal seen
            seen += sum(1 for _ in batch.each())
            if seen == appended:
                consumer.stop()

        appended = 0
        for _ in range(3):
            for stream in SHARDS:
                client.append(stream, events)
                for start in range(0, 2000, 100):
                    client.append(stream, events[start : start + 100])
                writer = client.writer(stream)
                for entry in events[:100]:
                    writer.append(entry)
                appended += 4100
            consumer.process(handle, "events:*", batch_size=1000)
        assert sum(client.entry_count(stream) for stream in SHARDS) == appended == seen
        assert all(consumer.lag(stream) == 0 for stream in SHARDS)
        say([appended, sum(map(len, events)) // len(events), before, anonymous_bytes()])


def hold_idle_shards(root: str) -> None:
    """Write one entry to each of many shards, acknowledge it for one group, and stay until told to close."""
    with cometlog.open(root) as client, client.consumer("group") as consumer:
        for stream in IDLE_SHARDS:
            client.append(stream, [b"once"])
            consumer.ack(stream, 0)
        say(len(client.streams()))
        hear()
    say("closed")


if __name__ == "__main__":
    globals()[sys.argv[1]](**json.loads(sys.argv[2]))
