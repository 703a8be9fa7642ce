"""How much a fault suite does: a few minutes in continuous integration, twenty by hand, or a recorded run of its own."""

from dataclasses import dataclass
from typing import TypeVar

TIERS = ("ci", "full", "record")
Amount = TypeVar("Amount")


@dataclass(frozen=True)
class Tier:
    """The tier of this run: ``ci``, ``full``, or ``record`` for the counts that are committed."""

    name: str

    def pick(self, ci: Amount, full: Amount, record: Amount | None = None) -> Amount:
        """Return the amount for this tier; ``record`` is as ``full`` where it is not given."""
        if self.name == "ci":
            return ci
        return full if self.name == "full" or record is None else record
