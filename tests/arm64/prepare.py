"""Make an arm64 Python with the kernel of this tree, for qemu to run: ``nox -s arm64`` calls this with an environment that has Cython.

Everything lies below ``build/arm64``: ``root`` is Debian's Python 3.11, unpacked without being installed; ``site`` holds the engine,
its dependency and the tools of the tests. What is there already is kept. Where it cannot be done, the last line says
``cannot: <why>`` and the exit code is 77.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent
HERE = REPOSITORY / "build" / "arm64"
ROOT, SITE, DEBS, LIB = (HERE / name for name in ("root", "site", "debs", "lib"))
PROGRAMS = {"qemu-aarch64-static": "qemu-user-static", "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu"}
PYTHON = "3.11"
DEBIAN_PACKAGES = (
    "python3.11", "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libpython3.11-dev",
    "libc6", "libgcc-s1", "libexpat1", "zlib1g", "libssl3", "libffi8", "libbz2-1.0", "liblzma5", "libsqlite3-0", "libuuid1",
    "libcrypt1", "libtinfo6", "libncursesw6", "libreadline8", "libnsl2", "libtirpc3",
)  # fmt: skip
CANNOT = 77
STEP_LIMIT_S = 600


class CannotError(Exception):
    """Why this machine cannot do it, for its owner to read."""


def run(*command: str | Path, where: Path = REPOSITORY, **environment: str) -> None:
    """Run one command; its last line of output becomes the reason where it fails."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words,
        cwd=where,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=STEP_LIMIT_S,
        check=False,
    )
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines() or ["it says nothing"]
        raise CannotError(f"{Path(words[0]).name} {words[1]} failed: {said[-1]}")


def install_programs() -> None:
    """Have qemu and the cross compiler, installed where root and apt allow it."""
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if not missing:
        return
    names = " ".join(missing)
    if shutil.which("apt-get") is None:
        raise CannotError(f"{names} missing, and there is no apt-get to install it with")
    if os.geteuid() != 0:
        raise CannotError(f"{names} missing; as root: apt-get install {names}")
    run("apt-get", "update", "-qq")
    run(
        "apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing, "libc6-dev-arm64-cross",
        DEBIAN_FRONTEND="noninteractive",
    )  # fmt: skip


def unpack_python() -> None:
    """Download Debian's arm64 Python with lists of its own, so that the machine's package manager stays as it is."""
    if (ROOT / "complete").exists():
        return
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise CannotError("the arm64 Python comes from Debian, and there is no apt-get or dpkg")
    for directory in ("state/lists/partial", "cache/archives/partial"):
        (HERE / "apt" / directory).mkdir(parents=True, exist_ok=True)
    (HERE / "apt" / "state" / "status").touch()
    DEBS.mkdir(exist_ok=True)
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures::": "arm64",
        "Dir::State": HERE / "apt" / "state",
        "Dir::State::status": HERE / "apt" / "state" / "status",
        "Dir::Cache": HERE / "apt" / "cache",
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    run("apt-get", "update", "-qq", *options)
    run("apt-get", "download", "-qq", *options, *DEBIAN_PACKAGES, where=DEBS)
    for package in sorted(DEBS.glob("*.deb")):
        run("dpkg", "-x", package, ROOT)
    (ROOT / "complete").touch()


def needed() -> list[str]:
    """Return what the engine and its tests depend on; nox, and groups for tests of other parts, stay on this side of qemu."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    listed = [*project["project"]["dependencies"], *project["dependency-groups"]["test"]]
    return [entry for entry in listed if isinstance(entry, str) and not entry.startswith("nox")]


def install_wheels() -> None:
    """Install what the tests need as wheels for arm64."""
    if (SITE / "pytest").exists():
        return
    platform = ("--platform", "manylinux2014_aarch64", "--python-version", PYTHON, "--implementation", "cp")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--target", str(SITE))
    run(*pip, *platform, "--only-binary=:all:", *needed())


def build_kernel() -> None:
    """Compile the kernel with the cross compiler, as ``setup.py`` does it, against the headers of the unpacked Python."""
    configuration = HERE / "configuration"
    configuration.mkdir(exist_ok=True)
    name = "_sysconfigdata__aarch64-linux-gnu"
    shutil.copy(ROOT / "usr" / "lib" / f"python{PYTHON}" / f"{name}.py", configuration)
    include = ROOT / "usr" / "include"
    run(
        sys.executable, "setup.py", "-q", "build_ext", "--build-lib", LIB, "--build-temp", HERE / "temp",
        _PYTHON_HOST_PLATFORM="linux-aarch64", _PYTHON_SYSCONFIGDATA_NAME=name, PYTHONPATH=str(configuration),
        CC="aarch64-linux-gnu-gcc", LDSHARED="aarch64-linux-gnu-gcc -shared",
        CFLAGS=f"-I{include / f'python{PYTHON}'} -I{include}", COMETLOG_DEBUG="0",
    )  # fmt: skip
    shutil.rmtree(SITE / "cometlog", ignore_errors=True)
    shutil.copytree(REPOSITORY / "engine" / "cometlog", SITE / "cometlog")
    shutil.copytree(LIB / "cometlog", SITE / "cometlog", dirs_exist_ok=True)


def main() -> int:
    """Do all of it; 0, or 77 with the reason."""
    HERE.mkdir(parents=True, exist_ok=True)
    try:
        install_programs()
        unpack_python()
        install_wheels()
        build_kernel()
    except (CannotError, subprocess.TimeoutExpired) as reason:
        print(f"cannot: {reason}")
        return CANNOT
    return 0


if __name__ == "__main__":
    sys.exit(main())
