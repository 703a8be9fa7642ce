"""The project's commands; `nox -l` lists them, and each sets up what it needs.

Packages are built as wheels, kept in `build/wheels` under a digest of their sources, and installed only where that digest changed.
A session keeps its virtual environment between runs.
"""

import fcntl
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nox

ROOT = Path(__file__).parent
WHEELS = ROOT / "build" / "wheels"
BUILDER = ROOT / "build" / "builder"
PYPROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
PEERS = ROOT / "harness" / "cometbench" / "services" / "install.toml"
FORWARD_PEERS = ("nats", "kafka", "rdkafka_performance", "setpriv")
ARM64_CANNOT = 77
# What qemu can show in one process. Child processes would need binfmt_misc, and /proc/cpuinfo is the host's.
ARM64_TESTS = [
    *(
        f"tests/engine/test_{name}.py"
        for name in ("checksum", "reference", "format_document", "entry_range", "wall_clock")
    ),
    *(
        f"tests/engine/test_contract.py::test_contract[{path}-64K-100ms-pairs]"
        for path in ("mmap", "buffered", "sync", "async")
    ),
    "tests/engine/test_contract.py::test_buffers_are_accepted_and_copied",
    "tests/engine/test_contract.py::test_compressed_and_plain_frames_follow_one_another",
    "--deselect=tests/engine/test_checksum.py::test_no_byte_outside_the_data_is_read",
    "--deselect=tests/engine/test_checksum.py::test_the_instruction_is_used_where_the_cpu_has_it",
]
SIDE_BY_SIDE = ("--numprocesses", "auto", "--dist", "worksteal")
# The fault suites have tests that must not run beside one another (tests/crash/conftest.py).
SIDE_BY_SIDE_IN_GROUPS = ("--numprocesses", "auto", "--dist", "loadgroup")
SUITE_USE = "suite needs the sections to run, for example: nox -s suite -- Q G (or: Q --profile full)"
CLANG = next((name for name in ("clang", "clang-14") if shutil.which(name)), "")

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["tests", "lint"]


@dataclass(frozen=True)
class Package:
    """A package of this repository: where its pyproject.toml lies and what its wheel is built from."""

    name: str
    directory: str
    sources: tuple[str, ...]
    debug: bool = False
    sanitize: bool = False

    def source_files(self) -> Iterator[Path]:
        """Yield every file a person wrote that goes into the build, in a fixed order."""
        for source in self.sources:
            path = ROOT / source
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.is_file() and file.suffix not in {".so", ".pyc"}:
                    yield file

    def digest(self) -> str:
        """Return what changes when a source or the kind of build changes."""
        digest = hashlib.sha256(f"{sys.version} {self.debug} {self.sanitize}".encode())
        for file in self.source_files():
            digest.update(f"\0{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
        return digest.hexdigest()[:16]

    def wheel_directory(self) -> Path:
        """Return where the wheel of the present sources is kept."""
        return WHEELS / "-".join(filter(None, [self.name, self.kind])) / self.digest()

    @property
    def kind(self) -> str:
        """Name the build that is not the ordinary one: its directory below `build`, and its wheels."""
        return "sanitize" if self.sanitize else "debug" if self.debug else ""

    def drop_leftovers(self) -> None:
        """Remove what setuptools would pack although its source is gone; compiled modules with a source stay."""
        shutil.rmtree(self.wheel_directory().parent, ignore_errors=True)
        sources = {file.stem for file in self.source_files() if file.suffix == ".pyx"}
        for library in (ROOT / self.directory / "build" / self.kind).glob("lib*"):
            for file in library.rglob("*"):
                if file.is_file() and not (file.suffix == ".so" and file.name.partition(".")[0] in sources):
                    file.unlink()


ENGINE = Package("cometlog", ".", ("engine/cometlog", "pyproject.toml", "setup.py", "README.md", "LICENSE"))
SANITIZED_ENGINE = Package(ENGINE.name, ENGINE.directory, ENGINE.sources, sanitize=True)
DEBUG_ENGINE = Package(ENGINE.name, ENGINE.directory, ENGINE.sources, debug=True)
HARNESS = Package("cometbench", "harness", ("harness/cometbench", "harness/pyproject.toml"))


def prepare_builder(session: nox.Session, package: Package) -> Path:
    """Have the environment in which packages are built, with what this one needs; return its pip."""
    pip = BUILDER / "bin" / "pip"
    if not pip.exists():
        session.run(sys.executable, "-m", "venv", str(BUILDER), external=True)
    needed = nox.project.load_toml(ROOT / package.directory / "pyproject.toml")["build-system"]["requires"]
    session.run(str(pip), "install", "--quiet", *needed, external=True)
    return pip


def build(session: nox.Session, package: Package, wheels: Path) -> None:
    """Build a package in an environment kept for that: with a new Cython each time, every module would be compiled anew."""
    session.log(f"building {package.name}, {package.kind or 'ordinary'}")
    package.drop_leftovers()
    pip = prepare_builder(session, package)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels)]
    kind = {"COMETLOG_DEBUG": str(int(package.debug)), "COMETLOG_SANITIZE": str(int(package.sanitize))}
    if package.sanitize:
        kind["CC"] = CLANG
    session.run(str(pip), "wheel", *options, f"./{package.directory}", env=kind, external=True)


def install(session: nox.Session, *packages: Package, group: str = "") -> None:
    """Install the tools of a dependency group, and packages of this repository where they changed."""
    if group:
        session.install(*nox.project.dependency_groups(PYPROJECT, group))
    for package in packages:
        wheels = package.wheel_directory()
        mark = Path(session.virtualenv.location) / f"{package.name}.digest"
        if mark.exists() and mark.read_text() == wheels.name:
            continue
        if not list(wheels.glob("*.whl")):
            build(session, package, wheels)
        (wheel,) = wheels.glob("*.whl")
        session.install("--force-reinstall", "--no-deps", str(wheel))
        session.install(str(wheel))
        mark.write_text(wheels.name)


def cometbench(session: nox.Session, *arguments: str) -> None:
    """Build engine and harness, then run the harness; 130 is Ctrl-C, after which what finished is kept."""
    install(session, ENGINE, HARNESS)
    session.run("cometbench", *arguments)


def install_beside(session: nox.Session, package: Package) -> Path:
    """Install a second build of a package into a directory of its own, for worker processes that are told where it is."""
    wheels = package.wheel_directory()
    target = Path(session.virtualenv.location) / "beside" / wheels.name
    if not target.exists():
        if not list(wheels.glob("*.whl")):
            build(session, package, wheels)
        (wheel,) = wheels.glob("*.whl")
        session.run(
            "python", "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)
        )
    return target


def install_peers(session: nox.Session, names: Collection[str] | None = None) -> None:
    """Install the servers that `names` lists, all of section A without it, where that was not done yet.

    One of `names` that cannot be installed ends the session; without `names` it is a row that says so. Sessions that run at the same
    time wait for one another here.
    """
    (ROOT / "build").mkdir(exist_ok=True)
    with (ROOT / "build" / "peers.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name, peer in nox.project.load_toml(PEERS).items():
            if name == "packages" or (names is not None and name not in names):
                continue
            if not install_peer(session, name, peer) and names is not None:
                session.error(f"{name} is missing; install it with: {peer['command']}")


def install_peer(session: nox.Session, name: str, peer: dict[str, Any]) -> bool:
    """Install a server unless it is there and its table of install.toml is as it was then; return whether it is."""
    inputs = [peer["command"].encode(), *((ROOT / file).read_bytes() for file in peer.get("inputs", []))]
    digest, mark = hashlib.sha256(b"".join(inputs)).hexdigest(), ROOT / "build" / name / "installed"

    def is_there() -> bool:
        return bool(shutil.which(peer.get("program", ""))) or (mark.exists() and mark.read_text() == digest)

    if is_there():
        return True
    if peer.get("root", False) and os.geteuid() != 0:
        session.warn(f"{name} is missing; run as root: {peer['command']}")
        return False
    shutil.rmtree(mark.parent, ignore_errors=True)
    marked = "" if "program" in peer else f" && printf {digest} > {mark}"
    session.run("sh", "-c", peer["command"] + marked, external=True, success_codes=range(256))
    return is_there()


def with_option(arguments: list[str], option: str, value: str) -> list[str]:
    """Return the arguments with an option, unless they name it."""
    named = any(argument.partition("=")[0] == option for argument in arguments)
    return arguments if named else [option, value, *arguments]


def with_profile(arguments: list[str], profile: str) -> list[str]:
    """Return the arguments with a profile, unless they name one."""
    return with_option(arguments, "--profile", profile)


def minutes_of(session: nox.Session) -> tuple[float, list[str]]:
    """Take `--minutes N` out of the arguments; 60 where it is not given."""
    arguments = list(session.posargs)
    if "--minutes" not in arguments:
        return 60.0, arguments
    place = arguments.index("--minutes")
    try:
        minutes = float(arguments[place + 1])
    except (IndexError, ValueError):
        session.error("--minutes takes a number, for example: nox -s soak -- --minutes 60")
    return minutes, arguments[:place] + arguments[place + 2 :]


@nox.session
def tests(session: nox.Session) -> None:
    """Run every test against the wheels of engine and harness, on all CPUs; arguments go to pytest."""
    install(session, ENGINE, HARNESS, group="test")
    session.run("pytest", *(session.posargs or SIDE_BY_SIDE))


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting, types by two checkers, Cython sources, and the kernel's stubs against the compiled modules."""
    install(session, ENGINE, HARNESS, group="lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    kernel = ROOT / "engine" / "cometlog" / "kernel"
    cython = sorted(
        str(file.relative_to(ROOT)) for pattern in ("*.pyx", "*.pxd") for file in kernel.glob(pattern)
    )
    session.run("cython-lint", *cython)
    session.run("mypy")
    session.run("pyright")
    stubs = ["--mypy-config-file", "pyproject.toml", "--allowlist", "engine/stubtest-allowlist.txt"]
    session.run("stubtest", "cometlog.kernel", "--ignore-unused-allowlist", *stubs)


@nox.session
def debug(session: nox.Session) -> None:
    """Run every test against a kernel with bounds checks and assertions; arguments go to pytest."""
    install(session, DEBUG_ENGINE, HARNESS, group="test")
    session.run("pytest", *session.posargs, env={"COMETLOG_DEBUG": "1"})


@nox.session
def crash(session: nox.Session) -> None:
    """Run the fault suites: kills, power cuts, full disks, hostile files (`-- --tier ci` in minutes, `full` in twenty)."""
    install(session, ENGINE, HARNESS, group="test")
    beside = install_beside(session, DEBUG_ENGINE)
    arguments = with_option(session.posargs, "--tier", "full")
    session.run(
        "pytest",
        "tests/crash",
        *SIDE_BY_SIDE_IN_GROUPS,
        *arguments,
        env={"COMETLOG_STEPS_PACKAGE": str(beside)},
    )


@nox.session
def soak(session: nox.Session) -> None:
    """Run the fault suites again and again, each time with new seeds: `nox -s soak -- --minutes 60`."""
    minutes, arguments = minutes_of(session)
    install(session, ENGINE, HARNESS, group="test")
    beside = install_beside(session, DEBUG_ENGINE)
    until = time.monotonic() + 60 * minutes
    turn = 0
    while turn == 0 or time.monotonic() < until:
        turn += 1
        session.log(f"turn {turn}, {max(0, until - time.monotonic()) / 60:.0f} of {minutes:g} minutes left")
        session.run(
            "pytest", "tests/crash", "--tier", "full", *arguments, env={"COMETLOG_STEPS_PACKAGE": str(beside)}
        )


@nox.session
def mutants(session: nox.Session) -> None:
    """Break the engine by each edit of `tests/mutants.toml` and see its test fail; arguments choose by name, `--list` shows them."""
    install(session, HARNESS, group="test")
    session.install(*PYPROJECT["build-system"]["requires"], *PYPROJECT["project"]["dependencies"])
    session.run("python", "tests/mutants.py", *session.posargs)


@nox.session
def survival(session: nox.Session) -> None:
    """Print what survives what, with the counts of recorded runs; `-- --write` puts the table into its page."""
    session.run("python", "tests/crash/survival.py", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Write the API reference, from docstrings, to `build/docs`."""
    install(session, ENGINE, group="docs")
    session.run(
        "pdoc",
        "--output-directory",
        str(ROOT / "build" / "docs"),
        "--docformat",
        "restructuredtext",
        "cometlog",
    )


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzz every parser under AddressSanitizer and UndefinedBehaviorSanitizer: `nox -s fuzz -- --seconds 60`."""
    if not CLANG or not list(Path("/usr/lib").glob("llvm-*/lib/clang/*/lib/linux/libclang_rt.asan-*.so")):
        session.error(
            "fuzz needs clang and its sanitizers' runtime: apt-get install clang-14 libclang-rt-14-dev"
        )
    install(session, ENGINE, group="fuzz")
    beside = install_beside(session, SANITIZED_ENGINE)
    session.run("python", "tests/crash/fuzz/run.py", "--package", str(beside), *session.posargs)


@nox.session
def guide(session: nox.Session) -> None:
    """Run the main job: the guide's tables beside what is measured here (`-- --profile full` runs every experiment)."""
    cometbench(session, "run", *with_profile(session.posargs, "quick"))


@nox.session
def suite(session: nox.Session) -> None:
    """Measure chosen sections of the guide: `nox -s suite -- Q G`."""
    arguments = list(session.posargs)
    sections = []
    while arguments and not arguments[0].startswith("-"):
        sections.append(arguments.pop(0))
    if not sections:
        session.error(SUITE_USE)
    cometbench(session, "run", "--sections", ",".join(sections), *with_profile(arguments, "quick"))


@nox.session
def bench_smoke(session: nox.Session) -> None:
    """Run every experiment for a moment and validate the results, which are thrown away."""
    results = Path(session.create_tmp()) / "results"
    shutil.rmtree(results, ignore_errors=True)
    cometbench(session, "run", "--results", str(results), *with_profile(session.posargs, "smoke"))
    session.run("cometbench", "validate", str(results))
    shutil.rmtree(results)


@nox.session
def notebooks(session: nox.Session) -> None:
    """Execute the notebooks and compare their tables with the committed ones (`-- --write` stores the new ones)."""
    install(session, ENGINE, HARNESS, group="notebooks")
    session.run("python", "-m", "cometbench.notebooks", *session.posargs)


@nox.session
def alternatives(session: nox.Session) -> None:
    """Install other systems, test their adapters, measure the engine beside them (`-- --kafka HOST:PORT` takes a broker of yours)."""
    install(session, ENGINE, HARNESS, group="test")
    harness = nox.project.load_toml(ROOT / HARNESS.directory / "pyproject.toml")["project"]
    session.install(*harness["optional-dependencies"]["alternatives"])
    install_peers(session)
    session.run("pytest", "tests/harness/test_peers.py")
    session.run("cometbench", "alternatives", *with_profile(session.posargs, "quick"))


@nox.session
def forward(session: nox.Session) -> None:
    """Install a Kafka broker and a NATS server, and test forwarding to them and importing from them; arguments go to pytest."""
    install(session, ENGINE, HARNESS, group="test")
    extras = PYPROJECT["project"]["optional-dependencies"]
    session.install(*extras["kafka"], *extras["nats"])
    install_peers(session, FORWARD_PEERS)
    session.run("pytest", "tests/forward", *SIDE_BY_SIDE, *session.posargs)


@nox.session
def ceilings(session: nox.Session) -> None:
    """Count the instructions of the hot path with callgrind and hold them against their ceilings."""
    install(session, ENGINE, group="test")
    session.run("pytest", "tests/engine/test_instruction_ceilings.py", *session.posargs)


@nox.session
def arm64(session: nox.Session) -> None:
    """Compile the kernel for arm64 and run its tests under qemu, in one process; says why where it cannot."""
    python = prepare_builder(session, ENGINE).with_name("python")
    said = session.run(
        str(python), "tests/arm64/prepare.py", external=True, silent=True, success_codes=[0, ARM64_CANNOT]
    )
    if isinstance(said, str) and "cannot: " in said:
        session.skip(said.rpartition("cannot: ")[2].strip())
    place = ROOT / "build" / "arm64"
    environment = {
        "PYTHONPATH": str(place / "site"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(place / "hypothesis"),
    }
    run = [
        "qemu-aarch64-static",
        "-L",
        str(place / "root"),
        str(place / "root" / "usr" / "bin" / "python3.11"),
    ]
    options = ["-p", "no:cacheprovider", "--basetemp", str(place / "tmp"), *(session.posargs or ARM64_TESTS)]
    session.run(*run, "-m", "pytest", *options, env=environment, external=True)
