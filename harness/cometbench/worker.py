"""The measuring process: one benchmark, one pyperf worker.

`python -m cometbench.worker --spec ... --worker ...`

pyperf owns the argument parser, warm-up, values and metadata; `--outcome` receives the verification as JSON.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pyperf

from cometbench.benchmark import STREAM, Benchmark, load_subject
from cometbench.errors import CannotMeasureError
from cometbench.many_processes import ManyProcesses
from cometbench.measuring import OneProcess

_LONG_VALUES = 3


def main() -> None:
    """Measure, verify, write the outcome."""
    runner = pyperf.Runner()
    runner.argparser.add_argument("--spec", required=True)
    runner.argparser.add_argument("--directory", type=Path, required=True)
    runner.argparser.add_argument("--seed", type=int, required=True)
    runner.argparser.add_argument("--outcome", type=Path, required=True)
    runner.argparser.add_argument(
        "--calibrate-seconds", type=float, help="find the calls of a value this long first, --loops at most"
    )
    args = runner.parse_args()
    benchmark = Benchmark.from_json(args.spec)
    kind = OneProcess if benchmark.processes == 1 else ManyProcesses
    try:
        task = kind(benchmark, args.directory, args.seed)
    except CannotMeasureError as reason:
        args.outcome.write_text(json.dumps({"cannot": str(reason)}))
        return
    runner.metadata.update(batch=benchmark.batch, processes=benchmark.processes, workload=benchmark.workload)
    calls_before = 0
    if args.calibrate_seconds is not None:
        args.loops, calls_before = calibrate(task.seconds, args.calibrate_seconds, args.loops)
    runner.bench_time_func(benchmark.name, task.seconds)
    outcome = {**dataclasses.asdict(task.finish()), "loops": args.loops, "calibration_calls": calls_before}
    measured = load_subject(benchmark.implementation)(args.directory, STREAM, benchmark.config)
    args.outcome.write_text(json.dumps({**outcome, "version": measured.version()}))


def calibrate(seconds_of: Callable[[int], float], seconds_min: float, loops_max: int) -> tuple[int, int]:
    """Return how many calls make a value of `seconds_min`, a power of two or `loops_max`, and the calls this took.

    Three values must be long enough: one that a stall made long must not end the doubling.
    """
    loops, calls, long_enough = 1, 0, 0
    while loops < loops_max and long_enough < _LONG_VALUES:
        calls += loops
        if seconds_of(loops) >= seconds_min:
            long_enough += 1
        else:
            loops, long_enough = min(2 * loops, loops_max), 0
    return loops, calls


if __name__ == "__main__":
    main()
