"""What a log costs in memory and on disk, counted in bytes in a real process: the guide's typical deployment, and idle shards."""

from pathlib import Path

from memory_workers import IDLE_SHARDS
from support import MIB, Worker

WORKERS = Path(__file__).with_name("memory_workers.py")
ANONYMOUS_BYTES_MAX = 100 * 1000**2
IDLE_DISK_BYTES_MAX = 300 * 1000**2


def disk_bytes(root: Path) -> int:
    """Bytes of the blocks that everything below a directory takes."""
    return sum(path.lstat().st_blocks * 512 for path in [root, *root.rglob("*")])


def test_sixteen_shards_with_compression_and_one_group_take_less_than_100_mb_of_memory(
    root: Path, seed: int, start_worker: type[Worker]
) -> None:
    worker = start_worker("deploy_typically", script=WORKERS, root=str(root), seed=seed)
    appended, entry_bytes, before, after = worker.hear()
    assert worker.end() == 0
    print(
        f"{appended:,} entries of {entry_bytes} bytes: {after / MIB:.1f} MiB of anonymous memory, {before / MIB:.1f} before"
    )
    assert after < ANONYMOUS_BYTES_MAX


def test_256_idle_shards_take_less_than_300_mb_of_disk(root: Path, start_worker: type[Worker]) -> None:
    worker = start_worker("hold_idle_shards", script=WORKERS, root=str(root))
    assert worker.hear() == len(IDLE_SHARDS)
    live = disk_bytes(root)
    worker.tell()
    assert worker.hear() == "closed"
    assert worker.end() == 0
    closed = disk_bytes(root)
    print(
        f"{len(IDLE_SHARDS)} idle shards: {live / MIB:.1f} MiB on disk while open, {closed / MIB:.1f} MiB after closing"
    )
    assert live < IDLE_DISK_BYTES_MAX
    assert closed < IDLE_DISK_BYTES_MAX
