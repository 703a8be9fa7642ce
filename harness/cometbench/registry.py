"""The claim registry: every row of the guide as data, loaded from `cometbench/claims/<section>.toml`.

A claim is one row of the guide; it holds one or more checks (one per number of the row), and a check one or
more readings (one per way to measure that number). A row whose experiment does not exist says so in
`not_measured`.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from cometbench.errors import UsageError
from cometbench.model import ClaimKind, Record
from cometbench.verdicts import Better, Side, States

SECTIONS = "QCGSAPRYMFKTX"

Per = Literal["append", "entry", "second", "count", "p50", "p99", "p99_9"]


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
    (ratio, direction; a future check may be either). A direction is an effect that the guide states without a
    size: `[before, after]` of an advice, and whether it `states` a gain or none. A semantic check counts
    `violations`: entries its verification missed, or the measured value itself (per operation). What is measured and
    not counted takes as many rounds as any verdict; `long_run` is for one long run that is not repeated by design, and
    says how many operations it holds at least. `says` puts its result into words, from `{violations}`, `{trials}` and
    `{each}`, the value per operation. `published`
    names the reading under which the guide's own number is stored as a measurement of the guide's machine.
    `bound` says that the guide value is one, not a number to be met. `profiles` names for a reading the probe
    that took the same share by py-spy: the verdict stands only where both agree.
    """

    id: str = Field(pattern=r"^[a-z0-9_]+$")
    kind: ClaimKind
    guide: str
    guide_value: float | None = None
    unit: str = ""
    better: Better = "lower"
    states: States = "gain"
    per: Per = "append"
    readings: dict[str, str | list[str]] = Field(default_factory=dict)
    published: str | None = None
    bound: Side | None = None
    profiles: dict[str, str] = Field(default_factory=dict)
    equation: Equation | None = None
    violations: Literal["missing_entries", "value"] = "value"
    tolerance: float = Field(default=0.0, ge=0.0, description="violations per operation that count as none")
    says: str = "{violations} violations in {trials} checked operations"
    long_run: int = Field(
        default=0, ge=0, description="operations of the one long run that answers the check"
    )
    not_measured: str | None = None

    @model_validator(mode="after")
    def _is_checkable(self) -> Check:
        if self.kind == "arithmetic" and self.equation is None:
            raise ValueError(f"arithmetic check {self.id} has no equation")
        if self.published is not None and self.published not in self.readings:
            raise ValueError(f"check {self.id}: published reading {self.published} is not among its readings")
        if self.bound is not None and self.kind != "absolute":
            raise ValueError(f"check {self.id}: a bound belongs to kind absolute, not {self.kind}")
        if self.long_run and self.kind != "semantic":
            raise ValueError(f"check {self.id}: a long run belongs to kind semantic, not {self.kind}")
        if not self.profiles.keys() <= self.readings.keys():
            raise ValueError(f"check {self.id}: a profile without a reading of its name")
        for name, target in self.readings.items():
            pair = isinstance(target, list)
            pair_wanted = self.kind in ("ratio", "direction") or (self.kind == "future" and pair)
            if pair != pair_wanted or (pair and len(target) != 2):
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


_EXTRA_FOLDERS: list[Path] = []


def use_claims_of(folders: Sequence[Path]) -> None:
    """Let the registry hold the claims of these folders too: every `*.toml` in them is a section of its own."""
    _EXTRA_FOLDERS[:] = folders
    load_sections.cache_clear()


@functools.cache
def load_sections() -> tuple[Section, ...]:
    """All sections in the guide's order, then those of `use_claims_of` by file name.

    Raises pydantic.ValidationError when the packaged data is inconsistent, UsageError naming an added file that is.
    """
    folder = resources.files("cometbench") / "claims"
    packaged = [
        Section.model_validate(tomllib.loads((folder / f"{letter.lower()}.toml").read_text(encoding="utf-8")))
        for letter in SECTIONS
    ]
    added = [_load_added(file) for place in _EXTRA_FOLDERS for file in sorted(place.glob("*.toml"))]
    ids = [section.id for section in (*packaged, *added)]
    for section in added:
        if ids.count(section.id) > 1:
            raise UsageError(
                f"section {section.id!r} of claims exists already; an added one takes a letter of its own"
            )
    return (*packaged, *added)


def _load_added(file: Path) -> Section:
    try:
        return Section.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"claims in {file}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"claims in {file}: {error}") from error


def all_claims() -> Iterator[tuple[Section, Claim]]:
    """Every claim with its section, in the guide's order."""
    for section in load_sections():
        for claim in section.claim:
            yield section, claim
