"""``cometlog verify`` and ``cometlog repair``: write, damage, have it named, repair, append, read back; the original stays aside."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cometlog
import cometlog.control
from cometlog.cli import COMMANDS, main
from cometlog.control import NO_BOOT, Control
from cometlog.durable_mark import read_mark
from cometlog.kernel import layout
from cometlog.kernel.checksum import crc32c
from cometlog.segment import Segment, byte_offset, make_tail, tail_parts
from support import (
    KIB,
    PATHS,
    SHARD,
    STREAM,
    Worker,
    directory_state,
    make_config,
    payload,
    read_all,
    segment_files,
)
from test_holes import claim_and_vanish

CONFIG = make_config(64 * KIB, 3_600_000)
ENTRIES = 400
ENTRY_BYTES = 400
FRAME_UNITS = 53
OTHER = "events:v1:shard:0001"


def write_log(root: Path, entries: int = ENTRIES) -> None:
    """Three segments and a bit, left cleanly: everything lies below the durable mark."""
    with cometlog.open(root, CONFIG) as client:
        for sequence in range(entries):
            client.append(STREAM, [payload(0, sequence, ENTRY_BYTES)])
    assert len(segment_files(root)) == -(-entries // 144)


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Run the command line in this process; return exit code, standard output, standard error."""
    try:
        code = main([str(word) for word in words])
    except SystemExit as error:
        code = int(error.code or 0)
    said = capsys.readouterr()
    return code, said.out, said.err


def verify(capsys: pytest.CaptureFixture[str], root: Path, *words: str) -> tuple[int, dict[str, Any]]:
    code, out, _ = run(capsys, "verify", root, "--json", *words)
    return code, json.loads(out)


def flip(path: Path, offset: int, bits: int = 1) -> None:
    raw = bytearray(path.read_bytes())
    raw[offset] ^= bits
    path.write_bytes(raw)


def put_u64(path: Path, offset: int, value: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(value.to_bytes(8, "little"))


def frame_at(place: int) -> int:
    """Offset in its file of the ``place``-th frame of a segment."""
    return byte_offset(place * FRAME_UNITS)


def cut_file(root: Path) -> None:
    """Cut the last segment in the middle of its third frame."""
    path = segment_files(root)[-1]
    with path.open("r+b") as file:
        file.truncate(frame_at(2) + 80)


def lie_in_length(root: Path) -> None:
    """Have the 6th frame of the second segment claim a length that leads into the next frame's payload."""
    path = segment_files(root)[1]
    word = int.from_bytes(path.read_bytes()[frame_at(5) :][:8], "little")
    put_u64(path, frame_at(5), word + 20)


def wipe_tail(root: Path) -> None:
    path = segment_files(root)[1]
    put_u64(path, layout.SEGMENT_TAIL, 0)


def zero_from(root: Path, position: int, place: int) -> None:
    """Overwrite everything from a frame of a segment on with zeros, as a lost extent reads."""
    path = segment_files(root)[position]
    with path.open("r+b") as file:
        length = file.seek(0, 2) - frame_at(place)
        file.seek(frame_at(place))
        file.write(bytes(length))


# Name: (what is done, file by position, offset, numbers that are lost)
DAMAGES: dict[str, tuple[Callable[[Path], object], int | None, int | None, list[int]]] = {
    "payload": (
        lambda root: flip(segment_files(root)[1], frame_at(5) + 100),
        1,
        frame_at(5),
        [149],
    ),
    "checksum": (
        lambda root: flip(segment_files(root)[0], frame_at(0) + layout.FRAME_CHECKSUM),
        0,
        frame_at(0),
        [0],
    ),
    "meta": (
        lambda root: flip(segment_files(root)[0], frame_at(7) + layout.FRAME_META, 2),
        0,
        frame_at(7),
        [7],
    ),
    "kind": (lambda root: flip(segment_files(root)[0], frame_at(143) + 3, 0x20), 0, frame_at(143), [143]),
    "length": (lie_in_length, 1, frame_at(5), [149]),
    "word wiped": (
        lambda root: put_u64(segment_files(root)[1], frame_at(9), 0),
        1,
        frame_at(9),
        [153],
    ),
    "last frame": (
        lambda root: flip(segment_files(root)[-1], frame_at(111) + 50),
        -1,
        frame_at(111),
        [399],
    ),
    "header": (
        lambda root: flip(segment_files(root)[1], layout.SEGMENT_MAGIC),
        1,
        0,
        list(range(144, 288)),
    ),
    "header of the last": (
        lambda root: flip(segment_files(root)[-1], layout.SEGMENT_MAGIC),
        -1,
        0,
        list(range(288, 400)),
    ),
    "segment missing": (
        lambda root: segment_files(root)[1].unlink(),
        None,
        layout.SEGMENT_PREVIOUS_UUID,
        list(range(144, 288)),
    ),
    "tail wiped": (wipe_tail, 1, layout.SEGMENT_TAIL, []),
    "file cut": (cut_file, -1, layout.SEGMENT_TAIL, list(range(290, 400))),
    "end of a middle one zeroed": (
        lambda root: zero_from(root, 1, 100),
        1,
        frame_at(100),
        list(range(244, 288)),
    ),
}


def lost_numbers(report: dict[str, Any]) -> list[int]:
    ranges = [
        damage["lost"] for stream in report["streams"] for damage in stream["damages"] if damage["lost"]
    ]
    return [number for first, last in ranges for number in range(first, last + 1)]


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named_repaired_and_appended_behind(
    root: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    damage, position, offset, lost = DAMAGES[name]
    write_log(root)
    files = segment_files(root)
    assert verify(capsys, root)[0] == 0
    damage(root)
    before = directory_state(root)
    code, report = verify(capsys, root)
    assert directory_state(root) == before
    assert code == 1
    found = report["streams"][0]["damages"]
    if position is not None:
        assert (str(files[position]), offset) in [(item["file"], item["offset"]) for item in found]
    assert {item["stream"] for item in found} == {STREAM}
    assert lost_numbers(report) == lost
    kept = [number for number in range(ENTRIES) if number not in lost]
    assert report["streams"][0]["entries"] == len(kept)

    assert run(capsys, "repair", root, "--stream", STREAM, "--dry-run")[0] == 1
    assert directory_state(root) == before
    code, out, _ = run(capsys, "repair", root, "--stream", STREAM, "--yes")
    assert code == 0, out
    assert not lost or f"{lost[-1]}" in out
    aside = Path(re.search(r"the original is kept in (\S+)", out)[1])
    shard = str(SHARD)
    original = {key[len(shard) + 1 :]: data for key, data in before.items() if key.startswith(shard + "/")}
    copied = {key: data for key, data in directory_state(aside).items() if key != "REPAIR.txt"}
    assert copied == original
    assert (aside / "REPAIR.txt").read_text() in out

    assert verify(capsys, root)[0] == 0
    with cometlog.open(root, CONFIG) as client:
        assert client.streams() == [STREAM]
        (behind,) = client.append(STREAM, [payload(1, 0)])
        assert behind >= ENTRIES
        entries = list(client.scan(STREAM))
        assert [entry.number for entry in entries] == [*kept, behind]
        assert [entry.data for entry in entries[:-1]] == [payload(0, number, ENTRY_BYTES) for number in kept]
        assert client.entry_count(STREAM) == len(kept) + 1
    assert [entry.number for entry in read_all(root)] == [*kept, behind]
    assert copied == {key: data for key, data in directory_state(aside).items() if key != "REPAIR.txt"}


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
    assert [note.partition(": ")[0].rpartition("/")[2] for note in report["streams"][0]["notes"]][0] == "control"
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


def test_mark_beyond_what_is_there_is_damage(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(root)
    path = segment_files(root)[-1]
    segment = Segment(path, writable=True)
    segment.mapping.store_release(layout.SEGMENT_TAIL, make_tail(FRAME_UNITS * 10, 10, False))
    segment.close()
    code, report = verify(capsys, root)
    assert code == 1
    assert any("the durable mark says unit" in item["what"] for item in report["streams"][0]["damages"])
    with cometlog.open(root, CONFIG) as client:  # the file, not the mark, was right: a repair keeps all that proves itself
        pass
    assert run(capsys, "repair", root, "--stream", STREAM, "--yes")[0] == 0
    assert len(read_all(root)) == ENTRIES


def test_repair_after_power_loss_keeps_only_what_proves_itself(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_log(root)
    mark = read_mark(root / SHARD / "durable")
    assert mark is not None
    (root / SHARD / "durable").write_bytes(bytes(576))
    zero_from(root, 2, 50)  # a cache that was lost without a reboot: the tail says more than is there
    code, out, _ = run(capsys, "repair", root, "--stream", STREAM, "--after-power-loss", "--yes")
    assert code == 0, out
    assert "trusts nothing but frames" in out
    assert [entry.number for entry in read_all(root)] == list(range(338))
    with cometlog.open(root, CONFIG) as client:
        assert client.stats()[STREAM].recoveries == 1
        (behind,) = client.append(STREAM, [b"behind"])
        assert behind >= 338


def test_sound_shard_needs_no_repair_and_is_not_touched(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_log(root)
    before = directory_state(root)
    code, out, _ = run(capsys, "repair", root, "--stream", STREAM, "--yes")
    assert (code, "needs no repair" in out) == (0, True)
    assert directory_state(root) == before


def test_nothing_happens_without_consent(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(root)
    flip(segment_files(root)[0], frame_at(1) + 40)
    before = directory_state(root)
    done = subprocess.run(
        [sys.executable, "-m", "cometlog", "repair", str(root), "--stream", STREAM],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, "say --yes" in done.stderr) == (2, True)
    assert "units 53 to 106 become a gap; lost: entry 1" in done.stdout
    assert directory_state(root) == before


@pytest.mark.parametrize("write_path", PATHS)
def test_shard_in_use_is_refused_and_untouched(
    root: Path, capsys: pytest.CaptureFixture[str], start_worker: type[Worker], write_path: str
) -> None:
    worker = start_worker("hold_open", root=str(root), write_path=write_path)
    assert worker.hear() == "attached"
    shards = sorted(path.name for path in (root / SHARD).parent.iterdir())
    code, _, err = run(capsys, "repair", root, "--stream", STREAM, "--yes")
    assert (code, f"in use by live processes ({worker.pid})" in err) == (2, True)
    assert sorted(path.name for path in (root / SHARD).parent.iterdir()) == shards
    worker.tell()
    assert worker.hear() == "closed"


def test_copy_that_finds_no_room_changes_nothing(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_log(root)
    flip(segment_files(root)[0], frame_at(1) + 40)
    before = directory_state(root)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    code, _, err = run(capsys, "repair", root, "--stream", STREAM, "--yes")
    assert (code, "No space left" in err) == (2, True)
    assert directory_state(root) == before


def test_newer_format_is_no_damage_to_repair(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(root)
    path = segment_files(root)[1]
    header = bytearray(path.read_bytes()[: layout.SEGMENT_CHECKSUM])
    header[layout.SEGMENT_FORMAT] = 2
    checksum = crc32c(bytes(header)).to_bytes(4, "little")
    with path.open("r+b") as file:
        file.write(bytes(header) + checksum)
    for words in (("verify", root), ("repair", root, "--stream", STREAM, "--yes")):
        code, _, err = run(capsys, *words)
        assert (code, "has format 2; this engine reads up to 1" in err) == (2, True)


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
    done = subprocess.run(
        [str(script), "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, "verify" in done.stdout) == (0, True)


def test_hostile_segment_is_surveyed_in_bounded_time(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every word of a segment looks like a frame that reaches to its end: the search behind damage gives up."""
    with cometlog.open(root, make_config(4 << 20, 3_600_000)) as client:
        client.append(STREAM, [b"x" * 1000] * 1900)
    path = segment_files(root)[0]
    segment = Segment(path, writable=True)
    units = tail_parts(segment.tail())[1]
    for unit in range(0, units - 3, 2):
        word = layout.KIND_DATA << layout.WORD_KIND_SHIFT | units - unit
        segment.mapping.store_release(byte_offset(unit), word)
    segment.close()
    code, report = verify(capsys, root)
    assert code == 1
    assert lost_numbers(report) == list(range(1900))
