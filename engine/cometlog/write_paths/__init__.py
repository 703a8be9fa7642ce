"""The five write paths, by the name that ``cometlog.open`` takes. A new one is a file here and a line below."""

from collections.abc import Callable
from pathlib import Path

from cometlog.config import Config
from cometlog.names import StreamName
from cometlog.write_paths.async_checkpoint import AsyncPath
from cometlog.write_paths.base import WritePath
from cometlog.write_paths.buffered import BufferedPath
from cometlog.write_paths.mmap_lockfree import MmapPath
from cometlog.write_paths.sync_checkpoint import SyncPath
from cometlog.write_paths.uring import UringPath

WRITE_PATHS: dict[str, Callable[[Path, StreamName, Config], WritePath]] = {
    "mmap": MmapPath,
    "buffered": BufferedPath,
    "sync": SyncPath,
    "async": AsyncPath,
    "uring": UringPath,
}
