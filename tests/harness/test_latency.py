"""The latency pass: one sample per operation, the log verified, thin percentiles hidden."""

from __future__ import annotations

import numpy as np
import pytest
from faulty_experiments import raw

from cometbench.latency import measure_latency, summarise


def test_samples_are_taken_stored_and_verified(tiny, root, extra):
    benchmark = raw("test.latency")
    measured = measure_latency(benchmark, tiny, root, 5, [extra])
    assert measured.measurement.failure is None
    assert len(measured.samples_ns) == 1200
    summary = measured.measurement.latency
    assert (summary.count, summary.key) == (1200, "test.latency")
    assert summary.p50_ns == np.percentile(measured.samples_ns, 50)
    assert summary.p90_ns >= summary.p50_ns > summary.timer_overhead_ns > 0
    assert summary.p99_ns is None  # 12 samples lie beyond it
    assert measured.measurement.verification.entries_found == 1300  # warm-up included


def test_a_lost_entry_fails_the_pass_by_name(tiny, root, extra):
    benchmark = raw("test.latency", "FaultyFile", config={"fault": "drop", "at": 700})
    measured = measure_latency(benchmark, tiny, root, 5, [extra]).measurement
    assert "stream bench:v1:shard:0000: entry 700 lost" in measured.failure
    assert measured.latency is None


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (199, []),
        (200, ["p50"]),
        (1000, ["p50", "p90"]),
        (9_999, ["p50", "p90"]),
        (10_000, ["p50", "p90", "p99"]),
        (100_000, ["p50", "p90", "p99", "p99_9"]),
    ],
)
def test_a_percentile_needs_a_hundred_samples_beyond_it(count, shown):
    summary = summarise(np.arange(count, dtype=np.uint32), 50.0, "key")
    assert [
        name for name in ("p50", "p90", "p99", "p99_9") if getattr(summary, f"{name}_ns") is not None
    ] == shown
