"""The process under strace: opens, warms up, appends between two marks, closes.

`python -m cometbench.syscall_probe`

The marks are stat calls on paths that do not exist; they bracket the appending thread's system calls in the
trace.
"""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path

from cometbench.benchmark import Benchmark
from cometbench.measuring import Writing

BEGIN_MARK = "/cometbench.begin"
END_MARK = "/cometbench.end"
_WARM_UP_CALLS = 100
_CALLS_AT_ONCE = 8192


def main() -> None:
    """Append `--appends` times between the marks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--spec", required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--appends", type=int, required=True)
    args = parser.parse_args()
    writing = Writing(Benchmark.from_json(args.spec), args.directory, args.seed)
    writing.timed(writing.take(_WARM_UP_CALLS))
    items = writing.take(min(args.appends, _CALLS_AT_ONCE))
    rounds, rest = divmod(args.appends, len(items))
    last = items[:rest]
    mark(BEGIN_MARK)
    for _ in range(rounds):
        writing.timed(items)
    if last:
        writing.timed(last)
    mark(END_MARK)
    writing.subject.close()


def mark(path: str) -> None:
    """Leave a mark in the trace of the calling thread."""
    with suppress(FileNotFoundError):
        Path(path).stat()


if __name__ == "__main__":
    main()
