"""Configuration: frozen dataclasses with the guide's groups, presets, and TOML.

Every field says what it does, what it costs, its unit and its default. Values out of range raise ConfigurationError with the value
and the limits; unknown names do too.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from cometlog.errors import ConfigurationError

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


def _bounded(low: int | float, high: int | float, default: int | float) -> Any:
    return field(default=default, metadata={"low": low, "high": high})


class _Group:
    """Checks every bounded field when a group is made."""

    def __post_init__(self) -> None:
        for item in fields(self):  # type: ignore[arg-type]
            value = getattr(self, item.name)
            where = f"{type(self).__name__.removesuffix('Config').lower()}.{item.name}"
            if item.type in (bool, "bool"):
                if not isinstance(value, bool):
                    raise ConfigurationError(f"{where} is true or false, got {value!r}")
                continue
            low, high = item.metadata["low"], item.metadata["high"]
            kinds = (int,) if isinstance(low, int) else (int, float)
            if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
                raise ConfigurationError(f"{where} is {low} to {high}, got {value!r}")


@dataclass(frozen=True, slots=True)
class CompressionConfig(_Group):
    """Compression of whole frames with zstd.

    ``threshold_bytes``: batches whose mean entry has at least this many bytes are compressed. Smaller thresholds save disk and cost
    several times the append time. Bytes, default 4 KiB; 1 GiB switches compression off.
    ``level``: zstd level; higher saves a little more and costs much more. Default 1.
    ``saving_min``: a compressed frame is kept only if it saves this share. Default 0.10.
    ``use_dictionary``: compress with the newest dictionary that was trained for the shard, if there is one. Default yes.
    ``workers``: threads that share a batch of 1 MiB or more. More threads, less time for large batches, a few MiB of memory each.
    Default 4.
    """

    threshold_bytes: int = _bounded(1, GIB, 4 * KIB)
    level: int = _bounded(1, 19, 1)
    saving_min: float = _bounded(0.0, 0.99, 0.10)
    use_dictionary: bool = True
    workers: int = _bounded(1, 64, 4)


@dataclass(frozen=True, slots=True)
class IndexingConfig(_Group):
    """The sparse index of each segment.

    ``boundary_interval_entries``: entries between two boundaries. Fewer entries make seeks shorter and the index larger (24 bytes a
    boundary). Default 1000.
    ``max_index_entries``: boundaries of one segment that a reader keeps in memory; beyond it every second one is dropped. Default
    100,000.
    """

    boundary_interval_entries: int = _bounded(1, 1_000_000, 1000)
    max_index_entries: int = _bounded(16, 100_000_000, 100_000)


@dataclass(frozen=True, slots=True)
class StorageConfig(_Group):
    """Files.

    ``segment_size_bytes``: length of a full segment. Larger means fewer rotations and coarser retention; address space, not disk, is
    taken at once. Default 64 MiB.
    ``checkpoint_interval_ms``: how often the helper thread brings the index on disk up to date. Default 100 ms.
    ``file_mode``, ``directory_mode``: permissions of new files and directories, exactly these, whatever the umask; those of the owner
    cannot be taken away. Default 0600 and 0700: the owner alone. With 0640 and 0750 the group can read the log.
    ``allow_network_file_system``: write on NFS and the like, where locks and mapped memory may not work between hosts. Default no.
    """

    segment_size_bytes: int = _bounded(64 * KIB, 8 * GIB, 64 * MIB)
    checkpoint_interval_ms: int = _bounded(1, 3_600_000, 100)
    file_mode: int = _bounded(0o600, 0o777, 0o600)
    directory_mode: int = _bounded(0o700, 0o777, 0o700)
    allow_network_file_system: bool = False

    def __post_init__(self) -> None:
        _Group.__post_init__(self)
        if self.file_mode & 0o600 != 0o600:
            raise ConfigurationError(
                f"storage.file_mode lets the owner read and write (0o600 and more), got {self.file_mode:#o}"
            )


@dataclass(frozen=True, slots=True)
class ConcurrencyConfig(_Group):
    """Processes on one shard.

    ``attach_timeout_s``: how long the first append waits for another process that recovers the shard. Default 30 s.
    ``stall_timeout_s``: how long ``sync`` waits for a live writer that stopped in the middle of an append, and how long ``sync`` and
    the appends of the paths that hold a lock wait for a live process that stopped while it held it. Shorter than the slowest sync of
    the disk, it raises errors where there is only a queue. Default 10 s.
    ``gather_delay_us``: how long a sync waits for more appends to share it; raises throughput of many durable writers, and the latency
    of one. Default 0.
    """

    attach_timeout_s: float = _bounded(0.0, 3600.0, 30.0)
    stall_timeout_s: float = _bounded(0.1, 3600.0, 10.0)
    gather_delay_us: int = _bounded(0, 1_000_000, 0)


@dataclass(frozen=True, slots=True)
class RetentionConfig(_Group):
    """What retention may remove: whole segments, the oldest first, never the active one; 0 means no limit.

    ``max_age_s``: segments whose newest entry is older, in seconds. Default 0.
    ``max_shard_bytes``: bytes of one shard's segment files. Default 0.
    ``max_total_bytes``: bytes of the segment files of the whole log. Default 0.
    ``min_segments``: segments of a shard that are always kept. Default 2.
    ``protect_unconsumed``: keep what a consumer group has not acknowledged; a group that is never read again then keeps everything,
    up to ``forced_shard_bytes``. Default yes.
    ``forced_shard_bytes``: bytes of one shard beyond which its oldest segments go although a group has not acknowledged them: it loses
    entries, the disk stays usable. Default 0.
    ``interval_s``: seconds between two looks of the background thread, which runs where there is a limit and looks after the streams
    that this client has appended to; ``Client.retain`` looks after all. 0: no thread. Default 60.
    """

    max_age_s: float = _bounded(0.0, 1e10, 0.0)
    max_shard_bytes: int = _bounded(0, 1 << 60, 0)
    max_total_bytes: int = _bounded(0, 1 << 60, 0)
    min_segments: int = _bounded(1, 1_000_000, 2)
    protect_unconsumed: bool = True
    forced_shard_bytes: int = _bounded(0, 1 << 60, 0)
    interval_s: float = _bounded(0.0, 1e7, 60.0)

    @property
    def has_limit(self) -> bool:
        """Whether anything may ever be removed."""
        return any((self.max_age_s, self.max_shard_bytes, self.max_total_bytes, self.forced_shard_bytes))


@dataclass(frozen=True, slots=True)
class Config:
    """The configuration of a client. Make one from a preset and change groups with ``with_changes``."""

    compression: CompressionConfig = CompressionConfig()
    indexing: IndexingConfig = IndexingConfig()
    storage: StorageConfig = StorageConfig()
    concurrency: ConcurrencyConfig = ConcurrencyConfig()
    retention: RetentionConfig = RetentionConfig()

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if type(value) is not type(item.default):
                raise ConfigurationError(f"{item.name} is a {type(item.default).__name__}, got {value!r}")

    @classmethod
    def default(cls) -> Self:
        """Return the defaults."""
        return cls()

    @classmethod
    def ultra_low_latency(cls) -> Self:
        """Return the guide's ultra-low latency profile: no compression, index every 10 s and every 1000 entries."""
        return cls(
            compression=CompressionConfig(threshold_bytes=GIB),
            indexing=IndexingConfig(boundary_interval_entries=1000),
            storage=StorageConfig(checkpoint_interval_ms=10_000),
        )

    @classmethod
    def high_throughput(cls) -> Self:
        """Return the preset for large batches: 256 MiB segments, a sparser index, no compression."""
        return cls(
            compression=CompressionConfig(threshold_bytes=GIB),
            indexing=IndexingConfig(boundary_interval_entries=10_000),
            storage=StorageConfig(segment_size_bytes=256 * MIB, checkpoint_interval_ms=1000),
        )

    @classmethod
    def high_compression(cls) -> Self:
        """Return the preset for small disks: batches are compressed from a mean entry of 256 bytes on."""
        return cls(compression=CompressionConfig(threshold_bytes=256, level=3))

    @classmethod
    def multi_process(cls) -> Self:
        """Return the preset for prefork servers: index every 100 ms."""
        return cls(storage=StorageConfig(checkpoint_interval_ms=100))

    def with_changes(self, **groups: Mapping[str, Any]) -> Self:
        """Return a copy with fields changed: ``config.with_changes(storage={"segment_size_bytes": 1 << 20})``."""
        return self._merged(groups)

    def _merged(self, groups: Mapping[str, Any]) -> Self:
        known = {item.name for item in fields(self)}
        changed: dict[str, Any] = {}
        for name, values in groups.items():
            if name not in known:
                raise ConfigurationError(f"unknown group {name!r}; the groups are {', '.join(sorted(known))}")
            if not isinstance(values, Mapping):
                raise ConfigurationError(f"{name} is a table of fields, got {values!r}")
            group = getattr(self, name)
            members = {item.name for item in fields(group)}
            unknown = sorted(set(values) - members)
            if unknown:
                raise ConfigurationError(
                    f"unknown field {name}.{unknown[0]}; the fields are {', '.join(sorted(members))}"
                )
            changed[name] = replace(group, **values)
        return replace(self, **changed)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a TOML file of groups and fields; what it does not name keeps its default."""
        with Path(path).open("rb") as file:
            try:
                return cls()._merged(tomllib.load(file))
            except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
                raise ConfigurationError(f"{path} is not TOML: {error}") from error

    def save(self, path: str | Path) -> None:
        """Write every field to a TOML file that ``load`` takes."""
        lines = []
        for group, values in asdict(self).items():
            lines.append(f"[{group}]")
            lines += [f"{name} = {_toml(value)}" for name, value in values.items()]
            lines.append("")
        Path(path).write_text("\n".join(lines))


def _toml(value: bool | int | float) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)
