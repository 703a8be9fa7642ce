"""Where the time goes: five classes of the hot thread's time, py-spy's shares beside them, flame graphs."""

from __future__ import annotations

from cometbench.budget_views import flame_graphs, table_budgets, time_budgets
from cometbench.chapter import Chapter, Drawing, Shown, of_run, table_of_run


def _flame_graphs(shown: Shown) -> list[str]:
    names = flame_graphs(shown.run)
    listed = ", ".join(f"{name}.svg" for name in names)
    return (
        [f"Flame graphs of the hot loop, with their stacks as text, lie in flamegraphs/: {listed}."]
        if names
        else []
    )


CHAPTER = Chapter(
    order=60,
    title="Where the time goes",
    experiments=("Y",),
    drawings=(Drawing("Time budgets by work", of_run(time_budgets), "time budgets (section Y)"),),
    tables=(table_of_run(table_budgets),),
    remarks=_flame_graphs,
)
