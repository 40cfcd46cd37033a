"""What Linux reports of the processor: the one place that reads /proc/cpuinfo."""

from __future__ import annotations

from pathlib import Path

PATH = Path("/proc/cpuinfo")


def values(key: str, path: Path = PATH) -> list[str]:
    """What stands under a key, once for each value; empty where it has no such key, or where there is no such file."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return list(dict.fromkeys(value.strip() for line in lines
                              for name, _, value in [line.partition(":")] if name.strip() == key))


def flags(path: Path = PATH) -> frozenset[str]:
    """The instruction sets that it names ("flags" on x86, "Features" on Arm); empty where it names none."""
    return frozenset(flag for key in ("flags", "Features") for value in values(key, path) for flag in value.split())
