"""System calls per append: exact for a raw file, and a reason where strace is missing."""

from __future__ import annotations

import shutil

import pytest
from faulty_experiments import raw

from cometbench.errors import CometbenchError
from cometbench.syscalls import StraceMissingError, count_syscalls, parse_summary, parse_trace, require_strace

TRACE = """\
100 newfstatat(AT_FDCWD, "/etc/hosts", 0x7ffd, 0) = 0
100 newfstatat(AT_FDCWD, "/cometbench.begin", 0x7ffd, 0) = -1 ENOENT (No such file or directory)
100 write(3, "x", 1)                    = 1
101 madvise(0x7f, 4096, MADV_POPULATE_WRITE <unfinished ...>
100 fdatasync(3 <unfinished ...>
101 <... madvise resumed>)              = 0
100 <... fdatasync resumed>)            = 0
100 write(3, "x", 1)                    = 1
100 newfstatat(AT_FDCWD, "/cometbench.end", 0x7ffd, 0) = -1 ENOENT (No such file or directory)
100 close(3)                            = 0
"""
SUMMARY = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 62.50    0.000125           1       101           write
 37.50    0.000075           7        10         2 openat
------ ----------- ----------- --------- --------- ----------------
100.00    0.000200           1       111         2 total
"""

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


def test_a_trace_yields_the_marking_threads_calls_between_the_marks():
    assert parse_trace(TRACE) == {"write": 2, "fdatasync": 1}
    with pytest.raises(CometbenchError, match="no stretch between two marks"):
        parse_trace(TRACE.replace("/cometbench.end", "/elsewhere"))


def test_a_summary_yields_calls_by_name_without_the_total():
    assert parse_summary(SUMMARY) == {"write": 101, "openat": 10}


@needs_strace
@pytest.mark.parametrize(
    ("sync", "expected"), [(False, {"write": 200}), (True, {"write": 200, "fdatasync": 200})]
)
def test_a_raw_file_makes_one_call_per_promise(sync, expected, tiny, root, extra):
    measured = count_syscalls(raw("test.syscalls", config={"sync": sync}), tiny, root, 1, [extra])
    assert measured.samples[0].values == [len(expected)]
    assert measured.extra["appending_thread_calls"] == sum(expected.values())
    assert measured.extra["appending_thread_names"] == ", ".join(f"{n} {c}" for n, c in expected.items())
    assert measured.extra["all_threads_per_append"] == pytest.approx(len(expected), abs=0.05)


@needs_strace
def test_a_path_without_calls_counts_none(tiny, root, extra):
    measured = count_syscalls(
        raw("test.none", "cometbench.subjects.empty_call:EmptyCall"), tiny, root, 1, [extra]
    )
    assert measured.samples[0].values == [0.0]
    assert measured.extra["appends"] == tiny.syscall_appends_max


def test_a_missing_strace_is_a_reason(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StraceMissingError, match="strace is not installed"):
        require_strace()


def test_a_strace_that_may_not_trace_is_a_reason(monkeypatch, tmp_path):
    script = tmp_path / "strace"
    script.write_text(
        "#!/bin/sh\necho 'strace: ptrace(PTRACE_TRACEME): Operation not permitted' >&2\nexit 1\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StraceMissingError, match="may not trace a process here: strace: ptrace"):
        require_strace()
