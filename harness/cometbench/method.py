"""What a reader must know to trust or doubt a report: its method and its limits, one sentence or two each."""

from __future__ import annotations

from cometbench.evaluate import noise_floor
from cometbench.model import Run
from cometbench.verdicts import ARITHMETIC_TOLERANCE, FACTOR, MINIMUM_WORKERS, effect_threshold


def method_lines(run: Run) -> list[str]:
    """Return method and limits of `run`, limits of its noise included."""
    noise = noise_floor(run)
    if noise is None:
        control = "The run held no A/A control, so no ratio is called reproduced."
    else:
        control = (
            f"The A/A control's interval reaches {noise:.1%} from equality; an effect counts from "
            f"{effect_threshold(noise):.1%}."
        )
    return [
        "The unit of statistics is the worker process. A value is the median of the workers' medians.",
        f"An interval is the 95 % bootstrap interval over workers, or over paired rounds (seed {run.seed}).",
        "Ratios are formed inside one round, where the benchmarks ran interleaved in shuffled order.",
        f"A ratio is reproduced when its whole interval lies within a factor of {FACTOR:g} of the guide's, "
        "exceeded when all of it is beyond that on the good side, direction only when the sign is right and "
        f"the size is not. With fewer than {MINIMUM_WORKERS} rounds it is at best direction only.",
        "Absolute times depend on the machine. They are set beside the guide's and beside this machine's "
        "own floors, and prove nothing about the guide's machine.",
        control,
        "Every log a benchmark wrote was read back; one that lost or altered an entry has failed.",
        "Arithmetic is checked on the numbers as printed, to the digits printed, with "
        f"{ARITHMETIC_TOLERANCE:.0%} to spare; what rounding of the inputs allows is named beside it.",
        "The guide's numbers come from Go on an Apple M2. This is another engine, on another machine.",
    ]
