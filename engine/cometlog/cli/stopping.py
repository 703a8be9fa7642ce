"""Commands that go on until they are told to stop."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cometlog.cli.output import complain


@contextmanager
def stopping(name: str, stop: Callable[[], None]) -> Iterator[list[int]]:
    """Have Ctrl-C and SIGTERM call ``stop``, a second Ctrl-C end the command; yields the list of signals that came."""
    came: list[int] = []

    def note(number: int, _frame: object) -> None:
        if number in came and number == signal.SIGINT:
            raise KeyboardInterrupt
        came.append(number)
        complain(f"\n{name}: finishing what is under way")
        stop()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
