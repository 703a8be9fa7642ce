"""The on-disk format in the plainest Python: a specification that runs, and the oracle for the kernel.

Nothing here is fast and nothing else of the engine is used, save the constants of ``kernel.layout``.
FORMAT.md draws the fields.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise

from cometlog.kernel import layout

_GENERATOR_REFLECTED = 0x82F63B78


def _shift_byte(state: int) -> int:
    for _ in range(8):
        state = state >> 1 ^ (_GENERATOR_REFLECTED if state & 1 else 0)
    return state


_SHIFTED = [_shift_byte(byte) for byte in range(256)]


def crc32c(data: bytes, state: int = 0) -> int:
    """Return the CRC32C (Castagnoli) of ``data``; ``state`` is that of the bytes before."""
    state ^= 0xFFFFFFFF
    for byte in data:
        state = state >> 8 ^ _SHIFTED[(state ^ byte) & 0xFF]
    return state ^ 0xFFFFFFFF


def u32(value: int) -> bytes:
    """Return four bytes, little-endian."""
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    """Return eight bytes, little-endian."""
    return struct.pack("<Q", value)


def make_word(kind: int, units: int, upper: int) -> int:
    """Return a control word; ``upper`` is the first entry index, or the checksum of a PAD or SEAL."""
    return upper << layout.WORD_INDEX_SHIFT | kind << layout.WORD_KIND_SHIFT | units


def make_tail(entries: int, units: int, sealed: bool) -> int:
    """Return a tail word."""
    return entries << layout.TAIL_ENTRIES_SHIFT | (layout.TAIL_SEALED if sealed else 0) | units


# ---- Encoding ----


def encode_batch(entries: Sequence[bytes]) -> bytes:
    """Return the uncompressed payload of a batch: offsets, then bytes; a single entry is just its bytes."""
    if len(entries) == 1:
        return entries[0]
    offsets = [0]
    for entry in entries:
        offsets.append(offsets[-1] + len(entry))
    return struct.pack(f"<{len(offsets)}i", *offsets) + b"".join(entries)


def frame_checksum(*, uuid: bytes, payload: bytes, unit: int, word: int, timestamp_ns: int, meta: int) -> int:
    """Return the checksum of a DATA frame."""
    return crc32c(uuid + payload + u64(unit) + u64(word) + u64(timestamp_ns) + u32(meta))


def encode_frame(
    uuid: bytes,
    unit: int,
    first_index: int,
    entries: Sequence[bytes],
    timestamp_ns: int,
    *,
    codec: int = layout.CODEC_NONE,
    stored_payload: bytes | None = None,
) -> bytes:
    """Return a DATA frame for ``unit``; ``stored_payload`` is the batch as compressed by ``codec``."""
    payload = encode_batch(entries) if stored_payload is None else stored_payload
    pad_bytes = -(layout.FRAME_HEADER_BYTES + len(payload)) % layout.UNIT_BYTES
    units = (layout.FRAME_HEADER_BYTES + len(payload) + pad_bytes) // layout.UNIT_BYTES
    word = make_word(layout.KIND_DATA, units, first_index)
    meta = pad_bytes << layout.META_PAD_SHIFT | codec << layout.META_CODEC_SHIFT | len(entries)
    checksum = frame_checksum(
        uuid=uuid, payload=payload, unit=unit, word=word, timestamp_ns=timestamp_ns, meta=meta
    )
    return u64(word) + u32(checksum) + u32(meta) + u64(timestamp_ns) + payload + bytes(pad_bytes)


def _encode_marker(uuid: bytes, unit: int, kind: int, units: int) -> bytes:
    low = make_word(kind, units, 0)
    return u64(low | crc32c(uuid + u64(unit) + u32(low)) << layout.WORD_INDEX_SHIFT)


def encode_pad(uuid: bytes, unit: int, units: int) -> bytes:
    """Return the word of a PAD over ``units`` units; the bytes behind it stay what they are."""
    return _encode_marker(uuid, unit, layout.KIND_PAD, units)


def encode_seal(uuid: bytes, unit: int) -> bytes:
    """Return the word of a SEAL; its length is 0, because nothing follows."""
    return _encode_marker(uuid, unit, layout.KIND_SEAL, 0)


def encode_header(
    *,
    number: int,
    base: int,
    uuid: bytes,
    previous_uuid: bytes,
    epoch: int,
    capacity_units: int,
    created_ns: int,
    tail: int,
    backed_units: int,
) -> bytes:
    """Return the header page of a segment."""
    page = bytearray(layout.SEGMENT_HEADER_BYTES)
    for offset, value in (
        (layout.SEGMENT_MAGIC, layout.SEGMENT_MAGIC_BYTES),
        (layout.SEGMENT_FORMAT, u32(layout.FORMAT_VERSION)),
        (layout.SEGMENT_HEADER_SIZE, u32(layout.SEGMENT_HEADER_BYTES)),
        (layout.SEGMENT_NUMBER, u64(number)),
        (layout.SEGMENT_BASE, u64(base)),
        (layout.SEGMENT_UUID, uuid),
        (layout.SEGMENT_PREVIOUS_UUID, previous_uuid),
        (layout.SEGMENT_EPOCH, u64(epoch)),
        (layout.SEGMENT_CAPACITY, u64(capacity_units)),
        (layout.SEGMENT_CREATED, u64(created_ns)),
        (layout.SEGMENT_TAIL, u64(tail)),
        (layout.SEGMENT_BACKED, u64(backed_units)),
    ):
        page[offset : offset + len(value)] = value
    checksum = crc32c(bytes(page[: layout.SEGMENT_CHECKSUM]))
    page[layout.SEGMENT_CHECKSUM : layout.SEGMENT_CHECKSUM + 4] = u32(checksum)
    return bytes(page)


def encode_mark(*, sequence: int, segment: int, unit: int, next_entry: int, uuid: bytes, epoch: int) -> bytes:
    """Return the 64 bytes of a durable mark; slot ``sequence % 2`` is where it belongs."""
    fields = u64(sequence) + u64(segment) + u64(unit) + u64(next_entry) + uuid + u64(epoch)
    fields += bytes(layout.MARK_CHECKSUM - len(fields))
    return fields + u32(crc32c(fields))


@dataclass
class SegmentImage:
    """A segment put together in memory, frame by frame, as one writer after another would leave it."""

    number: int = 0
    base: int = 0
    uuid: bytes = bytes(range(16))
    previous_uuid: bytes = bytes(16)
    epoch: int = 1
    capacity_units: int = 4096
    created_ns: int = 0
    entries: int = 0
    units: int = 0
    sealed: bool = False
    frames: bytearray = field(default_factory=bytearray)

    def _allocate(self, entries: int, frame: bytes) -> None:
        self.frames += frame
        self.entries += entries
        self.units += len(frame) // layout.UNIT_BYTES

    def append(
        self,
        entries: Sequence[bytes],
        timestamp_ns: int,
        *,
        codec: int = layout.CODEC_NONE,
        stored_payload: bytes | None = None,
    ) -> None:
        """Add a committed batch."""
        frame = encode_frame(
            self.uuid,
            self.units,
            self.entries,
            entries,
            timestamp_ns,
            codec=codec,
            stored_payload=stored_payload,
        )
        self._allocate(len(entries), frame)

    def pad(self, units: int, entries: int) -> None:
        """Add the PAD of a dead append that had ``entries`` numbers; a chain's later PADs have 0."""
        body = b"\xa5" * ((units - 1) * layout.UNIT_BYTES)
        self._allocate(entries, encode_pad(self.uuid, self.units, units) + body)

    def claim(self, units: int, entries: int) -> None:
        """Add a claim whose owner has written no word yet."""
        self._allocate(entries, bytes(units * layout.UNIT_BYTES))

    def image(self, *, backed_units: int | None = None) -> bytes:
        """Return the file; ``backed_units`` defaults to what the frames need."""
        backed = self.units if backed_units is None else backed_units
        header = encode_header(
            number=self.number, base=self.base, uuid=self.uuid, previous_uuid=self.previous_uuid,
            epoch=self.epoch, capacity_units=self.capacity_units, created_ns=self.created_ns,
            tail=make_tail(self.entries, self.units, self.sealed), backed_units=backed,
        )  # fmt: skip
        return header + bytes(self.frames).ljust(backed * layout.UNIT_BYTES, b"\0")


# ---- Decoding ----


class End(Enum):
    """How a walk ended: at the tail, at a word that is free or claimed, at a SEAL, or at damage."""

    TAIL = "tail"
    BLOCKED = "blocked"
    SEAL = "seal"
    CORRUPT = "corrupt"


@dataclass(frozen=True)
class Batch:
    """One DATA frame: its unit, the index of its first entry in the segment, and what it holds."""

    unit: int
    first_index: int
    entries: int
    timestamp_ns: int
    codec: int
    payload: bytes


@dataclass(frozen=True)
class Walked:
    """What a walk found: the DATA frames, why and where it ended, and the lowest index that may follow."""

    batches: list[Batch]
    end: End
    unit: int
    next_index: int


class _DamageError(Exception):
    """A frame breaks a rule of the format."""


def _expect(rule: bool) -> None:
    if not rule:
        raise _DamageError


def _word_at(frames: bytes, unit: int) -> int:
    return int.from_bytes(frames[unit * layout.UNIT_BYTES : (unit + 1) * layout.UNIT_BYTES], "little")


def decode_batch(batch: Batch) -> list[bytes]:
    """Return the entries of an uncompressed batch; ValueError where its offsets do not fit its bytes."""
    if batch.entries == 1:
        return [batch.payload]
    offsets_bytes = 4 * (batch.entries + 1)
    if len(batch.payload) < offsets_bytes:
        raise ValueError(
            f"{batch.entries} entries need {offsets_bytes} bytes of offsets, got {len(batch.payload)}"
        )
    offsets = struct.unpack_from(f"<{batch.entries + 1}i", batch.payload)
    data = batch.payload[offsets_bytes:]
    if offsets[0] != 0 or offsets[-1] != len(data) or list(offsets) != sorted(offsets):
        raise ValueError(f"offsets must rise from 0 to {len(data)}")
    return [data[start:stop] for start, stop in pairwise(offsets)]


def _decode_data(uuid: bytes, frames: bytes, unit: int, tail_units: int) -> Batch:
    start = unit * layout.UNIT_BYTES
    word = _word_at(frames, unit)
    units = word & layout.WORD_UNITS_MASK
    stop = start + units * layout.UNIT_BYTES
    _expect(units * layout.UNIT_BYTES >= layout.FRAME_HEADER_BYTES and unit + units <= tail_units)
    checksum, meta, timestamp_ns = struct.unpack_from("<IIQ", frames, start + layout.FRAME_CHECKSUM)
    entries = meta & layout.META_ENTRIES_MASK
    codec = meta >> layout.META_CODEC_SHIFT & 7
    pad_bytes = meta >> layout.META_PAD_SHIFT
    _expect(start + layout.FRAME_PAYLOAD + pad_bytes <= stop)
    payload = frames[start + layout.FRAME_PAYLOAD : stop - pad_bytes]
    actual = frame_checksum(
        uuid=uuid, payload=payload, unit=unit, word=word, timestamp_ns=timestamp_ns, meta=meta
    )
    _expect(actual == checksum)
    _expect(entries > 0 and codec <= layout.CODEC_ZSTD_DICTIONARY and not meta & layout.META_ZERO_MASK)
    _expect(codec != layout.CODEC_NONE or entries == 1 or len(payload) >= 4 * (entries + 1))
    return Batch(unit, word >> layout.WORD_INDEX_SHIFT, entries, timestamp_ns, codec, payload)


def walk(image: bytes) -> Walked:
    """Walk the frames of a segment file from its first unit to its tail."""
    uuid = image[layout.SEGMENT_UUID : layout.SEGMENT_UUID + 16]
    tail_word = int.from_bytes(image[layout.SEGMENT_TAIL : layout.SEGMENT_TAIL + 8], "little")
    tail = (tail_word >> layout.TAIL_ENTRIES_SHIFT, tail_word & layout.TAIL_UNITS_MASK)
    frames = image[layout.SEGMENT_HEADER_BYTES :]
    batches: list[Batch] = []
    unit = next_index = 0
    after_data = False
    try:
        _expect(tail[1] * layout.UNIT_BYTES <= len(frames))
        while unit < tail[1]:
            word = _word_at(frames, unit)
            kind = word >> layout.WORD_KIND_SHIFT & 7
            if word == 0 or kind == layout.KIND_CLAIMED:
                _expect(next_index < tail[0])
                return Walked(batches, End.BLOCKED, unit, next_index)
            if kind == layout.KIND_DATA:
                batch = _decode_data(uuid, frames, unit, tail[1])
                _expect(next_index <= batch.first_index and batch.first_index + batch.entries <= tail[0])
                _expect(not after_data or next_index == batch.first_index)
                batches.append(batch)
                next_index = batch.first_index + batch.entries
                after_data = True
            else:
                _expect(kind in (layout.KIND_PAD, layout.KIND_SEAL))
                low = word & 0xFFFFFFFF
                _expect(word >> layout.WORD_INDEX_SHIFT == crc32c(uuid + u64(unit) + u32(low)))
                if kind == layout.KIND_SEAL:
                    return Walked(batches, End.SEAL, unit, next_index)
                _expect(0 < word & layout.WORD_UNITS_MASK <= tail[1] - unit)
                after_data = False
            unit += word & layout.WORD_UNITS_MASK
        _expect(not after_data or next_index == tail[0])
    except _DamageError:
        return Walked(batches, End.CORRUPT, unit, next_index)
    return Walked(batches, End.TAIL, unit, next_index)
