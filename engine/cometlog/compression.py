"""Compression of a frame's payload, decided per batch and done before any claim; and the training of dictionaries.

Thread safety: any number of threads may share a Compressor; each keeps a zstd context of its own, because a context serves one call at
a time. A context with worker threads lives for one batch only: a forked child has none of them, and would wait for them for ever.
"""

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import zstandard

from cometlog.config import GIB, MIB, CompressionConfig
from cometlog.dictionaries import list_dictionaries, load_dictionary
from cometlog.errors import DictionaryError
from cometlog.kernel import layout
from cometlog.kernel.mapping import Mapping
from cometlog.statistics_file import count

LARGE_BATCH_BYTES = MIB
"""From here on zstd's own worker threads share a batch."""
SAMPLES_MIN = 20


class Compressor:
    """Compresses batches of one shard with zstd, by the shard's newest dictionary where there is one.

    ``statistics``: where it counts what it does, once that is set.
    """

    def __init__(self, config: CompressionConfig, directory: Path) -> None:
        self._config = config
        self._directory = directory
        self.statistics: Mapping | None = None
        self._dictionary: zstandard.ZstdCompressionDict | None = None
        self._dictionary_id = 0
        self._local = threading.local()
        self.refresh()

    def refresh(self) -> None:
        """Take up a dictionary that was trained since: called when a segment is bound. Nothing where compression is off."""
        if self._config.threshold_bytes >= GIB or not self._config.use_dictionary:
            return
        newest = max(list_dictionaries(self._directory), default=0)
        if newest != self._dictionary_id:
            self._dictionary = zstandard.ZstdCompressionDict(load_dictionary(self._directory, newest))
            self._dictionary_id = newest

    def _context(self) -> zstandard.ZstdCompressor:
        dictionary = self._dictionary
        known: tuple[object, zstandard.ZstdCompressor] | None = getattr(self._local, "context", None)
        if known is None or known[0] is not dictionary:
            known = self._local.context = dictionary, self._new_context(dictionary, threads=0)
        return known[1]

    def _new_context(
        self, dictionary: zstandard.ZstdCompressionDict | None, threads: int
    ) -> zstandard.ZstdCompressor:
        return zstandard.ZstdCompressor(
            level=self._config.level, dict_data=dictionary, write_content_size=True, write_checksum=False, threads=threads
        )  # fmt: skip

    def compress(self, batch: bytes) -> tuple[bytes, int]:
        """Return (payload, codec): compressed if that saves the configured share, else the batch as it is."""
        if len(batch) >= LARGE_BATCH_BYTES and self._config.workers > 1:
            context = self._new_context(self._dictionary, self._config.workers)
        else:
            context = self._context()
        started_ns = time.monotonic_ns()
        compressed: bytes = context.compress(batch)
        kept = len(compressed) <= len(batch) * (1 - self._config.saving_min)
        self._count(started_ns, len(batch), len(compressed) if kept else len(batch), kept)
        if not kept:
            return batch, layout.CODEC_NONE
        return compressed, layout.CODEC_ZSTD_DICTIONARY if self._dictionary_id else layout.CODEC_ZSTD

    def _count(self, started_ns: int, before_bytes: int, stored_bytes: int, kept: bool) -> None:
        if self.statistics is None:
            return
        count(self.statistics, layout.STATISTICS_COMPRESSIONS)
        count(self.statistics, layout.STATISTICS_COMPRESSED, kept)
        count(self.statistics, layout.STATISTICS_BYTES_BEFORE, before_bytes)
        count(self.statistics, layout.STATISTICS_BYTES_STORED, stored_bytes)
        count(self.statistics, layout.STATISTICS_COMPRESS_TIME, time.monotonic_ns() - started_ns)


def train(samples: Sequence[bytes], size_bytes: int, level: int) -> bytes:
    """Return a dictionary of at most ``size_bytes`` bytes for entries like the samples.

    Raises DictionaryError where there are too few samples, or too little in them.
    """
    if len(samples) < SAMPLES_MIN:
        raise DictionaryError(f"training needs at least {SAMPLES_MIN} entries, there are {len(samples)}")
    try:
        trained: bytes = zstandard.train_dictionary(size_bytes, list(samples), level=level).as_bytes()
    except zstandard.ZstdError as error:
        raise DictionaryError(
            f"{len(samples)} entries with {sum(map(len, samples))} bytes do not make a dictionary of {size_bytes} bytes: {error}; "
            f"give more entries or a smaller size"
        ) from error
    return trained
