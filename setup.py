"""Compile the kernel. ``COMETLOG_DEBUG=1`` builds it with bounds checks, assertions and hardly any optimisation.

``COMETLOG_SANITIZE=1`` builds it with clang, AddressSanitizer, UndefinedBehaviorSanitizer and the coverage that a fuzzer follows;
such a build runs only where the sanitizers' runtime is preloaded. The builds keep their intermediate files apart, and so do sets of
directives, because Cython does not notice that they changed.
"""

import os
from pathlib import Path
from zlib import crc32

from Cython.Build import cythonize
from setuptools import Extension, setup

KERNEL = Path("engine/cometlog/kernel")
DEBUG = os.environ.get("COMETLOG_DEBUG") == "1"
SANITIZE = os.environ.get("COMETLOG_SANITIZE") == "1"
BUILD_BASE = "build/sanitize" if SANITIZE else "build/debug" if DEBUG else "build"
JOBS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "embedsignature": True,
    "embedsignature.format": "clinic",  # so that inspect.signature and help() know compiled methods
    "binding": True,
}
COMPILE_ARGUMENTS = ["-std=c11", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-cast-function-type"]
COMPILE_ARGUMENTS += ["-O1", "-g", "-UNDEBUG", "-DCOMETLOG_DEBUG=1"] if DEBUG else ["-O3", "-g0"]
if SANITIZE:
    SANITIZERS = ["-fsanitize=address,undefined,fuzzer-no-link", "-fno-sanitize-recover=undefined"]
    COMPILE_ARGUMENTS += [*SANITIZERS, "-O1", "-g", "-fno-omit-frame-pointer"]
    # Linked without them: their runtime comes with the fuzzer that is preloaded.
    os.environ.setdefault("CC", "clang")
    os.environ.setdefault("LDSHARED", f"{os.environ['CC']} -shared")


def checksum_source(module: str) -> str:
    """Return a source of a module's own that holds the checksum: modules are compiled side by side, and one object file that two
    of them write is half there when a third links it.
    """
    path = Path(BUILD_BASE) / "checksum" / f"{module}_crc32c.c"
    text = '#include "crc32c.c"\n'
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
    return str(path)


def kernel_extension(source: Path) -> Extension:
    """Describe one kernel module; every module links its own copy of the checksum."""
    return Extension(
        f"cometlog.kernel.{source.stem}",
        sources=[str(source), checksum_source(source.stem)],
        include_dirs=[str(KERNEL)],
        depends=[
            "setup.py",
            *(str(path) for pattern in ("*.h", "*.pxd", "*.c") for path in sorted(KERNEL.glob(pattern))),
        ],
        extra_compile_args=COMPILE_ARGUMENTS,
    )


setup(
    ext_modules=cythonize(
        [kernel_extension(source) for source in sorted(KERNEL.glob("*.pyx"))],
        compiler_directives=DIRECTIVES,
        build_dir=f"{BUILD_BASE}/cython-{crc32(repr(DIRECTIVES).encode()):08x}",
        nthreads=JOBS,
    ),
    options={"build": {"build_base": BUILD_BASE}, "build_ext": {"parallel": JOBS}},
)
