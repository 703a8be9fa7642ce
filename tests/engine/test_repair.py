"""``cometlog repair``: write, damage, have it named, repair, append, read back; the original stays aside."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cometlog
from cometlog.durable_mark import read_mark
from cometlog.kernel import layout
from cometlog.kernel.checksum import crc32c
from cometlog.segment import Segment, make_tail
from damaged_logs import (
    CONFIG,
    DAMAGES,
    ENTRIES,
    ENTRY_BYTES,
    FRAME_UNITS,
    flip,
    frame_at,
    lost_numbers,
    run,
    verify,
    write_log,
    zero_from,
)
from support import PATHS, SHARD, STREAM, Worker, directory_state, payload, read_all, segment_files


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


def test_mark_beyond_what_is_there_is_damage(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(root)
    path = segment_files(root)[-1]
    segment = Segment(path, writable=True)
    segment.mapping.store_release(layout.SEGMENT_TAIL, make_tail(FRAME_UNITS * 10, 10, False))
    segment.close()
    code, report = verify(capsys, root)
    assert code == 1
    assert any("the durable mark says unit" in item["what"] for item in report["streams"][0]["damages"])
    # The frames are there, only the tail is not: recovery walks on from the mark and keeps all that proves itself.
    code, out, _ = run(capsys, "repair", root, "--stream", STREAM, "--yes")
    assert (code, "for the recovery: segment ends at unit 530" in out) == (0, True)
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
