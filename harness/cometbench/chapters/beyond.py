"""What the guide left for the future, as this engine does it."""

from __future__ import annotations

from cometbench.chapter import Chapter, Shown
from cometbench.tables import Table, table_section


def _claims(shown: Shown) -> Table:
    return table_section(shown.run, "X")


CHAPTER = Chapter(
    order=120, title="Beyond the guide", experiments=("X-uring", "X-pages", "forward"), tables=(_claims,)
)
