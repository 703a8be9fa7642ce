"""What the processes of the soak write down, in files that survive their death: what was appended, what was handed over.

An entry says who wrote it and which of his it is, and carries a checksum over that and its bytes. A journal is records of one size,
appended by single writes: whoever was killed in the middle leaves a torn last record, which is none.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_HEAD = struct.Struct(">QQI")
_RECORD = struct.Struct(">QQQQ")
ENTRY_BYTES_MIN = 100
ENTRY_BYTES_MAX = 50_000
_TEXT = b'{"service": "checkout", "status": "ok", "customer": 4711}, ' * 1000


class Record(NamedTuple):
    """Entry ``number`` of a shard is the ``sequence``-th of a writer."""

    shard: int
    number: int
    writer: int
    sequence: int


def make_entry(writer: int, sequence: int, length: int, noise: bytes) -> bytes:
    """Return an entry of ``length`` bytes; every second one cannot be compressed."""
    body = (noise if sequence % 2 else _TEXT)[sequence % 64 :][: length - _HEAD.size]
    checksum = zlib.crc32(body, zlib.crc32(b"%d %d" % (writer, sequence)))
    return _HEAD.pack(writer, sequence, checksum) + body


def identify(data: bytes) -> tuple[int, int]:
    """Return writer and sequence of an entry, having checked every byte of it."""
    writer, sequence, checksum = _HEAD.unpack_from(data)
    found = zlib.crc32(data[_HEAD.size :], zlib.crc32(b"%d %d" % (writer, sequence)))
    assert found == checksum, f"an entry that says to be {sequence} of writer {writer} was altered"
    return writer, sequence


class Journal:
    """Appends records to a file of this process's own."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL, 0o600)

    def write(self, records: list[Record]) -> None:
        """Write records down, all with one call."""
        os.write(self._fd, b"".join(_RECORD.pack(*record) for record in records))


def read_journal(path: Path) -> Iterator[Record]:
    """Yield the whole records of a journal."""
    raw = path.read_bytes()
    whole = len(raw) - len(raw) % _RECORD.size
    return map(Record._make, _RECORD.iter_unpack(raw[:whole]))
