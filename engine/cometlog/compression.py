"""Compression of a frame's payload, decided per batch and done before any claim."""

import threading

import zstandard

from cometlog.config import CompressionConfig
from cometlog.kernel import layout


class Compressor:
    """Compresses batches with zstd. Any number of threads may share one; each keeps a zstd context of its own."""

    def __init__(self, config: CompressionConfig) -> None:
        self._config = config
        self._local = threading.local()

    def compress(self, batch: bytes) -> tuple[bytes, int]:
        """Return (payload, codec): compressed if that saves the configured share, else the batch as it is."""
        context = getattr(self._local, "context", None)
        if context is None:
            context = self._local.context = zstandard.ZstdCompressor(
                level=self._config.level, write_content_size=True, write_checksum=False
            )
        compressed: bytes = context.compress(batch)
        if len(compressed) <= len(batch) * (1 - self._config.saving_min):
            return compressed, layout.CODEC_ZSTD
        return batch, layout.CODEC_NONE
