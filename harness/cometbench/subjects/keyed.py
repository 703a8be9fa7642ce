"""What key-value stores share: entries under ascending 8-byte keys, and reading them back in order."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import islice

from cometbench.subjects.contract import Chunk

KEY = struct.Struct(">Q")
_CHUNK_ENTRIES = 10_000


def keyed(first: int, entries: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Return `entries` with their keys, from number `first` on."""
    return [(KEY.pack(number), entry) for number, entry in enumerate(entries, first)]


def chunks(pairs: Iterable[tuple[bytes, bytes]]) -> Iterator[Chunk]:
    """Yield the pairs of a store, in the order of their keys, as chunks of entries."""
    rest = iter(pairs)
    while found := list(islice(rest, _CHUNK_ENTRIES)):
        first, last = KEY.unpack(found[0][0])[0], KEY.unpack(found[-1][0])[0]
        yield Chunk(range(first, last + 1), [entry for _, entry in found])
