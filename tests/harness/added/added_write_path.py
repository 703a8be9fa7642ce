"""A write path in a file of its own: the buffered one, counting its appends."""

from cometlog.write_paths.buffered import BufferedPath


class CountingPath(BufferedPath):
    """Like its parent; a real one would write otherwise."""
