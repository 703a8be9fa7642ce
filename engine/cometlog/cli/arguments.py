"""What several commands take, and how sizes, durations and numbers are written."""

import argparse
import os
import re
from collections.abc import Callable
from pathlib import Path

import cometlog
from cometlog.errors import CometlogError, StreamNameError
from cometlog.log_root import FORMAT_FILE
from cometlog.names import parse_stream

SIZE_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
DURATION_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)([a-z]?)")
NAMES_MAX = 5


def add_path(parser: argparse.ArgumentParser) -> None:
    """Add the directory of the log."""
    parser.add_argument("path", type=Path, metavar="PATH", help="directory of the log")


def add_pattern(parser: argparse.ArgumentParser, what: str) -> None:
    """Add a pattern of streams as the last word."""
    parser.add_argument("pattern", nargs="?", default="*", metavar="PATTERN", help=f"{what} (default: all)")


def add_json(parser: argparse.ArgumentParser, what: str = "print one JSON object") -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help=what)


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the configuration of a command that writes."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="a TOML file of cometlog.Config (default: its defaults)"
    )


def add_properties(parser: argparse.ArgumentParser) -> None:
    """Add ``--set``, which fills ``properties`` with pairs of name and value."""
    parser.add_argument(
        "--set", action="append", default=[], type=_property, metavar="PROPERTY=VALUE", dest="properties",
        help="a property of the client library, such as compression.type=zstd; may be given several times",
    )  # fmt: skip


def _property(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise argparse.ArgumentTypeError(f"a property is written like compression.type=zstd, got {text!r}")
    return name, value


def load_config(arguments: argparse.Namespace) -> cometlog.Config:
    """Return the configuration that ``--config`` names, or the defaults."""
    return cometlog.Config.load(arguments.config) if arguments.config else cometlog.Config.default()


def whole_number(what: str, low: int = 0) -> Callable[[str], int]:
    """Return what reads a whole number from ``low`` on."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", text) or int(text) < low:
            raise argparse.ArgumentTypeError(f"{what} is a whole number, {low} or more, got {text!r}")
        return int(text)

    return read


def _quantity(text: str, units: dict[str, int]) -> float | None:
    match = _QUANTITY.fullmatch(text.lower())
    return None if match is None or match[2] not in units else float(match[1]) * units[match[2]]


def size_bytes(text: str) -> int:
    """Read a size: bytes, or with K, M, G, T for powers of 1024."""
    value = _quantity(re.sub(r"(?i)(?<=[kmgt])i?b$", "", text), SIZE_UNITS)
    if value is None:
        raise argparse.ArgumentTypeError(f"a size is written like 4096, 64K, 512M or 1.5G, got {text!r}")
    return int(value)


def duration_s(text: str) -> float:
    """Read a duration: seconds, or with s, m, h, d, w."""
    value = _quantity(text, DURATION_UNITS_S)
    if value is None:
        raise argparse.ArgumentTypeError(f"a duration is written like 90, 15m, 12h, 7d or 2w, got {text!r}")
    return value


def some_of(names: list[str]) -> str:
    """Return the first few of some names, and how many more there are."""
    shown = ", ".join(names[:NAMES_MAX])
    return f"{shown} and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else shown


def existing_stream(client: cometlog.Client, stream: str) -> str:
    """Return the name of a stream that is there; raises CometlogError naming those that are."""
    name = str(parse_stream(stream))
    if not parse_stream(name).directory(client.path).is_dir():
        known = client.streams()
        there = f"there are {some_of(known)}" if known else "it has none yet"
        raise CometlogError(f"stream {name} does not exist in {client.path}; {there}")
    return name


def matching_streams(client: cometlog.Client, pattern: str) -> list[str]:
    """Return the streams that match; raises CometlogError where none does and not simply all were asked for."""
    found = client.streams(pattern)
    if not found and pattern != "*":
        known = client.streams()
        there = f"there are {some_of(known)}" if known else "it has none yet"
        raise CometlogError(f"no stream of {client.path} matches {pattern!r}; {there}")
    return found


def check_owner(path: Path) -> None:
    """Raise CometlogError where what this user would write is not its owner's, who could then not open it."""
    owner = (path / FORMAT_FILE).stat().st_uid
    if owner != os.geteuid():
        raise CometlogError(
            f"{path} is written by user {owner}, who could not open what user {os.geteuid()} adds; run this as user {owner}"
        )


def is_stream_name(pattern: str) -> bool:
    """Return whether a pattern is the name of one stream."""
    try:
        parse_stream(pattern)
    except StreamNameError:
        return False
    return True
