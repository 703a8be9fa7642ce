"""The disk below a log: what it gives without one, seeks by entry number, and what the noatime mount option changes."""

from __future__ import annotations

import mmap
import os
import random
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import cometlog
from cometbench import workloads
from cometbench.benchmark import STREAM
from cometbench.errors import CannotMeasureError
from cometbench.probe import Outcome, Task
from cometbench.probes import places
from cometbench.subjects.engine import chunks_of
from cometbench.verification import Appended, Finding, in_all, verify_entries

MIB = 1 << 20
PAGE = 4096
_SEQUENTIAL_MIB_PER_SECOND = 128
_READS = 200
_SEEKS_PER_SECOND = 4000
_SEEK_ENTRIES = 50_000
_IMAGE_BYTES = 96 * MIB
_BATCH = 100
_TURNS = 4
_BATCHES_PER_SECOND = 400
MOUNTS = {"atime": "strictatime", "relatime": "relatime", "noatime": "noatime,nodiratime"}


def floor(task: Task) -> Outcome:
    """Probe function: the disk itself: bytes per second written and synced, nanoseconds of a random read past the cache."""
    file = task.directory / "sequential"
    size = max(4, int(_SEQUENTIAL_MIB_PER_SECOND * task.seconds)) * MIB
    block = memoryview(random.Random(task.seed).randbytes(MIB))
    fd = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        started = perf_counter()
        for offset in range(0, size, MIB):
            os.pwrite(fd, block, offset)
        os.fdatasync(fd)
        written_s = perf_counter() - started
    finally:
        os.close(fd)
    reads, intact = _random_reads(file, size, bytes(block), task.seed)
    finding = Finding(
        "ok" if intact == _READS else "failed", _READS, intact, "" if intact == _READS else "pages differ"
    )
    return Outcome({"sequential_write": size / written_s, "random_read": median(reads) * 1e9}, finding)


def _random_reads(file: Path, size: int, block: bytes, seed: int) -> tuple[list[float], int]:
    """Read pages at random past the page cache; return the seconds of each and how many were what was written."""
    source, seconds, intact = random.Random(seed), [], 0
    buffer = mmap.mmap(-1, PAGE)
    try:
        fd = os.open(file, os.O_RDONLY | os.O_DIRECT)
    except OSError as error:
        raise CannotMeasureError(f"the file system has no O_DIRECT: {error.strerror}") from error
    try:
        for _ in range(_READS):
            offset = source.randrange(size // PAGE) * PAGE
            started = perf_counter()
            os.preadv(fd, [buffer], offset)
            seconds.append(perf_counter() - started)
            intact += buffer[:] == block[offset % MIB : offset % MIB + PAGE]
    finally:
        os.close(fd)
        buffer.close()
    return seconds, intact


def seeks(task: Task) -> Outcome:
    """Probe function: nanoseconds of reading one entry by its number, boundaries 1000 and 100 entries apart, single frames."""
    values: dict[str, float] = {}
    findings = []
    pool = workloads.build_pool(
        "json_line", max(2000, int(_SEEK_ENTRIES * min(task.seconds, 1.0))), task.seed
    )
    source = random.Random(task.seed)
    for interval in (1000, 100):
        config = cometlog.Config.default().with_changes(indexing={"boundary_interval_entries": interval})
        with cometlog.open(task.directory / f"every{interval}", config) as client:
            append = client.writer(STREAM).append
            for entry in pool:
                append(entry)
        numbers = [source.randrange(len(pool)) for _ in range(max(50, int(_SEEKS_PER_SECOND * task.seconds)))]
        with cometlog.open(task.directory / f"every{interval}", read_only=True) as client:
            client.read(STREAM, start=len(pool) - 1, count=1)
            started = perf_counter()
            found = [client.read(STREAM, start=number, count=1) for number in numbers]
            values[f"boundary{interval}"] = (perf_counter() - started) / len(numbers) * 1e9
        intact = sum(batch.payloads() == [pool[number]] for batch, number in zip(found, numbers, strict=True))
        detail = "" if intact == len(numbers) else f"{len(numbers) - intact} seeks found another entry"
        findings.append(Finding("failed" if detail else "ok", len(numbers), intact, detail))
    return Outcome(values, in_all(findings))


def access_times(task: Task) -> Outcome:
    """Probe function: appending with a sync a batch, and reading back, on one ext4 mounted with and without access times."""
    places.enter_mount_namespace()
    image = task.directory / "image"
    places.make_image(image, _IMAGE_BYTES)
    mounted = task.directory / "mounted"
    mounted.mkdir()
    pool = workloads.build_pool("json_event", _BATCH * 10, task.seed)
    batches = max(4, int(_BATCHES_PER_SECOND * task.seconds / (_TURNS * len(MOUNTS))))
    seconds: dict[str, list[float]] = {f"{what}_{name}": [] for what in ("append", "read") for name in MOUNTS}
    findings = []
    order = random.Random(task.seed)
    for turn in range(_TURNS):
        for name in order.sample(list(MOUNTS), len(MOUNTS)):
            places.mount_image(image, mounted, MOUNTS[name])
            try:
                appended, read, finding = _one_mount(mounted / f"{name}{turn}", pool, batches)
            finally:
                places.unmount(mounted)
            seconds[f"append_{name}"].append(appended)
            seconds[f"read_{name}"].append(read)
            findings.append(finding)
    values = {name: median(taken) / (batches * _BATCH) * 1e9 for name, taken in seconds.items()}
    return Outcome(values, in_all(findings))


def _one_mount(log: Path, pool: list[bytes], batches: int) -> tuple[float, float, Finding]:
    items = [pool[start : start + _BATCH] for start in range(0, len(pool), _BATCH)]
    with cometlog.open(log) as client:
        writer = client.writer(STREAM)
        writer.extend(items[0])
        started = perf_counter()
        for number in range(1, batches):
            writer.extend(items[number % len(items)])
            client.sync(STREAM)
        appended_s = perf_counter() - started
    started = perf_counter()
    with cometlog.open(log, read_only=True) as client:
        chunks = list(chunks_of(client, STREAM))
    read_s = perf_counter() - started
    return appended_s, read_s, verify_entries(STREAM, [Appended(pool, batches * _BATCH)], chunks)


def checksums(task: Task) -> Outcome:
    """Probe function: what the checksum of an entry costs by the CPU's instruction and by a table, beside the append that holds it."""
    from cometlog.kernel import checksum  # noqa: PLC0415 - only this probe takes an implementation away

    fastest, plain = checksum.available()[0], checksum.available()[-1]
    if fastest == plain:
        raise CannotMeasureError(f"this CPU has no instruction for CRC32C: {plain} is all there is")
    pool = workloads.build_pool("json_event", 1000, task.seed)
    payload = b"".join(pool)
    append_s, finding = _append_seconds(task, pool)
    values = {"append": append_s / len(pool) * 1e9}
    for name, implementation in (("instruction", fastest), ("table", plain)):
        checksum.use(implementation)
        values[name] = _median_seconds(lambda: checksum.crc32c(payload), task.seconds / 4) / len(pool) * 1e9
    checksum.use(fastest)
    values["append_by_table"] = values["append"] + values["table"] - values["instruction"]
    return Outcome(values, finding, {"fastest": fastest, "plain": plain})


def _append_seconds(task: Task, pool: list[bytes]) -> tuple[float, Finding]:
    log, calls = task.directory / "log", 0
    with cometlog.open(log) as client:
        extend = client.writer(STREAM).extend

        def append() -> None:
            nonlocal calls
            extend(pool)
            calls += 1

        seconds = _median_seconds(append, task.seconds / 4)
    with cometlog.open(log, read_only=True) as client:
        return seconds, verify_entries(STREAM, [Appended(pool, calls * len(pool))], chunks_of(client, STREAM))


def _median_seconds(call: Callable[[], object], seconds: float) -> float:
    """Return the median seconds of a call, repeated for so long."""
    taken: list[float] = []
    until = perf_counter() + seconds
    while perf_counter() < until or len(taken) < 3:
        started = perf_counter()
        call()
        taken.append(perf_counter() - started)
    return median(taken)
