"""The run store: `results/<machine_id>/<UTC>-<commit7>-<profile>/`, written atomically as benchmarks finish.

Invariants: run.json on disk always validates; after `add_*` returns, what was added survives Ctrl-C and a
crash of this process; a run directory belongs to one RunStore and is never written again once finished.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from cometbench.errors import CometbenchError
from cometbench.model import ClaimResult, Fact, Machine, Measurement, Profile, Run

_R = TypeVar("_R", Run, Machine)

RUN_FILE = "run.json"
MACHINE_FILE = "machine.json"
PYPERF_FILE = "pyperf.json.gz"
LATENCY_FILE = "latency.npz"

# pyperf records these on its own; results are public, so they are dropped before anything is stored.
PRIVATE_METADATA = frozenset(
    {"hostname", "python_executable", "command", "command_rss", "python_cflags", "cpu_affinity"}
)


class ResultsError(CometbenchError):
    """A results file is missing, unreadable or does not follow the model; the message names the file."""


class PyperfSuite(Protocol):
    """The one method of pyperf.BenchmarkSuite this module uses."""

    def dump(self, file: Any) -> None:
        """Write the suite as JSON to a file object."""


def utc_now() -> str:
    """Return the instant as stored in a run, to the second: `2025-01-31T12:00:00Z`."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by `content`, synced: a reader sees the old bytes or the new ones, never a part."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise


def to_json_bytes(record: Run | Machine) -> bytes:
    """Canonical JSON of a record: two-space indent, field order of the model, newline at the end."""
    return (record.model_dump_json(indent=2) + "\n").encode()


def scrub_pyperf(document: dict[str, Any]) -> dict[str, Any]:
    """Drop the metadata that names the machine's owner, paths or commands from a pyperf suite, in place."""
    for benchmark in (document, *document.get("benchmarks", [])):
        for holder in (benchmark, *benchmark.get("runs", [])):
            metadata = holder.get("metadata", {})
            for key in PRIVATE_METADATA & metadata.keys():
                del metadata[key]
    return document


class RunStore:
    """Owner of one run directory. Not thread-safe: one process, one thread writes a run."""

    def __init__(self, path: Path, run: Run) -> None:
        self.path = path
        self._run = run
        self._latency: dict[str, npt.NDArray[Any]] = {}

    @classmethod
    def create(
        cls,
        results_root: Path | str,
        machine: Machine,
        profile: Profile,
        *,
        commit: str,
        dirty: bool,
        seed: int,
        versions: Mapping[str, str] | None = None,
        environment: Mapping[str, Fact] | None = None,
        started_utc: str | None = None,
    ) -> RunStore:
        """Make the run's directory, with machine.json beside it and an unfinished run.json in it.

        Raises ResultsError when the run directory exists already, or when machine.json there tells of another
        machine.
        """
        started = started_utc or utc_now()
        stamp = started.replace("-", "").replace(":", "")
        run_id = f"{stamp}-{commit[:7]}-{profile}"
        run = Run(
            run_id=run_id,
            machine_id=machine.machine_id,
            profile=profile,
            started_utc=started,
            commit=commit,
            dirty=dirty,
            seed=seed,
            versions=dict(versions or {}),
            environment=dict(environment or {}),
        )
        machine_directory = Path(results_root) / machine.machine_id
        machine_directory.mkdir(parents=True, exist_ok=True)
        _keep_machine(machine_directory / MACHINE_FILE, machine)
        path = machine_directory / run_id
        try:
            path.mkdir()
        except FileExistsError:
            raise ResultsError(f"run directory {path} exists; runs are never overwritten") from None
        store = cls(path, run)
        store._write()
        return store

    @property
    def run(self) -> Run:
        """The run as stored on disk now."""
        return self._run

    def add_floor(self, measurement: Measurement) -> None:
        """Store a machine floor. Raises ResultsError when the name is taken or the run is finished."""
        self._extend("floors", measurement)

    def add_measurement(self, measurement: Measurement) -> None:
        """Store a finished measurement. Raises ResultsError when the name is taken or the run is finished."""
        self._extend("measurements", measurement)

    def attach_pyperf(self, suite: PyperfSuite) -> None:
        """Store the raw pyperf suite without private metadata as pyperf.json.gz (replaces an earlier one)."""
        self._require_open()
        buffer = io.StringIO()
        suite.dump(buffer)
        document = scrub_pyperf(json.loads(buffer.getvalue()))
        text = json.dumps(document, separators=(",", ":"), sort_keys=True)
        write_atomically(self.path / PYPERF_FILE, gzip.compress(text.encode(), mtime=0))

    def add_latency(self, key: str, samples_ns: npt.ArrayLike) -> None:
        """Store raw per-operation samples (any shape) under `key` in latency.npz.

        Raises ResultsError when taken.
        """
        self._require_open()
        if key in self._latency:
            raise ResultsError(f"latency samples {key} are stored already in {self.path.name}")
        self._latency[key] = np.asarray(samples_ns)
        buffer = io.BytesIO()
        arrays: dict[str, Any] = dict(self._latency)
        np.savez_compressed(buffer, **arrays)
        write_atomically(self.path / LATENCY_FILE, buffer.getvalue())

    def finish(self, claims: Sequence[ClaimResult], *, interrupted: bool = False) -> Run:
        """Store the verdicts and close the run; an interrupted one keeps `finished_utc` None.

        Returns the run.
        """
        self._require_open()
        finished = None if interrupted else utc_now()
        self._replace(claims=list(claims), finished_utc=finished)
        return self._run

    def _extend(self, field: str, measurement: Measurement) -> None:
        self._require_open()
        if self._run.find(measurement.name) is not None:
            raise ResultsError(f"measurement {measurement.name} is stored already in {self._run.run_id}")
        self._replace(**{field: [*getattr(self._run, field), measurement]})

    def _require_open(self) -> None:
        if self._run.finished_utc is not None:
            raise ResultsError(f"run {self._run.run_id} is finished and immutable")

    def _replace(self, **changes: Any) -> None:
        fields = {name: getattr(self._run, name) for name in Run.model_fields}
        self._run = Run(**{**fields, **changes})
        self._write()

    def _write(self) -> None:
        write_atomically(self.path / RUN_FILE, to_json_bytes(self._run))


def load_run(path: Path | str) -> Run:
    """Read run.json (or the run directory that holds it).

    Raises ResultsError naming the file and the field.
    """
    file = Path(path)
    file = file / RUN_FILE if file.is_dir() else file
    return _read(file, Run)


def load_machine(path: Path | str) -> Machine:
    """Read machine.json (or the machine directory that holds it). Raises ResultsError naming the file."""
    file = Path(path)
    file = file / MACHINE_FILE if file.is_dir() else file
    return _read(file, Machine)


def load_latency(run_directory: Path | str) -> dict[str, npt.NDArray[Any]]:
    """All raw per-operation sample arrays of a run, by key; empty when the run has none."""
    file = Path(run_directory) / LATENCY_FILE
    if not file.exists():
        return {}
    with np.load(file, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def _read(file: Path, model: type[_R]) -> _R:
    try:
        return model.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        raise ResultsError(f"{file} does not exist") from None
    except OSError as error:
        raise ResultsError(f"{file} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "document"
        raise ResultsError(f"{file}: {place}: {first['msg']} ({error.error_count()} problem(s))") from None


def _keep_machine(file: Path, machine: Machine) -> None:
    """machine.json is written once; a second run on the same machine must agree with it."""
    if not file.exists():
        write_atomically(file, to_json_bytes(machine))
        return
    stored = load_machine(file)
    if stored.hardware != machine.hardware:
        raise ResultsError(
            f"{file} describes other hardware than this machine, yet the id {machine.machine_id} is equal"
        )
