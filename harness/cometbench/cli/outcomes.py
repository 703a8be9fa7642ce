"""How every command ends: exit codes, and errors as one line on standard error."""

from __future__ import annotations

import functools
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import ParamSpec

import click

from cometbench.errors import CometbenchError, UsageError

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
EXIT_DIFFERS = EXIT_FAILED
Params = ParamSpec("Params")


def says_errors(command: Callable[Params, None]) -> Callable[Params, None]:
    """Turn the harness's own errors into one line on standard error: exit code 2 for wrong use, 1 for all else, 130 for Ctrl-C."""

    @functools.wraps(command)
    def guarded(*args: Params.args, **kwargs: Params.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except UsageError as error:
            raise click.UsageError(str(error)) from error
        except CometbenchError as error:
            raise click.ClickException(str(error)) from error
        except BrokenPipeError:
            raise
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            raise click.ClickException(f"{place}{error.strerror or error}") from error
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            sys.exit(EXIT_INTERRUPTED)

    return guarded


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM end what runs meanwhile as Ctrl-C does: with its servers stopped and its directories removed."""
    before = signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _as_interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
