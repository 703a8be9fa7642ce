"""Start a measuring process, wait for it with a limit, and leave nothing of it behind.

Writer processes included.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cometbench.errors import CometbenchError

_ERROR_LINES_SHOWN = 3


class WorkerFailedError(CometbenchError):
    """A measuring process failed or ran out of time; the message holds the end of what it said."""


class Finished(NamedTuple):
    """What a process that ended with code 0 wrote."""

    stdout: str
    stderr: str


def run_module(module: str, arguments: Sequence[str], limit_seconds: float, prefix: Sequence[str] = (),
               search_path: Sequence[Path] = ()) -> Finished:  # fmt: skip
    """Run `python -m module` in a session of its own.

    Raises WorkerFailedError; on any way out the whole session is dead.

    `prefix` goes before the interpreter (a tracer); `search_path` extends PYTHONPATH (subjects outside the
    package).
    """
    with subprocess.Popen(
        [*prefix, *module_command(module), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=module_environment(search_path),
    ) as process:
        try:
            stdout, stderr = process.communicate(timeout=limit_seconds)
        except subprocess.TimeoutExpired:
            raise WorkerFailedError(f"ran longer than {limit_seconds:.0f} s and was ended") from None
        finally:
            _end_session(process)
    if process.returncode != 0:
        raise failure_of(process.returncode, stderr)
    return Finished(stdout, stderr)


def module_command(module: str) -> list[str]:
    """Return the command of a module of the harness in this interpreter."""
    return [sys.executable, "-m", module]


def module_environment(search_path: Sequence[Path]) -> dict[str, str]:
    """Return the environment of every measuring process: hashes of strings are the same in all, `search_path` is importable."""
    environment = dict(os.environ, PYTHONHASHSEED="0")
    if search_path:
        environment["PYTHONPATH"] = os.pathsep.join(
            [*map(str, search_path), environment.get("PYTHONPATH", "")]
        ).rstrip(":")
    return environment


def failure_of(code: int, stderr: str) -> WorkerFailedError:
    """Return the error of a process that ended with another code than 0."""
    tail = " | ".join(line.strip() for line in stderr.strip().splitlines()[-_ERROR_LINES_SHOWN:])
    return WorkerFailedError(f"exit code {code}: {tail or 'no message'}")


def _end_session(process: subprocess.Popen[str]) -> None:
    """Kill what is left of the session: the leader where it was given up on.

    And writer processes it left behind.
    """
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
