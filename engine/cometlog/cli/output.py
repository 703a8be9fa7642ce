"""Standard output that tells its own errors from those of the log, and units of work that Ctrl-C does not cut.

Invariant: whatever a command printed is written, or an OutputError is raised, before the command line returns.
"""

import contextlib
import errno
import os
import select
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import TextIO

_CLOSED = OSError(errno.EBADF, "closed before the command began")


class OutputError(Exception):
    """Standard output takes no more. ``is_broken_pipe``: because nobody reads it any longer."""

    def __init__(self, error: OSError) -> None:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            said = (
                f"standard output is full ({error.strerror}); make room there, or send the output elsewhere"
            )
        else:
            said = f"standard output cannot be written ({error.strerror}); send it elsewhere"
        super().__init__(said)
        self.is_broken_pipe = error.errno == errno.EPIPE


class CheckedOutput:
    """A standard output whose errors are OutputError. Bytes and text may be mixed."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")  # a path may hold what the terminal's encoding cannot say

    def _open(self) -> TextIO:
        if self._stream is None:
            raise OutputError(_CLOSED)
        return self._stream

    def write(self, text: str) -> int:
        """Write text; for ``print``."""
        stream = self._open()
        with self._own_errors():
            return stream.write(text)

    def write_bytes(self, data: bytes) -> int:
        """Write bytes behind the text so far."""
        stream = self._open()
        with self._own_errors():
            stream.flush()
            return stream.buffer.write(data)

    def flush(self) -> None:
        """Hand everything to the system."""
        if self._stream is not None:
            with self._own_errors():
                self._stream.flush()

    def isatty(self) -> bool:
        """Return whether a person looks at it."""
        return self._stream is not None and self._stream.isatty()

    @property
    def encoding(self) -> str:
        """What text is written in."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def check_reader(self) -> None:
        """Raise OutputError where nobody reads the pipe any more, which a command that has nothing to write would not notice."""
        if self._stream is None or self._stream.isatty():
            return
        looked = select.poll()
        with contextlib.suppress(OSError):  # no descriptor: a program's own object
            looked.register(self._stream.fileno(), 0)
        if any(event & select.POLLERR for _, event in looked.poll(0)):
            raise OutputError(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))

    @contextlib.contextmanager
    def _own_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._drop()
            raise OutputError(error) from error

    def _drop(self) -> None:
        """Send what the interpreter still writes at its end to nowhere."""
        if self._stream is not None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


_output = CheckedOutput(None)


def output() -> CheckedOutput:
    """Return the standard output of the command that runs."""
    return _output


@contextlib.contextmanager
def standard_output() -> Iterator[None]:
    """Send what is printed inside to a checked standard output, and flush it at the end."""
    global _output  # noqa: PLW0603 - there is one standard output
    _output = CheckedOutput(sys.stdout)
    with contextlib.redirect_stdout(_output):
        try:
            yield
        finally:
            _output.flush()


def complain(line: str, end: str = "\n") -> None:
    """Print a line to standard error, if that can be written."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, end=end, flush=True)


@contextlib.contextmanager
def unit_of_work() -> Iterator[None]:
    """Put Ctrl-C off until the block is done; a second one ends it at once."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    came = False

    def note(_number: int, _frame: FrameType | None) -> None:
        nonlocal came
        if came:
            raise KeyboardInterrupt
        came = True

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if came:
        raise KeyboardInterrupt
