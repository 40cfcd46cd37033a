"""The machine that measures: what it is, and what else it did meanwhile."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

BUSY = 0.05
"""Share of the processor that others may take before a figure is marked invalid."""

PROC = Path("/proc")
SYS = Path("/sys")


@cache
def describe() -> dict[str, Any]:
    """What the figures depend on and what stays as it is. A key is absent where this system does not tell."""
    found: dict[str, Any] = {
        "model": _model(), "cpu": _cpu_name(), "cores": core_count(), "system": platform.platform(terse=True),
        "python": platform.python_version(), "governor": _governor(), "instructions": _instructions(),
        "virtual": "hypervisor" in _flags(), "memory_gb": _memory_gb(),
    }
    return {key: value for key, value in found.items() if value not in (None, "", [])}


@dataclass(frozen=True)
class Snapshot:
    """Counters of the machine at one moment; None where this system does not tell."""

    seconds: float
    busy: float | None
    stolen: float | None
    throttled: int | None
    joules: float | None


@dataclass(frozen=True)
class Spell:
    """What happened on the machine between snapshots, summed over one or more spells.

    Attributes:
        seconds: wall-clock time.
        others: processor seconds that went to other processes or to other guests of the host; None when unknown.
        throttled: how often the processor or the container was slowed down; None when unknown.
        joules: energy of the processor packages; None when it cannot be read.
        cores: how many that machine has; None for this one's.
    """

    seconds: float = 0.0
    others: float | None = 0.0
    throttled: int | None = 0
    joules: float | None = 0.0
    cores: int | None = None

    def __add__(self, other: Spell) -> Spell:
        return Spell(self.seconds + other.seconds, _sum(self.others, other.others),
                     _whole(_sum(self.throttled, other.throttled)), _sum(self.joules, other.joules), other.cores)

    @property
    def others_share(self) -> float | None:
        """Share of all our cores' time that others took, 0..1."""
        cores = self.cores or core_count()
        return None if self.others is None or not self.seconds else self.others / (self.seconds * cores)

    def complaints(self) -> tuple[str, ...]:
        """Why figures taken meanwhile cannot be trusted."""
        found = []
        if self.others_share is not None and self.others_share > BUSY:
            found.append(f"the machine was busy: others took {100 * self.others_share:.0f} % of the processor "
                         f"(allowed: {100 * BUSY:.0f} %)")
        if self.throttled:
            found.append(f"the processor was throttled {self.throttled} times")
        return tuple(found)


def snapshot() -> Snapshot:
    """Read all counters now."""
    busy, stolen = _processor_seconds()
    return Snapshot(time.perf_counter(), busy, stolen, _throttled(), _joules())


def health() -> dict[str, float]:
    """How warm and how fast the processor is now; a key is absent where this system does not tell."""
    temperatures = _numbers((SYS / "class/thermal").glob("thermal_zone*/temp"))
    clocks = _numbers((SYS / "devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
    found = {"temperature_c": max(temperatures, default=0) / 1e3, "clock_mhz": sum(clocks) / max(len(clocks), 1) / 1e3}
    return {key: round(value, 1) for key, value in found.items() if value}


def spell(before: Snapshot, after: Snapshot, ours: float, cores: int | None = None) -> Spell:
    """What happened between two snapshots.

    Args:
        before: the first.
        after: the second.
        ours: processor seconds that the measured process itself took meanwhile.
        cores: as in `Spell`.
    """
    busy, stolen = _difference(before.busy, after.busy), _difference(before.stolen, after.stolen)
    others = None if busy is None else max(busy - ours, 0.0) + (stolen or 0.0)
    joules = _difference(before.joules, after.joules)
    return Spell(after.seconds - before.seconds, others, _whole(_difference(before.throttled, after.throttled)),
                 joules if joules is not None and joules >= 0 else None, cores)  # the counter wraps around


def load() -> float | None:
    """Processes that wanted to run, averaged over the last minute."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _sum(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a + b


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def core_count() -> int:
    """Cores that this process may run on."""
    return len(_own_cores()) or os.cpu_count() or 1


def _own_cores() -> set[int]:
    """Cores that this process may run on; empty where the system does not tell."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not every system has every counter, and some are for root alone
        return []


def _numbers(paths: Iterator[Path]) -> list[int]:
    return [int(lines[0]) for path in paths if (lines := _lines(path)) and lines[0].strip().isdigit()]


def _processor_seconds() -> tuple[float | None, float | None]:
    """Busy and stolen seconds of our cores since boot (proc(5): user nice system idle iowait irq softirq steal)."""
    wanted = {f"cpu{core}" for core in _own_cores()}
    rows = [[int(n) for n in words[1:9]] for line in _lines(PROC / "stat")
            if (words := line.split()) and words[0] in wanted]
    if not rows:
        return None, None
    ticks = os.sysconf("SC_CLK_TCK")
    user, nice, system, _, _, irq, softirq, steal = (sum(column) / ticks for column in zip(*rows))
    return user + nice + system + irq + softirq, steal


def _throttled() -> int | None:
    """Thermal slow-downs of the cores, and periods in which the container had used up its share."""
    cores = (SYS / "devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
    counts = _numbers(cores)
    counts += [int(line.split()[1]) for line in _lines(SYS / "fs/cgroup/cpu.stat") if line.startswith("nr_throttled ")]
    return sum(counts) if counts else None


def _joules() -> float | None:
    """Energy counters of all processor packages (Linux powercap, RAPL), in joules."""
    counts = _numbers((SYS / "class/powercap").glob("intel-rapl:[0-9]/energy_uj"))
    return sum(counts) / 1e6 if counts else None


def _governor() -> str:
    found = {line for path in (SYS / "devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
             for line in _lines(path)}
    return ", ".join(sorted(found))


def _flags() -> set[str]:
    return {flag for line in _lines(PROC / "cpuinfo") if line.startswith(("flags", "Features"))
            for flag in line.partition(":")[2].split()}


def _instructions() -> list[str]:
    """Vector instructions that decide how fast a network runs."""
    return sorted(_flags() & {"avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm",
                              "sve"})


def _cpu_name() -> str:
    named = (line.partition(":")[2].strip() for line in _lines(PROC / "cpuinfo") if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _model() -> str:
    """What the board is, where a device tree names it, as it does on Arm boards."""
    return "".join(_lines(PROC / "device-tree/model")).strip("\0 ")


def _memory_gb() -> float | None:
    total = next((line for line in _lines(PROC / "meminfo") if line.startswith("MemTotal")), None)
    return round(int(total.split()[1]) / 2**20, 1) if total else None
