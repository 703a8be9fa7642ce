"""From what a group read to what a target is given: epochs, idempotency keys, key extraction, and entries that are too long."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

from cometlog.errors import ProcessingError, TargetError
from cometlog.forward.dead_letters import Letter
from cometlog.forward.target import Shipment
from cometlog.kernel import decode
from cometlog.names import parse_stream
from cometlog.read_batch import ReadBatch
from cometlog.segment import read_header

KeyExtractor = Callable[[bytes], bytes | None]
"""Returns the key of an entry, or None for one that has none."""


@lru_cache(maxsize=1024)
def _epoch(path: Path) -> int:
    try:
        return read_header(path)[0].epoch
    except FileNotFoundError as error:
        raise TargetError(f"retention removed {path} while its entries were forwarded") from error


class Packer:
    """Turns read batches into shipments. ``identity`` is the log's."""

    def __init__(self, identity: str, key: KeyExtractor | None) -> None:
        self._identity = identity
        self._key = key

    def pack(self, batch: ReadBatch) -> Iterator[Shipment]:
        """Yield the entries of a batch piece by piece. Raises TargetError where a forced retention was faster."""
        shard, left = parse_stream(batch.stream).shard, len(batch)
        numbers: list[int] = []
        timestamps: list[int] = []
        run = None
        for piece in batch.pieces():
            if piece.run is not run:
                run, start = piece.run, 0
                numbers, timestamps = (
                    decode.numbers(run.frames).tolist(),
                    decode.timestamps(run.frames).tolist(),
                )
                epoch = _epoch(run.path)
                prefix = f"{self._identity}/{batch.stream}/{epoch}/".encode()
            stop = start + len(piece.payloads)
            left -= len(piece.payloads)
            yield Shipment(
                batch.stream, shard, epoch, prefix, numbers[start:stop], timestamps[start:stop], piece.payloads,
                self._keys(batch.stream, piece.payloads), numbers[stop - 1] + 1 if left else batch.next_entry,
            )  # fmt: skip
            start = stop

    def _keys(self, stream: str, payloads: list[bytes]) -> list[bytes | None] | None:
        if self._key is None:
            return None
        try:
            keys = [self._key(payload) for payload in payloads]
        except Exception as error:
            raise ProcessingError(
                f"the key extractor failed on an entry of {stream}: {error!r}; let it return None for entries without a key"
            ) from error
        wrong = next((key for key in keys if key is not None and type(key) is not bytes), None)
        if wrong is not None:
            raise ProcessingError(
                f"the key extractor returned {wrong!r} for an entry of {stream}; a key is bytes or None"
            )
        return keys


def split(
    shipment: Shipment, limit_bytes: int, refused: dict[tuple[str, int], str]
) -> tuple[Shipment, list[Letter]]:
    """Take entries over the limit, and those that were refused, out of a shipment; return the rest and the letters of these."""
    keys = shipment.keys
    sizes = list(map(len, shipment.payloads))
    if keys is not None:
        sizes = [size + len(key or b"") for size, key in zip(sizes, keys, strict=True)]
    if max(sizes, default=0) <= limit_bytes and not refused:
        return shipment, []
    letters: list[Letter] = []
    kept: list[int] = []
    for place, (number, size) in enumerate(zip(shipment.numbers, sizes, strict=True)):
        reason = refused.get((shipment.stream, number))
        if size > limit_bytes:
            reason = f"{size} bytes, the target takes {limit_bytes}"
        if reason is None:
            kept.append(place)
            continue
        limit = limit_bytes if size > limit_bytes else None
        timestamp_ns, data = shipment.timestamps_ns[place], shipment.payloads[place]
        letters.append(Letter(shipment.stream, number, shipment.epoch, timestamp_ns, reason, limit, data))
    rest = Shipment(
        shipment.stream, shipment.shard, shipment.epoch, shipment.prefix,
        [shipment.numbers[place] for place in kept], [shipment.timestamps_ns[place] for place in kept],
        [shipment.payloads[place] for place in kept], None if keys is None else [keys[place] for place in kept],
        shipment.next_entry,
    )  # fmt: skip
    return rest, letters
