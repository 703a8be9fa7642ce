"""One process against many: what sharing a log costs or gains a call."""

from __future__ import annotations

from cometbench.chapter import Chapter, Drawing, of_run
from cometbench.plots import multi_single_ratio

CHAPTER = Chapter(
    order=20,
    title="One process against many",
    drawings=(
        Drawing(
            "Multi-process against single-process",
            of_run(multi_single_ratio),
            "appends of several processes beside those of one (section Q)",
        ),
    ),
)
