"""One artifact in a process of its own, so that nothing shares its memory, threads or caches.

Both ends of the conversation are here, one JSON object per line: the child opens the artifact and says how long that
took; then it answers each `{"queries": N, "seconds": S}` with the times of at least N queries that take at least S
seconds (with `"rest": true` once its threads no longer work), `{"warm": true}` once two windows in a row agree, and
`{"frame": PNG}` with a mask. Empty lines say that the parent is still there. A query is one frame, alone: resized, run,
and made into a mask at input size.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from time import perf_counter, process_time
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from runtime.board import SILENCE_S, Line
from runtime.errors import EdgesegError, Incomplete, UserError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from runtime.board import Board
    from runtime.preprocess import Frame
    from runtime.segmenter import Segmenter

WINDOW_QUERIES, WINDOW_SECONDS = 8, 0.25
"""Size of a warm-up window: at least so many queries, for at least so long."""
SETTLED = 0.05
"""Warm-up ends when the medians of two windows in a row differ by less than this share."""
MAX_WINDOWS = 20
FRAMES = 4
"""Images that a benchmark runs on."""


class MeasuringWorker:
    """The parent's end. Use it as a context manager.

    Args:
        path: the artifact.
        threads: as in `Segmenter.open`.
        engine: as in `Segmenter.open`.
        frames: folder of images to run on; None for drawn frames.
        on: the board to run it on; None for this machine.

    Attributes:
        opened: the child's first answer: "load_ms", "first_ms", "cold_start_ms" (None on a board, whose clock is
            another), memory before and after, and its "machine" as `benchmarks.machine.describe` has it.

    Raises:
        UserError: the artifact cannot run there.
        Incomplete: the connection to the board was lost.
    """

    def __init__(self, path: Path, threads: int | None, engine: str | None, frames: Path | None,
                 on: Board | None = None) -> None:
        self.path, self.threads, self.engine, self.on = path, threads, engine, on
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the worker)
        self._process = subprocess.Popen(
            self._command(frames), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._errors, text=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
        assert self._process.stdin is not None
        self._line = Line(self._process.stdin, beats=on is not None)
        try:
            self.opened = self._answer()
        except BaseException:
            self.close()
            raise

    @property
    def machine(self) -> dict[str, Any]:
        """The child's machine as it describes itself; a board also by the name that was typed."""
        found: dict[str, Any] = self.opened["machine"]
        return found | {"board": self.on.name} if self.on else found

    def _command(self, frames: Path | None) -> list[str]:
        """What to start here: the child itself, or ssh, which starts it on the board."""
        arguments = {"path": os.fspath(self.path), "threads": self.threads, "engine": self.engine,
                     "frames": frames and os.fspath(frames), "spawned": perf_counter(), "silence_s": 0}
        if self.on is None:
            return [sys.executable, "-m", "benchmarks.worker", json.dumps(arguments)]
        from runtime.board_files import artifact_files, prepare

        files, packages = artifact_files(self.path, self.engine)
        code, there = prepare(self.on, [files, *([_chosen(frames)] if frames else [])], packages)
        arguments |= {"path": f"{there[0]}/{files[0].name}", "frames": there[1] if frames else None, "spawned": None,
                      "silence_s": SILENCE_S}
        return self.on.command("-m", "benchmarks.worker", json.dumps(arguments), folder=code)

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        self._line.send(json.dumps(request))
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._errors.seek(0)
            if self.on:
                raise self.on.broken(code, self._errors.read().decode(errors="replace"))
            last = (self._errors.read().decode(errors="replace").strip().splitlines() or ["no message"])[-1]
            raise Incomplete(f"the process that measures {self.path.name} ended with code {code} ({last[:200]})")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise UserError(answer["error"])
        return answer

    def close(self) -> None:
        """End the child."""
        self._line.close()
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdout, self._errors):
            if stream is not None:
                stream.close()

    def __enter__(self) -> MeasuringWorker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


def serve(arguments: dict[str, Any], requests: IO[str], say: Callable[[dict[str, Any]], None]) -> None:
    """The child's end.

    Args:
        arguments: "path", "threads", "engine" and "frames" as in `MeasuringWorker`; "spawned", the parent's clock at
            the start; "silence_s", the seconds without a line after which this process ends itself, 0 for never.
        requests: one per line.
        say: sends an answer.
    """
    import numpy as np

    from benchmarks import machine
    from benchmarks.memory import resident_mb
    from runtime.segmenter import Segmenter

    before, start = resident_mb(), perf_counter()
    try:
        segmenter = Segmenter.open(arguments["path"], threads=arguments["threads"], engine=arguments["engine"])
        loaded = perf_counter()
        height, width = segmenter.artifact.preprocess.size
        segmenter(np.zeros((height, width, 3), dtype=np.uint8))
        done = perf_counter()
        frames = input_frames((height, width), arguments["frames"])
    except EdgesegError as error:
        say({"error": str(error)})
        return
    spawned = arguments["spawned"]
    say({"load_ms": 1e3 * (loaded - start), "first_ms": 1e3 * (done - loaded),
         "cold_start_ms": spawned and 1e3 * (done - spawned), "before_mb": before, "frames": len(frames),
         "machine": machine.describe()})
    for line in _heard(requests, arguments["silence_s"]):
        request = json.loads(line)
        say(_masked(segmenter, request["frame"]) if "frame" in request else
            _warm_up(segmenter, frames) if request.get("warm") else
            _queries(segmenter, frames, request["queries"], request["seconds"], request.get("rest", False)))


def _heard(requests: IO[str], silence_s: int) -> Iterator[str]:
    """Requests, as they come. When the parent has closed the pipe, or was silent for too long, this process ends at
    once, whatever it is at: no answer is awaited, and on a board nothing may keep running."""
    heard: SimpleQueue[str] = SimpleQueue()

    def listen() -> None:
        while True:
            if silence_s:
                signal.alarm(silence_s)
            line = requests.readline()
            if not line:
                os._exit(0)
            if line.strip():
                heard.put(line)

    Thread(target=listen, daemon=True).start()
    while True:
        yield heard.get()


def _chosen(folder: Path) -> list[Path]:
    """The images of a folder that a benchmark runs on."""
    from calibration.data.frames import evenly_spaced
    from runtime.video import image_paths

    return evenly_spaced(image_paths(folder), FRAMES)


def input_frames(size: tuple[int, int], folder: str | None) -> list[Frame]:
    """A few frames at input size, so that decoding and resizing stay out of the figures."""
    import cv2
    import numpy as np

    from calibration.data.frames import drawn_frame
    from runtime.video import read_image

    if folder is None:
        return [drawn_frame(size, 11 * i) for i in range(FRAMES)]
    return [np.asarray(cv2.resize(read_image(path), size[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)
            for path in _chosen(Path(folder))]


def _queries(segmenter: Segmenter, frames: list[Frame], queries: int, seconds: float,
             rest: bool = False) -> dict[str, Any]:
    """Run for at least `queries` and `seconds`; times in ms of each and its stages; the machine meanwhile. `rest` hands
    the cores on: the answer waits until this process no longer works."""
    from benchmarks.conditions import health, load, snapshot
    from benchmarks.memory import peak_mb, resident_mb
    from runtime.turns import come_to_rest

    total: list[float] = []
    stages: dict[str, list[float]] = {}
    before, start, processor = snapshot(), perf_counter(), process_time()
    while len(total) < queries or perf_counter() - start < seconds:
        frame = frames[len(total) % len(frames)]
        began = perf_counter()
        result = segmenter(frame)
        total.append(1e3 * (perf_counter() - began))
        for stage, ms in result.stages_ms.items():
            stages.setdefault(stage, []).append(ms)
    found = {"total_ms": total, "stages_ms": stages, "processor_s": process_time() - processor,
             "resident_mb": resident_mb(), "peak_mb": peak_mb(), "before": asdict(before),
             "after": asdict(snapshot()), "health": health(), "load": load()}
    if rest:
        come_to_rest()
    return found


def _masked(segmenter: Segmenter, frame: str) -> dict[str, str]:
    """A frame's mask; both are PNG in base64."""
    import cv2
    import numpy as np

    image = cv2.imdecode(np.frombuffer(base64.b64decode(frame), np.uint8), cv2.IMREAD_COLOR)
    return {"mask": png(segmenter(np.asarray(image, np.uint8)).mask)}


def png(image: npt.NDArray[np.uint8]) -> str:
    """uint8 [H, W, 3] BGR or [H, W] as PNG in base64."""
    import cv2

    return base64.b64encode(cv2.imencode(".png", image)[1].tobytes()).decode("ascii")


def _warm_up(segmenter: Segmenter, frames: list[Frame]) -> dict[str, Any]:
    import statistics

    queries, last = 0, 0.0
    for _ in range(MAX_WINDOWS):
        window = _queries(segmenter, frames, WINDOW_QUERIES, WINDOW_SECONDS)["total_ms"]
        queries += len(window)
        median = statistics.median(window)
        if abs(median - last) < SETTLED * median:
            return {"queries": queries, "settled": True}
        last = median
    return {"queries": queries, "settled": False}


if __name__ == "__main__":
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever an engine prints must not get between our lines
    serve(json.loads(sys.argv[1]), sys.stdin, lambda answer: print(json.dumps(answer), file=channel, flush=True))
