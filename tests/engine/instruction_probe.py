"""What runs under callgrind: ``count`` operations of one kind on the mmap path. The caller takes the difference of two counts."""

from __future__ import annotations

import gc
import sys

import cometlog
from cometlog.background import helper_of_this_process
from cometlog.kernel import layout
from support import MIB, STREAM, make_config, payload

BACKED_BYTES = 32 * MIB
READ_ENTRIES = 100
READS_MAX = 75


def main(kind: str, root: str, count: int) -> None:
    """Append ``count`` times, with the helper thread gone and everything backed, so that every append takes the short way."""
    client = cometlog.open(root, make_config(64 * MIB))
    writer = client.writer(STREAM)
    shard = client._write_path(STREAM).shard  # type: ignore[attr-defined]
    helper_of_this_process().stop()
    shard.watch.grow(BACKED_BYTES // layout.UNIT_BYTES)
    shard.watch.wake()
    entry = payload(0, 0, 117)
    batch = [payload(0, sequence, 117) for sequence in range(1000)]
    single = [entry]
    if kind.startswith("read"):
        read(client, kind, count)
        return
    operations = {
        "writer.append": lambda: writer.append(entry),
        "client.append": lambda: client.append(STREAM, single),
        "batch of 1000": lambda: writer.extend(batch),
    }
    operation = operations[kind]
    gc.collect()
    gc.disable()
    for _ in range(count):
        operation()


def read(client: cometlog.Client, kind: str, count: int) -> None:
    """Go on reading ``count`` times, one entry in each frame, where a read of the whole log has faulted everything in."""
    writer = client.writer(STREAM)
    entries = [payload(0, sequence, 117) for sequence in range(READS_MAX * READ_ENTRIES)]
    for entry in entries:
        writer.append(entry)
    assert client.read(STREAM, 0, len(entries)).payloads() == entries
    batch = client.read(STREAM, 0, READ_ENTRIES)
    gc.disable()
    for position in range(count):
        batch = client.read(STREAM, batch.next_entry, READ_ENTRIES)
        assert batch.start == (position + 1) * READ_ENTRIES
        if kind == "read as bytes":
            batch.payloads()
        elif kind == "read without a copy":
            batch.spans()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
