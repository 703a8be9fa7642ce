"""The machine's fingerprint: stable hardware only, so that the same machine always lands in the same folder.

Nothing here names its owner: no host name, serial, address, user name or path. Linux only; facts that the
kernel does not give are left out.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from pathlib import Path

from cometbench.model import Fact, Machine

_GIB = 1 << 30
_BLOCK_SECTOR_BYTES = 512
# Loop, RAM, network and device-mapper disks, floppies and optical drives are not the machine's own.
_VIRTUAL_DISKS = re.compile(r"^(loop|ram|zram|nbd|dm-|md|fd|sr)")

_CPU_FACTS = {
    "cpu_model": "model name",
    "cpu_family": "cpu family",
    "cpu_model_number": "model",
    "cpu_stepping": "stepping",
    "cpu_implementer": "CPU implementer",
    "cpu_part": "CPU part",
}


def fingerprint(root: Path = Path("/")) -> Machine:
    """Describe this machine; `root` is the directory that holds proc and sys, for tests."""
    hardware = stable_hardware(root)
    text = json.dumps(hardware, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    cpus, memory = hardware.get("cpus", "?"), hardware.get("memory_gib", "?")
    label = f"{hardware.get('cpu_model', hardware['architecture'])}, {cpus} CPUs, {memory} GiB"
    return Machine(machine_id=f"m-{digest}", label=label, hardware=hardware)


def stable_hardware(root: Path = Path("/")) -> dict[str, Fact]:
    """Facts that survive a reboot, a kernel update and another bench directory."""
    facts: dict[str, Fact] = {"architecture": platform.machine()}
    facts.update(_cpu(root))
    facts.update(_caches(root))
    facts.update(_memory(root))
    facts["disks"] = _disks(root)
    facts["numa_nodes"] = len(list((root / "sys/devices/system/node").glob("node[0-9]*"))) or 1
    return facts


def read_text(path: Path) -> str | None:
    """Return the stripped content of a small file, or None where the kernel has no such file."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _cpu(root: Path) -> dict[str, Fact]:
    processors = [
        dict(re.findall(r"^([^\t:]+)\s*:[ \t]*(.*)$", block, re.MULTILINE))
        for block in (read_text(root / "proc/cpuinfo") or "").split("\n\n")
        if block.strip()
    ]
    processors = [p for p in processors if "processor" in p]
    if not processors:
        return {"cpus": os.cpu_count() or 1}
    first = processors[0]
    facts: dict[str, Fact] = {"cpus": len(processors)}
    cores = {(p.get("physical id", "0"), p["core id"]) for p in processors if "core id" in p}
    if cores:
        facts["cores"] = len(cores)
    facts.update({fact: first[key] for fact, key in _CPU_FACTS.items() if key in first})
    facts["virtualised"] = "hypervisor" in first.get("flags", "").split()
    return facts


def _caches(root: Path) -> dict[str, Fact]:
    facts: dict[str, Fact] = {}
    for index in sorted((root / "sys/devices/system/cpu/cpu0/cache").glob("index[0-9]*")):
        level, kind, size = (read_text(index / name) for name in ("level", "type", "size"))
        if level and kind and size:
            facts[f"cache_l{level}_{kind.lower()}"] = size
    return facts


def _memory(root: Path) -> dict[str, Fact]:
    match = re.search(r"^MemTotal:\s+(\d+) kB", read_text(root / "proc/meminfo") or "", re.MULTILINE)
    return {"memory_gib": round(int(match.group(1)) * 1024 / _GIB)} if match else {}


def _disks(root: Path) -> list[str]:
    """One line a disk: model, size, kind. The model is the product's, never the serial."""
    disks = []
    for device in sorted((root / "sys/block").glob("*")):
        sectors = read_text(device / "size")
        if _VIRTUAL_DISKS.match(device.name) or not sectors or sectors == "0":
            continue
        model = read_text(device / "device/model") or re.sub(r"[a-z]?\d*$", "", device.name)
        kind = "rotating" if read_text(device / "queue/rotational") == "1" else "solid state"
        disks.append(f"{model}, {round(int(sectors) * _BLOCK_SECTOR_BYTES / _GIB)} GiB, {kind}")
    return disks
