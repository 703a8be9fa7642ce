"""Exactly once: a stream goes on where the target says that it stopped, and the local group follows.

A log that lost its end in a power loss gives the numbers of lost entries again, in a later epoch. So a position is cut back to where
the first epoch later than its own begins.
"""

from cometlog.client import Client
from cometlog.consumer import Consumer
from cometlog.errors import ForwardPositionError
from cometlog.forward.target import Position
from cometlog.names import parse_stream
from cometlog.segment import list_segments, read_header


def adopt_positions(client: Client, consumer: Consumer, found: dict[str, Position]) -> None:
    """Set the local group to the positions that the target keeps.

    Raises ForwardPositionError for one beyond the end of the log. That does not pass with waiting: what is appended now gets numbers
    that the target has seen, in the same epoch, and would be taken for forwarded.
    """
    for stream, position in found.items():
        number = _cut_back(client, stream, position)
        following = client.next_entry(stream)
        if number > following:
            raise ForwardPositionError(
                f"the target has {stream} up to entry {number - 1}, but the log ends before {following}: it is an older copy of "
                f"itself, and numbers repeat; forward it for another group, which sends all of it, and give a copy that goes on a new "
                f"epoch: cometlog repair --after-power-loss"
            )
        while consumer.position(stream).following != number:  # again where somebody resets it meanwhile
            consumer.reset(stream, number)


def _cut_back(client: Client, stream: str, position: Position) -> int:
    directory = parse_stream(stream).directory(client.path)
    number = position.next_entry
    for name in reversed(list_segments(directory)):
        if read_header(directory / name.file_name)[0].epoch <= position.epoch:
            break
        number = min(number, name.base)
    return number
