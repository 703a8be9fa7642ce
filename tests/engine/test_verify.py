"""``cometlog verify``: every damaged place by name, what waits and what is rebuilt apart, exit codes that a script can use."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

import cometlog
from cometlog.cli import COMMANDS
from cometlog.control import NO_BOOT, Control
from cometlog.kernel import layout
from cometlog.segment import Segment, byte_offset, tail_parts
from damaged_logs import CONFIG, ENTRIES, OTHER, flip, frame_at, lost_numbers, run, verify, write_log
from support import SHARD, STREAM, Worker, make_config, payload, segment_files
from test_holes import claim_and_vanish


def test_one_run_lists_every_damaged_place_of_every_stream(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_log(root)
    with cometlog.open(root, CONFIG) as client:
        client.append(OTHER, [payload(3, 0)])
    first, second, third = segment_files(root)
    for path, place in ((first, 3), (first, 90), (second, 0), (third, 10)):
        flip(path, frame_at(place) + 60)
    flip(next((root / "events/v1/0001").glob("*.seg")), byte_offset(0) + 30)
    code, report = verify(capsys, root)
    assert code == 1
    assert not report["sound"]
    assert lost_numbers(report) == [3, 90, 144, 298, 0]
    assert report["damaged_places"] == 5
    assert [stream["stream"] for stream in report["streams"]] == [STREAM, OTHER]
    assert report["streams"][0]["frames"] == ENTRIES - 4
    code, report = verify(capsys, root, "--stream", "*:0001")
    assert (code, [stream["stream"] for stream in report["streams"]]) == (1, [OTHER])
    code, out, _ = run(capsys, "verify", root)
    assert code == 1
    assert f"entry 298 lost, {third} at byte {frame_at(10)}" in out


def test_derived_files_and_left_overs_are_notes_and_cost_nothing(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_log(root)
    flip(next((root / SHARD).glob("*.idx")), 30)
    code, report = verify(capsys, root)
    assert code == 0
    assert "not a true index" in report["streams"][0]["notes"][0]
    flip(root / SHARD / "control", 0)
    (root / SHARD / "durable").write_bytes(bytes(576))
    code, report = verify(capsys, root)
    assert (code, report["streams"][0]["entries"]) == (0, ENTRIES)
    assert report["streams"][0]["notes"][0].partition(": ")[0] == str(root / SHARD / "control")
    assert any("no valid mark" in note for note in report["streams"][0]["notes"])
    (root / SHARD / "control").unlink()
    assert verify(capsys, root)[0] == 0


def test_words_of_dead_and_live_writers_are_told_apart_and_are_no_damage(
    root: Path, capsys: pytest.CaptureFixture[str], start_worker: type[Worker]
) -> None:
    with cometlog.open(root, CONFIG) as client:
        client.append(STREAM, [payload(0, 0)])
        claim_and_vanish(root, entries=2, units=20)
        client.append(STREAM, [payload(0, 3)])
        code, report = verify(capsys, root)
        (stream,) = report["streams"]
        assert (code, stream["entries"], len(stream["waiting"]), stream["in_flight"]) == (0, 2, 1, [])
        # A slot that a live client holds, BUSY on this segment: its claim may be that very word.
        control = Control(root / SHARD / "control", writable=True)
        busy = control.look_at_slot(0)
        offset = layout.CONTROL_SLOTS
        control.mapping.store_release(offset + layout.SLOT_SEGMENT, 1)
        control.mapping.store_release(offset, busy.word + 4 | layout.STATE_BUSY)
        code, report = verify(capsys, root)
        (stream,) = report["streams"]
        assert (code, stream["entries"], stream["waiting"], len(stream["in_flight"])) == (0, 1, [], 1)
        control.mapping.store_release(offset, busy.word)
        control.close()


def test_after_a_reboot_what_recovery_would_set_aside_waits(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_log(root)
    (root / SHARD / "durable").write_bytes(bytes(576))
    flip(segment_files(root)[1], frame_at(5) + 100)
    control = Control(root / SHARD / "control", writable=True)
    control.stored_boot_identity = NO_BOOT
    control.close()
    code, report = verify(capsys, root)
    (stream,) = report["streams"]
    assert (code, stream["entries"], len(stream["waiting"])) == (0, 149, 2)
    assert "the next recovery" in stream["waiting"][0]


def test_wrong_use_is_exit_code_2(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(root, 3)
    for words in (
        (),
        ("no-such-command",),
        ("verify",),
        ("verify", tmp_path / "nothing"),
        ("verify", tmp_path),
        ("verify", root, "--stream", "other:*"),
        ("repair", root),
        ("repair", root, "--stream", "../../etc:v1:shard:0000", "--yes"),
        ("repair", root, "--stream", OTHER, "--yes"),
        ("repair", tmp_path, "--stream", STREAM, "--yes"),
    ):
        assert run(capsys, *words)[0] == 2, words


def test_help_names_the_exit_codes_and_the_script_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        code, out, _ = run(capsys, command, "--help")
        assert code == 0
        assert "Exit codes: 0 sound, 1 damaged, 2 wrong use" in out
    script = Path(sys.executable).with_name("cometlog")
    done = subprocess.run([str(script), "--help"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "verify" in done.stdout) == (0, True)


def test_hostile_segment_is_surveyed_in_bounded_time(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Behind one damaged word every other looks like a frame that reaches to the end: checking them all would take minutes."""
    with cometlog.open(root, make_config(16 << 20, 3_600_000)) as client:
        client.append(STREAM, [b"x" * 1000] * 7500)
    path = segment_files(root)[0]
    segment = Segment(path, writable=True)
    units = tail_parts(segment.tail())[1]
    for unit in range(0, units - 3, 2):
        word = layout.KIND_DATA << layout.WORD_KIND_SHIFT | (units - unit if unit else 7)
        segment.mapping.store_release(byte_offset(unit), word)
    segment.close()
    started = time.process_time()
    code, report = verify(capsys, root)
    assert time.process_time() - started < 20
    assert code == 1
    assert lost_numbers(report) == list(range(7500))
