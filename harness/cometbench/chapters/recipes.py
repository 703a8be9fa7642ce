"""Configurations, recipes and races: the guide's own settings under their own loads."""

from __future__ import annotations

from cometbench.chapter import Chapter, Shown
from cometbench.tables import Table, table_section


def _profiles(shown: Shown) -> Table:
    return table_section(shown.run, "P")


def _recipes(shown: Shown) -> Table:
    return table_section(shown.run, "K")


def _races(shown: Shown) -> Table:
    return table_section(shown.run, "R")


CHAPTER = Chapter(
    order=110,
    title="Profiles, recipes and races",
    experiments=("P", "K", "R"),
    tables=(_profiles, _recipes, _races),
)
