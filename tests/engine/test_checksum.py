"""Every implementation of the checksum against published values and against the plainest CRC there is."""

import array
import itertools
import platform
import random
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cometlog.kernel import checksum

GENERATOR_REFLECTED = 0x82F63B78
LANES_BLOCK_BYTES = 3 * 256 * 8  # LANE_WORDS_MAX of crc32c.c, three times

# RFC 3720, B.4, as integers; the last is the check value of the CRC catalogues.
PUBLISHED = [
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(reversed(range(32))), 0x113FDB5C),
    (b"123456789", 0xE3069283),
    (b"", 0),
]

same_for_each_example = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def bitwise_prefixes(data: bytes) -> list[int]:
    """CRC32C of data[:n] for n = 0..len(data), one bit at a time."""
    state = 0xFFFFFFFF
    prefixes = [0]
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (GENERATOR_REFLECTED if state & 1 else 0)
        prefixes.append(state ^ 0xFFFFFFFF)
    return prefixes


def bitwise(data: bytes) -> int:
    return bitwise_prefixes(data)[-1]


@pytest.fixture(params=checksum.available(), autouse=True)
def selected(request: pytest.FixtureRequest) -> Iterator[str]:
    before = checksum.implementation()
    checksum.use(request.param)
    assert checksum.implementation() == request.param
    yield request.param
    checksum.use(before)


def test_a_frame_in_one_call_is_its_payload_and_what_is_behind_it() -> None:
    source = random.Random(117)
    data = source.randbytes(700)
    for length in [*range(300), 512, 513, 519, 699]:
        fields = tuple(source.getrandbits(bits) for bits in (64, 64, 64, 32))
        expected = checksum.crc32c(data[:length] + struct.pack("<QQQI", *fields))
        assert checksum.crc32c_frame(memoryview(data)[:length], *fields) == expected, length


@pytest.mark.parametrize(("data", "expected"), PUBLISHED)
def test_published_values(data: bytes, expected: int) -> None:
    assert bitwise(data) == expected
    assert checksum.crc32c(data) == expected


@pytest.mark.parametrize("alignment", range(8))
def test_every_length_up_to_2100_at_every_alignment(alignment: int) -> None:
    data = random.Random(alignment).randbytes(alignment + 2100)
    view = memoryview(data)[alignment:]
    expected = bitwise_prefixes(data[alignment:])
    assert [checksum.crc32c(view[:length]) for length in range(2101)] == expected


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_every_length_around_a_full_block_of_lanes(blocks: int) -> None:
    boundary = blocks * LANES_BLOCK_BYTES
    data = random.Random(blocks).randbytes(boundary + 1000)
    expected = bitwise_prefixes(data)
    wrong = [n for n in range(boundary - 200, len(data) + 1) if checksum.crc32c(data[:n]) != expected[n]]
    assert wrong == []


@given(data=st.binary(max_size=5000), alignment=st.integers(0, 63))
@same_for_each_example
def test_equals_the_bitwise_sum(data: bytes, alignment: int) -> None:
    padded = memoryview(bytes(alignment) + data + b"\xa5")
    assert checksum.crc32c(padded[alignment:-1]) == bitwise(data)


@given(
    seed=st.integers(0, 2**32 - 1),
    length=st.integers(0, 30_000),
    cuts=st.lists(st.integers(0, 30_000), max_size=6),
)
@same_for_each_example
def test_pieces_chain_to_the_whole(seed: int, length: int, cuts: list[int]) -> None:
    data = memoryview(random.Random(seed).randbytes(length))
    bounds = [0, *sorted(min(cut, length) for cut in cuts), length]
    chained = 0
    for start, stop in itertools.pairwise(bounds):
        chained = checksum.crc32c(data[start:stop], chained)
    assert chained == checksum.crc32c(data)


@given(data=st.binary(min_size=1, max_size=400), state=st.integers(0, 2**32 - 1))
@same_for_each_example
def test_any_previous_value_is_continued(data: bytes, state: int) -> None:
    raw = state ^ 0xFFFFFFFF
    for byte in data:
        raw ^= byte
        for _ in range(8):
            raw = (raw >> 1) ^ (GENERATOR_REFLECTED if raw & 1 else 0)
    assert checksum.crc32c(data, state) == raw ^ 0xFFFFFFFF


READ_BESIDE_FORBIDDEN_PAGES = """
import ctypes, mmap, sys
from cometlog.kernel import checksum
checksum.use(sys.argv[1])
page = mmap.PAGESIZE
pages = 5
area = mmap.mmap(-1, pages * page)
base = ctypes.addressof(ctypes.c_char.from_buffer(area))
libc = ctypes.CDLL(None, use_errno=True)
for forbidden in (base, base + (pages - 1) * page):
    assert libc.mprotect(ctypes.c_void_p(forbidden), ctypes.c_size_t(page), 0) == 0
readable = memoryview(area)[page:-page]
checked = 0
for length in [*range(1200), *range(6100, 6400)]:
    zeros = checksum.crc32c(bytes(length))
    assert checksum.crc32c(readable[:length]) == zeros
    assert checksum.crc32c(readable[len(readable) - length:]) == zeros
    checked += 1
print(checked)
"""


def test_no_byte_outside_the_data_is_read(selected: str) -> None:
    command = [sys.executable, "-c", READ_BESIDE_FORBIDDEN_PAGES, selected]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "1500\n", "")


def test_any_contiguous_buffer_is_summed_as_bytes() -> None:
    words = array.array("I", [1, 2, 3, 0xFFFFFFFF])
    expected = bitwise(words.tobytes())
    assert checksum.crc32c(words) == checksum.crc32c(bytearray(words.tobytes())) == expected


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("text",), TypeError, "bytes-like"),
        ((memoryview(b"abcdef")[::2],), BufferError, "contiguous"),
        ((b"", -1), ValueError, r"state must be 0\.\.4294967295, got -1"),
        ((b"", 2**32), ValueError, r"state must be 0\.\.4294967295, got 4294967296"),
        ((b"", 1.5), TypeError, "integer"),
    ],
)
def test_bad_input_is_refused(arguments: tuple[object, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        checksum.crc32c(*arguments)  # type: ignore[arg-type]


def test_a_refused_name_changes_nothing(selected: str) -> None:
    with pytest.raises(ValueError, match="got 'abacus'"):
        checksum.use("abacus")
    with pytest.raises(TypeError):
        checksum.use(None)  # type: ignore[arg-type]
    assert checksum.implementation() == selected


def test_the_instruction_is_used_where_the_cpu_has_it() -> None:
    flags = set(Path("/proc/cpuinfo").read_text(encoding="ascii").split())
    expected = ["table"]
    if platform.machine() == "x86_64" and {"sse4_2", "pclmulqdq"} <= flags:
        expected.insert(0, "sse4.2 3 lanes")
        if {"avx512f", "avx512bw", "avx512vl", "vpclmulqdq"} <= flags:
            expected.insert(0, "avx512 vpclmulqdq")
    if platform.machine() == "aarch64" and "crc32" in flags:
        expected.insert(0, "armv8-crc 3 lanes")
    assert checksum.available() == tuple(expected)
    script = "from cometlog.kernel import checksum; print(checksum.implementation())"
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == f"{expected[0]}\n"
