"""What a machine did while it measured: who else used its processor, what slowed it down, how warm it became."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.machine import PROC, SYS, core_count, lines, numbers, own_cores

BUSY = 0.05
"""Share of the processor that others may take before a figure is marked invalid."""

FIRMWARE = ("the voltage is too low", "the clock is capped", "the processor is throttled",
            "the soft temperature limit is reached")
"""What the lowest bits of a Raspberry Pi's `get_throttled` mean (Raspberry Pi documentation, vcgencmd)."""


@dataclass(frozen=True)
class Snapshot:
    """Counters of the machine at one moment; None where this system does not report them.

    Attributes:
        seconds: a clock.
        busy, stolen: seconds of our cores since boot; see proc(5).
        throttled: how often the processor or the container was slowed down so far.
        joules: energy of the processor packages so far.
        slowed: what slows the processor down at this moment, in words.
    """

    seconds: float
    busy: float | None
    stolen: float | None
    throttled: int | None
    joules: float | None
    slowed: Sequence[str] = ()


@dataclass(frozen=True)
class Conditions:
    """What happened on the machine between two snapshots, or summed over several such intervals.

    Attributes:
        seconds: wall-clock time.
        others: processor seconds that went to other processes or to other guests of the host; None when unknown.
        throttled: how often the processor or the container was slowed down; None when unknown.
        joules: energy of the processor packages; None when it cannot be read.
        cores: how many that machine has; None for this one's.
        slowed: what slowed the processor down at a beginning or an end, in words.
    """

    seconds: float = 0.0
    others: float | None = 0.0
    throttled: int | None = 0
    joules: float | None = 0.0
    cores: int | None = None
    slowed: tuple[str, ...] = ()

    def __add__(self, other: Conditions) -> Conditions:
        return Conditions(self.seconds + other.seconds, _sum(self.others, other.others),
                     _whole(_sum(self.throttled, other.throttled)), _sum(self.joules, other.joules), other.cores,
                     tuple(dict.fromkeys((*self.slowed, *other.slowed))))

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
        if self.slowed:
            found.append(f"the processor was slowed down: {', '.join(self.slowed)}")
        return tuple(found)


def snapshot() -> Snapshot:
    """Read all counters now."""
    busy, stolen = _processor_seconds()
    return Snapshot(time.perf_counter(), busy, stolen, _throttled(), _joules(), _slowed())


def health() -> dict[str, float]:
    """How warm and how fast the processor is now; a key is absent where this system does not report it."""
    temperatures = numbers((SYS / "class/thermal").glob("thermal_zone*/temp"))
    clocks = numbers((SYS / "devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
    found = {"temperature_c": max(temperatures, default=0) / 1e3, "clock_mhz": sum(clocks) / max(len(clocks), 1) / 1e3}
    return {key: round(value, 1) for key, value in found.items() if value}


def between(before: Snapshot, after: Snapshot, ours: float, cores: int | None = None) -> Conditions:
    """What happened between two snapshots.

    Args:
        before: the first.
        after: the second.
        ours: processor seconds that the measured process itself took meanwhile.
        cores: as in `Conditions`.
    """
    busy, stolen = _difference(before.busy, after.busy), _difference(before.stolen, after.stolen)
    others = None if busy is None else max(busy - ours, 0.0) + (stolen or 0.0)
    joules = _difference(before.joules, after.joules)
    return Conditions(after.seconds - before.seconds, others, _whole(_difference(before.throttled, after.throttled)),
                 joules if joules is not None and joules >= 0 else None, cores,  # the counter wraps around
                 tuple(dict.fromkeys((*before.slowed, *after.slowed))))


def load() -> float | None:
    """Processes that wanted to run, averaged over the last minute."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _sum(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a + b


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _processor_seconds() -> tuple[float | None, float | None]:
    """Busy and stolen seconds of our cores since boot (proc(5): user nice system idle iowait irq softirq steal)."""
    wanted = {f"cpu{core}" for core in own_cores()}
    rows = [[int(n) for n in words[1:9]] for line in lines(PROC / "stat")
            if (words := line.split()) and words[0] in wanted]
    if not rows:
        return None, None
    ticks = os.sysconf("SC_CLK_TCK")
    user, nice, system, _, _, irq, softirq, steal = (sum(column) / ticks for column in zip(*rows))
    return user + nice + system + irq + softirq, steal


def _throttled() -> int | None:
    """Thermal slow-downs of the cores, and periods in which the container had used up its share."""
    cores = (SYS / "devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
    counts = numbers(cores)
    counts += [int(line.split()[1]) for line in lines(SYS / "fs/cgroup/cpu.stat") if line.startswith("nr_throttled ")]
    return sum(counts) if counts else None


def _slowed() -> tuple[str, ...]:
    """What slows the processor down now, on Arm, where no counter says how often: the kernel's cooling by a lower clock
    (its sysfs: cooling_device*/cur_state above 0), and a Raspberry Pi's firmware."""
    found = []
    for device in sorted((SYS / "class/thermal").glob("cooling_device*")):
        kind, state = "".join(lines(device / "type")), "".join(lines(device / "cur_state"))
        if re.search("cpu|processor", kind, re.IGNORECASE) and state.isdigit() and int(state):
            found.append(f"{kind} cools at step {state}")
    for path in (SYS / "devices/platform").glob("soc*/*firmware/get_throttled"):
        bits = int("".join(lines(path)) or "0", 16)
        found += [words for bit, words in enumerate(FIRMWARE) if bits >> bit & 1]
    return tuple(found)


def _joules() -> float | None:
    """Energy counters of all processor packages (Linux powercap, RAPL), in joules."""
    counts = numbers((SYS / "class/powercap").glob("intel-rapl:[0-9]/energy_uj"))
    return sum(counts) / 1e6 if counts else None
