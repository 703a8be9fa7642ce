"""What worker processes of the tests of statistics and health do; see ``workers.py``."""

import json
import sys

import cometlog
from support import STREAM, make_config, payload
from workers import hear, say


def append_counted(root: str, write_path: str, singles: int, batches: int, batch_entries: int) -> None:
    """Append so many singles and batches behind a barrier, and stay attached until told to leave."""
    client = cometlog.open(root, make_config(), write_path=write_path)
    writer = client.writer(STREAM)
    batch = [payload(2, position) for position in range(batch_entries)]
    say("ready")
    hear()
    for sequence in range(singles):
        writer.append(payload(1, sequence))
    for _ in range(batches):
        writer.extend(batch)
    say("appended")
    hear()
    client.close()
    say("left")


def append_and_tell(root: str, write_path: str) -> None:
    """Append singles until killed; each line is how many returned."""
    writer = cometlog.open(root, make_config(), write_path=write_path).writer(STREAM)
    say("ready")
    hear()
    count = 0
    while True:
        writer.append(payload(1, count, 16))
        count += 1
        if count % 50 == 0:
            say(count)


def work(root: str, kind: str) -> None:
    """Append in one way until killed."""
    compression = {"threshold_bytes": 1 if kind == "compress small entries" else 1 << 30}
    client = cometlog.open(root, make_config(compression=compression))
    writer = client.writer(STREAM)
    entry = payload(1, 1, 400 if kind == "compress small entries" else 16)
    writer.append(entry)
    say("ready")
    hear()
    while kind in ("append singles", "compress small entries"):
        writer.append(entry)
    while kind == "sync each append":
        writer.append(entry)
        client.sync(STREAM)
    hear()  # idle


if __name__ == "__main__":
    globals()[sys.argv[1]](**json.loads(sys.argv[2]))
