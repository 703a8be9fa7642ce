"""Forwarding a log to Kafka or NATS: a consumer group that ships entries in order per shard and resumes exactly where it left off.

>>> from cometlog.forward import Forwarder
>>> with Forwarder(client, to="kafka://broker:9092/{namespace}.{version}") as forwarder:
...     forwarder.run()

``destination`` reads the URL, ``target`` is the contract of what entries are shipped to, ``forwarder`` the loop. A target's package is
an extra (``cometlog[kafka]``, ``cometlog[nats]``) and is imported when a target is opened.
"""

from cometlog.forward.destination import Destination, parse_destination
from cometlog.forward.forwarder import Forwarder
from cometlog.forward.importer import Importer, ImportStatistics
from cometlog.forward.target import ForwardStatistics, Position, Shipment, Target

__all__ = [
    "Destination",
    "ForwardStatistics",
    "Forwarder",
    "ImportStatistics",
    "Importer",
    "Position",
    "Shipment",
    "Target",
    "parse_destination",
]
