"""A frame in, a mask at the frame's own size out, with the time of each stage."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime import mask
from runtime.artifact import Artifact, open_artifact
from runtime.preprocess import Frame
from runtime.result import Result
from runtime.sessions import Session, open_session

STAGES = ("preprocess", "inference", "mask")
"""What happens to a frame here, in order; the keys of `Result.stages_ms`."""


class Segmenter:
    """Runs one artifact on frames, one at a time. Use it as a context manager, or call `close()`."""

    def __init__(self, artifact: Artifact, session: Session) -> None:
        self.artifact = artifact
        self._session = session

    @classmethod
    def open(cls, path: str | Path, *, threads: int | None = None, engine: str | None = None) -> Segmenter:
        """Open an engine file or its JSON.

        Args:
            path: the engine file or its JSON.
            threads: threads that the engine may use for one frame; None lets the engine decide.
            engine: another one than the target's own, e.g. "openvino" for an .onnx file; see
                `runtime.sessions.engine_for`.

        Raises:
            UserError: the artifact is damaged, or no engine here can run it.
        """
        artifact, file = open_artifact(path)
        return cls(artifact, open_session(artifact, file, engine=engine, threads=threads))

    def __call__(self, frame: Frame) -> Result:
        """Segment one frame.

        Args:
            frame: uint8 [H, W, 3] BGR, any size.

        Returns:
            The mask at the frame's size, in memory of its own.
        """
        start = perf_counter()
        x = self.prepare(frame)
        prepared = perf_counter()
        y = self.infer(x)
        inferred = perf_counter()
        classes = self.mask(y, (frame.shape[0], frame.shape[1]))
        done = perf_counter()
        seconds = (prepared - start, inferred - prepared, done - inferred)
        return Result(classes, {stage: 1e3 * s for stage, s in zip(STAGES, seconds)}, frame, self.artifact, y)

    def prepare(self, frame: Frame) -> Frame:
        """uint8 [H, W, 3] BGR of any size → the engine's input, uint8 [1, h, w, 3]."""
        return self.artifact.preprocess(frame)

    def infer(self, x: Frame) -> npt.NDArray[Any]:
        """The engine's input → its output without the batch dimension, in memory that the next frame leaves alone."""
        y: npt.NDArray[Any] = self._session.run(x)[0]
        return y.copy() if self._session.reuses_output else y

    def mask(self, y: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
        """What `infer` returned → uint8 [H, W], the class of every pixel of a frame of `size`."""
        a = self.artifact
        return mask.from_output(y, a.output_kind, a.output.layout, size, align_corners=a.align_corners)

    def close(self) -> None:
        """Release the engine."""
        self._session.close()

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()
