"""Batches that say what they are, and the lines in which writers of the kill suites tell the oracle what was acknowledged.

Every byte of a batch follows from its writer and its index, so whoever reads an entry knows what it must be. A writer appends its
batches in order and sends one line after each append that returned; what it sent and was not acknowledged is at most its next batch.
"""

import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

_HEAD = struct.Struct("<IIHHI")
_SIZES = (1, 1, 1, 2, 1, 3, 1, 7, 1, 1, 20, 50)
_LENGTHS = (16, 40, 117, 117, 700, 2000)
_BATCH_BYTES_MAX = 24 * 1024


class EntryId(NamedTuple):
    """Who wrote an entry: writer, which of its batches, where in the batch, how many the batch has."""

    owner: int
    batch: int
    position: int
    size: int


def _entry(owner: int, batch: int, position: int, size: int, length: int) -> bytes:
    head = _HEAD.pack(owner, batch, position, size, length)
    return (head * (length // len(head) + 1))[:length]


def _shape(owner: int, batch: int) -> tuple[int, int]:
    """Size and entry length of a batch, spread evenly over the tables."""
    spread = zlib.crc32(struct.pack("<II", owner, batch))
    size, length = _SIZES[spread % len(_SIZES)], _LENGTHS[spread // 16 % len(_LENGTHS)]
    return size, max(16, min(length, _BATCH_BYTES_MAX // size))


def batch_of(owner: int, batch: int) -> list[bytes]:
    """Return the entries of a batch."""
    size, length = _shape(owner, batch)
    return [_entry(owner, batch, position, size, length) for position in range(size)]


def id_of(data: bytes) -> EntryId:
    """Say what an entry is, having checked every byte of it."""
    assert len(data) >= _HEAD.size, f"an entry of {len(data)} bytes was sent by nobody"
    owner, batch, position, size, length = _HEAD.unpack_from(data)
    assert (size, length) == _shape(owner, batch), f"no writer sent an entry that begins {data[:16].hex()}"
    assert position < size, f"no writer sent an entry that begins {data[:16].hex()}"
    assert data == _entry(owner, batch, position, size, length), f"entry {data[:16].hex()} is damaged"
    return EntryId(owner, batch, position, size)


def acknowledgement(owner: int, batch: int, numbers: Sequence[int]) -> bytes:
    """Return the line for an append that returned; short enough for a pipe to take it whole."""
    return f"{owner} {batch} {' '.join(map(str, numbers))}\n".encode()
