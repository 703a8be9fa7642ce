"""FORMAT.md against the kernel: every name and value in its tables; its worked example is read."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from cometlog.kernel import layout
from cometlog.reader import ShardReader
from cometlog.reference import SegmentImage, walk
from cometlog.segment import Segment, SegmentName

DOCUMENT = (Path(__file__).parents[2] / "engine" / "FORMAT.md").read_text()
GOLDEN = Path(__file__).parents[1] / "golden" / "format-1"
ROW = re.compile(r"^\| `([A-Z_]+)` \| (\d+) \|(?: (\d*) \|)?.*\|$", re.MULTILINE)
FIELD_GROUPS = (
    "SEGMENT",
    "FRAME",
    "MARK",
    "INDEX",
    "BOUNDARY",
    "CONTROL",
    "SLOT",
    "OFFSETS",
    "GROUP",
    "STATISTICS",
    "HISTOGRAM",
)
NOT_FIELDS = re.compile(r".*_(HEADER|SIZE|STRIDE|MAGIC)_BYTES|GROUP_NAME_BYTES_MAX")


def documented() -> dict[str, tuple[int, int | None]]:
    """Names in the tables with (value, size in bytes where the table gives one)."""
    return {name: (int(value), int(size) if size else None) for name, value, size in ROW.findall(DOCUMENT)}


def test_every_field_kind_and_codec_of_the_kernel_is_documented_with_its_value() -> None:
    wanted = re.compile(rf"({'|'.join(FIELD_GROUPS)}|KIND|CODEC)_")
    names = [name for name in dir(layout) if wanted.match(name) and not NOT_FIELDS.fullmatch(name)]
    in_kernel = {
        name: getattr(layout, name)
        for name in names
        if name not in {"KIND_FREE", "SLOT_COUNT", "GROUP_COUNT"}
    }
    assert {name: value for name, (value, _) in documented().items()} == in_kernel
    assert len(in_kernel) == 111


@pytest.mark.parametrize("group", FIELD_GROUPS)
def test_fields_of_a_table_do_not_overlap(group: str) -> None:
    fields = sorted(
        (offset, size, name) for name, (offset, size) in documented().items() if name.startswith(group + "_")
    )
    for (offset, size, name), (following, _, _) in pairwise(fields):
        assert size, name
        assert offset + size <= following, name


def test_sizes_in_the_text_are_those_of_the_kernel() -> None:
    assert f"A **unit** is {layout.UNIT_BYTES} bytes" in DOCUMENT
    assert (
        f"Records start at byte {layout.INDEX_HEADER_BYTES} and are {layout.BOUNDARY_SIZE_BYTES} bytes"
        in DOCUMENT
    )
    assert f"at byte 0 and {layout.MARK_SLOT_STRIDE_BYTES}" in DOCUMENT
    assert (
        f"| `CONTROL_SLOTS` | 4096 | {layout.SLOT_COUNT * layout.SLOT_SIZE_BYTES} | {layout.SLOT_COUNT} slots"
        in DOCUMENT
    )
    assert "bytes (offsets included) <= min(capacity in bytes / 2, 128 MiB)" in DOCUMENT
    assert layout.MAX_BATCH_BYTES == 128 << 20


def test_magics_in_the_document_are_those_of_the_kernel() -> None:
    for table, magic in (
        ("SEGMENT_MAGIC", layout.SEGMENT_MAGIC_BYTES),
        ("INDEX_MAGIC", layout.INDEX_MAGIC_BYTES),
        ("CONTROL_MAGIC", layout.CONTROL_MAGIC_BYTES),
        ("STATISTICS_MAGIC", layout.STATISTICS_MAGIC_BYTES),
    ):
        assert re.search(rf"\| `{table}` \| 0 \| 8 \| `{magic.decode()}` \|", DOCUMENT)


def worked_example() -> bytes:
    """Return the file that the hex dump shows."""
    dump = re.search(r"```hexdump\n(.*?)```", DOCUMENT, re.DOTALL)
    assert dump
    image = bytearray()
    for line in dump[1].splitlines():
        offset, shown = int(line[:8], 16), bytes.fromhex(line[8:60].split("|")[0])
        image += bytes(offset - len(image)) + shown
    return bytes(image)


def test_worked_example_is_what_the_reference_encodes() -> None:
    image = SegmentImage(number=1, base=100, created_ns=1_700_000_000_000_000_000)
    image.append([b"hello"], 1_700_000_000_000_000_001)
    image.append([b"a", b"", b"bcd"], 1_700_000_000_000_000_002)
    image.pad(4, 2)
    image.append([b"after"], 1_700_000_000_000_000_003)
    assert worked_example() == image.image()


def test_worked_example_is_read_by_the_reader(tmp_path: Path) -> None:
    path = tmp_path / SegmentName(1, 100).file_name
    path.write_bytes(worked_example())
    batch = ShardReader(tmp_path, "example:v1:shard:0000").read()
    assert [
        (entry.number, entry.timestamp_ns - 1_700_000_000_000_000_000, entry.data) for entry in batch
    ] == [
        (100, 1, b"hello"),
        (101, 2, b"a"),
        (102, 2, b""),
        (103, 2, b"bcd"),
        (106, 3, b"after"),
    ]
    header = Segment(path, writable=False).header
    assert (header.number, header.base, header.capacity_units, header.uuid) == (
        1,
        100,
        4096,
        bytes(range(16)),
    )


def test_explanations_quote_the_bytes_of_the_dump() -> None:
    section = DOCUMENT[DOCUMENT.index("## Worked example") :]
    quotes = re.findall(r"^\| 0x([0-9a-f]{4}) \| `([0-9a-f ]+)` \|", section, re.MULTILINE)
    assert len(quotes) == 13
    example = worked_example()
    for offset, quoted in quotes:
        shown = bytes.fromhex(quoted)
        assert example[int(offset, 16) :].startswith(shown), offset


def golden_entries() -> list[tuple[int, int, bytes]]:
    rows = [line.split() for line in (GOLDEN / "entries.txt").read_text().splitlines()]
    return [
        (int(number), int(timestamp_ns), b"" if data == "-" else bytes.fromhex(data))
        for number, timestamp_ns, data in rows
    ]


def test_golden_segments_of_format_1_still_read() -> None:
    reader = ShardReader(GOLDEN, "golden:v1:shard:0001")
    expected = golden_entries()
    assert len(expected) == 12
    assert [entry[1:] for entry in reader.read(0, 100)] == expected
    assert [reader.read(number, 1)[0][1:] for number, *_ in reversed(expected)] == expected[::-1]
    assert (reader.entry_count(), reader.next_entry(), reader.verify().frames) == (12, 21, 6)


def test_golden_segments_are_walked_by_the_reference() -> None:
    counts = [
        [(batch.first_index, batch.entries, batch.codec) for batch in walk(path.read_bytes()).batches]
        for path in sorted(GOLDEN.glob("*.seg"))
    ]
    assert counts == [
        [(0, 1, 0), (1, 3, 0), (8, 4, layout.CODEC_ZSTD), (12, 1, 0)],
        [(0, 1, 0), (1, 2, 0)],
    ]
