"""Decompression of frame payloads, capped before anything is allocated. Writers compress elsewhere.

Thread safety: each thread has zstd contexts of its own, because a context serves one call at a time and works without the GIL.
"""

import threading
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from cometlog.dictionaries import load_dictionary
from cometlog.errors import CorruptionError
from cometlog.kernel import layout

if TYPE_CHECKING:
    import zstandard

DICTIONARIES_CACHED = 64
_local = threading.local()


@lru_cache(maxsize=DICTIONARIES_CACHED)
def _dictionary(directory: Path, dictionary_id: int) -> "zstandard.ZstdCompressionDict":
    import zstandard  # noqa: PLC0415

    return zstandard.ZstdCompressionDict(load_dictionary(directory, dictionary_id))


def _decompressor(dictionary: "zstandard.ZstdCompressionDict | None") -> "zstandard.ZstdDecompressor":
    import zstandard  # noqa: PLC0415 - only shards with compression pay for it

    if dictionary is None:
        if not hasattr(_local, "plain"):
            _local.plain = zstandard.ZstdDecompressor()
        plain: zstandard.ZstdDecompressor = _local.plain
        return plain
    if getattr(_local, "dictionary", None) is not dictionary:
        _local.dictionary, _local.with_dictionary = (
            dictionary,
            zstandard.ZstdDecompressor(dict_data=dictionary),
        )
    with_dictionary: zstandard.ZstdDecompressor = _local.with_dictionary
    return with_dictionary


def _inflate(segment: Path, payload: memoryview, codec: int) -> bytes:
    """Return the batch that a compressed payload holds.

    Raises ValueError for what is not one whole zstd frame, for a size that is not stated or beyond
    ``MAX_BATCH_BYTES``, and for a dictionary that is not there or is not the one that the frame names.
    """
    import zstandard  # noqa: PLC0415

    try:
        parameters = zstandard.get_frame_parameters(payload)
        if parameters.content_size > layout.MAX_BATCH_BYTES:
            raise ValueError(
                f"compressed batch states {parameters.content_size} bytes, at most {layout.MAX_BATCH_BYTES}"
            )
        dictionary = None
        if (codec == layout.CODEC_ZSTD_DICTIONARY) != bool(parameters.dict_id):
            raise ValueError(f"compressed batch of codec {codec} names dictionary {parameters.dict_id}")
        if parameters.dict_id:
            dictionary = _dictionary(segment.parent, parameters.dict_id)
        return _decompressor(dictionary).decompress(payload, allow_extra_data=False)
    except FileNotFoundError:
        raise ValueError(
            f"compressed batch needs dictionary {parameters.dict_id}, which this shard does not have"
        ) from None
    except CorruptionError as error:
        raise ValueError(f"compressed batch needs dictionary {parameters.dict_id}: {error}") from error
    except zstandard.ZstdError as error:
        raise ValueError(f"compressed batch is damaged: {error}") from error


inflater_for: Callable[[Path], Callable[[memoryview, int], bytes]] = partial(partial, _inflate)
"""Returns the function that decompresses payloads of a segment file; dictionaries lie beside it."""
