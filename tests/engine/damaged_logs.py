"""A log to damage, the ways in which it is damaged with what each costs, and the command line run in this process."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cometlog
from cometlog.cli import main
from cometlog.kernel import layout
from cometlog.segment import byte_offset
from support import KIB, STREAM, make_config, payload, segment_files

CONFIG = make_config(64 * KIB, 3_600_000)
ENTRIES = 400
ENTRY_BYTES = 400
FRAME_UNITS = 53
OTHER = "events:v1:shard:0001"


def write_log(root: Path, entries: int = ENTRIES) -> None:
    """Three segments and a bit, left cleanly: everything lies below the durable mark."""
    with cometlog.open(root, CONFIG) as client:
        for sequence in range(entries):
            client.append(STREAM, [payload(0, sequence, ENTRY_BYTES)])
    assert len(segment_files(root)) == -(-entries // 144)


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Run the command line in this process; return exit code, standard output, standard error."""
    try:
        code = main([str(word) for word in words])
    except SystemExit as error:
        code = int(error.code or 0)
    said = capsys.readouterr()
    return code, said.out, said.err


def verify(capsys: pytest.CaptureFixture[str], root: Path, *words: str) -> tuple[int, dict[str, Any]]:
    code, out, _ = run(capsys, "verify", root, "--json", *words)
    return code, json.loads(out)


def flip(path: Path, offset: int, bits: int = 1) -> None:
    raw = bytearray(path.read_bytes())
    raw[offset] ^= bits
    path.write_bytes(raw)


def put_u64(path: Path, offset: int, value: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(value.to_bytes(8, "little"))


def frame_at(place: int) -> int:
    """Offset in its file of the ``place``-th frame of a segment."""
    return byte_offset(place * FRAME_UNITS)


def cut_file(root: Path) -> None:
    """Cut the last segment in the middle of its third frame."""
    path = segment_files(root)[-1]
    with path.open("r+b") as file:
        file.truncate(frame_at(2) + 80)


def lie_in_length(root: Path) -> None:
    """Have the 6th frame of the second segment claim a length that leads into the next frame's payload."""
    path = segment_files(root)[1]
    word = int.from_bytes(path.read_bytes()[frame_at(5) :][:8], "little")
    put_u64(path, frame_at(5), word + 20)


def wipe_tail(root: Path) -> None:
    path = segment_files(root)[1]
    put_u64(path, layout.SEGMENT_TAIL, 0)


def wipe_header(root: Path, position: int) -> None:
    with segment_files(root)[position].open("r+b") as file:
        file.write(bytes(layout.SEGMENT_HEADER_BYTES))


def zero_from(root: Path, position: int, place: int) -> None:
    """Overwrite everything from a frame of a segment on with zeros, as a lost extent reads."""
    path = segment_files(root)[position]
    with path.open("r+b") as file:
        length = file.seek(0, 2) - frame_at(place)
        file.seek(frame_at(place))
        file.write(bytes(length))


# Name: (what is done, file by position, offset, numbers that are lost)
DAMAGES: dict[str, tuple[Callable[[Path], object], int | None, int | None, list[int]]] = {
    "payload": (
        lambda root: flip(segment_files(root)[1], frame_at(5) + 100),
        1,
        frame_at(5),
        [149],
    ),
    "checksum": (
        lambda root: flip(segment_files(root)[0], frame_at(0) + layout.FRAME_CHECKSUM),
        0,
        frame_at(0),
        [0],
    ),
    "meta": (
        lambda root: flip(segment_files(root)[0], frame_at(7) + layout.FRAME_META, 2),
        0,
        frame_at(7),
        [7],
    ),
    "kind": (lambda root: flip(segment_files(root)[0], frame_at(143) + 3, 0x20), 0, frame_at(143), [143]),
    "length": (lie_in_length, 1, frame_at(5), [149]),
    "word wiped": (
        lambda root: put_u64(segment_files(root)[1], frame_at(9), 0),
        1,
        frame_at(9),
        [153],
    ),
    "last frame": (
        lambda root: flip(segment_files(root)[-1], frame_at(111) + 50),
        -1,
        frame_at(111),
        [399],
    ),
    "header": (lambda root: flip(segment_files(root)[1], layout.SEGMENT_MAGIC), 1, 0, []),
    "header of the last": (
        lambda root: flip(segment_files(root)[-1], layout.SEGMENT_CAPACITY + 6),
        -1,
        layout.SEGMENT_CHECKSUM,
        [],
    ),
    "uuid in the header": (
        lambda root: flip(segment_files(root)[1], layout.SEGMENT_UUID + 3),
        1,
        layout.SEGMENT_CHECKSUM,
        [],
    ),
    "header page wiped": (lambda root: wipe_header(root, 1), 1, 0, []),
    "header page of the first wiped": (lambda root: wipe_header(root, 0), 0, 0, []),
    "header page of the last wiped": (lambda root: wipe_header(root, -1), -1, 0, list(range(288, 400))),
    "segment missing": (
        lambda root: segment_files(root)[1].unlink(),
        None,
        layout.SEGMENT_PREVIOUS_UUID,
        list(range(144, 288)),
    ),
    "tail wiped": (wipe_tail, 1, layout.SEGMENT_TAIL, []),
    "file cut": (cut_file, -1, layout.SEGMENT_TAIL, list(range(290, 400))),
    "end of a middle one zeroed": (
        lambda root: zero_from(root, 1, 100),
        1,
        frame_at(100),
        list(range(244, 288)),
    ),
}


def lost_numbers(report: dict[str, Any]) -> list[int]:
    ranges = [
        damage["lost"] for stream in report["streams"] for damage in stream["damages"] if damage["lost"]
    ]
    return [number for first, last in ranges for number in range(first, last + 1)]
