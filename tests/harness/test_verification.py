"""Verification names the entry: whatever is lost, altered, moved, repeated or invented."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cometbench.subjects.contract import Chunk
from cometbench.verification import Appended, verify_bytes, verify_entries

POOL = [f"entry-{number:03d}".encode() for number in range(10)]
STREAM = "bench:v1:shard:0000"


def log_of(count, pool=POOL):
    return [pool[index % len(pool)] for index in range(count)]


def chunks(entries, size=7, first=0):
    for start in range(0, len(entries), size):
        part = entries[start : start + size]
        yield Chunk(range(first + start, first + start + len(part)), part)


def verify(entries, count, first=0, acknowledged=None):
    writer = Appended(POOL, count, dict(acknowledged or {}))
    return verify_entries(STREAM, [writer], chunks(entries, first=first))


def test_an_intact_log_passes_over_several_cycles_of_the_pool():
    finding = verify(log_of(35), 35, acknowledged={0: 0, 34: 34, 12: 12})
    assert (finding.status, finding.entries_expected, finding.entries_found) == ("ok", 35, 35)


def test_numbers_need_not_start_at_zero():
    assert verify(log_of(35), 35, first=100, acknowledged={134: 34}).status == "ok"


@given(st.integers(0, 33))
def test_a_lost_entry_is_named(at):
    entries = log_of(35)
    del entries[at]
    finding = verify(entries, 35)
    assert finding.status == "failed"
    assert f"stream {STREAM}: entry {at} lost: {POOL[at % 10]!r} was appended" in finding.detail


def test_the_last_entry_lost_is_named():
    finding = verify(log_of(34), 35)
    assert "entry 34 lost: 34 entries of 35 in the log" in finding.detail
    assert (finding.entries_expected, finding.entries_found) == (35, 34)


def test_an_empty_log_is_a_loss_of_entry_0():
    assert "entry 0 lost" in verify([], 1).detail


@given(st.integers(0, 34), st.integers(0, 8), st.integers(1, 255))
def test_an_altered_entry_is_named_with_both_contents(at, byte, change):
    entries = log_of(35)
    altered = bytearray(entries[at])
    altered[byte] ^= change
    entries[at] = bytes(altered)
    finding = verify(entries, 35)
    successor = bytes(altered) == POOL[(at + 1) % 10]
    assert (
        f"entry {at} {'lost' if successor else 'altered'}: {POOL[at % 10]!r} was appended" in finding.detail
    )


def test_an_invented_and_a_repeated_entry_are_named():
    assert "entry 35 was never appended: 35 entries were" in verify(log_of(36), 35).detail
    repeated = log_of(20)
    repeated.insert(5, repeated[4])
    assert "entry 5 altered" in verify(repeated, 20).detail


def test_a_gap_in_the_numbers_is_named():
    broken = [Chunk(range(7), log_of(7)), Chunk(range(8, 10), log_of(9)[7:])]
    finding = verify_entries(STREAM, [Appended(POOL, 9)], broken)
    assert "entry 7 is missing: the log goes on at number 8" in finding.detail
    short = [Chunk(range(5), log_of(4))]
    assert "4 read back, 5 spanned" in verify_entries(STREAM, [Appended(POOL, 5)], short).detail


def test_an_acknowledged_number_must_hold_what_was_acknowledged():
    assert "entry 3 was acknowledged as b'entry-004'" in verify(log_of(10), 10, acknowledged={3: 4}).detail
    assert (
        "entry 99 was acknowledged and is not in the log"
        in verify(log_of(10), 10, acknowledged={99: 9}).detail
    )


A, B = [b"a%d" % n for n in range(4)], [b"b%d" % n for n in range(4)]


def verify_two(entries, count_a, count_b, acknowledged=None):
    writers = [Appended(A, count_a, dict(acknowledged or {})), Appended(B, count_b)]
    return verify_entries(STREAM, writers, chunks(entries, size=3))


def test_any_interleaving_of_two_writers_passes():
    merged = [A[0], B[0], B[1], A[1], A[2], B[2], B[3], A[3], A[0], B[0]]
    assert verify_two(merged, 5, 5, {0: 0, 8: 4}).status == "ok"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            [A[0], B[0], A[2], B[1]],
            "entry 2 holds b'a2' of process 0; its append number 1, b'a1', is lost or out of order",
        ),
        ([A[1], A[0], B[0], B[1]], "entry 0 holds b'a1' of process 0; its append number 0"),
        ([A[0], A[0], B[0], B[1]], "entry 1 holds b'a0' of process 0; its append number 1"),
        ([A[0], A[1], B[0], b"b?"], "entry 3 altered: no process appended b'b?'"),
        ([A[0], A[1], B[0]], "process 1 appended 2 entries and 1 are there; first lost: its append number 1"),
    ],
)
def test_two_writers_lost_swapped_repeated_altered(entries, message):
    finding = verify_two(entries, 2, 2)
    assert finding.status == "failed"
    assert message in finding.detail


def test_bytes_are_compared_as_one_string_whatever_their_parts():
    text = b"".join(log_of(23))
    parts = [Chunk(None, [text[:5]]), Chunk(None, [b""]), Chunk(None, [text[5:100], text[100:]])]
    assert verify_bytes(STREAM, Appended(POOL, 23), parts).status == "ok"


@given(st.integers(0, 23 * 9 - 1))
def test_an_altered_byte_names_its_entry(at):
    text = bytearray(b"".join(log_of(23)))
    text[at] ^= 0x80
    finding = verify_bytes(STREAM, Appended(POOL, 23), [Chunk(None, [bytes(text)])])
    assert finding.detail == f"stream {STREAM}: entry {at // 9} altered at byte {at}"


def test_missing_and_surplus_bytes_fail():
    text = b"".join(log_of(23))
    short = verify_bytes(STREAM, Appended(POOL, 23), [Chunk(None, [text[:-1]])])
    assert "206 bytes read, 207 appended; first difference in entry 22" in short.detail
    assert verify_bytes(STREAM, Appended(POOL, 22), [Chunk(None, [text])]).status == "failed"
