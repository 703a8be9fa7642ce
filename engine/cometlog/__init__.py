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
    DestinationError,
    DictionaryError,
    EntryNotFoundError,
    EntryTypeError,
    ExtraMissingError,
    ForwarderBusyError,
    ForwardPositionError,
    GroupNameError,
    GroupTableFullError,
    ImportPositionError,
    NewerFormatError,
    NotALogError,
    ProcessingError,
    ReadOnlyError,
    ShardBusyError,
    StalledWriterError,
    StreamNameError,
    SyncError,
    TargetError,
    WritePathConflictError,
    WritePathUnavailableError,
)
from cometlog.health import Health
from cometlog.latency import LatencyHistogram
from cometlog.names import all_shard_streams, owns_shard, pick_shard, pick_shard_stream
from cometlog.read_batch import Entry, ReadBatch
from cometlog.retention import RemovedSegment
from cometlog.slo import SloRow
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
    "DestinationError",
    "DictionaryError",
    "Entry",
    "EntryNotFoundError",
    "EntryTypeError",
    "ExtraMissingError",
    "ForwardPositionError",
    "ForwarderBusyError",
    "GroupNameError",
    "GroupTableFullError",
    "Health",
    "ImportPositionError",
    "IndexingConfig",
    "LatencyHistogram",
    "NewerFormatError",
    "NotALogError",
    "ProcessingError",
    "ReadBatch",
    "ReadOnlyError",
    "RemovedSegment",
    "RetentionConfig",
    "ShardBusyError",
    "ShardStatistics",
    "SloRow",
    "StalledWriter",
    "StalledWriterError",
    "StorageConfig",
    "StreamNameError",
    "SyncError",
    "TargetError",
    "WritePathConflictError",
    "WritePathUnavailableError",
    "Writer",
    "all_shard_streams",
    "open",
    "owns_shard",
    "pick_shard",
    "pick_shard_stream",
]
