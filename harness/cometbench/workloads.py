"""Payloads of CLAIMS.md sections Q and C: seeded, every entry different, entropy recorded.

A workload is a function from (index, random source) to one entry. Standard library only.
"""

from __future__ import annotations

import dataclasses
import random
import zlib
from collections import Counter
from collections.abc import Callable
from math import log2

from cometbench import payload
from cometbench.benchmark import load_subject
from cometbench.errors import unknown

POOL_ENTRIES_MINIMUM = 8192
POOL_BATCHES_MINIMUM = 4
SINGLE_LINE_BYTES = 117
_START_MS = 1_738_324_800_000
_LEVELS = ("DEBUG", "INFO", "WARN", "ERROR")
_EVENTS = ("page_view", "add_to_cart", "checkout", "login", "search")
_CITIES = ("Oslo", "Lagos", "Quito", "Hanoi", "Turin", "Perth", "Cusco", "Osaka")

MakeEntry = Callable[[int, random.Random], bytes]


@dataclasses.dataclass(frozen=True)
class Entropy:
    """What a pool holds: mean entry size, order-0 entropy.

    And size after deflate level 6 over the size before.
    """

    entry_bytes_mean: float
    bits_per_byte: float
    deflate_ratio: float


def json_line(index: int, source: random.Random) -> bytes:
    """Make the single write's entry: one JSON log line of exactly 117 bytes."""
    head = (
        f'{{"level":"{source.choice(_LEVELS)}","ts":{_START_MS + index},"service":"checkout",'
        f'"msg":"order accepted","id":{index},"trace":"'
    )
    room = SINGLE_LINE_BYTES - len(head) - 2
    return f'{head}{source.getrandbits(4 * room):0{room}x}"}}'.encode()


def json_item(index: int, source: random.Random) -> bytes:
    """Make an entry of the batch of 10: level, timestamp, "Processing item N", item id."""
    timestamp = _START_MS + index * 7 + source.getrandbits(2)
    return (
        f'{{"level":"{source.choice(_LEVELS)}","timestamp":{timestamp},'
        f'"msg":"Processing item {index}","item_id":{index}}}'
    ).encode()


def json_event(index: int, source: random.Random) -> bytes:
    """Batches of 100 and more: 85-120 bytes with batch id, index, event, payload and timestamp."""
    return (
        f'{{"batch_id":{index // 1000},"index":{index},"event":"{source.choice(_EVENTS)}",'
        f'"payload":"{source.getrandbits(48):012x}","timestamp":{_START_MS + index}}}'
    ).encode()


def json_shared(index: int, source: random.Random) -> bytes:
    """Multi-process mode: the guide's 44-byte line.

    47 bytes here because every id has six digits and differs.
    """
    del source
    return f'{{"level":"INFO","msg":"test entry","id":{100_000 + index:06d}}}'.encode()


def json_order(index: int, source: random.Random) -> bytes:
    """Compression: an order log of about 800 bytes: ids, a nested order, items, address, payment."""
    items = ",".join(
        f'{{"sku":"SKU-{source.randrange(10**6):06d}","name":"Product {source.randrange(5000)}",'
        f'"quantity":{source.randrange(1, 9)},"price":{source.randrange(100, 99_999) / 100}}}'
        for _ in range(5)
    )
    return (
        f'{{"timestamp":{_START_MS + index},"level":"{source.choice(_LEVELS)}","service":"order-service",'
        f'"trace_id":"{source.getrandbits(128):032x}","span_id":"{source.getrandbits(64):016x}",'
        f'"request_id":"{source.getrandbits(96):024x}","session_id":"{source.getrandbits(96):024x}",'
        f'"user_id":{source.randrange(10**7)},"msg":"order {index} processed",'
        f'"order":{{"id":{index},"items":[{items}],'
        f'"address":{{"street":"{source.randrange(1, 999)} Market Street","city":"{source.choice(_CITIES)}",'
        f'"zip":"{source.randrange(10**5):05d}"}},"payment":{{"method":"card","last4":"{source.randrange(10**4):04d}",'
        f'"amount":{source.randrange(1000, 999_999) / 100},"currency":"EUR"}}}}}}'
    ).encode()


def json_document(index: int, source: random.Random) -> bytes:
    """Make a document of about 6.5 KiB, beyond the engine's default threshold: eight orders of one customer."""
    orders = b",".join(json_order(8 * index + place, source) for place in range(8))
    return b'{"customer":%d,"orders":[%b]}' % (index, orders)


def no_payload(index: int, source: random.Random) -> bytes:
    """Floors append nothing; their calls are only counted."""
    del index, source
    return b""


WORKLOADS: dict[str, MakeEntry] = {
    "json_line": json_line,
    "json_item": json_item,
    "json_event": json_event,
    "json_shared": json_shared,
    "json_order": json_order,
    "json_document": json_document,
    "none": no_payload,
}


def pool_size(batch: int) -> int:
    """Entries in the pool of one writer: whole batches, at least 4 of them and at least 8192 entries."""
    return batch * max(POOL_BATCHES_MINIMUM, -(-POOL_ENTRIES_MINIMUM // batch))


_shared: dict[tuple[str, int, int, int, int], list[bytes]] = {}


def share_pool(workload: str, count: int, seed: int, process: int, processes: int) -> None:
    """Build a pool that this process keeps, for those that will be forked from it."""
    key = (workload, count, seed, process, processes)
    if key not in _shared:
        _shared[key] = build_pool(*key)


def build_pool(workload: str, count: int, seed: int, process: int = 0, processes: int = 1) -> list[bytes]:
    """`count` entries, the same for the same arguments, none of them in the pool of another of `processes`.

    All differ from one another, but for a user's own (`payload`), which are repeated where there are fewer. Raises UsageError for an
    unknown workload.
    """
    shared = _shared.get((workload, count, seed, process, processes))
    if shared is not None:
        return list(
            shared
        )  # counts a reference to each entry: a forked process copies their pages now, not while it is timed
    if workload.startswith(payload.PREFIX):
        return payload.payload_pool(workload, count, process, processes)
    make_entry = _find(workload)
    source = random.Random(f"{seed}/{workload}/{process}")
    first = process * count
    return [make_entry(first + position, source) for position in range(count)]


def _find(workload: str) -> MakeEntry:
    """Return a workload by its name, or by the dotted path `module:function` of one that lies elsewhere."""
    if ":" in workload:
        function: MakeEntry = load_subject(workload)
        return function
    if workload not in WORKLOADS:
        raise unknown("workload", workload, sorted(WORKLOADS))
    return WORKLOADS[workload]


def batches_of(pool: list[bytes], batch: int) -> list[bytes] | list[list[bytes]]:
    """Cut a pool into what the append calls receive: bytes objects for batch 1, lists of them otherwise."""
    if batch == 1:
        return pool
    return [pool[start : start + batch] for start in range(0, len(pool), batch)]


def entropy(pool: list[bytes]) -> Entropy:
    """Entropy facts of a pool, from its first MiB."""
    text = b"".join(pool)[: 1 << 20]
    if not text:
        return Entropy(0.0, 0.0, 1.0)
    counts = Counter(text)
    bits = -sum(count / len(text) * log2(count / len(text)) for count in counts.values())
    return Entropy(
        entry_bytes_mean=sum(map(len, pool)) / len(pool),
        bits_per_byte=bits,
        deflate_ratio=len(zlib.compress(text, 6)) / len(text),
    )
