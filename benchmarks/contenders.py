"""What can be measured between a video and its overlays: the engine alone, the stream, a naive loop, a camera."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.conditions import health
from benchmarks.sustained import WINDOW_S, Moment, run
from runtime.turns import come_to_rest

if TYPE_CHECKING:
    from runtime.artifact import Artifact
    from runtime.preprocess import Frame
    from runtime.sessions import Session
    from runtime.sources import Source
    from runtime.stream import Stream

WARM_UP = 6
"""Frames before the clock starts: the threads are up, the caches warm and the channels full."""


class Clock:
    """Wall-clock and processor time of this process, from its making."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(self, frames: int) -> tuple[float, float]:
        """Frames per second, and processor milliseconds per frame."""
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return frames / wall, 1e3 * cpu / frames


def repeated(path: str, fps: float) -> Source:
    """A video or folder that starts again at its end, for as long as it is read."""
    from runtime.sources import Shot, Source, open_source

    def shots() -> Iterator[Shot]:
        number = 0
        while True:
            for image, _ in open_source(path).shots:
                yield Shot(image, number / fps)
                number += 1

    return Source(path, fps, 0, False, shots())


def engine_only(sessions: Sequence[Session], inputs: Sequence[Frame], frames: int) -> tuple[float, float]:
    """Nothing but `run`, each session in a thread of its own."""
    def work(session: Session, count: int) -> None:
        for i in range(count):
            session.run(inputs[i % len(inputs)])

    share = max(frames // len(sessions), 1)
    threads = [threading.Thread(target=work, args=(session, share)) for session in sessions]
    come_to_rest()
    clock = Clock()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return clock.stop(share * len(sessions))


def whole_way(stream: Stream, frames: int) -> tuple[float, float]:
    """From the decoder to the overlay, through the stream."""
    results = iter(stream)
    for _ in islice(results, WARM_UP):
        pass
    clock = Clock()
    for _ in islice(results, frames):
        pass
    figures = clock.stop(frames)
    stream.close()
    return figures


def without_a_pause(stream: Stream, minutes: int) -> list[Moment]:
    """The same for minutes, window by window."""
    results = iter(stream)
    for _ in islice(results, WARM_UP):
        pass

    def window() -> tuple[float, dict[str, float]]:
        start, frames = time.perf_counter(), 0
        while time.perf_counter() - start < WINDOW_S:
            next(results)
            frames += 1
        return frames / (time.perf_counter() - start), health()

    moments = run(minutes, window, "without a pause")
    stream.close()
    return moments


def naive_loop(artifact: Artifact, session: Session, source: Source, frames: int) -> tuple[float, float]:
    """What a first script does: one frame after the other, full-size logits, argmax, a palette and a blend."""
    import cv2
    import numpy as np

    palette = np.asarray(artifact.palette, np.uint8)[:, ::-1]
    height, width = artifact.preprocess.size
    shots = islice(source.shots, WARM_UP + frames)
    clock = Clock()
    for number, (frame, _) in enumerate(shots):
        if number == WARM_UP:
            clock = Clock()
        logits = session.run(cv2.resize(frame, (width, height))[None])  # type: ignore[arg-type]
        classes = logits[0].argmax(0).astype(np.uint8)
        classes = np.asarray(cv2.resize(classes, (frame.shape[1], frame.shape[0]), interpolation=cv2.INTER_NEAREST))
        cv2.addWeighted(palette[classes], 0.5, frame, 0.5, 0)
    return clock.stop(frames)


def camera(stream: Stream, frames: int) -> dict[str, float]:
    """A stream that must keep up with a camera: age at display, time per stage, frames dropped."""
    import numpy as np

    results = list(islice(stream, 1, frames + 1))  # the first one finds an engine that is cold
    stream.close()
    ages = [r.age_ms for r in results]
    stages: dict[str, list[float]] = {}
    for result in results:
        for stage, ms in result.stages_ms.items():
            stages.setdefault(stage, []).append(ms)
    values = {f"{stage}_p50_ms": float(median(ms)) for stage, ms in stages.items()}
    age = {f"age_p{q}_ms": float(np.percentile(ages, q)) for q in (50, 90)}
    ratios = [r.age_ms / r.stages_ms["inference"] for r in results]
    return values | age | {"age_over_inference": float(median(ratios)), "shown": len(results),
                           "dropped": results[-1].dropped}
