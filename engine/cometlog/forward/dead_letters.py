"""The stream of entries that a target will not take, in the same log: ``<name>:v1:shard:NNNN`` with the number of the entry's shard.

A dead letter is one line of JSON with ``stream``, ``number``, ``epoch``, ``timestamp_ns``, ``reason`` and ``limit_bytes`` (or null), a
newline, and the entry's bytes, cut where the log would not take the whole letter, as ``reason`` then says. An entry that is sent
again after an error, or after the forwarder died, is not written again: the last letters of each shard are read first. Letters are
durable before the group's position passes their entries.

A letter that a target will not take is no entry of another letter, which would be longer still: two forwarders of a log, each of
which forwards the other's letters, would go on for ever. It stays where it is, is logged and counted.
"""

import json
import logging
from contextlib import suppress
from typing import NamedTuple

from cometlog.client import Client
from cometlog.errors import BatchTooLargeError
from cometlog.names import parse_stream

VERSION = "v1"
_STEP_ENTRIES = 100
_HEAD_TYPES = (str, int, int, int, str)
_log = logging.getLogger("cometlog.forward")


class Letter(NamedTuple):
    """One entry for the dead letters; ``limit_bytes`` is None where it is not its length that the target refused."""

    stream: str
    number: int
    epoch: int
    timestamp_ns: int
    reason: str
    limit_bytes: int | None
    data: bytes

    def encode(self) -> bytes:
        """Return the letter as it is stored."""
        head = {name: value for name, value in self._asdict().items() if name != "data"}
        return json.dumps(head).encode() + b"\n" + self.data


def decode(stored: bytes) -> Letter:
    """Return what ``Letter.encode`` made; raises ValueError for anything else."""
    head, newline, data = stored.partition(b"\n")
    try:
        letter = Letter(**json.loads(head), data=data)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError("this is no dead letter") from error
    types = tuple(map(type, letter[: len(_HEAD_TYPES)]))
    if not newline or types != _HEAD_TYPES or type(letter.limit_bytes) not in (int, type(None)):
        raise ValueError("this is no dead letter")
    return letter


def _is_letter(data: bytes) -> bool:
    with suppress(ValueError):
        decode(data)
        return True
    return False


class DeadLetters:
    """Appends to the dead-letter stream. At most ``chunk_bytes`` of entries are under way at once and may come again."""

    def __init__(self, client: Client, name: str, chunk_bytes: int) -> None:
        parse_stream(f"{name}:{VERSION}:shard:0000")
        self.name = name
        self._client = client
        self._chunk_bytes = chunk_bytes
        self._known: dict[str, set[tuple[str, int, int]]] = {}

    def owns(self, stream: str) -> bool:
        """Return whether a stream is one of dead letters, which is not forwarded itself."""
        return stream.startswith(f"{self.name}:{VERSION}:")

    def append(self, letters: list[Letter]) -> int:
        """Append those that are not there yet, durable, and return how many entries the target did not take for the first time."""
        count = 0
        touched: set[str] = set()
        for letter in letters:
            stream = f"{self.name}:{VERSION}:shard:{parse_stream(letter.stream).shard:04d}"
            if stream not in self._known:
                self._known[stream] = self._last_letters(stream)
            known, key = self._known[stream], (letter.stream, letter.epoch, letter.number)
            if not _is_letter(letter.data):
                if key not in known:
                    self._write(stream, letter)
                touched.add(stream)
            elif key not in known:
                _log.warning(
                    "entry %d of %s is a dead letter that the target does not take either (%s); it stays there",
                    letter.number, letter.stream, letter.reason,
                )  # fmt: skip
            count += key not in known
            known.add(key)
        # Those that were there too: whoever wrote them may have died before they were durable.
        for stream in touched:
            self._client.sync(stream)
        return count

    def _write(self, stream: str, letter: Letter) -> None:
        """Append a letter, with half of its data, and half of that, where the log takes none that is so long."""
        cut, size = letter, len(letter.data)
        while True:
            try:
                self._client.append(stream, [cut.encode()])
            except BatchTooLargeError:
                if not cut.data:
                    raise
                kept = len(cut.data) // 2
                said = f"{kept} of {size} bytes are kept here, a whole letter is too long for the log"
                cut = letter._replace(reason=f"{letter.reason}; {said}", data=letter.data[:kept])
            else:
                return

    def forget(self) -> None:
        """Say that what was appended so far was acknowledged, so none of it comes again."""
        for known in self._known.values():
            known.clear()

    def recall(self) -> None:
        """Say that entries may come again although they were acknowledged: the group goes back to where the target says."""
        for stream, known in self._known.items():
            known.update(self._last_letters(stream))

    def _last_letters(self, stream: str) -> set[tuple[str, int, int]]:
        """Return which entries the last letters are of, as many as a chunk can have left behind."""
        found: set[tuple[str, int, int]] = set()
        if not parse_stream(stream).directory(self._client.path).is_dir():
            return found
        stop, left_bytes = self._client.next_entry(stream), self._chunk_bytes
        while left_bytes > 0 and stop > self._client.first_entry(stream):
            start = max(self._client.first_entry(stream), stop - _STEP_ENTRIES)
            for entry in self._client.read(stream, start, stop - start).each():
                left_bytes -= len(entry.data)
                with suppress(ValueError):  # what somebody else wrote there is no letter
                    letter = decode(entry.data)
                    found.add((letter.stream, letter.epoch, letter.number))
            stop = start
        return found
