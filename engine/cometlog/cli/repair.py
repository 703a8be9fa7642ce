"""Make one damaged shard sound again: keep what proves itself, turn what does not into gaps, and list every entry that is lost.

The original is copied beside the shard first, as <shard>.before-repair-<UTC>, with the plan in REPAIR.txt. A damaged frame becomes
a gap where what follows proves itself; where nothing does, the segment ends there. Then the shard is recovered and verified.

No process may have the shard open. A cache lost without a reboot (forced unmount, copied directory, snapshot) is what
--after-power-loss is for: then only frames that prove themselves are kept, from the durable mark on.
"""

import argparse
from pathlib import Path

import cometlog
from cometlog import Config
from cometlog.cli import EXIT_DAMAGED, EXIT_SOUND, EXIT_WRONG_USE
from cometlog.cli.arguments import add_path
from cometlog.cli.confirm import is_agreed
from cometlog.control import Control
from cometlog.errors import CometlogError, NotALogError, ShardBusyError
from cometlog.kernel import layout
from cometlog.locks import ATTACH_BYTE, LockProbe, ShardLocks
from cometlog.names import parse_stream
from cometlog.rotation import file_length_for
from cometlog.salvage import Plan, carry_out, copy_aside, make_plan
from cometlog.shard_survey import ShardSurvey, survey_shard

EXAMPLES = """\
  cometlog repair /var/log/app --stream events:v1:shard:0000 --dry-run
  cometlog repair /var/log/app --stream events:v1:shard:0000 --yes
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_path(parser)
    parser.add_argument("--stream", required=True, metavar="NAME", help="the stream whose shard is repaired")
    parser.add_argument(
        "--after-power-loss", action="store_true", help="trust nothing but frames behind the durable mark"
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, change nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(arguments: argparse.Namespace) -> int:
    """Repair and return the exit code."""
    stream: str = arguments.stream
    cometlog.open(arguments.path, read_only=True).close()
    directory = parse_stream(stream).directory(arguments.path)
    if not directory.is_dir():
        raise NotALogError(f"{stream} has no directory in {arguments.path}")
    if arguments.dry_run:
        report = survey_shard(directory, stream)
        return _tell(report, make_plan(directory, report), distrust=arguments.after_power_loss)
    mode = (directory / "lock").stat().st_mode & 0o777 if (directory / "lock").exists() else 0o600
    locks = ShardLocks(directory / "lock", mode)
    try:
        if not locks.try_exclusive(ATTACH_BYTE):
            raise ShardBusyError(
                f"{stream} is in use by live processes{_who(directory)}; end them first; nothing was changed"
            )
        report = survey_shard(directory, stream)
        plan = make_plan(directory, report)
        _tell(report, plan, distrust=arguments.after_power_loss)
        if not _is_needed(report, plan, arguments.after_power_loss):
            return EXIT_SOUND
        if not arguments.yes and not is_agreed("carry this out?"):
            return EXIT_WRONG_USE
        print(f"the original is kept in {copy_aside(directory, plan)}")
        carry_out(directory, plan, distrust=arguments.after_power_loss, file_mode=mode)
    finally:
        locks.close()
    return _recover_and_verify(arguments.path, directory, stream, mode)


def _is_needed(report: ShardSurvey, plan: Plan, after_power_loss: bool) -> bool:
    return bool(plan.lines or report.waiting or report.damages or after_power_loss)


def _tell(report: ShardSurvey, plan: Plan, *, distrust: bool) -> int:
    """Print the plan; the exit code says whether there is damage."""
    for line in plan.lines:
        print(line)
    for damage in plan.unrepaired:
        print(f"not repaired, look at it yourself: {damage.as_line()}")
    for line in report.waiting:
        print(f"for the recovery: {line}")
    if distrust:
        print(
            "then a recovery that trusts nothing but frames: what does not prove itself behind the durable mark is cut off"
        )
    if not _is_needed(report, plan, distrust):
        print(f"{report.stream} needs no repair")
    return EXIT_DAMAGED if report.damages else EXIT_SOUND


def _who(directory: Path) -> str:
    """Name the processes that hold slots, where they can be asked for."""
    try:
        control, probe = (
            Control(directory / "control", writable=False),
            LockProbe(directory / "lock"),
        )
    except (OSError, CometlogError):
        return ""
    held = [index for index in range(layout.SLOT_COUNT) if probe.is_slot_locked(index)]
    pids = sorted({control.slot_owner_pid(index) for index in held})
    control.close()
    probe.close()
    return f" ({', '.join(map(str, pids))})" if pids else ""


def _recover_and_verify(root: Path, directory: Path, stream: str, file_mode: int) -> int:
    """Open the shard alone, which recovers it, leave it cleanly, and read everything again."""
    before = {path.name for path in directory.iterdir()}
    newest = survey_shard(directory, stream).segments[-1:]
    capacity_units = newest[0].header.capacity_units if newest else layout.MAX_CAPACITY_UNITS
    storage = {
        "file_mode": file_mode | 0o600,
        "directory_mode": directory.stat().st_mode & 0o777 | 0o700,
        "segment_size_bytes": min(max(file_length_for(capacity_units), 1 << 16), 64 << 20),
    }
    with cometlog.open(root, Config.default().with_changes(storage=storage)) as client:
        client.writer(stream)
    for name in sorted({path.name for path in directory.iterdir()} - before):
        if name.endswith(".discarded"):
            print(f"set aside by the recovery: {directory / name}")
    report = survey_shard(directory, stream)
    for damage in report.damages:
        print(f"still damaged: {damage.as_line()}")
    print(f"{stream}: {len(report.segments)} segments, {report.frames} frames, {report.entries} entries")
    return EXIT_DAMAGED if report.damages else EXIT_SOUND
