"""The package confluent-kafka, or the error that names the extra which brings it; its errors in words; and its librdkafka."""

import re
from pathlib import Path
from typing import Any

from cometlog.errors import ExtraMissingError
from cometlog.kernel import kafka_producer

try:
    from confluent_kafka import (
        OFFSET_BEGINNING,
        Consumer,
        IsolationLevel,
        KafkaError,
        KafkaException,
        TopicPartition,
    )
    from confluent_kafka.admin import (
        AdminClient,
        ConfigResource,
        NewTopic,
        OffsetSpec,
    )
except ImportError as error:
    raise ExtraMissingError(
        "forwarding to Kafka needs the package confluent-kafka: pip install cometlog[kafka]"
    ) from error

__all__ = [
    "OFFSET_BEGINNING",
    "AdminClient",
    "ConfigResource",
    "Consumer",
    "IsolationLevel",
    "KafkaError",
    "KafkaException",
    "NewTopic",
    "OffsetSpec",
    "TopicPartition",
    "error_of",
    "load_librdkafka",
    "text_of",
]

_MAPPED = re.compile(r"^(?:\S+ +){5}(/.*librdkafka[^/\n]*\.so[^/\n]*)$", re.MULTILINE)
"""The line of a mapping of librdkafka, as in proc(5); the path is the sixth field and may hold spaces."""


def error_of(error: Exception) -> Any:
    """Return the KafkaError inside an exception of the package, or None."""
    found = error.args[0] if error.args else None
    return found if isinstance(found, KafkaError) else None


def text_of(error: Exception) -> str:
    """Return what an exception of the package says, without its wrapping."""
    found = error_of(error)
    return str(error) if found is None else f"{found.name()}: {found.str()}"


def load_librdkafka() -> None:
    """Have the producer of the kernel use the librdkafka that the package has loaded."""
    found = _MAPPED.search(Path("/proc/self/maps").read_text())
    try:
        if found is None:
            raise OSError("no librdkafka is loaded")
        kafka_producer.load(found[1])
    except OSError as error:
        raise ExtraMissingError(
            f"forwarding to Kafka needs confluent-kafka with a shared librdkafka, as its wheels have it ({error}): pip install "
            f"--only-binary confluent-kafka cometlog[kafka]"
        ) from error
