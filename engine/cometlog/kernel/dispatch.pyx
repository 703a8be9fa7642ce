# cython: binding=False
"""From a stream's name to its appender without a Python frame: what ``Client.append`` costs beyond ``Writer.extend``."""

from cometlog.kernel.appender cimport Appender


cdef class Dispatch:
    """Base of the client: keeps the writers that are attached, by stream name."""

    def __cinit__(self, *arguments, **options):
        self.extenders = {}

    def append(self, stream, entries):
        """Append a batch to a stream and return the range of its entry numbers; it is visible as a whole or not at all.

        Raises StreamNameError, EntryTypeError, BatchTooLargeError, ClosedError, WritePathConflictError, OSError (disk full),
        SyncError.
        """
        cdef object writer = self.extenders.get(stream) if type(stream) is str else None
        if type(writer) is Appender:
            return (<Appender>writer).extend(entries)
        if writer is None:
            writer = self.writer(stream)
        return writer.extend(entries)

    def remember_writer(self, str stream not None, writer not None):
        """Send appends to ``stream`` straight to ``writer`` from now on."""
        self.extenders[stream] = writer

    def forget_writers(self):
        """Send every append through ``writer(stream)`` again."""
        self.extenders.clear()
