"""The findings page: what the guide got right, what does not reproduce, what it contradicts itself on, what replaces its advice.

Written from the claims of one stored run. Every number comes from a claim; the sentences that tie several claims together are
templates (`templates/findings.toml`), each with the verdicts under which it holds.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from pydantic import Field

from cometbench import tables
from cometbench.evaluate import find_check, promise_of
from cometbench.findings import value_text
from cometbench.model import ClaimResult, Machine, Record, Run, Verdict
from cometbench.registry import load_sections
from cometbench.store import load_machine, load_run, write_atomically
from cometbench.units import format_interval, format_measured

HEADER = "<!-- written by `cometbench findings`, do not edit -->"
_PLACEHOLDER = re.compile(r"\{(?P<claim>[A-Za-z0-9_.-]+)(?::(?P<part>guide|verdict|reason|value))?\}")


class Sentence(Record):
    """A template with claims as placeholders, `{Q1.single.mmap}` or `{Q1.single.mmap:guide}`, and the verdicts it needs.

    `{F.handler.queued_lost:value}` is a measurement. `above` names for a claim those that its whole interval must lie above.
    """

    text: str
    when: dict[str, list[Verdict]] = Field(default_factory=dict)
    above: dict[str, list[str]] = Field(default_factory=dict)

    def claims(self) -> set[str]:
        """Ids of all claims that the sentence speaks of."""
        compared = {name for higher, lower in self.above.items() for name in (higher, *lower)}
        return {*self.when, *compared, *self._named(measurements=False)}

    def measurements(self) -> set[str]:
        """Names of the measurements that the sentence speaks of."""
        return self._named(measurements=True)

    def _named(self, *, measurements: bool) -> set[str]:
        return {
            found["claim"]
            for found in _PLACEHOLDER.finditer(self.text)
            if (found["part"] == "value") == measurements
        }

    def filled(self, run: Run, *, conclusive: bool) -> str | None:
        """Return the sentence with the run's numbers, or None where it lacks one or a verdict is another.

        With `conclusive`, no claim of it may be inconclusive: nobody should be advised by noise.
        """
        found = {name: run.claim(name) for name in self.claims()}
        if any(
            claim is None or (claim.measured is None and claim.kind != "arithmetic")
            for claim in found.values()
        ):
            return None
        if conclusive and any(
            claim is not None and claim.verdict == "inconclusive" for claim in found.values()
        ):
            return None
        if any(
            (claim := found[name]) is None or claim.verdict not in verdicts
            for name, verdicts in self.when.items()
        ):
            return None
        if any(
            not _lies_above(found[higher], found[one])
            for higher, lower in self.above.items()
            for one in lower
        ):
            return None
        values = {name: value_text(run, name) for name in self.measurements()}
        if None in values.values():
            return None
        return _PLACEHOLDER.sub(
            lambda match: values.get(match["claim"]) or _part(found[match["claim"]], match["part"]), self.text
        )


class Sentences(Record):
    """The templates: what stands at the top of the page, and what replaces the guide's advice."""

    short: list[Sentence]
    instead: list[Sentence]


def load_sentences() -> Sentences:
    """Return the packaged templates. Raises pydantic.ValidationError when they are malformed."""
    text = (resources.files("cometbench") / "templates" / "findings.toml").read_text(encoding="utf-8")
    return Sentences.model_validate(tomllib.loads(text))


def findings_page(run: Run, machine: Machine) -> str:
    """Return the page as Markdown; it lies in docs/ and links to the run's report."""
    sentences = load_sentences()
    place = f"../results/{machine.machine_id}/{run.run_id}"
    judged = [claim for claim in run.claims if claim.verdict != "not measured"]
    counts = ", ".join(f"{count} {verdict}" for verdict, count in tables.verdict_counts(run.claims) if count)
    blocks = [
        HEADER,
        "# Findings",
        f"What one run says about the guide: [`{run.run_id}`]({place}/report.md) on {machine.label}, profile {run.profile}, commit "
        f"`{run.commit[:7]}`. {len(judged)} of {len(run.claims)} checks were judged: {counts}. Brackets are 95 % intervals over "
        "worker processes or paired rounds. Absolute times depend on the machine; ratios within the run carry further. The guide's "
        "numbers come from another engine, in Go, on an Apple M2: what fails here fails as advice for this engine on this machine.",
        "## In short",
        _bullets(_filled(sentences.short, run), "The run holds none of the claims that would stand here."),
        "## What the guide got right",
        "Within a factor of two of the guide; or what it states without a size, such as a promise or a bound, holds.",
        _of_verdicts(run, ("reproduced",)),
        "## Better than it says",
        "More than twice as good as the guide says, so its number is no guide to this engine either.",
        _of_verdicts(run, ("exceeded",)),
        "## Right in direction, not in size",
        _of_verdicts(run, ("direction only",)),
        "## What does not reproduce",
        _of_verdicts(run, ("not reproduced",)),
        "## What it contradicts itself on",
        _bullets(
            (
                f"{claim.title} ({claim.id}): {claim.reason}."
                for claim in run.claims
                if claim.verdict == "arithmetic error"
            ),
            "Nothing.",
        ),
        "## What replaces its advice",
        _bullets(
            _filled(sentences.instead, run, conclusive=True),
            "The run holds none of the claims that would stand here, or none is conclusive.",
        ),
        "## What this run leaves open",
        _open(run),
    ]
    return "\n\n".join(blocks) + "\n"


def update_page(page: Path, run_directory: Path, *, check: bool) -> bool:
    """Bring `page` in line with the run; returns whether it already was. With `check` nothing is written."""
    after = findings_page(load_run(run_directory), load_machine(run_directory.parent))
    before = page.read_text(encoding="utf-8") if page.exists() else ""
    if not check and after != before:
        write_atomically(page, after.encode())
    return after == before


def _filled(sentences: Iterable[Sentence], run: Run, *, conclusive: bool = False) -> list[str]:
    return [text for one in sentences if (text := one.filled(run, conclusive=conclusive)) is not None]


def _of_verdicts(run: Run, verdicts: tuple[Verdict, ...]) -> str:
    """A paragraph's heading for each section of the guide, a bullet for each of its claims, a part for each number of it."""
    blocks = []
    for section in load_sections():
        chosen = [
            one
            for one in run.claims
            if one.section == section.id and one.verdict in verdicts and one.kind != "arithmetic"
        ]
        by_claim: dict[str, list[ClaimResult]] = {}
        for claim in chosen:
            by_claim.setdefault(claim.id.partition(".")[0], []).append(claim)
        if by_claim:
            lines = (_sentence(run, number, claims) for number, claims in by_claim.items())
            blocks.append(f"**{section.title}.**\n\n{_bullets(lines, '')}")
    return "\n\n".join(blocks) if blocks else "Nothing."


def _sentence(run: Run, number: str, claims: list[ClaimResult]) -> str:
    by_guide: dict[str, list[ClaimResult]] = {}
    for claim in claims:
        by_guide.setdefault(claim.guide, []).append(claim)
    parts = [
        f"{guide} in the guide, here {', '.join(_measured(run, claim) for claim in same)}"
        for guide, same in by_guide.items()
    ]
    return f"{claims[0].title} ({number}): {'; '.join(parts)}."


def _measured(run: Run, claim: ClaimResult) -> str:
    if claim.kind == "semantic":
        check, measurement = find_check(claim.id), run.find(claim.measurements[0])
        if check is not None and measurement is not None:
            return f"{_reading(claim)}: {promise_of(check, measurement).in_words(check)}"
    return f"{_reading(claim)} {_value(claim)}"


def _reading(claim: ClaimResult) -> str:
    """Return a reading's name as words: `processes2` is `2 processes`, `q10_buffered` the row Q10 on the buffered path."""
    name = claim.id.rpartition(".")[2]
    if row := re.fullmatch(r"([cq]\d+)_(\w+)", name):
        return f"{row[1].upper()} {row[2]}"
    words = re.sub(r"(?<=[a-z])(?=\d)", " ", name.replace("_", " "))
    return re.sub(r"^processes (\d+)$", r"\1 processes", words)


def _lies_above(higher: ClaimResult | None, lower: ClaimResult | None) -> bool:
    """Whether the whole interval of one is above the whole interval of the other."""
    if higher is None or lower is None or higher.interval is None or lower.interval is None:
        return False
    return higher.interval[0] > lower.interval[1]


def _value(claim: ClaimResult) -> str:
    return (
        f"{format_measured(claim)} [{format_interval(claim)}]" if claim.interval else format_measured(claim)
    )


def _part(claim: ClaimResult | None, part: str | None) -> str:
    assert claim is not None, "a sentence is filled only where all its claims are there"
    return _value(claim) if part is None else str(getattr(claim, part))


def _open(run: Run) -> str:
    """Each reason for no verdict, with the claims it holds for."""
    found: dict[tuple[Verdict, str], list[str]] = {}
    for claim in run.claims:
        if claim.verdict in ("inconclusive", "not measured"):
            found.setdefault((claim.verdict, _general(claim.reason)), []).append(claim.id)
    return _bullets(
        (
            f"{verdict}, {reason}: {', '.join(f'`{name}`' for name in names)}."
            for (verdict, reason), names in found.items()
        ),
        "Nothing.",
    )


def _general(reason: str) -> str:
    """Return the reason without the name of the measurement it speaks of, so that equal reasons come together."""
    return re.sub(r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)+ is not part", "the measurement is not part", reason)


def _bullets(lines: Iterable[str], otherwise: str) -> str:
    written = "\n".join(f"- {line}" for line in lines)
    return written or otherwise
