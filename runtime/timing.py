"""How long each stage of each frame took."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from time import perf_counter
from typing import Any

import numpy as np

ORDER = ("read", "plan", "preprocess", "inference", "mask", "refine", "draw", "write", "end to end")
"""Stages in the order in which a frame passes them; "end to end" is from the frame's arrival until it is written."""

_KEPT = 100_000
"""A camera may run for weeks; percentiles are of the last so many frames."""


class Rate:
    """Frames per second over the last thirty frames."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=31)

    def tick(self) -> None:
        """A frame is done."""
        self._times.append(perf_counter())

    @property
    def fps(self) -> float:
        """0 until two frames are done."""
        seconds = self._times[-1] - self._times[0] if len(self._times) > 1 else 0.0
        return (len(self._times) - 1) / seconds if seconds else 0.0

    def line(self) -> str:
        """For the picture: "24.8 FPS  ", or nothing yet."""
        return f"{self.fps:.1f} FPS  " if self.fps else ""


class StageTimes:
    """Collects milliseconds per stage. The clock starts with the first frame, so that loading does not count."""

    def __init__(self) -> None:
        self.frames = 0
        self._ms: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_KEPT))
        self._start = self._last = 0.0

    def add(self, stages_ms: Mapping[str, float]) -> None:
        """A frame is done, and took so long in each stage."""
        self._last = perf_counter()
        if not self.frames:
            self._start = self._last - 1e-3 * stages_ms.get("end to end", 0.0)
        for stage, ms in stages_ms.items():
            self._ms[stage].append(ms)
        self.frames += 1

    def summary(self) -> dict[str, Any]:
        """Frames, FPS, and p50/p90/p99 in milliseconds per stage."""
        seconds = self._last - self._start
        return {"frames": self.frames, "seconds": seconds, "fps": self.frames / seconds if seconds else 0.0,
                "stages_ms": {stage: dict(zip(("p50", "p90", "p99"), np.percentile(self._ms[stage], (50, 90, 99))))
                              for stage in ORDER if self._ms[stage]}}

    def table(self) -> str:
        """The summary's stages as text."""
        rows = [f"{'stage':<12}{'p50 ms':>9}{'p90 ms':>9}{'p99 ms':>9}"]
        rows += [f"{stage:<12}{p['p50']:>9.2f}{p['p90']:>9.2f}{p['p99']:>9.2f}"
                 for stage, p in self.summary()["stages_ms"].items()]
        return "\n".join(rows)
