"""Memory of this process as the kernel counts it."""

from __future__ import annotations

from pathlib import Path


def memory_use() -> dict[str, int]:
    """Return resident bytes by kind: `RssAnon` (anonymous), `RssFile` (mapped files), `RssShmem` (mapped files of a tmpfs)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = (line.split() for line in lines if line.startswith("Rss"))
    return {name.rstrip(":"): int(kib) * 1024 for name, kib, _ in fields}


def anonymous_bytes() -> int:
    """Return the resident bytes that no file stands behind."""
    return memory_use()["RssAnon"]
