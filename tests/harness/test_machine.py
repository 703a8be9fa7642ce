"""The fingerprint: stable hardware only, and nothing that names an owner."""

from __future__ import annotations

import getpass
import socket
from pathlib import Path

import pytest

from cometbench.environment import commit_of, mount_of, volatile_facts
from cometbench.machine import fingerprint, stable_hardware

CPUINFO = """\
processor\t: {n}
model name\t: Fast CPU 9000
cpu family\t: 6
physical id\t: 0
core id\t\t: {core}
flags\t\t: fpu {more}
"""


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def fake(tmp_path):
    """Make a machine of four threads on two cores with one disk and one loop device."""

    def make(threads=4, memory_kb=16_300_000, more=""):
        blocks = [CPUINFO.format(n=n, core=n % 2, more=more) for n in range(threads)]
        write(tmp_path / "proc/cpuinfo", "\n".join(blocks))
        write(tmp_path / "proc/meminfo", f"MemTotal:       {memory_kb} kB\nMemFree: 12 kB\n")
        for index, (level, kind, size) in enumerate([("1", "Data", "32K"), ("2", "Unified", "1024K")]):
            cache = tmp_path / f"sys/devices/system/cpu/cpu0/cache/index{index}"
            for name, text in (("level", level), ("type", kind), ("size", size)):
                write(cache / name, text + "\n")
        for name, model in (("nvme0n1", "SuperDisk 980\n"), ("loop0", "")):
            write(tmp_path / f"sys/block/{name}/size", "1048576000\n")
            write(tmp_path / f"sys/block/{name}/device/model", model)
            write(tmp_path / f"sys/block/{name}/device/serial", "SERIAL-1234\n")
            write(tmp_path / f"sys/block/{name}/queue/rotational", "0\n")
        return tmp_path

    return make


def test_facts_are_read_from_the_kernels_files(fake):
    facts = stable_hardware(fake(more="hypervisor"))
    assert facts["cpus"] == 4
    assert facts["cores"] == 2
    assert facts["cpu_model"] == "Fast CPU 9000"
    assert facts["virtualised"] is True
    assert facts["memory_gib"] == 16
    assert facts["disks"] == ["SuperDisk 980, 500 GiB, solid state"]
    assert (facts["cache_l1_data"], facts["cache_l2_unified"]) == ("32K", "1024K")


def test_the_id_survives_a_little_memory_and_changes_with_the_cpus(fake):
    before = fingerprint(fake()).machine_id
    assert fingerprint(fake(memory_kb=16_301_234)).machine_id == before
    assert fingerprint(fake(threads=8)).machine_id != before


def test_a_machine_without_any_file_still_has_an_id(tmp_path):
    assert fingerprint(tmp_path).machine_id.startswith("m-")


def test_nothing_names_the_owner(fake):
    assert "SERIAL" not in fingerprint(fake()).model_dump_json()
    here = fingerprint().model_dump_json() + repr(volatile_facts(Path.cwd()))
    for name in (str(Path.home()), str(Path.cwd())):
        assert name not in here
    for word in {socket.gethostname(), getpass.getuser()} - {"root", "localhost", "vm"}:
        assert word not in here


def test_this_machine_keeps_its_id():
    assert fingerprint() == fingerprint()


MOUNTS = """\
20 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw,errors=remount-ro
30 20 0:25 / /tmp rw,nosuid - tmpfs tmpfs rw,size=1024k
31 20 0:26 / /tmp/my\\040disk rw,noatime - xfs /dev/sdb1 rw,attr2
32 20 0:27 / /layers rw - overlay overlay rw,lowerdir=/secret/home,data=ordered
"""


@pytest.mark.parametrize(
    ("path", "file_system", "options"),
    [
        ("/var/log", "ext4", "rw,relatime"),
        ("/tmp/x", "tmpfs", "rw,nosuid"),
        ("/tmp/my disk/x", "xfs", "rw,noatime,attr2"),
        ("/tmpfoo", "ext4", "rw,relatime"),
        ("/layers/a", "overlay", "rw,data=ordered"),
    ],
)
def test_a_directory_lies_on_the_longest_mount_point_and_options_name_no_path(path, file_system, options):
    assert mount_of(Path(path), MOUNTS) == (file_system, options)


def test_only_memory_file_systems_are_memory():
    assert mount_of(Path("/tmp/x"), MOUNTS).is_memory
    assert not mount_of(Path("/"), MOUNTS).is_memory
    assert mount_of(Path("/"), "").file_system == "unknown"


def test_a_directory_that_is_no_repository_has_an_unknown_commit(tmp_path):
    assert commit_of(tmp_path) == ("unknown", True)
