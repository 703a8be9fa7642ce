"""What a reader must know to trust or doubt a report: its method and its limits, one sentence or two each."""

from __future__ import annotations

from cometbench.evaluate import FORKED_AND_FRESH, noise_floors
from cometbench.findings import gain_text
from cometbench.model import ROUNDS_TAKEN, Run
from cometbench.verdicts import ARITHMETIC_TOLERANCE, FACTOR, MINIMUM_WORKERS, effect_threshold


def method_lines(run: Run) -> list[str]:
    """Return method and limits of `run`, limits of its noise included."""
    controls = [
        f"The A/A control of {path} reaches {noise:.1%} from equality; an effect there counts from {effect_threshold(noise):.1%}."
        if noise is not None
        else f"The run held no A/A control of {path}, so no ratio there is called reproduced."
        for path, noise in noise_floors(run).items()
    ]
    return [
        "The unit of statistics is the worker process. A value is the median of the workers' medians.",
        "Measuring processes are forked from one that has imported what all of them need, a new one each round: memory layouts "
        "differ from round to round, as they do between processes that are started one by one. Where a process's own memory is "
        f"measured it is started for that.{_fresh(run)}",
        *_rounds(run),
        f"An interval is the 95 % bootstrap interval over workers, or over paired rounds (seed {run.seed}).",
        "Ratios are formed inside one round, where the benchmarks ran interleaved in shuffled order.",
        f"A ratio is reproduced when its whole interval lies within a factor of {FACTOR:g} of the guide's, "
        "exceeded when all of it is beyond that on the good side, direction only when the sign is right and "
        f"the size is not. With fewer than {MINIMUM_WORKERS} rounds it is at best direction only.",
        "Absolute times depend on the machine. They are set beside the guide's and beside this machine's "
        "own floors, and prove nothing about the guide's machine.",
        *controls,
        "A ratio is held against the control of its write path: that of buffered for every path that makes system calls and for other "
        "systems, the larger one where both take part or no path is named.",
        "Every log a benchmark wrote was read back; one that lost or altered an entry has failed.",
        "Arithmetic is checked on the numbers as printed, to the digits printed, with "
        f"{ARITHMETIC_TOLERANCE:.0%} to spare; what rounding of the inputs allows is named beside it.",
        "The guide's numbers come from Go on an Apple M2. This is another engine, on another machine.",
    ]


def _fresh(run: Run) -> str:
    ratio = gain_text(run, *FORKED_AND_FRESH)
    return "" if ratio is None else f" The same appends in a started process are {ratio} as fast."


def _rounds(run: Run) -> list[str]:
    """Return how many rounds each section got, where that was settled by the time of the profile."""
    taken = run.environment.get(ROUNDS_TAKEN)
    return (
        [f"Rounds, as many as fit the profile's time: {'; '.join(taken)}."] if isinstance(taken, list) else []
    )
