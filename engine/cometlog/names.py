"""Stream names: ``namespace:version:shard:NNNN``. No path is ever built from text that did not pass here."""

import re
from fnmatch import translate
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from cometlog.errors import ConfigurationError, GroupNameError, StreamNameError
from cometlog.kernel import layout

SHARD_COUNT_MAX = 10_000
PART_LENGTH_MAX = 100
RESERVED_NAMESPACE = "FORMAT"
GROUP_NAME_LENGTH_MAX = layout.GROUP_NAME_BYTES_MAX
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHARD = re.compile(r"[0-9]{4}")


class StreamName(NamedTuple):
    """A validated stream: three parts of the name, ``shard`` as a number from 0 to 9999."""

    namespace: str
    version: str
    shard: int

    def __str__(self) -> str:
        return f"{self.namespace}:{self.version}:shard:{self.shard:04d}"

    def directory(self, root: Path) -> Path:
        """Return the directory of the shard below the root of the log."""
        return root / self.namespace / self.version / f"{self.shard:04d}"


def parse_stream(text: str) -> StreamName:
    """Return the parts of a stream name; raises StreamNameError naming the part that is wrong."""
    if not isinstance(text, str):
        raise StreamNameError(f"a stream name is a string, got {type(text).__name__}")
    return _parse(text)


@lru_cache(maxsize=4096)
def _parse(text: str) -> StreamName:
    parts = text.split(":")
    if len(parts) != 4 or parts[2] != "shard":
        raise StreamNameError(f"a stream name is namespace:version:shard:NNNN, got {text!r}")
    for label, part in (("namespace", parts[0]), ("version", parts[1])):
        if len(part) > PART_LENGTH_MAX:
            raise StreamNameError(
                f"{label} has {len(part)} characters, at most {PART_LENGTH_MAX}: {part[:20]!r}..."
            )
        if not _PART.fullmatch(part):
            raise StreamNameError(
                f"{label} must start with a letter or digit and go on with letters, digits, '.', '_' or '-', "
                f"got {part!r} in {text!r}"
            )
    if parts[0] == RESERVED_NAMESPACE:
        raise StreamNameError(
            f"the namespace {RESERVED_NAMESPACE!r} is the name of a file of the log, in {text!r}"
        )
    if not _SHARD.fullmatch(parts[3]):
        raise StreamNameError(f"the shard is four digits, 0000 to 9999, got {parts[3]!r} in {text!r}")
    return StreamName(parts[0], parts[1], int(parts[3]))


def check_group_name(name: str) -> str:
    """Return the name of a consumer group; raises GroupNameError saying what is wrong with it."""
    if not isinstance(name, str):
        raise GroupNameError(f"a group name is a string, got {type(name).__name__}")
    if not 1 <= len(name) <= GROUP_NAME_LENGTH_MAX:
        raise GroupNameError(
            f"a group name has 1 to {GROUP_NAME_LENGTH_MAX} characters, got {len(name)}: {name[:20]!r}"
        )
    if not _PART.fullmatch(name):
        raise GroupNameError(
            f"a group name starts with a letter or digit and goes on with letters, digits, '.', '_' or '-', got {name!r}"
        )
    return name


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Return a matcher for a wildcard over stream names, such as ``events:v1:shard:*``."""
    return re.compile(translate(pattern))


def _check_shard_count(shard_count: int) -> None:
    if not isinstance(shard_count, int) or not 1 <= shard_count <= SHARD_COUNT_MAX:
        raise StreamNameError(f"the number of shards is 1 to {SHARD_COUNT_MAX}, got {shard_count}")


def pick_shard(key: str | bytes, shard_count: int) -> int:
    """Return the shard, 0 to ``shard_count - 1``, that a key always falls on (CRC-32 of the key, modulo)."""
    _check_shard_count(shard_count)
    return crc32(key.encode() if isinstance(key, str) else key) % shard_count


def all_shard_streams(
    namespace: str, version: str, shard_count: int, *, assignment: tuple[int, int] | None = None
) -> list[str]:
    """Return the stream names of the shards 0 to ``shard_count - 1``, those that ``pick_shard_stream`` picks from.

    ``assignment`` is (id, total): only the shards that process ``id`` of ``total`` owns, whose number modulo ``total`` is ``id``.
    Raises StreamNameError, and ConfigurationError for an assignment that is not ``0 <= id < total``.
    """
    _check_shard_count(shard_count)
    parse_stream(f"{namespace}:{version}:shard:0000")
    owned = [shard for shard in range(shard_count) if assignment is None or owns_shard(shard, assignment)]
    return [f"{namespace}:{version}:shard:{shard:04d}" for shard in owned]


def owns_shard(shard: int, assignment: tuple[int, int]) -> bool:
    """Return whether process ``id`` of ``total`` owns a shard: ``shard % total == id``, with ``assignment`` (id, total).

    Raises ConfigurationError for an assignment that is not ``0 <= id < total``.
    """
    try:
        process, processes = assignment
        if not 0 <= process < processes:
            raise ValueError
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"assignment is (id, total) with 0 <= id < total, got {assignment!r}"
        ) from None
    return shard % processes == process


def pick_shard_stream(key: str | bytes, namespace: str, version: str, shard_count: int) -> str:
    """Return the stream name of the shard that a key always falls on."""
    name = f"{namespace}:{version}:shard:{pick_shard(key, shard_count):04d}"
    parse_stream(name)
    return name
