"""The checkable part of the project's style: sizes, import arrows, docstrings, what is tracked."""

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
SIZED_TREES = ("engine", "harness", "experiments", "tests")
ENGINE = ROOT / "engine" / "cometlog"
COMMON = {
    "config", "control", "dictionaries", "durable_mark", "errors", "file_system", "files", "fixed_file", "group_offsets",
    "judging", "kernel", "lock_wait", "locks", "names", "proof", "segment", "statistics_file",
    "window",
}  # fmt: skip
READ_SIDE = {
    "columnar", "consumer", "group_shard", "header_rebuild", "index", "inflate", "onlooker", "processing", "ranges",
    "read_batch", "reader", "segment_chain", "segment_reader", "shard_survey", "sleeper", "survey", "tailing",
}  # fmt: skip
ON_BOTH_SIDES = {
    "__init__",
    "__main__",
    "cli",
    "client",
    "forward",
    "salvage",
}  # the client, and the tools of the command line
# Lower may not import higher: kernel, segment, the shard and what serves it, write paths, client.
HEIGHTS = {
    "kernel": 0, "segment": 1, "shard": 3, "write_paths": 4, "client": 5, "salvage": 5, "batcher": 6, "log_handler": 6,
    "exporters": 6, "forward": 6, "__init__": 7, "cli": 8, "__main__": 9,
}  # fmt: skip
SHARD_HEIGHT = 2
CYTHON_FUNCTION = re.compile(r"^( *)(?:async )?(?:def|cpdef|cdef)\b[^=\n]*?\b(\w+)\(")


def tracked_files() -> list[Path]:
    """Return what the repository holds, or what a source archive was unpacked to."""
    if not (ROOT / ".git").exists():
        return [file for tree in SIZED_TREES for file in (ROOT / tree).rglob("*") if file.is_file()]
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return [file for name in listing.split("\0") if name and (file := ROOT / name).is_file()]


def source_files(*suffixes: str) -> list[Path]:
    """Return the tracked sources of the sized trees."""
    roots = tuple(ROOT / tree for tree in SIZED_TREES)
    return [
        file
        for file in tracked_files()
        if file.suffix in suffixes and any(root in file.parents for root in roots)
    ]


def python_functions(text: str) -> list[tuple[str, int]]:
    """Return name and length in lines of every function of a Python file."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return [
        (node.name, (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, kinds)
    ]


def cython_functions(text: str) -> list[tuple[str, int]]:
    """Return name and length in lines of every function of a Cython file, by indentation."""
    lines = text.splitlines()
    found = []
    for start, line in enumerate(lines):
        opening = CYTHON_FUNCTION.match(line)
        if opening is None:
            continue
        indent, last = len(opening[1]), start
        for position in range(start + 1, len(lines)):
            body = lines[position]
            if (
                body.strip()
                and len(body) - len(body.lstrip()) <= indent
                and not body.lstrip().startswith(")")
            ):
                break
            if body.strip():
                last = position
        found.append((opening[2], last - start + 1))
    return found


def functions(file: Path) -> list[tuple[str, int]]:
    measure = python_functions if file.suffix == ".py" else cython_functions
    return measure(file.read_text())


def engine_module(file: Path) -> str:
    """Return the top part of a module's name below cometlog: `shard`, `kernel`, `write_paths`."""
    return file.relative_to(ENGINE).parts[0].removesuffix(file.suffix)


def engine_imports(file: Path) -> set[str]:
    """Return what a file imports, cimports included: whole names, and `cometlog.x` for `from cometlog import x`."""
    found = set()
    for module, names in re.findall(
        r"^\s*from\s+([\w.]+)\s+c?import\s+(\([^)]*\)|[^\n#]+)", file.read_text(), re.MULTILINE
    ):
        found.add(module)
        if module == "cometlog":
            found |= {f"cometlog.{name}" for name in re.findall(r"\w+", names)}
    return found | set(re.findall(r"^\s*c?import\s+([\w.]+)", file.read_text(), re.MULTILINE))


def imported_modules(file: Path) -> set[str]:
    return {name.split(".")[1] for name in engine_imports(file) if name.startswith("cometlog.")}


def engine_files() -> list[Path]:
    return [file for file in source_files(".py", ".pyx", ".pxd") if ENGINE in file.parents]


def test_files_fit_a_reader() -> None:
    lengths = {file: len(file.read_text().splitlines()) for file in source_files(".py", ".pyx")}
    assert {str(f.relative_to(ROOT)): n for f, n in lengths.items() if n > FILE_LINES_MAX} == {}


def test_functions_fit_a_screen() -> None:
    long = {
        f"{file.relative_to(ROOT)}: {name}": lines
        for file in source_files(".py", ".pyx")
        for name, lines in functions(file)
        if lines > FUNCTION_LINES_MAX
    }
    assert long == {}


@pytest.mark.parametrize(
    ("measure", "head"), [(python_functions, "def f(x):"), (cython_functions, "cdef int f(int x):")]
)
def test_the_length_of_a_function_is_counted(measure, head) -> None:
    body = "\n".join(["    x = 1", "", "    y = 2"])
    assert measure(f"{head}\n{body}\n\n\nz = 3\n") == [("f", 4)]


def test_test_files_have_names_of_their_own() -> None:
    names = [file.name for file in source_files(".py") if file.name.startswith("test_")]
    assert sorted(names) == sorted(set(names))


def test_nothing_is_put_off() -> None:
    word = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X")))
    marked = [
        f"{file.relative_to(ROOT)}:{number}"
        for file in source_files(".py", ".pyx", ".pxd", ".c", ".h", ".pyi")
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if word.search(line)
    ]
    assert marked == []


def test_arrows_in_the_engine_point_down() -> None:
    up = []
    for file in engine_files():
        module = engine_module(file)
        if module in READ_SIDE or module in COMMON - {"kernel", "segment"}:
            continue
        height = HEIGHTS.get(module, SHARD_HEIGHT)
        for imported in imported_modules(file) - READ_SIDE - (COMMON - {"kernel", "segment"}):
            if HEIGHTS.get(imported, SHARD_HEIGHT) > height:
                up.append(f"{file.relative_to(ROOT)} imports {imported}")
    assert up == []


def test_reading_and_writing_sides_never_import_each_other() -> None:
    crossing = []
    for file in engine_files():
        module = engine_module(file)
        if module in ON_BOTH_SIDES:
            continue
        imported = imported_modules(file)
        strangers = imported - READ_SIDE - COMMON if module in READ_SIDE else imported & READ_SIDE
        crossing += [f"{file.relative_to(ROOT)} imports {name}" for name in sorted(strangers)]
    assert crossing == []


def test_common_ground_knows_neither_side() -> None:
    files = [file for file in engine_files() if engine_module(file) in COMMON]
    beyond = {str(file.relative_to(ROOT)): imported_modules(file) - COMMON for file in files}
    assert {name: modules for name, modules in beyond.items() if modules} == {}


def test_the_engine_never_imports_the_harness() -> None:
    strangers = {"cometbench", "experiments", "pyperf", "matplotlib"}
    found = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in engine_files()
        for name in engine_imports(file)
        if name.split(".")[0] in strangers
    ]
    assert found == []


def test_importing_the_engine_imports_no_extra_and_no_event_loop() -> None:
    extras = {
        "asyncio", "confluent_kafka", "gevent", "nats", "numpy", "opentelemetry", "pandas", "prometheus_client", "pyarrow", "pytest",
        "rich",
    }  # fmt: skip
    probe = f"import sys, cometlog; print(sorted({extras!r} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_every_module_says_what_it_is() -> None:
    modules = [file for file in source_files(".py", ".pyx", ".pxd") if file.stat().st_size]
    silent = [
        str(file.relative_to(ROOT))
        for file in modules
        if not re.match(r'(?:#[^\n]*\n)*\s*r?"""\S', file.read_text())
    ]
    assert silent == []


def test_every_public_name_says_what_it_does() -> None:
    cometlog = import_module("cometlog")
    inherited = {object.__doc__, Exception.__doc__, tuple.__doc__}
    silent = [name for name in cometlog.__all__ if getattr(cometlog, name).__doc__ in inherited | {None, ""}]
    assert silent == []
    assert sorted(cometlog.__all__) == cometlog.__all__


def test_no_generated_file_is_tracked() -> None:
    generated = [
        str(file.relative_to(ROOT))
        for file in tracked_files()
        if file.suffix in {".so", ".pyc", ".o", ".whl"}
        or (file.suffix == ".c" and "/* Generated by Cython" in file.read_text()[:200])
        or (file.suffix == ".c" and file.parent.name == "kernel" and file.name != "crc32c.c")
    ]
    assert generated == []
