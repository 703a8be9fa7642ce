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
import pyperf
from pydantic import ValidationError

from cometbench.errors import CometbenchError
from cometbench.model import ClaimResult, Fact, Machine, Measurement, Profile, Record, Run

_R = TypeVar("_R", bound=Record)

RUN_FILE = "run.json"
MACHINE_FILE = "machine.json"
TUNE_FILE = "tune.json"
PYPERF_FILE = "pyperf.json.gz"
LATENCY_FILE = "latency.npz"
FLAME_GRAPHS = "flamegraphs"

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
        path = Path(results_root) / machine.machine_id / run_id
        store = cls(path, run)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            keep_machine(path.parent, machine)
            if path.exists():
                raise ResultsError(f"run directory {path} exists; runs are never overwritten")
            path.mkdir()
            store._write()
        except OSError as error:
            raise ResultsError(f"results tree {results_root} cannot be written: {error.strerror}") from error
        return store

    @classmethod
    def resume(cls, run_directory: Path | str) -> RunStore:
        """Open an unfinished run to go on with it.

        Raises ResultsError when it is finished, missing or invalid.
        """
        path = Path(run_directory)
        store = cls(path, load_run(path))
        store._require_open()
        store._latency = load_latency(path)
        return store

    @property
    def run(self) -> Run:
        """The run as stored on disk now."""
        return self._run

    def put(self, measurements: Sequence[Measurement]) -> None:
        """Store measurements, floors among them, in the place of those that have their names. Raises ResultsError when finished."""
        self._require_open()
        kept: dict[str, dict[str, Measurement]] = {
            "floors": {m.name: m for m in self._run.floors},
            "measurements": {m.name: m for m in self._run.measurements},
        }
        for measurement in measurements:
            kept["floors" if measurement.experiment == "floor" else "measurements"][measurement.name] = (
                measurement
            )
        self._replace(**{field: list(named.values()) for field, named in kept.items()})

    def attach_pyperf(self, suite: PyperfSuite) -> None:
        """Store the raw pyperf suite without private metadata as pyperf.json.gz (replaces an earlier one)."""
        self._require_open()
        buffer = io.StringIO()
        suite.dump(buffer)
        document = scrub_pyperf(json.loads(buffer.getvalue()))
        text = json.dumps(document, separators=(",", ":"), sort_keys=True)
        write_atomically(self.path / PYPERF_FILE, gzip.compress(text.encode(), mtime=0))

    def load_pyperf(self) -> pyperf.BenchmarkSuite | None:
        """Return the raw pyperf suite that is stored, or None."""
        file = self.path / PYPERF_FILE
        return pyperf.BenchmarkSuite.load(str(file)) if file.exists() else None

    def add_latency(self, key: str, samples_ns: npt.ArrayLike) -> None:
        """Store raw per-operation samples (any shape) under `key` in latency.npz, in the place of earlier ones."""
        self._require_open()
        self._latency[key] = np.asarray(samples_ns)
        buffer = io.BytesIO()
        arrays: dict[str, Any] = dict(self._latency)
        np.savez_compressed(buffer, **arrays)
        write_atomically(self.path / LATENCY_FILE, buffer.getvalue())

    def add_flame_graph(self, name: str, text: str) -> None:
        """Store collapsed stacks or an SVG under flamegraphs/, in the place of an earlier one."""
        self._require_open()
        file = self.path / FLAME_GRAPHS / name
        file.parent.mkdir(exist_ok=True)
        write_atomically(file, text.encode())

    def add_facts(self, facts: Mapping[str, Fact]) -> None:
        """Store what became known about the run while it ran, among its environment."""
        self._require_open()
        self._replace(environment={**self._run.environment, **facts})

    def finish(self, claims: Sequence[ClaimResult], *, interrupted: bool = False) -> Run:
        """Store the verdicts and close the run; an interrupted one keeps `finished_utc` None.

        Returns the run.
        """
        self._require_open()
        finished = None if interrupted else utc_now()
        self._replace(claims=list(claims), finished_utc=finished)
        return self._run

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
    if file.is_dir() and (file / TUNE_FILE).exists():
        raise ResultsError(f"{file} is a walk through the checklist (`cometbench tune`), not a run")
    if file.is_dir() and not (file / RUN_FILE).exists():
        raise ResultsError(
            f"{file} holds no {RUN_FILE}: a run is a folder results/<machine>/<UTC time>-<commit>-<profile>"
        )
    return read_record(file / RUN_FILE if file.is_dir() else file, Run)


def load_machine(path: Path | str) -> Machine:
    """Read machine.json (or the machine directory that holds it). Raises ResultsError naming the file."""
    file = Path(path)
    file = file / MACHINE_FILE if file.is_dir() else file
    return read_record(file, Machine)


def load_latency(run_directory: Path | str) -> dict[str, npt.NDArray[Any]]:
    """All raw per-operation sample arrays of a run, by key; empty when the run has none."""
    file = Path(run_directory) / LATENCY_FILE
    if not file.exists():
        return {}
    with np.load(file, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def read_record(file: Path, model: type[_R]) -> _R:
    """Read a stored record. Raises ResultsError naming the file, the field and what is wrong with it."""
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


def keep_machine(directory: Path, machine: Machine) -> None:
    """Write machine.json once; a second run on the same machine must agree with it.

    Raises ResultsError where the stored one describes other hardware.
    """
    file = directory / MACHINE_FILE
    if not file.exists():
        write_atomically(file, to_json_bytes(machine))
        return
    stored = load_machine(file)
    if stored.hardware != machine.hardware:
        raise ResultsError(
            f"{file} describes other hardware than this machine, yet the id {machine.machine_id} is equal"
        )
