"""Every exception the engine raises, one root, few subclasses. Messages carry the value and the limit."""

from typing import Any


class CometlogError(Exception):
    """Root of everything the engine raises on purpose."""


class ConfigurationError(CometlogError, ValueError):
    """A configuration field is unknown or out of range."""


class StreamNameError(CometlogError, ValueError):
    """A stream name is not ``namespace:version:shard:NNNN`` with permitted characters."""


class GroupNameError(CometlogError, ValueError):
    """The name of a consumer group has characters that are not permitted, or too many."""


class GroupTableFullError(CometlogError):
    """A shard has as many consumer groups as it can hold."""


class ProcessingError(CometlogError):
    """A consumer's handler failed on a batch more often than it may; the batch is not acknowledged."""


class BatcherError(CometlogError):
    """Entries that a batcher took are not appended (yet); the message says how many and why."""


class BatcherFullError(CometlogError):
    """A batcher holds as many entries as it may; nothing of the new one was taken."""


class DictionaryError(CometlogError):
    """A compression dictionary cannot be trained from what there is."""


class ExtraMissingError(CometlogError, ImportError):
    """A module needs a package that is not installed; the message names the extra that brings it."""


class DestinationError(CometlogError, ValueError):
    """A destination to forward to is no URL of a known kind, or its template has a field that there is not."""


class TargetError(CometlogError):
    """What entries are forwarded to, or imported from, does not answer, refuses, or lacks something.

    Entries that it did not confirm stay to be sent.
    """


class ImportPositionError(CometlogError):
    """Another process imports into this stream for this group, or the group's import is of another source."""


class ForwardPositionError(CometlogError):
    """The target holds more of a stream than the log, which is an older copy of itself: numbers would be given again unnoticed."""


class ForwarderBusyError(CometlogError):
    """Another live process forwards this stream for this group."""


class EntryTypeError(CometlogError, TypeError):
    """An entry is not bytes."""


class BatchTooLargeError(CometlogError, ValueError):
    """A batch has more entries or bytes than a segment takes; nothing was written."""


class ClosedError(CometlogError, ValueError):
    """The client, writer or reader was closed before this call."""


class ReadOnlyError(CometlogError):
    """The client was opened read-only, or this platform cannot write."""


class WritePathConflictError(CometlogError):
    """Live processes write this shard by another write path."""


class WritePathUnavailableError(CometlogError):
    """The kernel refuses what a write path needs."""


class ShardBusyError(CometlogError):
    """A lock or a slot that this call needs is held by live processes."""


class AppendFencedError(CometlogError):
    """The append stalled so long that others gave its range up, three times; nothing of it is visible."""


class StalledWriterError(CometlogError):
    """A live writer stopped in the middle of an append, and what was asked for lies behind it."""


class SyncError(CometlogError):
    """The file system failed to make data durable; the shard takes no more appends until it is opened alone."""


class NewerFormatError(CometlogError):
    """A file was written by a later version of the format than this engine reads."""


class NotALogError(CometlogError):
    """A path is not what a log directory holds at that place: wrong type, owner or magic."""


class CorruptionError(CometlogError):
    """Bytes on disk are not what was written.

    Attributes: ``what``, ``file`` (path), ``offset`` (bytes from its start), ``stream`` (name or None), ``entry`` (number or
    None).
    """

    def __init__(
        self, what: str, *, file: str, offset: int, stream: str | None = None, entry: int | None = None
    ) -> None:
        where = f"{file} at byte {offset}"
        if stream is not None:
            where = f"stream {stream}, " + (f"entry {entry}, " if entry is not None else "") + where
        super().__init__(f"{what} ({where})")
        self.what = what
        self.file = file
        self.offset = offset
        self.stream = stream
        self.entry = entry

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with every attribute, so that the error of a worker process reaches who waits for it."""
        return _corruption, (self.what, self.file, self.offset, self.stream, self.entry)

    def of_stream(self, stream: str) -> "CorruptionError":
        """Return this error with the stream's name, for the layer that knows it."""
        if self.stream is not None:
            return self
        return CorruptionError(self.what, file=self.file, offset=self.offset, stream=stream, entry=self.entry)


def _corruption(what: str, file: str, offset: int, stream: str | None, entry: int | None) -> CorruptionError:
    return CorruptionError(what, file=file, offset=offset, stream=stream, entry=entry)


class EntryNotFoundError(CometlogError, LookupError):
    """An entry number lies before the first kept entry or beyond the next one."""
