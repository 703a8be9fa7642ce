"""The process that a round's measuring processes are forked from: what all of them import is imported once.

`python -m cometbench.fork_server`. A request is one JSON line (see `forking`); the answers are the child's process id, and how it
ended.

Thread safety: one thread, and no thread is ever started before a fork. Invariants: the server opens no log and measures nothing; a
child leads a process group of its own and does not keep the server's pipes. Standard library, pyperf and the engine only.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import sys
from typing import Any

from cometbench import workloads
from cometbench.errors import CometbenchError

# What every measuring process imports, whatever it measures.
PRELOADED = (
    "cometbench.worker",
    "cometbench.probe_worker",
    "cometbench.subjects.engine",
    "cometbench.subjects.floor",
)


def main() -> None:
    """Serve until the owner closes the pipe; a child leaves the loop and becomes what was asked for."""
    for module in PRELOADED:
        importlib.import_module(module)
    answers = os.dup(1)
    with os.fdopen(os.dup(0), "rb") as requests:
        while line := requests.readline():
            request = json.loads(line)
            _share(request["pools"])
            child = os.fork()
            if child == 0:
                os.close(answers)
                break
            _lead_a_group(child)
            _answer(answers, child)
            _, status = os.waitpid(child, 0)
            _answer(answers, os.waitstatus_to_exitcode(status))
        else:
            return
    _become(request)


def _share(pools: list[list[Any]]) -> None:
    """Build what the child and those after it append; where that cannot be done, the child meets the same error and says so."""
    with contextlib.suppress(CometbenchError):
        for pool in pools:
            workloads.share_pool(*pool)


def _answer(answers: int, number: int) -> None:
    os.write(answers, f"{number}\n".encode())


def _lead_a_group(process: int) -> None:
    """Both sides ask for it, so that the group exists whichever comes first."""
    try:
        os.setpgid(process, process)
    except (ProcessLookupError, PermissionError):
        return  # it has ended, or has a group already


def _become(request: dict[str, Any]) -> None:
    """Run the module as the interpreter would have, in this process, to the interpreter's ordinary end."""
    _lead_a_group(os.getpid())
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for path, flags, descriptor in (
        (os.devnull, os.O_RDONLY, 0),
        (request["stdout"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 1),
        (request["stderr"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 2),
    ):
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.argv = [request["module"], *request["arguments"]]
    gc.collect()  # writes to every object that the collector knows: their pages are copied now, not while something is timed
    importlib.import_module(request["module"]).main()


if __name__ == "__main__":
    main()
