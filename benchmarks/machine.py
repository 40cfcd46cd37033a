"""The machine that measures: what it is. What else it did meanwhile is in `benchmarks/conditions.py`."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from runtime import cpuinfo

PROC = Path("/proc")
SYS = Path("/sys")

ARM_CORES = {
    0xd03: "Cortex-A53", 0xd04: "Cortex-A35", 0xd05: "Cortex-A55", 0xd07: "Cortex-A57", 0xd08: "Cortex-A72",
    0xd09: "Cortex-A73", 0xd0a: "Cortex-A75", 0xd0b: "Cortex-A76", 0xd0c: "Neoverse-N1", 0xd0d: "Cortex-A77",
    0xd40: "Neoverse-V1", 0xd41: "Cortex-A78", 0xd42: "Cortex-A78AE", 0xd44: "Cortex-X1", 0xd46: "Cortex-A510",
    0xd47: "Cortex-A710", 0xd48: "Cortex-X2", 0xd49: "Neoverse-N2", 0xd4d: "Cortex-A715", 0xd4e: "Cortex-X3",
    0xd80: "Cortex-A520", 0xd81: "Cortex-A720",
}
"""Part numbers of Arm's own cores (MIDR_EL1, Technical Reference Manual of each): Linux gives no name there."""
ARM_LTD = 0x41


@cache
def describe() -> dict[str, Any]:
    """What the figures depend on and what stays as it is. A key is absent where this system does not report it."""
    found: dict[str, Any] = {
        "model": _model(), "soc": _soc(), "cpu": _cpu_name(), "cores": core_count(),
        "system": platform.platform(terse=True), "kernel": platform.release(), "python": platform.python_version(),
        "engines": _engines(), "governor": _governor(), "instructions": _instructions(),
        "virtual": "hypervisor" in _flags(), "emulated": _emulated(), "memory_gb": _memory_gb(),
    }
    return {key: value for key, value in found.items() if value not in (None, "", [])}


def imitated(machine: Mapping[str, Any]) -> tuple[str, ...]:
    """Why times taken on a machine that `describe` described are no board's; empty where nothing is emulated."""
    kernel = machine.get("emulated")
    return (f"the machine is emulated on {kernel}: its times are no board's",) if kernel else ()


def core_count() -> int:
    """Cores that this process may run on."""
    return len(own_cores()) or os.cpu_count() or 1


def own_cores() -> set[int]:
    """Cores that this process may run on; empty where the system does not report them."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def lines(path: Path) -> list[str]:
    """A counter's or a description's text; empty where there is none to read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not every system has every counter, and some are for root alone
        return []


def numbers(paths: Iterator[Path]) -> list[int]:
    """Of the files that hold one number each; what holds none is left out."""
    return [int(found[0]) for path in paths if (found := lines(path)) and found[0].strip().isdigit()]


def _engines() -> list[str]:
    """Every engine's packages that are installed, with their versions."""
    from runtime.sessions import engines

    return sorted({f"{name} {version}" for entry in engines().values() for name, version in entry.versions().items()})


def _governor() -> str:
    found = {line for path in (SYS / "devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
             for line in lines(path)}
    return ", ".join(sorted(found))


def _cpuinfo(key: str) -> list[str]:
    return cpuinfo.values(key, PROC / "cpuinfo")


def _flags() -> frozenset[str]:
    return cpuinfo.flags(PROC / "cpuinfo")


def _instructions() -> list[str]:
    """Vector instructions that decide how fast a network runs."""
    return sorted(_flags() & {"avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm",
                              "sve"})


def _cpu_name() -> str:
    """The processor; on Arm the kinds of cores, of which there may be several."""
    if named := _cpuinfo("model name"):
        return named[0]
    if _cpuinfo("CPU implementer") == [hex(ARM_LTD)]:
        parts = [int(part, 16) for part in _cpuinfo("CPU part") if re.fullmatch("0x[0-9a-fA-F]{1,4}", part)]
        return ", ".join(ARM_CORES.get(part, f"Arm part {part:#x}") for part in parts)
    return platform.processor() or platform.machine()


def _model() -> str:
    """What the board is, where a device tree names it, as it does on Arm boards."""
    return "".join(lines(PROC / "device-tree/model")).strip("\0 ")


def _soc() -> str:
    """The chip: as its driver names it, else the last and most general name in the device tree."""
    driver = [line.strip() for part in ("family", "soc_id") for line in lines(SYS / "devices/soc0" / part)]
    tree = "".join(lines(PROC / "device-tree/compatible")).strip("\0 ").split("\0")
    return " ".join(driver) or tree[-1]


def _emulated() -> str:
    """The architecture of the kernel, where this process is of another one: no board is under it, only its imitation.

    The kernel reports it since Linux 6.1; a 32-bit process on a 64-bit kernel of its own kind is no imitation.
    """
    kernel = "".join(lines(PROC / "sys/kernel/arch")).strip()
    arm = [name.startswith(("arm", "aarch64")) for name in (kernel, platform.machine())]
    return kernel if kernel and arm[0] != arm[1] else ""


def _memory_gb() -> float | None:
    total = next((line for line in lines(PROC / "meminfo") if line.startswith("MemTotal")), None)
    return round(int(total.split()[1]) / 2**20, 1) if total else None
