"""What a chapter of the report is, and how the report finds its chapters: every module of `cometbench.chapters` registers one.

A chapter names the experiments whose words stand in it, its figures, its tables and its place in the reading order. Templates loop
over them; what a run has no data for is left out with the reason.
"""

from __future__ import annotations

import importlib
import itertools
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from cometbench import chapters
from cometbench.errors import UsageError
from cometbench.experiment import Experiment
from cometbench.figure import Figure
from cometbench.model import Machine, Run
from cometbench.tables import Table, table_measurements

AFTER_ALL = 1000


class Neighbour(NamedTuple):
    """A run of another machine, or of another file system of this one, and what a reader calls it."""

    run: Run
    label: str


class Shown(NamedTuple):
    """What a report is made from: the run, its machine, and the newest runs from elsewhere."""

    run: Run
    machine: Machine
    neighbours: tuple[Neighbour, ...] = ()


class Drawing(NamedTuple):
    """One figure: `draw` returns None where the run lacks what `needs` names."""

    title: str
    draw: Callable[[Shown], Figure | None]
    needs: str


class Chapter(NamedTuple):
    """One chapter; `experiments` are sections whose question, method and findings stand before its figures."""

    order: int
    title: str
    experiments: tuple[str, ...] = ()
    drawings: tuple[Drawing, ...] = ()
    tables: tuple[Callable[[Shown], Table], ...] = ()
    remarks: Callable[[Shown], list[str]] = lambda _: []


class Written(NamedTuple):
    """A chapter made from a run: what could be drawn, what was left out and why."""

    title: str
    experiments: tuple[str, ...]
    figures: list[Figure]
    tables: list[Table]
    remarks: list[str]
    left_out: list[str]

    @property
    def anchor(self) -> str:
        """The id of its heading, as Markdown viewers make it."""
        return "".join(c for c in self.title.lower().replace(" ", "-") if c.isalnum() or c == "-")


def of_run(make: Callable[[Run], Figure | None]) -> Callable[[Shown], Figure | None]:
    """Return a figure's function for one that needs the run only."""
    return lambda shown: make(shown.run)


def table_of_run(make: Callable[[Run], Table]) -> Callable[[Shown], Table]:
    """Return a table's function for one that needs the run only."""
    return lambda shown: make(shown.run)


def load_chapters() -> list[Chapter]:
    """All chapters in reading order. Raises UsageError where two take the same place or the same title."""
    found: list[Chapter] = []
    for module in pkgutil.iter_modules(chapters.__path__, f"{chapters.__name__}."):
        chapter: Chapter = importlib.import_module(module.name).CHAPTER
        found.append(chapter)
    found.sort(key=lambda chapter: chapter.order)
    for before, after in itertools.pairwise(found):
        if before.order == after.order or before.title == after.title:
            raise UsageError(f"chapters {before.title!r} and {after.title!r} take the same place or title")
    return found


def write_chapters(shown: Shown, experiments: Mapping[str, Experiment]) -> list[Written]:
    """Make every chapter from a run; an experiment that no chapter names gets one of its own at the end."""
    listed = load_chapters()
    named = {section for chapter in listed for section in chapter.experiments}
    listed += [
        Chapter(AFTER_ALL, one.title, (section,), (), (_measurements_of(section),))
        for section, one in experiments.items()
        if section not in named
    ]
    return [_write(chapter, shown) for chapter in listed]


def _measurements_of(section: str) -> Callable[[Shown], Table]:
    return lambda shown: table_measurements(shown.run, section)


def _write(chapter: Chapter, shown: Shown) -> Written:
    made: Sequence[tuple[Drawing, Figure | None]] = [(one, one.draw(shown)) for one in chapter.drawings]
    return Written(
        chapter.title,
        chapter.experiments,
        [figure for _, figure in made if figure is not None],
        [table for make in chapter.tables if (table := make(shown)).rows],
        chapter.remarks(shown),
        [
            f"{one.title} is not drawn: this run holds no {one.needs}."
            for one, figure in made
            if figure is None
        ],
    )
