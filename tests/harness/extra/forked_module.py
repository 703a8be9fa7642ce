"""No experiment: a module whose `main` does what its first argument says, for the tests of the fork server."""

import os
import signal
import sys
import time
from pathlib import Path

from cometbench import workloads


def main():
    """Do it."""
    {
        "facts": _facts,
        "pool": _pool,
        "raise": _raise,
        "kill": _kill,
        "hang": _hang,
        "kill_server": _kill_server,
    }[sys.argv[1]]()


def _facts():
    imported = {name for name in sys.modules if name.partition(".")[0] == "pyperf"}
    for name, value in {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "group": os.getpgid(0),
        "arguments": " ".join(sys.argv),
        "imported_before": bool(imported),
        "stdin": sys.stdin.read(),
        "hash_seed": os.environ.get("PYTHONHASHSEED"),
        "address": id(workloads),
    }.items():
        print(f"{name}={value}")


def _pool():
    key = ("json_line", 50, 7, 0, 1)
    kept = workloads._shared.get(key)
    entries = workloads.build_pool(*key)
    print(f"shared={kept is not None and all(map(lambda a, b: a is b, kept, entries))}")
    print(f"entries={hash(tuple(entries))}")


def _raise():
    raise ValueError("on purpose")


def _kill():
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_server():
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


def _hang():
    grandchild = os.fork()
    if grandchild:
        Path(sys.argv[2]).write_text(f"{os.getpid()} {grandchild}")
    time.sleep(60)
