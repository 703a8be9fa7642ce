"""Retention in the background, and over all shards of a log.

Thread safety: one daemon thread for a client, begun by its first writer and again in a forked child; it sleeps on an event between
two looks and ends with the client.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cometlog.config import RetentionConfig
from cometlog.errors import ClosedError, CometlogError
from cometlog.names import parse_stream
from cometlog.retention import Kept, kept_segments

_log = logging.getLogger("cometlog.retention")


def share_excess(root: Path, streams: list[str], max_total_bytes: int) -> dict[str, int]:
    """Return how many bytes of each stream have to go so that all together have at most ``max_total_bytes``; 0 means no limit.

    The segments that ended first go first, whatever shard they are in; a shard's last segment never counts as one that may go.
    """
    if not max_total_bytes:
        return {}
    kept: list[tuple[str, Kept]] = []
    for stream in streams:
        with suppress(FileNotFoundError, CometlogError):
            kept += [(stream, segment) for segment in kept_segments(parse_stream(stream).directory(root))]
    excess = sum(segment.size_bytes for _, segment in kept) - max_total_bytes
    shares: dict[str, int] = {}
    for stream, segment in sorted(kept, key=lambda item: item[1].ended_ns or 0):
        if excess <= 0:
            break
        if segment.ended_ns is not None:
            shares[stream] = shares.get(stream, 0) + segment.size_bytes
            excess -= segment.size_bytes
    return shares


class RetentionThread:
    """Calls ``retain`` every ``limits.interval_s`` seconds; does nothing where there is no limit or no interval."""

    def __init__(self, limits: RetentionConfig, retain: Callable[[], object]) -> None:
        self._limits = limits
        self._retain = retain
        self._ending = threading.Event()
        self._begun_in: int | None = None
        self._thread: threading.Thread | None = None

    def begin(self, process: int) -> None:
        """Begin in this process unless it was begun here; a forked child has a thread of its own."""
        if not self._limits.has_limit or not self._limits.interval_s or self._begun_in == process:
            return
        self._begun_in = process
        self._ending = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(self._ending,), name="cometlog-retention", daemon=True
        )
        self._thread.start()

    def _run(self, ending: threading.Event) -> None:
        while not ending.wait(self._limits.interval_s):
            try:
                self._retain()
            except ClosedError:
                return
            except (CometlogError, OSError) as error:
                _log.warning(
                    "retention failed and is tried again in %s s: %s", self._limits.interval_s, error
                )

    def end(self, process: int) -> None:
        """End the thread and wait until what it is at is finished. A forked child has no thread of its parent's to wait for."""
        self._ending.set()
        if (
            self._thread is not None
            and self._begun_in == process
            and self._thread is not threading.current_thread()
        ):
            self._thread.join()
