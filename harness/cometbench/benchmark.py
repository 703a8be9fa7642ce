"""The specification of one benchmark: plain data that travels to worker processes as JSON.

Standard library only, because measuring processes import it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import inspect
import json
from collections.abc import Mapping
from typing import Any

from cometbench.errors import SubjectError

ConfigValue = str | int | float | bool

ENGINE_SUBJECT = "cometbench.subjects.engine:EngineSubject"
STREAM = "bench:v1:shard:0000"


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """One measured operation.

    `name` is unique in a run. `implementation` is the dotted path `module:Class` of a subject (see
    `subjects.contract`); `subject` is the label it is reported under. An append call carries `batch` entries;
    batch 1 calls the subject's single-entry form with a bytes object. `processes` above 1 means as many real
    writer processes on one shard. `metric` is "time_per_append" (nanoseconds for one call) or "bandwidth"
    (bytes per second). `service` is the dotted path `module:callable` of the server it needs (see `services.shared`).
    `bytes_per_call` says how much a call writes where the workload does not (floors).
    `value_bytes_max` limits the payload of one value and `appends_max` the system-call pass (0: the profile's
    limit alone). `rounds` "main", "other" or "probe" selects
    the profile's number of rounds. `fresh` asks for an interpreter started for it, not a process forked from one that has imported
    what it needs (see `forking`).
    """

    name: str
    experiment: str
    subject: str
    implementation: str
    workload: str
    batch: int = 1
    processes: int = 1
    metric: str = "time_per_append"
    bytes_per_call: int = 0
    value_bytes_max: int = 0
    appends_max: int = 0
    durability: str = "none"
    rounds: str = "main"
    service: str = ""
    fresh: bool = False
    config: Mapping[str, ConfigValue] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.batch < 1 or self.processes < 1:
            raise ValueError(
                f"{self.name}: batch {self.batch} and processes {self.processes} must be at least 1"
            )
        if self.metric == "bandwidth" and self.bytes_per_call < 1:
            raise ValueError(f"{self.name}: a bandwidth needs bytes_per_call, got {self.bytes_per_call}")

    @property
    def unit(self) -> str:
        """Unit of the stored values."""
        return "bytes_per_second" if self.metric == "bandwidth" else "ns"

    def stored_value(self, seconds_per_call: float) -> float:
        """Turn the worker's seconds per call into the value that is stored, in `unit`."""
        return (
            self.bytes_per_call / seconds_per_call if self.metric == "bandwidth" else seconds_per_call * 1e9
        )

    def configured(self, further: Mapping[str, ConfigValue]) -> Benchmark:
        """Return the specification with `further` in its config."""
        return dataclasses.replace(self, config={**self.config, **further})

    def to_json(self) -> str:
        """Return the specification as one JSON object."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Benchmark:
        """Return the specification `to_json` wrote."""
        return cls(**json.loads(text))


def load_subject(implementation: str) -> Any:
    """Import the subject class behind `module:Class`. Raises SubjectError naming the path."""
    module_name, _, attribute = implementation.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise SubjectError(f"subject {implementation} cannot be loaded: {error}") from error


def code_hash(benchmark: Benchmark) -> str:
    """Hash the specification and the code it times: results with equal hashes measured the same thing."""
    digest = hashlib.sha256(benchmark.to_json().encode())
    for module in ("cometbench.measuring", "cometbench.workloads"):
        digest.update(inspect.getsource(importlib.import_module(module)).encode())
    digest.update(inspect.getsource(load_subject(benchmark.implementation)).encode())
    return digest.hexdigest()[:16]
