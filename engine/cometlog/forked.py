"""What happens once in a forked child: its threads attach one after the other, by a lock that no thread of the parent can hold."""

import os
import threading

_lock = threading.RLock()


def _renew() -> None:
    global _lock  # noqa: PLW0603 - the parent's lock may be held by a thread that the child does not have
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def attach_lock() -> threading.RLock:
    """Return the lock under which a handle that came through a fork attaches anew."""
    return _lock
