"""Compression of a frame's payload, decided per batch and done before any claim; and the training of dictionaries.

Thread safety: any number of threads may share a Compressor; each keeps zstd contexts of its own, because a context serves one call at
a time.
"""

import threading
from collections.abc import Sequence
from pathlib import Path

import zstandard

from cometlog.config import GIB, MIB, CompressionConfig
from cometlog.dictionaries import list_dictionaries, load_dictionary
from cometlog.errors import DictionaryError
from cometlog.kernel import layout

LARGE_BATCH_BYTES = MIB
"""From here on zstd's own worker threads share a batch."""
SAMPLES_MIN = 20


class Compressor:
    """Compresses batches of one shard with zstd, by the shard's newest dictionary where there is one."""

    def __init__(self, config: CompressionConfig, directory: Path) -> None:
        self._config = config
        self._directory = directory
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

    def _context(self, large: bool) -> zstandard.ZstdCompressor:
        contexts = self._local.__dict__.setdefault("contexts", {})
        dictionary, dictionary_id = self._dictionary, self._dictionary_id
        context: zstandard.ZstdCompressor | None = contexts.get((large, dictionary_id))
        if context is None:
            contexts.clear()
            context = contexts[large, dictionary_id] = zstandard.ZstdCompressor(
                level=self._config.level, dict_data=dictionary, write_content_size=True, write_checksum=False,
                threads=self._config.workers if large else 0,
            )  # fmt: skip
        return context

    def compress(self, batch: bytes) -> tuple[bytes, int]:
        """Return (payload, codec): compressed if that saves the configured share, else the batch as it is."""
        context = self._context(len(batch) >= LARGE_BATCH_BYTES and self._config.workers > 1)
        compressed: bytes = context.compress(batch)
        if len(compressed) > len(batch) * (1 - self._config.saving_min):
            return batch, layout.CODEC_NONE
        return compressed, layout.CODEC_ZSTD_DICTIONARY if self._dictionary_id else layout.CODEC_ZSTD


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
