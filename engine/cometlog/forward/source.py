"""The contract of what is imported from. ``kafka_source.py`` and ``nats_source.py`` implement it."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple, cast

from cometlog.errors import DestinationError
from cometlog.forward.destination import parse_destination

SOURCES = {
    "kafka": "cometlog.forward.kafka_source:KafkaSource",
    "nats": "cometlog.forward.nats_source:NatsSource",
}


class Record(NamedTuple):
    """One record: where it came from, the key that a forwarder gave it (empty: it was not forwarded), and its bytes."""

    partition: str
    offset: int
    identity: str
    data: bytes


class Source(ABC):
    """A topic or a stream that is read once, in order within each partition. Used by one thread."""

    @abstractmethod
    def check(self) -> None:
        """Connect, and see that it is there. Raises TargetError within 10 s where it is not, or nobody answers."""

    @abstractmethod
    def go_to(self, offsets: Mapping[str, int]) -> int:
        """Begin reading at the next offset of each partition, at the first record of one that is not named.

        Returns how many records behind the offsets the source no longer has. Raises TargetError where the offsets are none of it.
        """

    @abstractmethod
    def read(self, count: int, wait_s: float) -> list[Record]:
        """Return up to ``count`` records, waiting ``wait_s`` seconds or so for the first.

        Raises TargetError where waiting does not help.
        """

    @abstractmethod
    def is_at_end(self) -> bool:
        """Whether everything was read that there was when reading began."""

    @abstractmethod
    def close(self) -> None:
        """Let go. Closing twice is harmless."""


def open_source(url: str, properties: Mapping[str, str]) -> Source:
    """Return the source of a URL, not yet connected; its package is imported. Raises DestinationError, ExtraMissingError."""
    parsed = parse_destination(url)
    if "{" in parsed.template:
        raise DestinationError(
            f"{url!r} has a template; what is imported is one topic or one stream by its name"
        )
    module, _, name = SOURCES[parsed.scheme].partition(":")
    servers = [str(address) for address in parsed.addresses]
    return cast(
        "Source", getattr(importlib.import_module(module), name)(servers, parsed.template, properties)
    )


def check_source(url: str, properties: Mapping[str, str]) -> None:
    """See that the source of a URL is there, and let go of it. Raises what ``open_source`` and ``Source.check`` raise."""
    source = open_source(url, properties)
    try:
        source.check()
    finally:
        source.close()
