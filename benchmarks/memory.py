"""Memory of this process, in MB (10⁶ bytes); None where the system does not report it."""

from __future__ import annotations

import os
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from runtime import cli
from runtime.errors import UserError

if TYPE_CHECKING:
    from runtime.stream import Stream

PROC = Path("/proc/self")


def resident_mb() -> float | None:
    """What lies in RAM now (proc(5): statm, in pages)."""
    try:
        pages = int((PROC / "statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def peak_mb() -> float | None:
    """The most that this process ever had in RAM."""
    try:
        status = (PROC / "status").read_text(encoding="ascii")
        # Not getrusage there: a process begins with the peak of the one that started it (getrusage(2), ru_maxrss).
        return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    except (OSError, IndexError):
        pass  # no Linux
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes there, kilobytes here
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def over(stream: Stream, frames: int) -> str:
    """Run many frames and watch the resident memory: a leak shows as a slope. Closes the stream; returns a sentence.

    Raises:
        UserError: the system does not report it.
    """
    import numpy as np

    seen: list[tuple[int, float]] = []
    for result in cli.progress(islice(stream, frames), frames, "frames"):
        if result.index % 100 == 99:
            if (now := resident_mb()) is None:
                raise UserError("this system does not report a process's memory; --steady needs one that does, such as "
                                "Linux")
            seen.append((result.index + 1, now))
    stream.close()
    later = np.asarray([point for point in seen if point[0] > frames // 5])
    slope = float(np.polyfit(later[:, 0], later[:, 1], 1)[0] * 1000)
    return (f"{frames} frames: {seen[0][1]:.0f} MB after {seen[0][0]}, {seen[-1][1]:.0f} MB at the end, highest "
            f"{max(mb for _, mb in seen):.0f} MB; after the first fifth {slope:+.2f} MB per 1000 frames")
