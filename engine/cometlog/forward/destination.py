"""Where entries go: ``kafka://host:port[,host:port]/TEMPLATE`` or ``nats://host:port[,host:port]/TEMPLATE``.

TEMPLATE is the name of a topic (Kafka) or of a stream's subject (NATS) and may hold ``{namespace}``, ``{version}``, ``{shard}`` (four
digits) and ``{stream}`` (the three joined by dots), each replaced by that part of the name of the stream that is forwarded.
"""

import re
import string
from dataclasses import dataclass
from typing import NamedTuple

from cometlog.errors import DestinationError
from cometlog.names import StreamName, parse_stream

SCHEMES = {"kafka": 9092, "nats": 4222}
"""What can be forwarded to, and the port that is meant where none is given."""
FIELDS = ("namespace", "version", "shard", "stream")
USE = "kafka://host:port/topic or nats://host:port/subject"
PORT_MAX = 65535
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")
_LITERAL = re.compile(r"[A-Za-z0-9._-]*")


class Address(NamedTuple):
    """One server to begin with."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Destination:
    """A parsed URL. ``scheme`` is "kafka" or "nats"; ``template`` gives a name for each stream."""

    scheme: str
    addresses: tuple[Address, ...]
    template: str

    @property
    def servers(self) -> str:
        """The addresses, separated by commas."""
        return ",".join(map(str, self.addresses))

    def name_for(self, stream: str) -> str:
        """Return the topic or subject of a stream such as ``events:v1:shard:0007``."""
        return fill(self.template, parse_stream(stream))

    def __str__(self) -> str:
        return f"{self.scheme}://{self.servers}/{self.template}"


def fill(template: str, name: StreamName) -> str:
    """Return a checked template with the parts of a stream's name in the place of its fields."""
    shard = f"{name.shard:04d}"
    return template.format(
        namespace=name.namespace, version=name.version, shard=shard,
        stream=f"{name.namespace}.{name.version}.{shard}",
    )  # fmt: skip


def parse_destination(url: str) -> Destination:
    """Return what a URL says; raises DestinationError naming the part that is wrong."""
    if not isinstance(url, str):
        raise DestinationError(f"a destination is text such as {USE}, got {url!r}")
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise DestinationError(f"{url!r} begins with {scheme!r}; a destination is {USE}")
    servers, separator, template = rest.partition("/")
    if not separator or not template:
        raise DestinationError(f"{url!r} names no topic behind the address; a destination is {USE}")
    addresses = tuple(_address(text, SCHEMES[scheme], url) for text in servers.split(","))
    _check_template(template, url)
    return Destination(scheme, addresses, template)


def _address(text: str, port: int, url: str) -> Address:
    host, separator, digits = text.rpartition(":")
    if not separator or text.endswith("]"):
        host, digits = text, str(port)
    if not _HOST.fullmatch(host):
        raise DestinationError(f"{host!r} is no host, in {url!r}; a destination is {USE}")
    if not re.fullmatch(r"[0-9]{1,5}", digits) or not 1 <= int(digits) <= PORT_MAX:
        raise DestinationError(f"{digits!r} is no port from 1 to {PORT_MAX}, in {url!r}")
    return Address(host, int(digits))


def _check_template(template: str, url: str) -> None:
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise DestinationError(f"the template {template!r} is broken ({error}), in {url!r}") from None
    for literal, field, form, conversion in parts:
        if not _LITERAL.fullmatch(literal):
            raise DestinationError(
                f"the template {template!r} has characters other than letters, digits, '.', '_' and '-', in {url!r}"
            )
        if field is not None and (field not in FIELDS or form or conversion):
            known = ", ".join(f"{{{name}}}" for name in FIELDS)
            raise DestinationError(
                f"the template {template!r} has the field {{{field}}}; there are {known}, in {url!r}"
            )
