"""Profiling: five classes that sum to the wall time, py-spy's output read, kernel time divided, bias and agreement, the rule."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

import made_up
from cometbench.errors import CannotMeasureError
from cometbench.evaluate import evaluate_claims
from cometbench.model import Measurement, Sample
from cometbench.profiling import kernel_split, py_spy
from cometbench.profiling.agreement import agree
from cometbench.profiling.blocked_on import classify_wait
from cometbench.profiling.bottleneck import name_bottleneck
from cometbench.profiling.flame_graph import both_forms
from cometbench.profiling.time_budget import CLASSES, Accounts, TimeBudget, time_budget

_LOOP = "0x7f287da4524a (libc.so.6);HotLoop.run (cometbench/profiling/hot_loop.py:51)"
_HOT = f"{_LOOP};marked_hot_loop (cometbench/profiling/hot_loop.py:22);Append.run (cometbench/profiling/work.py:92)"
_PUT = f"{_HOT};FileLockPath._put (cometlog/write_paths/file_lock.py"
_COPY = (
    f"{_HOT};Appender_append_items (cometlog/kernel/appender.so);batch_copy_items (cometlog/kernel/batch.so)"
)
# As py-spy 0.4 wrote it of this project's own loops; frames in the middle and parts of long names are left out.
RECORDED = f"""\
{_PUT}:141);FrameWriter_finish (cometlog/kernel/frame_writer.so);pwrite64 (libc.so.6) 32
{_HOT};AsyncPath._commit (cometlog/write_paths/async_checkpoint.py:46);os_fdatasync (libpython3.11.so.1.0);fdatasync (libc.so.6) 8
{_PUT}:136) 4
{_PUT}:144) 2
{_COPY};0x7f287db8b82a (libc.so.6) 13
{_COPY};0x7f287db8b832 (libc.so.6) 1
{_HOT};FileLockPath._append (cometlog/write_paths/file_lock.py:102);PyObject_Malloc (libpython3.11.so.1.0) 3
{_LOOP};_BoundedLog.trim (cometbench/profiling/work.py:61);fsync (libc.so.6) 5
{_LOOP};AccountReader.read (cometbench/profiling/time_budget.py:62);clock_gettime (libc.so.6);0x7f287e1debe1 ([vdso]) 23
0x7f287db278ec (libc.so.6);run (cometlog/kernel/helper.so);Helper_tend_all (cometlog/kernel/helper.so);madvise (libc.so.6) 17
"""
SAID = (
    "py-spy> Sampling process 100 times a second for 1 seconds. Press Control-C to exit.\n\n"
    "py-spy> Wrote raw flamegraph data to 'x.txt'. Samples: {} Errors: {}\n"
    "py-spy> You can use the flamegraph.pl script from https://github.com/brendangregg/flamegraph to generate a SVG\n"
)
# As perf 6.1 wrote it, `perf script -F time,ip,sym --ns`.
PERF = """\
13212.212475388:
	ffffffff8158c51e generic_perform_write
	ffffffff816bbea3 __x64_sys_pwrite64
	ffffffff821ef691 do_syscall_64
	ffffffff81000130 entry_SYSCALL_64_after_hwframe

13212.213474259:

13212.214474321:
	ffffffff815e6480 set_pte_range
	ffffffff821f51c6 exc_page_fault
	ffffffff81000c82 asm_exc_page_fault

13212.215000000:
	ffffffff821f51c6 exc_page_fault
	ffffffff81000c82 asm_exc_page_fault
	ffffffff8158c51e generic_perform_write
	ffffffff821ef691 do_syscall_64

13212.216000000:
	ffffffff81000e00 asm_sysvec_apic_timer_interrupt

13212.217000000:
	ffffffff81000c82 asm_exc_page_fault
"""


def spent(**changes):
    ms = 1_000_000
    fields = {"wall_ns": 100 * ms, "user_ns": 40 * ms, "kernel_ns": 40 * ms, "on_cpu_ns": 80 * ms}
    return Accounts(**{**fields, "run_queue_ns": 5 * ms, **changes})


def test_only_stacks_of_the_marked_loop_count_and_equal_ones_are_added_up():
    hot = py_spy.hot_stacks(py_spy.parse_collapsed(RECORDED))
    assert sum(count for _, count in hot) == 63
    assert all(frames[0] == "marked_hot_loop (cometbench/profiling/hot_loop.py)" for frames, _ in hot)
    by_leaf = {frames[-1]: count for frames, count in hot}
    assert by_leaf["FileLockPath._put (cometlog/write_paths/file_lock.py)"] == 6


def test_an_address_of_libc_is_named_for_the_library_and_is_no_system_call():
    hot = py_spy.hot_stacks(py_spy.parse_collapsed(RECORDED))
    assert {frames[-1]: count for frames, count in hot}["[libc.so.6]"] == 14
    shares = py_spy.shares(hot)
    assert (shares.samples, shares.in_syscalls) == (63, pytest.approx(100 * 40 / 63))
    assert shares.allocator == pytest.approx(100 * 3 / 63)
    assert shares.collector == 0


def test_the_helper_thread_is_told_apart_from_the_appending_one():
    helper = py_spy.helper_stacks(py_spy.parse_collapsed(RECORDED))
    assert py_spy.innermost(helper) == {"madvise": 17}


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ("pwrite64 (libc.so.6)", True),
        ("__write (libc-2.31.so)", True),
        ("__GI___fdatasync (libc.so.6)", True),
        ("fstatat64 (libc.so.6)", True),
        ("syscall (libc.so.6)", True),
        ("pthread_cond_timedwait (libc.so.6)", True),
        ("memcpy (libc.so.6)", False),
        ("write (cometlog/kernel/frame_writer.so)", False),
        ("write (cometlog/files.py)", False),
        ("[libc.so.6]", False),
    ],
)
def test_a_system_call_is_a_c_library_function_that_only_calls_the_kernel(frame, expected):
    assert py_spy.is_system_call(("outer (a.py)", frame)) is expected


@pytest.mark.parametrize(
    ("frame", "allocator", "collector"),
    [
        ("_int_malloc (libc.so.6)", True, False),
        ("__libc_free (libc.so.6)", True, False),
        ("_PyObject_Malloc (python3.11)", True, False),
        ("gc_collect_main (libpython3.11.so.1.0)", False, True),
        ("freeze (cometlog/x.py)", False, False),
    ],
)
def test_allocator_and_collector_are_known_by_name(frame, allocator, collector):
    assert (py_spy.is_allocator((frame,)), py_spy.is_collector((frame,))) == (allocator, collector)


def test_samples_and_errors_are_read_and_two_percent_are_the_most():
    assert py_spy.parse_counts(SAID.format(98, 2)) == (98, 2)
    with pytest.raises(CannotMeasureError, match="lost 3 of 100 samples; over 2% fails the profile"):
        py_spy.parse_counts(SAID.format(97, 3))
    with pytest.raises(CannotMeasureError, match="did not say how many samples"):
        py_spy.parse_counts("Error: Permission denied")


def test_too_few_samples_of_the_hot_loop_make_no_profile():
    with pytest.raises(CannotMeasureError, match="29 samples of the hot loop, 30 are the least"):
        py_spy.shares([(("marked_hot_loop (a.py)",), 29)])
    assert py_spy.shares([(("marked_hot_loop (a.py)",), 30)]).samples == 30


def test_the_interval_of_a_share_narrows_with_its_samples():
    assert py_spy.wilson(0.5, 100) == pytest.approx((0.404, 0.596), abs=0.002)
    assert py_spy.wilson(0.0, 100)[0] == 0 < py_spy.wilson(0.0, 100)[1] < 0.04
    assert py_spy.Shares(1000, 50.0, 0, 0).half_width == pytest.approx(3.1, abs=0.1)


def test_a_flame_graph_holds_every_sample_once_and_is_drawn_to_scale():
    hot = py_spy.hot_stacks(py_spy.parse_collapsed(RECORDED))
    graphs = both_forms("name", hot, "a <title>")
    assert py_spy.parse_collapsed(graphs["name.txt"]) == hot
    svg = graphs["name.svg"]
    assert "a &lt;title&gt;: 63 samples" in svg
    assert "<title>pwrite64 (libc.so.6): 32 samples, 50.8 %</title>" in svg
    assert svg.count("<title>marked_hot_loop") == 1
    assert len(ElementTree.fromstring(svg).findall("{http://www.w3.org/2000/svg}g")) == svg.count("<g>") > 10


@pytest.mark.parametrize(
    ("accounts", "fault_share"),
    [
        (spent(), 0.25),
        (spent(kernel_ns=0, user_ns=0), 0.5),
        (spent(on_cpu_ns=101_000_000), 1.0),
        (spent(run_queue_ns=90_000_000), 0.0),
        (spent(kernel_ns=-1, user_ns=80_000_000), 2.0),
    ],
)
def test_the_five_classes_are_never_negative_and_sum_to_the_wall_time(accounts, fault_share):
    budget = time_budget(accounts, fault_share)
    assert sum(budget) == pytest.approx(accounts.wall_ns)
    assert sum(budget.percent(name) for name in CLASSES) == pytest.approx(100)
    assert all(part >= 0 for part in budget)


def test_the_classes_are_what_the_accounts_say():
    budget = time_budget(spent(), 0.25)
    assert [round(budget.percent(name)) for name in CLASSES] == [40, 30, 10, 15, 5]
    assert budget.in_syscalls == pytest.approx(100 * 45 / 95)
    with pytest.raises(ValueError, match="needs wall time"):
        time_budget(Accounts(), 0.0)


def test_kernel_samples_are_told_by_how_the_kernel_was_entered_and_only_inside_the_stretches():
    stretches = [(13212_212000000, 13212_213000000), (13212_213400000, 13212_216500000)]
    counted = kernel_split.count_kernel_samples(PERF, stretches)
    assert counted == kernel_split.KernelSamples(user=1, syscalls=2, faults=1, other=1)
    assert counted.fault_share == pytest.approx(1 / 3)
    assert kernel_split.count_kernel_samples(PERF, []) == (0, 0, 0, 0)


def test_counting_and_sampling_divide_kernel_time_and_their_distance_is_the_uncertainty():
    accounts = spent(faults=10_000)
    counted = kernel_split.counted_split(accounts, 1000.0)
    assert (counted.fault_share, counted.uncertain_points) == (0.25, 10.0)
    assert kernel_split.faults_matter(accounts, 1000.0)
    assert not kernel_split.faults_matter(accounts, 50.0)
    sampled = kernel_split.sampled_split(kernel_split.KernelSamples(10, 50, 50, 0), accounts, 1000.0)
    assert (sampled.fault_share, sampled.uncertain_points) == (0.5, 10.0)
    assert kernel_split.counted_split(spent(faults=10_000_000), 1000.0).fault_share == 1.0


@pytest.mark.parametrize(
    ("line", "machine", "expected"),
    [
        ("running", "x86_64", "running"),
        ("75 0x3 0x0 0x0", "x86_64", "storage"),
        ("202 0x7f 0x80", "x86_64", "others"),
        ("0 0x3", "x86_64", "elsewhere"),
        ("83 0x3", "aarch64", "storage"),
        ("25 0x3", "aarch64", "others"),
        ("75 0x3", "riscv64", "unseen"),
        ("", "x86_64", "unseen"),
        ("-1 0x7ffe 0x0", "x86_64", "unseen"),
    ],
)
def test_what_a_thread_is_blocked_on_is_read_from_its_system_call(line, machine, expected):
    assert classify_wait(line, machine) == expected


@pytest.mark.parametrize(
    ("what", "budget", "waits", "expected"),
    [
        ("compression of small entries", TimeBudget(97, 2, 0, 1, 0), {"running": 50}, "CPU"),
        ("many small appends", TimeBudget(40, 55, 0, 2, 3), {"running": 48, "storage": 2}, "CPU"),
        ("fdatasync at every append", TimeBudget(15, 30, 0, 50, 5), {"storage": 40, "running": 40}, "I/O"),
        ("insufficient batching", TimeBudget(30, 10, 0, 50, 10), {"storage": 30, "others": 1}, "I/O"),
        ("several writers", TimeBudget(15, 10, 0, 55, 20), {"others": 60, "storage": 20}, "contention"),
        ("two things at once", TimeBudget(20, 0, 0, 80, 0), {"others": 50, "storage": 50}, "undecided"),
        ("half and half", TimeBudget(49, 1, 0, 50, 0), {"storage": 10}, "undecided"),
        ("blocked, unseen", TimeBudget(20, 0, 0, 80, 0), {"unseen": 50}, "undecided"),
        ("starved by neighbours", TimeBudget(9, 0, 0, 1, 90), {"running": 50}, "CPU"),
        ("never ran", TimeBudget(0, 0, 0, 0, 100), {}, "undecided"),
    ],
)
def test_the_rule_names_the_five_cases_and_says_when_it_cannot(what, budget, waits, expected):
    assert name_bottleneck(budget, waits).name == expected


@pytest.mark.parametrize(
    ("py_spy_percent", "bias", "holds", "said"),
    [
        (45.0, 2.0, True, "agree within 10 points"),
        (61.0, 2.0, False, "21 points apart"),
        (98.0, 47.0, True, "rusage's share replaces its 98 %"),
        (98.0, -11.0, True, "py-spy strays by -11 points"),
        (98.0, None, True, "bias was not measured"),
        (None, 2.0, True, "rusage alone, without py-spy: no ptrace here"),
    ],
)
def test_a_verdict_needs_both_to_agree_unless_py_spy_is_out_and_the_report_says_why(
    py_spy_percent, bias, holds, said
):
    agreement = agree(40.0, py_spy_percent, bias, "no ptrace here")
    assert agreement.holds is holds
    assert said in agreement.sentence


def run_of(*, share: float, py_spy_share: float | None, bias: float | None):
    def value(name, number):
        common = {"name": name, "experiment": "Y", "subject": "s", "metric": "m", "unit": "%"}
        if number is None:
            return Measurement(**common, failure="ptrace is refused")
        return Measurement(**common, samples=[Sample(round=i, order=0, values=[number]) for i in range(5)])

    run = made_up.run([value("Y.singles.batch1_buffered_in_syscalls", share)])
    profile = [value(f"Y.py_spy_batch1_buffered.{name}", number)
               for name, number in (("in_syscalls", py_spy_share), ("rusage_in_syscalls", share))]  # fmt: skip
    calibrator = [value("Y.calibrator.bias", bias)]
    return run.model_copy(update={"measurements": [*run.measurements, *profile, *calibrator]})


@pytest.mark.parametrize(
    ("share", "py_spy_share", "bias", "verdict", "said"),
    [
        (95.0, 97.0, 1.0, "reproduced", "agree"),
        (95.0, 70.0, 1.0, "inconclusive", "25 points apart"),
        (52.0, 55.0, 1.0, "not reproduced", "agree"),
        (52.0, 98.0, 46.0, "not reproduced", "rusage's share replaces"),
        (95.0, None, None, "reproduced", "rusage alone, without py-spy: ptrace is refused"),
    ],
)
def test_the_claim_about_system_calls_is_judged_by_both(share, py_spy_share, bias, verdict, said):
    run = run_of(share=share, py_spy_share=py_spy_share, bias=bias)
    claim = next(c for c in evaluate_claims(run) if c.id == "Y1.syscalls.buffered")
    assert claim.verdict == verdict
    assert said in claim.reason
