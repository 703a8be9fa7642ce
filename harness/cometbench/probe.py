"""A probe: a measured operation that is no append in a loop, such as reading, acknowledging, memory, or a load over time.

A probe takes its turn in the interleaved rounds like a benchmark, in a process of its own, and may yield several values there; each
becomes a measurement `<probe>.<value>` with one sample a round. Its function gets a `Task` and returns an `Outcome`; it verifies
what it wrote or read. Standard library only, because measuring processes import it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import inspect
import json
import re
from array import array
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cometbench.benchmark import ConfigValue, load_subject
from cometbench.histogram import Histogram
from cometbench.verification import Finding

FLAME_GRAPH_NAME = re.compile(r"[A-Za-z0-9_.]+\.(?:svg|txt)")


@dataclasses.dataclass(frozen=True)
class Probe:
    """One probe, as plain data.

    `name` is unique in a run. `implementation` is the dotted path `module:function`. `values` maps each
    value's name to its unit ("ns", "bytes", "x", "entries/s", ...). `seconds` stretches the profile's time of
    a probe (1: as the profile says). `rounds` "main", "other" or "probe" selects the profile's number of
    rounds, "once" is a single one. `fresh` asks for an interpreter started for it, not a process forked from one that
    has imported what it needs: where the process's own memory is measured. `service` is the dotted path of the server
    it needs (see `services.shared`), whose `address` and `server` come in the config. The rest describes the result.
    """

    name: str
    experiment: str
    subject: str
    implementation: str
    values: Mapping[str, str]
    workload: str = ""
    batch: int = 1
    processes: int = 1
    seconds: float = 1.0
    durability: str = "none"
    rounds: str = "probe"
    fresh: bool = False
    service: str = ""
    config: Mapping[str, ConfigValue] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError(f"{self.name}: a probe yields at least one value")

    def configured(self, further: Mapping[str, ConfigValue]) -> Probe:
        """Return the specification with `further` in its config."""
        return dataclasses.replace(self, config={**self.config, **further})

    def to_json(self) -> str:
        """Return the specification as one JSON object, without `service` where there is none: older results were hashed so."""
        fields = dataclasses.asdict(self)
        if not self.service:
            del fields["service"]
        return json.dumps(fields, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Probe:
        """Return the specification `to_json` wrote."""
        return cls(**json.loads(text))

    def measurement_names(self) -> list[str]:
        """Names of the measurements, in the order of `values`."""
        return [f"{self.name}.{value}" for value in self.values]

    def code_hash(self) -> str:
        """Hash the specification and the module that measures: results with equal hashes measured the same thing."""
        module = importlib.import_module(self.implementation.partition(":")[0])
        return hashlib.sha256((self.to_json() + inspect.getsource(module)).encode()).hexdigest()[:16]


class Task(NamedTuple):
    """What a probe's function is given: an empty directory on the file system under test, a seed that differs each round, its time."""

    probe: Probe
    directory: Path
    seed: int
    seconds: float


class Outcome(NamedTuple):
    """What a probe's function returns.

    `values` has one number for each of the probe's value names; `finding` what verifying has shown; `extra` facts that
    are stored with every value; `arrays` raw samples (unsigned 64-bit), stored under `<probe>.<array>.round<N>`; `flame_graphs`
    texts by file name, stored under `flamegraphs/`; `file_system` what it measured on, where that is not the bench directory's;
    `histograms` those of values that are medians of many samples in nanoseconds: percentiles then come from the
    histograms of all rounds together, and `extra["timer_overhead_ns"]` says what reading the clock adds to a sample.
    """

    values: Mapping[str, float]
    finding: Finding = Finding("not_applicable")
    extra: Mapping[str, float | str] = {}
    arrays: Mapping[str, array[int]] = {}
    flame_graphs: Mapping[str, str] = {}
    file_system: str = ""
    histograms: Mapping[str, Histogram] = {}


def load_probe(implementation: str) -> Callable[[Task], Outcome]:
    """Import the function behind `module:function`. Raises SubjectError naming the path."""
    function: Any = load_subject(implementation)
    return function  # type: ignore[no-any-return]
