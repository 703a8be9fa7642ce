"""The servers of one run: each started when a benchmark first needs it, frozen while others are measured, stopped at the end."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Self

from cometbench.benchmark import ConfigValue, load_subject
from cometbench.errors import CometbenchError
from cometbench.services.service import Service

KAFKA = "cometbench.services.kafka:WarmBroker"


class SharedServices:
    """Context manager; `given` holds addresses of servers that run already, by the path of the service they stand for."""

    def __init__(
        self, directory: Path, say: Callable[[str], None], given: Mapping[str, str] | None = None
    ) -> None:
        """Each server gets a directory of its own below `directory`."""
        self._directory, self._say, self._given = directory, say, dict(given or {})
        self._running: dict[str, Service] = {}
        self._failed: dict[str, CometbenchError] = {}

    @contextmanager
    def serving(self, path: str) -> Iterator[dict[str, ConfigValue]]:
        """Have the service behind `path` ("module:callable of a directory", "" for none) answer; yields its address and version.

        Raises CannotMeasureError where it is not installed, ServiceError where it does not come up, each time again.
        """
        if not path:
            yield {}
        elif path in self._given:
            yield {"address": self._given[path], "server": "a server that ran already"}
        else:
            service = self._service(path)
            service.resume()
            try:
                yield {"address": service.address, "server": service.version}
            finally:
                service.pause()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._running:
            self._running.popitem()[1].stop()

    def _service(self, path: str) -> Service:
        if path in self._failed:
            raise self._failed[path]
        if path not in self._running:
            started = monotonic()
            service: Service = load_subject(path)(self._directory / re.sub(r"\W+", "-", path))
            self._running[path] = service  # before it starts: it is stopped whatever interrupts that
            try:
                service.start()
            except CometbenchError as error:
                del self._running[path]
                self._failed[path] = error
                raise
            self._say(f"started {service.version} in {monotonic() - started:.1f} s")
        return self._running[path]
