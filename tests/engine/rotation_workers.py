"""What worker processes do that follow segments which others fill; see ``workers.py``."""

import json
import sys

from support import KIB, STREAM, payload
from workers import open_log, say


def append_between_syncs(root: str, owner: int, turns: int, syncs: int, batch_entries: int) -> None:
    """Append batches with syncs between them, which let go of the segments that others have filled meanwhile."""
    with open_log(root, segment_size_bytes=64 * KIB) as client:
        writer = client.writer(STREAM)
        for turn in range(turns):
            for _ in range(syncs):
                client.sync(STREAM)
            first = turn * batch_entries
            writer.extend([payload(owner, first + position) for position in range(batch_entries)])
    say("done")


if __name__ == "__main__":
    globals()[sys.argv[1]](**json.loads(sys.argv[2]))
