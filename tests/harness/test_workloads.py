"""Payloads: sizes the guide names, every entry different, the same for the same seed, entropy recorded."""

from __future__ import annotations

import json

import pytest

from cometbench.errors import UsageError
from cometbench.workloads import WORKLOADS, batches_of, build_pool, entropy, pool_size

PAYLOADS = sorted(set(WORKLOADS) - {"none"})


@pytest.mark.parametrize("workload", PAYLOADS)
def test_entries_are_json_lines_and_all_differ_also_between_processes(workload):
    pools = [build_pool(workload, 8192, 7, process) for process in range(3)]
    entries = [entry for pool in pools for entry in pool]
    assert len(set(entries)) == 3 * 8192
    assert all(b"\n" not in entry for entry in entries)
    assert isinstance(json.loads(entries[0]), dict)
    assert isinstance(json.loads(entries[-1]), dict)


@pytest.mark.parametrize("workload", PAYLOADS)
def test_a_seed_fixes_the_pool(workload):
    assert build_pool(workload, 50, 3) == build_pool(workload, 50, 3)
    if workload != "json_shared":  # fixed text and an id: nothing is drawn
        assert build_pool(workload, 50, 3) != build_pool(workload, 50, 4)


@pytest.mark.parametrize(
    ("workload", "low", "high"),
    [
        ("json_line", 117, 117),
        ("json_event", 85, 120),
        ("json_shared", 47, 47),
        ("json_order", 700, 950),
        ("json_document", 6000, 8000),
    ],
)
def test_sizes_are_those_of_the_guide(workload, low, high):
    sizes = {len(entry) for entry in build_pool(workload, pool_size(10_000), 1)}
    assert low <= min(sizes)
    assert max(sizes) <= high


def test_an_unknown_workload_is_named_with_those_that_exist():
    with pytest.raises(UsageError, match=r"unknown workload 'tweets'; allowed: json_document, .*json_shared"):
        build_pool("tweets", 1, 1)


@pytest.mark.parametrize("batch", [1, 10, 100, 1000, 10_000])
def test_a_pool_holds_whole_batches_and_at_least_8192_entries(batch):
    size = pool_size(batch)
    assert size % batch == 0
    assert size >= 8192
    pool = build_pool("json_shared", size, 1)
    items = batches_of(pool, batch)
    if batch == 1:
        assert items == pool
    else:
        assert len(items) >= 4
        assert {len(item) for item in items} == {batch}
        assert [entry for item in items for entry in item] == pool


def test_entropy_tells_a_repeated_line_from_different_ones():
    repeated = entropy([b"aaaa"] * 1000)
    assert (repeated.entry_bytes_mean, repeated.bits_per_byte) == (4.0, 0.0)
    assert repeated.deflate_ratio < 0.02
    assert entropy([bytes([value]) for value in range(256)]).bits_per_byte == 8.0
    assert entropy(build_pool("json_line", 8192, 1)).deflate_ratio > 0.1
    assert entropy([b""]).entry_bytes_mean == 0.0
