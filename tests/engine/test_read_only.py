"""A read-only client never writes: no call of its own, none needed, on a mount or in directories that allow none."""

import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from support import PATHS, SHARD, Worker, directory_state, read_all
from test_append_syscalls import strace_problem
from test_holes import claim_and_vanish
from test_safety import write_log

OPENS = re.compile(r"\b(?:open|openat|openat2|creat)\((.*)\) = (-?\d+)")
WRITES = re.compile(
    r"\b(write|pwrite64|pwritev2?|writev|ftruncate|truncate|fallocate|mkdir(?:at)?|unlink(?:at)?|rename(?:at2?)?|link(?:at)?|"
    r"symlink(?:at)?|chmod|fchmod(?:at2?)?|f?chown(?:at)?|fsync|fdatasync|sync|msync|utimensat|mknod(?:at)?|copy_file_range|sendfile)\("
)
LOCKS = re.compile(r"F_OFD_SETLKW?|F_SETLKW?\b|flock\(")


@pytest.mark.parametrize("damage", [None, "kill", "idx"])
def test_read_only_client_makes_no_call_that_writes(
    root: Path, start_worker: type[Worker], damage: str | None
) -> None:
    if (problem := strace_problem()) is not None:
        pytest.skip(problem)
    write_log(root)
    if damage == "kill":
        claim_and_vanish(root, entries=3, units=30)
    if damage == "idx":
        for path in (root / SHARD).glob("*.idx"):
            path.write_bytes(b"not an index")
    before = directory_state(root)
    trace = root.with_suffix(".trace")
    prefix = ("strace", "-f", "-y", "-s", "300", "-o", str(trace))
    worker = start_worker("read_in_every_way", prefix=prefix, root=str(root))
    assert worker.hear() == 100
    assert worker.end() == 0
    assert directory_state(root) == before
    lines = [line for line in trace.read_text().splitlines() if str(root) in line]
    opens = [match[1] for line in lines if (match := OPENS.search(line))]
    assert sum(name in text for text in opens for name in (".seg", "control", "FORMAT")) >= 3
    assert [text for text in opens if re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND", text)] == []
    assert [text for text in opens if "O_CLOEXEC" not in text] == []
    assert [line for line in lines if WRITES.search(line)] == []
    assert [line for line in lines if LOCKS.search(line)] == []
    assert [line for line in lines if "mmap(" in line and "PROT_WRITE" in line] == []


@pytest.mark.parametrize("write_path", PATHS)
def test_every_open_of_a_writer_is_close_on_exec_and_follows_no_link(
    root: Path, start_worker: type[Worker], write_path: str
) -> None:
    if (problem := strace_problem()) is not None:
        pytest.skip(problem)
    trace = root.with_suffix(".trace")
    prefix = ("strace", "-f", "-y", "-s", "300", "-e", "trace=open,openat,openat2,creat", "-o", str(trace))
    worker = start_worker("leave_open", prefix=prefix, root=str(root), write_path=write_path)
    assert worker.hear() == "appended"
    assert worker.end() == 0
    opens = [match[1] for line in trace.read_text().splitlines() if (match := OPENS.search(line))]
    mine = [text for text in opens if str(root) in text]
    kinds = ("FORMAT", "lock", "control", ".seg", "durable", "next.tmp")
    assert {kind for kind in kinds if any(kind in text for text in mine)} >= {
        "FORMAT",
        "lock",
        "control",
        ".seg",
    }
    assert [text for text in mine if "O_CLOEXEC" not in text] == []
    followed = [text for text in mine if "O_NOFOLLOW" not in text]
    assert [text for text in followed if "O_DIRECTORY" not in text] == []


def test_read_only_client_works_on_a_read_only_mount(root: Path, start_worker: type[Worker]) -> None:
    write_log(root)
    script = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    prefix = ("unshare", "-m", "sh", "-c", script, str(root))
    if (
        shutil.which("unshare") is None
        or subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("no read-only mount can be made here")
    worker = start_worker("read_in_every_way", prefix=prefix, root=str(root))
    assert worker.hear() == 100
    assert worker.end() == 0


def test_read_only_client_works_where_it_may_not_write(root: Path) -> None:
    write_log(root)
    paths = [root, *root.rglob("*")]
    modes = {path: path.stat().st_mode for path in paths}
    try:
        for path in paths:
            path.chmod(0o500 if path.is_dir() else 0o400)
        before = directory_state(root)
        assert len(read_all(root)) == 100
        assert directory_state(root) == before
    finally:
        for path in paths:
            path.chmod(stat.S_IMODE(modes[path]))
