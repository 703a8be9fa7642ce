"""Commands that go on until they are told to stop."""

import os
import select
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


@contextmanager
def waiting_for(descriptor: int) -> Iterator[Callable[[], None]]:
    """Yield a function that waits until something can be read, and that Ctrl-C ends whenever it comes.

    A signal that comes just before a read blocks is only noted by Python, and the read waits on; the wake-up descriptor is written at
    once. The main thread alone may use this.
    """
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.register(woken, select.POLLIN)

    def wait() -> None:
        while True:
            ready = {found for found, _ in poll.poll()}
            if woken in ready:
                os.read(woken, 512)
            if descriptor in ready:
                return

    try:
        yield wait
    finally:
        signal.set_wakeup_fd(before)
        os.close(woken)
        os.close(wake)
