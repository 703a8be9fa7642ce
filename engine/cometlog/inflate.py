"""Decompression of frame payloads, capped before anything is allocated. Writers compress elsewhere."""

from functools import cache
from typing import TYPE_CHECKING

from cometlog.kernel import layout

if TYPE_CHECKING:
    import zstandard


@cache
def _decompressor() -> "zstandard.ZstdDecompressor":
    import zstandard  # noqa: PLC0415 - only shards with compression pay for it

    return zstandard.ZstdDecompressor()


def inflate(payload: memoryview, codec: int) -> bytes:
    """Return the batch that a compressed payload holds.

    Raises ValueError for what is not one whole zstd frame, for a size that is not stated or beyond
    ``MAX_BATCH_BYTES``, and for a dictionary that is not there.
    """
    decompressor = _decompressor()
    import zstandard  # noqa: PLC0415

    try:
        parameters = zstandard.get_frame_parameters(payload)
        if parameters.content_size > layout.MAX_BATCH_BYTES:
            raise ValueError(
                f"compressed batch states {parameters.content_size} bytes, at most {layout.MAX_BATCH_BYTES}"
            )
        if codec == layout.CODEC_ZSTD_DICTIONARY or parameters.dict_id:
            raise ValueError(
                f"compressed batch needs dictionary {parameters.dict_id}, which this shard does not have"
            )
        return decompressor.decompress(payload, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(f"compressed batch is damaged: {error}") from error
