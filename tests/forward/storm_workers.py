"""The process that writes the log of a storm: it appends what it is asked for, in entries that say which they are."""

import json
import sys
import time
from pathlib import Path

import cometlog
from cometlog import Config
from support import payload
from workers import hear, say

ENTRY_BYTES = 117
_APPEND_ENTRIES = 25


def write(root: str, streams: list[str]) -> None:
    """Append as many entries as each line asks for, spread over the streams and over so many seconds; answer with the next numbers.

    A line is ``[entries, seconds]``. Entry ``n`` of shard ``s`` is ``payload(s, n, ENTRY_BYTES)``. Ends with its input.
    """
    config = Config.default().with_changes(storage={"segment_size_bytes": 16 << 20})
    with cometlog.open(Path(root), config) as client:
        writers = [client.writer(stream) for stream in streams]
        following = [client.next_entry(stream) for stream in streams]
        say(following)
        while (asked := hear()) is not None:
            entries, seconds = asked
            began, done = time.monotonic(), 0
            while done < entries:
                shard = min(range(len(streams)), key=following.__getitem__)
                count = min(_APPEND_ENTRIES, entries - done)
                first = following[shard]
                numbers = writers[shard].extend(
                    [payload(shard, number, ENTRY_BYTES) for number in range(first, first + count)]
                )
                assert numbers == range(first, first + count), (
                    f"{streams[shard]}: {numbers}, not from {first}"
                )
                following[shard], done = first + count, done + count
                time.sleep(max(0.0, began + seconds * done / entries - time.monotonic()))
            say(following)


if __name__ == "__main__":
    globals()[sys.argv[1]](**json.loads(sys.argv[2]))
