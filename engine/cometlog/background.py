"""The helper thread of this process: one for all clients, started by the first writer, without the GIL for all of its life."""

import _thread
import errno
import os
import threading

from cometlog.kernel.fork_guard import process_id
from cometlog.kernel.helper import Helper

_lock = threading.Lock()
_helpers: dict[int, Helper] = {}


def helper_of_this_process() -> Helper:
    """Return the process's helper, starting its thread on first use; a forked child gets its own.

    Raises OSError where the system gives this process no more threads or memory.
    """
    global _lock  # noqa: PLW0603 - a child must not wait for a lock that a thread of its parent held
    pid = process_id()
    helper = _helpers.get(pid)
    if helper is not None:
        return helper
    if _helpers:
        _lock = threading.Lock()
    with _lock:
        if pid not in _helpers:
            helper = Helper()
            try:
                # Not a Thread: its start() waits for ever for a thread that finds no memory for its first steps. Without its
                # helper a writer grows the file by itself.
                _thread.start_new_thread(helper.run, ())
            except RuntimeError as error:
                raise OSError(
                    errno.EAGAIN, f"the helper thread cannot start: {os.strerror(errno.EAGAIN)}"
                ) from error
            _helpers.clear()
            _helpers[pid] = helper
        return _helpers[pid]
