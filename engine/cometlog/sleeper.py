"""Waiting for appends to some shards, in any process, without polling.

Thread safety: a Sleeper belongs to one thread at a time; ``ring`` and ``stop`` may be called from any thread and from a signal
handler, because they take no lock. Invariant (no append is missed): the
waiting flags are set before the caller looks at the log once more, and the sleep ends if anything happened since.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from cometlog.control import Control
from cometlog.errors import CometlogError
from cometlog.kernel import waiting

POLL_S = 0.005
"""How often a shard is looked at that cannot be waited for: read-only, not written yet, one of more than 127, or an old kernel."""
SLEEP_S_MAX = 3600.0
"""Whoever waits without an end looks again so often: the kernel takes no infinite time."""


class Sleeper:
    """Sleeps on the control files of shards. ``may_write``: a waiting flag may be set there; without it shards are polled."""

    def __init__(self, *, may_write: bool) -> None:
        self._may_write = may_write
        self._controls: dict[Path, Control] = {}
        self._bell = waiting.Bell()
        self.stopped = False
        """Whether ``stop`` was called since the loop that sleeps here set it back."""

    def ring(self) -> None:
        """End the present or the next sleep."""
        self._bell.ring()

    def stop(self) -> None:
        """Say that the loop that sleeps here should end, and end its sleep."""
        self.stopped = True
        self._bell.ring()

    def pause(self, seconds: float) -> bool:
        """Sleep so long whatever is appended; return at once, and True, where ``stop`` was called."""
        until = time.monotonic() + seconds
        while True:
            ticket = self.ticket()
            left_s = until - time.monotonic()
            if self.stopped or left_s <= 0:
                return self.stopped
            self.sleep((), ticket, left_s, lambda: False)

    def ticket(self) -> int:
        """Return what ``sleep`` takes: a ring after this call ends it."""
        return self._bell.ticket()

    def _control_of(self, directory: Path) -> Control | None:
        control = self._controls.get(directory)
        if control is None and self._may_write:
            with suppress(CometlogError, OSError):
                control = self._controls[directory] = Control(directory / "control", writable=True)
        return control

    def sleep(
        self, directories: Iterable[Path], ticket: int, timeout_s: float, is_there: Callable[[], bool]
    ) -> None:
        """Sleep until somebody appends to one of the shards, ``ring`` is called, or the time (seconds) is up.

        ``is_there()`` says whether there is something to read already; it is asked after the flags are set.
        """
        controls = [self._control_of(directory) for directory in directories]
        known = [control.mapping for control in controls if control is not None]
        tickets = [waiting.announce(mapping) for mapping in known]
        if timeout_s <= 0 or is_there():
            return
        blind = len(known) < len(controls)
        until = min(timeout_s, POLL_S if blind else SLEEP_S_MAX)
        if not waiting.sleep_any(known, tickets, self._bell, ticket, until):
            time.sleep(min(timeout_s, POLL_S))

    def close(self) -> None:
        """Unmap what was slept on."""
        for control in self._controls.values():
            control.close()
        self._controls.clear()
