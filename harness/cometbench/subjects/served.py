"""A subject that is a client of a server: its address comes by config, and each benchmark's log has a name of its own there."""

from __future__ import annotations

import hashlib

from cometbench.subjects.contract import Subject


class ServedSubject(Subject):
    """Config `address` (HOST:PORT) and `server` (name and version) come from the service of the benchmark.

    All workers of a run share the server, so a log is removed from it once it was read back.
    """

    @property
    def address(self) -> str:
        """HOST:PORT of the server."""
        return str(self.config["address"])

    @property
    def log_name(self) -> str:
        """Name of this benchmark's log on the server, of letters, digits and hyphens."""
        return "bench-" + hashlib.sha256(str(self.directory).encode()).hexdigest()[:16]
