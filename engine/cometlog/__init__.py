"""cometlog: an embedded, segmented, append-only log that many processes write at once.

>>> import cometlog
>>> with cometlog.open(directory) as client:
...     client.append("events:v1:shard:0000", [b"first", b"second"])
range(0, 2)
"""

from cometlog.batcher import Batcher
from cometlog.client import Client, open  # noqa: A004
from cometlog.config import (
    CompressionConfig,
    ConcurrencyConfig,
    Config,
    IndexingConfig,
    RetentionConfig,
    StorageConfig,
)
from cometlog.consumer import Consumer
from cometlog.errors import (
    AppendFencedError,
    BatcherError,
    BatcherFullError,
    BatchTooLargeError,
    ClosedError,
    CometlogError,
    ConfigurationError,
    CorruptionError,
    DictionaryError,
    EntryNotFoundError,
    EntryTypeError,
    GroupNameError,
    GroupTableFullError,
    NewerFormatError,
    NotALogError,
    ProcessingError,
    ReadOnlyError,
    ShardBusyError,
    StalledWriterError,
    StreamNameError,
    SyncError,
    WritePathConflictError,
)
from cometlog.names import pick_shard, pick_shard_stream
from cometlog.read_batch import Entry, ReadBatch
from cometlog.retention import RemovedSegment
from cometlog.statistics import ShardStatistics, StalledWriter
from cometlog.write_paths.base import Writer

__version__ = "0.1.0"

__all__ = [
    "AppendFencedError",
    "BatchTooLargeError",
    "Batcher",
    "BatcherError",
    "BatcherFullError",
    "Client",
    "ClosedError",
    "CometlogError",
    "CompressionConfig",
    "ConcurrencyConfig",
    "Config",
    "ConfigurationError",
    "Consumer",
    "CorruptionError",
    "DictionaryError",
    "Entry",
    "EntryNotFoundError",
    "EntryTypeError",
    "GroupNameError",
    "GroupTableFullError",
    "IndexingConfig",
    "NewerFormatError",
    "NotALogError",
    "ProcessingError",
    "ReadBatch",
    "ReadOnlyError",
    "RemovedSegment",
    "RetentionConfig",
    "ShardBusyError",
    "ShardStatistics",
    "StalledWriter",
    "StalledWriterError",
    "StorageConfig",
    "StreamNameError",
    "SyncError",
    "WritePathConflictError",
    "Writer",
    "open",
    "pick_shard",
    "pick_shard_stream",
]
