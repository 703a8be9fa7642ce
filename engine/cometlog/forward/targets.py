"""Which class serves which scheme; a target's module, and the package it needs, are imported when it is opened."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from cometlog.forward.destination import Destination
from cometlog.forward.target import Target

TARGETS = {"kafka": "cometlog.forward.kafka:KafkaTarget", "nats": "cometlog.forward.nats:NatsTarget"}


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """What a target is told beside its destination.

    ``group`` and ``assignment`` name the forwarder of a log; ``exactly_once`` asks for positions stored with the entries.
    ``by_key``: the key chooses the partition, not the shard. ``partitions`` of a topic that has to be made, None for the server's
    default. ``chunk_entries`` is the most that is under way at once. ``properties`` go to the client library as they are.
    """

    group: str
    assignment: tuple[int, int] = (0, 1)
    exactly_once: bool = False
    by_key: bool = False
    partitions: int | None = None
    chunk_entries: int = 100_000
    properties: Mapping[str, str] = field(default_factory=dict)


def open_target(destination: Destination, options: TargetOptions) -> Target:
    """Return the target of a destination, not yet connected. Raises ExtraMissingError naming the package to install."""
    module, _, name = TARGETS[destination.scheme].partition(":")
    return cast("Target", getattr(importlib.import_module(module), name)(destination, options))
