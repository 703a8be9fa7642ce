"""The claim registry: every row of the guide as data, loaded from `cometbench/claims/<section>.toml`.

A claim is one row of the guide; it holds one or more checks (one per number of the row), and a check one or
more readings (one per way to measure that number). A row whose experiment does not exist says so in
`not_measured`.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterator
from importlib import resources
from typing import Literal

from pydantic import Field, model_validator

from cometbench.model import ClaimKind, Record
from cometbench.verdicts import Better

SECTIONS = "QCGSAPRYMFKTX"

Per = Literal["append", "entry", "second", "count"]


class Equation(Record):
    """A computation from the guide's own numbers, or an order (`at_most`: first not above second)."""

    operation: Literal["divide", "multiply", "at_most"]
    operands: list[float] = Field(min_length=1)
    rounding: list[float] = Field(
        default_factory=list, description="half a unit of each operand's last digit"
    )
    text: str


class Check(Record):
    """One number (or promise) of a claim and how it is measured.

    `readings` maps a reading's name to a measurement (absolute, semantic) or to `[numerator, denominator]`
    (ratio). A semantic check counts `violations`: entries its verification missed, or the measured value
    itself (per operation). `published` names the reading under which the guide's own number is stored as a
    measurement of the guide's machine.
    """

    id: str = Field(pattern=r"^[a-z0-9_]+$")
    kind: ClaimKind
    guide: str
    guide_value: float | None = None
    unit: str = ""
    better: Better = "lower"
    per: Per = "append"
    readings: dict[str, str | list[str]] = Field(default_factory=dict)
    published: str | None = None
    equation: Equation | None = None
    violations: Literal["missing_entries", "value"] = "value"
    tolerance: float = Field(default=0.0, ge=0.0, description="violations per operation that count as none")
    not_measured: str | None = None

    @model_validator(mode="after")
    def _is_checkable(self) -> Check:
        if self.kind == "arithmetic" and self.equation is None:
            raise ValueError(f"arithmetic check {self.id} has no equation")
        if self.published is not None and self.published not in self.readings:
            raise ValueError(f"check {self.id}: published reading {self.published} is not among its readings")
        for name, target in self.readings.items():
            pair = isinstance(target, list)
            if pair != (self.kind == "ratio") or (pair and len(target) != 2):
                raise ValueError(f"check {self.id}: reading {name} does not fit kind {self.kind}")
            if self.kind in ("ratio", "absolute") and self.guide_value is None:
                raise ValueError(f"check {self.id}: kind {self.kind} needs guide_value")
        return self


class Claim(Record):
    """One row of the guide."""

    id: str = Field(pattern=r"^[A-Z](-[a-z0-9]+|[0-9]+K?)$")
    title: str
    check: list[Check] = Field(min_length=1)


class Section(Record):
    """One table or chapter of the guide. `not_measured` holds for every check without readings of its own."""

    id: str = Field(pattern=r"^[A-Z]$")
    title: str
    about: str
    not_measured: str = ""
    claim: list[Claim] = Field(min_length=1)

    @model_validator(mode="after")
    def _nothing_is_dropped(self) -> Section:
        for claim in self.claim:
            if not claim.id.startswith(self.id):
                raise ValueError(f"claim {claim.id} does not belong to section {self.id}")
            ids = [check.id for check in claim.check]
            if len(ids) != len(set(ids)):
                raise ValueError(f"claim {claim.id} repeats a check id")
            for check in claim.check:
                covered = check.readings or check.equation or check.not_measured or self.not_measured
                if not covered:
                    raise ValueError(
                        f"claim {claim.id}.{check.id} has neither a reading nor a reason for having none"
                    )
        return self


@functools.cache
def load_sections() -> tuple[Section, ...]:
    """All sections in the guide's order.

    Raises pydantic.ValidationError when the packaged data is inconsistent.
    """
    folder = resources.files("cometbench") / "claims"
    return tuple(
        Section.model_validate(tomllib.loads((folder / f"{letter.lower()}.toml").read_text(encoding="utf-8")))
        for letter in SECTIONS
    )


def all_claims() -> Iterator[tuple[Section, Claim]]:
    """Every claim with its section, in the guide's order."""
    for section in load_sections():
        for claim in section.claim:
            yield section, claim
