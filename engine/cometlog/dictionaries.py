"""Trained zstd dictionaries, stored beside the segments whose frames need them. Format: FORMAT.md, "A dictionary".

Thread safety: a dictionary file appears complete and durable under its final name and never changes, so readers take no lock.
Invariant: a dictionary is on stable storage before a frame is compressed with it.
"""

import os
import re
import struct
from pathlib import Path

from cometlog.errors import CorruptionError
from cometlog.files import open_checked, sync_directory
from cometlog.fixed_file import create_fixed_file
from cometlog.kernel import layout
from cometlog.kernel.checksum import crc32c

ID_FIRST = 32768
"""The lowest id that zstd leaves to private use."""
DICTIONARY_BYTES_MAX = 16 << 20
_NAME = re.compile(r"dictionary-([0-9]{10})\.zdict")
_HEADER = struct.Struct("<8sIII")
_ID_OFFSET = 4  # in zstd's own format: magic, then the id


def _path(directory: Path, dictionary_id: int) -> Path:
    return directory / f"dictionary-{dictionary_id:010d}.zdict"


def list_dictionaries(directory: Path) -> list[int]:
    """Return the ids of a shard's dictionaries, the newest last."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return sorted(int(match[1]) for match in map(_NAME.fullmatch, names) if match)


def store_dictionary(directory: Path, trained: bytes, file_mode: int) -> int:
    """Give a trained dictionary the next id of the shard, make it durable, and return the id."""
    while True:
        dictionary_id = max([ID_FIRST - 1, *list_dictionaries(directory)]) + 1
        data = trained[:_ID_OFFSET] + struct.pack("<I", dictionary_id) + trained[_ID_OFFSET + 4 :]
        head = _HEADER.pack(layout.DICTIONARY_MAGIC_BYTES, layout.FORMAT_VERSION, len(data), crc32c(data))
        path = _path(directory, dictionary_id)
        create_fixed_file(path, head + data, len(head) + len(data), file_mode, durable=True)
        sync_directory(directory)
        if load_dictionary(directory, dictionary_id) == data:
            return dictionary_id


def load_dictionary(directory: Path, dictionary_id: int) -> bytes:
    """Return a dictionary; raises FileNotFoundError where it is missing, CorruptionError where it is not what was stored."""
    path = _path(directory, dictionary_id)
    fd = open_checked(path, os.O_RDONLY)
    with os.fdopen(fd, "rb") as file:
        raw = file.read(_HEADER.size + DICTIONARY_BYTES_MAX + 1)
    if len(raw) < _HEADER.size:
        raise CorruptionError(f"dictionary has {len(raw)} bytes", file=str(path), offset=0)
    magic, version, length, checksum = _HEADER.unpack_from(raw)
    data = raw[_HEADER.size :]
    if magic != layout.DICTIONARY_MAGIC_BYTES or version != layout.FORMAT_VERSION or length != len(data):
        raise CorruptionError(
            f"dictionary header states magic {magic!r}, format {version}, {length} bytes; {len(data)} follow",
            file=str(path), offset=0,
        )  # fmt: skip
    if checksum != crc32c(data):
        raise CorruptionError("dictionary checksum does not match", file=str(path), offset=_HEADER.size)
    return data
