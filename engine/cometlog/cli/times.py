"""Moments as people write them, and the first entry that was appended since."""

import argparse
import re
import time
from datetime import UTC, datetime, timedelta

import cometlog
from cometlog.cli.arguments import duration_s


def moment_ns(text: str) -> int:
    """Read a moment, ns since 1970: ISO 8601 (local time where no zone is given), or a duration that has passed since."""
    if re.fullmatch(r"[0-9.]+[a-z]", text):
        return time.time_ns() - round(duration_s(text) * 1e9)
    try:
        since_epoch = datetime.fromisoformat(text).astimezone(UTC) - datetime.fromtimestamp(0, UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"a time is written like 2026-03-01T12:30, 2026-03-01T12:30:00Z or, for as long ago, 90s, 15m, 12h, 7d; got {text!r}"
        ) from None
    return since_epoch // timedelta(microseconds=1) * 1000


def first_since(client: cometlog.Client, stream: str, since_ns: int) -> int:
    """Return the number of the first entry appended at ``since_ns`` or later, or the next entry where there is none.

    A binary search: entries of writers that ran side by side may be out of order by as long as an append takes.
    """
    low, high = client.first_entry(stream), client.next_entry(stream)
    while low < high:
        middle = (low + high) // 2
        batch = client.read(stream, middle, 1)
        if not len(batch) or batch.timestamps_ns[0] >= since_ns:
            high = middle
        else:
            low = batch.next_entry
    return high
