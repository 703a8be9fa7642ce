"""NATS with JetStream.

A publish to a stream on disk is acknowledged after its `write`, so it survives a crash of the server; the file is synced every
two minutes, or before each acknowledgement where `sync_always` asks for it, and then survives a power loss.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from cometbench.peers import built_directory, find_program
from cometbench.services.service import HOST, Service, first_bytes


class NatsServer(Service):
    """One nats-server that stores streams under its directory."""

    name = "NATS"

    def __init__(self, directory: Path, *, sync_always: bool = False) -> None:
        super().__init__(directory)
        self._sync_always = sync_always

    def command(self) -> Sequence[str]:
        program = find_program("nats", "nats-server", built_directory("nats"))
        sync = "sync_interval: always" if self._sync_always else ""
        file = self.directory / "server.conf"
        file.write_text(
            f'host: "{HOST}"\nport: {self.port}\njetstream {{ store_dir: "{self.directory}"\n{sync} }}\n'
        )
        return [program, "--config", str(file)]

    def is_ready(self) -> bool:
        return bool(self._information().get("jetstream"))

    @property
    def version(self) -> str:
        return f"NATS {self._information()['version']}"

    def _information(self) -> dict[str, object]:
        """Return the line with which the server greets a client."""
        kind, _, information = first_bytes(self.port).partition(b" ")
        return json.loads(information) if kind == b"INFO" else {}


def sync_always(directory: Path) -> NatsServer:
    """Return a server that syncs before each acknowledgement."""
    return NatsServer(directory, sync_always=True)
