"""The idempotency key of an entry, as text: ``LOG/STREAM/EPOCH/NUMBER``, such as ``5f0c9a3be1d2/events:v1:shard:0003/1/1042``."""

import re
from typing import NamedTuple

_KEY = re.compile(r"([0-9a-f]+/[^/]+)/([0-9]+)/([0-9]+)")


class EntryKey(NamedTuple):
    """What a key says: ``origin`` is the log's identity and the stream, with a slash between them."""

    origin: str
    epoch: int
    number: int

    @property
    def stream(self) -> str:
        """The name of the stream that the entry is of."""
        return self.origin.partition("/")[2]


def parse_key(text: str) -> EntryKey | None:
    """Return what a key says, or None for a text that is none."""
    match = _KEY.fullmatch(text)
    return EntryKey(match[1], int(match[2]), int(match[3])) if match else None
