"""The measuring process: one benchmark, one pyperf worker.

`python -m cometbench.worker --spec ... --worker ...`

pyperf owns the argument parser, warm-up, values and metadata; `--outcome` receives the verification as JSON.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pyperf

from cometbench.benchmark import Benchmark
from cometbench.many_processes import ManyProcesses
from cometbench.measuring import OneProcess


def main() -> None:
    """Measure, verify, write the outcome."""
    runner = pyperf.Runner()
    runner.argparser.add_argument("--spec", required=True)
    runner.argparser.add_argument("--directory", type=Path, required=True)
    runner.argparser.add_argument("--seed", type=int, required=True)
    runner.argparser.add_argument("--outcome", type=Path, required=True)
    args = runner.parse_args()
    benchmark = Benchmark.from_json(args.spec)
    kind = OneProcess if benchmark.processes == 1 else ManyProcesses
    task = kind(benchmark, args.directory, args.seed)
    runner.metadata.update(batch=benchmark.batch, processes=benchmark.processes, workload=benchmark.workload)
    runner.bench_time_func(benchmark.name, task.seconds)
    args.outcome.write_text(json.dumps(dataclasses.asdict(task.finish())))


if __name__ == "__main__":
    main()
