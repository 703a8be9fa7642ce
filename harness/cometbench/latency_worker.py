"""The latency process, `python -m cometbench.latency_worker`: a clock reading before and after each append.

A pass of its own, because two clock readings per operation cost more than some operations. Standard library
only.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from array import array
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from cometbench._native import empty_call
from cometbench.benchmark import Benchmark
from cometbench.measuring import Writing, verify

_WARM_UP_CALLS = 100
_OVERHEAD_CALLS = 20_000


def collect(append: Callable[[Any], object], items: list[Any], seconds_max: float) -> tuple[array[int], Any]:
    """Nanoseconds of each call, until the items or the time run out, and what the last call returned."""
    clock, result = perf_counter_ns, None
    samples = array("Q", bytes(8 * len(items)))
    deadline = clock() + int(seconds_max * 1e9)
    done = 0
    for item in items:
        started = clock()
        result = append(item)
        ended = clock()
        samples[done] = ended - started
        done += 1
        if ended > deadline:
            break
    del samples[done:]
    return samples, result


def main() -> None:
    """Sample, verify the log, write samples (unsigned 64-bit, native order) and outcome."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--spec", required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--samples-max", type=int, required=True)
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--outcome", type=Path, required=True)
    args = parser.parse_args()
    benchmark = Benchmark.from_json(args.spec)
    writing = Writing(benchmark, args.directory, args.seed)
    writing.timed(writing.take(_WARM_UP_CALLS))
    items = writing.take(args.samples_max)
    samples, result = collect(writing.subject.append_call(benchmark.batch), items, args.seconds)
    writing.count(len(samples), result)
    overhead, _ = collect(empty_call, items[:1] * _OVERHEAD_CALLS, args.seconds)
    args.samples.write_bytes(samples.tobytes())
    writing.subject.close()
    finding = verify(writing.subject, [writing.appended])
    outcome = {**dataclasses.asdict(finding), "timer_overhead_ns": sorted(overhead)[len(overhead) // 2]}
    args.outcome.write_text(json.dumps(outcome))


if __name__ == "__main__":
    main()
