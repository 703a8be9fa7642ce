"""Take the results of another machine into the tree: validated first, copied whole, never over what is there."""

from __future__ import annotations

import filecmp
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cometbench.guide import GUIDE_MACHINE_ID
from cometbench.store import MACHINE_FILE, ResultsError, load_machine
from cometbench.validate import validate_tree

# A run is a few hundred kilobytes; an archive that unpacks to more than this is none.
_UNPACKED_BYTES_MAX = 1 << 30


def import_results(source: Path, results_root: Path) -> list[Path]:
    """Copy the machines and runs below `source` into `results_root`; returns the run folders that are new.

    `source` is a folder or an archive (.tar.gz, .tar, .zip) that holds machine folders, or is one itself. Raises
    ResultsError, naming file and reason, before anything was copied.
    """
    with _opened(source) as folder, tempfile.TemporaryDirectory() as staging:
        machines = sorted(path.parent for path in folder.rglob(MACHINE_FILE))
        if not machines:
            raise ResultsError(f"{source} holds no {MACHINE_FILE}, so it is no machine's folder of results")
        for machine in machines:
            shutil.copytree(machine, Path(staging) / load_machine(machine).machine_id, symlinks=False)
        problems = validate_tree(Path(staging))
        if problems:
            first = problems[0]
            more = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
            raise ResultsError(f"{source}: {first.place}: {first.message}{more}")
        staged = [machine for machine in sorted(Path(staging).iterdir()) if machine.name != GUIDE_MACHINE_ID]
        new = [run for machine in staged for run in _new_runs(machine, results_root)]
        for run in new:
            _place(run, results_root)
        return [results_root / run.parent.name / run.name for run in new]


@contextmanager
def _opened(source: Path) -> Iterator[Path]:
    if source.is_dir():
        yield source
        return
    with tempfile.TemporaryDirectory() as unpacked:
        try:
            if zipfile.is_zipfile(source):
                _unpack_zip(source, Path(unpacked))
            elif tarfile.is_tarfile(source):
                _unpack_tar(source, Path(unpacked))
            else:
                raise ResultsError(
                    f"{source} is no archive: give a machine's folder, or a .tar.gz or .zip of it"
                )
        except (tarfile.TarError, zipfile.BadZipFile, OSError) as error:
            raise ResultsError(f"{source} cannot be unpacked: {error}") from error
        yield Path(unpacked)


def _unpack_zip(source: Path, target: Path) -> None:
    with zipfile.ZipFile(source) as archive:
        _check_size(source, sum(member.file_size for member in archive.infolist()))
        archive.extractall(target)


def _unpack_tar(source: Path, target: Path) -> None:
    with tarfile.open(source) as archive:
        _check_size(source, sum(member.size for member in archive.getmembers()))
        archive.extractall(target, filter="data")


def _check_size(source: Path, unpacked_bytes: int) -> None:
    if unpacked_bytes > _UNPACKED_BYTES_MAX:
        raise ResultsError(
            f"{source} unpacks to {unpacked_bytes:,} bytes; results of at most {_UNPACKED_BYTES_MAX:,} are taken"
        )


def _new_runs(machine: Path, results_root: Path) -> list[Path]:
    """Return the runs of a machine that are not here yet. Raises ResultsError where one here differs."""
    kept = results_root / machine.name
    if (kept / MACHINE_FILE).exists() and load_machine(kept).hardware != load_machine(machine).hardware:
        raise ResultsError(f"{kept / MACHINE_FILE} describes other hardware under the same machine id")
    new = []
    for run in sorted(path for path in machine.iterdir() if path.is_dir()):
        if not (kept / run.name).exists():
            new.append(run)
        elif not _identical(run, kept / run.name):
            raise ResultsError(f"{kept / run.name} is here already and differs; runs are never overwritten")
    return new


def _identical(first: Path, second: Path) -> bool:
    names = [
        {path.relative_to(root) for path in root.rglob("*") if path.is_file()} for root in (first, second)
    ]
    return names[0] == names[1] and all(filecmp.cmp(first / n, second / n, shallow=False) for n in names[0])


def _place(run: Path, results_root: Path) -> None:
    kept = results_root / run.parent.name
    kept.mkdir(parents=True, exist_ok=True)
    if not (kept / MACHINE_FILE).exists():
        shutil.copyfile(run.parent / MACHINE_FILE, kept / MACHINE_FILE)
    temporary = Path(tempfile.mkdtemp(prefix=".import-", dir=kept))
    shutil.copytree(run, temporary / run.name)
    (temporary / run.name).rename(kept / run.name)
    temporary.rmdir()
