"""Redis with an append-only file.

A command is answered after its `write` to that file, so what was answered survives a crash of the server. With appendfsync
"always" the file is synced before the answer too and survives a power loss; with "everysec", the server's default, the last
second or two may be lost then.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from cometbench.peers import find_program
from cometbench.services.service import HOST, Service, first_bytes


class RedisServer(Service):
    """One redis-server with `appendonly yes` and no snapshots."""

    name = "Redis"

    def __init__(self, directory: Path, appendfsync: Literal["always", "everysec"] = "everysec") -> None:
        super().__init__(directory)
        self._appendfsync = appendfsync

    def command(self) -> Sequence[str]:
        program = find_program("redis", "redis-server")
        options = {"bind": HOST, "port": self.port, "dir": self.directory, "save": "", "daemonize": "no"}
        durable = {"appendonly": "yes", "appendfsync": self._appendfsync}
        return [
            program,
            *(str(word) for key, value in (options | durable).items() for word in (f"--{key}", value)),
        ]

    def is_ready(self) -> bool:
        return first_bytes(self.port, b"PING\r\n").startswith(b"+PONG")

    @property
    def version(self) -> str:
        found = re.search(rb"redis_version:(\S+)", first_bytes(self.port, b"INFO server\r\n"))
        return f"Redis {found[1].decode() if found else 'unknown'}"


def everysec(directory: Path) -> RedisServer:
    """Return a server that syncs its file once a second."""
    return RedisServer(directory, "everysec")


def always(directory: Path) -> RedisServer:
    """Return a server that syncs its file before it answers."""
    return RedisServer(directory, "always")
